"""How the stack speaks to its supervisor."""

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
from oms_local.supervisor import Part, Report, clear_up, hold, reachable

PATIENCE_SECONDS = 10.0


class Control:
    """The supervisor whose files are in `folder`, running or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def running(self) -> bool:
        """Whether a supervisor is at work. It is its lock that counts: a process id may be stale or somebody else's."""
        if not self.folder.exists():
            return False
        lock = hold(self.folder)
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
        """Start a supervisor. How many processes an earlier one had left behind."""
        left = clear_up(self.folder)
        with log.open("ab") as output:
            subprocess.run(
                [sys.executable, "-m", "oms_local.supervisor", str(self.folder), str(owner or 0)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=True,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (self.running() and self._responds()):
            if time.monotonic() > deadline:
                raise StackError(f"the supervisor did not start. Its log says why: {log}")
            time.sleep(0.02)
        return left

    def reports(self) -> list[Report]:
        """How each part stands; nothing where no supervisor is at work."""
        if not self.running():
            return []
        answer: list[dict[str, Any]] = self._ask({"order": "report"})
        return [Report(**fields) for fields in answer]

    def run(self, part: Part) -> None:
        """Have a part run from now on."""
        self._ask({"order": "run", "part": asdict(part)})

    def start_part(self, name: str) -> None:
        """Have a known part run again."""
        self._ask({"order": "start", "name": name})

    def stop_part(self, name: str) -> None:
        """Ask a part to end, and wait until it has."""
        self._ask({"order": "stop", "name": name})
        while any(report.name == name and report.pid for report in self.reports()):
            time.sleep(0.05)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a part."""
        self._ask({"order": "signal", "name": name, "signal": number})

    def end(self) -> None:
        """Stop everything in order, and wait until it has."""
        if self.running():
            self._ask({"order": "end"})
            while self.running():
                time.sleep(0.05)

    def abandon(self) -> None:
        """End everything at once, as a crash would, and wait until it has."""
        pid = self.pid()
        if self.running() and pid is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
            while self.running():
                time.sleep(0.01)
        clear_up(self.folder)

    def _responds(self) -> bool:
        try:
            self._ask({"order": "report"})
        except StackError:
            return False
        return True

    def _ask(self, order: dict[str, Any]) -> Any:
        try:
            with reachable(self.folder) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(PATIENCE_SECONDS)
                connection.connect(path)
                with connection.makefile("rwb") as stream:
                    stream.write(json.dumps(order).encode() + b"\n")
                    stream.flush()
                    answer = json.loads(stream.readline() or b"null")
        except OSError as error:
            raise StackError(f"no answer from the stack's supervisor ({error}). The stack is down, it seems: `oms stack up`.") from error
        if isinstance(answer, dict) and "error" in answer:
            raise StackError(str(answer["error"]))  # pyright: ignore[reportUnknownArgumentType]  # JSON
        return answer  # pyright: ignore[reportUnknownVariableType]  # JSON
