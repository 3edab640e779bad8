"""The packages of one order, and the order's public status: what may happen to them, and what that means.

Three topics carry facts about an order, and any of them may lag behind the others. So that the result does not depend on their order:

- a package has the status of its highest-ranked scan, whatever the order of the scans; scans of a package not known yet are held;
- the public status takes one step at a time: a shipment or delivery that was read before the release is announced after it. The whole
  sequence of statuses is therefore the same for every interleaving, and not only the last status.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import reduce

from msgspec import Struct, field
from msgspec.structs import replace
from oms_contracts.message import type_of
from oms_contracts.orders import ENDED_STATUSES
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
    TrackedPackage,
    TrackingCommandRefused,
)
from oms_contracts.values import AllocatedLine, bounded_reasons, quoted

from oms_tracking.commands import Command, Event, RecordActionRequired, RecordOrderStatus, RecordRelease, RecordShipment, ScanEvent

RANKS = {"in_transit": 1, "out_for_delivery": 2, "attempt_failed": 3, "lost": 4, "returned_to_sender": 5, "delivered": 6}
"""A package's statuses by how final they are. A carrier may find a lost package, so delivered ranks highest."""
PUBLIC_WAITS = {"amend_payment": "awaiting_customer", "resolve_stock": "awaiting_stock"}
"""By the action that an order waits for, its public status. The catalogue is the merchant's to complete: meanwhile it stays accepted."""
BEFORE_RELEASE = frozenset({None, "accepted", "awaiting_customer", "awaiting_stock", "confirmed"})

WITH_PACKAGES = frozenset({"shipped", "delivered", "completed"})
"""The public statuses that are told with the order's packages."""
MAX_SCANS = 30
"""Scan ids remembered for each package. An older scan that comes again is recorded again, and still changes no status."""
MAX_HELD = 100
"""Packages of one order that are not known yet and may have scans waiting, of each carrier."""
MAX_TEXT = 200
"""Characters of a scan id and of a reason."""
MAX_CLOCK_SKEW = timedelta(days=1)
MAX_SCAN_AGE = timedelta(days=365)


class Held(Struct, frozen=True, kw_only=True):
    """The scans of a package before it is known: the highest-ranked, and of equals the first; and the ids of all."""

    scan: ScanRecorded
    scan_ids: tuple[str, ...]


class Parcel(Struct, frozen=True, kw_only=True):
    """`status` is None until the package is known, then label_created or one of RANKS.

    `held` are the scans before that, by the carrier whose own topic they came on, empty for any other: nobody's stand in another's way.
    """

    status: str | None = None
    carrier: str = ""
    tracking_number: str = ""
    lines: tuple[AllocatedLine, ...] = ()
    held: dict[str, Held] = field(default_factory=dict[str, Held])
    scan_ids: tuple[str, ...] = ()


class Order(Struct, frozen=True, kw_only=True):
    """`status` is the public one, announced under `sequence`. `attempts_ended` counts the attempts that ended in a question to the
    customer, or in the rejection of what had been accepted. `stock_attempt` is the newest attempt that waited for stock, and
    `confirmed_attempt` the newest that was confirmed.

    `shipped_at` is when the first package left, `delivered_at` when the newest delivery was scanned.
    `refusal` is the newest refusal: package, scan and reason.
    """

    status: str | None = None
    channel: str | None = None
    channel_reference: str | None = None
    number: str | None = None
    sequence: int = 0
    attempts_ended: int = 0
    stock_attempt: int = 0
    confirmed_attempt: int = 0
    parcels: dict[str, Parcel] = field(default_factory=dict[str, Parcel])
    expected_units: int | None = None
    delivered_units: int = 0
    shipped_at: datetime | None = None
    delivered_at: datetime | None = None
    refusal: tuple[str, str, str] | None = None


INITIAL = Order()


def decide(command: Command, order: Order, now: datetime, carrier: str = "") -> list[Event]:
    """The events that follow from a command. A command that has already had its effect, or comes too late, has none.

    `carrier` is whose own topic a scan came on.
    """
    events = list(_decide(command, order, now, carrier))
    return [*events, *_catch_up(command.order_id, reduce(evolve, events, order))]


def decide_for(carrier: str, command: Command, order: Order, now: datetime) -> list[Event]:
    """As `decide`, for a scan from the carrier's own topic: a package that another carries does not exist for it.

    A scan of a package that is not known yet is held, and dropped if the package turns out to be another's.
    """
    assert isinstance(command, RecordScan)
    parcel = _parcel(order, command.package_id)
    if parcel.status is not None and parcel.carrier != carrier:
        return _refuse(command, "package_id: the package is not known", order, now)
    return decide(command, order, now, carrier)


