"""`oms order` without servers."""

import json
from pathlib import Path
from typing import Any

import pytest
from oms_contracts.message import key_of
from oms_contracts.orders import CancelOrder, OrderCancellationRejected, OrderCommandRefused
from typer.testing import Result

from libs.cli.tests.fakes import (
    NOON,
    ORDER,
    ORDER_ID,
    FakeConnections,
    Run,
    accepted,
    entry,
    errors,
    order_detail,
    page,
    problem,
    rejected,
    rows,
    sample_of,
    shown,
)


def placing(oms: Run, *more: str, order: dict[str, Any] = ORDER) -> Result:
    return oms("order", "place", "-", *more, given=json.dumps(order).encode())


def test_an_order_is_published_on_the_topic_of_the_channels(oms: Run, connected: FakeConnections, tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps(ORDER))
    assert (
        oms("order", "place", str(file), "--no-wait").stdout
        == f"order {ORDER_ID} is placed; `oms order show {ORDER_ID}` shows its progress\n"
    )
    [(topic, placed)] = connected.published
    assert topic == "oms.channel.orders"
    assert (key_of(placed), placed.total) == (ORDER_ID, 1495)
    assert connected.requests == []


def test_every_invalid_field_of_an_order_is_named(oms: Run, connected: FakeConnections) -> None:
    wrong = {name: value for name, value in ORDER.items() if name != "currency"} | {"total": "5", "colour": "red"}
    expected = errors(placing(oms, "--no-wait", order=wrong), 2)
    assert [line.split(": ")[:2] for line in expected] == [["FILE", name] for name in ("currency", "total", "colour")]
    assert connected.published == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_file_that_is_no_order_is_refused(oms: Run, connected: FakeConnections, content: bytes) -> None:
    assert errors(oms("order", "place", "-", given=content), 2)
    assert connected.published == []


def test_the_example_is_an_order_that_can_be_placed(oms: Run, connected: FakeConnections) -> None:
    result = oms("order", "example")
    assert oms("order", "place", "-", "--no-wait", given=result.stdout.encode()).exit_code == 0
    assert result.stdout == oms("order", "example").stdout
    [(topic, placed)] = connected.published
    assert topic == "oms.channel.orders"
    [line] = placed.lines
    assert f"oms stock receive {placed.location} {line.sku}={line.quantity}" in result.stderr


def test_an_order_is_waited_for_until_it_is_confirmed(oms: Run, connected: FakeConnections) -> None:
    path = f"/orders/{ORDER_ID}"
    connected.responses[path] = [problem(404, "not known"), order_detail("reserved"), order_detail("confirmed")]
    connected.responses[f"{path}/timeline"] = page(entry(accepted()))
    answer = shown(placing(oms, "--wait", "--json"))
    assert (answer["order_id"], answer["status"], answer["reasons"]) == (ORDER_ID, "confirmed", [])
    assert len(answer["event_id"]) == 64


def test_a_corrected_order_is_waited_for_although_other_content_was_rejected(oms: Run, connected: FakeConnections) -> None:
    path = f"/orders/{ORDER_ID}"
    garbage, own = entry(rejected(["total: no"], total=7)), entry(accepted())
    connected.responses |= {
        path: [order_detail("rejected"), order_detail("accepted"), order_detail("confirmed")],
        f"{path}/timeline": [page(garbage), page(garbage, own)],
    }
    answer = shown(placing(oms, "--wait", "--json"))
    assert (answer["status"], answer["reasons"]) == ("confirmed", [])


def test_a_rejected_order_is_reported_as_rejected_after_other_content_was_accepted(oms: Run, connected: FakeConnections) -> None:
    path = f"/orders/{ORDER_ID}"
    timeline = page(entry(rejected(["total: no"])), entry(accepted(total=7)))
    connected.responses |= {path: order_detail("confirmed"), f"{path}/timeline": timeline}
    assert f"order {ORDER_ID} is confirmed: total: no" in errors(placing(oms, "--wait"), 1)


@pytest.mark.parametrize(
    ("detail", "event", "expected"),
    [
        (
            order_detail("rejected", ended_because="total: no"),
            rejected(["total: no", "currency: no"]),
            [
                "is rejected: total: no",
                "is rejected: currency: no",
                "is rejected: place a corrected one under the same channel_reference",
            ],
        ),
        (
            order_detail("awaiting_stock", action="resolve_stock", deadline="2026-11-26T12:00:00Z", action_reason="mug: 2 wanted"),
            accepted(),
            ["is awaiting_stock: waits for resolve_stock until 2026-11-26 12:00:00Z: mug: 2 wanted"],
        ),
        (order_detail("expired", ended_because="too late"), accepted(), ["is expired: too late"]),
        (
            order_detail("confirmed"),
            accepted(total=7),
            ["is confirmed: channel_reference: an order with other content was placed under it before"],
        ),
        (order_detail("accepted"), accepted(), ["is not confirmed after 0 s"]),
    ],
)
def test_an_order_that_is_not_confirmed_is_a_failure(
    oms: Run, connected: FakeConnections, detail: dict[str, Any], event: Any, expected: list[str]
) -> None:
    connected.responses |= {f"/orders/{ORDER_ID}": detail, f"/orders/{ORDER_ID}/timeline": page(entry(event))}
    lines = errors(placing(oms, "--wait", "--timeout", "0"), 1)
    assert [line.startswith(f"order {ORDER_ID} {start}") for line, start in zip(lines, expected, strict=True)] == [True] * len(expected)


