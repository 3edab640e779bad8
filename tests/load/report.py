"""The result for people: one table, ratios first."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from tests.load.figures import compared

Headline = dict[str, Any]
NOISY = 0.25
"""Cores that others use: above that the wall clock tells little of us."""


def headline(result: Mapping[str, Any]) -> Headline:
    """The figures that runs are compared by; None where one was not measured. Ratios first."""
    through, late = result.get("throughput", {}), result.get("latency", {})
    limit, grown = result.get("bare", {}), result.get("growth", {})
    cost = through.get("cpu_ms_per_order_system")
    confirmed = late.get("confirmed_ms", {})
    edge = result.get("gateway", {})
    figures: Headline = {
        "share_of_bare_pipeline": _ratio(through.get("orders_per_s_placed_to_completed"), limit.get("orders_per_s")),
        "share_of_bare_pipeline_by_cpu": _ratio(limit.get("cpu_ms_per_order_system"), cost),
        "cost_growth": grown.get("growth"),
        "cost_growth_from_orders": grown.get("from"),
        "cost_growth_to_orders": grown.get("to"),
        "orders_per_s_completed": through.get("orders_per_s_completed"),
        "orders_per_s_confirmed": through.get("orders_per_s_confirmed"),
        "orders_per_cpu_s": _ratio(1_000, cost),
        "cpu_ms_per_order": cost,
        "bare_pipeline_orders_per_s": limit.get("orders_per_s"),
        "latency_at_orders_per_s": late.get("orders_per_s"),
        "p50_ms_at_half_load": confirmed.get("p50"),
        "p95_ms_at_half_load": confirmed.get("p95"),
        "p99_ms_at_half_load": confirmed.get("p99"),
        "gateway_orders_per_s": edge.get("orders_per_s"),
        "gateway_cpu_ms_per_order_beyond_topic": edge.get("cpu_ms_per_order_beyond_topic"),
        "gateway_answer_p50_ms": edge.get("answer_ms", {}).get("p50"),
        "gateway_answer_p99_ms": edge.get("answer_ms", {}).get("p99"),
        "rebuild_events_per_s": result.get("rebuild", {}).get("events_per_s"),
        "services_rss_mib": through.get("services_rss_mib"),
        "kafka_bytes_per_order": _sum(through.get("kafka_bytes_per_order")),
        "postgres_bytes_per_order": _sum(through.get("postgres_bytes_per_order")),
        "cores_used_by_others": (through or late or edge).get("cores_used_by_others"),
    }
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in figures.items()}


def table(figures: Headline, earlier: Mapping[str, object] | None) -> Table:
    """The headline, and how it compares with an earlier one."""
    shown = Table("figure", "now", title="Orderstream under load")
    if (others := figures["cores_used_by_others"]) is not None and others > NOISY:
        shown.caption = f"[red]{others:.2f} cores went to what is not ours: only ratios taken in one run mean something[/]"
    ratios = compared(figures, earlier) if earlier is not None else {}
    if earlier is not None:
        shown.add_column("before")
        shown.add_column("now / before")
    for name, value in figures.items():
        if value is None:
            continue
        row = [name, f"{value:,}"]
        if earlier is not None:
            row += [f"{earlier.get(name, '')}", f"{ratios[name]:.3f}" if name in ratios else ""]
        shown.add_row(*row)
    return shown


def costs(result: Mapping[str, Any]) -> Table:
    """Where the processor time and the memory go, a row a process."""
    through = result["throughput"]
    each, memory = through["cpu_ms_per_order"], through["peak_rss_mib"]
    shown = Table("process", "CPU ms an order", "its database's", "peak MiB", title="An order's cost by process, at full load")
    for name, cost in each.items():
        if not name.startswith("postgres:") or name == "postgres:server":
            sessions = each.get(f"postgres:{name}")
            peak = memory.get(name.partition(":")[0] if name == "postgres:server" else name)
            shown.add_row(name, f"{cost:.3f}", f"{sessions:.3f}" if sessions is not None else "", f"{peak:.0f}" if peak else "")
    return shown


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _sum(parts: Mapping[str, float] | None) -> float | None:
    return sum(parts.values()) if parts is not None else None
