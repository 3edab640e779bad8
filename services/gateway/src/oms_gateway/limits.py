"""How often one address and one identity may ask: a token bucket each. In memory: every process of the gateway counts for itself."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import ceil

from fastapi import Request
from oms_runtime.limits import network_of

from oms_gateway.identity import Identity
from oms_gateway.refusals import Refusal

MAX_KEYS = 10_000
"""Of one kind of bucket. Then the one that was used longest ago is forgotten, which is full again unless thousands ask at once."""


class TooManyRequests(Refusal):
    """An identity or an address asks too often: another request counts after `wait_seconds`."""

    status = 429

    def __init__(self, wait_seconds: float) -> None:
        seconds = max(1, ceil(wait_seconds))
        super().__init__("too many requests", f"ask again in {seconds} s", headers={"Retry-After": str(seconds)})


class RateLimit:
    """At most `per_second` requests of each key in the long run, `burst` of them at once. `clock` tells seconds that never go back."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float], *, max_keys: int = MAX_KEYS) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Count a request. Raises TooManyRequests where it is one too many; then it does not count."""
        now = self._clock()
        tokens, at = self._buckets.pop(key, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - at) * self._per_second)
        taken = tokens >= 1
        self._buckets[key] = (tokens - 1 if taken else tokens, now)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        if not taken:
            raise TooManyRequests((1 - tokens) / self._per_second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Lets requests in, by their heads alone: the body is read afterwards.

    `addresses` limits requests before it is known who sent them, `identities` after. `identify` tells who did, and raises a Refusal where
    nobody is known by it.
    """

    identify: Callable[[Request], Awaitable[Identity]]
    addresses: RateLimit
    identities: RateLimit

    async def admit(self, request: Request) -> Identity:
        """Who sent a request. Raises a Refusal."""
        self.admit_anybody(request)
        identity = await self.identify(request)
        self.identities.take(identity.actor)
        return identity

    def admit_anybody(self, request: Request) -> None:
        """Let a request in that needs no identity. Raises TooManyRequests."""
        self.addresses.take(network_of(request.client.host) if request.client else "")
