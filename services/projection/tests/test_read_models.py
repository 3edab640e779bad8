"""On a real PostgreSQL: the written rows, and the query API."""

from collections.abc import Sequence
from random import Random
from typing import Any

import asyncpg
import httpx
import pytest
from msgspec.structs import replace
from oms_contracts.orders import OrderAccepted, OrderRejected
from oms_contracts.payments import PaymentCaptured
from oms_contracts.samples import sample
from oms_contracts.stock import (
    StockLimitsSet,
)
from oms_projection.api import make_api
from oms_projection.tables import TABLES
from oms_projection.versions import open_version
from oms_runtime.database import Database, migrate, open_database, open_for_queries
from oms_runtime.model import IncomingRecord
from oms_runtime.sealing import KEY_BYTES, Sealer

from services.projection.tests.reading import LATER, SCHEMA, Given, Servers, ask, digests, every, write


async def test_the_declared_tables_are_those_of_the_definitions(database: Database) -> None:
    found = await database.fetch(
        """select table_name as name, column_name as column, data_type as kind from information_schema.columns
           where table_schema = $1 and table_name not in ('checkpoints', 'dead_letters')""",
        SCHEMA,
    )
    kinds = {"timestamp with time zone": "timestamptz", "ARRAY": "text[]"}
    stored = {(row["name"], row["column"], kinds.get(row["kind"], row["kind"])) for row in found}
    declared = {
        (table.name, column, kind)
        for table in TABLES
        for column, kind in {**table.key, **table.last, **dict.fromkeys(table.sums, "bigint")}.items()
    }
    assert stored == declared


@pytest.mark.parametrize("seed", range(8))
async def test_the_rows_are_the_same_however_topics_interleave_and_batches_are_cut(
    database: Database, scenarios: Any, random_records: Any, interleaved: Any, seed: int
) -> None:
    random = Random(seed)  # not a secret
    records = random_records(random, 4) if seed % 2 else scenarios.records
    await write(database, records)
    expected = await digests(database)
    async with database.acquire() as connection:
        await connection.execute(f"truncate {', '.join(table.name for table in TABLES)}")
    left = interleaved(records, random)
    while left:
        cut = random.randint(1, 9)
        await write(database, left[:cut])
        left = left[cut:]
    assert await digests(database) == expected
    assert seed % 2 or {name for name, (rows, _) in expected.items() if not rows} <= {"letters"}


async def test_one_changed_value_changes_the_tables_digest(database: Database, scenarios: Any) -> None:
    await write(database, scenarios.records)
    before = await digests(database)
    async with database.acquire() as connection:
        await connection.execute("update order_lines set shipped = shipped + 1 where order_id = 'done' and line_id = '1'")
    after = await digests(database)
    assert {name for name in before if before[name] != after[name]} == {"order_lines"}


async def test_one_order_with_all_its_parts(api: httpx.AsyncClient) -> None:
    order = await ask(api, "/orders/done")
    assert order["status"] == "completed"
    assert order["ship_to"]["city"] == "Berlin"
    assert [(line["sku"], line["unit_price"], line["delivered"]) for line in order["lines"]] == [("A", 1000, 3), ("B", 700, 1)]
    assert order["stock"]["shipped"] == 4
    assert order["payment"]["totals"].items() >= {"authorized": 4_000, "captured": 4_000, "refunded": 2_000, "voided": 0}.items()
    assert [capture["captured"] for capture in order["payment"]["captures"]] == [3_000, 1_000]
    assert [f["location"] for f in order["fulfillments"]] == ["BER", "HAM"]
    assert {p["status"] for p in order["packages"]} == {"delivered"}
    assert order["returns"][0]["outcome"] == "refunded"
    assert order["returns_until"] is not None
    assert order["cancellation"] is None


