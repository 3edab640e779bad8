"""A service's machinery in one process: built, started and stopped in order, and what it reports of itself."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from oms_runtime import refold, store
from oms_runtime.apply import Applier
from oms_runtime.clock import Clock, elapsed_seconds, utc_now
from oms_runtime.consumer import Consumer
from oms_runtime.database import LEADER_LOCK, Connection, Database, connect, migrate, open_database
from oms_runtime.dead_letters import count_dead_letters, forget_old_values
from oms_runtime.errors import RETRYABLE_ERRORS, ClockUntrusted, LostLeadership, StoreBehind, TablesMissing, check_store_not_behind
from oms_runtime.metrics import Metrics
from oms_runtime.model import AnyDecider, Service
from oms_runtime.poison import PoisonLimit
from oms_runtime.relay import Relay
from oms_runtime.scheduler import Scheduler
from oms_runtime.settings import RuntimeSettings
from oms_runtime.tails import read_tails
from oms_runtime.traces import RecordSpans, open_traces
from oms_runtime.unit_of_work import UnitOfWork

log = structlog.get_logger(__name__)

DRAIN_TIMEOUT_SECONDS = 5
"""For the relay to publish what is committed, and for the database's connections to close."""
RETRY_SECONDS = 1
"""Between two attempts to reach a server, or to acquire the leader's lock."""
QUERY_TIMEOUT_SECONDS = 2
"""For what a probe or a scrape asks the database."""
AUDIT_STATEMENT_TIMEOUT_MS = 30_000
RELAY_STALLED_SECONDS = 30
"""Without progress for so long, while events wait, the relay makes the service unready."""
MAX_REPORTED_KEYS = 100
FORGET_SECONDS = 3_600


