"""What capture is asked to do: by channels, by people, and by what the other services published."""

from datetime import datetime

from msgspec import Struct
from oms_contracts.channel import OrderPlaced
from oms_contracts.orders import (
    AmendPayment,
    CancelOrder,
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderCancellationRejected,
    OrderCancellationRequested,
    OrderCommandRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderConflictReported,
    OrderExpired,
    OrderPartlyDelivered,
    OrderPaymentAmended,
    OrderRejected,
    OrderReleased,
    OrderReserved,
)
from oms_contracts.values import AllocatedLine, Shortage


class PlaceOrder(Struct, frozen=True, kw_only=True):
    """`content_hash` tells two orders under one reference apart."""

    order_id: str
    content_hash: str
    placed: OrderPlaced


class RecordReservation(Struct, frozen=True, kw_only=True):
    order_id: str
    attempt: int


class RecordShortage(Struct, frozen=True, kw_only=True):
    order_id: str
    attempt: int
    shortages: tuple[Shortage, ...]


class RecordReservationExpiry(Struct, frozen=True, kw_only=True):
    order_id: str
    attempt: int


class RecordAuthorization(Struct, frozen=True, kw_only=True):
    order_id: str
    attempt: int


class RecordDecline(Struct, frozen=True, kw_only=True):
    order_id: str
    attempt: int
    reason: str


class RecordAllocation(Struct, frozen=True, kw_only=True):
    order_id: str
    lines: tuple[AllocatedLine, ...]


class RecordFulfillmentCanceled(Struct, frozen=True, kw_only=True):
    """Fulfillment stopped: nothing has shipped. `requested_at` is when that was asked for, None on old records that do not tell."""

    order_id: str
    requested_at: datetime | None


class RecordCancellationRejected(Struct, frozen=True, kw_only=True):
    """Fulfillment could not stop any more. `requested_at` as in RecordFulfillmentCanceled."""

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
    """The deadline the order waited for has come."""

    order_id: str
    deadline: datetime


Command = (
    PlaceOrder
    | RecordReservation
    | RecordShortage
    | RecordReservationExpiry
    | RecordAuthorization
    | RecordDecline
    | RecordAllocation
    | RecordFulfillmentCanceled
    | RecordCancellationRejected
    | RecordDelivery
    | RecordDeliveryTrouble
    | ActOnDeadline
    | CancelOrder
    | AmendPayment
)

Event = (
    OrderAccepted
    | OrderRejected
    | OrderConflictReported
    | OrderReserved
    | OrderConfirmed
    | OrderReleased
    | OrderActionRequired
    | OrderPaymentAmended
    | OrderCancellationRequested
    | OrderCancellationRejected
    | OrderCanceled
    | OrderExpired
    | OrderPartlyDelivered
    | OrderCommandRefused
    | OrderCompleted
)
