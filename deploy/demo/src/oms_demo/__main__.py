"""`python -m oms_demo`: a week of baskets from channel to door, and the audits."""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import count as numbers
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from oms_client.publisher import Publisher
from oms_contracts.catalogue import SERVICES
from oms_contracts.message import key_of
from oms_contracts.stock import ReceiveStock
from oms_kafka.settings import settings_of
from oms_local.stack import Stack, StackError, StackSettings
from oms_runtime.clock import utc_now
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from oms_demo.baskets import read_baskets, stock_for
from oms_demo.simulators import answers
from oms_demo.wire import simulate

PATIENCE_SECONDS = 600
IMPATIENT = {"OMS_LOOK_UP_AFTER": "PT0.5S", "OMS_LOOK_UP_AT_MOST": "PT2S"}
"""A few payments are answered late. Payment asks again sooner than it would ask a real provider, or the run would end with waiting."""


def main() -> None:
    """Run the demonstration; the exit status is 1 when an audit is not green or the orders do not come to rest."""
    parser = argparse.ArgumentParser(
        prog="python -m oms_demo",
        description="Publish a week of baskets as channels do, let simulators ship and deliver them, and audit the outcome.",
        epilog="example: python -m oms_demo --orders 200 --json report.json",
    )
    parser.add_argument("--orders", type=int, help="so many baskets only (default: all 2,932)")
    parser.add_argument("--seed", type=int, default=1, help="for all that the data lacks")
    parser.add_argument("--round", type=int, help="place the baskets under the references of this round (default: the first that is new)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the report as JSON there too")
    chosen = parser.parse_args()
    if chosen.orders is not None and chosen.orders < 1:
        parser.error(f"--orders: must be at least 1, is {chosen.orders}")
    stack = Stack(StackSettings.from_environment())
    try:
        stack.up(environment=IMPATIENT)
    except StackError as error:
        sys.exit(f"error: {error}")
    report = asyncio.run(run(stack, chosen.seed, chosen.orders, chosen.round))
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
    show(report, Console())
    sys.exit(0 if report["green"] else 1)


async def run(stack: Stack, seed: int, most: int | None, turn: int | None = None) -> dict[str, Any]:
    """Seed stock, publish the baskets, simulate until all orders rest, audit; answers with the report.

    `turn` is the round whose references the orders bear; None takes the first that the stack does not know yet.
    """
    answered = answers()
    outside = {"warehouse": list(answered)[:1] + list(answered)[2:], "carrier": list(answered)[1:2]}
    base = stack.settings.http_port
    with Progress(console=Console(stderr=True)) as progress:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{base + len(SERVICES)}", timeout=60) as projection:
            known = {order["order_id"] async for order in _items(projection, "/orders")}
            orders = list(read_baskets(seed, most, turn or await _new_round(projection, seed)))
            news = {key_of(order) for order in orders} - known
            receipts = list(stock_for(orders, seed))
            task = progress.add_task("receiving stock", total=len(receipts))
            async with Publisher(settings_of(stack.kafka("warehouse")), "/demo/warehouse", utc_now) as publisher:
                await publisher.publish(receipts, lambda told: progress.advance(task, told))
            await _until(lambda: _booked(projection, receipts))
            listening = {user: asyncio.Event() for user in outside}
            simulators = [
                asyncio.create_task(
                    simulate(settings_of(stack.kafka(user)), user, {cls: answered[cls] for cls in classes}, listening[user])
                )
                for user, classes in outside.items()
            ]
            async with asyncio.timeout(PATIENCE_SECONDS):
                all_listen = asyncio.gather(*(event.wait() for event in listening.values()))
                ended, _ = await asyncio.wait({all_listen, *simulators}, return_when=asyncio.FIRST_COMPLETED)
                for finished in ended:
                    await finished  # a simulator ends here only if it failed
            task = progress.add_task("placing orders", total=len(orders))
            began = monotonic()
            async with Publisher(settings_of(stack.kafka("channel")), "/demo/channel", utc_now) as publisher:
                await publisher.publish(orders, lambda told: progress.advance(task, told))
            task = progress.add_task("orders at rest", total=len(news))
            rests = await _rest(projection, len(known) + len(news), partial(_show, progress, task, len(known)))
            seconds = monotonic() - began
            for simulator in simulators:
                simulator.cancel()
            await asyncio.gather(*simulators, return_exceptions=True)
            facts = {
                "orders": len(orders),
                "first": f"{orders[0].channel}/{orders[0].channel_reference}",
                "new": len(news),
                "known_before": len(known),
                "seconds": round(seconds, 1),
                "orders_per_s": round(len(news) / seconds, 1),
                "at_rest": rests,
            }
            return await _report(stack, projection, facts)


def _show(progress: Progress, task: TaskID, before: int, at_rest: int) -> None:
    progress.update(task, completed=at_rest - before)


async def _until(holds: Any) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await holds():  # noqa: ASYNC110  # the answer lies in another process
            await asyncio.sleep(0.2)


async def _booked(projection: httpx.AsyncClient, receipts: Sequence[ReceiveStock]) -> bool:
    """Whether all receipts are booked: orders placed before that would find nothing in stock."""
    for receipt in receipts:
        ledger = _items(projection, f"/stock/{receipt.lines[-1].sku}", "ledger")
        if not [entry async for entry in ledger if entry["reference"] == receipt.receipt_id]:
            return False
    return True


async def _items(client: httpx.AsyncClient, path: str, part: str | None = None) -> AsyncIterator[dict[str, Any]]:
    """All items of a paged list; of nothing where the path is not known yet. `part` is the field of the answer that holds the list."""
    after: dict[str, str] = {}
    while True:
        answer = await client.get(path, params={"limit": "500", **after})
        if answer.status_code == 404:
            return
        answer.raise_for_status()
        page = answer.json()[part] if part else answer.json()
        for item in page["items"]:
            yield item
        if page["next"] is None:
            return
        after = {"after": page["next"]}


async def _new_round(projection: httpx.AsyncClient, seed: int) -> int:
    """The first round whose first basket nobody has placed."""
    for turn in numbers(1):
        (first,) = read_baskets(seed, 1, turn)
        if (await projection.get(f"/orders/{key_of(first)}")).status_code == 404:
            return turn
    raise AssertionError("numbers do not end")


async def _rest(projection: httpx.AsyncClient, wanted: int, told: Any) -> bool:
    """Wait until every order ended or waits for somebody; False when that takes longer than PATIENCE_SECONDS."""
    resting = {"completed", "canceled", "expired", "rejected", "awaiting_stock", "awaiting_payment"}

    async def done() -> bool:
        outcomes = await _get(projection, "/outcomes")
        at_rest = sum(outcome["orders"] for outcome in outcomes if outcome["status"] in resting)
        told(at_rest)
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
    outcomes = Table("outcome", "orders", title=f"{report['new']} new orders, {report['orders_per_s']} orders/s to rest")
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
    console.print(f"The stack stays up. Look at an order: .venv/bin/oms order show {report['first']}; stop it with: make down")


if __name__ == "__main__":
    main()
