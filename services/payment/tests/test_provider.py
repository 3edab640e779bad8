"""The port's contract, for every provider in CANDIDATES; and the tokens of the sandbox.

To test another provider, add a Candidate for it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace
from oms_contracts.values import PaymentMethod
from oms_payment.commands import LookUpOutcome, Request, RequestAuthorization, RequestCapture, RequestRefund, RequestVoid
from oms_payment.providers.port import Done, Provider, ProviderTimeout, Refused, Response, UnknownRequest
from oms_payment.providers.sandbox import SCRIPTS, Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A provider under test: how a new process connects to it, and tokens of its test mode."""

    connect: Callable[[], Provider]
    approved: str
    declined: str
    timed_out: str
    """Approved, but the first call times out, so that the outcome must be looked up."""
    authorize_elsewhere: Callable[[], Awaitable[str]]
    """Has 15.00 EUR held as a channel does, and returns the id of the authorization."""


async def anything() -> str:
    """The sandbox moves no money: every id is that of an authorization."""
    return "auth_4711"


CANDIDATES = {
    "sandbox": Candidate(
        connect=Sandbox, approved="tok_visa", declined="tok_declined", timed_out="tok_timeout", authorize_elsewhere=anything
    ),
}


@pytest.fixture(params=CANDIDATES.values(), ids=list(CANDIDATES))
def candidate(request: pytest.FixtureRequest) -> Candidate:
    return request.param


def authorization(token: str, order_id: str = "O", checks: int = 0) -> RequestAuthorization:
    method = PaymentMethod(kind="card", token=token)
    return RequestAuthorization(
        order_id=order_id, request_id=f"{order_id}:authorize:1", checks=checks, amount=15_00, currency="EUR", payment=method
    )


def capture(authorization_id: str) -> RequestCapture:
    return RequestCapture(
        order_id="O", request_id="O:capture:O/X", checks=0, authorization_id=authorization_id, amount=15_00, currency="EUR"
    )


def void(authorization_id: str) -> RequestVoid:
    return RequestVoid(order_id="O", request_id="O:void:1", checks=0, authorization_id=authorization_id)


def refund(authorization_id: str) -> RequestRefund:
    return RequestRefund(order_id="O", request_id="O:refund:R", checks=0, authorization_id=authorization_id, amount=5_00, currency="EUR")


def call(provider: Provider, request: Request) -> Awaitable[Done | Refused]:
    calls: dict[type[Any], Callable[[Any], Awaitable[Done | Refused]]] = {
        RequestAuthorization: provider.authorize,
        RequestCapture: provider.capture,
        RequestVoid: provider.void,
        RequestRefund: provider.refund,
    }
    return calls[type(request)](request)


def look_up(provider: Provider, request: Request, checks: int = 1) -> Awaitable[Response]:
    return provider.look_up(LookUpOutcome(order_id="O", request_id=request.request_id, checks=checks, request=request))


async def authorized_with(provider: Provider, token: str) -> str:
    """The id of an authorization made with this token."""
    response = await provider.authorize(authorization(token))
    assert isinstance(response, Done)
    return response.reference


class TestEveryProvider:
    async def test_authorizes_captures_and_refunds(self, candidate: Candidate):
        provider = candidate.connect()
        authorization_id = await authorized_with(provider, candidate.approved)
        assert isinstance(await provider.capture(capture(authorization_id)), Done)
        assert isinstance(await provider.refund(refund(authorization_id)), Done)

    @pytest.mark.parametrize("make", [capture, void])
    async def test_takes_an_authorization_that_the_channel_made(self, candidate: Candidate, make: Callable[[str], Request]):
        """It was made by other means than this port, under a key that is not ours."""
        authorization_id = await candidate.authorize_elsewhere()
        first = await call(candidate.connect(), make(authorization_id))
        assert isinstance(first, Done)
        assert await call(candidate.connect(), make(authorization_id)) == first

    async def test_voids(self, candidate: Candidate):
        provider = candidate.connect()
        assert isinstance(await provider.void(void(await authorized_with(provider, candidate.approved))), Done)

    async def test_declines_with_a_reason(self, candidate: Candidate):
        response = await candidate.connect().authorize(authorization(candidate.declined))
        assert isinstance(response, Refused)
        assert response.reason

    async def test_different_requests_have_different_references(self, candidate: Candidate):
        provider = candidate.connect()
        first, second = authorization(candidate.approved, "O"), authorization(candidate.approved, "P")
        assert await provider.authorize(first) != await provider.authorize(second)

    @pytest.mark.parametrize("make", [capture, void, refund])
    async def test_the_same_key_gets_the_same_response_also_after_a_restart(self, candidate: Candidate, make: Callable[[str], Request]):
        provider = candidate.connect()
        for token in (candidate.approved, candidate.declined):
            request = authorization(token)
            first = await provider.authorize(request)
            assert await provider.authorize(request) == first
            assert await candidate.connect().authorize(request) == first
            assert await look_up(candidate.connect(), request) == first
        request = make(await authorized_with(provider, candidate.approved))
        first = await call(provider, request)
        assert await call(provider, request) == first
        assert await call(candidate.connect(), request) == first
        assert await look_up(candidate.connect(), request) == first

    async def test_a_lost_response_is_found_by_looking_it_up(self, candidate: Candidate):
        request = authorization(candidate.timed_out)
        with pytest.raises(ProviderTimeout):
            await candidate.connect().authorize(request)
        assert isinstance(await look_up(candidate.connect(), replace(request, checks=1)), Done)


