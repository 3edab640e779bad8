"""The stock ledger: receipts, adjustments and returns. Each of them is an Entry, so that none is booked twice."""

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace
from oms_contracts.message import type_of
from oms_contracts.stock import (
    AdjustStock,
    ReceiveStock,
    StockAdjusted,
    StockCommandRefused,
    StockReceived,
    StockReturned,
    StockWrittenOff,
)
from oms_contracts.values import StockLine, bounded_reasons

from oms_inventory.commands import BookReturn, Event, LedgerCommand, LedgerEvent

KINDS = frozenset({"receipt", "adjustment", "return"})
"""How the key of an entry begins, before the `/`."""
RECEIVE = type_of(ReceiveStock).name
ADJUST = type_of(AdjustStock).name
MAX_LINES = 1_000
MAX_UNITS = 10**9
"""In one line of a receipt or adjustment. It keeps every sum within what a bigint and a JSON number hold."""
MAX_CHARACTERS = 200
"""In an id, a SKU or a location, because they become keys."""


class Entry(Struct, frozen=True, kw_only=True):
    """A receipt, an adjustment or a return. `refused` are the reasons of the latest refusal."""

    booked: bool = False
    refused: tuple[str, ...] = ()


def key_of(of: LedgerCommand | LedgerEvent) -> str:
    """The key of the entry that a command or an event belongs to."""
    match of:
        case ReceiveStock(receipt_id=receipt_id) | StockReceived(receipt_id=receipt_id):
            return f"receipt/{receipt_id}"
        case AdjustStock(adjustment_id=adjustment_id) | StockAdjusted(adjustment_id=adjustment_id):
            return f"adjustment/{adjustment_id}"
        case BookReturn(return_id=return_id) | StockReturned(return_id=return_id) | StockWrittenOff(return_id=return_id):
            return f"return/{return_id}"
        case StockCommandRefused(entry_id=entry_id, command=command):
            return f"receipt/{entry_id}" if command == RECEIVE else f"adjustment/{entry_id}"


def decide(command: LedgerCommand, entry: Entry, now: datetime) -> list[Event]:
    """Book an entry once; refuse a receipt or an adjustment that is not valid, once for the same reasons."""
    if entry.booked:
        return []
    match command:
        case BookReturn():
            return list(_book_return(command, now))
        case ReceiveStock(receipt_id=entry_id, lines=lines):
            name, booked = RECEIVE, StockReceived(receipt_id=entry_id, lines=lines, at=now)
        case AdjustStock(adjustment_id=entry_id, lines=lines, reason=reason):
            name, booked = ADJUST, StockAdjusted(adjustment_id=entry_id, lines=lines, reason=reason, at=now)
    reasons = bounded_reasons(objections(command))
    if not reasons:
        return [booked]
    return [] if reasons == entry.refused else [StockCommandRefused(entry_id=entry_id, command=name, reasons=reasons, at=now)]


def evolve(entry: Entry, event: Event) -> Entry:
    """The entry after an event."""
    return replace(entry, refused=event.reasons) if isinstance(event, StockCommandRefused) else Entry(booked=True)


def objections(command: ReceiveStock | AdjustStock) -> Iterator[str]:
    """Everything that is wrong with a receipt or an adjustment; each objection names its field and the reason.

    An adjustment may lower on hand below what is promised, even below zero, because it records what was counted.
    """
    match command:
        case ReceiveStock(receipt_id=receipt_id):
            yield from _name_objections("receipt_id", receipt_id)
        case AdjustStock(adjustment_id=adjustment_id, reason=reason):
            yield from _name_objections("adjustment_id", adjustment_id)
            if not reason.strip():
                yield "reason: must not be empty"
    if not 1 <= len(command.lines) <= MAX_LINES:
        yield f"lines: there must be 1 to {MAX_LINES} lines, there are {len(command.lines)}"
        return
    for index, line in enumerate(command.lines):
        yield from _name_objections(f"lines.{index}.sku", line.sku)
        yield from _name_objections(f"lines.{index}.location", line.location)
        if isinstance(command, ReceiveStock) and line.quantity < 1:
            yield f"lines.{index}.quantity: must be at least 1, is {line.quantity}"
        elif line.quantity == 0:
            yield f"lines.{index}.quantity: must not be 0"
        elif abs(line.quantity) > MAX_UNITS:
            yield f"lines.{index}.quantity: must be at most {MAX_UNITS}"


def _name_objections(field_name: str, name: str) -> Iterator[str]:
    if not name.strip():
        yield f"{field_name}: must not be empty"
    elif not name.isprintable() or len(name) > MAX_CHARACTERS:
        yield f"{field_name}: must be at most {MAX_CHARACTERS} printable characters"


def _book_return(command: BookReturn, now: datetime) -> Iterator[Event]:
    """All units come back; those that cannot be sold again are written off."""
    return_id, order_id, location = command.return_id, command.order_id, command.location
    lines = [(line.disposition, StockLine(sku=line.sku, location=location, quantity=line.quantity)) for line in command.lines]
    if returned := tuple(line for _, line in lines):
        yield StockReturned(return_id=return_id, order_id=order_id, lines=returned, at=now)
    if lost := tuple(line for disposition, line in lines if disposition != "restock"):
        yield StockWrittenOff(return_id=return_id, order_id=order_id, lines=lost, reason="not fit to be sold again", at=now)