def test_an_order_is_shown_to_people_and_to_machines(oms: Run, connected: FakeConnections) -> None:
    totals = {
        "status": "captured",
        "at": "2026-11-24T12:00:00Z",
        "currency": "EUR",
        "authorized": 1495,
        "captured": 1000,
        "refunded": 5,
        "voided": 0,
        "failure": None,
    }
    package = {"package_id": "340", "carrier": "DHL", "tracking_number": "T", "status": None, "status_at": None, "trouble": None}
    detail = order_detail("released", payment={"totals": totals}, packages=[package])
    connected.responses |= {f"/orders/{ORDER_ID}": detail, f"/orders/{ORDER_ID}/timeline": page(entry(accepted()))}

    result = oms("order", "show", ORDER_ID.upper())
    assert rows(result) == [
        ["1", "mug", "Mug, blue", "2", "5.00 EUR", "0.00 EUR", "0.00 EUR", "10.00 EUR", "2", "1", "0"],
        ["captured", "2026-11-24 12:00:00Z", "14.95 EUR", "10.00 EUR", "0.05 EUR", "0.00 EUR", "–"],
        ["340", "DHL", "T", "–", "–", "–"],
        ["2026-11-24 12:00:00.000Z", "OrderAccepted", "about oms.capture.OrderAccepted.v2", "–"],
    ]
    assert "placed 2026-11-24 11:00:00Z by (ada)" in result.stdout
    assert "total 14.95 EUR" in result.stdout
    assert "shipping 4.95 EUR" in result.stdout
    assert shown(oms("order", "show", "web/W-1", "--json")) == detail | {"timeline": [entry(accepted())]}


