"""Version 1 of an order says the same in version 2, and is the same order in whichever version it comes."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from msgspec.structs import replace
from oms_contracts import superseded
from oms_contracts.channel import OrderPlaced
from oms_contracts.content_hash import content_hash_of
from oms_contracts.golden import read_goldens
from oms_contracts.message import all_types, decode, encode, key_of, newest, type_of, validate, versions_of
from oms_contracts.order_parts import Tax
from oms_contracts.superseded import placed_in_version_1, type_of_placed

GOLDENS = {golden.type: golden for golden in read_goldens(Path(__file__).parents[1] / "golden")}
SUPERSEDED = [kind for kind in all_types() if kind.upcast is not None]
PLACED = "oms.channel.OrderPlaced.v1"


def test_every_version_but_the_newest_is_superseded() -> None:
    assert {kind.name for kind in SUPERSEDED} == {kind.name for kind in all_types() if kind is not versions_of(kind.cls)[-1]}


@pytest.mark.parametrize("kind", SUPERSEDED, ids=lambda kind: kind.name)
def test_a_golden_record_of_version_1_keeps_its_meaning(kind: Any) -> None:
    old, new = json.loads(GOLDENS[kind.name].value), decode(kind.name, GOLDENS[kind.name].value)
    read = json.loads(encode(new))
    assert type_of(new).upcast is None
    assert key_of(new) == GOLDENS[kind.name].key
    for name in old.keys() & read.keys() - {"lines", "customer", "ship_to"}:
        assert read[name] == old[name], name
    assert [(line["line_id"], line["sku"], line["quantity"]) for line in read["lines"]] == [
        (line["line_id"], line["sku"], line["quantity"]) for line in old["lines"]
    ]
    if "personal" in read:
        personal = read["personal"]
        for name in old.keys() & personal.keys():
            assert old[name] is None or not isinstance(old[name], dict) or old[name].items() <= personal[name].items(), name
            assert isinstance(old[name], dict) or old[name] == personal[name], name
    if not any("total" in line for line in old["lines"]):
        return
    amounts = [line["amount"] if "amount" in line else line["total"] for line in read["lines"]]
    assert amounts == [line["total"] for line in old["lines"]]
    if "shipping" in old:
        total = read["total"]
        assert total == old.get("total", old.get("amount"))
        assert total - sum(amounts) == old["shipping"]
        assert sum(payment["amount"] for payment in read["payments"]) == total if "payments" in read else read["amount"] == total
    if "discounts" in read:
        assert [sum(share["amount"] for share in line["discounts"]) for line in read["lines"]] == [
            line["discount"] for line in old["lines"]
        ]
        people = read.get("personal", read)
        assert old["customer"].items() <= people["customer"].items()
        assert old["ship_to"].items() <= people["ship_to"].items()
        assert [(payment["kind"], payment["token"], payment["status"]) for payment in read["payments"]] == [
            (old["payment"]["kind"], old["payment"]["token"], "authorize")
        ]


def test_any_order_of_version_1_is_the_same_order_in_version_2(instances: Any) -> None:
    @given(instances(superseded.OrderPlaced))
    @settings(deadline=None, max_examples=300)
    def law(old: superseded.OrderPlaced) -> None:
        new: OrderPlaced = newest(old)
        assert placed_in_version_1(new) == old
        assert content_hash_of(new) == sha256(encode(old)).hexdigest()
        again = decode("oms.channel.OrderPlaced.v2", encode(new))
        assert content_hash_of(again) == content_hash_of(new)
        assert key_of(new) == key_of(old)

    law()


@pytest.mark.parametrize(
    "change",
    [
        {"number": "#1"},
        {"taxes_included": False},
        {"payments": ()},
        {"attributes": {"a": "b"}},
        {"tags": ("a",)},
        {"discounts": ()},
        {"note": "ring"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_order_that_says_more_or_less_has_another_hash(change: dict[str, Any]) -> None:
    placed = validate(PLACED, GOLDENS[PLACED].value)
    other = replace(placed, **change)
    assert placed_in_version_1(other) is None
    assert content_hash_of(other) == sha256(encode(other)).hexdigest() != content_hash_of(placed)


def test_a_taxed_line_has_no_version_1() -> None:
    placed = validate(PLACED, GOLDENS[PLACED].value)
    taxed = replace(placed.lines[0], taxes=(Tax(title="VAT", amount=1),))
    assert placed_in_version_1(replace(placed, lines=(taxed,))) is None


def test_the_order_of_attributes_does_not_matter() -> None:
    placed = validate(PLACED, GOLDENS[PLACED].value)
    one, other = (replace(placed, attributes=dict(pairs)) for pairs in ([("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")]))
    assert content_hash_of(one) == content_hash_of(other)


@pytest.mark.parametrize(
    ("value", "version"), [(b'{"payment": 1}', 1), (b'{"payments": []}', 2), (b"{}", 2), (b"[]", 2), (b"{", 2), (b"\xff", 2)]
)
def test_an_order_without_a_type_is_of_version_1_where_it_has_a_payment(value: bytes, version: int) -> None:
    assert type_of_placed(value) == f"oms.channel.OrderPlaced.v{version}"
