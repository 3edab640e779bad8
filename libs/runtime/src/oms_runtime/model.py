"""The seam between a service's pure half and the runtime: what a service provides, and what it is given."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec
from oms_contracts.catalogue import TOPICS, Topic, TopicsByName, topics_read_by, topics_written_by
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.envelope import Envelope
from oms_contracts.message import type_of, versions_of

from oms_runtime.database import Connection, Database

StateT = TypeVar("StateT")
CommandT = TypeVar("CommandT")
EventT = TypeVar("EventT")

Command = Any
Event = Any
State = Any
"""Where the runtime handles the commands, events and states of whichever service it runs."""

Due = tuple[datetime, Command]
"""When a state acts by itself, and the command it then gives, or the outside effect it then asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider(Generic[StateT, CommandT, EventT]):
    """A service's pure half.

    States are stored by key. A decision reads the states that `reads(command)` names and no other. Each event it returns belongs to the
    stream `writes(event)[0]`, and is folded into the state of every key in `writes(event)`.

    - `initial(key)`: the state before the first event. Its class is what the stored state is decoded to.
    - `decide(command, states, now)`: the events that follow. A command that has already had its effect has none.
    - `evolve(state, event, key)`: what an event means for one of its keys. Never raises.
    - `due(key, state)`: the next thing this state does by itself, and when: a deadline's command, or an outside effect to perform. None
      while it waits for others only. So deadlines are part of the folded state and need no table of their own.
    - `decide_for(party, command, states, now)`: as `decide`, for a command from a party's own topic; `party` is its name. What concerns
      another party is refused. Only services that read topics of parties have it.
    - `state_version`: raised, never lowered, when `evolve` or the state's shape changes. All states are then built anew from the events.
    """

    initial: Callable[[str], StateT]
    decide: Callable[[CommandT, Mapping[str, StateT], datetime], Sequence[EventT]]
    evolve: Callable[[StateT, EventT, str], StateT]
    reads: Callable[[CommandT], Sequence[str]]
    writes: Callable[[EventT], Sequence[str]]
    due: Callable[[str, StateT], Due | None]
    decide_for: Callable[[str, CommandT, Mapping[str, StateT], datetime], Sequence[EventT]] | None = None
    state_version: int = 1


AnyDecider = Decider[Any, Any, Any]


class OfOrder(Protocol):
    """A command or an event that concerns one order."""

    @property
    def order_id(self) -> str: ...


OrderCommandT = TypeVar("OrderCommandT", bound=OfOrder)
OrderEventT = TypeVar("OrderEventT", bound=OfOrder)


def one_stream(
    *,
    initial: StateT,
    decide: Callable[[OrderCommandT, StateT, datetime], Sequence[OrderEventT]],
    evolve: Callable[[StateT, OrderEventT], StateT],
    due: Callable[[str, StateT], Due | None],
    decide_for: Callable[[str, OrderCommandT, StateT, datetime], Sequence[OrderEventT]] | None = None,
    state_version: int = 1,
) -> Decider[StateT, OrderCommandT, OrderEventT]:
    """A decider whose commands and events each concern one order and nothing else."""

    def key(of: OfOrder) -> tuple[str]:
        return (of.order_id,)

    def decide_for_party(party: str, command: OrderCommandT, states: Mapping[str, StateT], now: datetime) -> Sequence[OrderEventT]:
        assert decide_for is not None
        return decide_for(party, command, states[command.order_id], now)

    return Decider(
        initial=lambda _key: initial,
        decide=lambda command, states, now: decide(command, states[command.order_id], now),
        evolve=lambda state, event, _key: evolve(state, event),
        reads=key,
        writes=key,
        due=due,
        decide_for=None if decide_for is None else decide_for_party,
        state_version=state_version,
    )


LINGER_SECONDS = 0.025
"""Where a customer waits for the answer."""
LINGER_LONG_SECONDS = 0.100
"""Where only people in a warehouse or at a console do."""

Policies = Mapping[type[Any], Callable[[Any], Iterable[Command]]]
"""By the class of another service's event: the commands it means for us."""

Effects = Mapping[type[Any], Callable[[Any], Awaitable[Command]]]
"""By the class of an outside effect that `due` asks for: how to perform it. Returns the command that records the outcome.

It is performed outside any transaction, at least once, always with the same idempotency key: the port must pass that key to the provider.
An exception means that the outcome is unknown; the effect is retried with backoff.
"""


class IncomingRecord(msgspec.Struct, kw_only=True):
    """One record from Kafka. `envelope` and `message` are None until it is parsed; nothing else changes.

    `fault` says why it cannot be read, where that was clear before it was parsed.
    """

    topic: str
    partition: int
    offset: int
    key: str | None
    headers: Sequence[tuple[str, bytes | None]]
    value: bytes
    type: str | None
    position: int | None
    envelope: Envelope | None = None
    message: Any = None
    fault: str = ""


