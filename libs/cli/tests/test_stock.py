"""`oms stock` without servers."""

from typing import Any

import pytest
from oms_contracts.stock import StockCommandRefused, StockReceived

from libs.cli.tests.fakes import ORDER_ID, FakeConnections, Run, entry, errors, page, problem, rows, sample_of, shown


def test_a_receipt_has_an_id_of_its_own_unless_one_is_given(oms: Run, connected: FakeConnections) -> None:
    words = ("stock", "receive", "BER", "mug=5", "--no-wait")
    assert oms(*words).stdout == "asked to receive goods; `oms stock ledger mug` shows what comes of it\n"
    assert shown(oms(*words, "--receipt-id", "R-1", "--json"))["receipt_id"] == "R-1"
    assert [(topic, message.receipt_id) for topic, message in connected.published] == [
        ("oms.inventory.commands", name) for name in ("id-1", "R-1")
    ]


RECEIVED = sample_of(StockReceived, receipt_id="R-1", lines=[{"sku": "mug", "location": "BER", "quantity": 5}])


def test_a_receipt_is_waited_for(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/orders/R-1/timeline"] = [problem(404, "nothing"), page(entry(RECEIVED))]
    result = oms("stock", "receive", "BER", "mug=5", "--receipt-id", "R-1")
    assert (result.exit_code, result.stdout) == (0, "receipt R-1 is booked: 5 units of 1 SKU\n")


@pytest.mark.parametrize(
    ("quantity", "event", "expected"),
    [
        ("6", RECEIVED, "--receipt-id: it was booked before with other lines; take another"),
        ("5", sample_of(StockCommandRefused, reasons=["lines.0.sku: must not be empty"]), "lines.0.sku: must not be empty"),
    ],
)
def test_a_receipt_that_is_not_booked_is_a_failure(oms: Run, connected: FakeConnections, quantity: str, event: Any, expected: str) -> None:
    sent = shown(oms("stock", "receive", "BER", f"mug={quantity}", "--receipt-id", "R-1", "--no-wait", "--json"))
    connected.responses["/orders/R-1/timeline"] = page(entry(event, causation=sent["event_id"]))
    lines = errors(oms("stock", "receive", "BER", f"mug={quantity}", "--receipt-id", "R-1"), 1)
    assert lines == [f"refused to receive goods: {expected}"]


POSITION = {"sku": "mug", "location": "BER", "on_hand": 5, "reserved": 1, "allocated": 2, "available": 2}


def test_stock_is_shown_by_location(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/stock"] = page(POSITION, POSITION | {"sku": "pot", "location": "HAM"})
    assert rows(oms("stock", "show")) == [["mug", "BER", "5", "1", "2", "2"], ["pot", "HAM", "5", "1", "2", "2"]]
    cut = oms("stock", "show", "--limit", "1")
    assert len(rows(cut)) == 1
    assert cut.stderr == "there is more; --limit shows it\n"
    assert shown(oms("stock", "show", "--limit", "1", "--json")) == {"positions": [POSITION], "more": True}


def test_the_ledger_of_a_sku_is_shown_with_signs(oms: Run, connected: FakeConnections) -> None:
    change = {
        "position": 9,
        "line": 1,
        "at": "2026-11-24T12:00:00Z",
        "location": "BER",
        "kind": "shipped",
        "quantity": -2,
        "reference": "F-1",
        "order_id": ORDER_ID,
        "reason": None,
    }
    connected.responses["/stock/mug"] = {"sku": "mug", "positions": [POSITION], "ledger": page(change, change | {"quantity": 5})}
    assert [row[3] for row in rows(oms("stock", "show", "mug"))] == ["2", "-2", "+5"]
    answer = shown(oms("stock", "show", "mug", "--json"))
    assert (answer["positions"], len(answer["ledger"]), answer["more"]) == ([POSITION], 2, False)
