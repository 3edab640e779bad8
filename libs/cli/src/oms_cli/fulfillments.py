"""`oms fulfillment`: what locations ship, and the steps on the way: accept, pick, pack, ship. `oms package`: what carriers see."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Literal

import typer
from oms_contracts.money import counted
from oms_contracts.operations import operation_of
from oms_contracts.sscc import sscc_of

from oms_cli import output
from oms_cli.arguments import (
    AsJson,
    Channel,
    Every,
    Limit,
    Order,
    OrderOption,
    Timeout,
    Wait,
    connections,
    line_named,
    moment_of,
    named,
    order_of,
    quantities,
)
from oms_cli.connections import Connections
from oms_cli.errors import INVALID, NOT_DONE, CliError
from oms_cli.lists import Listing, Sized
from oms_cli.operate import Answer, operate
from oms_cli.output import moment, say, table

app = typer.Typer(help="What locations ship: list, show, accept, pick, pack, ship.")
packages = typer.Typer(help="Parcels, and what carriers see of them: list, show, scan.")

Location = Annotated[
    str | None, typer.Argument(metavar="LOCATION", help="Which location's fulfillment.", show_default="the only one of the order")
]


FULFILLMENTS = Listing(
    path="/fulfillments",
    name="fulfillments",
    title="Fulfillments",
    empty="there is no such fulfillment",
    columns=("order", "location", "status", "since", "units>", "delivery", "packages>"),
    cells=lambda f: (named(f), f["location"], f["status"], moment(f["at"]), _units(f["lines"]), f["delivery"], len(f["packages"])),
)
PACKAGES = Listing(
    path="/packages",
    name="packages",
    title="Packages",
    empty="there is no such package",
    columns=("order", "package", "packed", "units>", "carrier", "tracking number", "status", "since", "trouble"),
    cells=lambda p: (
        *(named(p), p["package_id"], moment(p["packed_at"]), _units(p["lines"]), p["carrier"], p["tracking_number"]),
        *(p["status"], moment(p["status_at"]), p["trouble"]),
    ),
)


@app.command("list", epilog="Example: oms fulfillment list --location BER-1 --status planned --sort planned_at")
def list_fulfillments(
    context: typer.Context,
    *,
    status: Annotated[
        Literal["planned", "accepted", "picked", "packed", "shipped", "canceled"] | None,
        typer.Option(help="Only those of this status.", show_default="all"),
    ] = None,
    location: Annotated[str | None, typer.Option(metavar="LOCATION", help="Only this location's.", show_default="all")] = None,
    order: OrderOption = None,
    channel: Channel = None,
    planned_from: Annotated[
        datetime | None, typer.Option("--from", metavar="TIME", parser=moment_of, help="Planned then or later.", show_default=False)
    ] = None,
    planned_before: Annotated[
        datetime | None, typer.Option("--to", metavar="TIME", parser=moment_of, help="Planned before that.", show_default=False)
    ] = None,
    sort: Annotated[
        Literal["planned_at", "-planned_at"], typer.Option(help="By when they were planned; with - before it the newest first.")
    ] = "-planned_at",
    limit: Limit = 100,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """What locations ship, the newest first."""
    FULFILLMENTS.show(
        context,
        Sized(limit=limit, every=every, as_json=as_json),
        status=status,
        location=location,
        order=order,
        channel=channel,
        planned_from=None if planned_from is None else planned_from.isoformat(),
        planned_before=None if planned_before is None else planned_before.isoformat(),
        sort=sort,
    )


@app.command(epilog="Example: oms fulfillment show web/W-1001")
def show(context: typer.Context, *, order: Order, location: Location = None, as_json: AsJson = False) -> None:
    """One fulfillment: what is to be shipped, what is packed already, and the command that comes next."""
    connected = connections(context)
    found = order_of(connected, order)
    fulfillment = _fulfillment(found, location)
    if as_json:
        output.document(fulfillment)
        return
    say(f"Fulfillment {fulfillment['fulfillment_id']} of {named(found)}")
    say(f"{fulfillment['status']} since {moment(fulfillment['at'])}, {counted(_units(fulfillment['lines']), 'unit')} to {_delivery(found)}")
    left = Counter(dict(_unpacked(fulfillment)))
    rows = [(line["line_id"], line["sku"], line["quantity"], left[line["line_id"], line["sku"]]) for line in fulfillment["lines"] or ()]
    table("Lines", ("line", "SKU", "quantity>", "to be packed>"), rows)
    if fulfillment["packages"]:
        table(
            "Packages, in the order they were packed",
            ("package", "units>", "carrier", "tracking number", "status"),
            [(p["package_id"], _units(p["lines"]), p["carrier"], p["tracking_number"], p["status"]) for p in fulfillment["packages"]],
        )
    if step := _next(fulfillment):
        say(f"next: oms fulfillment {step.format(order=named(found), location=fulfillment['location'])}")


@app.command(epilog="Example: oms fulfillment accept web/W-1001")
def accept(
    context: typer.Context,
    *,
    order: Order,
    location: Location = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """The location takes the fulfillment on."""
    _operate(context, "accept-fulfillment", order, location, body={}, answer=Answer(wait=wait, timeout=timeout, as_json=as_json))


@app.command(epilog="Example: oms fulfillment pick web/W-1001")
def pick(
    context: typer.Context,
    *,
    order: Order,
    location: Location = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """All units of the fulfillment are picked."""
    _operate(context, "pick-items", order, location, body={}, answer=Answer(wait=wait, timeout=timeout, as_json=as_json))


@app.command(epilog="Example: oms fulfillment pack web/W-1001 --line MUG-BLUE=1")
def pack(
    context: typer.Context,
    *,
    order: Order,
    location: Location = None,
    lines: Annotated[
        list[str] | None,
        typer.Option("--line", metavar="SKU=QUANTITY", help="What is in it; the line's id serves, too.", show_default="all that is left"),
    ] = None,
    sscc: Annotated[str | None, typer.Option(metavar="SSCC", help="The code on the package, 18 digits.", show_default="a new one")] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Close a package: with all units that are not packed yet, or with those that --line names. It says the package's SSCC."""
    connected = connections(context)
    found = order_of(connected, order)
    fulfillment = _fulfillment(found, location)
    package_id = sscc_of(_number(connected.new_id())) if sscc is None else sscc
    body = {"package_id": package_id, "lines": _packed(fulfillment, lines)}
    answer = Answer(wait=wait, timeout=timeout, as_json=as_json)
    _step(connected, "pack-package", found, fulfillment, body=body, answer=answer, about={"package_id": package_id})


