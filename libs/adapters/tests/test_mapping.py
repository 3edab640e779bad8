"""Orders mapped by a file: Saleor, Amazon, and files that are none."""

import copy
import time

import pytest
from oms_adapters.mapping import InvalidMapping, adapter_of
from oms_adapters.parts import map_payload
from oms_adapters.results import Mapped
from oms_contracts.order_parts import DiscountShare, OrderPayment

from libs.adapters.tests.helpers import changed, fields_of, mapped, order_of, unmapped
from libs.adapters.tests.payloads import AMAZON, SALEOR, raw

SMALLEST = """
name = "till"
[order]
channel_reference = "id"
placed_at = "at"
currency = "currency"
total = {from = "total", exponent = 3}
delivery = {constant = "pickup"}
customer = {id = {from = "who", default = "guest"}}
lines = [{each = "items", sku = "sku", quantity = "n", unit_price = "price"}]
payment_rest = 1
"""


def test_an_order_of_saleor_has_its_reduction_as_a_discount_and_what_is_open_as_due() -> None:
    order = order_of("saleor", SALEOR)
    [line] = order.lines
    assert (line.sku, line.title, line.unit_price, line.total) == ("MUG", "Mug / blue", 1010, 2730)
    assert line.discounts == (DiscountShare(discount_id="reduction-1", amount=300),)
    assert order.discounts[0].title == "Spring sale"
    assert (order.taxes_included, line.taxes[0].amount, order.shipping_lines[0].total) == (True, 436, 470)
    assert order.payments == (
        OrderPayment(id="1", kind="visa", amount=3000, token="pi_1", status="authorized"),
        OrderPayment(id="2", kind="invoice", amount=200, status="due"),
    )


def test_an_order_of_amazon_has_its_charges_by_item_and_its_rounding_named() -> None:
    order = order_of("amazon", AMAZON)
    [line] = order.lines
    assert (line.unit_price, line.quantity, line.total) == (834, 3, 2300)
    assert {share.discount_id: share.amount for share in line.discounts} == {"promotion": 200, "rounding": 2}
    assert (order.shipping_lines[0].price, order.shipping_lines[0].total, order.shipping_lines[0].code) == (400, 300, "STANDARD")
    assert [(fee.kind, fee.amount, fee.taxes[0].amount) for fee in order.fees] == [("wrap", 200, 40)]
    assert order.payments[0].status == "captured"


def test_orders_that_amazon_ships_itself_are_not_ours() -> None:
    payload = copy.deepcopy(AMAZON)
    payload["order"]["fulfillment"]["fulfilledBy"] = "AMAZON"
    result = unmapped("amazon", payload)
    assert (result.is_order, fields_of(result)) == (False, {"fulfillment.fulfilledBy"})


def test_a_mapped_payload_says_which_field_lacks_what() -> None:
    payload = copy.deepcopy(SALEOR)
    payload["lines"][0]["productSku"] = None
    del payload["created"]
    payload["lines"][0]["totalPrice"]["gross"]["amount"] = 27.305
    assert fields_of(unmapped("saleor", payload)) == {
        "placed_at (created)",
        "lines.0.sku (productSku || productVariantId || variant.id)",
        "lines.0.total (totalPrice.gross.amount)",
    }


def test_a_canceled_order_says_so_and_what_is_not_known_is_listed() -> None:
    result = mapped("saleor", changed(SALEOR, status="CANCELED", giftMessage="Hello", lines=[SALEOR["lines"][0] | {"wish": 1}]))
    assert result.standing.canceled
    assert result.unmapped_fields == ("lines[].wish", "giftMessage")


def test_a_file_of_ones_own_maps_orders_with_amounts_in_units_of_its_own() -> None:
    text = SMALLEST.replace("payment_rest = 1", '[payment_rest]\nkind={constant="cash"}\nstatus={constant="captured"}')
    payload = {"id": 7, "at": "2026-03-01T10:00:00Z", "currency": "eur", "total": 20500, "items": [{"sku": "A", "n": 2, "price": "10.25"}]}
    result = map_payload(adapter_of(text), raw(payload), channel="till")
    assert isinstance(result, Mapped)
    assert (result.order.channel_reference, result.order.customer.id, result.order.total) == ("7", "guest", 2050)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('channel_reference = "id"', "", "order.channel_reference"),
        ('sku = "sku"', 'sku = "sku", skew = "x"', "order.lines.0.skew"),
        ('sku = "sku"', 'sku = "a..b"', "order.lines.0.sku"),
        ('sku = "sku"', 'sku = "sum(a)"', "order.lines.0.sku"),
        ('sku = "sku"', 'sku = {form = "sku"}', "order.lines.0.sku"),
        ('sku = "sku"', f'sku = "{"a." * 300}a"', "order.lines.0.sku"),
        ('sku = "sku"', f'sku = "a{"[]" * 20}"', "order.lines.0.sku"),
        ("exponent = 3", "exponent = 30", "order.total.exponent"),
        ('currency = "currency"', "currency = 5", "order.currency"),
        ('name = "till"', "", "name"),
        ('name = "till"', "name = ", "file"),
        ('name = "till"', 'name = "till"\nstanding = 5', "standing"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_by_its_field(old: str, new: str, field: str) -> None:
    text = SMALLEST.replace("payment_rest = 1\n", "")
    adapter_of(text)
    with pytest.raises(InvalidMapping) as caught:
        adapter_of(text.replace(old, new))
    assert field in {reason.field for reason in caught.value.reasons}


def test_a_large_order_takes_no_longer_than_its_lines() -> None:
    item = AMAZON["order"]["orderItems"][0]
    payload = {"order": AMAZON["order"] | {"orderItems": [item | {"orderItemId": str(number)} for number in range(1_000)]}}
    begun = time.perf_counter()
    unmapped("amazon", payload)  # the total is that of one item
    assert time.perf_counter() - begun < 5
