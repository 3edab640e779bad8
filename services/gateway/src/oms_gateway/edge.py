"""The gateway's application: everything that is served on its port, under the limits that hold for all of it."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from oms_client.queries import QueryClient
from oms_runtime.limits import BODY_TIMEOUT_SECONDS, BodyLimit
from oms_runtime.problems import problem

from oms_gateway import orders, webhooks
from oms_gateway.channels import Channels
from oms_gateway.identify import Identify, NotIdentified
from oms_gateway.shops import MAX_WEBHOOK_BYTES, Shop


def make_edge(
    channels: Channels,
    query: QueryClient,
    identify: Identify,
    clock: Callable[[], datetime],
    *,
    shops: Mapping[str, Shop],
    body_timeout_seconds: float = BODY_TIMEOUT_SECONDS,
) -> FastAPI:
    """The application. `query` answers reads, `identify` says who sent a request; `shops` are those that send webhooks, by channel."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        await channels.start()
        yield
        await channels.stop()

    edge = FastAPI(
        title="Orderstream",
        version="1",
        summary="The door for people and programs outside.",
        lifespan=lifespan,
        exception_handlers={NotIdentified: _not_identified},
    )
    edge.add_middleware(BodyLimit, max_bytes=max(orders.MAX_BYTES, MAX_WEBHOOK_BYTES), timeout_seconds=body_timeout_seconds)
    edge.include_router(webhooks.make_router(channels, shops, clock))
    edge.include_router(orders.make_router(channels, query, identify, clock), prefix="/api/v1")
    return edge


async def _not_identified(_request: Request, _error: Exception) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"}
    return problem(401, "the request has no valid credential", "Authorization: must be Bearer and a key", headers=headers)
