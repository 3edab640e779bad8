"""The schema is what the migrations give, whichever process applies them; the states are what the newest version folds."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from oms_contracts.message import encode
from oms_local.testing import Servers
from oms_runtime.database import Database, migrate, migrations_of, open_database
from oms_runtime.model import Due
from oms_runtime.refold import audit
from oms_runtime.runtime import Runtime
from probe import DECIDER, EXPIRING, POISON, Booked, Probe, receipt, until

KEYS = [f"r{n}" for n in range(100)]


@pytest.fixture
async def databases(servers: Servers) -> AsyncIterator[list[Database]]:
    """Four pools on one empty database, as four processes have them."""
    url = await servers.create_database("migrations")
    opened = [await open_database(url) for _ in range(4)]
    yield opened
    for database in opened:
        await database.close()


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a service's package has its migrations, none yet. The package is a new one each time: Python imports one only once."""
    folder = tmp_path / f"oms_of_a_test_{secrets.token_hex(4)}" / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return folder


async def test_each_is_applied_once_in_order_however_many_start_together(databases: list[Database], migrations: Path) -> None:
    (migrations / "0002_seen.sql").write_text("insert into orders_seen select 'second', count(*) from orders_seen;")
    (migrations / "0001_orders_seen.sql").write_text("create table orders_seen (name text, before bigint);")
    (migrations / "notes.txt").write_text("not a migration")

    package = migrations.parent.name
    applied = await asyncio.gather(*(migrate(database, package) for database in databases))

    names = [name for of in ("oms_runtime", package) for name, _ in migrations_of(of)]
    assert names[-2:] == [f"{package}/0001_orders_seen.sql", f"{package}/0002_seen.sql"]
    assert sorted(applied) == [[], [], [], names]
    assert [dict(row) for row in await databases[0].fetch("select * from orders_seen")] == [{"name": "second", "before": 0}]

    before = await _schema(databases[0])
    assert await migrate(databases[0], package) == []
    assert await _schema(databases[0]) == before


async def test_a_later_version_adds_what_is_new_to_a_store_in_use(databases: list[Database], migrations: Path) -> None:
    (migrations / "0001_a.sql").write_text("create table a (n integer); insert into a values (1);")
    await migrate(databases[0], migrations.parent.name)
    (migrations / "0002_b.sql").write_text("alter table a add column m integer not null default 2;")

    assert await migrate(databases[0], migrations.parent.name) == [f"{migrations.parent.name}/0002_b.sql"]
    assert [dict(row) for row in await databases[0].fetch("select * from a")] == [{"n": 1, "m": 2}]


async def test_one_that_fails_leaves_nothing_behind(databases: list[Database], migrations: Path) -> None:
    (migrations / "0001_a.sql").write_text("create table a (n integer);")
    (migrations / "0002_b.sql").write_text("insert into a values ('not a number');")

    with pytest.raises(asyncpg.DataError):
        await migrate(databases[0], migrations.parent.name)

    assert await _schema(databases[0]) == []


async def _schema(database: Database) -> list[tuple[Any, ...]]:
    """Every column, constraint and index, as PostgreSQL describes them."""
    rows = await database.fetch(
        """select table_name::text as t, column_name::text || ' ' || data_type || ' ' || is_nullable || coalesce(column_default, '') as d
             from information_schema.columns where table_schema = 'public'
           union all select conrelid::regclass::text, pg_get_constraintdef(oid)
             from pg_constraint where connamespace = 'public'::regnamespace
           union all select tablename::text, indexdef from pg_indexes where schemaname = 'public' order by 1, 2"""
    )
    return [(row["t"], row["d"]) for row in rows]


@dataclass(frozen=True)
class Counted:
    """By the newer rules: a state of another shape."""

    receipts: int = 0
    expired: int = 0


def evolve(state: Counted, event: Any, _key: str) -> Counted:
    return replace(state, expired=state.expired + 1) if hasattr(event, "adjustment_id") else replace(state, receipts=state.receipts + 1)


def due(_key: str, _state: Counted) -> Due | None:
    return None


def initial(_key: str) -> Counted:
    return Counted()


NEWER = replace(DECIDER, initial=initial, evolve=evolve, due=due, state_version=2)


async def test_a_raised_state_version_folds_all_states_anew(probe: Probe) -> None:
    async with probe.running():
        await probe.send([receipt(key, EXPIRING if n % 2 else "item") for n, key in enumerate(KEYS)])
        await probe.send([receipt("bad", POISON)])
        await until(partial(probe.ask, "select count(*) = 151 from events"))  # one of two expired, and a dead letter

    async with probe.running(probe.service(NEWER)) as runtime:
        async with runtime.database.acquire() as connection:
            assert await audit(connection, NEWER) == []
        found = {row["state"] for row in await runtime.database.fetch("select distinct state from states")}
        assert found == {encode(Counted(1, 0)).decode(), encode(Counted(1, 1)).decode()}
        assert await probe.ask("select count(*) from states where due_at is not null") == 0
        await probe.send([receipt(KEYS[0])])
        await until(partial(_state, probe, KEYS[0], Counted(2, 0)))


async def test_a_process_with_an_older_state_version_writes_nothing_and_sets_nothing_aside(probe: Probe) -> None:
    older, newer = Runtime(probe.service(), probe.settings()), Runtime(probe.service(NEWER), probe.settings())
    await older.start()
    try:
        await probe.send(map(receipt, KEYS))
        await until(partial(_booked, probe, len(KEYS)))
        await newer.start()
        try:
            reason = "another version of this service has started, whose states have version 2"
            assert reason in await older.unready()
            await until(partial(_shared, older, newer))
            await probe.send(map(receipt, KEYS))
            await until(partial(_fails, older))
            await older.stop()  # as a rolling upgrade does, once the newer version is ready
            await until(partial(_booked, probe, 2 * len(KEYS)))
        finally:
            await newer.stop()
    finally:
        await older.stop()

    assert await probe.ask("select count(*) from dead_letters") == 0
    assert await probe.ask("select count(distinct state) from states") == 1
    assert await _state(probe, KEYS[0], Counted(2, 0))


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _state(probe: Probe, key: str, expected: Counted | Booked) -> bool:
    return await probe.ask("select state from states where key = $1", key) == encode(expected).decode()


async def _shared(*runtimes: Runtime) -> bool:
    return all(next(iter(runtime.metrics.lag.collect())).samples for runtime in runtimes)


async def _fails(runtime: Runtime) -> bool:
    return (runtime.metrics.registry.get_sample_value("oms_batch_failures_total", {"reason": "retryable"}) or 0) > 0
