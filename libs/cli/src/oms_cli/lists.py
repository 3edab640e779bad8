"""Lists of the query API: as a table for people, or as one JSON document."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from oms_cli import output
from oms_cli.arguments import connections
from oms_cli.output import note, say, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """How many rows are wanted, and whether as JSON."""

    limit: int
    every: bool
    as_json: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list at `path`. `name` is its field in the JSON document; `empty` is said where there is nothing.

    A column whose title ends in `>` is aligned to the right; `cells` are those of an item.
    """

    path: str
    name: str
    title: str
    empty: str
    columns: Sequence[str]
    cells: Callable[[Mapping[str, Any]], Sequence[Any]]

    def show(self, context: typer.Context, sized: Sized, **filters: Any) -> None:
        """Print what the filters leave of it. Filters that are None are left out."""
        items, more = collect(context, self.path, sized, **filters)
        if sized.as_json:
            output.document({self.name: items, "more": more})
            return
        if not items:
            say(self.empty)
            return
        table(self.title, self.columns, map(self.cells, items))
        note_more(more)


def collect(context: typer.Context, path: str, sized: Sized, **filters: Any) -> tuple[list[dict[str, Any]], bool]:
    """The items of a list that are wanted, and whether there are more."""
    found = connections(context).collect(path, max_items=None if sized.every else sized.limit + 1, **filters)
    return (found, False) if sized.every else (found[: sized.limit], len(found) > sized.limit)


def note_more(more: bool) -> None:
    """Say how to see what was left out."""
    if more:
        note("there is more; --limit or --all shows it")
