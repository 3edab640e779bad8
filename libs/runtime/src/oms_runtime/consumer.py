"""The consumer: FastStream's batch subscriber, with checkpoints and seeks of our own.

The stored checkpoint is the truth; offsets in Kafka are for lag tools. On assignment the consumer seeks to what is stored, and after any
failure it seeks back to it. A revocation waits for the batch in hand.
"""

import asyncio
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.security import BaseSecurity, SASLScram512
from oms_contracts.envelope import header

from oms_runtime.apply import SURROUNDINGS, Applier, Checkpoint, LostPartition, Partition
from oms_runtime.kafka import GroupReader
from oms_runtime.metrics import Metrics
from oms_runtime.model import Received, Service
from oms_runtime.settings import RuntimeSettings

log = structlog.get_logger(__name__)

PATIENCE = 0.1, 5.0
"""Seconds before a batch that met a fault of the surroundings is tried again: at first, and at most."""


class Consumer(ConsumerRebalanceListener):
    """One a process: reads all of a service's topics in one group and hands batches to the applier."""

    def __init__(self, service: Service, settings: RuntimeSettings, applier: Applier, metrics: Metrics) -> None:
        self._service = service
        self._settings = settings
        self._applier = applier
        self._metrics = metrics
        self._lock = asyncio.Lock()
        self._stood: dict[Partition, Checkpoint] = {}
        self._committed: dict[Partition, int] = {}
        self._failures = 0
        self._told = 0.0
        self._stopping = False
        self.last_attempt = monotonic()
        self.assigned = asyncio.Event()
        self._broker = KafkaBroker(
            settings.kafka_bootstrap_servers,
            security=_security(settings),
            client_id=f"oms-{service.name}",
            apply_types=False,
            consumer_only=True,
            allow_auto_create_topics=False,
            logger=None,
        )
        self._subscriber = self._broker.subscriber(
            *(topic.name for topic in service.reads),
            batch=True,
            group_id=f"oms.{service.name}",
            group_instance_id=settings.instance,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,
            listener=self,
            parser=_as_it_is,
            decoder=_raw,
            batch_timeout_ms=20,
            max_records=settings.batch_records,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.session_timeout_ms // 3,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=100,
        )
        self._subscriber(self._handle)

    async def start(self) -> None:
        await self._broker.start()

    async def stop(self) -> None:
        """Finish the batch in hand, say where we stand, leave the group."""
        self._stopping = True
        async with self._lock:
            await self._commit_offsets()
        await self._broker.stop()

    @property
    def alive(self) -> bool:
        """Whether batches are still being tried: False when records wait and none was tried for a minute."""
        return self._behind() == 0 or monotonic() - self.last_attempt < 60

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]  # aiokafka awaits either
        self, revoked: Iterable[TopicPartition]
    ) -> None:
        async with self._lock:
            await self._commit_offsets()
            for partition in revoked:
                self._stood.pop((partition.topic, partition.partition), None)
                self._committed.pop((partition.topic, partition.partition), None)

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]  # aiokafka awaits either
        self, assigned: Iterable[TopicPartition]
    ) -> None:
        partitions = [(tp.topic, tp.partition) for tp in assigned]
        async with self._lock:
            while True:
                try:
                    self._stood = await self._applier.checkpoints(partitions)
                    break
                except SURROUNDINGS as error:
                    log.warning("checkpoints_out_of_reach", error=str(error))
                    await asyncio.sleep(PATIENCE[1])
            self._seek(self._stood)
        if self._settings.instance is not None and not self.assigned.is_set():
            self._join_again()
        self.assigned.set()

    async def _handle(self, batch: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        async with self._lock:
            self.last_attempt = monotonic()
            records = [_received(r) for r in batch if self._is_next(r)]
            if self._stopping or not records:
                return
            try:
                await self._applier.apply(records, self._stood)
                self._failures = 0
            except LostPartition as lost:
                log.warning("partition_lost", reason=str(lost))
                self._metrics.batch_failures.labels("lost_partition").inc()
                await self._stand_again()
            except SURROUNDINGS as error:
                log.warning("batch_postponed", error=f"{type(error).__name__}: {error}", records=len(records))
                self._metrics.batch_failures.labels("surroundings").inc()
                self._failures += 1
                self._seek({(r.topic, r.partition): self._stood[r.topic, r.partition] for r in records})
            await self._commit_offsets(every=1.0)
        if self._failures:
            first, most = PATIENCE
            await asyncio.sleep(min(most, first * 2 ** min(10, self._failures - 1)))

    def _reader(self) -> GroupReader | None:
        reader: Any = self._subscriber.consumer
        return reader

    def _join_again(self) -> None:
        """Have partitions dealt out anew, once.

        Who takes its own place again gets what it had, unasked, and is not told that it may lead the group: then nobody would notice that
        it reads other topics than before, or that topics have been added to.
        """
        consumer: Any = self._subscriber.consumer
        consumer._coordinator.request_rejoin()

    def _is_next(self, record: "ConsumerRecord[bytes, bytes]") -> bool:
        checkpoint = self._stood.get((record.topic, record.partition))
        return checkpoint is not None and record.offset >= checkpoint.next_offset

    async def _stand_again(self) -> None:
        """Read the checkpoints anew: another consumer moved them while we were away, or our own commit was not heard of."""
        try:
            self._stood = await self._applier.checkpoints(self._stood)
        except SURROUNDINGS as error:
            log.warning("checkpoints_out_of_reach", error=str(error))
            self._failures += 1
            return
        self._seek(self._stood)

    def _seek(self, checkpoints: dict[Partition, Checkpoint]) -> None:
        consumer: GroupReader | None = self._reader()
        assert consumer is not None
        assignment = consumer.assignment()
        for (topic, partition), checkpoint in checkpoints.items():
            if TopicPartition(topic, partition) in assignment:
                consumer.seek(TopicPartition(topic, partition), checkpoint.next_offset)

    async def _commit_offsets(self, every: float = 0.0) -> None:
        """Tell Kafka where we stand: lag tools read it, we never do."""
        consumer: GroupReader | None = self._reader()
        if consumer is None or monotonic() - self._told < every:
            return
        self._told = monotonic()
        assignment = consumer.assignment()
        news = {
            TopicPartition(*name): at.next_offset
            for name, at in self._stood.items()
            if self._committed.get(name) != at.next_offset and TopicPartition(*name) in assignment
        }
        for tp in assignment:
            end = consumer.highwater(tp)
            if end is not None and (tp.topic, tp.partition) in self._stood:
                self._metrics.lag.labels(tp.topic, tp.partition).set(max(0, end - self._stood[tp.topic, tp.partition].next_offset))
        if not news:
            return
        try:
            async with asyncio.timeout(5):
                await consumer.commit(news)
            self._committed |= {(tp.topic, tp.partition): offset for tp, offset in news.items()}
        except (KafkaError, TimeoutError) as error:
            log.info("offsets_not_told", error=f"{type(error).__name__}: {error}")

    def _behind(self) -> int:
        consumer: GroupReader | None = self._reader()
        if consumer is None:
            return 0
        ends = {name: consumer.highwater(TopicPartition(*name)) for name in self._stood}
        return sum(max(0, (end or 0) - self._stood[name].next_offset) for name, end in ends.items())


async def _as_it_is(batch: Any) -> KafkaMessage:
    """FastStream's own batch parser decodes every header, and one that is not UTF-8 would lose the batch."""
    return KafkaMessage(body=b"", raw_message=batch, consumer=None)  # type: ignore[arg-type]


async def _raw(message: KafkaMessage) -> Any:
    return message.raw_message


def _received(record: "ConsumerRecord[bytes, bytes]") -> Received:
    headers = [(name, value or b"") for name, value in record.headers]
    position = header(headers, "ce_position")
    return Received(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key.decode("utf-8", "replace").replace("\0", "\ufffd") if record.key is not None else None,
        headers=headers,
        value=record.value or b"",
        type=header(headers, "ce_type"),
        position=int(position) if position is not None and position.isdecimal() else None,
    )


def _security(settings: RuntimeSettings) -> BaseSecurity | None:
    if settings.kafka_username is None or settings.kafka_password is None:
        return None
    return SASLScram512(username=settings.kafka_username, password=settings.kafka_password.get_secret_value(), use_ssl=False)
