"""Orders over HTTP, in memory: who may place and see them, and what is published."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import httpx
import jsonschema
import pytest
from aiokafka.errors import KafkaConnectionError
from fastapi import FastAPI, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oms_client.publisher import Asker
from oms_contracts.message import encode
from oms_contracts.values import order_id_of
from oms_gateway.identify import by_key
from oms_gateway.identity import Identity
from oms_gateway.orders import MAX_BYTES
from pydantic import SecretStr

from services.gateway.tests.memory import NOON, InMemoryChannels, client_of, edge, query_that

ORDER: dict[str, Any] = {
    "channel": "web",
    "channel_reference": "W1",
    "placed_at": "2026-11-23T12:00:00Z",
    "customer": {"id": "ada"},
    "currency": "EUR",
    "lines": [{"line_id": "A", "sku": "mug", "quantity": 1, "unit_price": 500, "total": 500}],
    "total": 500,
    "payment": {"kind": "card", "token": "tok"},
    "delivery": "pickup",
}
ORDER_ID = order_id_of("web", "W1")


KEY = "k" * 32
KNOWN = {"order_id": ORDER_ID, "channel": "web", "status": "accepted"}


def known(request: httpx.Request) -> httpx.Response:
    """A query API that knows the one order."""
    if request.url.path == f"/orders/{ORDER_ID}":
        return httpx.Response(200, json=KNOWN)
    content = json.dumps({"title": "not known", "status": 404, "reasons": []})
    return httpx.Response(404, content=content, headers={"content-type": "application/problem+json"})


@pytest.fixture
def channels() -> InMemoryChannels:
    return InMemoryChannels()


@pytest.fixture
def app(channels: InMemoryChannels) -> FastAPI:
    return edge(channels, identify=by_key(SecretStr(KEY)), query=query_that(known))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        yield client


@pytest.fixture
def identified(channels: InMemoryChannels) -> Callable[[Identity], httpx.AsyncClient]:
    """A client that is taken for an identity."""

    def make(identity: Identity) -> httpx.AsyncClient:
        async def identify(_request: Request) -> Identity:
            return identity

        return client_of(edge(channels, identify=identify, query=query_that(known)))

    return make


async def post(client: httpx.AsyncClient, order: dict[str, Any] | bytes) -> httpx.Response:
    content = order if isinstance(order, bytes) else json.dumps(order).encode()
    return await client.post("/api/v1/orders", content=content, headers={"content-type": "application/json"})


async def post_slowly(channels: InMemoryChannels) -> httpx.Response:
    """The response to a body that does not end."""
    never = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    async with client_of(edge(channels, identify=by_key(SecretStr(KEY)), body_timeout_seconds=0.05)) as client:
        return await client.post("/api/v1/orders", content=body(), headers={"authorization": f"Bearer {KEY}"})


def reasons_of(response: httpx.Response, status: int) -> list[str]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    return problem["reasons"]


async def test_an_order_is_accepted_with_the_address_of_its_status(client: httpx.AsyncClient, channels: InMemoryChannels):
    response = await post(client, ORDER)
    assert response.status_code == 202
    status_url = f"/api/v1/orders/{ORDER_ID}"
    assert response.headers["location"] == status_url
    assert response.json() == {
        "event_id": ORDER_ID,
        "key": ORDER_ID,
        "operation": "place-order",
        "outcome": None,
        "order_id": ORDER_ID,
        "status_url": status_url,
    }
    [placed] = channels.published
    assert placed.channel_reference == "W1"
    assert (channels.at, channels.askers) == ([NOON], [Asker("key:gateway")])
    assert (await client.get(status_url)).json() == KNOWN


@pytest.mark.parametrize("shown", [None, "Bearer ", f"Bearer {KEY}k", f"Basic {KEY}"])
async def test_without_a_valid_key_nothing_is_done(app: FastAPI, channels: InMemoryChannels, shown: str | None):
    async with client_of(app) as client:
        headers = {} if shown is None else {"authorization": shown}
        for response in (
            await client.post("/api/v1/orders", json=ORDER, headers=headers),
            await client.get(f"/api/v1/orders/{ORDER_ID}", headers=headers),
        ):
            assert reasons_of(response, 401) == ["Authorization: must be Bearer and a key"]
            assert response.headers["www-authenticate"] == "Bearer"
    assert channels.published == []


async def test_without_a_key_in_the_settings_nobody_is_known(channels: InMemoryChannels):
    async with client_of(edge(channels)) as client:
        for shown in ("Bearer ", "Bearer None"):
            assert reasons_of(await client.post("/api/v1/orders", json=ORDER, headers={"authorization": shown}), 401)


async def test_what_no_scope_allows_is_refused(identified: Callable[[Identity], httpx.AsyncClient], channels: InMemoryChannels):
    async with identified(Identity(actor="user:ada", scopes=frozenset())) as client:
        assert reasons_of(await client.post("/api/v1/orders", json=ORDER), 403) == ["scope: orders:place is needed"]
        assert reasons_of(await client.get(f"/api/v1/orders/{ORDER_ID}"), 403) == ["scope: orders:read is needed"]
    assert channels.published == []


@pytest.mark.parametrize(("channel", "placed", "shown"), [(None, 202, 200), ("web", 202, 200), ("till", 403, 404)])
async def test_a_key_of_a_channel_places_and_sees_its_orders_alone(
    identified: Callable[[Identity], httpx.AsyncClient], channels: InMemoryChannels, channel: str | None, placed: int, shown: int
):
    async with identified(Identity(actor="key:7", scopes=frozenset({"orders:place", "orders:read"}), channel=channel)) as client:
        assert (await client.post("/api/v1/orders", json=ORDER)).status_code == placed
        assert (await client.get(f"/api/v1/orders/{ORDER_ID}")).status_code == shown
    assert len(channels.published) == (placed == 202)


async def test_an_order_that_is_not_known_and_a_query_api_that_is_away(client: httpx.AsyncClient, channels: InMemoryChannels):
    assert reasons_of(await client.get("/api/v1/orders/other"), 404)

    def gone(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("gone")

    async with client_of(edge(channels, identify=by_key(SecretStr(KEY)), query=query_that(gone))) as other:
        assert reasons_of(await other.get("/api/v1/orders/1", headers={"authorization": f"Bearer {KEY}"}), 503)


async def test_the_same_order_again_is_the_same_order(client: httpx.AsyncClient, channels: InMemoryChannels):
    first, again = await post(client, ORDER), await post(client, ORDER | {"placed_at": "2026-11-23T13:00:00+01:00"})
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert len({encode(placed) for placed in channels.published}) == 1


async def test_different_orders_have_different_ids(client: httpx.AsyncClient):
    responses = [await post(client, ORDER | changes) for changes in ({}, {"channel": "app"}, {"channel_reference": "W2"})]
    assert len({response.json()["order_id"] for response in responses}) == 3


async def test_the_edge_does_not_decide_whether_an_order_is_valid(client: httpx.AsyncClient, channels: InMemoryChannels):
    assert (await post(client, ORDER | {"total": 1, "currency": "DM"})).status_code == 202
    assert len(channels.published) == 1


async def test_every_invalid_field_is_named(client: httpx.AsyncClient, channels: InMemoryChannels):
    line = ORDER["lines"][0] | {"quantity": "three"}
    faulty = {name: value for name, value in ORDER.items() if name != "currency"}
    response = await post(client, faulty | {"total": 5.5, "lines": [line], "colour": "red", "placed_at": "yesterday"})
    reasons = reasons_of(response, 422)
    assert sorted(reason.partition(":")[0] for reason in reasons) == ["colour", "currency", "lines.0.quantity", "placed_at", "total"]
    assert channels.published == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"order"', b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_no_order_is_a_problem(client: httpx.AsyncClient, body: bytes):
    assert reasons_of(await post(client, body), 422)


async def test_an_order_larger_than_the_topics_limit_is_rejected(client: httpx.AsyncClient, channels: InMemoryChannels):
    assert reasons_of(await post(client, b" " * MAX_BYTES + json.dumps(ORDER).encode()), 413)
    assert channels.published == []


async def test_defaults_that_will_be_published_count_towards_the_size(client: httpx.AsyncClient, channels: InMemoryChannels):
    def body_with(padding: str) -> bytes:
        lines = [{"line_id": f"{number}{padding}", "sku": "b", "quantity": 1, "unit_price": 1, "total": 1} for number in range(1_000)]
        return json.dumps(ORDER | {"lines": lines}, separators=(",", ":"), ensure_ascii=False).encode()

    body = body_with("ü" * ((MAX_BYTES - len(body_with(""))) // 2_000))
    assert len(body) < MAX_BYTES
    assert reasons_of(await post(client, body), 413)
    assert channels.published == []


async def test_an_endless_body_is_read_only_to_the_limit(client: httpx.AsyncClient):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * MAX_BYTES:
            sent += 64 * 1024
            yield b" " * 64 * 1024

    response = await client.post("/api/v1/orders", content=endless())
    assert reasons_of(response, 413)
    assert sent < 2 * MAX_BYTES


async def test_a_body_that_does_not_end_is_a_problem(channels: InMemoryChannels):
    response = await post_slowly(channels)
    assert reasons_of(response, 408) == ["body: it must arrive within 0.05 s"]
    assert response.headers["connection"] == "close"
    assert channels.published == []


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), TimeoutError()])
async def test_without_a_broker_the_order_has_to_be_sent_again(client: httpx.AsyncClient, channels: InMemoryChannels, error: Exception):
    channels.error = error
    assert reasons_of(await post(client, ORDER), 503)
    channels.error = None
    assert (await post(client, ORDER)).status_code == 202


async def test_the_publisher_runs_as_long_as_the_api(app: FastAPI, channels: InMemoryChannels):
    async with app.router.lifespan_context(app):
        assert channels.open
    assert not channels.open


# The OpenAPI document


async def order_validator(client: httpx.AsyncClient) -> Any:
    """A validator of the schema that the document gives for the request's body."""
    operation = (await client.get("/openapi.json")).json()["paths"]["/api/v1/orders"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    validator: Any = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    return validator


async def test_the_document_describes_the_request_and_every_response(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/api/v1/orders"]["post"]
    assert document["openapi"].startswith("3.1")
    assert set(operation["responses"]) == {"202", "401", "403", "408", "413", "422", "503"}
    assert "Location" in operation["responses"]["202"]["headers"]
    for status in ("401", "403", "408", "413", "422", "503"):
        assert set(operation["responses"][status]["content"]) == {"application/problem+json"}


async def test_the_documents_schema_accepts_what_the_api_accepts(client: httpx.AsyncClient, channels: InMemoryChannels):
    validator = await order_validator(client)
    await post(client, ORDER)
    [placed] = channels.published
    for order in (ORDER, json.loads(encode(placed))):
        validator.validate(order)
    invalid: list[dict[str, Any]] = [ORDER | {"total": "500"}, ORDER | {"colour": "red"}, ORDER | {"lines": [{}]}, {}]
    for body in invalid:
        assert not validator.is_valid(body)


async def test_every_response_is_described_by_the_document(
    client: httpx.AsyncClient, channels: InMemoryChannels, identified: Callable[[Identity], httpx.AsyncClient]
):
    documented = (await client.get("/openapi.json")).json()["paths"]["/api/v1/orders"]["post"]["responses"]
    responses = [await post(client, ORDER), await post(client, {}), await post(client, b" " * (MAX_BYTES + 1))]
    channels.error = TimeoutError()
    responses.append(await post(client, ORDER))
    responses.append(await post_slowly(channels))
    async with client_of(edge(channels)) as stranger:
        responses.append(await post(stranger, ORDER))
    async with identified(Identity(actor="user:ada", scopes=frozenset())) as viewer:
        responses.append(await post(viewer, ORDER))
    assert {str(response.status_code) for response in responses} == {*documented}
    for response in responses:
        described = documented[str(response.status_code)]
        validator: Any = jsonschema.Draft202012Validator(described["content"][response.headers["content-type"]]["schema"])
        validator.validate(response.json())
        assert {name for name in described.get("headers", {}) if name not in response.headers} == set()


ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", "EUR", "2026-11-23T12:00:00Z"])
NAMES = st.sampled_from([*ORDER, *ORDER["lines"][0], "shipping", "ship_to", "x"])
JUNK = st.recursive(ATOMS, lambda part: st.lists(part, max_size=2) | st.dictionaries(NAMES, part, max_size=3), max_leaves=8)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(NAMES, JUNK, max_size=3), left_out=st.sets(NAMES, max_size=2))
async def test_any_body_is_a_documented_order_or_a_problem(client: httpx.AsyncClient, changes: dict[str, Any], left_out: set[str]):
    body = {name: value for name, value in (ORDER | changes).items() if name not in left_out}
    response = await post(client, body)
    if response.status_code == 202:
        (await order_validator(client)).validate(body)
    else:
        assert reasons_of(response, 422)


async def test_every_reference_in_the_document_resolves(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, part in cast(dict[str, Any], node).items():
            if name == "$ref":
                yield part
            yield from references(part)
    if isinstance(node, list):
        for part in cast(list[Any], node):
            yield from references(part)
