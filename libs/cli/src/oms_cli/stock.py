"""`oms stock`: receive goods, correct and count stock, set it apart, set its limits, and see what is where."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
import typer
from oms_client.errors import NotFound
from oms_client.outcomes import Outcome, outcome_of
from oms_client.queries import QueryClient, path_part
from oms_contracts.message import UnreadableMessage, type_of, validate
from oms_contracts.money import counted
from oms_contracts.stock import SetStockLimits, StockAdjusted, StockReceived

from oms_cli import output
from oms_cli.arguments import AsJson, Goods, Limit, Timeout, Wait, connections, goods_lines, quantities
from oms_cli.connections import Asked, Connections
from oms_cli.errors import INVALID, CliError
from oms_cli.operate import Answer, operate
from oms_cli.output import moment, note, say, table

app = typer.Typer(help="Receive goods, correct and count stock, set it apart, move it, set its limits, and see what is where.")

BOOKED = frozenset({type_of(StockReceived).name, type_of(StockAdjusted).name})
MORE = "there is more; --limit shows it"
COLUMNS = ("location", "on hand>", "reserved>", "allocated>", "set apart>", "safety>", "ATP>", "on the way>", "said of it")
GOODS_COLUMNS = ["sku", "location", "quantity"]
LIMIT_COLUMNS = SetStockLimits.__struct_fields__
SET_LIMITS = type_of(SetStockLimits).name
MAX_FILE_BYTES = 1024 * 1024
"""Of a file of goods: what one command has room for."""

Sku = Annotated[str, typer.Argument(metavar="SKU", help="The product's SKU.", show_default=False)]
Location = Annotated[str, typer.Argument(metavar="LOCATION", help="Where it is stored.", show_default=False)]
LocationUnlessFile = Annotated[
    str | None, typer.Argument(metavar="LOCATION", help="Where it is stored; with --file the file says.", show_default=False)
]
GoodsFile = Annotated[
    typer.FileBinaryRead | None,
    typer.Option("--file", metavar="FILE", help="A CSV file with the columns sku, location, quantity; - for standard input."),
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it is in the ledger.", show_default=False)]
SameId = Annotated[str | None, typer.Option("--id", metavar="ID", help="The same id again has no effect.", show_default="a new UUID")]
Signal = Literal["low", "out", "excess", "shortfall", "quarantine"]
ReasonCode = Literal["damaged", "lost", "stolen", "expired", "found", "correction", "other"]


@app.command(epilog="Example: oms stock receive BER-1 MUG-BLUE=40 CUP=12")
def receive(
    context: typer.Context,
    *,
    location: LocationUnlessFile = None,
    goods: Annotated[
        list[str] | None, typer.Argument(metavar="SKU=QUANTITY", help="What arrived, and how many units.", show_default=False)
    ] = None,
    file: GoodsFile = None,
    receipt_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same receipt again has no effect.", show_default="a new UUID")
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Book goods in: several SKUs at a location, or those of a file, as one receipt. All of it is booked, or nothing."""
    connected = connections(context)
    lines = _given("receive", location, goods or [], file)
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
    reason: Reason,
    reason_code: Annotated[
        ReasonCode, typer.Option(help="damaged, lost, stolen and expired units are gone, also where they were promised.")
    ] = "other",
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
    name = connected.new_id() if adjustment_id is None else adjustment_id
    changed = ", ".join(f"{line['quantity']:+} {line['sku']} at {line['location']}" for line in lines)
    _book(
        connected,
        "adjust-stock",
        {"adjustment_id": name, "lines": lines, "reason": reason, "reason_code": reason_code},
        Answer(wait=wait, timeout=timeout, as_json=as_json),
        about={"adjustment_id": name},
        option="--adjustment-id",
        done=f"adjustment {name} is booked: {changed}",
    )


