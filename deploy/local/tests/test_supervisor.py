"""The supervisor, with parts that do almost nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from oms_local.control import Control
from oms_local.errors import StackError
from oms_local.parts import Part
from oms_local.run_folder import kill_leftovers, write_pids
from oms_local.supervisor import MAX_LOG_BYTES, rotate
from oms_local.testing import wait_for

FOREVER = "import signal; signal.pause()"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)\nwhile True: signal.pause()"


def a_part(folder: Path, name: str, program: str = FOREVER, *, stage: int = 0, stop_timeout_seconds: float = 10.0) -> Part:
    return Part(
        name=name,
        arguments=(sys.executable, "-c", program),
        environment={"PATH": os.defpath},
        folder=str(folder),
        log=str(folder / f"{name}.log"),
        stage=stage,
        stop_timeout_seconds=stop_timeout_seconds,
    )


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    deep = tmp_path / ("deep" * 20) / ("deeper" * 10)  # longer than a socket's address can be
    deep.mkdir(parents=True)
    control = Control(deep)
    control.start(tmp_path / "supervisor.log", os.getpid())
    yield control
    control.end()


def pid_of(control: Control, name: str) -> int | None:
    return next(report.pid for report in control.reports() if report.name == name)


def runs(control: Control, name: str) -> bool:
    return pid_of(control, name) is not None


def test_a_part_that_ends_is_started_again_and_counted(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "one"))
    wait_for(lambda: runs(control, "one"))
    first = pid_of(control, "one")
    control.signal("one", signal.SIGKILL)
    wait_for(lambda: runs(control, "one") and pid_of(control, "one") != first)
    assert [(report.restarts, report.last_exit) for report in control.reports()] == [(1, -signal.SIGKILL)]


def test_a_part_that_cannot_start_is_tried_again(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "broken", "raise SystemExit(3)"))
    wait_for(lambda: any(report.restarts >= 2 for report in control.reports()))
    assert control.reports()[0].last_exit == 3


def test_a_stopped_part_stays_down_until_it_is_started(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "one"))
    wait_for(lambda: runs(control, "one"))
    control.stop_part("one")
    assert [report.state for report in control.reports()] == ["stopped"]
    control.start_part("one")
    wait_for(lambda: runs(control, "one"))
    assert control.reports()[0].restarts == 0


def test_a_part_that_does_not_stop_in_time_is_killed(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "stubborn", IGNORES_SIGTERM, stop_timeout_seconds=0.2))
    wait_for(lambda: "ready" in (tmp_path / "stubborn.log").read_text() if (tmp_path / "stubborn.log").exists() else False)
    control.stop_part("stubborn")
    assert control.reports()[0].last_exit == -signal.SIGKILL


def test_an_unknown_part_is_refused(control: Control) -> None:
    with pytest.raises(StackError, match="no such part: nonsense"):
        control.stop_part("nonsense")


def test_parts_are_stopped_stage_by_stage_from_the_highest(control: Control, tmp_path: Path) -> None:
    program = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(open('order', 'a').write('{}\\n') and 0))\n"
    program += "print('on', flush=True)\nsignal.pause()"
    for name, stage in (("database", 0), ("broker", 1), ("service", 2)):
        control.run(a_part(tmp_path, name, program.replace("{}", name), stage=stage))
    logs = [tmp_path / f"{name}.log" for name in ("database", "broker", "service")]
    wait_for(lambda: all(log.exists() and "on" in log.read_text() for log in logs))
    control.end()
    assert (tmp_path / "order").read_text().split() == ["service", "broker", "database"]
    assert not control.running()


def test_parts_die_with_a_killed_supervisor(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "one"))
    wait_for(lambda: runs(control, "one"))
    part, supervisor = psutil.Process(pid_of(control, "one")), psutil.Process(control.pid())
    supervisor.kill()
    assert psutil.wait_procs([part, supervisor], timeout=10)[1] == []
    wait_for(lambda: not control.running())


def test_abandon_kills_everything_at_once(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "stubborn", IGNORES_SIGTERM))
    wait_for(lambda: runs(control, "stubborn"))
    part = psutil.Process(pid_of(control, "stubborn"))
    control.abandon()
    assert not control.running()
    assert psutil.wait_procs([part], timeout=1)[1] == []


def test_the_supervisor_ends_with_its_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", FOREVER])
    control = Control(tmp_path)
    control.start(tmp_path / "supervisor.log", owner.pid)
    try:
        control.run(a_part(tmp_path, "one"))
        wait_for(lambda: runs(control, "one"))
        part = psutil.Process(pid_of(control, "one"))
        owner.kill()  # this test has not read its exit code yet, so it stays as a zombie
        assert psutil.wait_procs([part], timeout=10)[1] == []
        wait_for(lambda: not control.running())
    finally:
        owner.kill()
        owner.wait()


def test_the_leftovers_of_an_earlier_supervisor_are_killed_and_nothing_else(tmp_path: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", FOREVER])
    other = subprocess.Popen([sys.executable, "-c", FOREVER])
    try:
        write_pids(tmp_path, [left.pid, other.pid])
        saved = json.loads((tmp_path / "processes").read_text())
        saved[1][1] -= 60  # the same id, but another process
        (tmp_path / "processes").write_text(json.dumps(saved))
        assert kill_leftovers(tmp_path) == 1
        assert not psutil.pid_exists(left.pid)
        assert other.poll() is None
        assert kill_leftovers(tmp_path) == 0
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def test_a_large_log_is_rotated_while_a_process_writes_it(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * MAX_LOG_BYTES)
        rotate(log)
        assert log.stat().st_size == MAX_LOG_BYTES
        writer.write(b"x")
        rotate(log)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "part.1.log").stat().st_size == MAX_LOG_BYTES + 1
