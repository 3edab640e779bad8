"""The limit: what broker, database and Python's clients alone can do for the same records on the same servers.

Seven hops in a row and a projection, each a process, pass on real records of our topics, in the numbers an order has of them, with their
headers, sizes and batches. A hop reads with `getmany`, inserts one row a record that it will publish into its own database (one transaction
a batch, synced), and publishes with acks=all, idempotent, compressed. The projection inserts one row a record it reads. Nobody decodes
anything or knows any rule, and no record is read by more than the next hop and the projection.
"""

import asyncio
import multiprocessing
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from aiokafka import TopicPartition
from oms_contracts.catalogue import TOPICS
from oms_kafka.clients import Producer, make_producer, make_reader
from oms_kafka.settings import KafkaSettings, settings_of
from oms_local.stack import Stack
from oms_projection.projector import FOLDS
from oms_provision.broker import make_admin, provision_topics
from oms_provision.sql import session
from oms_runtime.settings import RuntimeSettings
from rich.progress import Progress

from tests.load.rig import end_with_parent
from tests.load.usage import read_usage
from tests.load.watch import Stuck, partitions_on

CHANNEL = "oms.channel.orders"
SAMPLE = 2_000
"""Real records of each topic that are passed on, again and again."""
BATCH: int = RuntimeSettings.model_fields["batch_records"].default
START_SECONDS = 60
NO_PROGRESS_SECONDS = 30

Message = tuple[bytes, bytes, Sequence[tuple[str, bytes]]]
_connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # asyncpg is untyped in part


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One process: it reads `sources` and writes `targets`, both named as our topics are. `stores`: it has a database."""

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    stores: bool = True


HOPS = (
    Hop(name="capture", sources=(CHANNEL,), targets=("oms.orders",)),
    Hop(name="inventory", sources=("oms.orders",), targets=("oms.stock",)),
    Hop(name="payment", sources=("oms.stock",), targets=("oms.payments",)),
    Hop(name="outside", sources=("oms.payments",), targets=("oms.fulfillment.commands", "oms.tracking.commands"), stores=False),
    Hop(name="fulfillment", sources=("oms.fulfillment.commands",), targets=("oms.fulfillments",)),
    Hop(
        name="tracking",
        sources=("oms.fulfillments", "oms.tracking.commands"),
        targets=("oms.tracking", "oms.order-status-changes", "oms.order-status"),
    ),
    Hop(name="returns", sources=("oms.tracking",), targets=("oms.returns",)),
)
PROJECTION = Hop(name="projection", sources=tuple(topic for hop in HOPS for topic in hop.targets if topic in FOLDS), targets=())


def due(read: int, ratio: float) -> int:
    """How many records a partition has been given once `read` came in, at `ratio` out for each in."""
    return int(read * ratio + 0.5)


def ratios_of(hop: Hop, per_order: Mapping[str, float]) -> dict[str, float]:
    """By target: records out for each record in, when an order has `per_order` records on each topic."""
    read = sum(per_order[source] for source in hop.sources)
    return {target: per_order[target] / read for target in hop.targets}


def expected(fed: Mapping[int, int], per_order: Mapping[str, float]) -> dict[str, int]:
    """By hop: how many rows it handles when the channel's partitions were `fed` so many records."""
    on: dict[str, Mapping[int, int]] = {CHANNEL: fed}
    rows: dict[str, int] = {}
    for hop in HOPS:
        read = {partition: sum(on[source][partition] for source in hop.sources) for partition in fed}
        for target, ratio in ratios_of(hop, per_order).items():
            on[target] = {partition: due(count, ratio) for partition, count in read.items()}
        rows[hop.name] = sum(sum(on[target].values()) for target in hop.targets)
    rows[PROJECTION.name] = sum(sum(on[source].values()) for source in PROJECTION.sources)
    return rows


