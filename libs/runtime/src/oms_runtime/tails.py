"""What a service's topics end with: how far its events are published, whatever its store says."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import NamedTuple

from aiokafka import TopicPartition
from oms_contracts.envelope import header
from oms_kafka.clients import Reader, Record, count_partitions, make_reader

from oms_runtime.settings import RuntimeSettings

LOOK_BACK_FACTOR = 64
"""How much further to look back where the records read so far do not suffice."""


class Tails(NamedTuple):
    """Of every partition of some topics: the position of the service's last event on it (where it has one), and the end offset."""

    partitions: Mapping[str, int]
    """How many partitions each topic has."""
    last_positions: dict[TopicPartition, int]
    end_offsets: dict[TopicPartition, int]

    @property
    def head(self) -> int:
        """The highest position that is published, 0 where nothing is."""
        return max(self.last_positions.values(), default=0)


async def read_tails(settings: RuntimeSettings, service: str, topics: Iterable[str]) -> Tails:
    """Read the end of every partition of `topics`. Where the last record is not the service's own, it looks further back."""
    reader = make_reader(settings, f"oms-{service}-tails")
    await reader.start()
    try:
        counts, begins, ends = await read_ranges(reader, topics)
        found: dict[TopicPartition, int] = {}
        look_back = 1
        unread = {tp: max(begins[tp], ends[tp] - look_back) for tp in ends if ends[tp] > begins[tp]}
        while unread:
            async for tp, record in read_between(reader, unread, ends):
                if (position := position_of(record, service)) is not None:
                    found[tp] = position
            look_back *= LOOK_BACK_FACTOR
            unread = {tp: max(begins[tp], ends[tp] - look_back) for tp, begun in unread.items() if tp not in found and begun > begins[tp]}
        return Tails(counts, found, ends)
    finally:
        await reader.stop()


class Ranges(NamedTuple):
    """How many partitions each topic has, and the first offset and the end offset of each partition."""

    counts: Mapping[str, int]
    begins: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]


async def read_ranges(reader: Reader, topics: Iterable[str]) -> Ranges:
    """Where the partitions of `topics` begin and end."""
    counts = await count_partitions(reader, topics)
    partitions = [TopicPartition(topic, p) for topic, count in counts.items() for p in range(count)]
    # Nothing is assigned yet, though the client would learn of all topics at once then: a reader that is stopped just as it is assigned
    # anew ends seconds later.
    return Ranges(counts, dict(await reader.beginning_offsets(partitions)), dict(await reader.end_offsets(partitions)))


async def read_between(
    reader: Reader, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, Record]]:
    """Every record of each partition from its offset in `begins` on, before its offset in `ends`."""
    unread = {tp for tp, begin in begins.items() if begin < ends[tp]}
    reader.assign(sorted(unread))
    for tp in unread:
        reader.seek(tp, begins[tp])
    while unread:
        for tp, records in (await reader.getmany(*unread, timeout_ms=500)).items():
            for record in records:
                if record.offset < ends[tp]:
                    yield tp, record
                if record.offset >= ends[tp] - 1:
                    unread.discard(tp)


def position_of(record: Record, service: str) -> int | None:
    """The position of a record that `service` published, None for any other."""
    if header(record.headers, "ce_source") != f"/oms/{service}":
        return None
    return int(header(record.headers, "ce_position") or 0)
