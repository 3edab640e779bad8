"""What a state does by itself: deadlines that pass, and outside effects to perform.

Both are the `due_at` of a folded state. Nothing sleeps in memory, and a replay causes no effect again: what was answered is no longer due.
Runs in the leader only, so that an effect is not performed by two processes at once; its idempotency key covers the rest.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import Any

import structlog

from oms_runtime.apply import Applier, of_surroundings
from oms_runtime.database import Database, Record
from oms_runtime.metrics import Metrics
from oms_runtime.model import Command, Decider, Service
from oms_runtime.store import decode_state

log = structlog.get_logger(__name__)

MOST = 500
"""States looked at in one round."""
AT_ONCE = 64
"""Outside effects in flight at most."""
HELD = 10_000
"""Outside effects that wait for their turn at most: only behind so many do deadlines have to wait for them."""
PATIENCE = 2.0, 60.0
"""Seconds before a failed deadline or effect is tried again: at first, and at most."""


class Deadlines:
    """One a process. `wake` is called when something may have become due; `run` works while this process is the leader."""

    def __init__(self, service: Service, database: Database, applier: Applier, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._service = service
        self._database = database
        self._applier = applier
        self._metrics = metrics
        self._clock = clock
        self._news = asyncio.Event()
        self._answers: list[tuple[str, Command]] = []
        self._flying: dict[str, asyncio.Task[None]] = {}
        self._queued: deque[str] = deque()
        self._failed: dict[str, tuple[int, float]] = {}

    def wake(self) -> None:
        """Look again now."""
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled. Faults of the surroundings end the run."""
        if self._service.decider is None:
            await asyncio.Event().wait()
        assert self._service.decider is not None
        self._answers.clear()
        self._queued.clear()
        try:
            while True:
                self._news.clear()
                busy = await self._round(self._service.decider)
                self._metrics.deadlines_stuck.set(len(self._failed))
                if not busy:
                    try:
                        async with asyncio.timeout(0.5):
                            await self._news.wait()
                    except TimeoutError:
                        pass
        finally:
            for task in self._flying.values():
                task.cancel()
            await asyncio.gather(*self._flying.values(), return_exceptions=True)
            self._flying.clear()

    async def _round(self, decider: Decider) -> bool:
        commands, self._answers = self._answers, []
        busy = bool(commands)
        for row in await self._look([key for key, _ in commands]):
            key = row["key"]
            due = decider.due(key, decode_state(decider, key, row["state"]))
            if due is None:
                continue
            wanted: object = due[1]
            perform = self._service.effects.get(type(wanted))
            if perform is None:
                commands.append((key, wanted))
                busy = True
            elif len(self._flying) < AT_ONCE:
                self._flying[key] = asyncio.create_task(self._perform(key, wanted, perform))
            else:
                self._queued.append(key)
        await self._apply(commands)
        return busy

    async def _look(self, answered: list[str]) -> list[Record]:
        """States that are due: whose effects had to wait for their turn, and those that were not looked at yet."""
        now = self._clock()
        turns = [self._queued.popleft() for _ in range(min(len(self._queued), AT_ONCE - len(self._flying)))]
        postponed = [key for key, (_, until) in self._failed.items() if until > monotonic()]
        seen = [*self._flying, *self._queued, *turns, *postponed, *answered]
        rows = await self._database.fetch(
            "select key, state from states where due_at <= $1 and key <> all($2::text[]) order by due_at limit $3",
            now,
            seen,
            min(MOST, HELD - len(self._queued)),
        )
        if turns:
            rows += await self._database.fetch("select key, state from states where due_at <= $1 and key = any($2::text[])", now, turns)
        return rows

    async def _perform(self, key: str, effect: Any, perform: Callable[[Any], Any]) -> None:
        name = type(effect).__name__
        try:
            self._answers.append((key, await perform(effect)))
            self._metrics.effects.labels(name, "answered").inc()
        except Exception:
            # Whatever the port raises, nothing is known of the outcome: the effect stays due and is tried again with the same key.
            log.exception("effect_failed", effect=name, correlation_id=key)
            self._metrics.effects.labels(name, "failed").inc()
            self._postpone(key)
        finally:
            self._flying.pop(key, None)
            self._news.set()

    async def _apply(self, commands: list[tuple[str, Command]]) -> None:
        if not commands:
            return
        try:
            await self._applier.apply_commands(commands)
            for key, _ in commands:
                self._failed.pop(key, None)
        except Exception as error:
            if of_surroundings(error):
                raise
            if len(commands) > 1:
                middle = len(commands) // 2
                await self._apply(commands[:middle])
                await self._apply(commands[middle:])
                return
            log.exception("deadline_failed", command=type(commands[0][1]).__name__, correlation_id=commands[0][0])
            self._postpone(commands[0][0])

    def _postpone(self, key: str) -> None:
        times = self._failed.get(key, (0, 0.0))[0] + 1
        first, most = PATIENCE
        self._failed[key] = times, monotonic() + min(most, first * 2 ** (times - 1))
