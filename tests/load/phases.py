"""The measurements on a rig, each with its figures as a mapping that JSON can hold."""

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from time import time
from typing import Any
from urllib.parse import urlsplit

from oms_client.publisher import content_id, record_of
from oms_contracts.catalogue import ALL_SERVICES
from oms_contracts.channel import OrderPlaced
from oms_kafka.clients import make_producer, partition_of
from oms_kafka.settings import settings_of
from oms_local.stack import Stack
from oms_provision.sql import session
from oms_runtime.clock import utc_now

from tests.load.bare import CHANNEL
from tests.load.figures import growth, per_second, percentile
from tests.load.rig import USER, Batch, Rig
from tests.load.usage import peak_memory, read_disk, read_usage
from tests.load.watch import Stuck, partitions_on

Figures = dict[str, Any]
SLOWEST = 5
"""Orders a second: a stack that is slower than this is stuck."""
FILL = 10_000
"""Orders placed at once while history is made: what Kafka and the watcher hold stays bounded."""
SLOWEST_REBUILD = 250
"""Events a second."""


def timeout_seconds(orders: int) -> float:
    """Seconds that so many orders may take."""
    return 60 + orders / SLOWEST


async def fill(rig: Rig, title: str, history: int) -> None:
    """Place orders until the stack has been given `history`."""
    task = rig.progress.add_task(title, total=max(0, history - rig.history))
    while rig.history < history:
        orders = min(FILL, history - rig.history)
        await rig.place(await rig.take(orders), task, timeout_seconds(orders))


async def throughput(rig: Rig, orders: int) -> Figures:
    """All orders at once: how fast they are confirmed and completed, and what one takes of processors, disks and memory."""
    task, history = rig.progress.add_task("throughput", total=orders), rig.history
    placed = await rig.take(orders)
    disk, records = await read_disk(rig.stack), await rig.services.records()
    batch = await rig.place(placed, task, timeout_seconds(orders))
    disk, after = (await read_disk(rig.stack)).since(disk), await rig.services.records()
    confirmed, completed = list(batch.confirmed.values()), list(batch.completed.values())
    memory = peak_memory(rig.pids)
    return {
        "orders": orders,
        "history": history,
        "outcomes": batch.outcomes,
        "orders_per_s_confirmed": len(confirmed) / (max(confirmed) - batch.began),
        "orders_per_s_completed": len(completed) / (max(completed) - batch.began),
        "orders_per_s_placed_to_completed": orders / (max(completed) - batch.began),
        "orders_per_s_in_read_models": orders / batch.settled["projection"],
        "settled_s": batch.settled,
        "per_second": {"confirmed": per_second(confirmed, batch.began), "completed": per_second(completed, batch.began)},
        **_costs(batch),
        "records_per_order": {topic: (end - records[topic]) / orders for topic, end in after.items() if end != records[topic]},
        "kafka_bytes_per_order": _each(disk.topics, orders),
        "postgres_bytes_per_order": _each(disk.databases, orders),
        "table_bytes_per_order": _each(disk.tables, orders),
        "wal_bytes_per_order": disk.written_ahead / orders,
        "peak_rss_mib": memory,
        "services_rss_mib": sum(memory[service] for service in ALL_SERVICES),
    }


Send = Callable[[], Awaitable[object]]
"""Sends one order that was made before, and returns once it is taken."""


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """What came of an open loop: when each order was due (seconds since 1970), and seconds from then until it was sent, and taken."""

    due: Sequence[float]
    late: Sequence[float]
    taken: Sequence[float]


async def open_loop(sends: Sequence[Send], rate: float, random: Random) -> OpenLoop:
    """Send at `rate` a second in the mean whatever becomes of what was sent, with the gaps of chance (a Poisson process)."""
    moment = time() + 0.2
    due: list[float] = []
    late: list[float] = []
    taken: list[float] = [0.0] * len(sends)

    async def one(number: int) -> None:
        await sends[number]()
        taken[number] = time() - due[number]

    async with asyncio.TaskGroup() as tasks:
        for number in range(len(sends)):
            due.append(moment)
            if (wait := moment - time()) > 0:
                await asyncio.sleep(wait)
            tasks.create_task(one(number))
            late.append(time() - moment)
            moment += random.expovariate(rate)
    return OpenLoop(due, late, taken)


@asynccontextmanager
async def publishing(stack: Stack, linger_ms: int = 0) -> AsyncGenerator[Callable[[OrderPlaced], Send]]:
    """What publishes single orders as a channel.

    Their records are made beforehand: what they cost to make is the channel's business, and would be taken from the system.
    """
    partitions = partitions_on(stack)
    producer = make_producer(settings_of(stack.kafka(USER)), "bench-channel", linger_ms=linger_ms)

    def prepared(order: OrderPlaced) -> Send:
        key, value, headers = record_of(order, "/bench/channel", content_id(order), utc_now())
        partition = partition_of(key, partitions)
        return partial(producer.send_and_wait, CHANNEL, key=key, value=value, headers=headers, partition=partition)

    await producer.start()
    try:
        yield prepared
    finally:
        await producer.stop()


