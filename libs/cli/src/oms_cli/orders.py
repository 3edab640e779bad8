"""`oms order`: place, find, show, cancel and pay orders."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
import typer
from oms_adapters.rows import rows_of
from oms_client.errors import NotFound
from oms_client.queries import QueryClient, event_of, timeline_path
from oms_contracts.channel import OrderPlaced
from oms_contracts.content_hash import content_hash_of
from oms_contracts.message import encode, key_of, versions_of
from oms_contracts.orders import (
    ENDED_STATUSES,
    WAITING_STATUSES,
    OrderAccepted,
    OrderCancellationRejected,
    OrderCommandRefused,
    OrderRejected,
)
from oms_contracts.samples import example_order
from oms_contracts.superseded import type_of_placed

from oms_cli import output
from oms_cli.arguments import (
    AsJson,
    Limit,
    Order,
    PlacedBefore,
    PlacedFrom,
    Timeout,
    Wait,
    connections,
    moment_of,
    named,
    order_of,
    read_message,
)
from oms_cli.connections import Connections
from oms_cli.errors import INVALID, NOT_DONE, CliError
from oms_cli.operate import Answer, operate_on_order
from oms_cli.output import csv_text, moment, money, note, say, table
from oms_cli.typed_orders import TypedOrder

app = typer.Typer(help="Place, find, show, cancel and pay orders.")

CONFIRMED = frozenset({"confirmed", "released", "completed"})
STOPPED = ENDED_STATUSES - {"completed"} | {*WAITING_STATUSES.values()}
"""Ended without confirmation, or waiting for a person to act."""


@app.command(epilog="Example: oms order example > order.json")
def example(
    as_csv: Annotated[
        bool, typer.Option("--csv", help="As a file for `oms order import`, with the columns that the shipped mapping reads.")
    ] = False,
) -> None:
    """Print a complete order, to be placed with `oms order place`. It is the same each time, so it counts once."""
    order = example_order()
    if as_csv:
        rows = rows_of(order)
        output.raw(csv_text([list(rows[0]), *(list(row.values()) for row in rows)]))
    else:
        output.document(msgspec.json.decode(encode(order)))
    goods = " ".join(f"{line.sku}={line.quantity}" for line in order.lines)
    note(f"its goods must be in stock: `oms stock receive {order.location} {goods}`")


@app.command(epilog="Example: oms order place order.json")
def place(
    context: typer.Context,
    *,
    file: Annotated[
        typer.FileBinaryRead | None,
        typer.Argument(metavar="FILE", help="A JSON file, as `oms order example` prints one; - for standard input.", show_default=False),
    ] = None,
    channel: Annotated[str | None, typer.Option(help="Where it was sold.", show_default=False)] = None,
    reference: Annotated[str | None, typer.Option(help="What the channel calls it.", show_default=False)] = None,
    lines: Annotated[
        list[str] | None,
        typer.Option("--line", metavar="SKU=QUANTITY@PRICE", help="What was sold, each for PRICE; may be repeated.", show_default=False),
    ] = None,
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "EUR",
    shipping: Annotated[str | None, typer.Option(metavar="PRICE", help="What shipping costs.", show_default="nothing")] = None,
    ship_to: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Name; street; postal code; city; country code.", show_default="it is collected"),
    ] = None,
    location: Annotated[str | None, typer.Option(help="Where it should be fulfilled, or is collected.", show_default="any")] = None,
    customer: Annotated[str, typer.Option(metavar="ID", help="What the channel calls the customer.")] = "guest",
    email: Annotated[str | None, typer.Option(metavar="ADDRESS", help="The customer's.", show_default=False)] = None,
    pay: Annotated[
        str | None,
        typer.Option(metavar="KIND[:TOKEN]", help="card:tok_visa is collected through the provider; invoice is due later, elsewhere."),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Place an order as a channel does: from a file, or from options. The same order again is the same order, and counts once.

    By options: `oms order place --channel web --reference W-7 --line MUG-BLUE=2@19.99 --ship-to "Ada; Hauptstr. 5; 10115; Berlin; DE"
    --pay card:tok_visa`. Amounts are decimals and contain their taxes; without --pay it is due by invoice.

    The exit code is 0 once it is confirmed, and 1 when it ends, or waits for a person to act, before that.
    """
    connected = connections(context)
    typed = TypedOrder(channel, reference, tuple(lines or ()), currency, shipping, ship_to, location, customer, email, pay)
    if file is not None:
        if typed != TypedOrder(currency=currency, customer=customer):
            raise CliError(INVALID, "FILE: has all of the order; --channel, --line and the other options are for an order without a file")
        value = file.read()
        placed: OrderPlaced = read_message(type_of_placed(value), value, "FILE")
    else:
        placed = typed.order(connected.now())
    connected.require(queries=wait)
    asked = connected.ask("place-order", {}, msgspec.json.decode(encode(placed)))
    order_id = asked.key
    answer: dict[str, Any] = {"order_id": order_id, "event_id": asked.event_id, "status": None, "reasons": []}
    if wait:
        settled = connected.wait(lambda query: _settled(query, placed), timeout)
        if settled is not None:
            answer |= {"status": settled["status"], "reasons": _reasons(connected, settled, placed)}
    if as_json:
        output.document(answer)
    if not wait:
        if not as_json:
            say(f"order {order_id} is placed; `oms order show {order_id}` shows its progress")
        return
    if answer["status"] is None:
        raise CliError(NOT_DONE, f"order {order_id} is not confirmed after {timeout:g} s; `oms order show {order_id}` shows its progress")
    if answer["reasons"] or answer["status"] not in CONFIRMED:
        raise CliError(NOT_DONE, *(f"order {order_id} is {answer['status']}: {reason}" for reason in answer["reasons"]))
    if not as_json:
        say(f"order {order_id} is {answer['status']}")


