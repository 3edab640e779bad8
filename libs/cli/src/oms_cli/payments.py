"""`oms payment`: the money of orders."""

from typing import Annotated, Any

import typer

from oms_cli import output
from oms_cli.arguments import AsJson, Limit, Order, connections, named, order_of
from oms_cli.errors import NOT_DONE, CliError
from oms_cli.output import moment, money, note, say, table

app = typer.Typer(help="The money of orders: list, show. `oms order pay` pays by other means.")

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


def _amounts(payment: dict[str, Any]) -> list[str]:
    return [money(payment[name], payment["currency"]) for name in TOTALS]


def _times(authorization: dict[str, Any]) -> tuple[str, str]:
    return moment(authorization["at"]), moment(authorization["voided_at"])


def _pair(part: dict[str, Any], name: str, currency: str | None) -> tuple[str, str]:
    return money(part["requested"], currency), money(part[name], currency)
