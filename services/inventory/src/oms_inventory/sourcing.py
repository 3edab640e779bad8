"""Where an order's units are taken from.

All or nothing: either every unit of the order is found, over as many locations as needed, or nothing is held. Demand is summed per SKU over
all lines before anything is decided, so that the same units are not promised to two lines of one SKU.

The plan is greedy: it repeatedly takes what it can from the location that has most of the units still wanted. Among equals the preferred
location comes first, then the first by name. So the preferred location serves the order if it has everything, otherwise a single other
location that has everything; otherwise the order is split over few locations. These are not always the fewest (that search grows
exponentially with the locations), but the same stock always gives the same plan.
"""

from collections.abc import Container, Iterable, Iterator, Mapping

from oms_contracts.values import AllocatedLine, Shortage, WantedLine

Available = Mapping[str, Mapping[str, int]]
"""By SKU, by location: the units available to promise (ATP). Only locations that have some of them."""


def shortages(lines: Iterable[WantedLine], units: Mapping[str, int]) -> tuple[Shortage, ...]:
    """Every SKU of which there are fewer `units`, at all locations together, than `lines` demand; empty if the order can be served."""
    return tuple(Shortage(sku=sku, requested=wanted, available=units[sku]) for sku, wanted in _demand(lines).items() if units[sku] < wanted)


def plan(lines: tuple[WantedLine, ...], available: Available, preferred: str | None) -> tuple[AllocatedLine, ...]:
    """The location of every unit of `lines`. There must be no `shortages` of what is available."""
    wanted = _demand(lines)
    taken: dict[str, dict[str, int]] = {}
    while wanted:
        location = _best(wanted, available, preferred, taken)
        here = {sku: units for sku, want in wanted.items() if (units := min(want, available[sku].get(location, 0)))}
        taken[location] = here
        wanted = {sku: left for sku, want in wanted.items() if (left := want - here.get(sku, 0))}
    return tuple(_assign(lines, taken))


def _demand(lines: Iterable[WantedLine]) -> dict[str, int]:
    demand: dict[str, int] = {}
    for line in lines:
        demand[line.sku] = demand.get(line.sku, 0) + line.quantity
    return demand


def _best(wanted: Mapping[str, int], available: Available, preferred: str | None, used: Container[str]) -> str:
    units: dict[str, int] = {}
    for sku, want in wanted.items():
        for location, there in available[sku].items():
            if location not in used:
                units[location] = units.get(location, 0) + min(want, there)
    return min(units, key=lambda location: (-units[location], location != preferred, location))


def _assign(lines: Iterable[WantedLine], taken: Mapping[str, dict[str, int]]) -> Iterator[AllocatedLine]:
    for line in lines:
        missing = line.quantity
        for location, here in taken.items():
            if units := min(missing, here.get(line.sku, 0)):
                here[line.sku] -= units
                missing -= units
                yield AllocatedLine(line_id=line.line_id, sku=line.sku, location=location, quantity=units)
