"""Arguments and options that several commands share."""

from typing import Annotated, Any
from uuid import UUID

import typer
from oms_contracts.message import UnreadableMessage, validate
from oms_contracts.values import order_id_of

from oms_cli.connections import Connections
from oms_cli.faults import unreadable

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document for machines; amounts in minor units.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the outcome; 1 is the exit code of one that was not wanted.")]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait at most.")]
Limit = Annotated[int, typer.Option(min=1, help="The most rows.")]
File = Annotated[typer.FileBinaryRead, typer.Argument(metavar="FILE", help="A JSON file; - for standard input.", show_default=False)]


def _order_id(text: str) -> str:
    channel, found, reference = text.partition("/")
    if found and channel and reference:
        return order_id_of(channel, reference)
    try:
        return str(UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither an order id (a UUID) nor CHANNEL/REFERENCE, such as web/W-1001") from None


Order = Annotated[
    str,
    typer.Argument(
        metavar="ORDER", parser=_order_id, help="The order's id, or CHANNEL/REFERENCE as the channel calls it.", show_default=False
    ),
]


def connections(context: typer.Context) -> Connections:
    """What the command line was built with."""
    return context.obj


def read_message(kind: str, value: bytes, place: str) -> Any:
    """The message of published type `kind` in `value`. Raises a Fault that names every field at fault."""
    try:
        return validate(kind, value)
    except UnreadableMessage as error:
        raise unreadable(place, kind, error) from error
