"""Versions that another one has taken the place of. Their records stay on the topics, and channels may go on sending version 1 of an order.

The classes bear the names under which they were published. Nothing but `content_hash` and the catalogue needs them: reading a record
upcasts it.
"""

from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import msgspec

from oms_contracts import channel, fulfillments, orders, payments, returns
from oms_contracts.message import Value, message, type_of
from oms_contracts.order_parts import (
    ChargedLine,
    DeliveryPromise,
    Discount,
    DiscountShare,
    Gift,
    LineItem,
    OrderPayment,
    PersonalData,
    Pickup,
    ShippingLine,
)
from oms_contracts.values import Address as NewestAddress
from oms_contracts.values import AllocatedLine, Code, OrderLine, PaymentMethod, Prose, order_id_of
from oms_contracts.values import Customer as NewestCustomer

V = TypeVar("V", bound=Value)

_ONE = "1"
"""The id of the only payment, shipping line and discount of an upcast order."""
_DISCOUNT, _SHIPPING = "Discount", "Shipping"


class Address(Value, frozen=True, kw_only=True):
    """Where a parcel goes. `country` is ISO 3166-1 alpha-2."""

    name: str
    street: str
    postal_code: str
    city: str
    country: str
    region: str | None = None


class Customer(Value, frozen=True, kw_only=True):
    id: str
    email: str | None = None


def _place_of(placed: "OrderPlaced") -> channel.OrderPlaced:
    return _carried(
        channel.OrderPlaced,
        placed,
        customer=_carried(NewestCustomer, placed.customer),
        lines=tuple(map(_item_of, placed.lines)),
        payments=_payments_of(placed.payment, placed.total),
        shipping_lines=_shipping_lines_of(placed.shipping),
        discounts=_discounts_of(placed.lines),
        ship_to=_address_of(placed.ship_to),
    )


@message("oms.channel.OrderPlaced.v1", key=lambda placed: order_id_of(placed.channel, placed.channel_reference), upcast=_place_of)
class OrderPlaced(Value, frozen=True, kw_only=True):
    """A customer placed an order. Its record's key is `order_id_of(channel, channel_reference)`.

    `total` is the sum of the lines' totals plus `shipping`. `delivery` is "ship" (an address is needed) or "pickup".
    `location` is where the channel would like it fulfilled; other locations serve when that one cannot.
    """

    channel: str
    channel_reference: str
    placed_at: datetime
    customer: Customer
    currency: str
    lines: tuple[OrderLine, ...]
    total: int
    payment: PaymentMethod
    shipping: int = 0
    delivery: str = "ship"
    ship_to: Address | None = None
    location: Code | None = None


def _acceptance_of(accepted: "OrderAccepted") -> orders.OrderAccepted:
    return _carried(
        orders.OrderAccepted,
        accepted,
        lines=tuple(map(_item_of, accepted.lines)),
        shipping_lines=_shipping_lines_of(accepted.shipping),
        discounts=_discounts_of(accepted.lines),
        payments=_payments_of(accepted.payment, accepted.total),
        personal=PersonalData(customer=_carried(NewestCustomer, accepted.customer), ship_to=_address_of(accepted.ship_to)),
    )


@message("oms.capture.OrderAccepted.v1", key="order_id", upcast=_acceptance_of)
class OrderAccepted(Value, frozen=True, kw_only=True):
    """The order is sound. Inventory reserves its stock for `attempt` 1."""

    order_id: str
    channel: str
    channel_reference: str
    content_hash: str
    placed_at: datetime
    accepted_at: datetime
    customer: Customer
    currency: str
    lines: tuple[OrderLine, ...]
    shipping: int
    total: int
    payment: PaymentMethod
    delivery: str
    ship_to: Address | None
    location: str | None


def _reservation_of(reserved: "OrderReserved") -> orders.OrderReserved:
    return _carried(orders.OrderReserved, reserved, total=reserved.amount, lines=_charges_of(reserved.lines))


@message("oms.capture.OrderReserved.v1", key="order_id", upcast=_reservation_of)
class OrderReserved(Value, frozen=True, kw_only=True):
    """Stock is held for the order. Payment authorises `amount` (minor units) for `attempt`."""

    order_id: str
    attempt: int
    amount: int
    currency: str
    payment: PaymentMethod
    lines: tuple[OrderLine, ...]
    shipping: int
    at: datetime


def _amendment_of(amended: "OrderPaymentAmended") -> orders.OrderPaymentAmended:
    return _carried(orders.OrderPaymentAmended, amended, lines=_charges_of(amended.lines))


@message("oms.capture.OrderPaymentAmended.v1", key="order_id", upcast=_amendment_of)
class OrderPaymentAmended(Value, frozen=True, kw_only=True):
    """The customer gave another means of payment. Inventory reserves anew, for `attempt`."""

    order_id: str
    attempt: int
    payment: PaymentMethod
    lines: tuple[OrderLine, ...]
    location: str | None
    at: datetime


def _release_of(released: "OrderReleased") -> orders.OrderReleased:
    return _carried(orders.OrderReleased, released, personal=_carried(PersonalData, released))


@message("oms.capture.OrderReleased.v1", key="order_id", upcast=_release_of)
class OrderReleased(Value, frozen=True, kw_only=True):
    """Stock is allocated. Fulfillment plans from `lines`, which name the location of every unit."""

    order_id: str
    customer: NewestCustomer
    delivery: str
    ship_to: NewestAddress | None
    lines: tuple[AllocatedLine, ...]
    at: datetime
    pickup: Pickup | None = None
    promise: DeliveryPromise | None = None
    note: Prose | None = None
    gift: Gift | None = None


