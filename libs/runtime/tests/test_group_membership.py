"""When the group's consumer polls and fetches, on a real broker."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest
from oms_kafka.clients import Record
from oms_runtime.group_membership import LINGER_MIN_RECORDS, GroupMembership
from oms_runtime.records import Partition
from probe import Probe, receipt

LINGER_SECONDS = 2.0


class Batches(asyncio.Queue[tuple[float, int]]):
    """The time and the number of records of each batch that has any."""

    membership: Any


@asynccontextmanager
async def joined(probe: Probe) -> AsyncGenerator[Batches]:
    """A member of the probe's group."""
    batches = Batches()

    async def handle(batch: Sequence[Record]) -> None:
        if batch:
            batches.put_nowait((monotonic(), len(batch)))

    async def ignore(_partitions: list[Partition]) -> None: ...

    service = replace(probe.service(), linger_seconds=LINGER_SECONDS)
    membership = GroupMembership(service, probe.settings(), handle=handle, revoked=ignore, assigned=ignore, ticks=monotonic)
    batches.membership = membership
    await membership.join()
    try:
        yield batches
    finally:
        await membership.leave()


async def test_the_next_fetch_waits_after_several_records(probe: Probe) -> None:
    key = "r"  # one key, one partition: its records come in one fetch
    await probe.send([receipt(key)] * LINGER_MIN_RECORDS)
    async with asyncio.timeout(30), joined(probe) as batches:
        first_at, count = await batches.get()
        assert count == LINGER_MIN_RECORDS
        await probe.send([receipt(key)])
        second_at, count = await batches.get()
        assert second_at - first_at > 0.9 * LINGER_SECONDS

        await probe.send([receipt(key)])
        third_at, _ = await batches.get()
        assert third_at - second_at < LINGER_SECONDS  # a single record makes nothing wait


async def test_an_empty_poll_is_followed_by_the_next_at_once(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    polls, enough = 0, asyncio.Event()

    async def poll_nothing(*_: Any, **_options: Any) -> dict[Any, Any]:
        nonlocal polls
        polls += 1
        if polls == 20:
            enough.set()
        await asyncio.sleep(0)
        return {}

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", poll_nothing)
    async with joined(probe), asyncio.timeout(2):  # FastStream's own would sleep for 0.2 s after each
        await enough.wait()


async def test_leaving_while_a_fetch_waits_for_its_retry_cancels_nobody_else(probe: Probe) -> None:
    async with asyncio.timeout(30), joined(probe) as batches:
        await probe.send([receipt("r")])
        await batches.get()
        consumer: Any = batches.membership._subscriber.consumer
        client, refused = consumer._client, asyncio.Event()
        send = client.send

        async def refuse_fetches(*request: Any, **options: Any) -> Any:
            if isinstance(request[1], FetchRequest):
                refused.set()
                raise KafkaConnectionError("the broker is away")
            return await send(*request, **options)

        client.send, consumer._fetcher._retry_backoff = refuse_fetches, 60
        await refused.wait()
