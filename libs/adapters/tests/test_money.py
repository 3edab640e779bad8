"""Amounts are exact or refused, and shares add up."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oms_adapters.money import NotAnAmount, allocate, minor_units
from oms_contracts.money import exponent_of


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [
        ("10.00", "EUR", 1000),
        ("0.1", "EUR", 10),
        (" 7 ", "EUR", 700),
        ("1.350000", "USD", 135),
        (36.0, "JPY", 36),
        ("1.234", "BHD", 1234),
        ("-5.00", "USD", -500),
        ("1E2", "USD", 10000),
        (Decimal("36.36"), "USD", 3636),
    ],
)
def test_an_amount_becomes_minor_units_of_its_currency(value: Any, currency: str, minor: int) -> None:
    exponent = exponent_of(currency)
    assert exponent is not None
    assert minor_units(Decimal(str(value)) if isinstance(value, float) else value, exponent) == minor


@pytest.mark.parametrize(
    "value",
    [
        "1.005",
        "0.001",
        "",
        "ten",
        "NaN",
        "Infinity",
        "1e400",
        "1e-400",
        "9" * 50,
        True,
        None,
        [],
        {},
        2**60,
        Decimal("1e30"),
        "10,00",
        "1_0",
        "١٠",
    ],
)
def test_what_is_no_exact_amount_is_refused(value: Any) -> None:
    with pytest.raises(NotAnAmount):
        minor_units(value, 2)


def test_what_is_no_currency_of_payments_has_no_exponent() -> None:
    assert [exponent_of(code) for code in ("XAU", "EURO", "")] == [None, None, None]


@given(amount=st.integers(0, 10**12), weights=st.lists(st.integers(0, 10**9), min_size=1, max_size=30))
def test_shares_add_up_and_differ_from_their_proportion_by_less_than_one(amount: int, weights: list[int]) -> None:
    shares = allocate(amount, weights)
    assert sum(shares) == amount
    if whole := sum(weights):
        assert all(abs(share * whole - amount * weight) < whole for share, weight in zip(shares, weights, strict=True))
        if amount <= whole:
            assert all(share <= weight for share, weight in zip(shares, weights, strict=True))


def test_the_largest_remainder_gets_the_odd_unit() -> None:
    assert allocate(100, [1, 1, 1]) == [34, 33, 33]
    assert allocate(5, [300, 200, 100]) == [2, 2, 1]
    assert allocate(3, [0, 0]) == [2, 1]
    assert allocate(0, []) == []
