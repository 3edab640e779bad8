"""What sales channels publish on oms.channel.orders. They come from external parties and are validated, not trusted."""

from datetime import datetime
from hashlib import sha256

from oms_contracts.message import Value, encode, message
from oms_contracts.values import Address, Code, Customer, OrderLine, PaymentMethod, order_id_of


@message("oms.channel.OrderPlaced.v1", key=lambda placed: order_id_of(placed.channel, placed.channel_reference))
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


def content_hash_of(placed: OrderPlaced) -> str:
    """The `content_hash` in OrderAccepted, OrderRejected and OrderConflictReported: the SHA-256 of the order as `encode` writes it."""
    return sha256(encode(placed)).hexdigest()
