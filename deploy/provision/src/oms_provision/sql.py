"""A session with a database server, for the few statements that setting it up takes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import asyncpg

from oms_provision.errors import UsageError

CONNECT_TIMEOUT_SECONDS = 30.0
READY_TIMEOUT_SECONDS = 5.0
T = TypeVar("T")
_connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # asyncpg is untyped in part


class Session(Protocol):
    """What is used of a connection."""

    async def execute(self, query: str, *arguments: object) -> str: ...
    async def fetchval(self, query: str, *arguments: object) -> Any: ...


@asynccontextmanager
async def session(url: str, timeout_seconds: float = CONNECT_TIMEOUT_SECONDS) -> AsyncGenerator[Session]:
    """Open a session, and close it at the end of the block.

    Raises OSError, TimeoutError or asyncpg's errors if it cannot be opened, and UsageError if the URL names files that cannot be used.
    """
    try:
        connection = await _connect(url, timeout=timeout_seconds)
    except (FileNotFoundError, PermissionError, asyncpg.ClientConfigurationError) as error:
        # The server was not asked yet: this is about the URL, or about the files for TLS that it names.
        raise UsageError(f"the database's URL cannot be used: {error}. Check sslmode, sslrootcert, sslcert and sslkey.") from error
    try:
        yield connection
    finally:
        await connection.close()


def database_is_ready(url: str) -> bool:
    """Whether a session can be opened."""

    async def can_connect() -> bool:
        try:
            async with session(url, READY_TIMEOUT_SECONDS):
                return True
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False

    return run_to_end(can_connect)


def run_to_end(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, in a thread of its own: the caller may be inside an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()
