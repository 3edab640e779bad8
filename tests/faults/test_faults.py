"""Orders flow while everything they flow through is killed: the outcome is what it is when nothing is.

Two sets of the same orders go through one stack: `calm` undisturbed, then `storm`, in which every service and the broker die with -9 in the
middle of their work. The sets share neither order ids nor SKUs, so what is left of one is nothing to the other.

Why the two can be compared to the unit and the cent, although no two runs interleave alike. An order's story says who acts on it and when,
and it ends the same way in any order of events (see `stories`). Orders meet in one place only, their stock. Of every SKU there is exactly
what all sound orders want, so none ever fails for another's sake, whoever comes first, and a unit held twice would be missing at once; of
what is sold out there is nothing for anybody. What remains open is which order drains which location of a SKU that lies in several, and
with that how many parcels and captures an order has. So units and amounts are compared as an order's sums, and stock by location only
where a SKU has one location.

A kill is bound to progress: it comes when its victim has published so much of what it published in the calm, at a place drawn from a seed.
OMS_FAULTS_SEED repeats a run's choices; OMS_FAULTS=long is the long form (`make test-faults`).
"""

import asyncio
import logging
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import httpx
import msgspec
import pytest
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException
from oms_client.errors import ClientError
from oms_client.publisher import Publisher
from oms_contracts.catalogue import SERVICES, TOPICS
from oms_demo.__main__ import audits_of, query_client
from oms_demo.responses import Response as Answer
from oms_demo.simulators import make_app
from oms_kafka.settings import settings_of
from oms_local.provision import make_admin
from oms_local.stack import PartStatus, Stack
from oms_projection.responses import OrderDetail, Outcome
from oms_runtime.clock import utc_now

from tests.faults.scenarios import Orders, Outside, Story
from tests.topics import PARTITIONS, duplicate_events, reading

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How much of everything. `faults` is by part: what is done to it, how often. `patience` is seconds until a set of orders is given up.

    `kill` is kill -9, `pause` holds a service until it has lost its place in its group, `take away` leaves a part out for half a minute.
    """

    orders: int
    faults: Mapping[str, Mapping[str, int]]
    patience: float


KILLED = (*SERVICES, "projection")
FORMS = {
    "short": Form(orders=500, faults={part: {"kill": 2} for part in KILLED} | {"kafka": {"kill": 1}}, patience=120),
    "long": Form(
        orders=2_932,
        faults={part: {"kill": 6, "pause": 1} for part in KILLED} | {"kafka": {"kill": 2, "take away": 1}, "postgres": {"kill": 3}},
        patience=450,
    ),
}
FORM = FORMS[os.environ.get("OMS_FAULTS") or "short"]
SEED = int(os.environ.get("OMS_FAULTS_SEED") or secrets.randbelow(1_000_000))
WAVE = 20
"""So many orders are placed, and the next only when these are known to the query API: the flow goes on while services come and go."""
OWNERS = {topic.name: topic.writers[0] for topic in TOPICS if len(topic.writers) == 1}


async def test_the_outcome_is_the_same_whoever_is_killed(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "aiokafka")  # it says at length that the broker is away
    print(f"OMS_FAULTS_SEED={SEED}")  # noqa: T201  # pytest shows it where the test fails
    calm, storm = (Orders(prefix, SEED, FORM.orders) for prefix in ("calm", "storm"))
    async with at_work(stack, Outside(calm, storm)) as progress, asking(stack) as projection:
        undisturbed = await flow(stack, projection, calm, before=Counter())
        assert undisturbed.restless == {}
        extent = Counter(progress.of)
        strikes = [asyncio.create_task(strike_again_and_again(stack, progress, part, extent[part]), name=part) for part in FORM.faults]
        disturbed = await flow(stack, projection, storm, before=undisturbed.ends)
        done, late = await asyncio.wait(strikes, timeout=30)
        for strike in late:
            strike.cancel()
        await asyncio.gather(*done)
        async with query_client(stack) as query:
            audits = await audits_of(stack, query)
        letters = await ask(projection, "/dead-letters?waiting=false")

    assert disturbed.restless == {}
    assert [strike.get_name() for strike in late] == []
    assert differences(undisturbed.orders, disturbed.orders) == {}
    assert differences(undisturbed.stock, disturbed.stock) == {}
    assert {name: audit for name, audit in audits.items() if not audit["green"]} == {}
    assert letters["items"] == []
    assert await duplicate_events(stack) == []
    # Nobody died who was not killed.
    assert {part.name: part.restarts for part in stack.status()} == {"postgres": 0} | {p: f["kill"] for p, f in FORM.faults.items()}


# The faults


def schedule(part: str) -> Iterator[tuple[str, float]]:
    """What is done to a part, and after which share of its work: once in each equal slice of it, neither at first nor at last."""
    random = Random(f"{SEED}/{part}")
    faults = [fault for fault, times in FORM.faults[part].items() for _ in range(times)]
    random.shuffle(faults)
    for number, fault in enumerate(faults):
        yield fault, 0.05 + 0.85 * (number + random.random()) / len(faults)


async def strike_again_and_again(stack: Stack, progress: "Progress", part: str, extent: int) -> None:
    """Do to a part what is due when it has published so much of `extent` records, and see that it goes on."""
    start = progress.of[part]
    for fault, share in schedule(part):
        await progress.reaches(part, start + round(share * extent))
        before = await until(lambda: standing(stack, part, "running"))
        match fault:
            case "kill":
                stack.kill(part, signal.SIGKILL)
                after = await until(lambda pid=before.pid: standing(stack, part, "starting", "running", but=pid))
                assert after.restarts == before.restarts + 1
            case "pause":
                stack.kill(part, signal.SIGSTOP)
                await until(lambda: has_lost_its_place(stack, part))
                stack.kill(part, signal.SIGCONT)
            case _:
                await asyncio.to_thread(stack.stop_part, part)
                await asyncio.sleep(30)  # longer than a producer waits for an answer
                await asyncio.to_thread(stack.start_part, part)
        # It was not at rest: there is more to come from it.
        await progress.reaches(part, progress.of[part] + 1)


async def has_lost_its_place(stack: Stack, part: str) -> bool:
    """Whether a service's group is empty, as far as the broker can be asked."""
    group, admin = f"oms.{part}", make_admin(stack.kafka("admin"))
    with suppress(KafkaException, TimeoutError):
        described = await asyncio.to_thread(admin.describe_consumer_groups([group])[group].result, 5)
        return not described.members
    return False