def _plan_of(planned: "FulfillmentPlanned") -> fulfillments.FulfillmentPlanned:
    personal = _carried(PersonalData, planned, customer=NewestCustomer(id=""))
    return _carried(fulfillments.FulfillmentPlanned, planned, personal=personal)


@message("oms.fulfillment.FulfillmentPlanned.v1", key="order_id", upcast=_plan_of)
class FulfillmentPlanned(Value, frozen=True, kw_only=True):
    """A location is asked to ship `lines`."""

    order_id: str
    fulfillment_id: str
    location: str
    delivery: str
    ship_to: NewestAddress | None
    lines: tuple[AllocatedLine, ...]
    at: datetime
    pickup: Pickup | None = None
    promise: DeliveryPromise | None = None
    note: Prose | None = None
    gift: Gift | None = None


def _completion_of(completed: "OrderCompleted") -> orders.OrderCompleted:
    return _carried(orders.OrderCompleted, completed, lines=_charges_of(completed.lines))


@message("oms.capture.OrderCompleted.v1", key="order_id", upcast=_completion_of)
class OrderCompleted(Value, frozen=True, kw_only=True):
    """The end: every unit is delivered. Returns may be asked for from now on."""

    order_id: str
    customer: Customer
    currency: str
    lines: tuple[OrderLine, ...]
    at: datetime


def _request_of(requested: "PaymentAuthorizationRequested") -> payments.PaymentAuthorizationRequested:
    return _carried(payments.PaymentAuthorizationRequested, requested, total=requested.amount, lines=_charges_of(requested.lines))


@message("oms.payment.PaymentAuthorizationRequested.v1", key="order_id", upcast=_request_of)
class PaymentAuthorizationRequested(Value, frozen=True, kw_only=True):
    """The provider is asked to hold `amount`."""

    order_id: str
    attempt: int
    request_id: str
    amount: int
    currency: str
    payment: PaymentMethod
    lines: tuple[OrderLine, ...]
    shipping: int
    at: datetime


def _opening_of(opened: "ReturnWindowOpened") -> returns.ReturnWindowOpened:
    return _carried(returns.ReturnWindowOpened, opened, lines=_charges_of(opened.lines))


@message("oms.returns.ReturnWindowOpened.v1", key="order_id", upcast=_opening_of)
class ReturnWindowOpened(Value, frozen=True, kw_only=True):
    """The order is completed: `lines` may come back until `closes_at`."""

    order_id: str
    currency: str
    lines: tuple[OrderLine, ...]
    closes_at: datetime
    at: datetime


def type_of_placed(value: bytes) -> str:
    """The published type of an order that comes without one, as a file or a request's body: version 1 where it has the field `payment`."""
    try:
        fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        fields = {}  # reading it as the newest version says what is wrong
    return type_of(OrderPlaced if "payment" in fields else channel.OrderPlaced).name


def placed_in_version_1(placed: channel.OrderPlaced) -> OrderPlaced | None:
    """The version 1 that upcasts to exactly this order, None where there is none."""
    if any(line.title != line.sku for line in placed.lines):
        return None  # version 1 has no titles: most orders of version 2 need not be built twice to be compared
    shipping = placed.shipping_lines[0].total if placed.shipping_lines else 0
    payment = placed.payments[0] if placed.payments else OrderPayment(id=_ONE, kind="", amount=0)
    older = _carried(
        OrderPlaced,
        placed,
        customer=_carried(Customer, placed.customer),
        lines=tuple(map(_line_of, placed.lines)),
        payment=PaymentMethod(kind=payment.kind, token=payment.token),
        shipping=shipping,
        ship_to=None if placed.ship_to is None else _carried(Address, placed.ship_to),
    )
    return older if _place_of(older) == placed else None


def _item_of(line: OrderLine) -> LineItem:
    # Field by field, as below: an order has ten lines, and `_carried` takes five times as long for each.
    return LineItem(
        line_id=line.line_id,
        sku=line.sku,
        quantity=line.quantity,
        unit_price=line.unit_price,
        total=line.total,
        title=line.sku,
        discounts=(DiscountShare(discount_id=_ONE, amount=line.discount),) if line.discount else (),
    )


def _line_of(item: LineItem) -> OrderLine:
    return OrderLine(
        line_id=item.line_id,
        sku=item.sku,
        quantity=item.quantity,
        unit_price=item.unit_price,
        total=item.total,
        discount=item.discounts[0].amount if item.discounts else 0,
    )


def _charges_of(lines: tuple[OrderLine, ...]) -> tuple[ChargedLine, ...]:
    return tuple(_carried(ChargedLine, line, amount=line.total) for line in lines)


def _payments_of(payment: PaymentMethod, total: int) -> tuple[OrderPayment, ...]:
    return (OrderPayment(id=_ONE, kind=payment.kind, amount=total, token=payment.token),)


def _shipping_lines_of(shipping: int) -> tuple[ShippingLine, ...]:
    return (ShippingLine(id=_ONE, title=_SHIPPING, price=shipping, total=shipping),) if shipping else ()


def _discounts_of(lines: tuple[OrderLine, ...]) -> tuple[Discount, ...]:
    return (Discount(id=_ONE, title=_DISCOUNT),) if any(line.discount for line in lines) else ()


def _address_of(address: Address | None) -> NewestAddress | None:
    return None if address is None else _carried(NewestAddress, address)


def _carried(cls: type[V], old: Value, **others: Any) -> V:
    """An instance of `cls` with the fields that it shares with `old`, unless `others` has them."""
    return cls(**{name: getattr(old, name) for name in _shared(cls, type(old))} | others)


@cache
def _shared(cls: type[Value], old: type[Value]) -> tuple[str, ...]:
    return tuple(name for name in cls.__struct_fields__ if name in old.__struct_fields__)
