"""`oms map`: a line for each payload of a folder, and all about it as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oms_adapters.parts import map_payload
from oms_cli import map_orders
from oms_cli.app import app
from typer.testing import CliRunner, Result

ORDER: dict[str, Any] = {
    "id": 7,
    "created_at": "2026-03-01T10:00:00Z",
    "updated_at": "2026-03-01T10:00:00Z",
    "currency": "EUR",
    "taxes_included": True,
    "total_price": "12.34",
    "financial_status": "paid",
    "payment_gateway_names": ["stripe"],
    "location_id": 5,
    "line_items": [{"id": 1, "sku": "MUG", "title": "Mug", "quantity": 2, "price": "6.17"}],
}
Files = Callable[[dict[str, Any]], Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    def write(contents: dict[str, Any]) -> Path:
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return tmp_path

    return write


def oms(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_every_file_has_a_line_and_what_is_no_order_is_no_failure(files: Files) -> None:
    folder = files(
        {
            "shopify-1.json": ORDER,
            "shopify-2.json": {"fulfillment_order": {"id": 1}},
            "woocommerce-refund.json": {"id": 1, "amount": "1.00", "refunded_payment": False},
            "notes.txt": b"",
            "magento-1.json": ORDER,
        }
    )
    done = oms("map", str(folder))
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert done.exit_code == 0, done.stderr
    assert lines["shopify-1.json"] == "mapped: shopify/7, 12.34 EUR, totals add up"
    assert lines["shopify-2.json"].startswith("not an order to place: fulfillment_order: ")
    assert lines["woocommerce-refund.json"].startswith("not an order to place: refunded_payment: ")
    assert lines["notes.txt"] == lines["magento-1.json"]
    assert lines["notes.txt"].startswith("not looked at: the name does not begin with amazon-, saleor-")


def test_an_order_that_cannot_be_mapped_is_named_with_its_field_and_fails(files: Files) -> None:
    done = oms("map", str(files({"shopify-1.json": ORDER | {"total_price": "12.35"}, "shopify-2.json": b"{"})))
    assert done.exit_code == 1
    assert "shopify-1.json: an order that cannot be mapped: total: is 1235, lines 1234" in done.stdout
    assert "shopify-2.json: an order that cannot be mapped: payload: is not JSON" in done.stdout
    assert "error: 2 of 2 files should have been mapped and were not" in done.stderr


def test_json_has_the_order_and_every_field_that_was_not_mapped(files: Files) -> None:
    done = oms("map", str(files({"shopify-1.json": ORDER | {"wishes": [{"on": "time"}]}, "saleor-1.json": {}})), "--json")
    saleor, shopify = json.loads(done.stdout)["files"]
    assert (shopify["outcome"], shopify["total"], shopify["currency"], shopify["adds_up"]) == ("mapped", 1234, "EUR", True)
    assert shopify["unmapped_fields"] == ["wishes[].on"]
    assert shopify["order"]["lines"][0]["sku"] == "MUG"
    assert saleor == {
        "file": "saleor-1.json",
        "outcome": "not_an_order",
        "reasons": [{"field": "lines", "reason": "is missing, and `total` too: this is not an order"}],
    }


def test_an_adapter_that_raises_fails_its_file_alone(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(adapter: Any, raw: bytes, *, channel: str) -> Any:
        if channel == "amazon":
            raise ZeroDivisionError("oh")
        return map_payload(adapter, raw, channel=channel)

    monkeypatch.setattr(map_orders, "map_payload", broken)
    done = oms("map", str(files({"amazon-1.json": {}, "shopify-1.json": ORDER})))
    assert done.exit_code == 1
    assert "amazon-1.json: the adapter failed, which is a bug of it: ZeroDivisionError: oh" in done.stdout
    assert "shopify-1.json: mapped" in done.stdout


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    done = oms("map", str(tmp_path / "nowhere"))
    assert (done.exit_code, "cannot be read" in done.stderr) == (2, True)


def test_help_has_an_example() -> None:
    assert "oms map payloads --json" in oms("map", "--help").stdout
