"""Orders over HTTP: validated, handed to Kafka, and answered with 202 once Kafka has acknowledged them.

The edge decides nothing: it publishes on the channels' own topic, so an order is the same however it comes in.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from oms_contracts.catalogue import STRANGERS_BYTES, topic_of
from oms_contracts.channel import OrderPlaced
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import UnreadableMessage, encode, key_of, type_of, validate
from oms_contracts.schemas import schema_of
from oms_runtime.kafka import Producer, space_metadata_requests

PLACED = type_of(OrderPlaced)
TOPIC = topic_of(OrderPlaced)
MOST_BYTES = STRANGERS_BYTES - 16 * 1024
"""What the topic takes, less room for headers."""


class Orders(Protocol):
    """The way to the channels' topic. Started with the API, stopped with it."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def publish(self, placed: OrderPlaced, now: datetime) -> str:
        """Publish an order and wait until it is kept; answers with the order's id. Raises KafkaError or TimeoutError."""
        ...


class KafkaOrders:
    """Orders on a Kafka topic. The client's own partitioner gives each the partition that every channel's gives it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    async def start(self) -> None:
        # Not idempotent: the same order twice is one order anyway, and a producer that lost its sequence would refuse all that follow.
        producer: Any = AIOKafkaProducer(
            **self._options, client_id="oms-capture-edge", acks="all", compression_type="snappy", linger_ms=5, request_timeout_ms=10_000
        )
        space_metadata_requests(producer)
        self._producer: Producer = producer
        await self._producer.start()

    async def stop(self) -> None:
        await self._producer.stop()

    async def publish(self, placed: OrderPlaced, now: datetime) -> str:
        order_id = key_of(placed)
        source = f"/oms/channel/{quote(placed.channel, safe='')}"
        envelope = Envelope(type=PLACED.name, source=source, id=order_id, time=now, subject=order_id, correlationid=order_id)
        await self._producer.send_and_wait(TOPIC, key=order_id.encode(), value=encode(placed), headers=to_headers(envelope))
        return order_id


def make_api(orders: Orders, query_url: str, clock: Callable[[], datetime]) -> FastAPI:
    """The HTTP edge. `query_url` is where an order can be looked up."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        await orders.start()
        yield
        await orders.stop()

    api = FastAPI(
        title="Orderstream capture",
        version="1",
        summary="Takes orders from channels.",
        lifespan=lifespan,
    )

    @api.post(
        "/orders",
        status_code=202,
        response_class=JSONResponse,
        summary="Place an order",
        responses={
            202: _described("Taken: the order's life begins. The same order again is the same order.", "application/json", _TAKEN)
            | _LOCATION,
            413: _described(f"Larger than {MOST_BYTES} bytes", _PROBLEM_JSON, _PROBLEM),
            422: _described("Not an order; every field at fault is named", _PROBLEM_JSON, _PROBLEM),
            503: _described("The broker is out of reach: send it again", _PROBLEM_JSON, _PROBLEM),
        },
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _schema()}}}},
    )
    async def place(request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]  # its route uses it
        body = await _body(request)
        if body is None:
            return _too_large()
        try:
            placed: OrderPlaced = validate(PLACED.name, body)
        except UnreadableMessage as error:
            return _problem(422, "this is not an order", str(error).removeprefix(f"{PLACED.name}: ").split("; "))
        if len(encode(placed)) > MOST_BYTES:  # what was left out is written out
            return _too_large()
        try:
            order_id = await orders.publish(placed, clock())
        except (KafkaError, TimeoutError):
            return _problem(
                503, "the broker is out of reach", ["it is not known whether the order was taken: send it again, it counts once"]
            )
        status_url = f"{query_url}/orders/{order_id}"
        return JSONResponse({"order_id": order_id, "status_url": status_url}, status_code=202, headers={"Location": status_url})

    return api


async def _body(request: Request) -> bytes | None:
    """The request's body, None as soon as it is larger than an order may be."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def _too_large() -> JSONResponse:
    return _problem(413, "the order is too large", [f"body: an order has at most {MOST_BYTES} bytes"])


def _problem(status: int, title: str, reasons: list[str]) -> JSONResponse:
    """An RFC 9457 problem."""
    return JSONResponse({"title": title, "status": status, "reasons": reasons}, status_code=status, media_type=_PROBLEM_JSON)


def _schema() -> dict[str, Any]:
    """What is accepted. It stands alone, so that nothing in it refers to anything elsewhere in the document."""
    return {name: part for name, part in schema_of(PLACED).items() if name not in {"$schema", "$id"}}


def _described(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


_PROBLEM_JSON = "application/problem+json"
_PROBLEM = _object(title={"type": "string"}, status={"type": "integer"}, reasons={"type": "array", "items": {"type": "string"}})
_TAKEN = _object(order_id={"type": "string", "format": "uuid"}, status_url={"type": "string", "format": "uri"})
_LOCATION = {"headers": {"Location": {"description": "Where the order can be looked up", "schema": {"type": "string", "format": "uri"}}}}
