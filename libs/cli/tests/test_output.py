"""What people are shown."""

import pytest
from oms_cli import output


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1495, "EUR", "14.95 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (1495, "JPY", "1495 JPY"),
        (1495, "KWD", "1.495 KWD"),
        (10**15, "EUR", "10000000000000.00 EUR"),
        (5, "XXL", "5 minor units of XXL"),
        (5, "XAU", "5 minor units of XAU"),
        (None, "EUR", "–"),
    ],
)
def test_money_is_a_decimal_of_its_currency(amount: int | None, currency: str, text: str) -> None:
    assert output.money(amount, currency) == text


def test_times_are_utc() -> None:
    assert output.moment("2026-11-24T13:00:00.0625+01:00") == "2026-11-24 12:00:00Z"
    assert output.moment("2026-11-24T12:00:00.0625Z", precise=True) == "2026-11-24 12:00:00.062Z"
