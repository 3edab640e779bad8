"""oms.orders: the orders, their lines, and the reasons of rejections. No other topic changes an order's status."""

import re
from datetime import datetime
from typing import Any

from oms_contracts.envelope import Envelope
from oms_contracts.message import encode
from oms_contracts.order_parts import COLLECTED_HERE, charge_of
from oms_contracts.orders import (
    WAITING_STATUSES,
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderCancellationRejected,
    OrderCancellationRequested,
    OrderCompleted,
    OrderConfirmed,
    OrderConflictReported,
    OrderDelivered,
    OrderExpired,
    OrderPartlyDelivered,
    OrderPaymentAmended,
    OrderPaymentResolved,
    OrderRejected,
    OrderReleased,
    OrderReserved,
    OrderWaitExtended,
)

from oms_projection.changes import Changes
from oms_projection.responses import PaymentPart
from oms_projection.tables import ORDER_LINES, ORDERS, REJECTIONS

_NUMBER = re.compile(r"\.\d+(?=\.|$)")


def fold(changes: Changes, event: object, envelope: Envelope) -> None:
    """Add one event to `changes`."""
    match event:
        case OrderAccepted():
            _accept(changes, event)
        case OrderReserved(order_id=order_id, at=at):
            _set_status(changes, order_id, "reserved", at)
        case OrderConfirmed(order_id=order_id, at=at):
            _set_status(changes, order_id, "confirmed", at)
        case OrderReleased(order_id=order_id, at=at):
            _set_status(changes, order_id, "released", at)
        case OrderCompleted(order_id=order_id, at=at):
            _set_status(changes, order_id, "completed", at, cancellation="")
        case OrderActionRequired():
            _require_action(changes, event)
        case OrderPaymentAmended(order_id=order_id, attempt=attempt, payment=payment, at=at):
            _set_status(changes, order_id, "accepted", at, attempt=attempt, payment_kind=payment.kind)
        case OrderWaitExtended(order_id=order_id, deadline=deadline, at=at):
            changes.set(ORDERS, order_id, deadline=deadline, deadline_set_at=at, updated_at=at)
        case OrderCancellationRequested(order_id=order_id, reason=reason, at=at):
            changes.set(ORDERS, order_id, cancellation=reason or "no reason given", updated_at=at)
        case OrderCancellationRejected(order_id=order_id, at=at):
            changes.set(ORDERS, order_id, cancellation="", updated_at=at)
        case OrderCanceled(order_id=order_id, reason=reason, at=at):
            _set_status(changes, order_id, "canceled", at, cancellation="", ended_because=reason)
        case OrderExpired(order_id=order_id, reason=reason, at=at):
            _set_status(changes, order_id, "expired", at, cancellation="", ended_because=reason)
        case OrderRejected():
            _reject(changes, event)
        case OrderConflictReported(order_id=order_id, reported_at=at):
            changes.add(ORDERS, order_id, conflicts=1)
            changes.set(ORDERS, order_id, updated_at=at)
        case OrderPaymentResolved(order_id=order_id, at=at):
            changes.set(ORDERS, order_id, updated_at=at, **_waits_for_nobody(at))
        case OrderPartlyDelivered(order_id=order_id, at=at) | OrderDelivered(order_id=order_id, at=at):
            changes.set(ORDERS, order_id, updated_at=at)
        case _:
            # A refused command may name an order that does not exist: it is in the timeline only.
            pass


def field_of(reason: str) -> str:
    """The field that a reason names, without line numbers: `lines.3.quantity: must be ...` is about `lines.quantity`."""
    name, found, _ = reason.partition(": ")
    return _NUMBER.sub("", name) if found else "order"


def _set_status(changes: Changes, order_id: str, status: str, at: datetime, ended_because: str | None = None, **more: Any) -> None:
    """Set the order's status. It no longer waits for an action. A rejected order that is accepted has no longer ended."""
    changes.set(
        ORDERS,
        order_id,
        status=status,
        since=at,
        ended_because=ended_because,
        updated_at=at,
        **_waits_for_nobody(at),
        **more,
    )


def _waits_for_nobody(at: datetime) -> dict[str, Any]:
    return {"action": "", "action_reason": None, "action_since": None, "deadline": None, "deadline_set_at": at}


def _require_action(changes: Changes, event: OrderActionRequired) -> None:
    order_id, at = event.order_id, event.at
    if event.action in WAITING_STATUSES:
        changes.set(ORDERS, order_id, status=WAITING_STATUSES[event.action], since=at, ended_because=None)
    changes.set(
        ORDERS,
        order_id,
        action=event.action,
        action_reason=event.reason,
        action_since=at,
        deadline=event.deadline,
        deadline_set_at=at,
        updated_at=at,
    )


def _accept(changes: Changes, event: OrderAccepted) -> None:
    parts = (*event.lines, *event.shipping_lines, *event.fees)
    _set_status(
        changes,
        event.order_id,
        "accepted",
        event.accepted_at,
        channel=event.channel,
        reference=event.channel_reference,
        key_id=None if event.sealed is None else event.sealed.key_id,
        sealed=None if event.sealed is None else event.sealed.data,
        personal=_json(event.personal),
        number=event.number,
        currency=event.currency,
        line_count=len(event.lines),
        units=sum(line.quantity for line in event.lines),
        taxes_included=int(event.taxes_included),
        taxes=sum(tax.amount for part in parts for tax in part.taxes),
        discount=sum(share.amount for line in (*event.lines, *event.shipping_lines) for share in line.discounts),
        shipping=sum(line.total for line in event.shipping_lines),
        fees=sum(fee.amount for fee in event.fees),
        total=event.total,
        collected=sum(payment.amount for payment in event.payments if payment.status in COLLECTED_HERE),
        payment_kind=event.payments[0].kind if event.payments else None,
        payments=_json([PaymentPart(kind=each.kind, amount=each.amount, status=each.status) for each in event.payments]),
        delivery=event.delivery,
        promise=_json(event.promise),
        purchase_order=event.purchase_order,
        tags=_json(event.tags),
        attributes=_json(event.attributes),
        location=event.location,
        placed_at=event.placed_at,
        received_at=event.accepted_at,
        attempt=event.attempt,
        accepted_attempt=event.attempt,
        cancellation="",
    )
    for number, line in enumerate(event.lines, 1):
        changes.set(
            ORDER_LINES,
            event.order_id,
            line.line_id,
            attempt=event.attempt,
            number=number,
            sku=line.sku,
            title=line.title,
            quantity=line.quantity,
            unit_price=line.unit_price,
            discount=sum(share.amount for share in line.discounts),
            taxes=sum(tax.amount for tax in line.taxes),
            total=line.total,
            charge=charge_of(line, event.taxes_included),
            shippable=int(line.requires_shipping),
        )


def _json(value: object) -> str | None:
    """As JSON; None where there is nothing."""
    return encode(value).decode() if value else None


def _reject(changes: Changes, event: OrderRejected) -> None:
    order_id, reasons, at = event.order_id, event.reasons, event.rejected_at
    others = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    _set_status(
        changes,
        order_id,
        "rejected",
        at,
        channel=event.channel,
        reference=event.channel_reference,
        placed_at=at,
        received_at=at,
        cancellation="",
        ended_because=f"{reasons[0] if reasons else 'no reason given'}{others}",
    )
    for reason in reasons:
        name = field_of(reason)
        changes.set(REJECTIONS, order_id, name, channel=event.channel, example=reason, at=at)
        changes.add(REJECTIONS, order_id, name, reasons=1)
