"""`python -m oms_demo`: a week of baskets from order to delivery, and the audits."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from oms_client.errors import NotFound
from oms_client.publisher import Publisher
from oms_client.queries import QueryClient, order_path, poll
from oms_contracts.catalogue import SERVICES
from oms_contracts.channel import OrderPlaced
from oms_contracts.message import key_of
from oms_contracts.orders import ENDED_STATUSES, WAITING_STATUSES
from oms_contracts.parties import user_of
from oms_contracts.stock import ReceiveStock
from oms_kafka.settings import settings_of
from oms_local.stack import Stack, StackError, StackSettings
from oms_runtime.clock import utc_now
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from oms_demo.baskets import CHANNELS, read_baskets, stock_for
from oms_demo.files import FILED_CHANNEL, place_by_file
from oms_demo.gateway import KEY_CHANNEL, place_by_key, sign_in_of
from oms_demo.responses import CARRIER, LOCATIONS
from oms_demo.shops import deliver, deliveries_of, is_of_a_shop
from oms_demo.simulators import make_app

TIMEOUT_SECONDS = 600
PARTIES = (
    *(user_of("channel", channel) for channel in CHANNELS),
    *(user_of("warehouse", location) for location in LOCATIONS),
    user_of("carrier", CARRIER),
)
"""The broker users of everybody outside. They are there before the services start, which need not look for their topics then."""
SHORT_LOOK_UP = {"OMS_LOOK_UP_AFTER": "PT0.5S", "OMS_LOOK_UP_AT_MOST": "PT2S"}
"""The outcome of a few payments comes late. Payment looks it up sooner than with a real provider, or the run would end with waiting."""


def main() -> None:
    """Run the demonstration; the exit status is 1 when an audit is not green or the orders do not come to rest."""
    parser = argparse.ArgumentParser(
        prog="python -m oms_demo",
        description="Place a week of baskets as channels and shops do, have simulators ship and deliver them, and audit the outcome.",
        epilog="example: python -m oms_demo --orders 200 --json report.json",
    )
    parser.add_argument("--orders", type=int, help="the first N baskets only (default: all 2,932)")
    parser.add_argument("--seed", type=int, default=1, help="for what the data does not have")
    parser.add_argument("--round", type=int, help="place the baskets under the references of this round (default: the first that is new)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the report as JSON there too")
    chosen = parser.parse_args()
    if chosen.orders is not None and chosen.orders < 1:
        parser.error(f"--orders: must be at least 1, is {chosen.orders}")
    stack = Stack(StackSettings.from_environment())
    try:
        stack.up(services=())
        for user in PARTIES:
            stack.kafka(user)
        stack.up(environment=SHORT_LOOK_UP)
    except StackError as error:
        sys.exit(f"error: {error}")
    report = asyncio.run(run(stack, chosen.seed, chosen.orders, chosen.round))
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
    show(report, stack, Console())
    sys.exit(0 if report["green"] else 1)


async def run(stack: Stack, seed: int, max_orders: int | None, round_number: int | None = None) -> dict[str, Any]:
    """Seed stock, publish the baskets, simulate until all orders rest, audit; returns the report.

    `round_number` is the round whose references the orders bear; None takes the first that the stack does not know yet.
    """
    with Progress(console=Console(stderr=True)) as progress:
        async with query_client(stack) as query:
            known = {order["order_id"] async for order in query.items("/orders")}
            orders = list(read_baskets(seed, max_orders, round_number or await _new_round(query, seed)))
            new_ids = {key_of(order) for order in orders} - known
            receipts = list(stock_for(orders, seed))
            task = progress.add_task("receiving stock", total=len(receipts))
            for location in LOCATIONS:
                async with Publisher(settings_of(stack.kafka(user_of("warehouse", location))), "/demo/warehouse", utc_now) as publisher:
                    booked = [receipt for receipt in receipts if receipt.lines[0].location == location]
                    await publisher.publish(booked, lambda count: progress.advance(task, count))
            await _until(lambda: _booked(query, receipts))
            async with make_app(lambda user: settings_of(stack.kafka(user))):
                task = progress.add_task("placing orders", total=len(orders))
                began = monotonic()
                rejected = await _place(stack, orders, seed, partial(progress.advance, task))
                new_ids -= rejected
                task = progress.add_task("orders at rest", total=len(new_ids))
                rests = await _rest(query, len(known) + len(new_ids), partial(_show, progress, task, len(known)))
                seconds = monotonic() - began
            facts = {
                "orders": len(orders),
                "first": f"{orders[0].channel}/{orders[0].channel_reference}",
                "new": len(new_ids),
                "known_before": len(known),
                "by_file": sum(order.channel == FILED_CHANNEL for order in orders),
                "by_key": sum(order.channel == KEY_CHANNEL for order in orders),
                "rejected_by_import": len(rejected),
                "seconds": round(seconds, 1),
                "orders_per_s": round(len(new_ids) / seconds, 1),
                "at_rest": rests,
            }
            return await _report(stack, query, facts)


async def _place(stack: Stack, orders: Sequence[OrderPlaced], seed: int, on_placed: Callable[[int], None]) -> set[str]:
    """Orders of the shops come by webhook, those of one channel by file, those of another by a key through the gateway, all others on their
    channels' own topics.

    Returns the ids of those that the import refused.
    """
    shops = stack.shops()
    webhooks = [list(deliveries_of(order, shops[order.channel], seed)) for order in orders if is_of_a_shop(order, shops)]
    others = [order for order in orders if not is_of_a_shop(order, shops)]
    url = f"http://127.0.0.1:{stack.settings.http_port_of('gateway')}"
    direct = {order.channel for order in others} - {KEY_CHANNEL}
    async with AsyncExitStack() as connected, asyncio.TaskGroup() as group:
        publishers = {
            channel: await connected.enter_async_context(
                Publisher(settings_of(stack.kafka(user_of("channel", channel))), f"/demo/{channel}", utc_now)
            )
            for channel in sorted(direct | {FILED_CHANNEL})
        }
        group.create_task(deliver(url, webhooks, on_placed))  # it ends before the block does
        group.create_task(place_by_key(stack, [order for order in others if order.channel == KEY_CHANNEL], on_placed))
        for channel in direct - {FILED_CHANNEL}:
            await publishers[channel].publish([order for order in others if order.channel == channel], on_placed)
        filed = [order for order in others if order.channel == FILED_CHANNEL]
        rejected = await place_by_file(stack.settings.data / "files", filed, publishers[FILED_CHANNEL].publish, on_placed)
    return rejected


def query_client(stack: Stack) -> QueryClient:
    """A client of the stack's query API."""
    return QueryClient(stack.query_url(), token=stack.query_token())


