"""Three pictures of a result, as SVG."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any


def draw(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what was measured into `folder`; the files made."""
    matplotlib: Any = import_module("matplotlib")
    matplotlib.use("svg")
    plots: Any = import_module("matplotlib.pyplot")
    made: list[Path] = []
    for name, paint in (("throughput", _throughput), ("latency", _latency), ("cpu", _cpu)):
        if name in result or (name == "cpu" and "throughput" in result):
            figure, axes = plots.subplots(figsize=(8, 4.5), layout="constrained")
            paint(axes, result)
            made.append(folder / f"{name}.svg")
            figure.savefig(made[-1])
            plots.close(figure)
    return made


def _throughput(axes: Any, result: Mapping[str, Any]) -> None:
    for status, counts in result["throughput"]["per_second"].items():
        axes.step(range(len(counts)), counts, where="mid", label=status)
    axes.set(title=f"{result['throughput']['orders']} orders placed at once", xlabel="seconds", ylabel="orders a second")
    axes.legend()


def _latency(axes: Any, result: Mapping[str, Any]) -> None:
    latency = result["latency"]
    for name, label in (("confirmed_ms", "public status confirmed"), ("completed_ms", "public status completed")):
        axes.plot(latency[name]["curve"], range(101), label=f"{label}: p99 {latency[name]['p99']:.0f} ms")
    axes.set(title=f"Latency at {latency['orders_per_s']:.0f} orders/s, open loop", xlabel="milliseconds since due", ylabel="% of orders")
    axes.set_xscale("log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()


def _cpu(axes: Any, result: Mapping[str, Any]) -> None:
    costs = result["throughput"]["cpu_ms_per_order"]
    services = [name for name in costs if f"postgres:{name}" in costs]
    rest = [name for name in costs if name not in services and name.removeprefix("postgres:") not in services]
    names = [*services, *rest][::-1]
    axes.barh(names, [costs[name] for name in names], label="the process")
    databases = [costs.get(f"postgres:{name}", 0) for name in names]
    axes.barh(names, databases, left=[costs[name] for name in names], label="its database sessions")
    axes.set(title="Where the processor time of an order goes", xlabel="milliseconds an order")
    axes.legend()
