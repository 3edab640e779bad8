"""A service's process: everything it runs, put together, started and stopped in order."""

import asyncio
import math
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, nullcontext
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette

from oms_runtime import store
from oms_runtime.apply import SURROUNDINGS, Applier
from oms_runtime.consumer import Consumer
from oms_runtime.database import LEADER_LOCK, Database, connect, migrate, open_database
from oms_runtime.deadlines import Deadlines
from oms_runtime.health import Later, operations_app
from oms_runtime.letters import count_letters
from oms_runtime.logs import configure_logs
from oms_runtime.loop import run_loop
from oms_runtime.metrics import Metrics
from oms_runtime.model import Service
from oms_runtime.relay import LostLead, Relay
from oms_runtime.settings import RuntimeSettings
from oms_runtime.store import Work

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 5
"""For the relay to publish what is committed, and for the database's connections to close."""


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


class Runtime:
    """One service's machinery in one process. `migrations` names the package whose migrations come after the runtime's own.

    `clock` gives the moments that are written down, `ticks` seconds to measure by.
    """

    def __init__(
        self,
        service: Service,
        settings: RuntimeSettings,
        *,
        migrations: str | None = None,
        clock: Callable[[], datetime] = utc_now,
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        self.service = service
        self.settings = settings
        self.metrics = Metrics()
        self.database: Database
        self._migrations = [migrations] if migrations else []
        self._clock = clock
        self._ticks = ticks
        self._standing: asyncio.Task[None] | None = None
        self.started = False
        self.leading = False
        self.stopping = False

    async def start(self) -> None:
        """Migrate, fold anew where the rules changed, begin to consume, and stand for leader. Waits for servers that are not up yet."""
        await self._when_reachable(self._open)
        self.relay = Relay(self.service.name, self.service.writes, self.settings, self.metrics)
        self.applier = Applier(self.service, self.database, self.metrics, self._clock, self._committed)
        self.deadlines = Deadlines(self.service, self.database, self.applier, self.metrics, self._clock)
        self.consumer = Consumer(self.service, self.settings, self.applier, self.metrics, self._ticks)
        self._standing = asyncio.create_task(self._lead())
        await self._when_reachable(self.consumer.start)
        self.started = True
        log.info("started", topics=[topic.name for topic in self.service.reads])

    async def _open(self) -> None:
        url, silence_ms = self.settings.database_url.get_secret_value(), self.settings.session_timeout_ms
        self.database = await open_database(url, silence_ms=silence_ms)
        try:
            applied = await migrate(self.database, *self._migrations)
            if applied:
                log.info("migrated", applied=applied)
            if self.service.decider is not None:
                async with self.database.acquire() as connection, connection.transaction():
                    if await store.refold(connection, self.service.decider):
                        log.info("refolded", fold=self.service.decider.fold)
            self.metrics.dead_letters.set(await self.database.fetchval("select count(*) from dead_letters"))
        except BaseException:  # a further attempt opens a pool of its own; it is raised on
            self.database.terminate()
            raise

    async def stop(self) -> None:
        """Finish the batch in hand, let the relay publish what is committed, and go."""
        self.stopping = True
        await self.consumer.finish()
        await asyncio.gather(self.consumer.leave(), self._drain())
        if self._standing is not None:
            self._standing.cancel()
            await asyncio.gather(self._standing, return_exceptions=True)
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.database.close()
        except SURROUNDINGS:
            self.database.terminate()
        log.info("stopped")

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                if self.leading:
                    await self.relay.caught_up()
        except TimeoutError:
            log.info("relay_not_drained", behind=self.relay.behind)

    async def alive(self) -> bool:
        """Whether ending this process would help nothing. One that still waits for its servers is alive."""
        return not self.started or await self.consumer.alive()

    async def unready(self) -> list[str]:
        """The reasons why this process can't do its work now; empty when it can."""
        if not self.started:
            return ["starting, or waiting for the database or the broker"]
        reasons = ["stopping"] if self.stopping else []
        if not self.consumer.assigned.is_set():
            reasons.append("no partitions are assigned yet")
        if self._standing is None or self._standing.done():
            reasons.append("the leader's task has ended")
        try:
            async with asyncio.timeout(2):
                fold = await self.database.fetchval("select fold from rules")
            if self.service.decider is not None and fold != self.service.decider.fold:
                reasons.append("another version of this service has started, which folds its states by other rules")
        except SURROUNDINGS as error:
            reasons.append(f"the database does not answer: {type(error).__name__}")
        return reasons

    async def measure(self) -> None:
        """Ask the store what only it knows for certain: how far the relay is behind, whichever process relays, and if none can."""
        if not self.started:
            return
        if self.leading:
            self.metrics.relay_lag.set(self.relay.behind)
            return
        try:
            async with asyncio.timeout(2):
                behind = await self.database.fetchval("select coalesce(max(position), 0) - (select position from relay) from events")
        except SURROUNDINGS as error:
            log.info("relay_lag_unknown", error=f"{type(error).__name__}: {error}")
            behind = math.nan
        self.metrics.relay_lag.set(behind)

    async def audit(self) -> dict[str, Any]:
        """Whether every stored state is what its events fold to, and what is waiting."""
        async with self.database.acquire() as connection:
            wrong = await store.audit(connection, self.service.decider) if self.service.decider else []
            return {
                "service": self.service.name,
                "ok": not wrong,
                "states_not_as_folded": wrong[:100],
                "states": await connection.fetchval("select count(*) from states"),
                "events": await store.head_of(connection),
                "relayed": await connection.fetchval("select position from relay"),
                "dead_letters": await count_letters(connection),
            }

    def _committed(self, work: Work) -> None:
        self.relay.offer(work.rows)
        self.deadlines.offer(work.dues)

    async def _lead(self) -> None:
        # A task group whose tasks fail as it is cancelled tells of their errors alone: the end must not hang on the cancellation.
        while not self.stopping:
            try:
                url = self.settings.database_url.get_secret_value()
                connection = await connect(url, silence_ms=self.settings.session_timeout_ms)
                try:
                    # The lock is PostgreSQL's, and it tells nobody when it is free.
                    while not await connection.fetchval("select pg_try_advisory_lock($1)", LEADER_LOCK):  # noqa: ASYNC110
                        await asyncio.sleep(1)
                    self._lead_now(True)
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(_as_long_as_we_want(self.relay.run(connection)))
                        tasks.create_task(_as_long_as_we_want(self.deadlines.run()))
                finally:
                    self._lead_now(False)
                    connection.terminate()
            # Whatever ended it, the next leader begins by finding out how far the topics are.
            except* (*SURROUNDINGS, LostLead) as faults:
                log.warning("leading_ended", errors=[f"{type(error).__name__}: {error}" for error in faults.exceptions])
            except* Exception:
                log.exception("leading_ended")
            await asyncio.sleep(1)

    def _lead_now(self, leading: bool) -> None:
        self.leading = leading
        self.metrics.leader.set(leading)
        log.info("leading" if leading else "following")

    async def _when_reachable(self, attempt: Callable[[], Any]) -> Any:
        while True:
            try:
                return await attempt()
            except SURROUNDINGS as error:
                log.warning("waiting_for_servers", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(1)


async def _as_long_as_we_want(part: Coroutine[Any, Any, None]) -> None:
    """Half a leader is worse than none: a part that was cancelled, and not by us, has failed, and a task group would not notice."""
    try:
        await part
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise LostLead("cancelled by something that it had begun itself") from None


def run(
    service: Service,
    settings: RuntimeSettings,
    *,
    migrations: str | None = None,
    api: Callable[[Runtime], Starlette] | None = None,
) -> None:
    """Run a service until SIGTERM or SIGINT. `api` makes what is served beside health, metrics and audit."""
    configure_logs(service.name, settings.log_level)
    run_loop(_serve(Runtime(service, settings, migrations=migrations), settings, api))


async def _serve(runtime: Runtime, settings: RuntimeSettings, api: Callable[[Runtime], Starlette] | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    own = Later() if api is not None else None
    server = uvicorn.Server(
        uvicorn.Config(
            operations_app(runtime, own),
            host=settings.http_host,
            port=settings.http_port,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
    )
    server.capture_signals = nullcontext  # type: ignore[method-assign]  # the signals are ours: the batch in hand is finished first
    # It answers from the beginning: whoever waits for its servers is alive, and says what it waits for.
    serving = asyncio.create_task(server.serve())
    stopped = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(runtime.start())
    await asyncio.wait({starting, serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    async with AsyncExitStack() as running:
        if starting.done():
            await starting
            if api is not None and own is not None:
                app = api(runtime)
                await running.enter_async_context(app.router.lifespan_context(app))
                own.app = app
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            await runtime.stop()
        else:
            starting.cancel()
            await asyncio.wait({starting})
        server.should_exit = True
        await serving
