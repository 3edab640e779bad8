"""The scheduler: what a state does by itself, which is deadlines that pass and outside effects to perform.

Both are the `due_at` of a folded state. Nothing sleeps in memory, and a replay repeats no effect: what was answered is no longer due.
It runs in the leader only, so that two processes do not perform one effect at once; the idempotency key covers the rest.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from time import monotonic
from typing import Any

import structlog

from oms_runtime.apply import Applier
from oms_runtime.clock import Clock
from oms_runtime.database import Database
from oms_runtime.errors import is_retryable
from oms_runtime.metrics import Metrics
from oms_runtime.model import AnyDecider, Command, Due, Service
from oms_runtime.store import check_state_version, compare_clock, decode_state, stored_state_version

log = structlog.get_logger(__name__)

MAX_STATES_PER_ROUND = 500
POLL_SECONDS = 0.5
"""What another process committed, and what becomes due by time alone, is found this late at most."""
MAX_OFFERED = 10_000
"""Due states that wait in memory for their turn. Only behind so many effects do deadlines have to wait for them."""
MAX_EFFECTS_IN_FLIGHT = 64
RETRY_BACKOFF_SECONDS = 2.0, 60.0
"""Before a failed deadline or effect is tried again: at first, and at most."""


class Scheduler:
    """One a process. `offer` takes what this process's commits made due; `run` works while this process leads."""

    def __init__(self, service: Service, database: Database, applier: Applier, metrics: Metrics, clock: Clock) -> None:
        self._service = service
        self._database = database
        self._applier = applier
        self._metrics = metrics
        self._clock = clock
        self._wake = asyncio.Event()
        self._leading = False
        self._offered: dict[str, Due] = {}
        self._last_poll = 0.0
        self._answers: list[tuple[str, Command]] = []
        """The outcomes of performed effects, to be applied in the next round."""
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[int, float]] = {}
        """By key: how often it failed, and until when it is not tried again."""

    def offer(self, dues: Mapping[str, Due | None], now: datetime) -> None:
        """What states just committed by this process, on decisions made at `now`, ask for next, None where they ask for nothing."""
        if not self._leading:
            return
        for key, due in dues.items():
            if due is not None and due[0] <= now and len(self._offered) < MAX_OFFERED:
                self._offered[key] = due
                self._wake.set()
            else:
                self._offered.pop(key, None)

    async def run(self) -> None:
        """Work until cancelled. A retryable error ends the run."""
        if self._service.decider is None:
            await asyncio.Event().wait()
        assert self._service.decider is not None
        self._answers.clear()
        self._leading = True
        try:
            while True:
                self._wake.clear()
                busy = await self._round(self._service.decider)
                self._metrics.deadlines_stuck.set(len(self._failed))
                if not busy:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_SECONDS):
                            await self._wake.wait()
        finally:
            self._leading = False
            self._offered.clear()
            for task in self._in_flight.values():
                task.cancel()
            await asyncio.gather(*self._in_flight.values(), return_exceptions=True)
            self._in_flight.clear()

    async def _round(self, decider: AnyDecider) -> bool:
        """Do what is due, as far as there is room; returns whether there may be more at once. Raises ClockUntrusted."""
        self._clock.now()  # an effect takes no transaction, which would compare the clock
        commands, self._answers = self._answers, []
        if monotonic() - self._last_poll >= POLL_SECONDS:
            await self._poll(decider)
        answered = {key for key, _ in commands}
        postponed = self._postponed()
        for key, (_, command) in list(self._offered.items()):
            wanted: object = command
            perform = self._service.effects.get(type(wanted))
            if key in answered or (perform is not None and len(self._in_flight) >= MAX_EFFECTS_IN_FLIGHT):
                continue
            del self._offered[key]
            if key in self._in_flight or key in postponed:
                continue
            if perform is None:
                commands.append((key, wanted))
            else:
                self._in_flight[key] = asyncio.create_task(self._perform(key, wanted, perform))
        await self._apply(commands)
        return bool(commands)

    async def _poll(self, decider: AnyDecider) -> None:
        """Find in the table what nobody offered."""
        limit = min(MAX_STATES_PER_ROUND, MAX_OFFERED - len(self._offered))
        now = await compare_clock(self._database, self._clock)
        rows = await self._database.fetch(
            "select key, state from states where due_at <= $1 and key <> all($2::text[]) order by due_at limit $3",
            now,
            [*self._in_flight, *self._offered, *self._postponed()],
            limit,
        )
        # After the states: if the version is ours now, it was ours when they were read. Another version's must not cause effects.
        check_state_version(await stored_state_version(self._database), decider)
        for row in rows:
            key = row["key"]
            if due := decider.due(key, decode_state(decider, key, row["state"])):
                self._offered[key] = due
        if len(rows) < MAX_STATES_PER_ROUND:
            self._last_poll = monotonic()

    async def _perform(self, key: str, effect: Any, perform: Callable[[Any], Any]) -> None:
        name = type(effect).__name__
        try:
            self._answers.append((key, await perform(effect)))
            self._metrics.effects.labels(name, "answered").inc()
        except Exception:
            # Whatever the port raises, the outcome is unknown: the effect stays due and is tried again with the same key.
            log.exception("effect_failed", effect=name, correlation_id=key)
            self._metrics.effects.labels(name, "failed").inc()
            self._postpone(key)
        finally:
            self._in_flight.pop(key, None)
            self._wake.set()

    async def _apply(self, commands: list[tuple[str, Command]]) -> None:
        if not commands:
            return
        try:
            await self._applier.apply_commands(commands)
            for key, _ in commands:
                self._failed.pop(key, None)
        except Exception as error:
            if is_retryable(error):
                raise
            if len(commands) > 1:
                middle = len(commands) // 2
                await self._apply(commands[:middle])
                await self._apply(commands[middle:])
                return
            log.exception("deadline_failed", command=type(commands[0][1]).__name__, correlation_id=commands[0][0])
            self._postpone(commands[0][0])

    def _postponed(self) -> set[str]:
        now = monotonic()
        return {key for key, (_, until) in self._failed.items() if until > now}

    def _postpone(self, key: str) -> None:
        times = self._failed.get(key, (0, 0.0))[0] + 1
        first, longest = RETRY_BACKOFF_SECONDS
        self._failed[key] = times, monotonic() + min(longest, first * 2 ** (times - 1))
