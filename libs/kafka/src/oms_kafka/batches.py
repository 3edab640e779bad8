"""Sending many records in batches of our own, which takes a tenth of what sending them one by one takes."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError

from oms_kafka.clients import Batch, Producer

T = TypeVar("T")


class OutgoingRecord(NamedTuple):
    """Key, value and headers of a record to publish."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


async def send_in_order(
    producer: Producer,
    queues: Mapping[TopicPartition, deque[T]],
    record_of: Callable[[T], OutgoingRecord],
    *,
    before_send: Callable[[], None] = lambda: None,
    on_acknowledged: Callable[[int], None] = lambda _count: None,
) -> None:
    """Publish what is queued for each partition, in order, and return once the broker has acknowledged all of it.

    Each partition has one batch under way at a time: the next is sent after this one is acknowledged, which keeps their order whatever
    fails. `before_send` may raise to stop before a round of batches; `on_acknowledged` gets the number of records of each round.
    Raises KafkaError when the broker refuses a batch, MessageSizeTooLargeError when a record does not fit into an empty one.
    """
    waiting = {target: queue for target, queue in queues.items() if queue}
    while waiting:
        batches = [(target, _fill(producer, target, queue, record_of)) for target, queue in waiting.items()]
        before_send()
        await asyncio.gather(*[await producer.send_batch(batch, target.topic, partition=target.partition) for target, batch in batches])
        on_acknowledged(sum(batch.record_count() for _, batch in batches))
        waiting = {target: queue for target, queue in waiting.items() if queue}


def _fill(producer: Producer, target: TopicPartition, queue: deque[T], record_of: Callable[[T], OutgoingRecord]) -> Batch:
    batch = producer.create_batch_for(target.topic)
    while queue:
        record = record_of(queue[0])
        if batch.append(key=record.key, value=record.value, timestamp=None, headers=record.headers) is None:
            if not batch.record_count():
                raise MessageSizeTooLargeError(f"{len(record.value)} bytes with key {record.key!r} are too large for {target.topic}")
            break
        queue.popleft()
    batch.close()
    return batch
