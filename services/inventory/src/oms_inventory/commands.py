"""What inventory is asked to do: by people and warehouses, by what the other services published, and by its own deadlines."""

from dataclasses import dataclass

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
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
)
from oms_contracts.values import AllocatedLine, InspectedLine


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedLine:
    """What an order line needs, wherever it comes from."""

    line_id: str
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveStock:
    """`location` is where the order would best be served from, None where that does not matter."""

    order_id: str
    attempt: int
    lines: tuple[WantedLine, ...]
    location: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReservation:
    """The attempt (None: an old record does not tell which) waits for somebody to do `action`; some of these waits are without stock."""

    order_id: str
    attempt: int | None
    action: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStock:
    """The order has ended without being shipped."""

    order_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireReservation:
    order_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocateStock:
    order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAllocation:
    """Find the units of a confirmed order whose reservation had expired. It carries the lines, because they say which positions to read."""

    order_id: str
    attempt: int
    lines: tuple[WantedLine, ...]
    location: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipStock:
    order_id: str
    fulfillment_id: str
    lines: tuple[AllocatedLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookReturn:
    """All units came back to `location`; their disposition says which of them can be sold again."""

    return_id: str
    order_id: str
    location: str
    lines: tuple[InspectedLine, ...]


Command = (
    ReserveStock
    | ReleaseReservation
    | ReleaseStock
    | ExpireReservation
    | AllocateStock
    | PlanAllocation
    | ShipStock
    | BookReturn
    | ReceiveStock
    | AdjustStock
)

Event = (
    StockReceived
    | StockAdjusted
    | StockReturned
    | StockWrittenOff
    | StockReserved
    | StockReservationFailed
    | StockReservationExpired
    | StockAllocationRequested
    | StockAllocated
    | StockShipped
    | StockReleased
    | StockCommandRefused
)
