from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from oms_contracts.fulfillments import (
    AcceptFulfillment,
    FulfillmentAccepted,
    FulfillmentCanceled,
    FulfillmentCancellationRejected,
    FulfillmentCommandRefused,
    FulfillmentPlanned,
    FulfillmentShipped,
    ItemsPicked,
    PackagePacked,
    PackPackage,
    PickItems,
    ShipFulfillment,
)
from oms_contracts.message import decode, encode, type_of
from oms_contracts.order_parts import SealedData
from oms_contracts.sscc import check_digit, is_sscc
from oms_contracts.values import AllocatedLine, Package
from oms_fulfillment.commands import Command, Event, PlanFulfillments, StopFulfillments, WarehouseCommand
from oms_fulfillment.decider import INITIAL, Fulfillment, Order, decide, decide_for, due, evolve

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SEALED = SealedData(key_id="k", data="")
BER, HAM = "A/BER", "A/HAM"


def sscc(serial: int) -> str:
    digits = f"{340_123_450_000_000_00 + serial:017d}"
    return f"{digits}{check_digit(digits)}"


ONE, TWO, THREE = sscc(1), sscc(2), sscc(3)


def mugs(quantity: int, location: str = "BER") -> AllocatedLine:
    return AllocatedLine(line_id="1", sku="MUG", location=location, quantity=quantity)


def plates(quantity: int, location: str = "BER") -> AllocatedLine:
    return AllocatedLine(line_id="2", sku="PLATE", location=location, quantity=quantity)


def plan(*lines: AllocatedLine) -> PlanFulfillments:
    return PlanFulfillments(order_id="A", delivery="ship", sealed=SEALED, lines=lines)


def accept(fulfillment_id: str = BER) -> AcceptFulfillment:
    return AcceptFulfillment(order_id="A", fulfillment_id=fulfillment_id)


def pick(fulfillment_id: str = BER) -> PickItems:
    return PickItems(order_id="A", fulfillment_id=fulfillment_id)


def pack(package_id: str, *lines: AllocatedLine, fulfillment_id: str = BER) -> PackPackage:
    return PackPackage(order_id="A", fulfillment_id=fulfillment_id, package_id=package_id, lines=lines)


def ship(*numbers: str, carrier: str = "DHL", fulfillment_id: str = BER) -> ShipFulfillment:
    return ShipFulfillment(order_id="A", fulfillment_id=fulfillment_id, carrier=carrier, tracking_numbers=numbers)


def stop(requested_at: datetime = NOON) -> StopFulfillments:
    return StopFulfillments(order_id="A", reason="changed my mind", requested_at=requested_at)


def run(commands: Sequence[Command], order: Order = INITIAL) -> tuple[list[Event], Order]:
    """The events that follow from `commands`, and the order after them."""
    events: list[Event] = []
    for command in commands:
        new = decide(command, order, NOON)
        order = reduce(evolve, new, order)
        events += new
    return events, order


def after(*given: Command, when: Command) -> list[Event]:
    return decide(when, run(given)[1], NOON)


def refused(events: list[Event]) -> str:
    """The reason of the only event, a refusal."""
    (event,) = events
    assert isinstance(event, FulfillmentCommandRefused)
    return event.reason


PICKED = (plan(mugs(2), plates(1)), accept(), pick())
PACKED = (*PICKED, pack(ONE, mugs(1)), pack(TWO, mugs(1), plates(1)))
SHIPPED = (*PACKED, ship("N1", "N2"))


def test_each_location_is_asked_for_its_part_in_order():
    planned = after(when=plan(plates(1, "HAM"), mugs(2), mugs(1, "HAM")))
    assert planned == [
        FulfillmentPlanned(order_id="A", fulfillment_id=BER, location="BER", delivery="ship", sealed=SEALED, lines=(mugs(2),), at=NOON),
        FulfillmentPlanned(
            order_id="A",
            fulfillment_id=HAM,
            location="HAM",
            delivery="ship",
            sealed=SEALED,
            lines=(plates(1, "HAM"), mugs(1, "HAM")),
            at=NOON,
        ),
    ]


