"""Baskets from channel to door on a stack of their own: real broker, real database, all seven services."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from oms_contracts.catalogue import PARTITIONS, SERVICES, TOPICS
from oms_contracts.envelope import header
from oms_demo.__main__ import run
from oms_local.ports import find_free
from oms_local.stack import Stack, StackSettings
from oms_runtime.kafka import make_reader
from oms_runtime.outside import settings_of

ORDERS = 60
SEED = 7


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    data: Path = tmp_path_factory.mktemp("stack")
    first = find_free(2 + 7)
    made = Stack(StackSettings(data=data, kafka_port=first, postgres_port=first + 1, http_port=first + 2))
    made.up(environment={"OMS_LOOK_UP_AFTER": "PT0.2S", "OMS_LOOK_UP_AT_MOST": "PT1S"}, owner=os.getpid())
    yield made
    made.down()


async def test_orders_come_to_rest_and_every_audit_is_green(stack: Stack) -> None:
    report = await run(stack, SEED, ORDERS)

    assert report["at_rest"]
    assert report["new"] == ORDERS
    assert {name: audit for name, audit in report["audits"].items() if not audit["green"]} == {}
    assert sum(report["outcomes"].values()) == ORDERS
    assert report["outcomes"]["completed"] > ORDERS // 2
    assert await _told_twice(stack) == []


async def test_the_same_orders_again_change_nothing_even_when_every_service_was_killed(stack: Stack) -> None:
    before = await run(stack, SEED, ORDERS, 1)
    for service in (*SERVICES, "projection"):
        stack.kill(service, signal.SIGKILL)
    stack.up()
    after = await run(stack, SEED, ORDERS, 1)

    assert after["new"] == 0
    assert after["outcomes"] == before["outcomes"]
    assert after["green"]
    assert await _told_twice(stack) == []


async def _told_twice(stack: Stack) -> list[tuple[str, str, str]]:
    """Topic, source and position of every event that is on a topic more than once."""
    reader = make_reader(settings_of(stack.kafka("operator")), "test-told-twice")
    await reader.start()
    try:
        partitions = [TopicPartition(topic.name, number) for topic in TOPICS for number in range(PARTITIONS)]
        reader.assign(partitions)
        ends = {tp: end for tp, end in (await reader.end_offsets(partitions)).items() if end}
        seen: Counter[tuple[str, str, str]] = Counter()
        while ends:
            for tp, records in (await reader.getmany(*ends, timeout_ms=200)).items():
                for record in records:
                    source, position = header(record.headers, "ce_source"), header(record.headers, "ce_position")
                    if source and position:
                        seen[record.topic, source, position] += 1
                if records and records[-1].offset + 1 >= ends[tp]:
                    del ends[tp]
        assert seen
        return [event for event, times in seen.items() if times > 1]
    finally:
        await reader.stop()
