"""One order: what may happen to it, and what that means.

Capture is the saga's orchestrator: it records what the other services did and publishes the order's new status, and they act on that and on
nothing else. Every step follows on one of capture's own events, so a fact that does not fit the order's status is late or repeated, and
changes nothing.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct, field
from msgspec.structs import replace
from oms_contracts.customers import EraseCustomer
from oms_contracts.message import type_of
from oms_contracts.order_parts import ChargedLine, DeliveryPromise, PersonalData, SealedData
from oms_contracts.orders import (
    ENDED_STATUSES,
    WAITING_STATUSES,
    AmendPayment,
    CancelOrder,
    ExtendWait,
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
)
from oms_contracts.values import AllocatedLine, PaymentMethod, bounded_reasons, quoted

from oms_capture.charges import charged_lines, collection_of
from oms_capture.commands import (
    ActOnDeadline,
    Command,
    Event,
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
)
from oms_capture.validation import Market, objections

MAX_CONFLICTS = 100
"""Reported for one order. It keeps the state small when a channel reuses a reference without end."""
MAX_REJECTIONS = 100
"""Attempts of one order that are rejected with an event, and remembered. Further invalid content changes nothing and publishes nothing,
and valid content is still accepted: a flood of garbage under a reference cannot exclude the genuine order. What the catalogue lacks is
canceled from then on."""
MAX_REFUSALS = 100
"""Refused commands that are published for one order. A sender that counts the attempt of AmendPayment up would otherwise have no end."""


class Terms(Struct, frozen=True, kw_only=True):
    """The business's settings: what it sells, and how long an order waits before its deadline."""

    market: Market = field(default_factory=Market)
    payment_timeout: timedelta = timedelta(days=2)
    stock_timeout: timedelta = timedelta(days=2)
    stock_wait_limit: timedelta = timedelta(days=90)
    product_timeout: timedelta = timedelta(days=2)
    answer_timeout: timedelta = timedelta(days=1)
    delivery_timeout: timedelta = timedelta(days=30)


class Order(Struct, frozen=True, kw_only=True):
    """`status` is new, accepted, reserved, confirmed, released, awaiting_payment, awaiting_stock, awaiting_product, or one of
    ENDED_STATUSES.

    `channel`, `channel_reference` and `content_hash` are those of the accepted content, and empty before; of a rejected order `channel`
    alone is kept. `rejected` are hashes of the
    content that was rejected before it, and `conflicts` of other content that came after it. `refused` are the refusals already published:
    command and reason.
    `lines` are those that are shipped, and `amount` is the part of `total` that payment has held by `payment`. `was_confirmed` while a
    confirmed order awaits stock. `delivered` are the units by package. `too_late` is why the order can no longer be canceled.
    `cancellation` is why it is to be canceled, while fulfillment has not yet accepted or rejected the request of `cancellation_at`.
    Where the order `collects` money, `paid` are the units by fulfillment whose money was captured or written off. `unpaid` is why somebody
    must see to the payment, by `collect_by`; both are empty while nobody must.
    """

    status: str = "new"
    channel: str = ""
    channel_reference: str = ""
    content_hash: str = ""
    rejected: frozenset[str] = frozenset()
    conflicts: frozenset[str] = frozenset()
    personal: PersonalData | None = None
    sealed: SealedData | None = None
    currency: str = ""
    lines: tuple[ChargedLine, ...] = ()
    total: int = 0
    amount: int = 0
    payment: PaymentMethod | None = None
    authorization_id: str | None = None
    delivery: str = ""
    promise: DeliveryPromise | None = None
    location: str | None = None
    attempt: int = 0
    waiting_since: datetime | None = None
    deadline: datetime | None = None
    was_confirmed: bool = False
    trouble: frozenset[str] = frozenset()
    cancellation: str | None = None
    cancellation_at: datetime | None = None
    too_late: str | None = None
    refused: frozenset[str] = frozenset()
    delivered: dict[str, int] = field(default_factory=dict[str, int])
    collects: bool = False
    paid: dict[str, int] = field(default_factory=dict[str, int])
    unpaid: str = ""
    collect_by: datetime | None = None