def test_a_fulfillment_is_accepted_picked_packed_and_shipped():
    events, _ = run(SHIPPED)
    assert events[1:] == [
        FulfillmentAccepted(order_id="A", fulfillment_id=BER, at=NOON),
        ItemsPicked(order_id="A", fulfillment_id=BER, at=NOON),
        PackagePacked(order_id="A", fulfillment_id=BER, package_id=ONE, lines=(mugs(1),), at=NOON),
        PackagePacked(order_id="A", fulfillment_id=BER, package_id=TWO, lines=(mugs(1), plates(1)), at=NOON),
        FulfillmentShipped(
            order_id="A",
            fulfillment_id=BER,
            location="BER",
            packages=(
                Package(package_id=ONE, carrier="DHL", tracking_number="N1", lines=(mugs(1),)),
                Package(package_id=TWO, carrier="DHL", tracking_number="N2", lines=(mugs(1), plates(1))),
            ),
            at=NOON,
        ),
    ]


def test_an_order_for_pickup_passes_through_the_same_steps():
    pickup = PlanFulfillments(order_id="A", delivery="pickup", lines=(mugs(1),))
    events, _ = run([pickup, accept(), pick(), pack(ONE, mugs(1)), ship("N1")])
    assert isinstance(events[-1], FulfillmentShipped)


@pytest.mark.parametrize("command", SHIPPED)
def test_a_command_that_had_its_effect_has_none_again_however_late(command: Command):
    assert after(*SHIPPED, when=command) == []


@pytest.mark.parametrize(
    ("given", "when", "reason"),
    [
        ((), accept(), "the fulfillment is not known"),
        (PICKED[:1], accept(HAM), "the fulfillment is not known"),
        (PICKED[:1], pick(), "the fulfillment is planned, not accepted"),
        (PICKED[:1], pack(ONE, mugs(1)), "the fulfillment is planned, not picked"),
        (PICKED[:2], pack(ONE, mugs(1)), "the fulfillment is accepted, not picked"),
        (PICKED, ship("N1"), "the fulfillment is picked, not packed"),
        (PACKED[:-1], ship("N1"), "the fulfillment is picked, not packed"),
        (PACKED, pack(THREE, mugs(1)), "the fulfillment is packed, not picked"),
        (SHIPPED, ship("N1", "N3"), "the fulfillment is shipped, not packed"),
        ((*PICKED, stop()), pack(ONE, mugs(1)), "the order is canceled"),
        ((*PACKED, stop()), ship("N1", "N2"), "the order is canceled"),
    ],
)
def test_a_command_that_does_not_fit_the_status_is_refused(given: tuple[Command, ...], when: Command, reason: str):
    assert refused(after(*given, when=when)) == reason


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        (
            pack("340123450000000010", mugs(1)),
            "package_id: '340123450000000010' is not an SSCC: 18 digits, the last the check digit of the others",
        ),
        (
            pack(ONE, mugs(2)),
            f"package_id: {ONE} is packed already, with other contents; lines: 2 of MUG for line 1, but 1 remain to be packed",
        ),
        (pack(TWO), "lines: a package is not empty"),
        (pack(TWO, mugs(0)), "lines.0.quantity: must be at least 1, is 0"),
        (pack(TWO, plates(1), mugs(-1)), "lines.1.quantity: must be at least 1, is -1"),
        (pack(TWO, plates(1, "HAM")), "lines.0.location: is HAM, the fulfillment's is BER"),
        (pack(TWO, plates(2)), "lines: 2 of PLATE for line 2, but 1 remain to be packed"),
        (pack(TWO, mugs(1), mugs(1)), "lines: 2 of MUG for line 1, but 1 remain to be packed"),
        (
            pack(TWO, AllocatedLine(line_id="2", sku="MUG", location="BER", quantity=1)),
            "lines: 1 of MUG for line 2, but 0 remain to be packed",
        ),
    ],
)
def test_an_invalid_package_is_refused(when: Command, reason: str):
    assert refused(after(*PICKED, pack(ONE, mugs(1)), when=when)) == reason


def test_a_package_id_belongs_to_one_fulfillment_of_the_order():
    given = (plan(mugs(1), mugs(1, "HAM")), accept(BER), pick(BER), pack(ONE, mugs(1)), accept(HAM), pick(HAM))
    again = pack(ONE, mugs(1, "HAM"), fulfillment_id=HAM)
    assert refused(after(*given, when=again)) == f"package_id: {ONE} is packed already, with other contents"


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        (ship("N1"), "tracking_numbers: 1 for 2 packages"),
        (ship("N1", "N2", "N3"), "tracking_numbers: 3 for 2 packages"),
        (ship("N1", " "), "tracking_numbers: must not be empty"),
        (ship("N1", "N1"), "tracking_numbers: each package has its own"),
        (ship("N1", "N2", carrier=""), "carrier: must not be empty"),
    ],
)
def test_an_invalid_shipment_is_refused(when: Command, reason: str):
    assert refused(after(*PACKED, when=when)) == reason


