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
from oms_contracts.channel import OrderPlaced
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


class KeptOrders:
    """Keeps orders in memory, or is out of reach."""

    def __init__(self) -> None:
        self.published: list[tuple[OrderPlaced, datetime]] = []
        self.trouble: Exception | None = None
        self.open = False

    async def start(self) -> None:
        self.open = True

    async def stop(self) -> None:
        self.open = False

    async def publish(self, placed: OrderPlaced, now: datetime) -> str:
        if self.trouble is not None:
            raise self.trouble
        self.published.append((placed, now))
        return key_of(placed)


@pytest.fixture
def orders() -> KeptOrders:
    return KeptOrders()


@pytest.fixture
def api(orders: KeptOrders) -> FastAPI:
    return make_api(orders, "http://query", lambda: NOON)


@pytest.fixture
async def client(api: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://capture") as client:
        yield client


async def post(client: httpx.AsyncClient, order: dict[str, Any] | bytes) -> httpx.Response:
    content = order if isinstance(order, bytes) else json.dumps(order).encode()
    return await client.post("/orders", content=content, headers={"content-type": "application/json"})


def reasons_of(answer: httpx.Response, status: int) -> list[str]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    return problem["reasons"]


async def test_an_order_is_taken_and_can_be_looked_up(client: httpx.AsyncClient, orders: KeptOrders):
    answer = await post(client, ORDER)
    assert answer.status_code == 202
    assert answer.headers["location"] == f"http://query/orders/{ORDER_ID}"
    assert answer.json() == {"order_id": ORDER_ID, "status_url": f"http://query/orders/{ORDER_ID}"}
    [(placed, now)] = orders.published
    assert placed.channel_reference == "W1"
    assert now == NOON


async def test_the_same_order_again_is_the_same_order(client: httpx.AsyncClient, orders: KeptOrders):
    first, again = await post(client, ORDER), await post(client, ORDER | {"placed_at": "2026-11-23T13:00:00+01:00"})
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert len({encode(placed) for placed, _ in orders.published}) == 1


async def test_other_orders_have_other_ids(client: httpx.AsyncClient):
    answers = [await post(client, ORDER | changes) for changes in ({}, {"channel": "app"}, {"channel_reference": "W2"})]
    assert len({answer.json()["order_id"] for answer in answers}) == 3


async def test_whether_an_order_is_sound_is_not_decided_here(client: httpx.AsyncClient, orders: KeptOrders):
    assert (await post(client, ORDER | {"total": 1, "currency": "DM"})).status_code == 202
    assert len(orders.published) == 1


async def test_every_field_at_fault_is_named(client: httpx.AsyncClient, orders: KeptOrders):
    line = ORDER["lines"][0] | {"quantity": "three"}
    faulty = {name: value for name, value in ORDER.items() if name != "currency"}
    answer = await post(client, faulty | {"total": 5.5, "lines": [line], "colour": "red", "placed_at": "yesterday"})
    reasons = reasons_of(answer, 422)
    assert sorted(reason.partition(":")[0] for reason in reasons) == ["colour", "currency", "lines.0.quantity", "placed_at", "total"]
    assert orders.published == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"order"', b"\xff\xfe", b"[" * 100_000])
async def test_what_is_no_order_at_all_is_a_problem_too(client: httpx.AsyncClient, body: bytes):
    assert reasons_of(await post(client, body), 422)


async def test_an_order_is_not_larger_than_its_topic_takes(client: httpx.AsyncClient, orders: KeptOrders):
    assert reasons_of(await post(client, b" " * MAX_BYTES + json.dumps(ORDER).encode()), 413)
    assert orders.published == []


async def test_what_is_left_out_counts_as_it_will_be_written(client: httpx.AsyncClient, orders: KeptOrders):
    def body_with(padding: str) -> bytes:
        lines = [{"line_id": f"{number}{padding}", "sku": "b", "quantity": 1, "unit_price": 1, "total": 1} for number in range(1_000)]
        return json.dumps(ORDER | {"lines": lines}, separators=(",", ":"), ensure_ascii=False).encode()

    body = body_with("ü" * ((MAX_BYTES - len(body_with(""))) // 2_000))
    assert len(body) < MAX_BYTES
    assert reasons_of(await post(client, body), 413)
    assert orders.published == []


async def test_a_body_that_never_ends_is_not_read_to_its_end(client: httpx.AsyncClient):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * MAX_BYTES:
            sent += 64 * 1024
            yield b" " * 64 * 1024

    answer = await client.post("/orders", content=endless())
    assert reasons_of(answer, 413)
    assert sent < 2 * MAX_BYTES


@pytest.mark.parametrize("trouble", [KafkaConnectionError("gone"), TimeoutError()])
async def test_without_the_broker_the_order_is_to_be_sent_again(client: httpx.AsyncClient, orders: KeptOrders, trouble: Exception):
    orders.trouble = trouble
    assert reasons_of(await post(client, ORDER), 503)
    orders.trouble = None
    assert (await post(client, ORDER)).status_code == 202


async def test_the_way_to_kafka_is_open_as_long_as_the_api_is(api: FastAPI, orders: KeptOrders):
    async with api.router.lifespan_context(api):
        assert orders.open
    assert not orders.open


# The OpenAPI document


async def checker_of_orders(client: httpx.AsyncClient) -> Any:
    """What the document says of a request's body."""
    operation = (await client.get("/openapi.json")).json()["paths"]["/orders"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    checker: Any = jsonschema.Draft202012Validator(schema)
    checker.check_schema(schema)
    return checker


async def test_the_document_says_what_is_taken_and_what_is_answered(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/orders"]["post"]
    assert document["openapi"].startswith("3.1")
    assert set(operation["responses"]) == {"202", "413", "422", "503"}
    assert "Location" in operation["responses"]["202"]["headers"]
    for status in ("413", "422", "503"):
        assert set(operation["responses"][status]["content"]) == {"application/problem+json"}


async def test_the_documents_schema_takes_what_we_take(client: httpx.AsyncClient, orders: KeptOrders):
    checker = await checker_of_orders(client)
    await post(client, ORDER)
    [(placed, _)] = orders.published
    for order in (ORDER, json.loads(encode(placed))):
        checker.validate(order)
    wrongs: list[dict[str, Any]] = [ORDER | {"total": "500"}, ORDER | {"colour": "red"}, ORDER | {"lines": [{}]}, {}]
    for wrong in wrongs:
        assert not checker.is_valid(wrong)


async def test_every_answer_is_one_that_the_document_describes(client: httpx.AsyncClient, orders: KeptOrders):
    responses = (await client.get("/openapi.json")).json()["paths"]["/orders"]["post"]["responses"]
    answers = [await post(client, ORDER), await post(client, {}), await post(client, b" " * (MAX_BYTES + 1))]
    orders.trouble = TimeoutError()
    answers.append(await post(client, ORDER))
    assert {str(answer.status_code) for answer in answers} == {*responses}
    for answer in answers:
        described = responses[str(answer.status_code)]
        checker: Any = jsonschema.Draft202012Validator(described["content"][answer.headers["content-type"]]["schema"])
        checker.validate(answer.json())
        assert {name for name in described.get("headers", {}) if name not in answer.headers} == set()


ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", "EUR", "2026-11-23T12:00:00Z"])
NAMES = st.sampled_from([*ORDER, *ORDER["lines"][0], "shipping", "ship_to", "x"])
JUNK = st.recursive(ATOMS, lambda part: st.lists(part, max_size=2) | st.dictionaries(NAMES, part, max_size=3), max_leaves=8)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(NAMES, JUNK, max_size=3), left_out=st.sets(NAMES, max_size=2))
async def test_whatever_is_posted_is_a_documented_order_or_a_problem(
    client: httpx.AsyncClient, changes: dict[str, Any], left_out: set[str]
):
    body = {name: value for name, value in (ORDER | changes).items() if name not in left_out}
    answer = await post(client, body)
    if answer.status_code == 202:
        (await checker_of_orders(client)).validate(body)
    else:
        assert reasons_of(answer, 422)


async def test_every_reference_in_the_document_leads_somewhere(client: httpx.AsyncClient):
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
