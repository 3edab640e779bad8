"""Stock: what is there, what is held for orders, and what that allows.

Three kinds of state, by key:
- `<order id>`: a Reservation, what is held for one order and what became of it.
- `receipt/<id>`, `adjustment/<id>`, `return/<id>`: an Entry, so that nothing is booked twice.
- `sku/<SKU>`: a Position, how much of a SKU is where. It is folded from every event that names the SKU, and never knows for which orders.

Only planning reads positions, and its commands therefore carry the lines they plan for. Whatever comes later (expiry, allocation, shipping,
release) moves exactly the units that the Reservation names.

All that capture says of an order comes in one topic, in order, so the attempt and the status tell what is late or repeated: an attempt is
reserved once, and only an order that holds its units, or lost them to the clock, can be confirmed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace
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
from oms_contracts.values import AllocatedLine, Shortage, StockLine

from oms_inventory.commands import (
    AllocateStock,
    BookReturn,
    Command,
    Event,
    ExpireReservation,
    PlanAllocation,
    ReleaseReservation,
    ReleaseStock,
    ReserveStock,
    ShipStock,
    WantedLine,
)
from oms_inventory.sourcing import plan, shortages

RECEIVE = "oms.inventory.ReceiveStock.v1"
ADJUST = "oms.inventory.AdjustStock.v1"
MAX_LINES = 1_000
MAX_UNITS = 10**9
"""In one line of a receipt or adjustment; keeps every sum within what a bigint and a JSON number hold."""
MAX_CHARACTERS = 200
"""In an id, a SKU or a location: they become keys."""


class NotAllocated(Exception):
    """Units were shipped for an order that does not hold them. One of the two records is wrong, and only a person can tell which."""


class Terms(Struct, frozen=True, kw_only=True):
    """The business's settings. `reservation_timeout`: how long units are held for an order that is not confirmed."""

    reservation_timeout: timedelta = timedelta(hours=2)


class Bin(Struct, frozen=True, kw_only=True):
    """One SKU at one location, in units."""

    on_hand: int = 0
    reserved: int = 0
    allocated: int = 0

    @property
    def available(self) -> int:
        """Available to promise (ATP). Negative only where a count found less than was promised."""
        return self.on_hand - self.reserved - self.allocated


class Position(Struct, frozen=True, kw_only=True):
    """One SKU by location; a location without any of it is left out."""

    bins: dict[str, Bin] = field(default_factory=dict[str, Bin])

    def available(self) -> dict[str, int]:
        """The units to be had, at the locations that have some."""
        return {location: bin.available for location, bin in self.bins.items() if bin.available > 0}


class Reservation(Struct, frozen=True, kw_only=True):
    """What is held for one order.

    `status` is none, reserved, expired (not confirmed in time), requested (confirmed after that, to be planned anew), allocated, shipped,
    released or failed. `lines` is what is held; once expired, what was. `due_at` is when something happens by itself.
    """

    status: str = "none"
    attempt: int = 0
    lines: tuple[AllocatedLine, ...] = ()
    shipped: frozenset[str] = frozenset()
    due_at: datetime | None = None


class Entry(Struct, frozen=True, kw_only=True):
    """A receipt, an adjustment or a return. `refused` is why it was refused last."""

    booked: bool = False
    refused: tuple[str, ...] = ()


State = Reservation | Entry | Position

_RESERVATION, _ENTRY, _POSITION = Reservation(), Entry(), Position()
_NOTHING = Bin()


def initial(key: str) -> State:
    """The state of a key before its first event."""
    kind = key.partition("/")[0]
    return _POSITION if kind == "sku" else _ENTRY if kind in {"receipt", "adjustment", "return"} else _RESERVATION


def reads(command: Command) -> Sequence[str]:
    """The keys a decision needs. Positions are needed only where units are looked for."""
    match command:
        case ReserveStock(order_id=order_id) | PlanAllocation(order_id=order_id):
            return [order_id, *_sku_keys(command.lines)]
        case ReceiveStock(receipt_id=receipt_id):
            return [f"receipt/{receipt_id}"]
        case AdjustStock(adjustment_id=adjustment_id):
            return [f"adjustment/{adjustment_id}"]
        case BookReturn(return_id=return_id):
            return [f"return/{return_id}"]
        case _:
            return [command.order_id]


