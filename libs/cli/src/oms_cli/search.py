"""`oms search`: orders, packages and products by whatever somebody has in hand."""

from typing import Annotated, Any

import typer
from oms_client.errors import NotAllowed
from oms_client.queries import QueryClient

from oms_cli import output
from oms_cli.arguments import AsJson, Channel, connections, named
from oms_cli.errors import INVALID, NOT_DONE, CliError
from oms_cli.output import moment, say, table

COLUMNS = ("kind", "what", "found by", "value", "order", "status", "placed")


def search(
    context: typer.Context,
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            help="A reference, number, order id, SKU, tracking number or package id, or how one begins; words of a title or a name; "
            "an e-mail address.",
            show_default=False,
        ),
    ],
    *,
    channel: Channel = None,
    persons: Annotated[
        bool, typer.Option("--persons/--no-persons", help="Look at names and e-mail addresses, too. It needs the scope customers:read.")
    ] = True,
    limit: Annotated[int, typer.Option(min=1, max=100, help="The most rows.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Find orders, packages and products. What is all of a field comes first."""
    if "@" in query and not persons:
        raise CliError(INVALID, "QUERY: an e-mail address is found with --persons alone")
    connected = connections(context)
    found = connected.run(_persons(connected.query, query, channel, limit) if persons else _things(connected.query, query, channel, limit))
    hits, more = found["items"], found["more"]
    if as_json:
        output.document({"found": hits, "more": more})
        return
    if not hits:
        say("nothing is found")
        return
    table("Found, whole fields first", COLUMNS, map(_cells, hits))
    if more:
        output.note("there is more; --limit shows it, or a longer QUERY leaves less")


async def _things(query: QueryClient, text: str, channel: str | None, limit: int) -> Any:
    return await query.get("/search", q=text, channel=channel, limit=limit)


async def _persons(query: QueryClient, text: str, channel: str | None, limit: int) -> Any:
    """What is found by persons, too: asked for in a body, because logs have URLs."""
    wanted = {"email": text} if "@" in text else {"q": text, "name": text}
    try:
        return await query.post("/search", {**wanted, "channel": channel, "limit": limit})
    except NotAllowed as error:
        raise CliError(NOT_DONE, f"{error}; --no-persons looks at references, numbers, SKUs and tracking numbers alone") from error


def _cells(hit: dict[str, Any]) -> tuple[Any, ...]:
    order = named(hit) if hit["order_id"] else None
    placed = moment(hit["placed_at"]) if hit["placed_at"] else None
    return hit["kind"], order if hit["kind"] == "order" else hit["id"], hit["field"], hit["value"], order, hit["status"], placed
