"""What the load is made of: which baskets, in what order, and how many records the bare pipeline passes on."""

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from tests.load.bare import CHANNEL, HOPS, PROJECTION, due, expected
from tests.load.baskets import PLENTY, picks, plenty_of, reference_of


def test_the_seed_decides_the_order_of_the_baskets() -> None:
    assert list(islice(picks(50, 1), 80)) == list(islice(picks(50, 1), 80))
    assert list(islice(picks(50, 1), 50)) != list(islice(picks(50, 2), 50))


def test_every_basket_comes_once_before_any_comes_again() -> None:
    first, again = (list(islice(picks(20, 1), start, start + 20)) for start in (0, 20))

    assert sorted(first) == [(number, 0) for number in range(20)]
    assert again == [(number, 1) for number, _ in first]


def test_a_basket_that_comes_again_is_another_order() -> None:
    assert len({reference_of(str(number), turn) for number, turn in islice(picks(20, 1), 60)}) == 60
    assert reference_of("31198570044", 0) == "31198570044"


def test_receipts_bring_plenty_of_every_sku_to_every_location() -> None:
    receipts = list(plenty_of({f"sku-{number}" for number in range(250)}, "r"))

    assert [len(receipt.lines) for receipt in receipts] == [300, 300, 150]
    assert len({receipt.receipt_id for receipt in receipts}) == 3
    assert {line.quantity for receipt in receipts for line in receipt.lines} == {PLENTY}


@given(st.lists(st.integers(min_value=1, max_value=500)), st.floats(min_value=0.01, max_value=10))
def test_records_passed_on_do_not_depend_on_the_batches(batches: list[int], ratio: float) -> None:
    read = written = 0
    for size in batches:
        read += size
        written += due(read, ratio) - written

    assert written == due(sum(batches), ratio)


def test_the_bare_pipeline_has_as_many_records_as_an_order() -> None:
    per_order = Counter(dict.fromkeys((CHANNEL, *(target for hop in HOPS for target in hop.targets)), 2.0)) | {CHANNEL: 1.0}

    rows = expected({0: 300, 1: 100}, per_order)

    assert {hop.name: rows[hop.name] for hop in HOPS} == {hop.name: 800 * len(hop.targets) for hop in HOPS}
    assert rows[PROJECTION.name] == 800 * len(PROJECTION.sources)