def _show(progress: Progress, task: TaskID, before: int, at_rest: int) -> None:
    progress.update(task, completed=at_rest - before)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `holds` is true. Raises TimeoutError."""

    async def ask() -> bool | None:
        return await holds() or None

    if await poll(ask, TIMEOUT_SECONDS) is None:
        raise TimeoutError


async def _booked(query: QueryClient, receipts: Sequence[ReceiveStock]) -> bool:
    """Whether all receipts are booked: orders placed before that would find nothing in stock."""
    for receipt in receipts:
        try:
            ledger = await query.collect(f"/stock/{receipt.lines[-1].sku}", within="ledger")
        except NotFound:
            return False
        if receipt.receipt_id not in {entry["reference"] for entry in ledger}:
            return False
    return True


async def _new_round(query: QueryClient, seed: int) -> int:
    """The first round whose first basket is not placed yet."""
    for number in count(1):
        (first,) = read_baskets(seed, 1, number)
        if await query.find(order_path(key_of(first))) is None:
            return number
    raise AssertionError("numbers do not end")


async def _rest(query: QueryClient, wanted: int, on_progress: Callable[[int], None]) -> bool:
    """Wait until every order ended or waits for a person; False when that takes longer than TIMEOUT_SECONDS."""
    resting = ENDED_STATUSES | {*WAITING_STATUSES.values()}

    async def done() -> bool:
        outcomes = await query.get("/outcomes")
        at_rest = sum(outcome["orders"] for outcome in outcomes if outcome["status"] in resting)
        on_progress(at_rest)
        return at_rest >= wanted and at_rest == sum(outcome["orders"] for outcome in outcomes)

    with suppress(TimeoutError):
        await _until(done)
        return True
    return False


async def audits_of(stack: Stack, query: QueryClient) -> dict[str, dict[str, Any]]:
    """What must always hold, by name: whether it holds now (`green`), and what violates it."""
    audits: dict[str, dict[str, Any]] = {
        "1 every order ends or waits with a deadline": await query.get("/audits/orders?settle_seconds=0"),
        "2 stock adds up": await query.get("/audits/stock?settle_seconds=0"),
        "3 money adds up": await query.get("/audits/money?settle_seconds=0"),
    }
    async with httpx.AsyncClient(timeout=120) as client:
        refolded = [
            (await client.get(f"http://127.0.0.1:{stack.settings.operations_port_of(service)}/audit")).json() for service in SERVICES
        ]
    audits["4 every state is what its events fold to"] = {"green": all(audit["ok"] for audit in refolded), "services": refolded}
    audits["4 rebuilt read models are the same"] = await _rebuilt(stack)
    return audits


async def _report(stack: Stack, query: QueryClient, facts: dict[str, Any]) -> dict[str, Any]:
    audits = await audits_of(stack, query)
    return facts | {
        "outcomes": {outcome["status"]: outcome["orders"] for outcome in await query.get("/outcomes")},
        "rejections": await query.get("/rejections"),
        "audits": audits,
        "green": facts["at_rest"] and all(audit["green"] for audit in audits.values()),
    }


async def _rebuilt(stack: Stack) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oms_projection", "read-models", "verify", env=stack.environment("projection"), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return {"green": process.returncode == 0, "comparison": json.loads(out) if out else None}


def show(report: dict[str, Any], stack: Stack, console: Console) -> None:
    """The report for people."""
    outcomes = Table("outcome", "orders", title=f"{report['new']} new orders, {report['orders_per_s']} orders/s to rest")
    for status, orders in sorted(report["outcomes"].items(), key=lambda pair: -pair[1]):
        outcomes.add_row(status, str(orders))
    rejections = Table("rejected for", "orders", title="Rejections")
    for row in report["rejections"]:
        rejections.add_row(str(row.get("field", row)), str(row.get("orders", "")))
    audits = Table("audit", "result", title="What must always hold")
    for name, audit in report["audits"].items():
        audits.add_row(name, "[green]green[/]" if audit["green"] else "[red]NOT GREEN[/]")
    for table in (outcomes, rejections, audits):
        console.print(table)
    console.print(f"{report['by_file']} orders came by file; rejected before they were published: {report['rejected_by_import']}")
    console.print(f"{report['by_key']} orders came through the gateway, by a key of their channel")
    sign_in = sign_in_of(stack)
    console.print(f"The API: {sign_in.url}/docs; sign in there as {sign_in.name} with the password in {sign_in.file}", soft_wrap=True)
    console.print(f"The stack stays up. Look at an order: .venv/bin/oms order show {report['first']}; stop it with: make down")


if __name__ == "__main__":
    main()
