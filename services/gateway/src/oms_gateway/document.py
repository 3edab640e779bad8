"""What the OpenAPI document says of each route, made from the list of operations and from the query API's document. Pure."""

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import msgspec
from oms_contracts.message import encode, key_of
from oms_contracts.operations import MAX_REASON_BYTES, Operation
from oms_contracts.samples import example_order, sample
from oms_runtime.problems import PROBLEM_JSON, PROBLEM_SCHEMA

from oms_gateway.idempotency import MAX_KEY_CHARACTERS
from oms_gateway.identity import ROLES
from oms_gateway.reads import ORDER, QUERY_API, Read
from oms_gateway.settings import MAX_WAIT_SECONDS

Json = dict[str, Any]

DESCRIPTION = """Orders, stock, fulfillments, payments and returns: read what is known of them, and ask for what may be done.

Amounts are integer minor units of the currency beside them, times are UTC. Lists are paged by `after` and `next`. Every answer that is no
success is a problem (RFC 9457), whose `reasons` name each field at fault or say what to do next. What is asked for is decided on by the
service that owns the thing: `202` means that it was taken, `?wait=5s` waits for what becomes of it."""
PROBLEMS = {
    401: "Nobody is known by what the request shows",
    403: "The caller may not do this, or not with this order, channel or location",
    404: "Not known here, or not yet",
    408: "The body did not arrive in time",
    409: "Refused by the service that decides on it, for the reasons that are named; or a request with the same Idempotency-Key is in hand",
    413: "The body is too large",
    422: "A parameter, header or field is not sound; each is named",
    429: "Too many requests: ask again after Retry-After",
    503: "A part that is needed is out of reach, or there are too many requests: ask again",
}
SECURITY: list[dict[str, list[str]]] = [{"key": []}, {"session": [], "csrf": []}]
"""How a caller shows who it is: by a key, or by a session with its CSRF token, which reads need not show."""
_EVERYWHERE = (401, 403, 408, 413, 422, 429, 503)
_TEXT = {"type": "string"}
_KEY = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARACTERS}
_OUTCOME = {
    "type": ["object", "null"],
    "description": "Null unless it was waited for. Without an event in time no effect is known: it may have had none",
    "properties": {
        "status": {"enum": ["done", "refused", "no_effect_known"]},
        "events": {"type": "array", "items": {"$ref": "#/components/schemas/TimelineEntry"}},
        "reasons": {"type": "array", "items": _TEXT},
    },
    "required": ["status", "events", "reasons"],
}
_OFFERS = {
    "type": "array",
    "description": "What may be asked for of it, and whether it is offered to this caller now",
    "items": {
        "type": "object",
        "properties": {"name": _TEXT, "title": _TEXT, "offered": {"type": "boolean"}, "why_not": {"type": ["string", "null"]}},
        "required": ["name", "title", "offered", "why_not"],
    },
}
_LISTED = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("name", "title", "summary", "scope", "object", "path"), _TEXT),
        "fields": {"type": "object", "description": "The JSON Schema of each field of the body"},
        "required": {"type": "array", "items": _TEXT},
        "destroys": {"type": "boolean", "description": "No other operation brings back what it gives up: a person should confirm it"},
        "allowed": {"type": "boolean", "description": "Whether the caller has its scope"},
    },
    "required": ["name", "title", "summary", "scope", "object", "path", "fields", "required", "destroys", "allowed"],
}


def example_of(operation: Operation) -> tuple[Json, Json]:
    """Path parameters and body of an example."""
    message = example_order() if operation.name == "place-order" else sample(operation.command)
    content: Json = _given(msgspec.json.decode(encode(message)))
    parameters = {name: "inventory" if name == "service" else content.pop(name, "") for name in operation.parameters}
    for name, template in operation.derived.items():
        parameters |= _spelled(template, content.pop(name))
    if operation.name == "erase-customer":
        content.pop("email")  # by its channel's id alone
    return parameters, content


def _given(content: Any) -> Any:
    """The same JSON without null: what is not given is left out."""
    match content:
        case dict():
            return {name: _given(part) for name, part in cast(Json, content).items() if part is not None}
        case list():
            return [_given(part) for part in cast(list[Any], content)]
        case _:
            return content


def _spelled(template: str, text: str) -> Json:
    """The parameters of a derived field: those of `{order_id}/{location}` in `o-1/BER`."""
    names = [part[1:-1] for part in template.split("/")]
    return dict(zip(names, text.split("/"), strict=True))


