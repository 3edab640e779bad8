"""The event store in SQL: events, folded states and checkpoints. What to write is decided elsewhere (see `unit_of_work`).

Between consumers concurrency is optimistic: a checkpoint moves by compare-and-set, and a consumer that lost the partition fails. Within a
store it is pessimistic: a writer holds the store's advisory lock from before its first read until commit. Two things rest on that lock.
Positions become visible in the order they are assigned, so a reader that follows them never skips one. And decisions that span streams
(one order, many SKUs) need no row locks, so they cannot deadlock. Batches make the lock cheap: one lock, one load, one append for hundreds
of records.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, NamedTuple

import msgspec

from oms_runtime.clock import Clock
from oms_runtime.database import STORE_LOCK, Connection, Database
from oms_runtime.errors import StateVersionMismatch
from oms_runtime.model import AnyDecider, Due, State, StoredEvent

COPY_THRESHOLD_ROWS = 64
"""Up to so many events are cheaper to store in one statement with the states they change: COPY takes three more round trips."""


_EVENT_COLUMNS = ", ".join(StoredEvent._fields)

StatesTable = Literal["states", "states_next"]
"""Where states are stored: those in use, or those that are built beside them (see `refold`)."""


@dataclass(slots=True)
class StoredState:
    """A folded state, with the number of events in the stream of its key."""

    version: int
    state: State


class CheckpointMove(NamedTuple):
    """A checkpoint's compare-and-set: from the offset we expect to find to the one that the batch reaches."""

    topic: str
    partition: int
    expected: int
    next_offset: int
    position: int
    epoch: str
    timestamp_ms: int | None


class StoreSnapshot(NamedTuple):
    """The store as a transaction finds it: how many checkpoints it moved, the newest position, whether there are dead letters, and the
    version and state of the keys it asked for."""

    moved: int
    head: int
    has_dead_letters: bool
    states: dict[str, tuple[int, State]]


_MOVE = """update checkpoints c
    set next_offset = m.next_offset, position = m.position, epoch = m.epoch, timestamp_ms = m.timestamp_ms, timestamp_at = m.next_offset
    from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[])
        as m (topic, partition, expected, next_offset, position, epoch, timestamp_ms)
    where c.topic = m.topic and c.partition = m.partition and c.next_offset = m.expected returning 1"""
_TIMES = """clock_timestamp() as database_now, (select recorded_at from events order by position desc limit 1) as newest"""
_MOVE_AND_LOAD = f"""with moved as ({_MOVE})
    select {_TIMES}, (select count(*) from moved) as moved, (select coalesce(max(position), 0) from events) as head,
        (select fold from rules) as state_version, exists (select from dead_letters) as has_dead_letters, found.*
    from (select array_agg(key) as keys, array_agg(version) as versions, array_agg(state) as states
          from states where key = any($8::text[])) found"""  # noqa: S608  # names of our own alone


async def move_checkpoints(connection: Connection, moves: Sequence[CheckpointMove]) -> int:
    """Move the checkpoints that are where they are expected; returns how many were."""
    return len(await connection.fetch(_MOVE, *_columns(moves, len(CheckpointMove._fields))))


async def move_checkpoints_and_load(
    connection: Connection, decider: AnyDecider | None, moves: Sequence[CheckpointMove], keys: Sequence[str], clock: Clock
) -> StoreSnapshot:
    """In one round trip, under the store's lock: move checkpoints, read the store's head, load the states of `keys`, compare `clock`.

    Raises StateVersionMismatch when the states are another version's, and ClockUntrusted.
    """
    asked_at = clock.reading()
    row = await connection.fetchrow(_MOVE_AND_LOAD, *_columns(moves, len(CheckpointMove._fields)), keys)
    assert row is not None
    clock.compare(asked_at, row["database_now"], row["newest"])
    if decider is None:
        return StoreSnapshot(row["moved"], row["head"], row["has_dead_letters"], {})
    check_state_version(row["state_version"], decider)
    stored = zip(row["keys"] or (), row["versions"] or (), row["states"] or (), strict=True)
    return StoreSnapshot(row["moved"], row["head"], row["has_dead_letters"], _states(decider, keys, stored))


async def compare_clock(connection: Connection | Database, clock: Clock) -> datetime:
    """The time now by `clock`, which agrees with the database server's and the newest event's. Raises ClockUntrusted where it does not."""
    asked_at = clock.reading()
    row = await connection.fetchrow(f"select {_TIMES}")  # names of our own alone
    assert row is not None
    clock.compare(asked_at, row["database_now"], row["newest"])
    return asked_at


async def stored_state_version(connection: Connection | Database) -> int | None:
    """The state version of the stored states; None in a new store, and where an operator has asked for all states to be built anew."""
    return await connection.fetchval("select fold from rules")


def check_state_version(stored: int | None, decider: AnyDecider) -> None:
    """Raises StateVersionMismatch unless the stored states are `decider`'s."""
    if stored != decider.state_version:
        raise StateVersionMismatch(f"the stored states have version {stored}, this process has {decider.state_version}")


