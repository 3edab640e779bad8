"""`oms product`: the catalogue of products."""

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple, Self

import msgspec
import typer
from oms_client import publisher
from oms_client.errors import Invalid
from oms_client.outcomes import Outcome, find_outcome
from oms_client.queries import QueryClient, path_part, timeline_path
from oms_contracts.message import type_of
from oms_contracts.money import counted
from oms_contracts.operations import operation_of
from oms_contracts.products import DefineProduct, objections_to

from oms_cli import output
from oms_cli.arguments import AsJson, Limit, Timeout, Wait, connections
from oms_cli.connections import Asked
from oms_cli.errors import INVALID, NOT_DONE, CliError
from oms_cli.operate import Answer, operate
from oms_cli.output import moment, note, say, table

app = typer.Typer(help="The catalogue of products: define, import, list, show, deactivate.")

DEFINE = type_of(DefineProduct).name
FIELDS = DefineProduct.__struct_fields__
"""The columns of a CSV file, and the members of an object in a JSON Lines file."""
SWITCHES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
MAX_LINE_BYTES = 64 * 1024
PROGRESS_PRODUCTS = 10_000

Sku = Annotated[str, typer.Argument(metavar="SKU", help="The product's SKU.", show_default=False)]


class Line(NamedTuple):
    """One line of a file: the product that it defines, or why it defines none."""

    number: int
    product: DefineProduct | None
    reasons: list[str]


