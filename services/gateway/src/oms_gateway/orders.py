"""`/api/v1/orders`: place an order, and look at it. An order is the same whichever way it comes in: nothing is decided here."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from oms_client.errors import NotAllowed, QueryApiUnreachable
from oms_client.publisher import Asker
from oms_client.queries import QueryClient, order_path
from oms_contracts.catalogue import EXTERNAL_MAX_VALUE_BYTES
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import UnreadableMessage, encode, key_of, validate, versions_of
from oms_contracts.schemas import schema_of
from oms_contracts.superseded import type_of_placed
from oms_runtime.problems import problem, problem_response

from oms_gateway.channels import Channels
from oms_gateway.identify import Identify
from oms_gateway.identity import Identity

MAX_BYTES = EXTERNAL_MAX_VALUE_BYTES


def make_router(channels: Channels, query: QueryClient, identify: Identify, clock: Callable[[], datetime]) -> APIRouter:
    """The routes of orders."""
    router = APIRouter(tags=["orders"])

    @router.post(
        "/orders",
        status_code=202,
        response_class=JSONResponse,
        summary="Place an order",
        responses={
            202: _json("Accepted for processing. The same order again is the same order.", _ACCEPTED) | _LOCATION,
            401: problem_response("No credential, or one that is not valid"),
            403: problem_response("The credential does not allow it"),
            408: problem_response("The body did not arrive in time"),
            413: problem_response(f"Larger than {MAX_BYTES} bytes"),
            422: problem_response("Not an order; the fields at fault are named, up to 100"),
            503: problem_response("The broker cannot be reached, or there are too many requests: send the order again"),
        },
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _schema()}}}},
    )
    async def place(  # pyright: ignore[reportUnusedFunction]  # its route uses it
        request: Request, identity: Annotated[Identity, Depends(identify)]
    ) -> JSONResponse:
        if not identity.may("orders:place"):
            return _not_allowed("orders:place")
        body = await request.body()
        if len(body) > MAX_BYTES:
            return problem(413, "the body is too large", f"body: at most {MAX_BYTES} bytes")
        kind = type_of_placed(body)
        try:
            placed: OrderPlaced = validate(kind, body)
        except UnreadableMessage as error:
            return problem(422, "this is not an order", *str(error).removeprefix(f"{kind}: ").split("; "))
        if identity.channel not in (None, placed.channel):
            return problem(403, "the credential does not allow it", f"channel: it is for orders of {identity.channel} alone")
        if len(encode(placed)) > MAX_BYTES:  # the published form has the defaults that the request left out
            return problem(413, "the order is too large", f"body: an order has at most {MAX_BYTES} bytes")
        try:
            event_id = await channels.publish(placed, clock(), Asker(identity.actor))
        except (KafkaError, TimeoutError):
            return problem(503, "the broker is out of reach", "it is not known whether the order was taken: send it again, it counts once")
        order_id = key_of(placed)
        status_url = f"{request.url.path}/{order_id}"
        answer = {
            "event_id": event_id,
            "key": order_id,
            "operation": "place-order",
            "outcome": None,
            "order_id": order_id,
            "status_url": status_url,
        }
        return JSONResponse(answer, status_code=202, headers={"Location": status_url})

    @router.get(
        "/orders/{order_id}",
        response_class=JSONResponse,
        summary="All that is known of one order",
        responses={
            200: _json("The order", {"type": "object"}),
            401: problem_response("No credential, or one that is not valid"),
            403: problem_response("The credential does not allow it"),
            404: problem_response("Not known here, or not yet"),
            503: problem_response("The query API does not answer"),
        },
    )
    async def show(  # pyright: ignore[reportUnusedFunction]  # its route uses it
        order_id: str, identity: Annotated[Identity, Depends(identify)]
    ) -> JSONResponse:
        if not identity.may("orders:read"):
            return _not_allowed("orders:read")
        try:
            order = await query.find(order_path(order_id))
        except (QueryApiUnreachable, NotAllowed):
            return problem(503, "the query API does not answer", "ask again in a moment")
        if order is None or identity.channel not in (None, order["channel"]):
            return problem(404, f"order {order_id} is not known here", "it may not have arrived yet: ask again in a moment")
        return JSONResponse(order)

    return router


def _not_allowed(scope: str) -> JSONResponse:
    return problem(403, "the credential does not allow it", f"scope: {scope} is needed")


def _schema() -> dict[str, Any]:
    """The schema of an order in any version. It is self-contained: nothing in it refers to another part of the document."""
    newest_first = reversed(versions_of(OrderPlaced))
    schemas = [{name: part for name, part in schema_of(kind).items() if name not in {"$schema", "$id"}} for kind in newest_first]
    return {"anyOf": schemas}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


_TEXT, _ADDRESS = {"type": "string"}, {"type": "string", "format": "uri-reference"}
_ACCEPTED = _object(event_id=_TEXT, key=_TEXT, operation=_TEXT, outcome={}, order_id=_TEXT | {"format": "uuid"}, status_url=_ADDRESS)
_LOCATION = {"headers": {"Location": {"description": "Where the order can be looked up", "schema": _ADDRESS}}}
