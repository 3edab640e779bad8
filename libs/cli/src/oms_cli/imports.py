"""`oms order import`: publishes the orders of a file as channels do, of any size, and goes on where it was interrupted.

After each batch that the broker has acknowledged, the progress file says how far the file is done, and how long the file of rejects is by
then. So a process may be killed on any line: the next one cuts off what was rejected after that, and publishes at most one batch again,
whose orders have the same event ids and count once.
"""

import fcntl
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Annotated, BinaryIO, Literal

import msgspec
import typer
from oms_adapters.mapping import InvalidMapping
from oms_adapters.rows import RowMapping, default_mapping
from oms_contracts.channel import OrderPlaced
from oms_contracts.money import counted
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from oms_cli import output
from oms_cli.arguments import AsJson, connections
from oms_cli.errors import INVALID, NOT_DONE, OUT_OF_REACH, CliError
from oms_cli.order_files import Entry, Place, UnreadableFile, check_encoding, csv_header, read_csv, read_jsonl

BATCH_ORDERS = 500
BATCH_BYTES = 2 * 1024 * 1024
"""Of the file: what is published, acknowledged and remembered together."""
MAX_RAW_BYTES = 1024 * 1024
"""Of one entry in the file of rejects."""
WINDOW_BYTES = 64 * 1024
"""By so much of the beginning, and so much before the place that is done, another file is told from the one that was begun."""
LINE_SECONDS = 5
"""Between two lines of progress where there is no terminal."""
SUFFIXES: dict[str, Literal["jsonl", "csv"]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}

Publish = Callable[[Sequence[OrderPlaced]], Awaitable[None]]


