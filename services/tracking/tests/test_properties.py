"""What holds whichever of its three topics tracking hears first, and however often it hears it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise

import msgspec
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from oms_contracts.message import decode, encode, type_of
from oms_contracts.sscc import check_digit
from oms_contracts.tracking import LabelCreated, OrderStatusChanged, PackageDelivered, RecordScan, ScanRecorded
from oms_contracts.values import AllocatedLine, Package
from oms_tracking.commands import Command, Event, RecordActionRequired, RecordOrderStatus, RecordRelease, RecordShipment, ScanEvent
from oms_tracking.decider import INITIAL, RANKS, Order, decide, evolve

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
STANDING = {
    **dict.fromkeys(("accepted", "awaiting_customer", "confirmed"), 1),
    **{"in_fulfillment": 2, "shipped": 3, "delivered": 4},
    **dict.fromkeys(("rejected", "canceled", "expired", "completed"), 5),
}


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def sscc(serial: int) -> str:
    digits = f"{34012345000000000 + serial:017d}"
    return f"{digits}{check_digit(digits)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the three topics hold of one order, each in its order, and the packages there are."""

    orders: Sequence[Command]
    fulfillments: Sequence[Command]
    scans: Sequence[Command]
    packages: int


@st.composite
def worlds(draw: st.DrawFn) -> World:
    contents = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    story = list[Command]()

    def told(status: str, attempt: int = 1) -> RecordOrderStatus:
        return RecordOrderStatus(order_id="A", status=status, detail=None, at=now(), attempt=attempt)

    def asked(action: str, attempt: int) -> RecordActionRequired:
        return RecordActionRequired(order_id="A", action=action, reason="a reason", at=now(), attempt=attempt)

    def now() -> datetime:
        """By clocks that differ by up to a minute."""
        return minute(len(story) + draw(st.integers(0, 1)))

    if draw(st.integers(0, 9)) == 0:
        return World(orders=[told("rejected")], fulfillments=[], scans=[], packages=0)
    story.append(told("accepted"))
    attempts = draw(st.integers(1, 3))
    for attempt in range(1, attempts):
        story.append(asked("amend_payment", attempt))
        story.append(told("accepted", attempt + 1))
        if draw(st.booleans()):
            story.append(asked("investigate", attempt + 1))
    end = draw(st.sampled_from(["canceled", "expired", "no stock", "stopped", None, None, None, None]))
    if end in {"canceled", "expired"}:
        return World(orders=[*story, told(end)], fulfillments=[], scans=[], packages=0)
    story.append(told("confirmed"))
    if end == "no stock":
        story.append(asked("resolve_stock", attempts))
        story.append(told("expired"))
        return World(orders=story, fulfillments=[], scans=[], packages=0)
    lines = (AllocatedLine(line_id="1", sku="MUG", location="BER", quantity=sum(contents)),)
    story.append(RecordRelease(order_id="A", lines=lines, at=minute(len(story))))
    if end == "stopped":
        return World(orders=[*story, told("canceled")], fulfillments=[], scans=[], packages=0)
    if draw(st.booleans()):
        story.append(asked("check_delivery", attempts))
    story.append(told("completed"))
    return World(
        orders=story,
        fulfillments=_shipments(contents, draw(st.integers(1, len(contents)))),
        scans=draw(st.lists(_scans(len(contents)), max_size=10))
        + draw(st.permutations(_deliveries(len(contents), draw(st.integers(0, 3))))),
        packages=len(contents),
    )


def _shipments(contents: Sequence[int], first: int) -> list[Command]:
    packages = [
        Package(
            package_id=sscc(number),
            carrier="DHL",
            tracking_number=f"N{number}",
            lines=(AllocatedLine(line_id="1", sku="MUG", location="BER", quantity=units),),
        )
        for number, units in enumerate(contents)
    ]
    return [
        RecordShipment(order_id="A", fulfillment_id=f"A/{index}", packages=tuple(part), at=minute(100 + index))
        for index, part in enumerate((packages[:first], packages[first:]))
        if part
    ]


def _scans(packages: int) -> st.SearchStrategy[RecordScan]:
    return st.builds(
        RecordScan,
        order_id=st.just("A"),
        package_id=st.integers(0, packages - 1).map(sscc),
        scan_id=st.uuids(version=4).map(str),
        status=st.sampled_from(sorted(RANKS)),
        at=st.integers(100, 300).map(minute),
        reason=st.just(""),
    )


def _deliveries(packages: int, missing: int) -> list[RecordScan]:
    """The carrier's last word on all packages, or on some."""
    return [
        RecordScan(order_id="A", package_id=sscc(number), scan_id=f"last-{number}", status="delivered", at=minute(200 + number))
        for number in range(missing if missing < packages else 0, packages)
    ]


