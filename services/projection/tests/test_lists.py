"""On a real PostgreSQL: the lists of the query API, filtered, sorted and page by page."""

import re

import httpx
import pytest
from msgspec.structs import replace
from oms_contracts.orders import OrderAccepted
from oms_contracts.samples import sample
from oms_contracts.tracking import DeliveryAttemptFailed, PackageDelivered, PackageLost
from oms_contracts.values import AllocatedLine
from oms_runtime.database import Database
from oms_runtime.sealing import Sealer

from services.projection.tests.reading import LATER, Given, ask, every, two_returns_that_wait, write


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
