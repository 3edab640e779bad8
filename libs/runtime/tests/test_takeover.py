"""Two processes of one service: whichever is paused or killed, every record has exactly one effect, and every event is published once."""

from functools import partial

from probe import PARTITIONS, Probe, Process, receipt, until

RECORDS = 500


async def test_a_process_that_is_paused_beyond_its_session_or_killed_is_replaced(probe: Probe) -> None:
    keys: list[str] = []
    first = probe.start(batch_records=10)
    await until(first.ready)

    # Paused between two batches, with more of them in memory. It was the leader, too.
    await until(partial(_paused_between_batches, probe, first, keys))
    second = probe.start(batch_records=10)
    await until(partial(_leads, second))
    await until(partial(_booked, probe, keys))
    first.resume()
    await until(partial(_shares, first, 2))

    # Paused inside a transaction.
    async with probe.store_held():
        await _send_more(probe, keys)
        await until(partial(_wait_for_store, probe, 2))
        second.pause()
    await until(partial(_booked, probe, keys))
    shared = len(second.logged("assigned"))
    second.resume()
    await until(partial(_shares, second, shared + 1))

    # Killed inside a transaction.
    async with probe.store_held():
        await _send_more(probe, keys)
        await until(partial(_wait_for_store, probe, 2))
        first.kill()
    await until(partial(_booked, probe, keys))

    await probe.check_booked_once(keys)
    await probe.check_published_once()


async def _send_more(probe: Probe, keys: list[str]) -> None:
    more = [f"r{number}" for number in range(len(keys), len(keys) + RECORDS)]
    keys += more
    await probe.send(map(receipt, more))


async def _paused_between_batches(probe: Probe, process: Process, keys: list[str]) -> bool:
    """Pause it. Go on when that was inside a transaction, or found nothing left to do: there is more to do then."""
    process.pause()
    working = await probe.ask(
        """select exists (select from pg_stat_activity
                          where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null)"""
    )
    booked = await probe.booked()
    if not working and 0 < booked < len(keys):
        return True
    process.resume()
    if booked == len(keys):
        await _send_more(probe, keys)
    return False


async def _booked(probe: Probe, keys: list[str]) -> bool:
    return await probe.booked() == len(keys)


async def _wait_for_store(probe: Probe, count: int) -> bool:
    return await probe.waiting_for_store() == count


async def _leads(process: Process) -> bool:
    return bool(process.logged("leading"))


async def _shares(process: Process, times: int) -> bool:
    """Whether it was assigned partitions so many times, and has half of them now."""
    assigned = process.logged("assigned")
    return len(assigned) >= times and assigned[-1]["partitions"] == PARTITIONS // 2
