"""The positions: how many units of a SKU are where. A position is folded from every event that names its SKU, and has the
queue of the orders that wait for it (waiting.py).

A position watches its own level. `evolve` notes where it crosses a limit, and since when; `due` asks for a ReviewStock, which says so in an
event, or takes it back. So reservations read and decide no more than without limits, and what goes up and down in between is not said.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from oms_contracts.message import type_of
from oms_contracts.stock import (
    QuarantineReleased,
    QuarantineWrittenOff,
    SetStockLimits,
    StockActionRequired,
    StockActionResolved,
    StockAdjusted,
    StockAllocated,
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
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
    TransferReceived,
    TransferStarted,
    WaitingOrdersCalled,
)
from oms_contracts.values import AllocatedLine, CountedLine, CountLine, GoodsLine, StockLine, WantedLine, bounded_reasons

from oms_inventory import waiting
from oms_inventory.commands import CallWaitingOrders, Event, PositionCommand, PositionEvent, ReviewStock, SignalEvent, Watched
from oms_inventory.reservations import Terms
from oms_inventory.validation import MAX_UNITS, name_objections
from oms_inventory.waiting import Queue

KIND = "sku"
"""How the key of a position begins, before the `/`."""
SET_LIMITS = type_of(SetStockLimits).name
MAX_LIMITS = 1_000
"""Locations with limits of their own, of one SKU. It keeps the state small."""

WATCHED: tuple[Watched, ...] = ("low", "out", "excess", "shortfall", "quarantine")
ACTIONS: Mapping[Watched, str] = {"shortfall": "resolve_shortfall", "quarantine": "resolve_quarantine"}
"""What waits for a person. The others are signals."""
_WATCHED_BY_ACTION: Mapping[str, Watched] = {action: watched for watched, action in ACTIONS.items()}


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
    | StockCounted
    | StockQuarantined
    | QuarantineReleased
    | QuarantineWrittenOff
    | TransferStarted
    | TransferReceived
)
"""The events with lines that are at a location."""


class Bin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One SKU at one location, in units. Those in quarantine are on hand, and so are those that are promised (reserved, allocated)."""

    on_hand: int = 0
    reserved: int = 0
    allocated: int = 0
    quarantined: int = 0

    @property
    def free(self) -> int:
        """Neither promised nor in quarantine. Negative only if a count or a loss left less than was promised."""
        return self.on_hand - self.reserved - self.allocated - self.quarantined


EMPTY = Bin()


class Limits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`safety` units are promised to nobody; from the `reorder_point` down stock is low; above the `maximum` it is excess."""

    safety: int = 0
    reorder_point: int | None = None
    maximum: int | None = None


NO_LIMITS = Limits()
EVERYWHERE = ""
"""Among locations: every one that has no limits of its own."""


class Watch(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether something was said of the level, and `crossed_at`, since when the level is otherwise. `deadline` is that of an action."""

    said: bool = False
    crossed_at: datetime | None = None
    deadline: datetime | None = None


QUIET = Watch()


