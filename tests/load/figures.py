"""Arithmetic of the figures. Pure."""

from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed (nearest rank). Raises ValueError without values."""
    if not values:
        raise ValueError("there are no values")
    ranked = sorted(values)
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]


def per_second(moments: Sequence[float], began: float) -> list[int]:
    """How many of the moments fall in each second after `began`."""
    counts = [0] * (int(max(moments, default=began) - began) + 1)
    for moment in moments:
        counts[max(0, int(moment - began))] += 1
    return counts


def growth(costs: Mapping[int, float]) -> float:
    """What one order costs at the longest history, as a multiple of what it costs at the shortest. `costs` is by orders of history."""
    return costs[max(costs)] / costs[min(costs)]


def compared(now: Mapping[str, object], before: Mapping[str, object]) -> dict[str, float]:
    """Each figure that both results have, as a multiple of the earlier one."""
    ratios: dict[str, float] = {}
    for name, value in now.items():
        earlier = before.get(name)
        if isinstance(value, int | float) and isinstance(earlier, int | float) and earlier:
            ratios[name] = round(value / earlier, 3)
    return ratios
