"""`oms search` without servers."""

import json
from typing import Any

from libs.cli.tests.fakes import ORDER_ID, FakeConnections, Run, errors, problem, rows, shown

HIT: dict[str, Any] = {
    "kind": "order",
    "id": ORDER_ID,
    "field": "reference",
    "value": "W-1",
    "exact": True,
    "order_id": ORDER_ID,
    "channel": "web",
    "reference": "W-1",
    "number": "#1",
    "status": "released",
    "placed_at": "2026-11-24T11:00:00Z",
}
OF_AN_ORDER = ("order_id", "channel", "reference", "number", "status", "placed_at")
PACKAGE = HIT | {"kind": "package", "id": "340", "field": "tracking_number", "value": "T-340"}
PRODUCT = HIT | dict.fromkeys(OF_AN_ORDER) | {"kind": "product", "id": "mug", "field": "title", "value": "Mug"}


def test_whatever_is_found_is_shown_with_its_order(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/search"] = {"items": [HIT, PACKAGE, PRODUCT], "more": True}
    result = oms("search", "W-1", "--channel", "web", "--limit", "3")
    assert rows(result) == [
        ["order", "web/W-1", "reference", "W-1", "web/W-1", "released", "2026-11-24 11:00:00Z"],
        ["package", "340", "tracking_number", "T-340", "web/W-1", "released", "2026-11-24 11:00:00Z"],
        ["product", "mug", "title", "Mug", "–", "–", "–"],
    ]
    assert result.stderr == "there is more; --limit shows it, or a longer QUERY leaves less\n"
    assert shown(oms("search", "W-1", "--json")) == {"found": [HIT, PACKAGE, PRODUCT], "more": True}
    connected.responses["/search"] = {"items": [], "more": False}
    assert oms("search", "W-2").stdout == "nothing is found\n"


def test_what_may_be_about_a_person_is_in_no_url(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/search"] = {"items": [], "more": False}
    oms("search", "Ada Lovelace")
    oms("search", "ada@example.com", "--limit", "5")
    assert [str(url) for url in connected.requests] == ["http://query/search"] * 2
    assert [json.loads(body) for body in connected.bodies] == [
        {"q": "Ada Lovelace", "name": "Ada Lovelace", "channel": None, "limit": 20},
        {"email": "ada@example.com", "channel": None, "limit": 5},
    ]
    oms("search", "W-1", "--no-persons", "--channel", "web")
    assert dict(connected.requests[2].params) == {"q": "W-1", "channel": "web", "limit": "20"}
    assert errors(oms("search", "ada@example.com", "--no-persons"), 2) == ["QUERY: an e-mail address is found with --persons alone"]
    assert len(connected.requests) == 3


def test_who_may_not_see_persons_is_told_how_to_search_without_them(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/search"] = problem(403, "this is not allowed", "POST /search needs the scope customers:read")
    [line] = errors(oms("search", "W-1"), 1)
    assert line.endswith("the scope customers:read; --no-persons looks at references, numbers, SKUs and tracking numbers alone")
