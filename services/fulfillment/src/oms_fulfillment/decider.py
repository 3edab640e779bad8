"""The fulfillments of one order: what may happen to them, and what that means.

They are one stream, because a decision on a cancellation needs all of them. A fulfillment is planned, accepted, picked, packed and shipped,
in that order; it never moves back, and nothing is shipped that was not planned.

A command that has already had its effect has no effect again. An invalid command is refused with a reason; the same refusal is not repeated
in a row.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from operator import attrgetter

from msgspec import Struct, field
from msgspec.structs import replace
from oms_contracts.fulfillments import (
    AcceptFulfillment,
    FulfillmentAccepted,
    FulfillmentCanceled,
    FulfillmentCancellationRejected,
    FulfillmentCommandRefused,
    FulfillmentPlanned,
    FulfillmentShipped,
    ItemsPicked,
    PackagePacked,
    PackPackage,
    PickItems,
    ShipFulfillment,
)
from oms_contracts.message import type_of
from oms_contracts.sscc import is_sscc
from oms_contracts.values import AllocatedLine, Package, bounded_reasons, quoted

from oms_fulfillment.commands import Command, Event, PlanFulfillments, StopFulfillments, WarehouseCommand

Units = Counter[tuple[str, str]]
"""Units by order line and SKU."""


class Parcel(Struct, frozen=True, kw_only=True):
    """A closed package: `package_id` is its SSCC."""

    package_id: str
    lines: tuple[AllocatedLine, ...]


class Fulfillment(Struct, frozen=True, kw_only=True):
    """What one location ships of the order. `status` is planned, accepted, picked, packed (all of it) or shipped."""

    location: str
    lines: tuple[AllocatedLine, ...]
    status: str = "planned"
    parcels: tuple[Parcel, ...] = ()
    carrier: str = ""
    tracking_numbers: tuple[str, ...] = ()

    def unpacked(self) -> Units:
        """The units that are not in a package yet."""
        return _units(self.lines) - _units(line for parcel in self.parcels for line in parcel.lines)


class Order(Struct, frozen=True, kw_only=True):
    """`fulfillments` by id. `answered_at` is the `requested_at` of the latest rejected cancellation.

    `refusal` is the latest refusal: fulfillment, command and reason.
    """

    fulfillments: dict[str, Fulfillment] = field(default_factory=dict[str, Fulfillment])
    canceled: bool = False
    answered_at: datetime | None = None
    refusal: tuple[str, str, str] | None = None


INITIAL = Order()
_NOT_KNOWN = "the fulfillment is not known"


def decide(command: Command, order: Order, now: datetime) -> list[Event]:
    """The events that follow from a command: none if it has already had its effect."""
    match command:
        case PlanFulfillments():
            return [] if order.fulfillments or order.canceled else list(_plans(command, now))

        case StopFulfillments():
            return _stop(command, order, now)

        case _:
            fulfillment = order.fulfillments.get(command.fulfillment_id)
            if fulfillment is None:
                return _refuse(command, _NOT_KNOWN, order, now)
            if _has_had_effect(command, fulfillment):
                return []
            if reasons := "; ".join(bounded_reasons(_objections(command, fulfillment, order))):
                return _refuse(command, reasons, order, now)
            return [_carry_out(command, fulfillment, now)]


def decide_for(warehouse: str, command: Command, order: Order, now: datetime) -> list[Event]:
    """As `decide`, for a command from the warehouse's own topic: a fulfillment of another location does not exist for it."""
    if isinstance(command, WarehouseCommand):
        fulfillment = order.fulfillments.get(command.fulfillment_id)
        if fulfillment is not None and fulfillment.location != warehouse:
            return _refuse(command, _NOT_KNOWN, order, now)
    return decide(command, order, now)


