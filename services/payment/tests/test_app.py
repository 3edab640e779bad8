import asyncio
from datetime import timedelta

import pytest
from oms_contracts.catalogue import topics_written_by
from oms_contracts.message import type_of
from oms_contracts.payments import PayOutstanding, RetryCapture, WriteOffPayment
from oms_contracts.values import PaymentMethod
from oms_payment.app import make_effects, make_provider, make_service
from oms_payment.commands import (
    Event,
    LookUpOutcome,
    RecordRefusal,
    RecordSuccess,
    RecordUnknownOutcome,
    RecordUnknownRequest,
    RequestAuthorization,
    RequestCapture,
    RequestRefund,
    RequestVoid,
)
from oms_payment.decider import Terms
from oms_payment.providers.port import Done, Refused
from oms_payment.providers.sandbox import Sandbox
from oms_payment.settings import Settings

TIMEOUT = timedelta(seconds=5)
EFFECTS = make_effects(Sandbox(), TIMEOUT)


def authorization(token: str, checks: int = 0) -> RequestAuthorization:
    method = PaymentMethod(kind="card", token=token)
    return RequestAuthorization(order_id="O", request_id="O:authorize:1", checks=checks, amount=1, currency="EUR", payment=method)


def look_up(request: RequestAuthorization) -> LookUpOutcome:
    return LookUpOutcome(order_id="O", request_id=request.request_id, checks=request.checks, request=request)


class UnresponsiveSandbox(Sandbox):
    """Takes requests and never responds."""

    async def authorize(self, request: RequestAuthorization) -> Done | Refused:
        await asyncio.Event().wait()
        return await super().authorize(request)


async def perform(effect: object) -> object:
    return await EFFECTS[type(effect)](effect)


async def test_a_performed_request_is_recorded_as_success():
    response = await perform(authorization("tok_visa"))
    assert isinstance(response, RecordSuccess)
    assert (response.order_id, response.request_id) == ("O", "O:authorize:1")
    assert response.reference.startswith("tok_visa.")


async def test_a_refused_request_is_recorded_as_refusal():
    refused = RecordRefusal(order_id="O", request_id="O:authorize:1", reason="insufficient funds")
    assert await perform(authorization("tok_insufficient_funds")) == refused


async def test_a_timeout_of_the_provider_is_recorded_as_an_unknown_outcome():
    assert await perform(authorization("tok_late")) == RecordUnknownOutcome(order_id="O", request_id="O:authorize:1", checks=0)
    assert await perform(look_up(authorization("tok_late", 2))) == RecordUnknownOutcome(order_id="O", request_id="O:authorize:1", checks=2)


async def test_a_call_that_does_not_return_in_time_is_recorded_as_an_unknown_outcome():
    request = authorization("tok_visa")
    response = await make_effects(UnresponsiveSandbox(), timedelta(0))[RequestAuthorization](request)
    assert response == RecordUnknownOutcome(order_id="O", request_id="O:authorize:1", checks=0)


async def test_a_request_the_provider_does_not_know_is_recorded_as_unknown_request():
    assert await perform(look_up(authorization("tok_lost", 1))) == RecordUnknownRequest(order_id="O", request_id="O:authorize:1", checks=1)


async def test_a_connection_error_is_raised_for_the_runtime_to_retry():
    with pytest.raises(ConnectionError):
        await perform(authorization("tok_gateway_down"))


async def test_every_request_reaches_the_provider():
    for request in (
        RequestCapture(order_id="O", request_id="C", checks=0, authorization_id="tok_visa.1", amount=1, currency="EUR"),
        RequestVoid(order_id="O", request_id="V", checks=0, authorization_id="tok_visa.1"),
        RequestRefund(order_id="O", request_id="R", checks=0, authorization_id="tok_visa.1", amount=1, currency="EUR"),
    ):
        assert isinstance(await perform(request), RecordSuccess)


def test_the_service_reads_and_writes_what_the_catalogue_gives_it():
    service = make_service(Terms(), Sandbox(), TIMEOUT)
    assert {topic.name for topic in service.reads} == {"oms.orders", "oms.fulfillments", "oms.returns", "oms.payment.commands"}
    assert {topic.name for topic in service.writes} == {"oms.payments", "oms.payment.dead-letters"}
    carried = {cls for topic in service.reads for cls in topic.messages}
    assert set(service.policies) <= carried
    assert set(service.commands) == {RetryCapture, PayOutstanding, WriteOffPayment}


def test_every_event_of_payment_is_published_on_its_topic():
    published = {cls for topic in topics_written_by("payment") if topic.name == "oms.payments" for cls in topic.messages}
    assert {cls for cls in published if type_of(cls).upcast is None} == set(Event.__args__)
    assert all(type_of(cls).name.startswith("oms.payment.") for cls in published)


def test_settings_become_terms(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMS_DATABASE_URL", "postgresql://nowhere")
    monkeypatch.setenv("OMS_LOOK_UP_AFTER", "PT2S")
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    assert settings.terms() == Terms(look_up_after=timedelta(seconds=2))


def test_the_provider_is_the_sandbox_unless_the_settings_name_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMS_DATABASE_URL", "postgresql://nowhere")
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    assert isinstance(make_provider(settings), Sandbox)
    monkeypatch.setenv("OMS_PROVIDER", "sandbox")
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    assert isinstance(make_provider(settings), Sandbox)


def test_an_unknown_provider_is_an_error_that_names_the_known_ones(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMS_DATABASE_URL", "postgresql://nowhere")
    monkeypatch.setenv("OMS_PROVIDER", "bank")
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    with pytest.raises(ValueError, match=r"OMS_PROVIDER: no payment provider is named 'bank', only sandbox"):
        make_provider(settings)
