"""What holds for every order, whichever commands come and in whichever order."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any, cast, get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from oms_capture.commands import (
    Command,
    Event,
    PlaceOrder,
    RecordAllocation,
    RecordAuthorization,
    RecordCancellationRejected,
    RecordDecline,
    RecordDelivery,
    RecordDeliveryTrouble,
    RecordFulfillmentCanceled,
    RecordOutstanding,
    RecordPayment,
    RecordReservation,
    RecordReservationExpiry,
    RecordShortage,
    RecordUnknownSkus,
)
from oms_capture.decider import INITIAL, MAX_CONFLICTS, MAX_REJECTIONS, Order, Terms, decide_order, due, evolve
from oms_capture.policies import POLICIES
from oms_contracts.channel import OrderPlaced
from oms_contracts.content_hash import content_hash_of
from oms_contracts.fulfillments import FulfillmentCancellationRejected
from oms_contracts.message import encode, key_of
from oms_contracts.order_parts import LineItem, OrderPayment
from oms_contracts.orders import (
    ENDED_STATUSES,
    AmendPayment,
    CancelOrder,
    ExtendWait,
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderCancellationRequested,
    OrderCommandRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderConflictReported,
    OrderExpired,
    OrderPaid,
    OrderPaymentAmended,
    OrderRejected,
    OrderReleased,
    OrderReserved,
)
from oms_contracts.payments import PaymentAuthorized, PaymentCaptured, PaymentCollectionRequired, PaymentDeclined, PaymentWrittenOff
from oms_contracts.stock import StockAllocated, StockReservationExpired, StockReserved
from oms_contracts.tracking import PackageDelivered, PackageLost
from oms_contracts.values import AllocatedLine, Customer, PaymentMethod, Shortage

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TERMS = Terms()
CARD, OTHER_CARD = (PaymentMethod(kind="card", token=name) for name in ("first", "second"))
PLACED = OrderPlaced(
    channel="web",
    channel_reference="W1",
    placed_at=NOON,
    customer=Customer(id="ada"),
    currency="EUR",
    lines=(LineItem(line_id="A", sku="mug", quantity=3, unit_price=500, total=1_500),),
    total=1_500,
    payments=(OrderPayment(id="1", kind=CARD.kind, amount=1_500, token=CARD.token),),
    delivery="pickup",
)
ID = key_of(PLACED)
GARBAGE = replace(PLACED, currency="DM")
LATER = replace(PLACED, customer=Customer(id="eve"))
ENDS = (OrderCanceled, OrderExpired, OrderCompleted)
AFTER_END = (OrderConflictReported, OrderCommandRefused)
"""The only events of an order that has ended. One that was rejected may be accepted or rejected again."""
AFTER_REJECTION = (OrderAccepted, OrderRejected, OrderCommandRefused)


def units(quantity: int) -> tuple[AllocatedLine, ...]:
    return (AllocatedLine(line_id="A", sku="mug", location="BER", quantity=quantity),)


# Any history


@dataclass(frozen=True)
class PassDeadline:
    """The next deadline passes."""


attempts = {"order_id": st.just(ID), "attempt": st.sampled_from([1, 1, 1, 2, 2, 3])}
commands = st.one_of(
    st.builds(RecordReservation, **attempts),
    st.builds(RecordAuthorization, **attempts),
    st.builds(RecordDecline, reason=st.just("no"), **attempts),
    st.builds(RecordReservationExpiry, **attempts),
    st.builds(
        RecordShortage,
        shortages=st.just((Shortage(sku="mug", requested=3, available=0),)),
        confirmed=st.sampled_from([None, False, True]),
        **attempts,
    ),
    st.builds(RecordUnknownSkus, unknown_skus=st.just(("mug",)), held=st.booleans(), **attempts),
    st.just(RecordAllocation(order_id=ID, lines=units(3))),
    st.builds(RecordDelivery, order_id=st.just(ID), package_id=st.sampled_from("pqr"), lines=st.just(units(1))),
    st.builds(
        RecordPayment,
        order_id=st.just(ID),
        fulfillment_id=st.sampled_from("pqr"),
        units=st.sampled_from([1, 1, None]),
        outstanding=st.sampled_from([0, 0, 5]),
    ),
    st.builds(
        RecordOutstanding, order_id=st.just(ID), reason=st.just("no funds"), deadline=st.sampled_from([NOON, NOON + timedelta(days=9)])
    ),
    st.builds(RecordDeliveryTrouble, order_id=st.just(ID), reason=st.sampled_from(["p is lost", "q is lost"])),
    st.just(CancelOrder(order_id=ID, reason="changed my mind")),
    st.builds(AmendPayment, order_id=st.just(ID), payment=st.sampled_from([CARD, OTHER_CARD])),
    st.builds(ExtendWait, order_id=st.just(ID), until=st.sampled_from([NOON + timedelta(days=days) for days in (1, 9, 99)])),
    st.just(RecordFulfillmentCanceled(order_id=ID, requested_at=NOON)),
    st.just(RecordCancellationRejected(order_id=ID, reason="already shipped", requested_at=NOON)),
    st.builds(PlaceOrder, order_id=st.just(ID), content_hash=st.sampled_from("hij"), placed=st.just(PLACED)),
    st.builds(PlaceOrder, order_id=st.just(ID), content_hash=st.sampled_from("xyz"), placed=st.just(GARBAGE)),
    st.just(PassDeadline()),
)
USUAL: tuple[Command, ...] = (
    PlaceOrder(order_id=ID, content_hash="h", placed=PLACED),
    RecordReservation(order_id=ID, attempt=1),
    RecordAuthorization(order_id=ID, attempt=1),
    RecordAllocation(order_id=ID, lines=units(3)),
)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(USUAL)), st.lists(commands, max_size=30))
def test_every_order_ends_once_or_waits_for_a_deadline(begun: int, history: list[Command | PassDeadline]):
    order, now, ends, accepted = INITIAL, NOON, 0, 0
    for drawn in [*USUAL[:begun], *history]:
        command: Command | PassDeadline | None = drawn
        if isinstance(drawn, PassDeadline):
            now, command = due(ID, order, TERMS) or (now, None)
        if command is None or isinstance(command, PassDeadline):
            continue
        before = order
        events = decide_order(command, order, now, TERMS)
        order = reduce(evolve, events, order)

        ends += sum(isinstance(event, ENDS) for event in events)
        accepted += sum(isinstance(event, OrderAccepted) for event in events)
        accepted -= sum(isinstance(event, OrderRejected) and event.attempt is not None for event in events)
        assert ends == (order.status in ENDED_STATUSES - {"rejected"})
        assert accepted == (order.status not in {"new", "rejected"})
        if before.status == "rejected":
            assert all(isinstance(event, AFTER_REJECTION) for event in events)
        elif before.status in ENDED_STATUSES:
            assert all(isinstance(event, AFTER_END) for event in events)
            assert order.status == before.status
        if any(isinstance(event, OrderCompleted) for event in events):
            assert not before.collects or sum(order_paid(before, events).values()) >= 3, "what shipped is paid or written off"
        assert (due(ID, order, TERMS) is None) == (order.status in {"new", *ENDED_STATUSES})
        assert decide_order(command, order, now, TERMS) == []
        assert msgspec.json.decode(encode(order), type=Order) == order


def order_paid(before: Order, events: list[Event]) -> dict[str, int]:
    return before.paid | {event.fulfillment_id: event.units for event in events if isinstance(event, OrderPaid)}


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_one_valid_order_among_any_garbage_under_its_reference_is_accepted_exactly_once(data: st.DataObject):
    """The garbage differs each time, or comes again, and may be far more than is remembered. The valid order may come again too."""
    numbers = data.draw(st.lists(st.integers(1, 2 * MAX_REJECTIONS), max_size=20))
    if data.draw(st.booleans()):
        numbers += range(1, MAX_REJECTIONS + data.draw(st.integers(-1, 30)))
    contents = [replace(PLACED, total=-number) for number in numbers] + [PLACED] * data.draw(st.integers(1, 3))
    order, events = INITIAL, list[Event]()
    for placed in data.draw(st.permutations(contents)):
        new = handle(placed, order)
        order = reduce(evolve, new, order)
        events += new
        assert handle(placed, order) == []

    [accepted] = [event for event in events if isinstance(event, OrderAccepted)]
    assert accepted.content_hash == order.content_hash == content_hash_of(PLACED)
    assert order.status == "accepted"
    rejections = [event.content_hash for event in events if isinstance(event, OrderRejected)]
    assert len(set(rejections)) == len(rejections) == len(order.rejected) <= MAX_REJECTIONS
    assert len(order.conflicts) <= MAX_CONFLICTS
    assert not any(isinstance(event, OrderRejected) for event in events[events.index(accepted) :])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([PLACED, LATER, GARBAGE, replace(GARBAGE, total=0)]), max_size=20))
def test_of_several_valid_contents_under_one_reference_only_the_first_is_accepted(contents: list[OrderPlaced]):
    order, accepted = INITIAL, list[str]()
    for placed in contents:
        for event in handle(placed, order):
            order = evolve(order, event)
            accepted += [event.content_hash] if isinstance(event, OrderAccepted) else []
    assert accepted == [content_hash_of(placed) for placed in contents if placed in (PLACED, LATER)][:1]


events_of_any_kind = st.one_of(*(st.from_type(cls) for cls in get_args(Event)))


@settings(deadline=None, max_examples=200)
@given(st.lists(events_of_any_kind, max_size=6))
def test_evolve_accepts_any_events(history: list[Event]):
    order = reduce(evolve, history, INITIAL)
    due(ID, replace(order, waiting_since=NOON, deadline=None), TERMS)
    assert isinstance(order, Order)


# One order's life, its facts on five topics

ORDERS = GARBAGE, PLACED, LATER
"""What the channel publishes under one reference: rejected, accepted, and in conflict with what was accepted."""
STOCK, PAYMENTS, FULFILLMENTS, TRACKING, ASKED = "stock", "payments", "fulfillments", "tracking", "commands"
AT: dict[str, Any] = {"order_id": ID, "at": NOON}
MAX_MESSAGES = 500
"""Far more than one order's life needs, repeats included."""


