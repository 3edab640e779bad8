"""The consumer: FastStream's batch subscriber, with checkpoints and seeks of our own.

The stored checkpoint is the truth; offsets in Kafka are for lag tools. On assignment the consumer seeks to what is stored, and after any
failure it seeks back to it. A revocation waits for the batch in hand.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from hashlib import md5
from time import monotonic
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.security import BaseSecurity, SASLScram512
from oms_contracts.envelope import CONTROL, MOST_BYTES, own_type_and_position

from oms_runtime.apply import SURROUNDINGS, Applier, Checkpoint, LostPartition, Partition
from oms_runtime.kafka import GroupReader, Record, answers, make_stoppable
from oms_runtime.metrics import Metrics
from oms_runtime.model import Received, Service
from oms_runtime.settings import RuntimeSettings

log = structlog.get_logger(__name__)

PATIENCE = 0.1, 5.0
"""Seconds before a batch that met a fault is tried again: at first, and at most."""
STUCK = 120.0
"""Seconds without a try, while records wait, after which something is wrong with us: twice what a statement may take."""
COMPANY = 4
"""Records in a batch from which on it is worth while to wait: a single order never waits."""
IDLE_MS = 500
TELL = 1.0
"""Seconds between two reports to Kafka of where we stand, and for one, at most: it is of no use to us."""
HEARTBEAT_MS = 1_000
"""A member hears of a rebalance with its next heartbeat, and the whole group waits for it."""
LEAVE = 5.0
"""Seconds for leaving the group, at most: a broker that is away cannot be told."""
DIGITS = 18
"""Of a position, at most. A stranger may send any; it is set aside then."""


class Consumer(ConsumerRebalanceListener):
    """One a process: reads all of a service's topics in one group and hands batches to the applier. `ticks` are seconds."""

    def __init__(
        self, service: Service, settings: RuntimeSettings, applier: Applier, metrics: Metrics, ticks: Callable[[], float] = monotonic
    ) -> None:
        self._service = service
        self._settings = settings
        self._applier = applier
        self._metrics = metrics
        self._ticks = ticks
        self._trusted = service.trusted_topics()
        self._handled = {kind.encode() for kind in service.handled_types()}
        self._lock = asyncio.Lock()
        self._stood: dict[Partition, Checkpoint] = {}
        self._read: dict[Partition, Checkpoint] = {}
        """How far we have read behind what is stored, where nothing that came was for us: that is stored with the next that is."""
        self._committed: dict[Partition, int] = {}
        self._fetch_at = 0.0
        self._slowed: object = None
        self._failures = 0
        self._stopping = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self._last_attempt = ticks()
        self.assigned = asyncio.Event()
        self._broker = KafkaBroker(
            settings.kafka_bootstrap_servers,
            security=_security(settings),
            client_id=f"oms-{service.name}",
            apply_types=False,
            consumer_only=True,
            allow_auto_create_topics=False,
            logger=logging.getLogger("oms_runtime.faststream"),
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
            max_records=settings.batch_records,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=min(HEARTBEAT_MS, settings.session_timeout_ms // 3),
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=500,
            max_partition_fetch_bytes=256 * 1024,
        )
        self._subscriber(self._handle)
        subscriber: Any = self._subscriber
        subscriber.get_msg = self._next_batch  # FastStream's own sleeps after a poll that found nothing

    async def start(self) -> None:
        """Join the group, and return once it has given us partitions. May be tried again when it failed."""
        try:
            await self._broker.start()
        except BaseException:  # a member that consumes nothing would keep its partitions from the others; it is raised on
            await self.leave()
            raise
        self._telling = asyncio.create_task(self._tell())

    async def stop(self) -> None:
        """Finish the batch in hand, say where we stand, leave the group."""
        await self.finish()
        await self.leave()

    async def finish(self) -> None:
        """Finish the batch in hand, and begin no other."""
        self._stopping.set()
        async with self._lock:
            pass
        if self._telling is not None:
            self._telling.cancel()

    async def leave(self) -> None:
        """Say where we stand, and leave the group."""
        try:
            async with asyncio.timeout(LEAVE):
                await self._commit_offsets()
                await self._broker.stop()
        except TimeoutError:
            log.info("group_not_left")

    async def alive(self) -> bool:
        """Whether batches are still being tried. False when records wait and none was tried for long, and the broker is not to blame."""
        if self._behind() == 0 or self._ticks() - self._last_attempt < STUCK:
            return True
        if not self._lock.locked() and not await answers(self._settings):
            self._last_attempt = self._ticks()  # once the broker is back, we have as long again
            return True
        return False

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]  # aiokafka awaits either
        self, revoked: Iterable[TopicPartition]
    ) -> None:
        async with self._lock:
            await self._commit_offsets()
            self._read.clear()
            for topic, partition in revoked:
                if self._stood.pop((topic, partition), None) is not None:
                    self._metrics.lag.remove(topic, partition)
                self._committed.pop((topic, partition), None)

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]  # aiokafka awaits either
        self, assigned: Iterable[TopicPartition]
    ) -> None:
        partitions = [(tp.topic, tp.partition) for tp in assigned]
        async with self._lock:
            while not self._stopping.is_set():
                try:
                    self._stood = await self._applier.checkpoints(partitions)
                    break
                except SURROUNDINGS as error:
                    log.warning("checkpoints_out_of_reach", error=f"{type(error).__name__}: {error}")
                except Exception:
                    # Without checkpoints nothing is consumed, and nobody else would say why.
                    log.exception("checkpoints_out_of_reach")
                await self._pause(PATIENCE[1])
            self._seek(self._stood)
            for name in self._stood:
                self._metrics.lag.labels(*name).set_function(partial(self._lag_of, name))
        if self._settings.instance is not None and not self.assigned.is_set():
            self._join_again()
        log.info("assigned", partitions=len(partitions))
        self.assigned.set()

    async def _next_batch(self, consumer: Any) -> Sequence[Any]:
        """What has been fetched. The next request goes out `service.linger` later, if records come in company.

        A batch costs as much as a hundred records (requests to two servers, and everybody who wakes up for them): those who come meanwhile
        share it. It is the readers who wait, not the broker for a number of bytes: a waiting request is looked at again with every record
        that arrives in any of its partitions.
        """
        if consumer is not self._slowed:
            self._slowed, fetcher = consumer, consumer._fetcher
            fetcher._proc_fetch_request = partial(self._fetch, fetcher._proc_fetch_request)
            make_stoppable(consumer)
        found = await consumer.getmany(timeout_ms=IDLE_MS, max_records=self._settings.batch_records)
        batch = [record for records in found.values() for record in records]
        self._fetch_at = self._ticks() + self._service.linger if len(batch) >= COMPANY else 0
        return batch

    async def _fetch(self, fetch: Callable[..., Any], *request: Any) -> Any:
        if (early := self._fetch_at - self._ticks()) > 0:
            await asyncio.sleep(early)
        return await fetch(*request)

    async def _handle(self, batch: Sequence[Any]) -> None:  # FastStream looks at its type, and knows no protocols
        async with self._lock:
            self._last_attempt = self._ticks()
            if self._stopping.is_set():
                return
            try:
                records, read = self._sift(batch, await self._fresh(batch))
                read = self._read | read
                if records:
                    await self._applier.apply(records, self._stood, read)
                self._read = {} if records else read
                self._failures = 0
            except LostPartition as lost:
                log.warning("partition_lost", reason=str(lost))
                await self._stand_again()
                self._again("lost_partition")
            except SURROUNDINGS as error:
                log.warning("batch_postponed", error=f"{type(error).__name__}: {error}", records=len(batch))
                self._failures += 1
                self._again("surroundings")
            except Exception:
                # Not even setting aside worked. FastStream would go on behind this batch, and it would be lost.
                log.exception("batch_failed", records=len(batch))
                self._failures += 1
                self._again("unexpected")
        if self._failures:
            first, most = PATIENCE
            await self._pause(min(most, first * 2 ** min(10, self._failures - 1)))

    async def _fresh(self, batch: Sequence[Record]) -> set[Partition]:
        """The partitions of a batch that are still ours and were fetched since we last sought.

        A batch may have been fetched from Kafka's own offsets while we were still reading our checkpoints. It then ends behind the position
        that we sought, and is fetched again.
        """
        reader = self._reader()
        assignment = reader.assignment()
        ends = {(record.topic, record.partition): record.offset for record in batch}
        return {
            name
            for name, last in ends.items()
            if name in self._stood and (tp := TopicPartition(*name)) in assignment and await reader.position(tp) > last
        }

    def _sift(self, batch: Sequence[Record], fresh: set[Partition]) -> tuple[list[Received], dict[Partition, Checkpoint]]:
        """What of a batch is for us and was not applied yet, and how far the batch reaches.

        Our own services' other types are dropped by their header, before anything is made of them: they are most of what comes.
        A stranger's record that we cannot read is a mistake to be shown.
        """
        records: list[Received] = []
        began = {name: self._at(name) for name in fresh}
        ends = {name: [*at] for name, at in began.items()}
        for record in batch:
            end = ends.get((record.topic, record.partition))
            if end is None or record.offset < end[0]:
                continue
            end[0] = record.offset + 1
            kind, told = own_type_and_position(record.headers)
            if record.topic not in self._trusted:
                records.append(_received(record, _text(kind), None))
                continue
            position = _position(told)
            if position is not None and position > end[1]:
                end[1] = position
            if kind in self._handled:
                records.append(_received(record, _text(kind), position))
        return records, {name: Checkpoint(*end) for name, end in ends.items() if end[0] > began[name].next_offset}

    def _at(self, name: Partition) -> Checkpoint:
        return self._read.get(name) or self._stood[name]

    def _again(self, reason: str) -> None:
        """Have everything fetched again from where we stand: whichever partition is at fault, the batch was rolled back with it."""
        self._metrics.batch_failures.labels(reason).inc()
        self._read.clear()
        self._seek(self._stood)

    def _join_again(self) -> None:
        """Have partitions dealt out anew, once.

        Who takes its own place again gets what it had, unasked, and is not told that it may lead the group: then nobody would notice that
        it reads other topics than before, or that topics have been added to.
        """
        consumer: Any = self._subscriber.consumer
        consumer._coordinator.request_rejoin()

    async def _stand_again(self) -> None:
        """Read the checkpoints anew: another consumer moved them while we were away, or our own commit was not heard of."""
        try:
            self._stood = await self._applier.checkpoints(self._stood)
        except SURROUNDINGS as error:
            log.warning("checkpoints_out_of_reach", error=f"{type(error).__name__}: {error}")
            self._failures += 1

    def _seek(self, checkpoints: dict[Partition, Checkpoint]) -> None:
        reader = self._reader()
        assignment = reader.assignment()
        for (topic, partition), checkpoint in checkpoints.items():
            if TopicPartition(topic, partition) in assignment:
                reader.seek(TopicPartition(topic, partition), checkpoint.next_offset)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TELL)
            async with self._lock:
                await self._store_read()
                await self._commit_offsets()

    async def _store_read(self) -> None:
        """Store now and then how far we have read, though none of it was for us: after a crash it is not all read again."""
        if not self._read or self._stopping.is_set():
            return
        try:
            await self._applier.move(self._stood, self._read)
            self._read.clear()
        except LostPartition as lost:
            log.warning("partition_lost", reason=str(lost))
            await self._stand_again()
            self._again("lost_partition")
        except SURROUNDINGS as error:
            log.info("reading_not_stored", error=f"{type(error).__name__}: {error}")

    async def _commit_offsets(self) -> None:
        """Tell Kafka where we stand: lag tools read it, we never do."""
        if self._subscriber.consumer is None:
            return
        assignment = self._reader().assignment()
        news = {
            TopicPartition(*name): offset
            for name in self._stood
            if self._committed.get(name) != (offset := self._at(name).next_offset) and TopicPartition(*name) in assignment
        }
        if not news:
            return
        try:
            async with asyncio.timeout(TELL):
                await self._reader().commit(news)
            self._committed |= {(tp.topic, tp.partition): offset for tp, offset in news.items()}
        except (KafkaError, TimeoutError) as error:
            log.info("offsets_not_told", error=f"{type(error).__name__}: {error}")

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _lag_of(self, name: Partition) -> int:
        reader: Any = self._subscriber.consumer
        tp = TopicPartition(*name)
        end = reader.highwater(tp) if reader is not None and tp in reader.assignment() else None
        return max(0, (end or 0) - self._at(name).next_offset)

    def _behind(self) -> int:
        return sum(map(self._lag_of, self._stood))

    def _reader(self) -> GroupReader:
        reader: Any = self._subscriber.consumer
        assert reader is not None
        return reader


