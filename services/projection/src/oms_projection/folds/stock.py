"""oms.stock: positions by SKU and location, the ledger of all changes of on hand, and the stock held for each order.

Some of these events have the order's key, others that of a receipt, a transfer or a SKU. Positions are sums, so their order does not
matter. What is said of a SKU has its key, and what happens to a transfer has its id: these stay in order.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from oms_contracts.envelope import Envelope
from oms_contracts.message import encode
from oms_contracts.stock import (
    QuarantineReleased,
    QuarantineWrittenOff,
    StockActionRequired,
    StockActionResolved,
    StockAdjusted,
    StockAllocated,
    StockAllocationRequested,
    StockCounted,
    StockExcess,
    StockExcessCleared,
    StockLimitsSet,
    StockLow,
    StockLowCleared,
    StockOut,
    StockOutCleared,
    StockQuarantined,
    StockReceived,
    StockReleased,
    StockReservationExpired,
    StockReservationFailed,
    StockReservationPostponed,
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
    TransferActionRequired,
    TransferClosed,
    TransferReceived,
    TransferStarted,
)
from oms_contracts.values import AllocatedLine, CountedLine, StockLine

from oms_projection.changes import Changes
from oms_projection.tables import ORDER_STOCK, STOCK, STOCK_LEDGER, STOCK_LIMITS, STOCK_SIGNALS, TRANSFER_LINES, TRANSFERS

LedgerEvent = (
    StockReceived
    | StockAdjusted
    | StockCounted
    | StockReturned
    | StockShipped
    | StockWrittenOff
    | StockQuarantined
    | QuarantineReleased
    | QuarantineWrittenOff
    | TransferStarted
    | TransferReceived
)
SignalEvent = StockLow | StockLowCleared | StockOut | StockOutCleared | StockExcess | StockExcessCleared
ActionEvent = StockActionRequired | StockActionResolved
TransferEvent = TransferStarted | TransferReceived | TransferClosed | TransferActionRequired


def fold(changes: Changes, event: object, envelope: Envelope) -> None:
    """Add one event to `changes`."""
    match event:
        case StockReserved(order_id=order_id, attempt=attempt, lines=lines, at=at):
            units = _add_to_positions(changes, lines, reserved=1)
            changes.add(ORDER_STOCK, order_id, reserved=units)
            _set_status(changes, order_id, "reserved", at, expires_at=event.expires_at, attempt=attempt, lines=encode(lines).decode())
        case StockAllocated(order_id=order_id, lines=lines, at=at):
            freed = -1 if event.reserved else 0
            units = _add_to_positions(changes, lines, reserved=freed, allocated=1)
            changes.add(ORDER_STOCK, order_id, reserved=freed * units, allocated=units)
            _set_status(changes, order_id, "allocated", at, lines=encode(lines).decode())
        case StockShipped(order_id=order_id, fulfillment_id=fulfillment_id, lines=lines, at=at):
            units = _add_to_positions(changes, lines, on_hand=-1, allocated=-1)
            changes.add(ORDER_STOCK, order_id, allocated=-units, shipped=units)
            _set_status(changes, order_id, "shipped", at)
            _add_to_ledger(changes, event, envelope, "shipped", on_hand=-1, reference=fulfillment_id, order_id=order_id)
        case StockReservationExpired(order_id=order_id, lines=lines, at=at):
            changes.add(ORDER_STOCK, order_id, reserved=-_add_to_positions(changes, lines, reserved=-1))
            _set_status(changes, order_id, "expired", at)
        case StockReleased(order_id=order_id, stage=stage, lines=lines, at=at):
            if stage in {"reserved", "allocated"}:
                changes.add(ORDER_STOCK, order_id, **{stage: -_add_to_positions(changes, lines, **{stage: -1})})
            _set_status(changes, order_id, "released", at)
        case StockReservationFailed(order_id=order_id, attempt=attempt, shortages=shortages, at=at):
            status, unknown = "failed" if event.waiting_since is None else "waiting", event.unknown_skus
            _set_status(changes, order_id, status, at, shortages=encode(shortages).decode(), unknown_skus=unknown, attempt=attempt)
        case StockReservationPostponed(order_id=order_id, attempt=attempt, unknown_skus=unknown, at=at):
            _set_status(changes, order_id, "postponed", at, unknown_skus=unknown, attempt=attempt)
        case StockAllocationRequested(order_id=order_id, attempt=attempt, at=at):
            _set_status(changes, order_id, "requested", at, attempt=attempt)
        case StockLimitsSet(sku=sku, location=location, at=at):
            limits = {"safety": event.safety, "reorder_point": event.reorder_point, "maximum": event.maximum}
            changes.set(STOCK_LIMITS, sku, location or "", at=at, **limits)
        case StockActionRequired(action=action) | StockActionResolved(action=action):
            _set_signal(changes, event, action.removeprefix("resolve_"), holds=isinstance(event, StockActionRequired))
        case StockLow() | StockLowCleared():
            _set_signal(changes, event, "low", holds=isinstance(event, StockLow))
        case StockOut() | StockOutCleared():
            _set_signal(changes, event, "out", holds=isinstance(event, StockOut))
        case StockExcess() | StockExcessCleared():
            _set_signal(changes, event, "excess", holds=isinstance(event, StockExcess))
        case TransferStarted() | TransferReceived() | TransferClosed() | TransferActionRequired():
            _fold_transfer(changes, event, envelope)
        case _:
            _fold_ledger(changes, event, envelope)


def _fold_ledger(changes: Changes, event: object, envelope: Envelope) -> None:
    """Add what changes stock for no order's sake."""
    match event:
        case StockReceived(receipt_id=receipt_id):
            _book(changes, event, envelope, "received", on_hand=1, reference=receipt_id)
        case StockAdjusted(adjustment_id=adjustment_id, reason=reason, reason_code=code):
            _book(changes, event, envelope, "adjusted", on_hand=1, reference=adjustment_id, reason=reason, reason_code=code)
        case StockCounted(count_id=count_id, reason=reason):
            _book(changes, event, envelope, "counted", on_hand=1, reference=count_id, reason=reason)
        case StockReturned(return_id=return_id, order_id=order_id):
            _book(changes, event, envelope, "returned", on_hand=1, reference=return_id, order_id=order_id)
        case StockWrittenOff(return_id=return_id, order_id=order_id, reason=reason):
            _book(changes, event, envelope, "written_off", on_hand=-1, reference=return_id, order_id=order_id, reason=reason)
        case StockQuarantined(quarantine_id=quarantine_id, order_id=order_id, reason=reason):
            _book(changes, event, envelope, "quarantined", quarantined=1, reference=quarantine_id, order_id=order_id, reason=reason)
        case QuarantineReleased(release_id=release_id, reason=reason):
            _book(changes, event, envelope, "released", quarantined=-1, reference=release_id, reason=reason)
        case QuarantineWrittenOff(write_off_id=write_off_id, reason=reason):
            _book(changes, event, envelope, "written_off", on_hand=-1, quarantined=-1, reference=write_off_id, reason=reason)
        case _:
            pass