def reactions(event: Event) -> Iterator[tuple[str, Any]]:
    """Topic and message of what the others publish on an event. The first payment is declined, and one package is reported lost."""
    match event:
        case OrderAccepted():
            yield STOCK, StockReserved(attempt=1, lines=units(3), expires_at=NOON, **AT)
        case OrderPaymentAmended(attempt=attempt):
            yield STOCK, StockReserved(attempt=attempt, lines=units(3), expires_at=NOON, **AT)
        case OrderReserved(attempt=1):
            yield PAYMENTS, PaymentDeclined(attempt=1, request_id="q1", reason="no", **AT)
        case OrderReserved(attempt=attempt, amount=amount):
            paid: dict[str, Any] = {"request_id": "q2", "authorization_id": "a", "amount": amount, "currency": "EUR"}
            yield PAYMENTS, PaymentAuthorized(attempt=attempt, **paid, **AT)
        case OrderActionRequired(action="amend_payment"):
            yield STOCK, StockReservationExpired(attempt=1, lines=units(3), **AT)
            yield ASKED, AmendPayment(order_id=ID, payment=OTHER_CARD, attempt=1)
        case OrderConfirmed():
            yield STOCK, StockAllocated(lines=units(3), reserved=True, **AT)
        case OrderReleased():
            yield ASKED, CancelOrder(order_id=ID, reason="changed my mind")
            yield TRACKING, PackageLost(package_id="p", **AT)
            yield from ((TRACKING, PackageDelivered(package_id=package, lines=units(1), **AT)) for package in "pqr")
            money: dict[str, Any] = {"currency": "EUR", **AT}
            taken: dict[str, Any] = {"request_id": "c", "amount": 500, "units": 1, **money}
            yield PAYMENTS, PaymentCaptured(fulfillment_id="f", **taken)
            deadline = NOON + timedelta(days=3)
            yield PAYMENTS, PaymentCollectionRequired(outstanding=1_000, reason="no funds", deadline=deadline, **money)
            yield PAYMENTS, PaymentCaptured(fulfillment_id="g", outstanding=500, **taken)
            yield PAYMENTS, PaymentWrittenOff(fulfillment_id="h", amount=500, units=1, outstanding=0, reason="no", **money)
        case OrderCancellationRequested():
            yield FULFILLMENTS, FulfillmentCancellationRejected(reason="already shipped", requested_at=event.at, **AT)
        case _:
            pass


