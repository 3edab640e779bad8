"""All services in one process: deciders and policies as they run, topics as lists, and a schedule that says who does what next.

What the runtime promises is kept, and no more:

- Order is kept within a topic's partition and nowhere else. Every reader stands where it likes in each of them, and reads in batches.
- A deadline passes, and an outside effect is performed, on a state that may have moved on when that is recorded. Either may happen twice,
  or never be recorded: a leader may fall in between.
- What was read may come again, at any later time. Of what our own services publish the runtime lets nothing through twice (it drops a
  record that is not above the highest position applied); but strangers may send twice, and then the decider alone must cope. Here nothing
  is dropped: every decider copes with everything.
- A service's processes may stand on machines whose clocks differ, and partitions move between them.
- A record that cannot be applied would be set aside. Here it fails the test.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import oms_capture.app
import oms_fulfillment.app
import oms_inventory.app
import oms_payment.app
import oms_returns.app
import oms_tracking.app
from oms_capture.decider import ENDED
from oms_capture.decider import Terms as CaptureTerms
from oms_contracts.catalogue import PARTITIONS, SERVICES, TOPICS, topic_of
from oms_contracts.message import decode, encode, key_of, type_of, validate
from oms_contracts.stock import ReceiveStock
from oms_demo.responses import Response as Answer
from oms_demo.responses import make_responses
from oms_inventory.commands import PlanAllocation
from oms_inventory.decider import Terms as InventoryTerms
from oms_kafka.clients import partition_of
from oms_payment.commands import ResumeRefund
from oms_payment.decider import Terms as PaymentTerms
from oms_returns.decider import Terms as ReturnsTerms
from oms_runtime.model import Command, Due, Event, Service, State

from .recording_provider import RecordingProvider

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TICK = timedelta(milliseconds=1)
"""No two things happen at the same moment."""
MAX_STEPS = 5_000
"""Far more than any life here takes: whoever needs more answers himself for ever."""
SKEWS = timedelta(0), timedelta(seconds=2), timedelta(seconds=-2)
"""How far the clocks of a service's processes, between which its partitions move, are from the right time."""
OUTSIDE = "outside"
ITSELF = "itself"
AT_ONCE = (PlanAllocation, ResumeRefund)
"""Due as soon as they can be. Every other deadline is a race with the clock."""

Queue = tuple[str, int]
"""A topic's partition."""


