from datetime import UTC, datetime
from typing import Any

import pytest
from oms_contracts.fulfillments import FulfillmentShipped
from oms_contracts.order_parts import ChargedLine
from oms_contracts.orders import OrderCanceled, OrderExpired, OrderReserved
from oms_contracts.returns import ReturnRefundRequested
from oms_contracts.values import AllocatedLine, InspectedLine, Package, PaymentMethod
from oms_payment.commands import AuthorizeOrder, CaptureShipment, RefundReturn, ReleasePayment
from oms_payment.policies import POLICIES

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
CARD = PaymentMethod(kind="card", token="tok_visa")  # no secret
SOCKS = ChargedLine(line_id="1", sku="SOCKS", quantity=3, amount=12_00)


RESERVED: dict[str, Any] = {
    "order_id": "O",
    "attempt": 2,
    "total": 17_00,
    "amount": 15_00,
    "currency": "EUR",
    "payment": CARD,
    "lines": (SOCKS,),
}


def of(line_id: str, quantity: int) -> AllocatedLine:
    return AllocatedLine(line_id=line_id, sku="SOCKS", location="X", quantity=quantity)


def package(package_id: str, *lines: AllocatedLine) -> Package:
    return Package(package_id=package_id, carrier="dhl", tracking_number=package_id, lines=lines)


@pytest.mark.parametrize(
    ("event", "command"),
    [
        (
            OrderReserved(at=NOON, authorization_id="auth", **RESERVED),
            AuthorizeOrder(authorization_id="auth", **RESERVED),
        ),
        (OrderCanceled(order_id="O", reason="too slow", at=NOON), ReleasePayment(order_id="O", reason="too slow")),
        (OrderExpired(order_id="O", reason="too late", at=NOON), ReleasePayment(order_id="O", reason="too late")),
        (
            FulfillmentShipped(
                order_id="O",
                fulfillment_id="O/X",
                location="X",
                packages=(package("A", of("1", 2), of("2", 1)), package("B", of("1", 1))),
                at=NOON,
            ),
            CaptureShipment(order_id="O", fulfillment_id="O/X", lines=(of("1", 2), of("2", 1), of("1", 1))),
        ),
        (
            ReturnRefundRequested(
                order_id="O",
                return_id="R",
                amount=4_00,
                currency="EUR",
                lines=(InspectedLine(line_id="1", sku="SOCKS", quantity=1, disposition="restock"),),
                at=NOON,
            ),
            RefundReturn(order_id="O", refund_id="R", amount=4_00),
        ),
    ],
)
def test_an_event_means_one_command(event: Any, command: object):
    assert list(POLICIES[type(event)](event)) == [command]
