"""Connections to one service's database, and its migrations: numbered SQL files, each applied once, in order, in one transaction."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Protocol

import asyncpg

_asyncpg: Any = asyncpg
"""It is untyped in part; what we use of it is typed below."""

DbRow = Mapping[str, Any]
"""A row by column name; its `values()` are in the order of the columns."""


class Connection(Protocol):
    """What the services use of an asyncpg connection, typed."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str: ...  # noqa: ASYNC109  # as asyncpg has it
    async def executemany(self, command: str, args: Iterable[Any]) -> None: ...
    async def fetch(self, query: str, *args: Any) -> list[DbRow]: ...
    async def fetchrow(self, query: str, *args: Any) -> DbRow | None: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    async def copy_records_to_table(self, table_name: str, *, records: Iterable[Sequence[Any]], columns: Sequence[str]) -> str: ...
    def cursor(self, query: str, *args: Any) -> AsyncIterator[DbRow]: ...
    def transaction(self, *, isolation: str | None = None, readonly: bool = False) -> AbstractAsyncContextManager[Any]: ...
    async def close(self) -> None: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...


class Database(Protocol):
    """What the services use of an asyncpg pool, typed."""

    def acquire(self) -> AbstractAsyncContextManager[Connection]: ...
    async def fetch(self, query: str, *args: Any) -> list[DbRow]: ...
    async def fetchrow(self, query: str, *args: Any) -> DbRow | None: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...


KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""A connection whose other end vanished is noticed within half a minute, and with it the locks it held."""

MIGRATION_LOCK, STORE_LOCK, LEADER_LOCK, BUILD_LOCK = 7_001, 7_002, 7_003, 7_004

COMMAND_TIMEOUT_SECONDS = 60
"""For a statement of a pool; it is cancelled then."""
MIGRATION_TIMEOUT_SECONDS = 7 * 24 * 3_600
"""For a statement of a migration: one that rewrites a large table must not be cancelled, and begun again for ever."""


async def open_database(url: str, *, schema: str = "", max_connections: int = 6, idle_timeout_ms: int = 10_000) -> Database:
    """A pool on one service's own database. It holds at most `max_connections`, which also find the tables of `schema`.

    The server ends a transaction that is idle for `idle_timeout_ms`: a paused process must not hold the store's lock for ever.
    """
    return await _asyncpg.create_pool(
        url,
        min_size=1,
        max_size=max_connections,
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        timeout=10,
        server_settings={"idle_in_transaction_session_timeout": str(idle_timeout_ms)} | KEEPALIVE | _search_path(schema),
        reset=_no_reset,
    )


async def open_for_queries(url: str, *, statement_timeout_ms: int, schema: str = "", max_connections: int = 6) -> Database:
    """A pool whose connections only read, and whose statements end after `statement_timeout_ms`. It connects when first used.

    They also find the tables of `schema`.
    """
    settings = {"default_transaction_read_only": "on", "statement_timeout": str(statement_timeout_ms)} | KEEPALIVE | _search_path(schema)
    return await _asyncpg.create_pool(
        url, min_size=0, max_size=max_connections, command_timeout=60, timeout=10, server_settings=settings, reset=_no_reset
    )


async def _no_reset(_connection: Connection) -> None:
    """Do not reset a session between transactions: ours leave nothing in it. An open transaction is rolled back nevertheless."""


@asynccontextmanager
async def writing(database: Database) -> AsyncGenerator[Connection]:
    """A transaction that holds the store's lock from its first statement, which reads nothing yet, until its end."""
    async with database.acquire() as connection:
        try:
            await connection.execute(f"begin; select pg_advisory_xact_lock({STORE_LOCK})")
            yield connection
        except BaseException:  # a cancelled transaction must release the lock too; it is raised on
            if not connection.is_closed():
                await connection.execute("rollback")
            raise
        await connection.execute("commit")


@asynccontextmanager
async def savepoint(connection: Connection) -> AsyncGenerator[None]:
    """A part of a transaction that may fail alone."""
    await connection.execute("savepoint part")
    try:
        yield
    except BaseException:  # nothing of the part may stay, whatever ended it; it is raised on
        if not connection.is_closed():
            await connection.execute("rollback to savepoint part")
        raise
    await connection.execute("release savepoint part")


async def connect(
    url: str, *, schema: str = "", idle_timeout_ms: int = 0, statement_timeout_ms: int = 0, command_timeout: float | None = 30
) -> Connection:
    """One connection outside the pool: for a lock that is held as long as its session, or for what must not take the pool's connections.

    With `idle_timeout_ms` the server ends the session, and releases its locks, once it has been idle for as long, in a transaction or
    between two; with `statement_timeout_ms` it ends a statement that takes longer. `command_timeout` are seconds, None for no limit. It
    also finds the tables of `schema`.
    """
    idle = dict.fromkeys(("idle_session_timeout", "idle_in_transaction_session_timeout"), str(idle_timeout_ms))
    settings = idle | {"statement_timeout": str(statement_timeout_ms)} | KEEPALIVE | _search_path(schema)
    return await _asyncpg.connect(url, timeout=10, command_timeout=command_timeout, server_settings=settings)


def _search_path(schema: str) -> dict[str, str]:
    """`public` comes first: what all versions share is never hidden by a table of the same name, and migrations make their tables there."""
    return {"search_path": f"public, {schema}"} if schema else {}


def migrations_of(package: str) -> list[tuple[str, str]]:
    """Name and text of a package's migrations (`migrations/NNNN_name.sql`), in order."""
    folder: Traversable = files(package) / "migrations"
    if not folder.is_dir():
        return []
    found = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [(f"{package}/{f.name}", f.read_text()) for f in found]


async def migrate(database: Database, *packages: str, event_store: bool = True) -> list[str]:
    """Bring the schema up to date with the runtime's migrations, then those of `packages`; returns the names applied now.

    The runtime's are those of the event store: without `event_store` they are left out, for a database that has none.
    """
    applied: list[str] = []
    runtime = ("oms_runtime",) if event_store else ()
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", MIGRATION_LOCK, timeout=MIGRATION_TIMEOUT_SECONDS)
        await connection.execute(
            "create table if not exists migrations (name text primary key, applied_at timestamptz not null default now())"
        )
        known = {row["name"] for row in await connection.fetch("select name from migrations")}
        for name, text in [m for package in (*runtime, *packages) for m in migrations_of(package)]:
            if name not in known:
                await connection.execute(text, timeout=MIGRATION_TIMEOUT_SECONDS)
                await connection.execute("insert into migrations (name) values ($1)", name)
                applied.append(name)
    return applied
