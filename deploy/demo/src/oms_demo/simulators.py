"""The simulators as a FastStream application: each broker user's simulator reads events in batches and publishes commands in response.

    faststream run oms_demo.simulators:make_app --factory
    faststream docs serve oms_demo.simulators:make_app --factory    # the AsyncAPI page

A simulator joins no group: each run begins at the first record. Events of earlier runs get the same commands again, which have no effect.
Handlers get batches because a handler call of FastStream takes a third of a millisecond.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Union

from aiokafka.errors import KafkaError
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage
from faststream.specification import AsyncAPI
from oms_client.publisher import content_id, record_of
from oms_contracts.catalogue import TOPICS, Topic, party_topics, topic_of, topics_written_by
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.envelope import header
from oms_contracts.message import decode, type_of
from oms_contracts.parties import party_of
from oms_kafka.settings import KafkaSettings, settings_of
from oms_local.stack import Stack, StackSettings
from oms_runtime.clock import utc_now
from oms_runtime.group_membership import broker_security
from pydantic import InstanceOf

from oms_demo.responses import Response, responses_by_user

Responses = Mapping[str, Mapping[type[Any], Response]]
"""By broker user, by class of an event."""
BATCH_SECONDS = 0.025
"""From one batch of events to the next, at least: events that arrive meanwhile share a batch. People are slower still."""
REQUEST_TIMEOUT_MS = 120_000
"""A broker that restarts is waited for."""

logger = logging.getLogger(__name__)
logger.setLevel(logging.ERROR)  # FastStream logs every message as INFO, and each topic that it does not create as WARNING


def make_app(settings: Callable[[str], KafkaSettings] | None = None, responses: Responses | None = None) -> FastStream:
    """The application: one simulator for each broker user in `responses`. While it is entered (`async with`), no event is missed.

    `settings` is how a broker user reaches the broker; None for the stack that the environment names. Without `responses` it is warehouses,
    a carrier, and customers with returns.
    """
    find = settings or _settings_of_stack()
    by_user = responses_by_user() if responses is None else responses
    document = AsyncAPI(title="Orderstream simulators", description="Systems and people beside Orderstream.", version="1")
    return FastStream(*(_make_broker(find(user), user, of) for user, of in by_user.items()), logger=logger, specification=document)


def _make_broker(settings: KafkaSettings, user: str, responses: Mapping[type[Any], Response]) -> KafkaBroker:
    broker = KafkaBroker(
        settings.kafka_bootstrap_servers,
        client_id=f"demo-{user}",
        description=f"The broker, as its user {user}",
        enable_idempotence=True,
        acks="all",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        allow_auto_create_topics=False,
        logger=logger,
        **broker_security(settings),
    )
    publish = _publishing(broker, user)
    topics: defaultdict[str, dict[type[Any], Response]] = defaultdict(dict)
    for cls, response in responses.items():
        topics[topic_of(cls)][cls] = response
    for topic in TOPICS:
        if topic.name in topics:
            _subscribe(broker, user, topic, topics[topic.name], publish)
    return broker


def _subscribe(
    broker: KafkaBroker,
    user: str,
    topic: Topic,
    responses: Mapping[type[Any], Response],
    publish: Callable[[Iterable[Any]], Awaitable[None]],
) -> None:
    async def respond(events: list[Any], message: KafkaMessage) -> None:
        try:
            await publish(command for event in events for command in responses[type(event)](event))
        except KafkaError:
            await message.nack()  # the same batch comes again
            raise
        await asyncio.sleep(BATCH_SECONDS)

    # For the AsyncAPI document. InstanceOf, because the decoder has made messages of the records already.
    respond.__annotations__["events"] = list[_one_of(InstanceOf[cls] for cls in responses)]
    subscriber = broker.subscriber(
        topic.name,
        batch=True,
        batch_timeout_ms=int(BATCH_SECONDS * 1_000),
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
        decoder=_decoder(responses),
        title=f"{topic.name}:{user}",
        description=topic.summary,
    )
    subscriber(respond)


def _publishing(broker: KafkaBroker, user: str) -> Callable[[Iterable[Any]], Awaitable[None]]:
    party = party_of(user)
    topics = topics_written_by(user) if party is None else party_topics(*party)
    commands = {topic: [cls for cls in topic.messages if cls is not RedriveDeadLetters] for topic in topics}
    made = {
        topic: broker.publisher(topic.name, description=topic.summary, schema=_one_of(classes))
        for topic, classes in commands.items()
        if classes
    }
    publishers = {cls: made[topic] for topic, classes in commands.items() for cls in classes}

    async def publish(commands: Iterable[Any]) -> None:
        """Publish commands in order within each key, and return once the broker has them."""
        sent: list[Any] = []
        for command in commands:
            key, value, headers = record_of(command, f"/demo/{user}", content_id(command), utc_now())
            text = {name: value.decode() for name, value in headers}
            sent.append(await publishers[type(command)].publish(value, key=key, headers=text, no_confirm=True))
        await asyncio.gather(*sent)

    return publish


def _one_of(types: Iterable[Any]) -> Any:
    return Union[tuple(types)]  # noqa: UP007  # its members are known at run time only


def _decoder(classes: Iterable[type[Any]]) -> Callable[[Any], Any]:
    """Decodes the records of a batch that are of `classes`, and leaves the others out."""
    names = {type_of(cls).name for cls in classes}

    async def decode_batch(message: Any) -> list[Any]:
        kinds = ((record, header(record.headers, "ce_type") or "") for record in message.raw_message)
        return [decode(kind, record.value or b"") for record, kind in kinds if kind in names]

    return decode_batch


def _settings_of_stack() -> Callable[[str], KafkaSettings]:
    stack = Stack(StackSettings.from_environment())
    return lambda user: settings_of(stack.kafka(user))
