"""The gateway's application: the API, and shops' webhooks beside it. Each has a limit of its own for bodies, which are read once."""

from collections.abc import Callable, Mapping
from datetime import datetime

from fastapi import FastAPI
from oms_runtime.limits import BODY_TIMEOUT_SECONDS, BodyLimit
from starlette.routing import Route
from starlette.types import ASGIApp

from oms_gateway import webhooks
from oms_gateway.channels import Channels
from oms_gateway.shops import MAX_WEBHOOK_BYTES, Shop


def make_edge(
    api: ASGIApp,
    channels: Channels,
    clock: Callable[[], datetime],
    *,
    shops: Mapping[str, Shop],
    body_timeout_seconds: float = BODY_TIMEOUT_SECONDS,
) -> FastAPI:
    """The application: `api`, and the webhooks of `shops`, by channel, which `channels` publishes."""
    hooks = FastAPI(title="Orderstream's webhooks", version="1", openapi_url="/webhooks/openapi.json", docs_url=None, redoc_url=None)
    hooks.add_middleware(BodyLimit, max_bytes=MAX_WEBHOOK_BYTES, timeout_seconds=body_timeout_seconds)
    hooks.include_router(webhooks.make_router(channels, shops, clock))
    edge = FastAPI(title="Orderstream", openapi_url=None, docs_url=None, redoc_url=None)
    edge.router.routes.append(Route("/webhooks/{rest:path}", hooks))
    edge.mount("/", api)
    return edge
