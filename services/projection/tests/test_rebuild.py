"""On a real broker and a real PostgreSQL: the service reads every topic, and folding all of them anew gives the same rows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from oms_contracts.catalogue import topics_read_by, topics_written_by
from oms_local.testing import Servers
from oms_projection.api import make_api
from oms_projection.app import make_service
from oms_projection.projector import project
from oms_projection.read_models import Report, build, verify
from oms_projection.rebuild import SCRATCH, CannotRebuild
from oms_projection.settings import Settings
from oms_projection.tables import TABLES
from oms_runtime.clock import utc_now
from oms_runtime.database import Connection
from oms_runtime.model import IncomingRecord
from oms_runtime.runtime import Runtime
from oms_runtime.sealing import Sealer
from probe import recreate
from pydantic import SecretStr

TOPICS = list({topic.name: topic for topic in (*topics_read_by("projection"), *topics_written_by("projection"))}.values())


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def running(servers: Servers, scenarios: Any, publish: Any) -> AsyncIterator[Runtime]:
    """The service, once it has projected the scenarios."""
    servers.create_topics(TOPICS)
    password = servers.kafka["password"]
    settings = Settings(
        kafka_bootstrap_servers=servers.kafka["bootstrap_servers"] or "",
        kafka_username=servers.kafka["username"],
        kafka_password=SecretStr(password) if password else None,
        database_url=SecretStr(await servers.create_database("projection")),
    )
    # Other tests of this session may have left records there: of other orders, and of what a projection with another store set aside.
    await recreate(servers, settings, *TOPICS)
    await publish(settings, scenarios.records)
    projected, left = asyncio.Event(), len(scenarios.records)

    async def count(connection: Connection, batch: Sequence[IncomingRecord]) -> None:
        nonlocal left
        await project(connection, batch)
        left -= len(batch)
        if left <= 0:
            projected.set()

    runtime = Runtime(replace(make_service(), projector=count), settings, migrations="oms_projection")
    async with asyncio.timeout(60):
        await runtime.start()
        await projected.wait()
    await runtime.consumer.stop()  # waits until the batch in hand is committed
    yield runtime
    await runtime.stop()


async def test_what_the_service_read_can_be_queried(running: Runtime, sealer: Sealer) -> None:
    transport = httpx.ASGITransport(make_api(running.database, utc_now, sealer))
    async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
        assert (await client.get("/orders/done")).json()["status"] == "completed"
        assert (await client.get("/orders/nobody")).headers["content-type"] == "application/problem+json"
        assert (await client.get("/openapi.json")).status_code == 200
    assert (await running.audit())["ok"]


async def verified(running: Runtime) -> Report:
    return await verify(make_service(), running.settings)


async def test_a_rebuild_gives_the_same_rows(running: Runtime, scenarios: Any) -> None:
    report = await verified(running)
    assert report["same"]
    assert report["differing"] == report["not_comparable"] == []
    assert report["left_out"] == {}
    assert report["records"] >= len(scenarios.records)
    assert report["seconds"] > 0
    assert report["rows"].keys() == {table.name for table in TABLES}
    assert all(rows > 0 and rows == stored for rows, stored in report["rows"].values())
    assert not await running.database.fetchval("select exists (select from pg_namespace where nspname = $1)", SCRATCH)


async def test_a_rebuild_in_many_small_writes_gives_the_same_rows(running: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_projection.rebuild.MAX_RECORDS", 2)
    monkeypatch.setattr("oms_projection.rebuild.MAX_BYTES", 1)
    assert (await verified(running))["differing"] == []


async def test_a_rebuild_without_records_gives_up_and_the_next_one_starts_again(running: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_projection.rebuild.READ_TIMEOUT_SECONDS", 0)
    async with running.database.acquire() as connection:
        await connection.execute("update checkpoints set next_offset = next_offset + 1 where topic = 'oms.orders' and next_offset > 0")
        with pytest.raises(CannotRebuild, match=r"nothing came for 0 s, and [1-9]\d* partitions are not at their end"):
            await verified(running)
        await connection.execute("update checkpoints set next_offset = next_offset - 1 where topic = 'oms.orders' and next_offset > 0")
    monkeypatch.undo()
    assert (await verified(running))["same"]


async def test_a_rebuild_names_the_table_that_differs(running: Runtime) -> None:
    async with running.database.acquire() as connection:
        await connection.execute("update stock set on_hand = on_hand + 1 where sku = 'A' and location = 'BER'")
        report = await verified(running)
        await connection.execute("update stock set on_hand = on_hand - 1 where sku = 'A' and location = 'BER'")
    assert not report["same"]
    assert report["differing"] == ["stock"]


async def test_nothing_is_compared_while_records_are_set_aside(running: Runtime) -> None:
    async with running.database.acquire() as connection:
        await connection.execute("insert into dead_letters values ('t/0/0', default, 't', 0, 0, 'k', '', '', 'r', 1, false, now())")
        with pytest.raises(CannotRebuild, match="1 records are set aside"):
            await verified(running)
        await connection.execute("delete from dead_letters")


async def test_a_build_again_replaces_wrong_rows_while_they_are_in_use(running: Runtime) -> None:
    async with running.database.acquire() as connection:
        await connection.execute("update stock set on_hand = on_hand + 1")
        await connection.execute("delete from timeline")
    report = await build(make_service(), running.settings, again=True)
    assert report["in_use"]
    assert sorted(report["comparison"].differing) == ["stock", "timeline"]
    assert (await verified(running))["same"]