INITIAL = Order()


def decide_order(command: Command, order: Order, now: datetime, terms: Terms) -> list[Event]:
    """The events that follow from a command. A command that has already had its effect, or comes too late, has none."""
    match command:
        case PlaceOrder():
            return _place(command, order, now, terms)

        case RecordReservation(order_id=order_id, attempt=attempt):
            if not _awaits_reservation(order) or attempt != order.attempt or order.payment is None:
                return []
            return [
                OrderReserved(
                    order_id=order_id,
                    attempt=attempt,
                    total=order.total,
                    amount=order.amount,
                    currency=order.currency,
                    payment=order.payment,
                    lines=order.lines,
                    at=now,
                    authorization_id=order.authorization_id,
                )
            ]

        case RecordShortage(order_id=order_id, attempt=attempt, shortages=shortages, confirmed=confirmed):
            # An order may be short before it is confirmed, and again after that: the first shortage must not come again as the second.
            expected = {"confirmed"} if confirmed else {"accepted", "awaiting_product"}
            if order.status not in (expected if confirmed is not None else expected | {"confirmed"}) or attempt != order.attempt:
                return []
            reason = ", ".join(bounded_reasons(f"{s.sku}: {s.requested} wanted, {s.available} available" for s in shortages))
            return [_ask(order_id, order, "resolve_stock", reason, now=now, timeout=terms.stock_timeout)]

        case RecordUnknownSkus():
            return _without_products(command, order, now, terms)

        case RecordReservationExpiry(order_id=order_id, attempt=attempt):
            if order.status not in {"accepted", "reserved"} or attempt != order.attempt:
                return []
            return [OrderExpired(order_id=order_id, reason="the reservation ended before the payment was authorized", at=now)]

        case RecordAuthorization(order_id=order_id, attempt=attempt, outstanding=outstanding):
            if order.status == "released" and order.unpaid and not outstanding:
                return _payment_resolved(order_id, order, now)
            return [OrderConfirmed(order_id=order_id, at=now)] if order.status == "reserved" and attempt == order.attempt else []

        case RecordDecline(order_id=order_id, attempt=attempt, reason=reason):
            # Of an order that is confirmed, whether or not it waits for stock, the renewal of its authorization was declined.
            expected = order.status in {"reserved", "confirmed"} or order.was_confirmed
            if not expected or attempt != order.attempt:
                return []
            return [_ask(order_id, order, "amend_payment", reason, now=now, timeout=terms.payment_timeout)]

        case RecordAllocation(order_id=order_id, lines=lines):
            if order.status != "confirmed" and not order.was_confirmed:
                return []
            return [
                OrderReleased(
                    order_id=order_id,
                    delivery=order.delivery,
                    lines=lines,
                    at=now,
                    promise=order.promise,
                    personal=order.personal,
                    sealed=order.sealed,
                    collects=order.amount > 0,
                )
            ]

        case RecordPayment():
            return _record_payment(command, order, now)

        case RecordOutstanding(order_id=order_id, reason=reason, deadline=deadline):
            if order.status != "released" or (order.collect_by is not None and deadline <= order.collect_by):
                return []
            return [_ask_until(order_id, order, "collect_payment", reason, now=now, deadline=deadline)]

        case AmendPayment(order_id=order_id, payment=payment, attempt=attempt):
            if order.status != "awaiting_payment" or attempt not in {None, order.attempt}:
                if payment == order.payment:
                    return []
                return _refuse(order, command, _not_awaiting_payment(order, attempt), now)
            if not payment.token.strip():
                return _refuse(order, command, "payment.token: must not be empty", now)
            return [
                OrderPaymentAmended(
                    order_id=order_id,
                    attempt=order.attempt + 1,
                    payment=payment,
                    lines=order.lines,
                    location=order.location,
                    at=now,
                    promise=order.promise,
                )
            ]

        case ExtendWait():
            return _extend(command, order, now, terms)

        case CancelOrder():
            return _cancel(command, order, now)

        case EraseCustomer():
            return []

        case RecordFulfillmentCanceled(order_id=order_id, requested_at=requested_at):
            if order.cancellation is None or not _is_open_request(requested_at, order):
                return []
            return [OrderCanceled(order_id=order_id, reason=order.cancellation, at=now)]

        case RecordCancellationRejected(order_id=order_id, reason=reason, requested_at=requested_at):
            return [OrderCancellationRejected(order_id=order_id, reason=reason, at=now)] if _is_open_request(requested_at, order) else []

        case RecordDelivery(order_id=order_id, package_id=package_id, lines=lines):
            if order.status != "released" or package_id in order.delivered:
                return []
            with_it = replace(order, delivered={**order.delivered, package_id: _units(lines)})
            if not _is_delivered(with_it):
                return [OrderPartlyDelivered(order_id=order_id, package_id=package_id, lines=lines, at=now)]
            if not may_complete(with_it):
                return [OrderDelivered(order_id=order_id, package_id=package_id, lines=lines, at=now)]
            return [OrderCompleted(order_id=order_id, currency=order.currency, lines=order.lines, at=now)]

        case RecordDeliveryTrouble(order_id=order_id, reason=reason):
            if order.status != "released" or reason in order.trouble:
                return []
            return [_ask(order_id, order, "check_delivery", reason, now=now, timeout=terms.delivery_timeout)]

        case ActOnDeadline(order_id=order_id, deadline=deadline):
            # The deadline is matched, not compared with the clock: a deadline of an earlier status is no longer due.
            if due(order_id, order, terms) != (deadline, command):
                return []
            return [_overdue(order_id, order, now, terms)]


