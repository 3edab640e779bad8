"""All services in one process: deciders and policies as they run, topics as lists, and a schedule that chooses each next step.

The simulation keeps the runtime's guarantees and no others:

- Order is kept within a topic's partition and nowhere else. A reader may have any checkpoint in each partition, and reads in batches.
- A deadline passes, and an outside effect is performed, on a state that may have changed before the outcome is recorded. Either may happen
  twice, or never be recorded, because a leader may die in between.
- A record that was read may come again at any later time. The runtime drops repeated records of our own services (a record that is not
  above the highest position applied), but external parties may send a message twice, and only the decider can recognise that. Here nothing
  is dropped: every decider must accept every repetition.
- A service's processes may run on machines whose clocks differ, and partitions move between them.
- A record that cannot be applied would become a dead letter. Here it fails the test.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
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
from oms_capture.decider import Terms as CaptureTerms
from oms_contracts.catalogue import PARTITIONS, SERVICES, TOPICS, topic_of
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import decode, encode, key_of, type_of, validate
from oms_contracts.orders import ENDED_STATUSES, OrderActionRequired
from oms_contracts.payments import WriteOffPayment
from oms_contracts.stock import QuarantineStock, ReceiveStock, TransferStock
from oms_demo.responses import make_responses
from oms_inventory.commands import PlanAllocation
from oms_inventory.reservations import Terms as InventoryTerms
from oms_inventory.reservations import UnknownSku
from oms_kafka.clients import partition_of
from oms_payment.commands import ResumeRefund
from oms_payment.decider import Terms as PaymentTerms
from oms_returns.decider import Terms as ReturnsTerms
from oms_runtime.model import Command, Due, Event, Service, State
from oms_runtime.sealing import KEY_BYTES, Sealer

from .recording_provider import RecordingProvider

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TICK = timedelta(milliseconds=1)
"""No two things happen at the same moment."""
MAX_STEPS = 5_000
"""Far more than any scenario takes. A run that needs more does not end."""
SKEWS = timedelta(0), timedelta(seconds=2), timedelta(seconds=-2)
"""How much the clocks of a service's processes, between which its partitions move, differ from the true time."""
EXTERNAL = "external"
"""The external parties: channel, warehouse, carrier, customers."""
DUE_WORK = "due work"
"""Where a reader is delayed with its deadlines, effects and messages, rather than with a topic."""
AT_ONCE = (PlanAllocation, ResumeRefund)
"""Commands that are due at once. Every other deadline is a race with the clock."""

MAY_FIT_LATER = (QuarantineStock, TransferStock)
"""Commands that are refused while the goods are not free, and do what they say when they come again once the goods are."""

Queue = tuple[str, int]
"""A topic's partition."""

Reaction = Callable[[Any], Iterable[Any]]
"""The commands that an external party publishes in response to an event."""


def writes_off(event: OrderActionRequired) -> Iterable[Any]:
    """An operator who gives up what could not be captured."""
    return [WriteOffPayment(order_id=event.order_id, reason="not worth it")] if event.action == "collect_payment" else []


