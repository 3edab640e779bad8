"""The supervisor's files, in the stack's folder `run`: its lock, its socket, and the list of its processes."""

import contextlib
import fcntl
import json
import os
import socket
import sys
from collections.abc import Generator
from pathlib import Path

import psutil

LOCK = "lock"
MAX_SOCKET_PATH_BYTES = 100
"""A socket's address has 107 bytes on Linux, fewer elsewhere."""
CREATION_TOLERANCE_SECONDS = 2
KILL_TIMEOUT_SECONDS = 10


def take_lock(folder: Path, name: str = LOCK) -> int | None:
    """Take a lock that lasts as long as this process, or until the returned file descriptor is closed. None if another process has it.

    The lock of a killed process is free at once.
    """
    descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextlib.contextmanager
def socket_path(folder: Path) -> Generator[str]:
    """A path of the control socket that is short enough for a socket's address, however long the folder's own path is."""
    path = folder / "control"
    if len(os.fsencode(path)) < MAX_SOCKET_PATH_BYTES or sys.platform != "linux":
        yield str(path)
        return
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/control"
    finally:
        os.close(descriptor)


def listen(folder: Path) -> socket.socket:
    """The control socket. Only this user can connect: the folder is closed to others."""
    (folder / "control").unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with socket_path(folder) as path:
        server.bind(path)
    server.listen(16)
    return server


def write_pids(folder: Path, pids: list[int]) -> None:
    """Save the ids of the supervisor's processes, with their creation times: another process may get the same id later."""
    processes: list[tuple[int, float]] = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append((pid, psutil.Process(pid).create_time()))
    arriving = folder / "processes.new"
    arriving.write_text(json.dumps(processes))
    arriving.replace(folder / "processes")


def kill_leftovers(folder: Path) -> int:
    """Kill the processes that an earlier supervisor left behind. Returns how many there were."""
    try:
        saved: list[tuple[int, float]] = json.loads((folder / "processes").read_text())
    except (FileNotFoundError, ValueError):
        return 0
    leftovers: list[psutil.Process] = []
    for pid, created in saved:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < CREATION_TOLERANCE_SECONDS:  # the clock may have been set meanwhile
                leftovers += [*process.children(recursive=True), process]
    for process in leftovers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(leftovers, timeout=KILL_TIMEOUT_SECONDS)
    (folder / "processes").unlink()
    return len(leftovers)
