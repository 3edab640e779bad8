"""The payment of one order: which requests to the provider are allowed, and what its responses mean.

A request is recorded before it is sent, and is open until the provider's response is recorded. If there is no response, payment looks the
request up under its key to learn whether it was performed. Nothing is compensated before that.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace
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
from oms_contracts.values import MAX_REASON_CHARACTERS, shortened

from oms_payment.commands import (
    AuthorizeOrder,
    CaptureShipment,
    Command,
    DueAction,
    Effect,
    Event,
    GiveUpRefund,
    LookUpOutcome,
    RecordRefusal,
    RecordSuccess,
    RecordUnknownOutcome,
    RecordUnknownRequest,
    RefundReturn,
    ReleasePayment,
    Request,
    RequestAuthorization,
    RequestCapture,
    RequestRefund,
    RequestVoid,
    ResumeRefund,
)
from oms_payment.money import Payment, PostponedRefund, ProviderRequest, amount_to_capture, request_id_of, units_of

NO_AUTHORIZATION = "none"
"""The authorization id of an order that costs nothing. It is never sent to the provider."""


class Terms(Struct, frozen=True, kw_only=True):
    """The business's settings. The wait before a look-up doubles from `look_up_after` to `look_up_at_most`."""

    look_up_after: timedelta = timedelta(seconds=5)
    look_up_at_most: timedelta = timedelta(hours=1)
    refund_timeout: timedelta = timedelta(days=7)


def decide(command: Command, payment: Payment, now: datetime, terms: Terms) -> list[Event]:
    """The events that follow from a command: none if it has already had its effect, or comes too late."""
    match command:
        case AuthorizeOrder(attempt=attempt):
            # The next attempt follows our own PaymentDeclined, so the attempt before it is neither open nor held.
            if payment.ended or attempt <= payment.attempt or payment.open("authorize") or payment.authorization_id:
                return []
            return _authorize(command, now)

        case CaptureShipment(order_id=order_id, fulfillment_id=fulfillment_id):
            if request_id_of(order_id, "capture", fulfillment_id) in payment.asked:
                return []
            if payment.ended or not payment.authorization_id:
                reason = "nothing is held for this order"
                return [PaymentCaptureFailed(order_id=order_id, fulfillment_id=fulfillment_id, request_id="", reason=reason, at=now)]
            return _capture(command, payment, now)

        case ReleasePayment(order_id=order_id, reason=reason):
            if payment.ended:
                return []
            if payment.authorization_id:
                return _void(order_id, payment.attempt, payment.authorization_id, payment.amount, now)
            return [PaymentAbandoned(order_id=order_id, reason=reason, at=now)]

        case RefundReturn(order_id=order_id, refund_id=refund_id, amount=amount):
            if request_id_of(order_id, "refund", refund_id) in payment.asked or _is_postponed(refund_id, payment):
                return []
            # A refund does not overtake the refunds that wait.
            if payment.postponed or not payment.fully_captured:
                until = now + terms.refund_timeout
                return [RefundPostponed(order_id=order_id, refund_id=refund_id, amount=amount, until=until, at=now)]
            return _refund(order_id, refund_id, amount, payment, now)

        case ResumeRefund(order_id=order_id, refund_id=refund_id):
            if not payment.fully_captured or not _is_next(refund_id, payment):
                return []
            return _refund(order_id, refund_id, payment.postponed[0].amount, payment, now)

        case GiveUpRefund(order_id=order_id, refund_id=refund_id):
            if payment.fully_captured or not _is_next(refund_id, payment):
                return []
            request_id = request_id_of(order_id, "refund", refund_id)
            reason = "what was captured did not become known in time"
            return [RefundFailed(order_id=order_id, refund_id=refund_id, request_id=request_id, reason=reason, at=now)]

        case RecordSuccess(order_id=order_id, request_id=request_id, reference=reference):
            request = _open_request(request_id, payment)
            return _succeeded(order_id, request, reference, payment, now) if request else []

        case RecordRefusal(order_id=order_id, request_id=request_id, reason=reason):
            request = _open_request(request_id, payment)
            bounded = shortened(reason, MAX_REASON_CHARACTERS)  # it is the provider's text
            return [_refused(order_id, request, bounded, payment, now)] if request else []

        case RecordUnknownOutcome(order_id=order_id, request_id=request_id, checks=checks):
            request = _open_request(request_id, payment)
            if request is None or request.checks != checks:
                return []
            wait = min(terms.look_up_at_most, terms.look_up_after * 2 ** min(checks, 20))
            return [PaymentOutcomeUnknown(order_id=order_id, request_id=request_id, checks=checks + 1, next_check_at=now + wait, at=now)]

        case RecordUnknownRequest(order_id=order_id, request_id=request_id, checks=checks):
            request = _open_request(request_id, payment)
            if request is None or not request.unknown or request.checks != checks:
                return []
            return [PaymentRequestRepeated(order_id=order_id, request_id=request_id, at=now)]


