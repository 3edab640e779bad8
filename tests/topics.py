"""The records on a stack's topics."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiokafka import TopicPartition
from oms_contracts.catalogue import TOPICS
from oms_contracts.envelope import header
from oms_kafka.clients import Reader, make_reader
from oms_kafka.settings import settings_of
from oms_local.stack import Stack

PARTITIONS = tuple(TopicPartition(topic.name, number) for topic in TOPICS for number in range(topic.partitions))


@asynccontextmanager
async def reading(stack: Stack) -> AsyncGenerator[Reader]:
    """A reader that may read every topic, which no single user of ours may. No partition is assigned yet."""
    reader = make_reader(settings_of(stack.kafka("admin")), "test-reader")
    await reader.start()
    try:
        yield reader
    finally:
        await reader.stop()


async def repeated_events(stack: Stack) -> list[tuple[str, int, int]]:
    """Topic, partition and offset of every event that does not follow, by its position, on those before it on its partition.

    So it is there a second time, or out of order: a topic has one writer, and an event belongs on the partition of its key alone.
    """
    async with reading(stack) as reader:
        reader.assign(PARTITIONS)
        ends = {tp: end for tp, end in (await reader.end_offsets(PARTITIONS)).items() if end}
        highest: dict[tuple[TopicPartition, str], int] = {}
        found: list[tuple[str, int, int]] = []
        while ends:
            for tp, records in (await reader.getmany(*ends, timeout_ms=200)).items():
                for record in records:
                    source, position = header(record.headers, "ce_source"), header(record.headers, "ce_position")
                    if source and position:
                        if int(position) <= highest.get((tp, source), 0):
                            found.append((tp.topic, tp.partition, record.offset))
                        highest[tp, source] = int(position)
                if records and records[-1].offset + 1 >= ends[tp]:
                    del ends[tp]
        assert highest
        return found
