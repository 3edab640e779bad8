"""Orders over HTTP: validated, published, and accepted with 202 once Kafka has acknowledged them.

This edge decides nothing: it publishes on the topic of all channels, so an order is the same whichever way it comes in.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

from aiokafka.errors import KafkaError
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from oms_client.publisher import Sender
from oms_contracts.catalogue import EXTERNAL_MAX_VALUE_BYTES, topic_of
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import UnreadableMessage, encode, key_of, type_of, validate, versions_of
from oms_contracts.schemas import schema_of
from oms_contracts.superseded import type_of_placed
from oms_kafka.settings import KafkaSettings
from oms_runtime.limits import BODY_TIMEOUT_SECONDS, BodyLimit
from oms_runtime.problems import PROBLEM_JSON, PROBLEM_SCHEMA, problem

PLACED = type_of(OrderPlaced)
TOPIC = topic_of(OrderPlaced)
MAX_BYTES = EXTERNAL_MAX_VALUE_BYTES


class Orders(Protocol):
    """A publisher on the channels' topic. It is started and stopped with the API."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def publish(self, placed: OrderPlaced, now: datetime) -> str:
        """Publish an order, wait until it is acknowledged, and return its id. Raises KafkaError or TimeoutError."""
        ...


class KafkaOrders:
    """Publishes orders on Kafka. The same order has the same event id, so it may be sent twice."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._sender = Sender(settings, "oms-capture-edge")

    async def start(self) -> None:
        await self._sender.start()

    async def stop(self) -> None:
        await self._sender.stop()

    async def publish(self, placed: OrderPlaced, now: datetime) -> str:
        order_id = key_of(placed)
        await self._sender.send(placed, f"/oms/channel/{quote(placed.channel, safe='')}", order_id, now)
        return order_id


def make_api(
    orders: Orders, query_url: str, clock: Callable[[], datetime], *, body_timeout_seconds: float = BODY_TIMEOUT_SECONDS
) -> FastAPI:
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
    api.add_middleware(BodyLimit, max_bytes=MAX_BYTES, timeout_seconds=body_timeout_seconds)

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
