"""From the data's rows to what channels publish and warehouses receive. What the data does not have is made up here, from a seed.

Rules for dirty lines: a line of more than `FUEL_UNITS` units is fuel counted in hundredths and is sold as one unit at the line's price. A
line of value 0 is a free item. A line of quantity 0 is published as it is: capture rejects the order and names the line.
"""

import csv
import gzip
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from itertools import groupby
from random import Random

from oms_contracts.channel import OrderPlaced
from oms_contracts.order_parts import Discount, DiscountShare, LineItem, OrderPayment, ShippingLine, Tax
from oms_contracts.stock import ReceiveStock
from oms_contracts.values import Address, Customer, StockLine

from oms_demo.responses import LOCATIONS

FUEL_UNITS = 100
CHANNELS = ("web", "app", "till", "marketplace")
TOKENS = ("tok_visa",) * 92 + ("tok_declined",) * 3 + ("tok_timeout",) * 2 + ("tok_late", "tok_twice", "tok_timeout_declined")
SHORT_SHARE = 0.002
"""The share of SKUs of which there is less than is ordered."""
LOYALTY = Discount(id="loyalty", title="Loyalty card", kind="loyalty")
TAX_PERCENT, TAX_TITLE = 7, "VAT 7 %"
SHIPPING, FREE_SHIPPING_FROM = 490, 4_000
"""Cents. Orders that cost less than FREE_SHIPPING_FROM pay for shipping."""
CITIES = (("Berlin", "10115"), ("Hamburg", "20095"), ("Leipzig", "04109"), ("Essen", "45127"))


def read_baskets(seed: int, max_orders: int | None = None, round_number: int = 1) -> Iterator[OrderPlaced]:
    """The data's baskets as orders in USD cents, in the data's order; the same seed gives the same orders.

    `round_number` distinguishes rounds: the same baskets under other references are other orders.
    """
    source = files("oms_demo") / "data" / "baskets-week10.csv.gz"
    with source.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as text:
        baskets = groupby(csv.DictReader(text), key=lambda row: row["basket_id"])
        for number, (basket_id, rows) in enumerate(baskets):
            if max_orders is not None and number >= max_orders:
                return
            yield order_of(basket_id if round_number == 1 else f"{basket_id}-{round_number}", list(rows), Random(f"{seed}/{basket_id}"))


def stock_for(orders: Sequence[OrderPlaced], seed: int) -> Iterator[ReceiveStock]:
    """Receipts that cover what is ordered, spread over the locations; a few SKUs fall short. One receipt a location and a hundred SKUs."""
    wanted = Counter[str]()
    for order in orders:
        for line in order.lines:
            wanted[line.sku] += max(0, line.quantity)
    lines: dict[str, list[StockLine]] = {location: [] for location in LOCATIONS}
    for sku, units in sorted(wanted.items()):
        random = Random(f"{seed}/{sku}")
        have = units // 2 if random.random() < SHORT_SHARE else units + random.randrange(5)
        first = LOCATIONS[random.randrange(len(LOCATIONS))]
        second = LOCATIONS[(LOCATIONS.index(first) + 1) % len(LOCATIONS)]
        for location, quantity in ((first, have - have // 4), (second, have // 4)):
            if quantity:
                lines[location].append(StockLine(sku=sku, location=location, quantity=quantity))
    run = f"demo-{seed}-{orders[0].channel_reference}-{len(orders)}"
    for location, of in lines.items():
        for number in range(0, len(of), 100):
            yield ReceiveStock(receipt_id=f"{run}-{location}-{number:06}", lines=tuple(of[number : number + 100]))


def order_of(reference: str, rows: Sequence[Mapping[str, str]], random: Random, tokens: Sequence[str] = TOKENS) -> OrderPlaced:
    """One basket as an order, by the rules above; paid with one of `tokens`."""
    names = _product_names()
    lines = tuple(_line(str(number), row, names) for number, row in enumerate(rows, 1))
    city, postal_code = random.choice(CITIES)
    household = rows[0]["household_id"]
    channel, token = random.choice(CHANNELS), random.choice(tokens)
    goods = sum(line.total for line in lines)
    shipping = () if goods >= FREE_SHIPPING_FROM or not goods else (_shipping(),)
    total = goods + sum(line.total for line in shipping) + sum(tax.amount for part in (*lines, *shipping) for tax in part.taxes)
    return OrderPlaced(
        channel=channel,
        channel_reference=reference,
        number=f"#{reference[-5:]}",
        placed_at=datetime.fromisoformat(rows[0]["placed_at"]),
        customer=Customer(id=f"household-{household}", name=f"Household {household}"),
        currency="USD",
        taxes_included=False,
        lines=lines,
        shipping_lines=shipping,
        discounts=(LOYALTY,) if any(line.discounts for line in lines) else (),
        total=total,
        payments=(OrderPayment(id="1", kind="card", amount=total, token=token),),
        ship_to=Address(
            name=f"Household {household}",
            street=f"Market Street {random.randrange(1, 200)}",
            postal_code=postal_code,
            city=city,
            country="DE",
        ),
        location=random.choice(LOCATIONS),
        locale="en-US",
    )


def _shipping() -> ShippingLine:
    return ShippingLine(id="1", code="standard", title="Standard", price=SHIPPING, total=SHIPPING, taxes=(_tax(SHIPPING),))


def _line(line_id: str, row: Mapping[str, str], names: Mapping[str, str]) -> LineItem:
    quantity = int(row["quantity"])
    quantity = 1 if quantity > FUEL_UNITS else quantity
    total = _cents(row["sales_value"])
    shelf = total + _cents(row["retail_disc"]) + _cents(row["coupon_match_disc"])
    price = math.ceil(shelf / quantity) if quantity else shelf
    discount = max(0, quantity * price - total)
    return LineItem(
        line_id=line_id,
        sku=row["product_id"],
        title=names.get(row["product_id"], row["product_id"]),
        quantity=quantity,
        unit_price=price,
        total=total,
        taxes=(_tax(total),) if total else (),
        discounts=(DiscountShare(discount_id=LOYALTY.id, amount=discount),) if discount else (),
    )


def _tax(net: int) -> Tax:
    return Tax(title=TAX_TITLE, rate=f"0.{TAX_PERCENT:02}", amount=(net * TAX_PERCENT + 50) // 100)


@cache
def _product_names() -> Mapping[str, str]:
    """By SKU: what it is called."""
    source = files("oms_demo") / "data" / "products-week10.csv.gz"
    with source.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as text:
        return {
            row["product_id"]: ", ".join(part for part in (row["product_type"].title(), row["package_size"].strip().lower()) if part)
            for row in csv.DictReader(text)
        }


def _cents(text: str) -> int:
    return round(float(text) * 100)
