"""The commands that other services' events mean for tracking. Pure, and safe to repeat."""

from collections.abc import Callable, Iterator

from oms_contracts.fulfillments import FulfillmentShipped
from oms_contracts.message import Value
from oms_contracts.orders import (
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderCompleted,
    OrderConfirmed,
    OrderExpired,
    OrderPaymentAmended,
    OrderRejected,
    OrderReleased,
)
from oms_contracts.values import bounded_reasons

from oms_tracking.commands import Command, RecordActionRequired, RecordOrderStatus, RecordRelease, RecordShipment


def on_order_accepted(event: OrderAccepted) -> Iterator[Command]:
    yield RecordOrderStatus(
        order_id=event.order_id,
        status="accepted",
        detail=None,
        at=event.accepted_at,
        channel=event.channel,
        channel_reference=event.channel_reference,
        number=event.number,
        attempt=event.attempt,
    )


def on_order_rejected(event: OrderRejected) -> Iterator[Command]:
    yield RecordOrderStatus(
        order_id=event.order_id,
        status="rejected",
        detail="; ".join(bounded_reasons(event.reasons)),
        at=event.rejected_at,
        channel=event.channel,
        channel_reference=event.channel_reference,
        attempt=event.attempt or 0,
    )


def on_order_action_required(event: OrderActionRequired) -> Iterator[Command]:
    yield RecordActionRequired(order_id=event.order_id, action=event.action, reason=event.reason, at=event.at, attempt=event.attempt)


def on_order_payment_amended(event: OrderPaymentAmended) -> Iterator[Command]:
    yield RecordOrderStatus(order_id=event.order_id, status="accepted", detail=None, at=event.at, attempt=event.attempt)


def on_order_confirmed(event: OrderConfirmed) -> Iterator[Command]:
    yield RecordOrderStatus(order_id=event.order_id, status="confirmed", detail=None, at=event.at)


def on_order_released(event: OrderReleased) -> Iterator[Command]:
    yield RecordRelease(order_id=event.order_id, lines=event.lines, at=event.at)


def on_order_canceled(event: OrderCanceled) -> Iterator[Command]:
    yield RecordOrderStatus(order_id=event.order_id, status="canceled", detail=event.reason, at=event.at)


def on_order_expired(event: OrderExpired) -> Iterator[Command]:
    yield RecordOrderStatus(order_id=event.order_id, status="expired", detail=event.reason, at=event.at)


def on_order_completed(event: OrderCompleted) -> Iterator[Command]:
    yield RecordOrderStatus(order_id=event.order_id, status="completed", detail=None, at=event.at)


def on_fulfillment_shipped(event: FulfillmentShipped) -> Iterator[Command]:
    yield RecordShipment(order_id=event.order_id, fulfillment_id=event.fulfillment_id, packages=event.packages, at=event.at)


POLICIES: dict[type[Value], Callable[..., Iterator[Command]]] = {
    OrderAccepted: on_order_accepted,
    OrderRejected: on_order_rejected,
    OrderActionRequired: on_order_action_required,
    OrderPaymentAmended: on_order_payment_amended,
    OrderConfirmed: on_order_confirmed,
    OrderReleased: on_order_released,
    OrderCanceled: on_order_canceled,
    OrderExpired: on_order_expired,
    OrderCompleted: on_order_completed,
    FulfillmentShipped: on_fulfillment_shipped,
}
