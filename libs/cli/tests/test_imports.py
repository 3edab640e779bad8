"""Importing files: what is read, what is rejected and where that is told, and that an import goes on exactly where it was interrupted."""

import asyncio
import csv
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from oms_adapters.rows import MAX_ROWS, Row, RowMapping, default_mapping, rows_of
from oms_cli.errors import CliError
from oms_cli.imports import BATCH_ORDERS, OrderFile, Outcome, import_file, progress_path
from oms_cli.order_files import MAX_LINE_BYTES, Entry, Place, UnreadableFile, check_encoding, read_csv, read_jsonl
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import encode
from oms_contracts.samples import example_order

from libs.adapters.tests.test_rows import orders

DEFAULT = RowMapping(default_mapping())
EXAMPLE = example_order()


def numbered(count: int) -> list[OrderPlaced]:
    return [replace(EXAMPLE, channel_reference=f"R-{number}") for number in range(count)]


def jsonl(placed: Sequence[OrderPlaced]) -> bytes:
    return b"".join(encode(order) + b"\n" for order in placed)


def csv_text(rows: Sequence[Row], **options: Any) -> str:
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(column for row in rows for column in row)), restval="", **options)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def of_csv(content: bytes, start: Place | None = None, delimiter: str = ",") -> list[Entry]:
    return list(read_csv(BytesIO(content), start or Place(), DEFAULT, delimiter))


def of_jsonl(content: bytes, start: Place | None = None) -> list[Entry]:
    return list(read_jsonl(BytesIO(content), start or Place()))


def reasons_of(entry: Entry) -> dict[str, str]:
    assert not isinstance(entry.found, OrderPlaced)
    return {reason.field: reason.reason for reason in entry.found}


@settings(suppress_health_check=[HealthCheck.too_slow])  # an order takes a tenth of a second to make on a busy machine
@given(st.lists(orders(), min_size=1, max_size=3, unique_by=lambda order: order.channel_reference))
def test_orders_come_back_the_same_from_a_csv_file_whatever_their_text(placed: list[OrderPlaced]) -> None:
    content = csv_text([row for order in placed for row in rows_of(order)]).encode()
    entries = of_csv(content)
    assert [entry.found for entry in entries] == placed
    assert entries[-1].end.offset == len(content)
    for number, entry in enumerate(entries):
        assert [each.found for each in of_csv(content, entry.end)] == placed[number + 1 :]


def test_a_csv_file_has_a_byte_order_mark_line_breaks_in_cells_and_a_delimiter_of_its_own() -> None:
    noted = replace(EXAMPLE, note='Ring "twice";\nplease')
    for ends in ("\r\n", "\n"):
        content = b"\xef\xbb\xbf" + csv_text(rows_of(noted), delimiter=";", lineterminator=ends).encode()
        assert [entry.found for entry in of_csv(content, delimiter=";")] == [noted]


def test_each_line_of_jsonl_is_an_order_of_any_version_or_is_rejected_with_its_reasons() -> None:
    first = json.loads(encode(EXAMPLE))
    older: dict[str, Any] = {
        "channel": "web",
        "channel_reference": "V-1",
        "placed_at": "2026-11-24T11:00:00Z",
        "customer": {"id": "ada"},
        "currency": "EUR",
        "lines": [{"line_id": "1", "sku": "mug", "quantity": 2, "unit_price": 500, "total": 1000}],
        "total": 1000,
        "payment": {"kind": "card", "token": "tok_visa"},
        "delivery": "pickup",
    }
    wrong: list[Any] = [first | {"total": 1}, first | {"totl": 1}, first | {"note": "x" * 3_000}, [], older | {"total": "1000"}]
    content = b"\xef\xbb\xbf" + b"\n".join(
        [encode(EXAMPLE), b"", json.dumps(older).encode(), *(json.dumps(each).encode() for each in wrong)]
    )
    good, old, *rejected = of_jsonl(content + b"\n{\n\xff\n")
    assert good.found == EXAMPLE
    assert isinstance(old.found, OrderPlaced)
    assert (old.found.channel_reference, old.begin.line) == ("V-1", 3)
    assert [reasons_of(entry).keys() >= {field} for entry, field in zip(rejected, ("total", "totl", "note"), strict=False)] == [True] * 3
    assert all(reasons_of(entry) for entry in rejected)
    assert [entry.reference for entry in rejected[:3]] == [EXAMPLE.channel_reference] * 3
    assert len(rejected) == len(wrong) + 2


def test_a_line_that_is_too_long_is_rejected_and_the_next_one_is_read() -> None:
    long, good = of_jsonl(b"x" * (3 * MAX_LINE_BYTES) + b"\n" + jsonl([EXAMPLE]))
    assert reasons_of(long).keys() == {"value"}
    assert good.found == EXAMPLE


