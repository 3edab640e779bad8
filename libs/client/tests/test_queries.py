"""The client of the query API, on responses of a given transport."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from oms_client.errors import ClientError, Invalid, NotAllowed, NotFound, QueryApiUnreachable
from oms_client.queries import QueryClient, order_path, poll

Respond = Callable[[httpx.Request], httpx.Response]


def client(respond: Respond) -> QueryClient:
    return QueryClient("http://query/", token="t", transport=httpx.MockTransport(respond))


def problem(status: int, title: str, *reasons: str) -> httpx.Response:
    content = json.dumps({"title": title, "status": status, "reasons": reasons})
    return httpx.Response(status, content=content, headers={"content-type": "application/problem+json"})


@pytest.mark.parametrize(
    ("response", "error", "text"),
    [
        (problem(404, "order 1 is not known here", "ask again"), NotFound, "order 1 is not known here; ask again"),
        (problem(422, "a parameter is not sound", "limit: too large"), Invalid, "a parameter is not sound; limit: too large"),
        (
            problem(401, "the request has no valid credential", "Authorization: must be"),
            NotAllowed,
            "the request has no valid credential; Authorization: must be",
        ),
        (problem(503, "the database does not answer"), QueryApiUnreachable, "the database does not answer"),
        (httpx.ConnectError("refused"), QueryApiUnreachable, "the query API at http://query does not answer (refused)"),
        (httpx.Response(404, json={"detail": "Not Found"}), QueryApiUnreachable, "the server at http://query is not the query API"),
        (httpx.Response(200, text="<html>"), QueryApiUnreachable, "the server at http://query is not the query API"),
    ],
)
async def test_a_problem_becomes_a_typed_error(response: Any, error: type[ClientError], text: str) -> None:
    def respond(_request: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    async with client(respond) as query:
        with pytest.raises(error) as raised:
            await query.get("/orders/1")
    assert str(raised.value) == text


async def test_what_is_not_known_yet_is_none() -> None:
    async with client(lambda _: problem(404, "not known")) as query:
        assert await query.find("/orders/1") is None


def test_a_url_that_is_none_is_invalid() -> None:
    with pytest.raises(Invalid, match="'http://query:port' is not a URL"):
        QueryClient("http://query:port", token="t")


async def test_all_pages_of_a_list_are_read_unless_a_number_of_items_is_given() -> None:
    pages = {None: ([1, 2], "b"), "b": ([3], None)}
    requests: list[str | None] = []

    def respond(request: httpx.Request) -> httpx.Response:
        after = request.url.params.get("after")
        requests.append(after)
        items, following = pages[after]
        return httpx.Response(200, json={"ledger": {"items": items, "next": following}})

    async with client(respond) as query:
        assert await query.collect("/stock/mug", within="ledger") == [1, 2, 3]
        assert await query.collect("/stock/mug", within="ledger", max_items=1) == [1]
    assert requests == [None, "b", None]


def test_an_id_is_one_part_of_the_path() -> None:
    assert order_path("a/b?c#d é") == "/orders/a%2Fb%3Fc%23d%20%C3%A9"


async def test_polling_ends_with_the_first_result_or_at_its_timeout() -> None:
    results = iter([None, 7, 8])

    async def ask() -> int | None:
        return next(results)

    async def never() -> None:
        return None

    assert await poll(ask, timeout_seconds=30) == 7
    assert await poll(never, timeout_seconds=0) is None
