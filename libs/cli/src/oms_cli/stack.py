"""`oms stack`: the local stack, up and down."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from oms_local.stack import Stack, StackError

from oms_cli import output
from oms_cli.arguments import AsJson, connections
from oms_cli.faults import NOT_DONE, OUT_OF_REACH, Fault

app = typer.Typer(help="The local stack: Kafka, PostgreSQL and the services as processes of this machine.")


@app.command(epilog="Example: oms stack up")
def up(
    context: typer.Context,
    *,
    services: Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", help="These services only.", show_default="all")] = None,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="Broker and database only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start what does not run yet, and wait until it is ready."""
    stack = connections(context).stack
    try:
        stack.up(services=() if servers_only else services or None, progress=output.note)
        if as_json:
            output.document(_standing(stack))
    except StackError as error:
        raise Fault(NOT_DONE, str(error)) from error


@app.command(epilog="Example: oms stack down")
def down(context: typer.Context, as_json: AsJson = False) -> None:
    """Stop everything in order; the data stays."""
    stack = connections(context).stack
    try:
        stack.down()
        if as_json:
            output.document(_standing(stack))
    except StackError as error:
        raise Fault(NOT_DONE, str(error)) from error


@app.command(epilog="Example: oms stack status --json")
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """What runs. The exit code is 0 when all of it is ready, 1 when some of it is not, 3 when the stack is down."""
    stack = connections(context).stack
    try:
        standing = _standing(stack)
    except StackError as error:
        raise Fault(OUT_OF_REACH, str(error)) from error
    parts = standing["parts"]
    if as_json:
        output.document(standing)
    elif parts:
        columns = ("part", "state", "port>", "process>", "restarts>")
        rows = [(part["name"], _state(part), part["port"], part["pid"], part["restarts"]) for part in parts]
        output.table(f"The stack in {stack.settings.data}", columns, rows)
    if not parts:
        raise Fault(OUT_OF_REACH, f"the stack in {stack.settings.data} is down; `oms stack up` starts it")
    unready = [part["name"] for part in parts if not part["ready"]]
    if unready:
        raise Fault(NOT_DONE, f"not ready: {', '.join(unready)}; logs are in {stack.settings.data / 'log'}")


def _standing(stack: Stack) -> dict[str, Any]:
    parts = [asdict(part) for part in stack.status()]
    return {"up": bool(parts), "data": str(stack.settings.data), "parts": parts}


def _state(part: dict[str, Any]) -> str:
    return "ready" if part["ready"] else part["state"]
