"""`oms return` without servers."""

import pytest
from oms_contracts.returns import CancelReturn, InspectReturn, ReceiveReturnItems, RequestReturn
from oms_contracts.values import InspectedLine, ReturnLine

from libs.cli.tests.fakes import ORDER_ID, FakeConnections, Run, errors, order_detail, page, rows, shown
from libs.cli.tests.life import returned

ORDER_PATH = f"/orders/{ORDER_ID}"


def test_returns_are_listed_as_the_query_api_has_them(oms: Run, connected: FakeConnections) -> None:
    wanted = returned("received", received=1, action="inspect", deadline="2026-11-26T12:00:00Z", location="BER")
    connected.responses["/returns"] = page(wanted | {"order_id": ORDER_ID, "channel": "web", "reference": "W-1"})
    filters = "--status received --action inspect --location BER --order web/W-1 --sort -deadline"
    [row] = rows(oms("return", "list", *filters.split()))
    assert row[1:4] + row[5:] == ["web/W-1", "RMA-1", "received", "BER", "1", "1", "inspect until 2026-11-26 12:00:00Z"]
    asked = {name: value for name, value in connected.requests[0].params.items() if name != "limit"}
    assert asked == {"status": "received", "action": "inspect", "location": "BER", "order": ORDER_ID, "sort": "-deadline"}


def test_a_return_is_requested_of_all_that_was_delivered_or_of_some(oms: Run, connected: FakeConnections) -> None:
    connected.responses[ORDER_PATH] = order_detail("completed")
    assert shown(oms("return", "request", "web/W-1", "--no-wait", "--json"))["return_id"] == "RMA-id-1"
    oms("return", "request", "web/W-1", "--line", "mug=1", "--reason", "damaged", "--return-id", "R", "--no-wait")
    assert [command for _, command in connected.published] == [
        RequestReturn(order_id=ORDER_ID, return_id="RMA-id-1", lines=(ReturnLine(line_id="1", quantity=1, reason="unwanted"),)),
        RequestReturn(order_id=ORDER_ID, return_id="R", lines=(ReturnLine(line_id="1", quantity=1, reason="damaged"),)),
    ]


def test_a_return_is_received_as_announced(oms: Run, connected: FakeConnections) -> None:
    connected.responses[ORDER_PATH] = order_detail("completed", returns=[returned(), returned("closed", return_id="RMA-0")])
    oms("return", "receive", "web/W-1", "--location", "BER", "--receipt-id", "D-1", "--no-wait")
    assert connected.published[0][1] == ReceiveReturnItems(
        order_id=ORDER_ID,
        return_id="RMA-1",
        receipt_id="D-1",
        location="BER",
        lines=(ReturnLine(line_id="1", quantity=1, reason="damaged"),),
    )
    connected.responses[ORDER_PATH] = order_detail("completed", returns=[returned("received", received=1)])
    [line] = errors(oms("return", "receive", "web/W-1", "--location", "BER"), 2)
    assert line == "--line: must say what arrived now, for 1 of the announced units arrived before"


@pytest.mark.parametrize(
    ("words", "findings"),
    [
        ("", [(2, "restock", True)]),
        ("--disposition write-off --no-refund", [(2, "write-off", False)]),
        ("--write-off mug=1", [(1, "write-off", True), (1, "restock", True)]),
        ("--line mug=1", [(1, "restock", True)]),
    ],
)
def test_what_came_back_is_inspected(oms: Run, connected: FakeConnections, words: str, findings: list[tuple[int, str, bool]]) -> None:
    announced = [{"line_id": "1", "quantity": 2, "reason": "damaged"}]
    connected.responses[ORDER_PATH] = order_detail("completed", returns=[returned("received", received=2, lines=announced)])
    oms("return", "inspect", "web/W-1", "RMA-1", *words.split(), "--no-wait")
    lines = tuple(
        InspectedLine(line_id="1", sku="mug", quantity=units, disposition=disposition, accepted=accepted)
        for units, disposition, accepted in findings
    )
    assert connected.published[0][1] == InspectReturn(order_id=ORDER_ID, return_id="RMA-1", lines=lines)


def test_an_inspection_of_a_part_says_which_part(oms: Run, connected: FakeConnections) -> None:
    announced = [{"line_id": "1", "quantity": 2, "reason": "damaged"}]
    connected.responses[ORDER_PATH] = order_detail("completed", returns=[returned("received", received=1, lines=announced)])
    assert errors(oms("return", "inspect", "web/W-1"), 2) == ["--line: must say what was found: 1 of 2 announced units arrived"]
    [line] = errors(oms("return", "inspect", "web/W-1", "--line", "mug=1", "--write-off", "mug=2"), 2)
    assert line == "--write-off: 2 of line 1 are more than came back"


def test_a_return_is_canceled_and_one_of_several_is_named(oms: Run, connected: FakeConnections) -> None:
    connected.responses[ORDER_PATH] = order_detail("completed", returns=[returned(), returned(return_id="RMA-2")])
    words = ("return", "cancel", "web/W-1")
    assert errors(oms(*words, "--reason", "kept"), 2) == ["RETURN: name one of RMA-1, RMA-2"]
    oms(*words, "RMA-2", "--reason", "kept", "--no-wait")
    assert connected.published[0][1] == CancelReturn(order_id=ORDER_ID, return_id="RMA-2", reason="kept")
    assert errors(oms(*words, "RMA-3", "--reason", "kept"), 1) == ["order web/W-1 has no return RMA-3; it has RMA-1, RMA-2"]
    connected.responses[ORDER_PATH] = order_detail("completed", returns=[returned("closed")])
    [line] = errors(oms(*words, "--reason", "kept"), 1)
    assert line == "order web/W-1 has no open return; `oms return request web/W-1` asks for one"


def test_a_return_is_shown_with_what_was_found_and_refunded(oms: Run, connected: FakeConnections) -> None:
    found = [{"line_id": "1", "sku": "mug", "quantity": 1, "disposition": "restock", "accepted": True}]
    done = returned("closed", received=1, inspected=found, refunded=500, outcome="refunded")
    connected.responses[ORDER_PATH] = order_detail("completed", returns=[done, returned(return_id="RMA-2")], returns_until=None)
    result = oms("return", "show", "web/W-1")
    assert rows(result) == [["1", "1", "damaged", "1", "restock, refunded"], ["1", "1", "damaged", "–", "–"]]
    assert "received 1, refunded 5.00 EUR, outcome refunded" in result.stdout
    assert "next: oms return receive web/W-1 RMA-2 --location LOCATION" in result.stdout
    assert shown(oms("return", "show", "web/W-1", "RMA-1", "--json")) == {"order_id": ORDER_ID, "returns": [done]}
