"""Orders of Shopify."""

import copy
from typing import Any

import pytest
from oms_adapters.sums import discrepancies
from oms_contracts.order_parts import DiscountShare, OrderPayment, Tax

from libs.adapters.tests.helpers import changed, fields_of, mapped, order_of, unmapped
from libs.adapters.tests.payloads import SHOPIFY, SHOPIFY_CONVERTED, SHOPIFY_OLD


def with_line(payload: dict[str, Any], index: int, **members: Any) -> dict[str, Any]:
    made = copy.deepcopy(payload)
    made["line_items"][index] |= members
    return made


def test_an_order_has_its_lines_discounts_taxes_fees_and_payments() -> None:
    order = order_of("shopify", SHOPIFY)
    assert [(line.sku, line.quantity, line.unit_price, line.total) for line in order.lines] == [
        ("MUG", 3, 1000, 2625),
        ("variant-21", 1, 1000, 775),
    ]
    assert order.lines[0].taxes == (Tax(title="VAT", amount=499, rate="0.19"),)
    assert order.lines[1].discounts == (DiscountShare(discount_id="0", amount=125), DiscountShare(discount_id="1", amount=100))
    assert [(each.kind, each.title, each.code) for each in order.discounts] == [
        ("code", "SPRING", "SPRING"),
        ("automatic", "Free gift", None),
    ]
    assert [(fee.kind, fee.amount) for fee in order.fees] == [("tip", 200), ("other", 150), ("duty", 100)]
    assert order.payments == (
        OrderPayment(id="2", kind="shopify_payments", amount=3321, token="pi_1", status="captured"),
        OrderPayment(id="3", kind="gift_card", amount=2000, token="3", status="captured"),
    )
    assert (order.number, order.purchase_order, order.tags, order.attributes) == (
        "#1001",
        "PO-7",
        ("vip", "spring"),
        {"engraving": "A. B."},
    )
    assert order.ship_to is not None
    assert (order.ship_to.country, order.ship_to.region, order.ship_to.line2) == ("GB", "ENG", "Floor 2")
    assert order.total == 5321
    assert not discrepancies(order)


def test_what_an_old_api_version_does_not_allocate_is_shared_by_largest_remainder() -> None:
    order = order_of("shopify", SHOPIFY_OLD)
    assert [line.total for line in order.lines] == [952, 1049]
    assert [line.discounts[0].amount for line in order.lines] == [48, 52]
    assert [line.taxes[0].amount for line in order.lines] == [87, 95]
    assert order.discounts[0].code == "HUNDRED"
    assert order.taxes_included


def test_amounts_are_those_that_the_customer_pays_in() -> None:
    order = order_of("shopify", SHOPIFY_CONVERTED)
    assert (order.currency, order.total, order.lines[0].unit_price, order.shipping_lines[0].total) == ("USD", 2060, 860, 460)
    assert order.fees == ()  # duties are in the prices
    without = changed(SHOPIFY_CONVERTED, total_price_set=None)
    assert fields_of(unmapped("shopify", without)) == {"total_price_set.presentment_money.amount"}


@pytest.mark.parametrize(
    ("status", "ours", "token"),
    [
        ("paid", "captured", "gid://shopify/Order/9001"),
        ("partially_refunded", "captured", "gid://shopify/Order/9001"),
        ("authorized", "authorized", "gid://shopify/Order/9001"),
        ("pending", "due", ""),
        ("voided", "authorize", "gid://shopify/Order/9001"),
        (None, "authorize", "gid://shopify/Order/9001"),
    ],
)
def test_the_financial_status_says_who_has_the_money(status: str | None, ours: str, token: str) -> None:
    order = order_of("shopify", changed(SHOPIFY, transactions=[], financial_status=status))
    assert [(each.status, each.token, each.amount) for each in order.payments] == [(ours, token, 5321)]


def test_an_authorization_that_is_not_captured_has_the_providers_id() -> None:
    held = [{"id": 1, "kind": "authorization", "status": "success", "amount": "53.21", "authorization": "auth_1", "gateway": "stripe"}]
    order = order_of("shopify", changed(SHOPIFY, transactions=held))
    assert order.payments == (OrderPayment(id="1", kind="stripe", amount=5321, token="auth_1", status="authorized"),)