def evolve(order: Order, event: Event) -> Order:
    """The order after an event."""
    match event:
        case FulfillmentPlanned(fulfillment_id=fulfillment_id, location=location, lines=lines):
            planned = Fulfillment(location=location, lines=lines)
            return replace(order, fulfillments={**order.fulfillments, fulfillment_id: planned})
        case FulfillmentAccepted(fulfillment_id=fulfillment_id):
            return _with(order, fulfillment_id, status="accepted")
        case ItemsPicked(fulfillment_id=fulfillment_id):
            return _with(order, fulfillment_id, status="picked")
        case PackagePacked(fulfillment_id=fulfillment_id, package_id=package_id, lines=lines):
            before = order.fulfillments[fulfillment_id]
            packed = replace(before, parcels=(*before.parcels, Parcel(package_id=package_id, lines=lines)))
            return _with(order, fulfillment_id, parcels=packed.parcels, status="picked" if packed.unpacked() else "packed")
        case FulfillmentShipped(fulfillment_id=fulfillment_id, packages=packages):
            numbers = tuple(package.tracking_number for package in packages)
            return _with(order, fulfillment_id, status="shipped", carrier=packages[0].carrier, tracking_numbers=numbers)
        case FulfillmentCanceled():
            return replace(order, canceled=True)
        case FulfillmentCancellationRejected(requested_at=requested_at):
            return replace(order, answered_at=requested_at)
        case FulfillmentCommandRefused(fulfillment_id=fulfillment_id, command=command, reason=reason):
            return replace(order, refusal=(fulfillment_id, command, reason))


def due(_order_id: str, _order: Order) -> None:
    """Nothing is ever due: fulfillment only waits for warehouses, and capture limits how long an order may wait."""


def _plans(command: PlanFulfillments, now: datetime) -> Iterator[Event]:
    location_of = attrgetter("location")
    for location, lines in groupby(sorted(command.lines, key=location_of), key=location_of):
        yield FulfillmentPlanned(
            order_id=command.order_id,
            fulfillment_id=f"{command.order_id}/{location}",
            location=location,
            delivery=command.delivery,
            lines=tuple(lines),
            at=now,
            promise=command.promise,
            personal=command.personal,
            sealed=command.sealed,
        )


def _stop(command: StopFulfillments, order: Order, now: datetime) -> list[Event]:
    """All fulfillments of the order are canceled, or none: a shipment cannot be undone."""
    if order.canceled or (order.answered_at is not None and command.requested_at <= order.answered_at):
        return []
    shipped = [fulfillment_id for fulfillment_id, fulfillment in order.fulfillments.items() if fulfillment.status == "shipped"]
    if shipped:
        reason = f"already shipped: {', '.join(bounded_reasons(sorted(shipped)))}"
        return [FulfillmentCancellationRejected(order_id=command.order_id, reason=reason, at=now, requested_at=command.requested_at)]
    return [FulfillmentCanceled(order_id=command.order_id, reason=command.reason, at=now, requested_at=command.requested_at)]


def _has_had_effect(command: WarehouseCommand, fulfillment: Fulfillment) -> bool:
    match command:
        case AcceptFulfillment():
            return fulfillment.status != "planned"
        case PickItems():
            return fulfillment.status in {"picked", "packed", "shipped"}
        case PackPackage(package_id=package_id, lines=lines):
            return any(parcel.package_id == package_id and _units(parcel.lines) == _units(lines) for parcel in fulfillment.parcels)
        case ShipFulfillment(carrier=carrier, tracking_numbers=numbers):
            return fulfillment.status == "shipped" and (fulfillment.carrier, fulfillment.tracking_numbers) == (carrier, numbers)


