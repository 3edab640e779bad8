"""`oms user`: who may come in by the gateway, made on the server. There is no other way to make the first administrator."""

from typing import Annotated

import typer

from oms_cli import output
from oms_cli.arguments import AsJson
from oms_cli.programs import run_program

app = typer.Typer(help="The gateway's users.")


@app.callback()
def root() -> None:
    """Keep `create` a command of the group, though it is the only one."""


@app.command(epilog="Example: oms user create ada --role admin")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What events call the user, for ever: small letters, digits, dots, - and _.")],
    *,
    role: Annotated[list[str], typer.Option(metavar="ROLE", help="viewer, service-desk, warehouse, operator or admin; may be repeated.")],
    display_name: Annotated[str | None, typer.Option(metavar="TEXT", help="What people call the user.")] = None,
    location: Annotated[list[str] | None, typer.Option(metavar="ID", help="The user works for it alone; may be repeated.")] = None,
    generate_password: Annotated[bool, typer.Option("--generate-password", help="Make a password, and show it once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a user. The password is asked for, or is the first line of standard input.

    It needs the gateway's database. From elsewhere an administrator makes users by the gateway's API.
    """
    words = [name, *(word for value in role for word in ("--role", value))]
    words += ("--display-name", display_name) if display_name is not None else ()
    words += (word for value in location or () for word in ("--location", value))
    words += ("--generate-password",) if generate_password else ()
    [made] = run_program(context, "gateway", "user", "create", *words)
    if as_json:
        output.document(made)
    else:
        output.say(f"The user {made['user']} may sign in as {', '.join(made['roles'])}.")
        if "password" in made:
            output.say(f"The password, which is not shown again: {made['password']}")