async def test_a_stopped_order_has_canceled_fulfillments(api: httpx.AsyncClient) -> None:
    order = await ask(api, "/orders/stopped")
    assert {f["status"] for f in order["fulfillments"]} == {"canceled"}
    assert order["payment"]["totals"]["voided"] == 4_000


async def test_a_waiting_order_names_its_action_and_deadline(api: httpx.AsyncClient) -> None:
    order = await ask(api, "/orders/short")
    assert (order["status"], order["action"]) == ("awaiting_stock", "resolve_stock")
    assert order["deadline"] is not None
    assert order["stock"]["shortages"] == [{"sku": "B", "requested": 99, "available": 18}]


async def test_a_rejected_order_can_be_queried(api: httpx.AsyncClient) -> None:
    order = await ask(api, "/orders/bad")
    assert (order["status"], order["lines"], order["payment"]) == ("rejected", [], None)


async def test_the_catalogue_is_paged_filtered_and_searched(api: httpx.AsyncClient) -> None:
    assert [product["sku"] for product in await every(api, "/products")] == ["A", "B", "C"]
    assert [product["sku"] for product in await every(api, "/products", active=True)] == ["A", "C"]
    found = {text: [product["sku"] for product in await every(api, "/products", text=text)] for text in ("A", "963", "brass", "rod", "%")}
    assert found == {"A": ["A", "B"], "963": ["A"], "brass": ["B"], "rod": ["A", "C"], "%": []}
    assert (await ask(api, "/products/B")).items() >= {"title": "Pot of Brass", "weight_grams": 900, "active": False}.items()
    assert (await ask(api, "/products/C")).items() >= {"barcode": None, "requires_shipping": False, "active": True}.items()


async def test_of_a_corrected_order_only_its_own_lines_are_shown_and_audited(
    database: Database, api: httpx.AsyncClient, given: Given
) -> None:
    first = replace(sample(OrderAccepted), order_id="o", attempt=1)
    (line,) = first.lines
    second = replace(first, attempt=2, lines=(replace(line, line_id="other"),))
    await write(database, given("oms.orders", first, replace(sample(OrderRejected), order_id="o", attempt=1)))
    assert (await ask(api, "/orders/o"))["status"] == "rejected"
    await write(database, given("oms.orders", second))
    order = await ask(api, "/orders/o")
    assert (order["status"], [line["line_id"] for line in order["lines"]]) == ("accepted", ["other"])

    await write(database, given("oms.payments", replace(sample(PaymentCaptured), order_id="o", amount=first.total)))
    violations = (await ask(api, "/audits/money"))["violations"]
    [detail] = [each["detail"] for each in violations if (each["kind"], each["subject"]) == ("captured_too_much", "o")]
    rest = first.total - order["lines"][0]["charge"]
    assert detail == f"captured {first.total}, what shipped is worth {rest}"  # nothing has shipped: shipping and fees


async def test_orders_are_shown_from_the_tables_of_the_version_before(servers: Servers, scenarios: Any, sealer: Sealer) -> None:
    older = await open_database(await servers.create_database("projection_older"), schema=SCHEMA)
    try:
        await migrate(older, "oms_projection")
        await open_version(older)
        await write(older, scenarios.records)
        async with older.acquire() as connection:
            for change in ("orders drop accepted_attempt", "order_lines drop attempt", "order_stock drop unknown_skus"):
                await connection.execute(f"alter table {change}")
            await connection.execute("drop table products")
        transport = httpx.ASGITransport(make_api(older, lambda: LATER, sealer))
        async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
            order = await ask(client, "/orders/done")
            assert [line["sku"] for line in order["lines"]] == ["A", "B"]
            assert order["stock"]["unknown_skus"] is None
            assert len((await ask(client, "/orders"))["items"]) > 1
            assert (await client.get("/products")).status_code == 503
    finally:
        await older.close()