def decide_for(channel: str, command: Command, order: Order, now: datetime, terms: Terms) -> list[Event]:
    """As `decide_order`, for a command from the channel's own topic: what it has not placed does not exist for it."""
    if isinstance(command, CancelOrder | AmendPayment | ExtendWait) and order.channel != channel:
        return _refuse(order, command, f"the order is {_status(INITIAL)}", now)
    return decide_order(command, order, now, terms)


def evolve(order: Order, event: Event) -> Order:
    """The order after an event. Never raises: an event is a fact."""
    match event:
        case OrderAccepted():
            ours = collection_of(event.payments)
            return replace(
                order,
                status="accepted",
                channel=event.channel,
                channel_reference=event.channel_reference,
                content_hash=event.content_hash,
                personal=event.personal,
                sealed=event.sealed,
                currency=event.currency,
                lines=charged_lines(event),
                total=event.total,
                amount=ours.amount,
                payment=ours.method,
                authorization_id=ours.authorization_id,
                delivery=event.delivery,
                promise=event.promise,
                location=event.location,
                attempt=event.attempt,
                waiting_since=event.accepted_at,
            )
        case OrderRejected(content_hash=content_hash):
            # Of content that had been accepted nothing is left but its channel, which may speak of it, and the number of its attempt, so
            # that its late answers are recognised.
            return Order(
                status="rejected",
                channel=event.channel,
                rejected=order.rejected | {content_hash},
                conflicts=order.conflicts,
                attempt=order.attempt,
                refused=order.refused,
            )
        case OrderConflictReported(content_hash=content_hash):
            return replace(order, conflicts=order.conflicts | {content_hash})
        case OrderReserved(at=at):
            return replace(order, status="reserved", waiting_since=at, deadline=None)
        case OrderWaitExtended(deadline=deadline):
            return replace(order, deadline=deadline)
        case OrderConfirmed(at=at):
            return replace(order, status="confirmed", waiting_since=at, deadline=None)
        case OrderReleased(at=at):
            return replace(order, status="released", waiting_since=at, deadline=None, was_confirmed=False, collects=event.collects)
        case OrderActionRequired(action="collect_payment", reason=reason, deadline=deadline):
            return replace(order, unpaid=reason, collect_by=deadline)
        case OrderActionRequired(action=action, reason=reason, deadline=deadline):
            status = WAITING_STATUSES.get(action, order.status)
            trouble = order.trouble | {reason} if action == "check_delivery" else order.trouble
            was_confirmed = status == "awaiting_stock" and (order.was_confirmed or order.status == "confirmed")
            return replace(order, status=status, deadline=deadline, trouble=trouble, was_confirmed=was_confirmed)
        case OrderPaymentAmended(attempt=attempt, payment=payment, at=at):
            return replace(
                order, status="accepted", attempt=attempt, payment=payment, authorization_id=None, waiting_since=at, deadline=None
            )
        case OrderCancellationRequested(reason=reason, at=at):
            return replace(order, cancellation=reason, cancellation_at=at)
        case OrderCancellationRejected(reason=reason):
            return replace(order, cancellation=None, cancellation_at=None, too_late=reason)
        case OrderCommandRefused(command=command, reason=reason):
            return replace(order, refused=order.refused | {f"{command}: {reason}"})
        case OrderPartlyDelivered(package_id=package_id, lines=lines):
            return replace(order, delivered={**order.delivered, package_id: _units(lines)})
        case OrderDelivered(package_id=package_id, lines=lines, at=at):
            # Only money is waited for from now on: where a package is no longer matters.
            return replace(order, delivered={**order.delivered, package_id: _units(lines)}, waiting_since=at, deadline=None)
        case OrderPaid(fulfillment_id=fulfillment_id, units=units):
            return replace(order, paid={**order.paid, fulfillment_id: units})
        case OrderPaymentResolved():
            return replace(order, unpaid="")
        case OrderCanceled():
            return replace(order, status="canceled", deadline=None, was_confirmed=False)
        case OrderExpired():
            return replace(order, status="expired", deadline=None, was_confirmed=False)
        case OrderCompleted():
            # What only mattered before the end is dropped: it depends on which of two topics was read first.
            return replace(
                order,
                status="completed",
                deadline=None,
                delivered={},
                paid={},
                collect_by=None,
                cancellation=None,
                cancellation_at=None,
                too_late=None,
            )