def writes(event: Event) -> Sequence[str]:
    """The event's stream, then every position it moves."""
    match event:
        case StockReceived(receipt_id=receipt_id):
            return [f"receipt/{receipt_id}", *_sku_keys(event.lines)]
        case StockAdjusted(adjustment_id=adjustment_id):
            return [f"adjustment/{adjustment_id}", *_sku_keys(event.lines)]
        case StockReturned(return_id=return_id) | StockWrittenOff(return_id=return_id):
            return [f"return/{return_id}", *_sku_keys(event.lines)]
        case StockCommandRefused(entry_id=entry_id, command=command):
            return [f"receipt/{entry_id}" if command == RECEIVE else f"adjustment/{entry_id}"]
        case StockReservationFailed() | StockAllocationRequested():
            return [event.order_id]
        case _:
            return [event.order_id, *_sku_keys(event.lines)]


def decide(command: Command, states: Mapping[str, Any], now: datetime, terms: Terms) -> list[Event]:
    """What follows from a command. One that has already had its effect, or comes too late, has none.

    Raises NotAllocated.
    """
    match command:
        case ReceiveStock() | AdjustStock():
            return _book(command, states[reads(command)[0]], now)
        case BookReturn():
            return _book_return(command, states[f"return/{command.return_id}"], now)
        case _:
            return _order(command, states[command.order_id], states, now, terms)


def evolve(state: State, event: Event, key: str) -> State:
    """Never refuses: what happened, happened."""
    match state:
        case Position():
            return _moved(state, event, key.removeprefix("sku/"))
        case Reservation():
            return _lived(state, event)
        case Entry():
            return replace(state, refused=event.reasons) if isinstance(event, StockCommandRefused) else Entry(booked=True)


def due(key: str, state: State) -> tuple[datetime, Command] | None:
    """A reservation expires; a requested allocation is planned at once."""
    match state:
        case Reservation(status="reserved", attempt=attempt, due_at=datetime() as at):
            return at, ExpireReservation(order_id=key, attempt=attempt)
        case Reservation(status="requested", attempt=attempt, lines=lines, due_at=datetime() as at):
            # What the order would have preferred is not kept; where it was held before is at least as good.
            return at, PlanAllocation(order_id=key, attempt=attempt, lines=_wanted(lines), location=lines[0].location)
        case _:
            return None


def _order(
    command: ReserveStock | PlanAllocation | AllocateStock | ExpireReservation | ReleaseReservation | ReleaseStock | ShipStock,
    reservation: Reservation,
    states: Mapping[str, Any],
    now: datetime,
    terms: Terms,
) -> list[Event]:
    order_id, status, attempt, held = command.order_id, reservation.status, reservation.attempt, reservation.lines
    match command:
        case ReserveStock():
            if command.attempt <= attempt or status in {"reserved", "requested", "allocated", "shipped"}:
                return []
            match _find(command, states):
                case lines, ():
                    expires_at = now + terms.reservation_timeout
                    return [StockReserved(order_id=order_id, attempt=command.attempt, lines=lines, expires_at=expires_at, at=now)]
                case _, missing:
                    return [StockReservationFailed(order_id=order_id, attempt=command.attempt, shortages=missing, at=now)]

        case ExpireReservation():
            # The attempt is matched, not the clock compared: what was due before the order moved on is no longer.
            if status != "reserved" or command.attempt != attempt:
                return []
            return [StockReservationExpired(order_id=order_id, attempt=attempt, lines=held, at=now)]

        case AllocateStock():
            if status == "reserved":
                return [StockAllocated(order_id=order_id, lines=held, reserved=True, at=now)]
            return [StockAllocationRequested(order_id=order_id, attempt=attempt, at=now)] if status == "expired" else []

        case PlanAllocation():
            if status != "requested":
                return []
            match _find(command, states):
                case lines, ():
                    return [StockAllocated(order_id=order_id, lines=lines, reserved=False, at=now)]
                case _, missing:
                    return [StockReservationFailed(order_id=order_id, attempt=attempt, shortages=missing, at=now)]

        case ReleaseReservation(action=action, reason=reason):
            # A declined payment may take days to mend. Whoever else is waited for, the order keeps its units, or has none.
            if action != "amend_payment" or status != "reserved" or command.attempt not in {None, attempt}:
                return []
            return [StockReleased(order_id=order_id, stage="reserved", lines=held, reason=reason, at=now)]

        case ReleaseStock(reason=reason):
            if status not in {"reserved", "requested", "allocated"}:
                return []
            returned = () if status == "requested" else held
            return [StockReleased(order_id=order_id, stage=status, lines=returned, reason=reason, at=now)]

        case ShipStock(fulfillment_id=fulfillment_id, lines=lines):
            if fulfillment_id in reservation.shipped:
                return []
            shipped = _summed(lines)
            if unknown := [line for line in _without(held if status == "allocated" else (), shipped) if line.quantity < 0]:
                raise NotAllocated(f"{fulfillment_id} shipped what the order, which is {status}, does not hold: {unknown}")
            return [StockShipped(order_id=order_id, fulfillment_id=fulfillment_id, lines=shipped, at=now)]