async def test_what_is_not_known_yet_is_a_404_that_says_so(api: httpx.AsyncClient) -> None:
    for path in ("/orders/unknown", "/orders/unknown/timeline", "/stock/unknown", "/products/unknown", "/dead-letters/payment/a/1/2"):
        response = await api.get(path)
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert "may not have arrived yet" in response.json()["reasons"][0]
    assert (await api.get("/nowhere")).headers["content-type"] == "application/problem+json"


async def test_invalid_parameters_are_named(api: httpx.AsyncClient) -> None:
    response = await api.get("/orders", params={"limit": 0, "placed_from": "then"})
    assert response.status_code == 422
    assert [reason.partition(":")[0] for reason in response.json()["reasons"]] == ["placed_from", "limit"]
    unfit: list[tuple[str, dict[str, Any]]] = [
        *(("/orders", {"after": cursor}) for cursor in ("nonsense", "WyJ4Il0", "é")),
        ("/orders", {"placed_before": "2026-03-01T09:30:00"}),
        ("/orders", {"status": "\0"}),
        ("/stock", {"available_below": 10**30}),
    ]
    for path, params in unfit:
        bad = await api.get(path, params=params)
        assert (bad.status_code, bad.headers["content-type"]) == (422, "application/problem+json"), params


async def test_an_unreachable_database_is_a_problem(servers: Servers, sealer: Sealer) -> None:
    gone = await open_database(await servers.create_database("projection_gone"))
    await gone.close()
    transport = httpx.ASGITransport(make_api(gone, lambda: LATER, sealer))
    async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
        response = await client.get("/outcomes")
    assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")


async def test_queries_only_read_and_end_in_time(servers: Servers, sealer: Sealer) -> None:
    url = await servers.create_database("projection_queries")
    writer = await open_database(url, schema=SCHEMA)
    await migrate(writer, "oms_projection")
    await open_version(writer)
    reader = await open_for_queries(url, schema=SCHEMA, statement_timeout_ms=200)
    try:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reader.fetch("delete from orders")
        transport = httpx.ASGITransport(make_api(reader, lambda: LATER, sealer))
        async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
            async with writer.acquire() as connection, connection.transaction():
                await connection.execute("lock table orders in access exclusive mode")
                response = await client.get("/audits/orders")
            assert (response.status_code, response.json()["title"]) == (503, "the query took too long")
            assert (await client.get("/audits/orders")).json()["green"]
    finally:
        await reader.close()
        await writer.close()


@pytest.mark.parametrize("seed", range(3))
async def test_no_stored_row_makes_a_response_fail(database: Database, random_records: Any, seed: int, sealer: Sealer) -> None:
    await write(database, random_records(Random(seed), 3))  # not a secret
    transport = httpx.ASGITransport(make_api(database, lambda: LATER, sealer))
    async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
        orders = await every(client, "/orders")
        assert orders
        for order in orders:
            await ask(client, f"/orders/{order['order_id']}")
            assert await every(client, f"/orders/{order['order_id']}/timeline")
        assert len(await every(client, "/orders/details")) == len(orders)
        for path in (
            "/stock",
            "/transfers",
            "/payments",
            "/products",
            "/fulfillments",
            "/packages",
            "/returns",
            "/stuck?older_than_seconds=0",
        ):
            assert await every(client, path)
        for text in ("a", "b"):
            assert (await ask(client, "/search", q=text))["items"]
        for path in ("/outcomes", "/rejections", "/audits/orders", "/audits/stock", "/audits/money"):
            assert await ask(client, path)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"channel": "web", "customer_id": "c-1"}, [{"key_id": "key-1", "orders": 6}]),
        ({"email": " A@Example.org"}, [{"key_id": "key-1", "orders": 6}]),
        ({"channel": "till", "customer_id": "c-1"}, []),
        ({"customer_id": "c-1"}, []),
        ({"email": "b@example.org"}, []),
        ({}, []),
    ],
)
async def test_a_customer_is_found_by_channel_and_id_or_by_email(api: httpx.AsyncClient, wanted: Any, found: Any) -> None:
    assert (await api.post("/customers", json=wanted)).json() == found


