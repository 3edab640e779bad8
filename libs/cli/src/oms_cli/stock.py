"""`oms stock`: receive goods, correct and count stock, and see what is where."""

import csv
import io
from typing import Annotated, Any

import typer
from oms_client.errors import NotFound
from oms_client.outcomes import Outcome, outcome_of
from oms_client.queries import QueryClient, path_part
from oms_contracts.message import type_of
from oms_contracts.money import counted
from oms_contracts.stock import StockAdjusted, StockReceived

from oms_cli import output
from oms_cli.arguments import AsJson, Limit, Timeout, Wait, connections, quantities
from oms_cli.connections import Asked, Connections
from oms_cli.errors import INVALID, CliError
from oms_cli.operate import Answer, operate
from oms_cli.output import moment, note, say, table

app = typer.Typer(help="Receive goods, correct and count stock, and see what is where.")

BOOKED = frozenset({type_of(StockReceived).name, type_of(StockAdjusted).name})
MORE = "there is more; --limit shows it"
COLUMNS = ("location", "on hand>", "reserved>", "allocated>", "ATP>")
GOODS_COLUMNS = ["sku", "location", "quantity"]
MAX_FILE_BYTES = 1024 * 1024
"""Of a file of goods: what one command has room for."""

Sku = Annotated[str, typer.Argument(metavar="SKU", help="The product's SKU.", show_default=False)]
Location = Annotated[str, typer.Argument(metavar="LOCATION", help="Where it is stored.", show_default=False)]


