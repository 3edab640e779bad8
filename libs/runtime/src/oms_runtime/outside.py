"""Publishing and listening as the outside does: channels, warehouses, carriers and operators, each with the broker user it is."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from heapq import merge
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from oms_contracts.catalogue import Topic, topic_of
from oms_contracts.envelope import Envelope, Headers, to_headers
from oms_contracts.message import encode, key_of, type_of
from pydantic import SecretStr

from oms_runtime.kafka import Batch, Reader, Record, count_partitions, make_producer, make_reader, partition_of
from oms_runtime.settings import KafkaSettings


def settings_of(kafka: Mapping[str, str]) -> KafkaSettings:
    """A client's settings for a broker user as the local stack names it: `bootstrap_servers`, `username` and `password`."""
    return KafkaSettings(
        kafka_bootstrap_servers=kafka["bootstrap_servers"],
        kafka_username=kafka.get("username"),
        kafka_password=SecretStr(kafka["password"]) if "password" in kafka else None,
    )


def content_id(message: object) -> str:
    """An event id made of what a message says: the same message is the same event, however often and by whomever it is sent."""
    return sha256(b"\0".join((type_of(message).name.encode(), key_of(message).encode(), encode(message)))).hexdigest()


class Publisher:
    """Publishes messages in order within each key, in batches, and returns once the broker has them.

    `source` is what their envelopes name as such; `identify` gives a message's event id.
    """

    def __init__(
        self, settings: KafkaSettings, source: str, clock: Callable[[], datetime], *, identify: Callable[[Any], str] = content_id
    ) -> None:
        self._producer = make_producer(settings, source.strip("/").replace("/", "-"))
        self._source = source
        self._clock = clock
        self._identify = identify

    async def __aenter__(self) -> "Publisher":
        try:
            await self._producer.start()
        except BaseException:  # who cannot enter is never left: its connections would stay open; it is raised on
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def publish(
        self, messages: Iterable[Any], told: Callable[[int], None] = lambda _count: None, *, topic: str | None = None
    ) -> None:
        """Publish all of `messages`; `told` hears how many the broker has acknowledged since it was last told.

        `topic` is for messages of `operations`, which every service has its own topics for. Raises KafkaError when the broker
        refuses one, or would because it is too large.
        """
        waiting: defaultdict[tuple[str, int], deque[Any]] = defaultdict(deque)
        counts: dict[str, int] = {}
        for message in messages:
            name = topic or topic_of(message)
            if name not in counts:
                counts[name] = len(await self._producer.partitions_for(name))
            waiting[name, partition_of(key_of(message).encode(), counts[name])].append(message)
        while waiting:
            flying: list[asyncio.Future[Any]] = []
            count = 0
            for (name, partition), queue in waiting.items():
                batch = self._fill(queue)
                count += batch.record_count()
                flying.append(await self._producer.send_batch(batch, name, partition=partition))
            await asyncio.gather(*flying)
            told(count)
            waiting = defaultdict(deque, {target: queue for target, queue in waiting.items() if queue})

    def _fill(self, queue: deque[Any]) -> Batch:
        batch = self._producer.create_batch()
        while queue and self._append(batch, queue[0]):
            queue.popleft()
        if not batch.record_count():
            raise MessageSizeTooLargeError(f"{type_of(queue[0]).name} of {key_of(queue[0])} is too large to publish")
        batch.close()
        return batch

    def _append(self, batch: Batch, message: Any) -> bool:
        key, value, headers = record_of(message, self._source, self._identify(message), self._clock())
        return batch.append(key=key, value=value, timestamp=None, headers=headers) is not None


def record_of(message: Any, source: str, event_id: str, now: datetime) -> tuple[bytes, bytes, Headers]:
    """Key, value and headers of the record that a message is published as."""
    key = key_of(message)
    envelope = Envelope(type=type_of(message).name, source=source, id=event_id, time=now, subject=key, correlationid=key)
    return key.encode(), encode(message), to_headers(envelope)


async def assign_all(reader: Reader, topics: Iterable[Topic]) -> list[TopicPartition]:
    """Assign every partition of `topics`. Raises UnknownTopicOrPartitionError naming those that the broker does not have or let us see.

    A reader would else ask for them for ever, as fast as it can.
    """
    counts = await count_partitions(reader, [topic.name for topic in topics])
    partitions = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
    reader.assign(partitions)
    return partitions


async def follow(
    settings: KafkaSettings, client_id: str, topics: Iterable[Topic], *, from_beginning: bool, listening: asyncio.Event | None = None
) -> AsyncGenerator[list[Record]]:
    """What is on `topics`, from the first record on or from now on, and what comes: some records at a time, until it is closed.

    Records of a partition come in order; those of several as the broker's clock has them, as far as they arrive together. `listening`
    is set once nothing will be missed. Raises UnknownTopicOrPartitionError as `assign_all` does.
    """
    reader = make_reader(settings, client_id)
    try:
        await reader.start()
        partitions = await assign_all(reader, topics)
        if not from_beginning:
            for partition, end in (await reader.end_offsets(partitions)).items():
                reader.seek(partition, end)
        if listening is not None:
            listening.set()
        while True:
            arrived = await reader.getmany(timeout_ms=100)
            if arrived:
                yield list(merge(*arrived.values(), key=lambda record: record.timestamp))
    finally:
        await reader.stop()
