"""`python -m oms_demo`: a week of baskets from channel to door, and the audits."""

import argparse
import asyncio
import json
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from oms_contracts.catalogue import SERVICES
from oms_local.stack import Stack, StackError, StackSettings
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from oms_demo.baskets import read_baskets, stock_for
from oms_demo.simulators import answers
from oms_demo.wire import Publisher, settings_of, simulate

PATIENCE_SECONDS = 600


def main() -> None:
    """Run the demonstration; the exit status is 1 when an audit is not green or the orders do not come to rest."""
    parser = argparse.ArgumentParser(
        prog="python -m oms_demo",
        description="Publish a week of baskets as channels do, let simulators ship and deliver them, and audit the outcome.",
        epilog="example: python -m oms_demo --orders 200 --json report.json",
    )
    parser.add_argument("--orders", type=int, help="so many baskets only (default: all 2,932)")
    parser.add_argument("--seed", type=int, default=1, help="for all that the data lacks")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the report as JSON there too")
    chosen = parser.parse_args()
    stack = Stack(StackSettings.from_environment())
    try:
        stack.up()
    except StackError as error:
        sys.exit(f"error: {error}")
    report = asyncio.run(run(stack, chosen.seed, chosen.orders))
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
    show(report, Console())
    sys.exit(0 if report["green"] else 1)


async def run(stack: Stack, seed: int, most: int | None) -> dict[str, Any]:
    """Seed stock, publish the baskets, simulate until all orders rest, audit; answers with the report."""
    orders = list(read_baskets(seed, most))
    receipts = list(stock_for(orders, seed))
    answered = answers()
    outside = {"warehouse": list(answered)[:1] + list(answered)[2:], "carrier": list(answered)[1:2]}
    base = stack.settings.http_port
    with Progress(console=Console(stderr=True)) as progress:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{base + len(SERVICES)}", timeout=60) as projection:
            before = await _orders_known(projection)
            task = progress.add_task("receiving stock", total=len(receipts))
            async with Publisher(settings_of(stack.kafka("warehouse")), "warehouse") as publisher:
                await publisher.publish(receipts, lambda count: progress.advance(task, count))
            await _until(lambda: _holds_stock(projection, [receipt.lines[-1].sku for receipt in receipts]))
            simulators = [
                asyncio.create_task(simulate(settings_of(stack.kafka(user)), user, {cls: answered[cls] for cls in classes}))
                for user, classes in outside.items()
            ]
            task = progress.add_task("placing orders", total=len(orders))
            began = monotonic()
            async with Publisher(settings_of(stack.kafka("channel")), "channel") as publisher:
                await publisher.publish(orders, lambda count: progress.advance(task, count))
            task = progress.add_task("orders at rest", total=len(orders))
            rests = await _rest(projection, len(orders), partial(_show_completed, progress, task))
            seconds = monotonic() - began
            for simulator in simulators:
                simulator.cancel()
            await asyncio.gather(*simulators, return_exceptions=True)
            return await _report(
                stack, projection, {"orders": len(orders), "known_before": before, "seconds": round(seconds, 1), "at_rest": rests}
            )


def _show_completed(progress: Progress, task: TaskID, completed: int) -> None:
    progress.update(task, completed=completed)


async def _until(holds: Any) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110  # the answer lies in another process
            await asyncio.sleep(0.2)


async def _holds_stock(projection: httpx.AsyncClient, skus: list[str]) -> bool:
    """Whether the receipts that end with `skus` are booked: orders placed before that would find nothing in stock."""
    for sku in skus:
        if (await projection.get(f"/stock/{sku}")).status_code != 200:
            return False
    return True


async def _orders_known(projection: httpx.AsyncClient) -> int:
    return sum(outcome["orders"] for outcome in await _get(projection, "/outcomes"))


async def _rest(projection: httpx.AsyncClient, wanted: int, told: Any) -> bool:
    """Wait until every order ended or waits for somebody; False when that takes longer than PATIENCE_SECONDS."""
    resting = {"completed", "canceled", "expired", "rejected", "awaiting_stock", "awaiting_payment"}

    async def done() -> bool:
        outcomes = await _get(projection, "/outcomes")
        at_rest = sum(outcome["orders"] for outcome in outcomes if outcome["status"] in resting)
        told(min(at_rest, wanted))
        return at_rest >= wanted and at_rest == sum(outcome["orders"] for outcome in outcomes)

    with suppress(TimeoutError):
        await _until(done)
        return True
    return False


async def audits_of(stack: Stack, projection: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """What must always hold, by name, judged now: whether it does (`green`), and what speaks against it."""
    audits: dict[str, dict[str, Any]] = {
        "1 every order ends or waits with a deadline": await _get(projection, "/audits/orders?settle_seconds=0"),
        "2 stock adds up": await _get(projection, "/audits/stock?settle_seconds=0"),
        "3 money adds up": await _get(projection, "/audits/money?settle_seconds=0"),
    }
    async with httpx.AsyncClient(timeout=120) as client:
        folded = [(await client.get(f"http://127.0.0.1:{stack.settings.http_port + n}/audit")).json() for n in range(len(SERVICES))]
    audits["4 every state is what its events fold to"] = {"green": all(audit["ok"] for audit in folded), "services": folded}
    audits["4 rebuilt read models are the same"] = await _rebuilt(stack)
    return audits


async def _report(stack: Stack, projection: httpx.AsyncClient, facts: dict[str, Any]) -> dict[str, Any]:
    audits = await audits_of(stack, projection)
    return facts | {
        "orders_per_s": round(facts["orders"] / facts["seconds"], 1),
        "outcomes": {outcome["status"]: outcome["orders"] for outcome in await _get(projection, "/outcomes")},
        "rejections": await _get(projection, "/rejections"),
        "audits": audits,
        "green": facts["at_rest"] and all(audit["green"] for audit in audits.values()),
    }


async def _rebuilt(stack: Stack) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oms_projection.rebuild", env=stack.environment("projection"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return {"green": process.returncode == 0, "comparison": json.loads(out) if out else None}


async def _get(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    answer.raise_for_status()
    return answer.json()


def show(report: dict[str, Any], console: Console) -> None:
    """The report for people."""
    outcomes = Table("outcome", "orders", title=f"{report['orders']} orders, {report['orders_per_s']} orders/s to rest")
    for status, count in sorted(report["outcomes"].items(), key=lambda pair: -pair[1]):
        outcomes.add_row(status, str(count))
    rejections = Table("rejected for", "orders", title="Rejections")
    for row in report["rejections"]:
        rejections.add_row(str(row.get("field", row)), str(row.get("orders", "")))
    audits = Table("audit", "result", title="What must always hold")
    for name, audit in report["audits"].items():
        audits.add_row(name, "[green]green[/]" if audit["green"] else "[red]NOT GREEN[/]")
    for table in (outcomes, rejections, audits):
        console.print(table)
    console.print("The stack stays up. Look at an order: GET /orders on port 8006, its API at /docs; stop it with: make down")


if __name__ == "__main__":
    main()
