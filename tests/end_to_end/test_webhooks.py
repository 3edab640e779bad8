"""Webhooks of shops on the whole stack, from the gateway to the order, and the inbox of what cannot be mapped."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from oms_adapters.webhooks import signature_of
from oms_client.queries import QueryClient, poll
from oms_contracts.orders import ENDED_STATUSES
from oms_contracts.values import order_id_of
from oms_local.stack import Stack

from tests.command_line import oms
from tests.topics import repeated_events

TIMEOUT_SECONDS = 60
BAD = 100
"""More than stop consumption where they are taken for the service's own fault (OMS_POISON_MAX_RECORDS)."""
PLACED_AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def shopify(number: int, minute: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "token": "f3b0c44298fc1c149afbf4c8996fb924",
        "created_at": PLACED_AT.isoformat(),
        "updated_at": (PLACED_AT + timedelta(minutes=minute)).isoformat(),
        "currency": "EUR",
        "taxes_included": True,
        "total_price": "5.00",
        "financial_status": "paid",
        "customer": {"id": 7, "first_name": "Ada", "last_name": "Byron"},
        "shipping_address": {"name": "Ada Byron", "address1": "Lane 5", "zip": "10115", "city": "Berlin", "country_code": "DE"},
        "line_items": [{"id": 1, "sku": "NONE", "title": "Mug", "quantity": 1, "price": "5.00", "requires_shipping": True}],
        **changes,
    }


async def deliver(stack: Stack, gateway: httpx.AsyncClient, webhook_id: str, payload: Mapping[str, Any] | bytes) -> int:
    """Deliver a webhook of the shop of channel web. Returns the status of the response."""
    shop = stack.shops()["web"]
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    headers = {
        "X-Shopify-Topic": "orders/updated",
        "X-Shopify-Webhook-Id": webhook_id,
        "X-Shopify-Shop-Domain": shop["source"],
        "X-Shopify-Hmac-Sha256": signature_of(body, shop["secrets"][0]),
    }
    return (await gateway.post("/webhooks/web", content=body, headers=headers)).status_code


async def taken(query: QueryClient, number: int, count: int) -> list[dict[str, Any]]:
    """What was told of the webhooks of an order, once there are `count` of them."""
    order_id = order_id_of("web", str(number))

    async def found() -> list[dict[str, Any]] | None:
        events = await query.collect(f"/orders/{order_id}/timeline") if await query.find(f"/orders/{order_id}") is not None else []
        told = [event["data"] for event in events if event["type"] == "oms.capture.WebhookTaken.v1"]
        return told if len(told) >= count else None

    result = await poll(found, TIMEOUT_SECONDS)
    assert result is not None
    return result


async def status_of(query: QueryClient, number: int) -> str | None:
    order = await query.find(f"/orders/{order_id_of('web', str(number))}")
    return None if order is None else order["status"]


async def letters(query: QueryClient, **parameters: Any) -> list[dict[str, Any]]:
    return await query.collect("/dead-letters", service="capture", **parameters)


async def until_letters(query: QueryClient, key: str, count: int) -> list[dict[str, Any]]:
    async def found() -> list[dict[str, Any]] | None:
        waiting = await letters(query, key=key)
        return waiting if len(waiting) == count else None

    result = await poll(found, TIMEOUT_SECONDS)
    assert result is not None
    return sorted(result, key=lambda letter: int(letter["letter_id"].rpartition("/")[2]))


async def test_webhooks_that_come_late_twice_and_out_of_order_place_one_order_and_cancel_it(
    stack: Stack, gateway: httpx.AsyncClient, query: QueryClient
) -> None:
    canceled = shopify(1001, 9, note="ring", cancelled_at=PLACED_AT.isoformat(), cancel_reason="customer")
    webhooks = [("updated", shopify(1001, 5, note="ring")), ("created", shopify(1001)), ("created", shopify(1001)), ("canceled", canceled)]
    for webhook_id, payload in [*webhooks, ("updated", shopify(1001, 5, note="ring"))]:
        assert await deliver(stack, gateway, f"1001-{webhook_id}", payload) == 200
    told = await taken(query, 1001, 3)
    assert {(each["webhook_id"], each["outcome"]) for each in told} == {
        ("1001-updated", "placed"),
        ("1001-created", "ignored"),
        ("1001-canceled", "canceled"),
    }

    async def ended() -> str | None:
        status = await status_of(query, 1001)
        return status if status in ENDED_STATUSES else None

    assert await poll(ended, TIMEOUT_SECONDS) == "canceled"
    order = await query.get(f"/orders/{order_id_of('web', '1001')}")
    assert (order["note"], order["conflicts"]) == ("ring", 0)
    assert await repeated_events(stack) == []


