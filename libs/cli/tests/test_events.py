"""`oms events` without servers."""

import base64
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from oms_cli.events import causal, record_as_json, sentence
from oms_client.publisher import Asker
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.orders import OrderCommandRefused

from libs.cli.tests.fakes import (
    NOON,
    ORDER_ID,
    FakeConnections,
    Run,
    accepted,
    entry,
    order_detail,
    page,
    sample_of,
    shown,
)


def test_an_event_is_shown_after_its_cause_whatever_the_clocks_say() -> None:
    def link(name: str, causation: str) -> dict[str, Any]:
        return {"id": name, "causation": causation}

    early, late, other, first = link("b", "a"), link("c", "b"), link("d", ""), link("a", "elsewhere")
    assert [e["id"] for e in causal([early, late, other, first])] == ["a", "b", "c", "d"]
    assert [e["id"] for e in causal([link("a", "b"), link("b", "a")])] == ["b", "a"]


def test_an_orders_events_are_shown_with_their_data(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/orders/{ORDER_ID}/timeline"] = page(
        entry(sample_of(OrderCommandRefused), 3, causation="capture-2"), entry(accepted(), 2, at=NOON + timedelta(seconds=1))
    )
    text = oms("events", "show", "web/W-1").stdout
    assert text.index("OrderAccepted") < text.index("OrderCommandRefused")
    assert "oms.capture.OrderCommandRefused.v1  capture-3, by capture-2\n{\n" in text
    assert [event["id"] for event in shown(oms("events", "show", "web/W-1", "--json"))["events"]] == ["capture-2", "capture-3"]


def test_a_timeline_says_who_asked_for_what_and_why(oms: Run, connected: FakeConnections) -> None:
    asked = entry(sample_of(OrderCommandRefused), actor="user:ada", reason="ordered twice")
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("released")
    connected.responses[f"/orders/{ORDER_ID}/timeline"] = page(asked, entry(accepted(), 2))
    assert "by user:ada: ordered twice\n" in oms("events", "show", "web/W-1").stdout
    assert oms("order", "show", "web/W-1").stdout.count("by user:ada: ordered twice") == 1


def test_a_command_is_published_with_the_name_of_who_gives_it(oms: Run, connected: FakeConnections) -> None:
    oms("stock", "receive", "BER-1", "MUG=3", "--no-wait")
    assert connected.askers == [Asker("operator", "")]


@pytest.mark.parametrize("reason", ["two\nlines", "x" * 501])
def test_a_reason_is_one_short_line(oms: Run, reason: str) -> None:
    assert oms("--reason", reason, "stock", "receive", "BER-1", "MUG=3", "--no-wait").exit_code == 2


class Consumed:
    """A record as aiokafka gives it."""

    topic, partition, offset, timestamp = "oms.orders", 3, 41, 1_764_000_000_000

    def __init__(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> None:
        self.key, self.value, self.headers = key, value, headers


def test_a_record_is_shown_as_json() -> None:
    attributes = {"source": "/oms/capture", "id": "capture-9", "actor": "user:ada", "reason": "ordered twice"}
    envelope = Envelope(type="oms.capture.OrderConfirmed.v1", time=NOON, sequence=3, position=9, **attributes)
    assert record_as_json(Consumed(b"k", b'{"a":1}', to_headers(envelope))) == {
        "time": "2026-11-24T12:00:00.000000Z",
        "topic": "oms.orders",
        "partition": 3,
        "offset": 41,
        "key": "k",
        "type": "oms.capture.OrderConfirmed.v1",
        "source": "/oms/capture",
        "id": "capture-9",
        "sequence": 3,
        "position": 9,
        "correlation": None,
        "causation": None,
        "actor": "user:ada",
        "reason": "ordered twice",
        "data": {"a": 1},
        "value_base64": None,
    }


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"{", b"[" * 100_000])
def test_an_unreadable_record_is_shown_as_json_with_its_value_in_base64(value: bytes | None) -> None:
    event = record_as_json(Consumed(None, value, [("ce_type", b"\xff")]))
    assert (event["time"], event["key"], event["data"]) == ("2025-11-24T16:00:00.000000Z", None, None)
    assert base64.b64decode(event["value_base64"]) == (value or b"")
    assert json.loads(json.dumps(event)) == event


def test_an_event_is_a_sentence_for_people() -> None:
    envelope = Envelope(type="oms.payment.RefundSettled.v1", source="/oms/payment", id="payment-9", time=NOON, actor="user:ada")
    refund = {"order_id": "o", "request_id": "r", "refund_id": "RMA-1", "amount": 3750, "currency": "EUR", "at": "2026-11-24T12:00:00Z"}
    settled = Consumed(b"k", json.dumps(refund).encode(), to_headers(envelope))
    assert sentence(record_as_json(settled)) == "37.50 EUR was refunded for RMA-1 (by user:ada)"
    assert sentence(record_as_json(Consumed(b"k", b"\xff", to_headers(envelope)))) == "not readable, in base64: /w=="
