"""Orders are processed while every service, the broker and the database are killed: the outcome is the same as without faults.

The same orders go through one stack twice: as `calm` without faults, then as `storm`, while every service and the broker are killed with
SIGKILL in the middle of their work. The two sets share neither order ids nor SKUs, so the first does not influence the second.

No two runs interleave alike, yet the two can be compared to the unit and the cent. An order's scenario determines its end under any order
of events (see `scenarios`). Orders interact only through their stock. Of every SKU there are exactly the units that all valid orders need,
so no order fails because another came first, and a unit held twice is missing at once; of SKUs that are sold out there are no units. Not
determined is which order empties which location of a SKU with several locations, and therefore how many packages and captures an order has.
So units and amounts are compared as sums per order, and stock is compared by location only for SKUs with one location.

A fault depends on progress: it happens when its part has published a certain share of what it published in `calm`, drawn from a seed.
OMS_FAULTS_SEED repeats the choices of a run; OMS_FAULTS=long is the long form (`make test-faults`).
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
from oms_contracts.catalogue import ALL_SERVICES, SERVICES, TOPICS
from oms_demo.__main__ import audits_of, query_client
from oms_demo.simulators import make_app
from oms_kafka.settings import settings_of
from oms_local.stack import PartStatus, Stack
from oms_projection.responses import OrderDetail, Outcome
from oms_provision.broker import make_admin
from oms_runtime.clock import utc_now

from tests.faults.scenarios import ExternalParties, Orders, Reactions, Scenario
from tests.topics import PARTITIONS, duplicate_events, reading

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The extent of the test. `faults` is by part and kind of fault: how often it happens. After `timeout_seconds` a set of orders fails.

    `kill` is SIGKILL, `pause` stops a service until it has lost its group membership, `stop` stops a part for 30 s.
    """

    orders: int
    faults: Mapping[str, Mapping[str, int]]
    timeout_seconds: float


KILLED = ALL_SERVICES
FORMS = {
    "short": Form(orders=500, faults={part: {"kill": 2} for part in KILLED} | {"kafka": {"kill": 1}}, timeout_seconds=120),
    "long": Form(
        orders=2_932,
        faults={part: {"kill": 6, "pause": 1} for part in KILLED} | {"kafka": {"kill": 2, "stop": 1}, "postgres": {"kill": 3}},
        timeout_seconds=450,
    ),
}
FORM = FORMS[os.environ.get("OMS_FAULTS") or "short"]
SEED = int(os.environ.get("OMS_FAULTS_SEED") or secrets.randbelow(1_000_000))
WAVE_ORDERS = 20
"""The next orders are placed when these are known to the query API, so that orders arrive during the whole run."""
OWNERS = {topic.name: topic.writers[0] for topic in TOPICS if len(topic.writers) == 1}


async def test_the_outcome_is_the_same_under_any_faults(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "aiokafka")  # it logs each failed connection to the broker
    print(f"OMS_FAULTS_SEED={SEED}")  # noqa: T201  # pytest shows it where the test fails
    calm, storm = (Orders(prefix, SEED, FORM.orders) for prefix in ("calm", "storm"))
    async with external_parties(stack, ExternalParties(calm, storm)) as progress, http_client(stack) as projection:
        undisturbed = await flow(stack, projection, calm, before=Counter())
        assert undisturbed.unfinished == {}
        extent = Counter(progress.of)
        injectors = [asyncio.create_task(inject_faults(stack, progress, part, extent[part]), name=part) for part in FORM.faults]
        disturbed = await flow(stack, projection, storm, before=undisturbed.ends)
        done, late = await asyncio.wait(injectors, timeout=30)
        for injector in late:
            injector.cancel()
        await asyncio.gather(*done)
        async with query_client(stack) as client:
            audits = await audits_of(stack, client)
        dead_letters = await query(projection, "/dead-letters?waiting=false")

    assert disturbed.unfinished == {}
    assert [injector.get_name() for injector in late] == []
    assert differences(undisturbed.orders, disturbed.orders) == {}
    assert differences(undisturbed.stock, disturbed.stock) == {}
    assert {name: audit for name, audit in audits.items() if not audit["green"]} == {}
    assert dead_letters["items"] == []
    assert await duplicate_events(stack) == []
    # No part died that was not killed.
    assert {part.name: part.restarts for part in stack.status()} == {"postgres": 0} | {p: f["kill"] for p, f in FORM.faults.items()}


# The faults


