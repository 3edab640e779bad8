from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from oms_capture.validation import MAX_LINES, MAX_MONEY, MAX_PARTS, MAX_UNITS, Market, objections
from oms_contracts.channel import OrderPlaced
from oms_contracts.order_parts import Discount, DiscountShare, Fee, LineItem, OrderPayment, ShippingLine, Tax
from oms_contracts.strict import MAX_REASONS
from oms_contracts.values import Address, Customer

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MARKET = Market(channels=frozenset({"web"}))
HOME = Address(name="Ada", street="Main St 1", postal_code="10115", city="Berlin", country="DE")
LOYAL = Discount(id="loyal", title="Loyalty card")
SHARE = DiscountShare(discount_id="loyal", amount=100)
LINE = LineItem(line_id="A", sku="mug", quantity=2, unit_price=500, total=900, discounts=(SHARE,))
SHIPPING = ShippingLine(id="1", title="Standard", price=400, total=400)
CARD = OrderPayment(id="1", kind="card", amount=1_300, token="tok")  # made up
VAT = Tax(title="VAT", amount=171, rate="0.19")
VALID = OrderPlaced(
    channel="web",
    channel_reference="W1",
    placed_at=NOON,
    customer=Customer(id="ada"),
    currency="EUR",
    lines=(LINE,),
    shipping_lines=(SHIPPING,),
    discounts=(LOYAL,),
    total=1_300,
    payments=(CARD,),
    ship_to=HOME,
)


def costing(total: int, **changes: Any) -> OrderPlaced:
    """The order with these changes, costing so much and paid by card."""
    return replace(VALID, total=total, payments=(replace(CARD, amount=total),), **changes)


def with_line(discount: int = 100, **changes: Any) -> OrderPlaced:
    line = replace(LINE, discounts=(replace(SHARE, amount=discount),) if discount else (), **changes)
    return costing(line.total + 400, lines=(line,))


def with_shipping(price: int, **changes: Any) -> OrderPlaced:
    line = replace(SHIPPING, price=price, total=price, **changes)
    return costing(900 + line.total, shipping_lines=(line,))


def with_fee(amount: int, **changes: Any) -> OrderPlaced:
    return costing(1_300 + amount, fees=(Fee(kind="wrap", title="Gift wrap", amount=amount, **changes),))


def paid(*payments: OrderPayment) -> OrderPlaced:
    return replace(VALID, payments=payments)


def by(payment_id: str, amount: int, status: str = "authorize", token: str = "tok") -> OrderPayment:  # noqa: S107  # made up
    return OrderPayment(id=payment_id, kind="card", amount=amount, status=status, token=token)


@pytest.mark.parametrize(
    "valid",
    [
        VALID,
        replace(VALID, placed_at=NOON + timedelta(days=1)),
        replace(VALID, delivery="pickup", ship_to=None),
        replace(VALID, ship_to=replace(HOME, postal_code="")),
        with_line(unit_price=50, total=0),
        replace(with_line(unit_price=50, total=0), shipping_lines=(), total=0, payments=()),
        with_line(quantity=1, discount=0, total=500),
        with_line(quantity=MAX_UNITS, unit_price=0, discount=0, total=0),
        costing(900 * MAX_LINES + 400, lines=tuple(replace(LINE, line_id=str(n)) for n in range(MAX_LINES))),
        with_shipping(MAX_MONEY - 900),
        with_line(taxes=(VAT,)),
        costing(1_471, taxes_included=False, lines=(replace(LINE, taxes=(VAT,)),)),
        costing(1_471, taxes_included=False, shipping_lines=(replace(SHIPPING, taxes=(VAT,)),)),
        costing(1_571, taxes_included=False, fees=(Fee(kind="wrap", title="Gift wrap", amount=100, taxes=(VAT,)),)),
        costing(1_900, lines=(LINE, LineItem(line_id="B", sku="e-book", quantity=1, unit_price=600, total=600, requires_shipping=False))),
        costing(1_250, shipping_lines=(replace(SHIPPING, total=350, discounts=(replace(SHARE, amount=50),)),)),
        paid(by("1", 1_000), by("2", 200, "captured", ""), by("3", 100, "due", "")),
        paid(by("1", 1_300, "authorized")),
        paid(by("1", 1_300, "due", "")),
        replace(VALID, bill_to=HOME),
        replace(VALID, tags=("a",) * MAX_PARTS),
        with_line(taxes=tuple(replace(VAT, rate=rate) for rate in (None, "0", "0.19", "1", "999.0123456789"))),
    ],
    ids=[
        *("plain", "clock slightly ahead", "pickup", "no postal code", "free line", "free order"),
        *("one unit", "most units", "most lines", "most money"),
        *("tax included", "tax on top", "tax on shipping", "tax on a fee", "digital line", "discounted shipping"),
        *("three payments", "authorized by the channel", "by invoice", "bill elsewhere", "most tags", "rates"),
    ],
)
def test_a_valid_order_has_no_objections(valid: OrderPlaced):
    assert objections(valid, NOON, MARKET) == ()


