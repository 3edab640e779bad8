"""What returns does, by examples. The properties are in test_properties.py."""

from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from oms_contracts.order_parts import ChargedLine
from oms_contracts.returns import (
    CancelReturn,
    InspectReturn,
    ReceiveReturnItems,
    RequestReturn,
    ReturnActionRequired,
    ReturnApproved,
    ReturnCanceled,
    ReturnClosed,
    ReturnCommandRefused,
    ReturnDeclined,
    ReturnExpired,
    ReturnItemsInspected,
    ReturnItemsReceived,
    ReturnRefundRequested,
    ReturnRequested,
    ReturnWindowOpened,
)
from oms_contracts.strict import MAX_REASONS
from oms_contracts.values import InspectedLine, ReturnLine
from oms_returns.commands import ActOnDeadline, Command, Event, OpenReturnWindow, RecordRefund, RecordRefundFailure
from oms_returns.decider import INITIAL, MAX_LINES, MAX_RETURNS, Returns, Terms, decide, decide_for, due, evolve

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=5)
CLOSES = NOON + timedelta(days=30)
TERMS = Terms()
LINES = (
    ChargedLine(line_id="A", sku="mug", quantity=3, amount=1_000),
    ChargedLine(line_id="B", sku="pot", quantity=1, amount=2_500),
)
OPENED = ReturnWindowOpened(order_id="o", currency="EUR", lines=LINES, closes_at=CLOSES, at=NOON)


def outcome(*, given: list[Event], when: Command, at: datetime = LATER) -> list[Event]:
    return decide(when, folded(given), at, TERMS)


def folded(events: list[Event]) -> Returns:
    return reduce(evolve, events, INITIAL)


def lines(**units: int) -> tuple[ReturnLine, ...]:
    return tuple(ReturnLine(line_id=line_id, quantity=quantity) for line_id, quantity in units.items())


def request(return_id: str = "r1", asked: tuple[ReturnLine, ...] = lines(A=2)) -> RequestReturn:
    return RequestReturn(order_id="o", return_id=return_id, lines=asked)


def requested(return_id: str = "r1", asked: tuple[ReturnLine, ...] = lines(A=2)) -> ReturnRequested:
    return ReturnRequested(order_id="o", return_id=return_id, lines=asked, at=LATER)


def approved(return_id: str = "r1") -> ReturnApproved:
    return ReturnApproved(order_id="o", return_id=return_id, expires_at=LATER + timedelta(days=14), at=LATER)


def declined(*reasons: str, return_id: str = "r1") -> ReturnDeclined:
    return ReturnDeclined(order_id="o", return_id=return_id, reasons=reasons, at=LATER)


def receive(came: tuple[ReturnLine, ...], receipt_id: str = "w1", location: str = "BER") -> ReceiveReturnItems:
    return ReceiveReturnItems(order_id="o", return_id="r1", receipt_id=receipt_id, location=location, lines=came)


def received(came: tuple[ReturnLine, ...] = lines(A=2), receipt_id: str = "w1", return_id: str = "r1") -> ReturnItemsReceived:
    return ReturnItemsReceived(order_id="o", return_id=return_id, receipt_id=receipt_id, location="BER", lines=came, at=LATER)


def found(line_id: str, quantity: int, disposition: str = "restock", *, sku: str = "mug", accepted: bool = True) -> InspectedLine:
    return InspectedLine(line_id=line_id, sku=sku, quantity=quantity, disposition=disposition, accepted=accepted)


def inspect(*findings: InspectedLine) -> InspectReturn:
    return InspectReturn(order_id="o", return_id="r1", lines=findings)


def inspected(*findings: InspectedLine, return_id: str = "r1") -> ReturnItemsInspected:
    return ReturnItemsInspected(order_id="o", return_id=return_id, location="BER", lines=findings, at=LATER)


def refund(amount: int, *findings: InspectedLine, return_id: str = "r1") -> ReturnRefundRequested:
    return ReturnRefundRequested(order_id="o", return_id=return_id, amount=amount, currency="EUR", lines=findings, at=LATER)


def closed(outcome: str, refunded: int = 0, return_id: str = "r1") -> ReturnClosed:
    return ReturnClosed(order_id="o", return_id=return_id, outcome=outcome, refunded=refunded, at=LATER)


def refused(command: str, reason: str, return_id: str = "r1") -> ReturnCommandRefused:
    return ReturnCommandRefused(order_id="o", return_id=return_id, command=f"oms.returns.{command}.v1", reason=reason, at=LATER)


