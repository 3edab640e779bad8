"""Where the command line is built, and where its faults become exit codes."""

import logging
import sys
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn
from uuid import uuid4

import typer
from typer.core import TyperGroup

from oms_cli import dead_letters, events, lag, orders, output, stack, stock
from oms_cli.connections import Connections
from oms_cli.faults import Fault

EPILOG = "\n\n".join(
    (
        "Example: oms order show web/W-1001",
        "Exit codes: 0 fine; 1 not found, refused, or not the outcome that was asked for; 2 invalid usage or input;",
        "3 the stack or a server is out of reach; 130 Ctrl-C.",
    )
)


class Oms(TyperGroup):
    """The whole command line. An expected fault is a line on standard error and an exit code, whoever raised it."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        try:
            code: object = super().main(*args, **options | {"standalone_mode": False})
        except typer.TyperException as error:
            usage: typer.Context | None = getattr(error, "ctx", None)
            lines = error.lines if isinstance(error, Fault) else (" ".join(error.format_message().split()),)
            hint = f"; see {usage.command_path} --help" if usage is not None else ""
            for line in lines:
                output.note(f"error: {line.rstrip('.')}{hint}")
            sys.exit(error.exit_code)
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(
    name="oms",
    cls=Oms,
    help="Orderstream's operator: the stack, orders, stock, events, lag and dead letters.",
    epilog=EPILOG,
    pretty_exceptions_enable=False,
)
app.add_typer(stack.app, name="stack")
app.add_typer(orders.app, name="order")
app.add_typer(stock.app, name="stock")
app.add_typer(events.app, name="events")
app.command(epilog="Example: oms lag --partitions")(lag.lag)
app.add_typer(dead_letters.app, name="dead-letters")


@app.callback()
def root(
    context: typer.Context,
    query_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", envvar="OMS_QUERY_URL", help="Where projection's query API is.", show_default="that of the local stack"
        ),
    ] = None,
) -> None:
    """Say what the commands reach, unless a test has."""
    if context.obj is None:
        context.obj = Connections(query_url=query_url, clock=lambda: datetime.now(UTC), new_id=lambda: str(uuid4()))
        context.call_on_close(context.obj.close)


def main() -> None:
    """`oms`."""
    logging.getLogger().addHandler(logging.NullHandler())  # what clients complain of is told by the fault that it leads to
    app()
