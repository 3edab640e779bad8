"""`oms user`: who may come in by the gateway. The first administrator is made on the server, all others through the gateway."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from oms_client.passwords import make_password
from oms_client.queries import path_part

from oms_cli import output
from oms_cli.arguments import AsJson, Every, Limit, connections
from oms_cli.errors import INVALID, CliError
from oms_cli.lists import Listing, Sized
from oms_cli.output import moment, say
from oms_cli.programs import run_program
from oms_cli.secrets import read_password, show_once

app = typer.Typer(help="The gateway's users: create, list, show, change, disable, sign out, unlock. --url names the gateway.")

LIST = "oms user list"
ALL = "all"
Name = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.", show_default=False)]
Roles = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="ROLE", help="viewer, service-desk, warehouse, operator or admin; may be repeated.", show_default=False),
]
Locations = Annotated[
    list[str] | None,
    typer.Option("--location", metavar="ID", help="The user works for it alone; may be repeated.", show_default=ALL),
]
GeneratePassword = Annotated[bool, typer.Option("--generate-password", help="Make a password, and show it once.")]

USERS = Listing(
    path="/users",
    name="users",
    title="Users, by name",
    empty="there is no user; `oms user create NAME --role admin`, on the gateway's server, makes the first one",
    columns=("name", "called", "roles", "locations", "signs in by", "made", "disabled"),
    cells=lambda user: (
        *(user["name"], user["display_name"], ", ".join(user["roles"]), _locations(user)),
        *(_way_in(user), moment(user["created_at"]), user["disabled_at"] and moment(user["disabled_at"])),
    ),
)


@app.command("list", epilog="Example: oms user list")
def list_users(context: typer.Context, *, limit: Limit = 100, every: Every = False, as_json: AsJson = False) -> None:
    """Users, by name."""
    _ = connections(context).gateway
    USERS.show(context, Sized(limit=limit, every=every, as_json=as_json))


@app.command(epilog="Example: oms user show ada")
def show(context: typer.Context, name: Name, *, as_json: AsJson = False) -> None:
    """One user: roles, locations, whether the name is locked after failed sign-ins, and how many sessions there are."""
    user = _ask(context, "GET", name)
    if as_json:
        output.document(user)
        return
    say(f"User {user['name']}, {user['display_name']}, made {moment(user['created_at'])}, signs in by {_way_in(user)}")
    say(f"roles {', '.join(user['roles']) or output.NOTHING}; locations {_locations(user)}; sessions {user['sessions']}")
    if user["disabled_at"]:
        say(f"disabled since {moment(user['disabled_at'])}; `oms user enable {name}` lets the user in again")
    if user["locked_until"]:
        failures = f"locked until {moment(user['locked_until'])} after {user['failures']} failed sign-ins in a row"
        say(f"{failures}; `oms user unlock {name}` lifts it")


@app.command(epilog="Example: oms user create ada --role admin")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What events call the user, for ever: small letters, digits, dots, - and _.")],
    *,
    role: Annotated[list[str], typer.Option(metavar="ROLE", help="viewer, service-desk, warehouse, operator or admin; may be repeated.")],
    display_name: Annotated[str | None, typer.Option(metavar="TEXT", help="What people call the user.", show_default="the name")] = None,
    location: Locations = None,
    generate_password: GeneratePassword = False,
    as_json: AsJson = False,
) -> None:
    """Make a user. The password is asked for, or is the first line of standard input.

    With --url through the gateway. Without, by the gateway's own program, which needs its database: so there is a first administrator.
    """
    connected = connections(context)
    if connected.by_gateway:
        _ = connected.gateway  # whoever signs in is asked for their own password first
        password = make_password(secrets.token_bytes) if generate_password else read_password()
        wanted = {"name": name, "display_name": display_name or name, "roles": role, "locations": location, "password": password}
        user = connected.manage("POST", "/users", wanted)
        made = {"user": user["name"], "roles": user["roles"]} | ({"password": password} if generate_password else {})
    else:
        words = [name, *(word for value in role for word in ("--role", value))]
        words += ("--display-name", display_name) if display_name is not None else ()
        words += (word for value in location or () for word in ("--location", value))
        words += ("--generate-password",) if generate_password else ()
        [made] = run_program(context, "gateway", "user", "create", *words)
    if as_json:
        output.document(made)
        return
    say(f"The user {made['user']} may sign in as {', '.join(made['roles'])}.")
    if "password" in made:
        show_once("password", made["password"])


@app.command(epilog="Example: oms user change ada --role viewer --role warehouse --location BER-1")
def change(
    context: typer.Context,
    name: Name,
    *,
    role: Roles = None,
    display_name: Annotated[str | None, typer.Option(metavar="TEXT", help="What people call the user.", show_default=False)] = None,
    location: Annotated[
        list[str] | None,
        typer.Option("--location", metavar="ID", help="The user works for these alone from now on; may be repeated.", show_default=False),
    ] = None,
    all_locations: Annotated[bool, typer.Option("--all-locations", help="The user works for all locations from now on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change a user. Roles and locations that are given replace all that the user had; what is not given stays as it is."""
    if location and all_locations:
        raise CliError(INVALID, "--all-locations: cannot be given with --location")
    wanted: dict[str, Any] = {"roles": role, "display_name": display_name, "locations": location}
    wanted = {field: value for field, value in wanted.items() if value} | ({"locations": None} if all_locations else {})
    if not wanted:
        raise CliError(INVALID, "nothing is to be changed: give --role, --display-name, --location or --all-locations")
    _changed(context, name, wanted, as_json=as_json)


