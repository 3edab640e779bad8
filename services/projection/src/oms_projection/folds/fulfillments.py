"""oms.fulfillments: what each location ships of an order, in which packages."""

from collections.abc import Iterable

from oms_contracts.envelope import Envelope
from oms_contracts.fulfillments import (
    FulfillmentAccepted,
    FulfillmentCanceled,
    FulfillmentPlanned,
    FulfillmentShipped,
    ItemsPicked,
    PackagePacked,
)
from oms_contracts.message import encode
from oms_contracts.values import AllocatedLine

from oms_projection.changes import Changes
from oms_projection.tables import DELIVERIES, FULFILLMENTS, ORDER_LINES, PACKAGES


def fold(changes: Changes, event: object, envelope: Envelope) -> None:
    """Add one event to `changes`."""
    match event:
        case FulfillmentPlanned(order_id=order_id, lines=lines, at=at):
            changes.set(
                FULFILLMENTS,
                order_id,
                event.fulfillment_id,
                location=event.location,
                delivery=event.delivery,
                status="planned",
                lines=encode(lines).decode(),
                planned_at=at,
                at=at,
            )
            changes.add(DELIVERIES, order_id, planned=_units(lines))
        case FulfillmentAccepted(order_id=order_id, fulfillment_id=fulfillment_id, at=at):
            changes.set(FULFILLMENTS, order_id, fulfillment_id, status="accepted", at=at)
        case ItemsPicked(order_id=order_id, fulfillment_id=fulfillment_id, at=at):
            changes.set(FULFILLMENTS, order_id, fulfillment_id, status="picked", at=at)
        case PackagePacked(order_id=order_id, fulfillment_id=fulfillment_id, package_id=package_id, lines=lines, at=at):
            changes.set(FULFILLMENTS, order_id, fulfillment_id, status="packed", at=at)
            changes.add(FULFILLMENTS, order_id, fulfillment_id, packages=1)
            changes.set(PACKAGES, order_id, package_id, fulfillment_id=fulfillment_id, lines=encode(lines).decode(), packed_at=at)
        case FulfillmentShipped():
            _ship(changes, event)
        case FulfillmentCanceled(order_id=order_id, reason=reason, at=at):
            changes.set(DELIVERIES, order_id, canceled_at=at, canceled_reason=reason)
        case _:
            pass


def _ship(changes: Changes, event: FulfillmentShipped) -> None:
    order_id, at = event.order_id, event.at
    changes.set(FULFILLMENTS, order_id, event.fulfillment_id, status="shipped", at=at, shipped_at=at)
    changes.set(DELIVERIES, order_id, last_shipped_at=at)
    for package in event.packages:
        changes.set(PACKAGES, order_id, package.package_id, carrier=package.carrier, tracking_number=package.tracking_number, shipped_at=at)
        changes.add(DELIVERIES, order_id, shipped=_units(package.lines))
        for line in package.lines:
            changes.add(ORDER_LINES, order_id, line.line_id, shipped=line.quantity)


def _units(lines: Iterable[AllocatedLine]) -> int:
    return sum(line.quantity for line in lines)
