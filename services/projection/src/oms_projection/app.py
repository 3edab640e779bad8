"""Builds projection from its parts."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from oms_runtime.api_process import run_api
from oms_runtime.clock import utc_now
from oms_runtime.database import connect, open_for_queries
from oms_runtime.errors import RETRYABLE_ERRORS
from oms_runtime.model import LINGER_LONG_SECONDS, Service, service_of
from oms_runtime.server import run
from starlette.applications import Starlette

from oms_projection.api import make_api
from oms_projection.projector import PROJECTED, project
from oms_projection.settings import EdgeSettings, Settings

PROBE_TIMEOUT_SECONDS = 2
"""For what a readiness probe asks the database."""


def make_service() -> Service:
    """Projection. It owns no streams, and writes read models from the events of all services."""
    return service_of("projection", projector=project, projected=PROJECTED, linger_seconds=LINGER_LONG_SECONDS)


def main() -> None:
    """Run projection, or with the argument `api` its query API alone, until SIGTERM or SIGINT."""
    if sys.argv[1:] == ["api"]:
        run_query_api(EdgeSettings())  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    else:
        settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
        run(make_service(), settings, migrations="oms_projection")


def run_query_api(settings: EdgeSettings) -> None:
    """Run the query API until SIGTERM or SIGINT."""

    async def fault() -> str:
        try:
            connection = await connect(settings.database_url.get_secret_value(), command_timeout=PROBE_TIMEOUT_SECONDS)
            connection.terminate()
        except RETRYABLE_ERRORS as error:
            return f"the database does not answer: {type(error).__name__}"
        return ""

    run_api("projection-api", partial(query_api, settings), settings, fault)


@asynccontextmanager
async def query_api(settings: EdgeSettings) -> AsyncGenerator[Starlette]:
    """The query API on connections of its own, whose statements only read, and end in time."""
    timeout_ms = int(settings.http_request_timeout_seconds * 1_000)
    database = await open_for_queries(settings.database_url.get_secret_value(), statement_timeout_ms=timeout_ms)
    try:
        yield make_api(database, utc_now)
    finally:
        database.terminate()