def evolve(order: Order, event: Event) -> Order:
    """The order after an event. Never raises: an event is a fact."""
    match event:
        case OrderStatusChanged(status=status, sequence=sequence):
            return replace(
                order,
                status=status,
                channel=event.channel,
                channel_reference=event.channel_reference,
                number=event.number,
                sequence=sequence,
                attempts_ended=order.attempts_ended
                + (status == "awaiting_customer" or (status, event.previous) == ("rejected", "accepted")),
                stock_attempt=order.attempts_ended + 1 if status == "awaiting_stock" else order.stock_attempt,
                confirmed_attempt=order.attempts_ended + 1 if status == "confirmed" else order.confirmed_attempt,
            )
        case OrderStatus():  # only in old streams: the newest status was an event of its own
            return order
        case DeliveryExpected(units=units):
            return replace(order, expected_units=units)
        case LabelCreated(package_id=package_id, lines=lines, at=at):
            held = _parcel(order, package_id).held
            ids = [scan_id for carrier in ("", event.carrier) if carrier in held for scan_id in held[carrier].scan_ids]
            parcel = Parcel(
                status="label_created",
                carrier=event.carrier,
                tracking_number=event.tracking_number,
                lines=lines,
                scan_ids=tuple(ids)[-MAX_SCANS:],
            )
            return _with_parcel(replace(order, shipped_at=order.shipped_at or at), package_id, parcel)
        case ScanRecorded(package_id=package_id, scan_id=scan_id, carrier=carrier):
            parcel = _parcel(order, package_id)
            if parcel.status is not None:
                return _with_parcel(order, package_id, _scanned(parcel, scan_id))
            held = {**parcel.held, carrier: _held(parcel.held.get(carrier), event)}
            return _with_parcel(order, package_id, replace(parcel, held=held))
        case PackageDelivered(lines=lines, at=at):
            units, newest = order.delivered_units + _units(lines), max(at, order.delivered_at or at)
            return _with_status(replace(order, delivered_units=units, delivered_at=newest), event, "delivered")
        case PackageInTransit():
            return _with_status(order, event, "in_transit")
        case PackageOutForDelivery():
            return _with_status(order, event, "out_for_delivery")
        case DeliveryAttemptFailed():
            return _with_status(order, event, "attempt_failed")
        case PackageLost():
            return _with_status(order, event, "lost")
        case PackageReturnedToSender():
            return _with_status(order, event, "returned_to_sender")
        case TrackingCommandRefused(package_id=package_id, scan_id=scan_id, reason=reason):
            return replace(order, refusal=(package_id, scan_id, reason))


def due(_order_id: str, _order: Order) -> None:
    """Tracking has no deadlines: capture's deadlines include those of an overdue parcel."""


def _decide(command: Command, order: Order, now: datetime, carrier: str) -> Iterable[Event]:
    match command:
        case RecordOrderStatus(order_id=order_id, status=status, detail=detail, at=at, attempt=attempt):
            if not _may_become(status, order, attempt):
                return ()
            if command.channel is not None:
                number = command.number or (order.number if status == "rejected" else None)
                order = replace(order, channel=command.channel, channel_reference=command.channel_reference, number=number)
            return (_announce(order_id, order, status, detail, at),)

        case RecordActionRequired(order_id=order_id, action=action, reason=reason, at=at, attempt=attempt):
            status = PUBLIC_WAITS.get(action)
            if status is None or not _may_become(status, order, attempt):
                return ()
            return (_announce(order_id, order, status, f"{action}: {reason}", at),)

        case RecordRelease(order_id=order_id, lines=lines, at=at):
            if order.status not in BEFORE_RELEASE:
                return ()
            expected = DeliveryExpected(order_id=order_id, units=_units(lines), at=at)
            return (expected, _announce(order_id, order, "in_fulfillment", None, at))

        case RecordShipment():
            return _label(command, order)

        case RecordScan():
            return _scan(command, order, now, carrier)


def _may_become(status: str, order: Order, attempt: int | None) -> bool:
    """Whether what capture published about an attempt is a new status.

    Only an acceptance and what ends its attempt (a required payment or a rejection) can come several times. They alternate, and an attempt
    ends once at most. So the number of ended attempts decides which of them are late, whatever the clocks say. In between, an attempt may
    wait for stock. It is told once: that it waits again, after its confirmation, cannot be known from the first wait told twice.
    """
    late = attempt is not None and attempt <= order.attempts_ended
    match status:
        case "accepted":
            # A rejected order is accepted once it is corrected.
            return order.status is None or (order.status in {"rejected", "awaiting_customer"} and not late)
        case "awaiting_customer":
            return order.status in {"accepted", "awaiting_stock", "confirmed"} and not late
        case "awaiting_stock":
            return order.status in {"accepted", "confirmed"} and not late and order.stock_attempt <= order.attempts_ended
        case "confirmed":
            return order.status in {"accepted", "awaiting_stock"} and order.confirmed_attempt <= order.attempts_ended
        case "rejected":
            # The next rejection of the same order is no change: the reasons of each are on oms.orders.
            return order.status is None or (order.status == "accepted" and not late)
        case _:
            return order.status not in ENDED_STATUSES


def _catch_up(order_id: str, order: Order) -> Iterator[Event]:
    """The statuses after the release that have already been reached."""
    if order.status == "in_fulfillment" and order.shipped_at is not None:
        shipped = _announce(order_id, order, "shipped", None, order.shipped_at)
        yield shipped
        order = evolve(order, shipped)
    arrived = order.expected_units is not None and order.delivered_units >= order.expected_units
    if order.status == "shipped" and arrived and order.delivered_at is not None:
        yield _announce(order_id, order, "delivered", None, order.delivered_at)


