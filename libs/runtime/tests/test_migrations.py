"""The schema is what the migrations give, whichever process applies them."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from oms_local.testing import Servers
from oms_runtime.database import Database, apply_migrations, migrate, migrations_of, open_database


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


async def test_a_database_without_an_event_store_has_the_tables_of_its_package_alone(databases: list[Database], migrations: Path) -> None:
    (migrations / "0001_a.sql").write_text("create table a (n integer);")
    name = f"{migrations.parent.name}/0001_a.sql"

    assert await apply_migrations(databases[0], migrations.parent.name) == [name]
    assert {table for table, _ in await _schema(databases[0])} == {"a", "migrations"}


async def test_one_that_fails_leaves_nothing_behind(databases: list[Database], migrations: Path) -> None:
    (migrations / "0001_a.sql").write_text("create table a (n integer);")
    (migrations / "0002_b.sql").write_text("insert into a values ('not a number');")

    with pytest.raises(asyncpg.DataError):
        await migrate(databases[0], migrations.parent.name)

    assert await _schema(databases[0]) == []


async def test_one_may_take_longer_than_other_statements(servers: Servers, migrations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (migrations / "0001_a.sql").write_text("select pg_sleep(0.5); create table a (n integer);")
    monkeypatch.setattr("oms_runtime.database.COMMAND_TIMEOUT_SECONDS", 0.4)
    database = await open_database(await servers.create_database("migrations"))
    try:
        assert f"{migrations.parent.name}/0001_a.sql" in await migrate(database, migrations.parent.name)
    finally:
        await database.close()


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