async def standing(stack: Stack, part: str, *states: str, but: int | None = None) -> PartStatus | None:
    """How a part stands if it is in one of `states`, in a process other than `but`."""
    parts = await asyncio.to_thread(stack.status)
    return next((found for found in parts if found.name == part and found.state in states and found.pid != but), None)


class Progress:
    """How many records each service has published; under any other name: all of them together."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self._news = asyncio.Condition()

    async def watch(self, stack: Stack) -> None:
        """Look again and again, until cancelled."""
        while True:
            with suppress(KafkaError):
                async with reading(stack) as reader:
                    while True:
                        ends = await reader.end_offsets(PARTITIONS)
                        async with self._news:
                            self.of = Counter()
                            for partition, end in ends.items():
                                self.of[OWNERS.get(partition.topic, "outside")] += end
                            self.of |= dict.fromkeys(FORM.faults.keys() - set(SERVICES), sum(ends.values()))
                            self._news.notify_all()
                        await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)

    async def reaches(self, part: str, count: int) -> None:
        """Wait until `part` has published `count` records."""
        async with self._news:
            await self._news.wait_for(lambda: self.of[part] >= count)


# The flow


@asynccontextmanager
async def at_work(stack: Stack, people: Outside) -> AsyncGenerator[Progress]:
    """The outside acts, and progress is watched."""
    progress = Progress()
    async with asyncio.TaskGroup() as background:
        tasks = [background.create_task(progress.watch(stack))]
        tasks += [background.create_task(act(stack, user, answers)) for user, answers in people.answers().items()]
        yield progress
        for task in tasks:
            task.cancel()


async def act(stack: Stack, user: str, answers: Mapping[type[Any], Answer]) -> None:
    """Answer events until cancelled. The outside survives the broker as well: it begins anew, and repeats itself."""
    while True:
        with suppress(KafkaError):
            async with make_app(lambda name: settings_of(stack.kafka(name)), {user: answers}):
                await asyncio.Event().wait()
        await asyncio.sleep(0.2)


async def publish(stack: Stack, user: str, messages: Iterable[Any]) -> None:
    """Publish all of `messages`; where the broker does not answer, again."""
    waiting = list(messages)

    async def published() -> bool:
        with suppress(ClientError):
            async with Publisher(settings_of(stack.kafka(user)), f"/test/{user}", utc_now) as publisher:
                await publisher.publish(waiting)
                return True
        return False

    await until(published)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What became of a set of orders, by reference, and of its stock. `ends` counts where all orders rest, also those before this set."""

    orders: dict[str, Any]
    stock: dict[str, int]
    ends: Counter[str]
    restless: dict[str, Any]


