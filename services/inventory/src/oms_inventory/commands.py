"""Inventory's commands (from warehouses and operators, other services' events and its own deadlines) and its events."""

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
    ReceiveStock,
    StockAdjusted,
    StockAllocated,
    StockAllocationRequested,
    StockCommandRefused,
    StockReceived,
    StockReleased,
    StockReservationExpired,
    StockReservationFailed,
    StockReservationPostponed,
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
    WaitingOrdersResumed,
)
from oms_contracts.values import AllocatedLine, InspectedLine, WantedLine


class ReserveStock(Struct, frozen=True, kw_only=True):
    """Hold the units of an order. `location` is the preferred location, None if there is no preference."""

    order_id: str
    attempt: int
    lines: tuple[WantedLine, ...]
    location: str | None


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


LedgerCommand = ReceiveStock | AdjustStock | BookReturn
PlanningCommand = ReserveStock | PlanAllocation
"""The commands that look for units, and therefore read positions."""
HoldingCommand = AllocateStock | ExpireReservation | ReleaseReservation | ReleaseStock | ShipStock
"""The commands that move the units that an order already holds."""

ProductCommand = DefineProduct | DeactivateProduct | ResumeWaitingOrders

Command = LedgerCommand | PlanningCommand | HoldingCommand | ProductCommand

LedgerEvent = StockReceived | StockAdjusted | StockReturned | StockWrittenOff | StockCommandRefused
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

Event = LedgerEvent | ReservationEvent | ProductEvent