class TestSandboxTokens:
    @pytest.mark.parametrize("token", ["tok_visa", "tok_mastercard", "anything", "with.dots.in.it"])
    async def test_any_other_token_is_approved_at_every_step(self, token: str):
        authorization_id = await authorized_with(Sandbox(), token)
        for request in (capture(authorization_id), void(authorization_id), refund(authorization_id)):
            assert isinstance(await call(Sandbox(), request), Done)

    @pytest.mark.parametrize("token", ["tok_declined", "tok_insufficient_funds"])
    async def test_declined_tokens(self, token: str):
        assert isinstance(await Sandbox().authorize(authorization(token)), Refused)

    @pytest.mark.parametrize(
        ("token", "timed_out_look_ups", "outcome"), [("tok_timeout", 0, Done), ("tok_timeout_declined", 0, Refused), ("tok_late", 3, Done)]
    )
    async def test_tokens_that_time_out_at_first(self, token: str, timed_out_look_ups: int, outcome: type[object]):
        with pytest.raises(ProviderTimeout):
            await Sandbox().authorize(authorization(token))
        for checks in range(1, 1 + timed_out_look_ups):
            with pytest.raises(ProviderTimeout):
                await look_up(Sandbox(), authorization(token, checks=checks), checks)
        last = 1 + timed_out_look_ups
        assert isinstance(await look_up(Sandbox(), authorization(token, checks=last), last), outcome)

    async def test_a_lost_request_must_be_sent_again(self):
        with pytest.raises(ProviderTimeout):
            await Sandbox().authorize(authorization("tok_lost"))
        assert await look_up(Sandbox(), authorization("tok_lost", checks=1)) == UnknownRequest()
        assert isinstance(await Sandbox().authorize(authorization("tok_lost", checks=1)), Done)

    @pytest.mark.parametrize(("token", "times"), [("tok_twice", 1), ("tok_gateway_down", 2)])
    async def test_tokens_whose_connection_breaks_a_few_times(self, token: str, times: int):
        provider = Sandbox()
        for _ in range(times):
            with pytest.raises(ConnectionError):
                await provider.authorize(authorization(token))
        assert isinstance(await provider.authorize(authorization(token)), Done)

    @pytest.mark.parametrize(("token", "make"), [("tok_capture_fails", capture), ("tok_void_fails", void), ("tok_refund_fails", refund)])
    async def test_tokens_that_are_refused_at_a_later_step_and_at_no_other(self, token: str, make: Callable[[str], Request]):
        authorization_id = await authorized_with(Sandbox(), token)
        for other in (capture, void, refund):
            assert isinstance(await call(Sandbox(), other(authorization_id)), Refused if other is make else Done)

    async def test_a_capture_that_is_refused_once_is_performed_under_another_key(self):
        first = capture(await authorized_with(Sandbox(), "tok_capture_fails_once"))
        second = replace(first, request_id="O:capture 2:O/X")
        for _ in range(2):
            assert isinstance(await Sandbox().capture(first), Refused)
            assert isinstance(await Sandbox().capture(second), Done)

    async def test_an_authorization_runs_out_when_its_token_says_and_its_renewal_may_be_declined(self):
        token = "tok_renewal_fails_expires_2026-12-24T18:00:00Z"  # no secret
        first = authorization(token)
        assert await Sandbox().authorize(first) == await look_up(Sandbox(), first)
        response = await Sandbox().authorize(first)
        assert isinstance(response, Done)
        assert response.expires_at == datetime(2026, 12, 24, 18, tzinfo=UTC)
        assert isinstance(await Sandbox().capture(capture(response.reference)), Done)
        assert isinstance(await Sandbox().authorize(replace(first, request_id="O:authorize 2:1")), Refused)
        good = replace(authorization("tok_visa_expires_2026-12-24T18:00:00Z"), request_id="O:authorize 2:1")
        renewed = await Sandbox().authorize(good)
        assert isinstance(renewed, Done)
        assert renewed.expires_at is None

    @pytest.mark.parametrize(
        ("token", "make"), [("tok_capture_timeout", capture), ("tok_void_timeout", void), ("tok_refund_timeout", refund)]
    )
    async def test_tokens_that_time_out_at_a_later_step(self, token: str, make: Callable[[str], Request]):
        request = make(await authorized_with(Sandbox(), token))
        with pytest.raises(ProviderTimeout):
            await call(Sandbox(), request)
        assert isinstance(await look_up(Sandbox(), request), Done)

    async def test_an_authorization_of_the_channels_is_treated_as_its_token_says(self):
        assert isinstance(await Sandbox().capture(capture("tok_capture_fails.of-the-channel")), Refused)
        assert isinstance(await Sandbox().capture(capture("tok_void_fails.of-the-channel")), Done)

    def test_every_script_is_for_a_known_step(self):
        assert {script.step for script in SCRIPTS.values()} == {"authorize", "capture", "void", "refund"}