async def flow(stack: Stack, projection: httpx.AsyncClient, orders: Orders, *, before: Counter[str]) -> Flow:
    """Receive the stock, place the orders in waves, and wait until all is quiet."""
    ends = before + Counter(story.ends for _, story in orders.told)
    waiting = dict(orders.stories)
    rested: dict[str, Any] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(FORM.patience):
            receipts = orders.stock()
            await publish(stack, "warehouse", receipts)
            for receipt in receipts:
                await until(lambda sku=receipt.lines[-1].sku: ask(projection, f"/stock/{sku}"))
            placed = orders.placed()
            for begin in range(0, len(placed), WAVE):
                await publish(stack, "channel", placed[begin : begin + WAVE])
                known = before.total() + min(begin + WAVE, len(orders.told))
                await until(lambda known=known: _has(projection, lambda found: found.total() >= known))
            await until(lambda: _has(projection, lambda found: found == ends))
            while waiting:
                found = await asyncio.gather(*(ask(projection, f"/orders/{order_id}", OrderDetail) for order_id in waiting))
                for order in found:
                    if order and rests(order, waiting[order.order_id]):
                        rested[order.reference.removeprefix(orders.prefix)] = outcome_of(order)
                        del waiting[order.order_id]
    restless = {order_id: (story, await ask(projection, f"/orders/{order_id}")) for order_id, story in list(waiting.items())[:5]}
    return Flow(orders=rested, stock=await stock_of(projection, orders), ends=ends, restless=restless)


async def _has(projection: httpx.AsyncClient, holds: Callable[[Counter[str]], bool]) -> bool:
    outcomes = await ask(projection, "/outcomes", list[Outcome])
    return outcomes is not None and holds(Counter({outcome.status: outcome.orders for outcome in outcomes}))


def rests(order: OrderDetail, story: Story) -> bool:
    """Whether nothing is to come of an order: neither of its money nor of its returns, and all topics have said what they have to say."""
    shipped = [fulfillment for fulfillment in order.fulfillments if fulfillment.status == "shipped"]
    captures = order.payment.captures if order.payment else []
    refunds = order.payment.refunds if order.payment else []
    let_go = order.payment is not None and order.payment.totals.status in {"voided", "void_failed", "abandoned"}
    return (
        order.status == story.ends
        and (let_go if story.ends == "canceled" else len(shipped) == len(order.fulfillments) == len(captures))
        and all(capture.status in {"captured", "failed"} for capture in captures)
        and all(refund.status in {"settled", "failed"} for refund in refunds)
        and len(order.returns) == len(story.returns)
        and all(back.status in {"closed", "declined"} for back in order.returns)
        and sum(line.shipped for line in order.lines) == (order.stock.shipped if order.stock else 0)
    )


def outcome_of(order: OrderDetail) -> dict[str, Any]:
    """Of an order that rests: all that must not depend on what was killed."""
    totals = order.payment.totals if order.payment else None
    return {
        "status": order.status,
        "action": order.action,
        "attempt": order.attempt,
        "conflicts": order.conflicts,
        "money": totals and (totals.authorized, totals.voided, totals.captured, totals.refunded),
        "by hand": totals and totals.failures > 0,
        "units": {line.line_id: (line.quantity, line.shipped, line.delivered, line.returned) for line in order.lines},
        "held": order.stock and (order.stock.reserved, order.stock.allocated),
        "returns": [(back.status, back.outcome, back.received, back.refund_requested, back.refunded) for back in order.returns],
    }


async def stock_of(projection: httpx.AsyncClient, orders: Orders) -> dict[str, int]:
    """Units by kind, SKU and, where it has one alone, location; without what is zero."""
    units = Counter[str]()
    after = ""
    while True:
        page = await ask(projection, f"/stock?limit=500{after}")
        for position in page["items"]:
            sku = position["sku"]
            if sku.startswith(orders.prefix):
                place = position["location"] if len(orders.locations(sku)) == 1 else "any"
                for kind in ("on_hand", "reserved", "allocated"):
                    units[f"{kind} {sku.removeprefix(orders.prefix)} {place}"] += position[kind]
        if page["next"] is None:
            return {name: count for name, count in units.items() if count}
        after = f"&after={page['next']}"


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is not the same in both."""
    return {name: (one.get(name), other.get(name)) for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


# Asking and waiting


@asynccontextmanager
async def asking(stack: Stack) -> AsyncGenerator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=8)
    timeout = httpx.Timeout(30, pool=None)
    base = f"http://127.0.0.1:{stack.settings.http_port + len(SERVICES)}"
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=timeout) as client:
        yield client


async def ask(client: httpx.AsyncClient, path: str, kind: Any = Any) -> Any:
    """The answer as `kind`; None where there is none now: the query API may have been killed, or not have heard yet."""
    try:
        answer = await client.get(path)
    except httpx.TransportError:
        return None
    if answer.status_code in {404, 503}:
        return None
    return msgspec.json.decode(answer.raise_for_status().content, type=kind)


async def until(found: Callable[[], Awaitable[T | None]]) -> T:
    """Ask again and again, until there is something."""
    while not (answer := await found()):  # noqa: ASYNC110  # it is for other processes to bring it about
        await asyncio.sleep(0.1)
    return answer
