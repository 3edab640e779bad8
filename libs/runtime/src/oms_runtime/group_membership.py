"""Membership in a consumer group, by FastStream's batch subscriber. This is the only module that knows FastStream.

FastStream provides the polling loop, connection, security and start and stop of the group consumer. Checkpoints, seeks, retries and the
grouping of fetches are ours (see `decisions/faststream.md`). Offsets in Kafka are for lag tools only: on assignment, `Consumer` seeks to
the checkpoints stored in PostgreSQL.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.security import BaseSecurity, SASLOAuthBearer, SASLPlaintext, SASLScram256, SASLScram512
from oms_kafka import aiokafka_internals
from oms_kafka.clients import Record, count_partitions, make_reader, token_provider
from oms_kafka.settings import KafkaSettings, ssl_context
from oms_kafka.topic_ids import fetch_topic_ids

from oms_runtime.model import Service
from oms_runtime.records import Checkpoint, Partition, PartitionFacts
from oms_runtime.settings import RuntimeSettings
from oms_runtime.tails import read_between

log = structlog.get_logger(__name__)

LINGER_MIN_RECORDS = 4
"""From so many records on, a batch makes the next fetch wait for more. A single order never waits."""
POLL_TIMEOUT_MS = 500
HEARTBEAT_MS = 1_000
"""A member hears of a rebalance with its next heartbeat, and the whole group waits for it."""
MAX_POLL_INTERVAL_MS = 300_000
MAX_PARTITION_FETCH_BYTES = 256 * 1024
OFFSET_COMMIT_TIMEOUT_SECONDS = 1.0
"""We never read the offsets, so it is not worth longer."""
READ_TIMEOUT_SECONDS = 10.0
"""For the records just before the checkpoints."""
NEW_TOPICS_MS = 10_000
"""Between two looks for topics of new parties, of which each makes the group assign its partitions anew."""
SASL = {"SCRAM-SHA-512": SASLScram512, "SCRAM-SHA-256": SASLScram256, "PLAIN": SASLPlaintext}
"""FastStream's classes of the mechanisms with username and password."""


class _GroupConsumer(Protocol):
    """What we use of the aiokafka consumer that FastStream starts."""

    def assignment(self) -> frozenset[TopicPartition]: ...
    async def position(self, partition: TopicPartition) -> int: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    def highwater(self, partition: TopicPartition) -> int | None: ...
    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...


