"""What one HTTP client may take of a process is bounded: on a real server, with raw sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
import uvicorn
from oms_local.ports import LOOPBACK, find_free
from oms_runtime.limits import ADDRESS_SHARE, MAX_HEAD_BYTES, MAX_PIPELINED, BodyLimit, TimeLimit
from oms_runtime.loop import run_loop
from oms_runtime.server import make_server
from oms_runtime.settings import OperationsSettings
from probe import until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

MAX_BODY_BYTES = 1_000
MAX_CONNECTIONS = 5
TIMEOUT_SECONDS = 1.0
NEW_CONNECTIONS = 64
POST = b"POST /size HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n"
GET = b"GET /size HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"POST /headers HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
ELSEWHERE = "127.0.0.2"
"""This machine again, at an address that is no proxy's."""


class Client:
    """One connection, of which a test sends any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def status(self, *sent: bytes) -> int:
        """Send, and return the status of the response."""
        self.writer.writelines(sent)
        async with asyncio.timeout(10):
            head = await self._reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ")[1])

    async def closed(self) -> bool:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(10):
            await self._reader.read()
        return True


class Server:
    """A real server in this process, whose app has the limits of a service's own API."""

    def __init__(self, port: int, connections: AsyncExitStack) -> None:
        self._port = port
        self._connections = connections

    async def connect(self, source: str = LOOPBACK) -> Client:
        """A new connection, from an address of this machine."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port, local_addr=(source, 0))
        self._connections.callback(writer.close)
        return Client(reader, writer)


async def _size(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def _unread(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("who are you?", 401)


async def _headers(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse("", 422 if "x-later" in request.headers else 200)


async def _never(_request: Request) -> PlainTextResponse:
    await asyncio.Event().wait()
    return PlainTextResponse("")


async def _started(running: uvicorn.Server) -> bool:
    return running.started


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr("oms_runtime.limits.HEAD_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    routes = [
        Route("/size", _size, methods=["GET", "POST"]),
        Route("/unread", _unread, methods=["POST"]),
        Route("/headers", _headers, methods=["POST"]),
        Route("/never", _never),
    ]
    app = BodyLimit(Starlette(routes=routes), max_bytes=MAX_BODY_BYTES, timeout_seconds=TIMEOUT_SECONDS)
    settings = OperationsSettings(http_host=LOOPBACK, operations_port=find_free(), http_max_connections=MAX_CONNECTIONS)
    running = make_server(TimeLimit(app, 2 * TIMEOUT_SECONDS), settings, settings.operations_port)
    serving = asyncio.create_task(running.serve())
    await until(partial(_started, running))
    async with AsyncExitStack() as connections:
        yield Server(settings.operations_port, connections)
    running.should_exit = True
    await serving


async def test_a_request_within_the_limits_is_served(server: Server) -> None:
    client = await server.connect()
    assert await client.status(POST, b"x" * 100) == 200


async def test_a_body_that_is_slow_is_refused_and_its_connection_closed(server: Server) -> None:
    client = await server.connect()
    assert await client.status(POST, b"x" * 99) == 408
    assert await client.closed()


async def test_a_body_that_is_too_large_is_refused(server: Server) -> None:
    client = await server.connect()
    assert await client.status(POST.replace(b"100", b"1001"), b"x" * 1_001) == 413


async def test_an_app_may_answer_before_the_body_has_come_and_the_rest_of_it_is_not_waited_for_long(server: Server) -> None:
    client = await server.connect()
    assert await client.status(POST.replace(b"/size", b"/unread")) == 401
    client.writer.write(b"x")
    assert await client.closed()


async def test_a_head_that_is_slow_ends_the_connection(server: Server) -> None:
    client = await server.connect()
    client.writer.write(GET[:-2])
    assert await client.closed()


async def test_the_second_head_of_a_connection_is_limited_too(server: Server) -> None:
    client = await server.connect()
    assert await client.status(GET) == 200
    client.writer.write(GET[:-2])
    assert await client.closed()


async def test_a_head_that_is_too_large_is_refused(server: Server) -> None:
    client = await server.connect()
    assert await client.status(b"GET /size HTTP/1.1\r\nHost: h\r\nX: ", b"x" * (MAX_HEAD_BYTES + 1)) == 400


async def test_a_head_that_does_not_end_is_refused_before_its_time_is_over(server: Server) -> None:
    client = await server.connect()
    client.writer.write(b"GET /size HTTP/1.1\r\nHost: h\r\n")
    for _ in range(MAX_HEAD_BYTES // 1_000 + 1):
        client.writer.write(b"X: " + b"x" * 1_000 + b"\r\n")
        await client.writer.drain()
    assert await client.status() == 400


async def test_what_trails_a_body_is_no_header(server: Server) -> None:
    client = await server.connect()
    assert await client.status(CHUNKED, b"X-Later: x\r\n\r\n") == 200


async def test_what_trails_a_body_without_end_is_refused(server: Server) -> None:
    client = await server.connect()
    try:
        status = await client.status(CHUNKED, b"X-Later: ", b"x" * 1_000_000)  # more than one read takes
    except (ConnectionError, asyncio.IncompleteReadError):  # the connection was closed while there was more to read
        status = 400
    assert status == 400


async def test_only_so_many_requests_wait_for_the_one_before_them(server: Server) -> None:
    client = await server.connect()
    assert await client.status(GET.replace(b"/size", b"/never"), GET * (MAX_PIPELINED + 1)) == 400
    client = await server.connect()
    assert await client.status(GET * MAX_PIPELINED) == 200


async def test_an_address_has_a_share_of_the_connections(server: Server) -> None:
    allowed = [await server.connect(ELSEWHERE) for _ in range(MAX_CONNECTIONS // ADDRESS_SHARE)]
    assert await (await server.connect(ELSEWHERE)).status() == 503
    assert [await client.status(GET) for client in (*allowed, await server.connect())] == [200] * (len(allowed) + 1)


async def test_a_response_that_takes_too_long_is_a_problem(server: Server) -> None:
    client = await server.connect()
    assert await client.status(GET.replace(b"/size", b"/never")) == 503


async def test_one_connection_more_than_allowed_is_refused_and_later_ones_are_served(server: Server) -> None:
    slow = [await server.connect() for _ in range(MAX_CONNECTIONS - 1)]
    for client in slow:
        client.writer.write(POST)
    assert await (await server.connect()).status(GET) == 503
    assert [await client.status(b"x" * 100) for client in slow] == [200] * len(slow)
    for client in slow:
        client.writer.close()

    async def served_again() -> bool:
        client = await server.connect()
        status = await client.status(GET)
        client.writer.close()
        return status == 200

    await until(served_again)


def test_new_connections_do_not_wait_for_one_turn_of_the_loop_each() -> None:
    async def turns_until_accepted() -> int:
        settings = OperationsSettings(http_host=LOOPBACK, operations_port=find_free(), http_max_connections=8 * NEW_CONNECTIONS)
        running = make_server(Starlette(), settings, settings.operations_port)
        serving = asyncio.create_task(running.serve())
        await until(partial(_started, running))
        # The kernel takes them, though the loop does nothing else meanwhile.
        waiting = [socket.create_connection((LOOPBACK, settings.operations_port)) for _ in range(NEW_CONNECTIONS)]
        turns = 0
        while len(running.server_state.connections) < NEW_CONNECTIONS and turns < NEW_CONNECTIONS:
            await asyncio.sleep(0)
            turns += 1
        for each in waiting:
            each.close()
        running.should_exit = True
        await serving
        return turns

    assert run_loop(turns_until_accepted()) <= NEW_CONNECTIONS // 4  # uvloop, as every process has it
