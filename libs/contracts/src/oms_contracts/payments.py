"""Money, owned by payment, on oms.payments. Amounts are minor units of `currency`.

Every outside effect is three facts: requested, done with `request_id` as the provider's idempotency key, answered.
"""

from datetime import datetime

from oms_contracts.message import Value, message
from oms_contracts.order_parts import ChargedLine
from oms_contracts.values import AllocatedLine, PaymentMethod


@message("oms.payment.PaymentAuthorizationRequested.v2", key="order_id")
class PaymentAuthorizationRequested(Value, frozen=True, kw_only=True):
    """The provider is asked to hold `amount` of the order's `total`, unless `amount` is zero or the channel has had it held already."""

    order_id: str
    attempt: int
    request_id: str
    total: int
    amount: int
    currency: str
    payment: PaymentMethod
    lines: tuple[ChargedLine, ...]
    at: datetime


@message("oms.payment.PaymentAuthorized.v1", key="order_id")
class PaymentAuthorized(Value, frozen=True, kw_only=True):
    """The provider holds `amount` for us under `authorization_id`."""

    order_id: str
    attempt: int
    request_id: str
    authorization_id: str
    amount: int
    currency: str
    at: datetime


@message("oms.payment.PaymentDeclined.v1", key="order_id")
class PaymentDeclined(Value, frozen=True, kw_only=True):
    order_id: str
    attempt: int
    request_id: str
    reason: str
    at: datetime


@message("oms.payment.PaymentOutcomeUnknown.v1", key="order_id")
class PaymentOutcomeUnknown(Value, frozen=True, kw_only=True):
    """The provider did not answer `request_id`; it is looked up at `next_check_at`, and nothing is compensated before it is known."""

    order_id: str
    request_id: str
    checks: int
    next_check_at: datetime
    at: datetime


@message("oms.payment.PaymentRequestRepeated.v1", key="order_id")
class PaymentRequestRepeated(Value, frozen=True, kw_only=True):
    """The provider never heard of `request_id`: it is sent again, under the same key."""

    order_id: str
    request_id: str
    at: datetime


@message("oms.payment.PaymentCaptureRequested.v1", key="order_id")
class PaymentCaptureRequested(Value, frozen=True, kw_only=True):
    """The provider is asked to take `amount` for `lines`, which fulfillment `fulfillment_id` shipped."""

    order_id: str
    fulfillment_id: str
    request_id: str
    authorization_id: str
    amount: int
    currency: str
    at: datetime
    lines: tuple[AllocatedLine, ...] = ()


@message("oms.payment.PaymentCaptured.v1", key="order_id")
class PaymentCaptured(Value, frozen=True, kw_only=True):
    order_id: str
    fulfillment_id: str
    request_id: str
    amount: int
    currency: str
    at: datetime


@message("oms.payment.PaymentCaptureFailed.v1", key="order_id")
class PaymentCaptureFailed(Value, frozen=True, kw_only=True):
    """The provider refused; a person must collect the money. `request_id` is empty when nothing was held that could be captured."""

    order_id: str
    fulfillment_id: str
    request_id: str
    reason: str
    at: datetime


@message("oms.payment.PaymentVoidRequested.v1", key="order_id")
class PaymentVoidRequested(Value, frozen=True, kw_only=True):
    """The provider is asked to let an authorisation go."""

    order_id: str
    request_id: str
    authorization_id: str
    at: datetime


@message("oms.payment.PaymentVoided.v1", key="order_id")
class PaymentVoided(Value, frozen=True, kw_only=True):
    order_id: str
    request_id: str
    authorization_id: str
    at: datetime


@message("oms.payment.PaymentVoidFailed.v1", key="order_id")
class PaymentVoidFailed(Value, frozen=True, kw_only=True):
    """The provider refused to let an authorisation go; a person must see to it, or it lapses by itself."""

    order_id: str
    request_id: str
    authorization_id: str
    reason: str
    at: datetime


@message("oms.payment.PaymentAbandoned.v1", key="order_id")
class PaymentAbandoned(Value, frozen=True, kw_only=True):
    """The order ended unpaid: whatever is held for it, or turns out to be held, is let go."""

    order_id: str
    reason: str
    at: datetime


@message("oms.payment.RefundPostponed.v1", key="order_id")
class RefundPostponed(Value, frozen=True, kw_only=True):
    """A refund of `amount` waits until it is known what was captured; if that is not known by `until`, it fails."""

    order_id: str
    refund_id: str
    amount: int
    until: datetime
    at: datetime


@message("oms.payment.RefundRequested.v1", key="order_id")
class RefundRequested(Value, frozen=True, kw_only=True):
    """The provider is asked to give `amount` back: what was asked for, cut to captured - refunded."""

    order_id: str
    refund_id: str
    request_id: str
    amount: int
    currency: str
    reason: str
    at: datetime


@message("oms.payment.RefundSettled.v1", key="order_id")
class RefundSettled(Value, frozen=True, kw_only=True):
    order_id: str
    refund_id: str
    request_id: str
    amount: int
    currency: str
    at: datetime


@message("oms.payment.RefundFailed.v1", key="order_id")
class RefundFailed(Value, frozen=True, kw_only=True):
    """A person must refund by hand: the provider refused, or it was not known in time what was captured.

    `request_id` is empty when nothing was left to refund; then there is nothing to do.
    """

    order_id: str
    refund_id: str
    request_id: str
    reason: str
    at: datetime
