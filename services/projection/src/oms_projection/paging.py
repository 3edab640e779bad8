"""The conditions and the order of lists that are paged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oms_runtime.paging import key_of


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