async def latency(rig: Rig, rate: float, seconds: float, seed: int) -> Figures:
    """An open loop: orders come at `rate` a second in the mean whatever becomes of them.

    Latency is from the moment an order was due to be published, so that a publisher that was held up hides nothing.
    """
    orders = max(100, round(rate * seconds))
    task = rig.progress.add_task(f"latency at {rate:.0f} orders/s", total=orders)
    placed = await rig.take(orders)
    random = Random(f"{seed}/latency")
    async with publishing(rig.stack) as publish:
        sends = [publish(order) for order in placed.values()]
        before, began = read_usage(rig.pids), time()
        loop = await open_loop(sends, rate, random)
    due = dict(zip(placed, loop.due, strict=True))
    batch = await rig.finish(placed, began, before, task, timeout_seconds(orders))
    return {
        "orders": orders,
        "orders_per_s": rate,
        "confirmed_ms": distribution([at - due[order_id] for order_id, at in batch.confirmed.items()]),
        "completed_ms": distribution([at - due[order_id] for order_id, at in batch.completed.items()]),
        "publisher_late_ms": distribution(loop.late),
        **_costs(batch),
    }


async def rebuild(rig: Rig) -> Figures:
    """All read models anew from the topics' first records, in a process of its own; only reading and folding are timed."""
    task = rig.progress.add_task("rebuild", total=1)
    records = sum((await rig.services.records()).values())
    used, before = resource.getrusage(resource.RUSAGE_CHILDREN), read_usage(rig.pids)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oms_projection", "read-models", "verify", env=rig.stack.environment("projection"), stdout=subprocess.PIPE
    )
    seconds = 120 + records / SLOWEST_REBUILD
    try:
        async with asyncio.timeout(seconds):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Stuck(f"the rebuild did not end within {seconds:.0f} s") from None
    after, usage = resource.getrusage(resource.RUSAGE_CHILDREN), read_usage(rig.pids).since(before)
    if process.returncode:
        raise Stuck(f"the rebuild failed, or its read models differ from the stored ones: {out.decode()[-2_000:]}")
    rebuilt = json.loads(out)
    rig.progress.update(task, completed=1)
    return {
        "events": rebuilt["records"],
        "seconds": rebuilt["seconds"],
        "events_per_s": rebuilt["records"] / rebuilt["seconds"],
        "cpu_us_per_event": (after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime) / rebuilt["records"] * 1e6,
        "database_cpu_us_per_event": sum(s for name, s in usage.cpu.items() if name.startswith("postgres")) / rebuilt["records"] * 1e6,
    }


async def cost_at(rig: Rig, history: int, orders: int) -> Figures:
    """What one order costs once the stack has been given at least `history` orders.

    The database is vacuumed first: how much of that the orders before have left to do is chance, and no part of this cost.
    """
    if rig.history < history:
        await fill(rig, f"history up to {history}", history)
    await _vacuum(rig.stack)
    reached = rig.history
    task = rig.progress.add_task(f"cost at {reached} orders", total=orders)
    batch = await rig.place(await rig.take(orders), task, timeout_seconds(orders))
    return {"history": reached, "orders": orders, **_costs(batch)}


def cost_growth(points: Sequence[Mapping[str, Any]]) -> Figures:
    """How the cost of an order grows with history."""
    costs = {point["history"]: point["cpu_ms_per_order_system"] for point in points}
    return {"from": min(costs), "to": max(costs), "growth": growth(costs), "points": list(points)}


def _costs(batch: Batch) -> Figures:
    """Processor milliseconds an order, by process and in sums. `system` leaves out what makes load and looks on."""
    each = {name: seconds / batch.orders * 1_000 for name, seconds in sorted(batch.usage.cpu.items(), key=lambda pair: -pair[1])}
    services = sum(each[service] for service in ALL_SERVICES)
    database = sum(cost for name, cost in each.items() if name.startswith("postgres"))
    return {
        "seconds": batch.usage.at,
        "cpu_ms_per_order": each,
        "cpu_ms_per_order_services": services,
        "cpu_ms_per_order_database": database,
        "cpu_ms_per_order_system": services + database + each["kafka"],
        "cores_used_by_others": max(0.0, batch.usage.machine - sum(batch.usage.cpu.values())) / batch.usage.at,
    }


async def _vacuum(stack: Stack) -> None:
    for service in ALL_SERVICES:
        url = urlsplit(stack.database_url("admin"))._replace(path=f"/oms_{service}").geturl()
        async with session(url) as admin:
            await admin.execute("vacuum analyze")
            await admin.execute("checkpoint")


def _each(sizes: Mapping[str, int], orders: int) -> dict[str, float]:
    return {name: size / orders for name, size in sorted(sizes.items(), key=lambda pair: -pair[1])}


def distribution(seconds: Sequence[float]) -> Figures:
    """Milliseconds at the usual percentiles, and at each hundredth for a plot."""
    named = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    curve = [percentile(seconds, hundredth / 100) * 1_000 for hundredth in range(101)]
    return {name: percentile(seconds, share) * 1_000 for name, share in named.items()} | {"count": len(seconds), "curve": curve}
