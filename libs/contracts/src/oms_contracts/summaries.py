"""One line about an event, for people. It is made when the event is shown; events are stored as they were published."""

import re
from typing import Any

from oms_contracts.customers import CustomerErased
from oms_contracts.fulfillments import (
    FulfillmentAccepted,
    FulfillmentCanceled,
    FulfillmentCancellationRejected,
    FulfillmentCommandRefused,
    FulfillmentPlanned,
    FulfillmentShipped,
    ItemsPicked,
    PackagePacked,
)
from oms_contracts.message import UnreadableMessage, decode
from oms_contracts.money import counted, money_text
from oms_contracts.orders import (
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderCancellationRejected,
    OrderCancellationRequested,
    OrderCommandRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderConflictReported,
    OrderDelivered,
    OrderExpired,
    OrderPaid,
    OrderPartlyDelivered,
    OrderPaymentAmended,
    OrderPaymentResolved,
    OrderRejected,
    OrderReleased,
    OrderReserved,
    OrderWaitExtended,
    WebhookTaken,
)
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
    PaymentCommandRefused,
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
from oms_contracts.products import ProductCommandRefused, ProductDeactivated, ProductDefined
from oms_contracts.returns import (
    ReturnActionRequired,
    ReturnApproved,
    ReturnCanceled,
    ReturnClosed,
    ReturnCommandRefused,
    ReturnDeclined,
    ReturnExpired,
    ReturnItemsInspected,
    ReturnItemsReceived,
    ReturnRefundRequested,
    ReturnRequested,
    ReturnWindowOpened,
)
from oms_contracts.stock import (
    QuarantineReleased,
    QuarantineWrittenOff,
    StockActionRequired,
    StockActionResolved,
    StockAdjusted,
    StockAllocated,
    StockAllocationRequested,
    StockCommandRefused,
    StockCounted,
    StockExcess,
    StockExcessCleared,
    StockLimitsSet,
    StockLow,
    StockLowCleared,
    StockOut,
    StockOutCleared,
    StockQuarantined,
    StockReceived,
    StockReleased,
    StockReservationExpired,
    StockReservationFailed,
    StockReservationPostponed,
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
    TransferActionRequired,
    TransferClosed,
    TransferReceived,
    TransferStarted,
    WaitingOrdersCalled,
    WaitingOrdersResumed,
)
from oms_contracts.tracking import (
    DeliveryAttemptFailed,
    DeliveryExpected,
    LabelCreated,
    OrderStatusChanged,
    PackageDelivered,
    PackageInTransit,
    PackageLost,
    PackageOutForDelivery,
    PackageReturnedToSender,
    ScanRecorded,
    TrackingCommandRefused,
)

_TIME_FORMAT = "%Y-%m-%d %H:%M UTC"

