"""Operations over HTTP, a route for each of `OPERATIONS`. Who may ask is decided here, what is done by the service that owns the thing."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol, cast
from urllib.parse import unquote, unquote_to_bytes

import msgspec
from aiokafka.errors import KafkaError
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from oms_client.outcomes import NO_EFFECT_KNOWN, Outcome, wait_for_outcome
from oms_client.publisher import Asker, content_id
from oms_client.queries import Json, order_path
from oms_contracts.catalogue import ALL_SERVICES, EXTERNAL_MAX_VALUE_BYTES
from oms_contracts.channel import OrderPlaced
from oms_contracts.customers import EraseCustomer
from oms_contracts.envelope import CONTROL, check_key
from oms_contracts.message import UnreadableMessage, encode, key_of
from oms_contracts.operations import MAX_REASON_BYTES, OPERATIONS, Operation, topic_for
from oms_runtime.problems import problem
from starlette.routing import Match
from starlette.types import Scope

from oms_gateway.idempotency import IdempotencyKeys
from oms_gateway.idempotency import check_key as check_idempotency_key
from oms_gateway.identity import Identity
from oms_gateway.personal_data import without_personal_data
from oms_gateway.query_api import QueryApi
from oms_gateway.refusals import Forbidden, Invalid, NotFound, Refusal, Unavailable
from oms_gateway.settings import MAX_WAIT_SECONDS

PREFIX = "/api/v1"
SOURCE = "/oms/gateway"
"""CloudEvents' `source` of what is published here."""
MAX_WAITS = 100
"""How many requests wait for outcomes at the same time. One more is answered at once, as one whose time is over."""
_WAIT = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,3})?)s")

Admit = Callable[[Request], Awaitable[Identity]]
"""Who sent a request. Raises a Refusal."""


class Publisher(Protocol):
    """What publishes single messages: `oms_client.publisher.Sender`."""

    async def send(
        self,
        message: Any,
        source: str,
        event_id: str,
        now: datetime,
        *,
        asker: Asker = ...,
        topic: str | None = None,
        value: bytes | None = None,
    ) -> None:
        """Publish a message, encoded as `value`, and wait until the broker has it. Raises KafkaError or TimeoutError."""
        ...


class TooLarge(Refusal):
    """A message is larger than its topic accepts."""

    status = 413


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request for an operation, as it was read."""

    command: Any
    value: bytes
    topic: str
    reason: str
    key: str | None
    wait_seconds: float


def reason_of(header: str | None) -> str:
    """The reason in an `X-Reason` header, which is percent-encoded UTF-8. Raises Invalid."""
    if not header:
        return ""
    try:
        reason = unquote_to_bytes(header).decode().strip(" ")
    except UnicodeError:
        raise _invalid_header("X-Reason: must be UTF-8, percent-encoded") from None
    if CONTROL.search(reason):
        raise _invalid_header("X-Reason: must be one line, without control characters")
    if len(reason.encode()) > MAX_REASON_BYTES:
        raise _invalid_header(f"X-Reason: must have at most {MAX_REASON_BYTES} bytes")
    return reason


def seconds_of(wait: str | None) -> float:
    """How long a request waits for its outcome. Raises Invalid."""
    if wait is None:
        return 0
    found = _WAIT.fullmatch(wait)
    if found is None or float(found[1]) > MAX_WAIT_SECONDS:
        raise Invalid("a parameter is not sound", f"wait: must be seconds, as in 5s, at most {MAX_WAIT_SECONDS}s")
    return float(found[1])


def command_of(operation: Operation, parameters: Mapping[str, str], body: bytes) -> Any:
    """The command that a request spells. Raises Invalid, which names every field at fault."""
    try:
        command = operation.message(parameters, _object_in(body)) if operation.parameters else _read_once(operation, body or b"{}")
        check_key(key_of(command))  # a key that no service could read
    except (UnreadableMessage, RecursionError, ValueError) as error:  # a DecodeError is a ValueError
        raise Invalid("this is not what the operation takes", *_reasons(error)) from error
    return command


def _read_once(operation: Operation, body: bytes) -> Any:
    """The command that a body spells whole: it is read as it came, not first as an object to which the path's parameters are added."""
    try:
        return operation.message_in(body)
    except UnreadableMessage:
        _object_in(body)  # says what is wrong where it is no JSON
        raise


def _object_in(body: bytes) -> dict[str, Any]:
    given: Any = msgspec.json.decode(body or b"{}")
    if not isinstance(given, dict):
        raise Invalid("this is not what the operation takes", "body: must be a JSON object")
    return cast(dict[str, Any], given)


def _reasons(error: Exception) -> list[str]:
    match error:
        case UnreadableMessage():
            return str(error).split("; ")
        case RecursionError():
            return ["body: is nested too deeply"]
        case UnicodeError():
            return ["body: must be UTF-8"]
        case msgspec.DecodeError():
            return [f"body: is not JSON: {error}"]
        case _:
            return [str(error)]


