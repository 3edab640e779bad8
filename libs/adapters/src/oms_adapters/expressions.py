"""JMESPath expressions of a mapping: bounded when compiled, never raising when evaluated, and with the paths that they read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import jmespath
from jmespath.exceptions import JMESPathError

MAX_CHARACTERS = 500
MAX_NODES = 80
MAX_PROJECTIONS = 6
"""Of one expression: each may multiply what is looked at."""
FUNCTIONS = frozenset({"contains", "ends_with", "join", "length", "not_null", "starts_with", "values", "keys"})
"""Those that take text and lists. Numbers are decimals here, which the other functions do not know."""
_ROOT = "$."
_PROJECTIONS = {"projection", "filter_projection", "value_projection"}
_FOUND = "\0"
"""Ends the paths of what a list of results holds: to take one of those leads no further into the payload."""


class InvalidExpression(ValueError):
    """The text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression over the entry at hand or, where it begins with `$.`, over the whole payload."""

    text: str
    of_root: bool
    search: Callable[[Any], Any]
    tree: Any

    def value(self, scope: "Scope") -> Any:
        """What it finds, None where it does not apply to what is there."""
        if not self.of_root:
            return _found(self.search, scope.value)
        if self.text not in scope.of_root:
            scope.of_root[self.text] = _found(self.search, scope.root)
        return scope.of_root[self.text]

    def paths(self, entry: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
        """The paths of what it finds, and those that it reads on the way, where the entry at hand is one of `entry`."""
        read: set[str] = set()
        found = _walk(self.tree, frozenset({""} if self.of_root else entry), read)
        return frozenset(map(_plain, found)), frozenset(read)


@dataclass(slots=True)
class Scope:
    """What expressions see. `of_root` remembers what those over the whole payload found: entries would ask again and again."""

    value: Any
    root: Any
    of_root: dict[str, Any] = field(default_factory=dict[str, Any])

    def of(self, entry: Any) -> "Scope":
        return Scope(entry, self.root, self.of_root)


def expression_of(text: str) -> Expression:
    """The expression in `text`. Raises InvalidExpression."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidExpression(f"must have at most {MAX_CHARACTERS} characters")
    of_root = text.startswith(_ROOT)
    try:
        compiled: Any = jmespath.compile(text.removeprefix(_ROOT) if of_root else text)
    except (JMESPathError, ValueError, RecursionError) as error:
        raise InvalidExpression(f"is no JMESPath expression: {' '.join(str(error).split())}") from None
    nodes = list(_nodes(compiled.parsed))
    if len(nodes) > MAX_NODES:
        raise InvalidExpression(f"must have at most {MAX_NODES} parts")
    if sum(node["type"] in _PROJECTIONS for node in nodes) > MAX_PROJECTIONS:
        raise InvalidExpression(f"must go through at most {MAX_PROJECTIONS} lists")
    calls = [node["value"] for node in nodes if node["type"] == "function_expression"]
    if unknown := sorted({*calls} - FUNCTIONS):
        raise InvalidExpression(f"must not call {', '.join(unknown)}: only {', '.join(sorted(FUNCTIONS))}")
    if calls.count("join") > 1:
        raise InvalidExpression("must call join once at most")
    # Most expressions name one field, and that is found at once.
    search = partial(_member, compiled.parsed["value"]) if compiled.parsed["type"] == "field" else compiled.search
    return Expression(text, of_root, search, compiled.parsed)


def _found(search: Callable[[Any], Any], value: Any) -> Any:
    try:
        return search(value)
    except (JMESPathError, TypeError, AttributeError, RecursionError):
        return None  # a function or a comparison that the payload's types do not fit


def _member(name: str, value: Any) -> Any:
    return cast(dict[str, Any], value).get(name) if isinstance(value, dict) else None


def _nodes(tree: Any) -> Iterable[dict[str, Any]]:
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            known = cast(dict[str, Any], node)
            yield known
            stack += known["children"]


def _walk(node: Any, here: frozenset[str], read: set[str]) -> frozenset[str]:
    """The paths that a node leads to from `here`. What only decides is added to `read`."""
    children: list[Any] = node["children"]
    match node["type"]:
        case "field":
            return frozenset(f"{path}.{node['value']}" if path else str(node["value"]) for path in map(_plain, here))
        case "identity" | "current":
            return here
        case "literal":
            return frozenset()
        case "index" | "slice":
            return frozenset(map(_entry, here))
        case "subexpression" | "index_expression":
            for child in children:
                here = _walk(child, here, read)
            return here
        case "pipe":
            left = _walk(children[0], here, read)
            if children[0]["type"] in _PROJECTIONS:
                left = frozenset(_plain(path) + _FOUND for path in left)
            return _walk(children[1], left, read)
        case "flatten":
            return frozenset(path if path.endswith("[]") else _entry(path) for path in _walk(children[0], here, read))
        case "projection" | "value_projection":
            entries = _walk(children[0], here, read)
            if children[0]["type"] != "flatten":
                entries = frozenset(map(_entry, entries))
            return _walk(children[1], entries, read)
        case "filter_projection":
            entries = frozenset(map(_entry, _walk(children[0], here, read)))
            read |= {_plain(path) for path in _walk(children[2], entries, read)}
            return _walk(children[1], entries, read)
        case "comparator" | "not_expression":
            for child in children:
                read |= {_plain(path) for path in _walk(child, here, read)}
            return frozenset()
        case "multi_select_dict":  # its names are not the payload's
            read |= {_plain(path) for child in children for path in _walk(child, here, read)}
            return frozenset()
        case kind:
            found = frozenset[str]().union(*(_walk(child, here, read) for child in children))
            return frozenset(_plain(path) + _FOUND for path in found) if kind == "multi_select_list" else found


def _entry(path: str) -> str:
    return path[:-1] if path.endswith(_FOUND) else f"{path}[]"


def _plain(path: str) -> str:
    return path.removesuffix(_FOUND)
