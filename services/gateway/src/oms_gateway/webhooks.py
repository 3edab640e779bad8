"""`POST /webhooks/{channel}`: shops' webhooks, published byte for byte once their signature is checked. Nothing is decided here."""

from collections.abc import Callable, Mapping
from datetime import datetime

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from oms_runtime.problems import problem, problem_response

from oms_gateway.channels import Channels
from oms_gateway.shops import MAX_WEBHOOK_BYTES, Refused, Shop, is_ping, received_of


def make_router(channels: Channels, shops: Mapping[str, Shop], clock: Callable[[], datetime]) -> APIRouter:
    """The route of webhooks. `shops` are those that send some, by channel."""
    router = APIRouter(tags=["webhooks"])

    @router.post(
        "/webhooks/{channel}",
        status_code=200,
        response_class=JSONResponse,
        summary="Deliver a webhook of a shop: Shopify's orders/…, WooCommerce's order.…",
        responses={
            200: {
                "description": "Taken. The same delivery again counts once.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            401: problem_response("Not signed with a secret of the shop"),
            404: problem_response("No shop sends webhooks to this channel"),
            408: problem_response("The body did not arrive in time"),
            413: problem_response(f"Larger than {MAX_WEBHOOK_BYTES} bytes"),
            422: problem_response("The headers are at fault: shop, topic, id or time"),
            503: problem_response("The broker cannot be reached: deliver it again"),
        },
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}},
    )
    async def take(channel: str, request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]  # its route uses it
        shop = shops.get(channel)
        if shop is None:
            return problem(404, "no shop sends webhooks to this channel", "channel: OMS_SHOPS of the gateway names the shops")
        body = await request.body()
        if is_ping(shop, body):
            return JSONResponse({})
        received = received_of(channel, shop, body, request.headers, clock())
        if isinstance(received, Refused):
            return problem(received.status, received.title, *received.reasons)
        try:
            await channels.publish(received, clock())
        except (KafkaError, TimeoutError):
            return problem(503, "the broker is out of reach", "deliver the webhook again, it counts once")
        return JSONResponse({})

    return router
