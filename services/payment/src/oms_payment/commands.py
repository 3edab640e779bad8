"""What payment is asked to do by others' events and its own deadlines, what it asks of the provider, and how the answers come in."""

from dataclasses import dataclass

from oms_contracts.payments import (
    PaymentAbandoned,
    PaymentAuthorizationRequested,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureFailed,
    PaymentCaptureRequested,
    PaymentDeclined,
    PaymentOutcomeUnknown,
    PaymentRequestRepeated,
    PaymentVoided,
    PaymentVoidFailed,
    PaymentVoidRequested,
    RefundFailed,
    RefundPostponed,
    RefundRequested,
    RefundSettled,
)
from oms_contracts.values import AllocatedLine, OrderLine, PaymentMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizeOrder:
    order_id: str
    attempt: int
    amount: int
    currency: str
    payment: PaymentMethod
    lines: tuple[OrderLine, ...]
    shipping: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureShipment:
    order_id: str
    fulfillment_id: str
    lines: tuple[AllocatedLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """The order has ended: nothing may stay held for it."""

    order_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundReturn:
    order_id: str
    refund_id: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRefund:
    """What was captured is known now: the postponed refund goes on."""

    order_id: str
    refund_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpRefund:
    """What was captured did not become known in time."""

    order_id: str
    refund_id: str


# Outside effects. `request_id` is the provider's idempotency key. `checks` counts how often the provider has left us without an outcome.


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAuthorization:
    order_id: str
    request_id: str
    checks: int
    amount: int
    currency: str
    payment: PaymentMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCapture:
    order_id: str
    request_id: str
    checks: int
    authorization_id: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestVoid:
    order_id: str
    request_id: str
    checks: int
    authorization_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefund:
    order_id: str
    request_id: str
    checks: int
    authorization_id: str
    amount: int
    currency: str


Request = RequestAuthorization | RequestCapture | RequestVoid | RequestRefund


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUpOutcome:
    """Find out what became of `request`, which is not sent again by this."""

    order_id: str
    request_id: str
    checks: int
    request: Request


Effect = Request | LookUpOutcome


# The provider's answers, matched with the request they answer. One that nobody waits for any more changes nothing.


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSuccess:
    """`reference` is what the provider calls what it did: the id of an authorisation, a capture, a void, a refund."""

    order_id: str
    request_id: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRefusal:
    order_id: str
    request_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordUnknown:
    """No answer in time. `checks` is that of the effect."""

    order_id: str
    request_id: str
    checks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordUnheard:
    """The provider never heard of the request. `checks` is that of the effect."""

    order_id: str
    request_id: str
    checks: int


Answer = RecordSuccess | RecordRefusal | RecordUnknown | RecordUnheard

Command = AuthorizeOrder | CaptureShipment | LetGo | RefundReturn | ResumeRefund | GiveUpRefund | Answer

Event = (
    PaymentAuthorizationRequested
    | PaymentAuthorized
    | PaymentDeclined
    | PaymentOutcomeUnknown
    | PaymentRequestRepeated
    | PaymentCaptureRequested
    | PaymentCaptured
    | PaymentCaptureFailed
    | PaymentVoidRequested
    | PaymentVoided
    | PaymentVoidFailed
    | PaymentAbandoned
    | RefundPostponed
    | RefundRequested
    | RefundSettled
    | RefundFailed
)
