"""Replay one service on the inputs of an earlier run, in another causally possible order."""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace
from oms_contracts.orders import CancelOrder, OrderCancellationRequested
from oms_contracts.payments import PaymentAuthorized, PaymentCaptured, PaymentWrittenOff, PayOutstanding, RetryCapture, WriteOffPayment
from oms_contracts.products import DefineProduct
from oms_contracts.stock import (
    AdjustStock,
    CountStock,
    QuarantineStock,
    ReceiveStock,
    ReceiveTransfer,
    ReleaseQuarantine,
    StockReservationExpired,
    TransferStock,
)

from .outcome import without_times
from .system import AT_ONCE, Node, Schedule, Step, System

COLLECTIONS = (RetryCapture, PayOutstanding, WriteOffPayment)
RACES = (
    *(CancelOrder, OrderCancellationRequested, StockReservationExpired, ReceiveStock, DefineProduct, *COLLECTIONS),
    *(AdjustStock, CountStock, QuarantineStock, ReleaseQuarantine, TransferStock, ReceiveTransfer),
)
"""Messages whose order relative to others decides the outcome. A cancellation races the other events that capture reads, and then the
warehouse. What a person does about money races the captures of other shipments. A reservation that expires races the payment. The first
receipt races the first order, and a product the orders that name it. What is booked of stock depends on what is there."""


def replay(system: System, name: str, schedule: Schedule) -> Node:
    """A new node of the service `name` after every input it had in `system`: each topic in order, otherwise as scheduled, with repetitions.

    - Causality is kept. A record comes only after the events of this service that its author had received, directly or through others. The
      provider's response comes only after the event that requested it. Events are compared by content, without points in time.
    - Races keep their order. A deadline that has passed, and each of RACES, stays after everything that came before it, and before
      everything that came after it. It is not repeated, because a command that was refused may be accepted when it comes again.
    - What is due at once is performed at once.

    Raises AssertionError if the service does not publish again an event that another party had received.
    """
    replayed = _Replay(system, name, schedule)
    for segment in _segments(system.logs[name]):
        replayed.run(segment)
    return replayed.node


class _Replay:
    def __init__(self, system: System, name: str, schedule: Schedule) -> None:
        self.node = Node(system.nodes[name].service)
        self._name = name
        self._records = system.records
        self._schedule = schedule
        self._published: set[str] = set()
        self._delivered: dict[Any, list[Step]] = {}

    def run(self, segment: Iterable[Step]) -> None:
        """Deliver every step of a segment. A lane is a partition, or a request to the provider."""
        lanes: dict[Any, list[Step]] = {}
        for step in segment:
            lane = step.record.queue if step.record else step.request_id
            lanes.setdefault(lane, []).append(step)
        while lanes:
            missing = {lane: self._missing(steps[0]) for lane, steps in lanes.items()}
            ready = [lane for lane, events in missing.items() if not events]
            assert ready, f"{self._name} did not publish again: {missing}"
            lane = ready[self._schedule.choose(len(ready))]
            step = lanes[lane].pop(0)
            self._deliver(step)
            lanes = {lane: steps for lane, steps in lanes.items() if steps}
            if not _is_race(step):
                self._delivered.setdefault(lane, []).append(step)
            if self._delivered and self._schedule.choose() >= 200:
                self._redeliver()

    def _missing(self, step: Step) -> list[str]:
        required = (record for record in self._records if step.causes >> record.number & 1 and record.author == self._name)
        return [content for record in required if (content := _content(record.message)) not in self._published]

    def _deliver(self, step: Step) -> None:
        node = self.node
        events = [*(node.receive(step.command, step.at) if step.record else node.apply(step.command, step.at))]
        while at_once := next((command for _, command in node.dues.values() if isinstance(command, AT_ONCE)), None):
            events += node.apply(at_once, step.at)
        self._published.update(map(_content, events))

    def _redeliver(self) -> None:
        lanes = list(self._delivered.values())
        steps = lanes[self._schedule.choose(len(lanes))]
        first = len(steps) - 1 - self._schedule.choose(len(steps))
        for step in steps[first : first + 1 + self._schedule.choose(4)]:
            self._deliver(step)


def _segments(log: Iterable[Step]) -> Iterator[list[Step]]:
    """The log, split so that each race is a segment of its own."""
    segment: list[Step] = []
    for step in log:
        if _is_race(step):
            yield segment
            yield [step]
            segment = []
        else:
            segment.append(step)
    yield segment


def _is_race(step: Step) -> bool:
    passed_deadline = step.record is None and step.request_id is None
    return passed_deadline or isinstance(step.command, RACES)


def _content(message: Any) -> str:
    if isinstance(message, PaymentAuthorized | PaymentCaptured | PaymentWrittenOff):
        message = replace(message, outstanding=0)  # what else is missing depends on which response of the provider came first
    return f"{type(message).__name__} {without_times(message)}"