def schedule(part: str) -> Iterator[tuple[str, float]]:
    """The faults of a part, each with the share of the part's work after which it happens: one in each equal slice, none at either end."""
    random = Random(f"{SEED}/{part}")
    faults = [fault for fault, times in FORM.faults[part].items() for _ in range(times)]
    random.shuffle(faults)
    for number, fault in enumerate(faults):
        yield fault, 0.05 + 0.85 * (number + random.random()) / len(faults)


async def inject_faults(stack: Stack, progress: "Progress", part: str, extent: int) -> None:
    """Inject each fault of a part when the part has published its share of `extent` records, and wait until the part continues."""
    start = progress.of[part]
    for fault, share in schedule(part):
        await progress.reaches(part, start + round(share * extent))
        before = await until(lambda: status_of(stack, part, "running"))
        match fault:
            case "kill":
                stack.kill(part, signal.SIGKILL)
                after = await until(lambda pid=before.pid: status_of(stack, part, "starting", "running", other_than=pid))
                assert after.restarts == before.restarts + 1
            case "pause":
                stack.kill(part, signal.SIGSTOP)
                await until(lambda: has_no_members(stack, part))
                stack.kill(part, signal.SIGCONT)
            case _:
                await asyncio.to_thread(stack.stop_part, part)
                await asyncio.sleep(30)  # longer than a producer's request timeout
                await asyncio.to_thread(stack.start_part, part)
        # It had not finished: it publishes more.
        await progress.reaches(part, progress.of[part] + 1)


async def has_no_members(stack: Stack, part: str) -> bool:
    """Whether the broker reports that a service's consumer group has no members."""
    group, admin = f"oms.{part}", make_admin(stack.kafka("admin"))
    with suppress(KafkaException, TimeoutError):
        described = await asyncio.to_thread(admin.describe_consumer_groups([group])[group].result, 5)
        return not described.members
    return False


async def status_of(stack: Stack, part: str, *states: str, other_than: int | None = None) -> PartStatus | None:
    """The status of a part if it is one of `states`, in a process with a pid other than `other_than`."""
    parts = await asyncio.to_thread(stack.status)
    return next((found for found in parts if found.name == part and found.state in states and found.pid != other_than), None)


class Progress:
    """The number of records that each service has published; for any other part, the number of all records."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    async def watch(self, stack: Stack) -> None:
        """Count again and again until cancelled."""
        while True:
            with suppress(KafkaError):
                async with reading(stack) as reader:
                    while True:
                        ends = await reader.end_offsets(PARTITIONS)
                        async with self._changed:
                            self.of = Counter()
                            for partition, end in ends.items():
                                self.of[OWNERS.get(partition.topic, "external")] += end
                            self.of |= dict.fromkeys(FORM.faults.keys() - set(SERVICES), sum(ends.values()))
                            self._changed.notify_all()
                        await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)

    async def reaches(self, part: str, count: int) -> None:
        """Wait until `part` has published `count` records."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.of[part] >= count)


# The flow


@asynccontextmanager
async def external_parties(stack: Stack, parties: ExternalParties) -> AsyncGenerator[Progress]:
    """Run the external parties, and count what services publish."""
    progress = Progress()
    async with asyncio.TaskGroup() as background:
        tasks = [background.create_task(progress.watch(stack))]
        tasks += [background.create_task(react(stack, user, reactions)) for user, reactions in parties.reactions().items()]
        yield progress
        for task in tasks:
            task.cancel()


async def react(stack: Stack, user: str, reactions: Reactions) -> None:
    """React to events until cancelled. When the broker is away it starts again from the first event, and so repeats its commands."""
    while True:
        with suppress(KafkaError):
            async with make_app(lambda name: settings_of(stack.kafka(name)), {user: reactions}):
                await asyncio.Event().wait()
        await asyncio.sleep(0.2)


async def publish(stack: Stack, user: str, messages: Iterable[Any]) -> None:
    """Publish all of `messages`, and again if the broker does not respond."""
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
    """The outcome of a set of orders, by reference, and of its stock. `ends` counts the last statuses of this and earlier sets."""

    orders: dict[str, Any]
    stock: dict[str, int]
    ends: Counter[str]
    unfinished: dict[str, Any]


