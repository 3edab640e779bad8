"""Orders in files, read forward and one at a time: JSONL has one on each line, CSV has the rows of an order one after the other.

Whatever a file contains, no more than one order of it is in memory. What is no order is an entry too, with the reasons.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import msgspec
from oms_adapters.results import Reason
from oms_adapters.rows import MAX_ROWS, ROWS, Row, RowMapping
from oms_adapters.sums import discrepancies
from oms_client.errors import Invalid
from oms_client.publisher import read_message
from oms_contracts.catalogue import EXTERNAL_MAX_VALUE_BYTES
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import encode
from oms_contracts.superseded import type_of_placed

MAX_LINE_BYTES = 1024 * 1024
"""Of a line of JSONL, and of a row of CSV with all line breaks in it."""
MAX_ORDER_BYTES = 4 * 1024 * 1024
"""Of the rows of one order."""
BOM = b"\xef\xbb\xbf"
_OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff")


class UnreadableFile(Exception):
    """The file cannot be read any further: it is not known where the next order begins. The text says where, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is read next: the byte, and the number of the line that begins there."""

    offset: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a file has between two places: an order, or the reasons why it is none."""

    begin: Place
    end: Place
    reference: str | None
    found: OrderPlaced | tuple[Reason, ...]


def read_jsonl(file: BinaryIO, start: Place) -> Iterator[Entry]:
    """The entries from `start` on: each line that is not blank."""
    file.seek(start.offset)
    place = start
    while raw := file.readline(MAX_LINE_BYTES):
        begin, size = place, len(raw)
        whole = raw.endswith(b"\n")
        while not whole and (more := file.readline(MAX_LINE_BYTES)):
            size, whole = size + len(more), more.endswith(b"\n")
        place = Place(begin.offset + size, begin.line + 1)
        if size > MAX_LINE_BYTES:
            reason = Reason("value", f"has {size} bytes, a line has at most {MAX_LINE_BYTES}")
            yield Entry(begin=begin, end=place, reference=None, found=(reason,))
            continue
        value = raw.removeprefix(BOM) if begin.offset == 0 else raw
        if value.strip():
            yield Entry(begin=begin, end=place, reference=_reference_of(value), found=_order_in(value))


def read_csv(file: BinaryIO, start: Place, mapping: RowMapping, delimiter: str) -> Iterator[Entry]:
    """The entries from `start` on: adjacent rows of one reference. Raises UnreadableFile."""
    columns, first = csv_header(file, delimiter)
    lines = _Lines(file, start if start.offset else first)
    group: _Group | None = None
    for begin, cells in _cells(lines, delimiter):
        row = {column: cell for column, cell in zip(columns, cells, strict=False) if cell.strip()}
        reference = mapping.reference(row)
        if group is None or (reference is not None and reference != group.reference):
            if group is not None:
                yield group.entry(mapping)
            group = _Group(begin, reference)
        group.add(row, lines.place)
        if len(cells) != len(columns):
            group.reasons.append(Reason(f"line {begin.line}", f"has {len(cells)} cells, the header has {len(columns)}"))
    if group is not None:
        yield group.entry(mapping)


def csv_header(file: BinaryIO, delimiter: str) -> tuple[list[str], Place]:
    """The names of the columns, and where the rows begin. Raises UnreadableFile."""
    lines = _Lines(file, Place())
    names: Sequence[str] = next((cells for _, cells in _cells(lines, delimiter)), ())
    columns = [name.strip() for name in names]
    if len(columns) < 2:
        raise UnreadableFile(f"line 1: has {len(columns)} columns; the first line names them, and --delimiter says what is between them")
    for number, column in enumerate(columns, 1):
        if not column or column == ROWS or column in columns[: number - 1]:
            raise UnreadableFile(f"line 1: column {number} needs a name of its own, and not {ROWS!r}, is {column!r}")
    return columns, lines.place


def check_encoding(file: BinaryIO) -> None:
    """Raises UnreadableFile for a file that says it is UTF-16."""
    file.seek(0)
    if file.read(2) in _OTHER_MARKS:
        raise UnreadableFile("is UTF-16; save it as UTF-8")


