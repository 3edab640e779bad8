"""Two processes of one service: whichever is paused or killed, every record has exactly one effect, and every event is told once."""

from functools import partial

from probe import PARTITIONS, Probe, Process, receipt, until

RECORDS = 500


async def test_who_was_paused_beyond_its_session_or_killed_is_replaced(probe: Probe) -> None:
    keys = [f"r{n}" for n in range(3 * RECORDS)]
    first = probe.start(batch_records=10)
    await until(first.ready)

    # Paused between two batches, with more of them in memory. It was the leader, too.
    await probe.send(map(receipt, keys[:RECORDS]))
    await until(partial(_paused_between_batches, probe, first))
    assert await probe.booked() < RECORDS
    second = probe.start(batch_records=10)
    await until(partial(_leads, second))
    await until(partial(_booked, probe, RECORDS))
    first.resume()
    await until(partial(_shares, first, 2))

    # Paused inside a transaction.
    async with probe.store_held():
        await probe.send(map(receipt, keys[RECORDS : 2 * RECORDS]))
        await until(partial(_wait_for_store, probe, 2))
        second.pause()
    await until(partial(_booked, probe, 2 * RECORDS))
    shared = len(second.logged("assigned"))
    second.resume()
    await until(partial(_shares, second, shared + 1))

    # Killed inside a transaction.
    async with probe.store_held():
        await probe.send(map(receipt, keys[2 * RECORDS :]))
        await until(partial(_wait_for_store, probe, 2))
        first.kill()
    await until(partial(_booked, probe, 3 * RECORDS))

    await probe.check_booked_once(keys)
    await probe.check_told_once()


async def _paused_between_batches(probe: Probe, process: Process) -> bool:
    process.pause()
    working = await probe.ask(
        """select exists (select from pg_stat_activity
                          where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null)"""
    )
    if not working and await probe.booked():
        return True
    process.resume()
    return False


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _wait_for_store(probe: Probe, count: int) -> bool:
    return await probe.waiting_for_store() == count


async def _leads(process: Process) -> bool:
    return bool(process.logged("leading"))


async def _shares(process: Process, times: int) -> bool:
    """Whether it was assigned partitions so many times, and has half of them now."""
    assigned = process.logged("assigned")
    return len(assigned) >= times and assigned[-1]["partitions"] == PARTITIONS // 2