def test_an_order_that_is_larger_than_its_topic_accepts_is_rejected() -> None:
    [line] = EXAMPLE.lines
    lines = tuple(replace(line, line_id=str(number), title="x" * 250) for number in range(1_500))
    [entry] = of_jsonl(jsonl([replace(EXAMPLE, lines=lines)]))
    assert reasons_of(entry)
    free = replace(line, unit_price=0, total=0, discounts=(), taxes=(), title="x" * 250)
    large = replace(EXAMPLE, lines=(line, *(replace(free, line_id=f"F{number}") for number in range(1_500))))
    [entry] = of_jsonl(jsonl([large]))
    assert reasons_of(entry)["value"].endswith("as JSON, an order has at most 507904")


def test_rows_of_one_order_that_do_not_follow_each_other_are_refused_by_their_sums() -> None:
    both = [row | {"reference": "A", "line_id": str(number)} for number, row in enumerate((*rows_of(EXAMPLE), *rows_of(EXAMPLE)), 1)]
    for row in both:
        row["total"] = "80.95"
    between = [row | {"reference": "B"} for row in rows_of(EXAMPLE)]
    apart = of_csv(csv_text([both[0], *between, both[1]]).encode())
    assert [(entry.reference, isinstance(entry.found, OrderPlaced)) for entry in apart] == [("A", False), ("B", True), ("A", False)]
    together = of_csv(csv_text([*both, *between]).encode())
    assert [isinstance(entry.found, OrderPlaced) for entry in together] == [True, True]


def test_a_row_with_another_number_of_cells_rejects_its_order() -> None:
    content = csv_text([row for order in numbered(3) for row in rows_of(order)]).splitlines(keepends=True)
    content[2] = content[2].replace("\r\n", ",more\r\n")
    entries = of_csv("".join(content).encode())
    assert [isinstance(entry.found, OrderPlaced) for entry in entries] == [True, False, True]
    assert reasons_of(entries[1]).keys() == {"line 3"}


def test_an_order_of_too_many_rows_is_rejected_whole() -> None:
    [row] = rows_of(EXAMPLE)
    many, good = of_csv(csv_text([*[row] * (MAX_ROWS * 3), row | {"reference": "B"}]).encode())
    assert "3000 rows" in reasons_of(many)["rows"]
    assert (good.reference, good.begin.line) == ("B", 3_002)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfea\x00", "is UTF-16"),
        ("reference;title\r\nA;ä\r\n".encode("latin-1"), "line 2: is not UTF-8 (byte 0xe4, the 3. of the line)"),
        (b'reference;title\nA;"open\n' + b"x\n" * MAX_LINE_BYTES, "lines 2 to 65536: field larger than"),
        (b'reference;title\nA;"x" y\n', "line 2"),
        (b"reference,title\nA,x\n", "--delimiter"),
        (b"reference;reference\nA;x\n", "column 2 needs a name of its own"),
        (b"reference;rows\nA;x\n", "column 2"),
        (b"", "line 1"),
    ],
)
def test_a_file_that_cannot_be_read_on_is_an_error_that_says_where(content: bytes, says: str) -> None:
    with pytest.raises(UnreadableFile, match=re.escape(says)):  # noqa: PT012  # both are how a file is read
        check_encoding(BytesIO(content))
        of_csv(content, delimiter=";")


class Broker:
    """Keeps what was published, and breaks the connection after so many batches."""

    def __init__(self, batches: int | None = None) -> None:
        self.references: list[str] = []
        self._left = batches

    async def publish(self, batch: Sequence[OrderPlaced]) -> None:
        if self._left == 0:
            raise ConnectionError
        self._left = None if self._left is None else self._left - 1
        self.references += [order.channel_reference for order in batch]


def run(path: Path, broker: Broker, *, options: str = "", restart: bool = False) -> Outcome:
    read = read_jsonl if path.suffix == ".jsonl" else partial(read_csv, mapping=DEFAULT, delimiter=",")
    file = OrderFile(path=path, read=read, options=options)
    return asyncio.run(import_file(file, broker.publish, rejects=path.with_name("rejects.jsonl"), restart=restart))


