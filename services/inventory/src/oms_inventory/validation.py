"""What the ids, names and quantities of people's commands may be. Each objection names its field and the reason."""

from collections.abc import Iterator, Sequence

from oms_contracts.values import GoodsLine, quoted

MAX_LINES = 1_000
"""In one command."""
MAX_UNITS = 10**9
"""In one line. It keeps every sum within what a bigint and a JSON number hold."""
MAX_CHARACTERS = 200
"""In an id, a SKU or a location, because they become keys."""


def name_objections(field_name: str, name: str) -> Iterator[str]:
    """Against an id, a SKU or a location."""
    if not name.strip():
        yield f"{field_name}: must not be empty"
    elif not name.isprintable() or len(name) > MAX_CHARACTERS:
        yield f"{field_name}: must be at most {MAX_CHARACTERS} printable characters"


def size_objections(lines: Sequence[object]) -> Iterator[str]:
    """Against the number of lines."""
    if not 1 <= len(lines) <= MAX_LINES:
        yield f"lines: there must be 1 to {MAX_LINES} lines, there are {len(lines)}"


def quantity_objections(field_name: str, quantity: int) -> Iterator[str]:
    """Against a quantity that must be a positive number of units."""
    if quantity < 1:
        yield f"{field_name}: must be at least 1, is {quantity}"
    elif quantity > MAX_UNITS:
        yield f"{field_name}: must be at most {MAX_UNITS}"


def goods_objections(lines: Sequence[GoodsLine]) -> Iterator[str]:
    """Against goods of one location."""
    if wrong := tuple(size_objections(lines)):
        yield from wrong
        return
    for index, line in enumerate(lines):
        yield from name_objections(f"lines.{index}.sku", line.sku)
        yield from quantity_objections(f"lines.{index}.quantity", line.quantity)


def reason_objections(reason: str) -> Iterator[str]:
    """Against a reason that must be given."""
    if not reason.strip():
        yield "reason: must not be empty"


def short_of(sku: str, location: str, wanted: int, there: int, what: str) -> str:
    """The objection that so many units of a SKU are not there; `what` says which units are meant."""
    return f"lines: {wanted} of {quoted(sku)} at {quoted(location)} are wanted, and {max(there, 0)} are {what}"
