"""`oms stuck`: whatever waits for somebody, by when, what happens otherwise, and the commands that resolve it."""

import shlex
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Annotated, Any

import typer
from oms_contracts.catalogue import topic_of
from oms_contracts.channel import WebhookReceived
from oms_contracts.orders import WAITING_STATUSES

from oms_cli import output
from oms_cli.arguments import AsJson, connections, named
from oms_cli.connections import Connections
from oms_cli.dead_letters import first_line
from oms_cli.output import moment, say

DETAILS = 100
"""Orders of a page with all that is known of them."""
HELD_UP = tuple(WAITING_STATUSES.values())
"""Statuses that an order has only while it waits for a person."""
GOING_ON = ("accepted", "reserved", "confirmed", "released")
"""Statuses with which an order may need a person beside."""
WEBHOOKS = topic_of(WebhookReceived)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Something that waits: `what` it is, `since` when, `waits_for` whom, `by` when, what happens `otherwise`, and what resolves it.

    Words in capitals in `commands` are for the person to fill in.
    """

    kind: str
    what: str
    since: str | None
    waits_for: str
    because: str
    by: str | None
    otherwise: str
    commands: tuple[str, ...]


def stuck(
    context: typer.Context,
    *,
    days: Annotated[
        int, typer.Option("--days", min=1, help="Returns are looked for among the completed orders placed in so many days.")
    ] = 60,
    as_json: AsJson = False,
) -> None:
    """Whatever waits for somebody: orders, returns, failed payments, goods, records that were set aside. The oldest first.

    Each with since when, for whom, by when, what happens otherwise, and the commands that resolve it. The exit code is 0 either way.
    """
    connected = connections(context)
    found = sorted(connected.run(_collect(connected, days)), key=lambda each: each.since or "")
    if as_json:
        output.document({"stuck": [asdict(each) for each in found]})
        return
    if not found:
        say("nothing waits for anybody")
        return
    for each in found:
        by = f" by {moment(each.by)}" if each.by else ""
        say(f"{each.what} waits for {each.waits_for}{by}, since {moment(each.since)}")
        if each.because:
            say(f"  because: {each.because}")
        say(f"  otherwise: {each.otherwise}")
        for command in each.commands:
            say(f"    {command}")


async def _collect(connected: Connections, days: int) -> list[Stuck]:
    found: list[Stuck] = []
    for status in HELD_UP:
        found += [of_order(order) async for order in _details(connected, status=status) if order["action"]]
    for status in GOING_ON:
        async with aclosing(connected.query.items("/orders", status=status)) as orders:
            ids = [order["order_id"] async for order in orders if order["action"]]
        found += [of_order(order) for order_id in ids if (order := await connected.query.order(order_id))["action"]]
    completed = _details(connected, status="completed", placed_from=(connected.now() - timedelta(days=days)).isoformat())
    async with aclosing(completed) as orders:
        async for order in orders:
            found += of_returns(order)
    for payment in await connected.query.collect("/payments", failed=True):
        found.append(of_payment(payment))
    for kind in ("stock", "transfer"):
        found += [of_goods(each) for each in await connected.query.collect("/stuck", kind=kind)]
    for letter in await connected.query.collect("/dead-letters", waiting=True):
        if letter["status"] == "set_aside":  # a parked one waits for one that is listed
            found.append(of_letter(letter))
    return found


async def _details(connected: Connections, **wanted: Any) -> AsyncGenerator[dict[str, Any]]:
    async with aclosing(connected.query.items("/orders/details", limit=DETAILS, **wanted)) as orders:
        async for order in orders:
            yield order


def of_order(order: dict[str, Any]) -> Stuck:
    """What an order waits for that has an action."""
    name = shlex.quote(named(order))
    cancel, show = f"oms order cancel {name} --reason TEXT", f"oms order show {name}"
    expires = "the order expires"
    match order["action"]:  # stock that arrives does not resume an order that waits for it: nothing but its end follows on resolve_stock
        case "amend_payment":
            waits_for, otherwise, commands = "its customer", expires, [f"oms order pay {name} --kind KIND --token TOKEN", cancel]
        case "resolve_stock":
            waits_for, otherwise = "an operator, to cancel it and place it anew under another reference once there is stock", expires
            commands = [cancel, *_receipts(order)]
        case "define_product":
            waits_for, otherwise, commands = "the catalogue", expires, [*_definitions(order), cancel]
        case "check_delivery":
            scans = [f"oms package scan {name} STATUS --package {shlex.quote(p['package_id'])}" for p in order["packages"]]
            waits_for, otherwise, commands = "an operator, to ask the carrier", "it is asked again", [show, *scans]
        case _:
            waits_for, otherwise = "an operator, to find out which service does not answer", "it is asked again"
            commands = [show, "oms lag", f"oms dead-letters list --key {order['order_id']}"]
    return Stuck(
        kind="order",
        what=f"order {named(order)}",
        since=order["action_since"] or order["since"],
        waits_for=waits_for,
        because=order["action_reason"] or "",
        by=order["deadline"],
        otherwise=otherwise,
        commands=tuple(commands),
    )


def of_returns(order: dict[str, Any]) -> Iterator[Stuck]:
    """The returns of an order that wait for a person."""
    for each in order["returns"]:
        if each["action"]:
            words = f"{shlex.quote(named(order))} {shlex.quote(each['return_id'])}"
            inspect = each["action"] == "inspect"
            yield Stuck(
                kind="return",
                what=f"return {each['return_id']} of order {named(order)}",
                since=each["at"],
                waits_for="the warehouse, to inspect what arrived" if inspect else "an operator, to find out why payment does not answer",
                because=f"{each['received']} received at {each['location']}" if inspect else "",
                by=each["deadline"],
                otherwise="it is asked again, and nothing is refunded",
                commands=(
                    f"oms return show {words}",
                    f"oms return inspect {words}" if inspect else f"oms payment show {shlex.quote(named(order))}",
                ),
            )


def of_payment(payment: dict[str, Any]) -> Stuck:
    """A payment with a failure."""
    return Stuck(
        kind="payment",
        what=f"the payment of order {payment['order_id']}",
        since=payment["at"],
        waits_for="a person, to settle it with the provider or the customer",
        because=payment["failure"] or "",
        by=None,
        otherwise="nothing happens by itself",
        commands=(f"oms payment show {payment['order_id']}", f"oms order show {payment['order_id']}"),
    )


def of_goods(each: dict[str, Any]) -> Stuck:
    """Stock at a location, or goods on their way to another, as the query API has it."""
    location, name = shlex.quote(each["location"]), shlex.quote(each["id"].removesuffix(f" at {each['location']}"))
    reason = "--reason TEXT"
    match each["state"]:
        case "resolve_shortfall":
            waits_for = "an operator, to find units, to count again, or to cancel orders"
            commands = [
                f"oms stock show {name}",
                f"oms stock count {location} {name}=QUANTITY",
                f"oms stock receive {location} {name}=QUANTITY",
                f"oms order cancel ORDER {reason}",
            ]
        case "resolve_quarantine":
            waits_for = "an operator, to release it or to write it off"
            commands = [f"oms stock {word} {location} {name}=QUANTITY {reason}" for word in ("release", "write-off")]
        case "in_transit":
            waits_for, commands = "the warehouse there, to receive the goods", [f"oms stock transfer receive {name} {location}"]
        case _:
            waits_for = "an operator, to find out where the goods are"
            commands = [f"oms stock transfer receive {name} {location}", f"oms stock transfer close {name} {location} {reason}"]
    return Stuck(
        kind=each["kind"],
        what=f"the transfer {each['id']}" if each["kind"] == "transfer" else f"the stock of {each['id']}",
        since=each["since"],
        waits_for=waits_for,
        because=each["reason"] or "",
        by=each["deadline"],
        otherwise=each["otherwise"],
        commands=tuple(commands),
    )


def of_letter(letter: dict[str, Any]) -> Stuck:
    """A record that a service set aside."""
    service, letter_id, key = letter["service"], shlex.quote(letter["letter_id"]), shlex.quote(letter["source_key"] or "")
    if letter["source_topic"] == WEBHOOKS:
        commands = (f"oms inbox show {letter_id}", f"oms inbox take {letter_id} --payload FILE", f"oms inbox discard {letter_id}")
    else:
        redrive = f"oms dead-letters redrive {service} {key}"
        commands = (
            f"oms dead-letters show {service} {letter_id}",
            redrive,
            f"{redrive} --letter-id {letter_id} --value FILE",
            f"{redrive} --letter-id {letter_id} --discard",
        )
    return Stuck(
        kind="dead_letter",
        what=f"the record {letter['letter_id']} of {service}",
        since=letter["at"],
        waits_for="an operator, to redrive or discard it",
        because=first_line(letter["reason"]),
        by=None,
        otherwise=f"it stays, and what comes under {letter['source_key'] or 'its key'} waits behind it",
        commands=commands,
    )


def _receipts(order: dict[str, Any]) -> Iterator[str]:
    """The goods that the order is short of, as receipts."""
    shortages: list[dict[str, Any]] = order["stock"]["shortages"] or [] if order["stock"] else []
    missing = [(short["sku"], short["requested"] - short["available"]) for short in shortages]
    goods = [f"{shlex.quote(sku)}={units}" for sku, units in missing if units > 0]
    location = shlex.quote(order["location"]) if order["location"] else "LOCATION"
    yield f"oms stock receive {location} {' '.join(goods) or 'SKU=QUANTITY'}"


def _definitions(order: dict[str, Any]) -> Iterator[str]:
    unknown: list[str] = order["stock"]["unknown_skus"] or [] if order["stock"] else []
    for sku in unknown or ["SKU"]:
        yield f"oms product define {shlex.quote(sku)} --title TITLE"
