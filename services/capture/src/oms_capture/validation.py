"""What a valid order is. Every objection names the field and the reason, and all are named at once."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from oms_contracts.channel import OrderPlaced
from oms_contracts.order_parts import COLLECTED_HERE, DiscountShare, Fee, LineItem, OrderPayment, ShippingLine, Tax
from oms_contracts.values import Address, bounded_reasons, quoted

from oms_capture.charges import total_of

MAX_LINES = 1_000
MAX_UNITS = 10**9
"""In one order line."""
MAX_MONEY = 10**15
"""In minor units. Like MAX_UNITS it keeps every sum within the range of a bigint and of a JSON number."""
MAX_PARTS = 100
"""Shipping lines, fees, payments, discounts, tags; and taxes and discounts of one line."""
PAYMENT_STATUSES = ("authorize", "authorized", "captured", "due")
_RATE = re.compile(r"\d{1,3}(\.\d{1,10})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Where the business sells. An empty `channels` admits every channel."""

    channels: frozenset[str] = frozenset()
    currencies: frozenset[str] = frozenset({"EUR", "USD"})
    countries: frozenset[str] = frozenset({"DE", "US"})
    clock_skew: timedelta = timedelta(days=1)


def objections(placed: OrderPlaced, now: datetime, market: Market) -> tuple[str, ...]:
    """What is wrong with an order; empty when it is valid. A line that is free (total 0) is valid."""
    return bounded_reasons(_objections(placed, now, market))


def _objections(placed: OrderPlaced, now: datetime, market: Market) -> Iterator[str]:
    if market.channels and placed.channel not in market.channels:
        yield f"channel: {quoted(placed.channel)} is not a known channel"
    if not placed.channel_reference.strip():
        yield "channel_reference: must not be empty"
    if placed.currency not in market.currencies:
        yield f"currency: {quoted(placed.currency)} is not an ISO 4217 code"
    if placed.placed_at > now + market.clock_skew:
        yield "placed_at: lies in the future"
    if not placed.customer.id.strip():
        yield "customer.id: must not be empty"
    if not 1 <= len(placed.lines) <= MAX_LINES:
        yield f"lines: an order has 1 to {MAX_LINES} lines, this one {len(placed.lines)}"
    elif not any(line.requires_shipping for line in placed.lines):
        yield "lines: none of them is shipped; an order of digital goods alone is not taken yet"
    for name in ("shipping_lines", "fees", "payments", "discounts", "tags"):
        if (count := len(getattr(placed, name))) > MAX_PARTS:
            yield f"{name}: are at most {MAX_PARTS}, these are {count}"
            return
    due_total = total_of(placed)
    if placed.total != due_total:
        yield f"total: is {placed.total}, lines, shipping, fees and taxes add up to {due_total}"
    if not 0 <= placed.total <= MAX_MONEY:
        yield f"total: must be between 0 and {MAX_MONEY}"
    yield from _payment_objections(placed.payments, placed.total)
    if placed.delivery not in {"ship", "pickup"}:
        yield f"delivery: {quoted(placed.delivery)} is neither ship nor pickup"
    if placed.delivery == "ship":
        yield from _address_objections("ship_to", placed.ship_to, market)
    if placed.bill_to is not None and placed.bill_to.country not in market.countries:
        yield f"bill_to.country: {quoted(placed.bill_to.country)} is not an ISO 3166-1 alpha-2 code"
    discount_ids = {discount.id for discount in placed.discounts}
    seen: set[str] = set()
    for index, line in enumerate(placed.lines):
        yield from (f"lines.{index}.{reason}" for reason in _line_objections(line, seen, discount_ids))
        seen.add(line.line_id)
    for index, line in enumerate(placed.shipping_lines):
        yield from (f"shipping_lines.{index}.{reason}" for reason in _shipping_objections(line, discount_ids))
    for index, fee in enumerate(placed.fees):
        yield from (f"fees.{index}.{reason}" for reason in _fee_objections(fee))


