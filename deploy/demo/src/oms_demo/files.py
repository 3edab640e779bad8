"""The till's orders come by file: written as JSONL and as CSV, and imported by the code of `oms order import`."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from oms_adapters.rows import Row, rows_of
from oms_cli.imports import Publish, import_file, order_file, rejects_path
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import encode
from oms_contracts.values import order_id_of

FILED_CHANNEL = "till"


async def place_by_file(folder: Path, orders: Sequence[OrderPlaced], publish: Publish, on_read: Callable[[int], None]) -> set[str]:
    """Write `orders` to files in `folder`, and import them. Returns the ids of those that the import rejected, which were not published."""
    rejected: set[str] = set()
    for path in _write(folder, orders):
        outcome = await import_file(order_file(path), publish, rejects=rejects_path(path), restart=True)
        on_read(outcome.read)
        rejected |= _rejected(path)
    return rejected


def _rejected(path: Path) -> set[str]:
    rejects = map(json.loads, rejects_path(path).read_bytes().splitlines())
    return {order_id_of(FILED_CHANNEL, reject["reference"]) for reject in rejects}


def _write(folder: Path, orders: Sequence[OrderPlaced]) -> list[Path]:
    """Every second order as CSV, where it is sound; the others, and the dirty baskets, as JSONL."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[list[Row] | None] = [_rows(order) if number % 2 else None for number, order in enumerate(orders)]
    rows = [row for each in found if each for row in each]
    lines, table = folder / f"{FILED_CHANNEL}.jsonl", folder / f"{FILED_CHANNEL}.csv"
    lines.write_bytes(b"".join(encode(order) + b"\n" for order, each in zip(orders, found, strict=True) if each is None))
    if not rows:
        return [lines]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(column for row in rows for column in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return [lines, table]


def _rows(order: OrderPlaced) -> list[Row] | None:
    try:
        return rows_of(order)
    except ValueError:
        return None
