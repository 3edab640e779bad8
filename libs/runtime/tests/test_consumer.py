"""What a running service tells the outside of how far it is, on a real broker and a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import encode, type_of
from oms_contracts.stock import ReceiveStock
from oms_contracts.values import StockLine
from oms_runtime.kafka import client_options, make_producer
from oms_runtime.model import Decider, service_of
from oms_runtime.runtime import Runtime
from oms_runtime.settings import RuntimeSettings
from pydantic import SecretStr

TOPIC = "oms.inventory.commands"


@dataclass(frozen=True)
class Nothing:
    """No state at all."""


DECIDER = Decider(
    initial=lambda _key: Nothing(),
    decide=lambda _command, _states, _now: [],
    evolve=lambda state, _event, _key: state,
    reads=lambda _command: (),
    writes=lambda _event: (),
    due=lambda _key, _state: None,
)


@pytest.fixture
async def settings(servers: Any) -> RuntimeSettings:
    password = servers.kafka["password"]
    return RuntimeSettings(
        kafka_bootstrap_servers=servers.kafka["bootstrap_servers"],
        kafka_username=servers.kafka["username"],
        kafka_password=SecretStr(password) if password else None,
        database_url=SecretStr(await servers.create_database("consumer")),
    )


@pytest.fixture
async def runtime(servers: Any, settings: RuntimeSettings) -> AsyncIterator[Runtime]:
    service = service_of("inventory", decider=DECIDER)
    servers.create_topics([*service.reads, *service.writes])
    running = Runtime(service, settings)
    await running.start()
    yield running
    await running.stop()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110  # the answer lies in another process
            await asyncio.sleep(0.02)


async def _applied(runtime: Runtime, offset: int) -> bool:
    stood = await runtime.database.fetchval("select next_offset from checkpoints where topic = $1 and partition = 0", TOPIC)
    return stood == offset + 1


async def test_kafka_is_told_of_the_last_batch_too(runtime: Runtime, settings: RuntimeSettings) -> None:
    producer = make_producer(settings, "test-consumer")
    admin: Any = AIOKafkaAdminClient(**client_options(settings))
    await producer.start()
    await admin.start()
    try:
        newest = -1
        for number in range(1, 4):
            receipt = ReceiveStock(receipt_id="r", lines=(StockLine(sku="s", location="l", quantity=number),))
            envelope = Envelope(type=type_of(receipt).name, source="/test", id=str(number), time=datetime.now(UTC), subject="r")
            sent: Any = await producer.send_and_wait(TOPIC, key=b"r", value=encode(receipt), headers=to_headers(envelope), partition=0)
            newest = sent.offset
            await until(partial(_applied, runtime, newest))

        async def told() -> bool:
            offsets = await admin.list_consumer_group_offsets("oms.inventory")
            return TopicPartition(TOPIC, 0) in offsets and offsets[TopicPartition(TOPIC, 0)].offset == newest + 1

        await until(told)
    finally:
        await producer.stop()
        await admin.close()