async def bare(stack: Stack, pids: Mapping[str, int], per_order: Mapping[str, float], orders: int, progress: Progress) -> dict[str, Any]:
    """Run the bare pipeline for `orders` orders on the stack's servers, which must be at rest. `pids` are the servers'. Raises Stuck."""
    task = progress.add_task("bare pipeline", total=orders)
    settings = settings_of(stack.kafka("admin"))
    partitions = partitions_on(stack)
    channels = await _sample(settings, CHANNEL, partitions)
    _make_topics(stack, partitions)
    urls = {hop.name: await _make_database(stack, hop) for hop in (*HOPS, PROJECTION)}
    with _processes(settings, urls, per_order, partitions) as running:
        await _until({name: 0 for name in running}, running, START_SECONDS)
        fed = Counter[int](dict.fromkeys(range(partitions), 0))
        feed = cycle(channels)

        def on_progress(share: float) -> None:
            progress.update(task, completed=int(orders * share))

        for count in (orders // 10, orders):  # the first is the warm-up
            parts = dict(pids) | {f"bare:{name}": process.pid for name, (process, _) in running.items()}
            before, began = read_usage(parts), monotonic()
            waiting: defaultdict[TopicPartition, deque[Message]] = defaultdict(deque)
            for number, message in enumerate(islice(feed, count)):
                partition = number % partitions
                fed[partition] += 1
                waiting[TopicPartition(_bare(CHANNEL), partition)].append(message)
            producer = make_producer(settings, "bench-bare-feed")
            await producer.start()
            try:
                await _send(producer, waiting)
            finally:
                await producer.stop()
            wanted = expected(fed, per_order)
            last = HOPS[-1].name
            await _until({last: wanted[last]}, running, 0, on_progress)
            seconds = monotonic() - began
            await _until(wanted, running, 0)
            usage = read_usage(parts).since(before)
    progress.update(task, completed=orders)
    system = sum(used for name, used in usage.cpu.items() if name != "bare:outside" and not name.startswith("bench"))
    return {
        "orders": orders,
        "orders_per_s": orders / seconds,
        "orders_per_s_in_projection": orders / usage.at,
        "records_per_order": {topic: round(per_order[topic], 2) for topic in (CHANNEL, *(t for hop in HOPS for t in hop.targets))},
        "cpu_ms_per_order": {name: used / orders * 1_000 for name, used in sorted(usage.cpu.items(), key=lambda pair: -pair[1])},
        "cpu_ms_per_order_system": system / orders * 1_000,
        "cores_used_by_others": max(0.0, usage.machine - sum(usage.cpu.values())) / usage.at,
    }


async def _until(
    wanted: Mapping[str, int], running: Mapping[str, Any], timeout_seconds: float, on_progress: Callable[[float], None] | None = None
) -> None:
    """Wait until each hop handled so many rows. Raises Stuck when a process ends, or nothing moves for a while."""
    moved, before = monotonic(), -1
    while True:
        rows = {name: running[name][1].value for name in wanted}
        if all(rows[name] >= count for name, count in wanted.items()):
            return
        if dead := [name for name, (process, _) in running.items() if not process.is_alive()]:
            raise Stuck(f"processes of the bare pipeline ended: {', '.join(dead)}")
        if (total := sum(rows.values())) != before:
            moved, before = monotonic(), total
            if on_progress is not None:
                on_progress(total / max(1, sum(wanted.values())))
        elif monotonic() - moved > max(timeout_seconds, NO_PROGRESS_SECONDS):
            raise Stuck(f"the bare pipeline stands still: {rows} of {dict(wanted)} rows")
        await asyncio.sleep(0.02)


@contextmanager
def _processes(
    settings: KafkaSettings, urls: Mapping[str, str | None], per_order: Mapping[str, float], partitions: int
) -> Generator[dict[str, Any]]:
    """By hop: its process, and how many rows it has handled (-1 until it reads)."""
    spawn = multiprocessing.get_context("spawn")
    running: dict[str, Any] = {}
    for hop in (*HOPS, PROJECTION):
        rows = spawn.Value("q", -1, lock=False)
        arguments = settings, urls[hop.name], hop, dict(per_order), rows
        process = spawn.Process(target=_run, args=arguments, kwargs={"partitions": partitions}, daemon=True)
        running[hop.name] = process, rows
    for process, _ in running.values():
        process.start()
    try:
        yield running
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join(10)


def _run(settings: KafkaSettings, url: str | None, hop: Hop, per_order: Mapping[str, float], rows: Any, *, partitions: int) -> None:
    end_with_parent()
    asyncio.run(_pass_on(settings, url, hop, ratios_of(hop, per_order), rows, partitions=partitions))


async def _pass_on(settings: KafkaSettings, url: str | None, hop: Hop, ratios: Mapping[str, float], rows: Any, *, partitions: int) -> None:
    pools = {target: cycle(await _sample(settings, target, partitions)) for target in ratios}
    connection: Any = await _connect(url) if url else None
    reader: Any = make_reader(settings, f"bare-{hop.name}-reader")
    producer = make_producer(settings, f"bare-{hop.name}")
    await reader.start()
    await producer.start()
    reader.assign([TopicPartition(_bare(source), number) for source in hop.sources for number in range(partitions)])
    read, written = Counter[int](), Counter[tuple[str, int]]()
    rows.value = 0
    while True:
        batches: Mapping[TopicPartition, Sequence[Any]] = await reader.getmany(timeout_ms=20, max_records=BATCH)
        if not batches:
            continue
        for tp, records in batches.items():
            read[tp.partition] += len(records)
        waiting: defaultdict[TopicPartition, deque[Message]] = defaultdict(deque)
        for target, ratio in ratios.items():
            for partition in {tp.partition for tp in batches}:
                count = due(read[partition], ratio) - written[target, partition]
                written[target, partition] += count
                if count:
                    waiting[TopicPartition(_bare(target), partition)].extend(islice(pools[target], count))
        if ratios:
            stored = [(key, value) for queue in waiting.values() for key, value, _ in queue]
        else:
            stored = [(record.key, record.value) for records in batches.values() for record in records]
        if connection is not None and stored:
            await connection.copy_records_to_table(
                "rows", records=[(rows.value + n, key.decode(), value.decode()) for n, (key, value) in enumerate(stored)]
            )
        await _send(producer, waiting)
        rows.value += len(stored)


async def _send(producer: Producer, waiting: defaultdict[TopicPartition, deque[Message]]) -> None:
    """One batch a partition at a time, as the relay does; returns once all are acknowledged. Empties `waiting`."""
    while waiting:
        flying: list[asyncio.Future[Any]] = []
        for tp, queue in waiting.items():
            batch = producer.create_batch_for(tp.topic)
            while queue:
                key, value, headers = queue[0]
                if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                    break
                queue.popleft()
            batch.close()
            flying.append(await producer.send_batch(batch, tp.topic, partition=tp.partition))
        await asyncio.gather(*flying)
        for tp in [tp for tp, queue in waiting.items() if not queue]:
            del waiting[tp]


async def _sample(settings: KafkaSettings, topic: str, count: int) -> list[Message]:
    """The first records of one of our topics. Raises Stuck when it has none."""
    reader: Any = make_reader(settings, "bench-bare-sample")
    await reader.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(count)]
        reader.assign(partitions)
        await reader.seek_to_beginning()
        ends = await reader.end_offsets(partitions)
        wanted = min(SAMPLE, sum(ends.values()))
        found: list[Message] = []
        deadline = monotonic() + NO_PROGRESS_SECONDS
        while len(found) < wanted or not wanted:
            if monotonic() > deadline:
                raise Stuck(f"there are no records on {topic} to make a bare pipeline of")
            for records in (await reader.getmany(timeout_ms=500, max_records=SAMPLE)).values():
                found += [(record.key, record.value, list(record.headers)) for record in records]
        return found[:wanted]
    finally:
        await reader.stop()


def _bare(topic: str) -> str:
    return f"bare.{topic}"


def _make_topics(stack: Stack, partitions: int) -> None:
    names = (CHANNEL, *(target for hop in HOPS for target in hop.targets))
    known = {topic.name: topic for topic in TOPICS}
    topics = [
        replace(known[name], name=_bare(name), messages=(), writers=(), readers=(), summary="", partitions=partitions) for name in names
    ]
    provision_topics(make_admin(stack.kafka("admin")), topics)


async def _make_database(stack: Stack, hop: Hop) -> str | None:
    """A database with one table; its URL."""
    if not hop.stores:
        return None
    name, admin = f"bare_{hop.name}", stack.database_url("admin")
    async with session(admin) as connection:
        await connection.execute(f"create database {name}")
    url = urlsplit(admin)._replace(path=f"/{name}").geturl()
    async with session(url) as connection:
        await connection.execute("create table rows (position bigint primary key, key text not null, data text not null)")
    return url
