"""Returns' commands, from customers, service desks, warehouses and the events of other services; and its events."""

from datetime import datetime

from msgspec import Struct
from oms_contracts.order_parts import ChargedLine
from oms_contracts.returns import (
    CancelReturn,
    InspectReturn,
    ReceiveReturnItems,
    RequestReturn,
    ReturnActionRequired,
    ReturnApproved,
    ReturnCanceled,
    ReturnClosed,
    ReturnCommandRefused,
    ReturnDeclined,
    ReturnExpired,
    ReturnItemsInspected,
    ReturnItemsReceived,
    ReturnRefundRequested,
    ReturnRequested,
    ReturnWindowOpened,
)


class OpenReturnWindow(Struct, frozen=True, kw_only=True):
    """The order was completed at `completed_at`: every unit was delivered."""

    order_id: str
    currency: str
    lines: tuple[ChargedLine, ...]
    completed_at: datetime


class RecordRefund(Struct, frozen=True, kw_only=True):
    """`amount` (minor units) was refunded."""

    order_id: str
    return_id: str
    amount: int


class RecordRefundFailure(Struct, frozen=True, kw_only=True):
    """`owed` is whether a person must refund by hand. It is False where nothing was left to refund."""

    order_id: str
    return_id: str
    owed: bool


class ActOnDeadline(Struct, frozen=True, kw_only=True):
    """The return's deadline has passed."""

    order_id: str
    return_id: str
    deadline: datetime


ExternalCommand = RequestReturn | ReceiveReturnItems | InspectReturn | CancelReturn
Command = ExternalCommand | OpenReturnWindow | RecordRefund | RecordRefundFailure | ActOnDeadline

Event = (
    ReturnWindowOpened
    | ReturnRequested
    | ReturnApproved
    | ReturnDeclined
    | ReturnItemsReceived
    | ReturnItemsInspected
    | ReturnRefundRequested
    | ReturnClosed
    | ReturnCanceled
    | ReturnExpired
    | ReturnActionRequired
    | ReturnCommandRefused
)