class Position(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One SKU by location.

    `bins` leaves out a location without units; `emptied` are those that had some. `limits` are by location, and under EVERYWHERE.
    `watches` are by location and by what is watched, without what is QUIET. `refused` are the reasons of the latest refusal of limits.
    `queue` are the orders that wait for the SKU.
    """

    bins: dict[str, Bin] = {}
    emptied: frozenset[str] = frozenset()
    limits: dict[str, Limits] = {}
    watches: dict[str, dict[Watched, Watch]] = {}
    refused: tuple[str, ...] = ()
    queue: Queue = waiting.EMPTY

    def bin(self, location: str) -> Bin:
        """The units at a location."""
        return self.bins.get(location, EMPTY)

    def limits_at(self, location: str) -> Limits:
        """A location's own limits, or those of every location."""
        return self.limits.get(location) or self.limits.get(EVERYWHERE, NO_LIMITS)

    def available_at(self, location: str) -> int:
        """The units at a location that are available to promise (ATP): what is free, less the safety stock. It may be negative."""
        return self.bin(location).free - self.limits_at(location).safety

    def available(self) -> dict[str, int]:
        """The units available to promise (ATP), by location that has some."""
        if not self.limits:
            return {location: units for location, each in self.bins.items() if (units := each.free) > 0}
        return {location: units for location in self.bins if (units := self.available_at(location)) > 0}

    def level(self, location: str) -> frozenset[Watched]:
        """What holds at a location. A location that never had units and has no limits of its own is neither low nor out."""
        units, limits, available = self.bin(location), self.limits_at(location), self.available_at(location)
        holds: set[Watched] = set()
        if location in self.bins or location in self.emptied or location in self.limits:
            if available <= 0:
                holds.add("out")
            if limits.reorder_point is not None and available <= limits.reorder_point:
                holds.add("low")
        if limits.maximum is not None and units.on_hand > limits.maximum:
            holds.add("excess")
        if units.free < 0:
            holds.add("shortfall")
        if units.quarantined > 0:
            holds.add("quarantine")
        return frozenset(holds)


def key_of(sku: str) -> str:
    """The key of a SKU's position."""
    return f"{KIND}/{sku}"


def keys_of(lines: Iterable[WantedLine | AllocatedLine | StockLine | GoodsLine | CountLine | CountedLine]) -> dict[str, None]:
    """The keys of the positions of these lines, each once, in their order."""
    return dict.fromkeys(key_of(line.sku) for line in lines)


def decide(command: PositionCommand, position: Position, now: datetime, terms: Terms) -> list[PositionEvent | StockCommandRefused]:
    """Set limits, unless they are so already, or refuse them, once for the same reasons; say what has crossed, or is still to be done."""
    match command:
        case SetStockLimits(sku=sku):
            if reasons := bounded_reasons(_objections(command, position)):
                refused = StockCommandRefused(entry_id=sku, command=SET_LIMITS, reasons=reasons, at=now)
                return [] if reasons == position.refused else [refused]
            if _limits_of(command) == position.limits.get(command.location or EVERYWHERE, NO_LIMITS):
                return []
            return [
                StockLimitsSet(
                    sku=sku,
                    location=command.location,
                    safety=command.safety,
                    reorder_point=command.reorder_point,
                    maximum=command.maximum,
                    at=now,
                )
            ]
        case ReviewStock(location=location, watched=watched):
            watch = position.watches.get(location, {}).get(watched, QUIET)
            holds = watched in position.level(location)
            if holds == watch.said and (not holds or watch.deadline is None or watch.deadline != command.deadline):
                return []
            return [_said(command, position, now, terms) if holds else _taken_back(command, position, now)]


def evolve(position: Position, event: Event, key: str) -> Position:
    """The position under `key` after an event."""
    if isinstance(event, MovingEvent):  # first, because it is most of what comes
        return _moved(position, event, key.removeprefix(f"{KIND}/"))
    match event:
        case StockCommandRefused():
            return replace(position, refused=event.reasons)
        case StockLimitsSet(location=location, at=at):
            limits = {**position.limits, location or EVERYWHERE: _limits_of(event)}
            found = replace(position, limits={place: each for place, each in limits.items() if each != NO_LIMITS}, refused=())
            return _watched(found, [location] if location else [*found.bins, *found.emptied, *found.watches], at)
        case StockReservationFailed() | WaitingOrdersCalled():
            return replace(position, queue=waiting.evolve(position.queue, event, key.removeprefix(f"{KIND}/")))
        case StockLow() | StockOut() | StockExcess() | StockActionRequired():
            deadline = event.deadline if isinstance(event, StockActionRequired) else None
            return _noted(position, event, Watch(said=True, deadline=deadline))
        case StockLowCleared() | StockOutCleared() | StockExcessCleared() | StockActionResolved():
            return _noted(position, event, QUIET)
        case _:
            return position


def due(key: str, position: Position, terms: Terms) -> tuple[datetime, ReviewStock | CallWaitingOrders] | None:
    """Orders that wait and for which there are enough units are called at once; what has crossed is reviewed in its time."""
    if position.queue.orders:
        called = waiting.due(key.removeprefix(f"{KIND}/"), position.queue, sum(position.available().values()))
        if called is not None:
            return called
    return _review_due(key, position, terms)


def _review_due(key: str, position: Position, terms: Terms) -> tuple[datetime, ReviewStock] | None:
    """The first of what has crossed, once it has stayed so for a while; or of what is to be asked for again."""
    if not position.watches:
        return None
    first = min(_waits(position, terms.signal_delay), key=lambda wait: wait[:3], default=None)
    if first is None:
        return None
    at, location, watched, deadline = first
    return at, ReviewStock(sku=key.removeprefix(f"{KIND}/"), location=location, watched=watched, deadline=deadline)


def _waits(position: Position, delay: timedelta) -> Iterator[tuple[datetime, str, Watched, datetime | None]]:
    """When, where and what is to be reviewed, and the deadline that has passed then."""
    for location, watches in position.watches.items():
        for watched, watch in watches.items():
            if watch.crossed_at is not None:
                yield watch.crossed_at + (timedelta(0) if watched in ACTIONS else delay), location, watched, None
            elif watch.deadline is not None:
                yield watch.deadline, location, watched, watch.deadline


def _moved(position: Position, event: MovingEvent, sku: str) -> Position:
    """Every order comes here several times for each of its lines."""
    signs = _signs(event)
    bins, emptied, touched = position.bins.copy(), position.emptied, dict[str, None]()
    for line in event.lines:
        if line.sku == sku:
            location, units = line.location, line.difference if isinstance(line, CountedLine) else line.quantity
            old = bins.get(location, EMPTY)
            on_hand, reserved = old.on_hand + signs[0] * units, old.reserved + signs[1] * units
            allocated, quarantined = old.allocated + signs[2] * units, old.quarantined + signs[3] * units
            if on_hand - reserved - allocated <= 0 or quarantined or position.limits or location in position.watches:
                touched[location] = None  # what has units to sell, and no limits, crosses none
            if on_hand or reserved or allocated or quarantined:
                bins[location] = Bin(on_hand=on_hand, reserved=reserved, allocated=allocated, quarantined=quarantined)
                if emptied:
                    emptied -= {location}
            elif bins.pop(location, None) is not None:
                emptied |= {location}
    queue = waiting.evolve(position.queue, event, sku) if position.queue.orders else position.queue
    moved = Position(bins=bins, emptied=emptied, limits=position.limits, watches=position.watches, refused=position.refused, queue=queue)
    return _watched(moved, touched, event.at) if touched else moved


_Signs = tuple[int, int, int, int]
_SIGNS: Mapping[type[Any], _Signs] = {
    **dict.fromkeys((StockReceived, StockAdjusted, StockReturned, StockCounted, TransferReceived), (1, 0, 0, 0)),
    **dict.fromkeys((StockWrittenOff, TransferStarted), (-1, 0, 0, 0)),
    StockReserved: (0, 1, 0, 0),
    StockReservationExpired: (0, -1, 0, 0),
    StockShipped: (-1, 0, -1, 0),
    StockQuarantined: (0, 0, 0, 1),
    QuarantineReleased: (0, 0, 0, -1),
    QuarantineWrittenOff: (-1, 0, 0, -1),
}


def _signs(event: MovingEvent) -> _Signs:
    """What one unit of an event's lines adds to on hand, reserved, allocated and quarantined."""
    match event:
        case StockAllocated(reserved=reserved):
            return 0, -1 if reserved else 0, 1, 0
        case StockReleased(stage=stage):
            return {"reserved": (0, -1, 0, 0), "allocated": (0, 0, -1, 0)}.get(stage, (0, 0, 0, 0))
        case _:
            return _SIGNS[type(event)]


def _watched(position: Position, locations: Iterable[str], at: datetime) -> Position:
    """The position with what has crossed at these locations, since `at` unless it had before, and without what has crossed back."""
    watches = position.watches
    for location in locations:
        level, known = position.level(location), watches.get(location, {})
        if level or known:
            now = {watched: _since(known.get(watched, QUIET), at, holds=watched in level) for watched in WATCHED}
            found = {watched: watch for watched, watch in now.items() if watch != QUIET}
            watches = {place: each for place, each in {**watches, location: found}.items() if each}
    return position if watches is position.watches else replace(position, watches=watches)


def _since(watch: Watch, at: datetime, *, holds: bool) -> Watch:
    crossed_at = None if holds == watch.said else watch.crossed_at or at
    return watch if crossed_at == watch.crossed_at else replace(watch, crossed_at=crossed_at)


def _noted(position: Position, event: SignalEvent, watch: Watch) -> Position:
    """The position after something was said of it, or taken back."""
    found: dict[Watched, Watch] = {**position.watches.get(event.location, {}), _watched_by(event): watch}
    return _watched(replace(position, watches={**position.watches, event.location: found}), [event.location], event.at)


def _watched_by(event: SignalEvent) -> Watched:
    match event:
        case StockLow() | StockLowCleared():
            return "low"
        case StockOut() | StockOutCleared():
            return "out"
        case StockExcess() | StockExcessCleared():
            return "excess"
        case StockActionRequired(action=action) | StockActionResolved(action=action):
            return _WATCHED_BY_ACTION[action]


def _said(command: ReviewStock, position: Position, now: datetime, terms: Terms) -> SignalEvent:
    sku, location = command.sku, command.location
    units, limits, available = position.bin(location), position.limits_at(location), position.available_at(location)
    match command.watched:
        case "low":
            return StockLow(sku=sku, location=location, available=available, reorder_point=limits.reorder_point or 0, at=now)
        case "out":
            return StockOut(sku=sku, location=location, available=available, at=now)
        case "excess":
            return StockExcess(sku=sku, location=location, on_hand=units.on_hand, maximum=limits.maximum or 0, at=now)
        case "shortfall":
            missing, deadline = -units.free, now + terms.shortfall_timeout
        case "quarantine":
            missing, deadline = units.quarantined, now + terms.quarantine_timeout
    action = ACTIONS[command.watched]
    return StockActionRequired(sku=sku, location=location, action=action, units=missing, deadline=deadline, at=now)


def _taken_back(command: ReviewStock, position: Position, now: datetime) -> SignalEvent:
    sku, location = command.sku, command.location
    available, on_hand = position.available_at(location), position.bin(location).on_hand
    match command.watched:
        case "low":
            return StockLowCleared(sku=sku, location=location, available=available, at=now)
        case "out":
            return StockOutCleared(sku=sku, location=location, available=available, at=now)
        case "excess":
            return StockExcessCleared(sku=sku, location=location, on_hand=on_hand, at=now)
        case action:
            return StockActionResolved(sku=sku, location=location, action=ACTIONS[action], at=now)


def _limits_of(of: SetStockLimits | StockLimitsSet) -> Limits:
    return Limits(safety=of.safety, reorder_point=of.reorder_point, maximum=of.maximum)


def _objections(command: SetStockLimits, position: Position) -> Iterator[str]:
    """Everything that is wrong with limits; each objection names its field and the reason."""
    yield from name_objections("sku", command.sku)
    if command.location is not None:
        yield from name_objections("location", command.location)
    named = {"safety": command.safety, "reorder_point": command.reorder_point, "maximum": command.maximum}
    for name, units in named.items():
        if units is not None and not 0 <= units <= MAX_UNITS:
            yield f"{name}: must be 0 to {MAX_UNITS}, is {units}"
    if command.maximum is not None and command.maximum <= command.safety + (command.reorder_point or 0):
        yield f"maximum: must be more than safety and reorder_point together, is {command.maximum}"
    if len(position.limits) >= MAX_LIMITS and (command.location or EVERYWHERE) not in position.limits:
        yield f"location: {MAX_LIMITS} locations have limits of their own, and no more are taken: set limits of every location"
