"""Baskets from channel to door on a stack of their own: real broker, real database, all seven services."""

import signal

from oms_contracts.catalogue import SERVICES
from oms_demo.__main__ import run
from oms_local.stack import Stack

from tests.topics import duplicate_events

ORDERS = 60
SEED = 7


async def test_orders_come_to_rest_and_every_audit_is_green(stack: Stack) -> None:
    report = await run(stack, SEED, ORDERS)

    assert report["at_rest"]
    assert report["new"] == ORDERS
    assert {name: audit for name, audit in report["audits"].items() if not audit["green"]} == {}
    assert sum(report["outcomes"].values()) == ORDERS
    assert report["outcomes"]["completed"] > ORDERS // 2
    assert await duplicate_events(stack) == []


async def test_the_same_orders_again_change_nothing_even_when_every_service_was_killed(stack: Stack) -> None:
    before = await run(stack, SEED, ORDERS, 1)
    for service in (*SERVICES, "projection"):
        stack.kill(service, signal.SIGKILL)
    stack.up()
    after = await run(stack, SEED, ORDERS, 1)

    assert after["new"] == 0
    assert after["outcomes"] == before["outcomes"]
    assert after["green"]
    assert await duplicate_events(stack) == []
