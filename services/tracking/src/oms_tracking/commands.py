"""Tracking's commands, from events of capture and fulfillment and from carriers; and its events."""

from datetime import datetime

from msgspec import Struct
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
from oms_contracts.values import AllocatedLine, Package


class RecordOrderStatus(Struct, frozen=True, kw_only=True):
    """Capture published that the order is now accepted, rejected, confirmed, canceled, expired or completed.

    `attempt` distinguishes one acceptance from the next, which follows on an amended payment or a rejection; it is 0 for content that was
    rejected without being accepted. How channel and customer call the order is
    told when it is accepted or rejected.
    """

    order_id: str
    status: str
    detail: str | None
    at: datetime
    attempt: int = 1
    channel: str | None = None
    channel_reference: str | None = None
    number: str | None = None


class RecordActionRequired(Struct, frozen=True, kw_only=True):
    """An attempt waits for the customer or for an operator to act. `attempt` is None on old records."""

    order_id: str
    action: str
    reason: str
    at: datetime
    attempt: int | None


class RecordRelease(Struct, frozen=True, kw_only=True):
    """The order is released to its warehouses. `lines` are all that the customer is to receive."""

    order_id: str
    lines: tuple[AllocatedLine, ...]
    at: datetime


class RecordShipment(Struct, frozen=True, kw_only=True):
    """A fulfillment's packages were handed over to the carrier."""

    order_id: str
    fulfillment_id: str
    packages: tuple[Package, ...]
    at: datetime


Command = RecordOrderStatus | RecordActionRequired | RecordRelease | RecordShipment | RecordScan

ScanEvent = PackageInTransit | PackageOutForDelivery | DeliveryAttemptFailed | PackageLost | PackageReturnedToSender | PackageDelivered

Event = DeliveryExpected | LabelCreated | ScanEvent | ScanRecorded | TrackingCommandRefused | OrderStatusChanged | OrderStatus
