"""Builds the gateway from its parts."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from secrets import token_bytes
from time import monotonic
from uuid import uuid4

import httpx
from fastapi import FastAPI
from oms_client.publisher import Sender
from oms_client.queries import http_client
from oms_kafka.clients import broker_is_reachable
from oms_runtime.api_process import run_api
from oms_runtime.clock import utc_now
from oms_runtime.database import Database, connect
from oms_runtime.errors import RETRYABLE_ERRORS

from oms_gateway import operate, store
from oms_gateway.api import Parts, make_api
from oms_gateway.authenticate import Authenticator
from oms_gateway.channels import KafkaChannels
from oms_gateway.edge import make_edge
from oms_gateway.keys import Keys
from oms_gateway.limits import Admission, RateLimit
from oms_gateway.oidc import OidcProvider
from oms_gateway.passwords import Passwords
from oms_gateway.query_api import QueryApi
from oms_gateway.retention import Retention
from oms_gateway.settings import Settings
from oms_gateway.sign_in_api import SignInParts, make_sign_in_router
from oms_gateway.signin import Cookies, SignIn
from oms_gateway.status import StatusFeed

PROBE_TIMEOUT_SECONDS = 2
"""For what a readiness probe asks the database."""
PROVIDER_TIMEOUT_SECONDS = 10


def main() -> None:
    """Run the gateway until SIGTERM or SIGINT; with arguments do what an operator asks instead, and exit."""
    if sys.argv[1:]:
        operate.main(sys.argv[1:])
        return
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run_api("gateway", partial(gateway, settings), settings, partial(fault, settings), parts=["webhooks"])


@asynccontextmanager
async def gateway(settings: Settings) -> AsyncGenerator[FastAPI]:
    """The gateway on its own database, whose tables are brought up to date first."""
    async with AsyncExitStack() as running:
        database = await store.open_store(settings.database_url.get_secret_value())
        running.callback(database.terminate)
        sender = Sender(settings, "oms-gateway")
        await sender.start()
        running.push_async_callback(sender.stop)
        query = await running.enter_async_context(http_client(settings.query_url, settings.query_token.get_secret_value()))
        sign_in = await running.enter_async_context(_sign_in(settings, database))
        statuses = StatusFeed(settings)
        for work in (statuses.run(), Retention(database, settings, utc_now).run()):
            running.push_async_callback(_end, asyncio.create_task(work))
        api = make_api(
            Parts(
                admission=sign_in.admission,
                publisher=sender,
                query=QueryApi(query),
                database=database,
                statuses=statuses,
                clock=utc_now,
                new_id=lambda: str(uuid4()),
            )
        )
        api.include_router(make_sign_in_router(sign_in))
        yield make_edge(api, KafkaChannels(sender), utc_now, shops=settings.shops)


def _limit(settings: Settings) -> RateLimit:
    return RateLimit(settings.requests_per_second, settings.requests_at_once, monotonic)


@asynccontextmanager
async def _sign_in(settings: Settings, database: Database) -> AsyncGenerator[SignInParts]:
    passwords = Passwords(at_once=settings.password_hashes_at_once, waiting=settings.password_hashes_waiting)
    keys = Keys(database, cached=settings.key_cache, clock=utc_now, elapsed=monotonic, random=token_bytes)
    cookies = Cookies(secure=settings.session_cookie_secure)
    sign_in = SignIn(database, passwords, settings, utc_now, token_bytes)
    authenticator = Authenticator(keys, sign_in, cookies, settings.gateway_key)
    async with httpx.AsyncClient(timeout=PROVIDER_TIMEOUT_SECONDS) as http:
        try:
            yield SignInParts(
                database=database,
                passwords=passwords,
                sign_in=sign_in,
                keys=keys,
                cookies=cookies,
                authenticator=authenticator,
                admission=Admission(identify=authenticator.identify, addresses=_limit(settings), identities=_limit(settings)),
                provider=OidcProvider(settings, http, utc_now, token_bytes) if settings.oidc_issuer is not None else None,
                key_rotation_grace=settings.key_rotation_grace,
                session_lifetime=settings.session_lifetime,
                clock=utc_now,
            )
        finally:
            passwords.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


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
