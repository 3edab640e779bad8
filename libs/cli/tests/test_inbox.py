"""`oms inbox` without servers."""

import base64
import json
from typing import Any

import pytest
from msgspec.structs import replace
from oms_contracts.channel import WebhookReceived, webhook_key
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.message import encode, type_of
from oms_contracts.values import order_id_of

from libs.cli.tests.fakes import (
    NOON,
    FakeConnections,
    Run,
    errors,
    letter,
    page,
    rows,
    shown,
)

LETTER_ID = "oms.inventory.commands/3/41"
WEBHOOK_ID = "oms.channel.webhooks/3/41"
BROKEN = b'{"id": 9001, "currency": "EUR", "total_price": "5.00", "line_items": [], "created_at": "2026-11-24T12:00:00Z"}'
MENDED = json.dumps(
    {
        "id": 9001,
        "currency": "EUR",
        "taxes_included": True,
        "total_price": "5.00",
        "created_at": "2026-11-24T12:00:00Z",
        "financial_status": "paid",
        "customer": {"id": 7},
        "line_items": [{"id": 1, "sku": "MUG", "title": "Mug", "quantity": 1, "price": "5.00", "requires_shipping": False}],
    }
).encode()
SHOPS_WEBHOOK = WebhookReceived(
    key=order_id_of("web", "9001"),
    channel="web",
    platform="shopify",
    topic="orders/create",
    webhook_id="w-1",
    received_at=NOON,
    body=base64.b64encode(BROKEN).decode(),
)


def webhook(status: str = "set_aside", attempts: int = 1, received: WebhookReceived = SHOPS_WEBHOOK, **other: Any) -> dict[str, Any]:
    about = {
        "service": "capture",
        "source_topic": "oms.channel.webhooks",
        "source_key": received.key,
        "source_type": type_of(WebhookReceived).name,
        "reason": "SendersFault: shopify, channel web: order '9001' cannot be mapped\nline_items: has no line with a quantity",
        "value": base64.b64encode(encode(received)).decode(),
    }
    return letter(status, attempts, WEBHOOK_ID, **about | other)


def test_the_inbox_lists_webhooks_and_no_other_dead_letters(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/dead-letters"] = page(letter(service="capture"), webhook())
    [row] = rows(oms("inbox", "list"))
    assert row[1:] == [WEBHOOK_ID, SHOPS_WEBHOOK.key, "set_aside", "1", "shopify, channel web: order '9001' cannot be mapped"]
    assert [each["letter_id"] for each in shown(oms("inbox", "list", "--json"))["inbox"]] == [WEBHOOK_ID]
    connected.responses["/dead-letters"] = page(letter(service="capture"))
    assert oms("inbox", "list").stdout == "the inbox is empty\n"


def test_a_webhook_is_shown_with_every_field_at_fault_and_its_payload(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/dead-letters/capture/{WEBHOOK_ID}"] = webhook()
    answer = shown(oms("inbox", "show", WEBHOOK_ID, "--json"))
    assert (answer["platform"], answer["channel"], answer["reference"], answer["topic"]) == ("shopify", "web", "9001", "orders/create")
    assert {"field": "line_items", "reason": "has no line with a quantity"} in answer["reasons"]
    assert answer["payload"] == json.loads(BROKEN)
    people = oms("inbox", "show", WEBHOOK_ID).stdout
    for part in ("shopify, channel web, order 9001", "has no line with a quantity", '"total_price": "5.00"'):
        assert part in people
    assert oms("inbox", "show", WEBHOOK_ID, "--payload-only").stdout_bytes == BROKEN


def test_a_corrected_payload_is_sent_as_the_webhook_that_was_received(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/dead-letters/capture/{WEBHOOK_ID}"] = webhook()
    connected.responses["/dead-letters"] = [page(webhook()), page(webhook("redriven", 2))]
    assert oms("inbox", "take", WEBHOOK_ID, "--payload", "-", given=MENDED).exit_code == 0
    mended = encode(replace(SHOPS_WEBHOOK, body=base64.b64encode(MENDED).decode())).decode()
    command = RedriveDeadLetters(source_key=SHOPS_WEBHOOK.key, letter_id=WEBHOOK_ID, value=mended)
    assert connected.published == [("oms.capture.commands", command)]


def test_a_webhook_is_taken_again_as_it_is_or_discarded(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/dead-letters/capture/{WEBHOOK_ID}"] = webhook()
    connected.responses["/dead-letters"] = [page(webhook()), page(webhook("redriven", 2))]
    assert oms("inbox", "take", WEBHOOK_ID).exit_code == 0
    connected.responses["/dead-letters"] = [page(webhook()), page(webhook("discarded", 2))]
    assert oms("inbox", "discard", WEBHOOK_ID).exit_code == 0
    assert [command for _, command in connected.published] == [
        RedriveDeadLetters(source_key=SHOPS_WEBHOOK.key),
        RedriveDeadLetters(source_key=SHOPS_WEBHOOK.key, letter_id=WEBHOOK_ID, discard=True),
    ]


OWN = replace(SHOPS_WEBHOOK, key=webhook_key("web", "w-1", None), body=base64.b64encode(b"{").decode())


@pytest.mark.parametrize(
    ("known", "payload", "code", "expected"),
    [
        (webhook(), BROKEN, 2, "--payload: line_items: has no line with a quantity"),
        (webhook(), b"{", 2, "--payload: payload: is not JSON"),
        (webhook(), MENDED.replace(b"9001", b"9002"), 2, "--payload: id: names another order"),
        (webhook(), b" " * 400_000, 2, "--payload: has 400000 bytes, at most 360000 can be sent"),
        (webhook("redriven"), MENDED, 1, f"{WEBHOOK_ID} is redriven already"),
        (webhook(value=base64.b64encode(b"garbage").decode()), MENDED, 1, f"{WEBHOOK_ID} holds no webhook"),
        (None, MENDED, 1, "it is not known here"),
    ],
)
def test_a_payload_of_which_no_order_can_be_made_is_refused(
    *, oms: Run, connected: FakeConnections, known: dict[str, Any] | None, payload: bytes, code: int, expected: str
) -> None:
    connected.responses[f"/dead-letters/capture/{WEBHOOK_ID}"] = known
    assert errors(oms("inbox", "take", WEBHOOK_ID, "--payload", "-", given=payload), code)[0].startswith(expected)
    assert connected.published == []


def test_a_payload_that_named_no_order_may_name_any(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/dead-letters/capture/{WEBHOOK_ID}"] = webhook(received=OWN)
    connected.responses["/dead-letters"] = [page(webhook(received=OWN)), page(webhook("redriven", 2, received=OWN))]
    assert oms("inbox", "take", WEBHOOK_ID, "--payload", "-", given=MENDED).exit_code == 0
    assert connected.published[0][1].source_key == OWN.key


def test_the_inbox_has_webhooks_alone(oms: Run) -> None:
    [line] = errors(oms("inbox", "show", LETTER_ID), 2)
    assert line.startswith(f"LETTER_ID: {LETTER_ID!r} is not of oms.channel.webhooks")
