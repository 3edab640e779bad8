"""Every kind of breaking change is found, and what only adds is let through."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import msgspec
import pytest
from annotated_types import MaxLen
from oms_contracts import catalogue
from oms_contracts.asyncapi import document
from oms_contracts.compatibility import channel_breaches, schema_breaches
from oms_contracts.message import MessageType, Value, all_types, message, type_of
from oms_contracts.schemas import schema_of
from oms_contracts.values import Address, Customer

NAME = "oms.test.Noted.v1"


def published(annotations: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """The schema of a message with these fields."""
    fields = [(name, kind, defaults[name]) if name in defaults else (name, kind) for name, kind in annotations.items()]
    cls: Any = msgspec.defstruct("Noted", fields, bases=(Value,), module=__name__, frozen=True, kw_only=True)
    return schema_of(MessageType(NAME, message(f"oms.test.Noted{len(all_types())}.v1", key="order_id")(cls), str, None))


OLD = {
    "order_id": str,
    "amount": int,
    "at": datetime,
    "note": str | None,
    "reason": Annotated[str, MaxLen(200)],
    "lines": tuple[str, ...],
    "customer": Customer,
}
OLD_DEFAULTS = {"note": None}


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("annotations", "defaults", "breach"),
    [
        ({"amount": ...}, {}, "amount was removed"),
        ({"note": ...}, {}, "note was removed"),
        ({"amount": str}, {}, "amount changed its type from 'integer' to 'string'"),
        ({"at": str}, {}, "at changed its format from 'date-time' to none"),
        ({"amount": int | None}, {}, "amount changed its type from integer to integer or null"),
        ({"note": str}, {"note": ""}, "note changed its type from string or null to string"),
        ({"note": str | None}, {"note": "none"}, "note changed its default from None to 'none'"),
        ({"note": int | None}, {}, "note changed its type from 'string' to 'integer'"),
        ({"lines": tuple[int, ...]}, {}, "lines[] changed its type from 'string' to 'integer'"),
        ({"lines": str}, {}, "lines changed its type from 'array' to 'string'"),
        ({"customer": Address}, {}, "customer.email was removed"),
        ({"currency": str}, {}, "currency is new and required"),
        ({"note": str | None}, {"note": ...}, "note became required"),
        ({"reason": Annotated[str, MaxLen(100)]}, {}, "reason changed its maxLength from 200 to 100"),
        ({"amount": str, "reason": ...}, {}, "reason was removed"),
    ],
)
def test_a_breaking_change_names_the_field_and_asks_for_a_new_version(
    annotations: dict[str, Any], defaults: dict[str, Any], breach: str
) -> None:
    changed = {name: part for name, part in {**OLD, **annotations}.items() if part is not ...}
    absent = {name: part for name, part in {**OLD_DEFAULTS, **defaults}.items() if part is not ... and name in changed}
    found = schema_breaches(NAME, published(OLD, **OLD_DEFAULTS), published(changed, **absent))
    assert f"{NAME}: {breach}; leave it as it was and publish oms.test.Noted.v2" in found


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("annotations", "defaults"),
    [
        ({}, {}),
        ({"currency": str}, {"currency": "EUR"}),
        ({"amount": int}, {"amount": 0}),
        ({"reason": Annotated[str, MaxLen(300)]}, {}),
        ({"reason": str}, {}),
    ],
    ids=["nothing", "new optional field", "now optional", "wider limit", "no limit"],
)
def test_what_only_adds_is_let_through(annotations: dict[str, Any], defaults: dict[str, Any]) -> None:
    assert schema_breaches(NAME, published(OLD, **OLD_DEFAULTS), published({**OLD, **annotations}, **OLD_DEFAULTS, **defaults)) == []


def test_a_removed_message_is_a_breach() -> None:
    (breach,) = schema_breaches(NAME, {"type": "object"}, None)
    assert "was removed" in breach
    assert "upcast" in breach


@pytest.mark.parametrize(
    ("old", "new", "breaks"),
    [({"additionalProperties": False}, {}, False), ({}, {"additionalProperties": False}, True), ({}, {"pattern": "^a$"}, True)],
)
def test_what_was_taken_must_still_be_taken(old: dict[str, Any], new: dict[str, Any], breaks: bool) -> None:
    assert bool(schema_breaches(NAME, old, new)) == breaks


def test_words_may_change() -> None:
    assert schema_breaches(NAME, {"type": "object", "description": "old"}, {"type": "object", "title": "Noted"}) == []


CURRENT = json.loads(json.dumps(document({})))


def _removed(channels: dict[str, Any]) -> None:
    del channels["oms.stock"]


def _rekeyed(channels: dict[str, Any]) -> None:
    channels["oms.stock"]["x-key"] = "sku"


def test_a_topic_may_gain_messages_with_a_key_of_their_own() -> None:
    old, new = json.loads(json.dumps(CURRENT)), json.loads(json.dumps(CURRENT))
    key = old["channels"]["oms.stock"]["x-key"]
    new["channels"]["oms.stock"]["x-key"] = f"{key}; count id for counts"
    assert list(channel_breaches(old, new)) == []
    new["channels"]["oms.stock"]["x-key"] = f"{key} or count id"
    assert len(list(channel_breaches(old, new))) == 1


def _repartitioned(channels: dict[str, Any]) -> None:
    channels["oms.stock"]["bindings"]["kafka"]["partitions"] = 24


def _compacted(channels: dict[str, Any]) -> None:
    channels["oms.stock"]["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] = ["compact"]


def _forgotten(channels: dict[str, Any]) -> None:
    channels["oms.stock"]["bindings"]["kafka"]["topicConfiguration"]["retention.ms"] = 1_000


def _moved(channels: dict[str, Any]) -> None:
    name = "oms.inventory.StockReserved.v1"
    channels["oms.orders"]["messages"][name] = channels["oms.stock"]["messages"].pop(name)


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        (_removed, "the topic was removed"),
        (_rekeyed, "to 'sku', which moves records to other partitions"),
        (_repartitioned, "its partitions changed from 12 to 24"),
        (_compacted, "its cleanup.policy changed"),
        (_forgotten, "its retention.ms was cut from -1 to 1000"),
        (_moved, "it no longer carries oms.inventory.StockReserved.v1"),
    ],
    ids=lambda part: part.__name__.strip("_") if callable(part) else "",
)
def test_a_breaking_change_of_a_topic_is_named(change: Callable[[dict[str, Any]], None], breach: str) -> None:
    new = deepcopy(CURRENT)
    change(new["channels"])
    (found,) = channel_breaches(CURRENT, new)
    assert found.startswith("oms.stock: ")
    assert breach in found
    assert "publish a new topic" in found


def test_a_new_topic_a_new_message_and_longer_keeping_are_let_through() -> None:
    old = deepcopy(CURRENT)
    del old["channels"]["oms.stock"]
    del old["channels"]["oms.orders"]["messages"]["oms.capture.OrderExpired.v1"]
    assert channel_breaches(old, CURRENT) == []


def test_the_document_follows_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    stock = next(topic for topic in catalogue.TOPICS if topic.name == "oms.stock")
    others = tuple(topic for topic in catalogue.TOPICS if topic is not stock)
    fewer = tuple(cls for cls in stock.messages if type_of(cls).name != "oms.inventory.StockShipped.v1")
    changed = replace(stock, partitions=6, key="sku", retention=catalogue.DAYS_30, messages=fewer)
    monkeypatch.setattr("oms_contracts.asyncapi.TOPICS", (*others, changed))
    assert len(channel_breaches(CURRENT, document({}))) == 4
