from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from msgspec.structs import replace
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
from oms_payment.commands import (
    ActOnOutstanding,
    AuthorizeOrder,
    CaptureShipment,
    Command,
    Event,
    GiveUpRefund,
    LookUpOutcome,
    RecordRefusal,
    RecordSuccess,
    RecordUnknownOutcome,
    RecordUnknownRequest,
    RefundReturn,
    ReleasePayment,
    RenewAuthorization,
    RepeatCapture,
    RequestAuthorization,
    RequestCapture,
    RequestRefund,
    RequestVoid,
    ResumeRefund,
)
from oms_payment.decider import Terms, decide, due, evolve
from oms_payment.money import INITIAL, Payment

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TERMS = Terms(
    look_up_after=timedelta(seconds=10),
    look_up_at_most=timedelta(minutes=1),
    refund_timeout=timedelta(days=7),
    capture_tries=3,
    write_off_up_to={"EUR": 10_00},
)
CARD = PaymentMethod(kind="card", token="tok_visa")  # no secret
SOCKS = ChargedLine(line_id="1", sku="SOCKS", quantity=3, amount=10_00)
AUTHORIZE, VOID = "O:authorize:1", "O:void:1"


def authorize(attempt: int = 1, *, lines: tuple[ChargedLine, ...] = (SOCKS,), shipping: int = 5_00) -> AuthorizeOrder:
    total = sum(line.amount for line in lines) + shipping
    return AuthorizeOrder(order_id="O", attempt=attempt, total=total, amount=total, currency="EUR", payment=CARD, lines=lines)


def requested(attempt: int = 1) -> PaymentAuthorizationRequested:
    return PaymentAuthorizationRequested(
        order_id="O",
        attempt=attempt,
        request_id=f"O:authorize:{attempt}",
        total=15_00,
        amount=15_00,
        currency="EUR",
        payment=CARD,
        lines=(SOCKS,),
        at=NOON,
    )


def authorized(attempt: int = 1) -> PaymentAuthorized:
    request_id = f"O:authorize:{attempt}"
    return PaymentAuthorized(
        order_id="O", attempt=attempt, request_id=request_id, authorization_id="auth", amount=15_00, currency="EUR", at=NOON
    )


def declined(attempt: int = 1) -> PaymentDeclined:
    return PaymentDeclined(order_id="O", attempt=attempt, request_id=f"O:authorize:{attempt}", reason="no funds", at=NOON)


def unknown(checks: int, wait: timedelta, request_id: str = AUTHORIZE) -> PaymentOutcomeUnknown:
    return PaymentOutcomeUnknown(order_id="O", request_id=request_id, checks=checks, next_check_at=NOON + wait, at=NOON)


def ship(fulfillment_id: str, *units: int) -> CaptureShipment:
    """One number per line: how many units of it this fulfillment shipped."""
    return CaptureShipment(order_id="O", fulfillment_id=fulfillment_id, lines=allocated(*units))


def allocated(*units: int) -> tuple[AllocatedLine, ...]:
    return tuple(AllocatedLine(line_id=str(n), sku="S", location="X", quantity=q) for n, q in enumerate(units, 1) if q)


def capture_requested(fulfillment_id: str, amount: int, *units: int) -> PaymentCaptureRequested:
    return PaymentCaptureRequested(
        order_id="O",
        fulfillment_id=fulfillment_id,
        request_id=f"O:capture:{fulfillment_id}",
        authorization_id="auth",
        amount=amount,
        currency="EUR",
        lines=allocated(*units),
        at=NOON,
    )


def captured(fulfillment_id: str, amount: int, units: int = 3, number: int = 1, outstanding: int = 0) -> PaymentCaptured:
    return PaymentCaptured(
        order_id="O",
        fulfillment_id=fulfillment_id,
        request_id=capture_id(fulfillment_id, number),
        amount=amount,
        currency="EUR",
        at=NOON,
        units=units,
        outstanding=outstanding,
    )


def capture_id(fulfillment_id: str, number: int = 1) -> str:
    return f"O:capture:{fulfillment_id}" if number == 1 else f"O:capture {number}:{fulfillment_id}"


def capture_failed(fulfillment_id: str, reason: str, request_id: str = "", amount: int | None = None) -> PaymentCaptureFailed:
    return PaymentCaptureFailed(order_id="O", fulfillment_id=fulfillment_id, request_id=request_id, reason=reason, at=NOON, amount=amount)


def capture_refused(fulfillment_id: str, amount: int, wait: timedelta, number: int = 1) -> PaymentCaptureRefused:
    return PaymentCaptureRefused(
        order_id="O",
        fulfillment_id=fulfillment_id,
        request_id=capture_id(fulfillment_id, number),
        amount=amount,
        currency="EUR",
        reason="no funds",
        retry_at=NOON + wait,
        at=NOON,
    )


