"""What a process reports about itself is true: alive, ready, metrics and log."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any

import httpx
import pytest
from oms_contracts.message import encode, type_of
from oms_contracts.stock import StockReceived
from oms_runtime.consumer import STUCK_SECONDS
from oms_runtime.database import migrate, open_database
from oms_runtime.health import operations_app
from oms_runtime.runtime import Runtime
from probe import POISON, Probe, Process, receipt, until

KEYS = [f"r{n}" for n in range(100)]


@asynccontextmanager
async def asking(runtime: Runtime) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(operations_app(runtime, runtime.audit)), base_url="http://probe") as client:
        yield client


async def test_a_stuck_batch_makes_the_process_not_alive(probe: Probe) -> None:
    now = 0.0
    async with probe.running(ticks=lambda: now) as runtime, asking(runtime) as client:
        assert (await client.get("/live")).status_code == 200
        async with probe.store_held():
            await probe.send([receipt("r")])
            await until(partial(_batch_in_hand, probe))
            now = STUCK_SECONDS - 1
            assert (await client.get("/live")).json() == {"alive": True}
            now = STUCK_SECONDS + 1
            assert (await client.get("/live")).status_code == 503
        await until(partial(_is_alive, client))
        assert await _booked(probe, 1)


async def test_a_consumer_that_delivers_nothing_is_not_alive_unless_the_broker_is_away(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    async with probe.running(ticks=lambda: now) as runtime:
        membership: Any = runtime.consumer.membership
        membership._subscriber.tasks.pop().cancel()  # FastStream's loop has ended without a word
        await probe.send([receipt("r")])
        await until(partial(_knows_its_lag, runtime))
        assert await runtime.alive()

        async def away(_settings: Any) -> bool:
            return False

        with monkeypatch.context() as patch:
            patch.setattr("oms_runtime.consumer.broker_is_reachable", away)
            now = STUCK_SECONDS + 1
            assert await runtime.alive()
        now = 2 * STUCK_SECONDS
        assert await runtime.alive()  # the broker may be back, but not for long enough
        now = 2 * STUCK_SECONDS + 2
        assert not await runtime.alive()
        assert any("restart this process" in reason for reason in await runtime.unready())


async def test_ready_gives_its_reasons(probe: Probe) -> None:
    runtime = Runtime(probe.service(), probe.settings())
    async with asking(runtime) as client:
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["starting, or waiting for the database or the broker"])
        assert (await client.get("/live")).status_code == 200
        assert (await client.get("/audit")).status_code == 503
        await runtime.start()
        try:
            await until(partial(_ready, client))
            await runtime.relay.caught_up()
            assert (await client.get("/audit")).json()["ok"]
            runtime.database.terminate()
            reasons = (await client.get("/ready")).json()["reasons"]
            assert reasons == ["the database does not answer: InterfaceError"]
        finally:
            await runtime.stop()
        assert "stopping" in (await client.get("/ready")).json()["reasons"]


AUDITED_EVENTS = 100_000
MAX_DELAY_SECONDS = 2


@pytest.mark.alone
async def test_audits_do_not_delay_new_records(probe: Probe) -> None:
    await _store_events(probe, AUDITED_EVENTS)
    process = probe.start()
    await until(process.ready)
    await until(partial(_is, process, "oms_leader", 1))
    await probe.send([receipt("before")])
    await until(partial(_booked, probe, AUDITED_EVENTS + 1))

    audits = [asyncio.create_task(process.get("/audit", timeout_seconds=120)) for _ in range(8)]
    await until(partial(_an_audit_reads, probe))
    delays: list[float] = []
    while not all(audit.done() for audit in audits):
        began = monotonic()
        await probe.send([receipt(f"new-{len(delays)}")])
        await until(partial(_booked, probe, AUDITED_EVENTS + 2 + len(delays)), 120)
        delays.append(monotonic() - began)

    assert max(delays) < MAX_DELAY_SECONDS
    responses = [response for response in await asyncio.gather(*audits) if response is not None]
    assert sorted(response.status_code for response in responses) == [200, *[429] * 7]
    for response in responses:
        if response.status_code == 200:
            assert response.json()["ok"]
        else:
            assert int(response.headers["retry-after"]) > 0
            assert response.headers["content-type"] == "application/problem+json"


async def test_an_audit_ends_in_time_and_says_that_it_did_not_finish(probe: Probe) -> None:
    runtime = Runtime(probe.service(), probe.settings(audit_timeout_seconds=0.5))
    await runtime.start()
    try:
        async with asking(runtime) as client:
            async with probe.session() as session, session.transaction():
                await session.execute("lock table states in access exclusive mode")
                response = await client.get("/audit")
            assert (response.status_code, response.json()["title"]) == (503, "the audit did not end")
            assert "OMS_AUDIT_TIMEOUT_SECONDS" in response.json()["reasons"][0]
            assert (await client.get("/audit")).json()["ok"]
    finally:
        await runtime.stop()


async def test_metrics_are_right_and_the_log_has_the_correlation_id(probe: Probe) -> None:
    process = probe.start()
    await until(process.ready)
    async with probe.store_held():
        await probe.send([*map(receipt, KEYS), receipt("bad", POISON)])
        await until(partial(_is, process, "oms_consumer_lag_records", len(KEYS) + 1))
    await until(partial(_is, process, "oms_consumer_lag_records", 0))
    await until(partial(_is, process, "oms_events_relayed_total", len(KEYS) + 1))  # and the dead letter
    assert await process.metric("oms_events_appended_total") == len(KEYS) + 1
    assert await process.metric("oms_batch_records_sum") == len(KEYS) + 1
    assert await process.metric("oms_batch_records_count") == await process.metric("oms_batch_seconds_count") >= 1
    assert 0 < await process.metric("oms_batch_seconds_sum") < 60
    assert await process.metric("oms_batch_failures_total") == 1
    assert await process.metric("oms_dead_letters") == 1
    assert await process.metric("oms_relay_lag_events") == 0
    assert await process.metric("oms_leader") == 1

    await until(partial(_recorded, probe, len(KEYS) + 1))
    async with probe.relay_held():
        await probe.send([receipt("one")])
        await until(partial(_record_in_hand, probe))
        await probe.send([receipt("two"), receipt("three")])
        await until(partial(_is, process, "oms_relay_lag_events", 2))  # the broker has the first

    (line,) = process.logged("record_set_aside")
    assert (line["level"], line["service"], line["correlation_id"]) == ("error", probe.name, "bad")
    assert line["letter_id"].startswith(f"{probe.inbox.name}/")
    assert "this receipt cannot be booked" in line["exception"]


async def _store_events(probe: Probe, count: int) -> None:
    """Fill the empty store with published events on a hundred streams. The first process folds them."""
    database = await open_database(probe.database_url)
    await migrate(database)
    event = StockReceived(receipt_id="stored", lines=receipt("stored").lines, at=datetime.now(UTC))
    async with database.acquire() as connection, connection.transaction():
        await connection.execute(
            """insert into events select n, 'stored-' || n % 100, n / 100, $1, $2, 'stored-' || n % 100, 'flow', '', '', now(), $3
               from generate_series(1, $4::bigint) n""",
            type_of(StockReceived).name,
            probe.outbox.name,
            encode(event).decode(),
            count,
        )
        await connection.execute("update relay set position = $1", count)
    await database.close()


async def _an_audit_reads(probe: Probe) -> bool:
    return await probe.ask("select count(*) from pg_stat_activity where datname = current_database() and xact_start < query_start") > 0


async def _batch_in_hand(probe: Probe) -> bool:
    return await probe.waiting_for_store() > 0


async def _recorded(probe: Probe, position: int) -> bool:
    return await probe.ask("select position from relay") == position


async def _record_in_hand(probe: Probe) -> bool:
    return await probe.waiting_for_relay() > 0


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _knows_its_lag(runtime: Runtime) -> bool:
    return any(sample.value for metric in runtime.metrics.lag.collect() for sample in metric.samples)


async def _is_alive(client: httpx.AsyncClient) -> bool:
    return (await client.get("/live")).status_code == 200


async def _ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/ready")).status_code == 200


async def _is(process: Process, metric: str, value: float) -> bool:
    return await process.metric(metric) == value
