"""Passwords that are made, not chosen."""

from base64 import b32encode
from collections.abc import Callable


def make_password(random: Callable[[int], bytes]) -> str:
    """A password of 128 random bits that can be read out. `random` gives so many random bytes."""
    text = b32encode(random(16)).decode().rstrip("=").lower()
    return "-".join(text[n : n + 5] for n in range(0, len(text), 5))