def evolve(payment: Payment, event: Event) -> Payment:
    """The payment after an event."""
    match event:
        case PaymentAuthorizationRequested(request_id=request_id, attempt=attempt, amount=amount, at=at):
            earlier = {key: request for key, request in payment.asked.items() if request.step != "authorize"}
            return replace(
                payment,
                attempt=attempt,
                total=event.total,
                amount=amount,
                currency=event.currency,
                method=event.payment,
                lines=event.lines,
                asked={**earlier, request_id: _open("authorize", str(attempt), amount, at)},
            )
        case PaymentAuthorized(request_id=request_id, authorization_id=authorization_id):
            return replace(_closed(payment, request_id, "done"), authorization_id=authorization_id)
        case PaymentOutcomeUnknown(request_id=request_id, checks=checks, next_check_at=next_check_at):
            return _changed(payment, request_id, due_at=next_check_at, unknown=True, checks=checks)
        case PaymentRequestRepeated(request_id=request_id, at=at):
            return _changed(payment, request_id, due_at=at, unknown=False)
        case PaymentCaptureRequested(fulfillment_id=fulfillment_id, amount=amount, lines=lines, at=at):
            shipped = Counter(payment.shipped) + units_of(lines)
            return replace(_added(payment, event.request_id, _open("capture", fulfillment_id, amount, at)), shipped=dict(shipped))
        case PaymentCaptureFailed(request_id="", order_id=order_id, fulfillment_id=fulfillment_id, at=at):
            return _added(payment, request_id_of(order_id, "capture", fulfillment_id), _failed("capture", fulfillment_id, 0, at))
        case PaymentVoidRequested(request_id=request_id, at=at):
            return replace(_added(payment, request_id, _open("void", str(payment.attempt), 0, at)), ended=True)
        case PaymentAbandoned():
            return replace(payment, ended=True)
        case RefundPostponed(refund_id=refund_id, amount=amount, until=until, at=at):
            waiting = PostponedRefund(refund_id=refund_id, amount=amount, since=at, until=until)
            return replace(payment, postponed=(*payment.postponed, waiting))
        case RefundRequested(request_id=request_id, refund_id=refund_id, amount=amount, at=at):
            return _added(_resumed(payment, refund_id), request_id, _open("refund", refund_id, amount, at))
        case RefundFailed(order_id=order_id, refund_id=refund_id, request_id=request_id, at=at) if request_id not in payment.asked:
            # It was never sent. After the timeout it is refunded by hand, so its amount counts; what was not captured here counts zero.
            own_id = request_id_of(order_id, "refund", refund_id)
            amount = sum(waiting.amount for waiting in payment.postponed if request_id == own_id and waiting.refund_id == refund_id)
            return _added(_resumed(payment, refund_id), own_id, _failed("refund", refund_id, amount, at))
        case PaymentCaptured(request_id=request_id) | PaymentVoided(request_id=request_id) | RefundSettled(request_id=request_id):
            return _closed(payment, request_id, "done")
        case PaymentDeclined() | PaymentCaptureFailed() | PaymentVoidFailed() | RefundFailed():
            return _closed(payment, event.request_id, "failed")


def due(order_id: str, payment: Payment) -> tuple[datetime, DueAction] | None:
    """The earliest of what is open. A void waits for the captures requested before it, because nothing can be captured after it."""
    waiting: list[tuple[datetime, str, DueAction]] = []
    for request_id, request in payment.asked.items():
        if request.outcome == "open" and not (request.step == "void" and payment.open("capture")):
            waiting.append((request.due_at, request_id, _effect(order_id, request_id, request, payment)))
    for refund in payment.postponed[:1]:
        if payment.fully_captured:
            waiting.append((refund.since, refund.refund_id, ResumeRefund(order_id=order_id, refund_id=refund.refund_id)))
        else:
            waiting.append((refund.until, refund.refund_id, GiveUpRefund(order_id=order_id, refund_id=refund.refund_id)))
    if not waiting:
        return None
    at, _, first = min(waiting, key=lambda candidate: candidate[:2])
    return at, first


