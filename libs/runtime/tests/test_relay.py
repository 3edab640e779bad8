"""Every committed event is on its topic exactly once, in order, wherever its process died."""

from functools import partial

from oms_runtime.relay import MOST
from probe import Probe, receipt, until

ROUNDS = 4


async def test_death_between_commit_and_publish_and_between_publish_and_its_record(probe: Probe) -> None:
    keys = [f"r{n}" for n in range(ROUNDS * MOST)]
    process = probe.start()
    await until(process.ready)
    async with probe.relay_held():
        await probe.send(map(receipt, keys))
        await until(partial(_told, probe, 1))
        await until(partial(_booked, probe, len(keys)))
        process.kill()
    told = await probe.told()
    assert 0 < told < len(keys)
    assert await probe.ask("select position from relay") == 0

    # And wherever it is when so many more are on the topics.
    while told < (ROUNDS - 1) * MOST:
        process = probe.start()
        await until(partial(_told, probe, told + 1))
        process.kill()
        told = await probe.told()
    probe.start()

    await probe.check_told_once()
    await probe.check_booked_once(keys)


async def _told(probe: Probe, least: int) -> bool:
    return await probe.told() >= least


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count
