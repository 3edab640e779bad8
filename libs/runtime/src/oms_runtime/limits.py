"""What one HTTP client may take of a process: connections, bytes, and time for each part of a request.

The number of connections is uvicorn's `limit_concurrency`: a request beyond it gets 503 at once.
"""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from oms_runtime.problems import problem

MAX_HEAD_BYTES = 16 * 1024
"""Of a request line and its headers."""
HEAD_TIMEOUT_SECONDS = 10
"""For a request line and its headers to arrive. uvicorn itself waits for them without end, and the connection counts meanwhile."""
BODY_TIMEOUT_SECONDS = 10
KEEP_ALIVE_SECONDS = 5


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol. It closes a connection that has no request in hand and sends a part of one for too long."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        super().connection_lost(exc)

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
                refusal = problem(413, "the body is too large", f"body: at most {self._max_bytes} bytes")
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
