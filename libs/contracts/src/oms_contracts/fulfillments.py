"""Fulfilment, owned by fulfillment, on oms.fulfillments; and the commands warehouses send.

A fulfillment is what one location ships of one order; its id is `<order id>/<location>`. An order's fulfillments are one stream, because
only together can they tell whether it is too late to cancel.
"""

from datetime import datetime

from oms_contracts.message import Value, message
from oms_contracts.order_parts import DeliveryPromise, PersonalData, SealedData
from oms_contracts.values import AllocatedLine, Package


@message("oms.fulfillment.FulfillmentPlanned.v2", key="order_id")
class FulfillmentPlanned(Value, frozen=True, kw_only=True):
    """A location is asked to ship `lines`.

    On oms.fulfillments, which keeps records for ever, what is about persons is in `sealed`. On oms.fulfillment-orders, which keeps them for
    30 days, it is in `personal`, in the clear: where the goods go or who collects them, the note and the gift. Both are null where the
    customer's data was erased. In records from before it was sealed it is in `personal` on both.
    """

    order_id: str
    fulfillment_id: str
    location: str
    delivery: str
    lines: tuple[AllocatedLine, ...]
    at: datetime
    promise: DeliveryPromise | None = None
    personal: PersonalData | None = None
    sealed: SealedData | None = None


@message("oms.fulfillment.FulfillmentAccepted.v1", key="order_id")
class FulfillmentAccepted(Value, frozen=True, kw_only=True):
    order_id: str
    fulfillment_id: str
    at: datetime


@message("oms.fulfillment.ItemsPicked.v1", key="order_id")
class ItemsPicked(Value, frozen=True, kw_only=True):
    order_id: str
    fulfillment_id: str
    at: datetime


@message("oms.fulfillment.PackagePacked.v1", key="order_id")
class PackagePacked(Value, frozen=True, kw_only=True):
    """One parcel is closed. `package_id` is its SSCC (GS1, 18 digits)."""

    order_id: str
    fulfillment_id: str
    package_id: str
    lines: tuple[AllocatedLine, ...]
    at: datetime


@message("oms.fulfillment.FulfillmentShipped.v1", key="order_id")
class FulfillmentShipped(Value, frozen=True, kw_only=True):
    """All packages of the fulfillment were handed to the carrier. Inventory ships, payment captures, tracking follows."""

    order_id: str
    fulfillment_id: str
    location: str
    packages: tuple[Package, ...]
    at: datetime


@message("oms.fulfillment.FulfillmentCanceled.v1", key="order_id")
class FulfillmentCanceled(Value, frozen=True, kw_only=True):
    """All of the order's fulfillments are stopped; nothing has shipped nor will. `requested_at` is the `at` of the request this answers."""

    order_id: str
    reason: str
    at: datetime
    requested_at: datetime | None = None


@message("oms.fulfillment.FulfillmentCancellationRejected.v1", key="order_id")
class FulfillmentCancellationRejected(Value, frozen=True, kw_only=True):
    """Something has shipped already: the order goes on. `requested_at` is the `at` of the request this answers."""

    order_id: str
    reason: str
    at: datetime
    requested_at: datetime | None = None


@message("oms.fulfillment.FulfillmentCommandRefused.v1", key="order_id")
class FulfillmentCommandRefused(Value, frozen=True, kw_only=True):
    """A warehouse's command does not fit where the fulfillment stands; `reason` says how. `command` is its published type."""

    order_id: str
    fulfillment_id: str
    command: str
    reason: str
    at: datetime


@message("oms.fulfillment.AcceptFulfillment.v1", key="order_id")
class AcceptFulfillment(Value, frozen=True, kw_only=True):
    """The location takes the fulfillment on."""

    order_id: str
    fulfillment_id: str


@message("oms.fulfillment.PickItems.v1", key="order_id")
class PickItems(Value, frozen=True, kw_only=True):
    """All of the fulfillment's units are picked."""

    order_id: str
    fulfillment_id: str


@message("oms.fulfillment.PackPackage.v1", key="order_id")
class PackPackage(Value, frozen=True, kw_only=True):
    """Close a parcel with `lines` in it."""

    order_id: str
    fulfillment_id: str
    package_id: str
    lines: tuple[AllocatedLine, ...]


@message("oms.fulfillment.ShipFulfillment.v1", key="order_id")
class ShipFulfillment(Value, frozen=True, kw_only=True):
    """Hand every package to the carrier. `tracking_numbers` are paired with the packages in the order they were packed."""

    order_id: str
    fulfillment_id: str
    carrier: str
    tracking_numbers: tuple[str, ...]