class Permission:
    """Whether an identity may ask for a command, beyond its scope: a channel's key, and a warehouse's locations."""

    def __init__(self, query: QueryApi) -> None:
        self._query = query

    async def check(self, identity: Identity, operation: Operation, command: Any) -> None:
        """Raises Forbidden; NotFound where a channel's key asks for an order that it cannot see."""
        if identity.channel is not None:
            await self._check_channel(identity, command, identity.channel)
        if identity.locations is not None:
            await self._check_locations(operation, command, identity.locations)

    async def _check_channel(self, identity: Identity, command: Any, channel: str) -> None:
        match command:
            case OrderPlaced(channel=named) if named == channel:
                return
            case EraseCustomer(channel=named, email=None) if named == channel:
                return
            case OrderPlaced() | EraseCustomer():
                raise Forbidden("it is of another channel", f"channel: {identity.actor} asks for channel {channel} alone")
            case _:
                pass
        order_id = getattr(command, "order_id", None)
        if order_id is None:
            raise Forbidden("it is of no channel", f"{identity.actor} asks for channel {channel} alone")
        await self.order_of_channel(order_id, channel)

    async def order_of_channel(self, order_id: str, channel: str) -> Json:
        """An order of `channel`. Raises NotFound for one of another, as for one that does not exist."""
        order = await self._query.order(order_id)
        if order is None or order["channel"] != channel:
            raise NotFound(f"order {order_id} is not known here", "it may not have arrived yet: ask again in a moment")
        return order

    async def _check_locations(self, operation: Operation, command: Any, allowed: frozenset[str]) -> None:
        locations = _locations_in(command)
        if not locations and operation.object in {"package", "return"} and operation.scope != "returns:request":
            order = await self._query.order(command.order_id)
            locations = locations_in_order(order, command) if order is not None else set[str]()
            if not locations:
                raise NotFound(
                    f"no location of this {operation.object} is known here", "it may not have arrived yet: ask again in a moment"
                )
        if not locations and operation.object == "stock":
            raise Forbidden("it is of every location", f"location: name one of {', '.join(sorted(allowed))}")
        if others := sorted(locations - allowed):
            raise Forbidden("it is of another location", f"location: {others[0]} is none of {', '.join(sorted(allowed))}")


def _locations_in(command: Any) -> set[str]:
    location = None if isinstance(command, OrderPlaced) else getattr(command, "location", None)
    fulfillment_id: str = getattr(command, "fulfillment_id", "")
    lines: Iterable[Any] = getattr(command, "lines", ())
    sent_from = getattr(command, "from_location", None)  # whoever sends goods speaks for where they are, whoever receives them as well
    named = {location, sent_from, fulfillment_id.partition("/")[2], *(getattr(line, "location", None) for line in lines)}
    return {each for each in named if each}


def locations_in_order(order: Json, command: Any) -> set[str]:
    """The locations that concern a command about a package or a return, by what is known of its order."""
    fulfillments = {each["fulfillment_id"]: each["location"] for each in order["fulfillments"]}
    package_id, return_id = getattr(command, "package_id", None), getattr(command, "return_id", None)
    packed = {fulfillments.get(each["fulfillment_id"]) for each in order["packages"] if each["package_id"] == package_id}
    returned = {each["location"] for each in order["returns"] if each["return_id"] == return_id}
    return {each for each in packed | returned if each}