def _authorize(command: AuthorizeOrder, now: datetime) -> list[Event]:
    order_id, attempt, amount, currency = command.order_id, command.attempt, command.amount, command.currency
    request_id = request_id_of(order_id, "authorize", str(attempt))
    requested = PaymentAuthorizationRequested(
        order_id=order_id,
        attempt=attempt,
        request_id=request_id,
        total=command.total,
        amount=amount,
        currency=currency,
        payment=command.payment,
        lines=command.lines,
        at=now,
    )
    held = command.authorization_id if amount else NO_AUTHORIZATION
    if held is None:
        return [requested]
    return [requested, _authorized(order_id, attempt, authorization_id=held, amount=amount, currency=currency, now=now)]


def _authorized(order_id: str, attempt: int, *, authorization_id: str, amount: int, currency: str, now: datetime) -> PaymentAuthorized:
    return PaymentAuthorized(
        order_id=order_id,
        attempt=attempt,
        request_id=request_id_of(order_id, "authorize", str(attempt)),
        authorization_id=authorization_id,
        amount=amount,
        currency=currency,
        at=now,
    )


def _capture(command: CaptureShipment, payment: Payment, now: datetime) -> list[Event]:
    order_id, fulfillment_id, currency = command.order_id, command.fulfillment_id, payment.currency
    request_id = request_id_of(order_id, "capture", fulfillment_id)
    amount = amount_to_capture(payment, command.lines)
    requested = PaymentCaptureRequested(
        order_id=order_id,
        fulfillment_id=fulfillment_id,
        request_id=request_id,
        authorization_id=payment.authorization_id,
        amount=amount,
        currency=currency,
        at=now,
        lines=command.lines,
    )
    if amount:
        return [requested]
    return [requested, _captured(order_id, fulfillment_id, amount=0, currency=currency, now=now)]


def _captured(order_id: str, fulfillment_id: str, *, amount: int, currency: str, now: datetime) -> PaymentCaptured:
    return PaymentCaptured(
        order_id=order_id,
        fulfillment_id=fulfillment_id,
        request_id=request_id_of(order_id, "capture", fulfillment_id),
        amount=amount,
        currency=currency,
        at=now,
    )


def _void(order_id: str, attempt: int, authorization_id: str, amount: int, now: datetime) -> list[Event]:
    request_id = request_id_of(order_id, "void", str(attempt))
    requested = PaymentVoidRequested(order_id=order_id, request_id=request_id, authorization_id=authorization_id, at=now)
    if amount:
        return [requested]
    return [requested, PaymentVoided(order_id=order_id, request_id=request_id, authorization_id=authorization_id, at=now)]


def _refund(order_id: str, refund_id: str, wanted: int, payment: Payment, now: datetime) -> list[Event]:
    """Refund what was captured here; what was paid elsewhere is for a person to refund there."""
    request_id = request_id_of(order_id, "refund", refund_id)
    amount = min(wanted, payment.captured - payment.returned)
    owed = min(wanted - max(0, amount), payment.paid_elsewhere)
    if amount > 0:
        requested = RefundRequested(
            order_id=order_id,
            refund_id=refund_id,
            request_id=request_id,
            amount=amount,
            currency=payment.currency,
            reason=f"return {refund_id}",
            at=now,
        )
        return [requested, _paid_elsewhere(order_id, f"{refund_id}/elsewhere", owed, payment, now)] if owed else [requested]
    if owed:
        return [_paid_elsewhere(order_id, refund_id, owed, payment, now)]
    return [RefundFailed(order_id=order_id, refund_id=refund_id, request_id="", reason="nothing is left to refund", at=now)]


def _paid_elsewhere(order_id: str, refund_id: str, owed: int, payment: Payment, now: datetime) -> RefundFailed:
    reason = f"{owed} {payment.currency} (minor units) were not paid here: refund them where the customer paid"
    request_id = request_id_of(order_id, "refund elsewhere", refund_id)
    return RefundFailed(order_id=order_id, refund_id=refund_id, request_id=request_id, reason=reason, at=now)


