"""Orders and shops' webhooks over HTTP: validated, published, and accepted once Kafka has acknowledged them.

This edge decides nothing: it publishes orders on the topic of all channels, so an order is the same whichever way it comes in, and webhooks
byte for byte on theirs.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol
from urllib.parse import quote

from aiokafka.errors import KafkaError
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from oms_client.publisher import Sender
from oms_contracts.catalogue import EXTERNAL_MAX_VALUE_BYTES, topic_of
from oms_contracts.channel import OrderPlaced, WebhookReceived
from oms_contracts.message import UnreadableMessage, encode, key_of, type_of, validate, versions_of
from oms_contracts.schemas import schema_of
from oms_contracts.superseded import type_of_placed
from oms_kafka.settings import KafkaSettings
from oms_runtime.limits import BODY_TIMEOUT_SECONDS, BodyLimit
from oms_runtime.problems import PROBLEM_JSON, PROBLEM_SCHEMA, problem

from oms_capture.shops import MAX_WEBHOOK_BYTES, Refused, Shop, is_ping, received_of

PLACED = type_of(OrderPlaced)
TOPIC = topic_of(OrderPlaced)
MAX_BYTES = EXTERNAL_MAX_VALUE_BYTES


class Orders(Protocol):
    """A publisher on the channels' topics. It is started and stopped with the API."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def publish(self, message: OrderPlaced | WebhookReceived, now: datetime) -> str:
        """Publish an order or a webhook, wait until it is acknowledged, and return its key. Raises KafkaError or TimeoutError."""
        ...


class KafkaOrders:
    """Publishes on Kafka. The same order, or webhook, has the same event id, so it may be sent twice."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._sender = Sender(settings, "oms-capture-edge")

    async def start(self) -> None:
        await self._sender.start()

    async def stop(self) -> None:
        await self._sender.stop()

    async def publish(self, message: OrderPlaced | WebhookReceived, now: datetime) -> str:
        key = key_of(message)
        await self._sender.send(message, f"/oms/channel/{quote(message.channel, safe='')}", _event_id(message), now)
        return key


def _event_id(message: OrderPlaced | WebhookReceived) -> str:
    if isinstance(message, OrderPlaced):
        return key_of(message)
    return sha256(f"{message.channel}\0{message.webhook_id}".encode()).hexdigest()


def make_api(
    orders: Orders,
    query_url: str,
    clock: Callable[[], datetime],
    *,
    shops: Mapping[str, Shop] | None = None,
    body_timeout_seconds: float = BODY_TIMEOUT_SECONDS,
) -> FastAPI:
    """The HTTP edge. `query_url` is where an order can be looked up; `shops` are those that send webhooks, by channel."""
    shops = shops or {}

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        await orders.start()
        yield
        await orders.stop()

    api = FastAPI(
        title="Orderstream capture",
        version="1",
        summary="Takes orders from channels, and webhooks from shops.",
        lifespan=lifespan,
    )
    api.add_middleware(BodyLimit, max_bytes=max(MAX_BYTES, MAX_WEBHOOK_BYTES), timeout_seconds=body_timeout_seconds)

    @api.post(
        "/orders",
        status_code=202,
        response_class=JSONResponse,
        summary="Place an order",
        responses={
            202: _response("Accepted for processing. The same order again is the same order.", "application/json", _ACCEPTED) | _LOCATION,
            408: _response("The body did not arrive in time", PROBLEM_JSON, PROBLEM_SCHEMA),
            413: _response(f"Larger than {MAX_BYTES} bytes", PROBLEM_JSON, PROBLEM_SCHEMA),
            422: _response("Not an order; the fields at fault are named, up to 100", PROBLEM_JSON, PROBLEM_SCHEMA),
            503: _response(
                "The broker cannot be reached, or there are too many requests: send the order again", PROBLEM_JSON, PROBLEM_SCHEMA
            ),
        },
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _schema()}}}},
    )
    async def place(request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]  # its route uses it
        body = await request.body()
        if len(body) > MAX_BYTES:
            return problem(413, "the body is too large", f"body: at most {MAX_BYTES} bytes")
        kind = type_of_placed(body)
        try:
            placed: OrderPlaced = validate(kind, body)
        except UnreadableMessage as error:
            return problem(422, "this is not an order", *str(error).removeprefix(f"{kind}: ").split("; "))
        if len(encode(placed)) > MAX_BYTES:  # the published form has the defaults that the request left out
            return problem(413, "the order is too large", f"body: an order has at most {MAX_BYTES} bytes")
        try:
            order_id = await orders.publish(placed, clock())
        except (KafkaError, TimeoutError):
            return problem(503, "the broker is out of reach", "it is not known whether the order was taken: send it again, it counts once")
        status_url = f"{query_url}/orders/{order_id}"
        return JSONResponse({"order_id": order_id, "status_url": status_url}, status_code=202, headers={"Location": status_url})

    @api.post(
        "/webhooks/{channel}",
        status_code=200,
        response_class=JSONResponse,
        summary="Deliver a webhook of a shop: Shopify's orders/…, WooCommerce's order.…",
        responses={
            200: _response("Taken. The same delivery again counts once.", "application/json", {"type": "object"}),
            401: _response("Not signed with a secret of the shop", PROBLEM_JSON, PROBLEM_SCHEMA),
            404: _response("No shop sends webhooks to this channel", PROBLEM_JSON, PROBLEM_SCHEMA),
            408: _response("The body did not arrive in time", PROBLEM_JSON, PROBLEM_SCHEMA),
            413: _response(f"Larger than {MAX_WEBHOOK_BYTES} bytes", PROBLEM_JSON, PROBLEM_SCHEMA),
            422: _response("The headers are at fault: shop, topic, id or time", PROBLEM_JSON, PROBLEM_SCHEMA),
            503: _response("The broker cannot be reached: deliver it again", PROBLEM_JSON, PROBLEM_SCHEMA),
        },
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}},
    )
    async def take_webhook(channel: str, request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]  # its route uses it
        shop, body = shops.get(channel), await request.body()
        if shop is None:
            return problem(404, "no shop sends webhooks to this channel", "channel: OMS_SHOPS of capture-api names the shops")
        if len(body) > MAX_WEBHOOK_BYTES:
            return problem(413, "the body is too large", f"body: at most {MAX_WEBHOOK_BYTES} bytes")
        if is_ping(shop, body):
            return JSONResponse({})
        received = received_of(channel, shop, body, request.headers, clock())
        if isinstance(received, Refused):
            return problem(received.status, received.title, *received.reasons)
        try:
            await orders.publish(received, clock())
        except (KafkaError, TimeoutError):
            return problem(503, "the broker is out of reach", "deliver the webhook again, it counts once")
        return JSONResponse({})

    return api


def _schema() -> dict[str, Any]:
    """The schema of an order in any version. It is self-contained: nothing in it refers to another part of the document."""
    newest_first = reversed(versions_of(OrderPlaced))
    schemas = [{name: part for name, part in schema_of(kind).items() if name not in {"$schema", "$id"}} for kind in newest_first]
    return {"anyOf": schemas}


def _response(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


_ACCEPTED = _object(order_id={"type": "string", "format": "uuid"}, status_url={"type": "string", "format": "uri"})
_LOCATION = {"headers": {"Location": {"description": "Where the order can be looked up", "schema": {"type": "string", "format": "uri"}}}}