@app.command(epilog="Example: oms stock receive BER-1 MUG-BLUE=40 CUP=12")
def receive(
    context: typer.Context,
    *,
    location: Annotated[
        str | None, typer.Argument(metavar="LOCATION", help="Where it is stored; with --file the file says.", show_default=False)
    ] = None,
    goods: Annotated[
        list[str] | None, typer.Argument(metavar="SKU=QUANTITY", help="What arrived, and how many units.", show_default=False)
    ] = None,
    file: Annotated[
        typer.FileBinaryRead | None,
        typer.Option("--file", metavar="FILE", help="A CSV file with the columns sku, location, quantity; - for standard input."),
    ] = None,
    receipt_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same receipt again has no effect.", show_default="a new UUID")
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Book goods in: several SKUs at a location, or those of a file, as one receipt. All of it is booked, or nothing."""
    connected = connections(context)
    if (file is not None) == (location is not None):
        raise CliError(INVALID, "LOCATION: give a location with SKU=QUANTITY words, or --file: `oms stock receive BER-1 MUG-BLUE=40`")
    lines = _read_goods(file.read(MAX_FILE_BYTES + 1)) if file is not None else _lines(location or "", goods or [])
    receipt = connected.new_id() if receipt_id is None else receipt_id
    _book(
        connected,
        "receive-stock",
        {"receipt_id": receipt, "lines": lines},
        Answer(wait=wait, timeout=timeout, as_json=as_json),
        about={"receipt_id": receipt},
        option="--receipt-id",
        done=f"receipt {receipt} is booked: {_units_text(lines)}",
    )


@app.command(epilog="Example: oms stock adjust BER-1 MUG-BLUE=-2 --reason 'two broken'")
def adjust(
    context: typer.Context,
    *,
    location: Location,
    changes: Annotated[
        list[str], typer.Argument(metavar="SKU=QUANTITY", help="Units to add, or to take off with a minus.", show_default=False)
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is in the ledger.", show_default=False)],
    adjustment_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same adjustment again has no effect.", show_default="a new UUID")
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Correct what is on hand by a difference. To say how much there is, use `oms stock count`."""
    connected = connections(context)
    lines = _lines(location, changes, signed=True)
    _adjust(connected, lines, reason, Answer(wait=wait, timeout=timeout, as_json=as_json), adjustment_id=adjustment_id)


@app.command(epilog="Example: oms stock count MUG-BLUE BER-1 38")
def count(
    context: typer.Context,
    *,
    sku: Sku,
    location: Location,
    quantity: Annotated[int, typer.Argument(metavar="QUANTITY", min=0, help="How many units are there.", show_default=False)],
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; it is in the ledger.", show_default="what was counted and booked")
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Say how many units of a SKU are at a location: what is booked is read, and the difference is sent as an adjustment.

    What is booked meanwhile is not in that difference: count while nothing is received or shipped there.
    """
    connected = connections(context)
    found = connected.run(connected.query.find(f"/stock/{path_part(sku)}", limit=1))
    positions: list[dict[str, Any]] = [] if found is None else found["positions"]
    booked: int = next((position["on_hand"] for position in positions if position["location"] == location), 0)
    difference = quantity - booked
    about: dict[str, Any] = {"sku": sku, "location": location, "counted": quantity, "booked": booked, "difference": difference}
    if not difference:
        if as_json:
            output.document({**about, "adjustment_id": None, "event_id": None, "done": True, "reasons": [], "events": []})
        else:
            say(f"{sku} at {location}: {counted(quantity, 'unit')} booked, as counted; nothing is changed")
        return
    if not as_json:
        say(f"{sku} at {location}: {counted(booked, 'unit')} booked, {quantity} counted; {difference:+} is sent as an adjustment")
    why = reason or f"counted {quantity}, {booked} were booked"
    lines = [{"sku": sku, "location": location, "quantity": difference}]
    _adjust(connected, lines, why, Answer(wait=wait, timeout=timeout, as_json=as_json), about=about)


@app.command(epilog="Example: oms stock show MUG-BLUE")
def show(
    context: typer.Context,
    *,
    sku: Annotated[str | None, typer.Argument(metavar="SKU", help="With its ledger, newest first.", show_default="all")] = None,
    location: Annotated[str | None, typer.Option(help="Only there.", show_default="all")] = None,
    below: Annotated[
        int | None, typer.Option("--below", metavar="QUANTITY", help="Only what has less available to promise.", show_default="all")
    ] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """On hand, reserved, allocated and available to promise (ATP), by SKU and location."""
    connected = connections(context)
    if sku is not None:
        if location is not None or below is not None:
            raise CliError(INVALID, "--location, --below: are for all SKUs; leave out SKU")
        _show_one(connected, sku, limit, as_json=as_json)
        return
    rows = connected.collect("/stock", max_items=limit + 1, location=location, available_below=below)
    positions, more = rows[:limit], len(rows) > limit
    if as_json:
        output.document({"positions": positions, "more": more})
        return
    table("Stock", ("SKU", *COLUMNS), [(position["sku"], *_units(position)) for position in positions])
    if more:
        note(MORE)


@app.command(epilog="Example: oms stock ledger MUG-BLUE --limit 20")
def ledger(context: typer.Context, *, sku: Sku, limit: Limit = 100, as_json: AsJson = False) -> None:
    """Every change of what is on hand of a SKU, newest first: what was received, shipped, returned, corrected and written off."""
    entries, more = _ledger(connections(context), sku, limit)
    if as_json:
        output.document({"sku": sku, "ledger": entries, "more": more})
        return
    _show_ledger(entries, more=more)


def _show_one(connected: Connections, sku: str, limit: int, *, as_json: bool) -> None:
    positions = connected.get(f"/stock/{path_part(sku)}", limit=1)["positions"]
    entries, more = _ledger(connected, sku, limit)
    if as_json:
        output.document({"sku": sku, "positions": positions, "ledger": entries, "more": more})
        return
    table(f"Stock of {sku}", COLUMNS, map(_units, positions))
    _show_ledger(entries, more=more)


def _ledger(connected: Connections, sku: str, limit: int) -> tuple[list[dict[str, Any]], bool]:
    rows = connected.collect(f"/stock/{path_part(sku)}", within="ledger", max_items=limit + 1)
    return rows[:limit], len(rows) > limit


def _show_ledger(entries: list[dict[str, Any]], *, more: bool) -> None:
    columns = ("time", "location", "entry", "quantity>", "for", "order", "reason")
    rows = [(moment(e["at"]), e["location"], e["kind"], f"{e['quantity']:+}", e["reference"], e["order_id"], e["reason"]) for e in entries]
    table("Ledger, newest first", columns, rows)
    if more:
        note(MORE)


def _adjust(
    connected: Connections,
    lines: list[dict[str, Any]],
    reason: str,
    answer: Answer,
    *,
    adjustment_id: str | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    name = connected.new_id() if adjustment_id is None else adjustment_id
    changes = ", ".join(f"{line['quantity']:+} {line['sku']} at {line['location']}" for line in lines)
    _book(
        connected,
        "adjust-stock",
        {"adjustment_id": name, "lines": lines, "reason": reason},
        answer,
        about={**(about or {}), "adjustment_id": name},
        option="--adjustment-id",
        done=f"adjustment {name} is booked: {changes}",
    )


def _book(
    connected: Connections, name: str, body: dict[str, Any], answer: Answer, *, about: dict[str, Any], option: str, done: str
) -> None:
    async def booked(query: QueryClient, asked: Asked) -> Outcome | None:
        """The outcome: what is booked under the id, whichever command it was that booked it, or a refusal of this one."""
        try:
            entries = await query.timeline(asked.key)
        except NotFound:
            return None
        for entry in entries:
            if entry["type"] in BOOKED:
                if entry["data"]["lines"] == body["lines"]:
                    return Outcome(status="done", events=(entry,))
                return Outcome(status="refused", reasons=(f"{option}: it was booked before with other lines; take another",))
        return outcome_of(entries, asked.event_id)

    operate(connected, name, {}, body, answer, about=about, see=f"oms stock ledger {body['lines'][0]['sku']}", done=done, check=booked)


def _lines(location: str, words: list[str], *, signed: bool = False) -> list[dict[str, Any]]:
    place = "SKU=QUANTITY"
    if not words:
        raise CliError(INVALID, f"{place}: is not given: `oms stock receive {location} MUG-BLUE=40`")
    return [{"sku": sku, "location": location, "quantity": quantity} for sku, quantity in quantities(words, place, signed=signed)]


def _read_goods(content: bytes) -> list[dict[str, Any]]:
    """The lines of a CSV file. Raises a CliError that names every line at fault."""
    if len(content) > MAX_FILE_BYTES:
        raise CliError(INVALID, f"--file: has more than {MAX_FILE_BYTES} bytes; receive it in parts")
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CliError(INVALID, f"--file: is not CSV in UTF-8: {error}") from error
    if not rows or sorted(map(str, rows[0])) != sorted(GOODS_COLUMNS):
        raise CliError(INVALID, f"--file: its first line must name the columns {', '.join(GOODS_COLUMNS)}, and goods must follow")
    wrong = [
        f"--file: entry {number}: has no sku, no location, or no quantity above 0" for number, row in enumerate(rows, 1) if not _sound(row)
    ]
    if wrong:
        raise CliError(INVALID, *wrong)
    return [{"sku": row["sku"], "location": row["location"], "quantity": int(row["quantity"])} for row in rows]


def _sound(row: dict[str, str | None]) -> bool:
    quantity = row["quantity"] or ""
    return bool(row["sku"] and row["location"] and quantity.isascii() and quantity.isdigit() and int(quantity))


def _units_text(lines: list[dict[str, Any]]) -> str:
    return f"{counted(sum(line['quantity'] for line in lines), 'unit')} of {counted(len({line['sku'] for line in lines}), 'SKU')}"


def _units(position: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(position[name] for name in ("location", "on_hand", "reserved", "allocated", "available"))
