"""What returns is asked to do: by customers, desks and warehouses, and by what the other services published."""

from datetime import datetime

from msgspec import Struct
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
from oms_contracts.values import OrderLine


class OpenReturnWindow(Struct, frozen=True, kw_only=True):
    """Every unit of the order is with the customer since `completed_at`."""

    order_id: str
    currency: str
    lines: tuple[OrderLine, ...]
    completed_at: datetime


class RecordRefund(Struct, frozen=True, kw_only=True):
    """`amount` (minor units) was given back."""

    order_id: str
    return_id: str
    amount: int


class RecordRefundFailure(Struct, frozen=True, kw_only=True):
    """`owed` tells whether a person must refund by hand; where nothing was left to refund, nobody must."""

    order_id: str
    return_id: str
    owed: bool


class ActOnDeadline(Struct, frozen=True, kw_only=True):
    """The deadline the return waited for has come."""

    order_id: str
    return_id: str
    deadline: datetime


PersonsCommand = RequestReturn | ReceiveReturnItems | InspectReturn | CancelReturn
Command = PersonsCommand | OpenReturnWindow | RecordRefund | RecordRefundFailure | ActOnDeadline

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
