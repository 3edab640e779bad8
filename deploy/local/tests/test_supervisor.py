"""The supervisor, with parts that are next to nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from oms_local.control import Control
from oms_local.errors import StackError
from oms_local.supervisor import LARGEST_LOG, Part, clear_up, shorten, write_pids

FOREVER = "import signal; signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\nwhile True: signal.pause()"


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def a_part(folder: Path, name: str, program: str = FOREVER, *, stage: int = 0, patience: float = 10.0) -> Part:
    return Part(
        name=name,
        arguments=(sys.executable, "-c", program),
        environment={"PATH": os.defpath},
        folder=str(folder),
        log=str(folder / f"{name}.log"),
        stage=stage,
        patience=patience,
    )


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    deep = tmp_path / ("deep" * 20) / ("deeper" * 10)  # longer than the address of a socket may be
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
    until(lambda: runs(control, "one"))
    first = pid_of(control, "one")
    control.signal("one", signal.SIGKILL)
    until(lambda: runs(control, "one") and pid_of(control, "one") != first)
    assert [(report.restarts, report.last_exit) for report in control.reports()] == [(1, -signal.SIGKILL)]


def test_a_part_that_cannot_start_is_tried_again_later(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "broken", "raise SystemExit(3)"))
    until(lambda: any(report.restarts >= 2 for report in control.reports()))
    assert control.reports()[0].last_exit == 3


def test_a_stopped_part_stays_away_until_it_is_started(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "one"))
    until(lambda: runs(control, "one"))
    control.stop_part("one")
    assert [report.state for report in control.reports()] == ["stopped"]
    control.start_part("one")
    until(lambda: runs(control, "one"))
    assert control.reports()[0].restarts == 0


def test_a_part_that_will_not_stop_is_killed(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "deaf", DEAF, patience=0.2))
    until(lambda: "deaf" in (tmp_path / "deaf.log").read_text() if (tmp_path / "deaf.log").exists() else False)
    control.stop_part("deaf")
    assert control.reports()[0].last_exit == -signal.SIGKILL


def test_a_part_nobody_knows(control: Control) -> None:
    with pytest.raises(StackError, match="no such part: nonsense"):
        control.stop_part("nonsense")


def test_the_end_comes_stage_by_stage_from_the_highest(control: Control, tmp_path: Path) -> None:
    tell = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(open('order', 'a').write('{}\\n') and 0))\n"
    tell += "print('on', flush=True)\nsignal.pause()"
    for name, stage in (("database", 0), ("broker", 1), ("service", 2)):
        control.run(a_part(tmp_path, name, tell.replace("{}", name), stage=stage))
    logs = [tmp_path / f"{name}.log" for name in ("database", "broker", "service")]
    until(lambda: all(log.exists() and "on" in log.read_text() for log in logs))
    control.end()
    assert (tmp_path / "order").read_text().split() == ["service", "broker", "database"]
    assert not control.running()


def test_killed_it_takes_its_parts_along(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "one"))
    until(lambda: runs(control, "one"))
    part, supervisor = psutil.Process(pid_of(control, "one")), psutil.Process(control.pid())
    supervisor.kill()
    assert psutil.wait_procs([part, supervisor], timeout=10)[1] == []
    until(lambda: not control.running())


def test_abandoned_everything_ends_at_once(control: Control, tmp_path: Path) -> None:
    control.run(a_part(tmp_path, "deaf", DEAF))
    until(lambda: runs(control, "deaf"))
    part = psutil.Process(pid_of(control, "deaf"))
    control.abandon()
    assert not control.running()
    assert psutil.wait_procs([part], timeout=1)[1] == []


def test_it_ends_with_the_process_it_belongs_to(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", FOREVER])
    control = Control(tmp_path)
    control.start(tmp_path / "supervisor.log", owner.pid)
    try:
        control.run(a_part(tmp_path, "one"))
        until(lambda: runs(control, "one"))
        part = psutil.Process(pid_of(control, "one"))
        owner.kill()  # nobody has asked for its exit code yet: it stays as a zombie
        assert psutil.wait_procs([part], timeout=10)[1] == []
        until(lambda: not control.running())
    finally:
        owner.kill()
        owner.wait()


def test_what_an_earlier_one_left_is_cleared_up_and_nothing_else(tmp_path: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", FOREVER])
    other = subprocess.Popen([sys.executable, "-c", FOREVER])
    try:
        write_pids(tmp_path, [left.pid, other.pid])
        known = json.loads((tmp_path / "processes").read_text())
        known[1][1] -= 60  # the same id, but another process
        (tmp_path / "processes").write_text(json.dumps(known))
        assert clear_up(tmp_path) == 1
        assert not psutil.pid_exists(left.pid)
        assert other.poll() is None
        assert clear_up(tmp_path) == 0
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def test_a_large_log_is_put_aside_while_somebody_writes_it(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * LARGEST_LOG)
        shorten(log)
        assert log.stat().st_size == LARGEST_LOG
        writer.write(b"x")
        shorten(log)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "part.1.log").stat().st_size == LARGEST_LOG + 1
