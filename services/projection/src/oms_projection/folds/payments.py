"""oms.payments: the payment of each order, with every authorization, every capture by shipment, and every refund."""

from datetime import datetime
from typing import Any

from oms_contracts.envelope import Envelope
from oms_contracts.message import encode
from oms_contracts.payments import (
    PaymentAbandoned,
    PaymentAuthorizationRequested,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureFailed,
    PaymentCaptureRequested,
    PaymentDeclined,
    PaymentOutcomeUnknown,
    PaymentRequestRepeated,
    PaymentVoided,
    PaymentVoidFailed,
    PaymentVoidRequested,
    RefundFailed,
    RefundPostponed,
    RefundRequested,
    RefundSettled,
)

from oms_projection.changes import Changes
from oms_projection.tables import AUTHORIZATIONS, CAPTURES, PAYMENTS, REFUNDS


def fold(changes: Changes, event: object, envelope: Envelope) -> None:
    """Add one event to `changes`."""
    match event:
        case PaymentAuthorizationRequested(order_id=order_id, attempt=attempt, currency=currency, at=at):
            _set_status(changes, order_id, "authorizing", at, attempt=attempt, currency=currency)
        case PaymentAuthorized(order_id=order_id, authorization_id=authorization_id, attempt=attempt, amount=amount, at=at):
            _set_status(changes, order_id, "authorized", at, currency=event.currency)
            changes.add(PAYMENTS, order_id, authorized=amount)
            changes.set(AUTHORIZATIONS, order_id, authorization_id, attempt=attempt, amount=amount, at=at)
        case PaymentDeclined(order_id=order_id, at=at):
            _set_status(changes, order_id, "declined", at)
        case PaymentOutcomeUnknown(order_id=order_id, next_check_at=next_check_at, at=at):
            _set_status(changes, order_id, "unknown", at, next_check_at=next_check_at)
        case PaymentRequestRepeated(order_id=order_id, at=at):
            _set_status(changes, order_id, "repeated", at)
        case PaymentCaptureRequested(order_id=order_id, fulfillment_id=fulfillment_id, amount=amount, lines=lines, at=at):
            _set_status(changes, order_id, "capturing", at)
            changes.set(CAPTURES, order_id, fulfillment_id, status="requested", requested=amount, lines=encode(lines).decode(), at=at)
        case PaymentCaptured(order_id=order_id, fulfillment_id=fulfillment_id, amount=amount, at=at):
            _set_status(changes, order_id, "captured", at)
            changes.add(PAYMENTS, order_id, captured=amount)
            changes.set(CAPTURES, order_id, fulfillment_id, status="captured", at=at)
            changes.add(CAPTURES, order_id, fulfillment_id, captured=amount, times=1)
        case PaymentCaptureFailed(order_id=order_id, fulfillment_id=fulfillment_id, reason=reason, at=at):
            _set_failure(changes, order_id, "capture_failed", at, reason)
            changes.set(CAPTURES, order_id, fulfillment_id, status="failed", failure=reason, at=at)
        case PaymentVoidRequested(order_id=order_id, at=at):
            _set_status(changes, order_id, "voiding", at)
        case PaymentVoided(order_id=order_id, authorization_id=authorization_id, at=at):
            _set_status(changes, order_id, "voided", at)
            changes.set(AUTHORIZATIONS, order_id, authorization_id, voided_at=at)
        case PaymentVoidFailed(order_id=order_id, authorization_id=authorization_id, reason=reason, at=at):
            _set_failure(changes, order_id, "void_failed", at, reason)
            changes.set(AUTHORIZATIONS, order_id, authorization_id, void_failure=reason)
        case PaymentAbandoned(order_id=order_id, at=at):
            _set_status(changes, order_id, "abandoned", at)
        case RefundPostponed() | RefundRequested() | RefundSettled() | RefundFailed():
            _refund(changes, event)
        case _:
            pass


def _refund(changes: Changes, event: RefundPostponed | RefundRequested | RefundSettled | RefundFailed) -> None:
    match event:
        case RefundPostponed(order_id=order_id, refund_id=refund_id, amount=amount, at=at):
            _set_status(changes, order_id, "refund_postponed", at)
            changes.set(REFUNDS, order_id, refund_id, status="postponed", requested=amount, at=at)
        case RefundRequested(order_id=order_id, refund_id=refund_id, amount=amount, reason=reason, at=at):
            _set_status(changes, order_id, "refunding", at)
            changes.set(REFUNDS, order_id, refund_id, status="requested", requested=amount, reason=reason, at=at)
        case RefundSettled(order_id=order_id, refund_id=refund_id, amount=amount, at=at):
            _set_status(changes, order_id, "refunded", at)
            changes.add(PAYMENTS, order_id, refunded=amount)
            changes.set(REFUNDS, order_id, refund_id, status="settled", at=at)
            changes.add(REFUNDS, order_id, refund_id, refunded=amount, times=1)
        case RefundFailed(order_id=order_id, refund_id=refund_id, request_id=request_id, reason=reason, at=at):
            changes.set(REFUNDS, order_id, refund_id, status="failed", reason=reason, at=at)
            if request_id:  # otherwise nothing was left to refund, and no person need act
                _set_failure(changes, order_id, "refund_failed", at, reason)


def _set_status(changes: Changes, order_id: str, status: str, at: datetime, *, next_check_at: datetime | None = None, **more: Any) -> None:
    changes.set(PAYMENTS, order_id, status=status, at=at, next_check_at=next_check_at, **more)


def _set_failure(changes: Changes, order_id: str, status: str, at: datetime, reason: str) -> None:
    _set_status(changes, order_id, status, at, failure=reason)
    changes.add(PAYMENTS, order_id, failures=1)
