"""`oms customer`: what is known of a person, and its erasure. Who is meant is in bodies and records, never in a URL."""

from typing import Annotated, Any

import typer
from oms_client.queries import QueryClient, event_of
from oms_contracts.customers import CustomerErased
from oms_contracts.message import type_of
from oms_contracts.money import counted

from oms_cli import output
from oms_cli.arguments import AsJson, Timeout, Wait, connections
from oms_cli.errors import INVALID, NOT_DONE, CliError
from oms_cli.output import say, table

app = typer.Typer(help="What is known of a person, and its erasure.")

DETAILS = 100
"""Orders of a page with all that is known of them."""

Channel = Annotated[str | None, typer.Option(metavar="CHANNEL", help="The channel whose customer it is, with --id.", show_default=False)]
CustomerId = Annotated[str | None, typer.Option("--id", metavar="ID", help="What the channel calls the customer.", show_default=False)]
Email = Annotated[str | None, typer.Option(metavar="ADDRESS", help="The person's e-mail address.", show_default=False)]


@app.command(epilog="Example: oms customer find --email ada@example.com")
def find(
    context: typer.Context, *, channel: Channel = None, customer_id: CustomerId = None, email: Email = None, as_json: AsJson = False
) -> None:
    """The customers that are meant, each by the key that seals what is known of them, and how many orders they have."""
    connected, wanted = connections(context), _wanted(channel, customer_id, email)
    found = connected.run(connected.query.post("/customers", wanted))
    if as_json:
        output.document({"customers": found})
    elif not found:
        say("nothing is known of such a customer")
    else:
        table("Customers", ("key", "orders>"), [(customer["key_id"], customer["orders"]) for customer in found])


@app.command(epilog="Example: oms customer export --channel web --id C-77 > C-77.json")
def export(context: typer.Context, *, channel: Channel = None, customer_id: CustomerId = None, email: Email = None) -> None:
    """All that is known of a person, as one JSON document: every order with its addresses, payments, packages and returns."""
    connected, wanted = connections(context), _wanted(channel, customer_id, email)
    document = connected.run(_export(connected.query, wanted))
    output.document(document)
    if not document["customers"]:
        raise CliError(NOT_DONE, "nothing is known of such a customer")


@app.command(epilog='Example: oms customer erase --email ada@example.com --reason "asked on 2026-03-01"')
def erase(
    context: typer.Context,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever asks later. It names no person.", show_default=False)],
    channel: Channel = None,
    customer_id: CustomerId = None,
    email: Email = None,
    request_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The same request again has no effect.", show_default="a new UUID")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Erase a person for good: their keys are deleted, and nobody can read what was sealed with them. Orders, amounts and goods stay.

    An order that is still to be shipped has no address any more. The exit code is 1 when nothing was known of such a customer.
    """
    connected, wanted = connections(context), _wanted(channel, customer_id, email)
    if not yes:
        _confirm()
    request = connected.new_id() if request_id is None else request_id
    connected.ask("erase-customer", {}, {"request_id": request, "reason": reason, **wanted})
    erased = connected.wait(lambda query: _erased(query, request), timeout) if wait else None
    if as_json:
        output.document({"request_id": request, "erased": None if erased is None else list(erased.keys)})
    if not wait:
        if not as_json:
            say(f"asked to erase, by the request {request}; the same with --request-id {request} tells the outcome")
        return
    if erased is None:
        raise CliError(NOT_DONE, f"the outcome is not known after {timeout:g} s: give --request-id {request} to ask again")
    if not erased.keys:
        raise CliError(NOT_DONE, "nothing was known of such a customer")
    if not as_json:
        say(f"erased, by deleting {counted(len(erased.keys), 'key')}")


def _confirm() -> None:
    try:
        confirmed = typer.confirm("This cannot be undone. Erase?", err=True)
    except typer.Abort:
        raise CliError(INVALID, "--yes: must be given where nobody can be asked") from None
    if not confirmed:
        raise CliError(NOT_DONE, "nothing was erased")


def _wanted(channel: str | None, customer_id: str | None, email: str | None) -> dict[str, str]:
    if (channel is None) != (customer_id is None):
        raise CliError(INVALID, "--channel and --id: one is given without the other; together they name a customer")
    wanted = {"channel": channel, "customer_id": customer_id, "email": email}
    named = {name: text for name, text in wanted.items() if text is not None}
    if not named:
        raise CliError(INVALID, "no customer is named: give --channel with --id, or --email")
    return named


async def _export(query: QueryClient, wanted: dict[str, str]) -> dict[str, Any]:
    customers = await query.post("/customers", wanted)
    orders = [order for each in customers for order in await query.collect("/orders/details", limit=DETAILS, customer=each["key_id"])]
    return {"customers": [each["key_id"] for each in customers], "orders": orders}


async def _erased(query: QueryClient, request_id: str) -> CustomerErased | None:
    """How the request ended, None until the query API knows it."""
    entries = await query.find(f"/orders/{request_id}/timeline")
    for entry in entries["items"] if entries else ():
        if entry["type"] == _ERASED:
            return event_of(entry)
    return None


_ERASED = type_of(CustomerErased).name
