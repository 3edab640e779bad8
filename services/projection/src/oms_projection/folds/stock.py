"""oms.stock: positions by SKU and location, the ledger of what changed on hand, and what is held for each order.

Some of these events carry the order's key, others that of a receipt, an adjustment or a return: positions are sums, so any order will do.
"""

from collections.abc import Iterable
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
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
)
from oms_contracts.values import AllocatedLine, StockLine

from oms_projection.tables import ORDER_STOCK, STOCK, STOCK_LEDGER, Changes


def fold(changes: Changes, event: Any, envelope: Envelope) -> None:
    """What one event means."""
    match event:
        case StockReserved(order_id=order_id, attempt=attempt, lines=lines, at=at):
            units = _hold(changes, lines, reserved=1)
            changes.add(ORDER_STOCK, order_id, reserved=units)
            _stands(changes, order_id, "reserved", at, expires_at=event.expires_at, attempt=attempt, lines=encode(lines).decode())
        case StockAllocated(order_id=order_id, lines=lines, at=at):
            freed = -1 if event.reserved else 0
            units = _hold(changes, lines, reserved=freed, allocated=1)
            changes.add(ORDER_STOCK, order_id, reserved=freed * units, allocated=units)
            _stands(changes, order_id, "allocated", at, lines=encode(lines).decode())
        case StockShipped(order_id=order_id, fulfillment_id=fulfillment_id, lines=lines, at=at):
            units = _hold(changes, lines, on_hand=-1, allocated=-1)
            changes.add(ORDER_STOCK, order_id, allocated=-units, shipped=units)
            _stands(changes, order_id, "shipped", at)
            _enter(changes, event, envelope, "shipped", reference=fulfillment_id, order_id=order_id)
        case StockReservationExpired(order_id=order_id, lines=lines, at=at):
            changes.add(ORDER_STOCK, order_id, reserved=-_hold(changes, lines, reserved=-1))
            _stands(changes, order_id, "expired", at)
        case StockReleased(order_id=order_id, stage=stage, lines=lines, at=at):
            if stage in {"reserved", "allocated"}:
                changes.add(ORDER_STOCK, order_id, **{stage: -_hold(changes, lines, **{stage: -1})})
            _stands(changes, order_id, "released", at)
        case StockReservationFailed(order_id=order_id, attempt=attempt, shortages=shortages, at=at):
            _stands(changes, order_id, "failed", at, shortages=encode(shortages).decode(), attempt=attempt)
        case StockAllocationRequested(order_id=order_id, attempt=attempt, at=at):
            _stands(changes, order_id, "requested", at, attempt=attempt)
        case StockReceived(receipt_id=receipt_id, lines=lines):
            _hold(changes, lines, on_hand=1)
            _enter(changes, event, envelope, "received", reference=receipt_id)
        case StockAdjusted(adjustment_id=adjustment_id, lines=lines, reason=reason):
            _hold(changes, lines, on_hand=1)
            _enter(changes, event, envelope, "adjusted", reference=adjustment_id, reason=reason)
        case StockReturned(return_id=return_id, order_id=order_id, lines=lines):
            _hold(changes, lines, on_hand=1)
            _enter(changes, event, envelope, "returned", reference=return_id, order_id=order_id)
        case StockWrittenOff(return_id=return_id, order_id=order_id, lines=lines, reason=reason):
            _hold(changes, lines, on_hand=-1)
            _enter(changes, event, envelope, "written_off", reference=return_id, order_id=order_id, reason=reason)
        case _:
            pass


def _hold(changes: Changes, lines: Iterable[AllocatedLine | StockLine], **signs: int) -> int:
    """Move every line's units at its place by `signs`; answers with how many units there are."""
    units = 0
    for line in lines:
        units += line.quantity
        changes.add(STOCK, line.sku, line.location, **{name: sign * line.quantity for name, sign in signs.items()})
    return units


def _stands(changes: Changes, order_id: str, status: str, at: Any, *, shortages: Any = None, expires_at: Any = None, **more: Any) -> None:
    changes.set(ORDER_STOCK, order_id, status=status, at=at, shortages=shortages, expires_at=expires_at, **more)


def _enter(
    changes: Changes, event: Any, envelope: Envelope, kind: str, *, reference: str, order_id: str | None = None, reason: str | None = None
) -> None:
    """Write the ledger: what changed on hand, and why."""
    sign = -1 if kind in {"shipped", "written_off"} else 1
    lines: tuple[AllocatedLine | StockLine, ...] = event.lines
    for number, line in enumerate(lines, 1):
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
