"""The relay: publishes the outbox (the `events` table) in position order, each position exactly once on each of its topics.

It runs in one process a service, the one that holds the leader's lock. Events that this process commits reach it in memory; the table is
read to catch up only. The relay stores how far it got after the broker's acknowledgement, so after a crash that may be behind the topics.
It then reads the last record of every partition it writes, and goes on exactly behind it.

To the broker all leaders are one idempotent producer, whose sequence numbers are offsets. The broker refuses what does not follow on what
it has, and so also what an earlier leader, which was paused or cut off, still has under way.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from time import monotonic
from typing import Any, TypeVar

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import OutOfOrderSequenceNumber
from oms_contracts.catalogue import Topic
from oms_contracts.envelope import Envelope, Headers, to_headers
from oms_contracts.message import type_of
from oms_kafka.aiokafka_internals import abort_producer, producer_id_of, set_producer_sequence
from oms_kafka.batches import OutgoingRecord, send_in_order
from oms_kafka.clients import Producer, make_producer, partition_of

from oms_runtime.database import Connection
from oms_runtime.errors import LostLeadership, check_store_not_behind
from oms_runtime.metrics import Metrics
from oms_runtime.model import Disclose, StoredEvent
from oms_runtime.settings import RuntimeSettings
from oms_runtime.store import head_of, read_events, read_relay
from oms_runtime.tails import read_tails

T = TypeVar("T")
log = structlog.get_logger(__name__)

MAX_EVENTS_PER_ROUND = 2_000
MAX_OFFERED_EVENTS = 20_000
"""Held in memory; beyond that the table is read."""
POLL_SECONDS = 0.2
"""After so long without an event of this process, the table is read for what another process committed."""
KEEPALIVE_SECONDS = 1.0
"""Between two statements to the database while the broker keeps us waiting."""
MAX_ERROR_CHARACTERS = 500
MAX_REFUSALS = 3
"""After so many at the same offsets it is not another leader that was quicker: somebody else has written where only we may."""


class Relay:
    """Made once a process. `offer` takes committed events at any time; `run` publishes while this process leads."""

    def __init__(
        self, service: str, topics: Iterable[Topic], settings: RuntimeSettings, metrics: Metrics, disclose: Disclose | None = None
    ) -> None:
        self._source = f"/oms/{service}"
        self._service = service
        topics = tuple(topics)
        self._topics = [topic.name for topic in topics]
        self._gzip_topics = {topic.name for topic in topics if topic.compression == "gzip"}
        self._copies = {topic.name: [copy for copy in topics if copy.copy_of == topic.name] for topic in topics}
        self._types_on = {topic.name: {type_of(cls).name for cls in topic.messages} for topic in topics}
        self._disclose = disclose
        self._disclosed_types = {name for topic in topics if topic.discloses for name in self._types_on[topic.name]}
        self._partitions: Mapping[str, int] = {}
        self._epoch, self._epoch_after = "", 0
        """The store's epoch, and the position behind which it counts."""
        self._settings = settings
        self._metrics = metrics
        self._offered: deque[StoredEvent] = deque()
        self._new_events = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._published: int | None = None  # while this process does not lead
        self._head = 0
        self._last_statement = 0.0
        self._stalled_since: float | None = None
        """Since when this process has tried to publish in vain."""
        self.last_error = ""
        self._refused_at: Mapping[TopicPartition, int] | None = None
        self._refusals = 0

    def offer(self, events: Sequence[StoredEvent]) -> None:
        """Events just committed by this process, in order. Where they do not follow on those before, the table fills the gap."""
        if self._published is None:
            return
        if self._offered and (self._offered[-1].position + 1 != events[0].position or len(self._offered) > MAX_OFFERED_EVENTS):
            self._offered.clear()
        self._offered.extend(events)
        self._head = events[-1].position
        self._caught_up.clear()
        self._new_events.set()

    async def caught_up(self) -> None:
        """Wait until this process leads, and everything it knows to be committed is acknowledged."""
        await self._caught_up.wait()

    def stalled_seconds(self) -> float:
        """How long this process has tried to publish in vain; 0 where nothing waits, or where another process leads."""
        return 0.0 if self._stalled_since is None else monotonic() - self._stalled_since

    @property
    def behind(self) -> int:
        """Events that are committed and not yet acknowledged, as far as the leader knows; 0 in any other process."""
        return 0 if self._published is None else max(0, self._head - self._published)

    async def run(self, connection: Connection) -> None:
        """Publish until cancelled. `connection` is the one that holds the leader's lock: once it is gone, so is the right to publish.

        Any failure ends the run; the next one begins by finding out how far the topics are.
        """
        producer = make_producer(self._settings, f"oms-{self._service}-relay", gzip_topics=self._gzip_topics)
        end_offsets: dict[TopicPartition, int] = {}
        try:
            tails = await self._with_keepalive(connection, read_tails(self._settings, self._service, self._topics))
            self._partitions, last_positions, end_offsets = tails
            check_store_not_behind(self._service, await head_of(connection), tails.head)
            await self._start_producer(connection, producer, end_offsets)
            stored, self._epoch, self._epoch_after = await read_relay(connection)
            published = recorded = self._published = min([stored, *self._missing_on_copies(last_positions)])
            while True:
                events = await self._next(connection, published)
                if events and self._stalled_since is None:
                    self._stalled_since = monotonic()
                if recorded < published and (not events or monotonic() - self._last_statement > KEEPALIVE_SECONDS):
                    # After a crash the topics tell how far we were: to record it now and then is enough.
                    await connection.execute("update relay set position = $1", published)
                    recorded, self._last_statement = published, monotonic()
                if not events:
                    self._stalled_since, self.last_error = None, ""  # what an earlier attempt met is over, and nothing waits
                    continue
                disclosed = await self._disclosed(connection, events)
                await self._with_keepalive(connection, self._publish(producer, events, disclosed, last_positions))
                published = self._published = events[-1].position
                self._stalled_since, self.last_error = None, ""
                self._check_caught_up(published)
                self._metrics.relayed.inc(len(events))
        except asyncio.CancelledError:
            self._stalled_since = None  # it is no longer ours to publish
            raise
        except Exception as error:
            self._stalled_since = self._stalled_since or monotonic()
            self.last_error = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
            if isinstance(error, OutOfOrderSequenceNumber):
                self._refusals = self._refusals + 1 if end_offsets == self._refused_at else 1
                self._refused_at = end_offsets
            raise
        finally:
            self._published = None
            self._offered.clear()
            self._caught_up.clear()
            await abort_producer(producer)

    def _missing_on_copies(self, last_positions: Mapping[TopicPartition, int]) -> Iterator[int]:
        """The positions behind which a compacted copy lacks records of its original: those published before it was a copy, or by a version
        that did not know it. What is on a topic is not published there again, so the relay can simply begin there.

        A copy that is not compacted begins with what is published from now on.
        """
        for name, copies in self._copies.items():
            for copy, number in product((copy.name for copy in copies if copy.compacted), range(self._partitions[name])):
                on_copy = last_positions.get(TopicPartition(copy, number), 0)
                if on_copy < last_positions.get(TopicPartition(name, number), 0):
                    yield on_copy

    async def _start_producer(self, connection: Connection, producer: Producer, end_offsets: Mapping[TopicPartition, int]) -> None:
        """Start the producer under the id that all leaders share, so that the broker refuses what an earlier one still has under way."""
        stored_id = producer_id = await connection.fetchval("select producer_id from relay")
        if end_offsets == self._refused_at and self._refusals >= MAX_REFUSALS:
            log.warning("producer_replaced", producer_id=producer_id)
            producer_id = None
        set_producer_sequence(producer, end_offsets, producer_id)
        await self._with_keepalive(connection, producer.start())
        claimed = await connection.fetchval(
            "update relay set producer_id = $1 where producer_id is not distinct from $2 returning true",
            producer_id_of(producer),
            stored_id,
        )
        if not claimed:
            raise LostLeadership("another leader has begun")

    async def _with_keepalive(self, connection: Connection, work: Coroutine[Any, Any, T]) -> T:
        """Wait for the broker, and query the database meanwhile: the session of a silent leader is ended, and with it its lock."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=KEEPALIVE_SECONDS))[0]:
                self._head = max(self._head, await head_of(connection))
                self._last_statement = monotonic()
            return await task
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _next(self, connection: Connection, published: int) -> list[StoredEvent]:
        """What follows on `published`: from memory, or from the table where memory has a gap or got nothing for POLL_SECONDS."""
        while self._offered and self._offered[0].position <= published:
            self._offered.popleft()
        if not self._offered and self._caught_up.is_set():
            self._new_events.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._new_events.wait()
        if self._offered and self._offered[0].position == published + 1:
            return [self._offered.popleft() for _ in range(min(MAX_EVENTS_PER_ROUND, len(self._offered)))]
        events = await read_events(connection, published, MAX_EVENTS_PER_ROUND)
        self._last_statement = monotonic()
        self._head = max(self._head, events[-1].position if events else 0)
        self._check_caught_up(published)
        return events

    def _check_caught_up(self, published: int) -> None:
        if published >= self._head:
            self._caught_up.set()

    async def _disclosed(self, connection: Connection, events: Sequence[StoredEvent]) -> Mapping[int, str]:
        """By position: the data of events as copies that disclose it have it."""
        asked = [event for event in events if event.type in self._disclosed_types] if self._disclose else []
        return await self._disclose(connection, asked) if self._disclose and asked else {}

    async def _publish(
        self,
        producer: Producer,
        events: Sequence[StoredEvent],
        disclosed: Mapping[int, str],
        last_positions: Mapping[TopicPartition, int],
    ) -> None:
        waiting: defaultdict[TopicPartition, deque[OutgoingRecord]] = defaultdict(deque)

        def publish(topic: str, event: StoredEvent, record: OutgoingRecord) -> None:
            target = TopicPartition(topic, partition_of(record.key, self._partitions[topic]))
            if event.position > last_positions.get(target, 0):
                waiting[target].append(record)

        for event in events:
            record = OutgoingRecord(event.key.encode(), event.data.encode(), self._headers(event))
            publish(event.topic, event, record)
            for copy in self._copies[event.topic]:
                if event.type in self._types_on[copy.name]:
                    data = disclosed.get(event.position) if copy.discloses else None
                    publish(copy.name, event, record if data is None else record._replace(value=data.encode()))
        await send_in_order(producer, waiting, _as_it_is, before_send=self._check_not_silent)

    def _check_not_silent(self) -> None:
        """A process that was paused may have lost the lock without noticing, and another may be publishing by now."""
        silent_seconds = monotonic() - self._last_statement
        if silent_seconds > self._settings.session_timeout_ms / 2_000:
            raise LostLeadership(f"the database has had no statement of ours for {silent_seconds:.1f} s")

    def _headers(self, event: StoredEvent) -> Headers:
        return to_headers(
            Envelope(
                type=event.type,
                source=self._source,
                id=f"{self._service}-{event.position}",
                time=event.recorded_at,
                subject=event.key,
                sequence=event.version,
                position=event.position,
                correlationid=event.correlation_id,
                causationid=event.causation_id,
                traceparent=event.traceparent,
                storeepoch=self._epoch if event.position > self._epoch_after else "",
                actor=event.actor,
                reason=event.reason,
            )
        )


def _as_it_is(record: OutgoingRecord) -> OutgoingRecord:
    return record
