"""The parties outside that write to Kafka: channels, warehouses and carriers. Each has a broker user, and topics that it alone writes."""

import re
from collections.abc import Iterator

from oms_contracts.channel import OrderPlaced
from oms_contracts.returns import ReceiveReturnItems
from oms_contracts.stock import (
    AdjustStock,
    CloseTransfer,
    CountStock,
    QuarantineStock,
    ReceiveStock,
    ReceiveTransfer,
    ReleaseQuarantine,
    TransferStock,
    WriteOffQuarantine,
)

KINDS = ("channel", "warehouse", "carrier")
"""A channel bears the name that its orders have in `channel`, a warehouse that of its location, a carrier that of `carrier` in packages."""
SEPARATOR = ":"
"""Between kind and name. No topic's name can contain it, so neither can a party's: no two parties have one user."""
MAX_NAME_CHARACTERS = 100
"""What a location may have. Topics take more."""


def user_of(kind: str, name: str) -> str:
    """The broker user of a party. Events that its records cause bear it as their actor."""
    return f"{kind}{SEPARATOR}{name}"


def party_of(user: str) -> tuple[str, str] | None:
    """Kind and name of the party whose broker user this is, None where it is no party's."""
    kind, separator, name = user.partition(SEPARATOR)
    return (kind, name) if separator and name and kind in KINDS else None


def group_prefix(user: str) -> str:
    """What the names of a party's consumer groups begin with."""
    return f"oms.{user}{SEPARATOR}"


def name_objection(name: str) -> str:
    """Why a party cannot be named so, empty where it can: its topics bear the name."""
    if not name:
        return "a name must not be empty"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"a name has at most {MAX_NAME_CHARACTERS} characters, and this one has {len(name)}"
    if wrong := re.findall(r"[^A-Za-z0-9._-]", name):
        return f"Kafka's topics cannot bear {' '.join(map(repr, dict.fromkeys(wrong)))}: a name has letters of ASCII, digits, dots, _ and -"
    return ""


def parties_named(message: object) -> Iterator[tuple[str, str]]:
    """The parties that a party's message names as the one it is from, each with its field. Other messages leave it to their owner."""
    match message:
        case OrderPlaced(channel=channel):
            yield "channel", channel
        case ReceiveStock(lines=lines) | AdjustStock(lines=lines) | CountStock(lines=lines):
            yield from ((f"lines.{index}.location", line.location) for index, line in enumerate(lines))
        case TransferStock(from_location=location):
            yield "from_location", location
        case (
            ReceiveTransfer(location=location)
            | CloseTransfer(location=location)
            | QuarantineStock(location=location)
            | ReleaseQuarantine(location=location)
            | WriteOffQuarantine(location=location)
            | ReceiveReturnItems(location=location)
        ):
            yield "location", location
        case _:
            pass
