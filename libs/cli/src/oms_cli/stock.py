"""`oms stock`: receive goods, and see what is where."""

from typing import Annotated, Any

import typer
from oms_client.errors import NotFound
from oms_client.queries import QueryClient, event_of, path_part
from oms_contracts.message import type_of
from oms_contracts.stock import ReceiveStock, StockCommandRefused, StockReceived
from oms_contracts.values import StockLine

from oms_cli import output
from oms_cli.arguments import AsJson, Limit, Timeout, Wait, connections
from oms_cli.connections import Connections
from oms_cli.errors import NOT_DONE, CliError
from oms_cli.output import moment, note, say, table

app = typer.Typer(help="Receive goods, and see what is where.")

RECEIVED, REFUSED = type_of(StockReceived), type_of(StockCommandRefused)
MORE = "there is more; --limit shows it"
COLUMNS = ("location", "on hand>", "reserved>", "allocated>", "ATP>")


@app.command(epilog="Example: oms stock receive MUG-BLUE BER-1 40 --wait")
def receive(
    context: typer.Context,
    *,
    sku: Annotated[str, typer.Argument(metavar="SKU", help="What arrived.", show_default=False)],
    location: Annotated[str, typer.Argument(metavar="LOCATION", help="Where it is stored.", show_default=False)],
    quantity: Annotated[int, typer.Argument(metavar="QUANTITY", min=1, help="How many units.", show_default=False)],
    receipt_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same receipt again has no effect.", show_default="a new UUID")
    ] = None,
    wait: Wait = False,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Ask inventory to book goods in."""
    connected = connections(context)
    receipt = ReceiveStock(
        receipt_id=connected.new_id() if receipt_id is None else receipt_id,
        lines=(StockLine(sku=sku, location=location, quantity=quantity),),
    )
    event_id = connected.publish(receipt)
    answer: dict[str, Any] = {"receipt_id": receipt.receipt_id, "event_id": event_id, "booked": None, "reasons": []}
    if wait:
        late = {"reasons": [f"it is not known after {timeout:g} s; `oms stock show` shows what has arrived"]}
        answer |= connected.wait(lambda query: _booked(query, receipt, event_id), timeout) or late
    if as_json:
        output.document(answer)
    if answer["reasons"]:
        raise CliError(NOT_DONE, *(f"receipt {receipt.receipt_id} is not booked: {reason}" for reason in answer["reasons"]))
    if not as_json:
        say(f"receipt {receipt.receipt_id} is {'booked' if answer['booked'] else 'sent'}")


@app.command(epilog="Example: oms stock show MUG-BLUE")
def show(
    context: typer.Context,
    *,
    sku: Annotated[str | None, typer.Argument(metavar="[SKU]", help="With its ledger, newest first.", show_default="all")] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """On hand, reserved, allocated and available to promise (ATP), by SKU and location."""
    connected = connections(context)
    if sku is not None:
        _show_one(connected, sku, limit, as_json=as_json)
        return
    rows = connected.collect("/stock", max_items=limit + 1)
    positions, more = rows[:limit], len(rows) > limit
    if as_json:
        output.document({"positions": positions, "more": more})
        return
    table("Stock", ("SKU", *COLUMNS), [(position["sku"], *_units(position)) for position in positions])
    if more:
        note(MORE)


def _show_one(connected: Connections, sku: str, limit: int, *, as_json: bool) -> None:
    path = f"/stock/{path_part(sku)}"
    positions = connected.get(path, limit=1)["positions"]
    rows = connected.collect(path, within="ledger", max_items=limit + 1)
    ledger, more = rows[:limit], len(rows) > limit
    if as_json:
        output.document({"sku": sku, "positions": positions, "ledger": ledger, "more": more})
        return
    table(f"Stock of {sku}", COLUMNS, map(_units, positions))
    columns = ("time", "location", "entry", "quantity>", "for", "order", "reason")
    entries = [
        (moment(e["at"]), e["location"], e["kind"], f"{e['quantity']:+}", e["reference"], e["order_id"], e["reason"]) for e in ledger
    ]
    table("Ledger, newest first", columns, entries)
    if more:
        note(MORE)


async def _booked(query: QueryClient, receipt: ReceiveStock, event_id: str) -> dict[str, Any] | None:
    """Whether inventory has booked a receipt or refused it, None until it has done either."""
    try:
        entries = await query.timeline(receipt.receipt_id)
    except NotFound:
        return None
    for entry in entries:
        match entry["type"]:
            case RECEIVED.name:
                if event_of(entry).lines == receipt.lines:
                    return {"booked": True}
                return {"booked": False, "reasons": ["--receipt-id: it was booked before with other lines; take another"]}
            case REFUSED.name if entry["causation"] == event_id:
                return {"booked": False, "reasons": list(event_of(entry).reasons)}
            case _:
                pass
    return None


def _units(position: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(position[name] for name in ("location", "on_hand", "reserved", "allocated", "available"))
