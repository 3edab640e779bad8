"""A part of the stack, which is one process, and what the supervisor does to keep it running."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

MIN_RESTART_DELAY_SECONDS = 0.2
MAX_RESTART_DELAY_SECONDS = 5.0
STEADY_SECONDS = 20.0
"""After a run of this length the restart delay begins at its minimum again."""
NOT_STARTED_EXIT_CODE = 127
PR_SET_PDEATHSIG = 1

State = Literal["running", "restarting", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How one process is run. Parts of a lower `stage` are stopped after those of a higher one."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    log: str
    stage: int
    user: tuple[int, int] | None = None
    """User id and group id to run as; None for the supervisor's own."""
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    """What the kernel sends to the part when the supervisor has ended."""
    stop_timeout_seconds: float = 20.0
    """Time between the stop signal and SIGKILL."""

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Part":
        """The part whose fields were sent as JSON, which has no tuples."""
        converted: dict[str, Any] = {"arguments": tuple(fields["arguments"]), "user": tuple(fields["user"]) if fields["user"] else None}
        return cls(**{**fields, **converted})


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The state of a part, as the supervisor reports it. `last_exit` is an exit code, or a negative signal number."""

    name: str
    pid: int | None
    state: State
    restarts: int
    stage: int
    last_exit: int | None


class SupervisedProcess:
    """The process of one part: started again, after a growing delay, whenever it ends without being asked to."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.should_run = True
        self.restarts = 0
        self.last_exit: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._restart_delay_seconds = 0.0
        self._next_start_at = 0.0
        self._kill_at = 0.0

    def check(self, now: float) -> bool:
        """Start or kill the process if that is due. Returns whether it started or ended since the last check. `now` is monotonic time."""
        if self.process is not None:
            exit_code = self.process.poll()
            if exit_code is not None:
                self._on_exit(exit_code, now)
                return True
            if not self.should_run and now >= self._kill_at:
                self.signal(signal.SIGKILL)
            return False
        if self.should_run and now >= self._next_start_at:
            self._start(now)
            return True
        return False

    def start(self, part: Part) -> None:
        """Keep it running from now on. `part` applies from its next start on."""
        self.part = part
        if not self.should_run:
            self._restart_delay_seconds = self._next_start_at = 0.0
        self.should_run = True

    def stop(self, now: float) -> None:
        """Send the stop signal. SIGKILL follows when the part's timeout has passed."""
        if self.should_run:
            self.should_run = False
            self._kill_at = now + self.part.stop_timeout_seconds
            self.signal(self.part.stop_signal)

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it runs."""
        if self.process is not None:
            self.process.send_signal(number)

    def report(self) -> Report:
        """The state of the part now."""
        return Report(
            name=self.part.name,
            pid=self.process.pid if self.process is not None else None,
            state="running" if self.process is not None else "restarting" if self.should_run else "stopped",
            restarts=self.restarts,
            stage=self.part.stage,
            last_exit=self.last_exit,
        )

    def _start(self, now: float) -> None:
        part = self.part
        self._started_at = now
        try:
            with Path(part.log).open("ab") as output:
                self.process = subprocess.Popen(
                    part.arguments,
                    cwd=part.folder,
                    env=dict(part.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,  # a Ctrl-C at the caller's terminal must not reach the parts
                    preexec_fn=_before_exec(part, os.getpid()),  # noqa: PLW1509  # there is one thread here
                )
        except (OSError, subprocess.SubprocessError) as error:
            log(f"{part.name} did not start: {error}")
            self._on_exit(NOT_STARTED_EXIT_CODE, now)
        else:
            log(f"{part.name} started, process {self.process.pid}")

    def _on_exit(self, exit_code: int, now: float) -> None:
        self.process = None
        self.last_exit = exit_code
        if not self.should_run:
            log(f"{self.part.name} stopped ({exit_code})")
            return
        was_steady = now - self._started_at >= STEADY_SECONDS
        if was_steady or not self._restart_delay_seconds:
            self._restart_delay_seconds = MIN_RESTART_DELAY_SECONDS
        else:
            self._restart_delay_seconds = min(self._restart_delay_seconds * 2, MAX_RESTART_DELAY_SECONDS)
        self._next_start_at = now + self._restart_delay_seconds
        self.restarts += 1
        log(f"{self.part.name} ended ({exit_code}); starts again in {self._restart_delay_seconds:.1f} s")


def log(text: str) -> None:
    """Write a line to the supervisor's log, which is its standard error. A full disk must not end the supervisor."""
    with contextlib.suppress(OSError):
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, file=sys.stderr, flush=True)  # noqa: T201  # the log


_prctl: Callable[..., int] | None = getattr(ctypes.CDLL(None), "prctl", None)
"""Linux has it, other systems do not."""


def _before_exec(part: Part, supervisor: int) -> Callable[[], None]:
    """What the child does before exec: become the user, then ask to die with the supervisor.

    In the other order, becoming the user would undo the request.
    """

    def prepare() -> None:
        if part.user is not None:
            user, group = part.user
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
        if _prctl is not None:
            _prctl(PR_SET_PDEATHSIG, int(part.death_signal), 0, 0, 0)
            if os.getppid() != supervisor:  # it ended before the request
                os._exit(1)

    return prepare
