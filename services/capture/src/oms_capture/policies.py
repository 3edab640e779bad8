"""The commands that other services' events mean for capture. Pure, and safe to repeat."""

from collections.abc import Callable, Iterator

from oms_contracts.channel import OrderPlaced
from oms_contracts.content_hash import content_hash_of
from oms_contracts.fulfillments import FulfillmentCanceled, FulfillmentCancellationRejected
from oms_contracts.message import Value
from oms_contracts.payments import PaymentAuthorized, PaymentDeclined
from oms_contracts.stock import StockAllocated, StockReservationExpired, StockReservationFailed, StockReserved
from oms_contracts.tracking import PackageDelivered, PackageLost, PackageReturnedToSender
from oms_contracts.values import order_id_of

from oms_capture.commands import (
    Command,
    PlaceOrder,
    RecordAllocation,
    RecordAuthorization,
    RecordCancellationRejected,
    RecordDecline,
    RecordDelivery,
    RecordDeliveryTrouble,
    RecordFulfillmentCanceled,
    RecordReservation,
    RecordReservationExpiry,
    RecordShortage,
)


def on_order_placed(event: OrderPlaced) -> Iterator[Command]:
    order_id = order_id_of(event.channel, event.channel_reference)
    yield PlaceOrder(order_id=order_id, content_hash=content_hash_of(event), placed=event)


def on_stock_reserved(event: StockReserved) -> Iterator[Command]:
    yield RecordReservation(order_id=event.order_id, attempt=event.attempt)


def on_stock_reservation_failed(event: StockReservationFailed) -> Iterator[Command]:
    yield RecordShortage(order_id=event.order_id, attempt=event.attempt, shortages=event.shortages)


def on_stock_reservation_expired(event: StockReservationExpired) -> Iterator[Command]:
    yield RecordReservationExpiry(order_id=event.order_id, attempt=event.attempt)


def on_stock_allocated(event: StockAllocated) -> Iterator[Command]:
    yield RecordAllocation(order_id=event.order_id, lines=event.lines)


def on_payment_authorized(event: PaymentAuthorized) -> Iterator[Command]:
    yield RecordAuthorization(order_id=event.order_id, attempt=event.attempt)


def on_payment_declined(event: PaymentDeclined) -> Iterator[Command]:
    yield RecordDecline(order_id=event.order_id, attempt=event.attempt, reason=event.reason)


def on_fulfillment_canceled(event: FulfillmentCanceled) -> Iterator[Command]:
    yield RecordFulfillmentCanceled(order_id=event.order_id, requested_at=event.requested_at)


def on_fulfillment_cancellation_rejected(event: FulfillmentCancellationRejected) -> Iterator[Command]:
    yield RecordCancellationRejected(order_id=event.order_id, reason=event.reason, requested_at=event.requested_at)


def on_package_delivered(event: PackageDelivered) -> Iterator[Command]:
    yield RecordDelivery(order_id=event.order_id, package_id=event.package_id, lines=event.lines)


def on_package_lost(event: PackageLost) -> Iterator[Command]:
    yield RecordDeliveryTrouble(order_id=event.order_id, reason=f"package {event.package_id} is lost")


def on_package_returned_to_sender(event: PackageReturnedToSender) -> Iterator[Command]:
    yield RecordDeliveryTrouble(order_id=event.order_id, reason=f"package {event.package_id} came back to the sender")


POLICIES: dict[type[Value], Callable[..., Iterator[Command]]] = {
    OrderPlaced: on_order_placed,
    StockReserved: on_stock_reserved,
    StockReservationFailed: on_stock_reservation_failed,
    StockReservationExpired: on_stock_reservation_expired,
    StockAllocated: on_stock_allocated,
    PaymentAuthorized: on_payment_authorized,
    PaymentDeclined: on_payment_declined,
    FulfillmentCanceled: on_fulfillment_canceled,
    FulfillmentCancellationRejected: on_fulfillment_cancellation_rejected,
    PackageDelivered: on_package_delivered,
    PackageLost: on_package_lost,
    PackageReturnedToSender: on_package_returned_to_sender,
}
