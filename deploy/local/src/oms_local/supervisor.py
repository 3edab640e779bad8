"""The process that keeps the parts of a stack running.

It runs in a session of its own, holds a lock for as long as it lives, and takes orders over a socket: one line of JSON asks, one answers.
It knows processes only; what they are for is the stack's business. Parts die with it, also when it is killed: the kernel sees to that on
Linux, and elsewhere the next start clears up. One thread, no event loop, so that starting a process is safe.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import psutil

TICK_SECONDS = 0.05
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
STEADY_SECONDS = 20.0
"""A part that ran this long starts its pauses anew."""
LOOK_SECONDS = 10.0
LARGEST_LOG = 10 * 1024 * 1024
"""Bytes; looked at every LOOK_SECONDS."""

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
    """User and group id to run as; None for our own."""
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    """What the kernel sends when the supervisor is gone."""
    patience: float = 20.0
    """Seconds between the stop signal and SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the supervisor says of a part."""

    name: str
    pid: int | None
    state: State
    restarts: int
    stage: int
    last_exit: int | None


class Running:
    """One part under supervision."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.wanted = True
        self.restarts = 0
        self.last_exit: int | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = 0.0
        self._not_before = 0.0
        self._kill_at = 0.0

    def tick(self, now: float) -> bool:
        """Look after the process once. Whether something changed."""
        if self.process is not None:
            code = self.process.poll()
            if code is not None:
                self._ended(code, now)
                return True
            if not self.wanted and now >= self._kill_at:
                self.signal(signal.SIGKILL)
            return False
        if self.wanted and now >= self._not_before:
            self._start(now)
            return True
        return False

    def start(self, part: Part) -> None:
        """Want it running, as `part` says from its next start on."""
        self.part = part
        if not self.wanted:
            self._pause = self._not_before = 0.0
        self.wanted = True

    def stop(self, now: float) -> None:
        """Ask it to end."""
        if self.wanted:
            self.wanted = False
            self._kill_at = now + self.part.patience
            self.signal(self.part.stop_signal)

    def signal(self, number: int) -> None:
        """Send a signal to it, if it runs."""
        if self.process is not None:
            self.process.send_signal(number)

    def report(self) -> Report:
        """How it stands."""
        alive = self.process is not None
        return Report(
            name=self.part.name,
            pid=self.process.pid if self.process is not None else None,
            state="running" if alive else "restarting" if self.wanted else "stopped",
            restarts=self.restarts,
            stage=self.part.stage,
            last_exit=self.last_exit,
        )

    def _start(self, now: float) -> None:
        part = self.part
        self._started = now
        try:
            with Path(part.log).open("ab") as output:
                self.process = subprocess.Popen(
                    part.arguments,
                    cwd=part.folder,
                    env=dict(part.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,  # a Ctrl-C at the terminal of a caller is not for the parts
                    preexec_fn=_before_exec(part, os.getpid()),  # noqa: PLW1509  # there is one thread here
                )
        except (OSError, subprocess.SubprocessError) as error:
            say(f"{part.name} did not start: {error}")
            self._ended(127, now)
        else:
            say(f"{part.name} started, process {self.process.pid}")

    def _ended(self, code: int, now: float) -> None:
        self.process = None
        self.last_exit = code
        if not self.wanted:
            say(f"{self.part.name} stopped ({code})")
            return
        steady = now - self._started >= STEADY_SECONDS
        self._pause = FIRST_PAUSE_SECONDS if steady or not self._pause else min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        self._not_before = now + self._pause
        self.restarts += 1
        say(f"{self.part.name} ended ({code}); starts again in {self._pause:.1f} s")


def say(text: str) -> None:
    """A line in the supervisor's log, which standard error is. A full disk must not end us."""
    with contextlib.suppress(OSError):
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, file=sys.stderr, flush=True)  # noqa: T201  # the log


