"""The event store: decisions are staged in memory, then appended and folded in a few statements, whatever their number.

Whoever writes holds the store's lock from before the first read until commit. Two things rest on that lock. Positions become visible in the
order they are assigned, so a reader who follows them never skips one; and decisions that span streams (one order, many SKUs) need no row
locks, so they cannot deadlock. Its cost vanishes in batches: one lock, one load, one append for hundreds of records.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
from oms_contracts.message import decode, encode, type_of

from oms_runtime.database import STORE_LOCK, Connection
from oms_runtime.model import Command, Decider, Due, Event, State

OPERATIONS = "oms.operations."
"""Types beginning so are about the service, not of its streams: they are never folded."""


FEW = 64
"""Events that are cheaper to store in one statement with the states they change than by COPY: that takes three round trips more."""


class OtherRules(Exception):
    """The states are folded by other rules than ours: another version of the service has started since, and we may not write."""


class Cause(NamedTuple):
    """What led to an event: carried on, so that a flow can be followed through all services."""

    correlation_id: str
    causation_id: str
    traceparent: str = ""


class Row(NamedTuple):
    """One event as stored and as published."""

    position: int
    stream: str
    version: int
    type: str
    topic: str
    key: str
    correlation_id: str
    causation_id: str
    traceparent: str
    recorded_at: datetime
    data: str


@dataclass(slots=True)
class _Stored:
    version: int
    state: State


class Known:
    """States as they are in the store at one position of it, so that they need not be read and decoded again.

    Whoever changes a state appends an event, so while the store's head is where we left it, nobody has changed any.
    """

    def __init__(self, most: int = 8_192) -> None:
        self._most = most
        self._head = -1
        self._states: dict[str, tuple[int, State]] = {}

    def at(self, head: int) -> dict[str, tuple[int, State]]:
        """Version and state by key, as far as known when the store's head is `head`; the most recently used last."""
        if head != self._head:
            self._states.clear()
            self._head = head
        return self._states

    def without(self, keys: Iterable[str]) -> Iterator[str]:
        """Those of `keys` that are not known, if the head is still where we left it."""
        return (key for key in keys if key not in self._states)

    def learn(self, work: "Work") -> None:
        """What a transaction read and changed, after its commit."""
        states = self.at(work.base)
        self._head = work.head
        for key, state in work.states.items():
            states.pop(key, None)
            states[key] = work.versions[key], state
        for key in list(islice(states, max(0, len(states) - self._most))):
            del states[key]


class Work:
    """The decisions of one transaction, staged until `write`.

    `base` is the store's head before it; `known` are states that are as they are at `base`.
    """

    def __init__(
        self,
        decider: Decider | None,
        topics: dict[str, str],
        base: int,
        now: datetime,
        known: Mapping[str, tuple[int, State]] = MappingProxyType({}),
    ) -> None:
        self._decider = decider
        self._topics = topics
        self._known = known
        self.base = base
        self.now = now
        self.states: dict[str, State] = {}
        self.versions: dict[str, int] = {}
        self.dues: dict[str, Due | None] = {}
        """What each state that was changed asks for next."""
        self._changed: set[str] = set()
        self._later: dict[str, list[Event]] = {}
        self.rows: list[Row] = []

    @property
    def head(self) -> int:
        """The store's head once this is committed."""
        return self.base + len(self.rows)

    async def handle(self, connection: Connection, commands: Iterable[tuple[Command, Cause]]) -> None:
        """Decide on each, after one query for all that is not known of what they read."""
        if self._decider is not None:
            await self._load(connection, {key for command, _ in commands for key in self._decider.reads(command)})
        for command, cause in commands:
            self._decide(command, cause)

    def _decide(self, command: Command, cause: Cause) -> None:
        """Decide, and fold what follows, so that the next command of the batch sees it."""
        assert self._decider is not None
        for event in self._decider.decide(command, self.states, self.now):
            keys = self._decider.writes(event)
            kind = type_of(event)
            self.versions[keys[0]] += 1
            self.append(event, keys[0], self.versions[keys[0]], self._topics[kind.name], cause)
            for key in keys:
                if key in self.states:
                    self.states[key] = self._decider.evolve(self.states[key], event, key)
                    self._changed.add(key)
                else:
                    self._later.setdefault(key, []).append(event)

    def append(self, event: Event, stream: str, version: int, topic: str, cause: Cause) -> None:
        """Stage one event for `stream`, at the next position."""
        kind = type_of(event)
        self.rows.append(
            Row(
                self.head + 1,
                stream,
                version,
                kind.name,
                topic,
                kind.key(event),
                cause.correlation_id,
                cause.causation_id,
                cause.traceparent,
                self.now,
                encode(event).decode(),
            )
        )

    async def write(self, connection: Connection) -> None:
        """Append all staged events, and store every state they changed: in one statement, or in two when they are many."""
        if not self.rows:
            return
        if self._decider is None:
            await insert_events(connection, self.rows)
            return
        await self._load(connection, self._later)
        for key, events in self._later.items():
            for event in events:
                self.states[key] = self._decider.evolve(self.states[key], event, key)
        changed = {key: _Stored(self.versions[key], self.states[key]) for key in sorted(self._changed | set(self._later))}
        if len(self.rows) > FEW:
            await insert_events(connection, self.rows)
            self.dues = await _save_states(connection, self._decider, changed)
        else:
            self.dues = await _save_states(connection, self._decider, changed, self.rows)

    async def _load(self, connection: Connection, keys: Iterable[str]) -> None:
        assert self._decider is not None
        unknown: list[str] = []
        for key in set(keys) - self.states.keys():
            if known := self._known.get(key):
                self.versions[key], self.states[key] = known
            else:
                unknown.append(key)
        for key, (version, state) in (await _load_states(connection, self._decider, sorted(unknown))).items():
            self.versions[key], self.states[key] = version, state