SUMMARIES: dict[type[Any], str] = {
    CustomerErased: "Erased, by deleting {key_count}: {e.reason}",
    OrderAccepted: "Accepted from {e.channel} as {e.channel_reference}: {units}, {money}",
    OrderRejected: "Rejected: {reasons}",
    OrderConflictReported: "The same reference came again with other content; nothing was changed",
    OrderReserved: "Stock is held; {money} to be authorized, attempt {e.attempt}",
    OrderConfirmed: "Confirmed: reserved and paid for",
    OrderReleased: "Released to fulfillment: {units}",
    OrderActionRequired: "Waits for {e.action} until {e.deadline:" + _TIME_FORMAT + "}: {e.reason}",
    OrderPaymentAmended: "The customer pays by {e.payment.kind} instead, attempt {e.attempt}",
    OrderWaitExtended: "Waits longer, until {e.deadline:" + _TIME_FORMAT + "}",
    OrderCancellationRequested: "Cancellation was asked for: {e.reason}",
    OrderCancellationRejected: "Too late to cancel: {e.reason}",
    OrderCanceled: "Canceled: {e.reason}",
    OrderExpired: "Expired: {e.reason}",
    OrderPartlyDelivered: "Package {e.package_id} arrived, others are still to come",
    OrderDelivered: "Package {e.package_id} arrived, and with it every unit; what shipped is not known to be paid yet",
    OrderPaid: "What {e.fulfillment_id} shipped is paid, or written off",
    OrderPaymentResolved: "The payment needs nobody to see to it any more",
    OrderCommandRefused: "{command} was refused: {e.reason}",
    OrderCompleted: "Completed: every unit is delivered",
    WebhookTaken: "The shop's webhook {e.topic} was taken: {webhook}",
    StockReceived: "{units_were} received",
    StockAdjusted: "On hand was corrected by {units} ({e.reason_code}): {e.reason}",
    StockCounted: "{counted_units_were} counted where {expected_units_were} on hand",
    StockActionRequired: "{e.sku} at {e.location} waits for {e.action} of {missing_units} until {e.deadline:" + _TIME_FORMAT + "}",
    StockActionResolved: "{e.sku} at {e.location} no longer waits for {e.action}",
    StockLimitsSet: "{e.sku} at {everywhere_or_location}: {limits}",
    StockLow: "{e.sku} at {e.location} is low: {e.available} available, to be reordered at {e.reorder_point}",
    StockLowCleared: "{e.sku} at {e.location} is no longer low: {e.available} available",
    StockOut: "{e.sku} at {e.location} is out of stock: {e.available} available",
    StockOutCleared: "{e.sku} at {e.location} is available again: {e.available}",
    StockExcess: "{e.sku} at {e.location} is more than enough: {e.on_hand} on hand, {e.maximum} at most",
    StockExcessCleared: "{e.sku} at {e.location} is no longer too much: {e.on_hand} on hand",
    StockQuarantined: "{units_are} set apart: {e.reason}",
    QuarantineReleased: "{units_are} no longer set apart: {e.reason}",
    QuarantineWrittenOff: "{units_were} written off that had been set apart: {e.reason}",
    TransferStarted: "{units} left {e.from_location} for {e.to_location}, expected before {e.deadline:" + _TIME_FORMAT + "}",
    TransferReceived: "{units} arrived of what went from {e.from_location} to {e.to_location}",
    TransferClosed: "{units_are} missing and written off: {e.reason}",
    TransferActionRequired: "{missing_units} have not arrived at {e.to_location}: waits for {e.action} until {e.deadline:"
    + _TIME_FORMAT
    + "}",
    StockReturned: "{units} came back to stock",
    StockWrittenOff: "{units_were} written off: {e.reason}",
    StockReserved: "{units_are} reserved until {e.expires_at:" + _TIME_FORMAT + "}, attempt {e.attempt}",
    StockReservationFailed: "{failure}",
    StockReservationPostponed: "Waits until these products are defined: {unknown_skus}",
    WaitingOrdersResumed: "{orders} no longer {wait} for {e.sku}",
    WaitingOrdersCalled: "There is {e.sku} for {orders} of those that wait for it",
    StockReservationExpired: "The reservation of {units} has expired",
    StockAllocationRequested: "The reservation had expired: allocation is planned anew",
    StockAllocated: "{units_are} allocated",
    StockShipped: "{units_are} booked out for {e.fulfillment_id}",
    StockReleased: "{units_are} no longer {e.stage}: {e.reason}",
    ProductDefined: "{e.sku} is {e.title}{inactive}",
    ProductDeactivated: "{e.sku} is no longer sold",
    ProductCommandRefused: "{command} was refused: {reasons}",
    StockCommandRefused: "{command} was refused: {reasons}",
    PaymentAuthorizationRequested: "The provider is asked to hold {money}, attempt {e.attempt}",
    PaymentAuthorized: "{money} is authorized",
    PaymentAuthorizationExpired: "The authorization has run out; {money} of it was not captured",
    PaymentRenewalRequested: "The provider is asked to hold {money} anew",
    PaymentDeclined: "The payment was declined: {e.reason}",
    PaymentOutcomeUnknown: "The provider did not respond; looked up again at {e.next_check_at:" + _TIME_FORMAT + "}",
    PaymentRequestRepeated: "The provider does not know the request: it is sent again",
    PaymentCaptureRequested: "The provider is asked to take {money} for {e.fulfillment_id}",
    PaymentCaptured: "{money} was captured for {e.fulfillment_id}",
    PaymentCaptureFailed: "The capture for {e.fulfillment_id} failed: {e.reason}",
    PaymentCaptureRefused: "The provider refused to take {money} for {e.fulfillment_id}, and is asked again at {e.retry_at:"
    + _TIME_FORMAT
    + "}: {e.reason}",
    PaymentCollectionRequired: "{outstanding} of what shipped is not paid; somebody must act until {e.deadline:"
    + _TIME_FORMAT
    + "}: {e.reason}",
    PaymentWrittenOff: "{money} for {e.fulfillment_id} is written off: {e.reason}",
    PaymentCommandRefused: "{command} was refused: {e.reason}",
    PaymentVoidRequested: "The provider is asked to release the authorization",
    PaymentVoided: "The authorization is voided",
    PaymentVoidFailed: "The authorization could not be voided: {e.reason}",
    PaymentAbandoned: "The order ended unpaid: {e.reason}",
    RefundPostponed: "The refund {e.refund_id} waits for the captures, until {e.until:" + _TIME_FORMAT + "}",
    RefundRequested: "The provider is asked to give back {money} for {e.refund_id}",
    RefundSettled: "{money} was refunded for {e.refund_id}",
    RefundFailed: "The refund {e.refund_id} failed: {e.reason}",
    FulfillmentPlanned: "{e.location} is asked to ship {units}",
    FulfillmentAccepted: "{e.fulfillment_id} is accepted",
    ItemsPicked: "{e.fulfillment_id} is picked",
    PackagePacked: "Package {e.package_id} is packed: {units}",
    FulfillmentShipped: "{e.location} shipped {packages}",
    FulfillmentCanceled: "Fulfillment is stopped: {e.reason}",
    FulfillmentCancellationRejected: "Fulfillment continues: {e.reason}",
    FulfillmentCommandRefused: "{command} was refused: {e.reason}",
    DeliveryExpected: "{expected_are} to reach the customer",
    LabelCreated: "Package {e.package_id} is known to {e.carrier} as {e.tracking_number}",
    PackageInTransit: "Package {e.package_id} is in transit",
    PackageOutForDelivery: "Package {e.package_id} is out for delivery",
    DeliveryAttemptFailed: "Package {e.package_id} could not be delivered: {e.reason}",
    PackageDelivered: "Package {e.package_id} is delivered",
    PackageLost: "Package {e.package_id} is lost",
    PackageReturnedToSender: "Package {e.package_id} came back to the sender",
    ScanRecorded: "A late or repeated scan of package {e.package_id}: {e.status}",
    TrackingCommandRefused: "{command} was refused: {e.reason}",
    OrderStatusChanged: "Public status {e.sequence}: {e.status}",
    ReturnWindowOpened: "Returns may be asked for until {e.closes_at:" + _TIME_FORMAT + "}",
    ReturnRequested: "Return {e.return_id} was asked for: {units}",
    ReturnApproved: "Return {e.return_id} is approved; the goods are expected before {e.expires_at:" + _TIME_FORMAT + "}",
    ReturnDeclined: "Return {e.return_id} is declined: {reasons}",
    ReturnItemsReceived: "{units} of return {e.return_id} arrived at {e.location}",
    ReturnItemsInspected: "Return {e.return_id} is inspected: {units}",
    ReturnRefundRequested: "{money} is to be refunded for return {e.return_id}",
    ReturnClosed: "Return {e.return_id} is closed: {outcome}",
    ReturnCanceled: "Return {e.return_id} is canceled: {e.reason}",
    ReturnExpired: "Return {e.return_id} has expired",
    ReturnActionRequired: "Return {e.return_id} waits for a person to {e.action}, until {e.deadline:" + _TIME_FORMAT + "}",
    ReturnCommandRefused: "{command} was refused: {e.reason}",
}

