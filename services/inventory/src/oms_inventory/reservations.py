"""The reservations: which units are held for an order, and what happens to them.

An order that lacks stock waits for it: see waiting.py.

Only planning (ReserveStock, PlanAllocation) looks for units. Each later step (expiry, allocation, shipping, release) moves exactly the
units that the reservation names.

Capture's events of an order come on one topic, in order. So the attempt and the status are enough to recognise what is late or repeated: an
attempt is reserved once, and an order can be confirmed only while it holds its units or after its reservation has expired.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace
from oms_contracts.stock import (
    StockAllocated,
    StockAllocationRequested,
    StockReleased,
    StockReservationExpired,
    StockReservationFailed,
    StockReservationPostponed,
    StockReserved,
    StockShipped,
    WaitingOrdersCalled,
    WaitingOrdersResumed,
)
from oms_contracts.values import AllocatedLine, WantedLine, bounded_reasons

from oms_inventory import waiting
from oms_inventory.commands import (
    AllocateStock,
    Event,
    ExpireReservation,
    HoldingCommand,
    PlanAllocation,
    PlanningCommand,
    ReleaseReservation,
    ReleaseStock,
    ReserveStock,
    ShipStock,
)
from oms_inventory.sourcing import plan, shortages
from oms_inventory.waiting import Stock

ACTIVE = frozenset({"postponed", "waiting", "reserved", "requested", "allocated"})
"""The statuses of an order that holds units or is about to: what ReleaseStock ends."""
HOLDS_NOTHING = frozenset({"postponed", "waiting", "requested"})
"""Those of them in which it holds no units yet."""


class NotAllocated(Exception):
    """Units were shipped for an order that does not hold them. One of the two records is wrong, and a person must find out which."""


UnknownSku = Literal["accept", "reject", "hold"]


class Terms(Struct, frozen=True, kw_only=True):
    """The business's settings.

    `reservation_timeout`: how long units are held for an order that is not confirmed. `unknown_sku`: what becomes of an order that names a
    SKU without an active product: it is treated as any other, rejected, or held until the product is defined. `max_waiting`: orders that
    wait for the stock of one SKU. It keeps the state small; a further order does not wait, because it could not continue by itself.

    Of stock: `signal_delay`, how long a level must stay past a limit until it is said. `shortfall_timeout`, `quarantine_timeout` and
    `transfer_timeout`: how long a person has to resolve a shortfall, to decide on units set apart, and the goods of a transfer to arrive,
    until it is asked for again.
    """

    reservation_timeout: timedelta = timedelta(hours=2)
    unknown_sku: UnknownSku = "accept"
    max_waiting: int = 1_000
    signal_delay: timedelta = timedelta(seconds=10)
    shortfall_timeout: timedelta = timedelta(days=1)
    quarantine_timeout: timedelta = timedelta(days=30)
    transfer_timeout: timedelta = timedelta(days=14)


class Reservation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is held for one order.

    `status` is none, postponed (it waits for products to be defined), waiting (for stock), reserved, expired (not confirmed in time),
    requested (confirmed after that, to be planned again), allocated, shipped, released or failed. `lines` are the units held; once expired,
    the units that were held. `due_at` is when the reservation acts by itself. While it is postponed, `unknown_skus` are those it waits for,
    and while it waits, `missing_skus`, since `waiting_since`; `wanted`, `location` and `promised_at` are what is to be reserved then.
    `confirmed` if it waits though the order is confirmed. `was_reserved` once units were held for the order: its products were known then,
    and one that was deactivated since does not turn it away.
    """

    status: str = "none"
    attempt: int = 0
    lines: tuple[AllocatedLine, ...] = ()
    shipped: frozenset[str] = frozenset()
    due_at: datetime | None = None
    unknown_skus: frozenset[str] = frozenset()
    wanted: tuple[WantedLine, ...] = ()
    location: str | None = None
    promised_at: datetime | None = None
    missing_skus: frozenset[str] = frozenset()
    waiting_since: datetime | None = None
    confirmed: bool = False
    was_reserved: bool = False


