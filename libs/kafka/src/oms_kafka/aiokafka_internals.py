"""Every touch of a private attribute of aiokafka 0.14 or FastStream 0.7, one function each.

Each says which symptom it removes, where upstream knows of it, and which test fails without it. When a version is raised, read this file
and run those tests; what upstream has mended goes.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any

import aiokafka.record._crecords.default_records as compiled_records
import msgspec
from aiokafka import TopicPartition
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, KafkaConnectionError, ProducerClosed
from aiokafka.record import default_records as python_records

from oms_kafka.decompression import GZIP_WINDOW_BITS, UnreadableBatch, decompress

METADATA_REQUEST_SPACING_SECONDS = 0.1
"""At least so long lies between two metadata requests of one producer."""
STOP_RETRY_SECONDS = 3.0
"""A consumer that has not stopped by then is cancelled once more."""


def space_metadata_requests(producer: Any) -> None:
    """Make a producer ask for metadata at most ten times a second.

    Symptom: while a partition has no leader, the sender asks again at once, thousands of times a second, with two log lines each.
    Upstream: no issue found for aiokafka; librdkafka had the same as its issue 28.
    Test: libs/kafka/tests/test_clients.py, test_metadata_requests_are_spaced_while_a_partition_has_no_leader.
    """
    client, last_request = producer.client, -inf
    update_metadata = client._metadata_update

    async def update_metadata_spaced(*args: Any) -> bool:
        nonlocal last_request
        await asyncio.sleep(last_request + METADATA_REQUEST_SPACING_SECONDS - monotonic())
        last_request = monotonic()
        return await update_metadata(*args)

    client._metadata_update = update_metadata_spaced


def set_producer_sequence(producer: Any, end_offsets: Mapping[TopicPartition, int], producer_id: int | None) -> None:
    """Make a producer that is not started yet number its records as their offsets and, unless None, use an earlier `producer_id`.

    The broker accepts a record of an idempotent producer only if its sequence number follows the last one of that producer id. So of
    several leaders that share one id, it accepts each record once; the late ones get OutOfOrderSequenceNumber.
    Symptom without it: a leader that was paused publishes again what its successor has published.
    Upstream: no API; aiokafka lets nobody choose producer id and sequence.
    Test: libs/runtime/tests/test_relay.py, test_several_leaders_at_once_publish_each_event_once.
    """
    if producer_id is not None:
        producer._txn_manager.set_pid_and_epoch(producer_id, 0)
    producer._txn_manager._sequence_numbers.update({tp: end % 2**31 for tp, end in end_offsets.items()})


def producer_id_of(producer: Any) -> int:
    """The producer id that the broker gave a started idempotent producer. Upstream: no API. Test: as `set_producer_sequence`."""
    return producer._txn_manager.producer_id


async def abort_producer(producer: Any) -> None:
    """Stop a producer, started or not, at once: what it has not sent, it never sends.

    Symptom without it: `stop` first sends everything that is still buffered, however long the broker is away, although another process
    may lead by then.
    Upstream: by design; there is no way to close without flushing.
    Test: libs/kafka/tests/test_clients.py, test_an_aborted_producer_sends_nothing_more.
    """
    sender_task: asyncio.Task[None] | None = producer._sender.sender_task
    while sender_task is not None and not sender_task.done():
        sender_task.cancel()  # once for itself, and once for each request that it waits for
        await asyncio.wait({sender_task}, timeout=0.01)
    producer._message_accumulator.fail_all(ProducerClosed())
    await producer.stop()


def contain_cancellation(consumer: Any) -> None:
    """Keep the cancellation of a started consumer's own requests from reaching the caller of `stop`.

    Symptom without it: `stop` cancels a request that waits to be retried, awaits it, and raises its CancelledError in the caller, whose
    task ends silently; the connections stay open.
    Upstream: aio-libs/aiokafka issue 983 and pull request 1007 mended one such place; these two remain.
    Test: libs/runtime/tests/test_group_membership.py,
    test_leaving_while_a_fetch_waits_for_its_retry_cancels_nobody_else.
    """
    fetcher = consumer._fetcher
    fetcher._proc_fetch_request = partial(_false_if_cancelled, fetcher._proc_fetch_request)
    fetcher._update_fetch_positions = partial(_false_if_cancelled, fetcher._update_fetch_positions)


async def _false_if_cancelled(request: Callable[..., Coroutine[Any, Any, bool]], *args: Any) -> bool:
    try:
        return await request(*args)
    except asyncio.CancelledError:
        return False  # what aiokafka itself returns for a request that brought nothing


def report_closed_connections() -> None:
    """Make a request on a connection that uvloop has closed fail as one on a broken connection does. May be called again.

    Symptom: there `write` raises RuntimeError, not OSError. aiokafka's group coordinator takes that for a bug of its own and ends, so the
    consumer never gets a record again, however well the broker is. Found by killing the broker under load.
    Upstream: no issue found; aiokafka is tested on asyncio's own loop, which only logs there.
    Test: libs/kafka/tests/test_clients.py, test_a_request_on_a_closed_connection_is_a_connection_error.
    """
    _Connection.send = _send_or_break


_Connection: Any = AIOKafkaConnection
_send: Any = _Connection.send


def _send_or_break(connection: Any, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"the connection is closed: {error}") from error


async def stop_consumer(consumer: Any, stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Stop a consumer, even if its fetch loop swallows the cancellation or what it closes was cancelled.

    Symptom without it: a loop that is cancelled just as the request it waits for is cancelled goes on, and `stop` waits for it for ever;
    or `stop` raises the CancelledError of a connection in the caller, whose task ends silently. One such caller was the task that keeps
    a service in its group: the service consumed nothing from then on.
    Upstream: aio-libs/aiokafka issue 983 is of this family.
    Test: libs/runtime/tests/test_stop.py, test_a_reader_stops_although_its_loop_swallows_the_cancellation and
    test_a_reader_whose_connections_close_slowly_cancels_nobody_else.
    """
    stopping = asyncio.ensure_future(stop())
    try:
        while not (await asyncio.wait({stopping}, timeout=STOP_RETRY_SECONDS))[0]:
            stopping.cancel()
    except asyncio.CancelledError:
        stopping.cancel()
        raise
    if stopping.cancelled():
        closing = asyncio.ensure_future(consumer._client.close())
        await asyncio.wait({closing})
        if not closing.cancelled():
            closing.result()
    else:
        stopping.result()


