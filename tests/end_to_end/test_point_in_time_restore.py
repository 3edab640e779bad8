"""One service's database goes back to a moment under load, by PostgreSQL's own means, and nothing is lost or doubled.

The steps are those of the handbook (deploy/README.md, "Restore one database to a moment"), in its order.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from oms_client.publisher import Publisher
from oms_client.queries import QueryClient
from oms_contracts.envelope import header
from oms_demo.__main__ import SHORT_LOOK_UP, audits_of, query_client
from oms_demo.baskets import read_baskets, stock_for
from oms_demo.responses import LOCATIONS
from oms_demo.simulators import make_app
from oms_kafka.settings import settings_of
from oms_local import postgres_server
from oms_local.parts import SupervisedProcess
from oms_local.ports import LOOPBACK, find_free
from oms_local.stack import Stack
from oms_local.testing import local_stack
from oms_provision.sql import session
from oms_runtime.clock import utc_now
from probe import until

from tests.command_line import oms
from tests.topics import PARTITIONS, reading, repeated_events

SEED = 11
MAX_ORDERS = 1_000
ORDERS_A_SECOND = 20
SOME_EVENTS = 60
TIMEOUT_SECONDS = 120
MOMENT = "before the mishap"
DATABASE = "oms_inventory"


class Cluster:
    """The stack's PostgreSQL as its administrator sees it: with an archive of its WAL, and a place for another server."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.folder = stack.settings.data / "restore"
        self.archive = self.folder / "archive"
        self.side_port = find_free()
        self.side = postgres_server.Server(
            folder=self.folder, log=stack.settings.data / "log" / "side.log", port=self.side_port, password=""
        )
        for folder in (self.folder, self.archive):
            folder.mkdir()
        place = (stack.settings.data / "postgres" / "cluster").stat()
        self.user = None if os.geteuid() else (place.st_uid, place.st_gid)
        for folder in (self.folder, self.archive):
            if self.user is not None:
                os.chown(folder, *self.user)

    def url(self, database: str, port: int | None = None) -> str:
        """A superuser's URL of a database of this server, or of the one on `port`."""
        url = self.stack.database_url("admin").removesuffix("/postgres") + f"/{database}"
        return url if port is None else url.replace(f":{self.stack.settings.postgres_port}/", f":{port}/")

    async def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as its user. Raises RuntimeError with what it says."""
        programs = Path(postgres_server.part(self.side, stage=0).arguments[0]).parent
        user: dict[str, Any] = {} if self.user is None else {"user": self.user[0], "group": self.user[1], "extra_groups": []}
        done = await asyncio.to_thread(
            subprocess.run, [programs / program, *arguments], capture_output=True, text=True, check=False, cwd=self.folder, **user
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")

    async def execute(self, *statements: str) -> None:
        async with session(self.url("postgres")) as connection:
            for statement in statements:
                await connection.execute(statement)

    async def head(self) -> int:
        """The position of inventory's newest event."""
        async with session(self.url(DATABASE)) as connection:
            return await connection.fetchval("select coalesce(max(position), 0) from events")

    async def archive_wal(self) -> None:
        """Keep all WAL outside of the server from now on. The server is started anew."""
        await self.execute("alter system set archive_mode = on", f"alter system set archive_command = 'cp %p {self.archive}/%f'")
        access = self.stack.settings.data / "postgres" / "cluster" / "pg_hba.conf"
        access.write_text(access.read_text() + f"host replication all {LOOPBACK}/32 scram-sha-256\n")
        await asyncio.to_thread(self.stack.stop_part, postgres_server.NAME)
        await asyncio.to_thread(self.stack.start_part, postgres_server.NAME)

    async def archived(self) -> None:
        """Wait until all WAL so far is in the archive."""
        async with session(self.url("postgres")) as connection:
            segment = await connection.fetchval("select pg_walfile_name(pg_switch_wal())")

        async def arrived() -> bool:
            return (self.archive / segment).exists()

        await until(arrived, TIMEOUT_SECONDS)

    @asynccontextmanager
    async def restored(self) -> AsyncGenerator[None]:
        """Another server, of the base backup and the archive, as everything was at MOMENT."""
        (self.side.data / "recovery.signal").touch()
        part = postgres_server.part(self.side, stage=0)
        options = {"archive_mode": "off", "restore_command": f"cp {self.archive}/%f %p", "recovery_target_name": MOMENT}
        arguments = (*part.arguments, *(f"--{name}={value}" for name, value in options.items()), "--recovery_target_action=promote")
        process = SupervisedProcess(replace(part, arguments=arguments))
        process.check(monotonic())

        async def promoted() -> bool:
            try:
                async with session(self.url("postgres", self.side_port)) as connection:
                    return not await connection.fetchval("select pg_is_in_recovery()")
            except Exception:  # noqa: BLE001  # it starts, or refuses connections until its state is consistent
                assert process.process is not None
                assert process.process.poll() is None, self.side.log.read_text()[-2_000:]
                return False

        try:
            await until(promoted, TIMEOUT_SECONDS)
            yield
        finally:
            process.stop(monotonic())
            if process.process is not None:
                await asyncio.to_thread(process.process.wait, 30)


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Broker and database alone, of which the database is started anew before the services come.

    Not in pytest's own folder: another session that begins closes that to PostgreSQL's user.
    """
    with local_stack(request.config.rootpath / ".orderstream" / "test") as made:
        yield made


async def test_a_database_that_goes_back_to_a_moment_under_load_loses_and_doubles_nothing(stack: Stack) -> None:
    cluster = Cluster(stack)
    await cluster.archive_wal()
    await asyncio.to_thread(stack.up, environment=SHORT_LOOK_UP)
    async with query_client(stack) as query, orders_under_way(stack) as placed:
        # A backup of the running server, later a moment, and then what must not be lost.
        await until(lambda: reaches(cluster, SOME_EVENTS), TIMEOUT_SECONDS)
        await cluster.run("pg_basebackup", "-d", cluster.url(""), "-D", str(cluster.side.data), "-c", "fast", "-X", "none")
        await until_more(cluster)
        at_least = await cluster.head()
        await cluster.execute(f"select pg_create_restore_point('{MOMENT}')")
        at_most = await cluster.head()
        await until_more(cluster)
        await cluster.archived()

        # The database as it was at that moment, in the place of the live one. Its process runs on.
        dump = str(cluster.folder / "inventory.dump")
        async with cluster.restored():
            await cluster.run("pg_dump", "-Fc", "-d", cluster.url(DATABASE, cluster.side_port), "-f", dump)
        await cluster.execute(
            f"create database {DATABASE}_restored owner {DATABASE}", f"revoke all on database {DATABASE}_restored from public"
        )
        await cluster.run(
            "pg_restore", "--no-owner", f"--role={DATABASE}", "--exit-on-error", "-d", cluster.url(f"{DATABASE}_restored"), dump
        )
        lost = await cluster.head()
        await cluster.execute(
            f"alter database {DATABASE} allow_connections false",
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{DATABASE}'",  # noqa: S608  # names of our own alone
            f"alter database {DATABASE} rename to {DATABASE}_lost",
            f"alter database {DATABASE}_restored rename to {DATABASE}",
        )

        # It refuses to decide, and says what to do. That is done.
        await until(lambda: says(stack, "the store ends at position"), TIMEOUT_SECONDS)
        assert at_least <= await cluster.head() <= at_most < lost
        dry = json.loads(await oms(stack, "store", "recover", "inventory", "--dry-run", "--json", code=1))
        assert (dry["store_ended_at"], dry["events_recovered"], dry["agrees"]) == (await cluster.head(), 0, False)
        report = json.loads(await oms(stack, "store", "recover", "inventory", "--json"))
        assert report["events_recovered"] == report["events_missing"] >= SOME_EVENTS
        assert report["agrees"]

        # Everything continues: what was placed meanwhile, and what is placed from now on.
        await until_more(cluster)
        placed.over.set()
        await placed.task
        await until(lambda: rests(query, len(placed.orders)), TIMEOUT_SECONDS)
        audits = await audits_of(stack, query)
        dead_letters = await query.collect("/dead-letters", waiting=False)

    assert {name: audit for name, audit in audits.items() if not audit["green"]} == {}
    assert dead_letters == []
    assert await repeated_events(stack) == []
    async with session(cluster.url(DATABASE)) as connection:
        stored = json.loads(await connection.fetchval("select json_object_agg(position, data) from events"))
    assert await published(stack) == stored
    assert {part.name: part.restarts for part in stack.status() if part.restarts} == {}


class Placed:
    """Orders as they are placed, until `over` is set."""

    def __init__(self) -> None:
        self.orders: list[Any] = []
        self.over = asyncio.Event()
        self.task: asyncio.Task[None]

    async def place(self, publisher: Publisher) -> None:
        for order in read_baskets(SEED, MAX_ORDERS):
            if self.over.is_set():
                return
            await publisher.publish([order])
            self.orders.append(order)
            await asyncio.sleep(1 / ORDERS_A_SECOND)  # the rate of the load, and no wait for anything
        raise RuntimeError(f"{MAX_ORDERS} orders were placed before the test was over")


@asynccontextmanager
async def orders_under_way(stack: Stack) -> AsyncGenerator[Placed]:
    """Orders are placed all the time, and warehouse and carrier do their part."""
    placed = Placed()
    async with make_app(lambda user: settings_of(stack.kafka(user))):
        receipts = [*stock_for(list(read_baskets(SEED, MAX_ORDERS)), SEED)]
        for location in LOCATIONS:
            async with Publisher(settings_of(stack.kafka(f"warehouse:{location}")), "/test/warehouse", utc_now) as publisher:
                await publisher.publish(receipt for receipt in receipts if receipt.lines[0].location == location)
        async with Publisher(settings_of(stack.kafka("operator")), "/test/orders", utc_now) as publisher:
            placed.task = asyncio.create_task(placed.place(publisher))
            try:
                yield placed
            finally:
                placed.over.set()
                await placed.task


async def reaches(cluster: Cluster, position: int) -> bool:
    return await cluster.head() >= position


async def until_more(cluster: Cluster) -> None:
    goal = await cluster.head() + SOME_EVENTS
    await until(lambda: reaches(cluster, goal), TIMEOUT_SECONDS)


async def says(stack: Stack, text: str) -> bool:
    async with httpx.AsyncClient(timeout=30) as client:  # it asks the database, which may keep it waiting
        answer = await client.get(f"http://{LOOPBACK}:{stack.settings.operations_port_of('inventory')}/ready")
    return any(text in reason for reason in answer.json()["reasons"])


async def rests(query: QueryClient, orders: int) -> bool:
    audit = await query.get("/audits/orders?settle_seconds=0")
    return audit["in_flight_count"] == 0 and sum(outcome["orders"] for outcome in await query.get("/outcomes")) == orders


async def published(stack: Stack) -> dict[str, str]:
    """Inventory's events on the topics: the data by position."""
    async with reading(stack) as reader:
        own = [tp for tp in PARTITIONS if tp.topic in ("oms.stock", "oms.inventory.dead-letters")]
        reader.assign(own)
        ends = {tp: end for tp, end in (await reader.end_offsets(own)).items() if end}
        found: dict[str, str] = {}
        while ends:
            for tp, records in (await reader.getmany(*ends, timeout_ms=200)).items():
                found |= {header(record.headers, "ce_position") or "": (record.value or b"").decode() for record in records}
                if records and records[-1].offset + 1 >= ends[tp]:
                    del ends[tp]
        return found
