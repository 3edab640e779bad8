"""The gateway's application with the channels' topics and the query API in memory."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import httpx
from fastapi import FastAPI
from oms_client.publisher import NOBODY, Asker
from oms_client.queries import QueryClient
from oms_contracts.channel import OrderPlaced, WebhookReceived
from oms_contracts.message import key_of
from oms_gateway.channels import Channels
from oms_gateway.edge import make_edge
from oms_gateway.identify import Identify, by_key
from oms_gateway.shops import Shop

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class InMemoryChannels:
    """Keeps what is published, or raises `error`."""

    def __init__(self) -> None:
        self.published: list[Any] = []
        self.at: list[datetime] = []
        self.askers: list[Asker] = []
        self.error: Exception | None = None
        self.open = False

    async def start(self) -> None:
        self.open = True

    async def stop(self) -> None:
        self.open = False

    async def publish(self, message: OrderPlaced | WebhookReceived, now: datetime, asker: Asker = NOBODY) -> str:
        if self.error is not None:
            raise self.error
        self.published.append(message)
        self.at.append(now)
        self.askers.append(asker)
        return key_of(message)


def edge(
    channels: Channels,
    *,
    identify: Identify = by_key(None),  # noqa: B008  # it holds nothing
    query: QueryClient | None = None,
    shops: Mapping[str, Shop] = MappingProxyType({}),
    body_timeout_seconds: float = 10,
) -> FastAPI:
    """The application; nobody is known, and there are no shops, unless a test says so."""
    query = query or query_that(lambda _: httpx.Response(503))
    return make_edge(channels, query, identify, lambda: NOON, shops=shops, body_timeout_seconds=body_timeout_seconds)


def query_that(responds: Callable[[httpx.Request], httpx.Response]) -> QueryClient:
    """A query API that responds so."""
    return QueryClient("http://query", token="t", transport=httpx.MockTransport(responds))


def client_of(app: Any) -> httpx.AsyncClient:
    """A client of an application."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway")
