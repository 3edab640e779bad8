"""What holds for the returns of every order, whichever commands come and in whichever order."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any, cast, get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from oms_contracts.message import encode
from oms_contracts.order_parts import ChargedLine
from oms_contracts.orders import OrderCompleted
from oms_contracts.payments import RefundSettled
from oms_contracts.returns import (
    CancelReturn,
    InspectReturn,
    ReceiveReturnItems,
    RequestReturn,
    ReturnCommandRefused,
    ReturnItemsReceived,
    ReturnRefundRequested,
)
from oms_contracts.values import InspectedLine, ReturnLine
from oms_returns.commands import Command, Event, OpenReturnWindow, RecordRefund, RecordRefundFailure
from oms_returns.decider import INITIAL, Returns, Terms, decide, due, evolve, refund_of
from oms_returns.policies import POLICIES

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TERMS = Terms(window=timedelta(days=365))
SKUS = {"A": "mug", "B": "pot"}
SOLD = {"A": 5, "B": 2}
LINES = tuple(
    ChargedLine(line_id=line_id, sku=SKUS[line_id], quantity=SOLD[line_id], amount=amount) for line_id, amount in (("A", 1_003), ("B", 77))
)
OPEN = OpenReturnWindow(order_id="o", currency="EUR", lines=LINES, completed_at=NOON)
ENDED = {"declined", "canceled", "expired", "closed"}

return_ids = st.sampled_from(["r1", "r2", "r3", "r4"])
line_ids = st.sampled_from(["A", "B"])
few = st.integers(1, 3)
asked = st.lists(st.builds(ReturnLine, line_id=line_ids, quantity=few), min_size=1, max_size=2).map(tuple)
of_one_return: dict[str, Any] = {"order_id": st.just("o"), "return_id": return_ids}
commands = st.one_of(
    st.builds(RequestReturn, lines=asked, **of_one_return),
    st.builds(ReceiveReturnItems, receipt_id=st.sampled_from("wxyz"), location=st.just("BER"), lines=asked, **of_one_return),
    st.tuples(return_ids, st.booleans()),  # inspect what was received, accepting it or not
    st.builds(CancelReturn, reason=st.just(""), **of_one_return),
    st.builds(RecordRefund, amount=st.just(1), **of_one_return),
    st.builds(RecordRefundFailure, owed=st.booleans(), **of_one_return),
    st.none(),  # pass the next deadline
)


def step(given: RequestReturn | Any, order: Returns, now: datetime) -> tuple[Command | None, datetime]:
    """A drawn command, adapted to the order's state so that histories go far."""
    match given:
        case None:
            waiting = due("o", order, TERMS)
            return (waiting[1], max(now, waiting[0])) if waiting else (None, now)
        case (return_id, accepted):
            came = order.returns[return_id].received if return_id in order.returns else {}
            return InspectReturn(order_id="o", return_id=return_id, lines=findings(came, accepted)), now
        case command:
            return command, now


def findings(came: dict[str, int], accepted: bool = True) -> tuple[InspectedLine, ...]:
    return tuple(
        InspectedLine(line_id=line_id, sku=SKUS[line_id], quantity=quantity, disposition="restock", accepted=accepted)
        for line_id, quantity in came.items()
    )


@settings(deadline=None, max_examples=300)
@given(st.lists(commands, max_size=40))
def test_no_history_returns_or_refunds_more_than_was_sold(history: list[Any]):
    order = reduce(evolve, decide(OPEN, INITIAL, NOON, TERMS), INITIAL)
    now = NOON
    received: Counter[str] = Counter()
    refunded = 0
    for drawn in history:
        command, now = step(drawn, order, now)
        if command is None:
            continue
        events = decide(command, order, now, TERMS)
        order = reduce(evolve, events, order)
        for event in events:
            if isinstance(event, ReturnItemsReceived):
                for line in event.lines:
                    received[line.line_id] += line.quantity
            if isinstance(event, ReturnRefundRequested):
                refunded += event.amount

        assert decide(command, order, now, TERMS) == []
        assert all(0 <= held <= SOLD[line_id] for line_id, held in held_units(order).items())
        assert all(0 <= received[line_id] <= SOLD[line_id] for line_id in SOLD)
        assert refunded <= sum(line.amount for line in LINES)
        assert all(return_.status in ENDED or has_deadline(return_id, order) for return_id, return_ in order.returns.items())
        assert msgspec.json.decode(encode(order), type=Returns) == order


def held_units(order: Returns) -> Counter[str]:
    held: Counter[str] = Counter()
    for return_ in order.returns.values():
        held.update(return_.units)
    return held


def has_deadline(return_id: str, order: Returns) -> bool:
    return due("o", replace(order, returns={return_id: order.returns[return_id]}), TERMS) is not None


