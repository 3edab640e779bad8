"""Folding a store's events from the first one: to build the states of a new version, and to audit those in use.

A build does not stop the service. The new states come into a table of their own, chunk by chunk, each chunk and the build's progress in one
transaction without the store's lock; processes of the older version use the old states meanwhile. When few events are missing, the build
takes the store's lock, folds them too, and lets the two tables change names. From then on a process of the older version gets
StateVersionMismatch.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from itertools import islice
from time import monotonic

import asyncpg
import structlog
from oms_contracts.dead_letters import is_folded
from oms_contracts.message import decode

from oms_runtime.database import BUILD_LOCK, Connection
from oms_runtime.errors import StateVersionMismatch
from oms_runtime.model import AnyDecider, Event
from oms_runtime.store import (
    StoredState,
    check_state_version,
    encode_state,
    head_of,
    load_states,
    lock_store,
    save_states,
    stored_state_version,
)
from oms_runtime.unit_of_work import MAX_CACHED_STATES

log = structlog.get_logger(__name__)

EVENTS_PER_CHUNK = 2_000
MAX_EVENTS_LEFT_AT_SWAP = 2_000
"""So many events may be missing when the build takes the store's lock; what is committed while it waits for the lock comes on top."""
POLL_SECONDS = 0.2
"""Between two attempts to get the build's lock, or the lock on a table that somebody reads."""
LOG_SECONDS = 10.0
"""Between two log lines of a build's progress."""
EVENTS_PER_AUDIT_CHUNK = 200
"""Folded by an audit without a pause. To fold 2,000 takes tens of milliseconds, for which the process would do nothing else."""
AUDIT_SLICE_STATES = 200_000
"""An audit holds so many states in memory at a time."""

Report = Callable[[int, int], None]
"""Gets a build's progress: the events that are folded, and all events."""


async def build_states(connection: Connection, decider: AnyDecider, report: Report = lambda _folded, _all: None) -> bool:
    """Make `decider.state_version` the store's, building the states of that version where it was a lower one; returns whether it had to.

    Where another process builds, it waits. A build that was interrupted continues. Raises StateVersionMismatch where the store's version
    is the higher one: an older process must not turn the states back. Needs a session of its own without a limit for statements: the
    build's lock is held until the session ends.
    """
    if not await _is_lower(connection, decider):
        return False
    # The lock is PostgreSQL's: a statement that waits for it would keep its snapshot, and so hold up every vacuum.
    while not await connection.fetchval("select pg_try_advisory_lock($1)", BUILD_LOCK):
        report(await connection.fetchval("select coalesce(max(position), 0) from states_build"), await head_of(connection))
        await asyncio.sleep(POLL_SECONDS)
    if not await _is_lower(connection, decider):
        return False
    await _Build(connection, decider, report).run()
    return True


async def _is_lower(connection: Connection, decider: AnyDecider) -> bool:
    """Whether the stored version is lower than `decider`'s. Raises StateVersionMismatch where it is higher."""
    stored = await stored_state_version(connection)
    if stored is not None and stored > decider.state_version:
        raise StateVersionMismatch(f"the stored states have version {stored}, of a newer service; this process has {decider.state_version}")
    return stored != decider.state_version


class _Build:
    """One build, under the build's lock."""

    def __init__(self, connection: Connection, decider: AnyDecider, report: Report) -> None:
        self._connection = connection
        self._decider = decider
        self._report = report
        self._position = 0
        self._cache: dict[str, StoredState] = {}
        """States as they are in `states_next`, the most recently used last: the events of an order lie close together."""

    async def run(self) -> None:
        began = logged_at = monotonic()
        self._position = first = await self._begin()
        while (left := await self._left()) > MAX_EVENTS_LEFT_AT_SWAP:
            await self._fold_chunk()
            if monotonic() - logged_at > LOG_SECONDS:
                logged_at = monotonic()
                log.info("building_states", state_version=self._decider.state_version, folded=self._position, left=left)
        await self._connection.execute("analyze states_next")  # a table without statistics would be in use until the next autovacuum
        while (locked_seconds := await self._swap()) is None:
            await asyncio.sleep(POLL_SECONDS)
            while await self._left() > MAX_EVENTS_LEFT_AT_SWAP:
                await self._fold_chunk()
        log.info(
            "refolded",
            state_version=self._decider.state_version,
            events=self._position - first,
            seconds=round(monotonic() - began, 3),
            locked_seconds=round(locked_seconds, 3),
        )

    async def _begin(self) -> int:
        """Continue behind the position that an interrupted build of this version has reached, or begin anew."""
        found = await self._connection.fetchrow("select state_version, position from states_build")
        if found is not None and found["state_version"] == self._decider.state_version:
            return found["position"]
        async with self._connection.transaction():
            await self._connection.execute("truncate states_next, states_build")
            await self._connection.execute("insert into states_build values ($1, 0)", self._decider.state_version)
        return 0

    async def _left(self) -> int:
        head = await head_of(self._connection)
        self._report(self._position, head)
        return head - self._position

    async def _fold_chunk(self) -> None:
        async with self._connection.transaction():
            await self._fold_next()
            await self._connection.execute("update states_build set position = $1", self._position)

    async def _fold_next(self) -> bool:
        """Fold the next events into `states_next`; returns whether there were any."""
        found = await _read_chunk(self._connection, self._position)
        if found is None:
            return False
        position, chunk = found
        keys = {key for _, event in chunk for key in self._decider.writes(event)}
        missing = sorted(keys - self._cache.keys())
        for key, stored in (await load_states(self._connection, self._decider, missing, "states_next")).items():
            self._cache[key] = StoredState(*stored)
        used = {key: self._cache.pop(key) for key in keys}
        fold(self._decider, chunk, used)
        await save_states(self._connection, self._decider, used, "states_next")
        self._cache |= used
        for key in list(islice(self._cache, max(0, len(self._cache) - MAX_CACHED_STATES))):
            del self._cache[key]
        self._position = position
        return True

    async def _swap(self) -> float | None:
        """Under the store's lock: fold what is left, and put the new states in use; returns for how many seconds it held the lock.

        None where an audit, a vacuum or a backup reads the tables: to wait for it would make all writers wait.
        """
        async with self._connection.transaction():
            await lock_store(self._connection)
            began = monotonic()
            await _is_lower(self._connection, self._decider)
            try:
                async with self._connection.transaction():
                    await self._connection.execute("lock table states, states_next, states_build in access exclusive mode nowait")
            except asyncpg.LockNotAvailableError:
                return None
            while await self._fold_next():
                pass
            await self._connection.execute(_SWAP)
            await self._connection.execute("update rules set fold = $1", self._decider.state_version)
        return monotonic() - began


