"""Orders over HTTP: validated, handed to Kafka, and answered with 202 once Kafka has acknowledged them.

The edge decides nothing: it publishes on the channels' own topic, so an order is the same however it comes in.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from oms_contracts.catalogue import STRANGERS_BYTES, topic_of
from oms_contracts.channel import OrderPlaced
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import UnreadableMessage, encode, key_of, type_of, validate
from oms_runtime.kafka import partition_of
from pydantic import TypeAdapter

PLACED = type_of(OrderPlaced).name
TOPIC = topic_of(OrderPlaced)
MOST_BYTES = STRANGERS_BYTES - 16 * 1024


class Orders:
    """The way to the channels' topic. Started with the API, stopped with it."""

    def __init__(self, options: dict[str, Any], partitions: int) -> None:
        self._options = options
        self._partitions = partitions
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(
            **self._options, client_id="oms-capture-edge", enable_idempotence=True, acks="all", compression_type="lz4", linger_ms=5
        )
        await self._producer.start()

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def publish(self, placed: OrderPlaced, now: datetime) -> str:
        """Publish an order and wait until Kafka has it; answers with the order's id. Raises KafkaError or TimeoutError."""
        assert self._producer is not None
        order_id = key_of(placed)
        envelope = Envelope(
            type=PLACED, source=f"/oms/channel/{placed.channel}", id=order_id, time=now, subject=order_id, correlationid=order_id
        )
        key = order_id.encode()
        await self._producer.send_and_wait(
            TOPIC, key=key, value=encode(placed), headers=to_headers(envelope), partition=partition_of(key, self._partitions)
        )
        return order_id


def make_api(orders: Orders, query_url: str, clock: Callable[[], datetime]) -> FastAPI:
    """The HTTP edge. `query_url` is where an order can be looked up."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
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
        summary="Place an order",
        responses={
            202: {"description": "Taken: the order's life begins. The same order again is the same order."},
            413: {"description": f"Larger than {MOST_BYTES} bytes"},
            422: {"description": "Not an order; every field at fault is named"},
            503: {"description": "The broker is out of reach: send it again"},
        },
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _schema()}}}},
    )
    async def place(request: Request, response: Response) -> Any:
        body = await request.body()
        if len(body) > MOST_BYTES:
            return _problem(413, "the order is too large", [f"body: {len(body)} bytes, at most {MOST_BYTES}"])
        try:
            placed: OrderPlaced = validate(PLACED, body)
        except UnreadableMessage as error:
            return _problem(422, "this is not an order", str(error).removeprefix(f"{PLACED}: ").split("; "))
        try:
            order_id = await orders.publish(placed, clock())
        except (KafkaError, TimeoutError):
            return _problem(503, "the broker is out of reach", ["nothing was taken: send the order again"])
        response.headers["Location"] = f"{query_url}/orders/{order_id}"
        return {"order_id": order_id, "status_url": f"{query_url}/orders/{order_id}"}

    return api


def _problem(status: int, title: str, reasons: list[str]) -> JSONResponse:
    """An RFC 9457 problem."""
    return JSONResponse({"title": title, "status": status, "reasons": reasons}, status_code=status, media_type="application/problem+json")


def _schema() -> dict[str, Any]:
    return TypeAdapter(OrderPlaced).json_schema(mode="validation", ref_template="#/components/schemas/{model}")
