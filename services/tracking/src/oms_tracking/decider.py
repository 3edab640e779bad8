"""The packages of one order, and the order's public status: what may happen to them, and what that means.

Three topics speak of an order, and any of them may be behind the others. So that the end does not depend on who was first:

- a package stands where the highest-ranked of its scans puts it, whatever their order; the scans of one not known yet are held;
- the public status takes its steps one at a time: what shipped or arrived before tracking heard of the release is announced behind it.
  The sequence of statuses is therefore the same for every interleaving, and not only its end.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace
from oms_contracts.message import type_of
from oms_contracts.sscc import is_sscc
from oms_contracts.tracking import (
    DeliveryAttemptFailed,
    DeliveryExpected,
    LabelCreated,
    OrderStatus,
    OrderStatusChanged,
    PackageDelivered,
    PackageInTransit,
    PackageLost,
    PackageOutForDelivery,
    PackageReturnedToSender,
    RecordScan,
    ScanRecorded,
    TrackingCommandRefused,
)
from oms_contracts.values import AllocatedLine

from oms_tracking.commands import Command, Event, RecordActionRequired, RecordOrderStatus, RecordRelease, RecordShipment, ScanEvent

RANKS = {"in_transit": 1, "out_for_delivery": 2, "attempt_failed": 3, "lost": 4, "returned_to_sender": 5, "delivered": 6}
"""What a scan says of its package, by how final it is. A carrier finds what it lost, so delivered stands above all."""
CUSTOMERS_ACTIONS = frozenset({"amend_payment", "resolve_stock"})
ENDED = frozenset({"rejected", "canceled", "expired", "completed"})
BEFORE_RELEASE = frozenset({None, "accepted", "awaiting_customer", "confirmed"})

MAX_SCANS = 30
"""How many scan ids are remembered per package. An older scan that comes again is recorded again, and still moves nothing."""
MAX_HELD = 100
"""How many packages that are not known yet may have scans waiting, per order."""
MAX_TEXT = 200
"""The longest scan id and reason, in characters."""
CLOCK_SKEW = timedelta(days=1)
OLDEST_SCAN = timedelta(days=365)


class Parcel(Struct, frozen=True, kw_only=True):
    """`status` is None until the package is known, then label_created or one of RANKS. `held` is its highest-ranked scan before that."""

    status: str | None = None
    lines: tuple[AllocatedLine, ...] = ()
    held: ScanRecorded | None = None
    scan_ids: tuple[str, ...] = ()


class Order(Struct, frozen=True, kw_only=True):
    """`status` is the public one, announced under `sequence`. `asked` is how often the customer was asked to act.

    `shipped_at` is when the first package left, `delivered_at` when the newest delivery was seen.
    `refusal` is the newest one: package, scan and reason.
    """

    status: str | None = None
    sequence: int = 0
    asked: int = 0
    parcels: dict[str, Parcel] = field(default_factory=dict[str, Parcel])
    expected_units: int | None = None
    delivered_units: int = 0
    shipped_at: datetime | None = None
    delivered_at: datetime | None = None
    refusal: tuple[str, str, str] | None = None


INITIAL = Order()


def decide(command: Command, order: Order, now: datetime) -> list[Event]:
    """What follows from a command. One that has already had its effect, or comes too late, has none."""
    events = list(_follow(command, order, now))
    return [*events, *_catch_up(command.order_id, reduce(evolve, events, order))]


def evolve(order: Order, event: Event) -> Order:
    """Never refuses: what happened, happened."""
    match event:
        case OrderStatusChanged(status=status, sequence=sequence):
            return replace(order, status=status, sequence=sequence, asked=order.asked + (status == "awaiting_customer"))
        case OrderStatus():  # from when the newest status was an event of its own
            return order
        case DeliveryExpected(units=units):
            return replace(order, expected_units=units)
        case LabelCreated(package_id=package_id, lines=lines, at=at):
            shipped = replace(order, shipped_at=order.shipped_at or at)
            return _with(shipped, package_id, status="label_created", lines=lines, held=None)
        case ScanRecorded(package_id=package_id, scan_id=scan_id):
            return _with(order, package_id, held=_held(order.parcels.get(package_id, Parcel()), event), scan_ids=_seen(order, event))
        case PackageDelivered(package_id=package_id, lines=lines, at=at):
            units, newest = order.delivered_units + _units(lines), max(at, order.delivered_at or at)
            delivered = replace(order, delivered_units=units, delivered_at=newest)
            return _with(delivered, package_id, status="delivered", scan_ids=_seen(order, event))
        case PackageInTransit():
            return _with(order, event.package_id, status="in_transit", scan_ids=_seen(order, event))
        case PackageOutForDelivery():
            return _with(order, event.package_id, status="out_for_delivery", scan_ids=_seen(order, event))
        case DeliveryAttemptFailed():
            return _with(order, event.package_id, status="attempt_failed", scan_ids=_seen(order, event))
        case PackageLost():
            return _with(order, event.package_id, status="lost", scan_ids=_seen(order, event))
        case PackageReturnedToSender():
            return _with(order, event.package_id, status="returned_to_sender", scan_ids=_seen(order, event))
        case TrackingCommandRefused(package_id=package_id, scan_id=scan_id, reason=reason):
            return replace(order, refusal=(package_id, scan_id, reason))


def due(_order_id: str, _order: Order) -> None:
    """Tracking waits for others only: a parcel that is overdue is capture's business."""