def _announce(order_id: str, order: Order, status: str, detail: str | None, at: datetime) -> OrderStatusChanged:
    return OrderStatusChanged(
        order_id=order_id,
        sequence=order.sequence + 1,
        status=status,
        previous=order.status,
        detail=detail,
        at=at,
        channel=order.channel,
        channel_reference=order.channel_reference,
        number=order.number,
        packages=tuple(_packages(order)) if status in WITH_PACKAGES else (),
    )


def _packages(order: Order) -> Iterator[TrackedPackage]:
    for package_id, parcel in sorted(order.parcels.items()):
        if parcel.status is not None:
            yield TrackedPackage(
                package_id=package_id, carrier=parcel.carrier, tracking_number=parcel.tracking_number, status=parcel.status
            )


def _label(command: RecordShipment, order: Order) -> Iterator[Event]:
    for package in command.packages:
        parcel = _parcel(order, package.package_id)
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
        held = [parcel.held[carrier].scan for carrier in ("", package.carrier) if carrier in parcel.held]
        if held:
            yield _event_of(max(held, key=_rank), package.lines)


def _scan(command: RecordScan, order: Order, now: datetime, carrier: str) -> list[Event]:
    parcel = _parcel(order, command.package_id)
    held = parcel.held.get(carrier)
    if command.scan_id in (parcel.scan_ids if held is None else held.scan_ids):
        return []
    if reason := "; ".join(bounded_reasons(_objections(command, order, now, carrier))):
        return _refuse(command, reason, order, now)
    scan = ScanRecorded(
        order_id=command.order_id,
        package_id=command.package_id,
        scan_id=command.scan_id,
        status=command.status,
        at=command.at.astimezone(UTC),
        reason=command.reason,
        carrier=carrier,
    )
    if parcel.status is not None and RANKS[scan.status] > RANKS.get(parcel.status, 0):
        return [_event_of(scan, parcel.lines)]
    return [scan]


def _objections(command: RecordScan, order: Order, now: datetime, carrier: str) -> Iterator[str]:
    """Everything that is wrong with a scan. A late scan is valid."""
    if command.status not in RANKS:
        yield f"status: {quoted(command.status)} is none of {', '.join(RANKS)}"
    if not is_sscc(command.package_id):
        yield "package_id: is not an SSCC: 18 digits, the last the check digit of the others"
    if not 1 <= len(command.scan_id) <= MAX_TEXT:
        yield f"scan_id: must have 1 to {MAX_TEXT} characters"
    if len(command.reason) > MAX_TEXT:
        yield f"reason: must not have more than {MAX_TEXT} characters"
    if command.at.utcoffset() is None:
        yield "at: has no time zone"
    elif not now - MAX_SCAN_AGE <= command.at <= now + MAX_CLOCK_SKEW:
        yield f"at: {command.at.isoformat()} lies more than a day ahead, or more than a year back"
    parcel, waiting = _parcel(order, command.package_id), sum(carrier in parcel.held for parcel in order.parcels.values())
    if parcel.status is None and carrier not in parcel.held and waiting >= MAX_HELD:
        yield f"package_id: not known, and {waiting} others of the order are waited for already"


def _event_of(scan: ScanRecorded, lines: tuple[AllocatedLine, ...]) -> ScanEvent:
    """The event of a scan that ranks above the status of its package, which is known."""
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


def _held(held: Held | None, scan: ScanRecorded) -> Held:
    """What is held of a package that is not known yet, with one scan more."""
    if held is None:
        return Held(scan=scan, scan_ids=(scan.scan_id,))
    return Held(scan=max(held.scan, scan, key=_rank), scan_ids=_with_id(held.scan_ids, scan.scan_id))


def _rank(scan: ScanRecorded) -> int:
    return RANKS.get(scan.status, 0)


def _parcel(order: Order, package_id: str) -> Parcel:
    return order.parcels.get(package_id, Parcel())


def _scanned(parcel: Parcel, scan_id: str) -> Parcel:
    """The parcel with `scan_id` among its newest scan ids."""
    return replace(parcel, scan_ids=_with_id(parcel.scan_ids, scan_id))


def _with_id(scan_ids: tuple[str, ...], scan_id: str) -> tuple[str, ...]:
    return scan_ids if scan_id in scan_ids else (*scan_ids, scan_id)[-MAX_SCANS:]


def _with_status(order: Order, event: ScanEvent, status: str) -> Order:
    """The order once the scan of `event` gave its package `status`."""
    parcel = _scanned(_parcel(order, event.package_id), event.scan_id)
    return _with_parcel(order, event.package_id, replace(parcel, status=status))


def _with_parcel(order: Order, package_id: str, parcel: Parcel) -> Order:
    return replace(order, parcels={**order.parcels, package_id: parcel})


def _units(lines: Iterable[AllocatedLine]) -> int:
    return sum(line.quantity for line in lines)
