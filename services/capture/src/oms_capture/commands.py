"""What capture is asked to do: by channels, by people, and by what the other services published."""

from dataclasses import dataclass
from datetime import datetime

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """`content_hash` tells two orders under one reference apart."""

    order_id: str
    content_hash: str
    placed: OrderPlaced


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReservation:
    order_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordShortage:
    order_id: str
    attempt: int
    shortages: tuple[Shortage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReservationExpiry:
    order_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordAuthorization:
    order_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDecline:
    order_id: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordAllocation:
    order_id: str
    lines: tuple[AllocatedLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStopped:
    """Fulfillment stopped: nothing has shipped. `requested_at` is when that was asked for, None on old records that do not tell."""

    order_id: str
    requested_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordTooLate:
    """Fulfillment could not stop any more. `requested_at` as in RecordStopped."""

    order_id: str
    reason: str
    requested_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDelivery:
    order_id: str
    package_id: str
    lines: tuple[AllocatedLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDeliveryTrouble:
    order_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActOnDeadline:
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
    | RecordStopped
    | RecordTooLate
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
