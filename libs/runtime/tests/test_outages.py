"""The broker or the database goes away under load and comes back: nothing is lost, nothing twice, nothing set aside, nobody killed.

For three seconds, or as many as OMS_TEST_OUTAGE_SECONDS says: `make test-outages`.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import monotonic

import pytest
from oms_local.testing import Servers
from probe import Probe, Process, receipt, until

pytestmark = pytest.mark.alone

SECONDS = float(os.environ.get("OMS_TEST_OUTAGE_SECONDS", "3"))
RECOVERY = 15
"""Seconds after a server is back, within which all is as before."""
KEYS = [f"r{n}" for n in range(3_000)]


@pytest.mark.parametrize("part", ["kafka", "postgres"])
async def test_an_outage_loses_and_doubles_nothing(probe: Probe, servers: Servers, part: str) -> None:
    process = await _at_work(probe)
    async with always_alive(process):
        async with AsyncExitStack() as outage:
            async with probe.store_held():  # so that a batch is in hand, and many are waiting
                await probe.send(map(receipt, KEYS[1:2_000]))
                await until(partial(_batch_in_hand, probe))
                await outage.enter_async_context(away(servers, part))
            late = probe.start()
            over = monotonic() + SECONDS
            if part == "postgres":
                await probe.send(map(receipt, KEYS[2_000:]))
            await until(partial(_waits, late))
            async with always_alive(late):
                await until(partial(_passed, over), SECONDS + 5)
                assert await _waits(late)
        if part == "kafka":
            await probe.send(map(receipt, KEYS[2_000:]))
        await until(partial(_booked, probe), RECOVERY)
        await until(process.ready, RECOVERY)
        await until(late.ready, RECOVERY)
        await probe.check_published_once()

    await probe.check_booked_once(KEYS)
    assert await probe.ask("select count(*) from dead_letters") == 0
    assert process.exit_code is None
    assert late.exit_code is None


@pytest.mark.parametrize("part", ["kafka", "postgres"])
async def test_a_process_stops_during_an_outage(probe: Probe, servers: Servers, part: str) -> None:
    process = await _at_work(probe)
    async with AsyncExitStack() as outage:
        async with probe.store_held():
            await probe.send(map(receipt, KEYS[1:]))
            await until(partial(_batch_in_hand, probe))
            await outage.enter_async_context(away(servers, part))
        process.terminate()
        await until(process.ended)
    assert process.exit_code == 0


async def _at_work(probe: Probe) -> Process:
    process = probe.start(batch_records=20)
    await until(process.ready)
    await probe.send([receipt(KEYS[0])])
    await until(partial(_published, probe))
    return process


@asynccontextmanager
async def away(servers: Servers, part: str) -> AsyncGenerator[None]:
    """A server is not there meanwhile."""
    if servers.stack is None:
        pytest.skip("these servers are not ours to stop")  # somebody else's, by KAFKA_BOOTSTRAP_SERVERS: never so in .ci/run
    await asyncio.to_thread(servers.stack.stop_part, part)
    try:
        yield
    finally:
        await asyncio.to_thread(servers.stack.start_part, part)


@asynccontextmanager
async def always_alive(process: Process) -> AsyncGenerator[None]:
    """Fail if a liveness probe ever found it not alive."""
    found: set[int | None] = set()

    async def look() -> None:
        answer = await process.get("/live")
        found.add(answer.status_code if answer is not None else None)

    async def go_on_looking() -> None:
        while True:
            await look()
            await asyncio.sleep(0.1)  # as often as a probe may ask: it ends with the outage

    await look()
    looking = asyncio.create_task(go_on_looking())
    try:
        yield
    finally:
        looking.cancel()
    assert found == {200}


async def _batch_in_hand(probe: Probe) -> bool:
    return await probe.waiting_for_store() > 0


async def _waits(process: Process) -> bool:
    answer = await process.get("/ready")
    return answer is not None and answer.json()["reasons"][:1] == ["starting, or waiting for the database or the broker"]


async def _passed(moment: float) -> bool:
    return monotonic() >= moment


async def _published(probe: Probe) -> bool:
    return await probe.published() > 0


async def _booked(probe: Probe) -> bool:
    return await probe.booked() == len(KEYS)
