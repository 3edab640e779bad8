"""An order's life, owned by capture, on oms.orders; and the commands capture takes. Capture leads: the others act on these events."""

from datetime import datetime

from msgspec import field

from oms_contracts.message import Value, message
from oms_contracts.order_parts import (
    ChargedLine,
    DeliveryPromise,
    Discount,
    Fee,
    LineItem,
    OrderPayment,
    PersonalData,
    SealedData,
    ShippingLine,
)
from oms_contracts.values import AllocatedLine, PaymentMethod, Prose

ENDED_STATUSES = frozenset({"rejected", "canceled", "expired", "completed"})
"""The statuses of an order, internal and public, in which nothing is held, due or expected of anybody.

An order never leaves them, with one exception: a `rejected` order becomes `accepted` when a corrected one comes under its reference. Until
then it has ended as the others have: it has no deadline, and no service works on it.
"""
WAITING_STATUSES = {"amend_payment": "awaiting_payment", "resolve_stock": "awaiting_stock", "define_product": "awaiting_product"}
"""By the action that an order cannot continue without: its status until then. Any other action leaves the status as it is."""


@message("oms.capture.OrderAccepted.v2", key="order_id")
class OrderAccepted(Value, frozen=True, kw_only=True):
    """The order is sound. Inventory reserves its stock for `attempt`, which is 1 unless content that was accepted earlier was rejected.

    What the channel placed, field by field as in OrderPlaced. What is about persons is in `sealed`; in records from before it was sealed it
    is in `personal`, in the clear. Both are null where it is not known.
    """

    order_id: str
    channel: str
    channel_reference: str
    content_hash: str
    placed_at: datetime
    accepted_at: datetime
    currency: str
    lines: tuple[LineItem, ...]
    total: int
    payments: tuple[OrderPayment, ...]
    delivery: str
    location: str | None
    personal: PersonalData | None
    taxes_included: bool = True
    shipping_lines: tuple[ShippingLine, ...] = ()
    fees: tuple[Fee, ...] = ()
    discounts: tuple[Discount, ...] = ()
    promise: DeliveryPromise | None = None
    number: str | None = None
    purchase_order: str | None = None
    locale: str | None = None
    time_zone: str | None = None
    tags: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict[str, str])
    sealed: SealedData | None = None
    attempt: int = 1


@message("oms.capture.OrderRejected.v1", key="order_id")
class OrderRejected(Value, frozen=True, kw_only=True):
    """The order is not sound; `reasons` names every field at fault and why.

    A corrected order under the same reference is a new attempt of the same order: OrderAccepted or another OrderRejected follows. With
    `attempt` the content had been accepted as that attempt, and is rejected because the catalogue lacks some of its products.
    """

    order_id: str
    channel: str
    channel_reference: str
    content_hash: str
    reasons: tuple[str, ...]
    rejected_at: datetime
    attempt: int | None = None


@message("oms.capture.OrderConflictReported.v1", key="order_id")
class OrderConflictReported(Value, frozen=True, kw_only=True):
    """The channel reference of an accepted order came again with other content. The accepted content stands; nothing is merged."""

    order_id: str
    channel: str
    channel_reference: str
    content_hash: str
    reported_at: datetime


@message("oms.capture.WebhookTaken.v1", key="order_id")
class WebhookTaken(Value, frozen=True, kw_only=True):
    """A shop's webhook about the order was taken. It says nothing about persons.

    `outcome` is "placed": it was handed in as the order, and OrderAccepted or OrderRejected comes with it; "canceled": it was handed in as
    a cancellation; "changed": the shop changed `changed_fields` (of OrderPlaced) after the order was placed, and nothing is applied;
    "ignored", for `reason`. `canceled` means that the shop has canceled the order, which is final. `updated_at` is the version of the
    content that the webhook had, null where it had none. `field_hashes` has a hash for each of its fields; one about persons is keyed by
    a text of the shop's that is kept nowhere, so that nobody can try out names and addresses.
    """

    order_id: str
    channel: str
    platform: str
    topic: str
    webhook_id: str
    outcome: str
    canceled: bool
    at: datetime
    reason: str = ""
    changed_fields: tuple[str, ...] = ()
    updated_at: datetime | None = None
    field_hashes: dict[str, str] = field(default_factory=dict[str, str])


@message("oms.capture.OrderReserved.v2", key="order_id")
class OrderReserved(Value, frozen=True, kw_only=True):
    """Stock is held for the order. Payment has `amount` (minor units) of `total` held for `attempt`, by the means `payment`.

    `amount` is zero where nothing is to be held. With `authorization_id` the channel has had the provider hold it already. What `total` is
    more than `amount` was paid to the channel, or is collected elsewhere. `total` less the `lines` is shipping and fees.
    """

    order_id: str
    attempt: int
    total: int
    amount: int
    currency: str
    payment: PaymentMethod
    lines: tuple[ChargedLine, ...]
    at: datetime
    authorization_id: str | None = None


@message("oms.capture.OrderConfirmed.v1", key="order_id")
class OrderConfirmed(Value, frozen=True, kw_only=True):
    """Reserved and paid for (authorised). Inventory turns the reservation into an allocation."""

    order_id: str
    at: datetime


