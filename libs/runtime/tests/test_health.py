"""What a process reports about itself is true: alive, ready, metrics and log."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from oms_runtime.consumer import STUCK_SECONDS
from oms_runtime.health import DeferredApp, operations_app
from oms_runtime.runtime import Runtime
from probe import POISON, Probe, Process, receipt, until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

KEYS = [f"r{n}" for n in range(100)]


@asynccontextmanager
async def asking(runtime: Runtime, api: ASGIApp | None = None) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(operations_app(runtime, api)), base_url="http://probe") as client:
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


async def test_a_service_is_not_ready_before_its_own_api_is(probe: Probe) -> None:
    own = DeferredApp()
    async with probe.running() as runtime, asking(runtime, own) as client:
        await until(partial(_unready, client, ["the service's own API has not started"]))
        assert (await client.get("/orders")).status_code == 503
        own.app = Starlette(routes=[Route("/orders", partial(_answer, "here"))])
        assert (await client.get("/ready")).status_code == 200
        assert (await client.get("/orders")).text == "here"


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


async def _unready(client: httpx.AsyncClient, reasons: list[str]) -> bool:
    return (await client.get("/ready")).json()["reasons"] == reasons


async def _answer(text: str, _request: Request) -> PlainTextResponse:
    return PlainTextResponse(text)


async def _is(process: Process, metric: str, value: float) -> bool:
    return await process.metric(metric) == value
