"""Goods that come back, owned by returns, on oms.returns; and the commands customers, desks and warehouses send. One stream an order."""

from datetime import datetime

from oms_contracts.message import Value, message
from oms_contracts.order_parts import ChargedLine
from oms_contracts.values import Code, InspectedLine, Prose, ReturnLine


@message("oms.returns.ReturnWindowOpened.v2", key="order_id")
class ReturnWindowOpened(Value, frozen=True, kw_only=True):
    """The order is completed: `lines` may come back until `closes_at`."""

    order_id: str
    currency: str
    lines: tuple[ChargedLine, ...]
    closes_at: datetime
    at: datetime


@message("oms.returns.ReturnRequested.v1", key="order_id")
class ReturnRequested(Value, frozen=True, kw_only=True):
    """`return_id` is the RMA number."""

    order_id: str
    return_id: str
    lines: tuple[ReturnLine, ...]
    at: datetime


@message("oms.returns.ReturnApproved.v1", key="order_id")
class ReturnApproved(Value, frozen=True, kw_only=True):
    """By policy. The goods are expected before `expires_at`."""

    order_id: str
    return_id: str
    expires_at: datetime
    at: datetime


@message("oms.returns.ReturnDeclined.v1", key="order_id")
class ReturnDeclined(Value, frozen=True, kw_only=True):
    order_id: str
    return_id: str
    reasons: tuple[str, ...]
    at: datetime


@message("oms.returns.ReturnItemsReceived.v1", key="order_id")
class ReturnItemsReceived(Value, frozen=True, kw_only=True):
    order_id: str
    return_id: str
    receipt_id: str
    location: str
    lines: tuple[ReturnLine, ...]
    at: datetime


@message("oms.returns.ReturnItemsInspected.v1", key="order_id")
class ReturnItemsInspected(Value, frozen=True, kw_only=True):
    """What came back is sound or not. Inventory restocks at `location`, sets apart in quarantine there, or writes off.

    What was announced and did not come may be returned another time.
    """

    order_id: str
    return_id: str
    location: str
    lines: tuple[InspectedLine, ...]
    at: datetime


@message("oms.returns.ReturnRefundRequested.v1", key="order_id")
class ReturnRefundRequested(Value, frozen=True, kw_only=True):
    """Payment refunds `amount` (minor units): accepted quantity x net paid a unit."""

    order_id: str
    return_id: str
    amount: int
    currency: str
    lines: tuple[InspectedLine, ...]
    at: datetime


@message("oms.returns.ReturnClosed.v1", key="order_id")
class ReturnClosed(Value, frozen=True, kw_only=True):
    """`outcome` is refunded, not_refundable or refund_failed (a person refunds by hand)."""

    order_id: str
    return_id: str
    outcome: str
    refunded: int
    at: datetime


@message("oms.returns.ReturnCanceled.v1", key="order_id")
class ReturnCanceled(Value, frozen=True, kw_only=True):
    order_id: str
    return_id: str
    reason: str
    at: datetime


@message("oms.returns.ReturnExpired.v1", key="order_id")
class ReturnExpired(Value, frozen=True, kw_only=True):
    order_id: str
    return_id: str
    at: datetime


@message("oms.returns.ReturnActionRequired.v1", key="order_id")
class ReturnActionRequired(Value, frozen=True, kw_only=True):
    """The return has waited for too long, and comes up again after each `deadline` until somebody acts.

    `action` is inspect (goods were received and nobody has looked at them) or investigate (payment has not answered).
    """

    order_id: str
    return_id: str
    action: str
    deadline: datetime
    at: datetime


@message("oms.returns.ReturnCommandRefused.v1", key="order_id")
class ReturnCommandRefused(Value, frozen=True, kw_only=True):
    """A command does not fit where the return stands; `reason` says how. `command` is its published type."""

    order_id: str
    return_id: str
    command: str
    reason: str
    at: datetime


@message("oms.returns.RequestReturn.v1", key="order_id")
class RequestReturn(Value, frozen=True, kw_only=True):
    """Units of a completed order are to come back, under an RMA number that the sender chooses. The policy approves or declines."""

    order_id: str
    return_id: str
    lines: tuple[ReturnLine, ...]


@message("oms.returns.ReceiveReturnItems.v1", key="order_id")
class ReceiveReturnItems(Value, frozen=True, kw_only=True):
    """Goods of a return arrived at `location`. The same `receipt_id` again has no effect."""

    order_id: str
    return_id: str
    receipt_id: str
    location: Code
    lines: tuple[ReturnLine, ...]


@message("oms.returns.InspectReturn.v1", key="order_id")
class InspectReturn(Value, frozen=True, kw_only=True):
    """Everything received is inspected; `lines` may not exceed what was received.

    `disposition` is restock, quarantine (it comes back to stock and is set apart until a person decides) or write-off.
    """

    order_id: str
    return_id: str
    lines: tuple[InspectedLine, ...]


@message("oms.returns.CancelReturn.v1", key="order_id")
class CancelReturn(Value, frozen=True, kw_only=True):
    """Only before the first receipt."""

    order_id: str
    return_id: str
    reason: Prose
