"""`oms order export`: the orders that projection knows, as JSON lines or CSV, page by page."""

from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal

import msgspec
import typer
from oms_contracts.money import counted, decimal_text, exponent_of

from oms_cli import output
from oms_cli.arguments import PlacedBefore, PlacedFrom, connections
from oms_cli.errors import INVALID, CliError

DETAILS_PAGE_ORDERS = 100
BRIEF_PAGE_ORDERS = 500
LINE_SECONDS = 5
"""Between two lines of progress."""

_ADDRESS = ("name", "company", "street", "line2", "postal_code", "city", "region", "country", "phone")
_TEXTS = (
    *("order_id", "channel", "reference", "number", "status", "since", "placed_at", "ended_because", "action", "deadline"),
    *("customer_id", "customer_name", "customer_email", "customer_phone", "delivery", "location", "purchase_order", "note"),
)
_AMOUNTS = ("total", "shipping", "fees", "taxes", "discount")
_LINE_TEXTS = ("line_id", "sku", "title")
_LINE_NUMBERS = ("quantity", "shipped", "delivered", "returned")
_LINE_AMOUNTS = ("unit_price", "discount", "taxes", "total")
COLUMNS = (
    *_TEXTS,
    "currency",
    *_AMOUNTS,
    "taxes_included",
    *("payment_status", "authorized", "captured", "refunded"),
    *(f"ship_to_{name}" for name in _ADDRESS),
    "tracking_numbers",
    *_LINE_TEXTS,
    *_LINE_NUMBERS,
    "unit_price",
    *("line_discount", "line_taxes", "line_total"),
)
"""Of CSV: a row for each order line, the order's columns in each of them."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

After = Annotated[
    str | None, typer.Option(metavar="CURSOR", help="Go on where an export ended; -o FILE is appended to.", show_default=False)
]


def export(
    context: typer.Context,
    *,
    form: Annotated[Literal["csv", "jsonl"], typer.Option("--format", help="csv: a row an order line; jsonl: an order a line.")],
    placed_from: PlacedFrom = None,
    placed_before: PlacedBefore = None,
    status: Annotated[str | None, typer.Option(help="Only those of this status.", show_default=False)] = None,
    channel: Annotated[str | None, typer.Option(help="Only those of this channel.", show_default=False)] = None,
    file: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write; - for standard output.")] = Path("-"),
    brief: Annotated[bool, typer.Option("--brief", help="Of each order only what a list shows; with jsonl.")] = False,
    after: After = None,
) -> None:
    """Write the orders that the query API knows, newest first: as JSON lines or as CSV.

    jsonl has each order as `oms order show --json` does, without its timeline; amounts are minor units. csv has a row for each order line,
    amounts are decimals, and text that a spreadsheet would take for a formula begins with an apostrophe.

    This is another shape than `oms order import` reads: an order's history is no order to be placed. An interrupted export says with which
    --after it goes on.
    """
    if brief and form == "csv":
        raise CliError(INVALID, "--brief: is for --format jsonl")
    connected = connections(context)
    wanted = {
        "status": status,
        "channel": channel,
        "placed_from": None if placed_from is None else placed_from.isoformat(),
        "placed_before": None if placed_before is None else placed_before.isoformat(),
    }
    path, size = ("/orders", BRIEF_PAGE_ORDERS) if brief else ("/orders/details", DETAILS_PAGE_ORDERS)
    told = _Told(after, monotonic)

    async def run(write: Callable[[str], None]) -> None:
        if form == "csv" and after is None:
            write(output.csv_text([COLUMNS]))
        async with aclosing(_pages(connected.query.get, path, wanted | {"limit": size}, after)) as pages:
            async for orders, cursor in pages:
                write(_lines(orders) if form == "jsonl" else output.csv_text(row for order in orders for row in rows_of(order)))
                told.page(len(orders), cursor)

    try:
        with _writer(file, append=after is not None) as write:
            connected.run(run(write))
    except (CliError, KeyboardInterrupt):
        told.interrupted()
        raise
    told.end()


async def _pages(
    get: Callable[..., Any], path: str, parameters: Mapping[str, Any], after: str | None
) -> AsyncGenerator[tuple[list[dict[str, Any]], str | None]]:
    """The items of each page, and the cursor of the next one."""
    while True:
        page = await get(path, **parameters, after=after)
        after = page["next"]
        yield page["items"], after
        if after is None:
            return


class _Told:
    """What a person is told on standard error: how many orders are written, and how to go on."""

    def __init__(self, after: str | None, clock: Callable[[], float]) -> None:
        self._cursor = after
        self._clock = clock
        self._began = self._said = clock()
        self._orders = 0

    def page(self, orders: int, cursor: str | None) -> None:
        self._orders += orders
        self._cursor = cursor
        if self._clock() - self._said >= LINE_SECONDS:
            self._said = self._clock()
            output.note(f"{self._written()}; --after {cursor} goes on from here" if cursor else self._written())

    def end(self) -> None:
        output.note(self._written())

    def interrupted(self) -> None:
        if self._cursor is not None:
            output.note(f"{self._written()}; the same command with --after {self._cursor} goes on")

    def _written(self) -> str:
        return f"{counted(self._orders, 'order')} written, {self._orders / max(self._clock() - self._began, 0.001):.0f} orders/s"


@contextmanager
def _writer(file: Path, *, append: bool) -> Generator[Callable[[str], None]]:
    """Writes text to the file, each time as far as the operating system has it. Raises CliError where the file cannot be written."""
    if str(file) == "-":
        yield output.raw
        return
    try:
        with file.open("a" if append else "w", encoding="utf-8", newline="") as opened:

            def write(text: str) -> None:
                opened.write(text)
                opened.flush()

            yield write
    except OSError as error:
        raise CliError(INVALID, f"--output: {file} cannot be written: {error.strerror}") from error


def _lines(orders: list[dict[str, Any]]) -> str:
    return "".join(f"{msgspec.json.encode(order).decode()}\n" for order in orders)


def rows_of(order: Mapping[str, Any]) -> Iterator[list[str]]:
    """An order as rows of COLUMNS, as the query API has it: one for each line, and one without a line where it has none."""
    exponent = exponent_of(order["currency"] or "")
    payment: dict[str, Any] = order["payment"]["totals"] if order["payment"] else {}
    address: dict[str, Any] = order["ship_to"] or {}
    numbers = [package["tracking_number"] for package in order["packages"] if package["tracking_number"]]
    whole = [
        *(_text(order[name]) for name in _TEXTS),
        _text(order["currency"]),
        *(_amount(order[name], exponent) for name in _AMOUNTS),
        _number(order["taxes_included"]),
        _text(payment.get("status")),
        *(_amount(payment.get(name), exponent) for name in ("authorized", "captured", "refunded")),
        *(_text(address.get(name)) for name in _ADDRESS),
        _text(" ".join(numbers)),
    ]
    for line in order["lines"]:
        yield [
            *whole,
            *(_text(line[name]) for name in _LINE_TEXTS),
            *(_number(line[name]) for name in _LINE_NUMBERS),
            *(_amount(line[name], exponent) for name in _LINE_AMOUNTS),
        ]
    if not order["lines"]:
        yield [*whole, *[""] * (len(COLUMNS) - len(whole))]


def _text(value: str | None) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = value or ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _number(value: int | bool | None) -> str:
    return "" if value is None else str(value).lower()


def _amount(value: int | None, exponent: int | None) -> str:
    """A decimal; minor units where the currency is not in ISO 4217."""
    return "" if value is None else str(value) if exponent is None else decimal_text(value, exponent)