class Runtime:
    """One service's machinery in one process. `migrations` names the package whose migrations come after the runtime's own.

    `clock` gives the times that are stored, `elapsed` seconds to check it by, `ticks` seconds to measure by. `record_spans` gets what was
    handled; without it the environment says whether it is traced.
    """

    def __init__(
        self,
        service: Service,
        settings: RuntimeSettings,
        *,
        migrations: str | None = None,
        clock: Callable[[], datetime] = utc_now,
        elapsed: Callable[[], float] = elapsed_seconds,
        ticks: Callable[[], float] = monotonic,
        record_spans: RecordSpans | None = None,
    ) -> None:
        self.service = service
        self.settings = settings
        self.metrics = Metrics()
        self.database: Database
        self._migrations = [migrations] if migrations else []
        self._clock = Clock(clock, elapsed, max_skew_seconds=settings.max_clock_skew_seconds)
        self.metrics.clock_untrusted.set_function(lambda: bool(self._clock.fault))
        self._ticks = ticks
        self._record_spans = record_spans or open_traces(service.name)
        self._election: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._store_watch: asyncio.Task[None] | None = None
        self._waiting_for = ""
        """The error that keeps this process from starting, or from continuing."""
        self._other_version: int | None = None
        """The state version of the stored states, where it is not this process's and so this process does nothing."""
        self._tables_missing = ""
        """Why this process does nothing any more: its tables are gone."""
        self._build_progress: tuple[int, int] | None = None
        """While states are being built: the events that are folded, and all events."""
        self.started = False
        self.leading = False
        self.stopping = False

    @property
    def registry(self) -> CollectorRegistry:
        """The metrics of this process."""
        return self.metrics.registry

    async def start(self) -> None:
        """Migrate, build states if their version is raised, begin to consume, and stand for leader.

        Waits for servers that are not up yet, and where a newer version of the service has been.
        """
        await self._when_reachable(self._open)
        self.relay = Relay(self.service.name, self.service.writes, self.settings, self.metrics, self.service.disclose)
        self.metrics.relay_stalled.set_function(self.relay.stalled_seconds)
        poison = PoisonLimit(self.settings.poison_max_records, self.settings.poison_max_share, self._ticks)
        self.applier = Applier(
            self.service, self.database, self.metrics, self._clock, self._committed, poison=poison, record_spans=self._record_spans
        )
        self.scheduler = Scheduler(self.service, self.database, self.applier, self.metrics, self._clock)
        self.consumer = Consumer(self.service, self.settings, self.applier, self.metrics, self._ticks)
        await self._when_reachable(self._check_store)
        self._store_watch = asyncio.create_task(self._watch_store())
        self._election = asyncio.create_task(self._stand_for_leader())
        await self._when_reachable(self.consumer.start)
        self._watch = asyncio.create_task(self._retire_when_replaced())
        self.started = True
        log.info("started", topics=[topic.name for topic in self.service.reads])

    async def _open(self) -> None:
        url, idle_timeout_ms = self.settings.database_url.get_secret_value(), self.settings.session_timeout_ms
        self.database = await open_database(url, schema=self.service.schema, idle_timeout_ms=idle_timeout_ms)
        try:
            applied = await migrate(self.database, *self._migrations)
            if applied:
                log.info("migrated", applied=applied)
            if self.service.open_tables is not None:
                await self.service.open_tables(self.database)
            if self.service.decider is not None:
                await self._build_states(self.service.decider)
            self.metrics.dead_letters.set(await self.database.fetchval("select count(*) from dead_letters"))
        except BaseException:  # a further attempt opens a pool of its own; it is raised on
            self.database.terminate()
            raise

    async def _check_store(self) -> None:
        """Raise StoreBehind unless the store has all that is published."""
        tails = await read_tails(self.settings, self.service.name, [topic.name for topic in self.service.writes])
        head = await store.head_of(self.database)
        check_store_not_behind(self.service.name, head, tails.head)
        self.applier.trust_store(head)

    async def _watch_store(self) -> None:
        """Once the store was found to have lost events, wait until it has them again."""
        while True:
            await self.applier.store_doubted.wait()
            await self._when_reachable(self._check_store)

    async def _build_states(self, decider: AnyDecider) -> None:
        """Make our state version the store's. Raises StateVersionMismatch where a newer version of the service has been."""
        stored = await store.stored_state_version(self.database)
        self._other_version = stored if stored is not None and stored > decider.state_version else None
        if stored == decider.state_version:
            return
        url, idle_timeout_ms = self.settings.database_url.get_secret_value(), self.settings.session_timeout_ms
        connection = await connect(url, idle_timeout_ms=idle_timeout_ms, command_timeout=None)
        try:
            await refold.build_states(connection, decider, self._report_build)
        finally:
            self._build_progress = None
            connection.terminate()

    def _report_build(self, folded: int, events: int) -> None:
        self._build_progress = folded, events

    async def stop(self) -> None:
        """Finish the batch in hand, let the relay publish what is committed, and stop."""
        self.stopping = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.consumer.finish()
        await asyncio.gather(self.consumer.leave(), self._drain())
        await self._stop_leading()
        if self._store_watch is not None:
            self._store_watch.cancel()
            await asyncio.gather(self._store_watch, return_exceptions=True)
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_SECONDS):
                await self.database.close()
        except RETRYABLE_ERRORS:
            self.database.terminate()
        log.info("stopped")

    async def _retire_when_replaced(self) -> None:
        """Once another version's states are in use: leave the partitions and the leadership to its processes, and do nothing more.

        The same once this version's tables are gone.
        """
        decider, open_tables = self.service.decider, self.service.open_tables
        while decider is not None or open_tables is not None:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                stored = await store.stored_state_version(self.database)
                if open_tables is not None:
                    await open_tables(self.database)
            except TablesMissing as error:
                self._tables_missing = str(error)
                log.warning("replaced_by_another_version", reason=self._tables_missing)
                return await self._retire()
            except RETRYABLE_ERRORS:
                continue
            if decider is not None and stored not in (None, decider.state_version):
                self._other_version = stored
                log.warning("replaced_by_another_version", stored_state_version=stored, state_version=decider.state_version)
                return await self._retire()

    async def _retire(self) -> None:
        await self.consumer.finish()
        await self._stop_leading()
        await self.consumer.leave()

    async def _stop_leading(self) -> None:
        if self._election is not None:
            self._election.cancel()
            await asyncio.gather(self._election, return_exceptions=True)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_SECONDS):
                if self.leading:
                    await self.relay.caught_up()
        except TimeoutError:
            log.info("relay_not_drained", behind=self.relay.behind)

    async def alive(self) -> bool:
        """False only where ending this process would help. One that still waits for its servers is alive."""
        return not self.started or self._other_version is not None or bool(self._tables_missing) or await self.consumer.alive()

    async def unready(self) -> list[str]:
        """The reasons why this process cannot do its work now; empty when it can."""
        if self._other_version is not None:
            return self._of_other_version(self._other_version)
        if self._tables_missing:
            return [self._tables_missing]
        if self._build_progress is not None:
            return ["states are being built: {:,} of {:,} events".format(*self._build_progress)]
        if not self.started:
            return ["starting, or waiting for the database or the broker", *([self._waiting_for] if self._waiting_for else [])]
        reasons = ["stopping"] if self.stopping else []
        if self.applier.store_doubted.is_set():
            reasons.append(self._waiting_for or "the store is behind its topics")
        if not self.consumer.assigned.is_set():
            reasons.append("no partitions are assigned yet")
        if self.consumer.rejected:
            (topic, partition), reason = min(self.consumer.rejected.items())
            reasons.append(f"partitions are not read: {len(self.consumer.rejected)}, among them {topic}/{partition}: {reason}")
        if self.consumer.stopped_because is not None:
            reasons.append(self.consumer.stopped_because)
        elif not await self.consumer.alive():
            reasons.append("records wait, and none has been attempted for long: restart this process")
        if self.consumer.retries_because and not self._clock.fault:
            reasons.append(f"a batch fails and is tried again: {self.consumer.retries_because}")
        if self._election is None or self._election.done():
            reasons.append("the leader's task has ended")
        if (stalled_seconds := self.relay.stalled_seconds()) > RELAY_STALLED_SECONDS:
            reasons.append(f"the relay has made no progress for {stalled_seconds:.0f} s: {self.relay.last_error or 'the broker is slow'}")
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_SECONDS):
                state_version = await store.stored_state_version(self.database)
                await self._compare_clock(self.database)
            if self.service.decider is not None and state_version != self.service.decider.state_version:
                reasons += self._of_other_version(state_version)
        except RETRYABLE_ERRORS as error:
            reasons.append(f"the database does not answer: {type(error).__name__}")
        if self._clock.fault:
            reasons.append(f"nothing is decided: {self._clock.fault}")
        return reasons

    async def _compare_clock(self, connection: Connection | Database) -> bool:
        """Whether the clock can be trusted; what is wrong with it is kept for `unready`, and the metric."""
        with suppress(ClockUntrusted):
            await store.compare_clock(connection, self._clock)
        return not self._clock.fault

    def _of_other_version(self, stored: int | None) -> list[str]:
        """Why a process does nothing whose state version is not the stored one."""
        assert self.service.decider is not None
        if stored is None:
            return ["all states are to be built anew: this process has to be restarted"]
        own = self.service.decider.state_version
        whose = "newer" if stored > own else "older"
        return [f"the stored states have version {stored}, of {whose} code; this process has version {own}, and does nothing"]

    async def measure(self) -> None:
        """Set the relay's lag: whichever process relays, the store knows it for certain, and also where none can."""
        if not self.started:
            return
        if self.leading:
            self.metrics.relay_lag.set(self.relay.behind)
            return
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_SECONDS):
                behind = await self.database.fetchval("select coalesce(max(position), 0) - (select position from relay) from events")
        except RETRYABLE_ERRORS as error:
            log.info("relay_lag_unknown", error=f"{type(error).__name__}: {error}")
            behind = math.nan
        self.metrics.relay_lag.set(behind)

    async def audit(self) -> dict[str, Any]:
        """Whether every stored state is what its events fold to, and how much is waiting.

        It has a connection of its own, so that no batch waits for one. Raises TimeoutError, and whatever else RETRYABLE_ERRORS lists.
        """
        timeout_seconds = self.settings.audit_timeout_seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._audit()
        except TimeoutError as error:
            raise TimeoutError(f"it took longer than {timeout_seconds:g} s (OMS_AUDIT_TIMEOUT_SECONDS), or a statement too long") from error

    async def _audit(self) -> dict[str, Any]:
        connection = await connect(
            self.settings.database_url.get_secret_value(), schema=self.service.schema, statement_timeout_ms=AUDIT_STATEMENT_TIMEOUT_MS
        )
        try:
            wrong = await refold.audit(connection, self.service.decider) if self.service.decider else []
            return {
                "service": self.service.name,
                "ok": not wrong,
                "states_not_as_folded": wrong[:MAX_REPORTED_KEYS],
                "states": await connection.fetchval("select count(*) from states"),
                "events": await store.head_of(connection),
                "relayed": await connection.fetchval("select position from relay"),
                "dead_letters": await count_dead_letters(connection),
            }
        finally:
            connection.terminate()

    def _committed(self, unit: UnitOfWork) -> None:
        self.relay.offer(unit.events)
        self.scheduler.offer(unit.dues, unit.now)

    async def _stand_for_leader(self) -> None:
        """Acquire the leader's lock, relay and schedule while it is held, and begin anew when leading ends."""
        # A task group whose tasks fail while it is cancelled raises their errors alone: the end must not hang on the cancellation.
        while not self.stopping:
            try:
                url = self.settings.database_url.get_secret_value()
                connection = await connect(url, idle_timeout_ms=self.settings.session_timeout_ms)
                try:
                    # The lock is PostgreSQL's, and it tells nobody when it is free. Another process may have a clock that can be trusted.
                    while not (  # noqa: ASYNC110
                        await self._compare_clock(connection) and await connection.fetchval("select pg_try_advisory_lock($1)", LEADER_LOCK)
                    ):
                        await asyncio.sleep(RETRY_SECONDS)
                    self._set_leading(True)
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(_fail_if_cancelled_by_itself(self.relay.run(connection)))
                        tasks.create_task(_fail_if_cancelled_by_itself(self.scheduler.run()))
                        tasks.create_task(_fail_if_cancelled_by_itself(self._forget_old_values()))
                finally:
                    self._set_leading(False)
                    connection.terminate()
            # Whatever ended it, the next leader begins by finding out how far the topics are.
            except* (*RETRYABLE_ERRORS, LostLeadership) as faults:
                log.warning("leading_ended", errors=[f"{type(error).__name__}: {error}" for error in faults.exceptions])
            except* Exception:
                log.exception("leading_ended")
            await asyncio.sleep(RETRY_SECONDS)

    async def _forget_old_values(self) -> None:
        """Erase the values of old dead letters, now and every hour."""
        bounded = [topic.retention for topic in self.service.reads if not topic.keeps_for_ever]
        topics = self.service.topics_read()
        while bounded:
            await forget_old_values(self.database, topics, self._clock.now() - timedelta(milliseconds=max(bounded)))
            await asyncio.sleep(FORGET_SECONDS)

    def _set_leading(self, leading: bool) -> None:
        self.leading = leading
        self.metrics.leader.set(leading)
        log.info("leading" if leading else "following")

    async def _when_reachable(self, attempt: Callable[[], Any]) -> Any:
        while True:
            try:
                done = await attempt()
                self._waiting_for = ""
                return done
            except RETRYABLE_ERRORS as error:
                self._waiting_for = str(error) if isinstance(error, StoreBehind | TablesMissing) else f"{type(error).__name__}: {error}"
                log.warning("waiting_for_servers", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(RETRY_SECONDS)


async def _fail_if_cancelled_by_itself(part: Coroutine[Any, Any, None]) -> None:
    """Make a cancellation that is not ours a failure: a task group would not notice it, and half a leader is worse than none."""
    try:
        await part
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise LostLeadership("cancelled by something that it had begun itself") from None
