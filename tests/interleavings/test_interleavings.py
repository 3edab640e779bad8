"""What must hold of the whole system, however its topics interleave and however often a batch comes.

The examples are the same each time, so that nobody is surprised by somebody else's bug. `OMS_INTERLEAVINGS=20000` draws as many new ones.
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
from oms_contracts.returns import ReturnCommandRefused
from oms_contracts.tracking import TrackingCommandRefused
from oms_inventory.decider import Position
from oms_payment.commands import RequestCapture, RequestRefund
from oms_projection.changes import Changes, Key, Row
from oms_projection.projector import FOLDS, fold
from oms_runtime.model import IncomingRecord

from .outcome import assert_all_is_settled, assert_nothing_is_promised_twice_or_taken_early, settled
from .replay import replay
from .scenarios import DETERMINED, determined, raced
from .system import Queue, Record, Schedule, Story, System, waits

EXAMPLES = int(os.environ.get("OMS_INTERLEAVINGS", "0"))
examples = settings(deadline=None, max_examples=EXAMPLES or 400, derandomize=not EXAMPLES)
schedules = st.builds(Schedule, st.binary(min_size=200, max_size=800), st.lists(st.sampled_from(waits()), max_size=3))


REFUSALS = {OrderCommandRefused, FulfillmentCommandRefused, ReturnCommandRefused, TrackingCommandRefused}


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """Performs outside effects."""
    with asyncio.Runner() as runner:
        yield runner


def live(story: Story, schedule: Schedule, runner: asyncio.Runner) -> System:
    """A story, to its end. After it nothing is news, but that a wish comes too late."""
    system = System(story, schedule, runner)
    system.run(lambda: assert_nothing_is_promised_twice_or_taken_early(system))
    assert_all_is_settled(system)
    end = settled(system.nodes.values())
    assert {type(event) for event in system.hear_everything_again()} <= REFUSALS
    assert settled(system.nodes.values()) == end
    return system


def tells(told: tuple[str, str, str]) -> Callable[[], Story]:
    """What tells a determined story anew."""
    name, good, bad = told
    return lambda: DETERMINED[name].tell(good, bad)


@pytest.mark.parametrize("name", DETERMINED)
def test_a_story_ends_as_it_is_told(name: str, runner: asyncio.Runner):
    system = live(DETERMINED[name].tell("tok_visa", "tok_declined"), Schedule(), runner)
    assert [order.status for order in system.nodes["capture"].states.values()] == [DETERMINED[name].end]


@examples
@given(told=determined, schedule=schedules)
def test_every_interleaving_of_all_topics_ends_the_same(told: tuple[str, str, str], schedule: Schedule, runner: asyncio.Runner):
    straight, mixed = (live(tells(told)(), how, runner) for how in (Schedule(), schedule))
    assert settled(mixed.nodes.values()) == settled(straight.nodes.values())


@examples
@given(tell=raced(), schedule=schedules)
def test_whoever_wins_a_race_money_and_stock_add_up_and_every_order_ends(
    tell: Callable[[], Story], schedule: Schedule, runner: asyncio.Runner
):
    live(tell(), schedule, runner)


@examples
@given(tell=determined.map(tells) | raced(most=1), lived=schedules, replayed=schedules)
def test_what_a_service_was_given_leads_it_to_the_same_state_in_any_order_that_could_have_been(
    tell: Callable[[], Story], lived: Schedule, replayed: Schedule, runner: asyncio.Runner
):
    system = live(tell(), lived, runner)
    for name, node in system.nodes.items():
        assert settled([replay(system, name, replayed)]) == settled([node])


@examples
@given(tell=determined.map(tells) | raced(), lived=schedules, read=schedules)
def test_read_models_say_what_the_services_know_whichever_topic_they_hear_first(
    tell: Callable[[], Story], lived: Schedule, read: Schedule, runner: asyncio.Runner
):
    system = live(tell(), lived, runner)
    rows = told(fold(interleaved(system, read)))

    assert rows == told(fold(interleaved(system, Schedule())))
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
    """What projection reads of a run, each topic in its order."""
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
    """A record as projection's consumer hands it over."""
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


def told(changes: Changes) -> dict[str, dict[Key, Row]]:
    """By table and key; what is null or nothing counts as not said, as it does once it is stored."""
    found = {
        table.name: {key: {name: value for name, value in row.items() if value not in (None, 0)} for key, row in rows.items()}
        for table, rows in changes.rows.items()
    }
    return found | {
        table.name: {row[: len(table.key)]: dict(zip(table.last, row[len(table.key) :], strict=True)) for row in appended}
        for table, appended in changes.appended.items()
    }