class GroupMembership(ConsumerRebalanceListener):
    """One process's place in its service's consumer group.

    With an `instance` name it is static membership (`group.instance.id`). `handle` gets each batch; `revoked` and `assigned` are awaited
    before the rebalance goes on. `ticks` are seconds.
    """

    def __init__(
        self,
        service: Service,
        settings: RuntimeSettings,
        *,
        handle: Callable[[Sequence[Record]], Awaitable[None]],
        revoked: Callable[[list[Partition]], Awaitable[None]],
        assigned: Callable[[list[Partition]], Awaitable[None]],
        ticks: Callable[[], float],
    ) -> None:
        self._service = service
        self._settings = settings
        self._handle_batch = handle
        self._revoked = revoked
        self._assigned = assigned
        self._ticks = ticks
        self._next_fetch_at = 0.0
        self._prepared: object = None
        """The aiokafka consumer whose fetches are already delayed by us: FastStream makes a new one with each start."""
        self._offsets_committed: dict[Partition, int] = {}
        self._rejoined = False
        self._leaving = False
        self.ended = asyncio.Event()
        """Set once this process gets no more records though it did not leave: only another process can go on."""
        self._broker = KafkaBroker(
            settings.kafka_bootstrap_servers,
            client_id=f"oms-{service.name}",
            apply_types=False,
            consumer_only=True,
            allow_auto_create_topics=False,
            metadata_max_age_ms=NEW_TOPICS_MS,
            logger=logging.getLogger("oms_runtime.faststream"),
            **broker_security(settings),
        )
        self._subscriber = self._broker.subscriber(
            *(() if pattern_of(service) else fixed_topics(service)),
            pattern=pattern_of(service),
            batch=True,
            group_id=service.consumer_group(),
            group_instance_id=settings.instance,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,
            listener=self,
            parser=_unparsed,
            decoder=_undecoded,
            max_records=settings.batch_records,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=min(HEARTBEAT_MS, settings.session_timeout_ms // 3),
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
            fetch_max_wait_ms=500,
            max_partition_fetch_bytes=MAX_PARTITION_FETCH_BYTES,
        )
        self._subscriber(self._handle)
        aiokafka_internals.bound_batches()
        aiokafka_internals.report_closed_connections()
        aiokafka_internals.replace_poll(self._subscriber, self._poll)

    async def join(self) -> None:
        """Join the group, and return once it has assigned partitions. May be tried again after it failed.

        Raises UnknownTopicOrPartitionError where a topic does not exist: a pattern is content with those that do.
        """
        self._leaving = False
        await self._broker.start()
        aiokafka_internals.when_group_membership_ends(self._subscriber, self._end)
        consumer: Any = self._subscriber.consumer
        await count_partitions(consumer, fixed_topics(self._service))

    async def leave(self) -> None:
        """Leave the group. Also cleans up after a `join` that failed."""
        self._leaving = True
        await self._broker.stop()

    def _end(self) -> None:
        if not self._leaving and not self.ended.is_set():
            log.error("group_membership_ended")
            self.ended.set()

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]  # aiokafka awaits either
        self, revoked: Iterable[TopicPartition]
    ) -> None:
        partitions = [(tp.topic, tp.partition) for tp in revoked]
        await self._revoked(partitions)
        for name in partitions:
            self._offsets_committed.pop(name, None)

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]  # aiokafka awaits either
        self, assigned: Iterable[TopicPartition]
    ) -> None:
        await self._assigned([(tp.topic, tp.partition) for tp in assigned])
        if self._settings.instance is not None and not self._rejoined:
            # A static member that returns gets its old partitions at once, and does not learn that it leads the group. So no member would
            # notice that it subscribes to other topics now, or that topics have more partitions. A rejoin assigns them anew, once.
            self._rejoined = True
            aiokafka_internals.request_rejoin(self._subscriber.consumer)

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Fetch these partitions from these offsets on, as far as they are assigned to us."""
        consumer = self._consumer()
        assignment = consumer.assignment()
        for name, offset in offsets.items():
            if TopicPartition(*name) in assignment:
                consumer.seek(TopicPartition(*name), offset)

    async def partitions_in_position(self, batch: Sequence[Record]) -> set[Partition]:
        """The partitions of a batch that are assigned to us, and whose next fetch position is behind it.

        A batch may have been fetched from Kafka's own offsets while the checkpoints were still being read. Its end is then not before the
        position that we seeked to, and it is fetched again.
        """
        consumer = self._consumer()
        assignment = consumer.assignment()
        ends = {(record.topic, record.partition): record.offset for record in batch}
        return {name for name, last in ends.items() if (tp := TopicPartition(*name)) in assignment and await consumer.position(tp) > last}

    async def facts(self, checkpoints: Mapping[Partition, Checkpoint]) -> dict[Partition, PartitionFacts]:
        """What the broker says of partitions that are assigned to us. Partitions of topics that it does not know are left out.

        Raises TimeoutError when the records before the checkpoints do not come.
        """
        consumer: Any = self._consumer()
        ids = await fetch_topic_ids(consumer, {topic for topic, _ in checkpoints})
        found = [TopicPartition(*name) for name in checkpoints if name[0] in ids]
        begins, ends = await consumer.beginning_offsets(found), await consumer.end_offsets(found)
        last = {tp: checkpoints[tp.topic, tp.partition].next_offset - 1 for tp in found if checkpoints[tp.topic, tp.partition].timestamp_ms}
        timestamps = await self._timestamps({tp: offset for tp, offset in last.items() if begins[tp] <= offset < ends[tp]})
        return {(tp.topic, tp.partition): PartitionFacts(ids[tp.topic], begins[tp], ends[tp], timestamps.get(tp)) for tp in found}

    async def _timestamps(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The timestamps of the records at `offsets`, in milliseconds. Records that were deleted are left out."""
        if not offsets:
            return {}
        reader = make_reader(self._settings, f"oms-{self._service.name}-checkpoints")
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                await reader.start()
                ends = {tp: offset + 1 for tp, offset in offsets.items()}
                return {tp: record.timestamp async for tp, record in read_between(reader, offsets, ends)}
        finally:
            await reader.stop()

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Fetch nothing more of these partitions until they are assigned anew."""
        consumer: Any = self._consumer()
        assignment = consumer.assignment()
        consumer.pause(*(tp for name in partitions if (tp := TopicPartition(*name)) in assignment))

    def end_offset(self, partition: Partition) -> int | None:
        """The partition's end offset as of its last fetch, None where it is not known or not ours."""
        consumer: Any = self._subscriber.consumer
        tp = TopicPartition(*partition)
        return consumer.highwater(tp) if consumer is not None and tp in consumer.assignment() else None

    async def commit_offsets(self, offsets: Mapping[Partition, int]) -> None:
        """Commit offsets to Kafka, for lag tools. It gives up after a second."""
        if self._subscriber.consumer is None:
            return
        assignment = self._consumer().assignment()
        changed = {
            TopicPartition(*name): offset
            for name, offset in offsets.items()
            if self._offsets_committed.get(name) != offset and TopicPartition(*name) in assignment
        }
        if not changed:
            return
        try:
            async with asyncio.timeout(OFFSET_COMMIT_TIMEOUT_SECONDS):
                await self._consumer().commit(changed)
            self._offsets_committed |= {(tp.topic, tp.partition): offset for tp, offset in changed.items()}
        except (KafkaError, TimeoutError) as error:
            log.info("offsets_not_committed", error=f"{type(error).__name__}: {error}")

    async def _handle(self, batch: Sequence[Any]) -> None:  # FastStream looks at its type, and knows no protocols
        await self._handle_batch(batch)

    async def _poll(self, consumer: Any) -> Sequence[Any]:
        """What has been fetched. After several records the next fetch waits for `service.linger_seconds`.

        A batch costs as much as a hundred records (requests to two servers, and every process that wakes up for them), and those that
        arrive meanwhile share it. The readers wait, and not the broker for a number of bytes: a waiting fetch request is looked at again
        with every record that arrives in any of its partitions.
        """
        if consumer is not self._prepared:
            self._prepared = consumer
            aiokafka_internals.wrap_fetch_requests(consumer, lambda fetch: partial(self._fetch, fetch))
            aiokafka_internals.contain_cancellation(consumer)
        found = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=self._settings.batch_records)
        batch = [record for records in found.values() for record in records]
        self._next_fetch_at = self._ticks() + self._service.linger_seconds if len(batch) >= LINGER_MIN_RECORDS else 0
        return batch

    async def _fetch(self, fetch: Callable[..., Awaitable[bool]], *request: Any) -> bool:
        if (early_seconds := self._next_fetch_at - self._ticks()) > 0:
            await asyncio.sleep(early_seconds)
        return await fetch(*request)

    def _consumer(self) -> _GroupConsumer:
        consumer: Any = self._subscriber.consumer
        assert consumer is not None
        return consumer


