"""Transfers of goods between locations. They leave one location at once, arrive at the other in parts, and what is missing is written off.

Units on the way are on hand nowhere, so nobody can be promised them. A transfer whose units have not all arrived before its deadline waits
for a person, who is asked again after each such time.
"""

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace
from oms_contracts.message import type_of
from oms_contracts.stock import (
    CloseTransfer,
    ReceiveTransfer,
    StockCommandRefused,
    TransferActionRequired,
    TransferClosed,
    TransferReceived,
    TransferStarted,
    TransferStock,
)
from oms_contracts.values import GoodsLine, bounded_reasons, quoted

from oms_inventory.commands import ActOnTransferDeadline, Event, TransferCommand
from oms_inventory.ledger import Positions, lines_at, units_of
from oms_inventory.reservations import Terms
from oms_inventory.validation import goods_objections, name_objections, reason_objections, short_of

KIND = "transfer"
"""How the key of a transfer begins, before the `/`."""
COMMANDS = frozenset(type_of(cls).name for cls in (TransferStock, ReceiveTransfer, CloseTransfer))
MAX_RECEIPTS = 1_000
"""Of one transfer. It keeps the state small."""


class Transfer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`status` is none, in_transit or closed. `on_the_way` are the units that have not arrived, by SKU. `refused` is the latest refusal."""

    status: str = "none"
    from_location: str = ""
    to_location: str = ""
    on_the_way: dict[str, int] = {}
    receipts: frozenset[str] = frozenset()
    deadline: datetime | None = None
    refused: tuple[str, ...] = ()


def key_of(transfer_id: str) -> str:
    """The key of a transfer."""
    return f"{KIND}/{transfer_id}"


def decide(command: TransferCommand, transfer: Transfer, positions: Positions, now: datetime, terms: Terms) -> list[Event]:
    """Send, receive or close a transfer; refuse what is not sound, once for the same reasons. `positions` has every SKU that is sent."""
    transfer_id, ends = command.transfer_id, {"from_location": transfer.from_location, "to_location": transfer.to_location}
    match command:
        case TransferStock(from_location=from_location, to_location=to_location, lines=lines, reason=reason):
            if transfer.status != "none":
                return []
            if reasons := tuple(_sending_objections(command, positions)):
                return _refuse(command, transfer, reasons, now)
            return [
                TransferStarted(
                    transfer_id=transfer_id,
                    from_location=from_location,
                    to_location=to_location,
                    lines=lines_at(from_location, lines),
                    reason=reason,
                    deadline=now + terms.transfer_timeout,
                    at=now,
                )
            ]
        case ReceiveTransfer(receipt_id=receipt_id, location=location, lines=lines):
            if receipt_id in transfer.receipts:
                return []
            if reasons := tuple(_receiving_objections(command, transfer)):
                return _refuse(command, transfer, reasons, now)
            arrived = lines_at(location, lines)
            return [TransferReceived(transfer_id=transfer_id, receipt_id=receipt_id, lines=arrived, at=now, **ends)]
        case CloseTransfer(reason=reason):
            if transfer.status == "closed":
                return []
            if reasons := (*_end_objections(command, transfer), *reason_objections(reason)):
                return _refuse(command, transfer, reasons, now)
            missing = tuple(GoodsLine(sku=sku, quantity=units) for sku, units in transfer.on_the_way.items())
            return [TransferClosed(transfer_id=transfer_id, lines=missing, reason=reason, at=now, **ends)]
        case ActOnTransferDeadline(deadline=deadline):
            # The deadline is matched, not compared with the clock: one from before the end is no longer due.
            if transfer.status != "in_transit" or transfer.deadline != deadline:
                return []
            units, again = sum(transfer.on_the_way.values()), now + terms.transfer_timeout
            return [TransferActionRequired(transfer_id=transfer_id, action="close_transfer", units=units, deadline=again, at=now, **ends)]


def evolve(transfer: Transfer, event: Event) -> Transfer:
    """The transfer after an event."""
    match event:
        case TransferStarted(from_location=from_location, to_location=to_location, lines=lines, deadline=deadline):
            sent = dict(units_of(lines))
            return Transfer(status="in_transit", from_location=from_location, to_location=to_location, on_the_way=sent, deadline=deadline)
        case TransferReceived(receipt_id=receipt_id, lines=lines):
            arrived = units_of(lines)
            left = {sku: rest for sku, units in transfer.on_the_way.items() if (rest := units - arrived[sku]) > 0}
            received = replace(transfer, on_the_way=left, receipts=transfer.receipts | {receipt_id}, refused=())
            return received if left else replace(received, status="closed", deadline=None)
        case TransferClosed():
            return replace(transfer, status="closed", on_the_way={}, deadline=None, refused=())
        case TransferActionRequired(deadline=deadline):
            return replace(transfer, deadline=deadline)
        case StockCommandRefused(command=command, reasons=reasons):
            return replace(transfer, refused=(command, *reasons))
        case _:
            return transfer


def due(key: str, transfer: Transfer) -> tuple[datetime, ActOnTransferDeadline] | None:
    """A transfer waits for its units until its deadline."""
    if transfer.deadline is None:
        return None
    return transfer.deadline, ActOnTransferDeadline(transfer_id=key.removeprefix(f"{KIND}/"), deadline=transfer.deadline)


def _sending_objections(command: TransferStock, positions: Positions) -> Iterator[str]:
    wrong = (
        *name_objections("transfer_id", command.transfer_id),
        *name_objections("from_location", command.from_location),
        *name_objections("to_location", command.to_location),
        *goods_objections(command.lines),
    )
    yield from wrong
    if command.from_location == command.to_location:
        yield f"to_location: must be another than from_location, is {quoted(command.to_location)}"
    for sku, wanted in units_of(command.lines).items() if not wrong else ():
        units = positions[sku].bin(command.from_location)
        if wanted > units.free:
            what = f"free ({units.on_hand} on hand, {units.reserved + units.allocated} promised, {units.quarantined} set apart)"
            yield short_of(sku, command.from_location, wanted, units.free, what)


def _receiving_objections(command: ReceiveTransfer, transfer: Transfer) -> Iterator[str]:
    if transfer.status != "in_transit":
        yield f"transfer_id: the transfer is {_status(transfer)}; what arrives nevertheless is booked as an adjustment: found"
        return
    wrong = (*name_objections("receipt_id", command.receipt_id), *_end_objections(command, transfer), *goods_objections(command.lines))
    yield from wrong
    if len(transfer.receipts) >= MAX_RECEIPTS:
        yield f"receipt_id: the transfer has had {MAX_RECEIPTS} receipts, and no more are taken: close it"
    for sku, arrived in units_of(command.lines).items() if not wrong else ():
        if arrived > (left := transfer.on_the_way.get(sku, 0)):
            yield f"lines: {arrived} of {quoted(sku)} arrived, and {left} are on the way; book what is too many as found"


def _end_objections(command: ReceiveTransfer | CloseTransfer, transfer: Transfer) -> Iterator[str]:
    if transfer.status == "none":
        yield "transfer_id: the transfer is not known"
    elif command.location not in {transfer.from_location, transfer.to_location}:
        ends = f"from {quoted(transfer.from_location)} to {quoted(transfer.to_location)}"
        yield f"location: {quoted(command.location)} is no end of the transfer, which goes {ends}"


def _status(transfer: Transfer) -> str:
    return "not known" if transfer.status == "none" else transfer.status


def _refuse(
    command: TransferStock | ReceiveTransfer | CloseTransfer, transfer: Transfer, objections: tuple[str, ...], now: datetime
) -> list[Event]:
    """The refusal of a command that does not fit. The same refusal twice in a row is published once."""
    name, reasons = type_of(command).name, bounded_reasons(objections)
    if (name, *reasons) == transfer.refused:
        return []
    return [StockCommandRefused(entry_id=command.transfer_id, command=name, reasons=reasons, at=now)]