class Run:
    """Tracking hearing of one order, record by record."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.queues = [list(world.orders), list(world.fulfillments), list(world.scans)]
        self.heard = list[Command]()
        self.events = list[Event]()
        self.order: Order = INITIAL

    def ready(self) -> list[list[Command]]:
        """The topics that have more. Capture completes an order only after tracking has published all its deliveries."""
        return [queue for queue in self.queues if queue and (not _completes(queue[0]) or self.all_delivered())]

    def all_delivered(self) -> bool:
        return sum(isinstance(event, PackageDelivered) for event in self.events) == self.world.packages

    def hear(self, queue: list[Command]) -> None:
        command = queue.pop(0)
        new = decide(command, self.order, minute(400))
        self.order = reduce(evolve, new, self.order)
        self.events += new
        self.heard.append(command)

    def outcome(self) -> tuple[list[Event], dict[str, str | None]]:
        """All that customers and downstream systems see, and where each package ended."""
        public: list[Event] = [event for event in self.events if isinstance(event, OrderStatusChanged)]
        return public, {package: parcel.status for package, parcel in self.order.parcels.items()}


def _completes(command: Command) -> bool:
    return isinstance(command, RecordOrderStatus) and command.status == "completed"


def _through(world: World, choose: Callable[[list[list[Command]]], list[Command]], then: Callable[[Run], None] = lambda _: None) -> Run:
    run = Run(world)
    while ready := run.ready():
        run.hear(choose(ready))
        then(run)
    return run


@for_all(worlds(), st.data())
@settings(deadline=None, max_examples=400)
def test_whichever_topic_is_ahead_customers_are_told_the_same_in_the_same_order(world: World, data: st.DataObject):
    in_order = _through(world, lambda ready: ready[0])
    mixed = _through(world, lambda ready: data.draw(st.sampled_from(ready)))
    assert mixed.outcome() == in_order.outcome()


@for_all(worlds(), st.data())
@settings(deadline=None, max_examples=300)
def test_whatever_was_heard_may_be_heard_again(world: World, data: st.DataObject):
    def hear_again(run: Run) -> None:
        assert decide(data.draw(st.sampled_from(run.heard)), run.order, minute(400)) == []
        assert decide(run.heard[-1], run.order, minute(400)) == []

    _through(world, lambda ready: data.draw(st.sampled_from(ready)), hear_again)


@for_all(worlds(), st.data())
@settings(deadline=None, max_examples=300)
def test_the_sequence_has_no_gap_and_the_status_never_falls_back(world: World, data: st.DataObject):
    run = _through(world, lambda ready: data.draw(st.sampled_from(ready)))
    changes = [event for event in run.events if isinstance(event, OrderStatusChanged)]
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    assert [change.previous for change in changes] == [None, *(change.status for change in changes[:-1])]
    assert all(earlier.status != later.status for earlier, later in pairwise(changes))
    standing = [STANDING[change.status] for change in changes]
    assert standing == sorted(standing)


@for_all(worlds(), st.data())
@settings(deadline=None, max_examples=300)
def test_a_package_is_labelled_once_delivered_at_most_once_and_stands_where_its_highest_scan_put_it(world: World, data: st.DataObject):
    run = _through(world, lambda ready: data.draw(st.sampled_from(ready)))
    for package_id, parcel in run.order.parcels.items():
        own = [event for event in run.events if getattr(event, "package_id", None) == package_id]
        assert sum(isinstance(event, LabelCreated) for event in own) == 1
        delivered = [event for event in own if isinstance(event, PackageDelivered)]
        assert len(delivered) == (parcel.status == "delivered")
        seen = [s.status for s in world.scans if isinstance(s, RecordScan) and s.package_id == package_id]
        assert parcel.status == max(seen, key=lambda status: RANKS[status], default="label_created")


@for_all(worlds(), st.data())
@settings(deadline=None, max_examples=200)
def test_every_scan_is_told_of_exactly_once_or_held_and_then_carried_out(world: World, data: st.DataObject):
    run = _through(world, lambda ready: data.draw(st.sampled_from(ready)))
    scans = [s.scan_id for s in world.scans if isinstance(s, RecordScan)]
    recorded = [event.scan_id for event in run.events if isinstance(event, ScanRecorded)]
    assert len(set(recorded)) == len(recorded)
    moving = [event.scan_id for event in run.events if isinstance(event, ScanEvent)]
    assert len(set(moving)) == len(moving)
    assert {*recorded, *moving} == set(scans)


@for_all(worlds(), st.data())
@settings(deadline=None, max_examples=100)
def test_what_is_stored_gives_the_state_again(world: World, data: st.DataObject):
    run = _through(world, lambda ready: data.draw(st.sampled_from(ready)))
    assert msgspec.json.decode(msgspec.json.encode(run.order), type=Order) == run.order
    read = [decode(type_of(event).name, encode(event)) for event in run.events]
    assert reduce(evolve, read, INITIAL) == run.order
