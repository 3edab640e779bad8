"""Publishing orders and commands, as channels, warehouses, carriers and operators do, each as the broker user it is."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any

from aiokafka import TopicPartition
from oms_contracts.catalogue import topic_of
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import encode, key_of, type_of
from oms_kafka.batches import OutgoingRecord, send_in_order
from oms_kafka.clients import Producer, make_producer, partition_of
from oms_kafka.settings import KafkaSettings


def content_id(message: object) -> str:
    """An event id derived from a message's content: the same message is the same event, however often and by whomever it is sent."""
    return sha256(b"\0".join((type_of(message).name.encode(), key_of(message).encode(), encode(message)))).hexdigest()


def record_of(message: Any, source: str, event_id: str, now: datetime) -> OutgoingRecord:
    """The record that a message is published as. `source` and `event_id` are CloudEvents' `source` and `id`."""
    key = key_of(message)
    envelope = Envelope(type=type_of(message).name, source=source, id=event_id, time=now, subject=key, correlationid=key)
    return OutgoingRecord(key.encode(), encode(message), to_headers(envelope))


class Sender:
    """Sends single messages and returns once the broker has each; those that are sent at the same time share a batch.

    Its producer is not idempotent: who sends a message twice because the first answer did not come is understood anyway (event ids), and
    a producer that lost its sequence would refuse everything that follows.
    """

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._producer: Producer

    async def start(self) -> None:
        """Connect. Raises KafkaError when the broker is not reachable."""
        self._producer = make_producer(self._settings, self._client_id, idempotent=False, linger_ms=5, request_timeout_ms=10_000)
        await self._producer.start()

    async def stop(self) -> None:
        """Send what is under way, and disconnect."""
        await self._producer.stop()

    async def send(self, message: Any, source: str, event_id: str, now: datetime) -> None:
        """Publish a message on its topic and wait until the broker has it.

        Raises KafkaError or TimeoutError: then it is not known whether the broker has it.
        """
        record = record_of(message, source, event_id, now)
        await self._producer.send_and_wait(topic_of(message), key=record.key, value=record.value, headers=record.headers)


class Publisher:
    """Publishes messages in order within each key, in batches, and returns once the broker has them.

    `source` is what their envelopes name as such; `identify` gives a message's event id.
    """

    def __init__(
        self, settings: KafkaSettings, source: str, clock: Callable[[], datetime], *, identify: Callable[[Any], str] = content_id
    ) -> None:
        self._producer = make_producer(settings, source.strip("/").replace("/", "-"))
        self._source = source
        self._clock = clock
        self._identify = identify

    async def __aenter__(self) -> "Publisher":
        try:
            await self._producer.start()
        except BaseException:  # `__aexit__` is not called then, and its connections would stay open; it is raised on
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def publish(
        self, messages: Iterable[Any], on_acknowledged: Callable[[int], None] = lambda _count: None, *, topic: str | None = None
    ) -> None:
        """Publish all of `messages`; `on_acknowledged` gets the number of records the broker has acknowledged since its last call.

        `topic` is for messages of `operations`, which every service has its own topics for. Raises KafkaError when the broker refuses a
        record, MessageSizeTooLargeError when one is too large to send.
        """
        waiting: defaultdict[TopicPartition, deque[Any]] = defaultdict(deque)
        counts: dict[str, int] = {}
        for message in messages:
            name = topic or topic_of(message)
            if name not in counts:
                counts[name] = len(await self._producer.partitions_for(name))
            waiting[TopicPartition(name, partition_of(key_of(message).encode(), counts[name]))].append(message)
        await send_in_order(self._producer, waiting, self._record_of, on_acknowledged=on_acknowledged)

    def _record_of(self, message: Any) -> OutgoingRecord:
        return record_of(message, self._source, self._identify(message), self._clock())
