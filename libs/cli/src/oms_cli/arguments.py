"""Arguments and options that several commands share."""

from typing import Annotated, Any
from uuid import UUID

import typer
from oms_client import publisher
from oms_client.errors import Invalid
from oms_contracts.catalogue import ALL_SERVICES
from oms_contracts.values import order_id_of

from oms_cli.connections import Connections, lines_of
from oms_cli.errors import INVALID, CliError

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document for machines; amounts in minor units.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the outcome; the exit code is 1 when it is another one than was asked for.")]
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
