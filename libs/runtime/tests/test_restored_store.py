"""A store that was restored from a backup: nothing is decided on it until the topics have given back what it lacks."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from oms_contracts.envelope import header
from oms_runtime.recovery import recover
from oms_runtime.refold import audit
from oms_runtime.runtime import Runtime
from probe import DECIDER, POISON, Booked, Probe, decide, receipt, until

TABLES = ("events", "states", "checkpoints", "relay", "dead_letters")
OLD, NEW = [f"old{n}" for n in range(50)], [f"new{n}" for n in range(150)]


def decide_once(command: Any, states: Mapping[str, Booked], now: datetime) -> Sequence[Any]:
    """As a service's decider: a command that has had its effect has none."""
    return [] if states[command.receipt_id].times else decide(command, states, now)


DECIDER_ONCE = replace(DECIDER, decide=decide_once)


async def back_up(probe: Probe) -> None:
    async with probe.session() as connection:
        for table in TABLES:
            await connection.execute(f"create table backup_{table} as table {table}")


async def restore(probe: Probe) -> None:
    """Put the store back to the backup, as a point-in-time restore does, except that sessions stay open."""
    async with probe.session() as connection, connection.transaction():
        for table in TABLES:
            columns = await connection.fetchval(
                """select string_agg(quote_ident(attname), ', ') from pg_attribute
                   where attrelid = $1::regclass and attnum > 0 and not attisdropped and attidentity = ''""",
                table,
            )
            await connection.execute(f"delete from {table}")  # noqa: S608  # names of our own alone
            await connection.execute(f"insert into {table} ({columns}) select {columns} from backup_{table}")  # noqa: S608


@asynccontextmanager
async def starting(probe: Probe) -> AsyncGenerator[Runtime]:
    """A process that may never become ready."""
    runtime = Runtime(probe.service(DECIDER_ONCE), probe.settings())
    start = asyncio.create_task(runtime.start())
    try:
        yield runtime
    finally:
        if start.done():
            await runtime.stop()
        else:
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
            runtime.database.terminate()


async def lose(probe: Probe) -> None:
    """Book all receipts, with a backup in between, and lose what came after it."""
    async with probe.running(probe.service(DECIDER_ONCE)) as runtime:
        await probe.send(map(receipt, OLD))
        await until(partial(_booked, probe, len(OLD)))
        await runtime.relay.caught_up()
        await until(partial(_checkpoints_at, probe, len(OLD)))
        await back_up(probe)
        await probe.send([*map(receipt, NEW), receipt("bad", POISON)])
        await until(partial(_booked, probe, len(OLD) + len(NEW)))
        await until(partial(_dead_letters, probe, 1))
        await runtime.relay.caught_up()
    await restore(probe)


async def test_a_process_that_starts_on_a_restored_store_refuses_until_it_is_recovered(probe: Probe) -> None:
    await lose(probe)
    async with starting(probe) as runtime:
        await until(partial(_says, runtime, "the store ends at position 50, but position 201"))
        assert await runtime.alive()
        await probe.send([receipt("while-away")])
        assert await probe.ask("select count(*) from events") == len(OLD)

        settings = probe.settings()
        report = await recover(probe.service(DECIDER_ONCE), settings, dry_run=True)
        assert (report["events_missing"], report["events_recovered"], report["agrees"]) == (151, 0, False)
        report = await recover(probe.service(DECIDER_ONCE), settings, dry_run=False)
        assert (report["events_recovered"], report["positions_nowhere"], report["agrees"]) == (151, 0, True)

        await until(partial(_booked, probe, len(OLD) + len(NEW) + 1))
        await until(partial(_dead_letters, probe, 1))  # its record is read again, and set aside again
    await probe.check_booked_once([*OLD, *NEW, "while-away"])
    async with probe.session() as connection:
        assert await audit(connection, DECIDER_ONCE) == []
    published = [record for records in (await probe.read(probe.outbox)).values() for record in records]
    assert len(published) == len(OLD) + len(NEW) + 1
    epochs = {int(header(record.headers, "ce_position") or 0): header(record.headers, "ce_storeepoch") or "" for record in published}
    before, after = epochs[1], await probe.ask("select epoch from relay")
    assert "" < before < after
    assert {position for position, epoch in epochs.items() if epoch == after} == {max(epochs)}
    assert set(epochs.values()) == {before, after}


async def test_a_running_process_stops_deciding_when_its_store_is_restored(probe: Probe) -> None:
    async with probe.running(probe.service(DECIDER_ONCE)) as runtime:
        await probe.send(map(receipt, OLD))
        await until(partial(_booked, probe, len(OLD)))
        await runtime.relay.caught_up()
        await back_up(probe)
        await probe.send(map(receipt, NEW))
        await until(partial(_booked, probe, len(OLD) + len(NEW)))
        await runtime.relay.caught_up()
        await until(partial(_relayed, probe, len(OLD) + len(NEW)))
        await restore(probe)
        async with probe.session() as connection:  # a restore ends all sessions
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            )
        await probe.send([receipt("while-away")])
        await until(partial(_says, runtime, "the store ends at position 50, but position 200"))
        assert await probe.ask("select count(*) from events") == len(OLD)

        report = await recover(probe.service(DECIDER_ONCE), probe.settings(), dry_run=False)
        assert (report["events_recovered"], report["agrees"]) == (150, True)
        await until(partial(_booked, probe, len(OLD) + len(NEW) + 1))
        await until(partial(_ready, runtime))
    await probe.check_booked_once([*OLD, *NEW, "while-away"])


async def test_nothing_is_recovered_while_a_process_leads(probe: Probe) -> None:
    async with probe.running() as runtime:
        await runtime.relay.caught_up()
        with pytest.raises(RuntimeError, match="leads"):
            await recover(probe.service(), probe.settings(), dry_run=False)


async def _says(runtime: Runtime, text: str) -> bool:
    return any(text in reason for reason in await runtime.unready())


async def _ready(runtime: Runtime) -> bool:
    return await runtime.unready() == []


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _checkpoints_at(probe: Probe, offsets: int) -> bool:
    return await probe.ask("select coalesce(sum(next_offset), 0) from checkpoints") == offsets


async def _relayed(probe: Probe, position: int) -> bool:
    return await probe.ask("select position from relay") == position


async def _dead_letters(probe: Probe, count: int) -> bool:
    return await probe.ask("select count(*) from dead_letters") == count
