"""Money, owned by payment, on oms.payments. Amounts are minor units of `currency`.

Every outside effect is three facts: requested, done with `request_id` as the provider's idempotency key, answered.
"""

from datetime import datetime

from oms_contracts.message import Value, message
from oms_contracts.order_parts import ChargedLine
from oms_contracts.values import AllocatedLine, PaymentMethod, Prose


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
    """The provider holds `amount` for us under `authorization_id`, until `expires_at` where it says so.

    `outstanding` is what has shipped and is captured of it now, because it could not be captured before.
    """

    order_id: str
    attempt: int
    request_id: str
    authorization_id: str
    amount: int
    currency: str
    at: datetime
    expires_at: datetime | None = None
    outstanding: int = 0


@message("oms.payment.PaymentAuthorizationExpired.v1", key="order_id")
class PaymentAuthorizationExpired(Value, frozen=True, kw_only=True):
    """The authorization has run out, or is about to: nothing more is captured of it. `amount` is what was not captured of it."""

    order_id: str
    authorization_id: str
    amount: int
    currency: str
    at: datetime


@message("oms.payment.PaymentRenewalRequested.v1", key="order_id")
class PaymentRenewalRequested(Value, frozen=True, kw_only=True):
    """The provider is asked to hold `amount`, all that is not captured or written off yet, under a new authorization.

    PaymentAuthorized or PaymentDeclined follows. Where an earlier authorization still holds something, it is voided after that.
    """

    order_id: str
    attempt: int
    request_id: str
    amount: int
    currency: str
    payment: PaymentMethod
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
    """The provider is asked to take `amount` for `lines`, which fulfillment `fulfillment_id` shipped.

    After a refusal it is asked again, under another `request_id`; `lines` are empty then.
    """

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
    """The money for what `fulfillment_id` shipped, `units` in all, is taken. `outstanding` is what is still missing for other shipments.

    `units` is null on records from before it was told.
    """

    order_id: str
    fulfillment_id: str
    request_id: str
    amount: int
    currency: str
    at: datetime
    units: int | None = None
    outstanding: int = 0


@message("oms.payment.PaymentCaptureRefused.v1", key="order_id")
class PaymentCaptureRefused(Value, frozen=True, kw_only=True):
    """The provider refused to take `amount` for what `fulfillment_id` shipped. It is asked again at `retry_at`, under another key."""

    order_id: str
    fulfillment_id: str
    request_id: str
    amount: int
    currency: str
    reason: str
    retry_at: datetime
    at: datetime


@message("oms.payment.PaymentCaptureFailed.v1", key="order_id")
class PaymentCaptureFailed(Value, frozen=True, kw_only=True):
    """The provider refused; a person must collect the money. `request_id` is empty when nothing was held that could be captured.

    `amount` is what is missing for `lines`, where they are known.
    """

    order_id: str
    fulfillment_id: str
    request_id: str
    reason: str
    at: datetime
    amount: int | None = None
    lines: tuple[AllocatedLine, ...] = ()


@message("oms.payment.PaymentCollectionRequired.v1", key="order_id")
class PaymentCollectionRequired(Value, frozen=True, kw_only=True):
    """What has shipped could not be captured, or what is to ship is not held any more: somebody must see to it before `deadline`.

    `outstanding` is what has shipped and is not paid. They have the capture tried again, take another means of payment, or write it off.
    At the deadline it is written off where the policy says so for such an amount, and otherwise asked for again.
    """

    order_id: str
    outstanding: int
    currency: str
    reason: str
    deadline: datetime
    at: datetime


@message("oms.payment.PaymentWrittenOff.v1", key="order_id")
class PaymentWrittenOff(Value, frozen=True, kw_only=True):
    """`amount` for what `fulfillment_id` shipped, `units` in all, is not collected any more. `outstanding` is what else is missing."""

    order_id: str
    fulfillment_id: str
    amount: int
    currency: str
    units: int
    outstanding: int
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


@message("oms.payment.PaymentCommandRefused.v1", key="order_id")
class PaymentCommandRefused(Value, frozen=True, kw_only=True):
    """A command does not fit where the order's money stands; `reason` says how. `command` is its published type."""

    order_id: str
    command: str
    reason: str
    at: datetime


@message("oms.payment.RetryCapture.v1", key="order_id")
class RetryCapture(Value, frozen=True, kw_only=True):
    """Ask the provider once more, now, for what it refused to take."""

    order_id: str


@message("oms.payment.PayOutstanding.v1", key="order_id")
class PayOutstanding(Value, frozen=True, kw_only=True):
    """Take what is outstanding, and what is still to ship, by another means of payment."""

    order_id: str
    payment: PaymentMethod


@message("oms.payment.WriteOffPayment.v1", key="order_id")
class WriteOffPayment(Value, frozen=True, kw_only=True):
    """Give up all that is outstanding of an order."""

    order_id: str
    reason: Prose