def _payment_objections(payments: tuple[OrderPayment, ...], total: int) -> Iterator[str]:
    paid = sum(payment.amount for payment in payments)
    if paid != total:
        yield f"payments: add up to {paid}, the total is {total}"
    if sum(payment.status in COLLECTED_HERE for payment in payments) > 1:
        yield "payments: at most one is to be collected here (authorize or authorized); the others must be captured or due"
    for index, payment in enumerate(payments):
        if payment.status not in PAYMENT_STATUSES:
            yield f"payments.{index}.status: {quoted(payment.status)} is none of {', '.join(PAYMENT_STATUSES)}"
        if payment.status in COLLECTED_HERE and not payment.token.strip():
            yield f"payments.{index}.token: must not be empty"
        if payment.amount < 0 <= total:
            yield f"payments.{index}.amount: must not be negative, is {payment.amount}"


def _line_objections(line: LineItem, seen: set[str], discount_ids: set[str]) -> Iterator[str]:
    if not line.line_id.strip() or line.line_id in seen:
        yield f"line_id: {quoted(line.line_id)} is empty or used twice"
    if not line.sku.strip():
        yield "sku: must not be empty"
    if not 1 <= line.quantity <= MAX_UNITS:
        yield f"quantity: must be between 1 and {MAX_UNITS}, is {line.quantity}"
    for name, amount in (("unit_price", line.unit_price), ("total", line.total)):
        if amount < 0:
            yield f"{name}: must not be negative, is {amount}"
    discount = sum(share.amount for share in line.discounts)
    net = line.quantity * line.unit_price - discount
    if net != line.total:
        yield f"total: is {line.total}, {line.quantity} x {line.unit_price} - {discount} is {net}"
    yield from _tax_objections(line.taxes)
    yield from _discount_objections(line.discounts, discount_ids)


def _shipping_objections(line: ShippingLine, discount_ids: set[str]) -> Iterator[str]:
    for name, amount in (("price", line.price), ("total", line.total)):
        if amount < 0:
            yield f"{name}: must not be negative, is {amount}"
    discount = sum(share.amount for share in line.discounts)
    if line.price - discount != line.total:
        yield f"total: is {line.total}, {line.price} - {discount} is {line.price - discount}"
    yield from _tax_objections(line.taxes)
    yield from _discount_objections(line.discounts, discount_ids)


def _fee_objections(fee: Fee) -> Iterator[str]:
    if fee.amount < 0:
        yield f"amount: must not be negative, is {fee.amount}"
    yield from _tax_objections(fee.taxes)


def _tax_objections(taxes: tuple[Tax, ...]) -> Iterator[str]:
    if len(taxes) > MAX_PARTS:
        yield f"taxes: are at most {MAX_PARTS}, these are {len(taxes)}"
        return
    for index, tax in enumerate(taxes):
        if tax.amount < 0:
            yield f"taxes.{index}.amount: must not be negative, is {tax.amount}"
        if tax.rate is not None and not _RATE.fullmatch(tax.rate):
            yield f"taxes.{index}.rate: {quoted(tax.rate)} is not a decimal fraction such as 0.19"


def _discount_objections(shares: Iterable[DiscountShare], discount_ids: set[str]) -> Iterator[str]:
    for index, share in enumerate(shares):
        if share.amount < 0:
            yield f"discounts.{index}.amount: must not be negative, is {share.amount}"
        if share.discount_id not in discount_ids:
            yield f"discounts.{index}.discount_id: {quoted(share.discount_id)} is none of the order's discounts"
        if index >= MAX_PARTS:
            yield f"discounts: are at most {MAX_PARTS}"
            return


def _address_objections(field: str, address: Address | None, market: Market) -> Iterator[str]:
    if address is None:
        yield f"{field}: an order to be shipped needs an address"
        return
    # Not every country has postal codes.
    for name, value in (("name", address.name), ("street", address.street), ("city", address.city)):
        if not value.strip():
            yield f"{field}.{name}: must not be empty"
    if address.country not in market.countries:
        yield f"{field}.country: {quoted(address.country)} is not an ISO 3166-1 alpha-2 code"
