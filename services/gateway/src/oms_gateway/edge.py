"""The gateway's application: the API, and shops' webhooks beside it. Each has a limit of its own for bodies, which are read once."""

from collections.abc import Callable, Mapping
from datetime import datetime

from fastapi import FastAPI
from oms_runtime.limits import BODY_TIMEOUT_SECONDS, BodyLimit
from starlette.types import ASGIApp, Receive, Scope, Send

from oms_gateway import webhooks
from oms_gateway.channels import Channels
from oms_gateway.shops import MAX_WEBHOOK_BYTES, Shop


def make_edge(
    api: FastAPI,
    channels: Channels,
    clock: Callable[[], datetime],
    *,
    shops: Mapping[str, Shop],
    body_timeout_seconds: float = BODY_TIMEOUT_SECONDS,
) -> FastAPI:
    """The application: `api`, which is given the webhooks of `shops`, by channel; `channels` publishes them."""
    hooks = FastAPI(title="Orderstream's webhooks", version="1", openapi_url="/webhooks/openapi.json", docs_url=None, redoc_url=None)
    hooks.add_middleware(BodyLimit, max_bytes=MAX_WEBHOOK_BYTES, timeout_seconds=body_timeout_seconds)
    hooks.include_router(webhooks.make_router(channels, shops, clock))
    api.add_middleware(_Beside, hooks=hooks)
    return api


class _Beside:
    """Middleware that gives requests of webhooks to an app of theirs, before anything that is meant for the API alone."""

    def __init__(self, app: ASGIApp, *, hooks: ASGIApp) -> None:
        self._app = app
        self._hooks = hooks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        of_shop = scope["type"] == "http" and scope["path"].startswith("/webhooks/")
        await (self._hooks if of_shop else self._app)(scope, receive, send)
