"""Orders are processed while every service, the broker and the database are killed: the outcome is the same as without faults.

The same orders go through one stack several times: as `calm` without faults, then as `storm`, once or in the long form many times, while
every service and the broker are killed with SIGKILL in the middle of their work. The sets share neither order ids nor SKUs, so none
influences another.

No two runs interleave alike, yet the two can be compared to the unit and the cent. An order's scenario determines its end under any order
of events (see `scenarios`). Orders interact only through their stock. Of every SKU there are exactly the units that all valid orders need,
so no order fails because another came first, and a unit held twice is missing at once; of SKUs that are sold out there are no units. Not
determined is which order empties which location of a SKU with several locations, and therefore how many packages and captures an order has.
So units and amounts are compared as sums per order, and stock is compared by location only for SKUs with one location.

A fault depends on progress: it happens when its part's service has published a certain share of what it will publish, drawn from a seed.
OMS_FAULTS_SEED repeats the choices of a run; OMS_FAULTS=long is the long form (`make test-faults`), which says every half a minute how far
it is. OMS_FAULTS_ORDERS is how many orders that has: the same faults come closer together among fewer.
"""

import asyncio
import logging
import math
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from time import monotonic
from typing import Any, TypeVar

import httpx
import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from oms_client.errors import ClientError
from oms_client.publisher import Publisher
from oms_contracts.catalogue import ALL_SERVICES, APIS, SERVICES, TOPICS
from oms_demo.__main__ import audits_of, query_client
from oms_demo.baskets import CHANNELS
from oms_demo.responses import LOCATIONS
from oms_demo.simulators import make_app
from oms_kafka.clients import client_options
from oms_kafka.settings import settings_of
from oms_local.settings import part_of
from oms_local.stack import PartStatus, Stack
from oms_projection.responses import OrderDetail, Outcome
from oms_runtime.clock import utc_now

from tests.faults.scenarios import ExternalParties, Orders, Reactions, Scenario
from tests.topics import PARTITIONS, reading, repeated_events

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The extent of the test: `storms` sets of `orders` orders each, once for each number of `replicas`.

    `faults` is how often each kind of fault happens to a service, whose replicas share them, to an API or a server. `kill` is SIGKILL,
    `pause` stops a service's process until the group has lost it, `restart` stops a part in order and starts it, `stop` leaves it stopped
    for 30 s. The next orders are placed when `wave_orders` are known to the query API, so that orders arrive during the whole run. After
    `timeout_seconds` a set of orders fails. Records are counted every `count_seconds`.
    """

    orders: int
    storms: int
    replicas: tuple[int, ...]
    faults: Mapping[str, Mapping[str, int]]
    wave_orders: int
    timeout_seconds: float
    count_seconds: float

    def faults_of(self, replicas: int) -> dict[str, tuple[str, Mapping[str, int]]]:
        """By part: whose records say how far it is (a service, or for a server or an API itself), and its faults."""
        parts = {name: (name, times) for name, times in self.faults.items() if name not in ALL_SERVICES}  # servers and APIs
        for service in ALL_SERVICES:
            times = {fault: number // replicas for fault, number in self.faults[service].items()}
            parts |= {part_of(service, replica): (service, times) for replica in range(1, replicas + 1)}
        return parts


SET_ORDERS = 2_932
"""All baskets of the data."""
FORMS = {
    "short": Form(
        orders=500,
        storms=1,
        replicas=(1,),
        faults={part: {"kill": 2} for part in (*ALL_SERVICES, *APIS)} | {"kafka": {"kill": 1}, "postgres": {}},
        wave_orders=20,
        timeout_seconds=120,
        count_seconds=0.05,
    ),
    # 100 kills.
    "long": Form(
        orders=SET_ORDERS,
        storms=math.ceil(int(os.environ.get("OMS_FAULTS_ORDERS") or 50_000) / SET_ORDERS),
        replicas=(1, 2),
        faults={service: {"kill": 12, "pause": 2, "restart": 2} for service in ALL_SERVICES}
        | {api: {"kill": 2} for api in APIS}
        | {"kafka": {"kill": 5, "restart": 1, "stop": 1}, "postgres": {"kill": 7, "restart": 1, "stop": 1}},
        wave_orders=200,
        timeout_seconds=1_800,
        count_seconds=0.5,
    ),
}
FORM = FORMS[os.environ.get("OMS_FAULTS") or "short"]
SEED = int(os.environ.get("OMS_FAULTS_SEED") or secrets.randbelow(1_000_000))
REPORT_SECONDS = 30
QUERIED_AT_ONCE = 100
MAX_FURTHER_STORMS = 3
"""Sets of orders beyond the form's, while faults are left: on a slow machine, or among few orders, they take longer than the orders do."""
OWNERS = {topic.name: topic.writers[0] for topic in TOPICS if len(topic.writers) == 1}


