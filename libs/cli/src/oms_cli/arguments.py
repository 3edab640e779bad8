"""Arguments and options that several commands share."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from oms_client import publisher
from oms_client.errors import Invalid, NotFound
from oms_client.queries import order_path
from oms_contracts.catalogue import ALL_SERVICES
from oms_contracts.values import order_id_of

from oms_cli.connections import Connections, lines_of
from oms_cli.errors import INVALID, NOT_DONE, CliError

Goods = Annotated[list[str], typer.Argument(metavar="SKU=QUANTITY", help="What, and how many units.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document for machines; amounts in minor units.")]
Wait = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Wait for the outcome; the exit code is 1 when it is another one than was asked for."),
]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait at most.")]
Limit = Annotated[int, typer.Option(min=1, help="The most rows.")]
Every = Annotated[bool, typer.Option("--all", help="All rows, however many there are.")]


def _order_id(text: str) -> str:
    channel, found, reference = text.partition("/")
    if found and channel and reference:
        return order_id_of(channel, reference)
    try:
        return str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither an order id (a UUID) nor CHANNEL/REFERENCE, such as web/W-1001") from None


def moment_of(text: str) -> datetime:
    """A time as a person types it; UTC unless it says otherwise. Raises BadParameter."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a date nor a date and time, such as 2026-01-31 or 2026-01-31T09:30:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def service_name(text: str) -> str:
    """A service's name, as it was typed. Raises BadParameter for another text."""
    if text in ALL_SERVICES:
        return text
    raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(repr, ALL_SERVICES))}")


Order = Annotated[
    str,
    typer.Argument(
        metavar="ORDER", parser=_order_id, help="The order's id, or CHANNEL/REFERENCE as the channel calls it.", show_default=False
    ),
]
Service = Annotated[str, typer.Argument(metavar="SERVICE", parser=service_name, help="The service's name.", show_default=False)]
OrderOption = Annotated[
    str | None,
    typer.Option("--order", metavar="ORDER", parser=_order_id, help="Only this order's: its id, or CHANNEL/REFERENCE.", show_default="all"),
]
Channel = Annotated[str | None, typer.Option(metavar="CHANNEL", help="Only of this channel's orders.", show_default="all")]
PlacedFrom = Annotated[
    datetime | None,
    typer.Option(
        "--from", metavar="TIME", parser=moment_of, help="Placed then or later; UTC unless it says otherwise.", show_default=False
    ),
]
PlacedBefore = Annotated[
    datetime | None, typer.Option("--to", metavar="TIME", parser=moment_of, help="Placed before that.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def connections(context: typer.Context) -> Connections:
    """The connections of this run."""
    return context.obj


def read_message(kind: str, value: bytes, place: str) -> Any:
    """The message of published type `kind` in `value`. Raises a CliError that names every field at fault."""
    try:
        return publisher.read_message(kind, value)
    except Invalid as error:
        raise CliError(INVALID, *lines_of(error, place)) from error


def order_of(connected: Connections, order_id: str) -> dict[str, Any]:
    """All that is known of an order. Raises a CliError that says how to find one."""
    return connected.run(_order_of(connected, order_id))


async def _order_of(connected: Connections, order_id: str) -> dict[str, Any]:
    try:
        return await connected.query.get(order_path(order_id))
    except NotFound as error:
        raise CliError(NOT_DONE, f"{error}; `oms order list` shows the orders that are known") from error


def named(order: Mapping[str, Any]) -> str:
    """An order, or what is of one, as people call it and as commands take it: CHANNEL/REFERENCE, or its id where that is not known."""
    return f"{order['channel']}/{order['reference']}" if order.get("reference") else order["order_id"]


def line_named(name: str, lines: Iterable[tuple[str, str]], known: str) -> tuple[str, str]:
    """The line that `name` means, by its id or else by its SKU. Raises a CliError where it means none, or several; `known` lists them."""
    every = list(lines)
    found = [line for line in every if line[0] == name] or [line for line in every if line[1] == name]
    if len(found) == 1:
        return found[0]
    raise CliError(INVALID, f"--line: {name!r} names no line, or several, of {known}")


def quantities(words: Sequence[str], place: str, *, signed: bool = False, none_allowed: bool = False) -> list[tuple[str, int]]:
    """What `NAME=QUANTITY` words say, in their order. Raises a CliError that names every word at fault."""
    found: list[tuple[str, int]] = []
    wrong: list[str] = []
    for word in words:
        name, _, number = word.rpartition("=")
        digits = number[1:] if signed and number[:1] in {"+", "-"} else number
        if name and digits.isascii() and digits.isdigit() and (none_allowed or int(digits)):
            found.append((name, int(number)))
        else:
            form = "MUG-BLUE=-2" if signed else "MUG-BLUE=2"
            number = "a whole number" if none_allowed else "a whole number that is not 0"
            wrong.append(f"{place}: {word!r} is not a name, an equals sign and {number}, such as {form}")
    if wrong:
        raise CliError(INVALID, *wrong)
    return found


def goods_lines(goods: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of goods that `SKU=QUANTITY` words say. Raises as `quantities`."""
    return [{"sku": sku, "quantity": units} for sku, units in quantities(goods, "SKU=QUANTITY")]