def _order_in(value: bytes) -> OrderPlaced | tuple[Reason, ...]:
    try:
        order: OrderPlaced = read_message(type_of_placed(value), value)
    except Invalid as error:
        return tuple(Reason(*reason.partition(": ")[::2]) for reason in error.reasons)
    return discrepancies(order) or _of_bounded_size(order)


def _of_bounded_size(order: OrderPlaced) -> OrderPlaced | tuple[Reason, ...]:
    size = len(encode(order))
    if size <= EXTERNAL_MAX_VALUE_BYTES:
        return order
    return (Reason("value", f"has {size} bytes as JSON, an order has at most {EXTERNAL_MAX_VALUE_BYTES}"),)


class _Reference(msgspec.Struct):
    channel_reference: str | None = None


def _reference_of(value: bytes) -> str | None:
    try:
        return msgspec.json.decode(value, type=_Reference).channel_reference
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


@dataclass(slots=True)
class _Group:
    """The rows of one order."""

    begin: Place
    reference: str | None
    end: Place = Place()
    rows: list[Row] = field(default_factory=list[Row])
    reasons: list[Reason] = field(default_factory=list[Reason])
    count: int = 0

    def add(self, row: Row, end: Place) -> None:
        """A further row, which ends at `end`. Those beyond the limits are only counted."""
        self.count += 1
        self.end = end
        if self._fits():
            self.rows.append(row)
        else:
            self.rows.clear()

    def entry(self, mapping: RowMapping) -> Entry:
        return Entry(begin=self.begin, end=self.end, reference=self.reference, found=self._found(mapping))

    def _fits(self) -> bool:
        return self.count <= MAX_ROWS and self.end.offset - self.begin.offset <= MAX_ORDER_BYTES

    def _found(self, mapping: RowMapping) -> OrderPlaced | tuple[Reason, ...]:
        if not self._fits():
            what = f"has {self.count} rows and {self.end.offset - self.begin.offset} bytes"
            return (Reason(ROWS, f"{what}, an order has at most {MAX_ROWS} and {MAX_ORDER_BYTES}"),)
        if self.reasons:
            return tuple(self.reasons[:MAX_ROWS])
        found = mapping.order(self.rows)
        return _of_bounded_size(found) if isinstance(found, OrderPlaced) else found


class _Lines:
    """The lines of a file from a place on, for the csv module; `place` is behind the last one that it took."""

    def __init__(self, file: BinaryIO, place: Place) -> None:
        file.seek(place.offset)
        self._file = file
        self.place = place
        self.begin = place
        """Of the row at hand."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(MAX_LINE_BYTES + 1)
        if not raw:
            raise StopIteration
        at, line = self.place.offset, self.place.line
        self.place = Place(at + len(raw), line + 1)
        if self.place.offset - self.begin.offset > MAX_LINE_BYTES:
            raise UnreadableFile(f"line {self.begin.line}: the row has more than {MAX_LINE_BYTES} bytes; a quote may not be closed")
        try:
            return (raw.removeprefix(BOM) if at == 0 else raw).decode()
        except UnicodeDecodeError as error:
            byte = f"byte 0x{raw[error.start]:02x}, the {error.start + 1}. of the line"
            raise UnreadableFile(f"line {line}: is not UTF-8 ({byte}); save the file as UTF-8, and import it with --restart") from None


def _cells(lines: _Lines, delimiter: str) -> Iterator[tuple[Place, Sequence[str]]]:
    """Rows that are not blank, each with where it begins."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin = lines.place
        try:
            cells = next(reader, None)
        except csv.Error as error:
            at = (
                f"line {lines.begin.line}"
                if lines.begin.line == lines.place.line - 1
                else f"lines {lines.begin.line} to {lines.place.line - 1}"
            )
            raise UnreadableFile(f"{at}: {error}; mend the quotes, and import the file with --restart") from error
        if cells is None:
            return
        if cells:
            yield lines.begin, cells