def requested_again(fulfillment_id: str, amount: int, number: int, authorization_id: str = "auth") -> PaymentCaptureRequested:
    again = capture_requested(fulfillment_id, amount)
    return replace(again, request_id=capture_id(fulfillment_id, number), authorization_id=authorization_id)


def collection_required(outstanding: int, reason: str = "no funds") -> PaymentCollectionRequired:
    deadline = NOON + timedelta(days=3)
    return PaymentCollectionRequired(order_id="O", outstanding=outstanding, currency="EUR", reason=reason, deadline=deadline, at=NOON)


def refused_command(command: str, reason: str) -> PaymentCommandRefused:
    return PaymentCommandRefused(order_id="O", command=f"oms.payment.{command}.v1", reason=reason, at=NOON)


def void_requested(authorization_id: str = "auth") -> PaymentVoidRequested:
    return PaymentVoidRequested(order_id="O", request_id=VOID, authorization_id=authorization_id, at=NOON)


def voided(authorization_id: str = "auth") -> PaymentVoided:
    return PaymentVoided(order_id="O", request_id=VOID, authorization_id=authorization_id, at=NOON)


def refund(refund_id: str, amount: int) -> RefundReturn:
    return RefundReturn(order_id="O", refund_id=refund_id, amount=amount)


def refund_requested(refund_id: str, amount: int) -> RefundRequested:
    return RefundRequested(
        order_id="O",
        refund_id=refund_id,
        request_id=f"O:refund:{refund_id}",
        amount=amount,
        currency="EUR",
        reason=f"return {refund_id}",
        at=NOON,
    )


def refund_postponed(refund_id: str, amount: int) -> RefundPostponed:
    return RefundPostponed(order_id="O", refund_id=refund_id, amount=amount, until=NOON + timedelta(days=7), at=NOON)


def refund_failed(refund_id: str, reason: str, request_id: str = "") -> RefundFailed:
    return RefundFailed(order_id="O", refund_id=refund_id, request_id=request_id, reason=reason, at=NOON)


def success(request_id: str, reference: str = "auth") -> RecordSuccess:
    return RecordSuccess(order_id="O", request_id=request_id, reference=reference)


def refusal(request_id: str, reason: str = "no funds") -> RecordRefusal:
    return RecordRefusal(order_id="O", request_id=request_id, reason=reason)


def timed_out(checks: int, request_id: str = AUTHORIZE) -> RecordUnknownOutcome:
    return RecordUnknownOutcome(order_id="O", request_id=request_id, checks=checks)


def unknown_request(checks: int, request_id: str = AUTHORIZE) -> RecordUnknownRequest:
    return RecordUnknownRequest(order_id="O", request_id=request_id, checks=checks)


RELEASE = ReleasePayment(order_id="O", reason="changed my mind")
ABANDONED = PaymentAbandoned(order_id="O", reason="changed my mind", at=NOON)
HELD: list[Event] = [requested(), authorized()]
SHIPPED: list[Event] = [*HELD, capture_requested("O/X", 15_00, 3), captured("O/X", 15_00)]


def folded(events: Sequence[Event]) -> Payment:
    return reduce(evolve, events, INITIAL)


def outcome(*, given: Sequence[Event], when: Command) -> list[Event]:
    return decide(when, folded(given), NOON, TERMS)


def due_after(events: Sequence[Event]) -> tuple[datetime, object] | None:
    return due("O", folded(events), TERMS)


