"""Every sum of an order is compared, and the one that is wrong is named."""

from typing import Any

import pytest
from msgspec.structs import replace
from oms_adapters.sums import discrepancies
from oms_contracts.channel import OrderPlaced
from oms_contracts.order_parts import DiscountShare, Fee, LineItem, OrderPayment, ShippingLine, Tax

from libs.adapters.tests.helpers import order_of
from libs.adapters.tests.payloads import SHOPIFY

ORDER: OrderPlaced = order_of("shopify", SHOPIFY)
LINE: LineItem = ORDER.lines[0]
SHIPPING: ShippingLine = ORDER.shipping_lines[0]


def with_line(**members: Any) -> OrderPlaced:
    return replace(ORDER, lines=(replace(LINE, **members), *ORDER.lines[1:]))


def test_an_order_that_adds_up_has_no_discrepancy() -> None:
    assert discrepancies(ORDER) == ()


@pytest.mark.parametrize(
    ("order", "fields"),
    [
        (replace(ORDER, total=ORDER.total + 1), ["total", "payments"]),
        (replace(ORDER, payments=()), ["payments"]),
        (replace(ORDER, payments=(*ORDER.payments, OrderPayment(id="9", kind="x", amount=1))), ["payments"]),
        (replace(ORDER, taxes_included=True), ["total"]),
        (replace(ORDER, fees=(*ORDER.fees, Fee(kind="tip", title="Tip", amount=1))), ["total"]),
        (with_line(unit_price=LINE.unit_price + 1), ["lines.0.total"]),
        (with_line(total=LINE.total + 1), ["lines.0.total", "total"]),
        (with_line(taxes=(*LINE.taxes, Tax(title="More", amount=1))), ["total"]),
        (with_line(discounts=()), ["lines.0.total"]),
        (with_line(discounts=(DiscountShare(discount_id="x", amount=375),)), ["lines.0.discounts.0.discount_id"]),
        (replace(ORDER, shipping_lines=(replace(SHIPPING, price=1),)), ["shipping_lines.0.total"]),
        (replace(ORDER, discounts=(*ORDER.discounts, ORDER.discounts[0])), ["discounts"]),
    ],
)
def test_a_sum_that_does_not_add_up_is_named(order: OrderPlaced, fields: list[str]) -> None:
    assert [reason.field for reason in discrepancies(order)] == fields
