"""The commands that follow from other services' events. Pure, and safe to repeat.

Nothing follows from OrderActionRequired: nothing is held for a declined attempt, and the next attempt begins with another OrderReserved.
"""

from collections.abc import Callable, Iterator
from typing import Any

from oms_contracts.fulfillments import FulfillmentShipped
from oms_contracts.orders import OrderCanceled, OrderExpired, OrderReserved
from oms_contracts.returns import ReturnRefundRequested

from oms_payment.commands import AuthorizeOrder, CaptureShipment, Command, RefundReturn, ReleasePayment


def on_order_reserved(event: OrderReserved) -> Iterator[Command]:
    yield AuthorizeOrder(
        order_id=event.order_id,
        attempt=event.attempt,
        total=event.total,
        amount=event.amount,
        currency=event.currency,
        payment=event.payment,
        lines=event.lines,
        authorization_id=event.authorization_id,
    )


def on_order_canceled(event: OrderCanceled) -> Iterator[Command]:
    yield ReleasePayment(order_id=event.order_id, reason=event.reason)


def on_order_expired(event: OrderExpired) -> Iterator[Command]:
    yield ReleasePayment(order_id=event.order_id, reason=event.reason)


def on_fulfillment_shipped(event: FulfillmentShipped) -> Iterator[Command]:
    lines = tuple(line for package in event.packages for line in package.lines)
    yield CaptureShipment(order_id=event.order_id, fulfillment_id=event.fulfillment_id, lines=lines)


def on_return_refund_requested(event: ReturnRefundRequested) -> Iterator[Command]:
    yield RefundReturn(order_id=event.order_id, refund_id=event.return_id, amount=event.amount)


POLICIES: dict[type[Any], Callable[[Any], Iterator[Command]]] = {
    OrderReserved: on_order_reserved,
    OrderCanceled: on_order_canceled,
    OrderExpired: on_order_expired,
    FulfillmentShipped: on_fulfillment_shipped,
    ReturnRefundRequested: on_return_refund_requested,
}
