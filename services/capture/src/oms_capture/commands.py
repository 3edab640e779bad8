"""Capture's commands, from channels, from people and from the events of other services; and its events."""

from datetime import datetime

from msgspec import Struct
from oms_adapters.decisions import Arrived
from oms_contracts.channel import OrderPlaced
from oms_contracts.customers import EraseCustomer
from oms_contracts.order_parts import SealedData
from oms_contracts.orders import (
    AmendPayment,
    CancelOrder,
    ExtendWait,
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderCancellationRejected,
    OrderCancellationRequested,
    OrderCommandRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderConflictReported,
    OrderDelivered,
    OrderExpired,
    OrderPaid,
    OrderPartlyDelivered,
    OrderPaymentAmended,
    OrderPaymentResolved,
    OrderRejected,
    OrderReleased,
    OrderReserved,
    OrderWaitExtended,
    WebhookTaken,
)
from oms_contracts.values import AllocatedLine, Shortage
from oms_runtime.customer_keys import CustomerKey


class PlaceOrder(Struct, frozen=True, kw_only=True):
    """A channel's order. `content_hash` distinguishes two contents under one reference.

    `sealed` is what it says of persons, `new_key` the key for it where its customer had none, and `new_words` the hashes of those words of
    its names by which the customer was not found yet: see customers.py.
    """

    order_id: str
    content_hash: str
    placed: OrderPlaced
    sealed: SealedData | None = None
    new_key: CustomerKey | None = None
    new_words: tuple[str, ...] = ()


class TakeWebhook(Struct, frozen=True, kw_only=True):
    """A shop's webhook about an order. `place` places the order as the webhook has it; None where it has none.

    `arrived` is what the webhook says beside that: it is what is remembered.
    """

    order_id: str
    channel: str
    platform: str
    topic: str
    arrived: Arrived
    place: PlaceOrder | None = None


class RecordReservation(Struct, frozen=True, kw_only=True):
    order_id: str
    attempt: int


class RecordShortage(Struct, frozen=True, kw_only=True):
    """Inventory has too few units. `confirmed`: of an order that was confirmed before; None on records from before it was told."""

    order_id: str
    attempt: int
    shortages: tuple[Shortage, ...]
    confirmed: bool | None


class RecordUnknownSkus(Struct, frozen=True, kw_only=True):
    """Inventory finds no active product of these SKUs. `held`: it reserves by itself once they are defined; otherwise it does not."""

    order_id: str
    attempt: int
    unknown_skus: tuple[str, ...]
    held: bool


class RecordReservationExpiry(Struct, frozen=True, kw_only=True):
    order_id: str
    attempt: int


class RecordAuthorization(Struct, frozen=True, kw_only=True):
    """`outstanding` minor units for what has shipped are still to be captured."""

    order_id: str
    attempt: int
    outstanding: int = 0


class RecordDecline(Struct, frozen=True, kw_only=True):
    order_id: str
    attempt: int
    reason: str


class RecordPayment(Struct, frozen=True, kw_only=True):
    """What `fulfillment_id` shipped is paid, or written off; `outstanding` minor units for other shipments are not.

    `units` is None where an earlier release of payment did not tell it.
    """

    order_id: str
    fulfillment_id: str
    units: int | None
    outstanding: int


class RecordOutstanding(Struct, frozen=True, kw_only=True):
    """Somebody must see to the payment before `deadline`."""

    order_id: str
    reason: str
    deadline: datetime


class RecordAllocation(Struct, frozen=True, kw_only=True):
    order_id: str
    lines: tuple[AllocatedLine, ...]


class RecordFulfillmentCanceled(Struct, frozen=True, kw_only=True):
    """Fulfillment stopped, and nothing has shipped. `requested_at` names the cancellation request, and is None on old records."""

    order_id: str
    requested_at: datetime | None


class RecordCancellationRejected(Struct, frozen=True, kw_only=True):
    """It is too late for fulfillment to stop. `requested_at` as in RecordFulfillmentCanceled."""

    order_id: str
    reason: str
    requested_at: datetime | None


class RecordDelivery(Struct, frozen=True, kw_only=True):
    order_id: str
    package_id: str
    lines: tuple[AllocatedLine, ...]


class RecordDeliveryTrouble(Struct, frozen=True, kw_only=True):
    order_id: str
    reason: str


class ActOnDeadline(Struct, frozen=True, kw_only=True):
    """The order's deadline has passed."""

    order_id: str
    deadline: datetime


Command = (
    PlaceOrder
    | RecordReservation
    | RecordShortage
    | RecordUnknownSkus
    | RecordReservationExpiry
    | RecordAuthorization
    | RecordDecline
    | RecordPayment
    | RecordOutstanding
    | RecordAllocation
    | RecordFulfillmentCanceled
    | RecordCancellationRejected
    | RecordDelivery
    | RecordDeliveryTrouble
    | ActOnDeadline
    | CancelOrder
    | AmendPayment
    | ExtendWait
    | EraseCustomer
)
"""What can be asked of one order."""

Event = (
    OrderAccepted
    | OrderRejected
    | OrderConflictReported
    | OrderReserved
    | OrderConfirmed
    | OrderReleased
    | OrderActionRequired
    | OrderPaymentAmended
    | OrderWaitExtended
    | OrderCancellationRequested
    | OrderCancellationRejected
    | OrderCanceled
    | OrderExpired
    | OrderPartlyDelivered
    | OrderDelivered
    | OrderPaid
    | OrderPaymentResolved
    | OrderCommandRefused
    | OrderCompleted
)
"""What happens to one order."""

AnyCommand = Command | TakeWebhook
AnyEvent = Event | WebhookTaken