class Schedule:
    """Which of the possible steps comes next. Read to its end it says always the first, so a shorter one is a straighter one.

    `late` are readers, each with a topic that it comes to long after everybody else: now and then, and when nobody else has anything to do.
    A service that is late with ITSELF is slow to do what is due and to record it.
    """

    def __init__(self, numbers: bytes = b"", late: Sequence[tuple[str, str]] = ()) -> None:
        self._numbers = iter(numbers)
        self.late = frozenset(late)

    def choose(self, among: int = 256) -> int:
        """A number below `among`."""
        return next(self._numbers, 0) % among


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Record:
    """One record of a topic. `position` is its place among all that `author` published.

    `heard` are the records that its author had heard of the order before, itself or through others: a set, as bits by `number`.
    """

    number: int
    author: str
    position: int
    queue: Queue
    subject: str
    kind: type[Any]
    message: Any
    heard: int
    at: datetime


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """What a service was given: a record, the answer to an effect, or the command of a deadline that has passed.

    `needs` are the records that must have been published before, as Record.heard; of an answer those that say what was asked.
    """

    subject: str
    command: Any
    at: datetime
    needs: int
    record: Record | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Flying:
    """What a due state brought about, on its way back to it."""

    service: str
    key: str
    command: Command
    needs: int
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Hold:
    """`reader` comes to no record of the class `back` before it has read one of the class `until`: so a race is decided."""

    reader: str
    back: type[Any]
    until: type[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens outside. `says` are lists of messages, each sent in order, at any time; `answers` come beside those of the simulators.

    `clock` is by how much time may pass while others still work.
    """

    says: tuple[tuple[Any, ...], ...]
    stock: ReceiveStock
    answers: Mapping[type[Any], Answer]
    holds: tuple[Hold, ...] = ()
    clock: tuple[timedelta, ...]


class Node:
    """One service, as the runtime would run it if nothing ever failed."""

    def __init__(self, service: Service) -> None:
        assert service.decider is not None
        self.service = service
        self.decider = service.decider
        self.handles = frozenset((*service.policies, *service.commands))
        self.states: dict[str, State] = {}
        self.dues: dict[str, Due] = {}

    def state(self, key: str) -> Any:
        """The state of a key, after all that was applied."""
        return self.states[key] if key in self.states else self.decider.initial(key)

    def apply(self, command: Command, now: datetime) -> Sequence[Event]:
        """Decide on those states alone that were asked for, and fold."""
        asked = {key: self.state(key) for key in self.decider.reads(command)}
        events = self.decider.decide(command, asked, now)
        for event in events:
            keys = self.decider.writes(event)
            assert keys[0] in asked, "a stream is written by who has read it"
            for key in keys:
                state = self.states[key] = self.decider.evolve(self.state(key), event, key)
                due = self.decider.due(key, state)
                if due is not None:
                    self.dues[key] = due
                else:
                    self.dues.pop(key, None)
        return events

    def receive(self, message: Any, now: datetime) -> list[Event]:
        """Apply what a message asks of the service."""
        return [event for command in self.service.commands_for(message) for event in self.apply(command, now)]


class System:
    """Services, topics, and what is outside, on one clock. `runner` performs the outside effects."""

    def __init__(self, story: Story, schedule: Schedule, runner: asyncio.Runner) -> None:
        self.story = story
        self.provider = RecordingProvider()
        self.now = NOON
        self.nodes = {service.name: Node(service) for service in make_services(self.provider)}
        self.records: list[Record] = []
        self.logs: dict[str, list[Step]] = {name: [] for name in self.nodes}
        self._schedule = schedule
        self._runner = runner
        self._answers: dict[type[Any], list[Answer]] = defaultdict(list)
        for cls, answer in (*make_responses().items(), *story.answers.items()):
            self._answers[cls].append(answer)
        self._handles = {name: node.handles for name, node in self.nodes.items()} | {OUTSIDE: frozenset(self._answers)}
        self._inboxes: dict[tuple[str, Queue], list[Record]] = {}
        self._stood: dict[tuple[str, Queue], int] = {}
        self._published: dict[str, int] = defaultdict(int)
        self._heard: dict[tuple[str, str], int] = defaultdict(int)
        self._read: set[tuple[str, type[Any]]] = set()
        self._lanes: list[deque[tuple[Any, int]]] = []
        self._skews: dict[str, timedelta] = defaultdict(timedelta)
        self._flying: list[Flying] = []
        self._landed: list[Flying] = []
        self._publish(OUTSIDE, story.stock, 0)
        for inbox in self._inboxes:
            self._hear(*inbox, most=1)
        for messages in story.says:
            self._lanes.append(deque((message, 0) for message in messages))

    def run(self, check: Callable[[], None] = lambda: None) -> None:
        """Until nobody has anything to do, now or ever. `check` is called after each step."""
        for _ in range(MAX_STEPS):
            steps = self._steps()
            if not steps:
                if not self._wait():
                    return
                continue
            number = self._schedule.choose()
            if number < 200:
                early = [step for step in steps if step[0] not in self._schedule.late] if number < 190 else steps
                _, step, *arguments = (early or steps)[number % len(early or steps)]
                step(*arguments)
            else:
                self._mischief(number)
            check()
        raise AssertionError("it never comes to rest")

    def hear_everything_again(self) -> list[Event]:
        """All that anybody was ever given comes again, topic by topic; answers with what follows."""
        events: list[Event] = []
        for (reader, _), records in self._inboxes.items():
            if reader in self.nodes:
                for record in records:
                    events += self.nodes[reader].receive(record.message, self._moment(reader))
        for landed in self._landed:
            events += self.nodes[landed.service].apply(landed.command, self._moment(landed.service))
        return events

    def said(self, author: str) -> Iterator[Any]:
        """Everything a service published, in order."""
        return (record.message for record in self.records if record.author == author)

    def _steps(self) -> list[tuple[Any, ...]]:
        """All that may happen next and leads on: who does it, on account of what, and what to call."""
        steps: list[tuple[Any, ...]] = [
            ((reader, queue[0]), self._hear_some, reader, queue)
            for (reader, queue), records in self._inboxes.items()
            if (stood := self._stood[reader, queue]) < len(records) and not self._held_back(reader, records[stood])
        ]
        steps += [((flying.service, ITSELF), self._land, number) for number, flying in enumerate(self._flying)]
        away = {(flying.service, flying.key) for flying in self._flying}
        steps += [
            ((name, ITSELF), self._act, name, key)
            for name, node in self.nodes.items()
            for key in node.dues
            if self._is_due(name, key) and (name, key) not in away
        ]
        steps += [((OUTSIDE, ITSELF), self._speak, lane) for lane in self._lanes]
        return steps

    def _mischief(self, number: int) -> None:
        """What may happen at any time and lead nowhere: repeats, lost answers, time that passes, a process with another clock."""
        match number % 6:
            case 0 | 1:
                self._hear_again()
            case 2:
                self.now += self.story.clock[self._schedule.choose(len(self.story.clock))]
            case 3 if self._flying:
                flying = self._flying[self._schedule.choose(len(self._flying))]
                if self._schedule.choose(2):
                    self._flying.remove(flying)
                elif self._is_due(flying.service, flying.key):
                    self._act(flying.service, flying.key)
            case 4 if self._landed:
                self._answer(self._landed[-1 - self._schedule.choose(len(self._landed))])
            case _:
                self._skews[SERVICES[self._schedule.choose(len(SERVICES))]] = SKEWS[self._schedule.choose(len(SKEWS))]

    def _wait(self) -> bool:
        """Let the clock run to the next deadline; False when there is none. Nobody waits without one: an order least of all."""
        capture = self.nodes["capture"]
        for order_id, order in capture.states.items():
            assert (order_id in capture.dues) == (order.status not in {"new", *ENDED})
        ats = [at for node in self.nodes.values() for at, _ in node.dues.values()]
        if ats:
            self.now = max(self.now, min(ats))
        return bool(ats)

    def _is_due(self, service: str, key: str) -> bool:
        due = self.nodes[service].dues.get(key)
        return due is not None and due[0] <= self.now

    def _moment(self, service: str) -> datetime:
        self.now += TICK
        return self.now + self._skews[service]

    def _held_back(self, reader: str, record: Record) -> bool:
        return any(
            hold.reader == reader and record.kind is hold.back and (reader, hold.until) not in self._read for hold in self.story.holds
        )

    def _hear_some(self, reader: str, queue: Queue) -> None:
        self._hear(reader, queue, most=1 + self._schedule.choose(4))

    def _hear(self, reader: str, queue: Queue, most: int) -> None:
        inbox = self._inboxes[reader, queue]
        for record in inbox[self._stood[reader, queue] :][:most]:
            if self._held_back(reader, record):
                return
            self._stood[reader, queue] += 1
            self._read.add((reader, record.kind))
            heard = record.heard | 1 << record.number
            if reader == OUTSIDE:
                for answer in self._answers[record.kind]:
                    if said := list(answer(record.message)):
                        self._lanes.append(deque((message, heard) for message in said))
                continue
            self._heard[reader, record.subject] |= heard
            self._give(reader, record)

    def _give(self, reader: str, record: Record) -> None:
        now = self._moment(reader)
        self.logs[reader].append(Step(subject=record.subject, command=record.message, at=now, needs=record.heard, record=record))
        self._say(reader, record.subject, self.nodes[reader].receive(record.message, now))

    def _hear_again(self) -> None:
        """Some of what a service has read before, in the order it was in."""
        read = [inbox for inbox, stood in self._stood.items() if stood and inbox[0] in self.nodes]
        reader, queue = read[self._schedule.choose(len(read))]
        stood = self._stood[reader, queue]
        first = stood - 1 - self._schedule.choose(stood)
        for record in self._inboxes[reader, queue][first : min(stood, first + 1 + self._schedule.choose(4))]:
            self._give(reader, record)

    def _act(self, name: str, key: str) -> None:
        """Do what is due, without recording it yet."""
        node = self.nodes[name]
        _, wanted = node.dues[key]
        effect = node.service.effects.get(wanted.__class__)
        if effect is None:
            self._flying.append(Flying(name, key, wanted, 0, None))
            return
        try:
            answer = self._runner.run(_perform(effect, wanted))
        except ConnectionError:
            return  # nothing is known: it stays due
        asked = sum(
            1 << record.number
            for record in self.records
            if record.author == name and getattr(record.message, "request_id", None) == wanted.request_id
        )
        self._flying.append(Flying(name, key, answer, asked, wanted.request_id))

    def _land(self, number: int) -> None:
        flying = self._flying.pop(number)
        self._landed.append(flying)
        self._answer(flying)

    def _answer(self, flying: Flying) -> None:
        now = self._moment(flying.service)
        if not isinstance(flying.command, AT_ONCE):
            step = Step(subject=flying.key, command=flying.command, at=now, needs=flying.needs, request_id=flying.request_id)
            self.logs[flying.service].append(step)
        self._say(flying.service, flying.key, self.nodes[flying.service].apply(flying.command, now))

    def _speak(self, lane: deque[tuple[Any, int]]) -> None:
        self._publish(OUTSIDE, *lane.popleft())
        self._lanes = [other for other in self._lanes if other]

    def _say(self, author: str, subject: str, events: Sequence[Event]) -> None:
        for event in events:
            self._publish(author, event, self._heard[author, subject])

    def _publish(self, author: str, message: Any, heard: int) -> None:
        key = key_of(message)
        topic = topic_of(message)
        self._published[author] += 1
        record = Record(
            number=len(self.records),
            author=author,
            position=self._published[author],
            queue=(topic, partition_of(key.encode(), PARTITIONS)),
            subject=getattr(message, "order_id", key),
            kind=message.__class__,
            message=_as_read(topic, message),
            heard=heard,
            at=self.now,
        )
        self.records.append(record)
        for reader in _readers(topic):
            if record.kind in self._handles.get(reader, ()):
                self._inboxes.setdefault((reader, record.queue), []).append(record)
                self._stood.setdefault((reader, record.queue), 0)


def make_services(provider: RecordingProvider) -> tuple[Service, ...]:
    """The six that own streams, built as their `app.py` builds them."""
    return (
        oms_capture.app.make_service(CaptureTerms()),
        oms_inventory.app.make_service(InventoryTerms()),
        oms_payment.app.make_service(PaymentTerms(), provider, timedelta(seconds=30)),
        oms_fulfillment.app.make_service(),
        oms_tracking.app.make_service(),
        oms_returns.app.make_service(ReturnsTerms()),
    )


def waits() -> list[tuple[str, str]]:
    """Everybody, with everything that he may be late for."""
    late = [(service.name, topic.name) for service in make_services(RecordingProvider()) for topic in service.reads]
    return [*late, *((name, ITSELF) for name in (*SERVICES, OUTSIDE))]


async def _perform(effect: Callable[[Any], Awaitable[Any]], wanted: Any) -> Any:
    return await effect(wanted)


def _as_read(topic: str, message: Any) -> Any:
    """A message as it comes out of Kafka."""
    read = decode if _trusted(topic) else validate
    return read(type_of(message).name, encode(message))


@cache
def _trusted(topic: str) -> bool:
    return next(known.trusted for known in TOPICS if known.name == topic)


@cache
def _readers(topic: str) -> tuple[str, ...]:
    return (*next(known.readers for known in TOPICS if known.name == topic), OUTSIDE)
