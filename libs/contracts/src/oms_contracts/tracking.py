"""Packages under way, owned by tracking, on oms.tracking; the two public status topics; and the commands carriers send.

`at` of what a carrier saw is when the carrier saw it; `scan_id` names the scan that told of it.
"""

from datetime import datetime

from oms_contracts.message import Value, message
from oms_contracts.values import AllocatedLine, Prose


class TrackedPackage(Value, frozen=True, kw_only=True):
    """A parcel as the customer may follow it. `status` is label_created, or what the carrier's newest scan says."""

    package_id: str
    carrier: str
    tracking_number: str
    status: str


@message("oms.tracking.DeliveryExpected.v1", key="order_id")
class DeliveryExpected(Value, frozen=True, kw_only=True):
    """The order was released: this many units are to reach the customer, in however many packages."""

    order_id: str
    units: int
    at: datetime


@message("oms.tracking.LabelCreated.v1", key="order_id")
class LabelCreated(Value, frozen=True, kw_only=True):
    """A package is known to its carrier."""

    order_id: str
    package_id: str
    fulfillment_id: str
    carrier: str
    tracking_number: str
    lines: tuple[AllocatedLine, ...]
    at: datetime


@message("oms.tracking.PackageInTransit.v1", key="order_id")
class PackageInTransit(Value, frozen=True, kw_only=True):
    order_id: str
    package_id: str
    at: datetime
    scan_id: str = ""


@message("oms.tracking.PackageOutForDelivery.v1", key="order_id")
class PackageOutForDelivery(Value, frozen=True, kw_only=True):
    order_id: str
    package_id: str
    at: datetime
    scan_id: str = ""


@message("oms.tracking.DeliveryAttemptFailed.v1", key="order_id")
class DeliveryAttemptFailed(Value, frozen=True, kw_only=True):
    order_id: str
    package_id: str
    reason: str
    at: datetime
    scan_id: str = ""


@message("oms.tracking.PackageDelivered.v1", key="order_id")
class PackageDelivered(Value, frozen=True, kw_only=True):
    order_id: str
    package_id: str
    lines: tuple[AllocatedLine, ...]
    at: datetime
    scan_id: str = ""


@message("oms.tracking.PackageLost.v1", key="order_id")
class PackageLost(Value, frozen=True, kw_only=True):
    order_id: str
    package_id: str
    at: datetime
    scan_id: str = ""


@message("oms.tracking.PackageReturnedToSender.v1", key="order_id")
class PackageReturnedToSender(Value, frozen=True, kw_only=True):
    order_id: str
    package_id: str
    at: datetime
    scan_id: str = ""


@message("oms.tracking.ScanRecorded.v1", key="order_id")
class ScanRecorded(Value, frozen=True, kw_only=True):
    """A scan that moves no state: it came late or again, or its package is not known yet, and then it counts once the package is.

    `carrier` is whose own topic it came on, empty for any other. Of a package that turns out to be another carrier's it never counts.
    """

    order_id: str
    package_id: str
    scan_id: str
    status: str
    at: datetime
    reason: str = ""
    carrier: str = ""


@message("oms.tracking.TrackingCommandRefused.v1", key="order_id")
class TrackingCommandRefused(Value, frozen=True, kw_only=True):
    """A carrier's scan is not sound and was not recorded; `reason` says why. `command` is its published type."""

    order_id: str
    package_id: str
    scan_id: str
    command: str
    reason: str
    at: datetime


@message("oms.tracking.OrderStatusChanged.v1", key="order_id")
class OrderStatusChanged(Value, frozen=True, kw_only=True):
    """Every change of an order's public status, in `sequence` from 1, on oms.order-status-changes; the newest on oms.order-status too.

    `status` is accepted, rejected, awaiting_customer, awaiting_stock (it goes on by itself once its stock has come), confirmed,
    in_fulfillment, shipped, delivered, completed, canceled or expired. `at` is when it came about, by the clock of whoever saw it: go by
    `sequence`, not by time. `channel` and `channel_reference` name the order as its channel does, `number` as its customer does; they are
    null on records from before they were told. `packages` are those known so far.
    """

    order_id: str
    sequence: int
    status: str
    previous: str | None
    detail: str | None
    at: datetime
    channel: str | None = None
    channel_reference: str | None = None
    number: str | None = None
    packages: tuple[TrackedPackage, ...] = ()


@message("oms.tracking.OrderStatus.v1", key="order_id")
class OrderStatus(Value, frozen=True, kw_only=True):
    """The newest status of an order as it was once told on oms.order-status. OrderStatusChanged has taken its place: none is published now,
    but of an order that has not changed since, it is the newest record there.
    """

    order_id: str
    sequence: int
    status: str
    detail: str | None
    at: datetime


@message("oms.tracking.RecordScan.v1", key="order_id")
class RecordScan(Value, frozen=True, kw_only=True):
    """A carrier saw a package. `status` is in_transit, out_for_delivery, attempt_failed, delivered, lost or returned_to_sender.

    The same `scan_id` again has no effect. `at` is when the carrier saw it.
    """

    order_id: str
    package_id: str
    scan_id: str
    status: str
    at: datetime
    reason: Prose = ""
