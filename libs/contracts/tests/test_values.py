"""Texts that are bounded in length."""

import pytest
from oms_contracts.strict import MAX_REASONS
from oms_contracts.values import MAX_REASON_CHARACTERS, MAX_REASONS_CHARACTERS, bounded_reasons, quoted, shortened


@pytest.mark.parametrize("count", [0, 1, MAX_REASONS])
def test_few_short_reasons_are_all_named(count: int):
    assert bounded_reasons(["no"] * count) == ("no",) * count


@pytest.mark.parametrize(("reason", "named"), [("no", MAX_REASONS), ("x" * 99, MAX_REASONS_CHARACTERS // 99), ("x" * 10_000, 4)])
def test_the_first_of_many_reasons_are_named_and_the_others_counted(reason: str, named: int):
    reasons = bounded_reasons(reason for _ in range(5_000))
    assert reasons[-1] == f"and {5_000 - named} more"
    assert len(reasons) == named + 1
    assert sum(map(len, reasons[:-1])) <= MAX_REASONS_CHARACTERS
    assert max(map(len, reasons)) <= MAX_REASON_CHARACTERS


def test_a_cut_text_shows_that_it_was_cut():
    assert (shortened("abcdef", 6), shortened("abcdefg", 6)) == ("abcdef", "abc...")
    assert quoted("\x1b" + "x" * 100) == "'\\x1b" + "x" * 46 + "...'"
