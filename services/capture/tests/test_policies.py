from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from oms_capture.app import make_service
from oms_capture.commands import (
    AnyCommand,
    Command,
    PlaceOrder,
    RecordAllocation,
    RecordAuthorization,
    RecordCancellationRejected,
    RecordDecline,
    RecordDelivery,
    RecordDeliveryTrouble,
    RecordFulfillmentCanceled,
    RecordReservation,
    RecordReservationExpiry,
    RecordShortage,
    RecordUnknownSkus,
)
from oms_capture.decider import Terms
from oms_capture.policies import POLICIES, on_order_placed
from oms_capture.settings import Settings
from oms_contracts.channel import OrderPlaced
from oms_contracts.fulfillments import FulfillmentCanceled, FulfillmentCancellationRejected
from oms_contracts.message import key_of
from oms_contracts.order_parts import LineItem, OrderPayment
from oms_contracts.payments import PaymentAuthorized, PaymentDeclined
from oms_contracts.stock import (
    StockAllocated,
    StockReservationExpired,
    StockReservationFailed,
    StockReservationPostponed,
    StockReserved,
)
from oms_contracts.tracking import PackageDelivered, PackageLost, PackageReturnedToSender
from oms_contracts.values import AllocatedLine, Customer, Shortage
from oms_runtime.sealing import KEY_BYTES, Sealer
from pydantic import ValidationError

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LINES = (AllocatedLine(line_id="A", sku="mug", location="BER", quantity=2),)
SHORT = (Shortage(sku="mug", requested=2, available=0),)
AT: dict[str, Any] = {"order_id": "o", "at": NOON}
OF_ATTEMPT: dict[str, Any] = {"order_id": "o", "attempt": 2}


def placed(*, reference: str = "W1", total: int = 500) -> OrderPlaced:
    return OrderPlaced(
        channel="web",
        channel_reference=reference,
        placed_at=NOON,
        customer=Customer(id="ada"),
        currency="EUR",
        lines=(LineItem(line_id="A", sku="mug", quantity=1, unit_price=500, total=500),),
        total=total,
        payments=(OrderPayment(id="1", kind="card", amount=total, token="tok"),),
    )


def commands_for(event: Any) -> list[AnyCommand]:
    return list(POLICIES[cast(type[Any], type(event))](event))


@pytest.mark.parametrize(
    ("event", "command"),
    [
        (StockReserved(attempt=2, lines=LINES, expires_at=NOON, **AT), RecordReservation(**OF_ATTEMPT)),
        (
            StockReservationFailed(attempt=2, shortages=SHORT, confirmed=True, **AT),
            RecordShortage(shortages=SHORT, confirmed=True, **OF_ATTEMPT),
        ),
        (StockReservationFailed(attempt=2, shortages=SHORT, **AT), RecordShortage(shortages=SHORT, confirmed=None, **OF_ATTEMPT)),
        (
            StockReservationFailed(attempt=2, shortages=(), unknown_skus=("mug",), **AT),
            RecordUnknownSkus(unknown_skus=("mug",), held=False, **OF_ATTEMPT),
        ),
        (
            StockReservationPostponed(attempt=2, unknown_skus=("mug",), lines=(), location=None, **AT),
            RecordUnknownSkus(unknown_skus=("mug",), held=True, **OF_ATTEMPT),
        ),
        (StockReservationExpired(attempt=2, lines=LINES, **AT), RecordReservationExpiry(**OF_ATTEMPT)),
        (StockAllocated(lines=LINES, reserved=True, **AT), RecordAllocation(order_id="o", lines=LINES)),
        (
            PaymentAuthorized(attempt=2, request_id="q", authorization_id="a", amount=500, currency="EUR", **AT),
            RecordAuthorization(**OF_ATTEMPT),
        ),
        (PaymentDeclined(attempt=2, request_id="q", reason="no", **AT), RecordDecline(reason="no", **OF_ATTEMPT)),
        (FulfillmentCanceled(reason="asked", requested_at=NOON, **AT), RecordFulfillmentCanceled(order_id="o", requested_at=NOON)),
        (
            FulfillmentCancellationRejected(reason="shipped", requested_at=NOON, **AT),
            RecordCancellationRejected(order_id="o", reason="shipped", requested_at=NOON),
        ),
        (PackageDelivered(package_id="p", lines=LINES, **AT), RecordDelivery(order_id="o", package_id="p", lines=LINES)),
        (PackageLost(package_id="p", **AT), RecordDeliveryTrouble(order_id="o", reason="package p is lost")),
        (PackageReturnedToSender(package_id="p", **AT), RecordDeliveryTrouble(order_id="o", reason="package p came back to the sender")),
    ],
    ids=lambda part: type(part).__name__,
)
def test_each_event_of_another_service_means_one_command(event: Any, command: Command):
    assert commands_for(event) == [command]


def placing(*orders: OrderPlaced) -> Iterator[PlaceOrder]:
    for order in orders:
        [command] = on_order_placed(order)
        assert isinstance(command, PlaceOrder)
        yield command


def test_channel_and_reference_identify_an_order():
    first, again, other = placing(placed(), placed(), placed(reference="W2"))
    assert first == again
    assert first.order_id == key_of(placed())
    assert first.order_id != other.order_id


def test_different_content_under_one_reference_has_a_different_hash():
    first, changed = placing(placed(), placed(total=499))
    assert first.order_id == changed.order_id
    assert first.content_hash != changed.content_hash


def test_the_service_reads_the_topics_of_its_policies_and_commands():
    service = make_service(Terms(), Sealer(bytes(32)))
    assert {topic.name for topic in service.reads} == {
        "oms.channel.orders",
        "oms.channel.orders.{channel}",
        "oms.channel.webhooks",
        "oms.stock",
        "oms.payments",
        "oms.fulfillments",
        "oms.tracking",
        "oms.capture.commands",
    }
    assert set(service.policies) <= {cls for topic in service.reads for cls in topic.messages}
    assert [topic.name for topic in service.writes if not topic.name.endswith("dead-letters")] == [
        "oms.orders",
        "oms.customers",
        "oms.customer-keys",
    ]
    assert {cls.__name__ for cls in service.commands} == {"CancelOrder", "AmendPayment", "ExtendWait", "EraseCustomer"}


def test_environment_variables_set_the_terms(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMS_DATABASE_URL", "postgresql://localhost/capture")
    monkeypatch.setenv("OMS_PERSONAL_DATA_KEY", b64encode(bytes(KEY_BYTES)).decode())
    monkeypatch.setenv("OMS_CHANNELS", '["web"]')
    monkeypatch.setenv("OMS_STOCK_TIMEOUT", "PT6H")
    terms = Settings().terms()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    assert terms.market.channels == {"web"}
    assert {"EUR", "JPY"} <= terms.market.currencies
    assert {"DE", "NZ"} <= terms.market.countries
    assert terms.stock_timeout == timedelta(hours=6)


def test_a_key_of_another_length_is_not_valid(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMS_DATABASE_URL", "postgresql://localhost/capture")
    monkeypatch.setenv("OMS_PERSONAL_DATA_KEY", b64encode(bytes(KEY_BYTES - 1)).decode())
    with pytest.raises(ValidationError, match="openssl rand -base64 32"):
        Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment


def test_a_timeout_of_zero_is_not_valid(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMS_DATABASE_URL", "postgresql://localhost/capture")
    monkeypatch.setenv("OMS_ANSWER_TIMEOUT", "0")
    with pytest.raises(ValidationError, match="answer_timeout"):
        Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
