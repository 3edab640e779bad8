"""What a valid order is. Every objection names the field and the reason, and all are named at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from oms_contracts.channel import OrderPlaced
from oms_contracts.values import Address, OrderLine, bounded_reasons, quoted

MAX_LINES = 1_000
MAX_UNITS = 10**9
"""In one order line."""
MAX_MONEY = 10**15
"""In minor units. Like MAX_UNITS it keeps every sum within the range of a bigint and of a JSON number."""


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
    if not placed.payment.token.strip():
        yield "payment.token: must not be empty"
    if not 1 <= len(placed.lines) <= MAX_LINES:
        yield f"lines: an order has 1 to {MAX_LINES} lines, this one {len(placed.lines)}"
    if placed.shipping < 0:
        yield "shipping: must not be negative"
    due_total = sum(line.total for line in placed.lines) + placed.shipping
    if placed.total != due_total:
        yield f"total: is {placed.total}, lines and shipping add up to {due_total}"
    if not 0 <= placed.total <= MAX_MONEY:
        yield f"total: must be between 0 and {MAX_MONEY}"
    if placed.delivery not in {"ship", "pickup"}:
        yield f"delivery: {quoted(placed.delivery)} is neither ship nor pickup"
    if placed.delivery == "ship":
        yield from _address_objections(placed.ship_to, market)
    seen: set[str] = set()
    for index, line in enumerate(placed.lines):
        yield from (f"lines.{index}.{reason}" for reason in _line_objections(line, seen))
        seen.add(line.line_id)


def _line_objections(line: OrderLine, seen: set[str]) -> Iterator[str]:
    if not line.line_id.strip() or line.line_id in seen:
        yield f"line_id: {quoted(line.line_id)} is empty or used twice"
    if not line.sku.strip():
        yield "sku: must not be empty"
    if not 1 <= line.quantity <= MAX_UNITS:
        yield f"quantity: must be between 1 and {MAX_UNITS}, is {line.quantity}"
    for name, amount in (("unit_price", line.unit_price), ("discount", line.discount), ("total", line.total)):
        if amount < 0:
            yield f"{name}: must not be negative, is {amount}"
    net = line.quantity * line.unit_price - line.discount
    if net != line.total:
        yield f"total: is {line.total}, {line.quantity} x {line.unit_price} - {line.discount} is {net}"


def _address_objections(address: Address | None, market: Market) -> Iterator[str]:
    if address is None:
        yield "ship_to: an order to be shipped needs an address"
        return
    # Not every country has postal codes.
    for name, value in (("name", address.name), ("street", address.street), ("city", address.city)):
        if not value.strip():
            yield f"ship_to.{name}: must not be empty"
    if address.country not in market.countries:
        yield f"ship_to.country: {quoted(address.country)} is not an ISO 3166-1 alpha-2 code"
