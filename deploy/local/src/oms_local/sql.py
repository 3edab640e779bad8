"""A session with a database server, for the few statements that setting it up takes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import asyncpg

PATIENCE_SECONDS = 30.0
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
