"""A stack of its own under load: all services on fresh servers, simulators of warehouse and carrier beside them, and who looks on."""

import asyncio
import multiprocessing
import os
import threading
from collections.abc import AsyncGenerator, Collection, Generator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any

from oms_client.follower import follow
from oms_client.publisher import Publisher
from oms_contracts.catalogue import TOPICS, topic_of
from oms_contracts.channel import OrderPlaced
from oms_contracts.envelope import header
from oms_contracts.fulfillments import FulfillmentPlanned
from oms_contracts.message import decode, key_of, type_of
from oms_contracts.tracking import LabelCreated
from oms_demo.responses import Response, make_responses
from oms_kafka.settings import KafkaSettings, settings_of
from oms_local.stack import Stack
from oms_runtime.clock import utc_now
from oms_runtime.loop import run_loop
from rich.progress import Progress, TaskID

from tests.load.baskets import Baskets, plenty_of
from tests.load.usage import Usage, read_usage
from tests.load.watch import RESTING, Services, Watch

OUTSIDE: dict[str, type[Any]] = {"warehouse": FulfillmentPlanned, "carrier": LabelCreated}
"""By simulator: the event it answers, at once."""
USER = "operator"
"""The broker user of all of them, on the topics that the gateway and the operator write: so figures of different versions compare."""
SETTLE_SECONDS = 300
BATCH_SECONDS = 0.025
"""From one batch of events that a simulator responds to until the next, at least, as in the demonstration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Orders that were placed, and what came of them.

    `confirmed` and `completed` are by order id; they and `began` are seconds since 1970. `settled` is when each service was done with them,
    in seconds after `began`; `usage` is until all were.
    """

    orders: int
    began: float
    confirmed: Mapping[str, float]
    completed: Mapping[str, float]
    outcomes: Mapping[str, int]
    settled: Mapping[str, float]
    usage: Usage


@dataclass(kw_only=True)
class Rig:
    """What every measurement is made with. `history` is how many orders the stack was given, `pids` its processes and ours by name."""

    stack: Stack
    pids: dict[str, int]
    baskets: Baskets
    watch: Watch
    services: Services
    progress: Progress
    history: int = 0
    stocked: set[str] = field(default_factory=set[str])

    async def place(self, placed: Mapping[str, OrderPlaced], task: TaskID, seconds: float) -> Batch:
        """Place what was taken, at once; wait until it rests and every service is done. Raises Stuck when that takes too long."""
        before = read_usage(self.pids)
        began = time()
        async with Publisher(settings_of(self.stack.kafka(USER)), "/bench/channel", utc_now) as publisher:
            await publisher.publish(placed.values())
        return await self.finish(placed, began, before, task, seconds)

    async def take(self, orders: int) -> dict[str, OrderPlaced]:
        """The next orders, by id. What they order is in stock, and they are watched for, when this returns."""
        placed = {key_of(order): order for order in self.baskets.take(orders)}
        missing = {line.sku for order in placed.values() for line in order.lines} - self.stocked
        async with Publisher(settings_of(self.stack.kafka(USER)), "/bench/warehouse", utc_now) as publisher:
            await publisher.publish(plenty_of(missing, f"bench-{self.history}"))
        await self.services.settled(SETTLE_SECONDS)
        self.stocked |= missing
        self.watch.expect(placed)
        self.history += orders
        return placed

    async def finish(self, placed: Collection[str], began: float, before: Usage, task: TaskID, seconds: float) -> Batch:
        """Wait until the orders `placed` rest and every service is done; what came of them."""
        await self.watch.at_rest(seconds, lambda count: self.progress.advance(task, count))
        settled = await self.services.settled(SETTLE_SECONDS)
        usage = read_usage(self.pids).since(before)
        moments = {
            status: {order_id: at for order_id, at in of.items() if order_id in placed} for status, of in self.watch.status_times.items()
        }
        self.watch.status_times.clear()
        return Batch(
            orders=len(placed),
            began=began,
            confirmed=moments.get("confirmed", {}),
            completed=moments.get("completed", {}),
            outcomes={status: len(moments[status]) for status in sorted(RESTING) if status in moments},
            settled={service: at - began for service, at in settled.items()},
            usage=usage,
        )


@asynccontextmanager
async def rig_on(stack: Stack, baskets: Baskets, progress: Progress) -> AsyncGenerator[Rig]:
    """A rig on a stack that is up and empty."""
    watch = Watch(stack)
    watching = asyncio.create_task(watch.run())
    try:
        async with Services(stack) as services:
            with _simulators(stack) as simulators:
                pids = pids_of(stack) | simulators | {"bench": os.getpid()}
                yield Rig(stack=stack, pids=pids, baskets=baskets, watch=watch, services=services, progress=progress)
    finally:
        watching.cancel()
        (ended,) = await asyncio.gather(watching, return_exceptions=True)
        if isinstance(ended, Exception):  # then nothing was seen since, and whoever waited did so in vain
            raise ended


def pids_of(stack: Stack) -> dict[str, int]:
    """The stack's processes by part."""
    return {part.name: part.pid for part in stack.status() if part.pid is not None}


@contextmanager
def _simulators(stack: Stack) -> Generator[dict[str, int]]:
    """One process each, so that their processor time can be distinguished. By name: its process id."""
    spawn = multiprocessing.get_context("spawn")
    running = {
        user: spawn.Process(target=_simulate, args=(settings_of(stack.kafka(USER)), user), name=user, daemon=True) for user in OUTSIDE
    }
    for process in running.values():
        process.start()
    try:
        yield {f"simulator:{user}": process.pid for user, process in running.items() if process.pid is not None}
    finally:
        for process in running.values():
            process.terminate()
            process.join(10)


def _simulate(settings: KafkaSettings, user: str) -> None:
    end_with_parent()
    run_loop(_respond(settings, user, OUTSIDE[user], make_responses()[OUTSIDE[user]]))


async def _respond(settings: KafkaSettings, user: str, cls: type[Any], response: Response) -> None:
    """Publish the commands that respond to each event of a class, until cancelled.

    The demonstration's simulators do the same with FastStream, which takes three times as much processor time. Here it would be taken from
    the system that is measured.
    """
    kind, topics = type_of(cls).name, [topic for topic in TOPICS if topic.name == topic_of(cls)]
    async with (
        Publisher(settings, f"/bench/{user}", utc_now) as publisher,
        aclosing(follow(settings, f"bench-{user}", topics, from_beginning=True)) as arriving,
    ):
        async for records in arriving:
            events = [decode(kind, record.value or b"") for record in records if header(record.headers, "ce_type") == kind]
            await publisher.publish(command for event in events for command in response(event))
            await asyncio.sleep(BATCH_SECONDS)


def end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
