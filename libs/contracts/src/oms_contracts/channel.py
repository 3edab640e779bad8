"""What sales channels say of their orders. It comes from external parties and is validated, not trusted."""

from datetime import datetime
from typing import Annotated

from annotated_types import MaxLen
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


MAX_WEBHOOK_TEXT_CHARACTERS = 1_000_000
"""Of a webhook's body in base64."""


@message("oms.channel.WebhookReceived.v1", key="key")
class WebhookReceived(Value, frozen=True, kw_only=True):
    """A shop's webhook about an order, as it was received. Capture's HTTP edge has checked its signature.

    `body` is in base64, because a signature is of bytes. `key` is the id of the order that the body names; where it names none, an id
    made of `channel` and `webhook_id`. `platform` is what the shop runs on: shopify or woocommerce. `topic` is what the platform calls the
    change, `webhook_id` is the same for every delivery of one webhook.
    """

    key: str
    channel: str
    platform: str
    topic: str
    webhook_id: str
    received_at: datetime
    body: Annotated[str, MaxLen(MAX_WEBHOOK_TEXT_CHARACTERS)]
    triggered_at: datetime | None = None


def webhook_key(channel: str, webhook_id: str, reference: str | None) -> str:
    """The key of a webhook: the id of the order that its body names by `reference`; where it names none, an id of its own."""
    return order_id_of(channel, f"webhook/{webhook_id}" if reference is None else reference)
