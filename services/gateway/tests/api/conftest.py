"""The gateway with its real parts: a broker, a database, and projection's query API over the scenarios of its own tests."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI, Request
from oms_client.follower import follow
from oms_client.publisher import Sender
from oms_client.queries import poll
from oms_contracts.catalogue import TOPICS
from oms_contracts.envelope import header
from oms_contracts.values import order_id_of
from oms_gateway.api import Parts, make_api
from oms_gateway.identity import ROLES, SCOPES, Identity
from oms_gateway.limits import Admission, RateLimit
from oms_gateway.query_api import QueryApi
from oms_gateway.refusals import Unauthenticated
from oms_gateway.status import StatusFeed
from oms_kafka.clients import Record
from oms_kafka.settings import KafkaSettings, settings_of
from oms_local.ports import LOOPBACK
from oms_local.testing import Servers
from oms_projection.api import make_api as make_query_api
from oms_projection.projector import project
from oms_projection.tables import READ_MODELS_VERSION, TABLES
from oms_projection.versions import open_version, schema_of
from oms_runtime.database import Database, apply_migrations, migrate, open_database
from oms_runtime.model import IncomingRecord

from services.projection.tests.conftest import SEALER, accepted, all_scenarios

NOW = datetime(2026, 3, 2, tzinfo=UTC)
ORDER_ID = order_id_of("web", "R-9")
"""An order that was just accepted, of channel web."""
WRITTEN = {"oms.channel.orders", "oms.order-status-changes"}


@dataclass
class Published:
    """What one record says, on whatever topic it is."""

    topic: str
    record: Record

    def header(self, name: str) -> str | None:
        return header(self.record.headers, name)


@dataclass(kw_only=True)
class Gateway:
    """The API, and what its tests need beside it. `now` is what its clock tells."""

    api: FastAPI
    parts: Parts
    kafka: KafkaSettings
    projection: Database
    identities: dict[str, Identity]
    now: list[datetime] = field(default_factory=lambda: [NOW])

    @asynccontextmanager
    async def client(self, name: str | None = "admin", api: FastAPI | None = None) -> AsyncGenerator[httpx.AsyncClient]:
        """A client who shows the key of the identity `name`."""
        headers = {} if name is None else {"authorization": f"Bearer {name}"}
        transport = httpx.ASGITransport(api or self.api)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway/api/v1", headers=headers) as client:
            yield client

    async def record(self, topic: str, event_id: str) -> Published:
        """The record of an event, once it is on its topic."""
        found = await self.records(topic, lambda record: header(record.headers, "ce_id") == event_id)
        return Published(topic, found[0])

    async def records(self, topic: str, wanted: Callable[[Record], bool]) -> list[Record]:
        """Those of a topic's records that are wanted, as soon as there are some."""
        [described] = [each for each in TOPICS if each.name == topic]
        records = follow(self.kafka, "test", [described], from_beginning=True)
        async with asyncio.timeout(30):
            try:
                async for arrived in records:
                    if found := [record for record in arrived if wanted(record)]:
                        return found
            finally:
                await records.aclose()
        raise AssertionError("the topic ended")

    async def project(self, records: Sequence[IncomingRecord]) -> None:
        """The read models have these records, too."""
        async with self.projection.acquire() as connection, connection.transaction():
            await project(connection, records)


def person(actor: str, *roles: str, **limits: Any) -> Identity:
    return Identity(actor=actor, scopes=frozenset[str]().union(*(ROLES[role] for role in roles)), **limits)


IDENTITIES = {
    "admin": person("user:admin", "admin"),
    **{role: person(f"user:{role}", role) for role in ROLES if role != "admin"},
    "shop": Identity(actor="key:shop", scopes=SCOPES, channel="web"),
    "till": Identity(actor="key:till", scopes=SCOPES, channel="till"),
    "ber": person("user:ber", "warehouse", locations=frozenset({"BER"})),
    "nothing": Identity(actor="key:nothing", scopes=frozenset()),
}


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def kafka(servers: Servers) -> KafkaSettings:
    """The broker, with the topics that the gateway writes and reads. Each has three partitions: more would only take longer."""
    wanted = [topic for topic in TOPICS if topic.name in WRITTEN or topic.name.endswith(".commands")]
    await asyncio.to_thread(servers.create_topics, [replace(topic, partitions=3) for topic in wanted])
    return settings_of(servers.kafka)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def projection(servers: Servers) -> AsyncIterator[Database]:
    """Projection's database with the scenarios, and one order more."""
    database = await open_database(await servers.create_database("projection"), schema=schema_of(READ_MODELS_VERSION))
    await migrate(database, "oms_projection")
    await open_version(database)
    log = all_scenarios()
    log.publish("oms.orders", accepted(ORDER_ID, log.now, "R-9"))
    async with database.acquire() as connection, connection.transaction():
        await connection.execute(f"truncate {', '.join(table.name for table in TABLES)}")
        await project(connection, log.records)
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def database(servers: Servers) -> AsyncIterator[Database]:
    """The gateway's own database."""
    database = await open_database(await servers.create_database("gateway"))
    await apply_migrations(database, "oms_gateway")
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def query(projection: Database) -> AsyncIterator[QueryApi]:
    """The query API over the scenarios, a day later."""
    transport = httpx.ASGITransport(make_query_api(projection, lambda: NOW + timedelta(days=1), SEALER))
    async with httpx.AsyncClient(transport=transport, base_url="http://query") as client:
        yield QueryApi(client)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def gateway(kafka: KafkaSettings, projection: Database, database: Database, query: QueryApi) -> AsyncIterator[Gateway]:
    """The gateway. Its clients are limited in nothing."""
    now = [NOW]

    async def identify(request: Request) -> Identity:
        name = request.headers.get("authorization", "").removeprefix("Bearer ")
        if name not in IDENTITIES:
            raise Unauthenticated("nobody is known by this", "Authorization: give a key")
        return IDENTITIES[name]

    sender = Sender(kafka, "test-gateway")
    await sender.start()
    parts = Parts(
        admission=Admission(identify=identify, addresses=RateLimit(1e9, 10**9, monotonic), identities=RateLimit(1e9, 10**9, monotonic)),
        publisher=sender,
        query=query,
        database=database,
        statuses=StatusFeed(kafka, stream_seconds=0.2),
        clock=lambda: now[0],
        new_id=lambda: uuid4().hex,
    )
    yield Gateway(api=make_api(parts), parts=parts, kafka=kafka, projection=projection, identities=IDENTITIES, now=now)
    await sender.stop()


@asynccontextmanager
async def running(coroutine: Any) -> AsyncGenerator[None]:
    """A task that runs meanwhile."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def serving(api: FastAPI) -> AsyncGenerator[str]:
    """A real HTTP server on the API; its URL."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(api, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve([listening]))
        try:
            yield f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds."""

    async def holds() -> bool | None:
        return await condition() or None

    assert await poll(holds, timeout_seconds=30)


@pytest.fixture
def unused(number: "count[int]" = count()) -> Callable[[str], str]:  # noqa: B008  # one counter for all tests is meant
    """`unused("A")` is a text that no other test has."""
    return lambda name: f"{name}-{next(number)}"
