"""The versions of the read models. Each has a schema, checkpoints, dead letters and a consumer group of its own.

So a version is built and kept up to date beside the one in use, and no process can fill the tables of another version. The events, the
relay and the leader are shared, in `public`, and so is the table `read_models`: which versions there are, and which one is in use.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from oms_runtime.database import MIGRATION_LOCK, Connection, Database, DbRow
from oms_runtime.errors import TablesMissing

from oms_projection.tables import DEFINITIONS, READ_MODELS_VERSION

RUNTIME_TABLES = ("checkpoints", "dead_letters")
"""The runtime's tables that each version has of its own."""


def schema_of(version: int) -> str:
    """The schema with a version's tables."""
    return f"read_models_{version}"


def group_of(version: int) -> str:
    """The consumer group that fills a version's tables. Version 1 has the name from before there were versions."""
    return "oms.projection" if version == 1 else f"oms.projection.read-models-{version}"


async def version_in_use(source: Connection | Database) -> int | None:
    """The version that the query API reads; None in a store where none was ever made."""
    return await source.fetchval("select version from read_models where in_use")


async def open_version(database: Database) -> None:
    """Check that this code's version is built. In a new store make its tables, and put them in use: they are as complete as any.

    Raises TablesMissing where the version is not built, or was dropped.
    """
    row = await database.fetchrow(_STATE, READ_MODELS_VERSION)
    assert row is not None
    if not row["built"] and row["versions"] == 0:
        async with versions_locked(database) as connection:
            row = await connection.fetchrow(_STATE, READ_MODELS_VERSION)
            assert row is not None
            if row["versions"] == 0:
                await create_tables(connection, schema_of(READ_MODELS_VERSION))
                await drop_first_tables(connection)
                await connection.execute(
                    "insert into read_models (version, in_use, built_at) values ($1, true, now())", READ_MODELS_VERSION
                )
                return
    if not row["built"]:
        raise TablesMissing(_why_missing(row))


_STATE = """select (select count(*) from read_models) as versions, (select version from read_models where in_use) as in_use,
    exists (select from read_models where version = $1 and built_at is not null) as built, records, of_records
    from (values (1)) as one left join read_models on version = $1"""


def _why_missing(row: DbRow) -> str:
    others = "no version" if row["in_use"] is None else f"version {row['in_use']}"
    if row["records"] is None:
        found = f"there are no read models of version {READ_MODELS_VERSION}"
    else:
        share = row["records"] / max(1, row["of_records"])
        found = f"the build of read models of version {READ_MODELS_VERSION} has not ended ({share:.0%} read)"
    return (
        f"{found}, and {others} is in use: this process does nothing. `python -m oms_projection read-models build` builds them, "
        "`read-models status` shows what there is; stop this process if it is the older one"
    )


@asynccontextmanager
async def versions_locked(database: Database) -> AsyncGenerator[Connection]:
    """A transaction in which nobody else makes, switches or drops a version."""
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", MIGRATION_LOCK)
        yield connection


async def create_tables(connection: Connection, schema: str) -> None:
    """Make `schema` with the empty tables of this code's version, inside a transaction, which then finds them without naming the schema."""
    in_use = await version_in_use(connection)
    like = "public" if in_use is None else schema_of(in_use)
    await connection.execute(f"create schema {schema}; set local search_path to {schema}, public")
    await connection.execute(DEFINITIONS)
    for table in RUNTIME_TABLES:
        await connection.execute(f"create table {schema}.{table} (like {like}.{table} including all)")


async def drop_first_tables(connection: Connection) -> None:
    """Drop what the runtime's migrations have made in a new store: every version has its own, and a process of an older release none."""
    await connection.execute(f"drop table if exists {', '.join(f'public.{table}' for table in RUNTIME_TABLES)}")


class TablesInUse(Database):
    """The database as the query API reads it: each query, or all of one `acquire`, on the version that was in use when it began.

    `open_pool` opens a pool on a schema's tables. Which version is in use is asked on the connection that the query will have, so a switch
    counts from the next query on, in every process. A pool whose version is no more in use closes its idle connections by itself.
    """

    def __init__(self, open_pool: Callable[[str], Coroutine[Any, Any, Database]]) -> None:
        self._open_pool = open_pool
        self._pools: dict[str, Database] = {}
        self._schema = ""
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Connection]:
        """A connection that finds the tables in use."""
        while True:
            schema = self._schema
            async with self._opening:
                if schema not in self._pools:
                    self._pools[schema] = await self._open_pool(schema)
            async with self._pools[schema].acquire() as connection:
                version = await version_in_use(connection)
                self._schema = "" if version is None else schema_of(version)
                if self._schema == schema:
                    yield connection
                    return

    async def fetch(self, query: str, *args: Any) -> list[DbRow]:
        async with self.acquire() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> DbRow | None:
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(query, *args)

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()

    def terminate(self) -> None:
        for pool in self._pools.values():
            pool.terminate()
