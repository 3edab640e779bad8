"""Inventory's commands (from warehouses and operators, other services' events and its own deadlines) and its events."""

from datetime import datetime
from typing import Literal

from msgspec import Struct
from oms_contracts.products import (
    DeactivateProduct,
    DefineProduct,
    ProductCommandRefused,
    ProductDeactivated,
    ProductDefined,
)
from oms_contracts.stock import (
    AdjustStock,
    CloseTransfer,
    CountStock,
    QuarantineReleased,
    QuarantineStock,
    QuarantineWrittenOff,
    ReceiveStock,
    ReceiveTransfer,
    ReleaseQuarantine,
    SetStockLimits,
    StockActionRequired,
    StockActionResolved,
    StockAdjusted,
    StockAllocated,
    StockAllocationRequested,
    StockCommandRefused,
    StockCounted,
    StockExcess,
    StockExcessCleared,
    StockLimitsSet,
    StockLow,
    StockLowCleared,
    StockOut,
    StockOutCleared,
    StockQuarantined,
    StockReceived,
    StockReleased,
    StockReservationExpired,
    StockReservationFailed,
    StockReservationPostponed,
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
    TransferActionRequired,
    TransferClosed,
    TransferReceived,
    TransferStarted,
    TransferStock,
    WaitingOrdersCalled,
    WaitingOrdersResumed,
    WriteOffQuarantine,
)
from oms_contracts.values import AllocatedLine, InspectedLine, WantedLine


class ReserveStock(Struct, frozen=True, kw_only=True):
    """Hold the units of an order. `location` is the preferred location, None if there is no preference.

    `promised_at` is when the customer expects them, None where nothing was promised. `has_waited` where what it waited for may be there.
    """

    order_id: str
    attempt: int
    lines: tuple[WantedLine, ...]
    location: str | None
    promised_at: datetime | None = None
    has_waited: bool = False


class ReleaseReservation(Struct, frozen=True, kw_only=True):
    """The attempt waits for a person to do `action`; for some actions the stock is released.

    `attempt` is None in old records, which mean the newest attempt.
    """

    order_id: str
    attempt: int | None
    action: str
    reason: str


class ReleaseStock(Struct, frozen=True, kw_only=True):
    """The order has ended without being shipped."""

    order_id: str
    reason: str


class ExpireReservation(Struct, frozen=True, kw_only=True):
    """The order was not confirmed in time."""

    order_id: str
    attempt: int


class AllocateStock(Struct, frozen=True, kw_only=True):
    """The order is confirmed."""

    order_id: str


class PlanAllocation(Struct, frozen=True, kw_only=True):
    """Find the units of a confirmed order whose reservation had expired."""

    order_id: str
    attempt: int
    lines: tuple[WantedLine, ...]
    location: str | None


class ShipStock(Struct, frozen=True, kw_only=True):
    """A fulfillment of the order has shipped these units."""

    order_id: str
    fulfillment_id: str
    lines: tuple[AllocatedLine, ...]


class BookReturn(Struct, frozen=True, kw_only=True):
    """All units came back to `location`. Their disposition is whether they can be sold again."""

    return_id: str
    order_id: str
    location: str
    lines: tuple[InspectedLine, ...]


class ResumeWaitingOrders(Struct, frozen=True, kw_only=True):
    """The product of `sku` is defined, and these orders wait for it."""

    sku: str
    orders: tuple[str, ...]


Watched = Literal["low", "out", "excess", "shortfall", "quarantine"]
"""What is said of a SKU at a location: that it is low, out of stock or more than enough; that less is there than promised, or set apart."""


class ReviewStock(Struct, frozen=True, kw_only=True):
    """Say what has crossed at a location, or take it back; or ask again for an action whose `deadline` has passed."""

    sku: str
    location: str
    watched: Watched
    deadline: datetime | None


class ActOnTransferDeadline(Struct, frozen=True, kw_only=True):
    """Units of a transfer have not arrived before `deadline`."""

    transfer_id: str
    deadline: datetime


class CallWaitingOrders(Struct, frozen=True, kw_only=True):
    """There are units of `sku`, and these orders wait for it."""

    sku: str
    orders: tuple[str, ...]


QuarantineCommand = QuarantineStock | ReleaseQuarantine | WriteOffQuarantine
CheckedCommand = AdjustStock | CountStock | QuarantineCommand
"""The commands whose entry depends on what is there, and that therefore read positions."""
LedgerCommand = ReceiveStock | BookReturn | CheckedCommand
PositionCommand = SetStockLimits | ReviewStock
TransferCommand = TransferStock | ReceiveTransfer | CloseTransfer | ActOnTransferDeadline
PlanningCommand = ReserveStock | PlanAllocation
"""The commands that look for units, and therefore read positions."""
HoldingCommand = AllocateStock | ExpireReservation | ReleaseReservation | ReleaseStock | ShipStock
"""The commands that move the units that an order already holds."""

ProductCommand = DefineProduct | DeactivateProduct | ResumeWaitingOrders

Command = LedgerCommand | PositionCommand | TransferCommand | PlanningCommand | HoldingCommand | ProductCommand | CallWaitingOrders

QuarantineEvent = StockQuarantined | QuarantineReleased | QuarantineWrittenOff
LedgerEvent = StockReceived | StockAdjusted | StockCounted | StockReturned | StockWrittenOff | QuarantineEvent | StockCommandRefused
SignalEvent = (
    StockLow | StockLowCleared | StockOut | StockOutCleared | StockExcess | StockExcessCleared | StockActionRequired | StockActionResolved
)
PositionEvent = StockLimitsSet | SignalEvent
TransferEvent = TransferStarted | TransferReceived | TransferClosed | TransferActionRequired
ReservationEvent = (
    StockReserved
    | StockReservationFailed
    | StockReservationPostponed
    | StockReservationExpired
    | StockAllocationRequested
    | StockAllocated
    | StockShipped
    | StockReleased
)

ProductEvent = ProductDefined | ProductDeactivated | ProductCommandRefused | WaitingOrdersResumed

Event = LedgerEvent | PositionEvent | TransferEvent | ReservationEvent | ProductEvent | WaitingOrdersCalled
