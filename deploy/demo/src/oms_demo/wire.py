"""Publishing and listening as the outside does: each with the broker user it is."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition
from oms_contracts.catalogue import PARTITIONS, topic_of
from oms_contracts.envelope import Envelope, Headers, header, to_headers
from oms_contracts.message import decode, encode, key_of, type_of
from oms_runtime.kafka import make_producer, make_reader, partition_of
from oms_runtime.settings import RuntimeSettings
from pydantic import SecretStr

from oms_demo.simulators import Answer


def settings_of(kafka: Mapping[str, str]) -> RuntimeSettings:
    """A client's settings for a broker user as the stack names it."""
    return RuntimeSettings(
        kafka_bootstrap_servers=kafka["bootstrap_servers"],
        kafka_username=kafka.get("username"),
        kafka_password=SecretStr(kafka["password"]) if "password" in kafka else None,
        database_url=SecretStr(""),
    )


def record_of(message: Any, source: str) -> tuple[bytes, bytes, Headers]:
    """Key, value and headers of the record that a stranger called `source` publishes a message as, now."""
    key, value = key_of(message), encode(message)
    kind = type_of(message).name
    envelope = Envelope(type=kind, source=source, id=f"{kind}/{key}/{hash(value)}", time=datetime.now(UTC), subject=key, correlationid=key)
    return key.encode(), value, to_headers(envelope)


class Publisher:
    """Publishes messages in order within each key, in batches, and returns once the broker has them."""

    def __init__(self, settings: RuntimeSettings, source: str) -> None:
        self._producer = make_producer(settings, f"oms-demo-{source}")
        self._source = f"/demo/{source}"

    async def __aenter__(self) -> "Publisher":
        try:
            await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def publish(self, messages: Iterable[Any], told: Callable[[int], None] = lambda _count: None) -> None:
        """Publish all of `messages`; `told` hears how many the broker has acknowledged since it was last told."""
        waiting: defaultdict[tuple[str, int], deque[Any]] = defaultdict(deque)
        for message in messages:
            waiting[topic_of(message), partition_of(key_of(message).encode(), PARTITIONS)].append(message)
        while waiting:
            flying: list[asyncio.Future[Any]] = []
            count = 0
            for (topic, partition), queue in waiting.items():
                batch = self._producer.create_batch()
                while queue and self._append(batch, queue[0]):
                    queue.popleft()
                count += batch.record_count()
                batch.close()
                flying.append(await self._producer.send_batch(batch, topic, partition=partition))
            await asyncio.gather(*flying)
            told(count)
            waiting = defaultdict(deque, {target: queue for target, queue in waiting.items() if queue})

    def _append(self, batch: Any, message: Any) -> bool:
        key, value, headers = record_of(message, self._source)
        return batch.append(key=key, value=value, timestamp=None, headers=headers) is not None


async def simulate(
    settings: RuntimeSettings, source: str, answers: Mapping[type[Any], Answer], listening: asyncio.Event | None = None
) -> None:
    """Answer every event from the first on until cancelled. What was answered in an earlier run is answered again, without effect.

    `listening` is set once it does; cancelled before that, its clients may leave a connection open.
    """
    handled = {type_of(cls).name: answer for cls, answer in answers.items()}
    topics = {topic_of(cls) for cls in answers}
    reader = make_reader(settings, f"oms-demo-{source}-reader")
    try:
        await reader.start()
        async with Publisher(settings, source) as publisher:
            reader.assign([TopicPartition(topic, number) for topic in sorted(topics) for number in range(PARTITIONS)])
            if listening is not None:
                listening.set()
            while True:
                batches = await reader.getmany(timeout_ms=100)
                commands: list[Any] = []
                for record in (record for batch in batches.values() for record in batch):
                    kind = header(record.headers, "ce_type") or ""
                    if kind in handled:
                        commands += handled[kind](decode(kind, record.value or b""))
                await publisher.publish(commands)
    finally:
        await reader.stop()
