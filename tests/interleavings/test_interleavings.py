"""The invariants of the whole system, under any interleaving of its topics and any repetition of records.

The examples are the same in every run, so that a change is not failed by an older bug. `OMS_INTERLEAVINGS=20000` draws 20,000 new ones.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oms_contracts.envelope import Envelope
from oms_contracts.fulfillments import FulfillmentCommandRefused
from oms_contracts.message import encode, type_of
from oms_contracts.orders import OrderCommandRefused
from oms_contracts.payments import PaymentCommandRefused
from oms_contracts.returns import ReturnCommandRefused
from oms_contracts.stock import StockCommandRefused
from oms_contracts.tracking import TrackingCommandRefused
from oms_inventory.positions import Position
from oms_payment.commands import RequestCapture, RequestRefund
from oms_projection.changes import Changes, Key, Row
from oms_projection.projector import FOLDS, fold
from oms_runtime.model import IncomingRecord

from .outcome import assert_all_is_settled, assert_nothing_is_promised_twice_or_captured_early, settled
from .replay import replay
from .scenarios import DETERMINED, SHOPS, determined, raced
from .system import Queue, Record, Scenario, Schedule, System, possible_delays

EXAMPLES = int(os.environ.get("OMS_INTERLEAVINGS", "0"))
examples = settings(deadline=None, max_examples=EXAMPLES or 400, derandomize=not EXAMPLES)
schedules = st.builds(Schedule, st.binary(min_size=200, max_size=800), st.lists(st.sampled_from(possible_delays()), max_size=3))


REFUSALS = {
    *(OrderCommandRefused, StockCommandRefused, PaymentCommandRefused),
    *(FulfillmentCommandRefused, ReturnCommandRefused, TrackingCommandRefused),
}


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """Performs outside effects."""
    with asyncio.Runner() as runner:
        yield runner


def run(scenario: Scenario, schedule: Schedule, runner: asyncio.Runner) -> System:
    """Run a scenario to its end. Redelivering every input must then cause nothing but refusals of late commands."""
    system = System(scenario, schedule, runner)
    system.run(lambda: assert_nothing_is_promised_twice_or_captured_early(system))
    assert_all_is_settled(system)
    end = settled(system.nodes.values())
    assert {type(event) for event in system.redeliver_everything()} <= REFUSALS
    assert settled(system.nodes.values()) == end
    return system


def maker(drawn: tuple[str, str, str, str]) -> Callable[[], Scenario]:
    """A function that makes a determined scenario."""
    name, shop, good, bad = drawn
    return lambda: DETERMINED[name].make(SHOPS[shop], good, bad)


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize("name", DETERMINED)
def test_a_scenario_ends_as_expected(name: str, shop: str, runner: asyncio.Runner):
    system = run(DETERMINED[name].make(SHOPS[shop], "tok_visa", "tok_declined"), Schedule(), runner)
    assert [order.status for order in system.nodes["capture"].states.values()] == [DETERMINED[name].end]


@examples
@given(drawn=determined, schedule=schedules)
def test_every_interleaving_of_all_topics_ends_the_same(drawn: tuple[str, str, str, str], schedule: Schedule, runner: asyncio.Runner):
    straight, mixed = (run(maker(drawn)(), order, runner) for order in (Schedule(), schedule))
    assert settled(mixed.nodes.values()) == settled(straight.nodes.values())


@examples
@given(make=raced(), schedule=schedules)
def test_after_any_race_money_and_stock_add_up_and_every_order_has_ended(
    make: Callable[[], Scenario], schedule: Schedule, runner: asyncio.Runner
):
    system = run(make(), schedule, runner)
    if system.scenario.unknown_sku != "reject":
        assert "rejected" not in {order.status for order in system.nodes["capture"].states.values()}, "all orders are valid"


@examples
@given(make=determined.map(maker) | raced(max_orders=1), first=schedules, replayed=schedules)
def test_the_inputs_of_a_service_lead_to_the_same_state_in_any_causally_possible_order(
    make: Callable[[], Scenario], first: Schedule, replayed: Schedule, runner: asyncio.Runner
):
    system = run(make(), first, runner)
    for name, node in system.nodes.items():
        assert settled([replay(system, name, replayed)]) == settled([node])


@examples
@given(make=determined.map(maker) | raced(), first=schedules, read=schedules)
def test_read_models_agree_with_the_services_under_any_interleaving(
    make: Callable[[], Scenario], first: Schedule, read: Schedule, runner: asyncio.Runner
):
    system = run(make(), first, runner)
    rows = read_models(fold(interleaved(system, read)))

    assert rows == read_models(fold(interleaved(system, Schedule())))
    orders = {order_id: order.status for order_id, order in system.nodes["capture"].states.items() if order.status != "new"}
    assert {order_id: row["status"] for (order_id,), row in rows["orders"].items()} == orders
    assert {place: row for place, row in rows["stock"].items() if row} == {
        (key.removeprefix("sku/"), location): {"on_hand": units.on_hand}
        for key, state in system.nodes["inventory"].states.items()
        if isinstance(state, Position)
        for location, units in state.bins.items()
    }
    for order_id in orders:
        money = rows["payments"].get((order_id,), {})
        assert money.get("captured", 0) == system.provider.total(order_id, RequestCapture)
        assert money.get("refunded", 0) == system.provider.total(order_id, RequestRefund)


def interleaved(system: System, schedule: Schedule) -> Iterator[IncomingRecord]:
    """The records of a run that projection reads, each topic in its order."""
    lanes: dict[Queue, deque[IncomingRecord]] = {}
    for record in system.records:
        if record.queue[0] in FOLDS:
            lanes.setdefault(record.queue, deque()).append(received(record))
    while lanes:
        lane = list(lanes)[schedule.choose(len(lanes))]
        yield lanes[lane].popleft()
        if not lanes[lane]:
            del lanes[lane]


def received(record: Record) -> IncomingRecord:
    """A record as projection's consumer passes it to the projector."""
    kind, (topic, partition) = type_of(record.message), record.queue
    source, position = f"/oms/{record.author}", record.position
    return IncomingRecord(
        topic=topic,
        partition=partition,
        offset=record.number,
        key=record.subject,
        headers=(),
        value=encode(record.message),
        type=kind.name,
        position=position,
        envelope=Envelope(type=kind.name, source=source, id=f"{source}/{position}", time=record.at, position=position),
        message=record.message,
    )


def read_models(changes: Changes) -> dict[str, dict[Key, Row]]:
    """Rows by table and key. Null and zero count as absent, as they do once they are stored."""
    found = {
        table.name: {key: {name: value for name, value in row.items() if value not in (None, 0)} for key, row in rows.items()}
        for table, rows in changes.rows.items()
    }
    return found | {
        table.name: {row[: len(table.key)]: dict(zip(table.last, row[len(table.key) :], strict=True)) for row in appended}
        for table, appended in changes.appended.items()
    }
