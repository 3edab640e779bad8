"""The commands that follow from other services' events. Pure, and safe to repeat."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from oms_contracts.fulfillments import FulfillmentShipped
from oms_contracts.order_parts import ChargedLine, DeliveryPromise, LineItem
from oms_contracts.orders import (
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderConfirmed,
    OrderExpired,
    OrderPaymentAmended,
)
from oms_contracts.returns import ReturnItemsInspected
from oms_contracts.values import WantedLine

from oms_inventory.commands import (
    AllocateStock,
    BookReturn,
    Command,
    ReleaseReservation,
    ReleaseStock,
    ReserveStock,
    ShipStock,
)


def on_order_accepted(event: OrderAccepted) -> Iterator[Command]:
    shipped = _wanted(line for line in event.lines if line.requires_shipping)
    yield ReserveStock(
        order_id=event.order_id,
        attempt=event.attempt,
        lines=shipped,
        location=event.location,
        promised_at=_promised_at(event.promise),
    )


def on_order_payment_amended(event: OrderPaymentAmended) -> Iterator[Command]:
    yield ReserveStock(
        order_id=event.order_id,
        attempt=event.attempt,
        lines=_wanted(event.lines),
        location=event.location,
        promised_at=_promised_at(event.promise),
    )


def on_order_action_required(event: OrderActionRequired) -> Iterator[Command]:
    yield ReleaseReservation(order_id=event.order_id, attempt=event.attempt, action=event.action, reason=event.reason)


def on_order_confirmed(event: OrderConfirmed) -> Iterator[Command]:
    yield AllocateStock(order_id=event.order_id)


def on_order_ended(event: OrderCanceled | OrderExpired) -> Iterator[Command]:
    yield ReleaseStock(order_id=event.order_id, reason=event.reason)


def on_fulfillment_shipped(event: FulfillmentShipped) -> Iterator[Command]:
    lines = tuple(line for package in event.packages for line in package.lines)
    yield ShipStock(order_id=event.order_id, fulfillment_id=event.fulfillment_id, lines=lines)


def on_return_items_inspected(event: ReturnItemsInspected) -> Iterator[Command]:
    yield BookReturn(return_id=event.return_id, order_id=event.order_id, location=event.location, lines=event.lines)


def _promised_at(promise: DeliveryPromise | None) -> datetime | None:
    """When the goods are to leave, or else to arrive."""
    return promise and (promise.ship_by or promise.deliver_by)


def _wanted(lines: Iterable[LineItem | ChargedLine]) -> tuple[WantedLine, ...]:
    return tuple(WantedLine(line_id=line.line_id, sku=line.sku, quantity=line.quantity) for line in lines)


POLICIES: dict[type[Any], Callable[[Any], Iterator[Command]]] = {
    OrderAccepted: on_order_accepted,
    OrderPaymentAmended: on_order_payment_amended,
    OrderActionRequired: on_order_action_required,
    OrderConfirmed: on_order_confirmed,
    OrderCanceled: on_order_ended,
    OrderExpired: on_order_ended,
    FulfillmentShipped: on_fulfillment_shipped,
    ReturnItemsInspected: on_return_items_inspected,
}
