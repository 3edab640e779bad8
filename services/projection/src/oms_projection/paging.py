"""Lists by pages. A page begins behind the last row of the page before, which its cursor names by key."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from oms_projection.responses import Page

T = TypeVar("T")


class UnknownCursor(ValueError):
    """The value of `after` is not the `next` of an earlier page."""


@dataclass(slots=True)
class Where:
    """The conditions of a query and their arguments. A condition has `{}` for each of its arguments."""

    conditions: list[str] = field(default_factory=list[str])
    args: list[Any] = field(default_factory=list[Any])

    def add(self, condition: str, *values: Any) -> None:
        """Add a condition, unless its only value is None."""
        if values != (None,):
            self.conditions.append(condition.format(*(f"${len(self.args) + n}" for n in range(1, len(values) + 1))))
            self.args.extend(values)

    def text(self) -> str:
        """The SQL clause, empty without conditions."""
        return f" where {' and '.join(self.conditions)}" if self.conditions else ""


def ordered(
    where: Where, sort: str, columns: Mapping[str, tuple[str, type[Any]]], ids: Sequence[str], after: str | None
) -> tuple[str, Callable[[Mapping[str, Any]], tuple[Any, ...]]]:
    """The `order by` of a list by `sort`, a name of `columns`, with `-` before it from the greatest down; and the key of its rows.

    `columns` gives the SQL and the type of what can be sorted by, `ids` are the columns that tell rows apart. Rows without the value are
    left out, and so are those up to the cursor `after`. Raises UnknownCursor.
    """
    descending, name = sort.startswith("-"), sort.removeprefix("-")
    column, kind = columns[name]
    where.add(f"{column} is not null")
    if after is not None:
        marks = ", ".join("{}" for _ in (column, *ids))
        where.add(f"({', '.join((column, *ids))}) {'<' if descending else '>'} ({marks})", *key_of(after, kind, *(str for _ in ids)))
    direction = " desc" if descending else ""
    names = [name, *(each.rpartition(".")[2] for each in ids)]
    clause = f"order by {', '.join(f'{each}{direction}' for each in (column, *ids))}"
    return clause, lambda row: tuple(row[each] for each in names)


def page_of(rows: list[T], limit: int, key: Callable[[T], tuple[Any, ...]]) -> Page[T]:
    """The page of up to `limit` rows, of `rows` that were queried with a limit of one more. `key` gives a row's key in the list's order."""
    more = len(rows) > limit
    return Page(items=rows[:limit], next=_cursor(key(rows[limit - 1])) if more else None)


def key_of(cursor: str, *types: type[Any]) -> tuple[Any, ...]:
    """The key that a cursor names, as values of `types`. Raises UnknownCursor."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(text, type=tuple.__class_getitem__(types))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise UnknownCursor(f"after: {cursor!r} is not the next of an earlier page") from error


def _cursor(key: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")
