"""`oms return`: goods that come back: list, ask for it, receive, inspect, cancel."""

from typing import Annotated, Any, Literal

import typer
from oms_contracts.operations import operation_of

from oms_cli import output
from oms_cli.arguments import (
    AsJson,
    Channel,
    Every,
    Limit,
    Order,
    OrderOption,
    Timeout,
    Wait,
    connections,
    line_named,
    named,
    order_of,
    quantities,
)
from oms_cli.connections import Connections
from oms_cli.errors import INVALID, NOT_DONE, CliError
from oms_cli.lists import Listing, Sized
from oms_cli.operate import Answer, operate
from oms_cli.output import moment, money, say, table

app = typer.Typer(help="Goods that come back: list, request, show, receive, inspect, cancel.")

ReturnId = Annotated[
    str | None, typer.Argument(metavar="RETURN", help="The return's id (RMA number).", show_default="the only one that is open")
]
Lines = Annotated[
    list[str] | None,
    typer.Option("--line", metavar="SKU=QUANTITY", help="Which units; the line's id serves, too.", show_default="all of them"),
]
CLOSED = frozenset({"declined", "canceled", "expired", "closed"})
"""Statuses of a return with which nothing happens any more."""


RETURNS = Listing(
    path="/returns",
    name="returns",
    title="Returns",
    empty="there is no such return",
    columns=("requested", "order", "return", "status", "since", "location", "announced>", "received>", "waits for"),
    cells=lambda r: (
        *(moment(r["requested_at"]), named(r), r["return_id"], r["status"], moment(r["at"]), r["location"]),
        *(sum(line["quantity"] for line in r["lines"] or ()), r["received"]),
        r["action"] and f"{r['action']} until {moment(r['deadline'])}",
    ),
)


@app.command("list", epilog="Example: oms return list --action inspect --sort deadline")
def list_returns(
    context: typer.Context,
    *,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help="Only those of this status.", show_default="all")] = None,
    action: Annotated[
        Literal["inspect", "investigate"] | None, typer.Option(help="Only those that wait for somebody to do this.", show_default="all")
    ] = None,
    location: Annotated[str | None, typer.Option(metavar="LOCATION", help="Only what goes to this location.", show_default="all")] = None,
    order: OrderOption = None,
    channel: Channel = None,
    sort: Annotated[
        Literal["requested_at", "-requested_at", "deadline", "-deadline"],
        typer.Option(help="With - before it the newest first. By deadline, those without one are left out."),
    ] = "-requested_at",
    limit: Limit = 100,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Returns, the newest first."""
    sized = Sized(limit=limit, every=every, as_json=as_json)
    RETURNS.show(context, sized, status=status, action=action, location=location, order=order, channel=channel, sort=sort)


@app.command(epilog="Example: oms return request web/W-1001 --line MUG-BLUE=1 --reason damaged")
def request(
    context: typer.Context,
    *,
    order: Order,
    lines: Lines = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it comes back; the policy lists what is taken.")] = "unwanted",
    return_id: Annotated[str | None, typer.Option(metavar="ID", help="The RMA number.", show_default="a new one")] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Ask for units of a completed order to come back: all that was delivered, or those of --line. The policy approves or declines."""
    connected = connections(context)
    found = order_of(connected, order)
    name = f"RMA-{connected.new_id()}" if return_id is None else return_id
    left = {line["line_id"]: line["delivered"] - line["returned"] for line in found["lines"]}
    asked = [{**line, "reason": reason} for line in _chosen(found, left, lines)]
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    _ask(connected, "request-return", found, name, body={"return_id": name, "lines": asked}, answer=answer, thing=found)


