"""On a real PostgreSQL: the written rows, the query API, and the audits."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Protocol

import asyncpg
import httpx
import pytest
import pytest_asyncio
from msgspec.structs import replace
from oms_contracts.dead_letters import RecordSetAside
from oms_contracts.fulfillments import FulfillmentCanceled, FulfillmentPlanned, FulfillmentShipped
from oms_contracts.operations import operation_of
from oms_contracts.orders import WAITING_STATUSES, OrderAccepted, OrderActionRequired, OrderRejected
from oms_contracts.payments import PaymentCaptured, PaymentCaptureFailed, PaymentVoidFailed, RefundFailed
from oms_contracts.returns import ReturnActionRequired, ReturnRequested
from oms_contracts.samples import sample
from oms_contracts.stock import (
    StockActionRequired,
    StockActionResolved,
    StockAdjusted,
    StockLimitsSet,
    StockReleased,
    TransferActionRequired,
    TransferClosed,
    TransferReceived,
    TransferStarted,
)
from oms_contracts.tracking import DeliveryAttemptFailed, PackageDelivered, PackageLost
from oms_contracts.values import AllocatedLine, GoodsLine, Package, ReturnLine, StockLine
from oms_projection.api import make_api
from oms_projection.projector import project
from oms_projection.rebuild import columns_of, digests_of
from oms_projection.stuck import WAITING
from oms_projection.tables import READ_MODELS_VERSION, TABLES
from oms_projection.versions import open_version, schema_of
from oms_runtime.customer_keys import word_hashes
from oms_runtime.database import Database, migrate, open_database, open_for_queries
from oms_runtime.model import IncomingRecord
from oms_runtime.sealing import KEY_BYTES, Sealer

LATER = datetime(2026, 3, 2, tzinfo=UTC)
"""A day after the last event: everything is settled."""
SCHEMA = schema_of(READ_MODELS_VERSION)
Given = Callable[..., Sequence[IncomingRecord]]


class Servers(Protocol):
    async def create_database(self, name: str) -> str: ...


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def pool(servers: Servers) -> AsyncIterator[Database]:
    database = await open_database(await servers.create_database("projection"), schema=SCHEMA)
    await migrate(database, "oms_projection")
    await open_version(database)
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def database(pool: Database) -> Database:
    async with pool.acquire() as connection:
        await connection.execute(f"truncate {', '.join(table.name for table in TABLES)}")
    return pool


@pytest_asyncio.fixture(loop_scope="session")
async def api(database: Database, scenarios: Any, sealer: Sealer) -> AsyncIterator[httpx.AsyncClient]:
    """The query API over the scenarios, a day later."""
    await write(database, scenarios.records)
    transport = httpx.ASGITransport(make_api(database, lambda: LATER, sealer))
    async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
        yield client


async def write(database: Database, records: Sequence[IncomingRecord]) -> None:
    async with database.acquire() as connection, connection.transaction():
        await project(connection, records)


async def digests(database: Database) -> Any:
    async with database.acquire() as connection, connection.transaction():
        columns = await columns_of(connection, SCHEMA)
        return await digests_of(connection, SCHEMA, {table: list(names) for table, names in columns.items()})


async def ask(api: httpx.AsyncClient, path: str, **params: Any) -> Any:
    response = await api.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def every(api: httpx.AsyncClient, path: str, **params: Any) -> list[Any]:
    """All items of a list, two a page."""
    items: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = await ask(api, path, limit=2, **params, **after)
        items += page["items"]
        if page["next"] is None:
            return items
        assert len(page["items"]) == 2
        after = {"after": page["next"]}


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


async def test_orders_newest_first_page_by_page(api: httpx.AsyncClient) -> None:
    listed = await every(api, "/orders")
    assert [order["order_id"] for order in listed] == ["new", "expired", "stopped", "short", "declined", "bad", "done"]
    assert listed[-1].items() >= {"payment": "refunded", "shipped": 4, "delivered": 4}.items()


async def test_a_page_of_details_has_each_order_as_it_is_alone(api: httpx.AsyncClient) -> None:
    detailed = await every(api, "/orders/details")
    assert [order["order_id"] for order in detailed] == [order["order_id"] for order in await every(api, "/orders")]
    for order in detailed:
        assert order == await ask(api, f"/orders/{order['order_id']}")
    assert [order["order_id"] for order in await every(api, "/orders/details", status="canceled")] == ["stopped", "declined"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"status": "canceled"}, ["stopped", "declined"]),
        ({"channel": "till"}, ["bad"]),
        ({"customer": "key-1", "status": "expired"}, ["expired"]),
        ({"reference": "R-4"}, ["short"]),
        ({"placed_before": "2026-03-01T09:30:00Z"}, ["done"]),
        ({"placed_from": "2026-03-02T00:00:00Z"}, []),
        ({"action": "resolve_stock"}, ["short"]),
        ({"action": ""}, []),
        ({"delivery": "ship", "location": "BER", "sku": "B", "status": "completed"}, ["done"]),
        ({"delivery": "pickup"}, []),
        ({"location": "HAM"}, []),
        ({"sku": "b"}, []),
        ({"total_from": 4_000, "total_to": 4_000, "status": "accepted"}, ["new"]),
        ({"total_from": 4_001}, []),
        ({"total_to": 3_999}, []),
        ({"tag": "rush"}, ["short"]),
        ({"tag": "r"}, []),
    ],
)
async def test_orders_can_be_filtered(api: httpx.AsyncClient, filters: dict[str, str], expected: list[str]) -> None:
    assert [order["order_id"] for order in await every(api, "/orders", **filters)] == expected
    assert [order["order_id"] for order in await every(api, "/orders/details", **filters)] == expected


async def test_a_line_of_content_that_was_rejected_later_is_in_no_filter(database: Database, api: httpx.AsyncClient, given: Given) -> None:
    first = replace(sample(OrderAccepted), order_id="o", attempt=1)
    second = replace(first, attempt=2, lines=(replace(first.lines[0], line_id="other", sku="NEW", title="new"),))
    await write(database, given("oms.orders", replace(first, lines=(replace(first.lines[0], sku="OLD", title="old"),)), second))
    assert await every(api, "/orders", sku="OLD") == []
    assert (await ask(api, "/search", q="old"))["items"] == []
    assert [order["order_id"] for order in await every(api, "/orders", sku="NEW")] == ["o"]


@pytest.mark.parametrize("field", ["placed_at", "total", "deadline"])
async def test_orders_can_be_sorted_page_by_page(database: Database, api: httpx.AsyncClient, field: str) -> None:
    async with database.acquire() as connection:
        await connection.execute("update orders set total = 1000 + ascii(order_id) where status <> 'rejected'")
        await connection.execute("update orders set deadline = placed_at where order_id <> 'new'")
    listed = {order["order_id"]: order[field] for order in await every(api, "/orders") if order[field] is not None}
    ascending = sorted(listed, key=lambda name: (listed[name], name))
    assert len(listed) >= 6
    assert [order["order_id"] for order in await every(api, "/orders", sort=field)] == ascending
    assert [order["order_id"] for order in await every(api, "/orders/details", sort=f"-{field}")] == ascending[::-1]
    wrong = await api.get("/orders", params={"sort": "reference"})
    assert (wrong.status_code, wrong.json()["reasons"][0].partition(":")[0]) == (422, "sort")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["stopped/HAM", "stopped/BER", "done/HAM", "done/BER"]),
        ({"sort": "planned_at"}, ["done/BER", "done/HAM", "stopped/BER", "stopped/HAM"]),
        ({"location": "BER"}, ["stopped/BER", "done/BER"]),
        ({"order": "done"}, ["done/HAM", "done/BER"]),
        ({"status": "canceled", "channel": "web"}, ["stopped/HAM", "stopped/BER"]),
        ({"status": "shipped"}, ["done/HAM", "done/BER"]),
        ({"status": "planned"}, []),
        ({"channel": "till"}, []),
        ({"planned_from": "2026-03-01T09:40:00Z"}, ["stopped/HAM", "stopped/BER"]),
        ({"planned_before": "2026-03-01T09:40:00Z"}, ["done/HAM", "done/BER"]),
    ],
)
async def test_fulfillments_are_listed_with_their_packages(api: httpx.AsyncClient, filters: dict[str, str], expected: list[str]) -> None:
    found = await every(api, "/fulfillments", **filters)
    assert [each["fulfillment_id"] for each in found] == expected
    for each in found:
        packed = [f"P-{each['location']}"] if each["order_id"] == "done" else []
        assert [package["package_id"] for package in each["packages"]] == packed
        assert {(named["channel"], named["reference"]) for named in (each, *each["packages"])} == {("web", "R-1" if packed else "R-5")}
        assert each["status"] == ("shipped" if packed else "canceled")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["P-HAM", "P-BER"]),
        ({"sort": "packed_at", "order": "done"}, ["P-BER", "P-HAM"]),
        ({"status": "delivered", "carrier": "DHL", "channel": "web"}, ["P-HAM", "P-BER"]),
        ({"status": "lost"}, []),
        ({"carrier": "dhl"}, []),
        ({"trouble": "true"}, ["P-BER"]),
        ({"trouble": "false"}, ["P-HAM"]),
        ({"order": "new"}, []),
        ({"channel": "till"}, []),
    ],
)
async def test_packages_are_listed(
    database: Database, api: httpx.AsyncClient, given: Given, filters: dict[str, str], expected: list[str]
) -> None:
    if "trouble" in filters:
        await write(database, given("oms.tracking", PackageLost(order_id="done", package_id="P-BER", at=LATER)))
    found = await every(api, "/packages", **filters)
    assert [each["package_id"] for each in found] == expected
    assert {(each["channel"], each["reference"]) for each in found} <= {("web", "R-1")}


async def test_trouble_is_over_once_the_package_is_delivered(database: Database, api: httpx.AsyncClient, given: Given) -> None:
    late = DeliveryAttemptFailed(order_id="done", package_id="P-BER", reason="nobody at home", at=LATER)
    await write(database, given("oms.tracking", late))
    assert [each["trouble"] for each in await every(api, "/packages", trouble=True)] == ["nobody at home"]
    lines = (AllocatedLine(line_id="1", sku="A", location="BER", quantity=0),)
    await write(database, given("oms.tracking", PackageDelivered(order_id="done", package_id="P-BER", lines=lines, at=LATER)))
    assert await every(api, "/packages", trouble=True) == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["RMA-2", "RMA-1", "RMA-done"]),
        ({"sort": "requested_at"}, ["RMA-done", "RMA-1", "RMA-2"]),
        ({"sort": "deadline"}, ["RMA-2", "RMA-1"]),
        ({"sort": "-deadline"}, ["RMA-1", "RMA-2"]),
        ({"status": "closed", "location": "BER"}, ["RMA-done"]),
        ({"action": "inspect"}, ["RMA-2"]),
        ({"action": ""}, []),
        ({"order": "new", "channel": "web"}, ["RMA-2", "RMA-1"]),
        ({"order": "done"}, ["RMA-done"]),
        ({"channel": "till"}, []),
    ],
)
async def test_returns_are_listed(
    database: Database, api: httpx.AsyncClient, given: Given, filters: dict[str, str], expected: list[str]
) -> None:
    await write(database, given("oms.returns", *two_returns_that_wait()))
    found = await every(api, "/returns", **filters)
    assert [each["return_id"] for each in found] == expected
    assert {(each["channel"], each["reference"]) for each in found} <= {("web", "R-1"), ("web", "R-7")}


def two_returns_that_wait() -> list[Any]:
    """Of `new`: RMA-2 has its deadline, an hour ago, before RMA-1, in a day."""
    of: dict[str, Any] = {"order_id": "new"}
    waits = (("RMA-1", "investigate", timedelta(days=1)), ("RMA-2", "inspect", timedelta(hours=-1)))
    return [
        event
        for number, (name, action, left) in enumerate(waits)
        for event in (
            ReturnRequested(return_id=name, lines=(ReturnLine(line_id="1", quantity=1),), at=LATER - timedelta(hours=9 - number), **of),
            ReturnActionRequired(return_id=name, action=action, deadline=LATER + left, at=LATER, **of),
        )
    ]


async def test_payments_are_sorted_and_filtered(api: httpx.AsyncClient) -> None:
    listed = [item["order_id"] for item in await every(api, "/payments")]
    assert [item["order_id"] for item in await every(api, "/payments", sort="at")] == listed[::-1]
    assert [item["order_id"] for item in await every(api, "/payments", order="done")] == ["done"]
    assert await every(api, "/payments", channel="till") == []


async def test_a_parameter_that_a_route_does_not_have_is_refused_and_named(api: httpx.AsyncClient, sealer: Sealer) -> None:
    description = await ask(api, "/openapi.json")
    for path, methods in description["paths"].items():
        for method in methods:
            params = {"colour": "blue", "stauts": "x"}
            response = await api.request(method, re.sub("{[^}]*}", "x", path), params=params, json={} if method == "post" else None)
            assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json"), path
            assert [reason.partition(":")[0] for reason in response.json()["reasons"]] == ["colour", "stauts"], path
    reasons = (await api.get("/payments", params={"limits": 1})).json()["reasons"]
    assert reasons == ["limits: is no parameter here; there are after, channel, failed, limit, order, sort, status"]


Hit = tuple[str, str, str, bool]


async def found(api: httpx.AsyncClient, **wanted: Any) -> list[Hit]:
    """What a search finds: kind, id, field, and whether it is exact."""
    if "q" in wanted and wanted.keys() <= {"q", "channel", "limit"}:
        result = await ask(api, "/search", **wanted)
        assert (await api.post("/search", json=wanted)).json() == result
    else:
        response = await api.post("/search", json=wanted)
        assert response.status_code == 200, response.text
        result = response.json()
    assert not result["more"] or len(result["items"]) == wanted["limit"]
    return [(hit["kind"], hit["id"], hit["field"], hit["exact"]) for hit in result["items"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r-4", [("order", "short", "reference", True)]),
        ("#104", [("order", "short", "number", True)]),
        ("stopp", [("order", "stopped", "order_id", False)]),
        ("STOPPED ", [("order", "stopped", "order_id", True)]),
        ("t-ber", [("package", "P-BER", "tracking_number", True)]),
        ("p-h", [("package", "P-HAM", "package_id", False)]),
        ("96385074", [("product", "A", "barcode", True)]),
        ("brass pot", [("product", "B", "title", False)]),
        ("C", [("product", "C", "sku", True)]),
        ("no such thing", []),
        ("%", []),
        ("'", []),
        ("\\", []),
    ],
)
async def test_a_text_is_found_wherever_it_begins_or_has_its_words(api: httpx.AsyncClient, text: str, expected: list[Hit]) -> None:
    assert await found(api, q=text) == expected


ORDERS = ["new", "expired", "stopped", "short", "declined", "done"]
"""The accepted ones, newest first."""


async def test_a_sku_finds_the_product_and_the_newest_orders_of_it(api: httpx.AsyncClient) -> None:
    expected = [("product", "B", "sku", True), *(("order", name, "sku", True) for name in ORDERS), ("order", "bad", "order_id", False)]
    assert await found(api, q="b") == expected
    assert await found(api, q="b", limit=3) == expected[:3]  # exact ones first


async def test_words_of_a_title_find_the_newest_orders_with_it(api: httpx.AsyncClient) -> None:
    assert await found(api, q="iron rods") == []
    assert await found(api, q="IRO ro") == [("order", name, "title", False) for name in ORDERS]
    assert await found(api, q="rod of iron") == [("order", name, "title", True) for name in ORDERS]
    assert await found(api, q="iron", channel="till") == []


async def test_what_very_many_lines_have_is_looked_for_in_the_newest_orders(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oms_projection.search.MAX_LINES", 3)
    monkeypatch.setattr("oms_projection.search.MAX_ORDERS", 2)
    for text in ("iron", "b"):
        result = await ask(api, "/search", q=text)
        found = [hit["id"] for hit in result["items"] if hit["field"] in {"sku", "title"} and hit["kind"] == "order"]
        assert found[:2] == ["new", "expired"]
        assert len(found) > 2  # and then any that have it
        assert result["more"]


async def test_a_hit_says_of_which_order_it_is(api: httpx.AsyncClient) -> None:
    [hit] = (await ask(api, "/search", q="T-HAM"))["items"]
    assert hit == {
        **{"kind": "package", "id": "P-HAM", "field": "tracking_number", "value": "T-HAM", "exact": True, "order_id": "done"},
        **{"channel": "web", "reference": "R-1", "number": "#101", "status": "completed", "placed_at": "2026-03-01T09:08:00Z"},
    }


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"email": " A@EXAMPLE.org"}, [("order", name, "customer_email", True) for name in ORDERS]),
        ({"email": "b@example.org"}, []),
        ({"name": "muller, ADA"}, [("order", name, "ship_to.name", True) for name in ORDERS]),
        ({"name": "Müller", "limit": 2}, [("order", name, "ship_to.name", False) for name in ORDERS[:2]]),
        ({"name": "Ada Meier"}, []),
        ({"name": "Mull"}, []),
        ({"name": "-"}, []),
        ({"name": "Ada Muller", "channel": "till"}, []),
        (
            {"name": "Ada", "q": "R-4"},
            [("order", "short", "reference", True), *(("order", name, "ship_to.name", False) for name in ORDERS if name != "short")],
        ),
        ({}, []),
    ],
)
async def test_persons_are_found_by_hashes_alone(api: httpx.AsyncClient, wanted: dict[str, Any], expected: list[Hit]) -> None:
    assert await found(api, **wanted) == expected


async def test_words_of_two_names_of_a_customer_find_no_order(database: Database, api: httpx.AsyncClient, sealer: Sealer) -> None:
    async with database.acquire() as connection:
        await connection.execute("update customers set words = words || $1::text[]", word_hashes(sealer, ["meier"]))
    assert await found(api, name="Ada Meier") == []
    assert len(await found(api, name="Ada Müller")) == len(ORDERS)


async def test_an_erased_customer_is_not_found(database: Database, api: httpx.AsyncClient, erasure: Sequence[IncomingRecord]) -> None:
    assert await found(api, name="ada", email="a@example.org")
    await write(database, erasure)
    assert await found(api, name="ada") == await found(api, email="a@example.org") == []
    assert len(await found(api, q="iron")) == len(ORDERS)


async def test_an_email_address_is_refused_in_a_url(api: httpx.AsyncClient) -> None:
    response = await api.get("/search", params={"q": " ada@example.org "})
    assert response.status_code == 422
    assert "POST /search" in response.json()["reasons"][0]
    for params in ({}, {"q": ""}, {"q": "x" * 256}, {"q": "a", "limit": 101}):
        assert (await api.get("/search", params=params)).status_code == 422
    assert (await api.post("/search", json={"name": ""})).status_code == 422
    no_text = await api.post("/search", content=b"\xf0\xa1i", headers={"content-type": "application/json"})
    assert (no_text.status_code, no_text.json()["reasons"]) == (422, ["body: must be JSON in UTF-8"])


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
        ("order", "short", "resolve_stock", "customer", False),
        ("dead-letter", "capture/oms.channel.orders/1/2", "set_aside", "operator", False),
        ("return", "RMA-1", "investigate", "operator", False),
        ("return", "RMA-2", "inspect", "warehouse", True),
        ("payment", "new", "capture_failed", "operator", False),
        ("order", "expired", "check_fulfillment", "warehouse", False),
        ("webhook", "capture/oms.channel.webhooks/1/1", "set_aside", "shop", False),
    ]
    assert [each["since"] for each in listed] == sorted(each["since"] for each in listed)
    assert [(each["reference"], each["key"]) for each in listed[2:4]] == [("R-4", None), ("R-7", "new")]
    assert listed[2].items() >= {"order_id": "short", "channel": "web", "reason": "B: 99 wanted", "operations": ["cancel-order"]}.items()
    assert listed[2]["deadline"] is not None
    assert listed[1].items() >= {"order_id": "new", "location": "BER", "operations": ["accept-fulfillment"], "deadline": None}.items()

    async def ids(**filters: Any) -> list[str]:
        return [each["id"] for each in await every(api, "/stuck", **filters)]

    assert await ids(kind="return") == ["RMA-1", "RMA-2"]
    assert await ids(waits_for="warehouse") == ["expired/BER", "new/BER", "RMA-2", "expired"]
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
