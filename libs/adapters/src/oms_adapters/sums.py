"""The sums of an order. Nothing is computed anew: each sum is compared with what the channel says."""

from collections.abc import Iterator

from oms_contracts.channel import OrderPlaced
from oms_contracts.order_parts import LineItem, ShippingLine

from oms_adapters.results import Reason


def discrepancies(order: OrderPlaced) -> tuple[Reason, ...]:
    """Every sum of the order that does not add up, by its field; empty where all do."""
    return tuple(_discrepancies(order))


def _discrepancies(order: OrderPlaced) -> Iterator[Reason]:
    known = {discount.id for discount in order.discounts}
    if len(known) < len(order.discounts):
        yield Reason("discounts", "an id is used twice")
    for index, line in enumerate(order.lines):
        place = f"lines.{index}"
        yield from _net(place, line.quantity * line.unit_price, f"{line.quantity} x {line.unit_price}", line, known)
    for index, line in enumerate(order.shipping_lines):
        yield from _net(f"shipping_lines.{index}", line.price, str(line.price), line, known)
    goods = sum(line.total for line in order.lines)
    shipping = sum(line.total for line in order.shipping_lines)
    fees = sum(fee.amount for fee in order.fees)
    taxes = 0 if order.taxes_included else taxes_of(order)
    if order.total != goods + shipping + fees + taxes:
        added = f"lines {goods}, shipping {shipping}, fees {fees} and taxes {taxes}"
        yield Reason("total", f"is {order.total}, {added} add up to {goods + shipping + fees + taxes}")
    paid = sum(payment.amount for payment in order.payments)
    if paid != order.total:
        yield Reason("payments", f"add up to {paid}, total is {order.total}")


def taxes_of(order: OrderPlaced) -> int:
    """All taxes of lines, shipping lines and fees."""
    return sum(tax.amount for part in (*order.lines, *order.shipping_lines, *order.fees) for tax in part.taxes)


def _net(place: str, gross: int, shown: str, line: LineItem | ShippingLine, known: set[str]) -> Iterator[Reason]:
    off = sum(share.amount for share in line.discounts)
    if line.total != gross - off:
        yield Reason(f"{place}.total", f"is {line.total}, {shown} less discounts of {off} is {gross - off}")
    if line.total < 0:
        yield Reason(f"{place}.total", f"must not be negative, is {line.total}")
    for number, share in enumerate(line.discounts):
        if share.discount_id not in known:
            yield Reason(f"{place}.discounts.{number}.discount_id", f"{share.discount_id!r} is not among the order's discounts")
