"""What holds in whichever order tracking reads its three topics, and however often it reads a record."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise

import msgspec
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace
from oms_contracts.message import decode, encode, type_of
from oms_contracts.sscc import check_digit
from oms_contracts.tracking import LabelCreated, OrderStatusChanged, PackageDelivered, RecordScan, ScanRecorded
from oms_contracts.values import AllocatedLine, Package
from oms_tracking.commands import Command, Event, RecordActionRequired, RecordOrderStatus, RecordRelease, RecordShipment, ScanEvent
from oms_tracking.decider import INITIAL, RANKS, Order, decide, evolve

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NAMES = {"channel": "web", "channel_reference": "W1"}
STAGES = {
    **dict.fromkeys(("rejected", "accepted", "awaiting_customer", "awaiting_stock", "confirmed"), 1),
    **{"in_fulfillment": 2, "shipped": 3, "delivered": 4},
    **dict.fromkeys(("canceled", "expired", "completed"), 5),
}


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def sscc(serial: int) -> str:
    digits = f"{34012345000000000 + serial:017d}"
    return f"{digits}{check_digit(digits)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The commands about one order, by topic and in each topic's order, and the number of its packages."""

    orders: Sequence[Command]
    fulfillments: Sequence[Command]
    scans: Sequence[Command]
    packages: int


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    contents = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    orders = list[Command]()

    def becomes(status: str, attempt: int = 1) -> RecordOrderStatus:
        return RecordOrderStatus(order_id="A", status=status, detail=None, at=now(), attempt=attempt)

    def places(status: str, attempt: int) -> RecordOrderStatus:
        return replace(becomes(status, attempt), **NAMES, number="#1" if status == "accepted" else None)

    def asks(action: str, attempt: int) -> RecordActionRequired:
        return RecordActionRequired(order_id="A", action=action, reason="a reason", at=now(), attempt=attempt)

    def now() -> datetime:
        """The time by clocks that differ by up to a minute."""
        return minute(len(orders) + draw(st.integers(0, 1)))

    rejected = draw(st.sampled_from([0, 0, 0, 1, 2]))
    for attempt in range(1, rejected + 1):
        orders += [places("rejected", 0) for _ in range(draw(st.integers(0, 1)))]
        orders += [places("accepted", attempt), places("rejected", attempt)]
    orders += [places("rejected", 0) for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2])))]
    if orders and draw(st.booleans()):
        return Scenario(orders=orders, fulfillments=[], scans=[], packages=0)
    orders.append(places("accepted", rejected + 1))
    attempts = rejected + draw(st.integers(1, 3))
    if draw(st.booleans()):
        orders.append(asks("define_product", rejected + 1))
    for attempt in range(rejected + 1, attempts):
        if draw(st.booleans()):
            orders.append(asks("resolve_stock", attempt))
        orders.append(asks("amend_payment", attempt))
        orders.append(becomes("accepted", attempt + 1))
        if draw(st.booleans()):
            orders.append(asks("investigate", attempt + 1))
    if draw(st.booleans()):
        orders.append(asks("resolve_stock", attempts))
    end = draw(st.sampled_from(["canceled", "expired", "no stock", "canceled after release", None, None, None, None]))
    if end in {"canceled", "expired"}:
        return Scenario(orders=[*orders, becomes(end)], fulfillments=[], scans=[], packages=0)
    orders.append(becomes("confirmed"))
    if end == "no stock":
        orders.append(asks("resolve_stock", attempts))
        orders.append(becomes("expired"))
        return Scenario(orders=orders, fulfillments=[], scans=[], packages=0)
    lines = (AllocatedLine(line_id="1", sku="MUG", location="BER", quantity=sum(contents)),)
    orders.append(RecordRelease(order_id="A", lines=lines, at=minute(len(orders))))
    if end == "canceled after release":
        return Scenario(orders=[*orders, becomes("canceled")], fulfillments=[], scans=[], packages=0)
    if draw(st.booleans()):
        orders.append(asks("check_delivery", attempts))
    orders.append(becomes("completed"))
    return Scenario(
        orders=orders,
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
    """The deliveries of all packages, or of some."""
    return [
        RecordScan(order_id="A", package_id=sscc(number), scan_id=f"last-{number}", status="delivered", at=minute(200 + number))
        for number in range(missing if missing < packages else 0, packages)
    ]


class Run:
    """Tracking reading about one order, record by record."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.queues = [list(scenario.orders), list(scenario.fulfillments), list(scenario.scans)]
        self.read = list[Command]()
        self.events = list[Event]()
        self.order: Order = INITIAL

    def ready(self) -> list[list[Command]]:
        """The topics with records left. Capture completes an order only after tracking has published all its deliveries."""
        return [queue for queue in self.queues if queue and (not _completes(queue[0]) or self.all_delivered())]

    def all_delivered(self) -> bool:
        return sum(isinstance(event, PackageDelivered) for event in self.events) == self.scenario.packages

    def read_next(self, queue: list[Command]) -> None:
        command = queue.pop(0)
        new = decide(command, self.order, minute(400))
        self.order = reduce(evolve, new, self.order)
        self.events += new
        self.read.append(command)

    def outcome(self) -> tuple[list[Event], dict[str, str | None]]:
        """All that customers and downstream systems see but how far the packages were by then, and the last status of each package."""
        public: list[Event] = [replace(event, packages=()) for event in self.events if isinstance(event, OrderStatusChanged)]
        return public, {package: parcel.status for package, parcel in self.order.parcels.items()}


def _completes(command: Command) -> bool:
    return isinstance(command, RecordOrderStatus) and command.status == "completed"


def _through(
    scenario: Scenario, choose: Callable[[list[list[Command]]], list[Command]], then: Callable[[Run], None] = lambda _: None
) -> Run:
    run = Run(scenario)
    while ready := run.ready():
        run.read_next(choose(ready))
        then(run)
    return run


@for_all(scenarios(), st.data())
@settings(deadline=None, max_examples=400)
def test_every_interleaving_of_topics_publishes_the_same_statuses_in_the_same_order(scenario: Scenario, data: st.DataObject):
    in_order = _through(scenario, lambda ready: ready[0])
    mixed = _through(scenario, lambda ready: data.draw(st.sampled_from(ready)))
    assert mixed.outcome() == in_order.outcome()


@for_all(scenarios(), st.data())
@settings(deadline=None, max_examples=300)
def test_a_record_that_comes_again_has_no_effect(scenario: Scenario, data: st.DataObject):
    def read_again(run: Run) -> None:
        assert decide(data.draw(st.sampled_from(run.read)), run.order, minute(400)) == []
        assert decide(run.read[-1], run.order, minute(400)) == []

    _through(scenario, lambda ready: data.draw(st.sampled_from(ready)), read_again)


@for_all(scenarios(), st.data())
@settings(deadline=None, max_examples=300)
def test_the_sequence_has_no_gap_and_the_status_never_falls_back(scenario: Scenario, data: st.DataObject):
    run = _through(scenario, lambda ready: data.draw(st.sampled_from(ready)))
    changes = [event for event in run.events if isinstance(event, OrderStatusChanged)]
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    assert [change.previous for change in changes] == [None, *(change.status for change in changes[:-1])]
    assert all(earlier.status != later.status for earlier, later in pairwise(changes))
    stages = [STAGES[change.status] for change in changes]
    assert stages == sorted(stages)
    assert {change.previous for change in changes if change.status == "rejected"} <= {None, "accepted"}


@for_all(scenarios(), st.data())
@settings(deadline=None, max_examples=300)
def test_every_change_says_how_the_order_is_called_and_from_shipped_on_which_packages_it_has(scenario: Scenario, data: st.DataObject):
    run = _through(scenario, lambda ready: data.draw(st.sampled_from(ready)))
    numbers = {f"N{number}" for number in range(scenario.packages)}
    number = None
    for change in (event for event in run.events if isinstance(event, OrderStatusChanged)):
        number = "#1" if change.status == "accepted" else number
        assert (change.channel, change.channel_reference, change.number) == ("web", "W1", number)
        told = {package.tracking_number for package in change.packages}
        assert len(told) == len(change.packages)
        if STAGES[change.status] < STAGES["shipped"] or change.status in {"canceled", "expired"}:
            assert not told
        elif change.status == "shipped":
            assert told
        else:
            assert told == numbers
            assert {package.status for package in change.packages} == {"delivered"}


@for_all(scenarios(), st.data())
@settings(deadline=None, max_examples=300)
def test_a_package_is_labeled_once_delivered_at_most_once_and_has_the_status_of_its_highest_scan(scenario: Scenario, data: st.DataObject):
    run = _through(scenario, lambda ready: data.draw(st.sampled_from(ready)))
    for package_id, parcel in run.order.parcels.items():
        own = [event for event in run.events if getattr(event, "package_id", None) == package_id]
        assert sum(isinstance(event, LabelCreated) for event in own) == 1
        delivered = [event for event in own if isinstance(event, PackageDelivered)]
        assert len(delivered) == (parcel.status == "delivered")
        seen = [s.status for s in scenario.scans if isinstance(s, RecordScan) and s.package_id == package_id]
        assert parcel.status == max(seen, key=lambda status: RANKS[status], default="label_created")


@for_all(scenarios(), st.data())
@settings(deadline=None, max_examples=200)
def test_every_scan_is_published_once_or_held_and_then_takes_effect(scenario: Scenario, data: st.DataObject):
    run = _through(scenario, lambda ready: data.draw(st.sampled_from(ready)))
    scans = [s.scan_id for s in scenario.scans if isinstance(s, RecordScan)]
    recorded = [event.scan_id for event in run.events if isinstance(event, ScanRecorded)]
    assert len(set(recorded)) == len(recorded)
    effective = [event.scan_id for event in run.events if isinstance(event, ScanEvent)]
    assert len(set(effective)) == len(effective)
    assert {*recorded, *effective} == set(scans)


@for_all(scenarios(), st.data())
@settings(deadline=None, max_examples=100)
def test_stored_states_and_events_give_the_state_again(scenario: Scenario, data: st.DataObject):
    run = _through(scenario, lambda ready: data.draw(st.sampled_from(ready)))
    assert msgspec.json.decode(msgspec.json.encode(run.order), type=Order) == run.order
    read = [decode(type_of(event).name, encode(event)) for event in run.events]
    assert reduce(evolve, read, INITIAL) == run.order