def _follow(command: Command, order: Order, now: datetime) -> Iterable[Event]:
    match command:
        case RecordOrderStatus(order_id=order_id, status=status, detail=detail, at=at, attempt=attempt):
            return (_announce(order_id, order, status, detail, at),) if _may_become(status, order, attempt) else ()

        case RecordActionRequired(order_id=order_id, action=action, reason=reason, at=at, attempt=attempt):
            if action not in CUSTOMERS_ACTIONS or not _may_become("awaiting_customer", order, attempt):
                return ()
            return (_announce(order_id, order, "awaiting_customer", f"{action}: {reason}", at),)

        case RecordRelease(order_id=order_id, lines=lines, at=at):
            if order.status not in BEFORE_RELEASE:
                return ()
            expected = DeliveryExpected(order_id=order_id, units=_units(lines), at=at)
            return (expected, _announce(order_id, order, "in_fulfillment", None, at))

        case RecordShipment():
            return _label(command, order)

        case RecordScan():
            return _scan(command, order, now)


def _may_become(status: str, order: Order, attempt: int | None) -> bool:
    """Whether what capture says of an attempt is news.

    Only asking and amending can come several times. They alternate, and an attempt ends in one question at most: how often the customer was
    asked tells which questions and which amended attempts are late. No clock does.
    """
    late = attempt is not None and attempt <= order.asked
    match status:
        case "accepted":
            return order.status is None or (order.status == "awaiting_customer" and not late)
        case "awaiting_customer":
            return order.status in {"accepted", "confirmed"} and not late
        case "confirmed":
            return order.status == "accepted"
        case "rejected":
            return order.status is None
        case _:
            return order.status not in ENDED


def _catch_up(order_id: str, order: Order) -> Iterator[Event]:
    """The steps behind the release that have already been taken."""
    if order.status == "in_fulfillment" and order.shipped_at is not None:
        shipped = _announce(order_id, order, "shipped", None, order.shipped_at)
        yield shipped
        order = evolve(order, shipped)
    arrived = order.expected_units is not None and order.delivered_units >= order.expected_units
    if order.status == "shipped" and arrived and order.delivered_at is not None:
        yield _announce(order_id, order, "delivered", None, order.delivered_at)


def _announce(order_id: str, order: Order, status: str, detail: str | None, at: datetime) -> OrderStatusChanged:
    return OrderStatusChanged(order_id=order_id, sequence=order.sequence + 1, status=status, previous=order.status, detail=detail, at=at)


def _label(command: RecordShipment, order: Order) -> Iterator[Event]:
    for package in command.packages:
        parcel = order.parcels.get(package.package_id, Parcel())
        if parcel.status is not None:
            continue
        yield LabelCreated(
            order_id=command.order_id,
            package_id=package.package_id,
            fulfillment_id=command.fulfillment_id,
            carrier=package.carrier,
            tracking_number=package.tracking_number,
            lines=package.lines,
            at=command.at,
        )
        if parcel.held is not None:
            yield _moved(parcel.held, package.lines)


