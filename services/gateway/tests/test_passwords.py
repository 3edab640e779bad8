"""Passwords are hashed as OWASP advises, off the event loop, a few at a time."""

import asyncio
import threading
from typing import Any

import pytest
from oms_gateway.passwords import Passwords, owasp_hasher
from oms_gateway.refusals import Unavailable

from services.gateway.tests.gateways import CountingHasher


class HeldHasher(CountingHasher):
    """It verifies nothing until the test lets it, and knows how many it had in hand at most."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on, self.lock = threading.Event(), threading.Lock()
        self.in_hand = self.most = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:
        with self.lock:
            self.in_hand += 1
            self.most = max(self.most, self.in_hand)
        assert self.go_on.wait(30)
        with self.lock:
            self.in_hand -= 1
        return super().verify(hash, password)


def test_the_parameters_are_those_of_owasp() -> None:
    assert owasp_hasher().hash("x").startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_a_password_is_right_however_a_keyboard_composes_it() -> None:
    passwords = Passwords(at_once=1, waiting=1, hasher=CountingHasher())
    kept = await passwords.hash("Gr\u00fc\u00dfe aus Berlin")
    assert await passwords.verify("Gru\u0308\u00dfe aus Berlin", kept)
    assert not await passwords.verify("Gruesse aus Berlin", kept)
    passwords.close()


async def test_where_no_hash_is_kept_one_is_computed_all_the_same_and_no_password_is_right() -> None:
    hasher = CountingHasher()
    passwords = Passwords(at_once=1, waiting=1, hasher=hasher)
    for password in ("wrong", "a password that nobody has"):
        assert not await passwords.verify(password, None)
    assert hasher.verified == 2
    passwords.close()


async def test_a_flood_is_refused_and_leaves_the_event_loop_and_the_other_cores_alone() -> None:
    hasher = HeldHasher()
    passwords = Passwords(at_once=2, waiting=3, hasher=hasher)
    taken = [asyncio.ensure_future(passwords.verify("x", None)) for _ in range(5)]
    await asyncio.sleep(0)  # the event loop goes on: each of them has begun, none can end
    async with asyncio.timeout(5):
        for _ in range(20):
            with pytest.raises(Unavailable):
                await passwords.verify("x", None)

    hasher.go_on.set()
    assert await asyncio.gather(*taken) == [False] * 5
    assert hasher.most == 2
    assert not await passwords.verify("x", None)  # there is room again
    passwords.close()


async def test_whoever_goes_away_leaves_their_place() -> None:
    hasher = HeldHasher()
    passwords = Passwords(at_once=1, waiting=0, hasher=hasher)
    gone = asyncio.ensure_future(passwords.verify("x", None))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    hasher.go_on.set()
    assert not await passwords.verify("x", None)
    passwords.close()
