"""oms.tracking: packages on their way. The public status of an order is in its timeline only: its times are by tracking's clock."""

from datetime import datetime
from typing import Any

from oms_contracts.envelope import Envelope
from oms_contracts.tracking import (
    DeliveryAttemptFailed,
    LabelCreated,
    PackageDelivered,
    PackageInTransit,
    PackageLost,
    PackageOutForDelivery,
    PackageReturnedToSender,
    ScanRecorded,
)

from oms_projection.changes import Changes
from oms_projection.tables import DELIVERIES, ORDER_LINES, PACKAGES


def fold(changes: Changes, event: object, envelope: Envelope) -> None:
    """Add one event to `changes`."""
    match event:
        case LabelCreated(order_id=order_id, package_id=package_id, at=at):
            _set_status(changes, order_id, package_id, "label_created", at)
        case PackageInTransit(order_id=order_id, package_id=package_id, at=at):
            _set_status(changes, order_id, package_id, "in_transit", at)
        case PackageOutForDelivery(order_id=order_id, package_id=package_id, at=at):
            _set_status(changes, order_id, package_id, "out_for_delivery", at)
        case DeliveryAttemptFailed(order_id=order_id, package_id=package_id, reason=reason, at=at):
            _set_status(changes, order_id, package_id, "attempt_failed", at, trouble=reason)
        case PackageDelivered(order_id=order_id, package_id=package_id, lines=lines, at=at):
            _set_status(changes, order_id, package_id, "delivered", at)
            for line in lines:
                changes.add(ORDER_LINES, order_id, line.line_id, delivered=line.quantity)
                changes.add(DELIVERIES, order_id, delivered=line.quantity)
        case PackageLost(order_id=order_id, package_id=package_id, at=at):
            _set_status(changes, order_id, package_id, "lost", at, trouble="lost")
        case PackageReturnedToSender(order_id=order_id, package_id=package_id, at=at):
            _set_status(changes, order_id, package_id, "returned_to_sender", at, trouble="returned to sender")
        case ScanRecorded(order_id=order_id, package_id=package_id):
            changes.add(PACKAGES, order_id, package_id, late_scans=1)
        case _:
            pass


def _set_status(changes: Changes, order_id: str, package_id: str, status: str, at: datetime, **more: Any) -> None:
    changes.set(PACKAGES, order_id, package_id, status=status, status_at=at, **more)
