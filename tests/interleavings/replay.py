"""One service again, on what it was given before, in any order that could have been."""

from collections.abc import Iterable, Iterator
from typing import Any

from oms_contracts.orders import CancelOrder, OrderCancellationRequested
from oms_contracts.stock import ReceiveStock, StockReservationExpired

from .outcome import timeless
from .system import AT_ONCE, Node, Schedule, Step, System

RACES = (CancelOrder, OrderCancellationRequested, StockReservationExpired, ReceiveStock)
"""A wish to cancel races what capture hears of the others; passed on, it races the warehouse. A reservation that expires races the payment.
The first goods race the first order."""


def replay(system: System, name: str, schedule: Schedule) -> Node:
    """The service `name`, fresh, after all that it was given in `system`: each topic in its order, else as the schedule says, with repeats.

    - Causality is kept. A record comes only after what its author had heard of this service, directly or through others; the provider's
      answer comes only after the event that says what was asked. Events are known again by what they say, whenever they say it.
    - Races are run as they were. A deadline that has passed, and each of RACES, stays behind all that came before it and ahead of all that
      came after, and is not repeated: a wish that was refused may be granted when it comes again.
    - What is due at once is done at once.

    Raises AssertionError when the service does not say again what others had acted on.
    """
    again = _Replay(system, name, schedule)
    for stretch in _stretches(system.logs[name]):
        again.play(stretch)
    return again.node


class _Replay:
    def __init__(self, system: System, name: str, schedule: Schedule) -> None:
        self.node = Node(system.nodes[name].service)
        self._name = name
        self._records = system.records
        self._schedule = schedule
        self._said: set[str] = set()
        self._given: dict[Any, list[Step]] = {}

    def play(self, stretch: Iterable[Step]) -> None:
        """Every step of a stretch, lane by lane."""
        lanes: dict[Any, list[Step]] = {}
        for step in stretch:
            lane = step.record.queue if step.record else step.request_id
            lanes.setdefault(lane, []).append(step)
        while lanes:
            missing = {lane: self._missing(steps[0]) for lane, steps in lanes.items()}
            ready = [lane for lane, events in missing.items() if not events]
            assert ready, f"{self._name} did not say again: {missing}"
            lane = ready[self._schedule.choose(len(ready))]
            step = lanes[lane].pop(0)
            self._give(step)
            lanes = {lane: steps for lane, steps in lanes.items() if steps}
            if not _is_race(step):
                self._given.setdefault(lane, []).append(step)
            if self._given and self._schedule.choose() >= 200:
                self._give_again()

    def _missing(self, step: Step) -> list[str]:
        needed = (record for record in self._records if step.needs >> record.number & 1 and record.author == self._name)
        return [said for record in needed if (said := _content(record.message)) not in self._said]

    def _give(self, step: Step) -> None:
        node = self.node
        events = [*(node.receive(step.command, step.at) if step.record else node.apply(step.command, step.at))]
        while (due := node.dues.get(step.subject)) and isinstance(due[1], AT_ONCE):
            events += node.apply(due[1], step.at)
        self._said.update(map(_content, events))

    def _give_again(self) -> None:
        lanes = list(self._given.values())
        steps = lanes[self._schedule.choose(len(lanes))]
        first = len(steps) - 1 - self._schedule.choose(len(steps))
        for step in steps[first : first + 1 + self._schedule.choose(4)]:
            self._give(step)


def _stretches(log: Iterable[Step]) -> Iterator[list[Step]]:
    """The log, cut so that each race stands alone."""
    stretch: list[Step] = []
    for step in log:
        if _is_race(step):
            yield stretch
            yield [step]
            stretch = []
        else:
            stretch.append(step)
    yield stretch


def _is_race(step: Step) -> bool:
    passed_deadline = step.record is None and step.request_id is None
    return passed_deadline or isinstance(step.command, RACES)


def _content(message: Any) -> str:
    return f"{type(message).__name__} {timeless(message)}"
