"""An API in a process of its own: requests and batches never share an event loop, so neither can hold up the other.

It has two ports: one for the API, and one for operations, which answers however many connections the API has.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from time import monotonic

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oms_runtime.errors import RETRYABLE_ERRORS
from oms_runtime.health import operations_app
from oms_runtime.limits import TimeLimit
from oms_runtime.logs import configure_logs
from oms_runtime.loop import run_loop
from oms_runtime.metrics import HttpMetrics
from oms_runtime.problems import problem
from oms_runtime.server import make_server, stop_signal
from oms_runtime.settings import ApiSettings

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1
"""Between two attempts to reach a server."""

Api = Callable[[], AbstractAsyncContextManager[Starlette]]
"""Makes an API, and ends what it alone uses. Its lifespan is entered too."""


class ApiProcess:
    """What an API's process reports of itself. `fault` says why the API cannot do its work now, empty when it can.

    Responses to paths that begin with one of `parts` are counted apart.
    """

    def __init__(self, fault: Callable[[], Awaitable[str]], parts: Collection[str] = ()) -> None:
        self._metrics = HttpMetrics(parts)
        self.app: ASGIApp | None = None
        self.waiting_for = ""
        """The error that keeps the API from starting."""
        self._fault = fault

    @property
    def registry(self) -> CollectorRegistry:
        """The metrics of this process."""
        return self._metrics.registry

    @property
    def started(self) -> bool:
        """Whether the API serves."""
        return self.app is not None

    async def alive(self) -> bool:
        """Ending this process would help nothing: what it waits for is elsewhere."""
        return True

    async def unready(self) -> list[str]:
        """The reasons why the API cannot do its work now."""
        if not self.started:
            return ["starting, or waiting for the database or the broker", *([self.waiting_for] if self.waiting_for else [])]
        return [fault] if (fault := await self._fault()) else []

    async def measure(self) -> None:
        """All metrics are up to date."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; before the API has started, say so."""
        app = self.app or problem(503, "the service is starting", "ask again in a moment")
        part, began = self._metrics.part_of(scope["path"]), monotonic()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.responses.labels(part, message["status"]).inc()
                self._metrics.response_seconds.observe(monotonic() - began)
            await send(message)

        await app(scope, receive, send_counted)


def run_api(name: str, api: Api, settings: ApiSettings, fault: Callable[[], Awaitable[str]], *, parts: Collection[str] = ()) -> None:
    """Serve an API, named `name` in the log, until SIGTERM or SIGINT. Readiness probes ask `fault`; see ApiProcess for it and `parts`."""
    configure_logs(name, settings.log_level)
    run_loop(_serve(ApiProcess(fault, parts), api, settings))


async def _serve(process: ApiProcess, api: Api, settings: ApiSettings) -> None:
    stop = stop_signal()
    servers = [
        make_server(process, settings, settings.http_port),
        make_server(operations_app(process), settings, settings.operations_port),
    ]
    serving = [asyncio.create_task(server.serve()) for server in servers]
    stopped = asyncio.create_task(stop.wait())
    async with AsyncExitStack() as running:
        starting = asyncio.create_task(_start(process, api, settings, running))
        await asyncio.wait({starting, stopped, *serving}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            await asyncio.wait({stopped, *serving}, return_when=asyncio.FIRST_COMPLETED)
        else:
            starting.cancel()
            await asyncio.wait({starting})
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)
    log.info("stopped")


async def _start(process: ApiProcess, api: Api, settings: ApiSettings, running: AsyncExitStack) -> None:
    """Start the API as soon as the servers that it needs can be reached; `running` gets what is to be ended with it."""
    while not process.started:
        try:
            async with AsyncExitStack() as parts:
                app = await parts.enter_async_context(api())
                await parts.enter_async_context(app.router.lifespan_context(app))
                process.app = TimeLimit(app, settings.http_request_timeout_seconds)
                running.push_async_exit(parts.pop_all())
        except RETRYABLE_ERRORS as error:
            process.waiting_for = f"{type(error).__name__}: {error}"
            log.warning("waiting_for_servers", error=process.waiting_for)
            await asyncio.sleep(RETRY_SECONDS)
    log.info("started")
