"""The command `python -m oms_provision`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from oms_contracts.parties import KINDS

from oms_provision import parties
from oms_provision.broker import make_admin, responds
from oms_provision.containers import READY_TIMEOUT_SECONDS, broker_of, make_secrets, provision
from oms_provision.errors import ProvisionError, UnreachableError

BROKER_TIMEOUT_SECONDS = 10

EXIT_CODES = """\
exit codes:
  0  done
  1  refused: by a server, or by the file system
  2  wrong arguments, or a variable is missing or malformed
  3  a server did not respond in time; try again
"""
EXAMPLE = """\
example:
  python -m oms_provision secrets .orderstream/compose    once, on this machine
  docker compose up --build --detach --wait               runs `python -m oms_provision provision` in a container

"""
VARIABLES = """\
variables (`secrets` writes them to provision.env):
  KAFKA_BOOTSTRAP_SERVERS             the broker
  KAFKA_USERNAME, KAFKA_PASSWORD      a super user of the broker
  KAFKA_SASL_MECHANISM                how it authenticates (default: SCRAM-SHA-512)
  KAFKA_SECURITY_PROTOCOL             SASL_SSL for a broker with TLS (default: SASL_PLAINTEXT)
  KAFKA_CA_FILE                       with TLS: the authorities that its certificate may be from (default: the system's)
  KAFKA_CERTIFICATE_FILE, KAFKA_KEY_FILE   with TLS: the client's own certificate, where the broker requires one
  POSTGRES_URL                        the database server, as a superuser; for TLS with ?sslmode=verify-full&sslrootcert=FILE
  OMS_PASSWORDS                       the content of passwords.json: the passwords of all users and roles

example:
  docker compose run --rm provision

"""
PARTY_VARIABLES = """\
variables: those of the broker, as `provision` has them, and
  PARTIES_BOOTSTRAP_SERVERS           the address that parties use, which is shown to them (default: KAFKA_BOOTSTRAP_SERVERS)

example:
  python -m oms_provision party add channel web           `oms channel add web` does the same

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say. Returns the exit code; an error's text goes to standard error."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "secrets":
            files = make_secrets(chosen.folder, tls=chosen.tls)
            compose = "docker compose -f docker-compose.yml -f deploy/docker-compose.tls.yml" if chosen.tls else "docker compose"
            _print(f"wrote {len(files)} files of variables to {chosen.folder}. Next: `{compose} up --build --detach --wait`.")
        elif chosen.command == "party":
            _party(chosen)
        else:
            provision(os.environ)
            _print("topics, users, rights, databases and roles are as the catalogue says")
    except ProvisionError as error:
        _print(f"error: {error}")
        return error.exit_code
    return 0


def _party(chosen: argparse.Namespace) -> None:
    """Add, list or remove parties. The result is JSON, a line each, on standard output."""
    broker = broker_of(os.environ)
    admin = make_admin(broker)
    if not responds(admin, BROKER_TIMEOUT_SECONDS):
        raise UnreachableError(f"no response from the broker at {broker['bootstrap_servers']}. Check address, user and password.")
    address = {"bootstrap_servers": os.environ.get("PARTIES_BOOTSTRAP_SERVERS") or broker["bootstrap_servers"]}
    if chosen.action == "list":
        for party in parties.find(admin, chosen.kind):
            _print_json(asdict(party))
    elif chosen.action == "remove":
        _print_json(asdict(parties.remove(admin, chosen.kind, chosen.name)))
    else:
        password = parties.make_password() if chosen.new_password else None
        if chosen.password_from_stdin:
            password = sys.stdin.readline().rstrip("\r\n")
        party, shown = parties.add(admin, chosen.kind, chosen.name, password)
        given = {} if shown is None or chosen.password_from_stdin else {"password": shown}
        _print_json(address | asdict(party) | given)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m oms_provision",
        description="Make the secrets of the containers, and set up the servers before services start.",
        epilog=EXAMPLE + EXIT_CODES,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    secrets = commands.add_parser(
        "secrets",
        help="make passwords, and write one file of variables for each container",
        description="Make passwords, and write one file of variables for each container. Passwords and certificates that exist are kept.",
        epilog="example:\n  python -m oms_provision secrets .orderstream/compose\n\n" + EXIT_CODES,
        formatter_class=raw,
    )
    secrets.add_argument("folder", type=Path, metavar="FOLDER", help="where to write; docker-compose.yml reads .orderstream/compose")
    secrets.add_argument(
        "--tls", action="store_true", help="make certificates too, by the program openssl, for deploy/docker-compose.tls.yml"
    )
    commands.add_parser(
        "provision",
        help="set up topics, users and rights, databases and roles",
        description="Set up topics, users and rights, databases and roles, as the catalogue says. Can be repeated at any time.\n"
        f"Waits up to {READY_TIMEOUT_SECONDS} s for the servers.",
        epilog=VARIABLES + EXIT_CODES,
        formatter_class=raw,
    )
    party = commands.add_parser(
        "party",
        help="add, list or remove channels, warehouses and carriers that have a user of the broker",
        description="Add, list or remove channels, warehouses and carriers that have a user of the broker, with topics of their own.\n"
        "Prints a line of JSON for each.",
        epilog=PARTY_VARIABLES + EXIT_CODES,
        formatter_class=raw,
    )
    actions = party.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, described in (
        ("add", "make its topics, user and rights, as far as they are missing"),
        ("list", "show those of a kind"),
        ("remove", "take its user and rights; its topics stay"),
    ):
        made = actions.add_parser(action, help=described, allow_abbrev=False)
        made.add_argument("kind", choices=KINDS)
        if action != "list":
            made.add_argument("name")
        if action == "add":
            password = made.add_mutually_exclusive_group()
            password.add_argument("--new-password", action="store_true", help="give a user that exists another password")
            password.add_argument("--password-from-stdin", action="store_true", help="the password is the first line of standard input")
    return parser


def _print_json(document: object) -> None:
    print(json.dumps(document))  # noqa: T201  # it is what was asked for


def _print(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  # it is for a person


if __name__ == "__main__":
    sys.exit(main())