def decide_plan(command: PlanningCommand, reservation: Reservation, stock: Mapping[str, Stock], now: datetime, terms: Terms) -> list[Event]:
    """Find the units of an order, all or none: those that orders before it do not wait for. `stock` has every SKU of the command."""
    order_id = command.order_id
    match command:
        case ReserveStock(attempt=attempt, promised_at=promised_at):
            if not _may_reserve(command, reservation):
                return []
        case PlanAllocation():
            attempt, promised_at = reservation.attempt, None
            if reservation.status != "requested" and not (_is_called(reservation) and reservation.confirmed):
                return []
    confirmed, since = isinstance(command, PlanAllocation), reservation.waiting_since or now
    rank = waiting.rank_of(order_id, since, promised_at=promised_at, confirmed=confirmed)
    units = {sku: waiting.spare(there.queue, sum(there.available.values()), rank) for sku, there in stock.items()}
    if missing := shortages(command.lines, units):
        may_wait = all(waiting.has_room(stock[short.sku].queue, order_id, terms.max_waiting) for short in missing)
        return [
            StockReservationFailed(
                order_id=order_id,
                attempt=attempt,
                shortages=missing,
                at=now,
                lines=command.lines,
                location=command.location,
                promised_at=promised_at,
                waiting_since=since if may_wait else None,
                confirmed=confirmed,
            )
        ]
    lines = plan(command.lines, {sku: there.available for sku, there in stock.items()}, command.location)
    if isinstance(command, PlanAllocation):
        return [StockAllocated(order_id=order_id, lines=lines, reserved=False, at=now)]
    return [StockReserved(order_id=order_id, attempt=attempt, lines=lines, expires_at=now + terms.reservation_timeout, at=now)]


def decide_unknown(
    command: ReserveStock, reservation: Reservation, unknown_skus: tuple[str, ...], now: datetime, *, hold: bool
) -> list[Event]:
    """What becomes of an order some of whose SKUs have no active product: it is held until they have, or fails."""
    order_id, attempt = command.order_id, command.attempt
    if not _may_reserve(command, reservation):
        return []
    if not hold:
        return [StockReservationFailed(order_id=order_id, attempt=attempt, shortages=(), unknown_skus=unknown_skus, at=now)]
    return [
        StockReservationPostponed(
            order_id=order_id, attempt=attempt, unknown_skus=unknown_skus, lines=command.lines, location=command.location, at=now
        )
    ]


def decide(command: HoldingCommand, reservation: Reservation, now: datetime) -> list[Event]:
    """The events that follow for the units that the reservation names: none if the command is late or repeated.

    Raises NotAllocated.
    """
    order_id, status, attempt, held = command.order_id, reservation.status, reservation.attempt, reservation.lines
    match command:
        case ExpireReservation():
            # The attempt is compared and not the clock: a deadline from before the order moved on no longer counts.
            if status != "reserved" or command.attempt != attempt:
                return []
            return [StockReservationExpired(order_id=order_id, attempt=attempt, lines=held, at=now)]

        case AllocateStock():
            if status == "reserved":
                return [StockAllocated(order_id=order_id, lines=held, reserved=True, at=now)]
            return [StockAllocationRequested(order_id=order_id, attempt=attempt, at=now)] if status == "expired" else []

        case ReleaseReservation(action=action, reason=reason):
            # Another payment may take days. While the order waits for any other action it keeps its units, or has none. The payment of a
            # confirmed order fails where its authorization is not renewed: it has its units, or waits for them, and capture ships none.
            if action != "amend_payment" or status == "postponed" or command.attempt not in {None, attempt}:
                return []
            return _released(order_id, reservation, reason, now)

        case ReleaseStock(reason=reason):
            return _released(order_id, reservation, reason, now)

        case ShipStock(fulfillment_id=fulfillment_id, lines=lines):
            if fulfillment_id in reservation.shipped:
                return []
            shipped = _summed(lines)
            if unknown := [line for line in _without(held if status == "allocated" else (), shipped) if line.quantity < 0]:
                units = ", ".join(bounded_reasons(f"{-line.quantity} of {line.sku} at {line.location}" for line in unknown))
                raise NotAllocated(f"{fulfillment_id} shipped what the order, which is {status}, does not hold: {units}")
            return [StockShipped(order_id=order_id, fulfillment_id=fulfillment_id, lines=shipped, at=now)]


