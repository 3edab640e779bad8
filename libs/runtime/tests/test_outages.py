"""The broker or the database goes away under load and comes back: nothing is lost, nothing twice, nothing set aside, nobody killed.

For three seconds, or as many as OMS_TEST_OUTAGE_SECONDS says: `make test-outages`.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic

import pytest
from oms_local.testing import Servers
from probe import Probe, Process, receipt, until

SECONDS = float(os.environ.get("OMS_TEST_OUTAGE_SECONDS", "3"))
RECOVERY = 15
"""Seconds after a server is back, within which all is as before."""
KEYS = [f"r{n}" for n in range(3_000)]


@pytest.mark.parametrize("part", ["kafka", "postgres"])
async def test_an_outage_passes_without_a_trace(probe: Probe, servers: Servers, part: str) -> None:
    stack = servers.stack
    if stack is None:
        pytest.skip("these servers are not ours to stop")
    process = probe.start(batch_records=20)
    await until(process.ready)
    async with always_alive(process):
        async with probe.store_held():  # so that a batch is in hand, and many are waiting
            await probe.send(map(receipt, KEYS[:2_000]))
            await until(partial(_batch_in_hand, probe))
            await asyncio.to_thread(stack.stop_part, part)
        late = probe.start()
        over = monotonic() + SECONDS
        if part == "postgres":
            await probe.send(map(receipt, KEYS[2_000:]))
        await until(partial(_passed, over), SECONDS + 5)
        assert not late.logged("started")
        await asyncio.to_thread(stack.start_part, part)
        if part == "kafka":
            await probe.send(map(receipt, KEYS[2_000:]))
        await until(partial(_booked, probe), RECOVERY)
        await until(process.ready, RECOVERY)
        await until(late.ready, RECOVERY)
        await probe.check_told_once()

    await probe.check_booked_once(KEYS)
    assert await probe.ask("select count(*) from dead_letters") == 0
    assert process.exit_code is None
    assert late.exit_code is None


@pytest.mark.parametrize("part", ["kafka", "postgres"])
async def test_who_is_told_to_end_meanwhile_ends(probe: Probe, servers: Servers, part: str) -> None:
    stack = servers.stack
    if stack is None:
        pytest.skip("these servers are not ours to stop")
    process = probe.start(batch_records=20)
    await until(process.ready)
    async with probe.store_held():
        await probe.send(map(receipt, KEYS))
        await until(partial(_batch_in_hand, probe))
        await asyncio.to_thread(stack.stop_part, part)
    process.terminate()
    try:
        await until(process.ended)
        assert process.exit_code == 0
    finally:
        await asyncio.to_thread(stack.start_part, part)


@asynccontextmanager
async def always_alive(process: Process) -> AsyncGenerator[None]:
    """Fail when it was ever found not to be alive, by who would end it for that."""
    found: set[int | None] = set()

    async def look() -> None:
        while True:
            answer = await process.get("/live")
            found.add(answer.status_code if answer is not None else None)
            await asyncio.sleep(0.1)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
    assert found == {200}


async def _batch_in_hand(probe: Probe) -> bool:
    return await probe.waiting_for_store() > 0


async def _passed(moment: float) -> bool:
    return monotonic() >= moment


async def _booked(probe: Probe) -> bool:
    return await probe.booked() == len(KEYS)
