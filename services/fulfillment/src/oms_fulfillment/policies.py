"""The commands that follow from other services' events. Pure, and safe to repeat."""

from collections.abc import Callable, Iterator
from typing import Any

from oms_contracts.orders import OrderCancellationRequested, OrderReleased

from oms_fulfillment.commands import Command, PlanFulfillments, StopFulfillments


def on_order_released(event: OrderReleased) -> Iterator[Command]:
    yield PlanFulfillments(
        order_id=event.order_id,
        delivery=event.delivery,
        lines=event.lines,
        promise=event.promise,
        personal=event.personal,
        sealed=event.sealed,
    )


def on_order_cancellation_requested(event: OrderCancellationRequested) -> Iterator[Command]:
    yield StopFulfillments(order_id=event.order_id, reason=event.reason, requested_at=event.at)


POLICIES: dict[type[Any], Callable[[Any], Iterator[Command]]] = {
    OrderReleased: on_order_released,
    OrderCancellationRequested: on_order_cancellation_requested,
}
