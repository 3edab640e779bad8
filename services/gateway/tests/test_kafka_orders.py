"""The gateway on a real broker: each order it accepted is on the channels' topic, as any channel would have published it."""

import json
import string
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import httpx
import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace
from oms_contracts.catalogue import TOPICS, topic_of
from oms_contracts.channel import OrderPlaced
from oms_contracts.envelope import Envelope, from_headers
from oms_contracts.message import encode, type_of, validate
from oms_contracts.values import order_id_of
from oms_gateway.channels import KafkaChannels
from oms_gateway.identify import by_key
from oms_gateway.orders import MAX_BYTES
from oms_kafka.clients import Record, make_reader, partition_of
from oms_runtime.settings import RuntimeSettings
from pydantic import SecretStr

from services.gateway.tests.memory import NOON, client_of, edge

KEY = "k" * 32
TOPIC = topic_of(OrderPlaced)
[CHANNEL_ORDERS] = [topic for topic in TOPICS if topic.name == TOPIC]


@pytest.fixture(scope="module")
def settings(servers: Any) -> RuntimeSettings:
    servers.create_topics([CHANNEL_ORDERS])
    user, password = servers.kafka["username"], servers.kafka["password"]
    return RuntimeSettings(
        kafka_bootstrap_servers=servers.kafka["bootstrap_servers"],
        kafka_username=user,
        kafka_password=SecretStr(password) if password else None,
        database_url=SecretStr(""),
    )


@pytest.fixture
async def client(settings: RuntimeSettings) -> AsyncIterator[httpx.AsyncClient]:
    app = edge(KafkaChannels(settings), identify=by_key(SecretStr(KEY)))
    async with app.router.lifespan_context(app), client_of(app) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        yield client


def order(reference: str, **changes: Any) -> dict[str, Any]:
    return {
        "channel": "web",
        "channel_reference": reference,
        "placed_at": "2026-11-23T13:00:00+01:00",
        "customer": {"id": "Ädä"},
        "currency": "EUR",
        "lines": [{"line_id": "A", "sku": "mug", "quantity": 1, "unit_price": 500, "total": 500}],
        "total": 500,
        "payment": {"kind": "card", "token": "tok"},
        "delivery": "pickup",
        **changes,
    }


async def records_of(settings: RuntimeSettings, key: str) -> list[Record]:
    """All records of a key on the channels' topic."""
    reader = make_reader(settings, "test")
    await reader.start()
    try:
        partitions = [TopicPartition(TOPIC, number) for number in range(CHANNEL_ORDERS.partitions)]
        reader.assign(partitions)
        ends = {tp: end for tp, end in (await reader.end_offsets(partitions)).items() if end}
        found: list[Record] = []
        while ends:
            for tp, records in (await reader.getmany(*ends, timeout_ms=200)).items():
                found += [record for record in records if record.key == key.encode()]
                if records and records[-1].offset + 1 >= ends[tp]:
                    del ends[tp]
        return found
    finally:
        await reader.stop()


async def test_an_accepted_order_is_on_the_topic_under_its_key(client: httpx.AsyncClient, settings: RuntimeSettings):
    for _ in range(2):
        assert (await client.post("/api/v1/orders", json=order("HTTP-1"))).status_code == 202
    order_id, kind = order_id_of("web", "HTTP-1"), type_of(OrderPlaced).name
    first, again = await records_of(settings, order_id)
    assert first.partition == again.partition == partition_of(order_id.encode(), CHANNEL_ORDERS.partitions)
    assert first.value == again.value
    placed = validate(kind, first.value or b"")
    assert (placed.channel_reference, placed.customer.id, placed.placed_at) == ("HTTP-1", "Ädä", NOON)
    assert from_headers(first.headers) == Envelope(
        type=kind,
        source="/oms/channel/web",
        id=order_id,
        time=NOON,
        subject=order_id,
        correlationid=order_id,
        actor="key:gateway",
    )


async def test_the_largest_accepted_order_fits_the_topic(client: httpx.AsyncClient, settings: RuntimeSettings):
    letters = string.ascii_letters + string.digits + "-_"
    noise = ["".join(Random(number).choices(letters, k=255)) for number in range(2_000)]  # does not compress

    smallest: OrderPlaced = validate("oms.channel.OrderPlaced.v1", json.dumps(order("HTTP-2")).encode())

    def body(lines: int, note: str) -> bytes:
        """As it will be published."""
        named = tuple(replace(smallest.lines[0], line_id=text) for text in noise[:lines])
        return encode(replace(smallest, lines=named, note=note))

    lines = 1 + (MAX_BYTES - len(body(1, ""))) // (len(body(2, "")) - len(body(1, "")))
    missing = MAX_BYTES - len(body(lines, ""))
    largest, too_large = (body(lines, "x" * units) for units in (missing, missing + 1))
    assert (len(largest), len(too_large)) == (MAX_BYTES, MAX_BYTES + 1)

    assert (await client.post("/api/v1/orders", content=too_large)).status_code == 413
    assert (await client.post("/api/v1/orders", content=largest)).status_code == 202
    [record] = await records_of(settings, order_id_of("web", "HTTP-2"))
    assert len(record.value or b"") == MAX_BYTES
