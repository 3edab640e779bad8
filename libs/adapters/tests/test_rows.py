"""Orders as rows: by the default mapping any order that its columns can hold comes back the same; what is not sound is named."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from oms_adapters.mapping import InvalidMapping, adapter_of
from oms_adapters.results import Reason
from oms_adapters.rows import MAX_ROWS, Row, RowMapping, default_mapping, rows_of
from oms_contracts.channel import OrderPlaced
from oms_contracts.money import exponent_of
from oms_contracts.order_parts import (
    Contact,
    DeliveryPromise,
    Discount,
    DiscountShare,
    Fee,
    Gift,
    LineItem,
    OrderPayment,
    Pickup,
    ShippingLine,
    Tax,
)
from oms_contracts.samples import example_order
from oms_contracts.values import Address, Customer

from libs.adapters.tests.test_pages import FOLDER
from tests.documentation.pages import names, rows, section

DEFAULT = RowMapping(default_mapping())
ROW = {
    "channel": "web",
    "reference": "W-1",
    "placed_at": "2026-01-31T09:30:00Z",
    "currency": "EUR",
    "total": "20.00",
    "customer_id": "ada",
    "delivery": "pickup",
    "payment_kind": "card",
    "payment_token": "tok_visa",
    "sku": "MUG",
    "quantity": "2",
    "unit_price": "10",
}

text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20).map(str.strip).filter(bool)
code = st.text("ABCDEF0123456789-", min_size=1, max_size=12)
maybe = st.none() | text
amounts = st.integers(0, 10**9)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis wants them so
taxes = st.builds(Tax, title=text, amount=amounts, rate=st.sampled_from([None, "0.19", "0.07"]), jurisdiction=maybe)
addresses = st.builds(
    Address,
    name=text,
    street=text,
    postal_code=text,
    city=text,
    country=st.sampled_from(["DE", "US"]),
    region=maybe,
    company=maybe,
    phone=maybe,
)


@st.composite
def lines(draw: st.DrawFn, number: int) -> LineItem:
    quantity, unit_price = draw(st.integers(1, 99)), draw(amounts)
    discount = draw(st.sampled_from([0, quantity * unit_price // 3]))
    return LineItem(
        line_id=str(number),
        sku=draw(code),
        quantity=quantity,
        unit_price=unit_price,
        total=quantity * unit_price - discount,
        title=draw(st.just("") | text),
        unit=draw(st.sampled_from(["EA", "KGM"])),
        requires_shipping=draw(st.booleans()),
        gift_card=draw(st.booleans()),
        parent_line_id=draw(st.none() | code),
        taxes=tuple(draw(st.lists(taxes, max_size=2))),
        discounts=(DiscountShare(discount_id="spring", amount=discount),) if discount else (),
    )


@st.composite
def orders(draw: st.DrawFn) -> OrderPlaced:
    items = tuple(draw(lines(number)) for number in range(1, draw(st.integers(1, 4)) + 1))
    included, price = draw(st.booleans()), draw(amounts)
    shipping = draw(
        st.just(())
        | st.tuples(
            st.builds(
                ShippingLine,
                id=st.just("1"),
                title=text,
                price=st.just(price),
                total=st.just(price),
                code=text,
                carrier=maybe,
                service=maybe,
            )
        )
    )
    fees = draw(
        st.just(()) | st.tuples(st.builds(Fee, kind=text, title=text, amount=amounts, taxes=st.lists(taxes, max_size=1).map(tuple)))
    )
    added = 0 if included else sum(tax.amount for part in (*items, *shipping, *fees) for tax in part.taxes)
    total = sum(part.total for part in (*items, *shipping)) + sum(fee.amount for fee in fees) + added
    payment = OrderPayment(id="1", kind=draw(text), amount=total, token=draw(text), status=draw(st.sampled_from(["authorize", "captured"])))
    discounted = any(line.discounts for line in items)
    return OrderPlaced(
        channel=draw(text),
        channel_reference=draw(text),
        placed_at=draw(moments),
        customer=draw(st.builds(Customer, id=text, email=maybe, phone=maybe, name=maybe, company=maybe, tax_id=maybe)),
        currency=draw(st.sampled_from(["EUR", "JPY", "BHD"])),
        lines=items,
        total=total,
        payments=(payment,) if total else (),
        taxes_included=included,
        shipping_lines=shipping,
        fees=fees,
        discounts=(Discount(id="spring", title=draw(text), kind="code", code=draw(maybe)),) if discounted else (),
        delivery=draw(st.sampled_from(["ship", "pickup"])),
        ship_to=draw(st.none() | addresses),
        bill_to=draw(st.none() | addresses),
        pickup=draw(st.none() | st.builds(Pickup, location=st.none() | code, contact=st.builds(Contact, name=text, phone=maybe))),
        promise=draw(st.none() | st.builds(DeliveryPromise, ship_by=st.none() | moments, deliver_by=moments)),
        location=draw(st.none() | code),
        number=draw(maybe),
        purchase_order=draw(maybe),
        note=draw(maybe),
        gift=draw(st.none() | st.builds(Gift, message=st.just("") | text, hide_prices=st.booleans())),
        locale=draw(maybe),
        time_zone=draw(maybe),
        tags=tuple(draw(st.lists(text, max_size=3))),
    )


@given(orders())
def test_an_order_comes_back_the_same_from_its_rows(order: OrderPlaced) -> None:
    assert DEFAULT.order(rows_of(order)) == order
    assert DEFAULT.unmapped(sorted({column for row in rows_of(order) for column in row})) == []


def test_an_order_that_the_columns_cannot_hold_is_not_cut() -> None:
    example = example_order()
    assert DEFAULT.order(rows_of(example)) == example
    with pytest.raises(ValueError, match="cannot hold"):
        rows_of(replace(example, attributes={"wrapped": "yes"}))


def reasons_of(*given_rows: Row, mapping: RowMapping = DEFAULT) -> dict[str, str]:
    found = mapping.order(given_rows)
    assert isinstance(found, tuple)
    return {reason.field: reason.reason for reason in found}


def test_amounts_are_in_minor_units_of_their_currency() -> None:
    for currency in ("EUR", "JPY", "BHD"):
        order = DEFAULT.order([ROW | {"currency": currency, "total": "20"}])
        assert isinstance(order, OrderPlaced)
        assert order.total == 20 * 10 ** (exponent_of(currency) or 0)


def test_what_is_not_sound_is_named_by_field_and_column() -> None:
    assert "total" in reasons_of(ROW | {"total": "20.01"})
    assert "placed_at (placed_at)" in reasons_of(ROW | {"placed_at": "yesterday"})
    assert "placed_at (placed_at)" in reasons_of(ROW | {"placed_at": "2026-01-31T09:30:00"})
    assert "lines.0.unit_price (unit_price)" in reasons_of(ROW | {"unit_price": "1.234"})
    assert "taxes_included (taxes_included)" in reasons_of(ROW | {"taxes_included": "yes"})
    assert "channel" in reasons_of({name: cell for name, cell in ROW.items() if name != "channel"})


def test_text_that_is_too_long_is_refused_and_not_cut() -> None:
    assert reasons_of(ROW | {"title": "x" * 256})["lines.0.title (title)"].startswith("has 256 characters")


def test_a_column_of_the_order_holds_the_same_in_every_row_or_nothing() -> None:
    second = {"sku": "POT", "quantity": "1", "unit_price": "5"}
    first = ROW | {"total": "25.00"}
    order = DEFAULT.order([first, second])
    assert isinstance(order, OrderPlaced)
    assert [line.sku for line in order.lines] == ["MUG", "POT"]
    assert DEFAULT.order([first, first | second]) == order
    assert reasons_of(first, second | {"customer_id": "bob"}).keys() == {"customer_id"}


def test_an_order_has_so_many_rows_at_most() -> None:
    assert reasons_of(*[ROW] * (MAX_ROWS + 1)).keys() == {"rows"}


def test_a_mapping_of_ones_own_reads_local_times_and_decimal_commas() -> None:
    text = (
        default_mapping()
        .replace('placed_at = "placed_at" ', 'placed_at = {from = "placed_at", format = "%d.%m.%Y %H:%M", time_zone = "Europe/Berlin"} ')
        .replace('total = "total" ', 'total = {from = "total", decimal_comma = true} ')
        .replace('channel = "channel" ', 'channel = {constant = "shop"} ')
    )
    mapping = RowMapping(text)
    order = mapping.order([ROW | {"placed_at": "31.07.2026 09:30", "total": "20,00"}])
    assert isinstance(order, OrderPlaced)
    assert (order.channel, order.placed_at, order.total) == ("shop", datetime(2026, 7, 31, 7, 30, tzinfo=UTC), 2000)
    late = ROW | {"placed_at": "31.01.2026 09:30", "total": "2.000"}
    assert reasons_of(late, mapping=mapping).keys() == {"total (total)"}
    assert reasons_of(ROW | {"total": "20,00"}, mapping=mapping).keys() == {"placed_at (placed_at)"}


@pytest.mark.parametrize("rule", ['format = "%d.%m."', 'format = "%Q"', 'time_zone = "Europe/Atlantis"', 'time_zone = "../x"'])
def test_a_format_that_reads_no_date_and_an_unknown_time_zone_are_refused(rule: str) -> None:
    with pytest.raises(InvalidMapping, match="placed_at"):
        RowMapping(default_mapping().replace('placed_at = "placed_at" ', f'placed_at = {{from = "placed_at", {rule}}} '))


def test_a_row_that_a_mapping_refuses_is_no_order() -> None:
    text = default_mapping().replace(
        "[order]", '[[refuse]]\nfield = "delivery"\nwhen = "delivery == \'test\'"\nreason = "a test"\n[order]', 1
    )
    assert RowMapping(text).order([ROW | {"delivery": "test"}]) == (Reason("delivery", "a test"),)


def test_the_page_names_every_column_and_what_it_becomes() -> None:
    on_page = {column: names(ours)[0] for columns, ours, _ in rows(section("The columns", FOLDER / "csv.md")) for column in names(columns)}
    consumed = adapter_of(default_mapping()).consumed
    assert on_page == {path.removeprefix("rows[]."): ours for path, ours in consumed.items()}
