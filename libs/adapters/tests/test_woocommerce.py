"""Orders of WooCommerce."""

import copy
from typing import Any

import pytest
from oms_contracts.order_parts import OrderPayment

from libs.adapters.tests.helpers import changed, fields_of, mapped, order_of, unmapped
from libs.adapters.tests.payloads import WOOCOMMERCE


def with_line(index: int, **members: Any) -> dict[str, Any]:
    made = copy.deepcopy(WOOCOMMERCE)
    made["line_items"][index] |= members
    return made


def test_an_order_has_its_lines_taxes_and_fees() -> None:
    order = order_of("woocommerce", WOOCOMMERCE)
    assert [(line.sku, line.quantity, line.unit_price, line.total) for line in order.lines] == [
        ("product-93", 3, 667, 1637),
        ("PLATE", 1, 1200, 963),
    ]
    assert order.lines[0].title == "Mug – blue"
    assert [(tax.title, tax.amount, tax.rate) for tax in order.lines[0].taxes] == [("State Tax", 83, "0.0725"), ("City Tax", 41, "0.0125")]
    assert [(fee.title, fee.amount) for fee in order.fees] == [("Wrapping", 100)]
    assert (order.total, order.taxes_included) == (3941, False)
    assert order.attributes == {"engraving": "A. B.", "options": '{"box":true}'}
    assert (order.purchase_order, order.customer.tax_id, order.customer.id) == ("PO-7", "DE123456789", "5")
    assert order.placed_at.isoformat() == "2026-03-01T17:00:00+00:00"


def test_coupons_and_fees_below_zero_are_shared_over_lines_and_rounding_is_named() -> None:
    order = order_of("woocommerce", WOOCOMMERCE)
    shared = {
        name: sum(share.amount for line in order.lines for share in line.discounts if share.discount_id == name)
        for name in ("coupon-0", "coupon-1", "fee-5", "rounding")
    }
    assert shared == {"coupon-0": 300, "coupon-1": 200, "fee-5": 100, "rounding": 1}
    assert {discount.id: discount.kind for discount in order.discounts} == {
        "coupon-0": "code",
        "coupon-1": "code",
        "fee-5": "other",
        "rounding": "rounding",
    }


def test_a_gift_card_is_a_payment() -> None:
    order = order_of("woocommerce", WOOCOMMERCE)
    assert order.payments == (
        OrderPayment(id="gift-8", kind="gift_card", amount=500, status="captured"),
        OrderPayment(id="1", kind="stripe", amount=3441, token="pi_1", status="captured"),
    )


@pytest.mark.parametrize(
    ("members", "ours"),
    [
        ({"payment_method": "cod"}, "due"),
        ({"payment_method": "bacs", "status": "on-hold"}, "due"),
        ({"payment_method": "stripe", "status": "on-hold"}, "authorized"),
        ({"payment_method": "stripe", "transaction_id": ""}, "authorize"),
    ],
)
def test_an_order_that_is_not_paid_says_who_takes_the_money(members: dict[str, Any], ours: str) -> None:
    order = order_of("woocommerce", changed(WOOCOMMERCE, date_paid=None, date_paid_gmt=None, **members))
    assert order.payments[-1].status == ours


def test_an_order_whose_customer_has_not_paid_yet_waits() -> None:
    result = unmapped("woocommerce", changed(WOOCOMMERCE, status="pending", date_paid=None, date_paid_gmt=None))
    assert (result.is_order, fields_of(result)) == (False, {"status"})


def test_taxes_that_the_shop_rounds_by_order_leave_a_rest_that_is_named() -> None:
    more = order_of("woocommerce", changed(WOOCOMMERCE, total="34.42", total_tax="2.42"))
    assert [(fee.title, fee.amount) for fee in more.fees] == [("Wrapping", 100), ("Rounding", 1)]
    less = order_of("woocommerce", changed(WOOCOMMERCE, total="34.40", total_tax="2.40"))
    assert (less.total, [line.total for line in less.lines]) == (3940, [1636, 963])
    assert fields_of(unmapped("woocommerce", changed(WOOCOMMERCE, total="34.51", total_tax="2.51"))) == {"total"}


def test_a_refund_is_not_an_order_and_says_why() -> None:
    result = unmapped("woocommerce", {"id": 726, "amount": "10.00", "refunded_by": 1, "refunded_payment": False, "line_items": []})
    assert (result.is_order, fields_of(result), result.standing) == (False, {"refunded_payment"}, None)


@pytest.mark.parametrize("status", ["cancelled", "refunded", "trash"])
def test_a_status_may_cancel(status: str) -> None:
    assert mapped("woocommerce", changed(WOOCOMMERCE, status=status)).standing.canceled


def test_an_empty_shipping_address_is_the_billing_address_unless_the_goods_are_collected() -> None:
    nowhere = {"first_name": "", "address_1": "", "city": "", "postcode": "", "country": ""}
    assert order_of("woocommerce", changed(WOOCOMMERCE, shipping=nowhere)).ship_to is not None
    shipping_lines = [WOOCOMMERCE["shipping_lines"][0] | {"method_id": "local_pickup"}]
    assert order_of("woocommerce", changed(WOOCOMMERCE, shipping_lines=shipping_lines)).delivery == "pickup"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"total": "17.001"}, "line_items.0.total"),
        ({"quantity": "2.5"}, "line_items.0.quantity"),
        ({"subtotal": None}, "line_items.0.subtotal"),
        ({"product_id": 0, "variation_id": 0}, "line_items.0.sku"),
    ],
)
def test_what_cannot_be_mapped_is_refused_by_the_field_of_the_source(members: dict[str, Any], field: str) -> None:
    assert field in fields_of(unmapped("woocommerce", with_line(0, **members)))


def test_lists_that_are_shared_over_all_lines_are_short() -> None:
    coupons = [{"code": str(number), "discount": "0.01"} for number in range(101)]
    assert "coupon_lines" in fields_of(unmapped("woocommerce", changed(WOOCOMMERCE, coupon_lines=coupons)))