@app.command(epilog="Example: oms user disable ada")
def disable(context: typer.Context, name: Name, *, as_json: AsJson = False) -> None:
    """Keep a user out, and end all sessions. Keys that the user made stay valid: `oms key list` shows who made each."""
    _changed(context, name, {"disabled": True}, as_json=as_json)


@app.command(epilog="Example: oms user enable ada")
def enable(context: typer.Context, name: Name, *, as_json: AsJson = False) -> None:
    """Let a user in again that was disabled."""
    _changed(context, name, {"disabled": False}, as_json=as_json)


@app.command("set-password", epilog="Example: oms user set-password ada --generate-password")
def set_password(context: typer.Context, name: Name, *, generate_password: GeneratePassword = False, as_json: AsJson = False) -> None:
    """Give a user another password, and end their sessions. It is asked for, or is the next line of standard input.

    Who has signed in by --user changes their own so, too, and needs no right for it.
    """
    connected = connections(context)
    _ = connected.gateway
    password = make_password(secrets.token_bytes) if generate_password else read_password()
    if connected.user == name:
        connected.manage("PUT", "/me/password", {"old_password": connected.password, "new_password": password})
    else:
        _ask(context, "PUT", name, "password", body={"password": password})
    if as_json:
        output.document({"user": name} | ({"password": password} if generate_password else {}))
        return
    say(f"The user {name} has another password, and is signed out everywhere else.")
    if generate_password:
        show_once("password", password)


@app.command("sign-out", epilog="Example: oms user sign-out ada")
def sign_out(context: typer.Context, name: Name, *, as_json: AsJson = False) -> None:
    """End all sessions of a user."""
    ended = _ask(context, "DELETE", name, "sessions")["sessions"]
    if as_json:
        output.document({"user": name, "sessions": ended})
    else:
        say(f"The user {name} is signed out: sessions that ended: {ended}.")


@app.command(epilog="Example: oms user unlock ada")
def unlock(context: typer.Context, name: Name, *, as_json: AsJson = False) -> None:
    """Lift the lock of a user's name after failed sign-ins. An address that is locked stays so, for at most a quarter of an hour."""
    lifted = _ask(context, "DELETE", name, "lock")
    if as_json:
        output.document({"user": name, **lifted})
    elif lifted["locked_until"]:
        say(f"The user {name} may try again: it was locked until {moment(lifted['locked_until'])}.")
    else:
        say(f"The user {name} was not locked; failed sign-ins that are forgotten: {lifted['failures']}.")


def _changed(context: typer.Context, name: str, wanted: dict[str, Any], *, as_json: bool) -> None:
    user = _ask(context, "PATCH", name, body=wanted)
    if as_json:
        output.document(user)
        return
    state = "is disabled, and signed out everywhere" if user["disabled_at"] else f"has the roles {', '.join(user['roles']) or 'none'}"
    say(f"The user {name} {state}; locations: {_locations(user)}.")


def _ask(context: typer.Context, method: str, name: str, *more: str, body: Any = None) -> Any:
    return connections(context).manage(method, "/".join(("/users", path_part(name), *more)), body, see=LIST)


def _locations(user: Mapping[str, Any]) -> str:
    return ALL if user["locations"] is None else ", ".join(user["locations"]) or "none"


def _way_in(user: Mapping[str, Any]) -> str:
    return user["provider"] or ("password" if user["has_password"] else "nothing")
