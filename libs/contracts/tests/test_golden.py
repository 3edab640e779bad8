"""Golden records: listed once, read for ever."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from oms_contracts.catalogue import TOPICS
from oms_contracts.envelope import Envelope, Headers, to_headers
from oms_contracts.golden import SUMS, add_goldens, golden_faults, read_goldens
from oms_contracts.message import Value, all_types, decode, encode, find_type, key_of, message, validate
from oms_contracts.schemas import schema_of

FOLDER = Path(__file__).parents[1] / "golden"
GOLDENS = read_goldens(FOLDER)
RESERVED = "oms.inventory.StockReserved.v1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(FOLDER, tmp_path / "golden"))


def test_every_type_has_a_golden_record_and_all_are_sound() -> None:
    assert golden_faults(FOLDER) == []
    assert {golden.type for golden in GOLDENS} == {kind.name for kind in all_types()}


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: golden.name)
def test_a_golden_record_is_read_as_it_was(golden: Any) -> None:
    kind = find_type(golden.type)
    assert kind is not None
    read = decode(golden.type, golden.value)
    assert validate(golden.type, golden.value) == read
    assert key_of(read) == golden.key
    Draft202012Validator(schema_of(kind), format_checker=FormatChecker()).validate(json.loads(golden.value))  # pyright: ignore[reportUnknownMemberType]  # jsonschema's stubs are partial


def test_an_edited_golden_record_is_noticed(folder: Path) -> None:
    file = folder / f"{RESERVED}.json"
    file.write_bytes(file.read_bytes().replace(b"BER-1", b"BER-2"))
    assert golden_faults(folder) == [
        f"golden/{RESERVED}.json: was edited; golden records never change: put it back, and publish a new version instead"
    ]


def test_edited_headers_are_noticed(folder: Path) -> None:
    file = folder / f"{RESERVED}.headers.json"
    file.write_text(file.read_text().replace('"41"', '"42"'))
    (fault,) = golden_faults(folder)
    assert "was edited" in fault


def test_a_removed_golden_record_is_noticed(folder: Path) -> None:
    (folder / f"{RESERVED}.json").unlink()
    assert golden_faults(folder) == [f"golden/{RESERVED}.json: was removed; golden records stay for ever"]


def test_an_unlisted_golden_record_is_noticed(folder: Path) -> None:
    (folder / "mine.json").write_text("{}")
    (fault,) = golden_faults(folder)
    assert "mine.json: is not listed" in fault


def test_adding_touches_nothing_that_is_there(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert add_goldens(folder) == []
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.usefixtures("registry")
def test_a_new_type_needs_a_golden_record_and_gets_one(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    @message("oms.test.Noted.v1", key="order_id")
    class Noted(Value, frozen=True, kw_only=True):  # pyright: ignore[reportUnusedClass]  # it is registered
        order_id: str

    assert golden_faults(folder) == ["oms.test.Noted.v1: no golden record has order_id: add one with --add-goldens"]
    added = [file.name for file in add_goldens(folder)]
    assert added == ["oms.test.Noted.v1.json", "oms.test.Noted.v1.headers.json"]
    assert golden_faults(folder) == []
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert after.pop(SUMS).startswith(before.pop(SUMS))
    assert before.items() < after.items()
    assert (folder / "oms.test.Noted.v1.json").read_bytes() == b'{"order_id":"61aa8aff-42f0-58d5-8fe3-bf0888acc1f3"}'


class Versions:
    """One message as it was published first, and as it may be later, each under the same name."""

    @staticmethod
    def first() -> None:
        @message("oms.test.Noted.v1", key="order_id")
        class Noted(Value, frozen=True, kw_only=True):  # pyright: ignore[reportUnusedClass]
            order_id: str
            amount: int
            note: str = ""

    @staticmethod
    def with_another_field() -> None:
        @message("oms.test.Noted.v1", key="order_id")
        class Noted(Value, frozen=True, kw_only=True):  # pyright: ignore[reportUnusedClass]
            order_id: str
            amount: int
            note: str = ""
            currency: str = "EUR"

    @staticmethod
    def with_a_renamed_field() -> None:
        @message("oms.test.Noted.v1", key="order_id")
        class Noted(Value, frozen=True, kw_only=True):  # pyright: ignore[reportUnusedClass]
            order_id: str
            total: int
            note: str = ""

    @staticmethod
    def with_a_lost_optional_field() -> None:
        @message("oms.test.Noted.v1", key="order_id")
        class Noted(Value, frozen=True, kw_only=True):  # pyright: ignore[reportUnusedClass]
            order_id: str
            amount: int

    @staticmethod
    def with_fields_in_another_order() -> None:
        @message("oms.test.Noted.v1", key="order_id")
        class Noted(Value, frozen=True, kw_only=True):  # pyright: ignore[reportUnusedClass]
            order_id: str
            note: str = ""
            amount: int

    @staticmethod
    def with_another_field_and_another_order() -> None:
        @message("oms.test.Noted.v1", key="order_id")
        class Noted(Value, frozen=True, kw_only=True):  # pyright: ignore[reportUnusedClass]
            order_id: str
            note: str = ""
            currency: str = "EUR"
            amount: int

    @staticmethod
    def with_another_key() -> None:
        @message("oms.test.Noted.v1", key="note")
        class Noted(Value, frozen=True, kw_only=True):  # pyright: ignore[reportUnusedClass]
            order_id: str
            amount: int
            note: str = ""

    @staticmethod
    def superseded() -> None:
        @message("oms.test.Noted.v2", key="order_id")
        class Noted(Value, frozen=True, kw_only=True):
            order_id: str
            amount: int
            currency: str
            notes: tuple[str, ...]

        @message(
            "oms.test.Noted.v1",
            key="order_id",
            upcast=lambda old: Noted(order_id=old.order_id, amount=old.amount, currency="EUR", notes=(old.note,)),
        )
        class NotedV1(Value, frozen=True, kw_only=True):  # pyright: ignore[reportUnusedClass]
            order_id: str
            amount: int
            note: str = ""


@pytest.fixture
def first_goldens(folder: Path, monkeypatch: pytest.MonkeyPatch, isolated: Callable[[pytest.MonkeyPatch], None]) -> Path:
    """The golden records of a time when the first version was published; the registry has forgotten it again."""
    with monkeypatch.context() as then:
        isolated(then)
        Versions.first()
        add_goldens(folder)
    return folder


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (Versions.with_a_renamed_field, "can no longer be read: oms.test.Noted.v1: Object missing required field `total`"),
        (Versions.with_a_lost_optional_field, "note: there is no such field"),
        (Versions.with_fields_in_another_order, "is no longer written byte for byte as it was"),
        (Versions.with_another_field_and_another_order, "is no longer written byte for byte as it was"),
        (Versions.with_another_key, "its key was 61aa8aff-42f0-58d5-8fe3-bf0888acc1f3, and is now Please ring twice. of oms.test.Noted.v1"),
        (lambda: None, "oms.test.Noted.v1 is no longer known: keep the class"),
    ],
    ids=["renamed field", "lost field", "other order", "another field and other order", "other key", "lost type"],
)
def test_a_change_that_betrays_a_golden_record_is_named(first_goldens: Path, change: Any, fault: str) -> None:
    change()
    faults = golden_faults(first_goldens)
    assert any(found.startswith("golden/oms.test.Noted.v1: ") and fault in found for found in faults), faults


def test_a_message_that_left_its_topic_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_contracts.schemas.TOPICS", tuple(topic for topic in TOPICS if topic.name != "oms.stock"))
    assert f"golden/{RESERVED}: was on oms.stock, and {RESERVED} is now on no topic" in golden_faults(FOLDER)


def test_headers_that_are_written_otherwise_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_partition_key(envelope: Envelope) -> Headers:
        return [(name, value) for name, value in to_headers(envelope) if name != "ce_partitionkey"]

    monkeypatch.setattr("oms_contracts.golden.to_headers", without_partition_key)
    assert f"golden/{RESERVED}: its headers are not written as they were" in golden_faults(FOLDER)


@pytest.mark.usefixtures("registry")
def test_a_name_is_published_once() -> None:
    Versions.first()
    with pytest.raises(TypeError, match=r"oms\.test\.Noted\.v1 is published twice"):
        Versions.first()


@pytest.mark.usefixtures("registry")
def test_a_new_optional_field_gets_a_second_golden_record(first_goldens: Path) -> None:
    Versions.with_another_field()
    assert golden_faults(first_goldens) == ["oms.test.Noted.v1: no golden record has currency: add one with --add-goldens"]
    assert [file.name for file in add_goldens(first_goldens)] == ["oms.test.Noted.v1.2.json", "oms.test.Noted.v1.2.headers.json"]
    assert golden_faults(first_goldens) == []


@pytest.mark.usefixtures("registry")
def test_a_superseded_version_is_read_as_the_newest(first_goldens: Path) -> None:
    Versions.superseded()
    add_goldens(first_goldens)
    old = (first_goldens / "oms.test.Noted.v1.json").read_bytes()
    newest = find_type("oms.test.Noted.v2")
    assert newest is not None
    expected = newest.cls(order_id="61aa8aff-42f0-58d5-8fe3-bf0888acc1f3", amount=4295, currency="EUR", notes=("Please ring twice.",))
    assert decode("oms.test.Noted.v1", old) == expected
    assert validate("oms.test.Noted.v1", old) == expected
    assert decode("oms.test.Noted.v2", encode(expected)) == expected
    assert golden_faults(first_goldens) == []