def due(order_id: str, order: Order, terms: Terms) -> tuple[datetime, Command] | None:
    """The order's deadline. Every order that has not ended has one."""
    if order.status in ENDED_STATUSES or order.waiting_since is None:
        return None
    if order.status == "released" and not _is_delivered(order):
        deadline = order.deadline or order.waiting_since + terms.delivery_timeout
    else:
        # While somebody must see to the payment, payment asks again at each deadline of its own: it has that long to answer.
        began = max(order.waiting_since, order.collect_by) if order.unpaid and order.collect_by else order.waiting_since
        deadline = order.deadline or began + terms.answer_timeout
    return deadline, ActOnDeadline(order_id=order_id, deadline=deadline)


def _place(command: PlaceOrder, order: Order, now: datetime, terms: Terms) -> list[Event]:
    """The first valid content under a reference is accepted. Content before it is rejected, content after it conflicts, each once."""
    placed, order_id = command.placed, command.order_id
    if command.content_hash in order.rejected:
        return []
    if order.status not in {"new", "rejected"}:
        if command.content_hash in order.conflicts | {order.content_hash} or len(order.conflicts) >= MAX_CONFLICTS:
            return []
        return [
            OrderConflictReported(
                order_id=order_id,
                channel=placed.channel,
                channel_reference=placed.channel_reference,
                content_hash=command.content_hash,
                reported_at=now,
            )
        ]
    if reasons := objections(placed, now, terms.market):
        if len(order.rejected) >= MAX_REJECTIONS:
            return []
        return [
            OrderRejected(
                order_id=order_id,
                channel=placed.channel,
                channel_reference=placed.channel_reference,
                content_hash=command.content_hash,
                reasons=reasons,
                rejected_at=now,
            )
        ]
    return [
        OrderAccepted(
            order_id=order_id,
            channel=placed.channel,
            channel_reference=placed.channel_reference,
            content_hash=command.content_hash,
            placed_at=placed.placed_at,
            accepted_at=now,
            currency=placed.currency,
            lines=placed.lines,
            total=placed.total,
            payments=placed.payments,
            delivery=placed.delivery,
            location=placed.location or (placed.pickup.location if placed.pickup else None),
            personal=None,
            sealed=command.sealed,
            taxes_included=placed.taxes_included,
            shipping_lines=placed.shipping_lines,
            fees=placed.fees,
            discounts=placed.discounts,
            promise=placed.promise,
            number=placed.number,
            purchase_order=placed.purchase_order,
            locale=placed.locale,
            time_zone=placed.time_zone,
            tags=placed.tags,
            attributes=placed.attributes,
            attempt=order.attempt + 1,
        )
    ]


