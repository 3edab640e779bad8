"""Output for people and for machines: tables and lines on standard output, or one JSON document."""

import csv
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import typer
from oms_contracts.money import money_text
from rich.console import Console
from rich.table import Table
from rich.text import Text

CLOSED_PIPE = 141
"""128 + SIGPIPE, as a shell counts it."""
NOTHING = "–"
_WIDE = 10_000


class _Console(Console):
    """Prints every text as it is: text of external parties is neither markup nor commands to the terminal."""

    def __init__(self) -> None:
        # Without a terminal a line is as long as it has to be: the program that reads it may cut it.
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE
        super().__init__(width=width, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        _pipe_closed()


def say(text: str | Text) -> None:
    """A line for people, wrapped where it is too long for the terminal."""
    _Console().print(_as_text(text))


def line(text: Text) -> None:
    """One of many lines: cut off where it is too long for the terminal."""
    _Console().print(_as_text(text), no_wrap=True, overflow="ellipsis")


def note(text: str) -> None:
    """A line for people on standard error, beside the result on standard output."""
    print(plain(text), file=sys.stderr, flush=True)  # noqa: T201  # it is for a person


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table for people. A column whose title ends in `>` is aligned to the right."""
    shown = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for column in columns:
        shown.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(NOTHING if cell is None or cell == "" else plain(str(cell)) for cell in row))
    _Console().print(shown)


def document(content: Any, *, one_line: bool = False) -> None:
    """One JSON document for machines."""
    text = json.dumps(content, ensure_ascii=False, indent=None if one_line else 2, separators=(",", ":") if one_line else None)
    raw(f"{text}\n")


def raw(text: str) -> None:
    """Text for machines, as it is."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _pipe_closed()


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows as CSV (RFC 4180)."""
    text = StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def indented(content: Any) -> str:
    """JSON for people."""
    return json.dumps(content, ensure_ascii=False, indent=2)


def moment(text: str | None, *, precise: bool = False) -> str:
    """A time of the query API in UTC, to the second; `precise`: to the millisecond."""
    if text is None:
        return NOTHING
    at = datetime.fromisoformat(text).astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}" + (f".{at.microsecond // 1000:03}Z" if precise else "Z")


def money(amount: int | None, currency: str | None) -> str:
    """Minor units as a decimal of their currency; unchanged where the currency is not in ISO 4217."""
    return NOTHING if amount is None else money_text(amount, currency)


def asked_by(event: Mapping[str, Any]) -> str:
    """Who asked for what an event is, and why; empty where a service decided by itself."""
    actor, reason = event.get("actor"), event.get("reason")
    return ": ".join(filter(None, (f"by {actor}" if actor else "", reason)))


def short(kind: str | None) -> str:
    """The name within a published type: OrderConfirmed of oms.capture.OrderConfirmed.v1."""
    parts = (kind or NOTHING).split(".")
    return parts[-2] if len(parts) > 2 else parts[0]


def plain(text: str) -> str:
    """Without the characters that a terminal takes for commands."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _as_text(text: str | Text) -> Text:
    return Text(plain(text)) if isinstance(text, str) else text


def _pipe_closed() -> None:
    """The reader has closed the pipe: end quietly, without a second error when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    raise typer.Exit(CLOSED_PIPE)
