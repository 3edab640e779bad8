"""Stock, owned by inventory, on oms.stock; and the commands inventory takes.

on hand = received + returned + adjusted - shipped - written off; available to promise (ATP) = on hand - reserved - allocated.
"""

from datetime import datetime

from oms_contracts.message import Value, message
from oms_contracts.values import AllocatedLine, Code, Prose, Shortage, StockLine, WantedLine


@message("oms.inventory.StockReceived.v1", key="receipt_id")
class StockReceived(Value, frozen=True, kw_only=True):
    """Goods arrived."""

    receipt_id: str
    lines: tuple[StockLine, ...]
    at: datetime


@message("oms.inventory.StockAdjusted.v1", key="adjustment_id")
class StockAdjusted(Value, frozen=True, kw_only=True):
    """On hand was corrected by signed quantities."""

    adjustment_id: str
    lines: tuple[StockLine, ...]
    reason: str
    at: datetime


@message("oms.inventory.StockReturned.v1", key="return_id")
class StockReturned(Value, frozen=True, kw_only=True):
    """Goods came back from a customer and count as on hand."""

    return_id: str
    order_id: str
    lines: tuple[StockLine, ...]
    at: datetime


@message("oms.inventory.StockWrittenOff.v1", key="return_id")
class StockWrittenOff(Value, frozen=True, kw_only=True):
    """Goods that came back cannot be sold."""

    return_id: str
    order_id: str
    lines: tuple[StockLine, ...]
    reason: str
    at: datetime


@message("oms.inventory.StockReserved.v1", key="order_id")
class StockReserved(Value, frozen=True, kw_only=True):
    """All of the order's units are held until `expires_at`; one event names all of them."""

    order_id: str
    attempt: int
    lines: tuple[AllocatedLine, ...]
    expires_at: datetime
    at: datetime


@message("oms.inventory.StockReservationFailed.v1", key="order_id")
class StockReservationFailed(Value, frozen=True, kw_only=True):
    """Nothing is held. `shortages` names every SKU that falls short.

    With `unknown_skus` the order is not served at all: they have no active product, and the business rejects such orders.
    """

    order_id: str
    attempt: int
    shortages: tuple[Shortage, ...]
    at: datetime
    unknown_skus: tuple[Code, ...] = ()


@message("oms.inventory.StockReservationPostponed.v1", key="order_id")
class StockReservationPostponed(Value, frozen=True, kw_only=True):
    """Nothing is held: `unknown_skus` have no active product, and the business holds such orders until they have.

    Once they have, stock is reserved for the same attempt: StockReserved or StockReservationFailed follows. `lines` and `location` are what
    is to be reserved then.
    """

    order_id: str
    attempt: int
    unknown_skus: tuple[Code, ...]
    lines: tuple[WantedLine, ...]
    location: str | None
    at: datetime


@message("oms.inventory.WaitingOrdersResumed.v1", key="sku")
class WaitingOrdersResumed(Value, frozen=True, kw_only=True):
    """These orders' postponed reservations no longer wait for the SKU, which is defined and active.

    For one that waits for no other SKU either, stock is reserved: StockReserved or StockReservationFailed follows, or once more
    StockReservationPostponed.
    """

    sku: Code
    orders: tuple[str, ...]
    at: datetime


@message("oms.inventory.StockReservationExpired.v1", key="order_id")
class StockReservationExpired(Value, frozen=True, kw_only=True):
    """The order was not confirmed in time; its units are available again."""

    order_id: str
    attempt: int
    lines: tuple[AllocatedLine, ...]
    at: datetime


@message("oms.inventory.StockAllocated.v1", key="order_id")
class StockAllocated(Value, frozen=True, kw_only=True):
    """The confirmed order's units are committed to it, without expiry.

    `reserved` tells whether they come out of a reservation; where it had expired they are taken from what is available.
    """

    order_id: str
    lines: tuple[AllocatedLine, ...]
    reserved: bool
    at: datetime


@message("oms.inventory.StockAllocationRequested.v1", key="order_id")
class StockAllocationRequested(Value, frozen=True, kw_only=True):
    """The order was confirmed after its reservation had expired. It is planned anew: StockAllocated or StockReservationFailed follows."""

    order_id: str
    attempt: int
    at: datetime


@message("oms.inventory.StockShipped.v1", key="order_id")
class StockShipped(Value, frozen=True, kw_only=True):
    """A fulfillment's units left the building."""

    order_id: str
    fulfillment_id: str
    lines: tuple[AllocatedLine, ...]
    at: datetime


@message("oms.inventory.StockReleased.v1", key="order_id")
class StockReleased(Value, frozen=True, kw_only=True):
    """Units held for an order that will not ship are available again.

    `stage` is reserved or allocated: where they were held. Or nothing was held, and `lines` is empty: requested, a requested allocation is
    called off; postponed, a postponed reservation is, and `unknown_skus` are those that it still waited for.
    """

    order_id: str
    stage: str
    lines: tuple[AllocatedLine, ...]
    reason: str
    at: datetime
    unknown_skus: tuple[Code, ...] = ()


@message("oms.inventory.StockCommandRefused.v1", key="entry_id")
class StockCommandRefused(Value, frozen=True, kw_only=True):
    """A receipt or adjustment is not sound, nothing is booked; `reasons` names every field at fault and why.

    `entry_id` is the receipt's or adjustment's id, `command` the published type of the command. A mended one may come under the same id.
    """

    entry_id: str
    command: str
    reasons: tuple[str, ...]
    at: datetime


@message("oms.inventory.ReceiveStock.v1", key="receipt_id")
class ReceiveStock(Value, frozen=True, kw_only=True):
    """Book goods in. The same `receipt_id` again has no effect."""

    receipt_id: str
    lines: tuple[StockLine, ...]


@message("oms.inventory.AdjustStock.v1", key="adjustment_id")
class AdjustStock(Value, frozen=True, kw_only=True):
    """Correct on hand by signed quantities. The same `adjustment_id` again has no effect."""

    adjustment_id: str
    lines: tuple[StockLine, ...]
    reason: Prose
