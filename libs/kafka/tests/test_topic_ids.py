"""A topic that is deleted and created again has another id, on a real broker."""

import secrets

from aiokafka.admin import AIOKafkaAdminClient
from oms_contracts.catalogue import Topic
from oms_kafka.clients import client_options, make_reader
from oms_kafka.settings import settings_of
from oms_kafka.topic_ids import fetch_topic_ids
from oms_local.testing import Servers


async def test_a_topic_that_is_created_again_has_another_id(servers: Servers) -> None:
    name, settings = f"again-{secrets.token_hex(4)}", settings_of(servers.kafka)
    topic = Topic(name=name, key="none", messages=(), writers=(), readers=(), summary="", partitions=2)
    servers.create_topics([topic])
    reader = make_reader(settings, "test-ids")
    await reader.start()
    first = await fetch_topic_ids(reader, [name, "unknown"])
    assert list(first) == [name]
    assert await fetch_topic_ids(reader, [name]) == first

    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    await admin.delete_topics([name])
    await admin.close()
    servers.create_topics([topic])
    second = await fetch_topic_ids(reader, [name])
    await reader.stop()
    assert list(second) == [name]
    assert second != first
