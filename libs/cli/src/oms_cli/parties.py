"""`oms channel`, `oms warehouse` and `oms carrier`: who outside has a user of the broker. One implementation, three names.

Provisioning does it, with the broker's super user: it is the command of whoever runs the installation.
"""

from typing import Annotated, Any

import typer
from oms_contracts.parties import KINDS

from oms_cli import output
from oms_cli.arguments import AsJson
from oms_cli.programs import run_program

EXAMPLES = {"channel": "web", "warehouse": "BER-1", "carrier": "DHL"}
NAMES = {
    "channel": "as its orders have it in `channel`",
    "warehouse": "its location, as fulfillments and stock have it",
    "carrier": "as packages have it in `carrier`",
}
NEXT = {
    "channel": "oms.channel.OrderPlaced.v2 with the order's id as key",
    "warehouse": "oms.fulfillment.AcceptFulfillment.v1 of what it reads on oms.fulfillment-orders",
    "carrier": "oms.tracking.RecordScan.v1 of packages that it reads on oms.tracking",
}
READ = "libs/contracts/published/README.md says how a record is made, and asyncapi.json what each topic takes."


def _group(kind: str) -> typer.Typer:
    app = typer.Typer(help=f"Each {kind} that writes to Kafka itself: its broker user, and its own topics.")
    example = EXAMPLES[kind]
    name_argument = typer.Argument(metavar="NAME", help=f"The {kind}'s name, {NAMES[kind]}: letters, digits, dots, - and _.")

    @app.command(epilog=f"Example: oms {kind} add {example}", help=_ADD.format(kind))
    def add(
        context: typer.Context,
        name: Annotated[str, name_argument],
        *,
        new_password: Annotated[bool, typer.Option("--new-password", help="Give a user that exists another password.")] = False,
        password_from_stdin: Annotated[
            bool, typer.Option("--password-from-stdin", help="The password is the first line of standard input.")
        ] = False,
        as_json: AsJson = False,
    ) -> None:
        words = ("--new-password",) * new_password + ("--password-from-stdin",) * password_from_stdin
        [made] = run_program(context, "provision", "party", "add", kind, *words, "--", name)
        if as_json:
            output.document(made)
        else:
            _say(made)

    @app.command("list", epilog=f"Example: oms {kind} list", help=f"List each {kind} that has topics, and whether it has a user.")
    def list_(context: typer.Context, *, as_json: AsJson = False) -> None:
        found = run_program(context, "provision", "party", "list", kind)
        if as_json:
            output.document(found)
            return
        rows = [(party["name"], party["user"] if party["has_user"] else "", ", ".join(party["topics"])) for party in found]
        output.table(f"Who writes to Kafka itself: {kind}", (kind, "user", "topics"), rows)

    @app.command(epilog=f"Example: oms {kind} remove {example}", help=_REMOVE.format(kind))
    def remove(context: typer.Context, name: Annotated[str, name_argument], *, as_json: AsJson = False) -> None:
        [removed] = run_program(context, "provision", "party", "remove", kind, "--", name)
        if as_json:
            output.document(removed)
        else:
            output.say(f"The user {removed['user']} and its rights are gone. Its topics stay: what is unread there is still taken.")

    return app


_ADD = """Make a {0}'s topics, broker user and rights, as far as they are missing.

The password is made, and shown once. A user that exists keeps its password. It needs the broker's super user.
"""
_REMOVE = """Take a {0}'s broker user and rights.

Its next request is denied, also on a connection that is open. Its topics stay, and what is unread there is still taken.
"""


def _say(made: dict[str, Any]) -> None:
    output.say(f"The {made['kind']} {made['name']} has a user of the broker; the services read its topics within seconds.")
    output.say(f"Broker: {made['bootstrap_servers']} (SASL SCRAM-SHA-512)")
    output.say(f"User: {made['user']}")
    if "password" in made:
        output.say(f"Password, which is not shown again: {made['password']}")
    output.say(f"Writes: {', '.join(made['topics'])}")
    output.say(f"Reads: {', '.join(made['reads'])}, in groups that begin with {made['group_prefix']}")
    output.say(f"Next: it publishes {NEXT[made['kind']]}. {READ}")


GROUPS = {kind: _group(kind) for kind in KINDS}
"""By kind of party: its commands."""
