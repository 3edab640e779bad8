from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from msgspec.structs import replace
from oms_contracts.catalogue import TOPICS, topics_read_by
from oms_contracts.fulfillments import FulfillmentShipped
from oms_contracts.order_parts import ChargedLine, LineItem, OrderPayment, PersonalData
from oms_contracts.orders import (
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderConfirmed,
    OrderExpired,
    OrderPaymentAmended,
)
from oms_contracts.products import DeactivateProduct, DefineProduct
from oms_contracts.returns import ReturnItemsInspected
from oms_contracts.stock import (
    AdjustStock,
    CloseTransfer,
    CountStock,
    QuarantineStock,
    ReceiveStock,
    ReceiveTransfer,
    ReleaseQuarantine,
    SetStockLimits,
    TransferStock,
    WriteOffQuarantine,
)
from oms_contracts.values import AllocatedLine, Customer, InspectedLine, Package, PaymentMethod, WantedLine
from oms_inventory.app import make_service
from oms_inventory.commands import (
    AllocateStock,
    BookReturn,
    Command,
    Event,
    ReleaseReservation,
    ReleaseStock,
    ReserveStock,
    ShipStock,
)
from oms_inventory.policies import POLICIES
from oms_inventory.reservations import Terms
from oms_inventory.settings import Settings

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LINES = (
    LineItem(line_id="1", sku="MUG", quantity=2, unit_price=900, total=1800),
    LineItem(line_id="2", sku="SPOON", quantity=1, unit_price=300, total=300),
    LineItem(line_id="3", sku="E-BOOK", quantity=1, unit_price=700, total=700, requires_shipping=False),
)
CHARGED = (ChargedLine(line_id="1", sku="MUG", quantity=2, amount=1800), ChargedLine(line_id="2", sku="SPOON", quantity=1, amount=300))
WANTED = (WantedLine(line_id="1", sku="MUG", quantity=2), WantedLine(line_id="2", sku="SPOON", quantity=1))
OWN_TOPICS = [topic for topic in TOPICS if topic.name in {"oms.stock", "oms.products"}]
CARD = PaymentMethod(kind="card", token="tok")  # no secret
MUG = AllocatedLine(line_id="1", sku="MUG", location="BER", quantity=2)
SPOON = AllocatedLine(line_id="2", sku="SPOON", location="BER", quantity=1)
UNDAMAGED = InspectedLine(line_id="1", sku="MUG", quantity=1, disposition="restock")

ACCEPTED = OrderAccepted(
    order_id="O",
    channel="web",
    channel_reference="1",
    content_hash="",
    placed_at=NOON,
    accepted_at=NOON,
    currency="EUR",
    lines=LINES,
    total=2800,
    payments=(OrderPayment(id="1", kind="card", amount=2800, token="tok"),),  # no secret
    delivery="pickup",
    location="BER",
    personal=PersonalData(customer=Customer(id="C")),
)


def package(package_id: str, *lines: AllocatedLine) -> Package:
    return Package(package_id=package_id, carrier="DHL", tracking_number=package_id, lines=lines)


@pytest.mark.parametrize(
    ("event", "commands"),
    [
        (ACCEPTED, [ReserveStock(order_id="O", attempt=1, lines=WANTED, location="BER")]),
        (replace(ACCEPTED, attempt=3), [ReserveStock(order_id="O", attempt=3, lines=WANTED, location="BER")]),
        (
            OrderPaymentAmended(order_id="O", attempt=3, payment=CARD, lines=CHARGED, location=None, at=NOON),
            [ReserveStock(order_id="O", attempt=3, lines=WANTED, location=None)],
        ),
        (
            OrderActionRequired(order_id="O", action="amend_payment", reason="declined", deadline=NOON, at=NOON, attempt=2),
            [ReleaseReservation(order_id="O", attempt=2, action="amend_payment", reason="declined")],
        ),
        (OrderConfirmed(order_id="O", at=NOON), [AllocateStock(order_id="O")]),
        (OrderCanceled(order_id="O", reason="changed my mind", at=NOON), [ReleaseStock(order_id="O", reason="changed my mind")]),
        (OrderExpired(order_id="O", reason="not paid", at=NOON), [ReleaseStock(order_id="O", reason="not paid")]),
        (
            FulfillmentShipped(
                order_id="O", fulfillment_id="O/BER", location="BER", packages=(package("P1", MUG), package("P2", SPOON)), at=NOON
            ),
            [ShipStock(order_id="O", fulfillment_id="O/BER", lines=(MUG, SPOON))],
        ),
        (
            ReturnItemsInspected(order_id="O", return_id="RMA", location="MUC", lines=(UNDAMAGED,), at=NOON),
            [BookReturn(return_id="RMA", order_id="O", location="MUC", lines=(UNDAMAGED,))],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_commands_that_follow_from_other_services_events(event: Any, commands: list[Command]):
    assert list(POLICIES[type(event)](event)) == commands


def test_every_handled_event_is_on_a_topic_that_inventory_reads():
    assert set(POLICIES) <= {message for topic in topics_read_by("inventory") for message in topic.messages}


def test_the_service_takes_the_warehouses_commands_and_publishes_every_event():
    service = make_service(Terms())
    assert service.commands == (
        *(ReceiveStock, AdjustStock, CountStock, SetStockLimits),
        *(TransferStock, ReceiveTransfer, CloseTransfer),
        *(QuarantineStock, ReleaseQuarantine, WriteOffQuarantine),
        *(DefineProduct, DeactivateProduct),
    )
    assert {message for topic in OWN_TOPICS for message in topic.messages} == set(get_args(Event))
    assert {topic.name for topic in OWN_TOPICS} <= {topic.name for topic in service.writes}


def test_the_environment_sets_the_terms(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMS_DATABASE_URL", "postgresql://somewhere/inventory")
    monkeypatch.setenv("OMS_RESERVATION_TIMEOUT", "PT30M")
    monkeypatch.setenv("OMS_UNKNOWN_SKU", "hold")
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    assert settings.terms() == Terms(reservation_timeout=timedelta(minutes=30), unknown_sku="hold")