async def test_what_an_order_says_of_persons_is_gone_once_the_customer_is_erased(
    database: Database, api: httpx.AsyncClient, erasure: Sequence[IncomingRecord]
) -> None:
    before = (await api.get("/orders/done")).json()
    assert (before["customer_id"], before["customer_email"], before["ship_to"]["city"]) == ("c-1", "a@example.org", "Berlin")
    await write(database, erasure)
    erased = (await api.get("/orders/done")).json()
    gone = ("customer_id", "customer_email", "customer_name", "customer_phone", "ship_to", "bill_to", "pickup", "note", "gift")
    assert erased == before | dict.fromkeys(gone) | {"customer_erased": True}
    assert {order["customer_id"] for order in (await api.get("/orders?customer=key-1")).json()["items"]} == {None}
    assert (await api.post("/customers", json={"email": "a@example.org"})).json() == []


async def test_a_wrong_key_of_the_installation_is_said(database: Database, scenarios: Any) -> None:
    await write(database, scenarios.records)
    transport = httpx.ASGITransport(make_api(database, lambda: LATER, Sealer(b"x" * KEY_BYTES)))
    async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
        response = await client.get("/orders/done")
    assert response.status_code == 503
    assert "OMS_PERSONAL_DATA_KEY" in response.json()["reasons"][0]


async def test_the_timeline_has_every_event_in_order(api: httpx.AsyncClient, scenarios: Any) -> None:
    entries = await every(api, "/orders/done/timeline")
    of_order = [record for record in scenarios.records if getattr(record.message, "order_id", None) == "done"]
    assert sorted(entry["type"] for entry in entries) == sorted(record.type for record in of_order)
    assert [entry["time"] for entry in entries] == sorted(entry["time"] for entry in entries)
    first = entries[0]
    assert first["summary"] == "Accepted from web as R-1: 4 units, 40.00 EUR"
    assert (first["source"], first["topic"], first["sequence"]) == ("/oms/capture", "oms.orders", 1)
    assert first["data"]["sealed"]["key_id"] == "key-1"


async def test_the_timeline_says_who_asked_for_what_and_why(api: httpx.AsyncClient) -> None:
    entries = await every(api, "/orders/stopped/timeline")
    asked = {entry["type"]: (entry["actor"], entry["reason"]) for entry in entries}
    assert asked["oms.capture.OrderCancellationRequested.v1"] == ("user:ada", "ordered twice")
    assert asked["oms.capture.OrderAccepted.v2"] == (None, None)


async def test_an_event_that_concerns_no_order_has_a_timeline_under_its_key(api: httpx.AsyncClient) -> None:
    assert [entry["type"] for entry in await every(api, "/orders/DC%2FG-1/timeline")] == ["oms.inventory.StockReceived.v1"]


async def test_stock_and_its_ledger(api: httpx.AsyncClient) -> None:
    assert [(row["sku"], row["location"]) for row in await every(api, "/stock")] == [
        *(("A", "BER"), ("A", "HAM"), ("B", "BER"), ("C", "BER"), ("C", "HAM"))
    ]
    assert [row["sku"] for row in await every(api, "/stock", available_below=20)] == ["B", "C", "C"]
    assert [(row["available"], row["signals"]) for row in await every(api, "/stock", location="HAM", signal="low")] == [(1, ["low"])]
    assert await every(api, "/stock", signal="out") == []
    detail = await ask(api, "/stock/A", limit=3)
    assert [entry["kind"] for entry in detail["ledger"]["items"]] == ["written_off", "returned", "shipped"]
    rest = await ask(api, "/stock/A", limit=3, after=detail["ledger"]["next"])
    assert [entry["kind"] for entry in rest["ledger"]["items"]] == ["shipped", "received", "received"]
    assert rest["ledger"]["next"] is None


