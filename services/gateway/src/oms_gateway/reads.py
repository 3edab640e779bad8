"""What the read models hold, over HTTP: projection's query API, behind scopes.

The routes are those of `query_api.json`, the OpenAPI document of the query API, of which each path has a scope here. Answers are passed on
as they come. They are only read, and written anew, where they have what the caller may not see, or where they say what may be done next.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from oms_client.queries import Json, path_part
from oms_contracts.operations import operations_on
from oms_contracts.values import order_id_of

from oms_gateway.identity import Identity
from oms_gateway.operations_api import Admit, Permission
from oms_gateway.personal_data import without_personal_data
from oms_gateway.query_api import QueryApi
from oms_gateway.refusals import Forbidden, Invalid

QUERY_API: Mapping[str, Any] = msgspec.json.decode((files("oms_gateway") / "query_api.json").read_bytes())
"""The OpenAPI document of projection's query API."""

ORDER, TIMELINE = "/orders/{order_id}", "/orders/{order_id}/timeline"
SCOPES: dict[str, tuple[str, ...]] = {
    "/orders": ("orders:read",),
    "/orders/details": ("orders:read",),
    ORDER: ("orders:read",),
    TIMELINE: ("orders:read",),
    "/outcomes": ("orders:read",),
    "/rejections": ("orders:read",),
    "/rejections/{field}": ("orders:read",),
    "/search": ("orders:read",),
    "POST /search": ("orders:read", "customers:read"),  # by e-mail address and name
    "/stuck": ("orders:read",),
    "/customers": ("customers:read",),
    "/stock": ("stock:read",),
    "/stock/{sku}": ("stock:read",),
    "/transfers": ("stock:read",),
    "/products": ("products:read",),
    "/products/{sku}": ("products:read",),
    "/payments": ("payments:read",),
    "/fulfillments": ("fulfillments:read",),
    "/packages": ("fulfillments:read",),
    "/returns": ("returns:read",),
    "/dead-letters": ("dead-letters:read",),
    "/dead-letters/{service}/{letter_id}": ("dead-letters:read", "customers:read"),  # its record may be about persons
    "/audits/orders": ("audits:read",),
    "/audits/stock": ("audits:read",),
    "/audits/money": ("audits:read",),
}
"""The scopes that a path needs, all of them; those of one method come first. A path of the query API that is not here is not served."""
OF_NO_CHANNEL = frozenset({"/stock", "/transfers", "/products", "/products/{sku}"})
"""What says nothing of orders, and so may be read by the key of a channel."""
REFERENCE_SEPARATOR = "~"
"""Between channel and reference, where an order is named by them in a path."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """Something that can be read: one method of one path of the query API, with what its document says of it."""

    method: str
    path: str
    documented: Mapping[str, Any]

    @property
    def scopes(self) -> tuple[str, ...]:
        """What a caller needs, all of them."""
        return SCOPES.get(f"{self.method} {self.path}") or SCOPES[self.path]

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The query parameters."""
        return tuple(each["name"] for each in self.documented.get("parameters", ()) if each["in"] == "query")

    @property
    def route(self) -> str:
        """The path as a route: the last parameter takes slashes."""
        before, brace, name = self.path.rpartition("{")
        return f"{before}{{{name.replace('}', ':path}', 1)}" if brace else self.path


def _reads() -> tuple[Read, ...]:
    """The most specific paths first, because routes are tried in their order."""
    found = [
        Read(method=method.upper(), path=path, documented=documented)
        for path, methods in QUERY_API["paths"].items()
        if path in SCOPES
        for method, documented in methods.items()
    ]
    return tuple(sorted(found, key=lambda read: ("{" in read.path, -len(read.path), read.path)))


READS = _reads()
"""Everything that can be read."""


