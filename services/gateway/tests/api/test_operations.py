"""Operations over HTTP: who may ask for what, what is published, and what is answered. On a real broker and real databases."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec
import pytest
import pytest_asyncio
from aiokafka.errors import KafkaConnectionError
from oms_contracts.catalogue import EXTERNAL_MAX_BYTES, EXTERNAL_MAX_VALUE_BYTES, topic_of
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.envelope import Envelope
from oms_contracts.message import decode, encode, key_of, type_of
from oms_contracts.operations import MAX_REASON_BYTES, OPERATIONS, Operation, operation_of
from oms_contracts.orders import CancelOrder, OrderAccepted, OrderCancellationRequested, OrderCommandRefused
from oms_contracts.samples import sample
from oms_contracts.values import order_id_of
from oms_gateway import idempotency, operations_api
from oms_gateway.api import make_api
from oms_gateway.document import example_of
from oms_gateway.identity import ROLES
from oms_gateway.operations_api import reason_of, seconds_of
from oms_gateway.refusals import Invalid
from oms_runtime.database import Database
from oms_runtime.model import IncomingRecord

from services.gateway.tests.api.conftest import NOW, ORDER_ID, Gateway
from services.projection.tests.conftest import sealed_for

CANCEL = f"/orders/{ORDER_ID}/cancel"


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client() as client:
        yield client


def path_of(operation: Operation, parameters: dict[str, str]) -> str:
    return operation.path.format(**{name: quote(value, safe="") for name, value in parameters.items()})


def order(reference: str, channel: str = "web") -> dict[str, Any]:
    return example_of(operation_of("place-order"))[1] | {"channel": channel, "channel_reference": reference}


def reasons_of(response: httpx.Response, status: int) -> list[str]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["reasons"]


async def ask_as(gateway: Gateway, name: str | None, path: str, body: Any, **options: Any) -> httpx.Response:
    async with gateway.client(name) as client:
        return await client.post(path, json=body, **options)


async def cause(gateway: Gateway, event: Any, event_id: str) -> None:
    """The read models know an event that was caused by the record `event_id`."""
    key = key_of(event)
    position = int(event_id[:12], 16)
    envelope = Envelope(
        type=type_of(event).name,
        source="/oms/capture",
        id=f"capture-{position}",
        time=NOW,
        sequence=99,
        position=position,
        causationid=event_id,
    )
    record = IncomingRecord(
        topic=topic_of(event),
        partition=0,
        offset=position,
        key=key,
        headers=(),
        value=encode(event),
        type=envelope.type,
        position=position,
        envelope=envelope,
        message=event,
    )
    await gateway.project([record])


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
async def test_every_operation_is_published_on_its_topic_with_who_asked_and_why(
    gateway: Gateway, operation: Operation, unused: Callable[[str], str]
) -> None:
    parameters, body = example_of(operation)
    if "channel_reference" in body:
        body["channel_reference"] = unused("W")  # the same order again is the same event, whoever asked first
    response = await ask_as(gateway, "admin", path_of(operation, parameters), body, headers={"X-Reason": quote("weil es Müll ist")})
    assert response.status_code == 202, response.text
    answer = response.json()
    command = operation.message(parameters, body)
    assert (answer["operation"], answer["key"], answer["outcome"]) == (operation.name, key_of(command), None)
    topic = "oms.inventory.commands" if operation.command is RedriveDeadLetters else topic_of(command)
    published = await gateway.record(topic, answer["event_id"])
    assert decode(operation.kind.name, published.record.value or b"") == command
    assert published.header("ce_actor") == "user:admin"
    assert published.header("ce_reason") == "weil es Müll ist"
    assert published.record.key == key_of(command).encode()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
async def test_a_role_may_ask_for_what_the_table_says(gateway: Gateway, operation: Operation, role: str) -> None:
    """With a body that is refused: who has the scope is told so, and nothing is published."""
    response = await ask_as(gateway, role, path_of(operation, example_of(operation)[0]), {"no_such_field": 1})
    allowed = operation.scope in ROLES[role]
    assert response.status_code == (422 if allowed else 403), response.text
    assert allowed or reasons_of(response, 403) == [f"{operation.name} needs the scope {operation.scope}"]


async def test_without_a_key_nothing_is_taken(gateway: Gateway) -> None:
    response = await ask_as(gateway, None, CANCEL, {"reason": "x"})
    assert response.headers["www-authenticate"] == "Bearer"
    assert reasons_of(response, 401)


async def test_an_order_is_answered_with_its_id_and_where_it_can_be_read(client: httpx.AsyncClient, unused: Callable[[str], str]) -> None:
    placed = order(unused("W"))
    response = await client.post("/orders", json=placed)
    order_id = order_id_of("web", placed["channel_reference"])
    assert response.json()["order_id"] == order_id
    assert response.json()["status_url"] == response.headers["location"] == f"/api/v1/orders/{order_id}"


async def test_the_same_order_again_is_the_same_event(client: httpx.AsyncClient, unused: Callable[[str], str]) -> None:
    placed = order(unused("W"))
    first, again, other = [(await client.post("/orders", json=each)).json() for each in (placed, placed, placed | {"note": "other"})]
    assert first["event_id"] == again["event_id"] != other["event_id"]


# What a request must be


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'"order"', b"\xff\xfe", b"[" * 100_000, b'{"reason": "\xed\xa0\x80"}'])
async def test_a_body_that_is_no_object_is_a_problem(client: httpx.AsyncClient, body: bytes) -> None:
    assert reasons_of(await client.post(CANCEL, content=body), 422)


async def test_every_field_at_fault_is_named(client: httpx.AsyncClient) -> None:
    reasons = reasons_of(await client.post("/orders", json=order("W") | {"colour": "red", "total": "5"}), 422)
    assert sorted(reason.partition(":")[0] for reason in reasons) == ["colour", "total"]


async def test_what_is_in_the_path_is_not_in_the_body(client: httpx.AsyncClient) -> None:
    assert "order_id" in reasons_of(await client.post(CANCEL, json={"reason": "x", "order_id": "another"}), 422)[0]


async def test_an_id_that_no_service_could_read_is_refused(client: httpx.AsyncClient) -> None:
    assert "control characters" in reasons_of(await client.post("/orders/a%0Ab/cancel", json={"reason": "x"}), 422)[0]


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if {*each.parameters} - {"service"}], ids=lambda each: each.name)
async def test_an_id_may_have_a_slash(gateway: Gateway, operation: Operation, monkeypatch: pytest.MonkeyPatch) -> None:
    example, body = example_of(operation)
    parameters = {name: f"{name} a/b%2F?é" for name in example}
    sent: list[Any] = []

    async def send(message: Any, *_: Any, **__: Any) -> None:
        sent.append(message)

    monkeypatch.setattr(gateway.parts.publisher, "send", send)
    response = await ask_as(gateway, "admin", path_of(operation, parameters), body)
    assert (response.status_code, sent) == (202, [operation.message(parameters, body)])


async def test_a_body_is_not_read_before_it_is_known_who_sends_it_and_that_they_may(gateway: Gateway) -> None:
    read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b"{}"

    for name, status in (("nobody", 401), ("nothing", 403)):
        async with gateway.client(name) as client:
            assert (await client.post(CANCEL, content=body())).status_code == status
    assert not read
    async with gateway.client() as client:
        assert (await client.post(CANCEL, content=body())).status_code == 422
    assert read


async def test_a_body_that_is_too_large_is_refused(client: httpx.AsyncClient) -> None:
    assert reasons_of(await client.post("/orders", content=b" " * EXTERNAL_MAX_BYTES + b"{}"), 413)


async def test_defaults_that_will_be_published_count_towards_the_size(client: httpx.AsyncClient) -> None:
    lines = [{"line_id": str(n), "sku": "b", "title": "ü" * 160, "quantity": 1, "unit_price": 1, "total": 1} for n in range(1_000)]
    content = json.dumps(order("W") | {"lines": lines, "discounts": []}, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(content) < EXTERNAL_MAX_VALUE_BYTES
    assert reasons_of(await client.post("/orders", content=content), 413)


async def test_unknown_parameters_are_refused(client: httpx.AsyncClient) -> None:
    assert reasons_of(await client.post(f"{CANCEL}?colour=red", json={"reason": "x"}), 422) == ["colour: an operation takes wait alone"]


async def test_dead_letters_are_of_a_service(client: httpx.AsyncClient) -> None:
    assert reasons_of(await client.post("/dead-letters/nobody/redrive", json={"source_key": "x"}), 404)


def test_a_reason_is_one_line_and_bounded() -> None:
    assert reason_of(None) == ""
    assert reason_of(quote(" zu spät ")) == "zu spät"
    for header in (quote("a\nb"), "%FF", quote("x" * (MAX_REASON_BYTES + 1)), quote("\x85")):
        with pytest.raises(Invalid):
            reason_of(header)


def test_waiting_has_a_unit_and_a_bound() -> None:
    assert [seconds_of(each) for each in (None, "0s", "5s", "1.5s", "30s")] == [0, 0, 5, 1.5, 30]
    for wait in ("", "5", "31s", "-1s", "5m", "5s5s", "٣s"):
        with pytest.raises(Invalid):
            seconds_of(wait)


# Channels and locations


async def test_a_channels_key_places_orders_of_its_channel_alone(gateway: Gateway, unused: Callable[[str], str]) -> None:
    assert (await ask_as(gateway, "shop", "/orders", order(unused("W")))).status_code == 202
    assert reasons_of(await ask_as(gateway, "shop", "/orders", order(unused("W"), "till")), 403) == [
        "channel: key:shop asks for channel web alone"
    ]


@pytest.mark.parametrize(("name", "status"), [("shop", 202), ("till", 404)])
@pytest.mark.parametrize(
    ("operation", "body"),
    [("cancel-order", {"reason": "x"}), ("amend-payment", {"payment": {"kind": "card", "token": "t"}}), ("request-return", None)],
)
async def test_a_channels_key_changes_orders_of_its_channel_alone(
    gateway: Gateway, name: str, status: int, operation: str, body: dict[str, Any] | None
) -> None:
    asked = operation_of(operation)
    path = path_of(asked, example_of(asked)[0] | {"order_id": ORDER_ID})
    assert (await ask_as(gateway, name, path, body or example_of(asked)[1])).status_code == status


async def test_a_channels_key_asks_for_nothing_that_is_of_no_channel(gateway: Gateway) -> None:
    for name in ("receive-stock", "define-product", "redrive-dead-letters"):
        parameters, body = example_of(operation_of(name))
        assert reasons_of(await ask_as(gateway, "shop", path_of(operation_of(name), parameters), body), 403)


async def test_a_channels_key_erases_customers_of_its_channel_alone(gateway: Gateway) -> None:
    mine = {"request_id": "E-1", "reason": "asked", "channel": "web", "customer_id": "c"}
    assert (await ask_as(gateway, "shop", "/customers/erase", mine)).status_code == 202
    for other in (
        mine | {"channel": "till"},
        mine | {"email": "a@example.org"},
        {"request_id": "E", "reason": "x", "email": "a@example.org"},
    ):
        assert reasons_of(await ask_as(gateway, "shop", "/customers/erase", other), 403)


async def test_a_warehouse_speaks_of_its_locations_alone(gateway: Gateway, projection: Database) -> None:
    row = await projection.fetchrow(
        "select package_id from packages p join fulfillments f using (fulfillment_id) where p.order_id = 'done' and f.location = 'HAM'"
    )
    assert row is not None
    lines = [{"sku": "A", "quantity": 1}]
    returned = await projection.fetchrow("select return_id, location from returns where order_id = 'done' and location is not null")
    assert returned is not None
    receipt = {"receipt_id": "R", "lines": [{"line_id": "1", "quantity": 1}]}
    transfer = {"transfer_id": "T", "lines": lines}
    asked: list[tuple[str, Any, int]] = [
        (f"/orders/{ORDER_ID}/fulfillments/BER/accept", {}, 202),
        (f"/orders/{ORDER_ID}/fulfillments/HAM/accept", {}, 403),
        ("/stock/receipts", {"receipt_id": "G", "lines": [lines[0] | {"location": "BER"}]}, 202),
        ("/stock/receipts", {"receipt_id": "G", "lines": [lines[0] | {"location": each} for each in ("BER", "HAM")]}, 403),
        ("/stock/transfers", transfer | {"from_location": "BER", "to_location": "HAM"}, 202),
        ("/stock/transfers", transfer | {"from_location": "HAM", "to_location": "BER"}, 403),
        ("/stock/transfers/T/receipts", {"receipt_id": "1", "lines": lines, "location": "BER"}, 202),
        ("/stock/transfers/T/receipts", {"receipt_id": "1", "lines": lines, "location": "HAM"}, 403),
        ("/stock/limits", {"sku": "A", "location": "BER", "safety": 1}, 202),
        ("/stock/limits", {"sku": "A", "safety": 1}, 403),
        (f"/orders/done/packages/{row['package_id']}/scans", example_of(operation_of("record-scan"))[1], 403),
        ("/orders/done/packages/none/scans", example_of(operation_of("record-scan"))[1], 404),
        ("/orders/done/returns/any/receipts", receipt | {"location": "HAM"}, 403),
        ("/orders/done/returns/any/receipts", receipt | {"location": "BER"}, 202),
    ]
    for path, body, status in asked:
        response = await ask_as(gateway, "ber", path, body)
        assert response.status_code == status, (path, body, response.text)
    inspected = await ask_as(
        gateway, "ber", f"/orders/done/returns/{returned['return_id']}/inspect", example_of(operation_of("inspect-return"))[1]
    )
    assert inspected.status_code == (202 if returned["location"] == "BER" else 403)


# Outcomes


async def test_an_outcome_that_is_not_known_in_time_is_accepted(client: httpx.AsyncClient) -> None:
    response = await client.post(f"{CANCEL}?wait=0.1s", json={"reason": "x"})
    assert response.status_code == 202
    assert response.json()["outcome"] == {"status": "no_effect_known", "events": [], "reasons": []}


async def waited_for(gateway: Gateway, event: Any, name: str = "admin") -> httpx.Response:
    """The answer to a request for a cancellation that waits, and whose command causes `event`."""
    asked = asyncio.create_task(ask_as(gateway, name, f"{CANCEL}?wait=20s", {"reason": (reason := uuid4().hex)}))

    def wanted(record: Any) -> bool:
        return record.value == encode(CancelOrder(order_id=ORDER_ID, reason=reason))

    [record] = await gateway.records("oms.capture.commands", wanted)
    event_id = dict(record.headers)["ce_id"]
    assert event_id is not None
    await cause(gateway, event, event_id.decode())
    return await asked


async def test_what_was_done_is_waited_for(gateway: Gateway) -> None:
    response = await waited_for(gateway, OrderCancellationRequested(order_id=ORDER_ID, reason="x", at=NOW))
    outcome = response.json()["outcome"]
    assert (response.status_code, outcome["status"], outcome["reasons"]) == (200, "done", [])
    assert [event["type"] for event in outcome["events"]] == ["oms.capture.OrderCancellationRequested.v1"]


async def test_what_was_refused_is_a_problem_with_the_reasons(gateway: Gateway) -> None:
    refused = OrderCommandRefused(order_id=ORDER_ID, command="oms.capture.CancelOrder.v1", reason="it has shipped", at=NOW)
    response = await waited_for(gateway, refused)
    assert reasons_of(response, 409) == ["it has shipped"]
    assert response.json()["outcome"]["status"] == "refused"
    assert response.json()["operation"] == "cancel-order"


async def test_events_of_an_outcome_have_nothing_about_persons_for_those_who_may_not_see_it(gateway: Gateway) -> None:
    event = msgspec.structs.replace(sample(OrderAccepted), order_id=ORDER_ID, sealed=sealed_for(ORDER_ID), channel="web")
    gateway.identities["blind"] = replace(gateway.identities["admin"], scopes=gateway.identities["admin"].scopes - {"customers:read"})
    for name, sees in (("admin", True), ("blind", False)):
        [told] = (await waited_for(gateway, event, name)).json()["outcome"]["events"]
        assert (told["data"]["sealed"] is not None) is sees


async def test_only_so_many_requests_wait(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations_api, "MAX_WAITS", 0)
    async with asyncio.timeout(10):
        response = await ask_as(gateway, "admin", f"{CANCEL}?wait=30s", {"reason": "x"})
    assert response.json()["outcome"]["status"] == "no_effect_known"


# Idempotency keys

RECEIPT = {"receipt_id": "G-1", "lines": [{"sku": "A", "location": "BER", "quantity": 1}]}


async def receive(gateway: Gateway, key: str, name: str = "admin", path: str = "/stock/receipts", **changes: Any) -> httpx.Response:
    return await ask_as(gateway, name, path, RECEIPT | changes, headers={"Idempotency-Key": key})


async def count_of(gateway: Gateway, event_id: str) -> int:
    """How often an event is on the topic, when what is sent after it has arrived."""
    last = (await ask_as(gateway, "admin", "/stock/receipts", RECEIPT | {"receipt_id": "last"})).json()["event_id"]
    seen: list[bytes | None] = []
    await gateway.records("oms.inventory.commands", lambda record: seen.append(dict(record.headers)["ce_id"]) or seen[-1] == last.encode())
    return seen.count(event_id.encode())


async def test_the_same_key_and_request_again_is_the_same_event_and_sent_once(gateway: Gateway, unused: Callable[[str], str]) -> None:
    key = unused("key")
    first, again = await receive(gateway, key), await receive(gateway, key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert (await receive(gateway, key, "operator")).json()["event_id"] != first.json()["event_id"]  # a key is its caller's
    assert await count_of(gateway, first.json()["event_id"]) == 1


async def test_a_key_with_another_request_is_refused(gateway: Gateway, unused: Callable[[str], str]) -> None:
    key = unused("key")
    await receive(gateway, key)
    assert reasons_of(await receive(gateway, key, receipt_id="G-2"), 422)
    assert reasons_of(await receive(gateway, key, path="/stock/adjustments", **{"adjustment_id": "x", "reason": "x"}), 422)


async def test_a_key_is_forgotten_after_a_day(gateway: Gateway, database: Database, unused: Callable[[str], str]) -> None:
    key = unused("key")
    first = await receive(gateway, key)
    gateway.now[0] += timedelta(hours=23)
    assert (await receive(gateway, key)).json() == first.json()
    gateway.now[0] += timedelta(hours=2)
    assert (await receive(gateway, key, receipt_id="G-2")).status_code == 202
    gateway.now[0] += timedelta(days=2)
    await receive(gateway, unused("key"))
    assert await database.fetchval("select count(*) from idempotency_keys") == 1


async def test_a_request_whose_sending_failed_is_sent_again_as_the_same_event(gateway: Gateway, unused: Callable[[str], str]) -> None:
    class Failing:
        async def send(self, *_: Any, **__: Any) -> None:
            raise KafkaConnectionError("gone")

    key = unused("key")
    async with gateway.client(api=make_api(replace(gateway.parts, publisher=Failing()))) as client:
        assert reasons_of(await client.post("/stock/receipts", json=RECEIPT, headers={"Idempotency-Key": key}), 503)
    sent = (await receive(gateway, key)).json()
    assert sent["event_id"]
    assert await count_of(gateway, sent["event_id"]) == 1


async def test_two_requests_with_one_key_at_the_same_time_are_one(gateway: Gateway, unused: Callable[[str], str]) -> None:
    key = unused("key")
    answers = await asyncio.gather(*(receive(gateway, key) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    [event_id] = {answer.json()["event_id"] for answer in answers if answer.status_code == 202}
    assert await count_of(gateway, event_id) == 1


async def test_a_caller_has_so_many_keys(gateway: Gateway, unused: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_KEYS", 2)
    answers = [await receive(gateway, unused("key"), "warehouse") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert int(answers[2].headers["retry-after"]) > 0


@pytest.mark.parametrize("key", ["", "x" * 201, "schlüssel".encode("latin-1")])
async def test_a_key_that_is_not_sound_is_refused(client: httpx.AsyncClient, key: Any) -> None:
    assert reasons_of(await client.post("/stock/receipts", json=RECEIPT, headers={"Idempotency-Key": key}), 422)


# The list of them


async def test_the_list_says_what_the_caller_may_ask_for(gateway: Gateway) -> None:
    async with gateway.client("warehouse") as client:
        listed = (await client.get("/operations")).json()
    assert listed["next"] is None
    assert [each["name"] for each in listed["items"]] == [operation.name for operation in OPERATIONS]
    assert {each["name"] for each in listed["items"] if each["allowed"]} == {
        operation.name for operation in OPERATIONS if operation.scope in ROLES["warehouse"]
    }
    [ship] = [each for each in listed["items"] if each["name"] == "ship-fulfillment"]
    assert (ship["object"], ship["destroys"], set(ship["fields"])) == ("fulfillment", True, {"carrier", "tracking_numbers"})
