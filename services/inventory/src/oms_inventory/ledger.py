"""The stock ledger: receipts, adjustments, counts, returns and quarantine. Each of them is an Entry, so that none is booked twice.

What takes units away is booked against what is there: no more than is free, unless the units are gone as a fact, and never below zero. A
count says how many units there are, whatever was on hand before.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace
from oms_contracts.message import type_of
from oms_contracts.stock import (
    AdjustStock,
    CountStock,
    QuarantineReleased,
    QuarantineStock,
    QuarantineWrittenOff,
    ReceiveStock,
    ReleaseQuarantine,
    StockAdjusted,
    StockCommandRefused,
    StockCounted,
    StockQuarantined,
    StockReceived,
    StockReturned,
    StockWrittenOff,
    WriteOffQuarantine,
)
from oms_contracts.values import CountedLine, GoodsLine, StockLine, bounded_reasons, quoted

from oms_inventory.commands import BookReturn, CheckedCommand, Event, LedgerCommand, LedgerEvent, QuarantineCommand
from oms_inventory.positions import Position
from oms_inventory.validation import (
    MAX_UNITS,
    goods_objections,
    name_objections,
    quantity_objections,
    reason_objections,
    short_of,
    size_objections,
)

Positions = Mapping[str, Position]
"""By SKU: every one that a command names."""

KIND_OF: Mapping[str, str] = {
    type_of(ReceiveStock).name: "receipt",
    type_of(AdjustStock).name: "adjustment",
    type_of(CountStock).name: "count",
    type_of(QuarantineStock).name: "quarantine",
    type_of(ReleaseQuarantine).name: "release",
    type_of(WriteOffQuarantine).name: "write-off",
}
"""By the published type of a command: how the key of its entry begins, before the `/`."""
RETURN = "return"
KINDS = frozenset({*KIND_OF.values(), RETURN})
GONE = frozenset({"damaged", "lost", "stolen", "expired"})
"""The reason codes of units that are gone as a fact: whatever is promised, they are not there."""
REASON_CODES = frozenset({*GONE, "found", "correction", "other"})


class Entry(Struct, frozen=True, kw_only=True):
    """A receipt, an adjustment, a count, a return or a change of quarantine. `refused` are the reasons of the latest refusal."""

    booked: bool = False
    refused: tuple[str, ...] = ()


def key_of(of: LedgerCommand | LedgerEvent) -> str:
    """The key of the entry that a command or an event belongs to."""
    match of:
        case ReceiveStock(receipt_id=entry_id) | StockReceived(receipt_id=entry_id):
            kind = "receipt"
        case AdjustStock(adjustment_id=entry_id) | StockAdjusted(adjustment_id=entry_id):
            kind = "adjustment"
        case CountStock(count_id=entry_id) | StockCounted(count_id=entry_id):
            kind = "count"
        case BookReturn(return_id=entry_id) | StockReturned(return_id=entry_id) | StockWrittenOff(return_id=entry_id):
            kind = RETURN
        case StockQuarantined(return_id=str(entry_id)):
            kind = RETURN
        case QuarantineStock(quarantine_id=entry_id) | StockQuarantined(quarantine_id=entry_id):
            kind = "quarantine"
        case ReleaseQuarantine(release_id=entry_id) | QuarantineReleased(release_id=entry_id):
            kind = "release"
        case WriteOffQuarantine(write_off_id=entry_id) | QuarantineWrittenOff(write_off_id=entry_id):
            kind = "write-off"
        case StockCommandRefused(entry_id=entry_id, command=command):
            kind = KIND_OF[command]
    return f"{kind}/{entry_id}"


def decide(command: LedgerCommand, entry: Entry, positions: Positions, now: datetime) -> list[Event]:
    """Book an entry once; refuse what is not sound, once for the same reasons. `positions` has every SKU of a CheckedCommand."""
    if entry.booked:
        return []
    if isinstance(command, BookReturn):
        return list(_book_return(command, now))
    reasons = bounded_reasons(_objections(command, positions))
    if not reasons:
        return [_booked(command, positions, now)]
    if reasons == entry.refused:
        return []
    entry_id = key_of(command).partition("/")[2]
    return [StockCommandRefused(entry_id=entry_id, command=type_of(command).name, reasons=reasons, at=now)]


def evolve(entry: Entry, event: Event) -> Entry:
    """The entry after an event."""
    return replace(entry, refused=event.reasons) if isinstance(event, StockCommandRefused) else Entry(booked=True)


def lines_at(location: str, lines: tuple[GoodsLine, ...]) -> tuple[StockLine, ...]:
    """Goods with the location where they are."""
    return tuple(StockLine(sku=line.sku, location=location, quantity=line.quantity) for line in lines)


def _booked(command: ReceiveStock | CheckedCommand, positions: Positions, now: datetime) -> Event:
    match command:
        case ReceiveStock(receipt_id=receipt_id, lines=lines):
            return StockReceived(receipt_id=receipt_id, lines=lines, at=now)
        case AdjustStock(adjustment_id=adjustment_id, lines=lines, reason=reason, reason_code=reason_code):
            return StockAdjusted(adjustment_id=adjustment_id, lines=lines, reason=reason, reason_code=reason_code, at=now)
        case CountStock(count_id=count_id, reason=reason):
            counted = tuple(
                CountedLine(
                    sku=line.sku,
                    location=line.location,
                    counted=line.counted,
                    expected=(expected := positions[line.sku].bin(line.location).on_hand),
                    difference=line.counted - expected,
                )
                for line in command.lines
            )
            return StockCounted(count_id=count_id, lines=counted, reason=reason, at=now)
        case QuarantineStock(quarantine_id=quarantine_id, location=location, lines=lines, reason=reason):
            return StockQuarantined(quarantine_id=quarantine_id, lines=lines_at(location, lines), reason=reason, at=now)
        case ReleaseQuarantine(release_id=release_id, location=location, lines=lines, reason=reason):
            return QuarantineReleased(release_id=release_id, lines=lines_at(location, lines), reason=reason, at=now)
        case WriteOffQuarantine(write_off_id=write_off_id, location=location, lines=lines, reason=reason):
            return QuarantineWrittenOff(write_off_id=write_off_id, lines=lines_at(location, lines), reason=reason, at=now)


def _objections(command: ReceiveStock | CheckedCommand, positions: Positions) -> Iterator[str]:
    """Everything that is wrong with a command; what is there is only compared with one that is sound in itself."""
    match command:
        case ReceiveStock():
            yield from name_objections("receipt_id", command.receipt_id)
            yield from _line_objections(command)
        case AdjustStock():
            yield from (wrong := (*_adjustment_objections(command), *_line_objections(command)))
            if not wrong:
                yield from _objections_of_what_is_there(command, positions)
        case CountStock():
            yield from name_objections("count_id", command.count_id)
            yield from _count_objections(command)
        case QuarantineStock() | ReleaseQuarantine() | WriteOffQuarantine():
            yield from (wrong := tuple(_quarantine_objections(command)))
            if not wrong:
                yield from _objections_of_what_is_set_apart(command, positions)


def _line_objections(command: ReceiveStock | AdjustStock) -> Iterator[str]:
    if wrong := tuple(size_objections(command.lines)):
        yield from wrong
        return
    for index, line in enumerate(command.lines):
        yield from name_objections(f"lines.{index}.sku", line.sku)
        yield from name_objections(f"lines.{index}.location", line.location)
        if isinstance(command, ReceiveStock):
            yield from quantity_objections(f"lines.{index}.quantity", line.quantity)
        elif line.quantity == 0:
            yield f"lines.{index}.quantity: must not be 0"
        elif abs(line.quantity) > MAX_UNITS:
            yield f"lines.{index}.quantity: must be at most {MAX_UNITS}"
        elif line.quantity > 0 and command.reason_code in GONE:
            yield f"lines.{index}.quantity: must be below 0, because {command.reason_code} units are gone, is {line.quantity}"
        elif line.quantity < 0 and command.reason_code == "found":
            yield f"lines.{index}.quantity: must be above 0, because the units were found, is {line.quantity}"


def _adjustment_objections(command: AdjustStock) -> Iterator[str]:
    yield from name_objections("adjustment_id", command.adjustment_id)
    yield from reason_objections(command.reason)
    if command.reason_code not in REASON_CODES:
        yield f"reason_code: {quoted(command.reason_code)} is not one of {', '.join(sorted(REASON_CODES))}"


def _objections_of_what_is_there(command: AdjustStock, positions: Positions) -> Iterator[str]:
    """Nothing goes below zero; and not below what is promised, unless the units are gone."""
    changes = Counter[tuple[str, str]]()
    for line in command.lines:
        changes[line.sku, line.location] += line.quantity
    for (sku, location), change in changes.items():
        units = positions[sku].bin(location)
        if change >= 0:
            continue
        if units.on_hand + change < 0:
            yield f"{short_of(sku, location, -change, units.on_hand, 'on hand')}: say how many there are by a count"
        elif units.free + change < 0 and command.reason_code not in GONE:
            what = f"free ({units.on_hand} on hand, {units.reserved + units.allocated} promised, {units.quarantined} set apart)"
            gone = ", ".join(sorted(GONE))
            yield f"{short_of(sku, location, -change, units.free, what)}: if they are gone, say so by the reason_code: {gone}"


def _count_objections(command: CountStock) -> Iterator[str]:
    if wrong := tuple(size_objections(command.lines)):
        yield from wrong
        return
    counted = set[tuple[str, str]]()
    for index, line in enumerate(command.lines):
        yield from name_objections(f"lines.{index}.sku", line.sku)
        yield from name_objections(f"lines.{index}.location", line.location)
        if not 0 <= line.counted <= MAX_UNITS:
            yield f"lines.{index}.counted: must be 0 to {MAX_UNITS}, is {line.counted}"
        if (line.sku, line.location) in counted:
            yield f"lines.{index}: {quoted(line.sku)} at {quoted(line.location)} is counted twice: give it one line"
        counted.add((line.sku, line.location))


def _quarantine_objections(command: QuarantineCommand) -> Iterator[str]:
    match command:
        case QuarantineStock(quarantine_id=entry_id):
            yield from name_objections("quarantine_id", entry_id)
        case ReleaseQuarantine(release_id=entry_id):
            yield from name_objections("release_id", entry_id)
        case WriteOffQuarantine(write_off_id=entry_id):
            yield from name_objections("write_off_id", entry_id)
    yield from name_objections("location", command.location)
    yield from reason_objections(command.reason)
    yield from goods_objections(command.lines)


def _objections_of_what_is_set_apart(command: QuarantineCommand, positions: Positions) -> Iterator[str]:
    """Only what is free is set apart, and only what is set apart is released or written off; what is not on hand is not written off."""
    location = command.location
    for sku, wanted in units_of(command.lines).items():
        units = positions[sku].bin(location)
        if isinstance(command, QuarantineStock):
            if wanted > units.free:
                promised = units.reserved + units.allocated
                yield f"{short_of(sku, location, wanted, units.free, f'free ({units.on_hand} on hand, {promised} promised)')}"
        elif wanted > units.quarantined:
            yield short_of(sku, location, wanted, units.quarantined, "set apart")
        elif isinstance(command, WriteOffQuarantine) and wanted > units.on_hand:
            yield f"{short_of(sku, location, wanted, units.on_hand, 'on hand')}: release what is not there any more"


def units_of(lines: Iterable[GoodsLine | StockLine]) -> Counter[str]:
    """Units by SKU, summed: a SKU may be named several times."""
    units = Counter[str]()
    for line in lines:
        units[line.sku] += line.quantity
    return units


def _book_return(command: BookReturn, now: datetime) -> Iterator[Event]:
    """All units come back; those that may be sold again after a look are set apart, and those that cannot be are written off."""
    return_id, order_id, location = command.return_id, command.order_id, command.location
    lines = [(line.disposition, StockLine(sku=line.sku, location=location, quantity=line.quantity)) for line in command.lines]
    if returned := tuple(line for _, line in lines):
        yield StockReturned(return_id=return_id, order_id=order_id, lines=returned, at=now)
    if apart := tuple(line for disposition, line in lines if disposition == "quarantine"):
        reason = f"inspection of return {return_id}"
        yield StockQuarantined(quarantine_id=return_id, lines=apart, reason=reason, return_id=return_id, order_id=order_id, at=now)
    if lost := tuple(line for disposition, line in lines if disposition not in {"restock", "quarantine"}):
        yield StockWrittenOff(return_id=return_id, order_id=order_id, lines=lost, reason="not fit to be sold again", at=now)
