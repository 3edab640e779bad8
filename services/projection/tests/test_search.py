"""On a real PostgreSQL: what a search finds."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from oms_runtime.customer_keys import word_hashes
from oms_runtime.database import Database
from oms_runtime.model import IncomingRecord
from oms_runtime.sealing import Sealer

from services.projection.tests.reading import ask, write

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