def test_a_part_that_is_open_is_due() -> None:
    order = order_of("shopify", SHOPIFY_OLD)
    assert [(each.status, each.amount) for each in order.payments] == [("captured", 1500), ("due", 501)]


@pytest.mark.parametrize("transactions", [[{"currency": "AUD"}], [{"amount": "1.00"}]])
def test_transactions_that_do_not_pay_the_total_do_not_count_and_are_remarked(transactions: list[dict[str, Any]]) -> None:
    sale = {"id": 1, "kind": "sale", "status": "success", "gateway": "stripe", "amount": "53.21", "currency": "EUR"}
    result = mapped("shopify", changed(SHOPIFY, transactions=[sale | transactions[0]]))
    assert [payment.status for payment in result.order.payments] == ["captured"]
    assert any(remark.field.startswith("transactions") for remark in result.remarks)


def test_units_that_were_taken_out_before_placing_take_their_share_with_them() -> None:
    # One of three mugs of 10.00 less 3.75 goes, with a third of the taxes of 4.99, of the duty and of its tax.
    left = changed(with_line(SHOPIFY, 0, current_quantity=2), current_total_price="42.40", transactions=[])
    order = order_of("shopify", left)
    assert (order.lines[0].quantity, order.lines[0].total, order.lines[0].taxes[0].amount) == (2, 1750, 333)
    assert order.fees[2].amount == 67
    assert order.total == 4240
    wrong = changed(left, current_total_price="42.39")
    assert fields_of(unmapped("shopify", wrong)) == {"total"}


def test_a_total_that_does_not_add_up_is_refused_by_its_field() -> None:
    result = unmapped("shopify", changed(SHOPIFY, total_price="53.22", current_total_price="53.22", transactions=[]))
    assert [str(reason) for reason in result.reasons] == [
        "total: is 5322, lines 3400, shipping 700, fees 450 and taxes 771 add up to 5321",
    ]
    assert result.is_order


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"price": "10.005"}, "line_items.0.price"),
        ({"price": 1e30}, "line_items.0.price"),
        ({"quantity": 1.5}, "line_items.0.quantity"),
        ({"sku": "x" * 101}, "line_items.0.sku"),
        (
            {"discount_allocations": [{"amount": "3.75", "discount_application_index": 9}]},
            "line_items.0.discount_allocations.0.discount_application_index",
        ),
    ],
)
def test_what_cannot_be_mapped_is_refused_by_the_field_of_the_source(members: dict[str, Any], field: str) -> None:
    assert field in fields_of(unmapped("shopify", with_line(SHOPIFY, 0, **members)))


def test_a_fulfillment_order_is_not_an_order_and_says_why() -> None:
    result = unmapped("shopify", {"fulfillment_order": {"id": 1, "order_id": 2, "line_items": [{"id": 3, "quantity": 1}]}})
    assert not result.is_order
    assert result.reasons[0].field == "fulfillment_order"
    assert "no price" in result.reasons[0].reason


def test_a_canceled_or_deleted_order_says_so() -> None:
    canceled = mapped("shopify", {"order": changed(SHOPIFY, cancelled_at="2026-03-01T11:00:00Z", cancel_reason="fraud")})
    assert canceled.standing.canceled == "canceled in the shop: the shop suspects fraud"
    deleted = unmapped("shopify", {"id": 9001})
    assert deleted.standing is not None
    assert (deleted.is_order, deleted.standing.reference, deleted.standing.canceled) == (False, "9001", "it was deleted in the shop")


def test_an_order_without_address_is_collected_where_the_shop_says_or_refused() -> None:
    collected = order_of("shopify", changed(SHOPIFY, shipping_address=None, location_id=5))
    assert (collected.delivery, collected.ship_to) == ("pickup", None)
    assert collected.pickup is not None
    assert collected.pickup.location == "5"
    assert fields_of(unmapped("shopify", changed(SHOPIFY, shipping_address=None))) == {"shipping_address"}


def test_what_the_adapter_does_not_know_is_listed() -> None:
    result = mapped("shopify", changed(SHOPIFY, gift_note="Happy birthday", token="abc", company=None, wishes=[{"on": "time"}, {}]))
    assert result.unmapped_fields == ("gift_note", "wishes[].on")
