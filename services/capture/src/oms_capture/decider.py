"""One order: what may happen to it, and what that means.

Capture leads. It hears what the others did and says what the order now is; they act on that and on nothing else. Every step follows on one
of capture's own events, so a fact that does not fit where the order stands is late or repeated, and changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from oms_contracts.channel import OrderPlaced
from oms_contracts.orders import (
    AmendPayment,
    CancelOrder,
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderCancellationRejected,
    OrderCancellationRequested,
    OrderCommandRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderConflictReported,
    OrderExpired,
    OrderPartlyDelivered,
    OrderPaymentAmended,
    OrderRejected,
    OrderReleased,
    OrderReserved,
)
from oms_contracts.values import Address, AllocatedLine, Customer, OrderLine, PaymentMethod

from oms_capture.commands import (
    ActOnDeadline,
    Command,
    Event,
    PlaceOrder,
    RecordAllocation,
    RecordAuthorization,
    RecordDecline,
    RecordDelivery,
    RecordDeliveryTrouble,
    RecordReservation,
    RecordReservationExpiry,
    RecordShortage,
    RecordStopped,
    RecordTooLate,
)

MOST_LINES = 1_000
MOST_MONEY = 10**15
"""Minor units; keeps every sum within what a bigint and a JSON number hold."""
ENDED = frozenset({"rejected", "canceled", "expired", "completed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The business's settings. An empty `channels` admits every channel."""

    channels: frozenset[str] = frozenset()
    currencies: frozenset[str] = frozenset({"EUR", "USD"})
    countries: frozenset[str] = frozenset({"DE", "US"})
    payment_patience: timedelta = timedelta(days=2)
    stock_patience: timedelta = timedelta(days=2)
    answer_patience: timedelta = timedelta(days=1)
    delivery_patience: timedelta = timedelta(days=30)
    clock_skew: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`status` is new, accepted, reserved, confirmed, released, awaiting_payment, awaiting_stock, or one of ENDED."""

    status: str = "new"
    content_hash: str = ""
    conflicts: frozenset[str] = frozenset()
    customer: Customer | None = None
    currency: str = ""
    lines: tuple[OrderLine, ...] = ()
    shipping: int = 0
    total: int = 0
    payment: PaymentMethod | None = None
    delivery: str = ""
    ship_to: Address | None = None
    location: str | None = None
    attempt: int = 0
    waiting_since: datetime | None = None
    deadline: datetime | None = None
    trouble: frozenset[str] = frozenset()
    cancellation: str | None = None
    refusal: str | None = None
    delivered: dict[str, tuple[AllocatedLine, ...]] = field(default_factory=dict[str, tuple[AllocatedLine, ...]])


INITIAL = Order()


def decide(command: Command, order: Order, now: datetime, terms: Terms) -> list[Event]:
    """What follows from a command. One that has already had its effect, or comes too late, has none."""
    match command:
        case PlaceOrder():
            return _place(command, order, now, terms)

        case RecordReservation(order_id=order_id, attempt=attempt):
            if order.status != "accepted" or attempt != order.attempt or order.payment is None:
                return []
            return [
                OrderReserved(
                    order_id=order_id,
                    attempt=attempt,
                    amount=order.total,
                    currency=order.currency,
                    payment=order.payment,
                    lines=order.lines,
                    shipping=order.shipping,
                    at=now,
                )
            ]

        case RecordShortage(order_id=order_id, shortages=shortages):
            if order.status not in {"accepted", "confirmed"}:
                return []
            reason = ", ".join(f"{s.sku}: {s.requested} wanted, {s.available} available" for s in shortages)
            deadline = now + terms.stock_patience
            return [OrderActionRequired(order_id=order_id, action="resolve_stock", reason=reason, deadline=deadline, at=now)]

        case RecordReservationExpiry(order_id=order_id, attempt=attempt):
            if order.status not in {"accepted", "reserved"} or attempt != order.attempt:
                return []
            return [OrderExpired(order_id=order_id, reason="the reservation ended before the payment was authorized", at=now)]

        case RecordAuthorization(order_id=order_id, attempt=attempt):
            return [OrderConfirmed(order_id=order_id, at=now)] if order.status == "reserved" and attempt == order.attempt else []

        case RecordDecline(order_id=order_id, attempt=attempt, reason=reason):
            if order.status != "reserved" or attempt != order.attempt:
                return []
            deadline = now + terms.payment_patience
            return [OrderActionRequired(order_id=order_id, action="amend_payment", reason=reason, deadline=deadline, at=now)]

        case RecordAllocation(order_id=order_id, lines=lines):
            if order.status != "confirmed" or order.customer is None:
                return []
            return [
                OrderReleased(
                    order_id=order_id, customer=order.customer, delivery=order.delivery, ship_to=order.ship_to, lines=lines, at=now
                )
            ]

        case AmendPayment(order_id=order_id, payment=payment):
            if order.status != "awaiting_payment":
                if payment == order.payment:
                    return []
                return _refuse(order, order_id, "oms.capture.AmendPayment.v1", f"the order is {order.status}, not awaiting payment", now)
            return [
                OrderPaymentAmended(
                    order_id=order_id, attempt=order.attempt + 1, payment=payment, lines=order.lines, location=order.location, at=now
                )
            ]

        case CancelOrder(order_id=order_id, reason=reason):
            return _cancel(order_id, reason, order, now)

        case RecordStopped(order_id=order_id):
            if order.status != "released" or order.cancellation is None:
                return []
            return [OrderCanceled(order_id=order_id, reason=order.cancellation, at=now)]

        case RecordTooLate(order_id=order_id, reason=reason):
            if order.status != "released" or order.cancellation is None:
                return []
            return [OrderCancellationRejected(order_id=order_id, reason=reason, at=now)]

        case RecordDelivery(order_id=order_id, package_id=package_id, lines=lines):
            if order.status != "released" or package_id in order.delivered or order.customer is None:
                return []
            arrived = _units(lines) + sum(_units(earlier) for earlier in order.delivered.values())
            if arrived < sum(line.quantity for line in order.lines):
                return [OrderPartlyDelivered(order_id=order_id, package_id=package_id, lines=lines, at=now)]
            return [OrderCompleted(order_id=order_id, customer=order.customer, currency=order.currency, lines=order.lines, at=now)]

        case RecordDeliveryTrouble(order_id=order_id, reason=reason):
            if order.status != "released" or reason in order.trouble:
                return []
            return [_ask(order_id, "check_delivery", reason, now, terms.delivery_patience)]

        case ActOnDeadline(order_id=order_id, deadline=deadline):
            # The deadline is matched, not compared with the clock: what was due before the order moved on is no longer.
            if due(order_id, order, terms) != (deadline, command):
                return []
            return [_overdue(order_id, order, now, terms)]


def evolve(order: Order, event: Event) -> Order:
    """Never refuses: what happened, happened."""
    match event:
        case OrderAccepted():
            return replace(
                order,
                status="accepted",
                content_hash=event.content_hash,
                customer=event.customer,
                currency=event.currency,
                lines=event.lines,
                shipping=event.shipping,
                total=event.total,
                payment=event.payment,
                delivery=event.delivery,
                ship_to=event.ship_to,
                location=event.location,
                attempt=1,
                waiting_since=event.accepted_at,
            )
        case OrderRejected(content_hash=content_hash):
            return replace(order, status="rejected", content_hash=content_hash)
        case OrderConflictReported(content_hash=content_hash):
            return replace(order, conflicts=order.conflicts | {content_hash})
        case OrderReserved(at=at):
            return replace(order, status="reserved", waiting_since=at, deadline=None)
        case OrderConfirmed(at=at):
            return replace(order, status="confirmed", waiting_since=at, deadline=None)
        case OrderReleased(at=at):
            return replace(order, status="released", waiting_since=at, deadline=None)
        case OrderActionRequired(action=action, reason=reason, deadline=deadline):
            status = {"amend_payment": "awaiting_payment", "resolve_stock": "awaiting_stock"}.get(action, order.status)
            trouble = order.trouble | {reason} if action == "check_delivery" else order.trouble
            return replace(order, status=status, deadline=deadline, trouble=trouble)
        case OrderPaymentAmended(attempt=attempt, payment=payment, at=at):
            return replace(order, status="accepted", attempt=attempt, payment=payment, waiting_since=at, deadline=None)
        case OrderCancellationRequested(reason=reason):
            return replace(order, cancellation=reason)
        case OrderCancellationRejected(reason=reason):
            return replace(order, cancellation=None, refusal=reason)
        case OrderCommandRefused(reason=reason):
            return replace(order, refusal=reason)
        case OrderPartlyDelivered(package_id=package_id, lines=lines):
            return replace(order, delivered={**order.delivered, package_id: lines})
        case OrderCanceled():
            return replace(order, status="canceled", deadline=None)
        case OrderExpired():
            return replace(order, status="expired", deadline=None)
        case OrderCompleted():
            return replace(order, status="completed", deadline=None)


def due(order_id: str, order: Order, terms: Terms) -> tuple[datetime, Command] | None:
    """Every order that has not ended waits until some moment, and no longer."""
    if order.status in ENDED or order.waiting_since is None:
        return None
    patience = terms.delivery_patience if order.status == "released" else terms.answer_patience
    deadline = order.deadline or order.waiting_since + patience
    return deadline, ActOnDeadline(order_id=order_id, deadline=deadline)


def _place(command: PlaceOrder, order: Order, now: datetime, terms: Terms) -> list[Event]:
    placed, order_id = command.placed, command.order_id
    if order.status != "new":
        if command.content_hash == order.content_hash or command.content_hash in order.conflicts:
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
    if reasons := tuple(objections(placed, now, terms)):
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
            customer=placed.customer,
            currency=placed.currency,
            lines=placed.lines,
            shipping=placed.shipping,
            total=placed.total,
            payment=placed.payment,
            delivery=placed.delivery,
            ship_to=placed.ship_to,
            location=placed.location,
        )
    ]


def objections(placed: OrderPlaced, now: datetime, terms: Terms) -> Iterator[str]:
    """Everything that is wrong with an order, each naming its field and the reason. A line that is free (total 0) is sound."""
    if terms.channels and placed.channel not in terms.channels:
        yield f"channel: {placed.channel!r} is not a known channel"
    if not placed.channel_reference.strip():
        yield "channel_reference: must not be empty"
    if placed.currency not in terms.currencies:
        yield f"currency: {placed.currency!r} is not an ISO 4217 code"
    if placed.placed_at > now + terms.clock_skew:
        yield "placed_at: lies in the future"
    if not placed.customer.id.strip():
        yield "customer.id: must not be empty"
    if not placed.payment.token.strip():
        yield "payment.token: must not be empty"
    if not 1 <= len(placed.lines) <= MOST_LINES:
        yield f"lines: an order has 1 to {MOST_LINES} lines, this one {len(placed.lines)}"
    seen: set[str] = set()
    for index, line in enumerate(placed.lines):
        yield from (f"lines.{index}.{reason}" for reason in _line_objections(line, seen))
        seen.add(line.line_id)
    if placed.shipping < 0:
        yield "shipping: must not be negative"
    due_total = sum(line.total for line in placed.lines) + placed.shipping
    if placed.total != due_total:
        yield f"total: is {placed.total}, lines and shipping add up to {due_total}"
    if not 0 <= placed.total <= MOST_MONEY:
        yield f"total: must be between 0 and {MOST_MONEY}"
    if placed.delivery not in {"ship", "pickup"}:
        yield f"delivery: {placed.delivery!r} is neither ship nor pickup"
    if placed.delivery == "ship":
        yield from _address_objections(placed.ship_to, terms)


def _line_objections(line: OrderLine, seen: set[str]) -> Iterator[str]:
    if not line.line_id or line.line_id in seen:
        yield f"line_id: {line.line_id!r} is empty or used twice"
    if not line.sku.strip():
        yield "sku: must not be empty"
    if line.quantity < 1:
        yield f"quantity: must be at least 1, is {line.quantity}"
    for name, amount in (("unit_price", line.unit_price), ("discount", line.discount), ("total", line.total)):
        if amount < 0:
            yield f"{name}: must not be negative, is {amount}"
    if line.quantity * line.unit_price - line.discount != line.total:
        yield f"total: is {line.total}, {line.quantity} x {line.unit_price} - {line.discount} is {line.quantity * line.unit_price - line.discount}"


def _address_objections(address: Address | None, terms: Terms) -> Iterator[str]:
    if address is None:
        yield "ship_to: an order to be shipped needs an address"
        return
    for name in ("name", "street", "postal_code", "city"):
        if not str(getattr(address, name)).strip():
            yield f"ship_to.{name}: must not be empty"
    if address.country not in terms.countries:
        yield f"ship_to.country: {address.country!r} is not an ISO 3166-1 alpha-2 code"


def _cancel(order_id: str, reason: str, order: Order, now: datetime) -> list[Event]:
    match order.status:
        case "accepted" | "reserved" | "confirmed" | "awaiting_payment" | "awaiting_stock":
            return [OrderCanceled(order_id=order_id, reason=reason, at=now)]
        case "released":
            return [] if order.cancellation is not None else [OrderCancellationRequested(order_id=order_id, reason=reason, at=now)]
        case "canceled" | "expired":
            return []
        case _:
            standing = "not known" if order.status == "new" else order.status
            return _refuse(order, order_id, "oms.capture.CancelOrder.v1", f"the order is {standing}", now)


def _refuse(order: Order, order_id: str, command: str, reason: str, now: datetime) -> list[Event]:
    return [] if reason == order.refusal else [OrderCommandRefused(order_id=order_id, command=command, reason=reason, at=now)]


def _overdue(order_id: str, order: Order, now: datetime, terms: Terms) -> Event:
    match order.status:
        case "awaiting_payment":
            return OrderExpired(order_id=order_id, reason="the payment was not amended in time", at=now)
        case "awaiting_stock":
            return OrderExpired(order_id=order_id, reason="there was not enough stock in time", at=now)
        case "released":
            return _ask(order_id, "check_delivery", "not delivered in time", now, terms.delivery_patience)
        case waiting:
            return _ask(order_id, "investigate", f"the order has been {waiting} for too long", now, terms.answer_patience)


def _ask(order_id: str, action: str, reason: str, now: datetime, patience: timedelta) -> OrderActionRequired:
    return OrderActionRequired(order_id=order_id, action=action, reason=reason, deadline=now + patience, at=now)


def _units(lines: tuple[AllocatedLine, ...]) -> int:
    return sum(line.quantity for line in lines)
