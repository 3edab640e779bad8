"""Projection's query API, as the gateway asks it: what it answers is passed on, and what it needs to know of an order is looked up."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec
from oms_client.errors import NotFound
from oms_client.queries import PAGE_ITEMS, Json, order_path, timeline_path
from oms_runtime.problems import PROBLEM_JSON

from oms_gateway.refusals import Unavailable

_PASSED_ON = frozenset({200, 404, 422, 503})


class QueryApi:
    """The query API behind `client`, which has its URL and the credential for it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, method: str, path: str, parameters: Sequence[tuple[str, str]] = (), body: bytes | None = None) -> httpx.Response:
        """Its answer: what was asked for, or a problem of 404, 422 or 503. Raises Unavailable where it does not answer as it should."""
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            # Its own encoding of parameters: httpx replaces those of a URL by an empty list.
            url = httpx.URL(path, params=parameters) if parameters else httpx.URL(path)
            response = await self._client.request(method, url, content=body, headers=headers)
        except httpx.RequestError as error:
            raise Unavailable("the query API does not answer", "ask again in a moment") from error
        kind = response.headers.get("content-type", "")
        if response.status_code not in _PASSED_ON or (response.status_code != 200 and kind != PROBLEM_JSON):
            raise Unavailable("the query API does not answer as it should", f"it answered {response.status_code}: ask an operator")
        return response

    async def order(self, order_id: str) -> Json | None:
        """All that is known of an order, None where it is not known, or not yet."""
        response = await self.ask("GET", order_path(order_id))
        return None if response.status_code == 404 else _content(response)

    async def timeline(self, key: str, /) -> list[Json]:
        """Every event that concerns an order, or whatever else has a key, oldest first. Raises NotFound."""
        entries: list[Json] = []
        more: Mapping[str, str] = {}
        while True:
            response = await self.ask("GET", timeline_path(key), [("limit", str(PAGE_ITEMS)), *more.items()])
            if response.status_code == 404:
                raise NotFound(f"nothing has happened to {key}")
            page = _content(response)
            entries += page["items"]
            if page["next"] is None:
                return entries
            more = {"after": page["next"]}


def _content(response: httpx.Response) -> Any:
    if response.status_code != 200:
        raise Unavailable("the query API does not answer as it should", "ask again in a moment")
    return msgspec.json.decode(response.content)
