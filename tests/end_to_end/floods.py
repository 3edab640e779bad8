"""Floods of an HTTP API, all at the same time, each from an address of its own: a process that sends nothing sound."""

import asyncio
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from oms_local.ports import LOOPBACK
from oms_runtime.loop import run_loop

from tests.load.http_client import HttpClient
from tests.load.rig import end_with_parent

ORDERS = "/api/v1/orders"
ORDER_BEGUN = b"POST /api/v1/orders HTTP/1.1\r\nHost: h\r\n"
WORKERS = 4
"""Of each flood of requests: so many are in hand at the same time."""
PAUSE_SECONDS = 0.01
"""Between two requests of a worker: these processes have two cores with the gateway and all services."""
MISTAKES = 50_000
CONNECTIONS = 100
"""Of each flood of connections: more than an address may have."""
TRICKLE_SECONDS = 0.5
STOP_SECONDS = 30
STATUS_END = len(b"HTTP/1.1 200")

Counts = Counter[str]
"""How often each flood came to what: `wrong password 401`."""


@contextmanager
def flooding(port: int, key: str) -> Generator[Counts]:
    """Floods of the API on `port` meanwhile; what came of them is in the counts afterwards. `key` is one that the API knows."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_run, args=(port, key, theirs), daemon=True)
    process.start()
    counts = Counts()
    try:
        if ours.poll(STOP_SECONDS):
            ours.recv()  # it has begun
        yield counts
        ours.send("stop")
        if ours.poll(STOP_SECONDS):
            counts.update(ours.recv())
    finally:
        process.terminate()
        process.join(STOP_SECONDS)


def _run(port: int, key: str, parent: Connection) -> None:
    end_with_parent()
    parent.send(run_loop(_flood(port, key, parent)))


async def _flood(port: int, key: str, parent: Connection) -> Counts:
    flood, known, names = _Flood(port), {"authorization": f"Bearer {key}"}, count()
    body_begun = ORDER_BEGUN + f"Authorization: Bearer {key}\r\nContent-Length: 1000\r\n\r\n".encode()
    mistakes = b'{"lines": [' + b"0," * (MISTAKES - 1) + b"0]}"

    def unknown_path(client: HttpClient) -> bytes:
        return client.request_of("GET", f"/api/v1/no-{next(names)}", b"")

    def wrong_password(client: HttpClient) -> bytes:
        body = {"name": f"user-{next(names) % 50}", "password": "a wrong password"}
        return client.request_of("POST", "/api/v1/session", json.dumps(body).encode())

    running = [
        *(flood.trickle("slow head", "127.0.0.2", ORDER_BEGUN, b"X-Slow: x\r\n") for _ in range(CONNECTIONS)),
        *(flood.trickle("slow body", "127.0.0.3", body_begun, b"x") for _ in range(CONNECTIONS)),
        *(flood.trickle("connection", "127.0.0.4", b"", b"") for _ in range(CONNECTIONS)),
        *flood.requests("not JSON", "127.0.0.5", lambda client: client.request_of("POST", ORDERS, b'{"channel":'), known),
        *flood.requests("many mistakes", "127.0.0.6", lambda client: client.request_of("POST", ORDERS, mistakes), known),
        *flood.requests("unknown path", "127.0.0.7", unknown_path, known),
        *flood.requests("wrong password", "127.0.0.8", wrong_password, {"content-type": "application/json"}),
    ]
    tasks = [asyncio.ensure_future(each) for each in running]
    parent.send("begun")
    await asyncio.to_thread(parent.recv)
    pending = set(tasks)
    while pending:  # a cancellation that comes just as an answer does is lost
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
    for task in tasks:
        if not task.cancelled():
            task.result()
    return flood.counts


class _Flood:
    """What the floods have in common. Each goes on until it is cancelled."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.counts = Counts()

    def requests(
        self, name: str, source: str, request: Callable[[HttpClient], bytes], headers: dict[str, str]
    ) -> list[Coroutine[Any, Any, None]]:
        """Requests, one after the other on each of some connections."""
        client = HttpClient(LOOPBACK, self._port, headers, source)

        async def send() -> None:
            while True:
                try:
                    status, _ = await client.send(request(client))
                    self.counts[f"{name} {status}"] += 1
                except (OSError, TimeoutError):
                    self.counts[f"{name} lost"] += 1
                await asyncio.sleep(PAUSE_SECONDS)

        return [send() for _ in range(WORKERS)]

    async def trickle(self, name: str, source: str, begin: bytes, rest: bytes) -> None:
        """Connections, one after the other, each of which sends a request little by little, and takes what comes of it."""
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(LOOPBACK, self._port, local_addr=(source, 0))
                answer = asyncio.ensure_future(reader.readexactly(STATUS_END))
                try:
                    writer.write(begin)
                    while not (await asyncio.wait({answer}, timeout=TRICKLE_SECONDS))[0]:
                        writer.write(rest)
                    self.counts[f"{name} {await _status(answer) or 'closed'}"] += 1
                finally:
                    answer.cancel()
                    writer.close()
            await asyncio.sleep(TRICKLE_SECONDS)


async def _status(answer: asyncio.Future[bytes]) -> str:
    """The status of an answer; empty for a connection that was closed, by a reset too, as where we write while it is closed."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        return (await answer)[9:].decode()
    return ""
