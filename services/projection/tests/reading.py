"""What the tests of read models share: to write records, and to ask the query API."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx
from oms_contracts.returns import ReturnActionRequired, ReturnRequested
from oms_contracts.values import ReturnLine
from oms_projection.projector import project
from oms_projection.rebuild import columns_of, digests_of
from oms_projection.tables import READ_MODELS_VERSION
from oms_projection.versions import schema_of
from oms_runtime.database import Database
from oms_runtime.model import IncomingRecord

LATER = datetime(2026, 3, 2, tzinfo=UTC)
"""A day after the last event: everything is settled."""
SCHEMA = schema_of(READ_MODELS_VERSION)
Given = Callable[..., Sequence[IncomingRecord]]


class Servers(Protocol):
    async def create_database(self, name: str) -> str: ...


async def write(database: Database, records: Sequence[IncomingRecord]) -> None:
    async with database.acquire() as connection, connection.transaction():
        await project(connection, records)


async def digests(database: Database) -> Any:
    async with database.acquire() as connection, connection.transaction():
        columns = await columns_of(connection, SCHEMA)
        return await digests_of(connection, SCHEMA, {table: list(names) for table, names in columns.items()})


async def ask(api: httpx.AsyncClient, path: str, **params: Any) -> Any:
    response = await api.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def every(api: httpx.AsyncClient, path: str, **params: Any) -> list[Any]:
    """All items of a list, two a page."""
    items: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = await ask(api, path, limit=2, **params, **after)
        items += page["items"]
        if page["next"] is None:
            return items
        assert len(page["items"]) == 2
        after = {"after": page["next"]}


def two_returns_that_wait() -> list[Any]:
    """Of `new`: RMA-2 has its deadline, an hour ago, before RMA-1, in a day."""
    of: dict[str, Any] = {"order_id": "new"}
    waits = (("RMA-1", "investigate", timedelta(days=1)), ("RMA-2", "inspect", timedelta(hours=-1)))
    return [
        event
        for number, (name, action, left) in enumerate(waits)
        for event in (
            ReturnRequested(return_id=name, lines=(ReturnLine(line_id="1", quantity=1),), at=LATER - timedelta(hours=9 - number), **of),
            ReturnActionRequired(return_id=name, action=action, deadline=LATER + left, at=LATER, **of),
        )
    ]