class TestAuthorization:
    def test_a_reserved_order_is_authorized(self):
        assert outcome(given=[], when=authorize()) == [requested()]
        effect = RequestAuthorization(order_id="O", request_id=AUTHORIZE, checks=0, amount=15_00, currency="EUR", payment=CARD)
        assert due_after([requested()]) == (NOON, effect)

    def test_the_same_attempt_again_changes_nothing(self):
        for history in ([requested()], HELD, [requested(), declined()]):
            assert outcome(given=history, when=authorize()) == []

    def test_the_provider_authorizes(self):
        assert outcome(given=[requested()], when=success(AUTHORIZE)) == [authorized()]
        assert due_after(HELD) is None

    def test_the_provider_declines(self):
        assert outcome(given=[requested()], when=refusal(AUTHORIZE)) == [declined()]
        assert due_after([requested(), declined()]) is None

    def test_another_means_of_payment_is_another_attempt(self):
        assert outcome(given=[requested(), declined()], when=authorize(2)) == [requested(2)]

    def test_a_response_to_an_earlier_attempt_does_not_change_the_newest(self):
        assert outcome(given=[requested(), declined(), requested(2)], when=success(AUTHORIZE)) == []

    def test_no_further_attempt_is_requested_while_one_is_open_or_authorized(self):
        assert outcome(given=[requested()], when=authorize(2)) == []
        assert outcome(given=HELD, when=authorize(2)) == []

    @pytest.mark.parametrize(
        "response", [success(AUTHORIZE), refusal(AUTHORIZE), timed_out(0), timed_out(1), unknown_request(0), unknown_request(1)]
    )
    @pytest.mark.parametrize("given", [HELD, [requested(), declined()], []])
    def test_a_response_without_an_open_request_changes_nothing(self, response: Command, given: list[Event]):
        assert outcome(given=given, when=response) == []

    def test_what_the_channel_has_had_held_is_authorized_without_a_request(self):
        events = outcome(given=[], when=replace(authorize(), authorization_id="channel's"))
        assert events == [requested(), replace(authorized(), authorization_id="channel's")]
        assert due_after(events) is None
        shipped = outcome(given=events, when=ship("O/X", 3))
        assert shipped == [replace(capture_requested("O/X", 15_00, 3), authorization_id="channel's")]
        effect = RequestCapture(
            order_id="O", request_id="O:capture:O/X", checks=0, authorization_id="channel's", amount=15_00, currency="EUR"
        )
        assert due_after([*events, *shipped]) == (NOON, effect)
        assert outcome(given=events, when=RELEASE) == [void_requested("channel's")]

    def test_an_order_of_which_nothing_is_ours_is_authorized_and_captured_for_nothing(self):
        events = outcome(given=[], when=replace(authorize(), amount=0))
        assert events == [replace(requested(), amount=0), replace(authorized(), amount=0, authorization_id="none")]
        shipped = outcome(given=events, when=ship("O/X", 3))
        assert shipped == [replace(capture_requested("O/X", 0, 3), authorization_id="none"), captured("O/X", 0)]
        returned = outcome(given=[*events, *shipped], when=RefundReturn(order_id="O", refund_id="R", amount=10_00))
        [failed] = returned
        assert isinstance(failed, RefundFailed)
        assert failed.request_id
        assert failed.reason == "1000 EUR (minor units) were not paid here: refund them where the customer paid"
        assert outcome(given=[*events, *shipped, *returned], when=RefundReturn(order_id="O", refund_id="R", amount=10_00)) == []

    def test_what_was_paid_elsewhere_is_used_up_first(self):
        history: list[Event] = [replace(requested(), amount=6_00), replace(authorized(), amount=6_00)]
        for fulfillment_id, amount in (("O/X", 0), ("O/Y", 99), ("O/Z", 5_01)):
            events = outcome(given=history, when=ship(fulfillment_id, 1))
            assert sum(event.amount for event in events if isinstance(event, PaymentCaptureRequested)) == amount
            history += events

    def test_an_order_that_costs_nothing_needs_no_provider(self):
        free = replace(SOCKS, amount=0)
        events = outcome(given=[], when=authorize(lines=(free,), shipping=0))
        assert events == [
            replace(requested(), total=0, amount=0, lines=(free,)),
            replace(authorized(), amount=0, authorization_id="none"),
        ]
        assert due_after(events) is None
        shipped = outcome(given=events, when=ship("O/X", 3))
        assert shipped == [replace(capture_requested("O/X", 0, 3), authorization_id="none"), captured("O/X", 0)]
        assert due_after([*events, *shipped]) is None
        assert outcome(given=events, when=RELEASE) == [void_requested("none"), voided("none")]


class TestUnknownOutcome:
    TIMED_OUT: Sequence[Event] = (requested(), unknown(1, timedelta(seconds=10)))

    def test_a_timeout_is_followed_by_look_ups_with_growing_waits(self):
        assert outcome(given=[requested()], when=timed_out(0)) == [unknown(1, timedelta(seconds=10))]
        assert outcome(given=self.TIMED_OUT, when=timed_out(1)) == [unknown(2, timedelta(seconds=20))]
        assert outcome(given=[requested(), unknown(2, timedelta())], when=timed_out(2)) == [unknown(3, timedelta(seconds=40))]
        assert outcome(given=[requested(), unknown(3, timedelta())], when=timed_out(3)) == [unknown(4, timedelta(minutes=1))]
        assert outcome(given=[requested(), unknown(9_999, timedelta())], when=timed_out(9_999)) == [unknown(10_000, timedelta(minutes=1))]

    def test_the_outcome_is_looked_up_under_the_same_key(self):
        request = RequestAuthorization(order_id="O", request_id=AUTHORIZE, checks=1, amount=15_00, currency="EUR", payment=CARD)
        look_up = LookUpOutcome(order_id="O", request_id=AUTHORIZE, checks=1, request=request)
        assert due_after(self.TIMED_OUT) == (NOON + timedelta(seconds=10), look_up)

    def test_the_same_timeout_counts_once(self):
        assert outcome(given=self.TIMED_OUT, when=timed_out(0)) == []

    def test_the_looked_up_outcome_is_the_outcome(self):
        assert outcome(given=self.TIMED_OUT, when=success(AUTHORIZE)) == [authorized()]
        assert outcome(given=self.TIMED_OUT, when=refusal(AUTHORIZE)) == [declined()]

    def test_a_request_unknown_to_the_provider_is_sent_again_under_the_same_key(self):
        repeated = PaymentRequestRepeated(order_id="O", request_id=AUTHORIZE, at=NOON)
        assert outcome(given=self.TIMED_OUT, when=unknown_request(1)) == [repeated]
        request = RequestAuthorization(order_id="O", request_id=AUTHORIZE, checks=1, amount=15_00, currency="EUR", payment=CARD)
        assert due_after([*self.TIMED_OUT, repeated]) == (NOON, request)
        assert outcome(given=[*self.TIMED_OUT, repeated], when=unknown_request(1)) == []

    def test_an_old_look_up_does_not_send_again(self):
        assert outcome(given=[requested(), unknown(2, timedelta())], when=unknown_request(1)) == []

    def test_while_one_outcome_is_unknown_the_other_requests_continue(self):
        history: list[Event] = [
            *HELD,
            capture_requested("O/X", 8_33, 1),
            unknown(1, timedelta(hours=1), "O:capture:O/X"),
            capture_requested("O/Y", 6_67, 2),
        ]
        effect = RequestCapture(order_id="O", request_id="O:capture:O/Y", checks=0, authorization_id="auth", amount=6_67, currency="EUR")
        assert due_after(history) == (NOON, effect)