def test_the_same_refusal_is_not_repeated():
    assert after(*PICKED, ship("N1"), when=ship("N2")) == []


def test_a_package_may_be_packed_correctly_after_a_refusal():
    packed = after(*PICKED, pack(ONE, mugs(3)), when=pack(ONE, mugs(2)))
    assert packed == [PackagePacked(order_id="A", fulfillment_id=BER, package_id=ONE, lines=(mugs(2),), at=NOON)]


def test_an_order_of_which_nothing_has_shipped_is_canceled_whole():
    requested_at = NOON - timedelta(minutes=5)
    canceled = FulfillmentCanceled(order_id="A", reason="changed my mind", at=NOON, requested_at=requested_at)
    assert after(*PACKED, when=stop(requested_at)) == [canceled]


def test_an_order_of_which_anything_has_shipped_is_not_canceled():
    given = (plan(mugs(1), mugs(1, "HAM")), accept(BER), pick(BER), pack(ONE, mugs(1)), ship("N1"))
    rejected = FulfillmentCancellationRejected(order_id="A", reason="already shipped: A/BER", at=NOON, requested_at=NOON)
    assert after(*given, when=stop()) == [rejected]
    assert after(*given, stop(), when=accept(HAM)) == [FulfillmentAccepted(order_id="A", fulfillment_id=HAM, at=NOON)]


def test_a_rejected_cancellation_names_the_first_of_many_fulfillments_that_have_shipped():
    locations = [f"{'L' * 96}{number:04}" for number in range(200)]
    shipped = {f"A/{location}": Fulfillment(location=location, lines=(mugs(1, location),), status="shipped") for location in locations}
    [rejected] = decide(stop(), Order(fulfillments=shipped), NOON)
    assert isinstance(rejected, FulfillmentCancellationRejected)
    assert rejected.reason.startswith(f"already shipped: A/{locations[0]}, A/{locations[1]}, ")
    assert rejected.reason.endswith(" more")
    assert len(rejected.reason) < 2_100


def test_a_cancellation_request_is_decided_once_and_the_next_one_again():
    assert after(*SHIPPED, stop(), when=stop()) == []
    assert after(*PACKED, stop(), when=stop()) == []
    (event,) = after(*SHIPPED, stop(), when=stop(NOON + timedelta(minutes=5)))
    assert isinstance(event, FulfillmentCancellationRejected)


def test_a_canceled_order_is_not_planned_again():
    assert after(*PICKED, stop(), when=PICKED[0]) == []


def test_nothing_is_ever_due():
    assert due("A", run(PICKED)[1]) is None


def test_the_check_digit_is_that_of_the_gs1_general_specifications():
    assert check_digit("37610425002123456") == 9
    assert is_sscc("376104250021234569")


@pytest.mark.parametrize("text", ["", "37610425002123456", "376104250021234560", "0376104250021234569", "37610425002123456９", "A" * 18])
def test_a_text_that_is_not_an_sscc(text: str):
    assert not is_sscc(text)


@pytest.mark.parametrize("command", [accept(), pick(), pack(ONE, mugs(1)), ship("N1")])
def test_a_fulfillment_of_another_location_does_not_exist_for_a_warehouse(command: WarehouseCommand):
    _, order = run([plan(mugs(2), plates(1, "HAM"))])
    assert refused(decide_for("HAM", command, order, NOON)) == refused(decide_for("HAM", command, INITIAL, NOON))


def test_a_warehouse_accepts_its_own_fulfillment():
    _, order = run([plan(mugs(2), plates(1, "HAM"))])
    assert decide_for("BER", accept(), order, NOON) == decide(accept(), order, NOON) != []