async def flow(stack: Stack, projection: httpx.AsyncClient, orders: Orders, *, before: Counter[str]) -> Flow:
    """Receive the stock, place the orders in waves, and wait until all of them have finished."""
    ends = before + Counter(scenario.ends for _, scenario in orders.planned)
    waiting = dict(orders.scenarios)
    finished: dict[str, Any] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(FORM.timeout_seconds):
            receipts = orders.stock()
            await publish(stack, "warehouse", receipts)
            for receipt in receipts:
                await until(lambda sku=receipt.lines[-1].sku: query(projection, f"/stock/{sku}"))
            placed = orders.placed()
            for begin in range(0, len(placed), WAVE_ORDERS):
                await publish(stack, "channel", placed[begin : begin + WAVE_ORDERS])
                known = before.total() + min(begin + WAVE_ORDERS, len(orders.planned))
                await until(lambda known=known: _has(projection, lambda found: found.total() >= known))
            await until(lambda: _has(projection, lambda found: found == ends))
            while waiting:
                found = await asyncio.gather(*(query(projection, f"/orders/{order_id}", OrderDetail) for order_id in waiting))
                for order in found:
                    if order and is_finished(order, waiting[order.order_id]):
                        finished[order.reference.removeprefix(orders.prefix)] = outcome_of(order)
                        del waiting[order.order_id]
    unfinished = {order_id: (scenario, await query(projection, f"/orders/{order_id}")) for order_id, scenario in list(waiting.items())[:5]}
    return Flow(orders=finished, stock=await stock_of(projection, orders), ends=ends, unfinished=unfinished)


async def _has(projection: httpx.AsyncClient, condition: Callable[[Counter[str]], bool]) -> bool:
    """Whether the number of orders by status meets `condition`."""
    outcomes = await query(projection, "/outcomes", list[Outcome])
    return outcomes is not None and condition(Counter({outcome.status: outcome.orders for outcome in outcomes}))


def is_finished(order: OrderDetail, scenario: Scenario) -> bool:
    """Whether no further event of an order is to come, neither of its payment nor of its returns, and projection has read all of them."""
    shipped = [fulfillment for fulfillment in order.fulfillments if fulfillment.status == "shipped"]
    captures = order.payment.captures if order.payment else []
    refunds = order.payment.refunds if order.payment else []
    released = order.payment is not None and order.payment.totals.status in {"voided", "void_failed", "abandoned"}
    return (
        order.status == scenario.ends
        and (released if scenario.ends == "canceled" else len(shipped) == len(order.fulfillments) == len(captures))
        and all(capture.status in {"captured", "failed"} for capture in captures)
        and all(refund.status in {"settled", "failed"} for refund in refunds)
        and len(order.returns) == len(scenario.returns)
        and all(returned.status in {"closed", "declined"} for returned in order.returns)
        and sum(line.shipped for line in order.lines) == (order.stock.shipped if order.stock else 0)
    )


def outcome_of(order: OrderDetail) -> dict[str, Any]:
    """The part of a finished order that must not depend on faults."""
    totals = order.payment.totals if order.payment else None
    return {
        "status": order.status,
        "action": order.action,
        "attempt": order.attempt,
        "conflicts": order.conflicts,
        "money": totals and (totals.authorized, totals.voided, totals.captured, totals.refunded),
        "failed": totals and totals.failures > 0,
        "units": {line.line_id: (line.quantity, line.shipped, line.delivered, line.returned) for line in order.lines},
        "reserved and allocated": order.stock and (order.stock.reserved, order.stock.allocated),
        "returns": [
            (returned.status, returned.outcome, returned.received, returned.refund_requested, returned.refunded)
            for returned in order.returns
        ],
    }


async def stock_of(projection: httpx.AsyncClient, orders: Orders) -> dict[str, int]:
    """Units by kind, SKU and, for SKUs with one location, location; zeros are left out."""
    units = Counter[str]()
    after = ""
    while True:
        page = await query(projection, f"/stock?limit=500{after}")
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
    """The entries that are not the same in both."""
    return {name: (one.get(name), other.get(name)) for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


# Querying and waiting


@asynccontextmanager
async def http_client(stack: Stack) -> AsyncGenerator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=8)
    timeout = httpx.Timeout(30, pool=None)
    base = f"http://127.0.0.1:{stack.settings.http_port_of('projection')}"
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=timeout) as client:
        yield client


async def query(client: httpx.AsyncClient, path: str, kind: Any = Any) -> Any:
    """The response as `kind`; None if there is none: the query API may have been killed, or not have read the events yet."""
    try:
        response = await client.get(path)
    except httpx.TransportError:
        return None
    if response.status_code in {404, 503}:
        return None
    return msgspec.json.decode(response.raise_for_status().content, type=kind)


async def until(found: Callable[[], Awaitable[T | None]]) -> T:
    """Call `found` until it returns something."""
    while not (value := await found()):  # noqa: ASYNC110  # other processes bring it about
        await asyncio.sleep(0.1)
    return value
