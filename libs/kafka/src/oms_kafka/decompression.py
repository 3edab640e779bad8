"""Decompressing a batch of records within bounds: a batch of 5 kB may otherwise become 150 MB, and its records gigabytes."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import cramjam

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""Of the records of one batch, decompressed. Our own batches have at most 2 MB, common clients' defaults 16 kB to 1 MB."""
GZIP_WINDOW_BITS = 31
"""zlib's way to say gzip."""
MAX_HEADERS = 100
"""Of one record."""
SCANNED_FROM_BYTES = 768 * 1024
"""A smaller batch, as all of ours are but for a single large record, cannot hold enough headers to take more than some 30 MB. Its records
are not scanned, which would cost microseconds each."""

_XERIAL_HEADER = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_output = bytearray(MAX_BATCH_BYTES)
"""Written by one decompression at a time, which runs to its end without giving up the event loop. Untouched pages take no memory."""


class UnreadableBatch(Exception):
    """A batch cannot be decompressed within bounds; the text says why. Its records cannot be told apart."""


def decompress(codec: str, payload: Any) -> bytes:
    """The records of a batch, decompressed. `codec` is gzip, snappy, lz4 or zstd. Raises UnreadableBatch."""
    if codec == "gzip":
        return _checked(_gzip(payload))
    data = memoryview(payload)
    try:
        size = _snappy(data) if codec == "snappy" else _DECOMPRESS[codec](data, _output)
    except (cramjam.DecompressionError, struct.error, ValueError) as error:
        if "whole buffer" in str(error):
            raise _too_large(codec) from error
        raise UnreadableBatch(f"the batch cannot be decompressed ({codec}): {error}") from error
    return _checked(bytes(memoryview(_output)[:size]))


def _checked(records: bytes) -> bytes:
    if len(records) >= SCANNED_FROM_BYTES:
        _check_headers(records)
    return records


def _too_large(codec: str) -> UnreadableBatch:
    return UnreadableBatch(f"the batch has more than {MAX_BATCH_BYTES} bytes when it is decompressed ({codec})")


def _gzip(data: Any) -> bytes:
    """By Python's own library: for our batches of some kilobytes it takes half as long as cramjam."""
    stream = zlib.decompressobj(GZIP_WINDOW_BITS)
    try:
        records = stream.decompress(data, MAX_BATCH_BYTES + 1)
    except zlib.error as error:
        raise UnreadableBatch(f"the batch cannot be decompressed (gzip): {error}") from error
    if len(records) > MAX_BATCH_BYTES:
        raise _too_large("gzip")
    if stream.unused_data or not stream.eof:
        raise UnreadableBatch("the batch cannot be decompressed (gzip): it is not one whole stream")
    return records


_DECOMPRESS: dict[str, Callable[[Any, Any], int]] = {
    "lz4": cramjam.lz4.decompress_into,
    "zstd": cramjam.zstd.decompress_into,
}


def _snappy(data: memoryview) -> int:
    """Into the output, as one block, or as blocks behind a header as xerial's library writes them (Java and aiokafka do)."""
    if bytes(data[: len(_XERIAL_HEADER)]) != _XERIAL_HEADER:
        return _snappy_block(data, 0)
    size, at = 0, _XERIAL_HEADER_BYTES
    while at < len(data):
        (length,) = struct.unpack_from("!i", data, at)
        at += 4
        size += _snappy_block(data[at : at + length], size)
        at += length
    return size


def _snappy_block(block: memoryview, at: int) -> int:
    raw = bytes(block)
    size = cramjam.snappy.decompress_raw_len(raw)
    if at + size > MAX_BATCH_BYTES:
        raise ValueError("failed to write whole buffer")
    return cramjam.snappy.decompress_raw_into(raw, memoryview(_output)[at : at + size])


def _check_headers(records: bytes) -> None:
    """Raise UnreadableBatch if a record has too many headers, before an object is made of each.

    A record of format v2 (KIP-98): length, attributes, timestamp and offset deltas, key, value, number of headers; all but the attributes
    are varints, key and value behind their lengths.
    """
    at = 0
    try:
        while at < len(records):
            length, at = _varint(records, at)
            end = at + length
            if end > len(records):
                raise UnreadableBatch("the last record of the batch is cut off")
            at += 1
            for _ in range(2):
                _, at = _varint(records, at)
            for _ in range(2):
                size, at = _varint(records, at)
                at += max(size, 0)
            headers, at = _varint(records, at)
            if headers > MAX_HEADERS:
                raise UnreadableBatch(f"a record of the batch has {headers} headers, at most {MAX_HEADERS}")
            if end < at:
                raise UnreadableBatch("a record of the batch is shorter than its fields")
            at = end
    except IndexError as error:
        raise UnreadableBatch("the last record of the batch is cut off") from error


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag-encoded varint, and where it ends."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
