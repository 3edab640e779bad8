import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import httpx
import jsonschema
import pytest
from aiokafka.errors import KafkaConnectionError
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oms_capture.api import MAX_BYTES, make_api
from oms_contracts.channel import OrderPlaced, WebhookReceived
from oms_contracts.message import encode, key_of
from oms_contracts.values import order_id_of

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
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


class InMemoryOrders:
    """Keeps orders in memory, or raises `error`."""

    def __init__(self) -> None:
        self.published: list[tuple[Any, datetime]] = []
        self.error: Exception | None = None
        self.open = False

    async def start(self) -> None:
        self.open = True

    async def stop(self) -> None:
        self.open = False

    async def publish(self, message: OrderPlaced | WebhookReceived, now: datetime) -> str:
        if self.error is not None:
            raise self.error
        self.published.append((message, now))
        return key_of(message)


@pytest.fixture
def orders() -> InMemoryOrders:
    return InMemoryOrders()


@pytest.fixture
def api(orders: InMemoryOrders) -> FastAPI:
    return make_api(orders, "http://query", lambda: NOON)


@pytest.fixture
async def client(api: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://capture") as client:
        yield client


async def post(client: httpx.AsyncClient, order: dict[str, Any] | bytes) -> httpx.Response:
    content = order if isinstance(order, bytes) else json.dumps(order).encode()
    return await client.post("/orders", content=content, headers={"content-type": "application/json"})


async def post_slowly(orders: InMemoryOrders) -> httpx.Response:
    """The response to a body that does not end."""
    never = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    api = make_api(orders, "http://query", lambda: NOON, body_timeout_seconds=0.05)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://capture") as client:
        return await client.post("/orders", content=body())


def reasons_of(response: httpx.Response, status: int) -> list[str]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    return problem["reasons"]


async def test_an_order_is_accepted_with_the_address_of_its_status(client: httpx.AsyncClient, orders: InMemoryOrders):
    response = await post(client, ORDER)
    assert response.status_code == 202
    assert response.headers["location"] == f"http://query/orders/{ORDER_ID}"
    assert response.json() == {"order_id": ORDER_ID, "status_url": f"http://query/orders/{ORDER_ID}"}
    [(placed, now)] = orders.published
    assert placed.channel_reference == "W1"
    assert now == NOON


async def test_the_same_order_again_is_the_same_order(client: httpx.AsyncClient, orders: InMemoryOrders):
    first, again = await post(client, ORDER), await post(client, ORDER | {"placed_at": "2026-11-23T13:00:00+01:00"})
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert len({encode(placed) for placed, _ in orders.published}) == 1


async def test_different_orders_have_different_ids(client: httpx.AsyncClient):
    responses = [await post(client, ORDER | changes) for changes in ({}, {"channel": "app"}, {"channel_reference": "W2"})]
    assert len({response.json()["order_id"] for response in responses}) == 3


async def test_the_edge_does_not_decide_whether_an_order_is_valid(client: httpx.AsyncClient, orders: InMemoryOrders):
    assert (await post(client, ORDER | {"total": 1, "currency": "DM"})).status_code == 202
    assert len(orders.published) == 1


async def test_every_invalid_field_is_named(client: httpx.AsyncClient, orders: InMemoryOrders):
    line = ORDER["lines"][0] | {"quantity": "three"}
    faulty = {name: value for name, value in ORDER.items() if name != "currency"}
    response = await post(client, faulty | {"total": 5.5, "lines": [line], "colour": "red", "placed_at": "yesterday"})
    reasons = reasons_of(response, 422)
    assert sorted(reason.partition(":")[0] for reason in reasons) == ["colour", "currency", "lines.0.quantity", "placed_at", "total"]
    assert orders.published == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"order"', b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_no_order_is_a_problem(client: httpx.AsyncClient, body: bytes):
    assert reasons_of(await post(client, body), 422)


async def test_an_order_larger_than_the_topics_limit_is_rejected(client: httpx.AsyncClient, orders: InMemoryOrders):
    assert reasons_of(await post(client, b" " * MAX_BYTES + json.dumps(ORDER).encode()), 413)
    assert orders.published == []


async def test_defaults_that_will_be_published_count_towards_the_size(client: httpx.AsyncClient, orders: InMemoryOrders):
    def body_with(padding: str) -> bytes:
        lines = [{"line_id": f"{number}{padding}", "sku": "b", "quantity": 1, "unit_price": 1, "total": 1} for number in range(1_000)]
        return json.dumps(ORDER | {"lines": lines}, separators=(",", ":"), ensure_ascii=False).encode()

    body = body_with("ü" * ((MAX_BYTES - len(body_with(""))) // 2_000))
    assert len(body) < MAX_BYTES
    assert reasons_of(await post(client, body), 413)
    assert orders.published == []


async def test_an_endless_body_is_read_only_to_the_limit(client: httpx.AsyncClient):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * MAX_BYTES:
            sent += 64 * 1024
            yield b" " * 64 * 1024

    response = await client.post("/orders", content=endless())
    assert reasons_of(response, 413)
    assert sent < 2 * MAX_BYTES


async def test_a_body_that_does_not_end_is_a_problem(orders: InMemoryOrders):
    response = await post_slowly(orders)
    assert reasons_of(response, 408) == ["body: it must arrive within 0.05 s"]
    assert response.headers["connection"] == "close"
    assert orders.published == []


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), TimeoutError()])
async def test_without_a_broker_the_order_has_to_be_sent_again(client: httpx.AsyncClient, orders: InMemoryOrders, error: Exception):
    orders.error = error
    assert reasons_of(await post(client, ORDER), 503)
    orders.error = None
    assert (await post(client, ORDER)).status_code == 202


async def test_the_publisher_runs_as_long_as_the_api(api: FastAPI, orders: InMemoryOrders):
    async with api.router.lifespan_context(api):
        assert orders.open
    assert not orders.open


# The OpenAPI document


async def order_validator(client: httpx.AsyncClient) -> Any:
    """A validator of the schema that the document gives for the request's body."""
    operation = (await client.get("/openapi.json")).json()["paths"]["/orders"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    validator: Any = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    return validator


async def test_the_document_describes_the_request_and_every_response(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/orders"]["post"]
    assert document["openapi"].startswith("3.1")
    assert set(operation["responses"]) == {"202", "408", "413", "422", "503"}
    assert "Location" in operation["responses"]["202"]["headers"]
    for status in ("408", "413", "422", "503"):
        assert set(operation["responses"][status]["content"]) == {"application/problem+json"}


async def test_the_documents_schema_accepts_what_the_api_accepts(client: httpx.AsyncClient, orders: InMemoryOrders):
    validator = await order_validator(client)
    await post(client, ORDER)
    [(placed, _)] = orders.published
    for order in (ORDER, json.loads(encode(placed))):
        validator.validate(order)
    invalid: list[dict[str, Any]] = [ORDER | {"total": "500"}, ORDER | {"colour": "red"}, ORDER | {"lines": [{}]}, {}]
    for body in invalid:
        assert not validator.is_valid(body)


async def test_every_response_is_described_by_the_document(client: httpx.AsyncClient, orders: InMemoryOrders):
    documented = (await client.get("/openapi.json")).json()["paths"]["/orders"]["post"]["responses"]
    responses = [await post(client, ORDER), await post(client, {}), await post(client, b" " * (MAX_BYTES + 1))]
    orders.error = TimeoutError()
    responses.append(await post(client, ORDER))
    responses.append(await post_slowly(orders))
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
