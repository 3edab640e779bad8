"""Builds projection from its parts."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
from oms_runtime.api_process import run_api
from oms_runtime.bearer import BearerOnly
from oms_runtime.clock import utc_now
from oms_runtime.database import Database, connect, open_for_queries
from oms_runtime.errors import RETRYABLE_ERRORS
from oms_runtime.logs import configure_logs
from oms_runtime.loop import run_loop
from oms_runtime.model import LINGER_LONG_SECONDS, Service, service_of
from oms_runtime.server import run
from starlette.applications import Starlette

from oms_projection.api import make_api
from oms_projection.projector import PROJECTED, project
from oms_projection.read_models import operate, parse
from oms_projection.settings import EdgeSettings, Settings
from oms_projection.tables import READ_MODELS_VERSION
from oms_projection.versions import TablesInUse, group_of, open_version, schema_of, version_in_use

PAGES = frozenset({"/docs", "/openapi.json"})
"""What describes the API needs no credential: it says nothing of the installation."""
PROBE_TIMEOUT_SECONDS = 2
"""For what a readiness probe asks the database."""


def make_service() -> Service:
    """Projection. It owns no streams, and writes its version of the read models from the events of all services."""
    return service_of(
        "projection",
        projector=project,
        projected=PROJECTED,
        linger_seconds=LINGER_LONG_SECONDS,
        schema=schema_of(READ_MODELS_VERSION),
        group=group_of(READ_MODELS_VERSION),
        open_tables=open_version,
    )


def main() -> None:
    """Run projection, or with the argument `api` its query API alone, until SIGTERM or SIGINT.

    With `read-models …` do what an operator asks of the read models instead, and exit.
    """
    if sys.argv[1:] == ["api"]:
        run_query_api(EdgeSettings())  # pyright: ignore[reportCallIssue]  # its fields come from the environment
        return
    asked = parse(sys.argv[1:])
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    if asked is None:
        run(make_service(), settings, migrations="oms_projection")
    else:
        configure_logs("projection", "WARNING")
        sys.exit(run_loop(operate(make_service(), settings, asked)))


def run_query_api(settings: EdgeSettings) -> None:
    """Run the query API until SIGTERM or SIGINT."""

    async def fault() -> str:
        try:
            connection = await connect(settings.database_url.get_secret_value(), command_timeout=PROBE_TIMEOUT_SECONDS)
            try:
                in_use = await version_in_use(connection)
            finally:
                connection.terminate()
        except asyncpg.UndefinedTableError:
            in_use = None
        except RETRYABLE_ERRORS as error:
            return f"the database does not answer: {type(error).__name__}"
        return "" if in_use is not None else "no read models are in use yet: `python -m oms_projection` makes them in a new store"

    run_api("projection-api", partial(query_api, settings), settings, fault)


@asynccontextmanager
async def query_api(settings: EdgeSettings) -> AsyncGenerator[Starlette]:
    """The query API on connections of its own, whose statements only read, and end in time. It reads the version in use."""
    url, timeout_ms = settings.database_url.get_secret_value(), int(settings.http_request_timeout_seconds * 1_000)

    async def open_pool(schema: str) -> Database:
        return await open_for_queries(url, schema=schema, statement_timeout_ms=timeout_ms)

    database = TablesInUse(open_pool)
    try:
        api = make_api(database, utc_now, settings.sealer())
        api.add_middleware(
            BearerOnly, token=settings.query_token, hint="the installation's query token, OMS_QUERY_TOKEN", open_to_all=PAGES
        )
        yield api
    finally:
        database.terminate()