def test_text_of_external_parties_does_nothing_to_the_terminal(oms: Run, connected: FakeConnections) -> None:
    evil = order_detail("canceled", ended_because="[red]\x1b[2J\u202e gone[/]", customer_id="\x1b]0;x\x07")
    evil["lines"][0]["sku"] = "[b]mug[/]\x1b[2J"
    connected.responses |= {f"/orders/{ORDER_ID}": evil, f"/orders/{ORDER_ID}/timeline": page()}
    text = oms("order", "show", "web/W-1").stdout
    assert "[red]\ufffd[2J\ufffd gone[/]" in text
    assert "[b]mug[/]\ufffd[2J" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_a_cancellation_is_a_command_to_capture(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("reserved")
    assert "asked to cancel" in oms("order", "cancel", "web/W-1", "--reason", "twice", "--no-wait").stdout
    assert connected.published == [("oms.capture.commands", CancelOrder(order_id=ORDER_ID, reason="twice"))]


def test_a_reason_that_is_too_long_is_refused_before_it_is_published(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("reserved")
    expected = errors(oms("order", "cancel", "web/W-1", "--reason", "x" * 2_001), 2)
    assert expected == ["CancelOrder: reason: must have at most 2000 characters"]
    assert connected.published == []


def test_a_cancellation_is_waited_for(oms: Run, connected: FakeConnections) -> None:
    path = f"/orders/{ORDER_ID}"
    connected.responses |= {
        path: [order_detail("released"), order_detail("released"), order_detail("canceled")],
        f"{path}/timeline": page(),
    }
    answer = shown(oms("order", "cancel", "web/W-1", "--reason", "twice", "--wait", "--json"))
    assert answer == {"order_id": ORDER_ID, "event_id": "id-1", "status": "canceled", "reason": None}


@pytest.mark.parametrize(
    ("event", "causation", "expected"),
    [
        (sample_of(OrderCancellationRejected, reason="it has shipped"), "inventory-5", "it has shipped"),
        (sample_of(OrderCommandRefused, reason="no"), "id-1", "no"),
        (sample_of(OrderCommandRefused, reason="of another command"), "id-0", "it is not known after 0 s"),
    ],
)
def test_a_cancellation_that_is_refused_is_a_failure(
    oms: Run, connected: FakeConnections, event: Any, causation: str, expected: str
) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("released")
    connected.responses[f"/orders/{ORDER_ID}/timeline"] = page(entry(event, causation=causation))
    [line] = errors(oms("order", "cancel", "web/W-1", "--reason", "r", "--wait", "--timeout", "0"), 1)
    assert line.startswith(f"order {ORDER_ID} is not canceled: {expected}")


@pytest.mark.parametrize(("status", "code"), [("canceled", 0), ("completed", 1), ("rejected", 1), ("expired", 1)])
def test_no_command_is_published_for_an_order_that_has_ended(oms: Run, connected: FakeConnections, status: str, code: int) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail(status)
    assert oms("order", "cancel", "web/W-1", "--reason", "r", "--wait").exit_code == code
    assert connected.published == []


LISTED: dict[str, Any] = {
    "order_id": ORDER_ID,
    "channel": "web",
    "reference": "W-1",
    "customer_id": "ada",
    "customer_name": None,
    "status": "awaiting_stock",
    "since": "2026-11-24T12:00:00Z",
    "placed_at": "2026-11-24T11:00:00Z",
    "currency": "EUR",
    "total": 3750,
    "units": 2,
    "action": "resolve_stock",
    "deadline": "2026-11-26T12:00:00Z",
    "payment": None,
}


def test_orders_are_listed_by_the_filters_of_the_query_api(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/orders"] = page(LISTED, LISTED | {"order_id": "2"})
    words = (
        "--status",
        "awaiting_stock",
        "--channel",
        "web",
        "--reference",
        "W-1",
        "--customer",
        "k",
        "--from",
        "2026-11-01",
        "--to",
        "2026-12-01",
    )
    result = oms("order", "list", *words, "--limit", "1")
    assert rows(result) == [
        [
            *("2026-11-24 11:00:00Z", "web/W-1", "ada", "awaiting_stock", "2026-11-24 12:00:00Z", "37.50 EUR", "2", "–"),
            "resolve_stock until 2026-11-26 12:00:00Z",
        ]
    ]
    assert result.stderr == "there is more; --limit shows it\n"
    assert dict(connected.requests[0].params) == {
        "limit": "500",
        "status": "awaiting_stock",
        "channel": "web",
        "reference": "W-1",
        "customer": "k",
        "placed_from": "2026-11-01T00:00:00+00:00",
        "placed_before": "2026-12-01T00:00:00+00:00",
    }
    assert shown(oms("order", "list", "--limit", "1", "--json")) == {"orders": [LISTED], "more": True}
    connected.responses["/orders"] = page()
    assert oms("order", "list").stdout == "there is no such order\n"


TYPED = ("order", "place", "--channel", "till", "--reference", "T-1", "--line", "mug=2@19.99", "--no-wait")


def test_an_order_is_typed_with_decimals(oms: Run, connected: FakeConnections) -> None:
    address = "Ada Lovelace; Hauptstr. 5; 10115; Berlin; DE"
    more = ("--line", "a=b=1@0.5", "--shipping", "4.95", "--ship-to", address, "--pay", "card:tok_visa", "--email", "ada@example.com")
    assert oms(*TYPED, *more).exit_code == 0
    [(topic, placed)] = connected.published
    assert topic == "oms.channel.orders"
    assert [(line.line_id, line.sku, line.quantity, line.unit_price, line.total) for line in placed.lines] == [
        ("1", "mug", 2, 1999, 3998),
        ("2", "a=b", 1, 50, 50),
    ]
    assert (placed.total, placed.placed_at, placed.delivery, placed.ship_to.city) == (4543, NOON, "ship", "Berlin")
    [payment] = placed.payments
    assert (payment.kind, payment.amount, payment.token, payment.status) == ("card", 4543, "tok_visa", "authorize")


def test_an_order_that_is_collected_is_due_by_invoice(oms: Run, connected: FakeConnections) -> None:
    assert oms(*TYPED, "--location", "BER", "--currency", "JPY", "--line", "pot=1@500").exit_code == 2
    assert oms(*TYPED[:-3], "--line", "pot=1@500", "--location", "BER", "--currency", "JPY", "--no-wait").exit_code == 0
    [(_, placed)] = connected.published
    assert (placed.total, placed.delivery, placed.pickup.location, placed.payments[0].status) == (500, "pickup", "BER", "due")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["FILE: is not given; name a file"]),
        (("--channel", "web"), ["--reference: is not given", "--line: is not given"]),
        ((*TYPED[2:], "--line", "mug", "--shipping", "x"), ["--line: 'mug': is not SKU=QUANTITY@PRICE", "--shipping: must be a decimal"]),
        ((*TYPED[2:], "--line", "mug=1@1.999"), ["--line: 'mug=1@1.999': has more digits than its currency"]),
        ((*TYPED[2:], "--ship-to", "Berlin"), ["--ship-to: has 1 parts, not 5"]),
        ((*TYPED[2:], "--currency", "XXL"), ["--currency: 'XXL' is not a currency"]),
        (("-", *TYPED[2:]), ["FILE: has all of the order"]),
    ],
)
def test_every_option_at_fault_is_named(oms: Run, connected: FakeConnections, words: tuple[str, ...], expected: list[str]) -> None:
    lines = errors(oms("order", "place", *words, given=b"{}"), 2)
    assert [line.startswith(start) for line, start in zip(lines, expected, strict=True)] == [True] * len(expected)
    assert connected.published == []