LINES = (mugs(2), plates(2), mugs(2, "HAM"))
order_id = st.just("A")
ids = st.sampled_from([BER, HAM, "A/MUC"])
parts = st.lists(st.sampled_from([mugs(0), mugs(1), mugs(2), plates(1), plates(2), mugs(1, "HAM"), mugs(2, "HAM")]), max_size=2).map(tuple)
package_ids = st.sampled_from([ONE, TWO, THREE, "no SSCC"])
numbers = st.lists(st.sampled_from(["N1", "N2", ""]), max_size=3).map(tuple)
any_command: st.SearchStrategy[Command] = st.one_of(
    st.builds(AcceptFulfillment, order_id=order_id, fulfillment_id=ids),
    st.builds(PickItems, order_id=order_id, fulfillment_id=ids),
    st.builds(PackPackage, order_id=order_id, fulfillment_id=ids, package_id=package_ids, lines=parts),
    st.builds(ShipFulfillment, order_id=order_id, fulfillment_id=ids, carrier=st.just("DHL"), tracking_numbers=numbers),
    st.builds(stop, st.sampled_from([NOON, NOON + timedelta(hours=1)])),
)
happy_path: tuple[Command, ...] = (
    *(accept(), pick(), pack(ONE, mugs(2)), pack(TWO, plates(2)), ship("N1", "N2")),
    *(accept(HAM), pick(HAM), pack(THREE, mugs(2, "HAM"), fulfillment_id=HAM), ship("N3", fulfillment_id=HAM)),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Command]:
    """The happy path through both fulfillments, with steps left out and any commands inserted anywhere."""
    steps: list[Command] = [plan(*LINES)]
    for step in happy_path:
        steps += draw(st.lists(any_command, max_size=2))
        if draw(st.integers(0, 7)):
            steps.append(step)
    return steps


def units(lines: Sequence[AllocatedLine]) -> Counter[tuple[str, str, str]]:
    return sum((Counter({(x.line_id, x.sku, x.location): x.quantity}) for x in lines), Counter[tuple[str, str, str]]())


@for_all(histories())
@settings(deadline=None, max_examples=300)
def test_only_planned_units_are_packed_and_all_of_them_ship_once_or_not_at_all(history: list[Command]):
    events, _ = run(history)
    for fulfillment_id, location in ((BER, "BER"), (HAM, "HAM")):
        packed = [line for e in events if isinstance(e, PackagePacked) and e.fulfillment_id == fulfillment_id for line in e.lines]
        planned = [line for line in LINES if line.location == location]
        assert units(packed) <= units(planned)
        shipped = [e for e in events if isinstance(e, FulfillmentShipped) and e.fulfillment_id == fulfillment_id]
        assert len(shipped) <= 1
        for shipment in shipped:
            assert units([line for package in shipment.packages for line in package.lines]) == units(planned)


@for_all(histories())
@settings(deadline=None, max_examples=300)
def test_an_order_is_canceled_or_ships_never_both(history: list[Command]):
    events, _ = run(history)
    canceled = [i for i, e in enumerate(events) if isinstance(e, FulfillmentCanceled)]
    assert len(canceled) <= 1
    if canceled:
        assert not any(isinstance(e, FulfillmentShipped | FulfillmentCancellationRejected) for e in events)
        assert all(isinstance(e, FulfillmentCommandRefused) for e in events[canceled[0] + 1 :])


@for_all(histories(), st.data())
@settings(deadline=None, max_examples=300)
def test_repeated_commands_change_nothing(history: list[Command], data: st.DataObject):
    """A command that was carried out may come again at any later time; any other command may come again at once."""
    order = INITIAL
    effective: list[Command] = []
    for command in history:
        events = decide(command, order, NOON)
        order = reduce(evolve, events, order)
        assert decide(command, order, NOON) == []
        if events and not isinstance(events[0], FulfillmentCommandRefused):
            effective.append(command)
        if effective:
            assert decide(data.draw(st.sampled_from(effective)), order, NOON) == []


@for_all(histories())
@settings(deadline=None, max_examples=200)
def test_a_fulfillment_only_moves_forward(history: list[Command]):
    statuses = ["planned", "accepted", "picked", "packed", "shipped"]
    order, ranks = INITIAL, list[int]()
    for command in history:
        order = run([command], order)[1]
        ranks.append(statuses.index(order.fulfillments[BER].status))
    assert all(earlier <= later <= earlier + 1 for earlier, later in pairwise(ranks))


@for_all(histories())
@settings(deadline=None, max_examples=100)
def test_stored_states_and_events_give_the_same_state_again(history: list[Command]):
    events, order = run(history)
    assert msgspec.json.decode(msgspec.json.encode(order), type=Order) == order
    read = [decode(type_of(event).name, encode(event)) for event in events]
    assert reduce(evolve, read, INITIAL) == order
