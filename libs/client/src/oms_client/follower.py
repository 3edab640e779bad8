"""Following topics: what is on them, and what comes."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from heapq import merge

from aiokafka import TopicPartition
from oms_contracts.catalogue import Topic
from oms_kafka.clients import Reader, Record, count_partitions, make_reader
from oms_kafka.settings import KafkaSettings


async def assign_all(reader: Reader, topics: Iterable[Topic]) -> list[TopicPartition]:
    """Assign every partition of `topics`. Raises UnknownTopicOrPartitionError naming the topics that do not exist or that we may not see.

    A reader would else ask for them for ever, as fast as it can.
    """
    counts = await count_partitions(reader, [topic.name for topic in topics])
    partitions = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
    reader.assign(partitions)
    return partitions


async def follow(
    settings: KafkaSettings, client_id: str, topics: Iterable[Topic], *, from_beginning: bool, listening: asyncio.Event | None = None
) -> AsyncGenerator[list[Record]]:
    """The records of `topics`, from the first one or from now on, and those that come: some at a time, until it is closed.

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