def of_operation(operation: Operation) -> Json:
    """What the document says of an operation."""
    parameters, body = example_of(operation)
    key = key_of(operation.message(parameters, body))
    answer: Json = {"event_id": "0192f0c1", "key": key, "operation": operation.name, "outcome": _outcome("no_effect_known")}
    properties = {"event_id": _TEXT, "key": _TEXT, "operation": {"const": operation.name}, "outcome": _OUTCOME}
    headers: Json = {}
    if operation.name == "place-order":
        where = f"/api/v1/orders/{key}"
        answer |= {"order_id": key, "status_url": where}
        properties |= {"order_id": _TEXT, "status_url": {"type": "string", "format": "uri-reference"}}
        headers = {"headers": {"Location": {"description": "Where the order can be read", "schema": _TEXT}}}
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    done = answer | {"outcome": _outcome("done")}
    refused = deepcopy(PROBLEM_SCHEMA)
    refused["properties"] |= properties
    return {
        "parameters": [
            *(_parameter(name, "path", _TEXT, example=parameters[name]) for name in operation.parameters),
            _parameter("wait", "query", {"type": "string", "pattern": r"^[0-9]{1,2}(\.[0-9]{1,3})?s$"}, f"At most {MAX_WAIT_SECONDS}s: 5s"),
            _parameter("X-Reason", "header", _TEXT, f"Why: one line, percent-encoded UTF-8, at most {MAX_REASON_BYTES} bytes"),
            _parameter("Idempotency-Key", "header", _KEY, "The same key with the same request again, within a day, counts once"),
        ],
        "requestBody": {
            "required": bool(operation.required),
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": operation.fields,
                        "required": list(operation.required),
                        "additionalProperties": False,
                    },
                    "example": body,
                }
            },
        },
        "responses": {
            "202": {"description": "Taken", "content": {"application/json": {"schema": schema, "example": answer}}} | headers,
            "200": {"description": "Done", "content": {"application/json": {"schema": schema, "example": done}}} | headers,
            **problems(*_EVERYWHERE, 404),
            **problems(409, schema=refused),
        },
        "security": SECURITY,
        "x-scope": operation.scope,
    }


def of_read(read: Read) -> Json:
    """What the document says of something that can be read: what the query API's document says, and what is the gateway's own."""
    documented = read.documented
    parameters = [each for each in documented.get("parameters", ())]
    if read.path == ORDER:
        parameters = [each | {"description": "Its id, or channel~reference"} for each in parameters]
    tag = _parameter("If-None-Match", "header", _TEXT, "The ETag of an earlier answer: 304 when it is still that one")
    ok = documented["responses"]["200"] | {"headers": {"ETag": {"description": "A hash of the answer", "schema": _TEXT}}}
    found = {"requestBody": documented["requestBody"]} if "requestBody" in documented else {}
    return found | {
        "parameters": [*parameters, tag],
        "responses": {"200": ok, "304": {"description": "Still the same"}, **problems(*_EVERYWHERE, 404)},
        "security": SECURITY,
        "x-scope": " ".join(read.scopes),
    }


def of_list() -> Json:
    """What the document says of the list of operations."""
    listed = {"type": "object", "properties": {"items": {"type": "array", "items": _LISTED}, "next": {"type": "null"}}}
    return {
        "responses": {"200": {"description": "All of them", "content": {"application/json": {"schema": listed}}}, **problems(*_EVERYWHERE)},
        "security": SECURITY,
    }


def of_status() -> Json:
    """What the document says of the stream of status changes."""
    text = {"text/event-stream": {"schema": _TEXT, "example": "id: 0:42,1:7\nevent: status\ndata: {…}\n\n"}}
    return {
        "parameters": [
            _parameter("order_id", "query", _TEXT, "Of this order alone"),
            _parameter("channel", "query", _TEXT, "Of the orders of this channel alone"),
            _parameter("Last-Event-ID", "header", _TEXT, "The id of the last event that arrived: the stream goes on after it"),
        ],
        "responses": {
            "200": {"description": "Events `status` as they happen; `gap` when some are told no more", "content": text},
            **problems(*_EVERYWHERE),
        },
        "security": SECURITY,
        "x-scope": "orders:read",
    }


def components() -> Json:
    """The parts that routes refer to."""
    schemas: Json = deepcopy(QUERY_API["components"]["schemas"])
    for name in ("OrderDetail", "Fulfillment", "ShippedPackage", "Return"):
        schemas[name]["properties"]["operations"] = _OFFERS
    key = {"type": "http", "scheme": "bearer", "description": "A key: `Authorization: Bearer oms_…`. Its scopes say what it may do."}
    session = {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-oms_session",
        "description": "The session of a person who signed in at `POST /api/v1/session`.",
    }
    csrf = {
        "type": "apiKey",
        "in": "header",
        "name": "X-CSRF-Token",
        "description": "What the sign-in and `GET /api/v1/me` answer as `csrf_token`; for changes alone.",
    }
    return {"schemas": schemas, "securitySchemes": {"key": key, "session": session, "csrf": csrf}}


def problems(*statuses: int, schema: Mapping[str, Any] = PROBLEM_SCHEMA) -> Json:
    """The responses of these statuses."""
    return {str(each): {"description": PROBLEMS[each], "content": {PROBLEM_JSON: {"schema": schema}}} for each in statuses}


def roles_table(operations: tuple[Operation, ...]) -> str:
    """The table "operation by role", in Markdown."""
    head = f"| operation | scope | {' | '.join(ROLES)} |\n|---|---|{'---|' * len(ROLES)}\n"
    rows = (
        f"| `{each.name}` | `{each.scope}` | {' | '.join('yes' if each.scope in scopes else '–' for scopes in ROLES.values())} |\n"
        for each in operations
    )
    return head + "".join(rows)


def text_of(document: Mapping[str, Any]) -> str:
    """A document as it is kept in a file."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _outcome(status: str) -> Json:
    return {"status": status, "events": list[Json](), "reasons": list[str]()}


def _parameter(name: str, place: str, schema: Mapping[str, Any], description: str = "", example: str | None = None) -> Json:
    made: Json = {"name": name, "in": place, "required": place == "path", "schema": schema}
    if description:
        made["description"] = description
    if example is not None:
        made["example"] = example
    return made