_SWAP = """
    alter table states rename to states_old;
    alter index states_pkey rename to states_old_pkey;
    alter index states_due rename to states_old_due;
    alter table states_next rename to states;
    alter index states_next_pkey rename to states_pkey;
    alter index states_next_due rename to states_due;
    alter table states_old rename to states_next;
    alter index states_old_pkey rename to states_next_pkey;
    alter index states_old_due rename to states_next_due;
    truncate states_next, states_build"""


async def audit(connection: Connection, decider: AnyDecider) -> list[str]:
    """The keys whose stored state differs from the fold of all events. Reads one snapshot; changes nothing.

    A large store is compared in slices of the key space, so that memory stays bounded; each slice reads all events once. It runs beside
    the service's own work on one event loop, so it pauses after each chunk of events. Raises StateVersionMismatch where the states are
    another version's.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        # Before the snapshot: states that a build puts in use behind it would be seen without those that it saved last.
        await connection.execute("lock table states in access share mode")
        check_state_version(await stored_state_version(connection), decider)
        slices = 1 + await connection.fetchval("select count(*) from states") // AUDIT_SLICE_STATES
        wrong: list[str] = []
        for part in range(slices):
            folded: dict[str, StoredState] = {}
            in_slice = partial(_in_slice, part, slices)
            async for chunk in _chunks(connection, EVENTS_PER_AUDIT_CHUNK):
                fold(decider, chunk, folded, in_slice)
                await asyncio.sleep(0)
            seen: set[str] = set()
            async for row in connection.cursor("select key, version, state from states"):
                if in_slice(row["key"]):
                    seen.add(row["key"])
                    expected = folded.get(row["key"])
                    if expected is None or (expected.version, encode_state(expected.state)) != (row["version"], row["state"]):
                        wrong.append(row["key"])
            wrong += sorted(folded.keys() - seen)
        return wrong


def fold(
    decider: AnyDecider, chunk: Sequence[tuple[str, Event]], states: dict[str, StoredState], wanted: Callable[[str], bool] | None = None
) -> None:
    """Fold `chunk`, events with their streams in order, into `states`; only those of `wanted` keys if given."""
    for stream, event in chunk:
        for key in decider.writes(event):
            if wanted is None or wanted(key):
                stored = states.get(key) or states.setdefault(key, StoredState(0, decider.initial(key)))
                stored.state = decider.evolve(stored.state, event, key)
                stored.version += key == stream


async def _chunks(connection: Connection, size: int) -> AsyncIterator[list[tuple[str, Event]]]:
    after = 0
    while found := await _read_chunk(connection, after, size):
        after, chunk = found
        yield chunk


async def _read_chunk(connection: Connection, after: int, size: int = EVENTS_PER_CHUNK) -> tuple[int, list[tuple[str, Event]]] | None:
    """The next events behind position `after`, each with its stream, and the position of the last; None where there are none."""
    query = "select position, stream, type, data from events where position > $1 order by position limit $2"
    rows = await connection.fetch(query, after, size)
    if not rows:
        return None
    chunk = [(row["stream"], decode(row["type"], row["data"].encode())) for row in rows if is_folded(row["type"])]
    return rows[-1]["position"], chunk


def _in_slice(part: int, slices: int, key: str) -> bool:
    return int.from_bytes(key.encode()[-4:], "big") % slices == part
