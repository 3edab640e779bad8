"""What capture does, by examples. The properties are in test_properties.py, what a valid order is in test_validation.py."""

from datetime import UTC, datetime, timedelta
from functools import reduce
from hashlib import sha256

import pytest
from msgspec.structs import replace
from oms_capture.charges import NOTHING_HELD
from oms_capture.commands import (
    ActOnDeadline,
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
from oms_capture.decider import INITIAL, MAX_CONFLICTS, MAX_REFUSALS, MAX_REJECTIONS, Order, Terms, decide_for, decide_order, due, evolve
from oms_capture.policies import on_order_placed
from oms_contracts import superseded
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import decode, encode, type_of, validate
from oms_contracts.order_parts import (
    ChargedLine,
    DeliveryPromise,
    Discount,
    DiscountShare,
    LineItem,
    OrderPayment,
    Pickup,
    SealedData,
    ShippingLine,
    Tax,
)
from oms_contracts.orders import (
    AmendPayment,
    CancelOrder,
    ExtendWait,
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderCancellationRejected,
    OrderCancellationRequested,
    OrderCommandRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderConflictReported,
    OrderDelivered,
    OrderExpired,
    OrderPaid,
    OrderPartlyDelivered,
    OrderPaymentAmended,
    OrderPaymentResolved,
    OrderRejected,
    OrderReleased,
    OrderReserved,
    OrderWaitExtended,
)
from oms_contracts.values import Address, AllocatedLine, Customer, OrderLine, PaymentMethod, Shortage

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TERMS = Terms()
CARD = PaymentMethod(kind="card", token="tok_1")  # made up
OTHER_CARD = PaymentMethod(kind="card", token="tok_2")  # made up
ADA = Customer(id="ada")
HOME = Address(name="Ada", street="Main St 1", postal_code="10115", city="Berlin", country="DE")
LOYAL = Discount(id="loyal", title="Loyalty card")
LINES = (
    LineItem(line_id="A", sku="mug", quantity=2, unit_price=500, total=900, discounts=(DiscountShare(discount_id="loyal", amount=100),)),
    LineItem(line_id="B", sku="pot", quantity=1, unit_price=2_500, total=2_500),
)
CHARGED = (ChargedLine(line_id="A", sku="mug", quantity=2, amount=900), ChargedLine(line_id="B", sku="pot", quantity=1, amount=2_500))
SHIPPING = ShippingLine(id="1", title="Standard", price=400, total=400)
PAYMENT = OrderPayment(id="1", kind="card", amount=3_800, token="tok_1")  # made up
PLACED = OrderPlaced(
    channel="web",
    channel_reference="W1",
    placed_at=NOON,
    customer=ADA,
    currency="EUR",
    lines=LINES,
    shipping_lines=(SHIPPING,),
    discounts=(LOYAL,),
    total=3_800,
    payments=(PAYMENT,),
    ship_to=HOME,
)
SEALED = SealedData(key_id="k", data="what the order says of persons")
PLACE = PlaceOrder(order_id="o", content_hash="h", placed=PLACED, sealed=SEALED)
ACCEPTED = OrderAccepted(
    order_id="o",
    channel="web",
    channel_reference="W1",
    content_hash="h",
    placed_at=NOON,
    accepted_at=NOON,
    currency="EUR",
    lines=LINES,
    shipping_lines=(SHIPPING,),
    discounts=(LOYAL,),
    total=3_800,
    payments=(PAYMENT,),
    delivery="ship",
    location=None,
    personal=None,
    sealed=SEALED,
)
REJECTED = OrderRejected(order_id="o", channel="web", channel_reference="W1", content_hash="h", reasons=("no",), rejected_at=NOON)
CONFIRMED = OrderConfirmed(order_id="o", at=NOON)
ALLOCATED = (
    AllocatedLine(line_id="A", sku="mug", location="BER", quantity=1),
    AllocatedLine(line_id="A", sku="mug", location="HAM", quantity=1),
    AllocatedLine(line_id="B", sku="pot", location="HAM", quantity=1),
)
RELEASED = OrderReleased(order_id="o", delivery="ship", lines=ALLOCATED, at=NOON, sealed=SEALED)
COLLECTING = replace(RELEASED, collects=True)
CANCELED = OrderCanceled(order_id="o", reason="changed my mind", at=NOON)
COMPLETED = OrderCompleted(order_id="o", currency="EUR", lines=CHARGED, at=NOON)
EXPIRED = OrderExpired(order_id="o", reason="the stock it waited for did not come in time", at=NOON)
CANCEL = CancelOrder(order_id="o", reason="changed my mind")
AMEND = AmendPayment(order_id="o", payment=OTHER_CARD)
FULFILLMENT_CANCELED = RecordFulfillmentCanceled(order_id="o", requested_at=NOON)
CANCELLATION_REJECTED = RecordCancellationRejected(order_id="o", reason="already shipped: o/BER", requested_at=NOON)
CANCELLATION_REQUESTED = OrderCancellationRequested(order_id="o", reason="changed my mind", at=NOON)
ORDER_CANCELLATION_REJECTED = OrderCancellationRejected(order_id="o", reason="already shipped: o/BER", at=NOON)
SHORT = (Shortage(sku="mug", requested=2, available=1), Shortage(sku="pot", requested=1, available=0))


def reserved(attempt: int = 1, payment: PaymentMethod = CARD) -> OrderReserved:
    return OrderReserved(order_id="o", attempt=attempt, total=3_800, amount=3_800, currency="EUR", payment=payment, lines=CHARGED, at=NOON)


def amended(attempt: int = 2) -> OrderPaymentAmended:
    return OrderPaymentAmended(order_id="o", attempt=attempt, payment=OTHER_CARD, lines=CHARGED, location=None, at=NOON)


def action(name: str, reason: str, timeout: timedelta, attempt: int = 1) -> OrderActionRequired:
    return OrderActionRequired(order_id="o", action=name, reason=reason, deadline=NOON + timeout, at=NOON, attempt=attempt)


def refused(command: str, reason: str) -> OrderCommandRefused:
    return OrderCommandRefused(order_id="o", command=f"oms.capture.{command}.v1", reason=reason, at=NOON)


DECLINED = action("amend_payment", "insufficient funds", timedelta(days=2))
NO_PRODUCT = action("define_product", "the catalogue lacks 'mug', 'pot'", timedelta(days=2))
NO_STOCK = action("resolve_stock", "mug: 2 wanted, 1 available, pot: 1 wanted, 0 available", timedelta(days=2))
HISTORY: dict[str, list[Event]] = {
    "new": [],
    "rejected": [REJECTED],
    "accepted": [ACCEPTED],
    "reserved": [ACCEPTED, reserved()],
    "awaiting_payment": [ACCEPTED, reserved(), DECLINED],
    "awaiting_stock": [ACCEPTED, NO_STOCK],
    "awaiting_product": [ACCEPTED, NO_PRODUCT],
    "confirmed": [ACCEPTED, reserved(), CONFIRMED],
    "released": [ACCEPTED, reserved(), CONFIRMED, RELEASED],
    "canceled": [ACCEPTED, reserved(), CANCELED],
    "expired": [ACCEPTED, NO_STOCK, EXPIRED],
    "completed": [ACCEPTED, reserved(), CONFIRMED, RELEASED, COMPLETED],
}


def outcome(*, given: str | list[Event], when: Command) -> list[Event]:
    return decide_order(when, folded(given), NOON, TERMS)


def folded(given: str | list[Event]) -> Order:
    return reduce(evolve, HISTORY[given] if isinstance(given, str) else given, INITIAL)


def in_all_but(*statuses: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("status", [status for status in HISTORY if status not in statuses])


@pytest.mark.parametrize("status", HISTORY)
def test_every_history_leads_to_the_status_of_its_name(status: str):
    assert folded(status).status == status


# Placing


def test_a_valid_order_is_accepted():
    assert outcome(given="new", when=PLACE) == [ACCEPTED]


def test_an_invalid_order_is_rejected_for_every_reason_at_once():
    invalid = replace(PLACE, placed=replace(PLACED, currency="DM", customer=Customer(id=" "), total=1))
    reasons = (
        "currency: 'DM' is not an ISO 4217 code",
        "customer.id: must not be empty",
        "total: is 1, lines, shipping, fees and taxes add up to 3800",
        "payments: add up to 3800, the total is 1",
    )
    assert outcome(given="new", when=invalid) == [replace(REJECTED, reasons=reasons)]


@in_all_but("new")
def test_the_same_order_again_is_the_same_order(status: str):
    assert outcome(given=status, when=PLACE) == []


INVALID = replace(PLACE, content_hash="h0", placed=replace(PLACED, currency="DM"))


def rejected(content_hash: str) -> OrderRejected:
    return replace(REJECTED, content_hash=content_hash, reasons=("currency: 'DM' is not an ISO 4217 code",))


def test_a_corrected_order_is_a_new_attempt_of_a_rejected_order():
    corrected = replace(PLACE, content_hash="h2")
    accepted = replace(ACCEPTED, content_hash="h2")
    assert outcome(given="rejected", when=corrected) == [accepted]
    after: list[Event] = [REJECTED, accepted]
    assert folded(after).status == "accepted"
    assert folded(after).attempt == 1
    for again in (corrected, PLACE):
        assert outcome(given=after, when=again) == []
    assert outcome(given=after, when=RecordReservation(order_id="o", attempt=1)) == [reserved()]


def test_an_order_may_be_rejected_again_for_other_reasons():
    assert outcome(given="rejected", when=INVALID) == [rejected("h0")]
    assert outcome(given=[REJECTED, rejected("h0")], when=INVALID) == []


def test_a_limited_number_of_rejections_is_published_and_a_valid_order_is_still_accepted():
    flood: list[Event] = [rejected(str(number)) for number in range(MAX_REJECTIONS)]
    assert outcome(given=flood[:-1], when=INVALID) == [rejected("h0")]
    assert outcome(given=flood, when=INVALID) == []
    assert outcome(given=flood, when=PLACE) == [ACCEPTED]


def test_an_order_whose_genuine_content_was_once_reported_as_a_conflict_with_a_rejected_one_can_be_accepted():
    """Streams of earlier versions: there, other content after a rejection was a conflict."""
    conflict = OrderConflictReported(order_id="o", channel="web", channel_reference="W1", content_hash="h2", reported_at=NOON)
    assert outcome(given=[REJECTED, conflict], when=replace(PLACE, content_hash="h2")) == [replace(ACCEPTED, content_hash="h2")]


def test_a_limited_number_of_refusals_is_published():
    refusals: list[Event] = [refused("AmendPayment", str(number)) for number in range(MAX_REFUSALS)]
    assert outcome(given=[ACCEPTED, *refusals], when=replace(AMEND, attempt=7)) == []


@in_all_but("new", "rejected")
def test_other_content_under_the_same_reference_is_a_conflict_reported_once(status: str):
    other = replace(PLACE, content_hash="h2")
    conflict = OrderConflictReported(order_id="o", channel="web", channel_reference="W1", content_hash="h2", reported_at=NOON)
    assert outcome(given=status, when=other) == [conflict]
    after = [*HISTORY[status], conflict]
    assert outcome(given=after, when=other) == []
    assert outcome(given=after, when=PLACE) == []
    assert folded(after).status == status


def test_a_limited_number_of_conflicts_is_reported():
    conflicts = [
        OrderConflictReported(order_id="o", channel="web", channel_reference="W1", content_hash=str(number), reported_at=NOON)
        for number in range(MAX_CONFLICTS)
    ]
    assert outcome(given=[ACCEPTED, *conflicts], when=replace(PLACE, content_hash="h2")) == []


# Stock and payment


def test_a_reserved_order_requests_its_payment():
    assert outcome(given="accepted", when=RecordReservation(order_id="o", attempt=1)) == [reserved()]


def placing(placed: OrderPlaced) -> list[Event]:
    return outcome(given=[], when=replace(PLACE, placed=placed))


def test_what_the_channel_collects_is_not_ours_to_collect():
    gift_card = OrderPayment(id="2", kind="gift_card", amount=800, status="captured")
    events = placing(replace(PLACED, payments=(gift_card, replace(PAYMENT, amount=3_000))))
    [due_here] = outcome(given=events, when=RecordReservation(order_id="o", attempt=1))
    assert due_here == replace(reserved(), amount=3_000)


@pytest.mark.parametrize("status", ["captured", "due"])
def test_of_an_order_that_is_paid_elsewhere_nothing_is_ours_to_collect(status: str):
    events = placing(replace(PLACED, payments=(replace(PAYMENT, status=status),)))
    [due_here] = outcome(given=events, when=RecordReservation(order_id="o", attempt=1))
    assert due_here == replace(reserved(payment=NOTHING_HELD), amount=0)


def test_an_authorization_that_the_channel_made_is_passed_on_and_another_means_of_payment_needs_one_of_its_own():
    events = placing(replace(PLACED, payments=(replace(PAYMENT, status="authorized", token="held"),)))  # made up
    held = PaymentMethod(kind="card", token="held")  # made up
    [due_here] = outcome(given=events, when=RecordReservation(order_id="o", attempt=1))
    assert due_here == replace(reserved(payment=held), authorization_id="held")
    declined: list[Event] = [*events, due_here, DECLINED, amended()]
    assert outcome(given=declined, when=RecordReservation(order_id="o", attempt=2)) == [reserved(2, OTHER_CARD)]


def test_taxes_on_top_are_part_of_what_a_line_costs():
    taxed = replace(LINES[0], taxes=(Tax(title="VAT", amount=171), Tax(title="City", amount=9)))
    events = placing(
        replace(PLACED, taxes_included=False, lines=(taxed, LINES[1]), total=3_980, payments=(replace(PAYMENT, amount=3_980),))
    )
    [due_here] = outcome(given=events, when=RecordReservation(order_id="o", attempt=1))
    charged = (replace(CHARGED[0], amount=1_080), CHARGED[1])
    assert due_here == replace(reserved(), total=3_980, amount=3_980, lines=charged)


def test_lines_that_are_not_shipped_are_not_waited_for():
    online = LineItem(line_id="C", sku="e-book", quantity=5, unit_price=100, total=500, requires_shipping=False)
    events = placing(replace(PLACED, lines=(online, *LINES), total=4_300, payments=(replace(PAYMENT, amount=4_300),)))
    [due_here] = outcome(given=events, when=RecordReservation(order_id="o", attempt=1))
    assert due_here == replace(reserved(), total=4_300, amount=4_300)
    history = [*events, due_here, CONFIRMED, RELEASED]
    assert outcome(given=history, when=RecordDelivery(order_id="o", package_id="p", lines=ALLOCATED)) == [COMPLETED]


def test_what_the_warehouse_needs_is_released():
    pickup, promise = Pickup(location="BER"), DeliveryPromise(deliver_by=NOON)
    placed = replace(PLACED, delivery="pickup", pickup=pickup, promise=promise)
    events = outcome(given="new", when=replace(PLACE, placed=placed))
    [accepted] = events
    assert isinstance(accepted, OrderAccepted)
    assert accepted.location == "BER"
    released = outcome(given=[*events, reserved(), CONFIRMED], when=RecordAllocation(order_id="o", lines=ALLOCATED))
    assert released == [replace(COLLECTING, delivery="pickup", promise=promise)]


def test_the_same_order_in_version_1_and_2_is_one_order():
    old = superseded.OrderPlaced(
        channel="web",
        channel_reference="W1",
        placed_at=NOON,
        customer=superseded.Customer(id="ada"),
        currency="EUR",
        lines=(OrderLine(line_id="A", sku="mug", quantity=2, unit_price=500, total=900, discount=100),),
        shipping=400,
        total=1_300,
        payment=CARD,
        delivery="pickup",
    )
    read = decode(type_of(old).name, encode(old))
    in_version_2 = validate(type_of(OrderPlaced).name, encode(read))
    order, published = INITIAL, list[Event]()
    for placed in (read, in_version_2, read):
        for command in on_order_placed(placed):
            events = decide_order(command, order, NOON, TERMS)
            order = reduce(evolve, events, order)
            published += events
    [accepted] = published
    assert isinstance(accepted, OrderAccepted)
    assert accepted.content_hash == sha256(encode(old)).hexdigest()


def test_an_authorized_order_is_confirmed():
    assert outcome(given="reserved", when=RecordAuthorization(order_id="o", attempt=1)) == [CONFIRMED]


def test_an_allocated_order_is_released():
    assert outcome(given="confirmed", when=RecordAllocation(order_id="o", lines=ALLOCATED)) == [COLLECTING]


@pytest.mark.parametrize("status", ["accepted", "confirmed"])
def test_a_shortage_names_every_sku_and_awaits_stock(status: str):
    assert outcome(given=status, when=RecordShortage(order_id="o", attempt=1, shortages=SHORT, confirmed=None)) == [NO_STOCK]


def test_a_declined_payment_awaits_an_amendment():
    assert outcome(given="reserved", when=RecordDecline(order_id="o", attempt=1, reason="insufficient funds")) == [DECLINED]


def test_another_payment_method_begins_a_new_attempt():
    assert outcome(given="awaiting_payment", when=AMEND) == [amended()]
    anew: list[Event] = [*HISTORY["awaiting_payment"], amended()]
    assert outcome(given=anew, when=AMEND) == []
    assert outcome(given=anew, when=RecordReservation(order_id="o", attempt=2)) == [reserved(2, OTHER_CARD)]


def test_the_same_payment_method_may_be_tried_again():
    [again] = outcome(given="awaiting_payment", when=AmendPayment(order_id="o", payment=CARD, attempt=1))
    assert isinstance(again, OrderPaymentAmended)


def test_a_required_action_names_its_attempt():
    second: list[Event] = [*HISTORY["awaiting_payment"], amended(), reserved(2, OTHER_CARD)]
    asked = action("amend_payment", "expired", timedelta(days=2), attempt=2)
    assert outcome(given=second, when=RecordDecline(order_id="o", attempt=2, reason="expired")) == [asked]


def test_an_amendment_applies_only_to_the_attempt_that_it_names():
    declined_twice: list[Event] = [
        *HISTORY["awaiting_payment"],
        amended(),
        reserved(2, OTHER_CARD),
        action("amend_payment", "expired", timedelta(days=2), attempt=2),
    ]
    again = replace(AMEND, attempt=1)
    assert outcome(given="awaiting_payment", when=again) == [amended()]
    assert outcome(given=declined_twice, when=again) == []
    assert outcome(given=declined_twice, when=replace(AMEND, attempt=2)) == [amended(3)]
    late = AmendPayment(order_id="o", payment=CARD, attempt=1)
    assert outcome(given=declined_twice, when=late) == [refused("AmendPayment", "attempt 2 is awaiting payment, not 1")]


@in_all_but("awaiting_payment")
def test_an_amendment_is_refused_unless_the_payment_was_declined(status: str):
    description = "not known" if status == "new" else status
    refusal = refused("AmendPayment", f"the order is {description}, not awaiting payment")
    assert outcome(given=status, when=AMEND) == [refusal]
    assert outcome(given=[*HISTORY[status], refusal], when=AMEND) == []


def test_a_payment_without_a_token_is_refused():
    empty = AmendPayment(order_id="o", payment=PaymentMethod(kind="card", token=" "))  # no token at all
    assert outcome(given="awaiting_payment", when=empty) == [refused("AmendPayment", "payment.token: must not be empty")]


def test_a_reservation_that_expires_before_the_payment_expires_the_order():
    expired = OrderExpired(order_id="o", reason="the reservation ended before the payment was authorized", at=NOON)
    assert outcome(given="reserved", when=RecordReservationExpiry(order_id="o", attempt=1)) == [expired]


OF_ATTEMPT_ONE: list[Command] = [
    RecordReservation(order_id="o", attempt=1),
    RecordShortage(order_id="o", attempt=1, shortages=SHORT, confirmed=None),
    RecordReservationExpiry(order_id="o", attempt=1),
    RecordAuthorization(order_id="o", attempt=1),
    RecordDecline(order_id="o", attempt=1, reason="late"),
]


@pytest.mark.parametrize("late", OF_ATTEMPT_ONE, ids=lambda late: type(late).__name__)
def test_a_fact_about_an_earlier_attempt_changes_nothing(late: Command):
    second: list[Event] = [*HISTORY["awaiting_payment"], amended()]
    third_step = [*second, reserved(2, OTHER_CARD)]
    for history in (second, third_step, [*third_step, CONFIRMED]):
        assert outcome(given=history, when=late) == []


FITTING: list[tuple[Command, set[str]]] = [
    (RecordReservation(order_id="o", attempt=1), {"accepted", "awaiting_product", "awaiting_stock"}),
    (RecordShortage(order_id="o", attempt=1, shortages=SHORT, confirmed=None), {"accepted", "awaiting_product", "confirmed"}),
    (RecordShortage(order_id="o", attempt=1, shortages=SHORT, confirmed=False), {"accepted", "awaiting_product"}),
    (RecordShortage(order_id="o", attempt=1, shortages=SHORT, confirmed=True), {"confirmed"}),
    (RecordUnknownSkus(order_id="o", attempt=1, unknown_skus=("mug",), held=True), {"accepted"}),
    (RecordUnknownSkus(order_id="o", attempt=1, unknown_skus=("mug",), held=False), {"accepted", "awaiting_product"}),
    (RecordReservationExpiry(order_id="o", attempt=1), {"accepted", "reserved"}),
    (RecordAuthorization(order_id="o", attempt=1), {"reserved"}),
    (RecordDecline(order_id="o", attempt=1, reason="late"), {"reserved", "confirmed"}),
    (RecordAllocation(order_id="o", lines=ALLOCATED), {"confirmed"}),
    (RecordDelivery(order_id="o", package_id="p1", lines=ALLOCATED), {"released"}),
    (RecordDeliveryTrouble(order_id="o", reason="package p1 is lost"), {"released"}),
    (FULFILLMENT_CANCELED, set()),
    (CANCELLATION_REJECTED, set()),
    (replace(FULFILLMENT_CANCELED, requested_at=None), set()),
    (replace(CANCELLATION_REJECTED, requested_at=None), set()),
]


@pytest.mark.parametrize(("fact", "fitting"), FITTING, ids=lambda part: type(part).__name__)
def test_a_fact_that_does_not_fit_the_orders_status_changes_nothing(fact: Command, fitting: set[str]):
    assert {status for status in HISTORY if outcome(given=status, when=fact)} == fitting


# Waiting for stock

CONFIRMED_WITHOUT_STOCK: list[Event] = [*HISTORY["confirmed"], NO_STOCK]


def test_an_order_that_waits_goes_on_once_its_stock_is_reserved():
    assert outcome(given="awaiting_stock", when=RecordReservation(order_id="o", attempt=1)) == [reserved()]
    assert folded([*HISTORY["awaiting_stock"], reserved()]) == folded(HISTORY["reserved"])


def test_a_confirmed_order_that_waits_is_released_once_its_stock_is_allocated():
    assert outcome(given=CONFIRMED_WITHOUT_STOCK, when=RecordAllocation(order_id="o", lines=ALLOCATED)) == [COLLECTING]
    assert folded([*CONFIRMED_WITHOUT_STOCK, RELEASED]) == folded(HISTORY["released"])


def test_a_confirmed_order_that_waits_needs_another_payment_once_its_authorization_is_not_renewed():
    declined = outcome(given=CONFIRMED_WITHOUT_STOCK, when=RecordDecline(order_id="o", attempt=1, reason="renewal declined"))
    [asked] = declined
    assert isinstance(asked, OrderActionRequired)
    assert asked.action == "amend_payment"
    asks_again = [*CONFIRMED_WITHOUT_STOCK, *declined]
    assert outcome(given=asks_again, when=RecordAllocation(order_id="o", lines=ALLOCATED)) == [], "nothing ships unpaid"
    [amended] = outcome(given=asks_again, when=AMEND)
    again = [*asks_again, amended, replace(NO_STOCK, attempt=2)]
    assert outcome(given=again, when=RecordReservation(order_id="o", attempt=2)) == [reserved(2, OTHER_CARD)]


def test_the_reservation_from_before_the_confirmation_does_not_take_a_confirmed_order_back():
    assert outcome(given=CONFIRMED_WITHOUT_STOCK, when=RecordReservation(order_id="o", attempt=1)) == []


def test_the_shortage_from_before_the_confirmation_does_not_come_again_as_another():
    again = RecordShortage(order_id="o", attempt=1, shortages=SHORT, confirmed=False)
    assert outcome(given=[ACCEPTED, NO_STOCK, reserved(), CONFIRMED], when=again) == []


def extend(wait: timedelta) -> ExtendWait:
    return ExtendWait(order_id="o", until=NOON + wait)


EXTENDED = OrderWaitExtended(order_id="o", deadline=NOON + timedelta(days=9), at=NOON)


@pytest.mark.parametrize("history", [HISTORY["awaiting_stock"], CONFIRMED_WITHOUT_STOCK], ids=["accepted", "confirmed"])
def test_an_order_waits_longer_for_stock_once_and_then_expires(history: list[Event]):
    assert outcome(given=history, when=extend(timedelta(days=9))) == [EXTENDED]
    extended = [*history, EXTENDED]
    assert outcome(given=extended, when=extend(timedelta(days=9))) == []
    assert outcome(given=extended, when=ActOnDeadline(order_id="o", deadline=NO_STOCK.deadline)) == []
    assert outcome(given=extended, when=ActOnDeadline(order_id="o", deadline=EXTENDED.deadline)) == [EXPIRED]


@pytest.mark.parametrize("wait", [timedelta(days=1), timedelta(days=90, seconds=1)])
def test_a_wait_is_not_made_shorter_nor_longer_than_the_business_allows(wait: timedelta):
    refusal = refused("ExtendWait", "until: must be after 2026-11-25T12:00:00+00:00, and not after 2027-02-21T12:00:00+00:00")
    assert outcome(given="awaiting_stock", when=extend(wait)) == [refusal]
    assert outcome(given=[*HISTORY["awaiting_stock"], refusal], when=extend(wait)) == []
    assert outcome(given="awaiting_stock", when=extend(timedelta(days=90))) != [refusal]


@in_all_but("awaiting_stock")
def test_only_an_order_that_awaits_stock_waits_longer(status: str):
    description = "not known" if status == "new" else status
    assert outcome(given=status, when=extend(timedelta(days=9))) == [
        refused("ExtendWait", f"the order is {description}, not awaiting stock")
    ]


# The catalogue

UNKNOWN = RecordUnknownSkus(order_id="o", attempt=1, unknown_skus=("mug", "pot"), held=False)
NOT_SOLD = replace(
    REJECTED, reasons=tuple(f"lines.sku: {sku!r} is not in the catalogue, or not active" for sku in ("mug", "pot")), attempt=1
)


def test_an_order_whose_products_inventory_waits_for_is_held():
    assert outcome(given="accepted", when=replace(UNKNOWN, held=True)) == [NO_PRODUCT]


def test_a_held_order_continues_when_its_stock_is_reserved():
    assert outcome(given="awaiting_product", when=RecordReservation(order_id="o", attempt=1)) == [reserved()]
    assert folded([*HISTORY["awaiting_product"], reserved()]).deadline is None


def test_a_held_order_whose_products_are_defined_may_lack_stock():
    assert outcome(given="awaiting_product", when=RecordShortage(order_id="o", attempt=1, shortages=SHORT, confirmed=None)) == [NO_STOCK]


@pytest.mark.parametrize("status", ["accepted", "awaiting_product"])
def test_an_accepted_order_whose_products_are_not_sold_is_rejected_and_the_same_content_stays_rejected(status: str):
    assert outcome(given=status, when=UNKNOWN) == [NOT_SOLD]
    rejected: list[Event] = [*HISTORY[status], NOT_SOLD]
    for again in (PLACE, UNKNOWN, replace(UNKNOWN, held=True), RecordReservation(order_id="o", attempt=1)):
        assert outcome(given=rejected, when=again) == []
    assert folded(rejected) == Order(status="rejected", channel="web", rejected=frozenset({"h"}), attempt=1)


def test_a_corrected_order_is_the_next_attempt_and_answers_about_the_one_before_are_late():
    corrected = replace(PLACE, content_hash="h2")
    accepted = replace(ACCEPTED, content_hash="h2", attempt=2)
    rejected: list[Event] = [ACCEPTED, NOT_SOLD]
    assert outcome(given=rejected, when=corrected) == [accepted]
    for late in (
        UNKNOWN,
        RecordReservation(order_id="o", attempt=1),
        RecordShortage(order_id="o", attempt=1, shortages=SHORT, confirmed=None),
        PLACE,
    ):
        assert outcome(given=[*rejected, accepted], when=late) == []
    assert outcome(given=[*rejected, accepted], when=RecordReservation(order_id="o", attempt=2)) == [reserved(2)]


def test_content_that_conflicted_with_a_rejected_attempt_may_be_the_corrected_order():
    conflict = OrderConflictReported(order_id="o", channel="web", channel_reference="W1", content_hash="h2", reported_at=NOON)
    corrected = replace(PLACE, content_hash="h2")
    assert outcome(given=[ACCEPTED, conflict], when=corrected) == []
    assert [type(event) for event in outcome(given=[ACCEPTED, conflict, NOT_SOLD], when=corrected)] == [OrderAccepted]


def test_an_order_that_was_rejected_too_often_is_canceled_when_its_products_are_not_sold():
    history: list[Event] = [replace(REJECTED, content_hash=str(number)) for number in range(MAX_REJECTIONS)]
    assert outcome(given=[*history, ACCEPTED], when=UNKNOWN) == [OrderCanceled(order_id="o", reason="; ".join(NOT_SOLD.reasons), at=NOON)]


# Canceling


@pytest.mark.parametrize("status", ["accepted", "reserved", "confirmed", "awaiting_payment", "awaiting_stock", "awaiting_product"])
def test_an_order_is_canceled_at_once_before_its_release(status: str):
    assert outcome(given=status, when=CANCEL) == [CANCELED]


def test_a_cancellation_after_the_release_is_requested_from_fulfillment_once():
    assert outcome(given="released", when=CANCEL) == [CANCELLATION_REQUESTED]
    assert outcome(given=[*HISTORY["released"], CANCELLATION_REQUESTED], when=CANCEL) == []


def test_an_order_is_canceled_when_fulfillment_stopped_in_time():
    assert outcome(given=[*HISTORY["released"], CANCELLATION_REQUESTED], when=FULFILLMENT_CANCELED) == [CANCELED]


def test_an_order_continues_when_fulfillment_rejects_the_cancellation():
    asked = [*HISTORY["released"], CANCELLATION_REQUESTED]
    assert outcome(given=asked, when=CANCELLATION_REJECTED) == [ORDER_CANCELLATION_REJECTED]
    assert folded([*asked, ORDER_CANCELLATION_REJECTED]).status == "released"


@pytest.mark.parametrize("decision", [FULFILLMENT_CANCELED, CANCELLATION_REJECTED], ids=lambda decision: type(decision).__name__)
def test_a_decision_on_another_cancellation_request_changes_nothing(decision: RecordFulfillmentCanceled | RecordCancellationRejected):
    asked = [*HISTORY["released"], CANCELLATION_REQUESTED]
    assert outcome(given=asked, when=replace(decision, requested_at=NOON - timedelta(seconds=1))) == []
    assert outcome(given=asked, when=replace(decision, requested_at=None)) == outcome(given=asked, when=decision) != []


def test_a_cancellation_that_was_too_late_stays_too_late():
    history: list[Event] = [*HISTORY["released"], CANCELLATION_REQUESTED, ORDER_CANCELLATION_REJECTED]
    refusal = refused("CancelOrder", "already shipped: o/BER")
    assert outcome(given=history, when=CANCELLATION_REJECTED) == []
    assert outcome(given=history, when=CANCEL) == [refusal]
    assert outcome(given=[*history, refusal], when=CANCEL) == []


@pytest.mark.parametrize("status", ["canceled", "expired"])
def test_canceling_an_order_that_ended_without_goods_changes_nothing(status: str):
    assert outcome(given=status, when=CANCEL) == []


@pytest.mark.parametrize(("status", "description"), [("new", "not known"), ("rejected", "rejected"), ("completed", "completed")])
def test_a_cancellation_that_is_not_possible_is_refused_once(status: str, description: str):
    refusal = refused("CancelOrder", f"the order is {description}")
    assert outcome(given=status, when=CANCEL) == [refusal]
    assert outcome(given=[*HISTORY[status], refusal, refused("AmendPayment", "x")], when=CANCEL) == []


# Delivery


def delivery(package_id: str, *lines: AllocatedLine) -> RecordDelivery:
    return RecordDelivery(order_id="o", package_id=package_id, lines=lines)


def test_an_order_is_completed_with_its_last_unit():
    partly = OrderPartlyDelivered(order_id="o", package_id="p1", lines=ALLOCATED[:2], at=NOON)
    assert outcome(given="released", when=delivery("p1", *ALLOCATED[:2])) == [partly]
    under_way: list[Event] = [*HISTORY["released"], partly]
    assert outcome(given=under_way, when=delivery("p1", *ALLOCATED[:2])) == []
    assert outcome(given=under_way, when=delivery("p2", *ALLOCATED[2:])) == [COMPLETED]


def test_an_order_in_one_package_is_completed_at_once():
    assert outcome(given="released", when=delivery("p1", *ALLOCATED)) == [COMPLETED]


def test_a_delivery_ends_an_open_cancellation_request():
    asked = [*HISTORY["released"], CANCELLATION_REQUESTED]
    assert outcome(given=asked, when=delivery("p1", *ALLOCATED)) == [COMPLETED]
    assert outcome(given=[*asked, COMPLETED], when=CANCELLATION_REJECTED) == []


def test_a_lost_package_requires_action_once():
    lost = action("check_delivery", "package p1 is lost", timedelta(days=30))
    trouble = RecordDeliveryTrouble(order_id="o", reason="package p1 is lost")
    assert outcome(given="released", when=trouble) == [lost]
    assert outcome(given=[*HISTORY["released"], lost], when=trouble) == []
    assert outcome(given=[*HISTORY["released"], lost], when=delivery("p1", *ALLOCATED)) == [COMPLETED]


# Deadlines


def deadline_of(given: str | list[Event]) -> ActOnDeadline:
    waiting = due("o", folded(given), TERMS)
    assert waiting is not None
    moment, command = waiting
    assert isinstance(command, ActOnDeadline)
    assert moment == command.deadline
    return command


@pytest.mark.parametrize(
    ("status", "timeout", "follows"),
    [
        ("accepted", timedelta(days=1), action("investigate", "the order has been accepted for too long", timedelta(days=1))),
        ("reserved", timedelta(days=1), action("investigate", "the order has been reserved for too long", timedelta(days=1))),
        ("confirmed", timedelta(days=1), action("investigate", "the order has been confirmed for too long", timedelta(days=1))),
        ("released", timedelta(days=30), action("check_delivery", "not delivered in time", timedelta(days=30))),
        ("awaiting_payment", timedelta(days=2), OrderExpired(order_id="o", reason="the payment was not amended in time", at=NOON)),
        ("awaiting_stock", timedelta(days=2), EXPIRED),
        ("awaiting_product", timedelta(days=2), OrderExpired(order_id="o", reason="its products were not defined in time", at=NOON)),
    ],
)
def test_each_status_has_its_deadline_and_its_consequence(status: str, timeout: timedelta, follows: Event):
    assert deadline_of(status).deadline == NOON + timeout
    assert outcome(given=status, when=deadline_of(status)) == [follows]


@pytest.mark.parametrize("status", ["accepted", "reserved", "confirmed", "released"])
def test_an_order_that_still_waits_gets_a_new_deadline(status: str):
    later = NOON + timedelta(days=40)
    order = reduce(evolve, decide_order(deadline_of(status), folded(status), later, TERMS), folded(status))
    waiting = due("o", order, TERMS)
    assert order.status == status
    assert waiting is not None
    assert waiting[0] > later


@in_all_but("accepted")
def test_a_deadline_of_an_earlier_status_has_no_effect(status: str):
    earlier = replace(deadline_of("accepted"), deadline=NOON + timedelta(hours=1))
    assert outcome(given=status, when=earlier) == []


@pytest.mark.parametrize("status", ["new", "rejected", "canceled", "expired", "completed"])
def test_an_order_that_waits_for_nothing_has_no_deadline(status: str):
    assert due("o", folded(status), TERMS) is None


def for_channel(channel: str, command: Command, *given: Event) -> list[Event]:
    return decide_for(channel, command, folded(list(given)), NOON, TERMS)


@pytest.mark.parametrize("command", [CANCEL, AMEND], ids=["cancel", "amend"])
@pytest.mark.parametrize("given", [[], [ACCEPTED], [REJECTED], [ACCEPTED, NOT_SOLD], HISTORY["awaiting_payment"]])
def test_a_channel_is_told_of_anothers_order_what_it_is_told_of_none(command: CancelOrder | AmendPayment, given: list[Event]):
    refused = OrderCommandRefused(order_id="o", command=type_of(command).name, reason="the order is not known", at=NOON)
    assert for_channel("till", command, *given) == [refused]
    assert for_channel("till", command, *given, refused) == []


def test_a_channel_cancels_its_own_order_and_amends_its_payment():
    assert for_channel("web", CANCEL, ACCEPTED) == [CANCELED]
    assert [type(event) for event in for_channel("web", AMEND, *HISTORY["awaiting_payment"])] == [OrderPaymentAmended]
    [refused] = for_channel("web", CANCEL, REJECTED)
    assert isinstance(refused, OrderCommandRefused)
    assert refused.reason == "the order is rejected"


def test_a_channel_places_an_order():
    assert for_channel("web", PLACE) == [ACCEPTED]


BER, HAM = ALLOCATED[:1], ALLOCATED[1:]
COLLECT_BY = NOON + timedelta(days=3)
OUTSTANDING = RecordOutstanding(order_id="o", reason="no funds", deadline=COLLECT_BY)
COLLECT = OrderActionRequired(order_id="o", action="collect_payment", reason="no funds", deadline=COLLECT_BY, at=NOON, attempt=1)
RESOLVED = OrderPaymentResolved(order_id="o", at=NOON)
TO_COLLECT: list[Event] = [ACCEPTED, reserved(), CONFIRMED, COLLECTING]


def paid(location: str, units: int | None, outstanding: int = 0) -> RecordPayment:
    return RecordPayment(order_id="o", fulfillment_id=f"o/{location}", units=units, outstanding=outstanding)


def is_paid(location: str, units: int) -> OrderPaid:
    return OrderPaid(order_id="o", fulfillment_id=f"o/{location}", units=units, at=NOON)


def delivered(package_id: str, *lines: AllocatedLine) -> OrderDelivered:
    return OrderDelivered(order_id="o", package_id=package_id, lines=lines, at=NOON)


def test_an_order_is_completed_once_it_is_delivered_and_paid_whichever_comes_last():
    assert outcome(given=TO_COLLECT, when=paid("BER", 1)) == [is_paid("BER", 1)]
    both: list[Event] = [*TO_COLLECT, is_paid("BER", 1), is_paid("HAM", 2)]
    assert outcome(given=both, when=delivery("p1", *ALLOCATED)) == [COMPLETED]
    late: list[Event] = [*TO_COLLECT, is_paid("BER", 1), delivered("p1", *ALLOCATED)]
    assert outcome(given=late[:-1], when=delivery("p1", *ALLOCATED)) == [late[-1]]
    assert outcome(given=late, when=delivery("p1", *ALLOCATED)) == []
    assert outcome(given=late, when=paid("BER", 1)) == []
    assert outcome(given=late, when=paid("HAM", 2)) == [is_paid("HAM", 2), COMPLETED]


def test_an_order_of_which_nothing_is_ours_to_collect_and_one_that_was_released_before_money_was_waited_for_complete_by_delivery():
    nothing = replace(PLACED, payments=(replace(PAYMENT, status="captured"),))
    events = outcome(given="new", when=replace(PLACE, placed=nothing))
    [released] = outcome(given=[*events, reserved(), CONFIRMED], when=RecordAllocation(order_id="o", lines=ALLOCATED))
    assert released == RELEASED
    assert outcome(given="released", when=paid("BER", 1)) == []
    assert outcome(given="released", when=delivery("p1", *ALLOCATED)) == [COMPLETED]


def test_a_capture_of_an_earlier_release_of_payment_that_does_not_tell_its_units_counts_for_all():
    assert outcome(given=TO_COLLECT, when=paid("BER", None)) == [is_paid("BER", 3)]


def test_what_could_not_be_captured_asks_somebody_until_it_is_paid_or_written_off():
    assert outcome(given=TO_COLLECT, when=OUTSTANDING) == [COLLECT]
    waiting: list[Event] = [*TO_COLLECT, COLLECT]
    assert outcome(given=waiting, when=OUTSTANDING) == []
    assert folded(waiting).status == "released"
    arrived: list[Event] = [*waiting, delivered("p1", *ALLOCATED)]
    assert outcome(given=waiting, when=delivery("p1", *ALLOCATED)) == [arrived[-1]]
    assert outcome(given=arrived, when=paid("BER", 1, outstanding=5)) == [is_paid("BER", 1)]
    arrived.append(is_paid("BER", 1))
    assert outcome(given=arrived, when=paid("HAM", 2)) == [is_paid("HAM", 2), RESOLVED, COMPLETED]
    assert outcome(given=[*arrived, is_paid("HAM", 2), RESOLVED, COMPLETED], when=OUTSTANDING) == []


def test_each_later_deadline_of_payment_asks_again_and_an_earlier_one_does_not():
    later = replace(OUTSTANDING, deadline=COLLECT_BY + timedelta(days=3))
    again = replace(COLLECT, deadline=later.deadline)
    assert outcome(given=[*TO_COLLECT, COLLECT], when=later) == [again]
    assert outcome(given=[*TO_COLLECT, COLLECT, again], when=OUTSTANDING) == []


def test_what_else_an_order_waits_for_is_asked_again_when_its_payment_is_resolved():
    lost = OrderActionRequired(
        order_id="o", action="check_delivery", reason="package p1 is lost", deadline=NOON + timedelta(days=30), at=NOON, attempt=1
    )
    history: list[Event] = [*TO_COLLECT, lost, COLLECT]
    assert outcome(given=history, when=paid("BER", 1)) == [is_paid("BER", 1), RESOLVED, lost]


def test_a_renewed_authorization_resolves_the_payment_of_an_order_that_has_not_shipped():
    renewed = RecordAuthorization(order_id="o", attempt=1, outstanding=0)
    assert outcome(given=[*TO_COLLECT, COLLECT], when=renewed) == [RESOLVED]
    assert outcome(given=[*TO_COLLECT, COLLECT], when=replace(renewed, outstanding=1)) == []
    assert outcome(given=TO_COLLECT, when=renewed) == []


def test_a_renewal_that_is_declined_before_the_release_asks_the_customer_as_a_decline_does():
    [asked] = outcome(given="confirmed", when=RecordDecline(order_id="o", attempt=1, reason="no funds"))
    assert isinstance(asked, OrderActionRequired)
    assert asked.action == "amend_payment"


def test_an_order_that_is_delivered_and_hears_nothing_of_its_payment_is_investigated():
    arrived: list[Event] = [*TO_COLLECT, delivered("p1", *ALLOCATED)]
    waiting = due("o", folded(arrived), TERMS)
    assert waiting is not None
    assert waiting[0] == NOON + TERMS.answer_timeout
    [asked] = outcome(given=arrived, when=waiting[1])
    assert isinstance(asked, OrderActionRequired)
    assert asked.action == "investigate"
    asked_by_payment = due("o", folded([*arrived, COLLECT]), TERMS)
    assert asked_by_payment is not None
    assert asked_by_payment[0] == COLLECT_BY + TERMS.answer_timeout
