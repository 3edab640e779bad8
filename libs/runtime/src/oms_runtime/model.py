"""The seam between a service's pure half and the machinery: what a service hands over, and what it is handed."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import msgspec
from oms_contracts.catalogue import TOPICS, Topic, topics_read_by, topics_written_by
from oms_contracts.envelope import Envelope
from oms_contracts.message import type_of
from oms_contracts.operations import RedriveDeadLetters

from oms_runtime.database import Connection

Command = Any
Event = Any
State = Any
Due = tuple[datetime, Command]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """A service's pure half.

    States are kept by key. A decision reads the states that `reads(command)` names and no other. Each event it answers with belongs to the
    stream `writes(event)[0]`, and is folded into the state of every key in `writes(event)`.

    - `initial(key)`: the state before the first event; its class is what the stored state is decoded to.
    - `decide(command, states, now)`: what happens. A command that has already had its effect has none.
    - `evolve(state, event, key)`: what an event means for one of its keys. Never raises.
    - `due(key, state)`: the next thing this state will do by itself, and when: a deadline's command, or an outside effect to perform.
      None when it waits for others only. Deadlines are therefore part of the folded state, and need no table of their own.
    - `fold`: raised when `evolve` or the state's shape changes; stored states of another fold are folded anew from the events.
    """

    initial: Callable[[str], State]
    decide: Callable[[Command, Mapping[str, State], datetime], Sequence[Event]]
    evolve: Callable[[State, Event, str], State]
    reads: Callable[[Command], Sequence[str]]
    writes: Callable[[Event], Sequence[str]]
    due: Callable[[str, State], Due | None]
    fold: int = 1


def one_stream(
    *,
    initial: State,
    decide: Callable[[Command, State, datetime], Sequence[Event]],
    evolve: Callable[[State, Event], State],
    due: Callable[[str, State], Due | None],
    fold: int = 1,
) -> Decider:
    """A decider whose commands and events each concern one order, and nothing beside it."""

    def key(of: Any) -> tuple[str]:
        return (of.order_id,)

    return Decider(
        initial=lambda _key: initial,
        decide=lambda command, states, now: decide(command, states[command.order_id], now),
        evolve=lambda state, event, _key: evolve(state, event),
        reads=key,
        writes=key,
        due=due,
        fold=fold,
    )


LINGER, LINGER_LONG = 0.025, 0.100
"""Seconds: where a customer waits for the answer, and where only people in a warehouse or at a console do."""

Policies = Mapping[type[Any], Callable[[Any], Iterable[Command]]]
"""By the class of somebody else's event: the commands it means for us."""

Effects = Mapping[type[Any], Callable[[Any], Awaitable[Command]]]
"""By the class of an outside effect that `due` asks for: how to perform it. It answers with the command that records the outcome.

Performed outside any transaction, at least once, always with the same idempotency key: the port must hand that key to the provider.
An exception means that nothing is known; it is retried with backoff.
"""


class Received(msgspec.Struct, kw_only=True):
    """One record from Kafka. `envelope` and `message` are None until it is parsed; nothing else changes."""

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


class Projector(Protocol):
    """What a service without streams of its own hands over: it writes read models inside the consumer's transaction."""

    async def __call__(self, connection: Connection, batch: Sequence[Received]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """All that a service is made of.

    `commands` are the messages of its own command topic, decided as they come; `projected` the messages a projector wants.
    A record of any other type is dropped by its header, unread. `linger` is how long records that come in company wait for more of them.
    """

    name: str
    reads: tuple[Topic, ...]
    writes: tuple[Topic, ...]
    dead_letters: str
    decider: Decider | None = None
    policies: Policies = field(default_factory=dict[type[Any], Any])
    commands: tuple[type[Any], ...] = ()
    effects: Effects = field(default_factory=dict[type[Any], Any])
    projector: Projector | None = None
    projected: tuple[type[Any], ...] = ()
    linger: float = LINGER

    def handled_types(self) -> frozenset[str]:
        """The published types this service reads."""
        return frozenset(type_of(cls).name for cls in (*self.policies, *self.commands, *self.projected, RedriveDeadLetters))

    def trusted_topics(self) -> frozenset[str]:
        """The topics where only our own services write: what they say of themselves is believed."""
        return frozenset(topic.name for topic in self.reads if topic.trusted)

    def topics_of_events(self) -> dict[str, str]:
        """By published type of an event this service writes: its topic, of two the one that the other copies."""
        return {type_of(cls).name: topic.name for topic in reversed(self.writes) for cls in topic.messages}

    def commands_for(self, message: object) -> Iterable[Command]:
        """What a message asks of this service."""
        policy = self.policies.get(type(message))
        return policy(message) if policy else (message,)


def service_of(name: str, **parts: Any) -> Service:
    """A service whose topics and commands are those that the catalogue gives it; `parts` are the remaining fields of Service."""
    own = f"oms.{name}.commands"
    return Service(
        name=name,
        reads=tuple(topics_read_by(name)),
        writes=tuple(topic for topic in topics_written_by(name) if topic.writers == (name,)),
        dead_letters=f"oms.{name}.dead-letters",
        commands=tuple(cls for topic in TOPICS if topic.name == own for cls in topic.messages if cls is not RedriveDeadLetters),
        **parts,
    )