_WORD_BOUNDARY = re.compile(r"(?<=[a-z])(?=[A-Z])")


def summary(kind: str, data: str) -> str:
    """A line about an event of published type `kind`. For a type without a template it is the type's name."""
    name = _words_of(kind)
    try:
        event: object = decode(kind, data.encode())
    except UnreadableMessage:
        return name
    template = SUMMARIES.get(type(event))
    return template.format_map(_Values(event)) if template else name


class _Values(dict[str, Any]):
    """The values that a template may use: the event, and values computed from it when a template uses them."""

    def __init__(self, event: Any) -> None:
        super().__init__(e=event)

    def __missing__(self, name: str) -> str:
        event = self["e"]
        match name:
            case "units":
                return counted(_units_of(event), "unit")
            case "units_are" | "units_were":
                return _with_verb(_units_of(event), name.removeprefix("units_"))
            case "counted_units_were":
                return _with_verb(sum(line.counted for line in event.lines), "were")
            case "expected_units_were":
                return _with_verb(sum(line.expected for line in event.lines), "were")
            case "missing_units":
                return counted(event.units, "unit")
            case "everywhere_or_location":
                return event.location or "every location without limits of its own"
            case "limits":
                named = {"safety stock": event.safety, "reorder point": event.reorder_point, "maximum": event.maximum}
                return ", ".join(f"{name} {units}" for name, units in named.items() if units is not None)
            case "expected_are":
                return _with_verb(event.units, "are")
            case "money":
                return money_text(event.total if isinstance(event, OrderAccepted) else event.amount, event.currency)
            case "outstanding":
                return money_text(event.outstanding, event.currency)
            case "key_count":
                return counted(len(event.keys), "key")
            case "command":
                return _words_of(event.command)
            case "outcome":
                return event.outcome.replace("_", " ")
            case "reasons":
                return "; ".join(event.reasons)
            case "failure":
                if event.unknown_skus:
                    return f"These SKUs have no active product: {', '.join(event.unknown_skus)}"
                shortages = (f"{s.sku}: {s.requested} wanted, {s.available} available" for s in event.shortages)
                return f"There is not enough: {', '.join(shortages)}"
            case "unknown_skus":
                return ", ".join(event.unknown_skus)
            case "orders":
                return counted(len(event.orders), "order")
            case "wait":
                return "waits" if len(event.orders) == 1 else "wait"
            case "inactive":
                return "" if event.active else ", which is not sold"
            case "webhook":
                details = ", ".join(event.changed_fields) or event.reason
                return f"{event.outcome}: {details}" if details else event.outcome
            case "packages":
                return ", ".join(f"{p.package_id} with {p.carrier} as {p.tracking_number}" for p in event.packages)
            case _:
                raise KeyError(name)


def _words_of(kind: str) -> str:
    """The name within a published type, in words: Receive stock of oms.inventory.ReceiveStock.v1."""
    return _WORD_BOUNDARY.sub(" ", kind.split(".")[-2]).capitalize() if kind.count(".") > 1 else kind


def _units_of(event: Any) -> int:
    return sum(line.quantity for line in event.lines)


def _with_verb(units: int, plural: str) -> str:
    """How many units, and the verb that follows."""
    return f"{counted(units, 'unit')} {plural if abs(units) != 1 else {'are': 'is', 'were': 'was'}[plural]}"