CANCEL = CancelReturn(order_id="o", return_id="r1", reason="kept it")
CANCELED = ReturnCanceled(order_id="o", return_id="r1", reason="kept it", at=LATER)
EXPIRED = ReturnExpired(order_id="o", return_id="r1", at=LATER)
APPROVED: list[Event] = [OPENED, requested(), approved()]
RECEIVED: list[Event] = [*APPROVED, received()]
REFUNDING: list[Event] = [*RECEIVED, inspected(found("A", 2)), refund(666, found("A", 2))]
CLOSED: list[Event] = [*REFUNDING, closed("refunded", 666)]
DECLINED: list[Event] = [OPENED, requested(asked=lines(A=9)), declined("line 'A': 9 asked for, 3 left to return")]


# The window


def test_a_completed_order_may_be_returned_for_thirty_days():
    completed = OpenReturnWindow(order_id="o", currency="EUR", lines=LINES, completed_at=NOON)
    opened = ReturnWindowOpened(order_id="o", currency="EUR", lines=LINES, closes_at=CLOSES, at=LATER)
    assert outcome(given=[], when=completed) == [opened]
    assert outcome(given=[opened], when=completed) == []


def test_a_request_before_the_order_is_completed_is_refused_and_not_kept():
    refusal = refused("RequestReturn", "the order is not known to be completed")
    assert outcome(given=[], when=request()) == [refusal]
    assert folded([refusal]).returns == {}
    assert outcome(given=[refusal, OPENED], when=request()) == [requested(), approved()]


# Requests


def test_a_return_within_the_window_is_approved():
    assert outcome(given=[OPENED], when=request()) == [requested(), approved()]


def test_a_line_may_be_returned_for_several_reasons():
    torn = (ReturnLine(line_id="A", quantity=1, reason="damaged"), ReturnLine(line_id="A", quantity=2))
    assert outcome(given=[OPENED], when=request(asked=torn)) == [requested(asked=torn), approved()]


def test_the_window_closes_at_its_exact_time():
    [_, last] = outcome(given=[OPENED], when=request(), at=CLOSES - timedelta(seconds=1))
    [_, late] = outcome(given=[OPENED], when=request(), at=CLOSES)
    assert isinstance(last, ReturnApproved)
    assert isinstance(late, ReturnDeclined)
    assert late.reasons == ("the return window closed at 2026-12-23 12:00 UTC",)


def test_every_reason_to_decline_is_named_at_once():
    odd = (
        ReturnLine(line_id="A", quantity=2),
        ReturnLine(line_id="A", quantity=2),
        ReturnLine(line_id="B", quantity=0, reason="bored"),
        ReturnLine(line_id="Z", quantity=1),
    )
    [_, decision] = outcome(given=[OPENED], when=request(asked=odd), at=CLOSES)
    assert isinstance(decision, ReturnDeclined)
    assert decision.reasons == (
        "the return window closed at 2026-12-23 12:00 UTC",
        "lines.2.quantity: must be at least 1, is 0",
        "lines.2.reason: 'bored' is not one of damaged, defective, other, too_late, unwanted, wrong_item",
        "line 'A': 4 asked for, 3 left to return",
        "the order has no line 'Z'",
    )


def test_the_first_of_many_reasons_are_named_and_the_others_counted():
    [_, decision] = outcome(given=[OPENED], when=request(asked=lines(A=1) + lines(Y=0) * (MAX_LINES - 1)))
    assert isinstance(decision, ReturnDeclined)
    assert len(decision.reasons) <= MAX_REASONS
    assert decision.reasons[-1] == f"and {MAX_LINES - (len(decision.reasons) - 1)} more"


def test_a_negative_quantity_does_not_offset_another():
    asked = (ReturnLine(line_id="A", quantity=4), ReturnLine(line_id="A", quantity=-1))
    [_, decision] = outcome(given=[OPENED], when=request(asked=asked))
    assert decision == declined("lines.1.quantity: must be at least 1, is -1")


@pytest.mark.parametrize("history", [APPROVED, RECEIVED, REFUNDING, CLOSED, [*APPROVED, CANCELED], [*APPROVED, EXPIRED]])
def test_the_same_request_again_has_no_effect(history: list[Event]):
    assert outcome(given=history, when=request()) == []


def test_a_declined_request_again_has_no_effect():
    assert outcome(given=DECLINED, when=request(asked=lines(A=9))) == []