class Supervisor:
    """Looks after all parts until it is asked to end, or until `owner` is gone."""

    def __init__(self, folder: Path, owner: psutil.Process | None) -> None:
        self._folder = folder
        self._owner = owner
        self._parts: dict[str, Running] = {}
        self._ending = False
        self._next_look = 0.0

    def run(self) -> None:
        """Until the end. Every part has ended when this returns."""
        with listen(self._folder) as server, selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            while not self._done():
                if selector.select(TICK_SECONDS):
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(5)
                        with contextlib.suppress(OSError, ValueError):  # it went away, or did not speak JSON
                            self._serve(connection)
                self._tick()

    def end(self) -> None:
        """Stop everything in order, then return from `run`."""
        if not self._ending:
            say("stopping everything")
            self._ending = True

    def _done(self) -> bool:
        return self._ending and not any(running.process for running in self._parts.values())

    def _tick(self) -> None:
        now = time.monotonic()
        if self._owner is not None and not _lives(self._owner):
            self._owner = None
            say("the process this stack belongs to is gone")
            self.end()
        if self._ending:
            stage = max((running.part.stage for running in self._parts.values() if running.process), default=0)
            for running in self._parts.values():
                if running.part.stage >= stage:
                    running.stop(now)
        changed = [running.tick(now) for running in self._parts.values()]
        if any(changed):
            with contextlib.suppress(OSError):
                write_pids(self._folder, [running.process.pid for running in self._parts.values() if running.process])
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            for running in self._parts.values():
                shorten(Path(running.part.log))

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rwb") as stream:
            order: dict[str, Any] = json.loads(stream.readline())
            try:
                answer = self._obey(order)
            except KeyError as error:
                answer = {"error": f"no such part: {error.args[0]}"}
            stream.write(json.dumps(answer).encode() + b"\n")

    def _obey(self, order: dict[str, Any]) -> object:
        match order:
            case {"order": "report"}:
                return [asdict(running.report()) for running in self._parts.values()]
            case {"order": "run"}:
                part = _part(order["part"])
                if part.name in self._parts:
                    self._parts[part.name].start(part)
                else:
                    self._parts[part.name] = Running(part)
                return "ok"
            case {"order": "start", "name": str(name)}:
                self._parts[name].start(self._parts[name].part)
                return "ok"
            case {"order": "stop", "name": str(name)}:
                self._parts[name].stop(time.monotonic())
                return "ok"
            case {"order": "signal", "name": str(name), "signal": int(number)}:
                self._parts[name].signal(number)
                return "ok"
            case {"order": "end"}:
                self.end()
                return "ok"
            case _:
                return {"error": f"not understood: {order.get('order')}"}


def _part(fields: dict[str, Any]) -> Part:
    user: list[int] | None = fields.pop("user")
    arguments: list[str] = fields.pop("arguments")
    return Part(**fields, arguments=tuple(arguments), user=(user[0], user[1]) if user else None)


def _before_exec(part: Part, supervisor: int) -> Callable[[], None]:
    """What the child does before exec: become the user, then arrange to die with the supervisor. The first would undo the second."""

    def prepare() -> None:
        if part.user is not None:
            user, group = part.user
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
        if PRCTL is not None:
            PRCTL(PR_SET_PDEATHSIG, int(part.death_signal), 0, 0, 0)
            if os.getppid() != supervisor:  # it died before we asked
                os._exit(1)

    return prepare


PRCTL: Callable[..., int] | None = getattr(ctypes.CDLL(None), "prctl", None)


def _lives(process: psutil.Process) -> bool:
    """Whether a process still does anything; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def hold(folder: Path, name: str = "lock") -> int | None:
    """Take a lock that lasts as long as this process; None if somebody has it. A killed holder's lock is free at once."""
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


@contextlib.contextmanager
def reachable(folder: Path) -> Generator[str]:
    """A path of the control socket short enough for a socket's address (107 bytes), however deep the folder lies."""
    path = folder / "control"
    if len(os.fsencode(path)) < 100 or sys.platform != "linux":
        yield str(path)
        return
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/control"
    finally:
        os.close(handle)


def listen(folder: Path) -> socket.socket:
    """The control socket, for this user only (the folder is closed to others)."""
    (folder / "control").unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with reachable(folder) as path:
        server.bind(path)
    server.listen(16)
    return server


def write_pids(folder: Path, pids: list[int]) -> None:
    """Remember which processes are ours, so that they can be told from others that get the same ids later."""
    known: list[tuple[int, float]] = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            known.append((pid, psutil.Process(pid).create_time()))
    arriving = folder / "processes.new"
    arriving.write_text(json.dumps(known))
    arriving.replace(folder / "processes")


def shorten(log: Path) -> None:
    """Keep a log that has grown large as `.1.log`, and begin anew. Who writes it appends, and need not know."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LARGEST_LOG:
            shutil.copyfile(log, log.with_suffix(".1.log"))
            os.truncate(log, 0)


def clear_up(folder: Path) -> int:
    """Kill what an earlier supervisor left behind. How many there were."""
    try:
        known: list[tuple[int, float]] = json.loads((folder / "processes").read_text())
    except (FileNotFoundError, ValueError):
        return 0
    left: list[psutil.Process] = []
    for pid, created in known:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < 2:  # the clock may have been set meanwhile
                left += [*process.children(recursive=True), process]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)
    (folder / "processes").unlink()
    return len(left)


def main() -> None:
    """`python -m oms_local.supervisor FOLDER OWNER`: detach, then look after parts. OWNER is a process id, or 0 for nobody."""
    folder, owner = Path(sys.argv[1]), int(sys.argv[2])
    belongs_to = psutil.Process(owner) if owner else None
    if os.fork():
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    deadline = time.monotonic() + 2
    while hold(folder) is None:  # whoever asks whether we are at work holds it for a moment
        if time.monotonic() > deadline:
            say("another supervisor is at work here")
            sys.exit(1)
        time.sleep(0.01)
    (folder / "pid").write_text(str(os.getpid()))
    supervisor = Supervisor(folder, belongs_to)

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        supervisor.end()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    say("at work")
    try:
        supervisor.run()
    finally:
        for name in ("control", "pid", "processes"):
            (folder / name).unlink(missing_ok=True)
        say("ended")


if __name__ == "__main__":
    main()
