"""The payment of one order: which requests to the provider are allowed, what its responses mean, and what people may do about its money.

A request is recorded before it is sent, and is open until the provider's response is recorded. If there is no response, payment looks the
request up under its key to learn whether it was performed. Nothing is compensated before that.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec import Struct, field
from msgspec.structs import replace
from oms_contracts.message import type_of
from oms_contracts.money import money_text
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
from oms_contracts.values import MAX_REASON_CHARACTERS, PaymentMethod, shortened

from oms_payment.commands import (
    ActOnOutstanding,
    AuthorizeOrder,
    CaptureShipment,
    Command,
    DueAction,
    Effect,
    Event,
    GiveUpRefund,
    LookUpOutcome,
    PersonsCommand,
    RecordRefusal,
    RecordSuccess,
    RecordUnknownOutcome,
    RecordUnknownRequest,
    RefundReturn,
    ReleasePayment,
    RenewAuthorization,
    RepeatCapture,
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
    """The business's settings. The wait before a look-up doubles from `look_up_after` to `look_up_at_most`.

    An authorization is renewed `renew_before` it runs out. A capture is tried `capture_tries` times, with waits that double from
    `capture_retry_after` to `capture_retry_at_most`. A person has `collection_timeout` to see to what is outstanding; then up to
    `write_off_up_to` minor units of a currency are written off.
    """

    look_up_after: timedelta = timedelta(seconds=5)
    look_up_at_most: timedelta = timedelta(hours=1)
    refund_timeout: timedelta = timedelta(days=7)
    renew_before: timedelta = timedelta(days=1)
    capture_tries: int = 5
    capture_retry_after: timedelta = timedelta(hours=1)
    capture_retry_at_most: timedelta = timedelta(days=1)
    collection_timeout: timedelta = timedelta(days=3)
    write_off_up_to: dict[str, int] = field(default_factory=dict[str, int])


def decide(command: Command, payment: Payment, now: datetime, terms: Terms) -> list[Event]:
    """The events that follow from a command: none if it has already had its effect, or comes too late."""
    match command:
        case AuthorizeOrder(attempt=attempt):
            # The next attempt follows our own PaymentDeclined, so the attempt before it is neither open nor held.
            if payment.ended or attempt <= payment.attempt or payment.open("authorize") or payment.authorization_id:
                return []
            return _authorize(command, now)

        case CaptureShipment(fulfillment_id=fulfillment_id):
            if payment.capture_of(fulfillment_id):
                return []
            if payment.ended or not payment.authorization_id:
                return _uncovered(command, payment, now=now, terms=terms)
            return _capture(command, payment, now)

        case RepeatCapture(order_id=order_id, fulfillment_id=fulfillment_id):
            request = payment.capture_of(fulfillment_id)
            if request is None or request.outcome != "refused" or payment.open("authorize"):
                return []
            if payment.ended or not payment.authorization_id:
                return _capture_failed(order_id, request, "nothing is held for this order any more", payment, now=now, terms=terms)
            return [_capture_again(order_id, request, payment.authorization_id, payment, now)]

        case RenewAuthorization(order_id=order_id, authorization_id=authorization_id):
            if _renew_at(payment, terms) is None or authorization_id != payment.authorization_id or payment.method is None:
                return []
            expired = PaymentAuthorizationExpired(
                order_id=order_id, authorization_id=authorization_id, amount=payment.unpaid, currency=payment.currency, at=now
            )
            return [expired, _renewal(order_id, payment.method, payment, now)]

        case ActOnOutstanding(order_id=order_id, deadline=deadline):
            # The deadline is matched, not compared with the clock: an earlier one is no longer due.
            if _collect_by(payment, terms) != deadline:
                return []
            return _overdue(order_id, payment, now=now, terms=terms)

        case RetryCapture() | PayOutstanding() | WriteOffPayment():
            return _collect(command, payment, now)

        case ReleasePayment(order_id=order_id, reason=reason):
            if payment.ended:
                return []
            if payment.authorization_id:
                return _void(order_id, payment.attempt, payment.authorization_id, payment.amount, now=now)
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

        case RecordSuccess(request_id=request_id):
            request = _open_request(request_id, payment)
            return _succeeded(command, request, payment, now) if request else []

        case RecordRefusal(request_id=request_id, reason=reason):
            request = _open_request(request_id, payment)
            bounded = shortened(reason, MAX_REASON_CHARACTERS)  # it is the provider's text
            return _refused(replace(command, reason=bounded), request, payment, now=now, terms=terms) if request else []

        case RecordUnknownOutcome(order_id=order_id, request_id=request_id, checks=checks):
            request = _open_request(request_id, payment)
            if request is None or request.checks != checks:
                return []
            wait = _backoff(terms.look_up_after, terms.look_up_at_most, checks)
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
                authorizations=payment.authorizations + 1,
                lapsed=False,
                collect_by=None,
            )
        case PaymentRenewalRequested(request_id=request_id, attempt=attempt, amount=amount, at=at):
            earlier = {key: request for key, request in payment.asked.items() if request.step != "authorize"}
            number = payment.authorizations + 1
            asked = {**earlier, request_id: replace(_open("authorize", str(attempt), amount, at), tries=number)}
            return replace(payment, method=event.payment, asked=asked, authorizations=number)
        case PaymentAuthorized(request_id=request_id, authorization_id=authorization_id, expires_at=expires_at, at=at):
            authorized = replace(_closed(payment, request_id, "done"), authorization_id=authorization_id, lapsed=False)
            # A time that has passed already says nothing: it would be renewed without end.
            until = expires_at if expires_at is not None and expires_at > at else None
            return _collected(replace(authorized, authorized_at=at if until else None, expires_at=until))
        case PaymentAuthorizationExpired():
            return replace(payment, authorization_id="", authorized_at=None, expires_at=None, lapsed=True)
        case PaymentOutcomeUnknown(request_id=request_id, checks=checks, next_check_at=next_check_at):
            return _changed(payment, request_id, due_at=next_check_at, unknown=True, checks=checks)
        case PaymentRequestRepeated(request_id=request_id, at=at):
            return _changed(payment, request_id, due_at=at, unknown=False)
        case PaymentCaptureRequested(fulfillment_id=fulfillment_id, amount=amount, lines=lines, at=at):
            if earlier := payment.capture_of(fulfillment_id):
                again = replace(
                    earlier,
                    outcome="open",
                    due_at=at,
                    unknown=False,
                    checks=0,
                    tries=earlier.tries + 1,
                    authorization_id=event.authorization_id,
                )
                others = {key: request for key, request in payment.asked.items() if request is not earlier}
                return replace(payment, asked={**others, event.request_id: again})
            units = units_of(lines)
            request = replace(_open("capture", fulfillment_id, amount, at), units=units.total(), authorization_id=event.authorization_id)
            return replace(_added(payment, event.request_id, request), shipped=dict(Counter(payment.shipped) + units))
        case PaymentCaptureFailed(request_id="", order_id=order_id, fulfillment_id=fulfillment_id, amount=amount, lines=lines, at=at):
            units = units_of(lines)
            request = replace(_failed("capture", fulfillment_id, amount or 0, at), units=units.total())
            asked = _added(payment, request_id_of(order_id, "capture", fulfillment_id), request)
            return replace(asked, shipped=dict(Counter(payment.shipped) + units))
        case PaymentCaptureRefused(request_id=request_id, retry_at=retry_at):
            return _changed(payment, request_id, outcome="refused", unknown=False, due_at=retry_at)
        case PaymentCollectionRequired(deadline=deadline):
            return replace(payment, collect_by=deadline)
        case PaymentWrittenOff(fulfillment_id=fulfillment_id):
            asked = {
                key: replace(request, outcome="written_off") if request.step == "capture" and request.subject == fulfillment_id else request
                for key, request in payment.asked.items()
            }
            return _collected(replace(payment, asked=asked))
        case PaymentCommandRefused():
            return replace(payment, refusal=_refusal(event))
        case PaymentVoidRequested(request_id=request_id, authorization_id=authorization_id, at=at):
            request = replace(_open("void", str(payment.attempt), 0, at), authorization_id=authorization_id)
            # An authorization that another one has taken the place of is voided, and the order goes on.
            ended = payment.ended or authorization_id == payment.authorization_id
            return replace(_added(payment, request_id, request), ended=ended)
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
        case PaymentCaptured(request_id=request_id):
            return _collected(_closed(payment, request_id, "done"))
        case PaymentVoided(request_id=request_id) | RefundSettled(request_id=request_id):
            return _closed(payment, request_id, "done")
        case PaymentDeclined() | PaymentCaptureFailed() | PaymentVoidFailed() | RefundFailed():
            return _closed(payment, event.request_id, "failed")


def due(order_id: str, payment: Payment, terms: Terms) -> tuple[datetime, DueAction] | None:
    """The earliest of what is open. A void waits for the captures requested before it, because nothing can be captured after it."""
    waiting: list[tuple[datetime, str, DueAction]] = []
    for request_id, request in payment.asked.items():
        if request.outcome == "open" and not (request.step == "void" and payment.open("capture")):
            waiting.append((request.due_at, request_id, _effect(order_id, request_id, request, payment)))
    if renew_at := _renew_at(payment, terms):
        waiting.append((renew_at, "", RenewAuthorization(order_id=order_id, authorization_id=payment.authorization_id)))
    for request in payment.uncollected.values():
        if request.outcome == "refused" and not payment.open("authorize"):
            again = RepeatCapture(order_id=order_id, fulfillment_id=request.subject)
            waiting.append((request.due_at, request.subject, again))
    if collect_by := _collect_by(payment, terms):
        waiting.append((collect_by, "", ActOnOutstanding(order_id=order_id, deadline=collect_by)))
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
    authorized = PaymentAuthorized(
        order_id=order_id, attempt=attempt, request_id=request_id, authorization_id=held, amount=amount, currency=currency, at=now
    )
    return [requested, authorized]


def _renewal(order_id: str, method: PaymentMethod, payment: Payment, now: datetime) -> PaymentRenewalRequested:
    return PaymentRenewalRequested(
        order_id=order_id,
        attempt=payment.attempt,
        request_id=request_id_of(order_id, "authorize", str(payment.attempt), payment.authorizations + 1),
        amount=payment.unpaid,
        currency=payment.currency,
        payment=method,
        at=now,
    )


def _renew_at(payment: Payment, terms: Terms) -> datetime | None:
    """When the authorization is renewed. None where it does not run out, or nothing more is captured of it."""
    if payment.expires_at is None or payment.authorized_at is None or payment.ended or not payment.unpaid:
        return None
    if payment.open("authorize") or payment.open("capture"):
        return None
    return payment.expires_at - min(terms.renew_before, (payment.expires_at - payment.authorized_at) / 2)


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
    captured = PaymentCaptured(
        order_id=order_id,
        fulfillment_id=fulfillment_id,
        request_id=request_id,
        amount=0,
        currency=currency,
        at=now,
        units=units_of(command.lines).total(),
        outstanding=payment.outstanding,
    )
    return [requested, captured]


def _capture_again(
    order_id: str, request: ProviderRequest, authorization_id: str, payment: Payment, now: datetime
) -> PaymentCaptureRequested:
    return PaymentCaptureRequested(
        order_id=order_id,
        fulfillment_id=request.subject,
        request_id=request_id_of(order_id, "capture", request.subject, request.tries + 1),
        authorization_id=authorization_id,
        amount=request.amount,
        currency=payment.currency,
        at=now,
    )


def _uncovered(command: CaptureShipment, payment: Payment, *, now: datetime, terms: Terms) -> list[Event]:
    """Goods shipped while nothing is held that could be captured."""
    order_id, fulfillment_id, reason = command.order_id, command.fulfillment_id, "nothing is held for this order"
    amount = amount_to_capture(payment, command.lines) if payment.attempt else 0
    failed = PaymentCaptureFailed(
        order_id=order_id, fulfillment_id=fulfillment_id, request_id="", reason=reason, at=now, amount=amount, lines=command.lines
    )
    return (
        [failed, _collection_required(order_id, payment, payment.outstanding + amount, reason, now=now, terms=terms)]
        if amount
        else [failed]
    )


def _collection_required(
    order_id: str, payment: Payment, outstanding: int, reason: str, *, now: datetime, terms: Terms
) -> PaymentCollectionRequired:
    return PaymentCollectionRequired(
        order_id=order_id,
        outstanding=outstanding,
        currency=payment.currency,
        reason=reason,
        deadline=now + terms.collection_timeout,
        at=now,
    )


def _collect_by(payment: Payment, terms: Terms) -> datetime | None:
    """When somebody must have seen to what failed; None while nothing waits for a person.

    Captures that failed before people were asked to collect have no deadline in their events: it follows from when they failed.
    """
    failed = [request.due_at for request in payment.uncollected.values() if request.outcome == "failed" and request.amount]
    if payment.open("authorize") or not (failed or (payment.lapsed and not payment.ended)):
        return None
    return payment.collect_by or (min(failed) + terms.collection_timeout if failed else None)


def _overdue(order_id: str, payment: Payment, *, now: datetime, terms: Terms) -> list[Event]:
    """Nobody collected what is outstanding in time: the policy writes it off, or it is asked for again."""
    limit = terms.write_off_up_to.get(payment.currency, 0)
    if 0 < payment.outstanding <= limit and not payment.open("capture"):
        return _write_off(order_id, f"by policy: up to {money_text(limit, payment.currency)} is written off", payment, now)
    return [_collection_required(order_id, payment, payment.outstanding, "it was not collected in time", now=now, terms=terms)]


def _write_off(order_id: str, reason: str, payment: Payment, now: datetime) -> list[Event]:
    events: list[Event] = []
    outstanding = payment.outstanding
    for request in payment.uncollected.values():
        outstanding -= request.amount
        events.append(
            PaymentWrittenOff(
                order_id=order_id,
                fulfillment_id=request.subject,
                amount=request.amount,
                currency=payment.currency,
                units=request.units,
                outstanding=outstanding,
                reason=reason,
                at=now,
            )
        )
    return events


def _collect(command: RetryCapture | PayOutstanding | WriteOffPayment, payment: Payment, now: datetime) -> list[Event]:
    """What a person does about money that could not be captured."""
    order_id = command.order_id
    if payment.open("capture") or payment.open("authorize"):
        # The same command may come twice, and is under way then.
        if isinstance(command, RetryCapture) and payment.outstanding:
            return []
        if isinstance(command, PayOutstanding) and payment.open("authorize") and command.payment == payment.method:
            return []
        return _refuse(command, "a request to the provider is under way: wait for its outcome", payment, now)
    if not any(request.amount for request in payment.uncollected.values()) and not (
        isinstance(command, PayOutstanding) and payment.lapsed and not payment.ended
    ):
        return _refuse(command, "nothing is outstanding", payment, now)
    match command:
        case WriteOffPayment(reason=reason):
            return _write_off(order_id, reason, payment, now)
        case RetryCapture():
            if payment.ended or not payment.authorization_id:
                return _refuse(command, "nothing is held any more: take another means of payment", payment, now)
            held = payment.authorization_id
            return [_capture_again(order_id, request, held, payment, now) for request in payment.uncollected.values()]
        case PayOutstanding():
            if payment.ended:
                return _refuse(command, "the order has ended: collect the money elsewhere, and write it off here", payment, now)
            if not command.payment.token.strip():
                return _refuse(command, "payment.token: must not be empty", payment, now)
            return [_renewal(order_id, command.payment, payment, now)]


def _refuse(command: PersonsCommand, reason: str, payment: Payment, now: datetime) -> list[Event]:
    """The refusal of a command that does not fit. The same refusal twice in a row is published once."""
    refused = PaymentCommandRefused(order_id=command.order_id, command=type_of(command).name, reason=reason, at=now)
    return [] if _refusal(refused) == payment.refusal else [refused]


def _refusal(event: PaymentCommandRefused) -> str:
    return f"{event.command}: {event.reason}"


def _void(order_id: str, attempt: int, authorization_id: str, amount: int, *, now: datetime, number: int = 1) -> list[Event]:
    request_id = request_id_of(order_id, "void", str(attempt), number)
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


def _succeeded(command: RecordSuccess, request: ProviderRequest, payment: Payment, now: datetime) -> list[Event]:
    order_id, request_id = command.order_id, command.request_id
    match request.step:
        case "authorize":
            return list(_authorization_made(command, request, payment, now))
        case "capture":
            return [
                PaymentCaptured(
                    order_id=order_id,
                    fulfillment_id=request.subject,
                    request_id=request_id,
                    amount=request.amount,
                    currency=payment.currency,
                    at=now,
                    units=request.units,
                    outstanding=payment.outstanding - (request.amount if request.tries > 1 else 0),
                )
            ]
        case "void":
            return [PaymentVoided(order_id=order_id, request_id=request_id, authorization_id=_held_by(request, payment), at=now)]
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


def _authorization_made(command: RecordSuccess, request: ProviderRequest, payment: Payment, now: datetime) -> Iterator[Event]:
    order_id, attempt, authorization_id = command.order_id, payment.attempt, command.reference
    yield PaymentAuthorized(
        order_id=order_id,
        attempt=attempt,
        request_id=command.request_id,
        authorization_id=authorization_id,
        amount=request.amount,
        currency=payment.currency,
        at=now,
        expires_at=command.expires_at,
        outstanding=payment.outstanding,
    )
    if payment.ended:  # it came too late
        yield from _void(order_id, attempt, authorization_id, request.amount, now=now, number=request.tries)
        return
    for uncollected in payment.uncollected.values():
        yield _capture_again(order_id, uncollected, authorization_id, payment, now)
    if payment.authorization_id:
        request_id = request_id_of(order_id, "void", str(attempt), payment.authorizations)
        yield PaymentVoidRequested(order_id=order_id, request_id=request_id, authorization_id=payment.authorization_id, at=now)


def _held_by(request: ProviderRequest, payment: Payment) -> str:
    """The authorization that a request is about. Requests from before it was kept are about the only one."""
    return request.authorization_id or payment.authorization_id


def _refused(command: RecordRefusal, request: ProviderRequest, payment: Payment, *, now: datetime, terms: Terms) -> list[Event]:
    order_id, request_id, reason = command.order_id, command.request_id, command.reason
    match request.step:
        case "authorize":
            declined = PaymentDeclined(order_id=order_id, attempt=payment.attempt, request_id=request_id, reason=reason, at=now)
            if payment.ended or request.tries == 1:
                return [declined]
            return [declined, _collection_required(order_id, payment, payment.outstanding, reason, now=now, terms=terms)]
        case "capture":
            return _capture_refused(order_id, request, reason, payment, now=now, terms=terms)
        case "void":
            held = _held_by(request, payment)
            return [PaymentVoidFailed(order_id=order_id, request_id=request_id, authorization_id=held, reason=reason, at=now)]
        case _:
            return [RefundFailed(order_id=order_id, refund_id=request.subject, request_id=request_id, reason=reason, at=now)]


def _capture_refused(order_id: str, request: ProviderRequest, reason: str, payment: Payment, *, now: datetime, terms: Terms) -> list[Event]:
    """It is asked for again, until it was asked for often enough: then a person must collect it."""
    if request.tries < terms.capture_tries and not payment.ended:
        wait = _backoff(terms.capture_retry_after, terms.capture_retry_at_most, request.tries - 1)
        return [
            PaymentCaptureRefused(
                order_id=order_id,
                fulfillment_id=request.subject,
                request_id=request_id_of(order_id, "capture", request.subject, request.tries),
                amount=request.amount,
                currency=payment.currency,
                reason=reason,
                retry_at=now + wait,
                at=now,
            )
        ]
    return _capture_failed(order_id, request, reason, payment, now=now, terms=terms)


def _backoff(first: timedelta, longest: timedelta, earlier: int) -> timedelta:
    """How long to wait after so many earlier waits: twice as long each time."""
    return min(longest, first * 2 ** min(earlier, 20))


def _capture_failed(order_id: str, request: ProviderRequest, reason: str, payment: Payment, *, now: datetime, terms: Terms) -> list[Event]:
    request_id = request_id_of(order_id, "capture", request.subject, request.tries)
    is_new = request.tries == 1 and request.outcome == "open"
    outstanding = payment.outstanding + (request.amount if is_new else 0)
    failed = PaymentCaptureFailed(
        order_id=order_id, fulfillment_id=request.subject, request_id=request_id, reason=reason, at=now, amount=request.amount
    )
    return [failed, _collection_required(order_id, payment, outstanding, reason, now=now, terms=terms)]


def _effect(order_id: str, request_id: str, request: ProviderRequest, payment: Payment) -> Effect:
    effect = _request_effect(order_id, request_id, request, payment)
    return LookUpOutcome(order_id=order_id, request_id=request_id, checks=request.checks, request=effect) if request.unknown else effect


def _request_effect(order_id: str, request_id: str, request: ProviderRequest, payment: Payment) -> Request:
    amount, currency, checks, held = request.amount, payment.currency, request.checks, _held_by(request, payment)
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


def _collected(payment: Payment) -> Payment:
    """Nobody needs to see to anything once nothing is outstanding."""
    return payment if payment.collect_by is None or payment.outstanding or payment.lapsed else replace(payment, collect_by=None)


def _resumed(payment: Payment, refund_id: str) -> Payment:
    return replace(payment, postponed=tuple(waiting for waiting in payment.postponed if waiting.refund_id != refund_id))
