"""Publishing orders and commands, as channels, warehouses, carriers and operators do, each as its own broker user."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple, Self

from aiokafka import TopicPartition
from oms_contracts.catalogue import party_topics, topic_of
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import UnreadableMessage, encode, key_of, type_of, validate
from oms_contracts.parties import party_of
from oms_kafka.batches import OutgoingRecord, send_in_order
from oms_kafka.clients import Producer, make_producer, partition_of
from oms_kafka.settings import KafkaSettings

from oms_client.errors import Invalid, broker_errors

PUBLISH_TIMEOUT_SECONDS = 30
LINGER_MS = 20
"""A single message waits so long for others. A request to the broker costs as much as several orders, and nobody sees 20 ms."""


def content_id(message: object, value: bytes | None = None) -> str:
    """An event id derived from a message's content: the same message is the same event, however often and from wherever it is sent.

    `value` is what `encode` makes of the message, where the caller has it.
    """
    return sha256(b"\0".join((type_of(message).name.encode(), key_of(message).encode(), value or encode(message)))).hexdigest()


class Asker(NamedTuple):
    """Who asks for something, and why; both may be empty. What is published through a topic of an external party says so by itself."""

    actor: str = ""
    reason: str = ""


NOBODY = Asker()


def record_of(
    message: Any, source: str, event_id: str, now: datetime, asker: Asker = NOBODY, *, value: bytes | None = None
) -> OutgoingRecord:
    """The record that a message is published as. `source` and `event_id` are CloudEvents' `source` and `id`; `value` as in `content_id`."""
    key = key_of(message)
    envelope = Envelope(
        type=type_of(message).name,
        source=source,
        id=event_id,
        time=now,
        subject=key,
        correlationid=key,
        actor=asker.actor,
        reason=asker.reason,
    )
    return OutgoingRecord(key.encode(), value or encode(message), to_headers(envelope))


def read_message(kind: str, value: bytes) -> Any:
    """The message of published type `kind` in its JSON. Raises Invalid, which names every field at fault."""
    try:
        return validate(kind, value)
    except UnreadableMessage as error:
        raise Invalid(kind.split(".")[-2], *str(error).removeprefix(f"{kind}: ").split("; ")) from error


def check_message(message: Any) -> None:
    """Raises Invalid for what a service would set aside as unreadable. Whether the content is sound is for the service to decide."""
    read_message(type_of(message).name, encode(message))


async def publish_message(
    settings: KafkaSettings,
    message: Any,
    *,
    source: str,
    now: datetime,
    topic: str | None = None,
    event_id: str | None = None,
    asker: Asker = NOBODY,
) -> str:
    """Check one message, publish it, and return its event id once the broker has it.

    Without an `event_id` it is derived from the content, so that the same message again counts once. `topic` is for messages of
    `operations`, which every service has its own topics for. Raises Invalid, NotAllowed or BrokerUnreachable.
    """
    check_message(message)
    chosen = content_id(message) if event_id is None else event_id
    with broker_errors(settings):
        async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
            async with Publisher(settings, source, lambda: now, identify=lambda _message: chosen, asker=asker) as publisher:
                await publisher.publish([message], topic=topic)
    return chosen


class Sender:
    """Sends single messages and returns once the broker has each; those that are sent at the same time share a batch.

    Its producer is not idempotent: a message that is sent twice, because the first acknowledgment did not arrive, counts once anyway (event
    ids), and an idempotent producer that lost its sequence would refuse everything that follows. Its errors are aiokafka's.
    """

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._producer: Producer

    async def start(self) -> None:
        """Connect. Raises KafkaError when the broker is not reachable."""
        self._producer = make_producer(self._settings, self._client_id, idempotent=False, linger_ms=LINGER_MS, request_timeout_ms=10_000)
        try:
            await self._producer.start()
        except BaseException:  # its connections would stay open; the error is raised again
            await self._producer.stop()
            raise

    async def stop(self) -> None:
        """Send what is buffered, and disconnect."""
        await self._producer.stop()

    async def send(
        self,
        message: Any,
        source: str,
        event_id: str,
        now: datetime,
        *,
        asker: Asker = NOBODY,
        topic: str | None = None,
        value: bytes | None = None,
    ) -> None:
        """Publish a message on its topic and wait until the broker has it.

        `topic` is for messages of `dead_letters`, which every service has its own topics for; `value` is as in `content_id`. Raises
        KafkaError or TimeoutError: then it is not known whether the broker has it.
        """
        record = record_of(message, source, event_id, now, asker, value=value)
        await self._producer.send_and_wait(topic or topic_of(message), key=record.key, value=record.value, headers=record.headers)


class Publisher:
    """Publishes messages in order within each key, in batches, and returns once the broker has them.

    A channel, warehouse or carrier, whose user `settings` has, publishes on its own topics; anybody else on those of the gateway and the
    operator. `source` is the CloudEvents `source` of their envelopes; `identify` gives a message's event id. Entering it connects.
    Connecting and publishing raise BrokerUnreachable, NotAllowed, or Invalid for a message that is larger than its topic accepts.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        source: str,
        clock: Callable[[], datetime],
        *,
        identify: Callable[[Any], str] = content_id,
        asker: Asker = NOBODY,
    ) -> None:
        self._settings = settings
        self._producer = make_producer(settings, source.strip("/").replace("/", "-"))
        self._source = source
        self._clock = clock
        self._identify = identify
        self._asker = asker
        party = party_of(settings.kafka_username or "")
        topics = party_topics(*party) if party is not None else []
        self._own_topics: dict[type[Any], str] = {cls: topic.name for topic in topics for cls in topic.messages}

    async def __aenter__(self) -> Self:
        try:
            with broker_errors(self._settings):
                await self._producer.start()
        except BaseException:  # `__aexit__` is not called then, and its connections would stay open; the error is raised again
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def publish(
        self, messages: Iterable[Any], on_acknowledged: Callable[[int], None] = lambda _count: None, *, topic: str | None = None
    ) -> None:
        """Publish all of `messages`; `on_acknowledged` gets the number of records the broker has acknowledged since its last call.

        `topic` is for messages of `dead_letters`, which every service has its own topics for.
        """
        with broker_errors(self._settings):
            await self._publish(messages, on_acknowledged, topic)

    async def _publish(self, messages: Iterable[Any], on_acknowledged: Callable[[int], None], topic: str | None) -> None:
        waiting: defaultdict[TopicPartition, deque[Any]] = defaultdict(deque)
        counts: dict[str, int] = {}
        for message in messages:
            name = topic or self._own_topics.get(message.__class__) or topic_of(message)
            if name not in counts:
                counts[name] = len(await self._producer.partitions_for(name))
            waiting[TopicPartition(name, partition_of(key_of(message).encode(), counts[name]))].append(message)
        await send_in_order(self._producer, waiting, self._record_of, on_acknowledged=on_acknowledged)

    def _record_of(self, message: Any) -> OutgoingRecord:
        return record_of(message, self._source, self._identify(message), self._clock(), self._asker)