async def lock_store(connection: Connection) -> None:
    """Wait for the store's lock and hold it until the transaction ends. Must come before the transaction's first read."""
    await connection.execute("select pg_advisory_xact_lock($1)", STORE_LOCK)


async def head_of(connection: Connection | Database) -> int:
    """The position of the newest event, 0 in an empty store."""
    return await connection.fetchval("select coalesce(max(position), 0) from events")


async def read_relay(connection: Connection) -> tuple[int, str, int]:
    """The position up to which all is published, the store's epoch, and the position behind which that epoch counts."""
    row = await connection.fetchrow("select position, epoch, epoch_after from relay")
    assert row is not None
    return row["position"], row["epoch"], row["epoch_after"]


async def begin_epoch(connection: Connection) -> None:
    """Give the store a new epoch, for all events behind those it has."""
    await connection.execute("update relay set epoch = default, epoch_after = (select coalesce(max(position), 0) from events)")


async def insert_events(connection: Connection, events: Sequence[StoredEvent]) -> None:
    """Append events by COPY, which costs half of an insert."""
    await connection.copy_records_to_table("events", records=events, columns=StoredEvent._fields)


async def read_events(connection: Connection, after: int, limit: int) -> list[StoredEvent]:
    """Up to `limit` events behind position `after`, in order."""
    found = await connection.fetch(
        f"select {_EVENT_COLUMNS} from events where position > $1 order by position limit $2",  # noqa: S608  # names of our own alone
        after,
        limit,
    )
    return [StoredEvent(*row.values()) for row in found]


async def load_states(
    connection: Connection, decider: AnyDecider, keys: Sequence[str], table: StatesTable = "states"
) -> dict[str, tuple[int, State]]:
    """Version and state of each of `keys`, the initial state where none is stored."""
    query = f"select key, version, state from {table} where key = any($1::text[])"  # noqa: S608  # names of our own alone
    rows = await connection.fetch(query, keys) if keys else []
    return _states(decider, keys, ((row["key"], row["version"], row["state"]) for row in rows))


def _states(decider: AnyDecider, keys: Iterable[str], stored: Iterable[tuple[str, int, str]]) -> dict[str, tuple[int, State]]:
    found = {key: (version, decode_state(decider, key, text)) for key, version, text in stored}
    return {key: found.get(key) or (0, decider.initial(key)) for key in keys}


_SAVE_INTO = """insert into {} (key, version, due_at, state)
    select * from unnest($1::text[], $2::int[], $3::timestamptz[], $4::text[])
    on conflict (key) do update
    set version = excluded.version, due_at = excluded.due_at, state = excluded.state"""
_SAVE = _SAVE_INTO.format("states")
_APPEND_AND_SAVE = f"""with appended as (
    insert into events ({_EVENT_COLUMNS})
    select * from unnest($5::bigint[], $6::text[], $7::int[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
        $14::timestamptz[], $15::text[], $16::text[], $17::text[])) {_SAVE}"""  # noqa: S608  # names of our own alone


async def append_and_save(
    connection: Connection, decider: AnyDecider, events: Sequence[StoredEvent], states: Mapping[str, StoredState]
) -> dict[str, Due | None]:
    """Append events and store the states they changed, in one statement where they are few; returns what each state asks for next."""
    if len(events) > COPY_THRESHOLD_ROWS:
        await insert_events(connection, events)
        return await save_states(connection, decider, states)
    saved, dues = _rows(decider, states)
    await connection.execute(_APPEND_AND_SAVE, *saved, *_columns(events, len(StoredEvent._fields)))
    return dues


async def save_states(
    connection: Connection, decider: AnyDecider, states: Mapping[str, StoredState], table: StatesTable = "states"
) -> dict[str, Due | None]:
    """Store states; returns what each of them asks for next."""
    saved, dues = _rows(decider, states)
    await connection.execute(_SAVE_INTO.format(table), *saved)
    return dues


def _rows(decider: AnyDecider, states: Mapping[str, StoredState]) -> tuple[tuple[list[Any], ...], dict[str, Due | None]]:
    """States as columns of rows, and what each of them asks for next."""
    dues = {key: decider.due(key, stored.state) for key, stored in states.items()}
    saved = (
        list(states),
        [stored.version for stored in states.values()],
        [due[0] if due else None for due in dues.values()],
        [encode_state(stored.state) for stored in states.values()],
    )
    return saved, dues


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows as arrays, one a column."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def decode_state(decider: AnyDecider, key: str, text: str) -> State:
    """A stored state, as the class that `decider` has under `key`."""
    initial: object = decider.initial(key)
    return _state_decoder(type(initial)).decode(text)


def encode_state(state: State) -> str:
    """A state as it is stored: the same state is always the same text."""
    return _state_encoder.encode(state).decode()


_state_encoder = msgspec.json.Encoder(order="deterministic")


@cache
def _state_decoder(cls: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cls)