class Reads:
    """What the routes do."""

    def __init__(self, query: QueryApi) -> None:
        self._query = query
        self._permission = Permission(query)

    async def answer(self, identity: Identity, read: Read, request: Request) -> Response:
        """What was asked for, as far as `identity` may see it."""
        if missing := [scope for scope in read.scopes if not identity.may(scope)]:
            raise Forbidden("this is not allowed", *(f"{read.method} {read.path} needs the scope {scope}" for scope in missing))
        if unknown := sorted({*request.query_params} - {*read.parameters}):
            known = ", ".join(read.parameters) or "none"
            raise Invalid("a parameter is not known", *(f"{name}: is none of the parameters here: {known}" for name in unknown))
        path, parameters = _path_of(read, request), list(request.query_params.multi_items())
        if identity.channel is not None:
            parameters = await self._limited(identity, read, request, parameters, identity.channel)
        body = await request.body() if read.method == "POST" else None
        answer = await self._query.ask(read.method, path, parameters, body)
        if answer.status_code != 200:
            return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])
        return _tagged(request, _shown(identity, read, answer.content))

    async def _limited(
        self, identity: Identity, read: Read, request: Request, parameters: list[tuple[str, str]], channel: str
    ) -> list[tuple[str, str]]:
        """The parameters of a request of a channel's key. Raises Forbidden, or NotFound for an order of another channel."""
        alone = f"{identity.actor} sees channel {channel} alone"
        if "channel" in read.parameters:
            if any(value != channel for name, value in parameters if name == "channel"):
                raise Forbidden("it is of another channel", f"channel: {alone}")
            return [*((name, value) for name, value in parameters if name != "channel"), ("channel", channel)]
        if read.path in {ORDER, TIMELINE}:
            await self._permission.order_of_channel(_order_id_of(read, request), channel)
        elif read.path not in OF_NO_CHANNEL:
            raise Forbidden("it is of all channels", alone)
        return parameters


def _order_id_of(read: Read, request: Request) -> str:
    """The order that a path names by its id, or by channel and reference; a timeline is also of things that are no orders."""
    named: str = request.path_params["order_id"]
    channel, separator, reference = named.partition(REFERENCE_SEPARATOR)
    return order_id_of(channel, reference) if separator and read.path == ORDER else named


def _path_of(read: Read, request: Request) -> str:
    named = {name: str(value) for name, value in request.path_params.items()}
    if "order_id" in named:
        named["order_id"] = _order_id_of(read, request)
    return read.path.format(**{name: path_part(value) for name, value in named.items()})


def _shown(identity: Identity, read: Read, content: bytes) -> bytes:
    """The answer as the caller may see it."""
    hides = not identity.may("customers:read")
    if read.path != ORDER and not hides:
        return content
    shown = msgspec.json.decode(content)
    if hides:
        shown = without_personal_data(shown)
    return msgspec.json.encode(with_offers(identity, shown) if read.path == ORDER else shown)


def with_offers(identity: Identity, order: Json) -> Json:
    """An order with what may be asked for now, of itself and of its fulfillments, packages and returns."""
    packages: list[Json] = order["packages"]
    fulfillments = [
        each | {"operations": _offers(identity, "fulfillment", each | {"packages": _packages_of(each, packages)}, each["location"])}
        for each in order["fulfillments"]
    ]
    locations = {each["fulfillment_id"]: each["location"] for each in order["fulfillments"]}
    return order | {
        "operations": _offers(identity, "order", order, None),
        "fulfillments": fulfillments,
        "packages": [each | {"operations": _offers(identity, "package", each, locations.get(each["fulfillment_id"]))} for each in packages],
        "returns": [each | {"operations": _offers(identity, "return", each, each["location"])} for each in order["returns"]],
    }


def _packages_of(fulfillment: Json, packages: list[Json]) -> list[Json]:
    return [package for package in packages if package["fulfillment_id"] == fulfillment["fulfillment_id"]]


def _offers(identity: Identity, kind: str, thing: Json, location: str | None) -> list[Json]:
    """The operations on a thing that exists: which of them this caller may ask for now, and why not the others."""
    offers: list[Json] = []
    for operation in operations_on(kind):
        if not operation.parameters:
            continue  # it makes a new thing
        why_not = operation.offered(thing)
        if location is not None and identity.locations is not None and location not in identity.locations:
            why_not = f"{location} is another location"
        if not identity.may_ask_for(operation):
            why_not = f"it needs the scope {operation.scope}"
        offers.append({"name": operation.name, "title": operation.title, "offered": not why_not, "why_not": why_not or None})
    return offers


def _tagged(request: Request, content: bytes) -> Response:
    """The answer with its ETag, or nothing where the caller has it already."""
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if known & {tag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


def read_routes(admit: Admit, reads: Reads, described: Callable[[Read], dict[str, Any]]) -> APIRouter:
    """The routes of all that can be read. `described` is what the OpenAPI document says of one."""
    router = APIRouter()

    def route_of(read: Read) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return await reads.answer(await admit(request), read, request)

        return answer

    for read in READS:
        router.add_api_route(
            read.route,
            route_of(read),
            methods=[read.method],
            name=f"{read.method} {read.path}",
            operation_id=f"{read.method.lower()}{read.path.replace('/', '-').replace('{', '').replace('}', '')}",
            summary=read.documented["summary"],
            tags=read.documented["tags"],
            response_class=Response,
            openapi_extra=described(read),
        )
    return router