class State(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The progress file: how far which file is done, and what came of it."""

    file_bytes: int
    head: str
    options: str
    rejects: str
    offset: int = 0
    line: int = 1
    done: str = ""
    """Of the bytes before `offset`, as `head` is of the first ones."""
    read: int = 0
    published: int = 0
    rejected: int = 0
    rejects_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFile:
    """A file of orders, and how it is read. `options` names all that decides what its content means."""

    path: Path
    read: Callable[[BinaryIO, Place], Iterator[Entry]]
    options: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Counts of orders: of this run, and `done_before` by earlier ones."""

    read: int
    published: int
    rejected: int
    rejected_in_all: int
    done_before: int


async def import_file(
    orders: OrderFile, publish: Publish, *, rejects: Path, restart: bool = False, on_progress: Callable[[State], None] = lambda _state: None
) -> Outcome:
    """Publish the orders of a file from where an earlier import of it ended; write what is not sound to `rejects`, and the progress beside.

    Raises CliError where the file is not the one that was begun, UnreadableFile where it cannot be read any further, and what `publish`
    raises. The same call goes on afterwards.
    """
    with orders.path.open("rb") as file:
        _lock(file, orders.path)
        check_encoding(file)
        state, remembered = _begun(orders, file, rejects, restart=restart), progress_path(orders.path)
        before = msgspec.structs.replace(state)
        if state.offset < state.file_bytes:
            with _Rejects(rejects, state.rejects_bytes) as written:
                on_progress(state)
                for batch in _batches(orders.read(file, Place(state.offset, state.line))):
                    await publish([entry.found for entry in batch if isinstance(entry.found, OrderPlaced)])
                    state.rejected += written.add(file, batch)
                    state.rejects_bytes = written.sync()
                    state.read += len(batch)
                    state.published = state.read - state.rejected
                    state.offset, state.line = batch[-1].end.offset, batch[-1].end.line
                    state.done = _hash_before(file, state.offset)
                    _save(remembered, state)
                    on_progress(state)
            state.offset = state.file_bytes  # blank lines may follow the last order
            state.done = _hash_before(file, state.offset)
            _save(remembered, state)
    return Outcome(
        read=state.read - before.read,
        published=state.published - before.published,
        rejected=state.rejected - before.rejected,
        rejected_in_all=state.rejected,
        done_before=before.read,
    )


def progress_path(path: Path) -> Path:
    """Where the progress of a file's import is kept."""
    return path.with_name(f"{path.name}.progress.json")


def rejects_path(path: Path) -> Path:
    """Where a file's rejects are written unless another place is named."""
    return path.with_name(f"{path.name}.rejects.jsonl")


def _lock(file: BinaryIO, path: Path) -> None:
    """Raises CliError while another process imports the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CliError(INVALID, f"FILE: another process imports {path}; wait for its end") from None


def _begun(orders: OrderFile, file: BinaryIO, rejects: Path, *, restart: bool) -> State:
    """The state of the import that was begun, or that of one that begins now."""
    path = progress_path(orders.path)
    if not restart:
        try:
            state = msgspec.json.decode(path.read_bytes(), type=State)
        except FileNotFoundError:
            if rejects.exists():
                raise CliError(INVALID, f"--rejects: {rejects} exists, and no import of FILE knows it; --restart overwrites it") from None
        except msgspec.MsgspecError as error:
            raise CliError(INVALID, f"{path}: is not the progress of an import ({error}); --restart begins anew") from error
        else:
            _check_same(state, file, orders, rejects)
            return state
    size = os.fstat(file.fileno()).st_size
    state = State(file_bytes=size, head=_hash(file, 0, WINDOW_BYTES), options=orders.options, rejects=str(rejects.resolve()))
    _save(path, state)
    return state


def _save(path: Path, state: State) -> None:
    """Replace the progress file at once and durably."""
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _check_same(state: State, file: BinaryIO, orders: OrderFile, rejects: Path) -> None:
    """Raises CliError unless the earlier import was of this file, with the same options."""
    size = os.fstat(file.fileno()).st_size
    again = "; --restart begins anew: an order that was published before counts once"
    done = _hash_before(file, state.offset) if state.offset else ""
    if (size, _hash(file, 0, WINDOW_BYTES), done) != (state.file_bytes, state.head, state.done):
        raise CliError(INVALID, f"FILE: {orders.path} is not what it was when its import began{again}")
    if orders.options != state.options:
        raise CliError(INVALID, f"--mapping, --channel, --delimiter, --format: the import was begun with others{again}")
    if str(rejects.resolve()) != state.rejects:
        raise CliError(INVALID, f"--rejects: the import was begun with {state.rejects}{again}")


def _hash_before(file: BinaryIO, end: int) -> str:
    return _hash(file, max(0, end - WINDOW_BYTES), end)


def _hash(file: BinaryIO, begin: int, end: int) -> str:
    return sha256(os.pread(file.fileno(), end - begin, begin)).hexdigest()


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == BATCH_ORDERS or entry.end.offset - batch[0].begin.offset >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


class _Rejects:
    """The file of rejects, from its first `size` bytes on: what lies behind them was not remembered, and is cut off."""

    def __init__(self, path: Path, size: int) -> None:
        # It has what customers ordered: for its owner only.
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        self._file.truncate(min(size, self._file.seek(0, os.SEEK_END)))
        self._file.seek(0, os.SEEK_END)

    def __enter__(self) -> "_Rejects":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, file: BinaryIO, entries: Iterable[Entry]) -> int:
        """Write those entries of `file` that are no orders. Returns how many they are."""
        count = 0
        for entry in entries:
            if isinstance(entry.found, OrderPlaced):
                continue
            size = entry.end.offset - entry.begin.offset
            raw = os.pread(file.fileno(), min(size, MAX_RAW_BYTES), entry.begin.offset)
            content = {
                "first_line": entry.begin.line,
                "last_line": entry.end.line - 1,
                "reference": entry.reference,
                "reasons": [{"field": reason.field, "reason": reason.reason} for reason in entry.found],
                "raw": raw.decode(errors="backslashreplace"),
                "raw_is_cut": size > MAX_RAW_BYTES,
            }
            self._file.write(msgspec.json.encode(content) + b"\n")
            count += 1
        return count

    def sync(self) -> int:
        """Make durable what was written. Returns the file's size."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()


FileToImport = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Orders: .jsonl, .ndjson or .csv.", show_default=False)
]


def _print_mapping(value: bool) -> None:
    if value:
        output.raw(default_mapping())
        raise typer.Exit


