"""`oms stock transfer`: goods that go from one location to another."""

from typing import Annotated, Any

import typer
from oms_contracts.operations import operation_of

from oms_cli.arguments import AsJson, Every, Goods, Limit, Timeout, Wait, connections, goods_lines
from oms_cli.connections import Connections
from oms_cli.errors import INVALID, CliError
from oms_cli.lists import Listing, Sized
from oms_cli.operate import Answer, operate
from oms_cli.output import moment

app = typer.Typer(help="Goods that go from one location to another: send, receive, close, list.")

TransferId = Annotated[str, typer.Argument(metavar="TRANSFER", help="The id of the transfer.", show_default=False)]
TRANSFERS = Listing(
    path="/transfers",
    name="transfers",
    title="Transfers",
    empty="there are no such transfers",
    columns=("transfer", "status", "from", "to", "sent>", "received>", "written off>", "since", "expected before"),
    cells=lambda each: (
        *(each[name] for name in ("transfer_id", "status", "from_location", "to_location", "sent", "received", "written_off")),
        moment(each["sent_at"]),
        moment(each["deadline"]),
    ),
)
End = Annotated[str, typer.Argument(metavar="LOCATION", help="Where you are: one of the two ends.", show_default=False)]


@app.command(epilog="Example: oms stock transfer send BER-1 HAM-1 MUG-BLUE=20 CUP=4")
def send(
    context: typer.Context,
    *,
    from_location: Annotated[str, typer.Argument(metavar="FROM", help="Where the goods are.", show_default=False)],
    to_location: Annotated[str, typer.Argument(metavar="TO", help="Where they go.", show_default=False)],
    goods: Goods,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    transfer_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same transfer again has no effect.", show_default="a new UUID")
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Goods leave a location for another. Only what is not promised may go; on the way it is available nowhere."""
    connected = connections(context)
    name = connected.new_id() if transfer_id is None else transfer_id
    body = {"transfer_id": name, "from_location": from_location, "to_location": to_location, "lines": goods_lines(goods), "reason": reason}
    _ask(connected, "transfer-stock", name, body, Answer(wait=wait, timeout=timeout, as_json=as_json))


@app.command(epilog="Example: oms stock transfer receive TRANSFER HAM-1 MUG-BLUE=18")
def receive(
    context: typer.Context,
    *,
    transfer_id: TransferId,
    location: End,
    goods: Annotated[
        list[str] | None, typer.Argument(metavar="SKU=QUANTITY", help="What arrived.", show_default="all that is on the way")
    ] = None,
    receipt_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same receipt again has no effect.", show_default="a new UUID")
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Goods of a transfer arrived, all of them or a part; at the location they came from, if they came back."""
    connected = connections(context)
    lines = goods_lines(goods) if goods else _on_the_way(connected, transfer_id)
    body = {"receipt_id": connected.new_id() if receipt_id is None else receipt_id, "location": location, "lines": lines}
    _ask(connected, "receive-transfer", transfer_id, body, Answer(wait=wait, timeout=timeout, as_json=as_json))


@app.command(epilog="Example: oms stock transfer close TRANSFER HAM-1 --reason 'lost on the way'")
def close(
    context: typer.Context,
    *,
    transfer_id: TransferId,
    location: End,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept with what is missing.", show_default=False)],
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Write off what has not arrived, for good: the transfer ends."""
    body = {"location": location, "reason": reason}
    _ask(connections(context), "close-transfer", transfer_id, body, Answer(wait=wait, timeout=timeout, as_json=as_json))


@app.command("list", epilog="Example: oms stock transfer list --status in_transit")
def list_transfers(
    context: typer.Context,
    *,
    status: Annotated[str | None, typer.Option(help="in_transit or closed.", show_default="all")] = None,
    location: Annotated[str | None, typer.Option(help="One of the two ends.", show_default="all")] = None,
    limit: Limit = 100,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Transfers, the newest first."""
    TRANSFERS.show(context, Sized(limit=limit, every=every, as_json=as_json), status=status, location=location)


def _on_the_way(connected: Connections, transfer_id: str) -> list[dict[str, Any]]:
    found = next(iter(connected.collect("/transfers", max_items=1, transfer=transfer_id)), None)
    lines = [{"sku": line["sku"], "quantity": line["quantity"]} for line in found["on_the_way"]] if found else []
    if not lines:
        raise CliError(INVALID, f"TRANSFER: nothing of {transfer_id} is known to be on the way; give SKU=QUANTITY words")
    return lines


def _ask(connected: Connections, name: str, transfer_id: str, body: dict[str, Any], answer: Answer) -> None:
    parameters = {parameter: transfer_id for parameter in operation_of(name).parameters}
    operate(connected, name, parameters, body, answer, about={"transfer_id": transfer_id}, see="oms stock transfer list")
