"""A batch is decompressed within bounds, and one that exceeds them is passed over, with its reason, on a real broker."""

import secrets
from typing import Any

import cramjam
import pytest
from aiokafka import TopicPartition, codec
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from oms_contracts.catalogue import Topic
from oms_kafka.aiokafka_internals import UnreadableRecord
from oms_kafka.clients import make_producer, make_reader
from oms_kafka.decompression import MAX_BATCH_BYTES, MAX_HEADERS, SCANNED_FROM_BYTES, UnreadableBatch, decompress
from oms_kafka.settings import settings_of
from oms_local.testing import Servers

CODECS = ["gzip", "snappy", "lz4", "zstd"]
ZSTD = 4
"""The codec's number in a batch's attributes."""


def records_of(count: int, headers: int, value: bytes = b"v" * 100) -> bytes:
    """The records of an uncompressed batch, without the batch's own header of 61 bytes."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 30)
    for offset in range(count):
        builder.append(offset, timestamp=1, key=b"k", value=value, headers=[("h", b"")] * headers)
    return bytes(builder.build())[61:]


@pytest.mark.parametrize("name", CODECS)
def test_a_batch_within_bounds_is_what_it_was(name: str) -> None:
    records = records_of(8_000, 3)
    assert len(records) > SCANNED_FROM_BYTES
    assert decompress(name, getattr(codec, f"{name}_encode")(records)) == records


def test_snappy_of_one_block_is_read_too() -> None:
    assert decompress("snappy", cramjam.snappy.compress_raw(b"records")) == b"records"


@pytest.mark.parametrize("name", CODECS)
def test_a_batch_above_the_bound_is_refused(name: str) -> None:
    zeros = b"\0" * (MAX_BATCH_BYTES + 1)
    with pytest.raises(UnreadableBatch, match=f"more than {MAX_BATCH_BYTES} bytes"):
        decompress(name, getattr(codec, f"{name}_encode")(zeros))


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("garbage", [b"", b"\xff" * 100, b"\x82SNAPPY\x00" + b"\xff" * 40, b"\x28\xb5\x2f\xfd" + b"\xff" * 20])
def test_what_cannot_be_decompressed_is_refused(name: str, garbage: bytes) -> None:
    try:
        assert decompress(name, garbage) == b""
    except UnreadableBatch as error:
        assert "cannot be decompressed" in str(error) or "more than" in str(error)  # noqa: PT017  # any other error fails the test


STREAM = codec.gzip_encode(b"records")


@pytest.mark.parametrize("payload", [STREAM[:-5], STREAM * 2, STREAM + b"more"], ids=["cut off", "two", "more behind it"])
def test_gzip_that_is_not_one_whole_stream_is_refused(payload: bytes) -> None:
    with pytest.raises(UnreadableBatch, match="not one whole stream"):
        decompress("gzip", payload)


def test_too_many_headers_are_counted_before_they_are_built() -> None:
    with pytest.raises(UnreadableBatch, match=f"has 500000 headers, at most {MAX_HEADERS}"):
        decompress("zstd", codec.zstd_encode(records_of(1, 500_000)))


@pytest.mark.parametrize("cut", [1, 30, 1_000])
def test_a_record_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(UnreadableBatch, match=r"cut off|shorter"):
        decompress("zstd", codec.zstd_encode(records_of(1, 1, b"v" * 2 * SCANNED_FROM_BYTES)[:-cut]))


async def test_a_reader_passes_an_unreadable_batch_and_says_so(servers: Servers) -> None:
    topic = Topic(name=f"bomb-{secrets.token_hex(4)}", key="none", messages=(), writers=(), readers=(), summary="", partitions=1)
    servers.create_topics([topic])
    settings, partition = settings_of(servers.kafka), TopicPartition(topic.name, 0)
    producer: Any = make_producer(settings, "test-bomb")
    producer._message_accumulator._compression_type = ZSTD  # as external parties may compress
    producer._max_request_size = producer._message_accumulator._batch_size = 64 * MAX_BATCH_BYTES
    await producer.start()
    for value in (b"before", b"\0" * (2 * MAX_BATCH_BYTES), b"after"):
        await producer.send_and_wait(topic.name, key=b"k", value=value, partition=0)
    await producer.stop()

    reader = make_reader(settings, "test-bomb")
    await reader.start()
    reader.assign([partition])
    found: list[Any] = []
    while len(found) < 3:
        for records in (await reader.getmany(timeout_ms=500)).values():
            found += records
    await reader.stop()
    assert [(record.offset, record.value) for record in found] == [(0, b"before"), (1, None), (2, b"after")]
    assert isinstance(found[1], UnreadableRecord)
    assert "more than" in found[1].fault
