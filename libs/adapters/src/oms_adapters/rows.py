"""Orders in tables: each row is one line of an order, and the rows of an order follow each other. README: `csv.md`.

An order's rows are mapped as a payload is: as an object that has the columns of the first row, and all rows in `rows`.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from oms_contracts.channel import OrderPlaced
from oms_contracts.money import decimal_text, exponent_of
from oms_contracts.order_parts import Fee, LineItem, ShippingLine

from oms_adapters.mapping import adapter_of
from oms_adapters.parts import Adapter, objections
from oms_adapters.reading import MAX_ENTRIES, Reading, Source
from oms_adapters.results import Reason

ROWS = "rows"
MAX_ROWS = MAX_ENTRIES
"""Of one order."""

Row = dict[str, str]
"""The cells of a row that hold something, by column."""


@cache
def default_mapping() -> str:
    """The text of the mapping whose columns `csv.md` describes."""
    return (files("oms_adapters") / "mappings" / "csv.toml").read_text("utf-8")


class RowMapping:
    """A mapping file for rows. Raises InvalidMapping. `channel` is the sales channel of orders that do not name theirs."""

    def __init__(self, text: str, channel: str | None = None) -> None:
        self._adapter: Adapter = adapter_of(text)
        self._channel = channel
        of_rows = {path.removeprefix(f"{ROWS}[].") for path in self._adapter.consumed if path.startswith(f"{ROWS}[].")}
        of_order = {path for path in self._adapter.consumed if path.partition("[")[0] != ROWS}
        self._alike = tuple(sorted(of_order - of_rows))
        self._columns = of_order | of_rows | {*self._adapter.ignored}

    def unmapped(self, columns: Sequence[str]) -> list[str]:
        """Those columns that the mapping neither reads nor names under `[ignored]`."""
        return [column for column in columns if column not in self._columns]

    def reference(self, row: Row) -> str | None:
        """The channel's reference of the order that a row is of. None where the row has none: then it is of the order before."""
        standing = self._adapter.standing(Source(Reading(), row))
        return None if standing is None else standing.reference

    def order(self, rows: Sequence[Row]) -> OrderPlaced | tuple[Reason, ...]:
        """The order of these rows, or why there is none: never both, and nothing is cut or left out."""
        if len(rows) > MAX_ROWS:
            return (Reason(ROWS, f"an order has at most {MAX_ROWS} rows"),)
        reading = Reading()
        root = Source(reading, {**rows[0], ROWS: list(rows)})
        refusal = self._adapter.refusal(root)
        if refusal is not None:
            return (refusal,)
        standing = self._adapter.standing(root)
        if standing is not None and standing.canceled is not None:
            return (Reason("standing", f"is not to be placed: {standing.canceled}"),)
        channel = self._adapter.channel(root) or self._channel
        if channel is None:
            reading.refuse("channel", "is required: a column, a constant of the mapping, or --channel")
        order = self._adapter.build(root, channel or "")
        reasons = (*self._differing(rows), *reading.reasons, *reading.remarks) or tuple(objections(order))
        if order is None or reasons:
            return reasons or (Reason("rows", "are no order"),)
        return order

    def _differing(self, rows: Sequence[Row]) -> tuple[Reason, ...]:
        """Columns of the order that hold one thing in its first row and another in a later one."""
        return tuple(
            Reason(column, f"differs in row {number} of the order from its first row: it is a column of the whole order")
            for column in self._alike
            for number, row in enumerate(rows[1:], 2)
            if column in row and row[column] != rows[0].get(column)
        )


def rows_of(order: OrderPlaced) -> list[Row]:
    """An order as rows of the default mapping. Raises ValueError for one that its columns cannot hold, which have one of most parts."""
    exponent = exponent_of(order.currency)
    if exponent is None:
        raise ValueError(f"{order.currency} is not a currency of ISO 4217")
    whole = {
        "channel": order.channel,
        "reference": order.channel_reference,
        "total": order.total,
        "taxes_included": order.taxes_included,
        **_texts("", order, "number", "placed_at", "currency", "delivery", "location", "purchase_order", "note", "locale", "time_zone"),
        **_texts("customer_", order.customer, "id", "name", "email", "phone", "company", "tax_id"),
        **_texts("ship_to_", order.ship_to, *_ADDRESS),
        **_texts("bill_to_", order.bill_to, *_ADDRESS),
        **_texts("pickup_", order.pickup, "location"),
        **_texts("pickup_", order.pickup and order.pickup.contact, "name", "phone", "email"),
        **_texts("", order.promise, "ship_by", "deliver_from", "deliver_by"),
        **({"gift": True, "gift_message": order.gift.message, "gift_hide_prices": order.gift.hide_prices} if order.gift else {}),
        **{f"tag_{number}": tag for number, tag in enumerate(order.tags, 1)},
    }
    for discount in order.discounts[:1]:
        whole |= _texts("discount_", discount, "id", "title", "kind", "code")
    for shipping in order.shipping_lines[:1]:
        whole |= _texts("shipping_", shipping, "title", "code", "carrier", "service", "price") | _charges("shipping_", shipping)
    for fee in order.fees[:1]:
        whole |= {"fee": fee.amount} | _texts("fee_", fee, "kind", "title") | _charges("fee_", fee)
    for payment in order.payments[:1]:
        whole |= _texts("payment_", payment, "kind", "token", "status")
    rows: list[Row] = [
        {
            column: _cell(column, value, exponent)
            for column, value in (whole | {"line_total": line.total} | _texts("", line, *_LINE) | _charges("", line)).items()
            if value not in (None, "")
        }
        for line in order.lines
    ]
    if not rows or _default().order(rows) != order:
        raise ValueError(f"the columns of the default mapping cannot hold the order {order.channel}/{order.channel_reference}")
    return rows


@cache
def _default() -> RowMapping:
    return RowMapping(default_mapping())


_ADDRESS = ("name", "company", "street", "line2", "postal_code", "city", "region", "country", "phone")
_LINE = ("line_id", "sku", "title", "quantity", "unit", "unit_price", "requires_shipping", "gift_card", "parent_line_id")
_AMOUNTS = {"total", "line_total", "unit_price", "discount", "tax", "tax_2", "fee", "fee_tax"} | {
    f"shipping_{name}" for name in ("price", "discount", "tax")
}


def _texts(prefix: str, part: object, *names: str) -> dict[str, Any]:
    return {} if part is None else {f"{prefix}{name}": getattr(part, name) for name in names}


def _charges(prefix: str, part: LineItem | ShippingLine | Fee) -> dict[str, Any]:
    """Discount and taxes of a part."""
    found: dict[str, Any] = {} if isinstance(part, Fee) else {f"{prefix}discount": share.amount for share in part.discounts}
    for number, tax in enumerate(part.taxes, 1):
        name = f"{prefix}tax" if number == 1 else f"{prefix}tax_{number}"
        found |= {name: tax.amount} | _texts(f"{name}_", tax, "title", "rate", "jurisdiction")
    return found


def _cell(column: str, value: Any, exponent: int) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() if column in _AMOUNTS:
            return decimal_text(value, exponent)
        case datetime():
            return value.isoformat()
        case _:
            return str(value)