class TestCapture:
    def test_a_shipment_is_captured(self):
        assert outcome(given=HELD, when=ship("O/X", 3)) == [capture_requested("O/X", 15_00, 3)]
        effect = RequestCapture(order_id="O", request_id="O:capture:O/X", checks=0, authorization_id="auth", amount=15_00, currency="EUR")
        assert due_after([*HELD, capture_requested("O/X", 15_00, 3)]) == (NOON, effect)

    def test_it_is_captured_once(self):
        for history in ([*HELD, capture_requested("O/X", 15_00, 3)], SHIPPED):
            assert outcome(given=history, when=ship("O/X", 3)) == []

    def test_parts_add_up_to_the_total_and_each_bears_its_share_of_the_shipping(self):
        history = list(HELD)
        for fulfillment_id, amount in (("O/X", 4_99), ("O/Y", 5_00), ("O/Z", 5_01)):
            events = outcome(given=history, when=ship(fulfillment_id, 1))
            assert events == [capture_requested(fulfillment_id, amount, 1)]
            history += events

    def test_a_line_in_several_packages_is_one_sum(self):
        twice = replace(ship("O/X"), lines=(*allocated(1), *allocated(2)))
        assert outcome(given=HELD, when=twice) == [replace(capture_requested("O/X", 15_00), lines=twice.lines)]

    def test_more_units_than_were_sold_cost_no_more(self):
        assert outcome(given=HELD, when=ship("O/X", 9)) == [capture_requested("O/X", 15_00, 9)]

    def test_no_more_is_captured_than_is_held(self):
        history: list[Event] = [replace(requested(), amount=12_00), replace(authorized(), amount=12_00)]
        assert outcome(given=history, when=ship("O/X", 3)) == [capture_requested("O/X", 12_00, 3)]

    def test_a_shipment_of_free_goods_needs_no_provider(self):
        history: list[Event] = [*HELD, capture_requested("O/X", 15_00, 3), captured("O/X", 15_00)]
        assert outcome(given=history, when=ship("O/Y", 0, 1)) == [capture_requested("O/Y", 0, 0, 1), captured("O/Y", 0, 1)]

    def test_the_provider_captures(self):
        history: list[Event] = [*HELD, capture_requested("O/X", 15_00, 3)]
        assert outcome(given=history, when=success("O:capture:O/X", "c-1")) == [captured("O/X", 15_00)]
        assert outcome(given=SHIPPED, when=success("O:capture:O/X", "c-1")) == []

    def test_a_failed_capture_is_not_added_to_the_next_shipment(self):
        history: list[Event] = [*HELD, capture_requested("O/X", 8_33, 1), capture_failed("O/X", "expired", "O:capture:O/X")]
        assert outcome(given=history, when=ship("O/Y", 2)) == [capture_requested("O/Y", 6_67, 2)]

    @pytest.mark.parametrize(
        ("history", "amount"),
        [
            ([], 0),
            ([requested()], 15_00),
            ([*HELD, void_requested()], 15_00),
            ([*HELD, void_requested(), voided()], 15_00),
            ([ABANDONED], 0),
        ],
    )
    def test_a_shipment_for_which_nothing_is_held_fails_once_and_somebody_must_collect_what_it_costs(
        self, history: list[Event], amount: int
    ):
        reason = "nothing is held for this order"
        failed = replace(capture_failed("O/X", reason, amount=amount), lines=allocated(3))
        expected = [failed, collection_required(amount, reason)] if amount else [failed]
        assert outcome(given=history, when=ship("O/X", 3)) == expected
        assert outcome(given=[*history, *expected], when=ship("O/X", 3)) == []