class Move(NamedTuple):
    """A checkpoint on its way: from where we know it to be to where the batch reaches."""

    topic: str
    partition: int
    expected: int
    next_offset: int
    position: int


class Stand(NamedTuple):
    """How a transaction finds the store: how many checkpoints it moved, the head, whether anything is set aside, and states asked for."""

    moved: int
    head: int
    closed: bool
    states: dict[str, tuple[int, State]]


_MOVE = """update checkpoints c set next_offset = m.next_offset, position = m.position
    from unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[]) as m (topic, partition, expected, next_offset, position)
    where c.topic = m.topic and c.partition = m.partition and c.next_offset = m.expected returning 1"""
_TAKE = f"""with moved as ({_MOVE})
    select (select count(*) from moved) as moved, (select coalesce(max(position), 0) from events) as head,
        (select fold from rules) as fold, exists (select from dead_letters) as closed, found.*
    from (select array_agg(key) as keys, array_agg(version) as versions, array_agg(state) as states
          from states where key = any($6::text[])) found"""  # noqa: S608  # names of our own alone


async def move_checkpoints(connection: Connection, moves: Sequence[Move]) -> int:
    """Move those checkpoints that are where they are expected; answers with how many were."""
    return len(await connection.fetch(_MOVE, *_columns(moves, len(Move._fields))))


async def take_stand(connection: Connection, decider: Decider | None, moves: Sequence[Move], keys: Sequence[str]) -> Stand:
    """Move checkpoints and read the store's stand, with the states of `keys`, for who holds its lock. Raises OtherRules."""
    row = await connection.fetchrow(_TAKE, *_columns(moves, len(Move._fields)), keys)
    assert row is not None
    if decider is None:
        return Stand(row["moved"], row["head"], row["closed"], {})
    if row["fold"] != decider.fold:
        raise OtherRules(f"the states are folded by rules {row['fold']}, ours are {decider.fold}")
    stored = zip(row["keys"] or (), row["versions"] or (), row["states"] or (), strict=True)
    return Stand(row["moved"], row["head"], row["closed"], _states(decider, keys, stored))


async def lock_store(connection: Connection) -> None:
    """Wait for the store's lock and hold it until the transaction ends. Must come before the transaction's first read."""
    await connection.execute("select pg_advisory_xact_lock($1)", STORE_LOCK)


async def head_of(connection: Connection) -> int:
    """The position of the newest event, 0 in an empty store."""
    return await connection.fetchval("select coalesce(max(position), 0) from events")


async def insert_events(connection: Connection, rows: Sequence[Row]) -> None:
    """Append rows, by COPY: it costs half of what an insert does."""
    await connection.copy_records_to_table("events", records=rows, columns=Row._fields)


async def read_events(connection: Connection, after: int, most: int) -> list[Row]:
    """Up to `most` events behind position `after`, in order."""
    found = await connection.fetch(
        """select position, stream, version, type, topic, key, correlation_id, causation_id, traceparent, recorded_at, data
           from events where position > $1 order by position limit $2""",
        after,
        most,
    )
    return [Row(*row.values()) for row in found]


async def refold(connection: Connection, decider: Decider) -> bool:
    """Make `decider.fold` the store's rules, and fold all states anew where they were others; tells whether it had to.

    Processes of another version find out by their next transaction: see `head_for`. Needs a transaction.
    """
    stored = "select fold from rules"
    if await connection.fetchval(stored) == decider.fold:
        return False
    await lock_store(connection)
    if await connection.fetchval(stored) == decider.fold:
        return False
    await connection.execute("delete from states")
    await connection.execute("update rules set fold = $1", decider.fold)
    async for chunk in _chunks(connection):
        keys = {key for _, event in chunk for key in decider.writes(event)}
        found = await _load_states(connection, decider, sorted(keys))
        states = {key: _Stored(*stored) for key, stored in found.items()}
        _fold(decider, chunk, states)
        await _save_states(connection, decider, states)
    return True


