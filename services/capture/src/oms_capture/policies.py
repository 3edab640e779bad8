"""The commands that other services' events mean for capture. Pure, and safe to repeat."""

from base64 import b64decode
from collections.abc import Callable, Iterator

from oms_adapters.decisions import arrived_of
from oms_adapters.parts import map_payload
from oms_adapters.platforms import adapter_of_platform
from oms_adapters.results import Mapped, Result, Unmapped
from oms_adapters.webhooks import PLATFORMS
from oms_contracts.channel import OrderPlaced, WebhookReceived
from oms_contracts.content_hash import content_hash_of
from oms_contracts.fulfillments import FulfillmentCanceled, FulfillmentCancellationRejected
from oms_contracts.message import SendersFault, Value
from oms_contracts.payments import (
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCollectionRequired,
    PaymentDeclined,
    PaymentWrittenOff,
)
from oms_contracts.stock import (
    StockAllocated,
    StockReservationExpired,
    StockReservationFailed,
    StockReservationPostponed,
    StockReserved,
)
from oms_contracts.tracking import PackageDelivered, PackageLost, PackageReturnedToSender
from oms_contracts.values import order_id_of, quoted

from oms_capture.commands import (
    AnyCommand,
    Command,
    PlaceOrder,
    RecordAllocation,
    RecordAuthorization,
    RecordCancellationRejected,
    RecordDecline,
    RecordDelivery,
    RecordDeliveryTrouble,
    RecordFulfillmentCanceled,
    RecordOutstanding,
    RecordPayment,
    RecordReservation,
    RecordReservationExpiry,
    RecordShortage,
    RecordUnknownSkus,
    TakeWebhook,
)


def on_order_placed(event: OrderPlaced) -> Iterator[PlaceOrder]:
    order_id = order_id_of(event.channel, event.channel_reference)
    yield PlaceOrder(order_id=order_id, content_hash=content_hash_of(event), placed=event)


def on_webhook_received(event: WebhookReceived) -> Iterator[TakeWebhook]:
    """Raises SendersFault where there should be an order in the webhook, and none can be made of it."""
    result = _mapped(event)
    standing = result.standing
    order_id = event.key if standing is None else order_id_of(event.channel, standing.reference)
    canceled = standing is not None and standing.canceled is not None
    if isinstance(result, Unmapped) and result.is_order and not canceled:
        order = "an order" if standing is None else f"order {quoted(standing.reference)}"
        raise SendersFault("\n".join((f"{event.platform}, channel {event.channel}: {order} cannot be mapped", *map(str, result.reasons))))
    yield TakeWebhook(
        order_id=order_id,
        channel=event.channel,
        platform=event.platform,
        topic=event.topic,
        arrived=arrived_of(event.webhook_id, result),
        place=next(on_order_placed(result.order)) if isinstance(result, Mapped) else None,
    )


def _mapped(event: WebhookReceived) -> Result:
    if event.platform not in PLATFORMS:
        raise SendersFault(f"platform: {quoted(event.platform)} is none of {', '.join(PLATFORMS)}")
    try:
        raw = b64decode(event.body, validate=True)
    except ValueError:
        raise SendersFault("body: must be base64") from None
    return map_payload(adapter_of_platform(event.platform), raw, channel=event.channel)


def on_stock_reserved(event: StockReserved) -> Iterator[Command]:
    yield RecordReservation(order_id=event.order_id, attempt=event.attempt)


def on_stock_reservation_failed(event: StockReservationFailed) -> Iterator[Command]:
    if event.unknown_skus:
        yield RecordUnknownSkus(order_id=event.order_id, attempt=event.attempt, unknown_skus=event.unknown_skus, held=False)
    else:
        yield RecordShortage(order_id=event.order_id, attempt=event.attempt, shortages=event.shortages, confirmed=event.confirmed)


def on_stock_reservation_postponed(event: StockReservationPostponed) -> Iterator[Command]:
    yield RecordUnknownSkus(order_id=event.order_id, attempt=event.attempt, unknown_skus=event.unknown_skus, held=True)


def on_stock_reservation_expired(event: StockReservationExpired) -> Iterator[Command]:
    yield RecordReservationExpiry(order_id=event.order_id, attempt=event.attempt)


def on_stock_allocated(event: StockAllocated) -> Iterator[Command]:
    yield RecordAllocation(order_id=event.order_id, lines=event.lines)


def on_payment_authorized(event: PaymentAuthorized) -> Iterator[Command]:
    yield RecordAuthorization(order_id=event.order_id, attempt=event.attempt, outstanding=event.outstanding)


def on_payment_declined(event: PaymentDeclined) -> Iterator[Command]:
    yield RecordDecline(order_id=event.order_id, attempt=event.attempt, reason=event.reason)


def on_payment_captured(event: PaymentCaptured) -> Iterator[Command]:
    yield RecordPayment(order_id=event.order_id, fulfillment_id=event.fulfillment_id, units=event.units, outstanding=event.outstanding)


def on_payment_written_off(event: PaymentWrittenOff) -> Iterator[Command]:
    yield RecordPayment(order_id=event.order_id, fulfillment_id=event.fulfillment_id, units=event.units, outstanding=event.outstanding)


def on_payment_collection_required(event: PaymentCollectionRequired) -> Iterator[Command]:
    yield RecordOutstanding(order_id=event.order_id, reason=event.reason, deadline=event.deadline)


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


POLICIES: dict[type[Value], Callable[..., Iterator[AnyCommand]]] = {
    OrderPlaced: on_order_placed,
    WebhookReceived: on_webhook_received,
    StockReserved: on_stock_reserved,
    StockReservationFailed: on_stock_reservation_failed,
    StockReservationPostponed: on_stock_reservation_postponed,
    StockReservationExpired: on_stock_reservation_expired,
    StockAllocated: on_stock_allocated,
    PaymentAuthorized: on_payment_authorized,
    PaymentDeclined: on_payment_declined,
    PaymentCaptured: on_payment_captured,
    PaymentWrittenOff: on_payment_written_off,
    PaymentCollectionRequired: on_payment_collection_required,
    FulfillmentCanceled: on_fulfillment_canceled,
    FulfillmentCancellationRejected: on_fulfillment_cancellation_rejected,
    PackageDelivered: on_package_delivered,
    PackageLost: on_package_lost,
    PackageReturnedToSender: on_package_returned_to_sender,
}
