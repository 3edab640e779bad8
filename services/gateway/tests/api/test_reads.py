"""What the read models hold, over HTTP: the real query API behind scopes. On real databases."""

from dataclasses import replace
from typing import Any

import httpx
import pytest
from oms_contracts.operations import operations_on
from oms_gateway.api import make_api
from oms_gateway.identity import READ_SCOPES, Identity
from oms_gateway.personal_data import without_personal_data
from oms_gateway.query_api import QueryApi
from oms_gateway.reads import OF_NO_CHANNEL, READS, Read, with_offers

from services.gateway.tests.api.conftest import ORDER_ID, Gateway

READABLE = [read for read in READS if read.method == "GET" and "{" not in read.path]


async def ask(gateway: Gateway, name: str | None, path: str, status: int = 200, **options: Any) -> Any:
    async with gateway.client(name) as client:
        response = await client.get(path, **options)
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
    return response.json() if response.content else None


@pytest.mark.parametrize("read", READABLE, ids=lambda each: each.path)
async def test_what_the_query_api_answers_is_passed_on(gateway: Gateway, query: QueryApi, read: Read) -> None:
    async with gateway.client("operator") as client:
        parameters = {"q": "R-9"} if read.path == "/search" else {}
        response = await client.get(read.path, params=parameters)
    assert response.status_code == 200
    assert response.content == (await query.ask("GET", read.path, [*parameters.items()])).content


@pytest.mark.parametrize("read", READS, ids=lambda each: f"{each.method} {each.path}")
async def test_each_path_needs_its_scopes(gateway: Gateway, read: Read) -> None:
    """With all other scopes it is refused; with its own it is not."""
    path = read.path.format(order_id="done", field="total", sku="A", service="capture", letter_id="none")
    for name, scopes in (("has", {*read.scopes}), *((f"lacks-{each}", READ_SCOPES - {each}) for each in read.scopes)):
        gateway.identities[name] = Identity(actor=f"key:{name}", scopes=frozenset(scopes))
        async with gateway.client(name) as client:
            response = await client.request(read.method, path, json={} if read.method == "POST" else None)
        assert (response.status_code == 403) is (name != "has"), response.text


async def test_a_page_is_followed_by_the_next(gateway: Gateway) -> None:
    first = await ask(gateway, "operator", "/orders", params={"limit": 2})
    second = await ask(gateway, "operator", "/orders", params={"limit": 2, "after": first["next"]})
    assert len({order["order_id"] for order in first["items"] + second["items"]}) == 4


async def test_parameters_are_checked(gateway: Gateway) -> None:
    unknown = await ask(gateway, "operator", "/orders", 422, params={"colour": "red", "size": "1", "limit": 1})
    assert [reason.partition(":")[0] for reason in unknown["reasons"]] == ["colour", "size"]
    assert (await ask(gateway, "operator", "/orders", 422, params={"limit": 10_000}))["reasons"][0].startswith("limit: ")
    assert (await ask(gateway, "operator", "/orders", 422, params={"after": "x"}))["reasons"]


@pytest.mark.parametrize("path", ["/orders/none", "/orders/none/timeline", "/stock/a%2Fb", "/dead-letters/capture/a%2F1%2F2", "/nothing"])
async def test_what_is_not_known_is_a_problem(gateway: Gateway, path: str) -> None:
    assert (await ask(gateway, "operator", path, 404))["reasons"]


async def test_an_order_is_found_by_channel_and_reference(gateway: Gateway) -> None:
    assert (await ask(gateway, "operator", "/orders/web~R-9"))["order_id"] == ORDER_ID
    await ask(gateway, "operator", "/orders/till~R-9", 404)


