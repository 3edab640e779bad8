"""The gateway's API: operations, reads and the status of orders, under /api/v1, and its documentation at /docs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from oms_contracts.catalogue import EXTERNAL_MAX_BYTES
from oms_contracts.operations import OPERATIONS, operation_of
from oms_runtime.database import Database
from oms_runtime.errors import RETRYABLE_ERRORS, is_retryable
from oms_runtime.limits import BODY_TIMEOUT_SECONDS, BodyLimit
from oms_runtime.problems import problem
from starlette.datastructures import MutableHeaders
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import request_response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oms_gateway import document
from oms_gateway.idempotency import IdempotencyKeys
from oms_gateway.identity import Identity
from oms_gateway.limits import Admission
from oms_gateway.operations_api import PREFIX, Operations, Publisher, listed, operation_routes, route_of
from oms_gateway.query_api import QueryApi
from oms_gateway.reads import Reads, read_routes
from oms_gateway.refusals import HANDLERS, Invalid
from oms_gateway.status import StatusFeed, stream_of

DOCS = Path(__file__).parent / "docs"
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of the documentation's page: everything comes from the gateway itself. The viewer writes styles into its elements."""
ANSWERS_POLICY = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the API is made of.

    `query` asks projection's query API. `clock` gives the time, `new_id` an id that nothing else has.
    """

    admission: Admission
    publisher: Publisher
    query: QueryApi
    database: Database
    statuses: StatusFeed
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    body_timeout_seconds: float = BODY_TIMEOUT_SECONDS


def make_api(parts: Parts) -> FastAPI:
    """The API. Whoever makes its parts starts and stops them, and runs `parts.statuses` beside it."""
    admit = parts.admission.admit
    api = Api(
        title="Orderstream",
        version="1",
        summary="The API for people and programs outside.",
        description=document.DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        exception_handlers=_handlers(),
    )
    keys = IdempotencyKeys(parts.database)
    operations = Operations(parts.publisher, parts.query, keys, parts.clock, parts.new_id)
    api.include_router(operation_routes(admit, operations, document.of_operation), prefix=PREFIX)
    api.include_router(read_routes(admit, Reads(parts.query), document.of_read), prefix=PREFIX)
    api.include_router(_own_routes(admit, parts.statuses), prefix=PREFIX)
    api.mount("/docs", StaticFiles(directory=DOCS, html=True), name="docs")
    api.add_middleware(BodyLimit, max_bytes=EXTERNAL_MAX_BYTES, timeout_seconds=parts.body_timeout_seconds)
    api.add_middleware(Policies)
    api.openapi = lambda: _document(api)
    place = operation_of("place-order")
    handled = ExceptionMiddleware(request_response(route_of(admit, operations, place)), _handlers())
    limited = BodyLimit(handled, max_bytes=EXTERNAL_MAX_BYTES, timeout_seconds=parts.body_timeout_seconds)
    api.direct["POST", f"{PREFIX}{place.path}"] = ServerErrorMiddleware(Policies(limited))
    return api


class Api(FastAPI):
    """FastAPI takes 0.2 ms for what surrounds a route. Requests that come in hundreds a second go directly to an app of their own.

    `direct` has it by method and path. Their routes are in the document as all others are, and answer the same.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.direct: dict[tuple[str, str], ASGIApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.direct.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (app or super().__call__)(scope, receive, send)


def _own_routes(admit: Callable[[Request], Awaitable[Identity]], statuses: StatusFeed) -> APIRouter:
    router = APIRouter()

    @router.get("/operations", summary="What may be asked for", response_class=Response, openapi_extra=document.of_list())
    async def operations(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]  # its route uses it
        identity = await admit(request)
        if unknown := sorted({*request.query_params}):
            raise Invalid("a parameter is not known", *(f"{name}: the list takes no parameter" for name in unknown))
        return JSONResponse({"items": [listed(each, identity) for each in OPERATIONS], "next": None})

    @router.get("/status", summary="Follow the status of orders", response_class=Response, openapi_extra=document.of_status())
    async def status(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]  # its route uses it
        return await stream_of(statuses, await admit(request), request)

    return router


class Policies:
    """Middleware that tells browsers what an answer may load: nothing, but for the documentation's page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        policy = DOCS_POLICY if scope["type"] == "http" and scope["path"].startswith("/docs") else ANSWERS_POLICY

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", policy)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "no-referrer")
            await send(message)

        await self._app(scope, receive, send_on)


def _document(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the parts that the routes refer to. It is made once."""
    if api.openapi_schema is None:
        made = get_openapi(title=api.title, version=api.version, summary=api.summary, description=api.description, routes=api.routes)
        parts, added = made.setdefault("components", {}), document.components()
        for kind, named in added.items():
            parts[kind] = parts.get(kind, {}) | named
        api.openapi_schema = made
    return api.openapi_schema


def _handlers() -> dict[int | type[Exception], Any]:
    retryable = {error: _out_of_reach for error in RETRYABLE_ERRORS if issubclass(error, Exception)}
    return {**retryable, **HANDLERS}


async def _out_of_reach(_request: Request, error: Exception) -> JSONResponse:
    if not is_retryable(error):
        raise error
    return problem(503, "a part that is needed is out of reach", "ask again in a moment", headers={"Retry-After": "1"})