@app.command(epilog="Example: oms return show web/W-1001")
def show(context: typer.Context, *, order: Order, return_id: ReturnId = None, as_json: AsJson = False) -> None:
    """The returns of an order, or one of them: what comes back and why, what arrived, what was found, and the refund."""
    connected = connections(context)
    found = order_of(connected, order)
    shown = found["returns"] if return_id is None else [_return(found, return_id)]
    if as_json:
        output.document({"order_id": found["order_id"], "returns": shown})
        return
    if not shown:
        until = f"may be asked for until {moment(found['returns_until'])}" if found["returns_until"] else "cannot be asked for"
        say(f"order {named(found)} has no return; it is {found['status']}, and returns {until}")
    for each in shown:
        say(f"Return {each['return_id']} of {named(found)}: {each['status']} since {moment(each['at'])}")
        if each["reason"]:
            say(each["reason"])
        if each["action"]:
            say(f"waits for a person to {each['action']} until {moment(each['deadline'])}")
        inspected = {line["line_id"]: line for line in each["inspected"] or ()}
        rows = [
            (line["line_id"], line["quantity"], line["reason"], *_finding(inspected.get(line["line_id"]))) for line in each["lines"] or ()
        ]
        table("Lines", ("line", "announced>", "because", "inspected>", "found"), rows)
        refunded, outcome = money(each["refunded"], found["currency"]), each["outcome"] or output.NOTHING
        say(f"received {each['received']}, refunded {refunded}, outcome {outcome}")
        if step := {"approved": "receive", "received": "inspect"}.get(each["status"]):
            more = " --location LOCATION" if step == "receive" else ""
            say(f"next: oms return {step} {named(found)} {each['return_id']}{more}")