def _succeeded(order_id: str, request: ProviderRequest, reference: str, payment: Payment, now: datetime) -> list[Event]:
    request_id = request_id_of(order_id, request.step, request.subject)
    match request.step:
        case "authorize":
            return list(_authorization_made(order_id, reference, payment, now))
        case "capture":
            return [_captured(order_id, request.subject, amount=request.amount, currency=payment.currency, now=now)]
        case "void":
            return [PaymentVoided(order_id=order_id, request_id=request_id, authorization_id=payment.authorization_id, at=now)]
        case _:
            return [
                RefundSettled(
                    order_id=order_id,
                    refund_id=request.subject,
                    request_id=request_id,
                    amount=request.amount,
                    currency=payment.currency,
                    at=now,
                )
            ]


def _authorization_made(order_id: str, authorization_id: str, payment: Payment, now: datetime) -> Iterator[Event]:
    attempt, amount = payment.attempt, payment.amount
    yield _authorized(order_id, attempt, authorization_id=authorization_id, amount=amount, currency=payment.currency, now=now)
    if payment.ended:  # it came too late
        yield from _void(order_id, attempt, authorization_id, amount, now)


def _refused(order_id: str, request: ProviderRequest, reason: str, payment: Payment, now: datetime) -> Event:
    request_id = request_id_of(order_id, request.step, request.subject)
    match request.step:
        case "authorize":
            return PaymentDeclined(order_id=order_id, attempt=payment.attempt, request_id=request_id, reason=reason, at=now)
        case "capture":
            return PaymentCaptureFailed(order_id=order_id, fulfillment_id=request.subject, request_id=request_id, reason=reason, at=now)
        case "void":
            held = payment.authorization_id
            return PaymentVoidFailed(order_id=order_id, request_id=request_id, authorization_id=held, reason=reason, at=now)
        case _:
            return RefundFailed(order_id=order_id, refund_id=request.subject, request_id=request_id, reason=reason, at=now)


def _effect(order_id: str, request_id: str, request: ProviderRequest, payment: Payment) -> Effect:
    effect = _request_effect(order_id, request_id, request, payment)
    return LookUpOutcome(order_id=order_id, request_id=request_id, checks=request.checks, request=effect) if request.unknown else effect


def _request_effect(order_id: str, request_id: str, request: ProviderRequest, payment: Payment) -> Request:
    amount, currency, checks, held = request.amount, payment.currency, request.checks, payment.authorization_id
    match request.step:
        case "authorize":
            assert payment.method is not None
            return RequestAuthorization(
                order_id=order_id, request_id=request_id, checks=checks, amount=amount, currency=currency, payment=payment.method
            )
        case "capture":
            return RequestCapture(
                order_id=order_id, request_id=request_id, checks=checks, authorization_id=held, amount=amount, currency=currency
            )
        case "void":
            return RequestVoid(order_id=order_id, request_id=request_id, checks=checks, authorization_id=held)
        case _:
            return RequestRefund(
                order_id=order_id, request_id=request_id, checks=checks, authorization_id=held, amount=amount, currency=currency
            )


def _open_request(request_id: str, payment: Payment) -> ProviderRequest | None:
    request = payment.asked.get(request_id)
    return request if request is not None and request.outcome == "open" else None


def _is_postponed(refund_id: str, payment: Payment) -> bool:
    return any(waiting.refund_id == refund_id for waiting in payment.postponed)


def _is_next(refund_id: str, payment: Payment) -> bool:
    return bool(payment.postponed) and payment.postponed[0].refund_id == refund_id


def _open(step: str, subject: str, amount: int, at: datetime) -> ProviderRequest:
    return ProviderRequest(step=step, subject=subject, amount=amount, outcome="open", due_at=at)


def _failed(step: str, subject: str, amount: int, at: datetime) -> ProviderRequest:
    return ProviderRequest(step=step, subject=subject, amount=amount, outcome="failed", due_at=at)


def _added(payment: Payment, request_id: str, request: ProviderRequest) -> Payment:
    return replace(payment, asked={**payment.asked, request_id: request})


def _changed(payment: Payment, request_id: str, **changes: object) -> Payment:
    request = payment.asked.get(request_id)
    return payment if request is None else _added(payment, request_id, replace(request, **changes))


def _closed(payment: Payment, request_id: str, outcome: str) -> Payment:
    return _changed(payment, request_id, outcome=outcome, unknown=False)


def _resumed(payment: Payment, refund_id: str) -> Payment:
    return replace(payment, postponed=tuple(waiting for waiting in payment.postponed if waiting.refund_id != refund_id))
