"""`python -m tests.load`: the benchmark. `README.md` beside this file says how to read it."""

import argparse
import asyncio
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from oms_contracts.catalogue import ALL_SERVICES, GATEWAY
from oms_local.stack import Stack, StackError
from oms_local.testing import local_stack
from oms_runtime.loop import run_loop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.load import phases
from tests.load.bare import bare
from tests.load.baskets import Baskets, NoData
from tests.load.gateway import gateway
from tests.load.plots import draw
from tests.load.profiles import preload_statements, profiled
from tests.load.report import Headline, costs, headline, table
from tests.load.rig import pids_of, rig_on
from tests.load.watch import Stuck

PLACE = Path(__file__).parents[2] / ".orderstream" / "bench"
PARTS = ("throughput", "latency", "rebuild", "growth", "gateway", "bare")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured. `rate` is orders a second; without one latency is measured at `load` times the throughput."""

    parts: frozenset[str]
    seed: int
    orders: int
    history: tuple[int, ...]
    sample: int
    bare_orders: int
    load: float
    rate: float | None
    latency_seconds: float
    gateway_rate: float
    gateway_seconds: float
    minutes: float
    partitions: int
    profile: bool


def main() -> None:
    """Measure, show the tables, print the headline as one line of JSON. The exit status is 1 when something did not come about."""
    plan, where, earlier = _arguments()
    folder = PLACE / "results" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder.mkdir(parents=True)
    try:
        result = measure(plan, folder)
    except (Stuck, StackError, NoData) as error:
        sys.exit(f"error: {error}")
    except TimeoutError:
        sys.exit(f"error: the benchmark did not end within {plan.minutes:g} minutes")
    figures = headline(result)
    for path in (folder / "result.json", where):
        if path is not None:
            path.write_text(json.dumps({"headline": figures, **result}, indent=1) + "\n")
    draw(result, folder)
    console = Console()
    if "throughput" in result:
        console.print(costs(result))
    console.print(table(figures, earlier))
    console.print(f"everything else, and plots: {folder}", soft_wrap=True)
    sys.stdout.write(json.dumps(figures) + "\n")


def measure(plan: Plan, folder: Path) -> dict[str, Any]:
    """Do what is planned on a fresh stack, with progress on standard error. Raises Stuck, StackError, NoData or TimeoutError."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    baskets = Baskets(plan.seed)
    with local_stack(PLACE / "stack", plan.partitions) as stack:
        if plan.profile:
            preload_statements(stack)
        stack.up(owner=os.getpid())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            return run_loop(_measure(plan, stack, baskets, progress, folder))


async def _measure(plan: Plan, stack: Stack, baskets: Baskets, progress: Progress, folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = {"plan": {**asdict(plan), "parts": sorted(plan.parts)}}
    async with asyncio.timeout(plan.minutes * 60):
        async with rig_on(stack, baskets, progress) as rig:
            await phases.fill(rig, "warm-up", plan.history[0])
            points: list[Any] = []
            if "growth" in plan.parts:
                points.append(await phases.cost_at(rig, plan.history[0], plan.sample))
            if "throughput" in plan.parts:
                with profiled(stack, rig.pids, folder / "profile") if plan.profile else nullcontext():
                    result["throughput"] = await phases.throughput(rig, plan.orders)
            if "growth" in plan.parts:
                points += [await phases.cost_at(rig, history, plan.sample) for history in plan.history[1:]]
                result["growth"] = phases.cost_growth(points)
            if "latency" in plan.parts:
                rate = plan.rate or plan.load * result["throughput"]["orders_per_s_completed"]
                result["latency"] = await phases.latency(rig, rate, plan.latency_seconds, plan.seed)
            if "rebuild" in plan.parts:
                result["rebuild"] = await phases.rebuild(rig)
            if "gateway" in plan.parts:
                looks_on = partial(profiled, stack, rig.pids, folder / "profile-gateway", [GATEWAY]) if plan.profile else nullcontext
                result["gateway"] = await gateway(rig, plan.gateway_rate, plan.gateway_seconds, plan.seed, looks_on)
        if "bare" in plan.parts:
            for service in ALL_SERVICES:
                await asyncio.to_thread(stack.stop_part, service)
            servers = pids_of(stack)
            result["bare"] = await bare(stack, servers, result["throughput"]["records_per_order"], plan.bare_orders, progress)
    return result


def _arguments() -> tuple[Plan, Path | None, Headline | None]:
    """The plan, where to write the result, and the earlier headline."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.load",
        description="Put a stack of its own under load and measure it. The last line on standard output is one JSON object.",
        epilog="example: python -m tests.load --only throughput bare --orders 2000 --json now.json --compare before.json",
    )
    parser.add_argument("--full", action="store_true", help="the long form: cost at 10,000 and 100,000 orders of history, longer phases")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"only these of {', '.join(PARTS)}, and what they rest on")
    parser.add_argument("--orders", type=int, help="orders placed at once to measure throughput (5,000; --full: 20,000)")
    parser.add_argument(
        "--history", type=int, nargs="+", metavar="ORDERS", help="cost is measured at these (1,000 6,000; --full: 10,000 100,000)"
    )
    parser.add_argument("--load", type=float, default=0.5, help="latency is measured at this share of the throughput (0.5)")
    parser.add_argument("--rate", type=float, help="latency is measured at this many orders a second instead")
    parser.add_argument("--gateway-rate", type=float, default=500, help="orders a second through the gateway (500)")
    parser.add_argument("--seed", type=int, default=1, help="for the choice of baskets, and all that chance decides")
    parser.add_argument("--partitions", type=int, default=2, help="of each topic: two cores cannot use more (2)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the whole result there too")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an earlier result, as --json wrote it")
    parser.add_argument("--profile", action="store_true", help="py-spy and pg_stat_statements during throughput; it takes some of it")
    parser.add_argument("--minutes", type=float, help="give up after so many (10; --full: 180)")
    chosen = parser.parse_args()
    parts = frozenset(chosen.only or PARTS)
    if "bare" in parts or ("latency" in parts and chosen.rate is None):
        parts |= {"throughput"}
    full = chosen.full
    plan = Plan(
        parts=parts,
        seed=chosen.seed,
        orders=chosen.orders or (20_000 if full else 5_000),
        history=tuple(sorted(chosen.history or ((10_000, 100_000) if full else (1_000, 6_000)))),
        sample=5_000 if full else 2_000,
        bare_orders=30_000 if full else 10_000,
        load=chosen.load,
        rate=chosen.rate,
        latency_seconds=120 if full else 40,
        gateway_rate=chosen.gateway_rate,
        gateway_seconds=60 if full else 15,
        minutes=chosen.minutes or (180 if full else 10),
        partitions=chosen.partitions,
        profile=chosen.profile,
    )
    try:
        earlier = json.loads(chosen.compare.read_text())["headline"] if chosen.compare else None
    except (OSError, ValueError, KeyError) as error:
        parser.error(f"{chosen.compare} is no result of an earlier run: {error}")
    return plan, chosen.json, earlier


if __name__ == "__main__":
    main()
