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


class BodyLimit:
    """Middleware that reads a request's body before the app is called: 413 when it has more than `max_bytes`, 408 when it is too slow."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout_seconds: float = BODY_TIMEOUT_SECONDS) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, read = bytearray(), False
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while not read:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    if len(body) > self._max_bytes:
                        refusal = problem(413, "the body is too large", f"body: at most {self._max_bytes} bytes")
                        await refusal(scope, receive, send)
                        return
                    read = not message.get("more_body", False)
        except TimeoutError:
            reason = f"body: it must arrive within {self._timeout_seconds:g} s"
            await problem(408, "the body is too slow", reason, headers={"Connection": "close"})(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)


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
