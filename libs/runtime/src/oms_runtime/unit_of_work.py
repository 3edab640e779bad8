"""A transaction's decisions: staged in memory, then written in a few statements, whatever their number."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from oms_contracts.message import encode, type_of

from oms_runtime.database import Connection
from oms_runtime.errors import EventTooLarge
from oms_runtime.model import AnyDecider, Cause, Command, Due, Event, State, StoredEvent
from oms_runtime.store import StoredState, append_and_save, insert_events, load_states

MAX_CACHED_STATES = 8_192
RECORD_OVERHEAD_BYTES = 4 * 1024
"""Room for a record's key, headers and framing beside its value."""


class StateCache:
    """States as they are in the store at one position, so that they need not be read and decoded again.

    Every change of a state appends an event. So while the store's head is the one we know, no other process has changed a state.
    """

    def __init__(self, max_states: int = MAX_CACHED_STATES) -> None:
        self._max_states = max_states
        self._head = -1
        self._states: dict[str, tuple[int, State]] = {}

    def at(self, head: int) -> dict[str, tuple[int, State]]:
        """Version and state by key, as cached, when the store's head is `head`. The most recently used are last."""
        if head != self._head:
            self._states.clear()
            self._head = head
        return self._states

    def missing(self, keys: Iterable[str]) -> Iterator[str]:
        """Those of `keys` that are not cached."""
        return (key for key in keys if key not in self._states)

    def update(self, unit: "UnitOfWork") -> None:
        """Take over what a unit of work read and changed, after its commit."""
        states = self.at(unit.base)
        self._head = unit.head
        for key, state in unit.states.items():
            states.pop(key, None)
            states[key] = unit.versions[key], state
        for key in list(islice(states, max(0, len(states) - self._max_states))):
            del states[key]


class UnitOfWork:
    """The decisions of one transaction, staged until `write`.

    `base` is the store's head before it; `cached` are states that are as they are at `base`. `topics` is the topic of each event type,
    `max_bytes` the largest record of each topic.
    """

    def __init__(
        self,
        decider: AnyDecider | None,
        topics: dict[str, str],
        max_bytes: dict[str, int],
        *,
        base: int,
        now: datetime,
        cached: dict[str, tuple[int, State]],
    ) -> None:
        self._decider = decider
        self._topics = topics
        self._max_bytes = max_bytes
        self._cached = cached
        self.base = base
        self.now = now
        self.states: dict[str, State] = {}
        self.versions: dict[str, int] = {}
        self.dues: dict[str, Due | None] = {}
        """What each changed state asks for next, known after `write`."""
        self._changed: set[str] = set()
        self._unfolded: dict[str, list[Event]] = {}
        """Events for states that no decision has read: they are loaded and folded by `write`."""
        self.events: list[StoredEvent] = []

    @property
    def head(self) -> int:
        """The store's head once this is committed."""
        return self.base + len(self.events)

    async def load(self, connection: Connection, commands: Iterable[tuple[Command, Cause]]) -> None:
        """Load all states that `commands` read and the cache lacks, in one query."""
        if self._decider is not None:
            await self._load(connection, {key for command, _ in commands for key in self._decider.reads(command)})

    def decide(self, commands: Iterable[tuple[Command, Cause]]) -> None:
        """Decide on each command, whose states are loaded, and stage the events. Raises what the decider raises, and EventTooLarge."""
        for command, cause in commands:
            self._decide(command, cause)

    def fits(self, event: Event, topic: str) -> bool:
        """Whether an event is small enough for its topic."""
        return len(encode(event)) + RECORD_OVERHEAD_BYTES <= self._max_bytes[topic]

    def _decide(self, command: Command, cause: Cause) -> None:
        """Decide, and fold the events at once, so that the next command of the batch sees them."""
        assert self._decider is not None
        for event in self._events_of(self._decider, command, cause):
            keys = self._decider.writes(event)
            kind = type_of(event)
            self.versions[keys[0]] += 1
            self.append(event, keys[0], self.versions[keys[0]], self._topics[kind.name], cause)
            for key in keys:
                if key in self.states:
                    self.states[key] = self._decider.evolve(self.states[key], event, key)
                    self._changed.add(key)
                else:
                    self._unfolded.setdefault(key, []).append(event)

    def _events_of(self, decider: AnyDecider, command: Command, cause: Cause) -> Sequence[Event]:
        if not cause.party:
            return decider.decide(command, self.states, self.now)
        assert decider.decide_for is not None, "a service that reads topics of parties decides for parties"
        return decider.decide_for(cause.party, command, self.states, self.now)

    def append(self, event: Event, stream: str, version: int, topic: str, cause: Cause) -> None:
        """Stage one event for `stream`, at the next position. Raises EventTooLarge when its topic would not take it."""
        kind = type_of(event)
        data = encode(event)
        if len(data) + RECORD_OVERHEAD_BYTES > self._max_bytes[topic]:
            raise EventTooLarge(
                f"{kind.name} has {len(data)} bytes; {topic} takes at most {self._max_bytes[topic] - RECORD_OVERHEAD_BYTES}"
            )
        self.events.append(
            StoredEvent(
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
                data.decode(),
                cause.actor,
                cause.reason,
            )
        )

    async def write(self, connection: Connection) -> None:
        """Append all staged events, and store every state they changed."""
        if not self.events:
            return
        if self._decider is None:
            await insert_events(connection, self.events)
            return
        await self._load(connection, self._unfolded)
        for key, events in self._unfolded.items():
            for event in events:
                self.states[key] = self._decider.evolve(self.states[key], event, key)
        changed = {key: StoredState(self.versions[key], self.states[key]) for key in sorted(self._changed | set(self._unfolded))}
        self.dues = await append_and_save(connection, self._decider, self.events, changed)

    async def _load(self, connection: Connection, keys: Iterable[str]) -> None:
        assert self._decider is not None
        missing: list[str] = []
        for key in set(keys) - self.states.keys():
            if cached := self._cached.get(key):
                self.versions[key], self.states[key] = cached
            else:
                missing.append(key)
        for key, (version, state) in (await load_states(connection, self._decider, sorted(missing))).items():
            self.versions[key], self.states[key] = version, state