@pytest.mark.parametrize("history", [APPROVED, CLOSED, DECLINED])
def test_a_return_id_names_one_return_only(history: list[Event]):
    other = request(asked=lines(B=1))
    assert outcome(given=history, when=other) == [refused("RequestReturn", "the return id was used for other lines")]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(return_id=" "), "return_id: must not be empty"),
        (request(asked=()), "lines: must be 1 to 1000, are 0"),
        (request(asked=lines(A=1) * 1_001), "lines: must be 1 to 1000, are 1001"),
    ],
)
def test_an_invalid_request_is_refused(asked: RequestReturn, reason: str):
    assert outcome(given=[OPENED], when=asked) == [refused("RequestReturn", reason, asked.return_id)]


def test_a_return_holds_the_units_that_it_requested():
    second = request("r2", lines(A=2))
    for history in (APPROVED, RECEIVED, REFUNDING, CLOSED):
        expected = [requested("r2"), declined("line 'A': 2 asked for, 1 left to return", return_id="r2")]
        assert outcome(given=history, when=second) == expected


@pytest.mark.parametrize("history", [[*APPROVED, CANCELED], [*APPROVED, EXPIRED], DECLINED])
def test_units_of_a_return_that_ended_without_goods_may_be_requested_again(history: list[Event]):
    everything = lines(A=3, B=1)
    assert outcome(given=history, when=request("r2", everything)) == [requested("r2", everything), approved("r2")]


def test_requested_units_that_did_not_arrive_may_be_requested_again():
    history = [*APPROVED, received(lines(A=1)), inspected(found("A", 1)), refund(333, found("A", 1))]
    assert outcome(given=history, when=request("r2")) == [requested("r2"), approved("r2")]


def test_the_number_of_returns_of_an_order_is_limited():
    history: list[Event] = [OPENED]
    for number in range(MAX_RETURNS):
        history += [requested(f"x{number}"), ReturnCanceled(order_id="o", return_id=f"x{number}", reason="", at=LATER)]
    assert outcome(given=history, when=request()) == [refused("RequestReturn", "the order has had 200 returns, and no more are taken")]


# Goods arrive


def test_goods_may_arrive_in_several_parcels():
    assert outcome(given=APPROVED, when=receive(lines(A=1))) == [received(lines(A=1))]
    first: list[Event] = [*APPROVED, received(lines(A=1))]
    assert outcome(given=first, when=receive(lines(A=1), "w2")) == [received(lines(A=1), "w2")]


@pytest.mark.parametrize("history", [RECEIVED, REFUNDING, CLOSED])
def test_the_same_receipt_again_has_no_effect(history: list[Event]):
    assert outcome(given=history, when=receive(lines(A=2))) == []


@pytest.mark.parametrize(
    ("history", "command", "reason"),
    [
        (APPROVED, receive(lines(A=3)), "line 'A': 3 received, 2 of the approved are still to come"),
        (APPROVED, receive(lines(A=1) + lines(A=2)), "line 'A': 3 received, 2 of the approved are still to come"),
        (APPROVED, receive(lines(B=1)), "line 'B': 1 received, 0 of the approved are still to come"),
        (APPROVED, receive(lines(A=0)), "lines.0.quantity: must be at least 1, is 0"),
        (APPROVED, receive(()), "lines: must be 1 to 1000, are 0"),
        (APPROVED, receive(lines(A=1), "", ""), "receipt_id: must not be empty; location: must not be empty"),
        (RECEIVED, receive(lines(A=1), "w2"), "line 'A': 1 received, 0 of the approved are still to come"),
        ([*APPROVED, received(lines(A=1))], receive(lines(A=1), "w2", "HAM"), "location: the return is being received at BER"),
        ([OPENED], receive(lines(A=1)), "the return is not known"),
        (DECLINED, receive(lines(A=1)), "the return is declined"),
        ([*APPROVED, CANCELED], receive(lines(A=1)), "the return is canceled"),
        ([*APPROVED, EXPIRED], receive(lines(A=1)), "the return is expired"),
        (REFUNDING, receive(lines(A=1), "w2"), "the return is refunding"),
        (CLOSED, receive(lines(A=1), "w2"), "the return is closed"),
    ],
)
def test_goods_that_do_not_fit_are_refused(history: list[Event], command: ReceiveReturnItems, reason: str):
    assert outcome(given=history, when=command) == [refused("ReceiveReturnItems", reason)]


# Inspection and refund


def test_accepted_goods_are_refunded_at_the_net_price_paid():
    whole = inspect(found("A", 1), found("A", 1, "write-off"))
    assert outcome(given=RECEIVED, when=whole) == [inspected(*whole.lines), refund(666, *whole.lines)]