def _find(command: ReserveStock | PlanAllocation, states: Mapping[str, Any]) -> tuple[tuple[AllocatedLine, ...], tuple[Shortage, ...]]:
    """Where all units come from, or what is missing."""
    available = {line.sku: states[f"sku/{line.sku}"].available() for line in command.lines}
    missing = shortages(command.lines, available)
    return () if missing else plan(command.lines, available, command.location), missing


def _book(command: ReceiveStock | AdjustStock, entry: Entry, now: datetime) -> list[Event]:
    if entry.booked:
        return []
    reasons = tuple(objections(command))
    match command:
        case ReceiveStock(receipt_id=entry_id, lines=lines):
            name, booked = RECEIVE, StockReceived(receipt_id=entry_id, lines=lines, at=now)
        case AdjustStock(adjustment_id=entry_id, lines=lines, reason=reason):
            name, booked = ADJUST, StockAdjusted(adjustment_id=entry_id, lines=lines, reason=reason, at=now)
    if not reasons:
        return [booked]
    return [] if reasons == entry.refused else [StockCommandRefused(entry_id=entry_id, command=name, reasons=reasons, at=now)]


def _book_return(command: BookReturn, entry: Entry, now: datetime) -> list[Event]:
    if entry.booked or not command.lines:
        return []
    return_id, order_id, location = command.return_id, command.order_id, command.location
    lines = [(line.disposition, StockLine(sku=line.sku, location=location, quantity=line.quantity)) for line in command.lines]
    back = tuple(line for _, line in lines)
    lost = tuple(line for disposition, line in lines if disposition != "restock")
    events: list[Event] = [StockReturned(return_id=return_id, order_id=order_id, lines=back, at=now)]
    if lost:
        events.append(StockWrittenOff(return_id=return_id, order_id=order_id, lines=lost, reason="not fit to be sold again", at=now))
    return events


def objections(command: ReceiveStock | AdjustStock) -> Iterator[str]:
    """Everything that is wrong with a receipt or an adjustment, each naming its field and the reason.

    An adjustment may take on hand below what is promised, even below nothing: what was counted, was counted.
    """
    match command:
        case ReceiveStock(receipt_id=receipt_id):
            yield from _name_objections("receipt_id", receipt_id)
        case AdjustStock(adjustment_id=adjustment_id, reason=reason):
            yield from _name_objections("adjustment_id", adjustment_id)
            if not reason.strip():
                yield "reason: must not be empty"
    if not 1 <= len(command.lines) <= MAX_LINES:
        yield f"lines: there must be 1 to {MAX_LINES} lines, there are {len(command.lines)}"
        return
    for index, line in enumerate(command.lines):
        yield from _name_objections(f"lines.{index}.sku", line.sku)
        yield from _name_objections(f"lines.{index}.location", line.location)
        if isinstance(command, ReceiveStock) and line.quantity < 1:
            yield f"lines.{index}.quantity: must be at least 1, is {line.quantity}"
        elif line.quantity == 0:
            yield f"lines.{index}.quantity: must not be 0"
        elif abs(line.quantity) > MAX_UNITS:
            yield f"lines.{index}.quantity: must be at most {MAX_UNITS}"