def test_what_is_rejected_can_be_mended_and_imported_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    lines = csv_text([row for order in numbered(4) for row in rows_of(order)]).splitlines(keepends=True)
    broken = lines[3].replace("42.95", "42.96")
    path.write_text("".join((*lines[:3], broken, lines[4])), newline="")
    broker = Broker()
    outcome = run(path, broker)
    assert (outcome.read, outcome.published, outcome.rejected) == (4, 3, 1)
    [reject] = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_bytes().splitlines()]
    assert (reject["first_line"], reject["last_line"], reject["reference"], reject["raw"]) == (4, 4, "R-2", broken)
    assert {reason["field"] for reason in reject["reasons"]} == {"total"}
    mended = tmp_path / "mended.csv"
    mended.write_text(lines[0] + reject["raw"].replace("42.96", "42.95"), newline="")
    (tmp_path / "rejects.jsonl").unlink()
    assert run(mended, broker).published == 1
    assert broker.references == ["R-0", "R-1", "R-3", "R-2"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_an_interrupted_import_goes_on_behind_the_last_batch_that_was_acknowledged(tmp_path: Path, suffix: str) -> None:
    placed = numbered(2 * BATCH_ORDERS + 7)
    placed[3] = replace(placed[3], total=1)
    placed[BATCH_ORDERS + 3] = replace(placed[3], channel_reference="S")
    path = tmp_path / f"orders{suffix}"
    sound = {order.channel_reference for order in placed if order.total != 1}
    rows = [dict(rows_of(replace(order, total=EXAMPLE.total))[0]) | {"total": f"{order.total / 100:.2f}"} for order in placed]
    path.write_bytes(jsonl(placed) if suffix == ".jsonl" else csv_text(rows).encode() + b"\n\n")
    first, second, third = Broker(batches=1), Broker(), Broker()
    with pytest.raises(ConnectionError):
        run(path, first)
    with (tmp_path / "rejects.jsonl").open("ab") as file:
        file.write(b'{"of a batch": "that was not remembered"}\n')
    outcome = run(path, second)
    assert (outcome.done_before, outcome.read, outcome.rejected, outcome.rejected_in_all) == (BATCH_ORDERS, BATCH_ORDERS + 7, 1, 2)
    assert sorted(first.references + second.references) == sorted(sound)
    assert [json.loads(line)["reference"] for line in (tmp_path / "rejects.jsonl").read_bytes().splitlines()] == ["R-3", "S"]
    assert run(path, third).read == 0
    assert third.references == []
    assert run(path, third, restart=True).published == len(sound)
    assert len((tmp_path / "rejects.jsonl").read_bytes().splitlines()) == 2


def test_an_import_goes_on_with_the_same_file_and_options_alone(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_bytes(jsonl(numbered(BATCH_ORDERS + 1)))
    with pytest.raises(ConnectionError):
        run(path, Broker(batches=1))
    with pytest.raises(CliError, match="begun with others"):
        run(path, Broker(), options="other")
    content = path.read_bytes()
    place = json.loads(progress_path(path).read_bytes())["offset"] - 100
    for changed in (content[1:], content + b"\n", content[:place] + b"X" + content[place + 1 :]):
        path.write_bytes(changed)
        with pytest.raises(CliError, match="is not what it was"):
            run(path, Broker())
    path.write_bytes(content)
    assert run(path, Broker()).read == 1
    progress_path(path).write_bytes(b"{}")
    with pytest.raises(CliError, match="is not the progress"):
        run(path, Broker())
    progress_path(path).unlink()
    with pytest.raises(CliError, match="--restart overwrites it"):
        run(path, Broker())


def test_a_file_is_imported_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_bytes(jsonl(numbered(1)))

    class Second(Broker):
        async def publish(self, batch: Sequence[OrderPlaced]) -> None:
            with pytest.raises(CliError, match="another process imports"):
                await import_file(OrderFile(path=path, read=read_jsonl, options=""), super().publish, rejects=tmp_path / "rejects.jsonl")
            await super().publish(batch)

    broker = Second()
    assert run(path, broker).published == 1
    assert broker.references == ["R-0"]


# VmHWM, not the peak of getrusage: that one begins with what the process that started this one had.
MEASURED = """
import asyncio, re, sys
from pathlib import Path
from functools import partial
from oms_adapters.rows import RowMapping, default_mapping
from oms_cli.imports import OrderFile, import_file
from oms_cli.order_files import read_csv, read_jsonl

async def publish(batch): pass

path, count = Path(sys.argv[1]), int(sys.argv[2])
read = read_jsonl if path.suffix == ".jsonl" else partial(read_csv, mapping=RowMapping(default_mapping()), delimiter=",")
peaks = []
def on_progress(state):
    peaks.append(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]))
outcome = asyncio.run(import_file(OrderFile(path=path, read=read, options=""), publish, rejects=Path(sys.argv[3]), on_progress=on_progress))
assert outcome.read == count, outcome
print(peaks[0], peaks[-1])
"""


@pytest.mark.parametrize(("suffix", "count"), [(".jsonl", 100_000), (".csv", 5_000)])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str, count: int) -> None:
    """A tenth of the orders is not sound. Peaks are in KiB, before the first batch and behind the last one."""
    path = tmp_path / f"orders{suffix}"
    [row] = rows_of(EXAMPLE)
    columns = list(row)
    with path.open("w", newline="") as file:
        if suffix == ".csv":
            csv.writer(file).writerow(columns)
        template = encode(EXAMPLE).decode() + "\n"
        for number in range(count):
            total = EXAMPLE.total + (number % 10 == 0)
            if suffix == ".csv":
                cells = row | {"reference": f"R-{number}", "total": f"{total / 100:.2f}"}
                csv.writer(file).writerow([cells[column] for column in columns])
            else:
                named = template.replace(EXAMPLE.channel_reference, f"R-{number}", 1)
                file.write(named.replace(f'"total":{EXAMPLE.total},"payments"', f'"total":{total},"payments"'))
    command = [sys.executable, "-c", MEASURED, str(path), str(count), str(tmp_path / "rejects.jsonl")]
    early, late = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert late - early < 14 * 1024
    state = msgspec.json.decode(progress_path(path).read_bytes())
    assert (state["read"], state["rejected"]) == (count, count // 10)