def test_goods_that_are_not_accepted_are_not_refunded():
    half = inspect(found("A", 1), found("A", 1, "write-off", accepted=False))
    assert outcome(given=RECEIVED, when=half) == [inspected(*half.lines), refund(333, half.lines[0])]


def test_a_return_without_accepted_goods_ends_at_once():
    worn = inspect(found("A", 2, "write-off", accepted=False))
    assert outcome(given=RECEIVED, when=worn) == [inspected(*worn.lines), closed("not_refundable")]


def test_the_last_unit_is_refunded_with_the_remainder():
    rest = [*CLOSED, requested("r2", lines(A=1)), approved("r2"), received(lines(A=1), return_id="r2")]
    last = InspectReturn(order_id="o", return_id="r2", lines=(found("A", 1),))
    assert outcome(given=rest, when=last) == [inspected(found("A", 1), return_id="r2"), refund(334, found("A", 1), return_id="r2")]


def test_a_unit_that_was_not_accepted_does_not_count_for_later_refunds():
    worn = found("A", 1, "write-off", accepted=False)
    history = [*APPROVED, received(lines(A=1)), inspected(worn), closed("not_refundable")]
    history += [requested("r2"), approved("r2"), received(return_id="r2")]
    rest = InspectReturn(order_id="o", return_id="r2", lines=(found("A", 2),))
    assert outcome(given=history, when=rest)[1] == refund(666, found("A", 2), return_id="r2")


@pytest.mark.parametrize(
    ("findings", "reason"),
    [
        ([found("A", 1)], "line 'A': 1 inspected, 2 received"),
        ([found("A", 3)], "line 'A': 3 inspected, 2 received"),
        ([found("A", 2), found("B", 1, sku="pot")], "line 'B': 1 inspected, 0 received"),
        ([found("A", 2), found("Z", 1)], "line 'Z': 1 inspected, 0 received"),
        ([found("A", 2, sku="jug")], "lines.0.sku: 'jug' is not 'mug', which the order's line has"),
        ([found("A", 2, "gift")], "lines.0.disposition: 'gift' is not one of quarantine, restock, write-off"),
        ([found("A", 3), found("A", -1)], "lines.1.quantity: must be at least 1, is -1"),
        ([], "lines: must be 1 to 1000, are 0; line 'A': 0 inspected, 2 received"),
    ],
)
def test_an_inspection_accounts_for_all_that_was_received(findings: list[InspectedLine], reason: str):
    assert outcome(given=RECEIVED, when=inspect(*findings)) == [refused("InspectReturn", reason)]


@pytest.mark.parametrize("history", [REFUNDING, CLOSED])
def test_a_return_is_inspected_once(history: list[Event]):
    status = "closed" if history is CLOSED else "refunding"
    assert outcome(given=history, when=inspect(found("A", 2))) == []
    assert outcome(given=history, when=inspect(found("A", 2, "write-off"))) == [refused("InspectReturn", f"the return is {status}")]


@pytest.mark.parametrize(
    ("history", "description"),
    [([OPENED], "not known"), (APPROVED, "approved"), (DECLINED, "declined"), ([*APPROVED, CANCELED], "canceled")],
)
def test_an_inspection_before_the_receipt_is_refused(history: list[Event], description: str):
    assert outcome(given=history, when=inspect(found("A", 2))) == [refused("InspectReturn", f"the return is {description}")]


def test_a_settled_refund_closes_the_return_with_its_amount():
    settled = RecordRefund(order_id="o", return_id="r1", amount=500)
    assert outcome(given=REFUNDING, when=settled) == [closed("refunded", 500)]
    assert outcome(given=CLOSED, when=settled) == []


def test_a_failed_refund_closes_the_return():
    assert outcome(given=REFUNDING, when=RecordRefundFailure(order_id="o", return_id="r1", owed=True)) == [closed("refund_failed")]
    assert outcome(given=REFUNDING, when=RecordRefundFailure(order_id="o", return_id="r1", owed=False)) == [closed("not_refundable")]
    assert outcome(given=CLOSED, when=RecordRefundFailure(order_id="o", return_id="r1", owed=True)) == []


@pytest.mark.parametrize("history", [[], [OPENED], APPROVED, RECEIVED, DECLINED, [*APPROVED, CANCELED]])
def test_a_refund_that_was_not_requested_changes_nothing(history: list[Event]):
    assert outcome(given=history, when=RecordRefund(order_id="o", return_id="r1", amount=1)) == []
    assert outcome(given=history, when=RecordRefundFailure(order_id="o", return_id="r1", owed=True)) == []