class Schedule:
    """Chooses the next step. After its last number it always chooses the first step, so a shorter schedule is closer to the usual order.

    `delayed` are readers, each with a topic that it reads rarely, and only if there is nothing else to do. A service that is delayed with
    DUE_WORK is slow to perform what is due and to record it.
    """

    def __init__(self, numbers: bytes = b"", delayed: Sequence[tuple[str, str]] = ()) -> None:
        self._numbers = iter(numbers)
        self.delayed = frozenset(delayed)

    def choose(self, among: int = 256) -> int:
        """A number below `among`."""
        return next(self._numbers, 0) % among


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Record:
    """One record of a topic. `position` is its place among all records of `author`.

    `causes` are the records of the order that its author had received before, directly or through others (its causal history): a set, as
    bits by `number`.
    """

    number: int
    author: str
    position: int
    queue: Queue
    subject: str
    kind: type[Any]
    message: Any
    causes: int
    at: datetime


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """One input of a service: a record, the outcome of an effect, or the command of a deadline that has passed.

    `causes` are the records that must be published before, as in Record. Those of an effect's outcome are the events that requested it.
    """

    subject: str
    command: Any
    at: datetime
    causes: int
    record: Record | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class InFlight:
    """The outcome of a deadline or an effect that is performed and not recorded yet."""

    service: str
    key: str
    command: Command
    causes: int
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Hold:
    """`reader` reads no record of the class `held` before it has read one of the class `until`. This decides a race."""

    reader: str
    held: type[Any]
    until: type[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What external parties do. `messages` are sequences, each published in its order, at any time.

    `reactions` are added to the reactions of the simulators. `clock_steps` are the times that may pass while services still have work.
    `unknown_sku` is inventory's setting. `collects` is what an operator does about what could not be captured.
    """

    messages: tuple[tuple[Any, ...], ...]
    stock: ReceiveStock
    reactions: Mapping[type[Any], Reaction]
    holds: tuple[Hold, ...] = ()
    clock_steps: tuple[timedelta, ...]
    unknown_sku: UnknownSku = "accept"
    collects: Reaction = writes_off


class Node:
    """One service, as the runtime runs it without failures."""

    def __init__(self, service: Service) -> None:
        assert service.decider is not None
        self.service = service
        self.decider = service.decider
        self.handles = frozenset((*service.policies, *service.commands))
        self.states: dict[str, State] = {}
        self.dues: dict[str, Due] = {}

    def state(self, key: str) -> Any:
        """The state of a key after everything that was applied."""
        return self.states[key] if key in self.states else self.decider.initial(key)

    def apply(self, command: Command, now: datetime) -> Sequence[Event]:
        """Decide on the states that the command reads and no others, and fold the events."""
        states = {key: self.state(key) for key in self.decider.reads(command)}
        events = self.decider.decide(command, states, now)
        for event in events:
            keys = self.decider.writes(event)
            assert keys[0] in states, "a decision writes only a stream that it has read"
            for key in keys:
                state = self.states[key] = self.decider.evolve(self.state(key), event, key)
                due = self.decider.due(key, state)
                if due is not None:
                    self.dues[key] = due
                else:
                    self.dues.pop(key, None)
        return events

    def receive(self, message: Any, now: datetime) -> list[Event]:
        """Apply the commands that follow from a message."""
        return [event for command in self.service.commands_for(message) for event in self.apply(command, now)]


class System:
    """Services, topics and external parties on one clock. `runner` performs the outside effects."""

    def __init__(self, scenario: Scenario, schedule: Schedule, runner: asyncio.Runner) -> None:
        self.scenario = scenario
        self.provider = RecordingProvider()
        self.now = NOON
        self.nodes = {service.name: Node(service) for service in make_services(self.provider, scenario.unknown_sku)}
        self.records: list[Record] = []
        self.logs: dict[str, list[Step]] = {name: [] for name in self.nodes}
        self._schedule = schedule
        self._runner = runner
        self._reactions: dict[type[Any], list[Reaction]] = defaultdict(list)
        for cls, reaction in (*make_responses().items(), (OrderActionRequired, scenario.collects), *scenario.reactions.items()):
            self._reactions[cls].append(reaction)
        self._handles = {name: node.handles for name, node in self.nodes.items()} | {EXTERNAL: frozenset(self._reactions)}
        self._inboxes: dict[tuple[str, Queue], list[Record]] = {}
        self._checkpoints: dict[tuple[str, Queue], int] = {}
        self._published: dict[str, int] = defaultdict(int)
        self._causes: dict[tuple[str, str], int] = defaultdict(int)
        self._kinds_read: set[tuple[str, type[Any]]] = set()
        self._outgoing: list[deque[tuple[Any, int]]] = []
        self._skews: dict[str, timedelta] = defaultdict(timedelta)
        self._in_flight: list[InFlight] = []
        self._completed: list[InFlight] = []
        self._publish(EXTERNAL, scenario.stock, 0)
        for inbox in self._inboxes:
            self._read(*inbox, max_records=1)
        for messages in scenario.messages:
            self._outgoing.append(deque((message, 0) for message in messages))
            for message in messages:
                if isinstance(message, OrderPlaced):
                    held = sum(payment.amount for payment in message.payments if payment.status == "authorized")
                    self.provider.held_by_channels[key_of(message)] = held

    def run(self, check: Callable[[], None] = lambda: None) -> None:
        """Run until there is nothing left to do, now or later. `check` is called after each step."""
        for _ in range(MAX_STEPS):
            steps = self._steps()
            if not steps:
                if not self._advance_clock():
                    return
                continue
            number = self._schedule.choose()
            if number < 200:
                early = [step for step in steps if step[0] not in self._schedule.delayed] if number < 190 else steps
                _, step, *arguments = (early or steps)[number % len(early or steps)]
                step(*arguments)
            else:
                self._disturb(number)
            check()
        raise AssertionError("the run does not end")

    def redeliver_everything(self) -> list[Event]:
        """Deliver every input again but MAY_FIT_LATER, topic by topic, and return the events that follow."""
        events: list[Event] = []
        for (reader, _), records in self._inboxes.items():
            if reader in self.nodes:
                for record in records:
                    if not isinstance(record.message, MAY_FIT_LATER):
                        events += self.nodes[reader].receive(record.message, self._local_time(reader))
        for outcome in self._completed:
            events += self.nodes[outcome.service].apply(outcome.command, self._local_time(outcome.service))
        return events

    def published_by(self, author: str) -> Iterator[Any]:
        """Every message a service published, in order."""
        return (record.message for record in self.records if record.author == author)

    def _steps(self) -> list[tuple[Any, ...]]:
        """The steps that make progress: the reader with its topic or DUE_WORK, and the method to call with its arguments."""
        steps: list[tuple[Any, ...]] = [
            ((reader, queue[0]), self._read_batch, reader, queue)
            for (reader, queue), records in self._inboxes.items()
            if (checkpoint := self._checkpoints[reader, queue]) < len(records) and not self._is_held(reader, records[checkpoint])
        ]
        steps += [((outcome.service, DUE_WORK), self._complete, number) for number, outcome in enumerate(self._in_flight)]
        in_flight = {(outcome.service, outcome.key) for outcome in self._in_flight}
        steps += [
            ((name, DUE_WORK), self._perform_due, name, key)
            for name, node in self.nodes.items()
            for key in node.dues
            if self._is_due(name, key) and (name, key) not in in_flight
        ]
        steps += [((EXTERNAL, DUE_WORK), self._publish_next, messages) for messages in self._outgoing]
        return steps

    def _disturb(self, number: int) -> None:
        """What may happen at any time without progress: repeated records, lost outcomes, time that passes, a process with another clock."""
        match number % 6:
            case 0 | 1:
                self._redeliver()
            case 2:
                self.now += self.scenario.clock_steps[self._schedule.choose(len(self.scenario.clock_steps))]
            case 3 if self._in_flight:
                outcome = self._in_flight[self._schedule.choose(len(self._in_flight))]
                if self._schedule.choose(2):
                    self._in_flight.remove(outcome)
                elif self._is_due(outcome.service, outcome.key):
                    self._perform_due(outcome.service, outcome.key)
            case 4 if self._completed:
                self._record(self._completed[-1 - self._schedule.choose(len(self._completed))])
            case _:
                self._skews[SERVICES[self._schedule.choose(len(SERVICES))]] = SKEWS[self._schedule.choose(len(SKEWS))]

    def _advance_clock(self) -> bool:
        """Advance the clock to the next deadline; False if there is none. An order that has not ended always has a deadline."""
        capture = self.nodes["capture"]
        for order_id, order in capture.states.items():
            assert (order_id in capture.dues) == (order.status not in {"new", *ENDED_STATUSES})
        ats = [at for node in self.nodes.values() for at, _ in node.dues.values()]
        if ats:
            self.now = max(self.now, min(ats))
        return bool(ats)

    def _is_due(self, service: str, key: str) -> bool:
        due = self.nodes[service].dues.get(key)
        return due is not None and due[0] <= self.now

    def _local_time(self, service: str) -> datetime:
        self.now += TICK
        return self.now + self._skews[service]

    def _is_held(self, reader: str, record: Record) -> bool:
        return any(
            hold.reader == reader and record.kind is hold.held and (reader, hold.until) not in self._kinds_read
            for hold in self.scenario.holds
        )

    def _read_batch(self, reader: str, queue: Queue) -> None:
        self._read(reader, queue, max_records=1 + self._schedule.choose(4))

    def _read(self, reader: str, queue: Queue, max_records: int) -> None:
        inbox = self._inboxes[reader, queue]
        for record in inbox[self._checkpoints[reader, queue] :][:max_records]:
            if self._is_held(reader, record):
                return
            self._checkpoints[reader, queue] += 1
            self._kinds_read.add((reader, record.kind))
            causes = record.causes | 1 << record.number
            if reader == EXTERNAL:
                for reaction in self._reactions[record.kind]:
                    if messages := list(reaction(record.message)):
                        self._outgoing.append(deque((message, causes) for message in messages))
                continue
            self._causes[reader, record.subject] |= causes
            self._deliver(reader, record)

    def _deliver(self, reader: str, record: Record) -> None:
        now = self._local_time(reader)
        self.logs[reader].append(Step(subject=record.subject, command=record.message, at=now, causes=record.causes, record=record))
        self._publish_events(reader, record.subject, self.nodes[reader].receive(record.message, now))

    def _redeliver(self) -> None:
        """Deliver some records again that a service has read before, in their order."""
        read = [inbox for inbox, checkpoint in self._checkpoints.items() if checkpoint and inbox[0] in self.nodes]
        reader, queue = read[self._schedule.choose(len(read))]
        checkpoint = self._checkpoints[reader, queue]
        first = checkpoint - 1 - self._schedule.choose(checkpoint)
        for record in self._inboxes[reader, queue][first : min(checkpoint, first + 1 + self._schedule.choose(4))]:
            self._deliver(reader, record)

    def _perform_due(self, name: str, key: str) -> None:
        """Perform what is due, without recording it yet."""
        node = self.nodes[name]
        _, wanted = node.dues[key]
        effect = node.service.effects.get(wanted.__class__)
        if effect is None:
            self._in_flight.append(InFlight(name, key, wanted, 0, None))
            return
        try:
            command = self._runner.run(_perform(effect, wanted))
        except ConnectionError:
            return  # the outcome is unknown, so it stays due
        causes = sum(
            1 << record.number
            for record in self.records
            if record.author == name and getattr(record.message, "request_id", None) == wanted.request_id
        )
        self._in_flight.append(InFlight(name, key, command, causes, wanted.request_id))

    def _complete(self, number: int) -> None:
        outcome = self._in_flight.pop(number)
        self._completed.append(outcome)
        self._record(outcome)

    def _record(self, outcome: InFlight) -> None:
        now = self._local_time(outcome.service)
        if not isinstance(outcome.command, AT_ONCE):
            step = Step(subject=outcome.key, command=outcome.command, at=now, causes=outcome.causes, request_id=outcome.request_id)
            self.logs[outcome.service].append(step)
        self._publish_events(outcome.service, outcome.key, self.nodes[outcome.service].apply(outcome.command, now))

    def _publish_next(self, messages: deque[tuple[Any, int]]) -> None:
        self._publish(EXTERNAL, *messages.popleft())
        self._outgoing = [other for other in self._outgoing if other]

    def _publish_events(self, author: str, subject: str, events: Sequence[Event]) -> None:
        for event in events:
            self._publish(author, event, self._causes[author, subject])

    def _publish(self, author: str, message: Any, causes: int) -> None:
        key = key_of(message)
        topic = topic_of(message)
        self._published[author] += 1
        read = _as_consumed(topic, message)
        record = Record(
            number=len(self.records),
            author=author,
            position=self._published[author],
            queue=(topic, partition_of(key.encode(), PARTITIONS)),
            subject=getattr(message, "order_id", key),
            kind=read.__class__,
            message=read,
            causes=causes,
            at=self.now,
        )
        self.records.append(record)
        for reader in _readers(topic):
            if record.kind in self._handles.get(reader, ()):
                self._inboxes.setdefault((reader, record.queue), []).append(record)
                self._checkpoints.setdefault((reader, record.queue), 0)


def make_services(provider: RecordingProvider, unknown_sku: UnknownSku = "accept") -> tuple[Service, ...]:
    """The six services with streams, built as their `app.py` builds them."""
    return (
        oms_capture.app.make_service(CaptureTerms(), Sealer(bytes(KEY_BYTES))),
        oms_inventory.app.make_service(InventoryTerms(unknown_sku=unknown_sku)),
        oms_payment.app.make_service(PaymentTerms(), provider, timedelta(seconds=30)),
        oms_fulfillment.app.make_service(Sealer(bytes(KEY_BYTES))),
        oms_tracking.app.make_service(),
        oms_returns.app.make_service(ReturnsTerms()),
    )


def possible_delays() -> list[tuple[str, str]]:
    """Every reader with every topic it reads, and with DUE_WORK."""
    delays = [
        (service.name, topic.name) for service in make_services(RecordingProvider()) for topic in service.reads if topic.parties is None
    ]
    return [*delays, *((name, DUE_WORK) for name in (*SERVICES, EXTERNAL))]


async def _perform(effect: Callable[[Any], Awaitable[Any]], wanted: Any) -> Any:
    return await effect(wanted)


def _as_consumed(topic: str, message: Any) -> Any:
    """A message as a consumer decodes it from Kafka."""
    read = decode if _trusted(topic) else validate
    return read(type_of(message).name, encode(message))


@cache
def _trusted(topic: str) -> bool:
    return next(known.trusted for known in TOPICS if known.name == topic)


@cache
def _readers(topic: str) -> tuple[str, ...]:
    return (*next(known.readers for known in TOPICS if known.name == topic), EXTERNAL)