def _fold_transfer(changes: Changes, event: TransferEvent, envelope: Envelope) -> None:
    transfer_id, to_location, at = event.transfer_id, event.to_location, event.at
    match event:
        case TransferStarted(from_location=from_location, reason=reason, deadline=deadline):
            ends = {"from_location": from_location, "to_location": to_location}
            changes.set(TRANSFERS, transfer_id, sent_at=at, at=at, reason=reason, deadline=deadline, **ends)
            _book(changes, event, envelope, "transferred_out", on_hand=-1, reference=transfer_id, reason=reason)
            column, on_the_way = "sent", 1
        case TransferReceived():
            changes.set(TRANSFERS, transfer_id, at=at)
            _book(changes, event, envelope, "transferred_in", on_hand=1, reference=transfer_id)
            column, on_the_way = "received", -1
        case TransferClosed(reason=reason):
            changes.set(TRANSFERS, transfer_id, at=at, closed_at=at, closed_reason=reason)
            column, on_the_way = "written_off", -1
        case TransferActionRequired(action=action, deadline=deadline):
            changes.set(TRANSFERS, transfer_id, at=at, action=action, deadline=deadline)
            return
    for line in event.lines:
        changes.add(TRANSFER_LINES, transfer_id, line.sku, **{column: line.quantity})
        changes.add(STOCK, line.sku, to_location, in_transit=on_the_way * line.quantity)


def _set_signal(changes: Changes, event: SignalEvent | ActionEvent, signal: str, *, holds: bool) -> None:
    """What is said of a position, which has a row from then on also where it never had units."""
    deadline = event.deadline if isinstance(event, StockActionRequired) else None
    changes.set(STOCK_SIGNALS, event.sku, event.location, signal, holds=int(holds), at=event.at, deadline=deadline)
    changes.add(STOCK, event.sku, event.location)


def _units(line: AllocatedLine | StockLine | CountedLine) -> int:
    """What a line changes, before its sign."""
    return line.difference if isinstance(line, CountedLine) else line.quantity


def _add_to_positions(changes: Changes, lines: Iterable[AllocatedLine | StockLine | CountedLine], **signs: int) -> int:
    """Change the position of every line by its units times `signs`. Returns the number of units."""
    units = 0
    for line in lines:
        units += (changed := _units(line))
        changes.add(STOCK, line.sku, line.location, **{name: sign * changed for name, sign in signs.items()})
    return units


def _set_status(
    changes: Changes,
    order_id: str,
    status: str,
    at: datetime,
    *,
    shortages: str | None = None,
    unknown_skus: tuple[str, ...] = (),
    expires_at: datetime | None = None,
    **more: Any,
) -> None:
    unknown = encode(unknown_skus).decode() if unknown_skus else None
    changes.set(ORDER_STOCK, order_id, status=status, at=at, shortages=shortages, unknown_skus=unknown, expires_at=expires_at, **more)


def _book(
    changes: Changes, event: LedgerEvent, envelope: Envelope, kind: str, *, on_hand: int = 0, quarantined: int = 0, **about: Any
) -> None:
    """Change the positions of the event's lines by their units times the signs, and add them to the ledger."""
    signs = {name: sign for name, sign in (("on_hand", on_hand), ("quarantined", quarantined)) if sign}
    _add_to_positions(changes, event.lines, **signs)
    _add_to_ledger(changes, event, envelope, kind, on_hand=on_hand, quarantined=quarantined, **about)


def _add_to_ledger(
    changes: Changes,
    event: LedgerEvent,
    envelope: Envelope,
    kind: str,
    *,
    on_hand: int,
    reference: str,
    quarantined: int = 0,
    order_id: str | None = None,
    reason_code: str | None = None,
    reason: str | None = None,
) -> None:
    """Add the event's changes of on hand, and of what is set apart, to the ledger."""
    for number, line in enumerate(event.lines, 1):
        changed = _units(line)
        changes.append(
            STOCK_LEDGER,
            line.sku,
            envelope.position,
            number,
            line.location,
            kind,
            on_hand * changed,
            quarantined * changed,
            reference,
            order_id,
            reason_code,
            reason or None,
            event.at,
        )