# Canceling


def test_a_return_can_be_canceled_before_its_first_receipt():
    assert outcome(given=APPROVED, when=CANCEL) == [CANCELED]


@pytest.mark.parametrize("history", [[*APPROVED, CANCELED], [*APPROVED, EXPIRED]])
def test_canceling_a_canceled_or_expired_return_changes_nothing(history: list[Event]):
    assert outcome(given=history, when=CANCEL) == []


@pytest.mark.parametrize(
    ("history", "description"),
    [([], "not known"), (DECLINED, "declined"), (RECEIVED, "received"), (REFUNDING, "refunding"), (CLOSED, "closed")],
)
def test_a_return_in_any_other_status_cannot_be_canceled(history: list[Event], description: str):
    assert outcome(given=history, when=CANCEL) == [refused("CancelReturn", f"the return is {description}")]


def test_the_same_refusal_is_repeated_only_after_another_event():
    refusal = refused("CancelReturn", "the return is received")
    more: list[Event] = [requested("r2", lines(B=1)), approved("r2")]
    assert outcome(given=[*RECEIVED, refusal], when=CANCEL) == []
    assert outcome(given=[*RECEIVED, refusal, *more], when=CANCEL) == [refusal]


# Deadlines


def deadline_of(history: list[Event]) -> ActOnDeadline:
    waiting = due("o", folded(history), TERMS)
    assert waiting is not None
    moment, command = waiting
    assert isinstance(command, ActOnDeadline)
    assert command.deadline == moment
    return command


def test_a_return_whose_goods_do_not_arrive_expires():
    deadline = deadline_of(APPROVED)
    assert deadline.deadline == LATER + timedelta(days=14)
    assert outcome(given=APPROVED, when=deadline) == [EXPIRED]


@pytest.mark.parametrize(("history", "action"), [(RECEIVED, "inspect"), (REFUNDING, "investigate")])
def test_after_the_receipt_an_action_is_required_again_and_again(history: list[Event], action: str):
    asked_at = LATER + timedelta(days=3)
    first, again = [
        ReturnActionRequired(order_id="o", return_id="r1", action=action, deadline=at + timedelta(days=3), at=at)
        for at in (asked_at, asked_at + timedelta(days=3))
    ]
    assert deadline_of(history).deadline == asked_at
    assert outcome(given=history, when=deadline_of(history), at=asked_at) == [first]
    assert outcome(given=[*history, first], when=deadline_of([*history, first]), at=again.at) == [again]


@pytest.mark.parametrize("history", [[OPENED], RECEIVED, REFUNDING, CLOSED, [*APPROVED, CANCELED]])
def test_a_deadline_of_an_earlier_status_has_no_effect(history: list[Event]):
    assert outcome(given=history, when=deadline_of(APPROVED)) == []


def test_the_earliest_deadline_of_an_orders_returns_is_due_first():
    sooner = ReturnApproved(order_id="o", return_id="r2", expires_at=LATER + timedelta(days=1), at=LATER)
    assert deadline_of([*APPROVED, requested("r2", lines(B=1)), sooner]).return_id == "r2"


@pytest.mark.parametrize("history", [[], [OPENED], DECLINED, CLOSED, [*APPROVED, CANCELED], [*APPROVED, EXPIRED]])
def test_an_order_without_an_open_return_has_no_deadline(history: list[Event]):
    assert due("o", folded(history), TERMS) is None


def for_warehouse(warehouse: str, command: Command, *given: Event) -> list[Event]:
    return decide_for(warehouse, command, folded(list(given)), LATER, TERMS)


def test_a_return_that_another_warehouse_received_does_not_exist_for_a_warehouse():
    here = [OPENED, requested(), approved(), received()]
    assert for_warehouse("HAM", inspect(found("A", 2)), *here) == [refused("InspectReturn", "the return is not known")]
    assert for_warehouse("HAM", inspect(found("A", 2)), OPENED) == [refused("InspectReturn", "the return is not known")]


def test_a_warehouse_receives_and_inspects_a_return():
    here = [OPENED, requested(), approved()]
    assert for_warehouse("BER", receive(lines(A=2)), *here) == [received()]
    assert for_warehouse("BER", inspect(found("A", 2)), *here) == [refused("InspectReturn", "the return is approved")]
    assert for_warehouse("BER", inspect(found("A", 2)), *here, received())[0] == inspected(found("A", 2))
