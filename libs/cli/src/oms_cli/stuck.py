"""`oms stuck`: whatever waits for somebody, by when, what happens otherwise, and the commands that go on with it."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import typer

from oms_cli import output
from oms_cli.arguments import AsJson, Channel, Every, Limit, named
from oms_cli.dead_letters import first_line
from oms_cli.lists import Sized, collect, note_more
from oms_cli.output import moment, say

SHOW = {
    "order": "order show {order}",
    "return": "return show {order} {id}",
    "fulfillment": "fulfillment show {order} {location}",
    "payment": "payment show {order}",
    "stock": "stock show {goods}",
    "transfer": "stock transfer list",
    "dead-letter": "dead-letters show {service} {letter}",
    "webhook": "inbox show {letter}",
}
"""By kind, the command that shows it."""
COMMANDS = {
    "amend-payment": ("order pay {order} --kind KIND --token TOKEN",),
    "retry-capture": ("payment retry {order}",),
    "pay-outstanding": ("payment pay {order} --kind KIND --token TOKEN",),
    "write-off-payment": ("payment write-off {order} --reason TEXT",),
    "cancel-order": ("order cancel {order} --reason TEXT",),
    "extend-wait": ("order wait {order} --until TIME",),
    "define-product": ("product define SKU --title TITLE",),
    "record-scan": ("package scan {order} STATUS",),
    "ship-fulfillment": ("fulfillment ship {order} {location} --carrier NAME --tracking NUMBER",),
    "inspect-return": ("return inspect {order} {id}",),
    "accept-fulfillment": ("fulfillment accept {order} {location}",),
    "pick-items": ("fulfillment pick {order} {location}",),
    "pack-package": ("fulfillment pack {order} {location}",),
    "receive-stock": ("stock receive {location} {goods}=QUANTITY",),
    "count-stock": ("stock count {location} {goods}=QUANTITY",),
    "adjust-stock": ("stock adjust {location} {goods}=QUANTITY --reason TEXT",),
    "receive-transfer": ("stock transfer receive {transfer} {location}",),
    "close-transfer": ("stock transfer close {transfer} {location} --reason TEXT",),
    "release-quarantine": ("stock release {location} {goods}=QUANTITY --reason TEXT",),
    "write-off-quarantine": ("stock write-off {location} {goods}=QUANTITY --reason TEXT",),
    "redrive-dead-letters": (
        "dead-letters redrive {service} {key}",
        "dead-letters redrive {service} {key} --letter-id {letter} --value FILE",
        "dead-letters redrive {service} {key} --letter-id {letter} --discard",
    ),
}
"""By operation, the commands that ask for it. Words in capitals are for the person to fill in."""
INBOX = ("inbox take {letter} --payload FILE", "inbox discard {letter}")
"""What goes on with a webhook."""


def stuck(
    context: typer.Context,
    *,
    kind: Annotated[
        Literal["order", "return", "fulfillment", "payment", "stock", "transfer", "dead-letter", "webhook"] | None,
        typer.Option(help="Only what is this.", show_default="all"),
    ] = None,
    waits_for: Annotated[
        Literal["customer", "shop", "warehouse", "carrier", "operator"] | None,
        typer.Option(help="Only what waits for them.", show_default="all"),
    ] = None,
    channel: Channel = None,
    overdue: Annotated[
        bool | None, typer.Option("--overdue/--not-overdue", help="Only that whose deadline has passed, or has not.", show_default="both")
    ] = None,
    older_than: Annotated[
        int,
        typer.Option(
            min=0, max=31_536_000, metavar="SECONDS", help="A fulfillment or a transfer counts once nothing has happened to it for so long."
        ),
    ] = 86_400,
    limit: Limit = 100,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Whatever waits for somebody: orders, returns, fulfillments, failed payments, goods, records that were set aside. The oldest first.

    Each with since when, for whom, by when, what happens otherwise, and the commands that go on with it. The exit code is 0 either way.
    """
    items, more = collect(
        context,
        "/stuck",
        Sized(limit=limit, every=every, as_json=as_json),
        kind=kind,
        waits_for=waits_for,
        channel=channel,
        overdue=overdue,
        older_than_seconds=older_than,
    )
    if as_json:
        output.document({"stuck": [item | {"commands": [*commands_of(item)]} for item in items], "more": more})
        return
    if not items:
        say("nothing waits for anybody")
        return
    for item in items:
        by = f" by {moment(item['deadline'])}{', which has passed' if item['overdue'] else ''}" if item["deadline"] else ""
        say(f"{_called(item)} waits for the {item['waits_for']}{by}, since {moment(item['since'])} ({item['state']})")
        if item["reason"]:
            say(f"  because: {first_line(item['reason'])}")
        say(f"  otherwise: {item['otherwise']}")
        for command in commands_of(item):
            say(f"    {command}")
    note_more(more)


def commands_of(item: Mapping[str, Any]) -> Iterator[str]:
    """The commands that show what waits, and that go on with it, typed out."""
    service, _, letter = item["id"].partition("/")
    words = {
        "order": named(item) if item["order_id"] else "ORDER",
        "id": item["id"],
        "location": item["location"] or "LOCATION",
        "service": service,
        "letter": letter,
        "goods": item["id"].removesuffix(f" at {item['location']}") if item["kind"] == "stock" else "SKU",
        "transfer": item["id"] if item["kind"] == "transfer" else "TRANSFER",
        "key": item["key"] or "KEY",
    }
    quoted = {name: shlex.quote(word) for name, word in words.items()}
    # A kind or an operation of a newer server has no command here.
    show = [SHOW[item["kind"]]] if item["kind"] in SHOW else []
    going_on = INBOX if item["kind"] == "webhook" else [each for name in item["operations"] for each in COMMANDS.get(name, ())]
    for command in (*show, *going_on):
        yield f"oms {command.format(**quoted)}"


def _called(item: Mapping[str, Any]) -> str:
    order = named(item) if item["order_id"] else ""
    match item["kind"]:
        case "order":
            return f"order {order}"
        case "payment":
            return f"the payment of order {order}"
        case "fulfillment":
            return f"the fulfillment of order {order} at {item['location']}"
        case "return":
            return f"return {item['id']} of order {order}"
        case "stock":
            return f"the stock of {item['id']}"
        case "transfer":
            return f"the transfer {item['id']}"
        case "webhook":
            return f"the webhook {item['id'].partition('/')[2]}"
        case _:
            service, _, letter = item["id"].partition("/")
            return f"the record {letter} of {service}"
