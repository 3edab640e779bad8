"""Producers and readers: how they are configured, and the part of aiokafka's API that we use, typed.

aiokafka is untyped in part, so its clients are created as `Any` and handed out as one of the protocols below.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import aiokafka
from aiokafka import TopicPartition
from aiokafka.abc import AbstractTokenProvider
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.partitioner import murmur2  # pyright: ignore[reportUnknownVariableType]  # aiokafka is untyped in part
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch

from oms_kafka import aiokafka_internals
from oms_kafka.settings import KafkaSettings, ssl_context

MAX_REQUEST_BYTES = 2 * 1024 * 1024 + 64 * 1024
"""Above the largest message that any topic takes."""
MAX_BATCH_BYTES = 512 * 1024
COMPRESSION = "snappy"
"""aiokafka's lz4 is set to its highest level: it takes six times as long for a sixth less."""


class Batch(Protocol):
    """One produce batch of one partition. `append` returns None once the batch is full."""

    def append(self, *, key: bytes, value: bytes, timestamp: int | None, headers: Sequence[tuple[str, bytes]]) -> object | None: ...
    def record_count(self) -> int: ...
    def close(self) -> None: ...


class Producer(Protocol):
    """What we use of aiokafka's producer."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def create_batch_for(self, topic: str) -> Batch: ...
    async def partitions_for(self, topic: str) -> Set[int]: ...
    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> "asyncio.Future[Any]": ...
    async def send_and_wait(
        self, topic: str, *, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]], partition: int | None = None
    ) -> object: ...


class Record(Protocol):
    """What we use of a consumed record. `timestamp` is milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Reader(Protocol):
    """What we use of aiokafka's consumer where no group is involved."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def topics(self) -> Set[str]: ...
    def assign(self, partitions: Iterable[TopicPartition]) -> None: ...
    def pause(self, *partitions: TopicPartition) -> None: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]: ...
    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]: ...
    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[Record]]: ...


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """The options of every aiokafka client: the broker's address, TLS, and our credentials."""
    options: dict[str, Any] = {"bootstrap_servers": settings.kafka_bootstrap_servers, "security_protocol": settings.security_protocol}
    if settings.uses_tls:
        options["ssl_context"] = ssl_context(settings)
    if settings.uses_sasl:
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_oauth_token_provider"] = token_provider(settings)
    if settings.uses_sasl and settings.kafka_password is not None:
        options |= {"sasl_plain_username": settings.kafka_username, "sasl_plain_password": settings.kafka_password.get_secret_value()}
    return options


def token_provider(settings: KafkaSettings) -> AbstractTokenProvider | None:
    """Where an aiokafka client gets its OAUTHBEARER token from; None for the other mechanisms."""
    return _TokenFile(settings.kafka_token_file) if settings.kafka_token_file is not None else None


class _TokenFile(AbstractTokenProvider):
    """The token in a file, which another program replaces before the token expires. aiokafka asks with each new connection."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def token(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]  # aiokafka has no types here
        return (await asyncio.to_thread(self._file.read_text)).strip()


def make_producer(
    settings: KafkaSettings,
    client_id: str,
    *,
    idempotent: bool = True,
    linger_ms: int = 0,
    request_timeout_ms: int = 30_000,
    gzip_topics: Set[str] = frozenset(),
) -> Producer:
    """A producer whose sends return once the broker has the record on all in-sync replicas (acks=all). It is not started yet.

    `gzip_topics` are those that the broker keeps in gzip: a batch that arrives so is kept as it is, any other the broker makes anew.
    """
    aiokafka_internals.report_closed_connections()
    aiokafka_internals.compress_gzip_quickly()
    producer: Any = _Producer(
        **client_options(settings),
        client_id=client_id,
        enable_idempotence=idempotent,
        acks="all",
        compression_type=COMPRESSION,
        linger_ms=linger_ms,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=MAX_REQUEST_BYTES,
        request_timeout_ms=request_timeout_ms,
    )
    producer.gzip_topics = gzip_topics
    aiokafka_internals.space_metadata_requests(producer)
    return producer


class _Producer(aiokafka.AIOKafkaProducer):
    gzip_topics: Set[str] = frozenset()

    def create_batch_for(self, topic: str) -> Batch:
        codec = DefaultRecordBatch.CODEC_GZIP if topic in self.gzip_topics else DefaultRecordBatch.CODEC_SNAPPY
        batch: Any = BatchBuilder(MAX_BATCH_BYTES, codec)
        return batch


def make_reader(settings: KafkaSettings, client_id: str) -> Reader:
    """A consumer outside any group, which reads the partitions it is assigned. It is not started yet."""
    aiokafka_internals.bound_batches()
    aiokafka_internals.report_closed_connections()
    reader: Any = _Reader(**client_options(settings), client_id=client_id, auto_offset_reset="earliest")
    return reader


class _Reader(aiokafka.AIOKafkaConsumer):
    async def start(self) -> None:
        try:
            await super().start()
        except BaseException:  # a cancellation too: whatever ends the start goes on, and leaves connections open
            await super().stop()
            raise
        aiokafka_internals.contain_cancellation(self)

    async def stop(self) -> None:
        await aiokafka_internals.stop_consumer(self, super().stop)


async def count_partitions(reader: Reader, topics: Iterable[str]) -> dict[str, int]:
    """How many partitions each of `topics` has on the broker. The number must not change once a topic holds records.

    Raises UnknownTopicOrPartitionError naming the topics that do not exist, or that we may not see.
    """
    cluster = await aiokafka_internals.fetch_cluster_metadata(reader)
    found = {name: len(cluster.partitions_for_topic(name) or ()) for name in topics}
    if missing := [name for name, count in found.items() if not count]:
        raise UnknownTopicOrPartitionError(", ".join(missing))
    return found


async def broker_is_reachable(settings: KafkaSettings) -> bool:
    """Whether the broker answers a new client within two seconds."""
    client: Any = AIOKafkaClient(**client_options(settings), client_id="oms-reachable")
    try:
        async with asyncio.timeout(2):
            await client.bootstrap()
        # aiokafka takes a token that the broker refuses for accepted, and gets no metadata then.
        return bool(client.cluster.brokers())
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await client.close()


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner (murmur2) gives a key, so that every client agrees."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
