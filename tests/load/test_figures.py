"""The arithmetic of the benchmark's figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.load.figures import compared, growth, per_second, percentile

finite = st.floats(min_value=0, max_value=1e9)


def test_percentiles_are_nearest_ranks() -> None:
    values = [15.0, 20.0, 35.0, 40.0, 50.0]

    assert [percentile(values, share) for share in (0.0, 0.05, 0.3, 0.4, 0.5, 1.0)] == [15, 15, 20, 20, 35, 50]
    assert percentile(range(1, 101), 0.99) == 99
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@given(st.lists(finite, min_size=1), st.floats(min_value=0, max_value=1))
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)

    assert sum(value <= found for value in values) >= share * len(values)
    assert all(sum(other <= value for other in values) < share * len(values) for value in values if value < found)


def test_moments_are_counted_by_the_second() -> None:
    assert per_second([100.1, 100.9, 102.0], 100.0) == [2, 0, 1]
    assert per_second([], 100.0) == [0]


def test_growth_compares_the_longest_history_with_the_shortest() -> None:
    assert growth({100_000: 12.0, 10_000: 10.0, 50_000: 99.0}) == pytest.approx(1.2)


def test_figures_are_compared_where_both_results_have_them() -> None:
    assert compared({"a": 3.0, "b": 1, "c": None, "d": 5}, {"a": 2, "b": 0, "c": 1, "e": 4}) == {"a": 1.5}