@app.command(epilog="Example: oms return receive web/W-1001 --location BER-1")
def receive(
    context: typer.Context,
    *,
    order: Order,
    return_id: ReturnId = None,
    location: Annotated[str, typer.Option(metavar="LOCATION", help="Where the goods arrived.", show_default=False)],
    lines: Lines = None,
    receipt_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same receipt again has no effect.", show_default="a new UUID")
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Goods of a return arrived: all that was announced, or those of --line."""
    connected = connections(context)
    found = order_of(connected, order)
    wanted = _return(found, return_id)
    announced = _units(wanted["lines"])
    because = {line["line_id"]: line["reason"] for line in wanted["lines"] or ()}
    received = [{**line, "reason": because.get(line["line_id"], "unwanted")} for line in _chosen(found, announced, lines)]
    if lines is None and wanted["received"]:
        raise CliError(INVALID, f"--line: must say what arrived now, for {wanted['received']} of the announced units arrived before")
    receipt = connected.new_id() if receipt_id is None else receipt_id
    body = {"receipt_id": receipt, "location": location, "lines": received}
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    _ask(connected, "receive-return-items", found, wanted["return_id"], body=body, answer=answer, thing=wanted)


@app.command(epilog="Example: oms return inspect web/W-1001 --disposition write-off")
def inspect(
    context: typer.Context,
    *,
    order: Order,
    return_id: ReturnId = None,
    disposition: Annotated[Literal["restock", "quarantine", "write-off"], typer.Option(help="What becomes of the goods.")] = "restock",
    refund: Annotated[bool, typer.Option("--refund/--no-refund", help="Whether the customer gets the money back.")] = True,
    lines: Lines = None,
    written_off: Annotated[
        list[str] | None,
        typer.Option("--write-off", metavar="SKU=QUANTITY", help="Units among them to write off; may be repeated.", show_default=False),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Everything received is inspected: it is restocked, set apart or written off, and refunded or not. The return ends with that."""
    connected = connections(context)
    found = order_of(connected, order)
    wanted = _return(found, return_id)
    announced = _units(wanted["lines"])
    if lines is None and wanted["received"] != sum(announced.values()):
        raise CliError(
            INVALID, f"--line: must say what was found: {wanted['received']} of {sum(announced.values())} announced units arrived"
        )
    skus = {line["line_id"]: line["sku"] for line in found["lines"]}
    units = {line["line_id"]: line["quantity"] for line in _chosen(found, announced, lines)}
    findings: list[dict[str, Any]] = []
    for line in _chosen(found, announced, written_off) if written_off else ():
        if line["quantity"] > units.get(line["line_id"], 0):
            raise CliError(INVALID, f"--write-off: {line['quantity']} of line {line['line_id']} are more than came back")
        units[line["line_id"]] -= line["quantity"]
        findings.append({**line, "sku": skus[line["line_id"]], "disposition": "write-off", "accepted": refund})
    for line_id, quantity in units.items():
        if quantity:
            about = {"line_id": line_id, "sku": skus[line_id], "quantity": quantity}
            findings.append({**about, "disposition": disposition, "accepted": refund})
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    _ask(connected, "inspect-return", found, wanted["return_id"], body={"lines": findings}, answer=answer, thing=wanted)


@app.command(epilog="Example: oms return cancel web/W-1001 --reason 'the customer keeps it'")
def cancel(
    context: typer.Context,
    *,
    order: Order,
    return_id: ReturnId = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is in the published events.", show_default=False)],
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Cancel a return of which nothing has arrived yet."""
    connected = connections(context)
    found = order_of(connected, order)
    wanted = _return(found, return_id)
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    _ask(connected, "cancel-return", found, wanted["return_id"], body={"reason": reason}, answer=answer, thing=wanted)


def _ask(
    connected: Connections,
    name: str,
    order: dict[str, Any],
    return_id: str,
    *,
    body: dict[str, Any],
    answer: Answer,
    thing: dict[str, Any],
) -> None:
    """Ask for an operation on a return, or for a return of an order: `thing` is what it acts on."""
    operation = operation_of(name)
    named_in_path = {"order_id": order["order_id"], "return_id": return_id}
    operate(
        connected,
        name,
        {parameter: named_in_path[parameter] for parameter in operation.parameters},
        body,
        answer,
        about={"order_id": order["order_id"], "return_id": return_id},
        see=f"oms return show {named(order)} {return_id}",
        objection=operation.offered(thing),
    )


def _return(order: dict[str, Any], return_id: str | None) -> dict[str, Any]:
    """The order's return of this id, or the only one that is open. Raises a CliError that names those there are."""
    known: dict[str, dict[str, Any]] = {each["return_id"]: each for each in order["returns"]}
    if return_id is not None:
        if return_id in known:
            return known[return_id]
        raise CliError(NOT_DONE, f"order {named(order)} has no return {return_id}; it has {', '.join(known) or 'none'}")
    still_open = [name for name, each in known.items() if each["status"] not in CLOSED]
    if len(still_open) == 1:
        return known[still_open[0]]
    if still_open:
        raise CliError(INVALID, f"RETURN: name one of {', '.join(still_open)}")
    raise CliError(NOT_DONE, f"order {named(order)} has no open return; `oms return request {named(order)}` asks for one")


def _chosen(order: dict[str, Any], units: dict[str, int], words: list[str] | None) -> list[dict[str, Any]]:
    """Units by line: those that `words` name by line or SKU, or all of `units`."""
    if words is None:
        return [{"line_id": line_id, "quantity": quantity} for line_id, quantity in units.items() if quantity > 0]
    return [{"line_id": _line_named(order, name), "quantity": quantity} for name, quantity in quantities(words, "--line")]


def _line_named(order: dict[str, Any], name: str) -> str:
    lines = [(line["line_id"], line["sku"]) for line in order["lines"]]
    known = ", ".join(f"{sku} (line {line_id})" for line_id, sku in lines)
    return line_named(name, lines, f"{named(order)}: {known}")[0]


def _units(lines: list[dict[str, Any]] | None) -> dict[str, int]:
    units: dict[str, int] = {}
    for line in lines or ():
        units[line["line_id"]] = units.get(line["line_id"], 0) + line["quantity"]
    return units


def _finding(line: dict[str, Any] | None) -> tuple[Any, Any]:
    if line is None:
        return None, None
    return line["quantity"], f"{line['disposition']}, {'refunded' if line['accepted'] else 'not refunded'}"
