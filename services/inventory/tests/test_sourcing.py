from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from oms_contracts.values import AllocatedLine, Shortage, WantedLine
from oms_inventory.sourcing import plan, shortages


def want(line_id: str, sku: str, quantity: int) -> WantedLine:
    return WantedLine(line_id=line_id, sku=sku, quantity=quantity)


def take(line_id: str, sku: str, location: str, quantity: int) -> AllocatedLine:
    return AllocatedLine(line_id=line_id, sku=sku, location=location, quantity=quantity)


ORDER = (want("1", "MUG", 2), want("2", "SPOON", 1))


def test_the_preferred_location_serves_the_order_if_it_has_everything():
    stock = {"MUG": {"BER": 50, "MUC": 2}, "SPOON": {"BER": 50, "MUC": 1}}
    assert plan(ORDER, stock, "MUC") == (take("1", "MUG", "MUC", 2), take("2", "SPOON", "MUC", 1))


def test_otherwise_a_single_other_location_that_has_everything_serves_it():
    stock = {"MUG": {"BER": 1, "CGN": 2, "MUC": 2}, "SPOON": {"BER": 9, "CGN": 1, "MUC": 9}}
    assert plan(ORDER, stock, "BER") == (take("1", "MUG", "CGN", 2), take("2", "SPOON", "CGN", 1))


def test_without_a_preference_the_first_location_by_name_serves_it():
    stock = {"MUG": {"MUC": 2, "BER": 2}, "SPOON": {"MUC": 1, "BER": 1}}
    assert plan(ORDER, stock, None) == (take("1", "MUG", "BER", 2), take("2", "SPOON", "BER", 1))


def test_otherwise_the_order_is_split_over_few_locations():
    stock = {"MUG": {"BER": 1, "MUC": 3}, "SPOON": {"CGN": 2, "BER": 2}}
    lines = (want("1", "MUG", 3), want("2", "SPOON", 2))
    assert plan(lines, stock, "BER") == (take("1", "MUG", "BER", 1), take("1", "MUG", "MUC", 2), take("2", "SPOON", "BER", 2))


def test_a_line_is_split_if_no_location_has_all_of_it():
    lines = (want("1", "MUG", 3), want("2", "MUG", 2))
    assert plan(lines, {"MUG": {"BER": 1, "MUC": 4}}, None) == (
        take("1", "MUG", "MUC", 3),
        take("2", "MUG", "MUC", 1),
        take("2", "MUG", "BER", 1),
    )


def test_demand_is_summed_over_lines_before_it_is_compared():
    lines = (want("1", "MUG", 2), want("2", "SPOON", 1), want("3", "MUG", 2))
    assert shortages(lines, {"MUG": 3, "SPOON": 1}) == (Shortage(sku="MUG", requested=4, available=3),)


SKUS, LOCATIONS = ["MUG", "SPOON", "FORK"], ["BER", "CGN", "HAM", "MUC"]
orders = st.lists(st.tuples(st.sampled_from(SKUS), st.integers(1, 6)), min_size=1, max_size=6).map(
    lambda lines: tuple(want(str(number), sku, quantity) for number, (sku, quantity) in enumerate(lines))
)
stocks = st.fixed_dictionaries({sku: st.dictionaries(st.sampled_from(LOCATIONS), st.integers(1, 8)) for sku in SKUS})


def totals(stock: dict[str, dict[str, int]]) -> dict[str, int]:
    return {sku: sum(there.values()) for sku, there in stock.items()}


preferences = st.none() | st.sampled_from([*LOCATIONS, "NOWHERE"])


@settings(deadline=None)
@for_all(orders, stocks, preferences)
def test_a_plan_gives_each_line_all_its_units_and_no_location_more_than_it_has(
    lines: tuple[WantedLine, ...], stock: dict[str, dict[str, int]], preferred: str | None
):
    missing = shortages(lines, totals(stock))
    wanted = {sku: sum(line.quantity for line in lines if line.sku == sku) for sku in SKUS}
    assert {s.sku: (s.requested, s.available) for s in missing} == {
        sku: (wanted[sku], sum(stock[sku].values())) for sku in SKUS if wanted[sku] > sum(stock[sku].values())
    }
    if missing:
        return
    planned = plan(lines, stock, preferred)
    for line in lines:
        assert sum(p.quantity for p in planned if (p.line_id, p.sku) == (line.line_id, line.sku)) == line.quantity
    assert sum(p.quantity for p in planned) == sum(line.quantity for line in lines)
    for sku in SKUS:
        for location in {p.location for p in planned}:
            assert sum(p.quantity for p in planned if (p.sku, p.location) == (sku, location)) <= stock[sku].get(location, 0)
    assert all(p.quantity > 0 for p in planned)
    assert len({(p.line_id, p.location) for p in planned}) == len(planned)


@settings(deadline=None)
@for_all(orders, stocks, preferences)
def test_a_plan_depends_on_the_stock_and_not_on_the_order_it_is_listed_in(
    lines: tuple[WantedLine, ...], stock: dict[str, dict[str, int]], preferred: str | None
):
    if not shortages(lines, totals(stock)):
        reversed_stock = {sku: dict(reversed(bins.items())) for sku, bins in reversed(stock.items())}
        assert plan(lines, reversed_stock, preferred) == plan(lines, stock, preferred)


@settings(deadline=None)
@for_all(orders, stocks, preferences)
def test_one_location_is_used_whenever_one_is_enough_and_the_preferred_one_first(
    lines: tuple[WantedLine, ...], stock: dict[str, dict[str, int]], preferred: str | None
):
    enough = [
        location
        for location in LOCATIONS
        if all(sum(line.quantity for line in lines if line.sku == sku) <= stock[sku].get(location, 0) for sku in SKUS)
    ]
    if enough:
        used = {line.location for line in plan(lines, stock, preferred)}
        assert used == {preferred if preferred in enough else min(enough)}
