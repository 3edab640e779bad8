"""`oms audit-trail`: sign-ins at the gateway, and changes of its users and keys."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from oms_cli.arguments import AsJson, Every, Limit, connections
from oms_cli.lists import Listing, Sized
from oms_cli.output import moment

app = typer.Typer(help="Sign-ins at the gateway, and changes of its users and keys. --url names the gateway.")

TRAIL = Listing(
    path="/audit-trail",
    name="entries",
    title="Audit trail, newest first",
    empty="nothing is noted",
    columns=("time", "who", "did what", "about", "more"),
    cells=lambda entry: (moment(entry["at"]), entry["actor"], entry["what"], entry["about"], _detail(entry["detail"])),
)


@app.callback()
def root() -> None:
    """Keep `list` a command of the group, though it is the only one."""


@app.command("list", epilog="Example: oms audit-trail list --about user:ada")
def list_entries(
    context: typer.Context,
    *,
    actor: Annotated[str | None, typer.Option(metavar="ACTOR", help="Only what this one did: user:ada.", show_default="all")] = None,
    about: Annotated[
        str | None, typer.Option(metavar="WHOM", help="Only what is about this one: user:ada, key:till-7.", show_default="all")
    ] = None,
    limit: Limit = 100,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Who did what and when, the newest first."""
    _ = connections(context).gateway
    TRAIL.show(context, Sized(limit=limit, every=every, as_json=as_json), actor=actor, about=about)


def _detail(detail: Mapping[str, Any]) -> str:
    known = {name: value if isinstance(value, str) else json.dumps(value) for name, value in detail.items() if value is not None}
    return ", ".join(f"{name} {value}" for name, value in known.items())