@app.command("list", epilog="Example: oms order list --status awaiting_stock")
def list_orders(
    context: typer.Context,
    *,
    status: Annotated[str | None, typer.Option(help="Only those of this status.", show_default="all")] = None,
    channel: Annotated[str | None, typer.Option(help="Only those of this channel.", show_default="all")] = None,
    reference: Annotated[str | None, typer.Option(help="Only what a channel calls so.", show_default="all")] = None,
    customer: Annotated[
        str | None, typer.Option(metavar="KEY", help="Only this customer's; `oms customer find` shows the key.", show_default="all")
    ] = None,
    placed_from: PlacedFrom = None,
    placed_before: PlacedBefore = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Orders, newest first."""
    rows = connections(context).collect(
        "/orders",
        max_items=limit + 1,
        status=status,
        channel=channel,
        reference=reference,
        customer=customer,
        placed_from=None if placed_from is None else placed_from.isoformat(),
        placed_before=None if placed_before is None else placed_before.isoformat(),
    )
    orders, more = rows[:limit], len(rows) > limit
    if as_json:
        output.document({"orders": orders, "more": more})
        return
    if not orders:
        say("there is no such order")
        return
    columns = ("placed", "order", "customer", "status", "since", "total>", "units>", "payment", "waits for")
    table(
        "Orders, newest first",
        columns,
        [
            (
                moment(order["placed_at"]),
                named(order),
                order["customer_name"] or order["customer_id"],
                order["status"],
                moment(order["since"]),
                money(order["total"], order["currency"]),
                order["units"],
                order["payment"],
                order["action"] and f"{order['action']} until {moment(order['deadline'])}",
            )
            for order in orders
        ],
    )
    if more:
        note("there is more; --limit shows it")


@app.command(epilog="Example: oms order show web/W-1001")
def show(context: typer.Context, order: Order, as_json: AsJson = False) -> None:
    """All that is known of one order: state, lines, payment, packages, returns, and its timeline."""
    connected = connections(context)
    found = order_of(connected, order)
    timeline = connected.collect(timeline_path(order))
    if as_json:
        output.document(found | {"timeline": timeline})
        return
    for text in _headlines(found):
        say(text)
    _show_lines(found)
    _show_money(found)
    _show_goods(found)
    table(
        "Timeline",
        ("time", "event", "what happened", "asked for"),
        [
            (moment(event["time"], precise=True), output.short(event["type"]), event["summary"], output.asked_by(event))
            for event in timeline
        ],
    )


@app.command(epilog="Example: oms order cancel web/W-1001 --reason 'ordered twice'")
def cancel(
    context: typer.Context,
    *,
    order: Order,
    reason: Annotated[str, typer.Option(help="Why; it is in the published events.", show_default=False)],
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Ask capture to cancel an order. One that is released may still be stopped; fulfillment decides whether it is too late."""
    connected = connections(context)
    found = order_of(connected, order)
    answer: dict[str, Any] = {"order_id": order, "event_id": None, "status": found["status"], "reason": None}
    if found["status"] in ENDED_STATUSES - {"canceled"}:
        answer["reason"] = f"the order is {found['status']}, and has ended"
    elif found["status"] != "canceled":
        event_id = answer["event_id"] = connected.ask("cancel-order", {"order_id": order}, {"reason": reason}).event_id
        if wait:
            settled = connected.wait(lambda query: _canceled(query, order, event_id), timeout)
            answer |= settled or {"reason": f"it is not known after {timeout:g} s; `oms order show {order}` shows its progress"}
    if as_json:
        output.document(answer)
    if answer["reason"] is not None:
        raise CliError(NOT_DONE, f"order {order} is not canceled: {answer['reason']}")
    if not as_json:
        canceled = answer["status"] == "canceled"
        say(f"order {order} is canceled" if canceled else f"asked to cancel {order}; `oms order show {order}` shows its progress")


@app.command(epilog="Example: oms order pay web/W-1001 --kind card --token tok_visa_4242")
def pay(
    context: typer.Context,
    *,
    order: Order,
    kind: Annotated[str, typer.Option(help="The means of payment, such as card or paypal.", show_default=False)],
    token: Annotated[str, typer.Option(help="The provider's reference to it, never the card itself.", show_default=False)],
    attempt: Annotated[int | None, typer.Option(min=1, help="The attempt that was declined.", show_default="whichever waits")] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Pay for an order by other means, after its payment was declined. Its stock is reserved anew, and then it is paid."""
    body = {"payment": {"kind": kind, "token": token}, "attempt": attempt}
    operate_on_order(connections(context), "amend-payment", order, body, Answer(wait=wait, timeout=timeout, as_json=as_json))


@app.command(epilog="Example: oms order wait web/W-1001 --until 2026-12-24")
def wait(
    context: typer.Context,
    *,
    order: Order,
    until: Annotated[
        datetime,
        typer.Option(
            metavar="TIME", parser=moment_of, help="When it expires unless stock came; UTC unless it says otherwise.", show_default=False
        ),
    ],
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Let an order wait longer for stock. It goes on by itself once there is enough, and expires otherwise."""
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    operate_on_order(connections(context), "extend-wait", order, {"until": until.isoformat()}, answer)


async def _settled(query: QueryClient, placed: OrderPlaced) -> dict[str, Any] | None:
    """The order once it is confirmed, or will not be unless a person acts.

    A rejection of other content does not settle it: `placed` is then a corrected order, which is decided on anew.
    """
    order_id = key_of(placed)
    try:
        found = await query.order(order_id)
    except NotFound:
        return None
    if found["status"] != "rejected":
        return found if found["status"] in CONFIRMED | STOPPED else None
    rejected = _events(await query.timeline(order_id), OrderRejected)
    return found if any(event.content_hash == content_hash_of(placed) for event in rejected) else None


def _reasons(connected: Connections, order: dict[str, Any], placed: OrderPlaced) -> list[str]:
    """Why this is not the outcome that was asked for; empty when it is."""
    for event in _events(connected.collect(timeline_path(order["order_id"])), OrderAccepted, OrderRejected):
        is_placed = event.content_hash == content_hash_of(placed)
        if isinstance(event, OrderRejected) and is_placed:
            return [*event.reasons, "place a corrected one under the same channel_reference"]
        if isinstance(event, OrderAccepted) and not is_placed:
            return ["channel_reference: an order with other content was placed under it before; that one counts, and this one does not"]
    if order["status"] in CONFIRMED:
        return []
    waits = f"waits for {order['action']} until {moment(order['deadline'])}: {order['action_reason']}" if order["action"] else None
    return [waits or order["ended_because"] or "no reason is known"]


async def _canceled(query: QueryClient, order_id: str, event_id: str) -> dict[str, Any] | None:
    """How the cancellation ended, None while that is open. An order that another request canceled is canceled, too."""
    order = await query.order(order_id)
    if order["status"] == "canceled":
        return {"status": "canceled"}
    entries = await query.timeline(order_id)
    for event in _events(entries, OrderCancellationRejected):
        return {"status": order["status"], "reason": event.reason}
    for event in _events((entry for entry in entries if entry["causation"] == event_id), OrderCommandRefused):
        return {"status": order["status"], "reason": event.reason}
    return None


def _events(entries: Iterable[dict[str, Any]], *classes: type[Any]) -> Iterator[Any]:
    """Those events of a timeline that are of `classes`."""
    wanted = {kind.name for cls in classes for kind in versions_of(cls)}
    return (event_of(entry) for entry in entries if entry["type"] in wanted)


def _headlines(order: dict[str, Any]) -> Iterator[str]:
    yield f"Order {order['order_id']}, {order['channel']}/{order['reference']}"
    yield f"{order['status']} since {moment(order['since'])}" + (f": {order['ended_because']}" if order["ended_because"] else "")
    if order["action"]:
        yield f"waits for {order['action']} until {moment(order['deadline'])}: {order['action_reason']}"
    if order["cancellation"]:
        yield f"cancellation is asked for: {order['cancellation']}"
    if order["conflicts"]:
        yield f"other content was placed under the same reference ({order['conflicts']} times); the accepted content counts"
    by = " ".join(filter(None, (order["customer_name"], f"({order['customer_id']})" if order["customer_id"] else "")))
    unknown = "a customer who was erased" if order.get("customer_erased") else "an unknown customer"
    yield f"placed {moment(order['placed_at'])} by {by or unknown}" + (f" as {order['number']}" if order["number"] else "")
    if order["currency"]:
        yield ", ".join(_amounts(order))
    for title, name in (("to", "ship_to"), ("bill to", "bill_to")):
        if order[name]:
            yield f"{title} {_address(order[name])}"
    if order["pickup"]:
        pickup = order["pickup"]
        by = pickup["contact"]["name"] if pickup["contact"] else "the customer"
        yield f"to be collected at {pickup['location'] or 'any location'} by {by}"
    if order["gift"]:
        yield f"a present{': ' + order['gift']['message'] if order['gift']['message'] else ''}"
    for title, name in (("note", "note"), ("purchase order", "purchase_order")):
        if order[name]:
            yield f"{title}: {order[name]}"


def _amounts(order: dict[str, Any]) -> Iterator[str]:
    """The total and what is in it, and who takes which part of it."""
    currency = order["currency"]
    yield f"total {money(order['total'], currency)}"
    for name in ("shipping", "fees", "discount"):
        if order[name]:
            yield f"{name} {money(order[name], currency)}"
    if order["taxes"]:
        yield f"taxes {money(order['taxes'], currency)} {'included' if order['taxes_included'] else 'on top'}"
    for payment in order["payments"] or ():
        yield f"{payment['kind']} {money(payment['amount'], currency)} ({payment['status']})"


def _address(address: dict[str, Any]) -> str:
    place = f"{address['postal_code']} {address['city']}".strip()
    parts = (address["name"], address["company"], address["street"], address["line2"], place, address["region"], address["country"])
    return ", ".join(part for part in (*parts, address["phone"]) if part)


def _show_lines(order: dict[str, Any]) -> None:
    currency = order["currency"]
    columns = ("line", "SKU", "title", "quantity>", "unit price>", "discount>", "tax>", "total>", "shipped>", "delivered>", "returned>")
    rows = [
        (
            line["line_id"],
            line["sku"],
            line["title"],
            line["quantity"],
            money(line["unit_price"], currency),
            money(line["discount"], currency),
            money(line["taxes"], currency),
            money(line["total"], currency),
            line["shipped"],
            line["delivered"],
            line["returned"],
        )
        for line in order["lines"]
    ]
    if rows:
        table("Lines", columns, rows)


def _show_money(order: dict[str, Any]) -> None:
    if order["payment"] is None:
        return
    totals = order["payment"]["totals"]
    amounts = [money(totals[name], totals["currency"]) for name in ("authorized", "captured", "refunded", "voided")]
    columns = ("status", "since", "authorized>", "captured>", "refunded>", "voided>", "failure")
    table("Payment", columns, [(totals["status"], moment(totals["at"]), *amounts, totals["failure"])])


def _show_goods(order: dict[str, Any]) -> None:
    if order["stock"] is not None:
        stock = order["stock"]
        columns = ("status", "since", "reserved>", "allocated>", "shipped>", "held until", "short of")
        shortages: list[dict[str, Any]] = stock["shortages"] or []
        short_of = ", ".join(f"{s['sku']}: {s['requested']} wanted, {s['available']} available" for s in shortages)
        units = (stock["reserved"], stock["allocated"], stock["shipped"])
        until_when = moment(stock["expires_at"]) if stock["reserved"] else None
        table("Stock", columns, [(stock["status"], moment(stock["at"]), *units, until_when, short_of)])
    if order["fulfillments"]:
        rows = [(f["fulfillment_id"], f["location"], f["status"], moment(f["at"])) for f in order["fulfillments"]]
        table("Fulfillments", ("fulfillment", "location", "status", "since"), rows)
    if order["packages"]:
        columns = ("package", "carrier", "tracking number", "status", "since", "trouble")
        rows = [
            (p["package_id"], p["carrier"], p["tracking_number"], p["status"], moment(p["status_at"]), p["trouble"])
            for p in order["packages"]
        ]
        table("Packages", columns, rows)
    if order["returns"]:
        columns = ("return", "status", "since", "received>", "refunded>", "outcome", "waits for")
        rows = [
            (
                r["return_id"],
                r["status"],
                moment(r["at"]),
                r["received"],
                money(r["refunded"], order["currency"]),
                r["outcome"],
                r["action"],
            )
            for r in order["returns"]
        ]
        table("Returns", columns, rows)