async def audit(connection: Connection, decider: Decider) -> list[str]:
    """The keys whose stored state is not what folding the events from the first one gives. Reads one snapshot; changes nothing.

    Large stores are compared in slices of the key space, so that memory stays bounded; each slice reads all events once.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        slices = 1 + await connection.fetchval("select count(*) from states") // 200_000
        wrong: list[str] = []
        for part in range(slices):
            folded: dict[str, _Stored] = {}
            wanted = partial(_in_slice, part, slices)
            async for chunk in _chunks(connection):
                _fold(decider, chunk, folded, wanted)
            stored = connection.cursor("select key, version, state from states")
            seen: set[str] = set()
            async for row in stored:
                if wanted(row["key"]):
                    seen.add(row["key"])
                    expected = folded.get(row["key"])
                    if expected is None or (expected.version, _encode_state(expected.state)) != (row["version"], row["state"]):
                        wrong.append(row["key"])
            wrong += sorted(folded.keys() - seen)
        return wrong


def _fold(
    decider: Decider, chunk: Sequence[tuple[str, Event]], states: dict[str, _Stored], wanted: Callable[[str], bool] | None = None
) -> None:
    for stream, event in chunk:
        for key in decider.writes(event):
            if wanted is None or wanted(key):
                stored = states.get(key) or states.setdefault(key, _Stored(0, decider.initial(key)))
                stored.state = decider.evolve(stored.state, event, key)
                stored.version += key == stream


async def _chunks(connection: Connection) -> AsyncIterator[list[tuple[str, Event]]]:
    after = 0
    while rows := await read_events(connection, after, 2_000):
        yield [(row.stream, decode(row.type, row.data.encode())) for row in rows if not row.type.startswith(OPERATIONS)]
        after = rows[-1].position


async def _load_states(connection: Connection, decider: Decider, keys: Sequence[str]) -> dict[str, tuple[int, State]]:
    rows = await connection.fetch("select key, version, state from states where key = any($1::text[])", keys) if keys else []
    return _states(decider, keys, ((row["key"], row["version"], row["state"]) for row in rows))


def _states(decider: Decider, keys: Iterable[str], stored: Iterable[tuple[str, int, str]]) -> dict[str, tuple[int, State]]:
    """Version and state by key, as stored, or as it is in the beginning."""
    found = {key: (version, decode_state(decider, key, text)) for key, version, text in stored}
    return {key: found.get(key) or (0, decider.initial(key)) for key in keys}


_SAVE = """insert into states (key, version, due_at, state)
    select * from unnest($1::text[], $2::int[], $3::timestamptz[], $4::text[])
    on conflict (key) do update
    set version = excluded.version, due_at = excluded.due_at, state = excluded.state"""
_APPEND_AND_SAVE = f"""with appended as (
    insert into events ({", ".join(Row._fields)})
    select * from unnest($5::bigint[], $6::text[], $7::int[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
        $14::timestamptz[], $15::text[])) {_SAVE}"""  # noqa: S608  # names of our own alone


async def _save_states(
    connection: Connection, decider: Decider, states: Mapping[str, _Stored], rows: Sequence[Row] = ()
) -> dict[str, Due | None]:
    """Store states, and `rows` with them; answers with what each state asks for next."""
    dues = {key: decider.due(key, stored.state) for key, stored in states.items()}
    saved = (
        list(states),
        [stored.version for stored in states.values()],
        [due[0] if due else None for due in dues.values()],
        [_encode_state(stored.state) for stored in states.values()],
    )
    if rows:
        await connection.execute(_APPEND_AND_SAVE, *saved, *_columns(rows, len(Row._fields)))
    else:
        await connection.execute(_SAVE, *saved)
    return dues


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows as arrays, one a column."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def decode_state(decider: Decider, key: str, text: str) -> State:
    """A stored state of the class that `decider` keeps under `key`."""
    initial: object = decider.initial(key)
    return _state_decoder(type(initial)).decode(text)


def _encode_state(state: State) -> str:
    return _state_encoder.encode(state).decode()


_state_encoder = msgspec.json.Encoder(order="deterministic")


@cache
def _state_decoder(cls: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cls)


def _in_slice(part: int, slices: int, key: str) -> bool:
    return int.from_bytes(key.encode()[-4:], "big") % slices == part
