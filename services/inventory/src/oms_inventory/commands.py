"""What inventory is asked to do: by people and warehouses, by what the other services published, and by its own deadlines."""

from msgspec import Struct
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


class WantedLine(Struct, frozen=True, kw_only=True):
    """What an order line needs, wherever it comes from."""

    line_id: str
    sku: str
    quantity: int


class ReserveStock(Struct, frozen=True, kw_only=True):
    """`location` is where the order would best be served from, None where that does not matter."""

    order_id: str
    attempt: int
    lines: tuple[WantedLine, ...]
    location: str | None


class ReleaseReservation(Struct, frozen=True, kw_only=True):
    """The attempt (None: an old record does not tell which) waits for somebody to do `action`; some of these waits are without stock."""

    order_id: str
    attempt: int | None
    action: str
    reason: str


class ReleaseStock(Struct, frozen=True, kw_only=True):
    """The order has ended without being shipped."""

    order_id: str
    reason: str


class ExpireReservation(Struct, frozen=True, kw_only=True):
    order_id: str
    attempt: int


class AllocateStock(Struct, frozen=True, kw_only=True):
    order_id: str


class PlanAllocation(Struct, frozen=True, kw_only=True):
    """Find the units of a confirmed order whose reservation had expired. It carries the lines, because they say which positions to read."""

    order_id: str
    attempt: int
    lines: tuple[WantedLine, ...]
    location: str | None


class ShipStock(Struct, frozen=True, kw_only=True):
    order_id: str
    fulfillment_id: str
    lines: tuple[AllocatedLine, ...]


class BookReturn(Struct, frozen=True, kw_only=True):
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
