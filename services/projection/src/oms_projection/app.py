"""Builds projection from its parts."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from oms_runtime.clock import utc_now
from oms_runtime.database import open_for_queries
from oms_runtime.model import LINGER_LONG_SECONDS, Service, service_of
from oms_runtime.server import run
from starlette.applications import Starlette

from oms_projection.api import make_api
from oms_projection.projector import PROJECTED, project
from oms_projection.settings import Settings


def make_service() -> Service:
    """Projection. It owns no streams, and writes read models from the events of all services."""
    return service_of("projection", projector=project, projected=PROJECTED, linger_seconds=LINGER_LONG_SECONDS)


def main() -> None:
    """Run projection until SIGTERM or SIGINT."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(), settings, migrations="oms_projection", api=lambda _runtime: query_api(settings))


@asynccontextmanager
async def query_api(settings: Settings) -> AsyncGenerator[Starlette]:
    """The query API on connections of its own, so that no query takes one from the projector, writes, or runs without end."""
    timeout_ms = int(settings.http_request_timeout_seconds * 1_000)
    database = await open_for_queries(settings.database_url.get_secret_value(), statement_timeout_ms=timeout_ms)
    try:
        yield make_api(database, utc_now)
    finally:
        database.terminate()
