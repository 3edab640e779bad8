"""What an operator does on the server: `python -m oms_gateway user create`. So there is a first administrator."""

import argparse
import asyncio
import getpass
import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from secrets import token_bytes
from typing import NoReturn

from oms_client.passwords import make_password
from oms_runtime.clock import utc_now
from oms_runtime.errors import RETRYABLE_ERRORS
from oms_runtime.logs import configure_logs
from oms_runtime.loop import run_loop
from oms_runtime.server import INVALID_USAGE, OUT_OF_REACH, REFUSED
from pydantic import ValidationError

from oms_gateway import store
from oms_gateway.identity import ROLES
from oms_gateway.passwords import MAX_CHARACTERS, MIN_CHARACTERS, owasp_hasher
from oms_gateway.settings import StoreSettings
from oms_gateway.signin import NAME
from oms_gateway.store import NameTaken, User

ACTOR = "operator"
"""Who acts on the server, in the audit trail."""
USAGE = f"""usage, with OMS_DATABASE_URL of the gateway:
  python -m oms_gateway user create NAME --role ROLE ... [--display-name TEXT] [--location ID ...] [--generate-password]
It makes a user. The password is asked for, or is the first line of standard input; with --generate-password one is made, and shown once.
Roles: {", ".join(ROLES)}.
Exit codes: 0 done, 1 refused, 2 usage, 3 a server is out of reach.
"""


class _Parser(argparse.ArgumentParser):
    """Prints USAGE, which also has the exit codes."""

    def format_usage(self) -> str:
        return USAGE

    def format_help(self) -> str:
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m oms_gateway", allow_abbrev=False)
    create = parser.add_subparsers(required=True).add_parser("user").add_subparsers(required=True).add_parser("create", allow_abbrev=False)
    create.add_argument("name", type=_name)
    create.add_argument("--role", dest="roles", action="append", choices=[*ROLES], required=True)
    create.add_argument("--display-name")
    create.add_argument("--location", dest="locations", action="append")
    create.add_argument("--generate-password", action="store_true")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the program's arguments say, print the result as JSON, and exit."""
    asked = _parser().parse_args(arguments)
    try:
        settings = StoreSettings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    except ValidationError as error:
        _fail(INVALID_USAGE, "; ".join(f"OMS_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()))
    configure_logs("gateway", settings.log_level)
    password = make_password(token_bytes) if asked.generate_password else _read_password()
    user = User(
        name=asked.name,
        display_name=asked.display_name or asked.name,
        roles=frozenset(asked.roles),
        locations=frozenset(asked.locations) if asked.locations else None,
        password_hash=owasp_hasher().hash(password),
        created_at=utc_now(),
    )
    try:
        run_loop(create_user(settings.database_url.get_secret_value(), user, utc_now))
    except NameTaken:
        _fail(
            REFUSED,
            f"there is a user {asked.name} already: choose another name, or set its password: `oms user set-password {asked.name}`",
        )
    except RETRYABLE_ERRORS as error:
        _fail(OUT_OF_REACH, f"{type(error).__name__}: {error}")
    shown = {"password": password} if asked.generate_password else {}
    sys.stdout.write(f"{json.dumps({'user': user.name, 'roles': sorted(user.roles)} | shown)}\n")


async def create_user(url: str, user: User, clock: Callable[[], datetime]) -> None:
    """Make a user in the database at `url`, which gets its tables where it has none. Raises NameTaken, or one of RETRYABLE_ERRORS."""
    database = await store.open_store(url)
    try:
        async with store.changing(database) as connection:
            await store.add_user(connection, user)
            await store.note(connection, clock(), ACTOR, "user-created", user.actor, roles=sorted(user.roles))
    finally:
        await asyncio.wait_for(database.close(), timeout=10)


def _read_password() -> str:
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            _fail(REFUSED, "the two passwords differ: begin again")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        _fail(REFUSED, f"the password must have {MIN_CHARACTERS} to {MAX_CHARACTERS} characters: choose another one")
    return password


def _name(text: str) -> str:
    if NAME.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no name: small letters, digits, dots, - and _, at most 64")
    return text


def _fail(code: int, text: str) -> NoReturn:
    sys.stderr.write(f"error: {text}\n")
    sys.exit(code)
