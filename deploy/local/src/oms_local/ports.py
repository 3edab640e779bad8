"""TCP ports on the loopback interface."""

import random
import socket

LOOPBACK = "127.0.0.1"
BELOW_EPHEMERAL = range(20_000, 32_000)
"""Ports that the kernel does not hand to outgoing connections: a server that was taken away finds its port free when it comes back."""


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def answers(port: int) -> bool:
    """Whether somebody accepts connections on the port."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


def find_free(count: int = 1) -> int:
    """The first of `count` free ports in a row, chosen at random."""
    starts = random.sample(BELOW_EPHEMERAL[: -count or None], k=500)
    for start in starts:
        if all(is_free(port) for port in range(start, start + count)):
            return start
    raise OSError(f"no {count} free ports in a row on {LOOPBACK}")
