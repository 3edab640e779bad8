"""`oms payment`: the money of orders."""

from typing import Annotated, Any

import typer

from oms_cli import output
from oms_cli.arguments import AsJson, Limit, Order, Timeout, Wait, connections, named, order_of
from oms_cli.errors import NOT_DONE, CliError
from oms_cli.operate import Answer, operate_on_order
from oms_cli.output import moment, money, note, say, table

app = typer.Typer(help="The money of orders: list, show, and what could not be captured: retry, pay, write off.")

TOTALS = ("authorized", "captured", "refunded", "voided")


@app.command("list", epilog="Example: oms payment list --failed")
def list_payments(
    context: typer.Context,
    *,
    status: Annotated[str | None, typer.Option(help="Only those of this status.", show_default="all")] = None,
    failed: Annotated[
        bool | None,
        typer.Option("--failed/--not-failed", help="Only those with a failure that a person must see to, or none.", show_default="both"),
    ] = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """The payments of orders, newest first."""
    rows = connections(context).collect("/payments", max_items=limit + 1, status=status, failed=failed)
    payments, more = rows[:limit], len(rows) > limit
    if as_json:
        output.document({"payments": payments, "more": more})
        return
    if not payments:
        say("there is no such payment")
        return
    columns = ("order", "status", "since", *(f"{name}>" for name in TOTALS), "failure")
    cells = [(p["order_id"], p["status"], moment(p["at"]), *_amounts(p), p["failure"]) for p in payments]
    table("Payments, newest first", columns, cells)
    if more:
        note("there is more; --limit shows it")


@app.command(epilog="Example: oms payment show web/W-1001")
def show(context: typer.Context, *, order: Order, as_json: AsJson = False) -> None:
    """The payment of one order: what is held, what was taken for which shipment, what was given back, and what failed."""
    found = order_of(connections(context), order)
    payment = found["payment"]
    if payment is None:
        raise CliError(NOT_DONE, f"order {named(found)} has no payment here, or none yet: it is {found['status']}")
    if as_json:
        output.document(payment)
        return
    totals = payment["totals"]
    currency = totals["currency"]
    say(f"Payment of {named(found)}: {totals['status']} since {moment(totals['at'])}")
    if totals["failure"]:
        say(f"a person must act: {totals['failure']}")
    if totals.get("outstanding"):  # the query API of an earlier release does not say it
        by = f"; somebody must collect it by {moment(totals['collect_by'])}" if totals["collect_by"] else ""
        say(f"{money(totals['outstanding'], currency)} of what has shipped is not captured{by}")
    if totals.get("written_off"):
        say(f"{money(totals['written_off'], currency)} is written off")
    table("Totals", [f"{name}>" for name in TOTALS], [_amounts(totals)])
    for title, columns, rows in (
        (
            "Authorizations",
            ("authorization", "attempt>", "amount>", "at", "released", "failure"),
            [
                (a["authorization_id"], a["attempt"], money(a["amount"], currency), *_times(a), a["void_failure"])
                for a in payment["authorizations"]
            ],
        ),
        (
            "Captures",
            ("fulfillment", "status", "requested>", "captured>", "at", "failure"),
            [
                (c["fulfillment_id"], c["status"], *_pair(c, "captured", currency), moment(c["at"]), c["failure"])
                for c in payment["captures"]
            ],
        ),
        (
            "Refunds",
            ("refund", "status", "requested>", "refunded>", "at", "reason"),
            [(r["refund_id"], r["status"], *_pair(r, "refunded", currency), moment(r["at"]), r["reason"]) for r in payment["refunds"]],
        ),
    ):
        if rows:
            table(title, columns, rows)


@app.command(epilog="Example: oms payment retry web/W-1001")
def retry(context: typer.Context, *, order: Order, wait: Wait = True, timeout: Timeout = 30, as_json: AsJson = False) -> None:
    """Ask the provider once more, now, for what it refused to take. `oms payment show` shows the outcome."""
    _ask(context, "retry-capture", order, {}, Answer(wait=wait, timeout=timeout, as_json=as_json))


@app.command(epilog="Example: oms payment pay web/W-1001 --kind card --token tok_visa")
def pay(
    context: typer.Context,
    *,
    order: Order,
    kind: Annotated[str, typer.Option(metavar="KIND", help="The kind of means, such as card.", show_default=False)],
    token: Annotated[str, typer.Option(metavar="TOKEN", help="The provider's reference to it, never the card itself.", show_default=False)],
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Take what is outstanding, and what is still to ship, by another means of payment. Before anything ships it is `oms order pay`."""
    body = {"payment": {"kind": kind, "token": token}}
    _ask(context, "pay-outstanding", order, body, Answer(wait=wait, timeout=timeout, as_json=as_json))


@app.command("write-off", epilog="Example: oms payment write-off web/W-1001 --reason 'the customer cannot be reached'")
def write_off(
    context: typer.Context,
    *,
    order: Order,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it is given up.", show_default=False)],
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Give up all that is outstanding of an order. It is completed as soon as it is delivered."""
    _ask(context, "write-off-payment", order, {"reason": reason}, Answer(wait=wait, timeout=timeout, as_json=as_json))


def _ask(context: typer.Context, name: str, order: str, body: dict[str, Any], answer: Answer) -> None:
    operate_on_order(connections(context), name, order, body, answer, show="oms payment show")


def _amounts(payment: dict[str, Any]) -> list[str]:
    return [money(payment[name], payment["currency"]) for name in TOTALS]


def _times(authorization: dict[str, Any]) -> tuple[str, str]:
    return moment(authorization["at"]), moment(authorization["voided_at"])


def _pair(part: dict[str, Any], name: str, currency: str | None) -> tuple[str, str]:
    return money(part["requested"], currency), money(part[name], currency)