@app.command(epilog="Example: oms fulfillment ship web/W-1001 --carrier DHL --tracking 00340434161094042557")
def ship(
    context: typer.Context,
    *,
    order: Order,
    location: Location = None,
    carrier: Annotated[str, typer.Option(metavar="NAME", help="Who takes the packages.", show_default=False)],
    tracking: Annotated[
        list[str],
        typer.Option(
            "--tracking",
            metavar="NUMBER",
            help="A package's tracking number; one a package, in the order they were packed.",
            show_default=False,
        ),
    ],
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Hand every package to the carrier. This cannot be undone: the money is captured, and the order can no longer be canceled."""
    body = {"carrier": carrier, "tracking_numbers": tracking}
    _operate(context, "ship-fulfillment", order, location, body=body, answer=Answer(wait=wait, timeout=timeout, as_json=as_json))


@packages.command("list", epilog="Example: oms package list --trouble")
def list_packages(
    context: typer.Context,
    *,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only those of which the carrier said this last.", show_default="all")
    ] = None,
    carrier: Annotated[str | None, typer.Option(metavar="NAME", help="Only this carrier's.", show_default="all")] = None,
    trouble: Annotated[
        bool | None, typer.Option("--trouble/--no-trouble", help="Only those that had trouble and have not arrived since, or none.")
    ] = None,
    order: OrderOption = None,
    channel: Channel = None,
    sort: Annotated[
        Literal["packed_at", "-packed_at"], typer.Option(help="By when they were packed; with - before it the newest first.")
    ] = "-packed_at",
    limit: Limit = 100,
    every: Every = False,
    as_json: AsJson = False,
) -> None:
    """Parcels, the newest first."""
    sized = Sized(limit=limit, every=every, as_json=as_json)
    PACKAGES.show(context, sized, status=status, carrier=carrier, trouble=trouble, order=order, channel=channel, sort=sort)


@packages.command("show", epilog="Example: oms package show web/W-1001")
def show_package(
    context: typer.Context,
    *,
    order: Order,
    package: Annotated[
        str | None,
        typer.Argument(metavar="PACKAGE", help="Its SSCC or its tracking number.", show_default="the only one of the order"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """One package of an order: where it is, and what is in it."""
    found = order_of(connections(context), order)
    parcel = _package(found, package)
    if as_json:
        output.document(parcel)
        return
    say(f"Package {parcel['package_id']} of {named(found)}, packed {moment(parcel['packed_at'])}")
    say(f"{parcel['carrier'] or 'no carrier yet'}, tracking number {parcel['tracking_number'] or output.NOTHING}")
    say(f"{parcel['status'] or 'not scanned yet'} since {moment(parcel['status_at'])}")
    if parcel["trouble"]:
        say(f"trouble: {parcel['trouble']}")
    table("Lines", ("line", "SKU", "quantity>"), [(line["line_id"], line["sku"], line["quantity"]) for line in parcel["lines"] or ()])


@packages.command(epilog="Example: oms package scan web/W-1001 delivered")
def scan(
    context: typer.Context,
    *,
    order: Order,
    status: Annotated[
        Literal["in_transit", "out_for_delivery", "attempt_failed", "delivered", "lost", "returned_to_sender"],
        typer.Argument(metavar="STATUS", help="What the carrier saw.", show_default=False),
    ],
    package: Annotated[
        str | None, typer.Option(metavar="ID", help="Its SSCC or its tracking number.", show_default="the only one of the order")
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=moment_of, help="When the carrier saw it; UTC unless it says otherwise.", show_default="now"),
    ] = None,
    note_text: Annotated[str, typer.Option("--note", metavar="TEXT", help="What the carrier says of it.", show_default=False)] = "",
    scan_id: Annotated[str | None, typer.Option(metavar="ID", help="The same scan again has no effect.", show_default="a new UUID")] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Record what a carrier saw of a package: in_transit, out_for_delivery, attempt_failed, delivered, lost or returned_to_sender."""
    connected = connections(context)
    found = order_of(connected, order)
    parcel = _package(found, package)
    scan_name = connected.new_id() if scan_id is None else scan_id
    operate(
        connected,
        "record-scan",
        {"order_id": found["order_id"], "package_id": parcel["package_id"]},
        {"scan_id": scan_name, "status": status, "at": (at or connected.now()).isoformat(), "reason": note_text},
        Answer(wait=wait, timeout=timeout, as_json=as_json),
        about={"order_id": found["order_id"], "package_id": parcel["package_id"], "scan_id": scan_name},
        see=f"oms order show {named(found)}",
        objection=operation_of("record-scan").offered(parcel),
    )


def _of_order(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The fulfillments of an order, each with its packages in the order they were packed."""
    about = {name: order[name] for name in ("order_id", "channel", "reference")}
    for fulfillment in order["fulfillments"]:
        mine = [package for package in order["packages"] if package["fulfillment_id"] == fulfillment["fulfillment_id"]]
        yield {**about, **fulfillment, "packages": sorted(mine, key=lambda package: package["packed_at"] or "")}


def _fulfillment(order: dict[str, Any], location: str | None) -> dict[str, Any]:
    """The order's fulfillment at a location. Raises a CliError that names those there are."""
    found = {fulfillment["location"]: fulfillment for fulfillment in _of_order(order)}
    if not found:
        raise CliError(
            NOT_DONE, f"order {named(order)} has no fulfillment: it is {order['status']}; `oms order show {named(order)}` says more"
        )
    if location is None:
        if len(found) > 1:
            raise CliError(INVALID, f"LOCATION: name one of {', '.join(found)}; each of them ships a part of {named(order)}")
        return next(iter(found.values()))
    if location not in found:
        raise CliError(NOT_DONE, f"order {named(order)} has no fulfillment at {location}, but at {', '.join(found)}")
    return found[location]


def _package(order: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The order's package of this SSCC or tracking number. Raises a CliError that names those there are."""
    known: list[dict[str, Any]] = order["packages"]
    found = [package for package in known if name is None or name in {package["package_id"], package["tracking_number"]}]
    if len(found) == 1:
        return found[0]
    if not known:
        raise CliError(NOT_DONE, f"order {named(order)} has no package: it is {order['status']}; `oms fulfillment pack` packs one")
    ids = ", ".join(package["package_id"] for package in known)
    if found:
        raise CliError(INVALID, f"order {named(order)} has several packages: name one of {ids}")
    raise CliError(NOT_DONE, f"order {named(order)} has no package {name}, but {ids}")


def _operate(context: typer.Context, name: str, order: str, location: str | None, *, body: dict[str, Any], answer: Answer) -> None:
    connected = connections(context)
    found = order_of(connected, order)
    _step(connected, name, found, _fulfillment(found, location), body=body, answer=answer, about={})


def _step(
    connected: Connections,
    name: str,
    order: dict[str, Any],
    fulfillment: dict[str, Any],
    *,
    body: dict[str, Any],
    answer: Answer,
    about: dict[str, Any],
) -> None:
    operate(
        connected,
        name,
        {"order_id": order["order_id"], "location": fulfillment["location"]},
        body,
        answer,
        about={"order_id": order["order_id"], "fulfillment_id": fulfillment["fulfillment_id"], **about},
        see=f"oms fulfillment show {named(order)} {fulfillment['location']}",
        objection=operation_of(name).offered(fulfillment),
    )


def _unpacked(fulfillment: dict[str, Any]) -> list[tuple[tuple[str, str], int]]:
    """Units that are in no package yet, by line and SKU."""
    left = Counter({(line["line_id"], line["sku"]): 0 for line in fulfillment["lines"] or ()})
    for line in fulfillment["lines"] or ():
        left[line["line_id"], line["sku"]] += line["quantity"]
    for package in fulfillment["packages"]:
        for line in package["lines"] or ():
            left[line["line_id"], line["sku"]] -= line["quantity"]
    return [(name, units) for name, units in left.items() if units > 0]


def _packed(fulfillment: dict[str, Any], words: list[str] | None) -> list[dict[str, Any]]:
    """The lines of a package: those that `words` name, or all that is left."""
    left = _unpacked(fulfillment)
    chosen = left if words is None else [(_line_named(name, left), units) for name, units in quantities(words, "--line")]
    location = fulfillment["location"]
    return [{"line_id": line_id, "sku": sku, "location": location, "quantity": units} for (line_id, sku), units in chosen]


def _line_named(name: str, left: list[tuple[tuple[str, str], int]]) -> tuple[str, str]:
    known = ", ".join(f"{sku} (line {line_id}): {units}" for (line_id, sku), units in left) or "nothing"
    return line_named(name, (line for line, _ in left), f"what is to be packed: {known}")


def _next(fulfillment: dict[str, Any]) -> str | None:
    """The command that comes next, None where there is none."""
    match fulfillment["status"]:
        case "planned":
            return "accept {order} {location}"
        case "accepted":
            return "pick {order} {location}"
        case "picked":
            return "pack {order} {location}"
        case "packed":
            return f"ship {{order}} {{location}} --carrier NAME{' --tracking NUMBER' * len(fulfillment['packages'])}"
        case _:
            return None


def _delivery(order: dict[str, Any]) -> str:
    return "be collected" if order["delivery"] == "pickup" else "be shipped"


def _units(lines: Sequence[Mapping[str, Any]] | None) -> int:
    return sum(line["quantity"] for line in lines or ())


def _number(text: str) -> int:
    """A number that is as unlikely to come twice as the text."""
    return int.from_bytes(sha256(text.encode()).digest()[:8])