def _name_objections(field_name: str, name: str) -> Iterator[str]:
    if not name.strip():
        yield f"{field_name}: must not be empty"
    elif not name.isprintable() or len(name) > MAX_CHARACTERS:
        yield f"{field_name}: must be at most {MAX_CHARACTERS} printable characters"


def _lived(reservation: Reservation, event: Event) -> Reservation:
    match event:
        case StockReserved(attempt=attempt, lines=lines, expires_at=expires_at):
            return Reservation(status="reserved", attempt=attempt, lines=lines, due_at=expires_at)
        case StockReservationFailed(attempt=attempt):
            return Reservation(status="failed", attempt=attempt)
        case StockReservationExpired():
            return replace(reservation, status="expired", due_at=None)
        case StockAllocationRequested(at=at):
            return replace(reservation, status="requested", due_at=at)
        case StockAllocated(lines=lines):
            return replace(reservation, status="allocated", lines=lines, due_at=None)
        case StockShipped(fulfillment_id=fulfillment_id, lines=lines):
            left = tuple(line for line in _without(reservation.lines, lines) if line.quantity > 0)
            status = "allocated" if left else "shipped"
            return replace(reservation, status=status, lines=left, shipped=reservation.shipped | {fulfillment_id})
        case StockReleased():
            return replace(reservation, status="released", lines=(), due_at=None)
        case _:
            return reservation


def _moved(position: Position, event: Event, sku: str) -> Position:
    if isinstance(event, StockReservationFailed | StockAllocationRequested | StockCommandRefused):
        return position
    on_hand, reserved, allocated = _signs(event)
    bins = position.bins.copy()
    for line in event.lines:
        if line.sku == sku:
            units, old = line.quantity, bins.get(line.location, _NOTHING)
            bins[line.location] = Bin(
                on_hand=old.on_hand + on_hand * units,
                reserved=old.reserved + reserved * units,
                allocated=old.allocated + allocated * units,
            )
            if bins[line.location] == _NOTHING:
                del bins[line.location]
    return Position(bins=bins)


def _signs(event: Event) -> tuple[int, int, int]:
    """What one unit of an event's lines means for on hand, reserved and allocated."""
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


def _sku_keys(lines: Iterable[WantedLine | AllocatedLine | StockLine]) -> dict[str, None]:
    return dict.fromkeys(f"sku/{line.sku}" for line in lines)


def _wanted(lines: Iterable[AllocatedLine]) -> tuple[WantedLine, ...]:
    """The order lines again, of which some may have been split over locations."""
    units: dict[tuple[str, str], int] = {}
    for line in lines:
        units[line.line_id, line.sku] = units.get((line.line_id, line.sku), 0) + line.quantity
    return tuple(WantedLine(line_id=line_id, sku=sku, quantity=quantity) for (line_id, sku), quantity in units.items())


def _summed(lines: Iterable[AllocatedLine], sign: int = 1) -> tuple[AllocatedLine, ...]:
    """One line for each order line and location."""
    units: dict[tuple[str, str, str], int] = {}
    for line in lines:
        of = line.line_id, line.sku, line.location
        units[of] = units.get(of, 0) + sign * line.quantity
    return tuple(AllocatedLine(line_id=i, sku=s, location=loc, quantity=n) for (i, s, loc), n in units.items())


def _without(held: Iterable[AllocatedLine], gone: Iterable[AllocatedLine]) -> tuple[AllocatedLine, ...]:
    """What is left of `held`; a negative quantity is what was never there."""
    return _summed((*held, *_summed(gone, sign=-1)))