def fixed_topics(service: Service) -> list[str]:
    """The topics that a service reads whatever parties there are."""
    return [topic.name for topic in service.reads if topic.parties is None]


def pattern_of(service: Service) -> str | None:
    """The regular expression of the topics that a service reads; None where it reads no parties' topics, so that a list will do."""
    families = [re.escape(topic.prefix) + r".+" for topic in service.reads if topic.parties is not None]
    return f"^({'|'.join([*map(re.escape, fixed_topics(service)), *families])})$" if families else None


async def _unparsed(batch: Any) -> KafkaMessage:
    """FastStream's own batch parser decodes every header, and one that is not UTF-8 would lose the batch."""
    return KafkaMessage(body=b"", raw_message=batch, consumer=None)  # type: ignore[arg-type]


async def _undecoded(message: KafkaMessage) -> Any:
    return message.raw_message


def broker_security(settings: KafkaSettings) -> dict[str, Any]:
    """The options of a FastStream broker that secure its connections as `oms_kafka.clients.client_options` does for aiokafka."""
    context = ssl_context(settings)
    if not settings.uses_sasl:
        return {"security": BaseSecurity(ssl_context=context)}
    if settings.kafka_username is None or settings.kafka_password is None:
        return {"security": SASLOAuthBearer(ssl_context=context), "sasl_oauth_token_provider": token_provider(settings)}
    make = SASL[settings.kafka_sasl_mechanism]
    return {"security": make(settings.kafka_username, settings.kafka_password.get_secret_value(), ssl_context=context)}
