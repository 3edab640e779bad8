"""The relay: publishes the events table in position order, exactly once a position.

It runs in one process a service, the one that holds the leader's lock. Rows that this process commits reach it in memory; the table is read
to catch up only. The relay's own record of how far it got is written after the broker's acknowledgement, so after a crash it may be behind
the topics: it then reads the last record of every partition it writes, and goes on exactly behind it.

To the broker all leaders are one producer, whose records are numbered as their offsets. It refuses what does not follow on what it has, and
so also what an earlier leader, who was paused or cut off, still had on its way.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import OutOfOrderSequenceNumber
from oms_contracts.catalogue import Topic
from oms_contracts.envelope import Envelope, Headers, header, to_headers

from oms_runtime.database import Connection
from oms_runtime.kafka import Batch, Producer, abandon, count_partitions, id_of, make_producer, make_reader, number_from, partition_of
from oms_runtime.metrics import Metrics
from oms_runtime.settings import RuntimeSettings
from oms_runtime.store import Row, head_of, read_events

T = TypeVar("T")
log = structlog.get_logger(__name__)

MOST = 2_000
"""Events in one round."""
HANDED_OVER = 20_000
"""Events kept in memory at most; past that the table is read."""
LOOK = 0.2
"""Seconds after which the table is looked at for what another process committed."""
BEAT = 1.0
"""Seconds between two words to the database while the broker keeps us waiting."""
REFUSALS = 3
"""After so many at the same place, it is not another leader who was quicker: somebody else has written where only we may."""


class _Record(NamedTuple):
    """An event as it is published, on however many topics."""

    position: int
    key: bytes
    value: bytes
    headers: Headers


class LostLead(Exception):
    """Another process may be the leader by now: this one must find out before it publishes anything."""


class Relay:
    """Made once a process. `offer` takes committed rows at any time; `run` publishes while this process is the leader."""

    def __init__(self, service: str, topics: Iterable[Topic], settings: RuntimeSettings, metrics: Metrics) -> None:
        self._source = f"/oms/{service}"
        self._service = service
        topics = tuple(topics)
        self._topics = [topic.name for topic in topics]
        self._published_on = {name: [name, *(copy.name for copy in topics if copy.newest_of == name)] for name in self._topics}
        self._partitions: Mapping[str, int] = {}
        self._settings = settings
        self._metrics = metrics
        self._offered: deque[Row] = deque()
        self._news = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._published: int | None = None  # while this process is not the leader
        self._head = 0
        self._spoke = 0.0
        self._refused_at: Mapping[TopicPartition, int] | None = None
        self._refusals = 0

    def offer(self, rows: Sequence[Row]) -> None:
        """Rows just committed by this process, in order. Where they do not follow on those before, the table fills the gap."""
        if self._published is None:
            return
        if self._offered and (self._offered[-1].position + 1 != rows[0].position or len(self._offered) > HANDED_OVER):
            self._offered.clear()
        self._offered.extend(rows)
        self._head = rows[-1].position
        self._caught_up.clear()
        self._news.set()

    async def caught_up(self) -> None:
        """Wait until this process leads, and all that it knows to be committed is acknowledged."""
        await self._caught_up.wait()

    @property
    def behind(self) -> int:
        """Events that are committed and not yet acknowledged, as far as the leader knows; 0 in any other process."""
        return 0 if self._published is None else max(0, self._head - self._published)

    async def run(self, connection: Connection) -> None:
        """Publish until cancelled. `connection` is the one that holds the leader's lock: once it is gone, so is the right to publish.

        Any failure ends the run; the next one begins by finding out how far the topics are.
        """
        producer = make_producer(self._settings, f"oms-{self._service}-relay")
        ends: dict[TopicPartition, int] = {}
        try:
            tails, ends = await self._speaking(connection, self._tails())
            await self._begin(connection, producer, ends)
            stored = await connection.fetchval("select position from relay")
            published = recorded = self._published = min([stored, *self._missing_on_copies(tails)])
            while True:
                rows = await self._next(connection, published)
                if recorded < published and (not rows or monotonic() - self._spoke > BEAT):
                    # After a crash the topics tell how far we were: to record it now and then is enough.
                    await connection.execute("update relay set position = $1", published)
                    recorded, self._spoke = published, monotonic()
                if not rows:
                    continue
                await self._speaking(connection, self._publish(producer, rows, tails))
                published = self._published = rows[-1].position
                self._see_whether_caught_up(published)
                self._metrics.relayed.inc(len(rows))
        except OutOfOrderSequenceNumber:
            self._refusals = self._refusals + 1 if ends == self._refused_at else 1
            self._refused_at = ends
            raise
        finally:
            self._published = None
            self._offered.clear()
            self._caught_up.clear()
            await abandon(producer)

    def _missing_on_copies(self, tails: Mapping[TopicPartition, int]) -> Iterator[int]:
        """Behind which positions a copy lacks what its original has: of what was published before it was one, or by a version that did not
        know it. What is on a topic already is not published there again, so the relay can simply begin there.
        """
        for name, (_, *copies) in self._published_on.items():
            for to, number in product(copies, range(self._partitions[name])):
                reached = tails.get(TopicPartition(to, number), 0)
                if reached < tails.get(TopicPartition(name, number), 0):
                    yield reached

    async def _begin(self, connection: Connection, producer: Producer, ends: Mapping[TopicPartition, int]) -> None:
        """Start the producer as the one that all leaders are to the broker, so that it refuses what an earlier one has still on its way."""
        before = known_as = await connection.fetchval("select producer_id from relay")
        if ends == self._refused_at and self._refusals >= REFUSALS:
            log.warning("producer_replaced", producer_id=known_as)
            known_as = None
        number_from(producer, ends, known_as)
        await self._speaking(connection, producer.start())
        claimed = await connection.fetchval(
            "update relay set producer_id = $1 where producer_id is not distinct from $2 returning true", id_of(producer), before
        )
        if not claimed:
            raise LostLead("another leader has begun")

    async def _speaking(self, connection: Connection, work: Coroutine[Any, Any, T]) -> T:
        """Wait for the broker, and speak to the database meanwhile: a leader that falls silent is taken for dead."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=BEAT))[0]:
                self._head = max(self._head, await head_of(connection))
                self._spoke = monotonic()
            return await task
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _next(self, connection: Connection, published: int) -> list[Row]:
        """What follows on `published`: from memory, or from the table where that has a gap, or has been silent for LOOK seconds."""
        while self._offered and self._offered[0].position <= published:
            self._offered.popleft()
        if not self._offered and self._caught_up.is_set():
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._news.wait()
        if self._offered and self._offered[0].position == published + 1:
            return [self._offered.popleft() for _ in range(min(MOST, len(self._offered)))]
        rows = await read_events(connection, published, MOST)
        self._spoke = monotonic()
        self._head = max(self._head, rows[-1].position if rows else 0)
        self._see_whether_caught_up(published)
        return rows

    def _see_whether_caught_up(self, published: int) -> None:
        if published >= self._head:
            self._caught_up.set()

    async def _publish(self, producer: Producer, rows: Sequence[Row], tails: Mapping[TopicPartition, int]) -> None:
        waiting: defaultdict[TopicPartition, deque[_Record]] = defaultdict(deque)
        for row in rows:
            record = _Record(row.position, row.key.encode(), row.data.encode(), self._headers(row))
            for topic in self._published_on[row.topic]:
                target = TopicPartition(topic, partition_of(record.key, self._partitions[topic]))
                if row.position > tails.get(target, 0):
                    waiting[target].append(record)
        while waiting:
            batches = [(target, self._fill(producer, queue)) for target, queue in waiting.items()]
            self._check_heard()
            await asyncio.gather(*[await producer.send_batch(batch, t.topic, partition=t.partition) for t, batch in batches])
            waiting = defaultdict(deque, {target: queue for target, queue in waiting.items() if queue})

    def _check_heard(self) -> None:
        """A process that was paused may have lost the lock while it did not look, and another may be publishing by now."""
        silent = monotonic() - self._spoke
        if silent > self._settings.session_timeout_ms / 2_000:
            raise LostLead(f"the database has not heard of us for {silent:.1f} s")

    def _fill(self, producer: Producer, queue: "deque[_Record]") -> Batch:
        """One batch of a partition: the next is sent only after this one is acknowledged, which keeps their order whatever fails."""
        batch = producer.create_batch()
        while queue:
            record = queue[0]
            if batch.append(key=record.key, value=record.value, timestamp=None, headers=record.headers) is None:
                break
            queue.popleft()
        if not batch.record_count():
            raise ValueError(f"the event at position {queue[0].position} is too large to publish")
        batch.close()
        return batch

    def _headers(self, row: Row) -> Headers:
        return to_headers(
            Envelope(
                type=row.type,
                source=self._source,
                id=f"{self._service}-{row.position}",
                time=row.recorded_at,
                subject=row.key,
                sequence=row.version,
                position=row.position,
                correlationid=row.correlation_id,
                causationid=row.causation_id,
                traceparent=row.traceparent,
            )
        )

    async def _tails(self) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Of every partition this service writes: the position of the last record, and the offset of the next."""
        reader = make_reader(self._settings, f"oms-{self._service}-tails")
        await reader.start()
        try:
            self._partitions = await count_partitions(reader, self._topics)
            partitions = [TopicPartition(topic, p) for topic, count in self._partitions.items() for p in range(count)]
            # Nothing is assigned yet, though the client would learn of all topics at once then: a reader that is stopped just as it is
            # assigned anew ends seconds later.
            begins, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
            unread = {tp for tp in partitions if ends[tp] > begins[tp]}
            reader.assign(sorted(unread))
            for tp in unread:
                reader.seek(tp, ends[tp] - 1)
            tails: dict[TopicPartition, int] = {}
            while unread:
                for tp, records in (await reader.getmany(*unread, timeout_ms=500)).items():
                    for record in records:
                        if record.offset >= ends[tp] - 1:
                            unread.discard(tp)
                        if header(record.headers, "ce_source") == self._source:
                            tails[tp] = int(header(record.headers, "ce_position") or 0)
            return tails, dict(ends)
        finally:
            await reader.stop()
