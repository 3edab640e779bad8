"""Deadlines fire once; outside effects are repeated with the same key until they are answered, whichever process dies meanwhile."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import pytest
from oms_runtime.scheduler import MAX_EFFECTS_IN_FLIGHT, MAX_STATES_PER_ROUND
from probe import EXPIRING, EXPIRY, WEIGHED, Probe, receipt, until

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
WEIGHS, EXPIRED = "weighs 1 kg", "expired"
GATE = 9_000
"""An advisory lock that the provider waits for, where a test says so."""


@asynccontextmanager
async def gate_held(probe: Probe) -> AsyncGenerator[None]:
    async with probe.session() as connection:
        await connection.execute("select pg_advisory_lock($1)", GATE)
        yield


@pytest.fixture
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_runtime.scheduler.RETRY_BACKOFF_SECONDS", (0.1, 1.0))


async def test_a_deadline_fires_once_and_not_early(probe: Probe) -> None:
    now = NOON
    keys = [f"r{n}" for n in range(100)]
    async with probe.running(clock=lambda: now, max_clock_skew_seconds=0):
        await probe.send(receipt(key, EXPIRING) for key in keys)
        await until(partial(_booked, probe, len(keys)))
        await _polled_again(probe, "before")
        assert await probe.adjusted(EXPIRED) == []
        now += EXPIRY
        await probe.send([receipt("wakes")])
        await until(partial(_adjusted, probe, EXPIRED, len(keys)))
        await _polled_again(probe, "after")
    assert sorted(await probe.adjusted(EXPIRED)) == sorted(keys)


@pytest.mark.usefixtures("short_backoff")
async def test_a_failing_effect_is_retried_with_the_same_key_and_delays_no_other(probe: Probe) -> None:
    await probe.set_provider(
        f"""if key = 'bad-weight' and not exists (select from events where stream = 'good' and version = 2) then
              raise exception 'the scales are broken';
            elsif key = 'slow-weight' then
              perform pg_advisory_lock({GATE});
            end if;
            return '1 kg';"""
    )
    async with gate_held(probe), probe.running() as runtime:
        await probe.send([receipt("bad", WEIGHED), receipt("slow", WEIGHED)])
        await until(partial(_asked, probe, "bad-weight", 3))
        assert runtime.metrics.registry.get_sample_value("oms_deadlines_stuck") == 1
        await probe.send([receipt("good", WEIGHED), receipt("brief", EXPIRING)])
        await until(partial(_adjusted, probe, EXPIRED, 1))
        await until(partial(_adjusted, probe, WEIGHS, 2))
        assert await probe.adjusted(WEIGHS) == ["good", "bad"]
        await until(partial(_asked, probe, "slow-weight", 1))
        assert await probe.ask("select count(*) from weighings where key not in ('bad-weight', 'slow-weight', 'good-weight')") == 0

        async with probe.session() as connection:
            times = [row["at"] for row in await connection.fetch("select at from weighings where key = 'bad-weight' order by at")]
        assert (times[1] - times[0]).total_seconds() >= 0.1
        assert (times[2] - times[1]).total_seconds() >= 0.2


async def test_hanging_effects_delay_no_deadline_however_many(probe: Probe) -> None:
    await probe.set_provider(f"perform pg_advisory_lock({GATE}); return '1 kg';")
    keys = [f"r{n}" for n in range(MAX_STATES_PER_ROUND + MAX_EFFECTS_IN_FLIGHT)]
    async with gate_held(probe), probe.running():
        await probe.send(receipt(key, WEIGHED) for key in keys)
        await until(partial(_booked, probe, len(keys)))
        await probe.send([receipt("brief", EXPIRING)])
        await until(partial(_adjusted, probe, EXPIRED, 1))
        assert await probe.ask("select count(*) from weighings") <= MAX_EFFECTS_IN_FLIGHT


async def test_an_effect_answered_before_a_kill_is_repeated_and_recorded_once(probe: Probe) -> None:
    await probe.set_provider(f"perform pg_advisory_lock({GATE}); return '1 kg';")
    process = probe.start()
    await until(process.ready)
    async with gate_held(probe):
        await probe.send([receipt("r", WEIGHED)])
        await until(partial(_asked, probe, "r-weight", 1))
        holding = probe.store_held()
        await holding.__aenter__()
    await until(partial(_answer_in_hand, probe))
    process.kill()
    await holding.__aexit__(None, None, None)
    assert await probe.adjusted(WEIGHS) == []

    probe.start()
    await until(partial(_adjusted, probe, WEIGHS, 1))
    await probe.check_published_once()
    assert await probe.adjusted(WEIGHS) == ["r"]
    assert await probe.ask("select array_agg(key) from weighings") == ["r-weight", "r-weight"]
    assert await probe.ask("select count(distinct pid) from weighings") == 2


async def _polled_again(probe: Probe, key: str) -> None:
    """Wait until it has looked for what is due, and done it, once more."""
    await probe.send([receipt(key, WEIGHED)])
    await until(partial(_weighed, probe, key))


async def _weighed(probe: Probe, key: str) -> bool:
    return key in await probe.adjusted(WEIGHS)


async def _adjusted(probe: Probe, reason: str, count: int) -> bool:
    return len(await probe.adjusted(reason)) == count


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _asked(probe: Probe, key: str, least: int) -> bool:
    return await probe.ask("select count(*) from weighings where key = $1", key) >= least


async def _answer_in_hand(probe: Probe) -> bool:
    return await probe.waiting_for_store() > 0
