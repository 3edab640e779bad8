"""What the local stack adds to the command line `oms`: the group `oms stack`, and where the stack's servers are."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer
from oms_cli import output
from oms_cli.arguments import AsJson
from oms_cli.errors import INVALID, NOT_DONE, OUT_OF_REACH, CliError

from oms_local.ports import LOOPBACK
from oms_local.stack import Stack, StackError, StackSettings

app = typer.Typer(help="The local stack: Kafka, PostgreSQL and the services as processes of this machine.")


class StackServers:
    """The servers of a stack, for the other commands of `oms`."""

    hint = "`oms stack status` shows what runs"

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def kafka(self, user: str) -> Mapping[str, str]:
        """How a broker user reaches the broker. Raises CliError where the stack was never up."""
        try:
            return self._stack.kafka(user)
        except StackError as error:
            raise CliError(OUT_OF_REACH, str(error)) from error

    def service_url(self, service: str) -> str:
        """The URL of a service's health and metrics."""
        return f"http://{LOOPBACK}:{self._stack.settings.operations_port_of(service)}"

    def environment(self, service: str) -> Mapping[str, str]:
        """The variables of a service's process. Raises CliError where the stack was never up."""
        try:
            return self._stack.environment(service)
        except StackError as error:
            raise CliError(OUT_OF_REACH, str(error)) from error

    def query_url(self) -> str:
        """The URL of projection's query API."""
        return self._stack.query_url()

    def query_token(self) -> str:
        """The credential of that API. Raises CliError where the stack was never up."""
        try:
            return self._stack.query_token()
        except StackError as error:
            raise CliError(OUT_OF_REACH, str(error)) from error


def servers() -> StackServers:
    """The servers of the stack that the environment names. Raises CliError for a variable that is not valid."""
    return StackServers(_stack())


@app.command(epilog="Example: oms stack up")
def up(
    *,
    services: Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", help="These services only.", show_default="all")] = None,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="Broker and database only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start what does not run yet, and wait until it is ready."""
    stack = _stack()
    try:
        stack.up(services=() if servers_only else services or None, progress=output.note)
        if as_json:
            output.document(_status(stack))
    except StackError as error:
        raise CliError(NOT_DONE, str(error)) from error


@app.command(epilog="Example: oms stack down")
def down(as_json: AsJson = False) -> None:
    """Stop everything in order; the data stays."""
    stack = _stack()
    try:
        stack.down()
        if as_json:
            output.document(_status(stack))
    except StackError as error:
        raise CliError(NOT_DONE, str(error)) from error


@app.command(epilog="Example: oms stack status --json")
def status(as_json: AsJson = False) -> None:
    """Show what runs. The exit code is 0 when all of it is ready, 1 when some of it is not, 3 when the stack is down."""
    stack = _stack()
    try:
        found = _status(stack)
    except StackError as error:
        raise CliError(OUT_OF_REACH, str(error)) from error
    parts = found["parts"]
    if as_json:
        output.document(found)
    elif parts:
        columns = ("part", "state", "port>", "process>", "restarts>")
        rows = [(part["name"], _state(part), part["port"], part["pid"], part["restarts"]) for part in parts]
        output.table(f"The stack in {stack.settings.data}", columns, rows)
    if not parts:
        raise CliError(OUT_OF_REACH, f"the stack in {stack.settings.data} is down; `oms stack up` starts it")
    unready = [part["name"] for part in parts if not part["ready"]]
    if unready:
        raise CliError(NOT_DONE, f"not ready: {', '.join(unready)}; logs are in {stack.settings.data / 'log'}")


def _stack() -> Stack:
    try:
        return Stack(StackSettings.from_environment())
    except StackError as error:
        raise CliError(INVALID, str(error)) from error


def _status(stack: Stack) -> dict[str, Any]:
    parts = [asdict(part) for part in stack.status()]
    return {"up": bool(parts), "data": str(stack.settings.data), "parts": parts}


def _state(part: dict[str, Any]) -> str:
    return "ready" if part["ready"] else part["state"]