async def test_limits_and_what_is_set_apart_are_left_out_of_what_is_available(
    database: Database, api: httpx.AsyncClient, given: Given
) -> None:
    ber, ham = (await ask(api, "/stock/C"))["positions"]
    assert ber.items() >= {"on_hand": 2, "safety": 1, "reorder_point": 2, "maximum": None, "available": 1, "signals": []}.items()
    assert ham.items() >= {"on_hand": 3, "quarantined": 1, "safety": 1, "available": 1, "signals": ["low"]}.items()
    own = StockLimitsSet(sku="C", location="HAM", safety=0, reorder_point=None, maximum=9, at=LATER)
    await write(database, given("oms.stock", own))
    ber, ham = (await ask(api, "/stock/C"))["positions"]
    assert [(each["safety"], each["reorder_point"], each["maximum"]) for each in (ber, ham)] == [(1, 2, None), (0, None, 9)]
    await write(database, given("oms.stock", replace(own, maximum=None)))
    assert [each["safety"] for each in (await ask(api, "/stock/C"))["positions"]] == [1, 1]
    kinds = [(each["kind"], each["quantity"], each["quarantined"]) for each in (await ask(api, "/stock/C"))["ledger"]["items"]]
    assert kinds == [("quarantined", 0, 1), ("transferred_in", 2, 0), ("transferred_out", -2, 0), ("counted", 5, 0)]


async def test_payments_rejections_outcomes_and_dead_letters(api: httpx.AsyncClient) -> None:
    assert {item["order_id"] for item in await every(api, "/payments", status="voided")} == {"declined", "stopped"}
    assert await every(api, "/payments", failed="true") == []
    assert len(await every(api, "/payments")) == 4
    counted = await ask(api, "/rejections")
    assert [(reason["field"], reason["orders"], reason["reasons"]) for reason in counted] == [("lines.quantity", 1, 2), ("total", 1, 1)]
    assert [row["order_id"] for row in await every(api, "/rejections/lines.quantity")] == ["bad"]
    outcomes = {outcome["status"]: outcome["orders"] for outcome in await ask(api, "/outcomes")}
    assert outcomes == {"completed": 1, "rejected": 1, "canceled": 2, "awaiting_stock": 1, "expired": 1, "accepted": 1}
    assert [letter["letter_id"] for letter in await every(api, "/dead-letters")] == ["oms.channel.orders/1/2"]
    assert len(await every(api, "/dead-letters", waiting="false", key="new")) == 2
    assert (await ask(api, "/dead-letters/capture/oms.channel.orders/1/2"))["headers"] == {"ce_id": "x"}


async def test_the_document_describes_every_response(api: httpx.AsyncClient) -> None:
    description = await ask(api, "/openapi.json")
    for path, methods in description["paths"].items():
        assert methods.keys() == {"/customers": {"post"}, "/search": {"get", "post"}}.get(path, {"get"}), path
        for method in methods.values():
            assert method["responses"]["200"]["content"]["application/json"]["schema"], path


async def test_an_order_that_is_accepted_after_a_rejection_no_longer_names_why_it_had_ended(database: Database, given: Given) -> None:
    """In one batch and in two."""
    rejected, accepted = sample(OrderRejected), replace(sample(OrderAccepted), order_id=sample(OrderRejected).order_id)
    records = given("oms.orders", rejected, accepted)
    await write(database, records[:1])
    async with database.acquire() as connection:
        row = await connection.fetchrow("select status, ended_because from orders")
        assert row is not None
        assert row["status"] == "rejected"
        assert row["ended_because"] is not None
    await write(database, records[1:])
    two_batches = await digests(database)
    async with database.acquire() as connection:
        row = await connection.fetchrow("select status, ended_because from orders")
        assert row is not None
        assert (row["status"], row["ended_because"]) == ("accepted", None)
        await connection.execute(f"truncate {', '.join(table.name for table in TABLES)}")
    await write(database, records)
    assert await digests(database) == two_batches
