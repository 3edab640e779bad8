"""Our clients on a real broker, where aiokafka's own would not do."""

import asyncio
import gc
import secrets
from functools import partial
from socket import socket
from time import monotonic
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, ProducerClosed
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest
from oms_contracts.catalogue import Topic
from oms_kafka.aiokafka_internals import METADATA_REQUEST_SPACING_SECONDS, abort_producer
from oms_kafka.clients import make_producer, make_reader
from oms_kafka.settings import settings_of
from oms_local.testing import Servers

HEADER_BYTES = 61
"""Of a batch, before its records."""
GZIP_FLAGS, GZIP_QUICKEST = 8, 4
"""RFC 1952: where a gzip header says how hard its writer tried, and that it tried least. Java, and so the broker, writes 0 there."""


async def test_metadata_requests_are_spaced_while_a_partition_has_no_leader(servers: Servers) -> None:
    topic = Topic(name=f"led-{secrets.token_hex(4)}", key="none", messages=(), writers=(), readers=(), summary="", partitions=1)
    servers.create_topics([topic])
    producer: Any = make_producer(settings_of(servers.kafka), "test-leaderless")
    await producer.start()
    cluster, updates, expected = producer.client.cluster, asyncio.Semaphore(0), 5
    leader_for_partition = cluster.leader_for_partition
    cluster.leader_for_partition = _no_leader
    cluster.add_listener(partial(_count, updates))

    sent = asyncio.create_task(producer.send_and_wait(topic.name, b"value", partition=0))
    began = monotonic()
    async with asyncio.timeout(20):
        for _ in range(expected):
            await updates.acquire()
        assert monotonic() - began > (expected - 1) * METADATA_REQUEST_SPACING_SECONDS * 0.9

        cluster.leader_for_partition = leader_for_partition
        assert (await sent).offset == 0
    await producer.stop()


async def test_an_aborted_producer_sends_nothing_more(servers: Servers) -> None:
    topic = Topic(name=f"aborted-{secrets.token_hex(4)}", key="none", messages=(), writers=(), readers=(), summary="", partitions=1)
    servers.create_topics([topic])
    partition, settings = TopicPartition(topic.name, 0), settings_of(servers.kafka)
    producer: Any = make_producer(settings, "test-aborted")
    await producer.start()
    await producer.send_and_wait(topic.name, key=b"key", value=b"sent", headers=[], partition=0)
    send, refused = producer.client.send, asyncio.Event()

    async def refuse_records(*request: Any, **options: Any) -> Any:
        if isinstance(request[1], ProduceRequest):
            refused.set()
            raise KafkaConnectionError("the broker is away")
        return await send(*request, **options)

    producer.client.send = refuse_records
    unsent = await producer.send(topic.name, key=b"key", value=b"unsent", partition=0)
    async with asyncio.timeout(20):
        await refused.wait()
        producer.client.send = send  # the broker is back, and the producer would send
        await abort_producer(producer)
    with pytest.raises(ProducerClosed):
        await unsent

    reader = make_reader(settings, "test-aborted")
    await reader.start()
    assert await reader.end_offsets([partition]) == {partition: 1}
    await reader.stop()


async def test_a_batch_for_a_gzip_topic_is_kept_as_it_was_sent(servers: Servers) -> None:
    topic = Topic(
        name=f"gzip-{secrets.token_hex(4)}", key="none", messages=(), writers=(), readers=("downstream",), summary="", partitions=1
    )
    assert topic.compression == "gzip"
    servers.create_topics([topic])
    partition, settings = TopicPartition(topic.name, 0), settings_of(servers.kafka)
    producer: Any = make_producer(settings, "test-gzip", gzip_topics={topic.name})
    reader: Any = make_reader(settings, "test-gzip")
    await producer.start()
    await reader.start()
    batch = producer.create_batch_for(topic.name)
    for number in range(100):
        batch.append(key=b"key", value=b"value %d" % number, timestamp=None, headers=[])
    await (await producer.send_batch(batch, topic.name, partition=0))

    kept: list[bytes] = []
    fetched = reader._fetcher._client.send

    async def keep_records(node: Any, request: Any, **options: Any) -> Any:
        response = await fetched(node, request, **options)
        kept.extend(bytes(part[-1]) for _, parts in getattr(response, "topics", ()) for part in parts if isinstance(part[-1], bytes))
        return response

    reader._fetcher._client.send = keep_records
    reader.assign([partition])
    found = (await reader.getmany(partition, timeout_ms=20_000))[partition]
    assert [record.value for record in found] == [b"value %d" % number for number in range(100)]
    assert kept[0][HEADER_BYTES + GZIP_FLAGS] == GZIP_QUICKEST
    await producer.stop()
    await reader.stop()


def _no_leader(_partition: object) -> int:
    return -1


def _count(updates: asyncio.Semaphore, _cluster: object) -> None:
    updates.release()


async def test_a_reader_that_cannot_start_leaves_nothing_open() -> None:
    """One that does warns when it is collected, and here a warning is an error."""
    with socket() as unused:
        unused.bind(("127.0.0.1", 0))
        reader = make_reader(settings_of({"bootstrap_servers": f"127.0.0.1:{unused.getsockname()[1]}"}), "test-away")
        with pytest.raises(KafkaConnectionError):
            await reader.start()
    del reader
    gc.collect()


async def test_a_request_on_a_closed_connection_is_a_connection_error(servers: Servers) -> None:
    """uvloop raises RuntimeError where asyncio's own loop raises nothing; the consumer's coordinator would end for ever."""
    reader: Any = make_reader(settings_of(servers.kafka), "test-closed")
    await reader.start()
    try:
        await reader.topics()
        (connection, *_) = reader._client._conns.values()

        def write(_data: bytes) -> None:
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

        connection._writer.write = write
        with pytest.raises(KafkaConnectionError, match="the handler is closed"):
            connection.send(MetadataRequest([]))
        assert not connection.connected()
        assert await reader.topics()  # over another connection
    finally:
        await reader.stop()