def evolve(reservation: Reservation, event: Event) -> Reservation:
    """The reservation after an event."""
    match event:
        case StockReserved(attempt=attempt, lines=lines, expires_at=expires_at):
            return Reservation(status="reserved", attempt=attempt, lines=lines, due_at=expires_at, was_reserved=True)
        case StockReservationFailed(attempt=attempt, waiting_since=since):
            failed = Reservation(status="failed", attempt=attempt, was_reserved=reservation.was_reserved)
            if since is None:
                return failed
            return replace(
                failed,
                status="waiting",
                wanted=event.lines,
                location=event.location,
                promised_at=event.promised_at,
                missing_skus=frozenset(short.sku for short in event.shortages),
                waiting_since=since,
                confirmed=event.confirmed is True,
            )
        case WaitingOrdersCalled(at=at):
            return replace(reservation, due_at=at) if reservation.status == "waiting" else reservation
        case StockReservationPostponed(attempt=attempt, lines=wanted, location=location):
            unknown = frozenset(event.unknown_skus)
            return Reservation(status="postponed", attempt=attempt, unknown_skus=unknown, wanted=wanted, location=location)
        case WaitingOrdersResumed(sku=sku, at=at):
            left = reservation.unknown_skus - {sku}
            return replace(reservation, unknown_skus=left, due_at=None if left else at)
        case StockReservationExpired():
            return replace(reservation, status="expired", due_at=None)
        case StockAllocationRequested(at=at):
            return replace(reservation, status="requested", due_at=at)
        case StockAllocated(lines=lines):
            return Reservation(status="allocated", attempt=reservation.attempt, lines=lines, was_reserved=True)
        case StockShipped(fulfillment_id=fulfillment_id, lines=lines):
            left = tuple(line for line in _without(reservation.lines, lines) if line.quantity > 0)
            status = "allocated" if left else "shipped"
            return replace(reservation, status=status, lines=left, shipped=reservation.shipped | {fulfillment_id})
        case StockReleased():
            return Reservation(
                status="released", attempt=reservation.attempt, shipped=reservation.shipped, was_reserved=reservation.was_reserved
            )
        case _:
            return reservation


def due(order_id: str, reservation: Reservation) -> tuple[datetime, ExpireReservation | PlanAllocation | ReserveStock] | None:
    """A reservation expires; a requested allocation is planned at once, as is what waited for products or stock that are there now."""
    attempt, lines = reservation.attempt, reservation.lines
    match reservation:
        case Reservation(status="reserved", due_at=datetime() as at):
            return at, ExpireReservation(order_id=order_id, attempt=attempt)
        case Reservation(status="requested", due_at=datetime() as at):
            # The order's preferred location is not stored. The location where the units were held before is at least as good.
            return at, PlanAllocation(order_id=order_id, attempt=attempt, lines=_wanted(lines), location=lines[0].location)
        case Reservation(status="waiting", confirmed=True, due_at=datetime() as at):
            return at, PlanAllocation(order_id=order_id, attempt=attempt, lines=reservation.wanted, location=reservation.location)
        case Reservation(status="postponed" | "waiting", due_at=datetime() as at):
            return at, ReserveStock(
                order_id=order_id,
                attempt=attempt,
                lines=reservation.wanted,
                location=reservation.location,
                promised_at=reservation.promised_at,
                has_waited=True,
            )
        case _:
            return None


def _released(order_id: str, reservation: Reservation, reason: str, now: datetime) -> list[Event]:
    """What the order holds is available again, and it waits no longer."""
    if reservation.status not in ACTIVE:
        return []
    unknown, missing = (tuple(sorted(skus)) for skus in (reservation.unknown_skus, reservation.missing_skus))
    return [
        StockReleased(
            order_id=order_id,
            stage=reservation.status,
            lines=() if reservation.status in HOLDS_NOTHING else reservation.lines,
            unknown_skus=unknown,
            missing_skus=missing,
            reason=reason,
            at=now,
        )
    ]


def _may_reserve(command: ReserveStock, reservation: Reservation) -> bool:
    """Whether the attempt is new, or is the one that waited, and what it waited for is there now."""
    if reservation.status in {"postponed", "waiting"}:
        # The acceptance that comes again is not the order's turn.
        its_turn = not reservation.unknown_skus if reservation.status == "postponed" else _is_called(reservation)
        return command.has_waited and its_turn and command.attempt == reservation.attempt and not reservation.confirmed
    return command.attempt > reservation.attempt and reservation.status not in ACTIVE and reservation.status != "shipped"


def _is_called(reservation: Reservation) -> bool:
    """Whether it waited for stock, and is to be tried."""
    return reservation.status == "waiting" and reservation.due_at is not None


def _wanted(lines: Iterable[AllocatedLine]) -> tuple[WantedLine, ...]:
    """The order lines, of which some may be split over locations."""
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
    """What is left of `held`. A negative quantity means units that were not held."""
    return _summed((*held, *_summed(gone, sign=-1)))