@settings(deadline=None)
@given(st.permutations([*"AAAAABB"]), st.lists(st.integers(1, 7), min_size=1, max_size=7))
def test_returning_everything_refunds_exactly_the_lines_totals(units: list[str], sizes: list[int]):
    order = reduce(evolve, decide(OPEN, INITIAL, NOON, TERMS), INITIAL)
    amount = 0
    for number, parcel in enumerate(parcels(units, sizes)):
        events: list[Event] = []
        for command in commands_of(f"r{number}", dict(parcel)):
            happened = decide(command, order, NOON, TERMS)
            order = reduce(evolve, happened, order)
            events += happened
        amount += sum(event.amount for event in events if isinstance(event, ReturnRefundRequested))
    assert amount == sum(line.amount for line in LINES)
    assert order.accepted == SOLD


def parcels(units: list[str], sizes: list[int]) -> list[Counter[str]]:
    """`units` cut into parcels of `sizes`, the last taking what is left."""
    cut: list[Counter[str]] = []
    for size in [*sizes, len(units)]:
        if units:
            cut.append(Counter(units[:size]))
            units = units[size:]
    return cut


def commands_of(return_id: str, units: dict[str, int]) -> list[Command]:
    """A return without trouble; its goods arrive in one parcel for each line."""
    lines = tuple(ReturnLine(line_id=line_id, quantity=quantity) for line_id, quantity in units.items())
    receipts = [
        ReceiveReturnItems(order_id="o", return_id=return_id, receipt_id=f"{return_id}-{line.line_id}", location="BER", lines=(line,))
        for line in lines
    ]
    return [
        RequestReturn(order_id="o", return_id=return_id, lines=lines),
        *receipts,
        InspectReturn(order_id="o", return_id=return_id, lines=findings(units)),
    ]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 1_000), st.data())
def test_refunds_are_proportional_to_the_units_and_reach_the_total(total: int, quantity: int, data: st.DataObject):
    line = ChargedLine(line_id="A", sku="mug", quantity=quantity, amount=total)
    units = data.draw(st.integers(0, quantity))
    assert refund_of(line, quantity) == total
    assert 0 <= refund_of(line, units) <= total
    assert abs(refund_of(line, units) * quantity - total * units) < quantity


COMPLETED = OrderCompleted(order_id="o", currency="EUR", lines=LINES, at=NOON)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_every_interleaving_of_topics_with_repeats_ends_the_same(data: st.DataObject):
    """Customers and a warehouse write the commands, and payment refunds; a return is requested once its window is open."""
    first, second = commands_of("r1", {"A": 3, "B": 1}), commands_of("r2", {"A": 2, "B": 1})
    queues: dict[str, list[Any]] = {"orders": [COMPLETED], "first": [], "second": [], "payments": []}
    handled: list[Any] = []
    order = INITIAL
    while any(queues.values()) or not handled:
        assert len(handled) < 500
        choice = data.draw(st.sampled_from([name for name, queue in queues.items() if queue] + (["again"] if handled else [])))
        message = data.draw(st.sampled_from(handled)) if choice == "again" else queues[choice].pop(0)
        handled.append(message)
        if choice == "orders":
            queues["first"], queues["second"] = first, second
        for event in handle(message, order):
            order = evolve(order, event)
            assert not isinstance(event, ReturnCommandRefused)
            if isinstance(event, ReturnRefundRequested):
                queues["payments"].append(settled(event))

    assert {return_id: return_.status for return_id, return_ in order.returns.items()} == {"r1": "closed", "r2": "closed"}
    in_order = [COMPLETED, *commands_of("r1", {"A": 3, "B": 1}), paid("r1"), *commands_of("r2", {"A": 2, "B": 1}), paid("r2")]
    assert order == reduce(lambda state, message: reduce(evolve, handle(message, state), state), in_order, INITIAL)


def handle(message: Any, order: Returns) -> list[Event]:
    policy = POLICIES.get(cast(type[Any], type(message)))
    meant = policy(message) if policy else (message,)
    return [event for command in meant for event in decide(command, order, NOON, TERMS)]


def settled(event: ReturnRefundRequested) -> RefundSettled:
    return replace(paid(event.return_id), amount=event.amount)


def paid(return_id: str) -> RefundSettled:
    return RefundSettled(order_id="o", refund_id=return_id, request_id=f"q-{return_id}", amount=1, currency="EUR", at=NOON)


events = st.one_of(*(st.from_type(cls) for cls in get_args(Event)))


@settings(deadline=None, max_examples=200)
@given(st.lists(events, max_size=6))
def test_evolve_accepts_any_events(history: list[Event]):
    assert isinstance(reduce(evolve, history, INITIAL), Returns)


def test_a_closed_return_does_not_change():
    order = reduce(lambda state, message: reduce(evolve, handle(message, state), state), [COMPLETED, *commands_of("r1", {"A": 1})], INITIAL)
    order = reduce(evolve, handle(paid("r1"), order), order)
    for late in [COMPLETED, *commands_of("r1", {"A": 1}), paid("r1"), RecordRefundFailure(order_id="o", return_id="r1", owed=True)]:
        assert handle(late, order) == []
    assert order.returns["r1"].status == "closed"
