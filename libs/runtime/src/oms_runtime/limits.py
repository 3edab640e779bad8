"""What one HTTP client may take of a process: connections, bytes, and time for each part of a request.

The number of connections is uvicorn's `limit_concurrency`: a request beyond it gets 503 at once. One address has a share of them.
"""

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from oms_runtime.problems import problem

MAX_HEAD_BYTES = 16 * 1024
"""Of a request line and its headers; of what frames a body (chunks, trailers), without the body's own bytes, in a row."""
MAX_PIPELINED = 8
"""Requests that a client sends before it has the answer to an earlier one: each is parsed, and kept, as it comes."""
HEAD_TIMEOUT_SECONDS = 10
"""For a request line and its headers to arrive. uvicorn itself waits for them without end, and the connection counts meanwhile."""
BODY_TIMEOUT_SECONDS = 10
KEEP_ALIVE_SECONDS = 5
ADDRESS_SHARE = 4
"""An address has at most one in so many of the connections, or one client could keep out all others. Proxies have what is there."""
_TOO_MANY = problem(503, "too many connections from this address", "close some, or let requests follow one another on one connection")
_REFUSAL = b"".join(
    (
        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n",
        *(b"%b: %b\r\n" % header for header in _TOO_MANY.raw_headers),
        b"\r\n",
        _TOO_MANY.body,
    )
)


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, whose parser itself has no limits.

    It closes a connection that has no request in hand and sends a part of one for too long, one whose head is too large, and at once those
    that an address opens beyond its share. FORWARDED_ALLOW_IPS (uvicorn's) names the proxies, which have none: by default this machine.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _unfinished_bytes = 0
    """What came since the parser last finished something: a head, or a piece of a body. It keeps them, however many come."""
    _finished = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._has_no_share_left():
            transport.write(_REFUSAL)
            transport.close()
            self.connections.discard(self)  # while it closes it must not count, or refusals would use up what others may have
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        self._finished = False
        super().data_received(data)
        self._unfinished_bytes = 0 if self._finished else self._unfinished_bytes + len(data)
        if self._unfinished_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")
        self._watch_head()

    def on_headers_complete(self) -> None:
        self._finished = True
        # The parser makes a 400 of an error.
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests wait for their turn")
        super().on_headers_complete()
        self.headers = []  # whatever trails the body is none of the request's headers, which the app has by now

    def on_body(self, body: bytes) -> None:
        self._finished = True
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        super().connection_lost(exc)

    def _has_no_share_left(self) -> bool:
        if self.client is None or self.limit_concurrency is None:
            return False
        app: object = self.app  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # uvicorn is untyped in part
        if isinstance(app, ProxyHeadersMiddleware) and self.client[0] in app.trusted_hosts:
            return False
        network, others = network_of(self.client[0]), (getattr(each, "client", None) for each in self.connections)
        same = sum(client is not None and network_of(client[0]) == network for client in others)
        return same > max(1, self.limit_concurrency // ADDRESS_SHARE)

    def _watch_head(self) -> None:
        cycle: Any = self.cycle  # None until the first request; uvicorn's annotation leaves that out
        if cycle is not None and not cycle.response_complete:
            self._end_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self.transport.close)

    def _end_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class BodyRefused(Exception):
    """A request's body is too large or too slow. `BodyLimit` answers it, whatever the app makes of it."""


def network_of(address: str) -> str:
    """What a network address stands for when it is counted: itself, or the /64 of an IPv6 address, which one customer has whole."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(parsed.ipv4_mapped or ip_network((parsed.packed, 64), strict=False))


class BodyLimit:
    """Middleware that limits a request's body while the app reads it: 413 when it has more than `max_bytes`, 408 when it is too slow.

    An app that answers without the body, because it does not know the caller, costs no more than its head.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout_seconds: float = BODY_TIMEOUT_SECONDS) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and answer it where its body is refused."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal: ASGIApp | None = None
        size, read, begun = 0, False, False
        deadline: float | None = None

        async def receive_limited() -> Message:
            nonlocal refusal, size, read, deadline
            if read:
                return await receive()
            deadline = deadline or asyncio.get_running_loop().time() + self._timeout_seconds
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                reason = f"body: it must arrive within {self._timeout_seconds:g} s"
                refusal = problem(408, "the body is too slow", reason, headers={"Connection": "close"})
                raise BodyRefused from None
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                refusal = problem(413, "the body is too large", f"body: at most {self._max_bytes} bytes", headers={"Connection": "close"})
                raise BodyRefused
            read = message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal begun
            if refusal is None or begun:
                begun = True
                await send(message)

        try:
            await self._app(scope, receive_limited, send_unless_refused)
        except BodyRefused:
            if begun:
                raise
        if refusal is not None and not begun:
            await refusal(scope, receive, send)


class TimeLimit:
    """An app that is cancelled when a response takes too long: 503, or a closed connection when the response has begun."""

    def __init__(self, app: ASGIApp, timeout_seconds: float) -> None:
        self._app = app
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        limit = asyncio.timeout(self._timeout_seconds)
        try:
            async with limit:
                await self._app(scope, receive, send_on)
        except TimeoutError:
            if begun or not limit.expired():
                raise
            reason = f"it took longer than {self._timeout_seconds:g} s: it is not known whether it had an effect, send it again"
            await problem(503, "the request took too long", reason)(scope, receive, send)