class TestRefusedCapture:
    ASKED: Sequence[Event] = (*HELD, capture_requested("O/X", 15_00, 3))
    REFUSED: Sequence[Event] = (*ASKED, capture_refused("O/X", 15_00, timedelta(hours=1)))
    LAST: Sequence[Event] = (
        *REFUSED,
        requested_again("O/X", 15_00, 2),
        capture_refused("O/X", 15_00, timedelta(hours=2), 2),
        requested_again("O/X", 15_00, 3),
    )
    FAILED: Sequence[Event] = (*LAST, capture_failed("O/X", "no funds", capture_id("O/X", 3), 15_00), collection_required(15_00))
    RETRY = RetryCapture(order_id="O")
    OTHER_CARD = PayOutstanding(order_id="O", payment=PaymentMethod(kind="card", token="tok_other"))
    WRITE_OFF = WriteOffPayment(order_id="O", reason="not worth it")
    WRITTEN_OFF = PaymentWrittenOff(
        order_id="O", fulfillment_id="O/X", amount=15_00, currency="EUR", units=3, outstanding=0, reason="not worth it", at=NOON
    )
    RENEWED = PaymentRenewalRequested(
        order_id="O", attempt=1, request_id="O:authorize 2:1", amount=15_00, currency="EUR", payment=OTHER_CARD.payment, at=NOON
    )
    EXPIRES = replace(authorized(), expires_at=NOON + timedelta(days=7))
    EXPIRED = PaymentAuthorizationExpired(order_id="O", authorization_id="auth", amount=15_00, currency="EUR", at=NOON)

    def test_it_is_asked_for_again_under_another_key_with_growing_waits(self):
        assert outcome(given=self.ASKED, when=refusal("O:capture:O/X")) == [capture_refused("O/X", 15_00, timedelta(hours=1))]
        again = RepeatCapture(order_id="O", fulfillment_id="O/X")
        assert due_after(self.REFUSED) == (NOON + timedelta(hours=1), again)
        assert outcome(given=self.REFUSED, when=again) == [requested_again("O/X", 15_00, 2)]
        assert outcome(given=self.LAST[:-2], when=refusal(capture_id("O/X", 2))) == [capture_refused("O/X", 15_00, timedelta(hours=2), 2)]
        assert outcome(given=self.LAST, when=refusal("O:capture:O/X")) == [], "of an earlier try"
        assert outcome(given=self.LAST, when=again) == []

    def test_after_the_last_try_somebody_must_collect_it(self):
        assert outcome(given=self.LAST, when=refusal(capture_id("O/X", 3))) == list(self.FAILED[-2:])
        deadline = NOON + timedelta(days=3)
        assert due_after(self.FAILED) == (deadline, ActOnOutstanding(order_id="O", deadline=deadline))

    def test_what_was_captured_at_last_is_no_longer_outstanding(self):
        assert folded(self.LAST).outstanding == 15_00
        success_at_last = outcome(given=self.LAST, when=success(capture_id("O/X", 3)))
        assert success_at_last == [captured("O/X", 15_00, number=3)]
        assert folded([*self.LAST, *success_at_last]).outstanding == 0
        assert due_after([*self.LAST, *success_at_last]) is None

    def test_a_person_has_it_tried_again_now(self):
        for history in (self.REFUSED, self.FAILED):
            [again] = outcome(given=history, when=self.RETRY)
            assert isinstance(again, PaymentCaptureRequested)
            assert outcome(given=[*history, again], when=self.RETRY) == []
            request_id = again.request_id
            [taken] = outcome(given=[*history, again], when=success(request_id))
            assert due_after([*history, again, taken]) is None

    def test_another_means_of_payment_is_authorized_and_captured_and_the_first_one_released(self):
        assert outcome(given=self.FAILED, when=self.OTHER_CARD) == [self.RENEWED]
        history = [*self.FAILED, self.RENEWED]
        assert outcome(given=history, when=self.OTHER_CARD) == []
        effect = RequestAuthorization(
            order_id="O", request_id="O:authorize 2:1", checks=0, amount=15_00, currency="EUR", payment=self.OTHER_CARD.payment
        )
        assert due_after(history) == (NOON, effect)
        events = outcome(given=history, when=success("O:authorize 2:1", "other"))
        assert events == [
            replace(authorized(), request_id="O:authorize 2:1", authorization_id="other", outstanding=15_00),
            requested_again("O/X", 15_00, 4, "other"),
            PaymentVoidRequested(order_id="O", request_id="O:void 2:1", authorization_id="auth", at=NOON),
        ]
        assert not folded([*history, *events]).ended
        taken = outcome(given=[*history, *events], when=success(capture_id("O/X", 4)))
        assert taken == [captured("O/X", 15_00, number=4)]
        void = RequestVoid(order_id="O", request_id="O:void 2:1", checks=0, authorization_id="auth")
        assert due_after([*history, *events, *taken]) == (NOON, void)
        released = outcome(given=[*history, *events, *taken], when=success("O:void 2:1"))
        assert released == [replace(voided(), request_id="O:void 2:1")]
        assert due_after([*history, *events, *taken, *released]) is None
        back = outcome(given=[*history, *events, *taken], when=refund("R", 1_00))
        assert due_after([*history, *events, *taken, voided(), *back]) is not None

    def test_another_means_that_is_authorized_after_the_orders_end_is_voided_under_a_key_of_its_own(self):
        history = [*self.FAILED, self.RENEWED]
        history += outcome(given=history, when=RELEASE)
        late = outcome(given=history, when=success("O:authorize 2:1", "other"))
        assert late[1:] == [PaymentVoidRequested(order_id="O", request_id="O:void 2:1", authorization_id="other", at=NOON)]
        assert VOID in folded([*history, *late]).asked

    def test_another_means_that_is_declined_is_asked_for_again(self):
        history = [*self.FAILED, self.RENEWED]
        declined_again = replace(declined(), request_id="O:authorize 2:1")
        assert outcome(given=history, when=refusal("O:authorize 2:1")) == [declined_again, collection_required(15_00)]

    def test_it_is_written_off_by_a_person(self):
        assert outcome(given=self.FAILED, when=self.WRITE_OFF) == [self.WRITTEN_OFF]
        history = [*self.FAILED, self.WRITTEN_OFF]
        assert due_after(history) is None
        refused = refused_command("WriteOffPayment", "nothing is outstanding")
        assert outcome(given=history, when=self.WRITE_OFF) == [refused]
        assert outcome(given=[*history, refused], when=self.WRITE_OFF) == []

    def test_at_the_deadline_it_is_asked_for_again_or_written_off_below_an_amount(self):
        deadline = NOON + timedelta(days=3)
        overdue = ActOnOutstanding(order_id="O", deadline=deadline)
        assert outcome(given=self.FAILED, when=overdue) == [collection_required(15_00, "it was not collected in time")]
        assert outcome(given=self.FAILED, when=replace(overdue, deadline=NOON)) == []
        small: list[Event] = [
            *HELD,
            capture_requested("O/X", 8_33, 1),
            capture_failed("O/X", "no funds", "O:capture:O/X", 8_33),
            collection_required(8_33),
        ]
        [written_off] = outcome(given=small, when=overdue)
        assert isinstance(written_off, PaymentWrittenOff)
        assert (written_off.amount, written_off.reason) == (8_33, "by policy: up to 10.00 EUR is written off")

    def test_a_capture_that_failed_before_people_were_asked_is_asked_for_too(self):
        old: list[Event] = [*HELD, capture_requested("O/X", 15_00, 3), capture_failed("O/X", "expired", "O:capture:O/X")]
        deadline = NOON + timedelta(days=3)
        assert due_after(old) == (deadline, ActOnOutstanding(order_id="O", deadline=deadline))

    @pytest.mark.parametrize("command", [RETRY, OTHER_CARD, WRITE_OFF])
    def test_without_anything_outstanding_there_is_nothing_to_do(self, command: Command):
        for history in ([], HELD, SHIPPED):
            assert outcome(given=history, when=command) == [refused_command(type(command).__name__, "nothing is outstanding")]

    def test_while_a_capture_is_under_way_nothing_is_written_off(self):
        [refused] = outcome(given=self.LAST, when=self.WRITE_OFF)
        assert isinstance(refused, PaymentCommandRefused)
        assert outcome(given=self.LAST, when=self.RETRY) == []

    def test_an_authorization_is_renewed_before_it_runs_out_under_a_key_of_its_own(self):
        history = [requested(), self.EXPIRES]
        renew = RenewAuthorization(order_id="O", authorization_id="auth")
        assert due_after(history) == (NOON + timedelta(days=6), renew)
        renewed = replace(self.RENEWED, payment=CARD)
        assert outcome(given=history, when=renew) == [self.EXPIRED, renewed]
        history = [*history, self.EXPIRED, renewed]
        assert outcome(given=history, when=renew) == []
        again = outcome(given=history, when=success("O:authorize 2:1", "second"))
        assert again == [replace(authorized(), request_id="O:authorize 2:1", authorization_id="second")]
        assert outcome(given=[*history, *again], when=ship("O/X", 3)) == [
            replace(capture_requested("O/X", 15_00, 3), authorization_id="second")
        ]

    def test_one_that_holds_for_less_than_the_margin_is_renewed_after_half_its_time(self):
        found = due_after([requested(), replace(authorized(), expires_at=NOON + timedelta(hours=2))])
        assert found == (NOON + timedelta(hours=1), RenewAuthorization(order_id="O", authorization_id="auth"))

    def test_one_of_which_all_is_captured_is_not_renewed(self):
        assert due_after([requested(), self.EXPIRES, *SHIPPED[2:]]) is None
        assert due_after([requested(), self.EXPIRES, void_requested(), voided()]) is None

    def test_a_renewal_that_is_declined_is_asked_for_and_what_ships_meanwhile_is_captured_by_the_next_means(self):
        history: list[Event] = [requested(), self.EXPIRES, self.EXPIRED, replace(self.RENEWED, payment=CARD)]
        events = outcome(given=history, when=refusal("O:authorize 2:1"))
        assert events == [replace(declined(), request_id="O:authorize 2:1"), collection_required(0)]
        history += events
        assert due_after(history) is not None
        history += outcome(given=history, when=ship("O/X", 3))
        assert folded(history).outstanding == 15_00
        history += outcome(given=history, when=self.OTHER_CARD)
        history += outcome(given=history, when=success("O:authorize 3:1", "third"))
        history += outcome(given=history, when=success(capture_id("O/X", 2)))
        assert (folded(history).captured, folded(history).outstanding, due_after(history)) == (15_00, 0, None)

    def test_an_order_that_is_canceled_while_its_renewal_is_declined_waits_for_nobody(self):
        history: list[Event] = [requested(), self.EXPIRES, self.EXPIRED, replace(self.RENEWED, payment=CARD)]
        history += outcome(given=history, when=refusal("O:authorize 2:1"))
        assert outcome(given=history, when=RELEASE) == [ABANDONED]
        assert due_after([*history, ABANDONED]) is None


