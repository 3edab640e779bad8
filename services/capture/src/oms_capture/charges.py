"""What an order costs its customer, line by line, and who takes the money."""

from collections.abc import Iterable

from msgspec import Struct
from oms_contracts.channel import OrderPlaced
from oms_contracts.order_parts import ChargedLine, Fee, LineItem, OrderPayment, ShippingLine, charge_of
from oms_contracts.orders import OrderAccepted
from oms_contracts.values import PaymentMethod

NOTHING_HELD = PaymentMethod(kind="none", token="")
"""Where no payment of an order is ours to take."""


class Collection(Struct, frozen=True, kw_only=True):
    """The part of an order's total that is ours to collect: `amount` by `method`, under `authorization_id` if it is held already."""

    amount: int
    method: PaymentMethod
    authorization_id: str | None = None


def total_of(order: OrderPlaced | OrderAccepted) -> int:
    """What lines, shipping, fees and taxes add up to."""
    parts: tuple[LineItem | ShippingLine | Fee, ...] = (*order.lines, *order.shipping_lines, *order.fees)
    return sum(charge_of(part, order.taxes_included) for part in parts)


def charged_lines(order: OrderAccepted) -> tuple[ChargedLine, ...]:
    """The lines that are shipped, each with its share of the total; the rest of the total is shipping, fees and what is not shipped."""
    return tuple(
        ChargedLine(line_id=line.line_id, sku=line.sku, quantity=line.quantity, amount=charge_of(line, order.taxes_included))
        for line in order.lines
        if line.requires_shipping
    )


def collection_of(payments: Iterable[OrderPayment]) -> Collection:
    """What is ours to collect. An order has at most one such payment; the others were paid to the channel, or are due elsewhere."""
    for payment in payments:
        if payment.status == "authorize":
            return Collection(amount=payment.amount, method=PaymentMethod(kind=payment.kind, token=payment.token))
        if payment.status == "authorized":
            method = PaymentMethod(kind=payment.kind, token=payment.token)
            return Collection(amount=payment.amount, method=method, authorization_id=payment.token)
    return Collection(amount=0, method=NOTHING_HELD)
