"""A session with a database server, for the few statements that setting it up takes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import asyncpg

PATIENCE_SECONDS = 30.0
T = TypeVar("T")
_connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # asyncpg is untyped in part


class Session(Protocol):
    """What we use of a connection."""

    async def execute(self, query: str, *arguments: object) -> str: ...
    async def fetchval(self, query: str, *arguments: object) -> Any: ...


@asynccontextmanager
async def session(url: str, patience: float = PATIENCE_SECONDS) -> AsyncGenerator[Session]:
    """Open a session and close it again; `patience` is in seconds."""
    connection = await _connect(url, timeout=patience)
    try:
        yield connection
    finally:
        await connection.close()


def database_is_ready(url: str) -> bool:
    """Whether a session can be opened."""

    async def opens() -> bool:
        try:
            async with session(url, patience=5):
                return True
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False

    return run_to_end(opens)


def run_to_end(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, also where the caller is inside an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()
