"""Following topics: the records that are on them, and those that arrive."""

from collections.abc import AsyncGenerator, Iterable
from heapq import merge

from aiokafka import TopicPartition
from oms_contracts.catalogue import Topic
from oms_kafka.clients import Reader, Record, count_partitions, make_reader
from oms_kafka.settings import KafkaSettings

from oms_client.errors import broker_errors


async def assign_all(reader: Reader, topics: Iterable[Topic]) -> list[TopicPartition]:
    """Assign every partition of `topics`. Raises UnknownTopicOrPartitionError naming the topics that do not exist or that we may not see.

    Without this check a reader would request them for ever, as fast as it can.
    """
    counts = await count_partitions(reader, [topic.name for topic in topics])
    partitions = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
    reader.assign(partitions)
    return partitions


async def follow(settings: KafkaSettings, client_id: str, topics: Iterable[Topic], *, from_beginning: bool) -> AsyncGenerator[list[Record]]:
    """The records of `topics`, from the first one or from now on, in lists as they arrive, until the generator is closed.

    Records of a partition come in their order; records of several partitions in the order of the broker's timestamps, as far as they
    arrive together. Raises NotAllowed or BrokerUnreachable.
    """
    reader = make_reader(settings, client_id)
    with broker_errors(settings):
        try:
            await reader.start()
            partitions = await assign_all(reader, topics)
            if not from_beginning:
                for partition, end in (await reader.end_offsets(partitions)).items():
                    reader.seek(partition, end)
            while True:
                arrived = await reader.getmany(timeout_ms=100)
                if arrived:
                    yield list(merge(*arrived.values(), key=lambda record: record.timestamp))
        finally:
            await reader.stop()


async def read_one(settings: KafkaSettings, client_id: str, partition: TopicPartition, offset: int) -> Record | None:
    """The record at `offset`, None where the broker no longer has it, or not yet. Raises NotAllowed or BrokerUnreachable."""
    reader = make_reader(settings, client_id)
    with broker_errors(settings):
        try:
            await reader.start()
            begins, ends = await reader.beginning_offsets([partition]), await reader.end_offsets([partition])
            if not begins[partition] <= offset < ends[partition]:
                return None
            reader.assign([partition])
            reader.seek(partition, offset)
            while True:
                for record in (await reader.getmany(partition, timeout_ms=500, max_records=1)).get(partition, []):
                    return record if record.offset == offset else None
        finally:
            await reader.stop()
