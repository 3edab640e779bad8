"""Decimal amounts as integer minor units, exactly; and shares of an amount that add up to it."""

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from oms_contracts.sound import MAX_NUMBER

_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
"""Decimal alone would also take underscores, and the digits of every script."""
_MAX_CHARACTERS = 40
"""Of an amount as text. The largest one that can be represented has 16 digits."""


class NotAnAmount(ValueError):
    """The text says what is wrong, without the field's name."""


def decimal_of(value: Any) -> Decimal:
    """A JSON number or a decimal in text. Raises NotAnAmount."""
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise NotAnAmount("must be a decimal number")
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise NotAnAmount("is too large")
    text = str(value).strip()
    if len(text) > _MAX_CHARACTERS:
        raise NotAnAmount("must be a decimal number of at most 40 characters")
    if not _DECIMAL.fullmatch(text):
        raise NotAnAmount("must be a decimal number")
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent that no computer has
        raise NotAnAmount("must be a decimal number") from None
    if number.adjusted() > len(str(MAX_NUMBER)):
        raise NotAnAmount("is too large")
    if number.adjusted() < -_MAX_CHARACTERS and number:
        raise NotAnAmount("has more digits than its currency")
    return number


def minor_units(value: Any, exponent: int) -> int:
    """An amount in minor units of a currency with so many decimal places. Raises NotAnAmount; nothing is rounded."""
    number = decimal_of(value)
    if not number:
        return 0
    scaled = Fraction(number) * 10**exponent
    if scaled.denominator != 1:
        raise NotAnAmount(f"has more digits than its currency, which has {exponent}")
    if abs(scaled.numerator) > MAX_NUMBER:
        raise NotAnAmount("is too large")
    return scaled.numerator


def allocate(amount: int, weights: Sequence[int | Decimal]) -> list[int]:
    """Shares of `amount` (0 or more) in proportion to `weights` (0 or more) by largest remainder; among equals the first one gets more.

    They add up to `amount`. Where all weights are 0 they count as equal; without weights there are no shares. A share of an amount that
    is at most the sum of whole weights is at most its weight.
    """
    if not amount:
        return [0] * len(weights)
    parts = [Fraction(weight) for weight in weights]
    whole = sum(parts)
    if not whole:
        parts, whole = [Fraction(1)] * len(parts), Fraction(len(parts))
    exact = [amount * part / whole for part in parts]
    shares = [each.numerator // each.denominator for each in exact]
    by_remainder = sorted(range(len(parts)), key=lambda index: (shares[index] - exact[index], index))
    for index in by_remainder[: amount - sum(shares)]:
        shares[index] += 1
    return shares
