"""The positions: how many units of a SKU are where. A position is folded from every event that names its SKU, and names no orders."""

from collections.abc import Iterable

from msgspec import Struct, field
from oms_contracts.stock import (
    StockAdjusted,
    StockAllocated,
    StockReceived,
    StockReleased,
    StockReservationExpired,
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
)
from oms_contracts.values import AllocatedLine, StockLine, WantedLine

from oms_inventory.commands import Event

KIND = "sku"
"""How the key of a position begins, before the `/`."""


MovingEvent = (
    StockReserved
    | StockAllocated
    | StockShipped
    | StockReleased
    | StockReservationExpired
    | StockReceived
    | StockAdjusted
    | StockReturned
    | StockWrittenOff
)
"""The events with lines that are at a location."""


class Bin(Struct, frozen=True, kw_only=True):
    """One SKU at one location, in units."""

    on_hand: int = 0
    reserved: int = 0
    allocated: int = 0

    @property
    def available(self) -> int:
        """Available to promise (ATP). Negative only if a count found less than was promised."""
        return self.on_hand - self.reserved - self.allocated


EMPTY = Bin()


class Position(Struct, frozen=True, kw_only=True):
    """One SKU by location. A location without units of it is left out."""

    bins: dict[str, Bin] = field(default_factory=dict[str, Bin])

    def available(self) -> dict[str, int]:
        """The available units, by location that has some."""
        return {location: bin.available for location, bin in self.bins.items() if bin.available > 0}


def key_of(sku: str) -> str:
    """The key of a SKU's position."""
    return f"{KIND}/{sku}"


def keys_of(lines: Iterable[WantedLine | AllocatedLine | StockLine]) -> dict[str, None]:
    """The keys of the positions of these lines, each once, in their order."""
    return dict.fromkeys(key_of(line.sku) for line in lines)


def evolve(position: Position, event: Event, key: str) -> Position:
    """The position under `key` after an event."""
    if not isinstance(event, MovingEvent):
        return position
    sku = key.removeprefix(f"{KIND}/")
    on_hand, reserved, allocated = _signs(event)
    bins = position.bins.copy()
    for line in event.lines:
        if line.sku == sku:
            units, old = line.quantity, bins.get(line.location, EMPTY)
            bins[line.location] = Bin(
                on_hand=old.on_hand + on_hand * units,
                reserved=old.reserved + reserved * units,
                allocated=old.allocated + allocated * units,
            )
            if bins[line.location] == EMPTY:
                del bins[line.location]
    return Position(bins=bins)


def _signs(event: MovingEvent) -> tuple[int, int, int]:
    """What one unit of an event's lines adds to on hand, reserved and allocated."""
    match event:
        case StockReceived() | StockAdjusted() | StockReturned():
            return 1, 0, 0
        case StockWrittenOff():
            return -1, 0, 0
        case StockReserved():
            return 0, 1, 0
        case StockReservationExpired() | StockReleased(stage="reserved"):
            return 0, -1, 0
        case StockAllocated(reserved=reserved):
            return 0, -1 if reserved else 0, 1
        case StockShipped():
            return -1, 0, -1
        case StockReleased(stage="allocated"):
            return 0, 0, -1
        case _:
            return 0, 0, 0
