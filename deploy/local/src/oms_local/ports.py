"""TCP ports on the loopback interface: which are free, and what listens on the others."""

import http.client
import random
import socket
from typing import Any

import psutil

LOOPBACK = "127.0.0.1"
BELOW_EPHEMERAL = range(20_000, 32_000)
"""Ports that the kernel does not give to outgoing connections: a server that was stopped finds its port free when it starts again."""


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def accepts_connections(port: int) -> bool:
    """Whether a process accepts connections on the port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


def http_is_ready(port: int) -> bool:
    """Whether the service on the port responds 200 to `GET /ready`."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=3)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def find_free(count: int = 1) -> int:
    """The first of `count` free ports in a row, chosen at random. Raises OSError if there are none."""
    starts = random.sample(BELOW_EPHEMERAL[: -count or None], k=500)
    for start in starts:
        if all(is_free(port) for port in range(start, start + count)):
            return start
    raise OSError(f"no {count} free ports in a row on {LOOPBACK}")


def user_of(port: int) -> str:
    """The process that listens on the port, as text; empty if this user may not see it."""
    try:
        for connection in psutil.net_connections("tcp"):
            address: Any = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass  # some systems show connections to root only
    return ""
