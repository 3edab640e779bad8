"""On a real PostgreSQL: what waits for somebody."""

from datetime import timedelta
from typing import Any

import httpx
from msgspec.structs import replace
from oms_contracts.dead_letters import RecordSetAside
from oms_contracts.fulfillments import FulfillmentCanceled, FulfillmentPlanned, FulfillmentShipped
from oms_contracts.operations import operation_of
from oms_contracts.orders import WAITING_STATUSES, OrderActionRequired
from oms_contracts.payments import PaymentCaptured, PaymentCaptureFailed, PaymentVoidFailed, RefundFailed
from oms_contracts.samples import sample
from oms_contracts.stock import (
    StockActionRequired,
    StockActionResolved,
    TransferActionRequired,
    TransferClosed,
    TransferReceived,
    TransferStarted,
)
from oms_contracts.values import AllocatedLine, GoodsLine, Package, StockLine
from oms_projection.stuck import WAITING
from oms_runtime.database import Database

from services.projection.tests.reading import LATER, Given, ask, every, two_returns_that_wait, write


async def test_whatever_waits_is_listed_with_what_goes_on_with_it(database: Database, api: httpx.AsyncClient, given: Given) -> None:
    hour = timedelta(hours=1)
    plan = FulfillmentPlanned(order_id="new", fulfillment_id="new/BER", location="BER", delivery="ship", lines=(), at=LATER - 30 * hour)
    recent = replace(plan, fulfillment_id="new/HAM", location="HAM", at=LATER - hour)
    shipped = replace(
        plan, order_id="expired", fulfillment_id="expired/BER", lines=(AllocatedLine(line_id="1", sku="A", location="BER", quantity=1),)
    )
    await write(database, given("oms.fulfillments", plan, recent, replace(shipped, at=LATER - 31 * hour)))
    await write(database, given("oms.returns", *two_returns_that_wait()))
    check = OrderActionRequired(order_id="expired", action="check_delivery", reason="late", deadline=LATER + hour, at=LATER - 2 * hour)
    await write(database, given("oms.orders", check))
    failed = PaymentCaptureFailed(order_id="new", fulfillment_id="new/BER", request_id="c", reason="no", at=LATER - 3 * hour)
    await write(database, given("oms.payments", failed))
    webhook = replace(
        sample(RecordSetAside),
        service="capture",
        letter_id="oms.channel.webhooks/1/1",
        source_topic="oms.channel.webhooks",
        source_key="new",
        parked=False,
        at=LATER,
    )
    await write(database, given("oms.capture.dead-letters", webhook))

    listed = await every(api, "/stuck")
    assert [(each["kind"], each["id"], each["state"], each["waits_for"], each["overdue"]) for each in listed] == [
        ("fulfillment", "expired/BER", "planned", "warehouse", False),
        ("fulfillment", "new/BER", "planned", "warehouse", False),
        ("order", "short", "resolve_stock", "warehouse", False),
        ("dead-letter", "capture/oms.channel.orders/1/2", "set_aside", "operator", False),
        ("return", "RMA-1", "investigate", "operator", False),
        ("return", "RMA-2", "inspect", "warehouse", True),
        ("payment", "new", "capture_failed", "operator", False),
        ("order", "expired", "check_fulfillment", "warehouse", False),
        ("webhook", "capture/oms.channel.webhooks/1/1", "set_aside", "shop", False),
    ]
    assert [each["since"] for each in listed] == sorted(each["since"] for each in listed)
    assert [(each["reference"], each["key"]) for each in listed[2:4]] == [("R-4", None), ("R-7", "new")]
    assert listed[2].items() >= {"order_id": "short", "channel": "web", "reason": "B: 99 wanted"}.items()
    assert listed[2]["operations"] == ["receive-stock", "extend-wait", "cancel-order"]
    assert listed[2]["deadline"] is not None
    assert listed[1].items() >= {"order_id": "new", "location": "BER", "operations": ["accept-fulfillment"], "deadline": None}.items()

    async def ids(**filters: Any) -> list[str]:
        return [each["id"] for each in await every(api, "/stuck", **filters)]

    assert await ids(kind="return") == ["RMA-1", "RMA-2"]
    assert await ids(waits_for="warehouse") == ["expired/BER", "new/BER", "short", "RMA-2", "expired"]
    assert await ids(waits_for="operator") == ["capture/oms.channel.orders/1/2", "RMA-1", "new"]
    assert await ids(overdue=True) == ["RMA-2"]
    assert await ids(kind="fulfillment", older_than_seconds=60) == ["expired/BER", "new/BER", "new/HAM"]
    assert await ids(kind="fulfillment", older_than_seconds=31 * 3_600 - 1) == ["expired/BER"]
    assert await ids(channel="till") == []
    await write(database, given("oms.fulfillments", FulfillmentCanceled(order_id="new", reason="r", at=LATER)))
    assert await ids(kind="fulfillment") == ["expired/BER"]
    shipment = FulfillmentShipped(
        order_id="expired",
        fulfillment_id="expired/BER",
        location="BER",
        packages=(Package(package_id="p", carrier="c", tracking_number="t", lines=shipped.lines),),
        at=LATER,
    )
    await write(database, given("oms.fulfillments", shipment))
    assert await ids(kind="fulfillment") == []
    assert await ids(kind="order", waits_for="carrier") == ["expired"]


