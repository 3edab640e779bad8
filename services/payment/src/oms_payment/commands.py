"""Payment's commands, from people, other services' events, its own deadlines and the provider; its outside effects and its events."""

from datetime import datetime

from msgspec import Struct
from oms_contracts.order_parts import ChargedLine
from oms_contracts.payments import (
    PaymentAbandoned,
    PaymentAuthorizationExpired,
    PaymentAuthorizationRequested,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureFailed,
    PaymentCaptureRefused,
    PaymentCaptureRequested,
    PaymentCollectionRequired,
    PaymentCommandRefused,
    PaymentDeclined,
    PaymentOutcomeUnknown,
    PaymentRenewalRequested,
    PaymentRequestRepeated,
    PaymentVoided,
    PaymentVoidFailed,
    PaymentVoidRequested,
    PaymentWrittenOff,
    PayOutstanding,
    RefundFailed,
    RefundPostponed,
    RefundRequested,
    RefundSettled,
    RetryCapture,
    WriteOffPayment,
)
from oms_contracts.values import AllocatedLine, PaymentMethod


class AuthorizeOrder(Struct, frozen=True, kw_only=True):
    """Hold `amount` of the order's `total`, in minor units of `currency`. With `authorization_id` it is held already."""

    order_id: str
    attempt: int
    total: int
    amount: int
    currency: str
    payment: PaymentMethod
    lines: tuple[ChargedLine, ...]
    authorization_id: str | None = None


class CaptureShipment(Struct, frozen=True, kw_only=True):
    """A fulfillment has shipped: capture what its units cost."""

    order_id: str
    fulfillment_id: str
    lines: tuple[AllocatedLine, ...]


class ReleasePayment(Struct, frozen=True, kw_only=True):
    """The order has ended: nothing may stay held for it."""

    order_id: str
    reason: str


class RefundReturn(Struct, frozen=True, kw_only=True):
    """Refund a return: `amount` minor units, or as much of it as was captured and is not refunded yet."""

    order_id: str
    refund_id: str
    amount: int


class ResumeRefund(Struct, frozen=True, kw_only=True):
    """It is known now what was captured: the postponed refund continues."""

    order_id: str
    refund_id: str


class GiveUpRefund(Struct, frozen=True, kw_only=True):
    """It did not become known in time what was captured."""

    order_id: str
    refund_id: str


class RepeatCapture(Struct, frozen=True, kw_only=True):
    """The provider refused a capture some time ago, and is asked again."""

    order_id: str
    fulfillment_id: str


class RenewAuthorization(Struct, frozen=True, kw_only=True):
    """The authorization is about to run out, and not all is captured of it."""

    order_id: str
    authorization_id: str


class ActOnOutstanding(Struct, frozen=True, kw_only=True):
    """Nobody has seen to the payment before the deadline."""

    order_id: str
    deadline: datetime


# Outside effects. `request_id` is the provider's idempotency key. `checks` counts the calls so far that left the outcome unknown.


class RequestAuthorization(Struct, frozen=True, kw_only=True):
    """Hold `amount` minor units of `currency`."""

    order_id: str
    request_id: str
    checks: int
    amount: int
    currency: str
    payment: PaymentMethod


class RequestCapture(Struct, frozen=True, kw_only=True):
    """Take `amount` minor units of what is held."""

    order_id: str
    request_id: str
    checks: int
    authorization_id: str
    amount: int
    currency: str


class RequestVoid(Struct, frozen=True, kw_only=True):
    """Release everything that is still held."""

    order_id: str
    request_id: str
    checks: int
    authorization_id: str


class RequestRefund(Struct, frozen=True, kw_only=True):
    """Return `amount` minor units of what was captured."""

    order_id: str
    request_id: str
    checks: int
    authorization_id: str
    amount: int
    currency: str


Request = RequestAuthorization | RequestCapture | RequestVoid | RequestRefund


class LookUpOutcome(Struct, frozen=True, kw_only=True):
    """Find out what became of `request`, without sending it again."""

    order_id: str
    request_id: str
    checks: int
    request: Request


Effect = Request | LookUpOutcome

DueAction = Effect | ResumeRefund | GiveUpRefund | RepeatCapture | RenewAuthorization | ActOnOutstanding
"""What a payment does by itself."""


# The provider's responses, matched with their request by `request_id`. A response to a request that is no longer open changes nothing.


class RecordSuccess(Struct, frozen=True, kw_only=True):
    """`reference` is the provider's id of the authorization, capture, void or refund. An authorization holds until `expires_at`."""

    order_id: str
    request_id: str
    reference: str
    expires_at: datetime | None = None


class RecordRefusal(Struct, frozen=True, kw_only=True):
    """The provider will not perform the request."""

    order_id: str
    request_id: str
    reason: str


class RecordUnknownOutcome(Struct, frozen=True, kw_only=True):
    """No response in time. `checks` is that of the effect."""

    order_id: str
    request_id: str
    checks: int


class RecordUnknownRequest(Struct, frozen=True, kw_only=True):
    """The provider does not know the request. `checks` is that of the effect."""

    order_id: str
    request_id: str
    checks: int


RecordResponse = RecordSuccess | RecordRefusal | RecordUnknownOutcome | RecordUnknownRequest

PersonsCommand = RetryCapture | PayOutstanding | WriteOffPayment

Command = (
    AuthorizeOrder
    | CaptureShipment
    | ReleasePayment
    | RefundReturn
    | ResumeRefund
    | GiveUpRefund
    | RepeatCapture
    | RenewAuthorization
    | ActOnOutstanding
    | RecordResponse
    | PersonsCommand
)

Event = (
    PaymentAuthorizationRequested
    | PaymentAuthorized
    | PaymentDeclined
    | PaymentAuthorizationExpired
    | PaymentRenewalRequested
    | PaymentOutcomeUnknown
    | PaymentRequestRepeated
    | PaymentCaptureRequested
    | PaymentCaptured
    | PaymentCaptureRefused
    | PaymentCaptureFailed
    | PaymentCollectionRequired
    | PaymentWrittenOff
    | PaymentVoidRequested
    | PaymentVoided
    | PaymentVoidFailed
    | PaymentAbandoned
    | RefundPostponed
    | RefundRequested
    | RefundSettled
    | RefundFailed
    | PaymentCommandRefused
)