def handle(message: Any, order: Order) -> list[Event]:
    policy: Any = POLICIES.get(cast(type[Any], type(message)))
    return [event for command in (policy(message) if policy else (message,)) for event in decide_order(command, order, NOON, TERMS)]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_every_interleaving_of_topics_with_repeats_ends_the_same(data: st.DataObject):
    """Records of one topic stay in order; a record of another topic may come at any time after its cause."""
    topics: dict[str, list[Any]] = {"orders": [*ORDERS], STOCK: [], PAYMENTS: [], FULFILLMENTS: [], TRACKING: [], ASKED: []}
    handled: list[Any] = []
    order = INITIAL
    ends = 0
    while any(topics.values()):
        assert len(handled) < MAX_MESSAGES
        waiting = [name for name, topic in topics.items() if topic]
        choice = data.draw(st.sampled_from([*waiting, "again"] if handled else waiting))
        message = data.draw(st.sampled_from(handled)) if choice == "again" else topics[choice].pop(0)
        handled.append(message)
        for event in handle(message, order):
            order = evolve(order, event)
            ends += isinstance(event, ENDS)
            for topic, reaction in reactions(event):
                topics[topic].append(reaction)
    for message in handled:
        order = reduce(evolve, handle(message, order), order)

    assert ends == 1
    assert settled(order) == settled(without_interleaving())


def settled(order: Order) -> Order:
    """The order without what depends on whether the last parcel or the cancellation came first."""
    return replace(order, refused=frozenset())


def without_interleaving() -> Order:
    """Every message once, in the order in which it was published."""
    waiting: list[Any] = [*ORDERS]
    order = INITIAL
    for _ in range(MAX_MESSAGES):
        for event in handle(waiting.pop(0), order) if waiting else []:
            order = evolve(order, event)
            waiting += [reaction for _, reaction in reactions(event)]
    return order


def test_messages_without_interleaving_complete_the_order():
    order = without_interleaving()
    assert order.status == "completed"
    assert order.attempt == 2
    assert order.trouble == {"package p is lost"}


def test_a_deadline_has_no_effect_after_the_next_step():
    order = reduce(lambda state, command: reduce(evolve, decide_order(command, state, NOON, TERMS), state), USUAL[:1], INITIAL)
    waiting = due(ID, order, TERMS)
    assert waiting is not None
    moved = reduce(evolve, decide_order(USUAL[1], order, NOON + timedelta(hours=1), TERMS), order)
    assert decide_order(waiting[1], moved, waiting[0], TERMS) == []
