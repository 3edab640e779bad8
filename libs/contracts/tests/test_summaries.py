"""What people read of events: decimals of a currency, and whole sentences."""

from typing import Any

import pytest
from oms_contracts.catalogue import TOPICS
from oms_contracts.fulfillments import FulfillmentPlanned
from oms_contracts.message import encode, type_of
from oms_contracts.money import counted, money_text
from oms_contracts.orders import OrderAccepted, OrderReserved
from oms_contracts.payments import PaymentCaptured
from oms_contracts.products import ProductCommandRefused
from oms_contracts.returns import ReturnClosed
from oms_contracts.samples import sample
from oms_contracts.sscc import is_sscc, sscc_of
from oms_contracts.stock import StockReceived, StockShipped
from oms_contracts.summaries import SUMMARIES, summary
from oms_contracts.values import AllocatedLine, StockLine


def said(cls: type[Any], **values: Any) -> str:
    event = type(sample(cls))(**{name: getattr(sample(cls), name) for name in cls.__struct_fields__} | values)
    return summary(type_of(event).name, encode(event).decode())


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(3750, "EUR", "37.50 EUR"), (3750, "JPY", "3750 JPY"), (1495, "KWD", "1.495 KWD"), (-5, "EUR", "-0.05 EUR"), (5, None, "5 minor")],
)
def test_money_is_a_decimal_of_its_currency(amount: int, currency: str | None, text: str) -> None:
    assert money_text(amount, currency).startswith(text)


def test_one_thing_is_one_thing() -> None:
    assert [counted(number, "unit") for number in (0, 1, 2, -1)] == ["0 units", "1 unit", "2 units", "-1 unit"]


def test_a_sentence_has_the_verb_of_its_number_and_amounts_as_decimals() -> None:
    one = AllocatedLine(line_id="1", sku="A", location="X", quantity=1)
    assert said(StockReceived, lines=(StockLine(sku="A", location="X", quantity=1),)) == "1 unit was received"
    assert said(StockReceived, lines=(StockLine(sku="A", location="X", quantity=2),)) == "2 units were received"
    assert said(StockShipped, lines=(one,), fulfillment_id="F") == "1 unit is booked out for F"
    assert said(FulfillmentPlanned, lines=(one,), location="X") == "X is asked to ship 1 unit"
    assert said(PaymentCaptured, amount=3750, currency="EUR", fulfillment_id="F") == "37.50 EUR was captured for F"
    assert said(OrderReserved, amount=3750, currency="EUR", attempt=1) == "Stock is held; 37.50 EUR to be authorized, attempt 1"
    assert said(OrderAccepted, total=3750, currency="EUR").endswith(", 37.50 EUR")
    assert said(ReturnClosed, return_id="R", outcome="not_refundable") == "Return R is closed: not refundable"
    refused = said(ProductCommandRefused, command="oms.inventory.DefineProduct.v1", reasons=("no",))
    assert refused == "Define product was refused: no"


def test_no_sentence_speaks_of_minor_units() -> None:
    kinds = {cls for topic in TOPICS for cls in topic.messages} & SUMMARIES.keys()
    assert len(kinds) > 50
    assert [cls.__name__ for cls in kinds if "minor" in said(cls)] == []


def test_an_sscc_of_ours_is_one() -> None:
    codes = {sscc_of(serial) for serial in (0, 1, 37610425002123456, 10**17 - 1)}
    assert len(codes) == 4
    assert all(is_sscc(code) for code in codes)
    assert sscc_of(10**17) == sscc_of(0)
