"""`oms stock` without servers."""

from typing import Any

import pytest
from oms_contracts.stock import StockAdjusted, StockCommandRefused, StockReceived

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


def test_several_skus_are_received_at_once_from_words_or_a_file(oms: Run, connected: FakeConnections) -> None:
    goods = "sku,location,quantity\nmug,BER,5\npot,HAM,1\n".encode("utf-8-sig")
    assert oms("stock", "receive", "BER", "mug=5", "a=b=1", "--no-wait").exit_code == 0
    assert oms("stock", "receive", "--file", "-", "--no-wait", given=goods).exit_code == 0
    assert [[(line.sku, line.location, line.quantity) for line in message.lines] for _, message in connected.published] == [
        [("mug", "BER", 5), ("a=b", "BER", 1)],
        [("mug", "BER", 5), ("pot", "HAM", 1)],
    ]


@pytest.mark.parametrize(
    ("words", "given", "expected"),
    [
        (("BER",), b"", ["SKU=QUANTITY: is not given"]),
        ((), b"", ["LOCATION: give a location with SKU=QUANTITY words, or --file"]),
        (("BER", "--file", "-"), b"", ["LOCATION: give a location with SKU=QUANTITY words, or --file"]),
        (("mug", "BER", "5"), b"", ["SKU=QUANTITY: 'BER' is not", "SKU=QUANTITY: '5' is not"]),
        (("BER", "mug=-5"), b"", ["SKU=QUANTITY: 'mug=-5' is not"]),
        (("--file", "-"), b"sku,quantity\nmug,5\n", ["--file: its first line must name the columns sku, location, quantity"]),
        (("--file", "-"), b"sku,location,quantity\nmug,BER,x\n,BER,1\n", ["--file: entry 1: has no sku", "--file: entry 2"]),
        (("--file", "-"), b"sku,location,quantity\n\xff,BER,1\n", ["--file: is not CSV in UTF-8"]),
        (("--file", "-"), b"x" * 1_100_000, ["--file: has more than 1048576 bytes"]),
    ],
)
def test_goods_at_fault_are_named(
    *, oms: Run, connected: FakeConnections, words: tuple[str, ...], given: bytes, expected: list[str]
) -> None:
    lines = errors(oms("stock", "receive", *words, given=given), 2)
    assert [line.startswith(start) for line, start in zip(lines, expected, strict=True)] == [True] * len(expected)
    assert connected.published == []


def test_a_count_says_what_is_there_from_words_or_a_file(oms: Run, connected: FakeConnections) -> None:
    goods = b"sku,location,quantity\nmug,BER,3\npot,HAM,0\n"
    assert oms("stock", "count", "BER", "mug=3", "cup=0", "--no-wait").exit_code == 0
    assert shown(oms("stock", "count", "--file", "-", "--count-id", "C", "--no-wait", "--json", given=goods))["count_id"] == "C"
    assert [[(line.sku, line.location, line.counted) for line in message.lines] for _, message in connected.published] == [
        [("mug", "BER", 3), ("cup", "BER", 0)],
        [("mug", "BER", 3), ("pot", "HAM", 0)],
    ]


def test_limits_of_a_file_are_sent_all_or_none(oms: Run, connected: FakeConnections) -> None:
    wrong = b"sku,location,safety,reorder_point\nmug,,x,2\n,BER,1,\n"
    lines = errors(oms("stock", "limits", "--file", "-", given=wrong), 2)
    assert [line.split(":")[:3] for line in lines] == [["--file", " entry 1", " safety"], ["--file", " entry 2", " sku"]]
    assert connected.published == []
    sound = b"sku,location,safety,reorder_point\nmug,,1,2\npot,BER,,4\n"
    assert oms("stock", "limits", "--file", "-", given=sound).stdout == "2 lines of limits sent\n"
    assert [(each.sku, each.location, each.safety, each.reorder_point) for _, each in connected.published] == [
        ("mug", None, 1, 2),
        ("pot", "BER", 0, 4),
    ]
    [line] = errors(oms("stock", "limits"), 2)
    assert line.startswith("SKU: give a SKU, or --file")


def test_what_arrived_of_a_transfer_is_all_that_is_on_the_way_unless_it_is_said(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/transfers"] = page({"transfer_id": "T", "on_the_way": [{"sku": "mug", "quantity": 2, "sent": 3}]})
    assert oms("stock", "transfer", "receive", "T", "HAM", "--no-wait").exit_code == 0
    assert oms("stock", "transfer", "receive", "T", "HAM", "mug=1", "--no-wait").exit_code == 0
    assert [[(line.sku, line.quantity) for line in message.lines] for _, message in connected.published] == [[("mug", 2)], [("mug", 1)]]
    connected.responses["/transfers"] = page()
    [line] = errors(oms("stock", "transfer", "receive", "T", "HAM", "--no-wait"), 2)
    assert line.startswith("TRANSFER: nothing of T is known to be on the way")


def test_stock_is_adjusted_with_a_reason(oms: Run, connected: FakeConnections) -> None:
    adjusted = sample_of(StockAdjusted, adjustment_id="A", lines=[{"sku": "mug", "location": "BER", "quantity": -2}])
    connected.responses["/orders/A/timeline"] = page(entry(adjusted))
    result = oms("stock", "adjust", "BER", "mug=-2", "--reason", "broken", "--adjustment-id", "A")
    assert (result.exit_code, result.stdout) == (0, "adjustment A is booked: -2 mug at BER\n")
    assert (connected.published[0][1].reason, connected.published[0][1].reason_code) == ("broken", "other")
    assert oms("stock", "adjust", "BER", "mug=-2", "--reason", "fell", "--reason-code", "damaged", "--no-wait").exit_code == 0
    assert connected.published[1][1].reason_code == "damaged"


POSITION = {
    **{"sku": "mug", "location": "BER", "on_hand": 6, "reserved": 1, "allocated": 2, "quarantined": 1, "safety": 1, "available": 1},
    **{"in_transit": 4, "signals": ["low", "quarantine"]},
}


def test_stock_is_shown_by_location(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/stock"] = page(POSITION, POSITION | {"sku": "pot", "location": "HAM"})
    assert rows(oms("stock", "show")) == [
        [sku, location, "6", "1", "2", "1", "1", "1", "4", "low, quarantine"] for sku, location in (("mug", "BER"), ("pot", "HAM"))
    ]
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
        "quarantined": 0,
        "reason_code": None,
        "reference": "F-1",
        "order_id": ORDER_ID,
        "reason": None,
    }
    connected.responses["/stock/mug"] = {"sku": "mug", "positions": [POSITION], "ledger": page(change, change | {"quantity": 5})}
    assert [row[3] for row in rows(oms("stock", "show", "mug"))] == ["2", "-2", "+5"]
    assert [row[3] for row in rows(oms("stock", "ledger", "mug"))] == ["-2", "+5"]
    assert shown(oms("stock", "ledger", "mug", "--limit", "1", "--json")) == {"sku": "mug", "ledger": [change], "more": True}
    answer = shown(oms("stock", "show", "mug", "--json"))
    assert (answer["positions"], len(answer["ledger"]), answer["more"]) == ([POSITION], 2, False)