def _objections(command: WarehouseCommand, fulfillment: Fulfillment, order: Order) -> Iterator[str]:
    """Every reason not to carry out a command."""
    required = {AcceptFulfillment: "planned", PickItems: "accepted", PackPackage: "picked", ShipFulfillment: "packed"}[type(command)]
    if order.canceled:
        yield "the order is canceled"
    elif fulfillment.status != required:
        yield f"the fulfillment is {fulfillment.status}, not {required}"
    elif isinstance(command, PackPackage):
        yield from _packing_objections(command, fulfillment, order)
    elif isinstance(command, ShipFulfillment):
        yield from _shipping_objections(command, fulfillment)


def _packing_objections(command: PackPackage, fulfillment: Fulfillment, order: Order) -> Iterator[str]:
    if not is_sscc(command.package_id):
        yield f"package_id: {quoted(command.package_id)} is not an SSCC: 18 digits, the last the check digit of the others"
    if any(parcel.package_id == command.package_id for other in order.fulfillments.values() for parcel in other.parcels):
        yield f"package_id: {command.package_id} is packed already, with other contents"
    if not command.lines:
        yield "lines: a package is not empty"
    for index, line in enumerate(command.lines):
        if line.quantity < 1:
            yield f"lines.{index}.quantity: must be at least 1, is {line.quantity}"
        if line.location != fulfillment.location:
            yield f"lines.{index}.location: is {line.location}, the fulfillment's is {fulfillment.location}"
    unpacked = fulfillment.unpacked()
    for (line_id, sku), quantity in _units(command.lines).items():
        if quantity > unpacked[line_id, sku]:
            yield f"lines: {quantity} of {sku} for line {line_id}, but {unpacked[line_id, sku]} remain to be packed"


def _shipping_objections(command: ShipFulfillment, fulfillment: Fulfillment) -> Iterator[str]:
    numbers = command.tracking_numbers
    if not command.carrier.strip():
        yield "carrier: must not be empty"
    if len(numbers) != len(fulfillment.parcels):
        yield f"tracking_numbers: {len(numbers)} for {len(fulfillment.parcels)} packages"
    if not all(number.strip() for number in numbers):
        yield "tracking_numbers: must not be empty"
    if len(set(numbers)) != len(numbers):
        yield "tracking_numbers: each package has its own"


def _carry_out(command: WarehouseCommand, fulfillment: Fulfillment, now: datetime) -> Event:
    order_id, fulfillment_id = command.order_id, command.fulfillment_id
    match command:
        case AcceptFulfillment():
            return FulfillmentAccepted(order_id=order_id, fulfillment_id=fulfillment_id, at=now)
        case PickItems():
            return ItemsPicked(order_id=order_id, fulfillment_id=fulfillment_id, at=now)
        case PackPackage(package_id=package_id, lines=lines):
            return PackagePacked(order_id=order_id, fulfillment_id=fulfillment_id, package_id=package_id, lines=lines, at=now)
        case ShipFulfillment(carrier=carrier, tracking_numbers=numbers):
            packages = tuple(
                Package(package_id=parcel.package_id, carrier=carrier, tracking_number=number, lines=parcel.lines)
                for parcel, number in zip(fulfillment.parcels, numbers, strict=True)
            )
            return FulfillmentShipped(
                order_id=order_id, fulfillment_id=fulfillment_id, location=fulfillment.location, packages=packages, at=now
            )


def _refuse(command: WarehouseCommand, reason: str, order: Order, now: datetime) -> list[Event]:
    fulfillment_id, kind = command.fulfillment_id, type_of(command).name
    if order.refusal == (fulfillment_id, kind, reason):
        return []
    return [FulfillmentCommandRefused(order_id=command.order_id, fulfillment_id=fulfillment_id, command=kind, reason=reason, at=now)]


def _with(order: Order, fulfillment_id: str, **changes: object) -> Order:
    return replace(order, fulfillments={**order.fulfillments, fulfillment_id: replace(order.fulfillments[fulfillment_id], **changes)})


def _units(lines: Iterable[AllocatedLine]) -> Units:
    units: Units = Counter()
    for line in lines:
        units[line.line_id, line.sku] += line.quantity
    return units