class Operations:
    """What the routes do. `clock` gives the time, `new_id` an event id that nothing else has."""

    def __init__(
        self,
        publisher: Publisher,
        query: QueryApi,
        keys: IdempotencyKeys,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._publisher = publisher
        self._query = query
        self._keys = keys
        self._clock = clock
        self._new_id = new_id
        self._permission = Permission(query)
        self._waits = 0

    async def ask(self, identity: Identity, operation: Operation, request: Request) -> Response:
        """Check a request, publish its command, and say what became of it as far as it is waited for."""
        if not identity.may_ask_for(operation):
            raise Forbidden("this is not allowed", f"{operation.name} needs the scope {operation.scope}")
        asked = await _read(operation, request)
        await self._permission.check(identity, operation, asked.command)
        event_id = await self._publish(identity, operation, asked)
        outcome = await self._outcome(asked, event_id) if asked.wait_seconds else None
        return _answer(identity, operation, asked.command, event_id, outcome)

    async def _publish(self, identity: Identity, operation: Operation, asked: _Asked) -> str:
        """Publish once, and return the event id. An order that is placed again is the same order, whoever sends it."""
        event_id = content_id(asked.command, asked.value) if isinstance(asked.command, OrderPlaced) else self._new_id()
        if asked.key is None:
            await self._send(identity, asked, event_id)
            return event_id
        parts = (operation.name.encode(), asked.topic.encode(), asked.value, asked.reason.encode())
        fingerprint = sha256(b"\0".join(parts)).hexdigest()
        async with self._keys.once(identity.actor, asked.key, fingerprint, event_id, self._clock()) as (chosen, to_send):
            if to_send:
                await self._send(identity, asked, chosen)
        return chosen

    async def _send(self, identity: Identity, asked: _Asked, event_id: str) -> None:
        asker = Asker(identity.actor, asked.reason)
        try:
            await self._publisher.send(asked.command, SOURCE, event_id, self._clock(), asker=asker, topic=asked.topic, value=asked.value)
        except (KafkaError, TimeoutError) as error:
            again = "it is not known whether it was taken: send it again, with an Idempotency-Key it counts once"
            raise Unavailable("the broker is out of reach", again) from error

    async def _outcome(self, asked: _Asked, event_id: str) -> Outcome:
        if self._waits >= MAX_WAITS:
            return NO_EFFECT_KNOWN
        self._waits += 1
        try:
            return await wait_for_outcome(self._query, key_of(asked.command), event_id, asked.wait_seconds)
        except Unavailable:  # the command is published: the request has been taken, whatever can be said of its outcome
            return NO_EFFECT_KNOWN
        finally:
            self._waits -= 1


async def _read(operation: Operation, request: Request) -> _Asked:
    if unknown := sorted({*request.query_params} - {"wait"}):
        raise Invalid("a parameter is not known", *(f"{name}: an operation takes wait alone" for name in unknown))
    parameters = {name: str(value) for name, value in request.path_params.items()}
    if parameters.get("service", ALL_SERVICES[0]) not in ALL_SERVICES:
        raise NotFound(f"there is no service {parameters['service']}", f"service: one of {', '.join(ALL_SERVICES)}")
    wait, reason, key = (
        seconds_of(request.query_params.get("wait")),
        reason_of(request.headers.get("x-reason")),
        request.headers.get("idempotency-key"),
    )
    if key is not None:
        check_idempotency_key(key)
    command = command_of(operation, parameters, await request.body())
    value = encode(command)
    if len(value) > EXTERNAL_MAX_VALUE_BYTES:  # with the defaults that the body left out
        raise TooLarge("the body is too large", f"body: at most {EXTERNAL_MAX_VALUE_BYTES} bytes")
    return _Asked(command, value, topic_for(operation, parameters), reason, key, wait)


def _answer(identity: Identity, operation: Operation, command: Any, event_id: str, outcome: Outcome | None) -> Response:
    told: Json | None = None
    if outcome is not None:
        told = {"status": outcome.status, "events": list(outcome.events), "reasons": list(outcome.reasons)}
    if not identity.may("customers:read"):
        told = without_personal_data(told)
    body: dict[str, Any] = {"event_id": event_id, "key": key_of(command), "operation": operation.name, "outcome": told}
    headers: dict[str, str] = {}
    if isinstance(command, OrderPlaced):
        headers["Location"] = f"{PREFIX}{order_path(key_of(command))}"
        body |= {"order_id": key_of(command), "status_url": headers["Location"]}
    if outcome is not None and outcome.status == "refused":
        return problem(409, f"{operation.name} was refused", *outcome.reasons, headers=headers, members=body)
    done = outcome is not None and outcome.status == "done"
    return Response(encode(body), 200 if done else 202, headers, "application/json")


def _invalid_header(reason: str) -> Invalid:
    return Invalid("a header is not sound", reason)


class EncodedPathRoute(APIRoute):
    """A route that is found by the path as it was sent. So an id may have a slash, percent-encoded, whatever follows it in the path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches({**scope, "path": scope["raw_path"].decode("ascii")})
        if match is not Match.NONE:
            found["path_params"] = {name: unquote(value) for name, value in found["path_params"].items()}
        return match, found


def route_of(admit: Admit, operations: Operations, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    """What answers a request for an operation."""

    async def ask(request: Request) -> Response:
        return await operations.ask(await admit(request), operation, request)

    return ask


def operation_routes(admit: Admit, operations: Operations, described: Callable[[Operation], dict[str, Any]]) -> APIRouter:
    """The routes of all operations, and the list of them. `described` is what the OpenAPI document says of one."""
    router = APIRouter(route_class=EncodedPathRoute)
    for operation in OPERATIONS:
        router.add_api_route(
            operation.path,
            route_of(admit, operations, operation),
            methods=["POST"],
            name=operation.name,
            operation_id=operation.name,
            summary=operation.title,
            description=operation.summary,
            tags=["operations"],
            status_code=202,
            response_class=Response,
            openapi_extra=described(operation),
        )
    return router


def listed(operation: Operation, identity: Identity) -> dict[str, Any]:
    """An operation in the list of them, and whether `identity` has its scope."""
    return {
        "name": operation.name,
        "title": operation.title,
        "summary": operation.summary,
        "scope": operation.scope,
        "object": operation.object,
        "path": operation.path,
        "fields": operation.fields,
        "required": list(operation.required),
        "destroys": operation.destroys,
        "allowed": identity.may_ask_for(operation),
    }
