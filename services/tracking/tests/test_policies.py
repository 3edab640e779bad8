from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace
from oms_contracts.fulfillments import FulfillmentShipped
from oms_contracts.order_parts import ChargedLine, LineItem, OrderPayment, PersonalData
from oms_contracts.orders import (
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderCompleted,
    OrderConfirmed,
    OrderExpired,
    OrderPaymentAmended,
    OrderRejected,
    OrderReleased,
)
from oms_contracts.values import Address, AllocatedLine, Customer, Package, PaymentMethod
from oms_tracking.app import make_service
from oms_tracking.commands import Command, RecordActionRequired, RecordOrderStatus, RecordRelease, RecordShipment
from oms_tracking.policies import POLICIES

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOME = Address(name="A. Lovelace", street="Main St 1", postal_code="10115", city="Berlin", country="DE")
ADA = Customer(id="C")
CARD = PaymentMethod(kind="card", token="tok_1")  # a provider's reference, not a secret
SOLD = (ChargedLine(line_id="1", sku="MUG", quantity=2, amount=1000),)
LINES = (AllocatedLine(line_id="1", sku="MUG", location="BER", quantity=2),)
PACKAGES = (Package(package_id="376104250021234569", carrier="DHL", tracking_number="N1", lines=LINES),)

ACCEPTED = OrderAccepted(
    order_id="A",
    channel="web",
    channel_reference="1",
    content_hash="h",
    placed_at=NOON,
    accepted_at=NOON,
    currency="EUR",
    lines=(LineItem(line_id="1", sku="MUG", quantity=2, unit_price=500, total=1000),),
    total=1000,
    payments=(OrderPayment(id="1", kind="card", amount=1000, token=CARD.token),),
    delivery="ship",
    location=None,
    personal=PersonalData(customer=ADA, ship_to=HOME),
    number="#1001",
)
REJECTED = OrderRejected(
    order_id="A",
    channel="web",
    channel_reference="1",
    content_hash="h",
    reasons=("total: is 1", "sku: must not be empty"),
    rejected_at=NOON,
)


def status(name: str, detail: str | None = None, attempt: int = 1) -> RecordOrderStatus:
    return RecordOrderStatus(order_id="A", status=name, detail=detail, at=NOON, attempt=attempt)


@pytest.mark.parametrize(
    ("event", "command"),
    [
        (ACCEPTED, replace(status("accepted"), channel="web", channel_reference="1", number="#1001")),
        (REJECTED, replace(status("rejected", "total: is 1; sku: must not be empty", 0), channel="web", channel_reference="1")),
        (
            replace(REJECTED, attempt=2),
            replace(status("rejected", "total: is 1; sku: must not be empty", 2), channel="web", channel_reference="1"),
        ),
        (
            OrderActionRequired(order_id="A", action="amend_payment", reason="declined", deadline=NOON, at=NOON, attempt=1),
            RecordActionRequired(order_id="A", action="amend_payment", reason="declined", at=NOON, attempt=1),
        ),
        (OrderPaymentAmended(order_id="A", attempt=2, payment=CARD, lines=SOLD, location=None, at=NOON), status("accepted", attempt=2)),
        (OrderConfirmed(order_id="A", at=NOON), status("confirmed")),
        (
            OrderReleased(order_id="A", delivery="ship", lines=LINES, at=NOON),
            RecordRelease(order_id="A", lines=LINES, at=NOON),
        ),
        (OrderCanceled(order_id="A", reason="changed my mind", at=NOON), status("canceled", "changed my mind")),
        (OrderExpired(order_id="A", reason="not paid in time", at=NOON), status("expired", "not paid in time")),
        (OrderCompleted(order_id="A", currency="EUR", lines=SOLD, at=NOON), status("completed")),
        (
            FulfillmentShipped(order_id="A", fulfillment_id="A/BER", location="BER", packages=PACKAGES, at=NOON),
            RecordShipment(order_id="A", fulfillment_id="A/BER", packages=PACKAGES, at=NOON),
        ),
    ],
)
def test_each_event_of_another_service_means_one_command(event: Any, command: Command):
    assert list(POLICIES[type(event)](event)) == [command]


def test_the_service_reads_the_topics_of_its_policies_and_commands():
    service = make_service()
    assert set(POLICIES) <= {cls for topic in service.reads for cls in topic.messages}
    assert {topic.name for topic in service.reads} == {
        "oms.orders",
        "oms.fulfillments",
        "oms.tracking.commands",
        "oms.tracking.commands.{carrier}",
    }
    assert {"oms.tracking", "oms.order-status-changes", "oms.order-status"} <= {topic.name for topic in service.writes}