@pytest.mark.parametrize("stack", FORM.replicas, indirect=True, ids="replicas={}".format)
async def test_the_outcome_is_the_same_under_any_faults(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "aiokafka")  # it logs each failed connection to the broker
    say(f"OMS_FAULTS_SEED={SEED}, {stack.settings.replicas} replicas of each service")
    faults = FORM.faults_of(stack.settings.replicas)
    parties = ExternalParties()
    async with external_parties(stack, parties) as progress, http_client(stack) as projection:
        calm = Orders("calm", SEED, FORM.orders)
        parties.serve(calm)
        undisturbed = disturbed = await flow(stack, projection, calm, Report())
        assert undisturbed.unfinished == {}
        report = Report(orders=FORM.storms * FORM.orders, faults=sum(sum(times.values()) for _, times in faults.values()))
        reporting = asyncio.create_task(report.go_on())
        injectors = [
            asyncio.create_task(
                inject_faults(stack, progress, report, part, owner=owner, times=times, extent=FORM.storms * progress.of[owner]), name=part
            )
            for part, (owner, times) in faults.items()
        ]
        wrong: dict[str, Any] = {}
        late: set[asyncio.Task[None]] = set()
        for number in range(FORM.storms + MAX_FURTHER_STORMS):
            storm = Orders(f"storm{number:02}", SEED, FORM.orders)
            parties.serve(storm)
            disturbed = await flow(stack, projection, storm, report, before=disturbed)
            wrong = differences(undisturbed.orders, disturbed.orders) | differences(undisturbed.stock, disturbed.stock)
            if number + 1 >= FORM.storms:
                _, late = await asyncio.wait(injectors, timeout=30)
            if disturbed.unfinished or wrong or (number + 1 >= FORM.storms and not late):
                break
        for task in (*late, reporting):
            task.cancel()
        await asyncio.gather(*(injector for injector in injectors if injector.done()))
        async with query_client(stack) as client:
            audits = await audits_of(stack, client)
        dead_letters = await query(projection, "/dead-letters?waiting=false")

    assert disturbed.unfinished == {}
    assert [injector.get_name() for injector in late] == []
    assert wrong == {}
    assert {name: audit for name, audit in audits.items() if not audit["green"]} == {}
    assert dead_letters["items"] == []
    assert await repeated_events(stack) == []
    # No part died that was not killed.
    restarts = {part.name: part.restarts for part in stack.status() if part.name != "postgres"}
    assert restarts == {part: times.get("kill", 0) for part, (_, times) in faults.items() if part != "postgres"}
    say(f"{report}: the outcome is the same")


def say(text: str) -> None:
    """For whoever waits for the long form; pytest shows it where the test fails."""
    print(text, flush=True)  # noqa: T201  # it is for a person


@dataclass(slots=True)
class Report:
    """How far a run is: of `orders` orders and `faults` faults, how many are done."""

    orders: int = 0
    faults: int = 0
    orders_done: int = 0
    faults_done: int = 0
    began: float = field(default_factory=monotonic)

    def __str__(self) -> str:
        seconds = monotonic() - self.began
        left = seconds * (self.orders - self.orders_done) / max(1, self.orders_done)
        orders, faults = f"{self.orders_done:,} of {self.orders:,} orders", f"{self.faults_done} of {self.faults} faults"
        return f"{orders}, {faults}, after {seconds / 60:.1f} min, about {left / 60:.1f} min left"

    async def go_on(self) -> None:
        """Say it again and again until cancelled."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            say(str(self))


# The faults


def schedule(part: str, times: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    """The faults of a part, each with the share of the part's work after which it happens: one in each equal slice, none at either end."""
    random = Random(f"{SEED}/{part}")
    faults = [fault for fault, number in times.items() for _ in range(number)]
    random.shuffle(faults)
    for number, fault in enumerate(faults):
        yield fault, 0.05 + 0.85 * (number + random.random()) / len(faults)