async def test_an_answer_that_is_known_is_not_sent_again(gateway: Gateway) -> None:
    async with gateway.client("operator") as client:
        first = await client.get("/products")
        tag = first.headers["etag"]
        for known in (tag, f'"other", W/{tag}', "*"):
            again = await client.get("/products", headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert (await client.get("/products", headers={"If-None-Match": '"other"'})).status_code == 200
        assert (await client.get("/stock")).headers["etag"] != tag


# A channel's key


async def test_a_channels_key_sees_the_orders_of_its_channel(gateway: Gateway) -> None:
    everything = await ask(gateway, "operator", "/orders")
    web = {order["order_id"] for order in everything["items"] if order["channel"] == "web"}
    assert web < {order["order_id"] for order in everything["items"]}
    for path in ("/orders", "/orders/details", "/orders?channel=web"):
        assert {order["order_id"] for order in (await ask(gateway, "shop", path))["items"]} == web
    for path in ("/orders?channel=till", "/orders?channel=web&channel=till", "/rejections?channel=till"):
        await ask(gateway, "shop", path, 403)


async def test_a_channels_key_sees_one_order_of_its_channel_and_no_other(gateway: Gateway) -> None:
    for path in ("/orders/done", "/orders/done/timeline", "/orders/web~R-9"):
        await ask(gateway, "shop", path)
        await ask(gateway, "till", path, 404)
    assert await ask(gateway, "till", "/orders/done", 404) == {
        **await ask(gateway, "till", "/orders/none", 404),
        "title": "order done is not known here",
    }
    await ask(gateway, "shop", "/orders/DC%2FG-1/timeline", 404)  # what was received is of no channel


@pytest.mark.parametrize("read", READS, ids=lambda each: f"{each.method} {each.path}")
async def test_a_channels_key_sees_nothing_of_all_channels(gateway: Gateway, read: Read) -> None:
    if "channel" in read.parameters or "{order_id}" in read.path:
        return  # the tests above
    path = read.path.format(field="total", sku="A", service="capture", letter_id="none")
    async with gateway.client("shop") as client:
        response = await client.request(read.method, path, json={} if read.method == "POST" else None)
    assert (response.status_code == 200) is (read.path in OF_NO_CHANNEL)
    assert response.status_code in {200, 403}


# Personal data


async def test_personal_data_is_for_those_who_may_see_it(gateway: Gateway) -> None:
    seen, hidden = [await ask(gateway, name, "/orders/done") for name in ("service-desk", "viewer")]
    assert (seen["customer_id"], seen["customer_email"]) == ("c-1", "a@example.org")
    assert (hidden["customer_id"], hidden["customer_email"], hidden["ship_to"]) == (None, None, None)
    assert hidden["total"] == seen["total"]
    for path in ("/orders", "/orders/details", "/orders/done/timeline"):
        async with gateway.client("viewer") as client:
            text = (await client.get(path)).text
        assert "c-1" not in text
        assert "a@example.org" not in text
        async with gateway.client("operator") as client:
            assert "timeline" in path or "c-1" in (await client.get(path)).text


def test_what_is_about_persons_is_null_wherever_it_is() -> None:
    order = {
        "customer_id": "c",
        "customer_name": "Ada",
        "customer_erased": False,
        "ship_to": {"city": "Berlin"},
        "bill_to": {},
        "note": "n",
        "gift": {"message": "m"},
        "pickup": {"location": "BER", "contact": {"name": "Ada"}},
        "lines": [{"sku": "A", "customer_note": "x"}],
    }
    assert without_personal_data({"items": [order]}) == {
        "items": [
            dict.fromkeys(("customer_id", "customer_name", "ship_to", "bill_to", "note", "gift"))
            | {"customer_erased": False, "pickup": {"location": "BER", "contact": None}, "lines": [{"sku": "A", "customer_note": None}]}
        ]
    }


# What is offered


async def test_an_order_says_what_may_be_asked_for_now_and_why_not_the_rest(gateway: Gateway) -> None:
    new, done = await ask(gateway, "operator", f"/orders/{ORDER_ID}"), await ask(gateway, "operator", "/orders/done")
    offers = {each["name"]: each for each in new["operations"]}
    assert offers["cancel-order"] == {"name": "cancel-order", "title": "Cancel an order", "offered": True, "why_not": None}
    assert "place-order" not in offers
    assert {each["name"]: each["why_not"] for each in done["operations"]}["cancel-order"] == "the order is completed"
    for kind, things in (("fulfillment", done["fulfillments"]), ("package", done["packages"]), ("return", done["returns"])):
        assert things
        for thing in things:
            assert [each["name"] for each in thing["operations"]] == [each.name for each in operations_on(kind)]


async def test_what_the_caller_may_not_ask_for_is_not_offered(gateway: Gateway) -> None:
    order = await ask(gateway, "viewer", f"/orders/{ORDER_ID}")
    assert {each["why_not"] for each in order["operations"]} == {"it needs the scope orders:change", "it needs the scope returns:request"}


async def test_a_warehouse_is_offered_what_concerns_its_locations(gateway: Gateway) -> None:
    planned: dict[str, Any] = {"fulfillment_id": "o/HAM", "location": "HAM", "status": "planned", "lines": []}
    order: dict[str, Any] = {"status": "confirmed", "fulfillments": [planned], "packages": [], "returns": []}
    [offered] = with_offers(gateway.identities["warehouse"], order)["fulfillments"]
    [other] = with_offers(gateway.identities["ber"], order)["fulfillments"]
    assert offered["operations"][0]["offered"]
    assert other["operations"][0] == {
        "name": "accept-fulfillment",
        "title": "Accept a fulfillment",
        "offered": False,
        "why_not": "HAM is another location",
    }


# The query API is away


async def gateway_with(gateway: Gateway, answer: Any) -> httpx.Response:
    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://query") as client:
        api = make_api(replace(gateway.parts, query=QueryApi(client)))
        async with gateway.client("operator", api=api) as asking:
            return await asking.get("/orders")


@pytest.mark.parametrize("status", [200, 401, 500])
async def test_a_query_api_that_does_not_answer_as_it_should_is_a_problem(gateway: Gateway, status: int) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        if status == 200:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, text="<html>")

    response = await gateway_with(gateway, answer)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
