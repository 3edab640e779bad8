"""What is published is current, and the command line says so by its exit code."""

import json
import shutil
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from oms_contracts.__main__ import main
from oms_contracts.asyncapi import document
from oms_contracts.catalogue import EXTERNAL_PARTIES, TOPICS
from oms_contracts.message import all_types
from oms_contracts.publish import check, topic_table
from oms_contracts.values import ORDER_NAMESPACE, order_id_of

ROOT = Path(__file__).parents[1]
SCHEMA = "published/schemas/oms.capture.CancelOrder.v1.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy to spoil."""
    for name in ("published", "golden"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_what_is_published_is_current() -> None:
    assert check(ROOT) == []


def test_every_type_has_a_schema_in_the_dialect_it_names() -> None:
    for kind in all_types():
        schema = json.loads((ROOT / f"published/schemas/{kind.name}.json").read_text(encoding="utf-8"))
        assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
        Draft202012Validator.check_schema(schema)  # pyright: ignore[reportUnknownMemberType]  # jsonschema's stubs are partial


def test_writing_twice_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--write", "--root", str(root)]) == 0
    assert main(["--check", "--root", str(root)]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_stale_document_is_shown_and_written_anew(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / SCHEMA
    current = file.read_text()
    file.write_text(current.replace("Cancel the whole order", "Cancel some of the order"))

    assert main(["--check", "--root", str(root)]) == 1
    shown = capsys.readouterr().err
    assert f"--- {SCHEMA} (as it is)" in shown
    assert '-  "description": "Cancel some of the order' in shown
    assert '+  "description": "Cancel the whole order' in shown

    assert main(["--write", "--root", str(root)]) == 0
    assert file.read_text() == current
    assert capsys.readouterr().out == f"wrote {SCHEMA}\n"


def test_a_missing_document_and_a_stray_one_are_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / SCHEMA).unlink()
    (root / "published/mine.json").write_text("{}")
    assert main(["--check", "--root", str(root)]) == 1
    shown = capsys.readouterr().err
    assert f"{SCHEMA}: is not written yet" in shown
    assert "published/mine.json: nothing publishes this" in shown


def test_what_breaks_readers_is_refused_and_nothing_is_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / SCHEMA
    schema = json.loads(file.read_text())
    schema["properties"]["by"] = {"type": "string"}
    file.write_text(json.dumps(schema))
    before = file.read_text()

    for command in ("--check", "--write"):
        assert main([command, "--root", str(root)]) == 1
        shown = capsys.readouterr().err
        assert "oms.capture.CancelOrder.v1: by was removed; leave it as it was and publish oms.capture.CancelOrder.v2" in shown
        assert file.read_text() == before


def test_a_message_that_is_gone_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "published/schemas/oms.capture.OrderForgotten.v1.json").write_text('{"type": "object"}')
    assert main(["--write", "--root", str(root)]) == 1
    assert "oms.capture.OrderForgotten.v1: was removed, but its records stay" in capsys.readouterr().err


def test_more_partitions_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "published/asyncapi.json"
    file.write_text(file.read_text().replace('"partitions": 12', '"partitions": 6', 1))
    assert main(["--write", "--root", str(root)]) == 1
    assert "its partitions changed from 6 to 12, which moves keys to other partitions" in capsys.readouterr().err


def test_an_edited_golden_record_fails_the_check(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "golden/oms.capture.CancelOrder.v1.json"
    file.write_bytes(file.read_bytes() + b" ")
    assert main(["--check", "--root", str(root)]) == 1
    assert "golden records never change" in capsys.readouterr().err


def test_the_readme_shows_every_topic(root: Path) -> None:
    readme = root / "README.md"
    current = readme.read_text()
    assert topic_table() in current
    assert all(f"| {topic.name} |" in current for topic in TOPICS)

    readme.write_text(current.replace("| oms.stock |", "| oms.stocks |"))
    assert main(["--check", "--root", str(root)]) == 1
    assert main(["--write", "--root", str(root)]) == 0
    assert readme.read_text() == current


def test_help_has_an_example_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "example, after adding a message:" in shown
    assert "exit codes:" in shown


@pytest.mark.parametrize("arguments", [[], ["--check", "--write"], ["--check", "--root", "/nowhere"], ["--chek"]])
def test_a_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(arguments)


def test_the_page_for_other_languages_says_how_an_order_id_is_made() -> None:
    page = (ROOT / "published" / "README.md").read_text()
    assert str(ORDER_NAMESPACE) in page
    assert f"`{order_id_of('web', 'W-1001')}`" in page
    assert document({})["info"]["x-order-id"]["example"]["order_id"] == order_id_of("web", "W-1001")


def test_what_external_parties_read_is_compressed_by_a_codec_that_every_client_has() -> None:
    public = {topic.name for topic in TOPICS if EXTERNAL_PARTIES & set(topic.readers)}
    assert {"oms.order-status", "oms.order-status-changes", "oms.fulfillments", "oms.tracking"} <= public
    assert {topic.name for topic in TOPICS if topic.compression == "gzip"} == public
