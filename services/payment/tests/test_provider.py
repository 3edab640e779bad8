"""The port's contract, kept by every provider in PROVIDERS; and the tokens of the sandbox."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace
from oms_contracts.values import PaymentMethod
from oms_payment.commands import LookUpOutcome, Request, RequestAuthorization, RequestCapture, RequestRefund, RequestVoid
from oms_payment.provider import SCRIPTS, Done, Provider, ProviderTimeout, Refused, Sandbox, UnknownRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A provider to be tested: how a new process reaches it, and tokens of its test mode."""

    reach: Callable[[], Provider]
    approved: str
    declined: str
    unanswered: str
    """Approved, but the answer is lost, so that it must be looked up."""


PROVIDERS = {
    "sandbox": Candidate(reach=Sandbox, approved="tok_visa", declined="tok_declined", unanswered="tok_timeout"),
}


@pytest.fixture(params=PROVIDERS.values(), ids=list(PROVIDERS))
def candidate(request: pytest.FixtureRequest) -> Candidate:
    return request.param


def authorization(token: str, order_id: str = "O", checks: int = 0) -> RequestAuthorization:
    method = PaymentMethod(kind="card", token=token)
    return RequestAuthorization(
        order_id=order_id, request_id=f"{order_id}:authorize:1", checks=checks, amount=15_00, currency="EUR", payment=method
    )


def capture(held: str) -> RequestCapture:
    return RequestCapture(order_id="O", request_id="O:capture:O/X", checks=0, authorization_id=held, amount=15_00, currency="EUR")


def void(held: str) -> RequestVoid:
    return RequestVoid(order_id="O", request_id="O:void:1", checks=0, authorization_id=held)


def refund(held: str) -> RequestRefund:
    return RequestRefund(order_id="O", request_id="O:refund:R", checks=0, authorization_id=held, amount=5_00, currency="EUR")


def call(provider: Provider, request: Request) -> Awaitable[Done | Refused]:
    calls: dict[type[Any], Callable[[Any], Awaitable[Done | Refused]]] = {
        RequestAuthorization: provider.authorize,
        RequestCapture: provider.capture,
        RequestVoid: provider.void,
        RequestRefund: provider.refund,
    }
    return calls[type(request)](request)


def look_up(provider: Provider, request: Request, checks: int = 1) -> Awaitable[Done | Refused | UnknownRequest]:
    return provider.look_up(LookUpOutcome(order_id="O", request_id=request.request_id, checks=checks, request=request))


async def held_by(provider: Provider, token: str) -> str:
    """The id of an authorisation made with this token."""
    answer = await provider.authorize(authorization(token))
    assert isinstance(answer, Done)
    return answer.reference


class TestEveryProvider:
    async def test_holds_and_takes_and_gives_back(self, candidate: Candidate):
        provider = candidate.reach()
        held = await held_by(provider, candidate.approved)
        assert isinstance(await provider.capture(capture(held)), Done)
        assert isinstance(await provider.refund(refund(held)), Done)

    async def test_lets_go(self, candidate: Candidate):
        provider = candidate.reach()
        assert isinstance(await provider.void(void(await held_by(provider, candidate.approved))), Done)

    async def test_declines_with_a_reason(self, candidate: Candidate):
        answer = await candidate.reach().authorize(authorization(candidate.declined))
        assert isinstance(answer, Refused)
        assert answer.reason

    async def test_different_requests_have_different_references(self, candidate: Candidate):
        provider = candidate.reach()
        first, second = authorization(candidate.approved, "O"), authorization(candidate.approved, "P")
        assert await provider.authorize(first) != await provider.authorize(second)

    @pytest.mark.parametrize("make", [capture, void, refund])
    async def test_the_same_key_is_answered_the_same_also_after_a_restart(self, candidate: Candidate, make: Callable[[str], Request]):
        provider = candidate.reach()
        for token in (candidate.approved, candidate.declined):
            request = authorization(token)
            first = await provider.authorize(request)
            assert await provider.authorize(request) == first
            assert await candidate.reach().authorize(request) == first
            assert await look_up(candidate.reach(), request) == first
        request = make(await held_by(provider, candidate.approved))
        first = await call(provider, request)
        assert await call(provider, request) == first
        assert await call(candidate.reach(), request) == first
        assert await look_up(candidate.reach(), request) == first

    async def test_a_lost_answer_is_found_by_looking_it_up(self, candidate: Candidate):
        request = authorization(candidate.unanswered)
        with pytest.raises(ProviderTimeout):
            await candidate.reach().authorize(request)
        assert isinstance(await look_up(candidate.reach(), replace(request, checks=1)), Done)


