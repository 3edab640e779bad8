from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from oms_capture.validation import MAX_LINES, MAX_MONEY, MAX_UNITS, Market, objections
from oms_contracts.channel import OrderPlaced
from oms_contracts.strict import MAX_REASONS
from oms_contracts.values import Address, Customer, OrderLine, PaymentMethod

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MARKET = Market(channels=frozenset({"web"}))
HOME = Address(name="Ada", street="Main St 1", postal_code="10115", city="Berlin", country="DE")
LINE = OrderLine(line_id="A", sku="mug", quantity=2, unit_price=500, total=900, discount=100)
VALID = OrderPlaced(
    channel="web",
    channel_reference="W1",
    placed_at=NOON,
    customer=Customer(id="ada"),
    currency="EUR",
    lines=(LINE,),
    shipping=400,
    total=1_300,
    payment=PaymentMethod(kind="card", token="tok"),  # made up
    ship_to=HOME,
)


def with_line(**changes: Any) -> OrderPlaced:
    line = replace(LINE, **changes)
    return replace(VALID, lines=(line,), total=line.total + 400)


@pytest.mark.parametrize(
    "valid",
    [
        VALID,
        replace(VALID, placed_at=NOON + timedelta(days=1)),
        replace(VALID, delivery="pickup", ship_to=None),
        replace(VALID, ship_to=replace(HOME, postal_code="")),
        with_line(unit_price=50, total=0),
        replace(with_line(unit_price=50, total=0), shipping=0, total=0),
        with_line(quantity=1, discount=0, total=500),
        with_line(quantity=MAX_UNITS, unit_price=0, discount=0, total=0),
        replace(VALID, lines=tuple(replace(LINE, line_id=str(n)) for n in range(MAX_LINES)), total=900 * MAX_LINES + 400),
        replace(VALID, shipping=MAX_MONEY - 900, total=MAX_MONEY),
    ],
    ids=[
        *("plain", "clock slightly ahead", "pickup", "no postal code", "free line", "free order"),
        *("one unit", "most units", "most lines", "most money"),
    ],
)
def test_a_valid_order_has_no_objections(valid: OrderPlaced):
    assert objections(valid, NOON, MARKET) == ()


@pytest.mark.parametrize(
    ("order", "objection"),
    [
        (replace(VALID, channel="fax"), "channel: 'fax' is not a known channel"),
        (replace(VALID, channel_reference=" "), "channel_reference: must not be empty"),
        (replace(VALID, currency="DM"), "currency: 'DM' is not an ISO 4217 code"),
        (replace(VALID, placed_at=NOON + timedelta(days=1, seconds=1)), "placed_at: lies in the future"),
        (replace(VALID, customer=Customer(id="")), "customer.id: must not be empty"),
        (replace(VALID, payment=PaymentMethod(kind="card", token="")), "payment.token: must not be empty"),
        (replace(VALID, lines=(), total=400), "lines: an order has 1 to 1000 lines, this one 0"),
        (replace(VALID, shipping=-1, total=899), "shipping: must not be negative"),
        (replace(VALID, total=1_299), "total: is 1299, lines and shipping add up to 1300"),
        (replace(VALID, shipping=MAX_MONEY, total=MAX_MONEY + 900), f"total: must be between 0 and {MAX_MONEY}"),
        (replace(VALID, delivery="drone"), "delivery: 'drone' is neither ship nor pickup"),
        (replace(VALID, ship_to=None), "ship_to: an order to be shipped needs an address"),
        (replace(VALID, ship_to=replace(HOME, name=" ")), "ship_to.name: must not be empty"),
        (replace(VALID, ship_to=replace(HOME, street="")), "ship_to.street: must not be empty"),
        (replace(VALID, ship_to=replace(HOME, city="")), "ship_to.city: must not be empty"),
        (replace(VALID, ship_to=replace(HOME, country="XX")), "ship_to.country: 'XX' is not an ISO 3166-1 alpha-2 code"),
        (with_line(line_id=" "), "lines.0.line_id: ' ' is empty or used twice"),
        (replace(VALID, lines=(LINE, LINE), total=2_200), "lines.1.line_id: 'A' is empty or used twice"),
        (with_line(sku=""), "lines.0.sku: must not be empty"),
        (with_line(quantity=0, discount=0, total=0), f"lines.0.quantity: must be between 1 and {MAX_UNITS}, is 0"),
        (with_line(discount=-100, total=1_100), "lines.0.discount: must not be negative, is -100"),
        (with_line(discount=1_001, total=-1), "lines.0.total: must not be negative, is -1"),
        (with_line(total=1_000), "lines.0.total: is 1000, 2 x 500 - 100 is 900"),
    ],
)
def test_an_objection_names_the_field_and_the_reason(order: OrderPlaced, objection: str):
    assert objections(order, NOON, MARKET) == (objection,)


def test_a_negative_amount_of_a_line_is_an_objection():
    assert objections(with_line(unit_price=-1, discount=0, total=-2), NOON, MARKET) == (
        "lines.0.unit_price: must not be negative, is -1",
        "lines.0.total: must not be negative, is -2",
    )


@pytest.mark.parametrize("quantity", [MAX_UNITS + 1, -MAX_UNITS])
def test_a_quantity_out_of_bounds_is_an_objection(quantity: int):
    assert any(reason.startswith("lines.0.quantity") for reason in objections(with_line(quantity=quantity), NOON, MARKET))


def test_every_objection_is_named_at_once():
    every = objections(
        replace(VALID, channel="fax", currency="DM", shipping=-1, ship_to=None, lines=(replace(LINE, sku=""),)), NOON, MARKET
    )
    assert [reason.partition(":")[0] for reason in every] == ["channel", "currency", "shipping", "total", "ship_to", "lines.0.sku"]


def test_the_first_of_many_objections_are_named_and_the_others_counted():
    lines = tuple(replace(LINE, line_id=str(number), sku="") for number in range(MAX_LINES + 1))
    reasons = objections(replace(VALID, lines=lines, total=400 + 900 * len(lines)), NOON, MARKET)
    assert reasons[0] == "lines: an order has 1 to 1000 lines, this one 1001"
    assert reasons[1] == "lines.0.sku: must not be empty"
    assert len(reasons) <= MAX_REASONS
    assert reasons[-1] == f"and {1 + len(lines) - (len(reasons) - 1)} more"


def test_every_channel_is_admitted_where_no_channel_is_configured():
    assert objections(replace(VALID, channel="fax"), NOON, Market()) == ()