@app.command(epilog="Example: oms product define MUG-BLUE --title 'Mug, blue' --barcode 4006381333931 --weight-grams 350")
def define(
    context: typer.Context,
    *,
    sku: Sku,
    title: Annotated[str, typer.Option(help="What people call it.", show_default=False)],
    barcode: Annotated[str | None, typer.Option(help="A GTIN with its check digit, or a code of your own.", show_default="none")] = None,
    unit: Annotated[str, typer.Option(help="A code of UN/CEFACT Recommendation 20.")] = "EA",
    weight_grams: Annotated[int | None, typer.Option(min=0, help="Of one unit.", show_default="not known")] = None,
    digital: Annotated[bool, typer.Option("--digital", help="It is not shipped.")] = False,
    inactive: Annotated[bool, typer.Option("--inactive", help="It is not sold yet.")] = False,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Put a product into the catalogue, or replace its definition. The same definition again changes nothing."""
    product = DefineProduct(
        sku=sku, title=title, barcode=barcode, unit=unit, weight_grams=weight_grams, requires_shipping=not digital, active=not inactive
    )
    body = msgspec.to_builtins(product)
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    _ask(context, "define-product", sku, body=body, expected=body, done="defined", answer=answer)


@app.command(epilog="Example: oms product deactivate MUG-BLUE")
def deactivate(context: typer.Context, sku: Sku, wait: Wait = True, timeout: Timeout = 30, as_json: AsJson = False) -> None:
    """Take a product out of sale. Orders whose stock is reserved go on."""
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    _ask(context, "deactivate-product", sku, body={}, expected={"active": False}, done="deactivated", answer=answer)


@app.command("import", epilog="Example: oms product import products.csv --rejects rejects.csv")
def import_file(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or JSON Lines; - for standard input.", show_default=False)],
    json_lines: Annotated[
        bool | None, typer.Option("--jsonl/--csv", help="What the file is.", show_default="by its name: .jsonl, or CSV")
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to write the lines that are not valid.", show_default="FILE.rejects.csv, or rejects.csv"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Define the products of a file: a CSV whose first line names its columns, or a JSON object a line.

    Columns are sku, title, barcode, unit, weight_grams, requires_shipping and active; only the first two are needed. Lines that are not
    valid are written to a file, with their number and the reasons, and the others are sent. The same definition again changes nothing:
    after an interruption, or a correction, import the file again.
    """
    connected = connections(context)
    from_input = str(file) == "-"
    rejected_to = rejects or Path("rejects.csv" if from_input else f"{file}.rejects.csv")
    read = _json_lines if json_lines or (json_lines is None and file.suffix == ".jsonl") else _csv_lines
    sent = 0

    def acknowledged(count: int) -> None:
        nonlocal sent
        if (sent + count) // PROGRESS_PRODUCTS > sent // PROGRESS_PRODUCTS:
            note(f"{counted(sent + count, 'product')} sent")
        sent += count

    with nullcontext(sys.stdin.buffer) if from_input else _open(file) as opened, _Rejects(rejected_to) as rejected:
        try:
            connected.publish_all(_valid(read(opened), rejected), acknowledged)
        except CliError as error:
            raise CliError(
                error.exit_code, *error.lines, f"{counted(sent, 'product')} sent; once this is resolved, import the file again"
            ) from error
    if as_json:
        output.document({"sent": sent, "rejected": rejected.count, "rejects": str(rejected_to) if rejected.count else None})
    else:
        say(f"{counted(sent, 'product')} sent")
    if rejected.count:
        raise CliError(NOT_DONE, f"{counted(rejected.count, 'line')} not valid; {rejected_to} has each with its number and the reasons")


@app.command("list", epilog="Example: oms product list --text mug --active")
def list_products(
    context: typer.Context,
    *,
    text: Annotated[str | None, typer.Option(help="Begins the SKU or the barcode, or is in the title.", show_default="all")] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Only those that are sold, or are not.", show_default="both")
    ] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """The catalogue, by SKU."""
    rows = connections(context).collect("/products", max_items=limit + 1, text=text, active=active)
    products, more = rows[:limit], len(rows) > limit
    if as_json:
        output.document({"products": products, "more": more})
        return
    table("Products", ("SKU", "title", "barcode", "unit", "weight>", "delivery", "sold"), [_row(product) for product in products])
    if more:
        note("there is more; --limit shows it")


@app.command(epilog="Example: oms product show MUG-BLUE")
def show(context: typer.Context, sku: Sku, as_json: AsJson = False) -> None:
    """One product, and what happened to it."""
    connected = connections(context)
    product = connected.get(_path(sku))
    timeline = connected.collect(timeline_path(sku))
    if as_json:
        output.document(product | {"timeline": timeline})
        return
    say(f"Product {product['sku']}: {product['title']}")
    say(f"{'sold' if product['active'] else 'not sold'}, {'shipped' if product['requires_shipping'] else 'digital'}, by {product['unit']}")
    say(f"barcode {product['barcode'] or 'none'}, weight {_weight(product) or 'not known'}")
    table(
        "Timeline",
        ("time", "event", "what happened"),
        [(moment(event["time"]), output.short(event["type"]), event["summary"]) for event in timeline],
    )


def _ask(context: typer.Context, name: str, sku: str, *, body: dict[str, Any], expected: dict[str, Any], done: str, answer: Answer) -> None:
    """Ask for an operation on a product. It is done when the product has the `expected` fields: the same again changes nothing."""

    async def settled(query: QueryClient, asked: Asked) -> Outcome | None:
        found = await query.find(_path(sku))
        if found is not None and found.items() >= expected.items():
            return Outcome(status="done")
        outcome = await find_outcome(query, asked.key, asked.event_id)
        return outcome if outcome is not None and outcome.status == "refused" else None

    parameters = {parameter: sku for parameter in operation_of(name).parameters}
    operate(
        connections(context),
        name,
        parameters,
        body,
        answer,
        about={"sku": sku},
        see=f"oms product show {sku}",
        done=f"product {sku} is {done}",
        check=settled,
    )


def _path(sku: str) -> str:
    return f"/products/{path_part(sku)}"


def _row(product: dict[str, Any]) -> tuple[Any, ...]:
    delivery, sold = "ship" if product["requires_shipping"] else "digital", "yes" if product["active"] else "no"
    return product["sku"], product["title"], product["barcode"], product["unit"], _weight(product), delivery, sold


def _weight(product: dict[str, Any]) -> str | None:
    return None if product["weight_grams"] is None else f"{product['weight_grams']} g"


def _open(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise CliError(INVALID, f"FILE: {file} cannot be read: {error.strerror}") from error


def _valid(lines: Iterable[Line], rejected: "_Rejects") -> Iterator[DefineProduct]:
    for line in lines:
        if line.product is None:
            rejected.write(line)
        else:
            yield line.product


def _json_lines(file: BinaryIO) -> Iterator[Line]:
    number = 0
    while text := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(text) > MAX_LINE_BYTES:
            raise CliError(INVALID, f"FILE: line {number} has more than {MAX_LINE_BYTES} bytes; is it JSON Lines?")
        if text.strip():
            yield _checked(number, text)


def _csv_lines(file: BinaryIO) -> Iterator[Line]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    try:
        names = _columns(next(reader, list[str]()))
        for row in reader:
            if not any(row):
                continue
            if len(row) != len(names):
                yield Line(reader.line_num, None, [f"has {len(row)} fields, the first line has {len(names)}"])
            else:
                yield _checked(reader.line_num, msgspec.json.encode(_typed(dict(zip(names, row, strict=True)))))
    except csv.Error as error:
        raise CliError(INVALID, f"FILE: line {reader.line_num}: {error}") from error
    except UnicodeDecodeError as error:
        raise CliError(INVALID, f"FILE: is not UTF-8 after line {reader.line_num}") from error
    finally:
        text.detach()  # whoever opened the file closes it


def _columns(row: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    if unknown := [name for name in names if name not in FIELDS]:
        raise CliError(INVALID, *(f"FILE: line 1: {name!r} is none of the columns {', '.join(FIELDS)}" for name in unknown))
    if missing := [name for name in ("sku", "title") if name not in names]:
        raise CliError(INVALID, *(f"FILE: line 1: there is no column {name}" for name in missing))
    return names


def _typed(row: dict[str, str]) -> dict[str, Any]:
    """A row as JSON would have it. An empty cell is left out; what is no number or no switch stays text, which is refused."""
    typed: dict[str, Any] = {}
    for name, text in row.items():
        if not text:
            continue
        match name:
            case "weight_grams":
                typed[name] = int(text) if text.isascii() and text.isdigit() else text
            case "requires_shipping" | "active":
                typed[name] = SWITCHES.get(text.lower(), text)
            case _:
                typed[name] = text
    return typed


def _checked(number: int, value: bytes) -> Line:
    """What a line defines. It is checked as inventory will check it, so that a refusal is known at once."""
    try:
        product: DefineProduct = publisher.read_message(DEFINE, value)
    except Invalid as error:
        return Line(number, None, list(error.reasons))
    reasons = list(objections_to(product))
    return Line(number, None if reasons else product, reasons)


class _Rejects:
    """A CSV of rejected lines, which is made with the first of them."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        self._files = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def write(self, line: Line) -> None:
        """Write one line. Raises CliError where the file cannot be written."""
        try:
            if self._writer is None:
                self._writer = csv.writer(self._files.enter_context(self._path.open("w", encoding="utf-8", newline="")))
                self._writer.writerow(("line", "reasons"))
            self._writer.writerow((line.number, "; ".join(line.reasons)))
        except OSError as error:
            raise CliError(INVALID, f"--rejects: {self._path} cannot be written: {error.strerror}") from error
        self.count += 1
