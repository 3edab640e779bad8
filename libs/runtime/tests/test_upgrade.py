"""A new state version comes into use while the service works: nothing is lost or doubled, and no older process turns it back."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count
from time import monotonic

import pytest
from oms_contracts.message import encode, type_of
from oms_contracts.stock import StockReceived
from oms_contracts.values import StockLine
from oms_runtime.apply import Applier
from oms_runtime.clock import Clock
from oms_runtime.database import Database, connect, migrate, open_database
from oms_runtime.errors import StateVersionMismatch
from oms_runtime.metrics import Metrics
from oms_runtime.refold import MAX_EVENTS_LEFT_AT_SWAP, audit, build_states
from oms_runtime.runtime import Runtime
from probe import DECIDERS, EXPIRING, POISON, WEIGHED, Booked, Counted, Probe, Process, receipt, until

KEYS = [f"r{n}" for n in range(100)]
NEWER = DECIDERS[2]


async def test_a_raised_state_version_builds_all_states_anew(probe: Probe) -> None:
    async with probe.running():
        await probe.send([receipt(key, EXPIRING if n % 2 else "item") for n, key in enumerate(KEYS)])
        await probe.send([receipt("bad", POISON)])
        await until(partial(probe.ask, "select count(*) = 151 from events"))  # one of two expired, and a dead letter

    async with probe.running(probe.service(NEWER)) as runtime:
        await _check_states(probe)
        found = {row["state"] for row in await runtime.database.fetch("select distinct state from states")}
        assert found == {encode(Counted(1, 0)).decode(), encode(Counted(1, 1)).decode()}
        assert await probe.ask("select count(*) from states where due_at is not null") == 0
        await probe.send([receipt(KEYS[0])])
        await until(partial(_state, probe, KEYS[0], Counted(2, 0)))


async def test_a_process_that_is_replaced_leaves_its_partitions_and_the_leadership_to_the_newer_version(probe: Probe) -> None:
    older, newer = Runtime(probe.service(), probe.settings()), Runtime(probe.service(NEWER), probe.settings())
    await older.start()
    try:
        await probe.send(map(receipt, KEYS))
        await until(partial(_booked, probe, len(KEYS)))
        await newer.start()
        try:
            reason = "the stored states have version 2, of newer code; this process has version 1, and does nothing"
            assert await older.unready() == [reason]
            await probe.send(map(receipt, KEYS))
            await until(partial(_booked, probe, 2 * len(KEYS)))
            await until(partial(_leads_alone, newer, older))
            assert await older.alive()
            assert await older.unready() == [reason]
            assert await newer.unready() == []
        finally:
            await newer.stop()
    finally:
        await older.stop()

    assert await probe.ask("select count(*) from dead_letters") == 0
    assert await probe.ask("select count(distinct state) from states") == 1
    assert await _state(probe, KEYS[0], Counted(2, 0))


async def test_an_older_version_does_nothing_where_a_newer_one_has_been_until_an_operator_has_the_states_built_anew(probe: Probe) -> None:
    newer = probe.start(state_version=2)
    await until(newer.ready)
    older = probe.start(state_version=1)
    await until(partial(_unready, older, "the stored states have version 2, of newer code; this process has version 1, and does nothing"))

    await probe.send(map(receipt, KEYS))
    await until(partial(_booked, probe, len(KEYS)))
    assert await newer.ready()
    live = await older.get("/live")
    assert live is not None
    assert live.status_code == 200
    assert not older.logged("assigned")
    assert not older.logged("refolded")
    assert await _state(probe, KEYS[0], Counted(1, 0))

    newer.terminate()
    await until(newer.ended)
    assert not await older.ready()
    async with probe.session() as connection:
        await connection.execute("update rules set fold = null")
    await until(older.ready)
    await probe.send([receipt("last")])
    await until(partial(_booked, probe, len(KEYS) + 1))
    await _check_states(probe, 1)


async def test_a_leader_performs_no_effect_that_the_states_of_another_version_ask_for(probe: Probe) -> None:
    async with probe.running() as older:
        await until(partial(_leads, older))
        async with probe.session() as connection, connection.transaction():
            await connection.execute("update rules set fold = 2")
            state = encode(Booked(1, WEIGHED, datetime.now(UTC))).decode()
            await connection.execute("insert into states (key, version, due_at, state) values ('r', 1, now(), $1)", state)
        await until(partial(_leads_no_more, older))
        assert await probe.ask("select count(*) from weighings") == 0


async def test_an_audit_accuses_no_state_of_another_version(probe: Probe) -> None:
    process = probe.start()
    await until(process.ready)
    await probe.send(map(receipt, KEYS))
    await until(partial(_booked, probe, len(KEYS)))
    async with probe.session() as connection:
        with pytest.raises(StateVersionMismatch):
            await audit(connection, NEWER)
        await connection.execute("update rules set fold = 2")
    found = await process.get("/audit")
    assert found is not None
    assert found.status_code == 503
    assert "version 2" in found.text


@pytest.mark.alone
async def test_a_build_makes_writers_wait_for_less_than_a_second(probe: Probe) -> None:
    events = 100_000
    await _store_events(probe, events, keys=50_000)
    async with _database(probe) as database:
        applier = Applier(probe.service(), database, Metrics(), Clock())
        writing = asyncio.create_task(_write_until_replaced(applier))
        assert await _build(probe)
        written, longest_seconds = await writing

        assert written > 10
        assert longest_seconds < 1
        assert await probe.ask("select count(*) from events") == events + written
        assert await probe.ask("select count(*) from states") == 50_000 + written
        assert await _state(probe, "new1", Counted(1, 0))
        assert await _state(probe, f"new{written}", Counted(1, 0))
        assert await probe.ask("select count(*) from states_next") == 0
        await _check_states(probe)


async def test_a_build_waits_for_a_reader_of_the_states_without_making_writers_wait(probe: Probe) -> None:
    await _store_events(probe, 1_000, keys=1_000)
    async with _database(probe) as database:
        applier = Applier(probe.service(), database, Metrics(), Clock())
        async with probe.session() as reader, reader.transaction():
            await reader.execute("select count(*) from states")
            writing = asyncio.create_task(_write_until_replaced(applier))
            building = asyncio.create_task(_build(probe))
            await until(partial(probe.ask, "select count(*) > $1 from events", 1_000 + MAX_EVENTS_LEFT_AT_SWAP // 10))
            assert not building.done()
        assert await building
        _, longest_seconds = await writing
        assert longest_seconds < 1
        await _check_states(probe)


async def test_a_build_that_is_killed_is_continued_and_two_processes_that_start_together_build_once(probe: Probe) -> None:
    events = 100_000
    await _store_events(probe, events, keys=events, published=True)
    killed = probe.start(state_version=2)
    await until(partial(probe.ask, "select position > 0 from states_build"))
    async with probe.session() as connection, connection.transaction():
        await connection.execute("select from states_build for update")  # no chunk can be committed meanwhile
        await until(partial(_unready, killed, "states are being built: "))
        killed.kill()
        stopped = probe.start(state_version=2)
        await until(partial(_unready, stopped, "states are being built: "))
        stopped.terminate()
        await until(stopped.ended)
        assert stopped.exit_code == 0
    assert await probe.ask("select fold from rules") == 1
    done = await probe.ask("select position from states_build where state_version = 2")
    assert done == await probe.ask("select count(*) from states_next")

    together = [probe.start(state_version=2), probe.start(state_version=2)]
    await until(partial(_all_ready, together), 60)

    (line,) = [line for process in together for line in process.logged("refolded")]
    assert line["events"] == events - done
    await _check_states(probe)


async def test_a_rolling_upgrade_under_load_loses_nothing_and_the_service_works_throughout(probe: Probe) -> None:
    before = 30_000
    await _store_events(probe, before, keys=before)
    old = [probe.start(state_version=1), probe.start(state_version=1)]
    await until(partial(_all_ready, old))
    stop = asyncio.Event()
    sending = asyncio.create_task(_send_until(probe, stop))
    await until(partial(probe.ask, "select count(*) > $1 from events", before + 100))

    for process in old:
        new = probe.start(state_version=2)
        await until(new.ready, 60)
        process.terminate()
        await until(process.ended)
    stop.set()
    sent = await sending
    await until(partial(_booked, probe, before + len(sent)))

    assert [process.exit_code for process in old] == [0, 0]
    await probe.check_booked_once([*(f"old{n}" for n in range(before)), *sent])
    await probe.check_published_once()
    await _check_states(probe)
    assert await probe.ask("select count(*) from dead_letters") == 0
    gap = """select max(extract(epoch from gap)) from
             (select recorded_at - lag(recorded_at) over (order by position) as gap from events where stream like 'new%') gaps"""
    assert await probe.ask(gap) < 5


@asynccontextmanager
async def _database(probe: Probe) -> AsyncGenerator[Database]:
    database = await open_database(probe.database_url)
    try:
        yield database
    finally:
        await database.close()


async def _store_events(probe: Probe, count: int, *, keys: int, published: bool = False) -> None:
    """Make a store of version 1 in which `count` receipts were booked, for `keys` keys in turn. It has the states of none."""
    event = StockReceived(receipt_id="KEY", lines=(StockLine(sku="item", location="l", quantity=1),), at=datetime.now(UTC))
    async with _database(probe) as database:
        await migrate(database)
        async with database.acquire() as connection:
            await connection.execute(
                """insert into events (position, stream, version, type, topic, key, correlation_id, causation_id, traceparent, recorded_at,
                       data)
                   select n + 1, 'old' || n % $2, n / $2 + 1, $3, $4, 'old' || n % $2, '', '', '', now(),
                       replace($5, 'KEY', 'old' || n % $2)
                   from generate_series(0, $1 - 1) n""",
                count,
                keys,
                type_of(StockReceived).name,
                probe.outbox.name,
                encode(event).decode(),
            )
            await connection.execute("update rules set fold = 1")
            if published:
                await connection.execute("update relay set position = $1", count)


async def _build(probe: Probe) -> bool:
    connection = await connect(probe.database_url, command_timeout=None)
    try:
        return await build_states(connection, NEWER)
    finally:
        await connection.close()


async def _write_until_replaced(applier: Applier) -> tuple[int, float]:
    """Book one receipt after the other by the older version; returns how many, and the seconds that the slowest attempt took."""
    longest_seconds = 0.0
    for number in count(1):
        began = monotonic()
        try:
            await applier.apply_commands([(f"new{number}", receipt(f"new{number}"))])
        except StateVersionMismatch:
            return number - 1, max(longest_seconds, monotonic() - began)
        longest_seconds = max(longest_seconds, monotonic() - began)
    raise AssertionError


async def _send_until(probe: Probe, stop: asyncio.Event) -> list[str]:
    """Send receipts without a pause; returns their keys."""
    sent: list[str] = []
    while not stop.is_set():
        more = [f"new{number}" for number in range(len(sent), len(sent) + 20)]
        await probe.send(map(receipt, more))
        sent += more
    return sent


async def _check_states(probe: Probe, state_version: int = 2) -> None:
    """Fail unless the states in use are those of a version, and what the events fold to."""
    async with probe.session() as connection:
        assert await connection.fetchval("select fold from rules") == state_version
        assert await audit(connection, DECIDERS[state_version]) == []


async def _booked(probe: Probe, number: int) -> bool:
    return await probe.booked() == number


async def _state(probe: Probe, key: str, expected: Counted | Booked) -> bool:
    return await probe.ask("select state from states where key = $1", key) == encode(expected).decode()


async def _leads(runtime: Runtime) -> bool:
    return runtime.leading


async def _leads_no_more(runtime: Runtime) -> bool:
    return not runtime.leading


async def _leads_alone(leader: Runtime, other: Runtime) -> bool:
    return leader.leading and not other.leading


async def _unready(process: Process, reason: str) -> bool:
    answer = await process.get("/ready")
    return answer is not None and any(found.startswith(reason) for found in answer.json()["reasons"])


async def _all_ready(processes: list[Process]) -> bool:
    return all([await process.ready() for process in processes])