def _scan(command: RecordScan, order: Order, now: datetime) -> list[Event]:
    parcel = order.parcels.get(command.package_id, Parcel())
    if command.scan_id in parcel.scan_ids:
        return []
    if reason := "; ".join(_objections(command, order, now)):
        return _refuse(command, reason, order, now)
    scan = ScanRecorded(
        order_id=command.order_id,
        package_id=command.package_id,
        scan_id=command.scan_id,
        status=command.status,
        at=command.at.astimezone(UTC),
        reason=command.reason,
    )
    if parcel.status is not None and RANKS[scan.status] > RANKS.get(parcel.status, 0):
        return [_moved(scan, parcel.lines)]
    return [scan]


def _objections(command: RecordScan, order: Order, now: datetime) -> Iterator[str]:
    """Everything that is wrong with a scan. A late one is sound."""
    if command.status not in RANKS:
        yield f"status: {command.status[:MAX_TEXT]!r} is none of {', '.join(RANKS)}"
    if not is_sscc(command.package_id):
        yield "package_id: is not an SSCC: 18 digits, the last the check digit of the others"
    if not 1 <= len(command.scan_id) <= MAX_TEXT:
        yield f"scan_id: must have 1 to {MAX_TEXT} characters"
    if len(command.reason) > MAX_TEXT:
        yield f"reason: must not have more than {MAX_TEXT} characters"
    if command.at.utcoffset() is None:
        yield "at: has no time zone"
    elif not now - OLDEST_SCAN <= command.at <= now + CLOCK_SKEW:
        yield f"at: {command.at.isoformat()} lies more than a day ahead, or more than a year back"
    waiting = sum(parcel.status is None for parcel in order.parcels.values())
    if command.package_id not in order.parcels and waiting >= MAX_HELD:
        yield f"package_id: not known, and {waiting} others of the order are waited for already"


def _moved(scan: ScanRecorded, lines: tuple[AllocatedLine, ...]) -> ScanEvent:
    """What a scan means for a package that is known and stands below it."""
    order_id, package_id, scan_id, at = scan.order_id, scan.package_id, scan.scan_id, scan.at
    match scan.status:
        case "in_transit":
            return PackageInTransit(order_id=order_id, package_id=package_id, at=at, scan_id=scan_id)
        case "out_for_delivery":
            return PackageOutForDelivery(order_id=order_id, package_id=package_id, at=at, scan_id=scan_id)
        case "attempt_failed":
            return DeliveryAttemptFailed(order_id=order_id, package_id=package_id, reason=scan.reason, at=at, scan_id=scan_id)
        case "lost":
            return PackageLost(order_id=order_id, package_id=package_id, at=at, scan_id=scan_id)
        case "returned_to_sender":
            return PackageReturnedToSender(order_id=order_id, package_id=package_id, at=at, scan_id=scan_id)
        case _:
            return PackageDelivered(order_id=order_id, package_id=package_id, lines=lines, at=at, scan_id=scan_id)


def _refuse(command: RecordScan, reason: str, order: Order, now: datetime) -> list[Event]:
    package_id, scan_id = command.package_id[:MAX_TEXT], command.scan_id[:MAX_TEXT]
    if order.refusal == (package_id, scan_id, reason):
        return []
    return [
        TrackingCommandRefused(
            order_id=command.order_id, package_id=package_id, scan_id=scan_id, command=type_of(command).name, reason=reason, at=now
        )
    ]


def _held(parcel: Parcel, scan: ScanRecorded) -> ScanRecorded | None:
    """The scan that will count once the package is known: the highest-ranked, and of equals the first."""
    if parcel.status is not None:
        return None
    if parcel.held is not None and RANKS.get(parcel.held.status, 0) >= RANKS.get(scan.status, 0):
        return parcel.held
    return scan


def _seen(order: Order, event: ScanRecorded | ScanEvent) -> tuple[str, ...]:
    """The package's newest scan ids, with this event's."""
    before = order.parcels.get(event.package_id, Parcel()).scan_ids
    return before if event.scan_id in before else (*before, event.scan_id)[-MAX_SCANS:]


def _with(order: Order, package_id: str, **changes: Any) -> Order:
    return replace(order, parcels={**order.parcels, package_id: replace(order.parcels.get(package_id, Parcel()), **changes)})


def _units(lines: Iterable[AllocatedLine]) -> int:
    return sum(line.quantity for line in lines)