async def inject_faults(
    stack: Stack, progress: "Progress", report: Report, part: str, *, owner: str, times: Mapping[str, int], extent: int
) -> None:
    """Inject each fault of a part when its `owner` has published its share of `extent` records, and wait until the owner continues."""
    start = progress.of[owner]
    for fault, share in schedule(part, times):
        await progress.reaches(owner, start + round(share * extent))
        before = await until(lambda: status_of(stack, part, "running"))
        match fault:
            case "kill":
                stack.kill(part, signal.SIGKILL)
                after = await until(lambda pid=before.pid: status_of(stack, part, "starting", "running", other_than=pid))
                # A database server that was killed cannot start before the last of its backends has gone: it takes several attempts.
                assert after.restarts > before.restarts if part == "postgres" else after.restarts == before.restarts + 1
            case "pause":
                stack.kill(part, signal.SIGSTOP)
                await until(lambda: has_lost(stack, part, owner))
                stack.kill(part, signal.SIGCONT)
            case _:
                await asyncio.to_thread(stack.stop_part, part)
                if fault == "stop":
                    await asyncio.sleep(30)  # longer than a producer's request timeout
                await asyncio.to_thread(stack.start_part, part)
        # It had not finished: it publishes more.
        await progress.reaches(owner, progress.of[owner] + 1)
        report.faults_done += 1


async def has_lost(stack: Stack, part: str, service: str) -> bool:
    """Whether the broker reports that a process of a service is no member of the service's consumer group.

    Asked by aiokafka: librdkafka ends the process where the broker dies under a question about a group.
    """
    admin: Any = AIOKafkaAdminClient(**client_options(settings_of(stack.kafka("admin"))))
    with suppress(KafkaError, TimeoutError):
        try:
            async with asyncio.timeout(5):
                await admin.start()
                (described,) = await admin.describe_consumer_groups([f"oms.{service}"])
        finally:
            await admin.close()
        # A static member's id begins with its instance's.
        instance = stack.environment(part)["OMS_INSTANCE"]
        return not any(member[0].startswith(f"{instance}-") for _, _, _, _, _, members, *_ in described.groups for member in members)
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
                        await asyncio.sleep(FORM.count_seconds)
            await asyncio.sleep(0.2)  # the broker is away, and nothing tells when it is back

    async def reaches(self, part: str, count: int) -> None:
        """Wait until `part` has published `count` records."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.of[part] >= count)


# The flow


@asynccontextmanager
async def external_parties(stack: Stack, parties: ExternalParties) -> AsyncGenerator[Progress]:
    """Run the external parties, and count what services publish."""
    for user in (*parties.reactions(), *(f"channel:{channel}" for channel in CHANNELS)):
        stack.kafka(user)  # made before the first fault
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
            async with Publisher(settings_of(stack.kafka(user)), f"/test/{user.replace(':', '/')}", utc_now) as publisher:
                await publisher.publish(waiting)
                return True
        return False

    await until(published)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The outcome of a set of orders, by reference, and of its stock. `ends` counts the last statuses of this and earlier sets.

    All stock of later sets is listed after `stock_cursor`.
    """

    orders: dict[str, Any] = field(default_factory=dict[str, Any])
    stock: dict[str, int] = field(default_factory=dict[str, int])
    stock_cursor: str = ""
    ends: Counter[str] = field(default_factory=Counter[str])
    unfinished: dict[str, Any] = field(default_factory=dict[str, Any])


NO_ORDERS = Flow()


