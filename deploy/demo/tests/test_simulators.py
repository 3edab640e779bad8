"""The simulators on a real broker, and their AsyncAPI document."""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace
from oms_client.follower import follow
from oms_client.publisher import Publisher
from oms_contracts.catalogue import PARTY_TOPICS, TOPICS, TopicsByName, party_topics, topic_of, topics_written_by
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.envelope import from_headers
from oms_contracts.fulfillments import FulfillmentAccepted, FulfillmentPlanned
from oms_contracts.message import validate
from oms_contracts.samples import sample
from oms_contracts.tracking import LabelCreated
from oms_demo.responses import LOCATIONS, carrier, warehouse
from oms_demo.simulators import make_app
from oms_kafka.settings import KafkaSettings, settings_of
from oms_local.testing import Servers

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
TIMEOUT_SECONDS = 30
ORDER_ID = f"demo-{secrets.token_hex(4)}"
"""Other tests publish on the same topics of the same broker: ours is this order."""
PLANNED: FulfillmentPlanned = replace(sample(FulfillmentPlanned), order_id=ORDER_ID)


async def records_of(kafka: KafkaSettings, topic_name: str, count: int) -> list[tuple[str, str, Any]]:
    """The order's first `count` records on a topic: key, event id and message, read as the services read what external parties send."""
    found: list[tuple[str, str, Any]] = []
    topics = [TopicsByName((*TOPICS, *PARTY_TOPICS))[topic_name]]
    async with asyncio.timeout(TIMEOUT_SECONDS), aclosing(follow(kafka, "test-reader", topics, from_beginning=True)) as arriving:
        async for records in arriving:
            for record in records:
                envelope = from_headers(record.headers)
                if record.key == ORDER_ID.encode():
                    found.append((ORDER_ID, envelope.id, validate(envelope.type, record.value or b"")))
            if len(found) >= count:
                break
    return found


async def publish(kafka: KafkaSettings, events: Sequence[Any]) -> None:
    async with Publisher(kafka, "/test", lambda: NOON) as publisher:
        await publisher.publish(events)


async def test_a_simulator_publishes_its_commands_in_order_and_repeats_them_in_the_next_run(servers: Servers) -> None:
    kafka = settings_of(servers.kafka)
    topic = "oms.fulfillment.commands.BER-1"
    servers.create_topics([*party_topics("warehouse", "BER-1"), *(topic for topic in TOPICS if topic.name == topic_of(FulfillmentPlanned))])
    await publish(kafka, [replace(sample(FulfillmentAccepted), order_id=ORDER_ID), PLANNED])
    expected = list(warehouse(PLANNED))
    async with make_app(lambda _user: kafka, {"warehouse:BER-1": {FulfillmentPlanned: warehouse}}):
        first = await records_of(kafka, topic, len(expected))
    assert [message for _, _, message in first] == expected

    async with make_app(lambda _user: kafka, {"warehouse:BER-1": {FulfillmentPlanned: warehouse}}):
        both = await records_of(kafka, topic, 2 * len(expected))
    assert both == first + first


async def test_a_simulator_reads_what_was_published_before_and_after_it_began(servers: Servers) -> None:
    kafka = settings_of(servers.kafka)
    label: LabelCreated = replace(sample(LabelCreated), order_id=ORDER_ID)
    commands = list(carrier(label))
    topic = "oms.tracking.commands.DHL"
    servers.create_topics([*party_topics("carrier", "DHL"), *(found for found in TOPICS if found.name == topic_of(LabelCreated))])
    await publish(kafka, [label])
    async with make_app(lambda _user: kafka, {"carrier:DHL": {LabelCreated: carrier}}):
        await records_of(kafka, topic, len(commands))
        await publish(kafka, [label])
        assert [message for _, _, message in await records_of(kafka, topic, 2 * len(commands))] == commands + commands


def test_the_asyncapi_document_describes_every_topic_and_message() -> None:
    nowhere = settings_of({"bootstrap_servers": "broker:9092"})
    document: Any = make_app(lambda _user: nowhere).schema.to_specification().to_jsonable()
    actions = {
        (channel["channel"]["$ref"].rpartition("/")[2].partition(":")[0], channel["action"]) for channel in document["operations"].values()
    }
    assert actions == {
        ("oms.fulfillments", "receive"),
        ("oms.returns", "receive"),
        ("oms.tracking", "receive"),
        ("oms.tracking.commands.demo-post", "send"),
        *((f"oms.{service}.commands.{at}", "send") for service in ("inventory", "fulfillment", "returns") for at in LOCATIONS),
        *((topic.name, "send") for topic in topics_written_by("operator") if set(topic.messages) - {RedriveDeadLetters}),
    }
    messages = {
        "FulfillmentPlanned",
        "LabelCreated",
        "ReturnWindowOpened",
        "ReturnRequested",
        "ReturnApproved",
        "AcceptFulfillment",
        "RecordScan",
    }
    assert messages <= document["components"]["schemas"].keys()
