"""Builds the gateway from its parts."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI
from oms_client.queries import QueryClient
from oms_kafka.clients import broker_is_reachable
from oms_runtime.api_process import run_api
from oms_runtime.clock import utc_now
from oms_runtime.database import apply_migrations, connect, open_database
from oms_runtime.errors import RETRYABLE_ERRORS

from oms_gateway.channels import KafkaChannels
from oms_gateway.edge import make_edge
from oms_gateway.identify import by_key
from oms_gateway.settings import Settings

log = structlog.get_logger(__name__)

PROBE_TIMEOUT_SECONDS = 2
"""For what a readiness probe asks the database."""


def main() -> None:
    """Run the gateway until SIGTERM or SIGINT."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run_api("gateway", partial(gateway, settings), settings, partial(fault, settings), parts=["webhooks"])


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncGenerator[FastAPI]:
    """The gateway on its own database, whose schema is brought up to date first."""
    database = await open_database(settings.database_url.get_secret_value())
    try:
        if applied := await apply_migrations(database, "oms_gateway"):
            log.info("migrated", applied=applied)
        async with QueryClient(settings.query_url, token=settings.query_token.get_secret_value()) as query:
            yield make_edge(KafkaChannels(settings), query, by_key(settings.gateway_key), utc_now, shops=settings.shops)
    finally:
        database.terminate()


async def fault(settings: Settings) -> str:
    """Why the gateway cannot do its work now, empty when it can. Without the query API it still takes orders and commands."""
    if not await broker_is_reachable(settings):
        return "the broker cannot be reached: OMS_KAFKA_BOOTSTRAP_SERVERS names it"
    try:
        connection = await connect(settings.database_url.get_secret_value(), command_timeout=PROBE_TIMEOUT_SECONDS)
        try:
            await connection.execute("select 1")
        finally:
            connection.terminate()
    except RETRYABLE_ERRORS as error:
        return f"the database does not answer: {type(error).__name__}"
    return ""