def _without_products(command: RecordUnknownSkus, order: Order, now: datetime, terms: Terms) -> list[Event]:
    """The catalogue lacks products of the order: it waits for them, or is rejected. Inventory's setting says which."""
    order_id, attempt = command.order_id, command.attempt
    if attempt != order.attempt:
        return []
    if command.held:
        if order.status != "accepted":
            return []
        reason = "the catalogue lacks " + ", ".join(bounded_reasons(map(quoted, command.unknown_skus)))
        return [_ask(order_id, order, "define_product", reason, now=now, timeout=terms.product_timeout)]
    if order.status not in {"accepted", "awaiting_product"}:
        return []
    reasons = bounded_reasons(f"lines.sku: {quoted(sku)} is not in the catalogue, or not active" for sku in command.unknown_skus)
    if len(order.rejected) >= MAX_REJECTIONS:
        return [OrderCanceled(order_id=order_id, reason="; ".join(reasons), at=now)]
    return [
        OrderRejected(
            order_id=order_id,
            channel=order.channel,
            channel_reference=order.channel_reference,
            content_hash=order.content_hash,
            reasons=reasons,
            rejected_at=now,
            attempt=attempt,
        )
    ]


def _cancel(command: CancelOrder, order: Order, now: datetime) -> list[Event]:
    order_id, reason = command.order_id, command.reason
    match order.status:
        case "accepted" | "reserved" | "confirmed" | "awaiting_payment" | "awaiting_stock" | "awaiting_product":
            return [OrderCanceled(order_id=order_id, reason=reason, at=now)]
        case "released" if order.too_late is not None:
            return _refuse(order, command, order.too_late, now)
        case "released":
            return [] if order.cancellation is not None else [OrderCancellationRequested(order_id=order_id, reason=reason, at=now)]
        case "canceled" | "expired":
            return []
        case _:
            return _refuse(order, command, f"the order is {_status(order)}", now)


def _extend(command: ExtendWait, order: Order, now: datetime, terms: Terms) -> list[Event]:
    order_id, until = command.order_id, command.until
    if order.status != "awaiting_stock" or order.deadline is None or order.waiting_since is None:
        return _refuse(order, command, f"the order is {_status(order)}, not awaiting stock", now)
    if until == order.deadline:
        return []
    latest = order.waiting_since + terms.stock_wait_limit
    if not order.deadline < until <= latest:
        return _refuse(order, command, f"until: must be after {_moment(order.deadline)}, and not after {_moment(latest)}", now)
    return [OrderWaitExtended(order_id=order_id, deadline=until, at=now)]


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _refuse(order: Order, command: CancelOrder | AmendPayment | ExtendWait, reason: str, now: datetime) -> list[Event]:
    """The refusal of a command that does not fit. The same refusal is published once, and of one order MAX_REFUSALS."""
    name = type_of(command).name
    if f"{name}: {reason}" in order.refused or len(order.refused) >= MAX_REFUSALS:
        return []
    return [OrderCommandRefused(order_id=command.order_id, command=name, reason=reason, at=now)]


def _not_awaiting_payment(order: Order, attempt: int | None) -> str:
    if order.status == "awaiting_payment":
        return f"attempt {order.attempt} is awaiting payment, not {attempt}"
    return f"the order is {_status(order)}, not awaiting payment"