async def _as_it_is(batch: Any) -> KafkaMessage:
    """FastStream's own batch parser decodes every header, and one that is not UTF-8 would lose the batch."""
    return KafkaMessage(body=b"", raw_message=batch, consumer=None)  # type: ignore[arg-type]


async def _raw(message: KafkaMessage) -> Any:
    return message.raw_message


@lru_cache(maxsize=4_096)
def _text(value: bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if value is not None else None


def _position(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) <= DIGITS else None


def _received(record: Record, kind: str | None, position: int | None) -> Received:
    return Received(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=_text_of(record.key) if record.key is not None else None,
        headers=record.headers,
        value=record.value or b"",
        type=kind,
        position=position,
    )


def _text_of(key: bytes) -> str:
    """A key as it is, or a name for one that no envelope could carry: a letter about its record has to be readable by all."""
    text = key.decode("utf-8", "replace")
    if text.isprintable() and len(text) <= MOST_BYTES // 4:
        return text
    if len(text.encode()) <= MOST_BYTES and not CONTROL.search(text):
        return text
    return CONTROL.sub("\ufffd", text[:100]) + "~" + md5(key, usedforsecurity=False).hexdigest()


def _security(settings: RuntimeSettings) -> BaseSecurity | None:
    if settings.kafka_username is None or settings.kafka_password is None:
        return None
    return SASLScram512(username=settings.kafka_username, password=settings.kafka_password.get_secret_value(), use_ssl=False)