class TestEndedOrder:
    def test_an_authorization_is_voided(self):
        assert outcome(given=HELD, when=RELEASE) == [void_requested()]
        effect = RequestVoid(order_id="O", request_id=VOID, checks=0, authorization_id="auth")
        assert due_after([*HELD, void_requested()]) == (NOON, effect)
        assert outcome(given=[*HELD, void_requested()], when=success(VOID)) == [voided()]

    @pytest.mark.parametrize("history", [[], [requested()], [requested(), unknown(1, timedelta())], [requested(), declined()]])
    def test_without_anything_held_the_payment_is_abandoned(self, history: list[Event]):
        assert outcome(given=history, when=RELEASE) == [ABANDONED]

    def test_an_open_authorization_is_still_performed(self):
        assert due_after([requested(), ABANDONED]) == due_after([requested()])

    def test_a_late_authorization_is_voided(self):
        assert outcome(given=[requested(), ABANDONED], when=success(AUTHORIZE)) == [authorized(), void_requested()]

    def test_nothing_follows_a_late_decline(self):
        assert outcome(given=[requested(), ABANDONED], when=refusal(AUTHORIZE)) == [declined()]

    @pytest.mark.parametrize("history", [[*HELD, void_requested()], [*HELD, void_requested(), voided()], [ABANDONED]])
    def test_it_is_released_once_and_not_authorized_again(self, history: list[Event]):
        assert outcome(given=history, when=RELEASE) == []
        assert outcome(given=history, when=authorize(2)) == []

    def test_a_refused_void_is_final(self):
        failed = PaymentVoidFailed(order_id="O", request_id=VOID, authorization_id="auth", reason="gone", at=NOON)
        assert outcome(given=[*HELD, void_requested()], when=refusal(VOID, "gone")) == [failed]
        assert due_after([*HELD, void_requested(), failed]) is None

    def test_a_void_waits_for_the_captures_requested_before_it(self):
        history: list[Event] = [*HELD, capture_requested("O/X", 8_33, 1), unknown(1, timedelta(hours=1), "O:capture:O/X"), void_requested()]
        found = due_after(history)
        assert found is not None
        assert isinstance(found[1], LookUpOutcome)