def import_orders(
    context: typer.Context,
    *,
    path: FileToImport,
    form: Annotated[
        Literal["jsonl", "csv"] | None, typer.Option("--format", help="How FILE is written.", show_default="by the name's end")
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="TOML", exists=True, dir_okay=False, help="What the columns of a CSV file mean.", show_default="the one that is shipped"
        ),
    ] = None,
    channel: Annotated[str | None, typer.Option(help="The sales channel of rows that do not name theirs.", show_default=False)] = None,
    delimiter: Annotated[str, typer.Option(help=r"What is between the cells of a CSV file; \t for a tab.")] = ",",
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write what is not sound, and why.", show_default="FILE.rejects.jsonl")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, also where FILE.progress.json says how far it is done.")] = False,
    _show_mapping: Annotated[
        bool, typer.Option("--print-mapping", callback=_print_mapping, is_eager=True, help="Print the shipped mapping, and end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish the orders of a file as a channel does: JSONL, an order as for `oms order place` on each line; CSV, adjacent rows an order.

    Each is checked before it is published. What is not sound goes to the file of rejects, with lines and reasons; the exit code is then 1.

    The same command goes on where it was interrupted, and an order that is published twice counts once.

    Capture decides on the orders later: `oms order export --status rejected --format jsonl` shows those that it rejected. What export
    writes is no input for this command.
    """
    connected = connections(context)
    orders = order_file(path, form, mapping=mapping, channel=channel, delimiter=delimiter.replace("\\t", "\t"))
    written = rejects or rejects_path(path)
    shown = _Shown(path.stat().st_size, monotonic)

    async def run() -> Outcome:
        async with connected.publisher() as publisher:
            return await import_file(orders, publisher.publish, rejects=written, restart=restart, on_progress=shown)

    try:
        with shown:
            outcome = connected.run(run())
    except UnreadableFile as error:
        raise CliError(INVALID, f"FILE: {path}: {error}") from error
    except OSError as error:
        raise CliError(INVALID, f"{error.filename or path}: {error.strerror}; progress and rejects are written beside FILE") from error
    except CliError as error:
        if error.exit_code == OUT_OF_REACH:
            output.note("the import is interrupted; the same command goes on")
        raise
    if as_json:
        output.document(msgspec.to_builtins(outcome) | {"rejects": str(written)})
    else:
        before = f"; {outcome.done_before} were done before" if outcome.done_before else ""
        output.say(f"read {counted(outcome.read, 'order')}: {outcome.published} published, {outcome.rejected} rejected{before}")
    if outcome.rejected_in_all:
        raise CliError(NOT_DONE, f"rejected orders: {outcome.rejected_in_all}; {written} has them with lines and reasons")


def order_file(
    path: Path,
    form: Literal["jsonl", "csv"] | None = None,
    *,
    mapping: Path | None = None,
    channel: str | None = None,
    delimiter: str = ",",
) -> OrderFile:
    """How the file is read; `form` is told by the end of its name. Notes columns that are not read. Raises CliError."""
    form = form or SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise CliError(INVALID, f"FILE: {path.name} ends in none of {', '.join(SUFFIXES)}; --format says how it is written")
    if form == "jsonl":
        if mapping is not None or channel is not None:
            raise CliError(INVALID, "--mapping, --channel: are for CSV; an order in JSONL has all its fields")
        return OrderFile(path=path, read=read_jsonl, options=form)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise CliError(INVALID, f"--delimiter: must be one character, is {delimiter!r}")
    try:
        text = default_mapping() if mapping is None else mapping.read_text("utf-8")
        rows = RowMapping(text, channel)
    except InvalidMapping as error:
        raise CliError(INVALID, *(f"--mapping: {reason}" for reason in error.reasons)) from error
    except UnicodeDecodeError as error:
        raise CliError(INVALID, "--mapping: is not UTF-8") from error
    try:
        with path.open("rb") as file:
            check_encoding(file)
            columns, _ = csv_header(file, delimiter)
    except UnreadableFile as error:
        raise CliError(INVALID, f"FILE: {path}: {error}") from error
    if rows.reference(dict.fromkeys(columns, "1")) is None:
        raise CliError(INVALID, f"FILE: none of its columns is what the mapping makes channel_reference of: {', '.join(columns)}")
    if unmapped := rows.unmapped(columns):
        output.note(f"columns that the mapping does not read: {', '.join(unmapped)}")
    options = sha256("\0".join((form, text, channel or "", delimiter)).encode()).hexdigest()
    return OrderFile(path=path, read=partial(read_csv, mapping=rows, delimiter=delimiter), options=options)


class _Shown:
    """Progress on standard error: a bar on a terminal, otherwise a line every LINE_SECONDS."""

    def __init__(self, file_bytes: int, clock: Callable[[], float]) -> None:
        console = Console(stderr=True)
        columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=file_bytes)
        self._clock = clock
        self._lines = not console.is_terminal
        self._file_bytes = file_bytes
        self._began: tuple[float, int] | None = None
        self._said = 0.0

    def __enter__(self) -> "_Shown":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, state: State) -> None:
        now = self._clock()
        if self._began is None:
            self._began, self._said = (now, state.read), now
        began, read = self._began
        rate = (state.read - read) / max(now - began, 0.001)
        text = f"{state.published} published, {state.rejected} rejected, {rate:.0f} orders/s"
        self._bar.update(self._task, completed=state.offset, description=text)
        if self._lines and now - self._said >= LINE_SECONDS:
            self._said = now
            output.note(f"{100 * state.offset // max(self._file_bytes, 1)} %: {text}")
