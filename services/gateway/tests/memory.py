"""The gateway's application with the webhooks' topic in memory."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import httpx
from fastapi import FastAPI
from oms_contracts.channel import WebhookReceived
from oms_gateway.channels import Channels
from oms_gateway.edge import make_edge
from oms_gateway.shops import Shop

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class InMemoryChannels:
    """Keeps what is published, or raises `error`."""

    def __init__(self) -> None:
        self.published: list[WebhookReceived] = []
        self.error: Exception | None = None

    async def publish(self, message: WebhookReceived, now: datetime) -> None:
        if self.error is not None:
            raise self.error
        assert now == NOON
        self.published.append(message)


def edge(channels: Channels, *, shops: Mapping[str, Shop] = MappingProxyType({}), body_timeout_seconds: float = 10) -> FastAPI:
    """The application; there are no shops unless a test says so, and no API."""
    return make_edge(FastAPI(), channels, lambda: NOON, shops=shops, body_timeout_seconds=body_timeout_seconds)


def client_of(app: Any) -> httpx.AsyncClient:
    """A client of an application."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway")