@message("oms.capture.OrderReleased.v2", key="order_id")
class OrderReleased(Value, frozen=True, kw_only=True):
    """Stock is allocated. Fulfillment plans from `lines`, which name the location of every unit.

    `personal` and `sealed` are those of OrderAccepted. `collects` says that money for what ships is ours to collect: then the order is
    completed once every unit is delivered and what has shipped is paid.
    """

    order_id: str
    delivery: str
    lines: tuple[AllocatedLine, ...]
    at: datetime
    promise: DeliveryPromise | None = None
    personal: PersonalData | None = None
    sealed: SealedData | None = None
    collects: bool = False


@message("oms.capture.OrderActionRequired.v1", key="order_id")
class OrderActionRequired(Value, frozen=True, kw_only=True):
    """The order waits for somebody. Unless they act before `deadline` it expires, or an operator is asked.

    `action` is amend_payment (the payment was declined: stock is released meanwhile), resolve_stock (there is not enough: the order goes on
    by itself once there is), define_product (the catalogue lacks a product: likewise, once it is defined), check_delivery (a package is
    lost or long overdue), collect_payment (what has shipped could not be captured) or investigate (a service has not answered for long);
    the last three ask an operator, and come again after each deadline. `attempt` is the one that came to this; None on records from before
    it was told.
    """

    order_id: str
    action: str
    reason: str
    deadline: datetime
    at: datetime
    attempt: int | None = None


@message("oms.capture.OrderPaymentAmended.v2", key="order_id")
class OrderPaymentAmended(Value, frozen=True, kw_only=True):
    """The customer gave another means of payment. Inventory reserves anew, for `attempt`."""

    order_id: str
    attempt: int
    payment: PaymentMethod
    lines: tuple[ChargedLine, ...]
    location: str | None
    at: datetime
    promise: DeliveryPromise | None = None


@message("oms.capture.OrderWaitExtended.v1", key="order_id")
class OrderWaitExtended(Value, frozen=True, kw_only=True):
    """The order waits for stock until `deadline`, which is later than it was."""

    order_id: str
    deadline: datetime
    at: datetime


@message("oms.capture.OrderCancellationRequested.v1", key="order_id")
class OrderCancellationRequested(Value, frozen=True, kw_only=True):
    """Somebody wants the released order canceled; fulfillment decides whether it is too late."""

    order_id: str
    reason: str
    at: datetime


@message("oms.capture.OrderCancellationRejected.v1", key="order_id")
class OrderCancellationRejected(Value, frozen=True, kw_only=True):
    """Too late to cancel: the order goes on."""

    order_id: str
    reason: str
    at: datetime


@message("oms.capture.OrderCanceled.v1", key="order_id")
class OrderCanceled(Value, frozen=True, kw_only=True):
    """The end: inventory releases, payment voids."""

    order_id: str
    reason: str
    at: datetime


@message("oms.capture.OrderExpired.v1", key="order_id")
class OrderExpired(Value, frozen=True, kw_only=True):
    """The end: nobody acted in time. Inventory releases, payment voids."""

    order_id: str
    reason: str
    at: datetime


@message("oms.capture.OrderPartlyDelivered.v1", key="order_id")
class OrderPartlyDelivered(Value, frozen=True, kw_only=True):
    """One package arrived and others are still to come."""

    order_id: str
    package_id: str
    lines: tuple[AllocatedLine, ...]
    at: datetime


@message("oms.capture.OrderDelivered.v1", key="order_id")
class OrderDelivered(Value, frozen=True, kw_only=True):
    """The last package arrived, and what shipped is not known to be paid yet. The order is completed as soon as it is."""

    order_id: str
    package_id: str
    lines: tuple[AllocatedLine, ...]
    at: datetime


@message("oms.capture.OrderPaid.v1", key="order_id")
class OrderPaid(Value, frozen=True, kw_only=True):
    """The `units` that `fulfillment_id` shipped are paid, or their money was written off."""

    order_id: str
    fulfillment_id: str
    units: int
    at: datetime


@message("oms.capture.OrderPaymentResolved.v1", key="order_id")
class OrderPaymentResolved(Value, frozen=True, kw_only=True):
    """Nobody needs to see to the order's payment any more (collect_payment)."""

    order_id: str
    at: datetime


@message("oms.capture.OrderCommandRefused.v1", key="order_id")
class OrderCommandRefused(Value, frozen=True, kw_only=True):
    """A command does not fit where the order stands; `reason` says how. `command` is its published type."""

    order_id: str
    command: str
    reason: str
    at: datetime


@message("oms.capture.OrderCompleted.v2", key="order_id")
class OrderCompleted(Value, frozen=True, kw_only=True):
    """The end: every unit is delivered, and what is ours to collect is paid or written off.

    Returns may be asked for from now on; each line is refunded its share of what it cost.
    """

    order_id: str
    currency: str
    lines: tuple[ChargedLine, ...]
    at: datetime


@message("oms.capture.CancelOrder.v1", key="order_id")
class CancelOrder(Value, frozen=True, kw_only=True):
    """Cancel the whole order if it has not shipped."""

    order_id: str
    reason: Prose


@message("oms.capture.ExtendWait.v1", key="order_id")
class ExtendWait(Value, frozen=True, kw_only=True):
    """Let an order wait for stock until a later time, instead of expiring. The business's settings say how long at most."""

    order_id: str
    until: datetime


@message("oms.capture.AmendPayment.v1", key="order_id")
class AmendPayment(Value, frozen=True, kw_only=True):
    """Pay by other means after a decline.

    `attempt` is the one that was declined, as OrderActionRequired names it. Without it this pays for whichever attempt waits: the same
    command again, after the next decline, tries the same means of payment again.
    """

    order_id: str
    payment: PaymentMethod
    attempt: int | None = None