@pytest.mark.parametrize(
    "case",
    [
        (replace(VALID, channel="fax"), "channel: 'fax' is not a known channel"),
        (replace(VALID, channel_reference=" "), "channel_reference: must not be empty"),
        (replace(VALID, currency="DM"), "currency: 'DM' is not an ISO 4217 code"),
        (replace(VALID, placed_at=NOON + timedelta(days=1, seconds=1)), "placed_at: lies in the future"),
        (replace(VALID, customer=Customer(id="")), "customer.id: must not be empty"),
        (paid(by("1", 1_300, token=" ")), "payments.0.token: must not be empty"),
        (costing(400, lines=()), "lines: an order has 1 to 1000 lines, this one 0"),
        (
            costing(1_300, lines=(replace(LINE, requires_shipping=False),)),
            "lines: none of them is shipped; an order of digital goods alone is not taken yet",
        ),
        (with_shipping(-1), "shipping_lines.0.price: must not be negative, is -1", "shipping_lines.0.total: must not be negative, is -1"),
        (costing(1_301, shipping_lines=(replace(SHIPPING, total=401),)), "shipping_lines.0.total: is 401, 400 - 0 is 400"),
        (with_shipping(400, taxes=(replace(VAT, amount=-1),)), "shipping_lines.0.taxes.0.amount: must not be negative, is -1"),
        (
            costing(1_299, shipping_lines=(replace(SHIPPING, total=399, discounts=(DiscountShare(discount_id="spring", amount=1),)),)),
            "shipping_lines.0.discounts.0.discount_id: 'spring' is none of the order's discounts",
        ),
        (with_fee(-1), "fees.0.amount: must not be negative, is -1"),
        (with_fee(1, taxes=(replace(VAT, rate="19 %"),)), "fees.0.taxes.0.rate: '19 %' is not a decimal fraction such as 0.19"),
        (with_line(taxes=(replace(VAT, rate="-0.19"),)), "lines.0.taxes.0.rate: '-0.19' is not a decimal fraction such as 0.19"),
        (with_line(taxes=(VAT,) * (MAX_PARTS + 1)), "lines.0.taxes: are at most 100, these are 101"),
        (
            costing(1_300, taxes_included=False, lines=(replace(LINE, taxes=(VAT,)),)),
            "total: is 1300, lines, shipping, fees and taxes add up to 1471",
        ),
        (costing(1_471, lines=(replace(LINE, taxes=(VAT,)),)), "total: is 1471, lines, shipping, fees and taxes add up to 1300"),
        (paid(), "payments: add up to 0, the total is 1300"),
        (paid(by("1", 1_299)), "payments: add up to 1299, the total is 1300"),
        (paid(by("1", 1_301), by("2", -1, "due")), "payments.1.amount: must not be negative, is -1"),
        (
            paid(by("1", 1_000), by("2", 300, "authorized")),
            "payments: at most one is to be collected here (authorize or authorized); the others must be captured or due",
        ),
        (paid(by("1", 1_300, "paid")), "payments.0.status: 'paid' is none of authorize, authorized, captured, due"),
        (paid(by("1", 1_300, "authorized", "")), "payments.0.token: must not be empty"),
        (replace(VALID, bill_to=replace(HOME, country="XX")), "bill_to.country: 'XX' is not an ISO 3166-1 alpha-2 code"),
        (replace(VALID, discounts=()), "lines.0.discounts.0.discount_id: 'loyal' is none of the order's discounts"),
        (replace(VALID, tags=("a",) * (MAX_PARTS + 1)), "tags: are at most 100, these are 101"),
        (replace(VALID, discounts=(LOYAL,) * (MAX_PARTS + 1)), "discounts: are at most 100, these are 101"),
        (replace(VALID, fees=(Fee(kind="wrap", title="", amount=0),) * (MAX_PARTS + 1)), "fees: are at most 100, these are 101"),
        (replace(VALID, shipping_lines=(SHIPPING,) * (MAX_PARTS + 1)), "shipping_lines: are at most 100, these are 101"),
        (replace(VALID, payments=(CARD,) * (MAX_PARTS + 1)), "payments: are at most 100, these are 101"),
        (
            costing(
                1_300 - 1, lines=(replace(LINE, total=899, discounts=(SHARE, *(replace(SHARE, amount=0),) * 99, replace(SHARE, amount=1))),)
            ),
            "lines.0.discounts: are at most 100",
        ),
        (costing(1_299), "total: is 1299, lines, shipping, fees and taxes add up to 1300"),
        (with_shipping(MAX_MONEY), f"total: must be between 0 and {MAX_MONEY}"),
        (replace(VALID, delivery="drone"), "delivery: 'drone' is neither ship nor pickup"),
        (replace(VALID, ship_to=None), "ship_to: an order to be shipped needs an address"),
        (replace(VALID, ship_to=replace(HOME, name=" ")), "ship_to.name: must not be empty"),
        (replace(VALID, ship_to=replace(HOME, street="")), "ship_to.street: must not be empty"),
        (replace(VALID, ship_to=replace(HOME, city="")), "ship_to.city: must not be empty"),
        (replace(VALID, ship_to=replace(HOME, country="XX")), "ship_to.country: 'XX' is not an ISO 3166-1 alpha-2 code"),
        (with_line(line_id=" "), "lines.0.line_id: ' ' is empty or used twice"),
        (costing(2_200, lines=(LINE, LINE)), "lines.1.line_id: 'A' is empty or used twice"),
        (with_line(sku=""), "lines.0.sku: must not be empty"),
        (with_line(quantity=0, discount=0, total=0), f"lines.0.quantity: must be between 1 and {MAX_UNITS}, is 0"),
        (with_line(discount=-100, total=1_100), "lines.0.discounts.0.amount: must not be negative, is -100"),
        (with_line(discount=1_001, total=-1), "lines.0.total: must not be negative, is -1"),
        (with_line(total=1_000), "lines.0.total: is 1000, 2 x 500 - 100 is 900"),
    ],
)
def test_an_objection_names_the_field_and_the_reason(case: tuple[Any, ...]):
    order, *reasons = case
    assert objections(order, NOON, MARKET) == tuple(reasons)


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
        replace(
            VALID,
            channel="fax",
            currency="DM",
            shipping_lines=(replace(SHIPPING, price=-1, total=-1, taxes=(replace(VAT, rate="19"), replace(VAT, rate="x"))),),
            payments=(replace(CARD, status="paid"),),
            ship_to=None,
            lines=(replace(LINE, sku=""),),
        ),
        NOON,
        MARKET,
    )
    assert [reason.partition(":")[0] for reason in every] == [
        *("channel", "currency", "total", "payments.0.status", "ship_to", "lines.0.sku"),
        *("shipping_lines.0.price", "shipping_lines.0.total", "shipping_lines.0.taxes.1.rate"),
    ]


def test_the_first_of_many_objections_are_named_and_the_others_counted():
    lines = tuple(replace(LINE, line_id=str(number), sku="") for number in range(MAX_LINES + 1))
    reasons = objections(costing(400 + 900 * len(lines), lines=lines), NOON, MARKET)
    assert reasons[0] == "lines: an order has 1 to 1000 lines, this one 1001"
    assert reasons[1] == "lines.0.sku: must not be empty"
    assert len(reasons) <= MAX_REASONS
    assert reasons[-1] == f"and {1 + len(lines) - (len(reasons) - 1)} more"


def test_every_channel_is_admitted_where_no_channel_is_configured():
    assert objections(replace(VALID, channel="fax"), NOON, Market()) == ()