class TestSandboxTokens:
    @pytest.mark.parametrize("token", ["tok_visa", "tok_mastercard", "anything", "with.dots.in.it"])
    async def test_any_other_token_is_approved_throughout(self, token: str):
        held = await held_by(Sandbox(), token)
        for request in (capture(held), void(held), refund(held)):
            assert isinstance(await call(Sandbox(), request), Done)

    @pytest.mark.parametrize("token", ["tok_declined", "tok_insufficient_funds"])
    async def test_some_are_declined(self, token: str):
        assert isinstance(await Sandbox().authorize(authorization(token)), Refused)

    @pytest.mark.parametrize(
        ("token", "silent_checks", "outcome"), [("tok_timeout", 0, Done), ("tok_timeout_declined", 0, Refused), ("tok_late", 3, Done)]
    )
    async def test_some_are_silent_at_first(self, token: str, silent_checks: int, outcome: type[object]):
        with pytest.raises(ProviderTimeout):
            await Sandbox().authorize(authorization(token))
        for checks in range(1, 1 + silent_checks):
            with pytest.raises(ProviderTimeout):
                await look_up(Sandbox(), authorization(token, checks=checks), checks)
        last = 1 + silent_checks
        assert isinstance(await look_up(Sandbox(), authorization(token, checks=last), last), outcome)

    async def test_a_lost_request_must_be_sent_again(self):
        with pytest.raises(ProviderTimeout):
            await Sandbox().authorize(authorization("tok_lost"))
        assert await look_up(Sandbox(), authorization("tok_lost", checks=1)) == UnknownRequest()
        assert isinstance(await Sandbox().authorize(authorization("tok_lost", checks=1)), Done)

    @pytest.mark.parametrize(("token", "times"), [("tok_twice", 1), ("tok_gateway_down", 2)])
    async def test_a_broken_connection_breaks_a_few_times(self, token: str, times: int):
        provider = Sandbox()
        for _ in range(times):
            with pytest.raises(ConnectionError):
                await provider.authorize(authorization(token))
        assert isinstance(await provider.authorize(authorization(token)), Done)

    @pytest.mark.parametrize(("token", "make"), [("tok_capture_fails", capture), ("tok_void_fails", void), ("tok_refund_fails", refund)])
    async def test_some_fail_at_a_later_step_and_at_no_other(self, token: str, make: Callable[[str], Request]):
        held = await held_by(Sandbox(), token)
        for other in (capture, void, refund):
            assert isinstance(await call(Sandbox(), other(held)), Refused if other is make else Done)

    @pytest.mark.parametrize(
        ("token", "make"), [("tok_capture_timeout", capture), ("tok_void_timeout", void), ("tok_refund_timeout", refund)]
    )
    async def test_some_are_silent_at_a_later_step(self, token: str, make: Callable[[str], Request]):
        request = make(await held_by(Sandbox(), token))
        with pytest.raises(ProviderTimeout):
            await call(Sandbox(), request)
        assert isinstance(await look_up(Sandbox(), request), Done)

    def test_every_script_is_for_a_step_there_is(self):
        assert {script.step for script in SCRIPTS.values()} == {"authorize", "capture", "void", "refund"}
