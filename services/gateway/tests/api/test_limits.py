"""How often one may ask."""

from dataclasses import replace

import pytest
from oms_gateway.api import make_api
from oms_gateway.limits import RateLimit, TooManyRequests

from services.gateway.tests.api.conftest import Gateway


class Seconds:
    """A clock that stands still unless it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def takes(limit: RateLimit, key: str, times: int = 1) -> int:
    """How many of some requests in a row are taken."""
    taken = 0
    for _ in range(times):
        try:
            limit.take(key)
        except TooManyRequests:
            continue
        taken += 1
    return taken


def test_a_burst_is_taken_and_then_as_many_as_time_passes() -> None:
    clock = Seconds()
    limit = RateLimit(2, 5, clock)
    assert takes(limit, "a", 9) == 5
    assert takes(limit, "b", 9) == 5
    clock.now = 1.5
    assert takes(limit, "a", 9) == 3
    clock.now = 1_000
    assert takes(limit, "a", 9) == 5


def test_the_refusal_says_when_to_ask_again() -> None:
    clock = Seconds()
    limit = RateLimit(0.1, 1, clock)
    limit.take("a")
    clock.now = 3
    with pytest.raises(TooManyRequests) as refused:
        limit.take("a")
    assert refused.value.headers == {"Retry-After": "7"}
    clock.now = 10
    limit.take("a")


def test_only_so_many_keys_are_kept() -> None:
    limit = RateLimit(0.1, 1, Seconds(), max_keys=2)
    for key in ("a", "b", "a", "c"):
        takes(limit, key)
    assert [takes(limit, key) for key in ("a", "b")] == [0, 1]  # b was used longest ago


async def test_an_identity_that_asks_too_often_is_refused_and_no_other(gateway: Gateway) -> None:
    api = make_api(replace(gateway.parts, admission=replace(gateway.parts.admission, identities=RateLimit(0.1, 1, Seconds()))))
    async with gateway.client("viewer", api) as viewer, gateway.client("operator", api) as operator:
        assert (await viewer.get("/operations")).status_code == 200
        refused = await viewer.get("/products")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        assert refused.headers["content-type"] == "application/problem+json"
        assert (await operator.get("/operations")).status_code == 200


async def test_an_address_that_asks_too_often_is_refused_before_its_key_is_looked_at(gateway: Gateway) -> None:
    api = make_api(replace(gateway.parts, admission=replace(gateway.parts.admission, addresses=RateLimit(0.1, 2, Seconds()))))
    async with gateway.client("nobody", api) as client:
        assert [(await client.get("/operations")).status_code for _ in range(3)] == [401, 401, 429]
