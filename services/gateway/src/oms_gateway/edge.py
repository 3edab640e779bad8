"""The gateway's application: the API, and shops' webhooks beside it, under the limits that hold for all of it."""

from collections.abc import Callable, Mapping
from datetime import datetime

from fastapi import FastAPI
from oms_contracts.catalogue import EXTERNAL_MAX_BYTES
from oms_runtime.limits import BODY_TIMEOUT_SECONDS, BodyLimit
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
    edge = FastAPI(title="Orderstream", version="1", openapi_url="/webhooks/openapi.json", docs_url=None, redoc_url=None)
    edge.add_middleware(BodyLimit, max_bytes=max(EXTERNAL_MAX_BYTES, MAX_WEBHOOK_BYTES), timeout_seconds=body_timeout_seconds)
    edge.include_router(webhooks.make_router(channels, shops, clock))
    edge.mount("/", api)
    return edge