async def fetch_cluster_metadata(consumer: Any) -> Any:
    """The metadata of all topics, as a ClusterMetadata.

    Symptom without it: `partitions_for_topic` of a consumer without subscription never learns of a topic.
    Upstream: no public call. Test: any of libs/runtime/tests/test_relay.py.
    """
    return await consumer._client.fetch_all_metadata()


class FetchedRecord(msgspec.Struct, gc=False):
    """A record as we need it: aiokafka's ConsumerRecord has four fields more, and takes three times as long to make."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class UnreadableRecord(FetchedRecord, kw_only=True, gc=False):
    """Stands for all records of a batch that cannot be read, at the offset of its last one. `fault` says why."""

    fault: str


def bound_batches() -> None:
    """Decompress every consumer's batches within bounds (see `decompression`), and deliver an UnreadableRecord for one that exceeds them.

    Symptom without it: a batch of zeros that compresses to 5 kB takes gigabytes of memory; one that cannot be decompressed is fetched
    again for ever.
    Upstream: no bound, no hook. Test: libs/kafka/tests/test_decompression.py.
    """
    for module in (compiled_records, python_records):
        for codec in ("gzip", "snappy", "lz4", "zstd"):
            setattr(module, f"{codec}_decode", partial(decompress, codec))
    setattr(fetcher.PartitionRecords, "_unpack_records", _unpack_records)  # noqa: B010  # its type forbids the plain way


def compress_gzip_quickly() -> None:
    """Compress by gzip at level 1.

    Symptom without it: aiokafka compresses at level 9, which takes ten times as long for a quarter fewer bytes.
    Upstream: the level cannot be chosen. Test: libs/kafka/tests/test_clients.py, test_a_batch_for_a_gzip_topic_is_kept_as_it_was_sent.
    """
    for module in (compiled_records, python_records):
        setattr(module, "gzip_encode", _gzip)  # noqa: B010  # its type forbids the plain way


def _gzip(payload: Any) -> bytes:
    return zlib.compress(payload, 1, GZIP_WINDOW_BITS)


def _unpack_records(partition: Any) -> Iterator[FetchedRecord]:
    """As PartitionRecords does it, without transactions, which nobody here uses."""
    topic, number = partition._tp
    while partition._records.has_next():
        batch = partition._records.next_batch()
        if partition._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"{topic}/{number} at offset {batch.base_offset}: the checksum is wrong")
        if not batch.is_control_batch:
            try:
                for record in batch:
                    if record.offset >= partition.next_fetch_offset:
                        partition.next_fetch_offset = record.offset + 1
                        yield FetchedRecord(topic, number, record.offset, record.timestamp, record.key, record.value, record.headers)
            except UnreadableBatch as unreadable:
                if batch.next_offset > partition.next_fetch_offset:
                    partition.next_fetch_offset = batch.next_offset
                    yield _unreadable(topic, number, batch, str(unreadable))
        partition.next_fetch_offset = batch.next_offset


def _unreadable(topic: str, partition: int, batch: Any, fault: str) -> UnreadableRecord:
    return UnreadableRecord(
        topic=topic,
        partition=partition,
        offset=batch.next_offset - 1,
        timestamp=batch.max_timestamp,
        key=None,
        value=None,
        headers=(),
        fault=fault,
    )


async def send_to_any_broker(consumer: Any, request: Any) -> Any:
    """Send a request of our own to some broker, over a started consumer's connection; returns the response.

    Symptom without it: no way to learn a topic's id, which says whether a topic was deleted and created again.
    Upstream: aiokafka's newest metadata request is version 5; ids came with version 10. Test: libs/kafka/tests/test_topic_ids.py.
    """
    return await consumer._client.send(consumer._client.get_random_node(), request)


def wrap_fetch_requests(consumer: Any, wrap: Callable[[Callable[..., Awaitable[bool]]], Callable[..., Awaitable[bool]]]) -> None:
    """Put `wrap` around a started consumer's fetch requests.

    Used to delay the next request while records come in quick succession, so that more of them share a transaction. The broker's own
    `fetch.min.bytes` does not serve: a waiting request is looked at again with every record that arrives.
    Upstream: no API. Test: libs/runtime/tests/test_group_membership.py,
    test_the_next_fetch_waits_after_several_records.
    """
    consumer._fetcher._proc_fetch_request = wrap(consumer._fetcher._proc_fetch_request)


def request_rejoin(consumer: Any) -> None:
    """Make a started group consumer join its group anew, which makes its leader assign partitions anew.

    Symptom without it: a static member that rejoins gets its old partitions, although it subscribes to other topics by now.
    Upstream: Apache Kafka KAFKA-12759 (the broker compares no subscriptions of a static member). aiokafka has no `enforceRebalance`.
    Test: libs/runtime/tests/test_membership.py, test_a_static_member_reads_a_topic_that_it_did_not_read_before.
    """
    consumer._coordinator.request_rejoin()


def when_group_membership_ends(subscriber: Any, call: Callable[[], object]) -> None:
    """Call `call` once a started FastStream subscriber's consumer can get no more records, though it goes on to look healthy.

    Symptom without it: aiokafka's coordination task ends by an error or a cancellation; FastStream's task, which would raise it, ends
    silently if it is a cancellation. The process stays up, and consumes nothing.
    Upstream: no API. Test: libs/runtime/tests/test_stop.py, test_a_process_that_can_consume_no_more_ends.
    """

    def if_cancelled(task: asyncio.Task[Any]) -> None:
        if task.cancelled():  # FastStream begins anew what failed
            call()

    coordination: asyncio.Task[None] = subscriber.consumer._coordinator._coordination_task
    coordination.add_done_callback(lambda _: call())
    for task in subscriber.tasks:
        task.add_done_callback(if_cancelled)


def replace_poll(subscriber: Any, poll: Callable[[Any], Awaitable[Any]]) -> None:
    """Make FastStream's batch subscriber take its batches from `poll(consumer)`.

    Symptom without it: after an empty poll FastStream sleeps for the poll's timeout once more, and there is no place to delay a fetch.
    Upstream: no issue found. Test: libs/runtime/tests/test_group_membership.py, test_an_empty_poll_is_followed_by_the_next_at_once.
    """
    subscriber.get_msg = poll
