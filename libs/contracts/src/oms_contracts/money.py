"""Amounts and counts as people read them: minor units as decimals of their currency (ISO 4217), "1 unit", "2 units"."""

from decimal import Decimal

from iso4217 import Currency

_EXPONENTS = {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}


def exponent_of(currency: str) -> int | None:
    """Decimal places of an ISO 4217 currency: 2 of EUR, 0 of JPY, 3 of BHD. None for what is no currency of payments."""
    return _EXPONENTS.get(currency)


def decimal_text(amount: int, exponent: int) -> str:
    """Minor units as a decimal with all places of its currency: 1.50 of 150."""
    return f"{Decimal(amount).scaleb(-exponent):.{exponent}f}"


def money_text(amount: int, currency: str | None) -> str:
    """Minor units as a decimal of their currency, "37.50 EUR"; as minor units where the currency is not in ISO 4217."""
    exponent = exponent_of(currency or "")
    if exponent is None:
        return f"{amount} minor units of {currency or 'no currency'}"
    return f"{decimal_text(amount, exponent)} {currency}"


def counted(count: int, noun: str) -> str:
    """A number of things: "1 unit", "2 units"."""
    return f"{count} {noun}" if abs(count) == 1 else f"{count} {noun}s"
