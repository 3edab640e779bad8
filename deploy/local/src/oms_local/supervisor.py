"""The process that keeps the parts of a stack running.

It runs in a session of its own, holds a lock as long as it runs, and takes requests over a socket: one line of JSON in, one line out. It
manages processes; what they are for is in `stack`. Parts die with it, also when it is killed: the kernel ends them on Linux, and elsewhere
the next start kills them. It has one thread and no event loop, so that starting a process is safe.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from oms_local.parts import Part, SupervisedProcess, log
from oms_local.run_folder import listen, take_lock, write_pids

POLL_SECONDS = 0.05
REQUEST_TIMEOUT_SECONDS = 5
LOCK_TIMEOUT_SECONDS = 2
LOG_CHECK_SECONDS = 10.0
MAX_LOG_BYTES = 10 * 1024 * 1024
"""A log larger than this is rotated. It can grow larger between two checks, LOG_CHECK_SECONDS apart."""


class Supervisor:
    """Keeps all parts running until it is asked to end, or until the process `owner` has ended."""

    def __init__(self, folder: Path, owner: psutil.Process | None) -> None:
        self._folder = folder
        self._owner = owner
        self._processes: dict[str, SupervisedProcess] = {}
        self._ending = False
        self._next_log_check_at = 0.0

    def run(self) -> None:
        """Keep the parts running until the end. Every part has ended when this returns."""
        with listen(self._folder) as server, selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            while not self._done():
                if selector.select(POLL_SECONDS):
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(REQUEST_TIMEOUT_SECONDS)
                        with contextlib.suppress(OSError, ValueError):  # the client has gone, or did not send JSON
                            self._serve(connection)
                self._check_parts()

    def end(self) -> None:
        """Stop everything in order, then return from `run`."""
        if not self._ending:
            log("stopping everything")
            self._ending = True

    def _done(self) -> bool:
        return self._ending and not any(supervised.process for supervised in self._processes.values())

    def _check_parts(self) -> None:
        now = time.monotonic()
        if self._owner is not None and not _is_running(self._owner):
            self._owner = None
            log("the process that owns this stack has ended")
            self.end()
        if self._ending:
            stage = max((supervised.part.stage for supervised in self._processes.values() if supervised.process), default=0)
            for supervised in self._processes.values():
                if supervised.part.stage >= stage:
                    supervised.stop(now)
        changed = [supervised.check(now) for supervised in self._processes.values()]
        if any(changed):
            with contextlib.suppress(OSError):
                write_pids(self._folder, [supervised.process.pid for supervised in self._processes.values() if supervised.process])
        if now >= self._next_log_check_at:
            self._next_log_check_at = now + LOG_CHECK_SECONDS
            for supervised in self._processes.values():
                rotate(Path(supervised.part.log))

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rwb") as stream:
            request: dict[str, Any] = json.loads(stream.readline())
            try:
                response = self._execute(request)
            except KeyError as error:
                response = {"error": f"no such part: {error.args[0]}"}
            stream.write(json.dumps(response).encode() + b"\n")

    def _execute(self, request: dict[str, Any]) -> object:
        match request:
            case {"order": "report"}:
                return [asdict(supervised.report()) for supervised in self._processes.values()]
            case {"order": "run"}:
                part = Part.from_json(request["part"])
                if part.name in self._processes:
                    self._processes[part.name].start(part)
                else:
                    self._processes[part.name] = SupervisedProcess(part)
                return "ok"
            case {"order": "start", "name": str(name)}:
                self._processes[name].start(self._processes[name].part)
                return "ok"
            case {"order": "stop", "name": str(name)}:
                self._processes[name].stop(time.monotonic())
                return "ok"
            case {"order": "signal", "name": str(name), "signal": int(number)}:
                self._processes[name].signal(number)
                return "ok"
            case {"order": "end"}:
                self.end()
                return "ok"
            case _:
                return {"error": f"unknown request: {request.get('order')}"}


def rotate(log_file: Path) -> None:
    """Move the content of a log that is too large to `.1.log`. The process that writes it appends, and need not open it again."""
    with contextlib.suppress(OSError):
        if log_file.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(log_file, log_file.with_suffix(".1.log"))
            os.truncate(log_file, 0)


def _is_running(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """`python -m oms_local.supervisor FOLDER OWNER`: detach, then keep parts running. OWNER is a process id, or 0 for none."""
    folder, owner = Path(sys.argv[1]), int(sys.argv[2])
    owner_process = psutil.Process(owner) if owner else None
    if os.fork():
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while take_lock(folder) is None:  # a process that asks whether a supervisor runs holds the lock for a moment
        if time.monotonic() > deadline:
            log("another supervisor runs here")
            sys.exit(1)
        time.sleep(0.01)
    (folder / "pid").write_text(str(os.getpid()))
    supervisor = Supervisor(folder, owner_process)

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        supervisor.end()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log("supervisor started")
    try:
        supervisor.run()
    finally:
        for name in ("control", "pid", "processes"):
            (folder / name).unlink(missing_ok=True)
        log("supervisor ended")


if __name__ == "__main__":
    main()
