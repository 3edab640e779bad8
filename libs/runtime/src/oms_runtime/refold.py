"""Folding a store's events from the first one: to renew all states, and to audit them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from oms_contracts.message import decode
from oms_contracts.operations import is_operation

from oms_runtime.database import Connection
from oms_runtime.model import AnyDecider, Event
from oms_runtime.store import StoredState, encode_state, load_states, lock_store, read_events, save_states

EVENTS_PER_CHUNK = 2_000
EVENTS_PER_AUDIT_CHUNK = 200
"""Folded by an audit without a pause. To fold 2,000 takes tens of milliseconds, for which the process would do nothing else."""
AUDIT_SLICE_STATES = 200_000
"""An audit holds so many states in memory at a time."""


async def refold(connection: Connection, decider: AnyDecider) -> bool:
    """Make `decider.state_version` the store's, and fold all states anew where it was another; returns whether it had to.

    Processes of another version find out in their next transaction (StateVersionMismatch). Needs a transaction.
    """
    stored_version = "select fold from rules"
    if await connection.fetchval(stored_version) == decider.state_version:
        return False
    await lock_store(connection)
    if await connection.fetchval(stored_version) == decider.state_version:
        return False
    await connection.execute("delete from states")
    await connection.execute("update rules set fold = $1", decider.state_version)
    async for chunk in _chunks(connection, EVENTS_PER_CHUNK):
        keys = {key for _, event in chunk for key in decider.writes(event)}
        found = await load_states(connection, decider, sorted(keys))
        states = {key: StoredState(*stored) for key, stored in found.items()}
        _fold(decider, chunk, states)
        await save_states(connection, decider, states)
    return True


async def audit(connection: Connection, decider: AnyDecider) -> list[str]:
    """The keys whose stored state differs from the fold of all events. Reads one snapshot; changes nothing.

    A large store is compared in slices of the key space, so that memory stays bounded; each slice reads all events once. It runs beside
    the service's own work on one event loop, so it pauses after each chunk of events.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        slices = 1 + await connection.fetchval("select count(*) from states") // AUDIT_SLICE_STATES
        wrong: list[str] = []
        for part in range(slices):
            folded: dict[str, StoredState] = {}
            in_slice = partial(_in_slice, part, slices)
            async for chunk in _chunks(connection, EVENTS_PER_AUDIT_CHUNK):
                _fold(decider, chunk, folded, in_slice)
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


def _fold(
    decider: AnyDecider, chunk: Sequence[tuple[str, Event]], states: dict[str, StoredState], wanted: Callable[[str], bool] | None = None
) -> None:
    for stream, event in chunk:
        for key in decider.writes(event):
            if wanted is None or wanted(key):
                stored = states.get(key) or states.setdefault(key, StoredState(0, decider.initial(key)))
                stored.state = decider.evolve(stored.state, event, key)
                stored.version += key == stream


async def _chunks(connection: Connection, size: int) -> AsyncIterator[list[tuple[str, Event]]]:
    after = 0
    while events := await read_events(connection, after, size):
        yield [(event.stream, decode(event.type, event.data.encode())) for event in events if not is_operation(event.type)]
        after = events[-1].position


def _in_slice(part: int, slices: int, key: str) -> bool:
    return int.from_bytes(key.encode()[-4:], "big") % slices == part
