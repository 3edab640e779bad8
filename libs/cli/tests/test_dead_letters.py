"""`oms dead-letters` without servers."""

import base64
from pathlib import Path
from typing import Any

import pytest
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.message import encode

from libs.cli.tests.fakes import (
    RECEIPT,
    FakeConnections,
    Run,
    errors,
    letter,
    page,
    rows,
    shown,
)


def test_dead_letters_are_listed(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/dead-letters"] = page(letter())
    [row] = rows(oms("dead-letters", "list", "--service", "inventory", "--key", "R-1", "--all"))
    assert row[1:] == [
        "inventory",
        "oms.inventory.commands/3/41",
        "R-1",
        "ReceiveStock",
        "set_aside",
        "1",
        "UnreadableMessage: lines: is required",
    ]
    assert dict(connected.requests[0].params) == {"limit": "500", "service": "inventory", "key": "R-1", "waiting": "false"}
    assert shown(oms("dead-letters", "list", "--json")) == {"dead_letters": [letter()], "more": False}
    connected.responses["/dead-letters"] = page()
    assert oms("dead-letters", "list").stdout == "nothing is set aside\n"


@pytest.mark.parametrize(
    ("value", "data", "text"),
    [(b'{"receipt_id":"R-1"}', {"receipt_id": "R-1"}, None), (b"garbage \xff", None, "garbage \ufffd")],
)
def test_a_dead_letter_is_shown_with_its_record(oms: Run, connected: FakeConnections, value: bytes, data: Any, text: str | None) -> None:
    path = "/dead-letters/inventory/oms.inventory.commands/3/41"
    connected.responses[path] = letter(value=base64.b64encode(value).decode())
    words = ("dead-letters", "show", "inventory", "oms.inventory.commands/3/41")
    answer = shown(oms(*words, "--json"))
    assert (answer["data"], answer["text"]) == (data, text)
    people = oms(*words).stdout
    for part in ("UnreadableMessage: lines: is required", "Traceback", text or '"receipt_id": "R-1"'):
        assert part in people


REDRIVE = ("dead-letters", "redrive", "inventory", "R-1")
LETTER_ID = "oms.inventory.commands/3/41"


def test_a_redrive_waits_until_all_dead_letters_are_settled(oms: Run, connected: FakeConnections) -> None:
    behind = letter("parked", letter_id="oms.inventory.commands/3/42")
    connected.responses["/dead-letters"] = [
        page(letter(), behind),
        page(letter("redriven"), behind),
        page(letter("redriven"), letter("redriven", letter_id="oms.inventory.commands/3/42")),
    ]
    assert [row[:2] for row in rows(oms(*REDRIVE))] == [[LETTER_ID, "redriven"], ["oms.inventory.commands/3/42", "redriven"]]
    assert connected.published == [("oms.inventory.commands", RedriveDeadLetters(source_key="R-1"))]


def test_a_dead_letter_that_fails_again_is_a_failure(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/dead-letters"] = [page(letter()), page(letter()), page(letter(attempts=2, reason="ValueError: still wrong"))]
    assert errors(oms(*REDRIVE), 1) == [f"{LETTER_ID} failed again: ValueError: still wrong"]


def test_a_redrive_without_an_outcome_is_a_failure(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/dead-letters"] = page(letter())
    [line] = errors(oms(*REDRIVE, "--timeout", "0"), 1)
    assert line.startswith("the outcome is not known after 0 s")
    assert oms(*REDRIVE, "--no-wait").exit_code == 0


def test_no_redrive_is_published_where_nothing_is_set_aside(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/dead-letters"] = page()
    [line] = errors(oms(*REDRIVE), 1)
    assert line.startswith("inventory has set nothing aside under 'R-1'")
    assert connected.published == []


def test_the_value_of_a_dead_letter_can_be_corrected(oms: Run, connected: FakeConnections, tmp_path: Path) -> None:
    connected.responses[f"/dead-letters/inventory/{LETTER_ID}"] = letter()
    connected.responses["/dead-letters"] = [page(letter()), page(letter("redriven", 2))]
    file = tmp_path / "corrected.json"
    file.write_bytes(encode(RECEIPT))
    answer = shown(oms(*REDRIVE, "--letter-id", LETTER_ID, "--value", str(file), "--json"))
    assert (answer["settled"], [found["status"] for found in answer["dead_letters"]]) == (True, ["redriven"])
    [(_, command)] = connected.published
    assert command == RedriveDeadLetters(source_key="R-1", letter_id=LETTER_ID, value=encode(RECEIPT).decode())


def test_a_dead_letter_can_be_discarded(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/dead-letters/inventory/{LETTER_ID}"] = letter()
    connected.responses["/dead-letters"] = [page(letter()), page(letter("discarded", 2))]
    assert oms(*REDRIVE, "--letter-id", LETTER_ID, "--discard").exit_code == 0
    assert connected.published[0][1] == RedriveDeadLetters(source_key="R-1", letter_id=LETTER_ID, discard=True)


@pytest.mark.parametrize(
    ("known", "value", "code", "expected"),
    [
        (letter(), b"garbage", 2, "--value: is not JSON"),
        (letter(), b'{"receipt_id": 7, "lines": []}', 2, "--value: receipt_id: Input should be a valid string"),
        (letter(source_key="R-2"), encode(RECEIPT), 2, f"KEY: {LETTER_ID} is of the key 'R-2', not of 'R-1'"),
        (letter("redriven"), encode(RECEIPT), 1, f"{LETTER_ID} is redriven already"),
        (None, encode(RECEIPT), 1, "it is not known here"),
    ],
)
def test_a_value_that_the_service_could_not_apply_is_refused(
    *, oms: Run, connected: FakeConnections, known: dict[str, Any] | None, value: bytes, code: int, expected: str
) -> None:
    connected.responses[f"/dead-letters/inventory/{LETTER_ID}"] = known
    [line] = errors(oms(*REDRIVE, "--letter-id", LETTER_ID, "--value", "-", given=value), code)
    assert line.startswith(expected)
    assert connected.published == []


def test_the_value_of_a_dead_letter_that_is_kept_nowhere_is_read_from_its_topic(
    oms: Run, connected: FakeConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record_value(_topic: str, _partition: int, offset: int) -> bytes | None:
        return b'{"colour": "blue"}' if offset == 41 else None

    monkeypatch.setattr(connected, "record_value", record_value)
    gone = {"data": None, "text": "(the record is no longer on its topic)"}
    for offset, expected in ((41, {"data": {"colour": "blue"}, "text": None}), (42, gone)):
        connected.responses["/dead-letters/inventory/L"] = letter(
            value="", source_topic="oms.inventory.commands", source_partition=3, source_offset=offset
        )
        assert shown(oms("dead-letters", "show", "inventory", "L", "--json")).items() >= expected.items()