async def test_a_payment_is_stuck_while_something_of_it_has_failed(database: Database, api: httpx.AsyncClient, given: Given) -> None:
    of: dict[str, Any] = {"order_id": "new", "request_id": "x", "at": LATER}
    failures = [
        (PaymentVoidFailed(authorization_id="held1", reason="no", **of), "void_failed"),
        (RefundFailed(refund_id="r", reason="no", **of), "refund_failed"),
        (PaymentCaptureFailed(fulfillment_id="f", reason="no", **of), "capture_failed"),
    ]
    for event, state in failures:
        await write(database, given("oms.payments", event))
        assert [each["state"] for each in await every(api, "/stuck", kind="payment")] == [state]
    await write(database, given("oms.payments", PaymentCaptured(fulfillment_id="f", amount=1, currency="EUR", **of)))
    assert [each["state"] for each in await every(api, "/stuck", kind="payment")] == ["refund_failed"]


def test_what_goes_on_with_whatever_waits_are_operations_that_there_are() -> None:
    for (kind, state), waiting in WAITING.items():
        assert all(operation_of(name) for name in waiting.operations), (kind, state)
    orders = {state for kind, state in WAITING if kind == "order"}
    assert orders >= {*WAITING_STATUSES, "check_delivery", "investigate"}


async def test_stock_and_transfers_that_wait_are_listed_until_they_are_resolved(
    database: Database, api: httpx.AsyncClient, given: Given
) -> None:
    short: dict[str, Any] = {"sku": "A", "location": "BER", "action": "resolve_shortfall", "at": LATER - timedelta(hours=3)}
    ends: dict[str, Any] = {"transfer_id": "T-2", "from_location": "BER", "to_location": "HAM"}
    sent = TransferStarted(
        lines=(StockLine(sku="A", location="BER", quantity=4),), reason="", deadline=LATER, at=LATER - timedelta(hours=2), **ends
    )
    await write(
        database,
        given(
            "oms.stock",
            StockActionRequired(units=1, deadline=LATER - timedelta(hours=1), **short),
            sent,
            TransferReceived(
                receipt_id="1", lines=(StockLine(sku="A", location="HAM", quantity=1),), at=LATER - timedelta(hours=2), **ends
            ),
        ),
    )
    shortfall, transfer = await every(api, "/stuck", kind="stock"), await every(api, "/stuck", kind="transfer", older_than_seconds=60)
    assert [(each["id"], each["location"], each["state"], each["waits_for"], each["overdue"]) for each in (*shortfall, *transfer)] == [
        ("A at BER", "BER", "resolve_shortfall", "operator", True),
        ("T-2", "HAM", "in_transit", "warehouse", False),
    ]
    assert transfer[0]["reason"] == "3 of 4 units from BER have not arrived"
    assert await every(api, "/stuck", kind="transfer") == []
    [open_one] = await every(api, "/transfers", status="in_transit", location="HAM")
    assert open_one.items() >= {"sent": 4, "received": 1, "written_off": 0, "on_the_way": [{"sku": "A", "quantity": 3}]}.items()
    assert [each["transfer_id"] for each in await every(api, "/transfers", transfer="T-1", status="closed")] == ["T-1"]

    asked = TransferActionRequired(action="close_transfer", units=3, deadline=LATER + timedelta(days=14), at=LATER, **ends)
    await write(database, given("oms.stock", asked, StockActionResolved(**short)))
    assert await every(api, "/stuck", kind="stock") == []
    [waits] = await every(api, "/stuck", kind="transfer")
    assert (waits["state"], waits["waits_for"], waits["operations"]) == (
        *("close_transfer", "operator"),
        ["receive-transfer", "close-transfer"],
    )
    closed = TransferClosed(lines=(GoodsLine(sku="A", quantity=3),), reason="lost", at=LATER, **ends)
    await write(database, given("oms.stock", closed))
    assert await every(api, "/stuck", kind="transfer") == []
    assert (await ask(api, "/audits/stock"))["green"]