class Projector(Protocol):
    """Writes tables that are not folded from the service's own events, inside the consumer's transaction."""

    async def __call__(self, connection: Connection, batch: Sequence[IncomingRecord]) -> None: ...


class StoredEvent(NamedTuple):
    """One event as stored and as published. The table `events` is the transactional outbox: the relay publishes from it."""

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
    actor: str = ""
    reason: str = ""


class Cause(NamedTuple):
    """What led to an event. It is carried on, so that a flow can be followed through all services.

    `actor` and `reason` are those of a command; they end with the events that answer it. `party` is the name of the party whose own topic
    the command came on, empty for any other.
    """

    correlation_id: str
    causation_id: str
    traceparent: str = ""
    actor: str = ""
    reason: str = ""
    party: str = ""


CausedCommands = Sequence[tuple[Command, Cause]]
"""Commands, each with what led to it."""


class Staging(Protocol):
    """A transaction's events so far, all of one moment `now`."""

    events: list[StoredEvent]
    now: datetime

    def append(self, event: Event, stream: str, version: int, topic: str, cause: Cause) -> None:
        """Stage one event for `stream`. Raises EventTooLarge when its topic would not take it."""
        ...


class Companion(Protocol):
    """What a service does beside its decisions, in their transaction, because it must not be an event: events are kept for ever."""

    async def prepare(self, connection: Connection, commands: CausedCommands) -> CausedCommands:
        """The commands as they are decided: as many, in the same order."""
        ...

    async def conclude(self, connection: Connection, unit: Staging, commands: CausedCommands) -> None:
        """What remains to be done once they are decided. `commands` are those that `prepare` returned."""
        ...


Disclose = Callable[[Connection, Sequence[StoredEvent]], Awaitable[Mapping[int, str]]]
"""By position: the data of events as copies that disclose more have it. It may raise one of RETRYABLE_ERRORS, and is asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything a service is made of.

    `commands` are the messages of its own command topic, decided as they come; `projected` are the messages that its projector wants,
    instead of its decider. A record of any other type is dropped by its header, unread. `linger_seconds` is how long records that come in
    quick succession wait for more of them.

    A service whose tables have versions keeps those of one version in a `schema`, beside checkpoints and dead letters of their own, and
    fills them by a consumer `group` of their own. `open_tables` is called with the migrated store at each start, and every second from
    then on. It raises TablesMissing where this version has no tables: then the process does nothing.
    """

    name: str
    reads: tuple[Topic, ...]
    writes: tuple[Topic, ...]
    dead_letters: str
    decider: AnyDecider | None = None
    policies: Policies = field(default_factory=dict[type[Any], Any])
    commands: tuple[type[Any], ...] = ()
    effects: Effects = field(default_factory=dict[type[Any], Any])
    projector: Projector | None = None
    projected: Set[type[Any]] = frozenset()
    companion: Companion | None = None
    disclose: Disclose | None = None
    linger_seconds: float = LINGER_SECONDS
    schema: str = ""
    group: str = ""
    open_tables: Callable[[Database], Awaitable[None]] | None = None

    def consumer_group(self) -> str:
        """The name of its consumer group."""
        return self.group or f"oms.{self.name}"

    def handled_types(self) -> frozenset[str]:
        """The published types this service reads, earlier versions among them."""
        classes = (*self.policies, *self.commands, *self.projected, RedriveDeadLetters)
        return frozenset(kind.name for cls in classes for kind in versions_of(cls))

    def topics_read(self) -> TopicsByName:
        """The topics that it reads, by name, those of parties among them."""
        return TopicsByName(self.reads)

    def trusted_topics(self) -> frozenset[str]:
        """The topics where only our own services write: what they say of themselves is believed."""
        return frozenset(topic.name for topic in self.reads if topic.trusted)

    def topics_of_events(self) -> dict[str, str]:
        """The topic of each event type this service writes; the original where another topic is a copy of it."""
        return {type_of(cls).name: topic.name for topic in reversed(self.writes) for cls in topic.messages}

    def max_event_bytes(self) -> dict[str, int]:
        """By topic that this service writes: how large a record may be, compression not counted."""
        return {topic.name: topic.max_message_bytes for topic in self.writes}

    def commands_for(self, message: object) -> Iterable[Command]:
        """What a message asks of this service's decider."""
        if type(message) in self.projected:
            return ()
        policy = self.policies.get(type(message))
        return policy(message) if policy else (message,)


def service_of(name: str, **parts: Any) -> Service:
    """A service whose topics and commands are those the catalogue gives it; `parts` are the remaining fields of Service."""
    own = f"oms.{name}.commands"
    return Service(
        name=name,
        reads=tuple(topics_read_by(name)),
        writes=tuple(topic for topic in topics_written_by(name) if topic.writers == (name,)),
        dead_letters=f"oms.{name}.dead-letters",
        commands=tuple(cls for topic in TOPICS if topic.name == own for cls in topic.messages if cls is not RedriveDeadLetters),
        **parts,
    )
