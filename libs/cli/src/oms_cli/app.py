"""Where the command line is built, and where errors become exit codes."""

import logging
import os
import sys
from datetime import UTC, datetime
from getpass import getuser
from importlib.metadata import version
from typing import Annotated, Any, NoReturn
from uuid import uuid4

import typer
from oms_contracts.operations import MAX_REASON_BYTES
from typer.core import TyperGroup

from oms_cli import (
    audit_trail,
    checkpoints,
    customers,
    dead_letters,
    events,
    exports,
    fulfillments,
    imports,
    inbox,
    keys,
    lag,
    map_orders,
    orders,
    output,
    parties,
    payments,
    products,
    read_models,
    returns,
    search,
    stock,
    stores,
    stuck,
    transfers,
    users,
)
from oms_cli.connections import USER, Connections
from oms_cli.errors import CliError
from oms_cli.plugins import command_groups

EPILOG = "\n\n".join(
    (
        "Example: oms order show web/W-1001",
        "Exit codes: 0 fine; 1 not found, refused, or not the outcome that was asked for; 2 invalid usage or input;",
        "3 the stack or a server is out of reach; 130 Ctrl-C.",
    )
)


class Oms(TyperGroup):
    """The whole command line. An expected error is a line on standard error and an exit code, wherever it was raised."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        try:
            code: object = super().main(*args, **options | {"standalone_mode": False})
        except typer.TyperException as error:
            usage: typer.Context | None = getattr(error, "ctx", None)
            lines = error.lines if isinstance(error, CliError) else (" ".join(error.format_message().split()),)
            see = "" if usage is None else f"see {usage.command_path} --help"
            for line in lines:
                output.note(f"error: {_with_hint(line.rstrip('.'), see)}")
            sys.exit(error.exit_code)
        sys.exit(code if isinstance(code, int) else 0)


def _with_hint(line: str, hint: str) -> str:
    """An error and what to do next."""
    if not hint:
        return line
    return f"{line} {hint[0].upper()}{hint[1:]}" if line.endswith("?") else f"{line}; {hint}"


app = typer.Typer(
    name="oms",
    cls=Oms,
    help=(
        "Orderstream from the command line: place and find orders, receive and ship goods, take returns, see money, and what waits for "
        "whom. It works from anywhere on what --url or the other settings name. `oms stuck` is a good place to begin."
    ),
    epilog=EPILOG,
    pretty_exceptions_enable=False,
)
for name, group in command_groups():
    app.add_typer(group, name=name)
app.add_typer(orders.app, name="order")
orders.app.command("import", epilog="Example: oms order import orders.csv --channel web")(imports.import_orders)
orders.app.command("export", epilog="Example: oms order export --format csv --from 2026-01-01 -o orders.csv")(exports.export)
stock.app.add_typer(transfers.app, name="transfer")
app.add_typer(stock.app, name="stock")
app.add_typer(fulfillments.app, name="fulfillment")
app.add_typer(fulfillments.packages, name="package")
app.add_typer(returns.app, name="return")
app.add_typer(payments.app, name="payment")
app.add_typer(products.app, name="product")
app.add_typer(customers.app, name="customer")
app.command(epilog="Example: oms search W-1001")(search.search)
app.command(epilog="Example: oms stuck --waits-for warehouse --overdue")(stuck.stuck)
app.add_typer(events.app, name="events")
app.command(epilog="Example: oms lag --partitions")(lag.lag)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(inbox.app, name="inbox")
app.add_typer(stores.app, name="store")
app.add_typer(users.app, name="user")
app.add_typer(keys.app, name="key")
app.add_typer(audit_trail.app, name="audit-trail")
for _kind, _group in parties.GROUPS.items():
    app.add_typer(_group, name=_kind)
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(read_models.app, name="read-models")
app.command("map", epilog="Example: oms map payloads --json")(map_orders.map_orders)


def _actor() -> str:
    """The account that this runs under; a container may have none."""
    try:
        return f"{USER}:{getuser()}"
    except (KeyError, OSError):
        return USER


def _reason(text: str) -> str:
    if len(text.encode()) > MAX_REASON_BYTES or not text.isprintable():
        raise typer.BadParameter(f"must be one line of at most {MAX_REASON_BYTES} bytes")
    return text


def _show_version(wanted: bool) -> None:
    if wanted:
        output.raw(f"oms {version('orderstream-cli')}\n")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="OMS_URL",
            help="Where the gateway is; operations and queries go there, with the key in OMS_KEY.",
            show_default="none: the broker and the query API",
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="OMS_USER",
            help="Sign in at the gateway as this user, instead of the key; the password is asked for, or a line of standard input.",
            show_default="none",
        ),
    ] = None,
    query_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", envvar="OMS_QUERY_URL", help="Where projection's query API is.", show_default="that of the local stack"
        ),
    ] = None,
    service_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="OMS_SERVICE_URL",
            help="Where services have health and metrics, with {service} for the name of one: http://{service}:8001",
            show_default="those of the local stack",
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why you do it; it is kept with what happens.", show_default=False, callback=_reason)
    ] = "",
    version_wanted: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Set what the commands reach, unless a test has."""
    if context.obj is None:
        context.obj = Connections(
            url=url or None,
            key=os.environ.get("OMS_KEY"),  # no option: others would see it in the list of processes
            user=user or None,
            query_url=query_url,
            query_token=os.environ.get("OMS_QUERY_TOKEN"),  # no option: whoever lists processes sees arguments
            service_url=service_url,
            clock=lambda: datetime.now(UTC),
            new_id=lambda: str(uuid4()),
            actor=_actor(),
            reason=reason,
        )
        context.call_on_close(context.obj.close)


def main() -> None:
    """`oms`."""
    logging.getLogger().addHandler(logging.NullHandler())  # what a client library logs is in the error that follows from it
    app()
