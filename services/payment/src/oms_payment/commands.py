"""What payment is asked to do by others' events and its own deadlines, what it asks of the provider, and how the answers come in."""

from msgspec import Struct
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


class AuthorizeOrder(Struct, frozen=True, kw_only=True):
    order_id: str
    attempt: int
    amount: int
    currency: str
    payment: PaymentMethod
    lines: tuple[OrderLine, ...]
    shipping: int


class CaptureShipment(Struct, frozen=True, kw_only=True):
    order_id: str
    fulfillment_id: str
    lines: tuple[AllocatedLine, ...]


class ReleasePayment(Struct, frozen=True, kw_only=True):
    """The order has ended: nothing may stay held for it."""

    order_id: str
    reason: str


class RefundReturn(Struct, frozen=True, kw_only=True):
    order_id: str
    refund_id: str
    amount: int


class ResumeRefund(Struct, frozen=True, kw_only=True):
    """What was captured is known now: the postponed refund goes on."""

    order_id: str
    refund_id: str


class GiveUpRefund(Struct, frozen=True, kw_only=True):
    """What was captured did not become known in time."""

    order_id: str
    refund_id: str


# Outside effects. `request_id` is the provider's idempotency key. `checks` counts how often the provider has left us without an outcome.


class RequestAuthorization(Struct, frozen=True, kw_only=True):
    order_id: str
    request_id: str
    checks: int
    amount: int
    currency: str
    payment: PaymentMethod


class RequestCapture(Struct, frozen=True, kw_only=True):
    order_id: str
    request_id: str
    checks: int
    authorization_id: str
    amount: int
    currency: str


class RequestVoid(Struct, frozen=True, kw_only=True):
    order_id: str
    request_id: str
    checks: int
    authorization_id: str


class RequestRefund(Struct, frozen=True, kw_only=True):
    order_id: str
    request_id: str
    checks: int
    authorization_id: str
    amount: int
    currency: str


Request = RequestAuthorization | RequestCapture | RequestVoid | RequestRefund


class LookUpOutcome(Struct, frozen=True, kw_only=True):
    """Find out what became of `request`, which is not sent again by this."""

    order_id: str
    request_id: str
    checks: int
    request: Request


Effect = Request | LookUpOutcome


# The provider's answers, matched with the request they answer. One that nobody waits for any more changes nothing.


class RecordSuccess(Struct, frozen=True, kw_only=True):
    """`reference` is what the provider calls what it did: the id of an authorisation, a capture, a void, a refund."""

    order_id: str
    request_id: str
    reference: str


class RecordRefusal(Struct, frozen=True, kw_only=True):
    order_id: str
    request_id: str
    reason: str


class RecordUnknown(Struct, frozen=True, kw_only=True):
    """No answer in time. `checks` is that of the effect."""

    order_id: str
    request_id: str
    checks: int


class RecordUnheard(Struct, frozen=True, kw_only=True):
    """The provider never heard of the request. `checks` is that of the effect."""

    order_id: str
    request_id: str
    checks: int


Answer = RecordSuccess | RecordRefusal | RecordUnknown | RecordUnheard

Command = AuthorizeOrder | CaptureShipment | ReleasePayment | RefundReturn | ResumeRefund | GiveUpRefund | Answer

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
