"""oms.returns: goods that come back."""

from datetime import datetime
from typing import Any

from oms_contracts.envelope import Envelope
from oms_contracts.message import encode
from oms_contracts.returns import (
    ReturnActionRequired,
    ReturnApproved,
    ReturnCanceled,
    ReturnClosed,
    ReturnDeclined,
    ReturnExpired,
    ReturnItemsInspected,
    ReturnItemsReceived,
    ReturnRefundRequested,
    ReturnRequested,
    ReturnWindowOpened,
)

from oms_projection.changes import Changes
from oms_projection.tables import ORDER_LINES, RETURN_WINDOWS, RETURNS


def fold(changes: Changes, event: object, envelope: Envelope) -> None:
    """Add one event to `changes`."""
    match event:
        case ReturnWindowOpened(order_id=order_id, closes_at=closes_at, at=at):
            changes.set(RETURN_WINDOWS, order_id, opened_at=at, closes_at=closes_at)
        case ReturnRequested(order_id=order_id, return_id=return_id, lines=lines, at=at):
            _set_status(changes, order_id, return_id, "requested", at, requested_at=at, lines=encode(lines).decode())
        case ReturnApproved(order_id=order_id, return_id=return_id, expires_at=expires_at, at=at):
            _set_status(changes, order_id, return_id, "approved", at, expires_at=expires_at)
        case ReturnDeclined(order_id=order_id, return_id=return_id, reasons=reasons, at=at):
            _set_status(changes, order_id, return_id, "declined", at, reason="; ".join(reasons))
        case ReturnItemsReceived(order_id=order_id, return_id=return_id, location=location, lines=lines, at=at):
            _set_status(changes, order_id, return_id, "received", at, location=location)
            for line in lines:
                changes.add(RETURNS, order_id, return_id, received=line.quantity)
                changes.add(ORDER_LINES, order_id, line.line_id, returned=line.quantity)
        case ReturnItemsInspected(order_id=order_id, return_id=return_id, lines=lines, at=at):
            _set_status(changes, order_id, return_id, "inspected", at, inspected=encode(lines).decode())
        case ReturnRefundRequested(order_id=order_id, return_id=return_id, amount=amount, at=at):
            _set_status(changes, order_id, return_id, "refunding", at, refund_requested=amount)
        case ReturnClosed(order_id=order_id, return_id=return_id, outcome=outcome, refunded=refunded, at=at):
            _set_status(changes, order_id, return_id, "closed", at, outcome=outcome, refunded=refunded)
        case ReturnActionRequired(order_id=order_id, return_id=return_id, action=action, deadline=deadline):
            changes.set(RETURNS, order_id, return_id, action=action, deadline=deadline)
        case ReturnCanceled(order_id=order_id, return_id=return_id, reason=reason, at=at):
            _set_status(changes, order_id, return_id, "canceled", at, reason=reason)
        case ReturnExpired(order_id=order_id, return_id=return_id, at=at):
            _set_status(changes, order_id, return_id, "expired", at)
        case _:
            pass


def _set_status(changes: Changes, order_id: str, return_id: str, status: str, at: datetime, **more: Any) -> None:
    """Set the return's status. It no longer waits for an action."""
    changes.set(RETURNS, order_id, return_id, status=status, at=at, action="", deadline=None, **more)
