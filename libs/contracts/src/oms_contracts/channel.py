"""What sales channels publish on oms.channel.orders. They come from external parties and are validated, not trusted."""

from datetime import datetime

from msgspec import field

from oms_contracts.message import Value, message
from oms_contracts.order_parts import (
    DeliveryPromise,
    Discount,
    Fee,
    Gift,
    LineItem,
    OrderPayment,
    Pickup,
    Risk,
    ShippingLine,
)
from oms_contracts.values import Address, Code, Customer, Prose, order_id_of


@message("oms.channel.OrderPlaced.v2", key=lambda placed: order_id_of(placed.channel, placed.channel_reference))
class OrderPlaced(Value, frozen=True, kw_only=True):
    """A customer placed an order. Its record's key is the order's id, made of `channel` and `channel_reference`.

    `total` is the sum of the totals of `lines` and `shipping_lines` and of the amounts of `fees`, and of all their taxes unless
    `taxes_included` says that those amounts contain them. `payments` add up to `total`. `delivery` is "ship" (`ship_to` is needed) or
    "pickup". `number` is what the customer calls the order, where that is not the reference. `location` is where the channel would like it
    fulfilled; other locations serve when that one cannot. `locale` is a BCP 47 tag, `time_zone` a name of the IANA database.
    """

    channel: str
    channel_reference: str
    placed_at: datetime
    customer: Customer
    currency: str
    lines: tuple[LineItem, ...]
    total: int
    payments: tuple[OrderPayment, ...] = ()
    taxes_included: bool = True
    shipping_lines: tuple[ShippingLine, ...] = ()
    fees: tuple[Fee, ...] = ()
    discounts: tuple[Discount, ...] = ()
    delivery: str = "ship"
    ship_to: Address | None = None
    bill_to: Address | None = None
    pickup: Pickup | None = None
    promise: DeliveryPromise | None = None
    location: Code | None = None
    number: str | None = None
    purchase_order: str | None = None
    note: Prose | None = None
    gift: Gift | None = None
    locale: str | None = None
    time_zone: str | None = None
    tags: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict[str, str])
    risk: Risk | None = None
