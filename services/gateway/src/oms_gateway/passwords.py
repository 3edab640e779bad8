"""Passwords: Argon2id, on threads, a few at a time.

Whoever sends wrong passwords makes this process work. So no more than `at_once` are hashed at the same time, each with a core and 19 MiB,
and no more than `waiting` wait; nothing is hashed on the event loop. A name that nobody has costs the same work as a wrong password.
"""

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError

from oms_gateway.refusals import Unavailable

MIN_CHARACTERS, MAX_CHARACTERS = 12, 1_000

T = TypeVar("T")


def owasp_hasher() -> PasswordHasher:
    """Argon2id with the parameters that OWASP's password storage cheat sheet begins with: 19 MiB, two passes, one lane."""
    return PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1, type=Type.ID)


class Passwords:
    """Hashes and verifies. `close` it at the end."""

    def __init__(self, *, at_once: int, waiting: int, hasher: PasswordHasher | None = None) -> None:
        """At most `at_once` passwords are hashed and `waiting` wait. `hasher` is Argon2id with OWASP's parameters where none is given."""
        self._hasher = hasher or owasp_hasher()
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="passwords")
        self._room = at_once + waiting
        self._nobodys = self._hasher.hash("a password that nobody has")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises Unavailable when too many wait already."""
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, password: str, kept: str | None) -> bool:
        """Whether `password` is the one whose hash is kept. Where none is kept, the same work is done, and it is not.

        Raises Unavailable when too many wait already.
        """
        return await self._run(lambda: self._verify(password, kept))

    def outdated(self, kept: str) -> bool:
        """Whether a kept hash was made with other parameters than are used now."""
        return self._hasher.check_needs_rehash(kept)

    def _verify(self, password: str, kept: str | None) -> bool:
        try:
            self._hasher.verify(kept or self._nobodys, _normal(password))
        except VerifyMismatchError:
            return False
        return kept is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._room <= 0:
            raise Unavailable("too many sign in at the same time", "try again in a moment")
        self._room -= 1
        try:
            return await asyncio.wrap_future(self._threads.submit(work))
        finally:
            self._room += 1


def _normal(password: str) -> str:
    """The same text, however a keyboard composes it."""
    return unicodedata.normalize("NFKC", password)
