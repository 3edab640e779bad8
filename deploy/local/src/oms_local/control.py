"""The client of the supervisor: it starts one, and sends it requests."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from oms_local.errors import StackError
from oms_local.parts import Part, Report
from oms_local.run_folder import kill_leftovers, socket_path, take_lock

TIMEOUT_SECONDS = 10.0


class Control:
    """The supervisor whose files are in `folder`, whether it runs or not.

    A request's key for its kind is `order`, as in the supervisors of stacks that an earlier version started.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def running(self) -> bool:
        """Whether a supervisor runs. Its lock decides: a process id may be stale, or another process's by now."""
        if not self.folder.exists():
            return False
        lock = take_lock(self.folder)
        if lock is None:
            return True
        os.close(lock)
        return False

    def pid(self) -> int | None:
        """The supervisor's process id."""
        try:
            return int((self.folder / "pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def start(self, log: Path, owner: int | None) -> int:
        """Start a supervisor. Returns how many processes of an earlier one it had to kill first. Raises StackError if it does not start.

        `owner` is the process id whose end ends the supervisor.
        """
        killed = kill_leftovers(self.folder)
        with log.open("ab") as output:
            subprocess.run(
                [sys.executable, "-m", "oms_local.supervisor", str(self.folder), str(owner or 0)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=True,
            )
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not (self.running() and self._responds()):
            if time.monotonic() > deadline:
                raise StackError(f"the supervisor did not start. Its log says why: {log}")
            time.sleep(0.02)
        return killed

    def reports(self) -> list[Report]:
        """The state of every part; empty if no supervisor runs."""
        if not self.running():
            return []
        response: list[dict[str, Any]] = self._request({"order": "report"})
        return [Report(**fields) for fields in response]

    def run(self, part: Part) -> None:
        """Keep a part running from now on."""
        self._request({"order": "run", "part": asdict(part)})

    def start_part(self, name: str) -> None:
        """Start a part that was stopped."""
        self._request({"order": "start", "name": name})

    def stop_part(self, name: str) -> None:
        """Stop a part, and wait until it has ended."""
        self._request({"order": "stop", "name": name})
        while any(report.name == name and report.pid for report in self.reports()):
            time.sleep(0.05)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a part."""
        self._request({"order": "signal", "name": name, "signal": number})

    def end(self) -> None:
        """Stop everything in order, and wait until the supervisor has ended."""
        if self.running():
            self._request({"order": "end"})
            while self.running():
                time.sleep(0.05)

    def abandon(self) -> None:
        """Kill everything at once, as a crash would, and wait until it has ended."""
        pid = self.pid()
        if self.running() and pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
            while self.running():
                time.sleep(0.01)
        kill_leftovers(self.folder)

    def _responds(self) -> bool:
        try:
            self._request({"order": "report"})
        except StackError:
            return False
        return True

    def _request(self, request: dict[str, Any]) -> Any:
        try:
            with socket_path(self.folder) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(TIMEOUT_SECONDS)
                connection.connect(path)
                with connection.makefile("rwb") as stream:
                    stream.write(json.dumps(request).encode() + b"\n")
                    stream.flush()
                    response = json.loads(stream.readline() or b"null")
        except OSError as error:
            raise StackError(
                f"no response from the stack's supervisor ({error}). The stack seems to be down: `oms stack up` starts it."
            ) from error
        if isinstance(response, dict) and "error" in response:
            raise StackError(str(response["error"]))  # pyright: ignore[reportUnknownArgumentType]  # JSON
        return response  # pyright: ignore[reportUnknownVariableType]  # JSON
