"""What every command makes of the query API."""

from typing import Any

import httpx
import pytest

from libs.cli.tests.fakes import ORDER_ID, FakeConnections, Run, accepted, entry, errors, page, problem, shown


@pytest.mark.parametrize(
    ("answer", "code", "expected"),
    [
        (problem(404, "order 1 is not known here", "ask again"), 1, "order 1 is not known here; ask again"),
        (problem(422, "a parameter is not sound", "limit: too large"), 2, "a parameter is not sound: limit: too large"),
        (problem(503, "the database does not answer"), 3, "the database does not answer"),
        (
            httpx.ConnectError("refused"),
            3,
            "the query API at http://query does not answer (refused); --query-url or OMS_QUERY_URL names it, `oms stack status` shows",
        ),
        (httpx.ReadTimeout("timed out"), 3, "the query API at http://query does not answer (timed out)"),
        (httpx.Response(404, json={"detail": "Not Found"}), 3, "the server at http://query is not the query API"),
        (httpx.Response(200, text="<html>"), 3, "the server at http://query is not the query API"),
    ],
)
def test_an_error_of_the_query_api_is_an_exit_code_and_a_line(
    oms: Run, connected: FakeConnections, answer: Any, code: int, expected: str
) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = answer
    [line] = errors(oms("order", "show", "web/W-1"), code)
    assert line.startswith(expected)


def test_all_pages_of_a_list_are_read(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/orders/{ORDER_ID}/timeline"] = [page(entry(accepted(), 1), more="x"), page(entry(accepted(), 2))]
    assert [event["position"] for event in shown(oms("events", "show", "web/W-1", "--json"))["events"]] == [1, 2]
    assert [url.params.get("after") for url in connected.requests] == [None, "x"]


def test_a_sku_is_one_part_of_the_path(oms: Run, connected: FakeConnections) -> None:
    oms("stock", "show", "a/b?c#d é")
    assert connected.requests[0].raw_path == b"/stock/a%2Fb%3Fc%23d%20%C3%A9?limit=1"
