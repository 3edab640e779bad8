"""The query API: everything the read models hold, as JSON.

The API's fields are described at `/docs` of the projection service. Amounts are minor units, times RFC 3339 in UTC.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from time import monotonic
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from oms_contracts.message import decode

from oms_client.errors import Invalid, NotAllowed, NotFound, QueryApiUnreachable, Refused

TIMEOUT_SECONDS = 30
POLL_SECONDS = 0.2
PAGE_ITEMS = 500
PROBLEM_JSON = "application/problem+json"
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})

T = TypeVar("T")
Json = dict[str, Any]


def http_client(url: str, token: str | None, *, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client of HTTP for the query API at `url`, with the credential `token`, if any. Raises Invalid when `url` is not a URL."""
    try:
        host = httpx.URL(url).host
    except httpx.InvalidURL as error:
        raise Invalid(f"{url!r} is not a URL", str(error)) from error
    return httpx.AsyncClient(
        base_url=url,
        transport=transport,
        timeout=TIMEOUT_SECONDS,
        trust_env=host not in LOOPBACK_HOSTS,  # a proxy of the environment must not be asked for a server of this machine
        headers={} if token is None else {"authorization": f"Bearer {token}"},
    )


class QueryClient:
    """A client of the query API at `url`, with the credential `token`; or of the gateway, whose API has the same paths and more.

    It connects with the first request; `close` it, or use it as an async context manager.
    """

    def __init__(
        self, url: str, *, token: str | None, server: str = "the query API", transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """`server` is what errors call it; without a `token`, `sign_in` follows. Raises Invalid when `url` is not a URL."""
        self.url = url.rstrip("/")
        self._server = server
        self._http = http_client(self.url, token, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, **parameters: Any) -> Any:
        """The JSON at `path`. Parameters that are None are left out.

        Raises NotFound, Invalid (a parameter is not valid), NotAllowed (the server does not take the credential) or QueryApiUnreachable.
        """
        return await self._request("GET", path, params={name: value for name, value in parameters.items() if value is not None})

    async def post(self, path: str, body: Any, **options: Any) -> Any:
        """The JSON that `path` answers to a body. For what must be in no URL, because logs have those; `options` are httpx's.

        Raises as `get`, and Refused where the server says that what is asked for cannot be done as things stand.
        """
        return await self._request("POST", path, json=body, **options)

    async def send(self, method: str, path: str, body: Any = None) -> Any:
        """What `path` answers to a request of another method; None where that is empty. Raises as `post`."""
        return await self._request(method, path, json=body)

    async def sign_in(self, name: str, password: str) -> None:
        """Sign in at the gateway: a session takes the place of a credential. Raises as `post`."""
        begun = await self.post("/session", {"name": name, "password": password})
        self._http.headers["x-csrf-token"] = begun["csrf_token"]

    async def _request(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = await self._http.request(method, f"{self.url}{path}", **options)
            content: Any = response.json() if response.content or not response.is_success else None
        except httpx.RequestError as error:
            raise QueryApiUnreachable(f"{self._server} at {self.url} does not answer ({error})") from error
        except ValueError as error:
            raise self._another_program() from error
        if response.is_success:
            return content
        if response.headers.get("content-type") != PROBLEM_JSON:
            raise self._another_program()
        title, reasons = content["title"], content["reasons"]
        match response.status_code:
            case 401 | 403:
                raise NotAllowed("; ".join((title, *reasons)))
            case 404:
                raise NotFound("; ".join((title, *reasons)))
            case 409:
                raise Refused(title, *reasons, answer=content)
            case 422:
                raise Invalid(title, *reasons)
            case _:
                raise QueryApiUnreachable("; ".join((title, *reasons)))

    async def find(self, path: str, **parameters: Any) -> Any | None:
        """As `get`, but None where the query API does not know what is asked for, or does not know it yet."""
        try:
            return await self.get(path, **parameters)
        except NotFound:
            return None

    async def items(self, path: str, *, within: str | None = None, **parameters: Any) -> AsyncGenerator[Json]:
        """All items of a paged list, page by page. `within` names the field of the response that holds the list, where it has others."""
        after: str | None = None
        while True:
            response = await self.get(path, **{"limit": PAGE_ITEMS} | parameters, after=after)
            page = response if within is None else response[within]
            for item in page["items"]:
                yield item
            after = page["next"]
            if after is None:
                return

    async def collect(self, path: str, *, within: str | None = None, max_items: int | None = None, **parameters: Any) -> list[Json]:
        """The items of a paged list, the first `max_items` of them."""
        found: list[Json] = []
        async with aclosing(self.items(path, within=within, **parameters)) as items:
            async for item in items:
                if max_items is not None and len(found) >= max_items:
                    break
                found.append(item)
        return found

    async def order(self, order_id: str) -> Json:
        """All that is known of one order. Raises NotFound."""
        return await self.get(order_path(order_id))

    async def timeline(self, key: str) -> list[Json]:
        """Every event that concerns an order (or a receipt or adjustment of stock), oldest first. Raises NotFound."""
        return await self.collect(timeline_path(key))

    def _another_program(self) -> QueryApiUnreachable:
        return QueryApiUnreachable(f"the server at {self.url} is not {self._server}")


async def poll(ask: Callable[[], Awaitable[T | None]], timeout_seconds: float) -> T | None:
    """The first result of `ask` that is not None; None when `timeout_seconds` pass without one. `ask` is called at least once."""
    deadline = monotonic() + timeout_seconds
    while (result := await ask()) is None and monotonic() < deadline:  # noqa: ASYNC110  # the change is in another process
        await asyncio.sleep(POLL_SECONDS)
    return result


def event_of(entry: Json) -> Any:
    """The event that an entry of a timeline describes, as an instance of its message class."""
    return decode(entry["type"], msgspec.json.encode(entry["data"]))


def order_path(order_id: str) -> str:
    """The path of an order."""
    return f"/orders/{path_part(order_id)}"


def timeline_path(key: str) -> str:
    """The path of the timeline of an order, or of a receipt or adjustment of stock."""
    return f"{order_path(key)}/timeline"


def path_part(text: str) -> str:
    """A text escaped so that it is one part of a path, whatever its characters."""
    return quote(text, safe="")