async def flow(stack: Stack, projection: httpx.AsyncClient, orders: Orders, report: Report, *, before: Flow = NO_ORDERS) -> Flow:
    """Receive the stock, place the orders in waves, and wait until all of them have finished.

    `before` is the outcome of the set before, whose prefix is lower.
    """
    ends = before.ends + Counter(scenario.ends for _, scenario in orders.planned)
    done_before = report.orders_done
    waiting = dict(orders.scenarios)
    finished: dict[str, Any] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(FORM.timeout_seconds):
            receipts = orders.stock()
            for location in LOCATIONS:
                await publish(stack, f"warehouse:{location}", [each for each in receipts if each.lines[0].location == location])
            for receipt in receipts:
                await until(lambda sku=receipt.lines[-1].sku: query(projection, f"/stock/{sku}"))
            placed = orders.placed()
            for begin in range(0, len(placed), FORM.wave_orders):
                wave = placed[begin : begin + FORM.wave_orders]
                for channel in CHANNELS:
                    await publish(stack, f"channel:{channel}", [order for order in wave if order.channel == channel])
                known = min(begin + FORM.wave_orders, len(orders.planned))
                await until(
                    lambda known=known: _has(projection, lambda found: found.total() >= before.ends.total() + known), FORM.count_seconds
                )
                report.orders_done = done_before + known
            await until(lambda: _has(projection, lambda found: found == ends), FORM.count_seconds)
            while waiting:
                # Some at a time, so that a set that takes too long tells which of its orders have not finished.
                some = [*islice(waiting, QUERIED_AT_ONCE)]
                found = await asyncio.gather(*(query(projection, f"/orders/{order_id}", OrderDetail) for order_id in some))
                for order_id, order in zip(some, found, strict=True):
                    scenario = waiting.pop(order_id)
                    if order and is_finished(order, scenario):
                        finished[order.reference.removeprefix(orders.prefix)] = outcome_of(order)
                    else:
                        waiting[order_id] = scenario
    unfinished = {order_id: (scenario, await query(projection, f"/orders/{order_id}")) for order_id, scenario in list(waiting.items())[:5]}
    stock, stock_cursor = await stock_of(projection, orders, before.stock_cursor)
    return Flow(orders=finished, stock=stock, stock_cursor=stock_cursor, ends=ends, unfinished=unfinished)


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
        and all(capture.status in {"captured", "written_off"} for capture in captures)
        and all(refund.status in {"settled", "failed"} for refund in refunds)
        and len(order.returns) == len(scenario.returns)
        and all(returned.status in {"closed", "declined"} for returned in order.returns)
        and sum(line.shipped for line in order.lines) == (order.stock.shipped if order.stock else 0)
        and (order.status != "completed" or all(line.delivered == line.shipped for line in order.lines))
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


async def stock_of(projection: httpx.AsyncClient, orders: Orders, cursor: str) -> tuple[dict[str, int], str]:
    """Units by kind, SKU and, for SKUs with one location, location; zeros are left out. Also the cursor of the last page.

    `cursor` is where to begin to read.
    """
    units = Counter[str]()
    while True:
        page = await until(lambda cursor=cursor: query(projection, "/stock?limit=500" + (f"&after={cursor}" if cursor else "")))
        for position in page["items"]:
            sku = position["sku"]
            if sku.startswith(f"{orders.prefix}-"):
                place = position["location"] if len(orders.locations(sku)) == 1 else "any"
                for kind in ("on_hand", "reserved", "allocated"):
                    units[f"{kind} {sku.removeprefix(orders.prefix)} {place}"] += position[kind]
        if page["next"] is None:
            return {name: count for name, count in units.items() if count}, cursor
        cursor = page["next"]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The entries that are not the same in both."""
    return {name: (one.get(name), other.get(name)) for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


# Querying and waiting


@asynccontextmanager
async def http_client(stack: Stack) -> AsyncGenerator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=8)
    timeout = httpx.Timeout(30, pool=None)
    headers = {"authorization": f"Bearer {stack.query_token()}"}
    async with httpx.AsyncClient(base_url=stack.query_url(), headers=headers, limits=limits, timeout=timeout) as client:
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


async def until(found: Callable[[], Awaitable[T | None]], pause_seconds: float = 0.1) -> T:
    """Call `found` until it returns something."""
    while not (value := await found()):  # noqa: ASYNC110  # other processes bring it about
        await asyncio.sleep(pause_seconds)
    return value
