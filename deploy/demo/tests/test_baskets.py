"""The week of baskets as orders, in both versions: the same ones are valid."""

import csv
import gzip
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from itertools import groupby

from oms_capture.validation import Market, objections
from oms_contracts import superseded
from oms_contracts.message import newest
from oms_contracts.values import OrderLine, PaymentMethod
from oms_demo.baskets import CHANNELS, FUEL_UNITS, read_baskets

NOW = datetime(2026, 11, 23, tzinfo=UTC)
MARKET = Market(channels=frozenset(CHANNELS))
SEED = 1


def week() -> Iterator[tuple[str, list[dict[str, str]]]]:
    source = files("oms_demo") / "data" / "baskets-week10.csv.gz"
    with source.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as text:
        for basket_id, rows in groupby(csv.DictReader(text), key=lambda row: row["basket_id"]):
            yield basket_id, list(rows)


def in_version_1(reference: str, rows: Sequence[Mapping[str, str]]) -> superseded.OrderPlaced:
    """A basket as channels sent it in version 1: without taxes and shipping."""
    lines = tuple(line_of(str(number), row) for number, row in enumerate(rows, 1))
    return superseded.OrderPlaced(
        channel="web",
        channel_reference=reference,
        placed_at=datetime.fromisoformat(rows[0]["placed_at"]),
        customer=superseded.Customer(id=f"household-{rows[0]['household_id']}"),
        currency="USD",
        lines=lines,
        total=sum(line.total for line in lines),
        payment=PaymentMethod(kind="card", token="tok_visa"),
        ship_to=superseded.Address(name="Household", street="Market Street 1", postal_code="10115", city="Berlin", country="DE"),
        location="north",
    )


def line_of(line_id: str, row: Mapping[str, str]) -> OrderLine:
    quantity = int(row["quantity"])
    quantity = 1 if quantity > FUEL_UNITS else quantity
    total, retail, coupon = (round(float(row[name]) * 100) for name in ("sales_value", "retail_disc", "coupon_match_disc"))
    shelf = total + retail + coupon
    price = math.ceil(shelf / quantity) if quantity else shelf
    discount = max(0, quantity * price - total)
    return OrderLine(line_id=line_id, sku=row["product_id"], quantity=quantity, unit_price=price, total=total, discount=discount)


def is_valid_in_version_1(placed: superseded.OrderPlaced) -> bool:
    """The rules of version 1 that a basket can break."""
    return placed.total >= 0 and all(
        line.quantity >= 1
        and min(line.unit_price, line.discount, line.total) >= 0
        and line.quantity * line.unit_price - line.discount == line.total
        for line in placed.lines
    )


def test_every_basket_in_version_1_is_accepted_or_rejected_as_before() -> None:
    decided = {True: 0, False: 0}
    for reference, rows in week():
        placed = in_version_1(reference, rows)
        valid = is_valid_in_version_1(placed)
        assert (objections(newest(placed), NOW, MARKET) == ()) == valid, reference
        decided[valid] += 1
    assert sum(decided.values()) == 2_932
    assert decided[False] > 0


def test_every_basket_is_valid_in_version_2_where_it_is_in_version_1() -> None:
    valid = {reference: is_valid_in_version_1(in_version_1(reference, rows)) for reference, rows in week()}
    for placed in read_baskets(SEED):
        assert (objections(placed, NOW, MARKET) == ()) == valid[placed.channel_reference], placed.channel_reference
        assert placed.payments[0].amount == placed.total
