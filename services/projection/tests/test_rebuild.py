"""On a real broker and a real PostgreSQL: the service reads every topic, and a rebuild from the first offset gives the same rows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from time import time_ns
from typing import Any, Protocol

import httpx
import msgspec
import pytest
import pytest_asyncio
from oms_contracts.catalogue import Topic, topics_read_by
from oms_contracts.envelope import to_headers
from oms_kafka.clients import make_producer, partition_of
from oms_projection.api import make_api
from oms_projection.app import make_service
from oms_projection.projector import project
from oms_projection.rebuild import CannotRebuild, rebuild
from oms_projection.settings import Settings
from oms_runtime.clock import utc_now
from oms_runtime.database import Connection
from oms_runtime.model import IncomingRecord
from oms_runtime.runtime import Runtime
from pydantic import SecretStr

TOPICS = list(topics_read_by("projection"))


class Servers(Protocol):
    kafka: dict[str, Any]

    async def create_database(self, name: str) -> str: ...
    def create_topics(self, topics: Sequence[Topic]) -> None: ...


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def running(servers: Servers, scenarios: Any) -> AsyncIterator[Runtime]:
    """The service, once it has projected the scenarios."""
    servers.create_topics(TOPICS)
    password = servers.kafka["password"]
    settings = Settings(
        kafka_bootstrap_servers=servers.kafka["bootstrap_servers"],
        kafka_username=servers.kafka["username"],
        kafka_password=SecretStr(password) if password else None,
        database_url=SecretStr(await servers.create_database("projection")),
    )
    await publish(settings, scenarios.records)
    projected, left = asyncio.Event(), len(scenarios.records)

    async def count(connection: Connection, batch: Sequence[IncomingRecord]) -> None:
        nonlocal left
        await project(connection, batch)
        left -= len(batch)
        if left <= 0:
            projected.set()

    runtime = Runtime(replace(make_service(), projector=count), settings, migrations="oms_projection")
    await runtime.start()
    async with asyncio.timeout(60):
        await projected.wait()
    await runtime.consumer.stop()  # waits until the batch in hand is committed
    yield runtime
    await runtime.stop()


async def publish(settings: Settings, records: Sequence[IncomingRecord]) -> None:
    """Publish as the relays do, with positions higher than any on the topics so far. Every tenth record comes twice."""
    begin, counts = time_ns() // 1_000_000, {topic.name: topic.partitions for topic in TOPICS}
    producer = make_producer(settings, "scenarios")
    await producer.start()
    for number, record in enumerate(records):
        assert record.envelope is not None
        assert record.key is not None
        assert record.position is not None
        key = record.key.encode()
        headers = to_headers(msgspec.structs.replace(record.envelope, position=begin + record.position))
        for _ in range(2 if number % 10 == 0 else 1):
            partition = partition_of(key, counts[record.topic])
            await producer.send_and_wait(record.topic, key=key, value=record.value, headers=headers, partition=partition)
    await producer.stop()


async def test_what_the_service_read_can_be_queried(running: Runtime) -> None:
    transport = httpx.ASGITransport(make_api(running.database, utc_now))
    async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
        assert (await client.get("/orders/done")).json()["status"] == "completed"
        assert (await client.get("/orders/nobody")).headers["content-type"] == "application/problem+json"
        assert (await client.get("/openapi.json")).status_code == 200
    assert (await running.audit())["ok"]


async def test_a_rebuild_gives_the_same_rows(running: Runtime, scenarios: Any) -> None:
    comparison = await rebuild(running.settings)
    assert comparison.differing == []
    assert comparison.same
    assert comparison.records >= len(scenarios.records)
    assert comparison.seconds > 0
    assert all(rows > 0 for rows, _ in comparison.rebuilt.values())
    assert not await running.database.fetchval("select exists (select from pg_namespace where nspname = 'rebuild')")


async def test_a_rebuild_in_many_small_writes_gives_the_same_rows(running: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_projection.rebuild.MAX_RECORDS", 2)
    monkeypatch.setattr("oms_projection.rebuild.MAX_BYTES", 1)
    assert (await rebuild(running.settings)).differing == []


async def test_a_rebuild_without_records_gives_up_and_the_next_one_starts_again(running: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_projection.rebuild.READ_TIMEOUT_SECONDS", 0)
    async with running.database.acquire() as connection:
        await connection.execute("update checkpoints set next_offset = next_offset + 1 where topic = 'oms.orders' and next_offset > 0")
        with pytest.raises(CannotRebuild, match=r"nothing came for 0 s, and [1-9]\d* partitions are not at their end"):
            await rebuild(running.settings)
        await connection.execute("update checkpoints set next_offset = next_offset - 1 where topic = 'oms.orders' and next_offset > 0")
    monkeypatch.undo()
    assert (await rebuild(running.settings)).same


async def test_a_rebuild_names_the_table_that_differs(running: Runtime) -> None:
    async with running.database.acquire() as connection:
        await connection.execute("update stock set on_hand = on_hand + 1 where sku = 'A' and location = 'BER'")
        comparison = await rebuild(running.settings)
        await connection.execute("update stock set on_hand = on_hand - 1 where sku = 'A' and location = 'BER'")
    assert not comparison.same
    assert comparison.differing == ["stock"]


async def test_nothing_is_compared_while_records_are_set_aside(running: Runtime) -> None:
    async with running.database.acquire() as connection:
        await connection.execute("insert into dead_letters values ('t/0/0', default, 't', 0, 0, 'k', '', '', 'r', 1, false, now())")
        with pytest.raises(CannotRebuild, match="1 records are set aside"):
            await rebuild(running.settings)
        await connection.execute("delete from dead_letters")
