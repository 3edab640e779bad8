"""oms.payments: the payment of each order, with every authorization, every capture by shipment, and every refund."""

from datetime import datetime
from typing import Any

from oms_contracts.envelope import Envelope
from oms_contracts.message import encode
from oms_contracts.payments import (
    PaymentAbandoned,
    PaymentAuthorizationExpired,
    PaymentAuthorizationRequested,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureFailed,
    PaymentCaptureRefused,
    PaymentCaptureRequested,
    PaymentCollectionRequired,
    PaymentDeclined,
    PaymentOutcomeUnknown,
    PaymentRenewalRequested,
    PaymentRequestRepeated,
    PaymentVoided,
    PaymentVoidFailed,
    PaymentVoidRequested,
    PaymentWrittenOff,
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
            _set_resolved(changes, order_id, event.outstanding)
        case PaymentAuthorizationExpired(order_id=order_id, authorization_id=authorization_id, at=at):
            _set_status(changes, order_id, "expired", at)
            changes.set(AUTHORIZATIONS, order_id, authorization_id, expired_at=at)
        case PaymentRenewalRequested(order_id=order_id, at=at):
            _set_status(changes, order_id, "authorizing", at)
        case PaymentDeclined(order_id=order_id, at=at):
            _set_status(changes, order_id, "declined", at)
        case PaymentOutcomeUnknown(order_id=order_id, next_check_at=next_check_at, at=at):
            _set_status(changes, order_id, "unknown", at, next_check_at=next_check_at)
        case PaymentRequestRepeated(order_id=order_id, at=at):
            _set_status(changes, order_id, "repeated", at)
        case (
            PaymentCaptureRequested()
            | PaymentCaptured()
            | PaymentCaptureRefused()
            | PaymentCaptureFailed()
            | PaymentCollectionRequired()
            | PaymentWrittenOff()
        ):
            _capture(changes, event)
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


def _capture(
    changes: Changes,
    event: PaymentCaptureRequested
    | PaymentCaptured
    | PaymentCaptureRefused
    | PaymentCaptureFailed
    | PaymentCollectionRequired
    | PaymentWrittenOff,
) -> None:
    match event:
        case PaymentCaptureRequested(order_id=order_id, fulfillment_id=fulfillment_id, amount=amount, lines=lines, at=at):
            _set_status(changes, order_id, "capturing", at)
            of_lines = {"lines": encode(lines).decode()} if lines else {}  # it is empty where the provider is asked again
            changes.set(CAPTURES, order_id, fulfillment_id, status="requested", requested=amount, at=at, **of_lines)
        case PaymentCaptured(order_id=order_id, fulfillment_id=fulfillment_id, amount=amount, at=at):
            _set_status(changes, order_id, "captured", at)
            changes.add(PAYMENTS, order_id, captured=amount)
            changes.set(CAPTURES, order_id, fulfillment_id, status="captured", at=at)
            changes.add(CAPTURES, order_id, fulfillment_id, captured=amount, times=1)
            _set_resolved(changes, order_id, event.outstanding)
        case PaymentCaptureRefused(order_id=order_id, fulfillment_id=fulfillment_id, reason=reason, at=at):
            _set_status(changes, order_id, "capture_refused", at)
            changes.set(CAPTURES, order_id, fulfillment_id, status="refused", failure=reason, at=at)
        case PaymentCaptureFailed(order_id=order_id, fulfillment_id=fulfillment_id, reason=reason, amount=amount, at=at):
            _set_failure(changes, order_id, "capture_failed", at, reason)
            changes.set(CAPTURES, order_id, fulfillment_id, status="failed", failure=reason, requested=amount, at=at)
        case PaymentCollectionRequired(order_id=order_id, outstanding=outstanding, deadline=deadline):
            changes.set(PAYMENTS, order_id, to_collect=outstanding, collect_by=deadline)
        case PaymentWrittenOff(order_id=order_id, fulfillment_id=fulfillment_id, amount=amount, reason=reason, at=at):
            _set_status(changes, order_id, "written_off", at)
            changes.add(PAYMENTS, order_id, written_off=amount)
            changes.set(CAPTURES, order_id, fulfillment_id, status="written_off", failure=reason, at=at)
            _set_resolved(changes, order_id, event.outstanding)


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


def _set_resolved(changes: Changes, order_id: str, outstanding: int) -> None:
    """Nobody is asked to collect anything once nothing is outstanding."""
    if not outstanding:
        changes.set(PAYMENTS, order_id, to_collect=0, collect_by=None)


def _set_failure(changes: Changes, order_id: str, status: str, at: datetime, reason: str) -> None:
    _set_status(changes, order_id, status, at, failure=reason)
    changes.add(PAYMENTS, order_id, failures=1)
