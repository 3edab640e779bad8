"""`oms key`: the keys by which programs come in by the gateway."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer
from oms_client.queries import path_part

from oms_cli import output
from oms_cli.arguments import AsJson, Every, Limit, connections, moment_of
from oms_cli.lists import Listing, Sized
from oms_cli.output import moment, say
from oms_cli.secrets import show_once

app = typer.Typer(help="Programs' keys for the gateway: list, create, rotate, revoke. --url names the gateway.")

LIST = "oms key list"
KeyId = Annotated[
    str, typer.Argument(metavar="ID", help="The key's id, as `oms key list` shows it: what stands between oms_ and the secret.")
]
Expires = Annotated[
    datetime | None,
    typer.Option("--expires", metavar="TIME", parser=moment_of, help="When it ends; UTC unless it says otherwise.", show_default=False),
]


@app.command("list", epilog="Example: oms key list")
def list_keys(context: typer.Context, *, limit: Limit = 100, every: Every = False, as_json: AsJson = False) -> None:
    """Keys, the newest first, without their secrets; those that have ended, too."""
    connected = connections(context)
    _ = connected.gateway
    now = connected.now()
    listing = Listing(
        path="/keys",
        name="keys",
        title="Keys, newest first",
        empty="there is no key; `oms key create NAME --scope SCOPE` makes one",
        columns=("id", "name", "valid", "scopes", "channel", "locations", "made", "by", "used last"),
        cells=lambda key: (
            *(key["id"], key["name"], _validity(key, now), ", ".join(key["scopes"]), key["channel"]),
            *("all" if key["locations"] is None else ", ".join(key["locations"]), moment(key["created_at"]), key["created_by"]),
            moment(key["last_used_at"]),
        ),
    )
    listing.show(context, Sized(limit=limit, every=every, as_json=as_json))


@app.command(epilog="Example: oms key create till-7 --scope orders:place --scope orders:read --channel shop-berlin --expires 2027-01-01")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What events call it, for ever: small letters, digits, dots, - and _.")],
    *,
    scope: Annotated[
        list[str], typer.Option(metavar="SCOPE", help="What it may do: orders:place, orders:read …; may be repeated.", show_default=False)
    ],
    channel: Annotated[
        str | None,
        typer.Option(metavar="CHANNEL", help="It places, sees and changes the orders of this channel alone.", show_default="all"),
    ] = None,
    location: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="It works for this location alone; may be repeated.", show_default="all")
    ] = None,
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown once, and kept nowhere. It may do no more than you may yourself."""
    wanted = {
        "name": name,
        "scopes": scope,
        "channel": channel,
        "locations": location,
        "expires_at": None if expires is None else expires.isoformat(),
    }
    _show(connections(context).manage("POST", "/keys", wanted), as_json=as_json)


@app.command(epilog="Example: oms key rotate 0123456789abcdef --grace 3600")
def rotate(
    context: typer.Context,
    key_id: KeyId,
    *,
    grace: Annotated[
        int | None,
        typer.Option(min=0, metavar="SECONDS", help="How long the old key stays valid.", show_default="as the gateway is set, a day"),
    ] = None,
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Make a key that replaces another, with the same rights. It is shown once. The old one stays valid for a while."""
    wanted = {"grace_seconds": grace, "expires_at": None if expires is None else expires.isoformat()}
    rotation = {field: value for field, value in wanted.items() if value is not None}
    made = connections(context).manage("POST", f"/keys/{path_part(key_id)}/rotate", rotation, see=LIST)
    _show(made, as_json=as_json)


@app.command(epilog="Example: oms key revoke 0123456789abcdef")
def revoke(context: typer.Context, key_id: KeyId, *, as_json: AsJson = False) -> None:
    """End a key at once; each process of the gateway follows within seconds."""
    connections(context).manage("DELETE", f"/keys/{path_part(key_id)}", see=LIST)
    if as_json:
        output.document({"id": key_id, "revoked": True})
    else:
        say(f"The key {key_id} is revoked.")


def _show(made: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.document(made)
        return
    limits = f"channel {made['channel'] or 'all'}, locations {'all' if made['locations'] is None else ', '.join(made['locations'])}"
    ends = f"ends {moment(made['expires_at'])}" if made["expires_at"] else "does not end"
    say(f"The key {made['id']}, {made['name']}, may {', '.join(made['scopes'])}; {limits}; it {ends}.")
    show_once("key", made["key"])


def _validity(key: Mapping[str, Any], now: datetime) -> str:
    if key["revoked_at"]:
        return f"revoked {moment(key['revoked_at'])}"
    if key["expires_at"] is None:
        return "for ever"
    return f"{'until' if datetime.fromisoformat(key['expires_at']) > now else 'ended'} {moment(key['expires_at'])}"