@app.command(epilog="Example: oms stock count BER-1 MUG-BLUE=38 CUP=0")
def count(
    context: typer.Context,
    *,
    location: LocationUnlessFile = None,
    goods: Annotated[
        list[str] | None, typer.Argument(metavar="SKU=QUANTITY", help="How many units are there, promised or not.", show_default=False)
    ] = None,
    file: GoodsFile = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is in the ledger.")] = "",
    count_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same count again has no effect.", show_default="a new UUID")
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Say how many units there are. The difference to what is on hand at that moment is booked: count while nothing moves there.

    Where fewer are left than are promised, `oms stuck` shows it until it is resolved.
    """
    connected = connections(context)
    lines = [
        {"sku": line["sku"], "location": line["location"], "counted": line["quantity"]}
        for line in _given("count", location, goods or [], file, none_allowed=True)
    ]
    name = connected.new_id() if count_id is None else count_id
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    operate(
        connected,
        "count-stock",
        {},
        {"count_id": name, "lines": lines, "reason": reason},
        answer,
        about={"count_id": name},
        see=_see(lines),
    )


@app.command(epilog="Example: oms stock quarantine BER-1 MUG-BLUE=3 --reason 'recall of batch 7'")
def quarantine(
    context: typer.Context,
    *,
    location: Location,
    goods: Goods,
    reason: Reason,
    name: SameId = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Set units apart: they stay on hand, and are not sold until they are released or written off."""
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    _set_apart(context, "quarantine-stock", {"quarantine_id": name}, answer, location=location, goods=goods, reason=reason)


@app.command(epilog="Example: oms stock release BER-1 MUG-BLUE=2 --reason 'not of batch 7'")
def release(
    context: typer.Context,
    *,
    location: Location,
    goods: Goods,
    reason: Reason,
    name: SameId = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Units that were set apart are sound: they may be sold again."""
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    _set_apart(context, "release-quarantine", {"release_id": name}, answer, location=location, goods=goods, reason=reason)


@app.command("write-off", epilog="Example: oms stock write-off BER-1 MUG-BLUE=1 --reason 'of batch 7'")
def write_off(
    context: typer.Context,
    *,
    location: Location,
    goods: Goods,
    reason: Reason,
    name: SameId = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Units that were set apart go out of stock. For others, use `oms stock adjust`."""
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    _set_apart(context, "write-off-quarantine", {"write_off_id": name}, answer, location=location, goods=goods, reason=reason)


@app.command(epilog="Example: oms stock limits MUG-BLUE --location BER-1 --safety 2 --reorder-point 10")
def limits(
    context: typer.Context,
    *,
    sku: Annotated[str | None, typer.Argument(metavar="SKU", help="With --file the file says.", show_default=False)] = None,
    location: Annotated[str | None, typer.Option(help="Where.", show_default="every location without limits of its own")] = None,
    safety: Annotated[int, typer.Option(min=0, help="Units that are promised to nobody.")] = 0,
    reorder_point: Annotated[int | None, typer.Option(min=0, help="So many available, or fewer, are low.", show_default="none")] = None,
    maximum: Annotated[int | None, typer.Option(min=1, help="More on hand is too much.", show_default="none")] = None,
    file: Annotated[
        typer.FileBinaryRead | None,
        typer.Option("--file", metavar="FILE", help=f"A CSV file with columns of {', '.join(LIMIT_COLUMNS)}; - for standard input."),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Set the limits of a SKU, or of the SKUs of a file. They replace those before: without any, a location has the general ones again."""
    connected = connections(context)
    if (file is None) == (sku is None):
        raise CliError(INVALID, "SKU: give a SKU, or --file: `oms stock limits MUG-BLUE --reorder-point 10`")
    if file is not None:
        _send_limits(connected, file, as_json=as_json)
        return
    body = {"sku": sku, "location": location, "safety": safety, "reorder_point": reorder_point, "maximum": maximum}
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    operate(connected, "set-stock-limits", {}, body, answer, about={"sku": sku}, see=f"oms stock show {sku}")


@app.command(epilog="Example: oms stock show MUG-BLUE")
def show(
    context: typer.Context,
    *,
    sku: Annotated[str | None, typer.Argument(metavar="SKU", help="With its ledger, newest first.", show_default="all")] = None,
    location: Annotated[str | None, typer.Option(help="Only there.", show_default="all")] = None,
    below: Annotated[
        int | None, typer.Option("--below", metavar="QUANTITY", help="Only what has less available to promise.", show_default="all")
    ] = None,
    signal: Annotated[Signal | None, typer.Option(help="Only what this is said of.", show_default="all")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """On hand, reserved, allocated, set apart and available to promise (ATP), by SKU and location."""
    connected = connections(context)
    if sku is not None:
        if location is not None or below is not None or signal is not None:
            raise CliError(INVALID, "--location, --below, --signal: are for all SKUs; leave out SKU")
        _show_one(connected, sku, limit, as_json=as_json)
        return
    rows = connected.collect("/stock", max_items=limit + 1, location=location, available_below=below, signal=signal)
    positions, more = rows[:limit], len(rows) > limit
    if as_json:
        output.document({"positions": positions, "more": more})
        return
    table("Stock", ("SKU", *COLUMNS), [(position["sku"], *_units(position)) for position in positions])
    if more:
        note(MORE)


@app.command(epilog="Example: oms stock ledger MUG-BLUE --limit 20")
def ledger(context: typer.Context, *, sku: Sku, limit: Limit = 100, as_json: AsJson = False) -> None:
    """Every change of what is on hand of a SKU or set apart, newest first: received, shipped, returned, counted, moved, written off."""
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
    columns = ("time", "location", "entry", "quantity>", "set apart>", "for", "order", "code", "reason")
    rows = [
        (
            *(moment(entry["at"]), entry["location"], entry["kind"], f"{entry['quantity']:+}"),
            f"{entry['quarantined']:+}" if entry["quarantined"] else None,
            *(entry[name] for name in ("reference", "order_id", "reason_code", "reason")),
        )
        for entry in entries
    ]
    table("Ledger, newest first", columns, rows)
    if more:
        note(MORE)


def _set_apart(
    context: typer.Context, operation: str, given: dict[str, str | None], answer: Answer, *, location: str, goods: list[str], reason: str
) -> None:
    """`given` is the field of the id, with the id that was given, if any."""
    connected = connections(context)
    about = {field: connected.new_id() if name is None else name for field, name in given.items()}
    lines = goods_lines(goods)
    operate(
        connected, operation, {}, {**about, "location": location, "lines": lines, "reason": reason}, answer, about=about, see=_see(lines)
    )


def _see(lines: list[dict[str, Any]]) -> str:
    return f"oms stock ledger {lines[0]['sku']}"


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

    operate(connected, name, {}, body, answer, about=about, see=_see(body["lines"]), done=done, check=booked)


def _given(
    command: str, location: str | None, goods: list[str], file: BinaryIO | None, *, none_allowed: bool = False
) -> list[dict[str, Any]]:
    """The lines that words or a file give."""
    if (file is not None) == (location is not None):
        raise CliError(INVALID, f"LOCATION: give a location with SKU=QUANTITY words, or --file: `oms stock {command} BER-1 MUG-BLUE=40`")
    if file is not None:
        return _read_goods(file.read(MAX_FILE_BYTES + 1), none_allowed=none_allowed)
    return _lines(location or "", goods, none_allowed=none_allowed)


def _lines(location: str, words: list[str], *, signed: bool = False, none_allowed: bool = False) -> list[dict[str, Any]]:
    place = "SKU=QUANTITY"
    if not words:
        raise CliError(INVALID, f"{place}: is not given: `oms stock receive {location} MUG-BLUE=40`")
    found = quantities(words, place, signed=signed, none_allowed=none_allowed)
    return [{"sku": sku, "location": location, "quantity": quantity} for sku, quantity in found]


def _read_goods(content: bytes, *, none_allowed: bool) -> list[dict[str, Any]]:
    """The lines of a CSV file. Raises a CliError that names every line at fault."""
    rows = _rows(content)
    if not rows or sorted(map(str, rows[0])) != sorted(GOODS_COLUMNS):
        raise CliError(INVALID, f"--file: its first line must name the columns {', '.join(GOODS_COLUMNS)}, and goods must follow")
    above = "" if none_allowed else " above 0"
    wrong = [
        f"--file: entry {number}: has no sku, no location, or no quantity{above}"
        for number, row in enumerate(rows, 1)
        if not _sound(row, none_allowed=none_allowed)
    ]
    if wrong:
        raise CliError(INVALID, *wrong)
    return [{"sku": row["sku"], "location": row["location"], "quantity": int(row["quantity"] or 0)} for row in rows]


def _rows(content: bytes) -> list[dict[str, str | None]]:
    if len(content) > MAX_FILE_BYTES:
        raise CliError(INVALID, f"--file: has more than {MAX_FILE_BYTES} bytes; send it in parts")
    try:
        return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CliError(INVALID, f"--file: is not CSV in UTF-8: {error}") from error


def _sound(row: dict[str, str | None], *, none_allowed: bool) -> bool:
    quantity = row["quantity"] or ""
    return bool(row["sku"] and row["location"] and quantity.isascii() and quantity.isdigit() and (none_allowed or int(quantity)))


def _send_limits(connected: Connections, file: BinaryIO, *, as_json: bool) -> None:
    """Publish the limits of a file: all of them, or none where one is not sound."""
    wrong: list[str] = []
    found = list(_limits(_rows(file.read(MAX_FILE_BYTES + 1)), wrong))
    if wrong or not found:
        raise CliError(
            INVALID, *(wrong or [f"--file: its first line must name columns of {', '.join(LIMIT_COLUMNS)}, and limits must follow"])
        )
    acknowledged: list[int] = []
    connected.publish_all(found, acknowledged.append)
    if as_json:
        output.document({"sent": sum(acknowledged)})
    else:
        say(f"{counted(sum(acknowledged), 'line')} of limits sent")


def _limits(rows: Iterable[dict[str, str | None]], wrong: list[str]) -> Iterator[SetStockLimits]:
    for number, row in enumerate(rows, 1):
        values: dict[str, Any] = {name: int(text) if _is_number(name, text) else text for name, text in row.items() if text}
        try:
            yield validate(SET_LIMITS, msgspec.json.encode(values))
        except UnreadableMessage as error:
            wrong += [f"--file: entry {number}: {reason}" for reason in str(error).removeprefix(f"{SET_LIMITS}: ").split("; ")]


def _is_number(name: str, text: str) -> bool:
    return name not in {"sku", "location"} and text.isascii() and text.isdigit()


def _units_text(lines: list[dict[str, Any]]) -> str:
    return f"{counted(sum(line['quantity'] for line in lines), 'unit')} of {counted(len({line['sku'] for line in lines}), 'SKU')}"


def _units(position: dict[str, Any]) -> tuple[Any, ...]:
    numbers = ("on_hand", "reserved", "allocated", "quarantined", "safety", "available", "in_transit")
    return (position["location"], *(position[name] for name in numbers), ", ".join(position["signals"]))