def _status(order: Order) -> str:
    return "not known" if order.status == "new" else order.status


def _overdue(order_id: str, order: Order, now: datetime, terms: Terms) -> Event:
    match order.status:
        case "awaiting_payment":
            return OrderExpired(order_id=order_id, reason="the payment was not amended in time", at=now)
        case "awaiting_stock":
            return OrderExpired(order_id=order_id, reason="the stock it waited for did not come in time", at=now)
        case "awaiting_product":
            return OrderExpired(order_id=order_id, reason="its products were not defined in time", at=now)
        case "released" if _is_delivered(order):
            reason = "every unit is delivered, and payment has not said for too long whether what shipped is paid"
            return _ask(order_id, order, "investigate", reason, now=now, timeout=terms.answer_timeout)
        case "released":
            return _ask(order_id, order, "check_delivery", "not delivered in time", now=now, timeout=terms.delivery_timeout)
        case waiting:
            reason = f"the order has been {waiting} for too long"
            return _ask(order_id, order, "investigate", reason, now=now, timeout=terms.answer_timeout)


def _ask(order_id: str, order: Order, action: str, reason: str, *, now: datetime, timeout: timedelta) -> OrderActionRequired:
    return _ask_until(order_id, order, action, reason, now=now, deadline=now + timeout)


def _ask_until(order_id: str, order: Order, action: str, reason: str, *, now: datetime, deadline: datetime) -> OrderActionRequired:
    return OrderActionRequired(order_id=order_id, action=action, reason=reason, deadline=deadline, at=now, attempt=order.attempt)


def may_complete(order: Order) -> bool:
    """Whether an order that is delivered may be completed: money that is ours to collect for it is paid or written off."""
    return not order.unpaid and (not order.collects or sum(order.paid.values()) >= sum(order.delivered.values()))


def _is_delivered(order: Order) -> bool:
    """Whether every unit has arrived."""
    return sum(order.delivered.values()) >= _units(order.lines)


def _record_payment(command: RecordPayment, order: Order, now: datetime) -> list[Event]:
    order_id, fulfillment_id = command.order_id, command.fulfillment_id
    if order.status != "released" or not order.collects or fulfillment_id in order.paid:
        return []
    # An earlier release of payment does not tell the units: then its first capture counts for all of them.
    units = _units(order.lines) if command.units is None else command.units
    paid = replace(order, paid={**order.paid, fulfillment_id: units})
    events: list[Event] = [OrderPaid(order_id=order_id, fulfillment_id=fulfillment_id, units=units, at=now)]
    if order.unpaid and not command.outstanding:
        events += _payment_resolved(order_id, order, now)
        paid = replace(paid, unpaid="")
    if _is_delivered(order) and may_complete(paid):
        events.append(OrderCompleted(order_id=order_id, currency=order.currency, lines=order.lines, at=now))
    return events


def _payment_resolved(order_id: str, order: Order, now: datetime) -> list[Event]:
    """Nobody must see to the payment any more. What else the order waits for is asked again, because readers keep the newest alone."""
    resolved = OrderPaymentResolved(order_id=order_id, at=now)
    if order.deadline is None or _is_delivered(order):
        return [resolved]
    reason = "; ".join(bounded_reasons(sorted(order.trouble))) or "not delivered in time"
    return [resolved, _ask_until(order_id, order, "check_delivery", reason, now=now, deadline=order.deadline)]


def _is_open_request(requested_at: datetime | None, order: Order) -> bool:
    """Whether fulfillment decided on the cancellation request that is open. Old records do not name their request."""
    return order.status == "released" and order.cancellation is not None and requested_at in {None, order.cancellation_at}


def _awaits_reservation(order: Order) -> bool:
    """Whether a reservation of the order is news. A confirmed order was reserved before: its stock is allocated."""
    return order.status in {"accepted", "awaiting_product"} or (order.status == "awaiting_stock" and not order.was_confirmed)


def _units(lines: Iterable[AllocatedLine | ChargedLine]) -> int:
    return sum(line.quantity for line in lines)