async def test_a_canceled_order_that_comes_afterwards_is_not_placed(stack: Stack, gateway: httpx.AsyncClient, query: QueryClient) -> None:
    await deliver(stack, gateway, "1002-canceled", shopify(1002, 9, cancelled_at=PLACED_AT.isoformat()))
    await deliver(stack, gateway, "1002-created", shopify(1002))
    await deliver(stack, gateway, "1003-created", shopify(1003))  # of another order, which shows when both were read
    await taken(query, 1003, 1)
    told = await poll(lambda: timeline_of_unplaced(query, 1002, 2), TIMEOUT_SECONDS)
    assert told is not None
    assert {each["outcome"] for each in told} == {"ignored"}


async def timeline_of_unplaced(query: QueryClient, number: int, count: int) -> list[dict[str, Any]] | None:
    """What was told of an order that does not exist: it is in the timeline alone."""
    events = await query.collect(f"/orders/{order_id_of('web', str(number))}/timeline")
    return [event["data"] for event in events] if len(events) >= count else None


async def test_what_cannot_be_mapped_is_mended_in_the_inbox_and_what_waits_behind_it_is_taken(
    stack: Stack, gateway: httpx.AsyncClient, query: QueryClient
) -> None:
    broken = shopify(1004, total_price="4.00")
    assert await deliver(stack, gateway, "1004-created", broken) == 200
    assert await deliver(stack, gateway, "1004-canceled", shopify(1004, 9, cancelled_at=PLACED_AT.isoformat())) == 200
    first, behind = await until_letters(query, order_id_of("web", "1004"), 2)
    assert (first["status"], behind["status"]) == ("set_aside", "parked")
    assert await status_of(query, 1004) is None

    found = json.loads(await oms(stack, "inbox", "show", first["letter_id"], "--json"))
    assert (found["platform"], found["channel"], found["reference"], found["payload"]) == ("shopify", "web", "1004", broken)
    assert found["reasons"]
    corrected = json.dumps(shopify(1004)).encode()
    await oms(stack, "inbox", "take", first["letter_id"], "--payload", "-", given=corrected)

    told = await taken(query, 1004, 2)
    assert [each["outcome"] for each in told] == ["placed", "canceled"]
    assert await letters(query, key=order_id_of("web", "1004")) == []


async def test_any_number_of_payloads_that_cannot_be_mapped_does_not_stop_capture(
    stack: Stack, gateway: httpx.AsyncClient, query: QueryClient
) -> None:
    for number in range(2_000, 2_000 + BAD):
        assert await deliver(stack, gateway, f"bad-{number}", shopify(number, currency="XXL")) == 200
    assert await deliver(stack, gateway, "bad-json", b"{") == 200
    assert await deliver(stack, gateway, "1005-created", shopify(1005)) == 200
    assert [each["outcome"] for each in await taken(query, 1005, 1)] == ["placed"]

    async def all_set_aside() -> list[dict[str, Any]] | None:
        waiting = [letter for letter in await letters(query) if letter["source_topic"] == "oms.channel.webhooks"]
        return waiting if len(waiting) == BAD + 1 else None

    waiting = await poll(all_set_aside, TIMEOUT_SECONDS)
    assert waiting is not None
    assert all(letter["reason"].startswith("SendersFault: shopify, channel web: ") for letter in waiting)
    assert next(part for part in stack.status() if part.name == "capture").ready


async def test_a_webhook_that_is_not_signed_is_not_taken(stack: Stack, gateway: httpx.AsyncClient) -> None:
    shop = stack.shops()["web"]
    headers = {"X-Shopify-Topic": "orders/create", "X-Shopify-Webhook-Id": "w", "X-Shopify-Shop-Domain": shop["source"]}
    response = await gateway.post("/webhooks/web", json=shopify(1006), headers=headers)
    assert (response.status_code, response.json()["reasons"]) == (401, [])
