"""oms.stock: positions by SKU and location, the ledger of all changes of on hand, and the stock held for each order.

Some of these events have the order's key, others that of a receipt, an adjustment or a return. Positions are sums, so their order does not
matter.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from oms_contracts.envelope import Envelope
from oms_contracts.message import encode
from oms_contracts.stock import (
    StockAdjusted,
    StockAllocated,
    StockAllocationRequested,
    StockReceived,
    StockReleased,
    StockReservationExpired,
    StockReservationFailed,
    StockReservationPostponed,
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
)
from oms_contracts.values import AllocatedLine, StockLine

from oms_projection.changes import Changes
from oms_projection.tables import ORDER_STOCK, STOCK, STOCK_LEDGER

LedgerEvent = StockReceived | StockAdjusted | StockReturned | StockShipped | StockWrittenOff


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
            _add_to_ledger(changes, event, envelope, "shipped", reference=fulfillment_id, order_id=order_id)
        case StockReservationExpired(order_id=order_id, lines=lines, at=at):
            changes.add(ORDER_STOCK, order_id, reserved=-_add_to_positions(changes, lines, reserved=-1))
            _set_status(changes, order_id, "expired", at)
        case StockReleased(order_id=order_id, stage=stage, lines=lines, at=at):
            if stage in {"reserved", "allocated"}:
                changes.add(ORDER_STOCK, order_id, **{stage: -_add_to_positions(changes, lines, **{stage: -1})})
            _set_status(changes, order_id, "released", at)
        case StockReservationFailed(order_id=order_id, attempt=attempt, shortages=shortages, at=at):
            unknown = event.unknown_skus
            _set_status(changes, order_id, "failed", at, shortages=encode(shortages).decode(), unknown_skus=unknown, attempt=attempt)
        case StockReservationPostponed(order_id=order_id, attempt=attempt, unknown_skus=unknown, at=at):
            _set_status(changes, order_id, "postponed", at, unknown_skus=unknown, attempt=attempt)
        case StockAllocationRequested(order_id=order_id, attempt=attempt, at=at):
            _set_status(changes, order_id, "requested", at, attempt=attempt)
        case StockReceived(receipt_id=receipt_id, lines=lines):
            _add_to_positions(changes, lines, on_hand=1)
            _add_to_ledger(changes, event, envelope, "received", reference=receipt_id)
        case StockAdjusted(adjustment_id=adjustment_id, lines=lines, reason=reason):
            _add_to_positions(changes, lines, on_hand=1)
            _add_to_ledger(changes, event, envelope, "adjusted", reference=adjustment_id, reason=reason)
        case StockReturned(return_id=return_id, order_id=order_id, lines=lines):
            _add_to_positions(changes, lines, on_hand=1)
            _add_to_ledger(changes, event, envelope, "returned", reference=return_id, order_id=order_id)
        case StockWrittenOff(return_id=return_id, order_id=order_id, lines=lines, reason=reason):
            _add_to_positions(changes, lines, on_hand=-1)
            _add_to_ledger(changes, event, envelope, "written_off", reference=return_id, order_id=order_id, reason=reason)
        case _:
            pass


def _add_to_positions(changes: Changes, lines: Iterable[AllocatedLine | StockLine], **signs: int) -> int:
    """Change the position of every line by its units times `signs`. Returns the number of units."""
    units = 0
    for line in lines:
        units += line.quantity
        changes.add(STOCK, line.sku, line.location, **{name: sign * line.quantity for name, sign in signs.items()})
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


def _add_to_ledger(
    changes: Changes,
    event: LedgerEvent,
    envelope: Envelope,
    kind: str,
    *,
    reference: str,
    order_id: str | None = None,
    reason: str | None = None,
) -> None:
    """Add the event's changes of on hand to the ledger."""
    sign = -1 if kind in {"shipped", "written_off"} else 1
    for number, line in enumerate(event.lines, 1):
        changes.append(
            STOCK_LEDGER,
            line.sku,
            envelope.position,
            number,
            line.location,
            kind,
            sign * line.quantity,
            reference,
            order_id,
            reason,
            event.at,
        )