class TestRefund:
    def test_a_return_is_refunded(self):
        assert outcome(given=SHIPPED, when=refund("R", 6_00)) == [refund_requested("R", 6_00)]
        effect = RequestRefund(order_id="O", request_id="O:refund:R", checks=0, authorization_id="auth", amount=6_00, currency="EUR")
        assert due_after([*SHIPPED, refund_requested("R", 6_00)]) == (NOON, effect)

    def test_the_provider_refunds(self):
        settled = RefundSettled(order_id="O", refund_id="R", request_id="O:refund:R", amount=6_00, currency="EUR", at=NOON)
        history: list[Event] = [*SHIPPED, refund_requested("R", 6_00)]
        assert outcome(given=history, when=success("O:refund:R", "r-1")) == [settled]
        assert outcome(given=[*history, settled], when=success("O:refund:R", "r-1")) == []
        assert outcome(given=[*history, settled], when=refund("R", 6_00)) == []

    def test_no_more_is_refunded_than_was_captured_also_while_another_refund_is_open(self):
        history: list[Event] = [*SHIPPED, refund_requested("R", 10_00)]
        assert outcome(given=history, when=refund("S", 10_00)) == [refund_requested("S", 5_00)]

    def test_a_refund_with_nothing_left_fails_once(self):
        history: list[Event] = [*SHIPPED, refund_requested("R", 15_00)]
        failed = refund_failed("S", "nothing is left to refund")
        assert outcome(given=history, when=refund("S", 1)) == [failed]
        assert outcome(given=[*history, failed], when=refund("S", 1)) == []

    def test_a_refused_refund_is_final_and_counts_because_it_is_refunded_by_hand(self):
        history: list[Event] = [*SHIPPED, refund_requested("R", 10_00)]
        failed = refund_failed("R", "the account is closed", "O:refund:R")
        assert outcome(given=history, when=refusal("O:refund:R", "the account is closed")) == [failed]
        assert due_after([*history, failed]) is None
        assert outcome(given=[*history, failed], when=refund("S", 10_00)) == [refund_requested("S", 5_00)]

    @pytest.mark.parametrize(
        "history",
        [
            HELD,
            [*HELD, capture_requested("O/X", 15_00, 3)],
            [*HELD, capture_requested("O/X", 15_00, 3), unknown(1, timedelta(), "O:capture:O/X")],
            [*HELD, capture_requested("O/X", 8_33, 1), captured("O/X", 8_33)],
        ],
    )
    def test_a_refund_waits_until_all_captures_are_known(self, history: list[Event]):
        postponed = refund_postponed("R", 6_00)
        assert outcome(given=history, when=refund("R", 6_00)) == [postponed]
        assert outcome(given=[*history, postponed], when=refund("R", 6_00)) == []
        assert outcome(given=[*history, postponed], when=ResumeRefund(order_id="O", refund_id="R")) == []

    def test_a_postponed_refund_continues_when_all_captures_are_known(self):
        history: list[Event] = [*HELD, refund_postponed("R", 6_00), *SHIPPED[2:]]
        resume = ResumeRefund(order_id="O", refund_id="R")
        assert due_after(history) == (NOON, resume)
        assert outcome(given=history, when=resume) == [refund_requested("R", 6_00)]
        assert outcome(given=[*history, refund_requested("R", 6_00)], when=resume) == []

    def test_refunds_do_not_overtake_each_other(self):
        history: list[Event] = [*HELD, refund_postponed("R", 10_00), *SHIPPED[2:]]
        assert outcome(given=history, when=refund("A", 10_00)) == [refund_postponed("A", 10_00)]
        history.append(refund_postponed("A", 10_00))
        assert due_after(history) == (NOON, ResumeRefund(order_id="O", refund_id="R"))
        assert outcome(given=history, when=ResumeRefund(order_id="O", refund_id="A")) == []
        history.append(refund_requested("R", 10_00))
        assert outcome(given=history, when=ResumeRefund(order_id="O", refund_id="A")) == [refund_requested("A", 5_00)]

    def test_a_refund_does_not_wait_forever(self):
        history: list[Event] = [*HELD, refund_postponed("R", 6_00)]
        give_up = GiveUpRefund(order_id="O", refund_id="R")
        failed = refund_failed("R", "what was captured did not become known in time", "O:refund:R")
        assert due_after(history) == (NOON + timedelta(days=7), give_up)
        assert outcome(given=history, when=give_up) == [failed]
        assert due_after([*history, failed]) is None
        for again in (give_up, refund("R", 6_00), ResumeRefund(order_id="O", refund_id="R")):
            assert outcome(given=[*history, failed], when=again) == []

    def test_a_refund_that_was_given_up_counts_because_it_is_refunded_by_hand(self):
        failed = refund_failed("R", "what was captured did not become known in time", "O:refund:R")
        history: list[Event] = [*HELD, refund_postponed("R", 10_00), failed, *SHIPPED[2:]]
        assert outcome(given=history, when=refund("S", 10_00)) == [refund_requested("S", 5_00)]

    def test_a_refund_that_can_continue_is_not_given_up(self):
        history: list[Event] = [*HELD, refund_postponed("R", 6_00), *SHIPPED[2:]]
        assert outcome(given=history, when=GiveUpRefund(order_id="O", refund_id="R")) == []

    def test_while_a_capture_is_tried_again_a_refund_waits(self):
        history = [*HELD, capture_requested("O/X", 15_00, 3), capture_refused("O/X", 15_00, timedelta(hours=1))]
        assert outcome(given=history, when=refund("R", 6_00)) == [refund_postponed("R", 6_00)]

    def test_after_a_failed_capture_nothing_is_left_to_refund(self):
        history: list[Event] = [*HELD, capture_requested("O/X", 15_00, 3), capture_failed("O/X", "expired", "O:capture:O/X")]
        assert outcome(given=history, when=refund("R", 6_00)) == [refund_failed("R", "nothing is left to refund")]
