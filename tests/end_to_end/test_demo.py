"""The demonstration on a stack of its own, from channel to delivery: real broker, real database, all seven services."""

import signal
from typing import Any

from msgspec.structs import replace
from oms_capture.decider import MAX_REJECTIONS
from oms_client.publisher import Publisher
from oms_client.queries import poll
from oms_contracts.catalogue import ALL_SERVICES
from oms_contracts.channel import OrderPlaced
from oms_contracts.content_hash import content_hash_of
from oms_contracts.message import key_of
from oms_contracts.samples import sample
from oms_contracts.stock import ReceiveStock
from oms_contracts.values import StockLine
from oms_demo.__main__ import query_client, run
from oms_demo.responses import responses_by_user
from oms_demo.simulators import make_app
from oms_kafka.settings import settings_of
from oms_local.stack import Stack
from oms_runtime.clock import utc_now

from tests.topics import repeated_events

ORDERS = 60
SEED = 7
TIMEOUT_SECONDS = 60


async def test_every_order_reaches_its_end_and_every_audit_is_green(stack: Stack) -> None:
    report = await run(stack, SEED, ORDERS)

    assert report["at_rest"]
    assert report["new"] == ORDERS
    assert report["by_key"] > 0
    assert {name: audit for name, audit in report["audits"].items() if not audit["green"]} == {}
    assert sum(report["outcomes"].values()) == ORDERS
    assert report["outcomes"]["completed"] > ORDERS // 2
    assert await repeated_events(stack) == []


async def test_the_same_orders_again_change_nothing_even_after_every_service_was_killed(stack: Stack) -> None:
    before = await run(stack, SEED, ORDERS, 1)
    for service in ALL_SERVICES:
        stack.kill(service, signal.SIGKILL)
    stack.up()
    after = await run(stack, SEED, ORDERS, 1)

    assert after["new"] == 0
    assert after["outcomes"] == before["outcomes"]
    assert after["green"]
    assert await repeated_events(stack) == []


async def test_an_order_is_completed_although_a_flood_of_garbage_came_under_its_reference(stack: Stack) -> None:
    genuine: OrderPlaced = sample(OrderPlaced)
    garbage = [replace(genuine, total=-number) for number in range(1, MAX_REJECTIONS + 21)]
    goods = tuple(StockLine(sku=line.sku, location="BER-1", quantity=line.quantity) for line in genuine.lines)
    async with query_client(stack) as query, make_app(lambda user: settings_of(stack.kafka(user)), responses_by_user(["BER-1"])):

        async def received() -> Any:
            return await query.find(f"/stock/{goods[-1].sku}")

        async def completed() -> Any:
            found = await query.find(f"/orders/{key_of(genuine)}")
            return found if found and found["status"] == "completed" else None

        async with Publisher(settings_of(stack.kafka("warehouse:BER-1")), "/test/warehouse", utc_now) as publisher:
            await publisher.publish([ReceiveStock(receipt_id="GOODS", lines=goods)])
        assert await poll(received, TIMEOUT_SECONDS)
        async with Publisher(settings_of(stack.kafka("channel:web")), "/test/channel", utc_now) as publisher:
            await publisher.publish([*garbage, genuine, *garbage[:MAX_REJECTIONS]])
        order = await poll(completed, TIMEOUT_SECONDS)
        assert order is not None
        timeline = await query.timeline(key_of(genuine))

    assert (order["total"], order["ended_because"], order["conflicts"]) == (genuine.total, None, 0)
    assert order["payment"]["totals"]["captured"] == genuine.total
    hashes = [
        entry["data"]["content_hash"] for entry in timeline if entry["type"].startswith("oms.capture.") and "content_hash" in entry["data"]
    ]
    assert hashes == [content_hash_of(content) for content in (*garbage[:MAX_REJECTIONS], genuine)]
