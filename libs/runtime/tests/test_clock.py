"""A clock that jumps: nothing is decided while it is wrong, and everything continues once it is right, or an operator says that it is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oms_runtime.clock import Clock, elapsed_seconds, utc_now
from oms_runtime.errors import ClockUntrusted
from oms_runtime.model import Due
from oms_runtime.runtime import Runtime
from probe import DECIDER, EXPIRING, WEIGHED, Booked, Probe, due, receipt, until

MAX_SKEW_SECONDS = 60
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

seconds = st.floats(0, 1e6)
slews = st.floats(-MAX_SKEW_SECONDS / 2, MAX_SKEW_SECONDS / 2)
jumps = st.floats(MAX_SKEW_SECONDS + 1, 1e7) | st.floats(-1e7, -MAX_SKEW_SECONDS - 1)


class Machine:
    """A machine's time: how long it has been up, and how far its wall clock is from the true time."""

    def __init__(self) -> None:
        self.up_seconds = 0.0
        self.wrong_seconds = 0.0

    @property
    def true_time(self) -> datetime:
        return NOON + timedelta(seconds=self.up_seconds)

    def wall_clock(self) -> datetime:
        return self.true_time + timedelta(seconds=self.wrong_seconds)

    def clock(self, max_skew_seconds: float = MAX_SKEW_SECONDS) -> Clock:
        """A process's clock, as the process has it that starts now."""
        return Clock(self.wall_clock, lambda: self.up_seconds, max_skew_seconds=max_skew_seconds)


def agrees(clock: Clock, database_now: datetime, newest: datetime | None = None) -> bool:
    """Whether a transaction with this clock would decide."""
    try:
        clock.compare(clock.reading(), database_now, newest)
        clock.now()
    except ClockUntrusted:
        return False
    return not clock.fault


class TestPureCheck:
    @given(st.lists(st.tuples(seconds, slews)))
    def test_no_pause_and_no_small_step_makes_a_clock_untrusted(self, steps: list[tuple[float, float]]) -> None:
        machine = Machine()
        clock = machine.clock()
        for pause, wrong in steps:
            machine.up_seconds += pause
            machine.wrong_seconds = wrong
            assert clock.now() == machine.wall_clock()
            assert agrees(clock, machine.true_time, machine.true_time)

    @given(st.lists(st.tuples(seconds, st.floats(0, MAX_SKEW_SECONDS - 1))))
    def test_steps_that_are_small_each_do_not_add_up_to_a_jump(self, steps: list[tuple[float, float]]) -> None:
        machine = Machine()
        clock = machine.clock()
        for pause, step in steps:
            machine.up_seconds += pause
            machine.wrong_seconds += step
            assert clock.now() == machine.wall_clock()

    @given(seconds, jumps, seconds, slews)
    def test_a_jump_is_noticed_until_it_is_undone_or_the_process_is_restarted(
        self, before: float, jump: float, meanwhile: float, rest: float
    ) -> None:
        machine = Machine()
        clock = machine.clock()
        machine.up_seconds += before
        assert agrees(clock, machine.wall_clock())
        machine.wrong_seconds = jump
        for _ in range(2):
            assert not agrees(clock, machine.wall_clock())  # the database is on the same machine
            assert not agrees(clock, machine.true_time)  # and on another
            machine.up_seconds += meanwhile
        assert "jumped" in clock.fault
        assert agrees(machine.clock(), machine.wall_clock())
        machine.wrong_seconds = rest
        assert agrees(clock, machine.wall_clock())

    @given(jumps, seconds, st.floats(0, 100))
    def test_a_clock_that_was_wrong_at_the_start_is_trusted_once_it_agrees(self, wrong: float, meanwhile: float, answer: float) -> None:
        machine = Machine()
        machine.wrong_seconds = wrong
        clock = machine.clock()
        assert not agrees(clock, machine.true_time)
        machine.up_seconds += meanwhile
        with pytest.raises(ClockUntrusted, match="database server"):
            clock.now()
        machine.wrong_seconds = 0
        asked_at = clock.reading()
        database_now = machine.true_time
        machine.up_seconds += answer  # however late its answer comes
        clock.compare(asked_at, database_now, None)
        assert clock.now() == machine.true_time

    @given(st.floats(MAX_SKEW_SECONDS + 1, 1e7))
    def test_an_event_of_the_future_is_waited_for(self, future: float) -> None:
        machine = Machine()
        clock = machine.clock()
        newest = machine.true_time + timedelta(seconds=future)
        assert not agrees(clock, machine.true_time, newest)
        machine.up_seconds += future - MAX_SKEW_SECONDS
        assert agrees(clock, machine.true_time, newest)

    @given(jumps)
    def test_an_operator_who_knows_better_is_believed(self, jump: float) -> None:
        machine = Machine()
        clock = machine.clock(max_skew_seconds=0)
        machine.wrong_seconds = jump
        assert agrees(clock, machine.true_time, machine.true_time + 2 * abs(timedelta(seconds=jump)))
        assert clock.now() == machine.wall_clock()


