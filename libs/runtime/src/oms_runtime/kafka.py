"""How clients reach the broker, what we use of them, and how a key finds its partition."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence, Set
from functools import lru_cache, partial
from math import inf
from time import monotonic
from typing import Any, Protocol

import aiokafka
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, ProducerClosed, UnknownTopicOrPartitionError
from aiokafka.partitioner import murmur2  # pyright: ignore[reportUnknownVariableType]  # aiokafka is untyped in part

from oms_runtime.settings import KafkaSettings

LARGEST_REQUEST = 2 * 1024 * 1024 + 64 * 1024
"""Bytes: above the largest message any topic takes."""
OVERHEARD = 3.0
"""Seconds after which a reader that has not ended is told to once more."""
METADATA_PAUSE = 0.1
"""Seconds between two requests of a producer for metadata, at least."""


class Batch(Protocol):
    """One produce batch of one partition. `append` answers None once it is full."""

    def append(self, *, key: bytes, value: bytes, timestamp: int | None, headers: Sequence[tuple[str, bytes]]) -> object | None: ...
    def record_count(self) -> int: ...
    def close(self) -> None: ...


class Producer(Protocol):
    """What we use of aiokafka's producer, typed."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def create_batch(self) -> Batch: ...
    async def partitions_for(self, topic: str) -> Set[int]: ...
    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> "asyncio.Future[Any]": ...
    async def send_and_wait(
        self, topic: str, *, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]], partition: int | None = None
    ) -> object: ...


class Record(Protocol):
    """What we use of a consumed record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Reader(Protocol):
    """What we use of aiokafka's consumer where no group is involved, typed."""

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


class GroupReader(Protocol):
    """What we use of the consumer that FastStream started for us, typed."""

    def assignment(self) -> frozenset[TopicPartition]: ...
    async def position(self, partition: TopicPartition) -> int: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    def highwater(self, partition: TopicPartition) -> int | None: ...
    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None: ...


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """What every aiokafka client needs: where the broker is, and who we are (SCRAM-SHA-512)."""
    options: dict[str, Any] = {"bootstrap_servers": settings.kafka_bootstrap_servers}
    if settings.kafka_username is not None and settings.kafka_password is not None:
        options |= {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return options


def make_producer(settings: KafkaSettings, client_id: str, *, linger_ms: int = 0) -> Producer:
    """An idempotent producer that is answered once the broker has the record (acks=all). It is not started yet."""
    producer: Any = aiokafka.AIOKafkaProducer(
        **client_options(settings),
        client_id=client_id,
        enable_idempotence=True,
        acks="all",
        compression_type="snappy",  # aiokafka's lz4 is set to compress hard, and takes six times as long for a sixth less
        linger_ms=linger_ms,
        max_batch_size=512 * 1024,
        max_request_size=LARGEST_REQUEST,
        request_timeout_ms=30_000,
    )
    space_metadata_requests(producer)
    return producer


def space_metadata_requests(producer: Any) -> None:
    """Have aiokafka's producer ask where partitions are led at most ten times a second.

    By itself it asks again at once for as long as a partition it writes has no leader: thousands of times a second while the broker is
    away, with two lines in the log each time.
    """
    client, asked = producer.client, -inf
    ask = client._metadata_update

    async def ask_in_time(*args: Any) -> bool:
        nonlocal asked
        await asyncio.sleep(asked + METADATA_PAUSE - monotonic())
        asked = monotonic()
        return await ask(*args)

    client._metadata_update = ask_in_time


def number_from(producer: Producer, ends: Mapping[TopicPartition, int], known_as: int | None) -> None:
    """Have a producer that is not started yet number its records as their offsets, and, unless it is None, be `known_as` an earlier one.

    The broker takes a record of an idempotent producer only if its number follows on the last one. Of several who are known by one id
    it therefore takes each record once, whoever is late: the others get OutOfOrderSequenceNumber.
    """
    inside: Any = producer
    if known_as is not None:
        inside._txn_manager.set_pid_and_epoch(known_as, 0)
    inside._txn_manager._sequence_numbers.update({tp: end % 2**31 for tp, end in ends.items()})


def id_of(producer: Producer) -> int:
    """What the broker knows a started producer by."""
    inside: Any = producer
    return inside._txn_manager.producer_id


async def abandon(producer: Producer) -> None:
    """End a producer, started or not, at once: what it has not sent, it never sends.

    Its own `stop` sends all that it still holds first, however long the broker is away and whoever has taken over by then.
    """
    inside: Any = producer
    sending: asyncio.Task[None] | None = inside._sender.sender_task
    while sending is not None and not sending.done():
        sending.cancel()  # once for itself, and once for each request that it waits for
        await asyncio.wait({sending}, timeout=0.01)
    inside._message_accumulator.fail_all(ProducerClosed())
    await producer.stop()


def make_reader(settings: KafkaSettings, client_id: str) -> Reader:
    """A consumer outside any group, which reads what it is assigned. It is not started yet."""
    reader: Any = _Reader(**client_options(settings), client_id=client_id, auto_offset_reset="earliest")
    return reader


class _Reader(aiokafka.AIOKafkaConsumer):
    async def start(self) -> None:
        await super().start()
        make_stoppable(self)

    async def stop(self) -> None:
        """End, though aiokafka's loop may overhear that it is cancelled while it waits for a request that is: it is told again then."""
        inside: Any = self
        stopping = asyncio.ensure_future(super().stop())
        try:
            while not (await asyncio.wait({stopping}, timeout=OVERHEARD))[0]:
                stopping.cancel()
        except asyncio.CancelledError:
            stopping.cancel()
            raise
        if stopping.cancelled():
            await inside._client.close()
        else:
            stopping.result()


def make_stoppable(consumer: Any) -> None:
    """Let a started consumer of aiokafka's be stopped while a request of it waits to be tried again.

    A consumer that is stopped cancels its requests. By itself, one that waits hands the cancellation on to whoever stops the consumer, as
    if it was meant for him: he ends without a word, and the connections stay open.
    """
    fetcher = consumer._fetcher
    fetcher._proc_fetch_request = partial(_until_cancelled, fetcher._proc_fetch_request)
    fetcher._update_fetch_positions = partial(_until_cancelled, fetcher._update_fetch_positions)


async def _until_cancelled(request: Callable[..., Coroutine[Any, Any, bool]], *args: Any) -> bool:
    try:
        return await request(*args)
    except asyncio.CancelledError:
        return False  # nothing came of it: what aiokafka says of one that was under way


async def count_partitions(reader: Reader, topics: Iterable[str]) -> dict[str, int]:
    """How many partitions each of `topics` has: whoever made them chose that. It must not change once there are records.

    Raises UnknownTopicOrPartitionError naming those that the broker does not have or let us see.
    """
    inside: Any = reader
    cluster = await inside._client.fetch_all_metadata()
    found = {name: len(cluster.partitions_for_topic(name) or ()) for name in topics}
    if missing := [name for name, count in found.items() if not count]:
        raise UnknownTopicOrPartitionError(", ".join(missing))
    return found


async def answers(settings: KafkaSettings) -> bool:
    """Whether the broker answers, within two seconds, a client that it has not seen before."""
    client: Any = AIOKafkaClient(**client_options(settings), client_id="oms-answers")
    try:
        async with asyncio.timeout(2):
            await client.bootstrap()
        return True
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await client.close()


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition Kafka's own default partitioner (murmur2) gives a key, so that every client agrees."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
