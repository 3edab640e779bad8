"""On a real PostgreSQL: the audits, and that each of them can fail."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from oms_contracts.payments import PaymentCaptured
from oms_contracts.stock import (
    StockActionRequired,
    StockAdjusted,
    StockReleased,
)
from oms_contracts.values import AllocatedLine, StockLine
from oms_projection.api import make_api
from oms_runtime.database import Database
from oms_runtime.sealing import Sealer

from services.projection.tests.reading import LATER, Given, ask, write


async def test_a_shortfall_is_green_only_while_a_person_is_asked_to_resolve_it(
    database: Database, api: httpx.AsyncClient, given: Given
) -> None:
    at = LATER - timedelta(hours=1)
    lost = StockAdjusted(
        adjustment_id="L", lines=(StockLine(sku="B", location="BER", quantity=-99),), reason="x", reason_code="lost", at=at
    )
    await write(database, given("oms.stock", lost))
    assert [(each["kind"], each["subject"]) for each in (await ask(api, "/audits/stock"))["violations"]] == [("promised", "B at BER")]
    asked = StockActionRequired(sku="B", location="BER", action="resolve_shortfall", units=1, deadline=LATER, at=at)
    await write(database, given("oms.stock", asked))
    assert (await ask(api, "/audits/stock"))["green"]


async def test_the_audits_are_green_without_violations_and_list_the_orders_in_flight(api: httpx.AsyncClient, database: Database) -> None:
    async with database.acquire() as connection:  # the expired order's authorization was requested and never granted
        assert await connection.fetchval("select count(*) from payments where order_id = 'expired'") == 1
    assert await ask(api, "/audits/stock") == {"green": True, "violations": []}
    assert await ask(api, "/audits/money") == {"green": True, "violations": []}
    audit = await ask(api, "/audits/orders")
    assert (audit["green"], audit["accepted"], audit["ended"], audit["waiting"]) == (True, 6, 4, 1)
    assert [order["order_id"] for order in audit["in_flight"]] == ["new"]


async def test_an_order_past_its_deadline_is_a_violation(database: Database, scenarios: Any, sealer: Sealer) -> None:
    await write(database, scenarios.records)
    transport = httpx.ASGITransport(make_api(database, lambda: LATER + timedelta(days=9), sealer))
    async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
        audit = await ask(client, "/audits/orders")
    assert not audit["green"]
    assert [(violation["kind"], violation["subject"]) for violation in audit["violations"]] == [("overdue", "short")]


DEFECTS = {
    "on_hand": ("stock", "update stock set on_hand = on_hand - 1 where sku = 'A' and location = 'HAM'"),
    "promised": ("stock", "update stock set reserved = on_hand + 1 where sku = 'A' and location = 'HAM'"),
    "negative": ("stock", "update stock set reserved = -1 where sku = 'A' and location = 'HAM'"),
    "quarantined": ("stock", "update stock set quarantined = 0 where sku = 'C' and location = 'HAM'"),
    "in_transit": ("stock", "update stock set in_transit = 1 where sku = 'C' and location = 'BER'"),
    "transfer": ("stock", "update transfer_lines set received = 3 where transfer_id = 'T-1'"),
    "held_in_sum": ("stock", "update order_stock set allocated = allocated + 1 where order_id = 'done'"),
    "still_held": ("stock", "update order_stock set allocated = 1 where order_id = 'done'"),
    "not_booked": ("stock", "update order_stock set shipped = 3 where order_id = 'done'"),
    "over_captured": ("money", "update payments set captured = 4001 where order_id = 'done'"),
    "over_refunded": ("money", "update payments set refunded = 4001 where order_id = 'done'"),
    "captured_twice": ("money", "update captures set times = 2 where order_id = 'done'"),
    "refunded_twice": ("money", "update refunds set times = 2 where order_id = 'done'"),
    "captured_unshipped": ("money", "update fulfillments set shipped_at = null where order_id = 'done'"),
    "captured_too_much": ("money", "update order_lines set shipped = 0 where order_id = 'done'"),
    "not_collected": ("money", "update captures set status = 'failed' where order_id = 'done'"),
    "captured_too_little": ("money", "update payments set captured = 3999 where order_id = 'done'"),
    "not_captured": ("money", "delete from captures where order_id = 'done'"),
    "still_authorized": ("money", "update authorizations set voided_at = null where order_id = 'stopped'"),
}
"""By kind of violation: the audit that must find it, and the statement that causes it."""


@pytest.mark.parametrize("kind", DEFECTS)
async def test_every_audit_can_fail(api: httpx.AsyncClient, database: Database, kind: str) -> None:
    audit, statement = DEFECTS[kind]
    async with database.acquire() as connection:
        await connection.execute(statement)
    found = await ask(api, f"/audits/{audit}")
    assert not found["green"]
    assert kind in {violation["kind"] for violation in found["violations"]}


async def test_a_second_capture_for_one_shipment_is_found(api: httpx.AsyncClient, database: Database, given: Given) -> None:
    again = PaymentCaptured(order_id="done", fulfillment_id="done/BER", request_id="c", amount=3_000, currency="EUR", at=LATER)
    await write(database, given("oms.payments", again))
    kinds = {violation["kind"] for violation in (await ask(api, "/audits/money"))["violations"]}
    assert kinds >= {"captured_twice", "over_captured"}


async def test_a_check_of_two_topics_counts_once_they_have_settled(database: Database, given: Given, sealer: Sealer) -> None:
    captured = PaymentCaptured(order_id="o", fulfillment_id="o/X", request_id="c", amount=0, currency="EUR", at=LATER)
    await write(database, given("oms.payments", captured))
    transport = httpx.ASGITransport(make_api(database, lambda: LATER + timedelta(seconds=30), sealer))
    async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
        assert (await ask(client, "/audits/money"))["green"]
        assert [v["kind"] for v in (await ask(client, "/audits/money", settle_seconds=0))["violations"]] == ["captured_unshipped"]


async def test_releasing_more_than_is_held_is_found(api: httpx.AsyncClient, database: Database, given: Given) -> None:
    lines = (AllocatedLine(line_id="1", sku="A", location="BER", quantity=1),)
    await write(database, given("oms.stock", StockReleased(order_id="x", stage="reserved", lines=lines, reason="r", at=LATER)))
    violations = (await ask(api, "/audits/stock"))["violations"]
    assert {v["subject"] for v in violations if v["kind"] == "negative"} == {"A at BER", "x"}