class Machines:
    """The clocks of a process's machine and of the database server's, which a test sets.

    The database is a real one: a function of the probe's database stands before PostgreSQL's own, and adds how wrong it is.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.wrong = timedelta(0)

    def wall_clock(self) -> datetime:
        return utc_now() + self.wrong

    def blind(self) -> float:
        """Seconds that jump with the wall clock, so that a process cannot notice the jump by itself."""
        return elapsed_seconds() + self.wrong.total_seconds()

    async def set(self, wrong: timedelta, *, database: bool) -> None:
        """Set the clock of the process's machine, and of the database's where it is the same machine."""
        self.wrong = wrong
        await self._probe.ask(
            f"""create or replace function public.clock_timestamp() returns timestamptz language sql as
                $$ select pg_catalog.clock_timestamp() + interval '{wrong.total_seconds() if database else 0} seconds' $$"""
        )


@pytest.fixture
async def machines(probe: Probe) -> Machines:
    made = Machines(probe)
    await made.set(timedelta(0), database=True)
    database = await probe.ask("select current_database()")
    await probe.ask(f"alter database {database} set search_path = public, pg_catalog")
    return made


def expires_in_an_hour(key: str, state: Booked) -> Due | None:
    found = due(key, state)
    return found and (found[0] + (HOUR if state.sku == EXPIRING else timedelta(0)), found[1])


SLOW = replace(DECIDER, due=expires_in_an_hour)


@pytest.mark.parametrize("noticed_by", ["the database's clock", "the process's own"])
@pytest.mark.parametrize("wrong", [DAY, -HOUR], ids=["a day ahead", "an hour back"])
async def test_nothing_is_decided_while_the_clock_is_wrong(probe: Probe, machines: Machines, wrong: timedelta, noticed_by: str) -> None:
    same_machine = noticed_by == "the process's own"
    elapsed = elapsed_seconds if same_machine else machines.blind
    async with probe.running(probe.service(SLOW), clock=machines.wall_clock, elapsed=elapsed) as runtime:
        await probe.send([receipt("before"), receipt("expires", EXPIRING)])
        await until(partial(_booked, probe, 2))
        await until(partial(_leads, runtime, True))
        await machines.set(wrong, database=same_machine)
        await check_undecided(probe, runtime, "jumped" if same_machine else "database server's")
        await machines.set(timedelta(0), database=same_machine)
        await check_continues(probe, runtime)
        await probe.check_published_once()
    await probe.check_booked_once(["before", "expires", "meanwhile", "weighed meanwhile"])
    assert await probe.adjusted("expired") == []


@pytest.mark.parametrize("wrong", [DAY, -HOUR], ids=["a day ahead", "an hour back"])
async def test_a_process_that_starts_with_a_wrong_clock_decides_nothing(probe: Probe, machines: Machines, wrong: timedelta) -> None:
    async with probe.running(probe.service(SLOW)):
        await probe.send([receipt("before"), receipt("expires", EXPIRING)])
        await until(partial(_booked, probe, 2))
    await machines.set(wrong, database=False)
    async with probe.running(probe.service(SLOW), clock=machines.wall_clock) as runtime:
        await check_undecided(probe, runtime, "database server's")
        await machines.set(timedelta(0), database=False)
        await check_continues(probe, runtime)
    await probe.check_booked_once(["before", "expires", "meanwhile", "weighed meanwhile"])
    assert await probe.adjusted("expired") == []


async def test_a_machine_that_starts_an_hour_back_decides_nothing_behind_what_it_recorded(probe: Probe, machines: Machines) -> None:
    async with probe.running(probe.service(SLOW)):
        await probe.send([receipt("before"), receipt("expires", EXPIRING)])
        await until(partial(_booked, probe, 2))
    await machines.set(-HOUR, database=True)
    async with probe.running(probe.service(SLOW), clock=machines.wall_clock) as runtime:
        await check_undecided(probe, runtime, "behind the newest stored event")
    async with probe.running(probe.service(SLOW), clock=machines.wall_clock, max_clock_skew_seconds=0) as runtime:
        await check_continues(probe, runtime)
    await probe.check_booked_once(["before", "expires", "meanwhile", "weighed meanwhile"])


async def test_a_restart_accepts_the_time_to_which_a_wrong_clock_was_corrected(probe: Probe, machines: Machines) -> None:
    await machines.set(DAY, database=True)
    async with probe.running(probe.service(SLOW), clock=machines.wall_clock) as runtime:
        await until(partial(_ready, runtime))
        await machines.set(timedelta(0), database=True)
        await check_undecided(probe, runtime, "restart this process")
    async with probe.running(probe.service(SLOW), clock=machines.wall_clock) as runtime:
        await check_continues(probe, runtime)
    await probe.check_booked_once(["meanwhile", "weighed meanwhile"])


async def check_undecided(probe: Probe, runtime: Runtime, reason: str) -> None:
    """Send records, and fail unless none is booked, no deadline is met, no effect is performed, and the process says why."""
    events = await probe.ask("select count(*) from events")
    failures = _metric(runtime, "oms_batch_failures_total", reason="retryable")
    await probe.send([receipt("meanwhile"), receipt("weighed meanwhile", WEIGHED)])
    await until(partial(_leads, runtime, False))
    await until(partial(_retried, runtime, failures + 2))
    (said,) = await runtime.unready()
    assert reason in said
    assert _metric(runtime, "oms_clock_untrusted") == 1
    assert await runtime.alive()
    assert await probe.ask("select count(*) from events") == events
    assert await probe.ask("select count(*) from weighings") == 0


async def check_continues(probe: Probe, runtime: Runtime) -> None:
    """Fail unless what was sent meanwhile is decided now, and the process is ready."""
    await until(partial(_weighed, probe, "weighed meanwhile"))
    await until(partial(_ready, runtime))
    assert _metric(runtime, "oms_clock_untrusted") == 0
    assert await probe.ask("select count(*) from dead_letters") == 0


def _metric(runtime: Runtime, name: str, **labels: str) -> float:
    return runtime.registry.get_sample_value(name, labels) or 0


async def _retried(runtime: Runtime, times: float) -> bool:
    return _metric(runtime, "oms_batch_failures_total", reason="retryable") >= times


async def _leads(runtime: Runtime, leads: bool) -> bool:  # for partial
    return runtime.leading == leads


async def _ready(runtime: Runtime) -> bool:
    return await runtime.unready() == []


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _weighed(probe: Probe, key: str) -> bool:
    return key in await probe.adjusted("weighs 1 kg")
