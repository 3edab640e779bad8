"""Where payment is built."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from oms_runtime.model import Decider, Effects, Service, one_stream, service_of
from oms_runtime.server import run

from oms_payment.commands import (
    Command,
    Effect,
    Event,
    LookUpOutcome,
    RecordRefusal,
    RecordResponse,
    RecordSuccess,
    RecordUnknownOutcome,
    RecordUnknownRequest,
    RequestAuthorization,
    RequestCapture,
    RequestRefund,
    RequestVoid,
)
from oms_payment.decider import Terms, decide, due, evolve
from oms_payment.money import INITIAL, Payment
from oms_payment.policies import POLICIES
from oms_payment.providers.port import Done, Provider, Refused, Response, UnknownRequest
from oms_payment.providers.sandbox import Sandbox
from oms_payment.settings import Settings

PROVIDERS: Mapping[str, Callable[[Settings], Provider]] = {"sandbox": lambda settings: Sandbox(settings.sandbox_latency)}
"""By the value of `OMS_PROVIDER`: how to make the provider."""


def make_provider(settings: Settings) -> Provider:
    """The provider that the settings name. Raises ValueError if there is none of that name."""
    make = PROVIDERS.get(settings.provider)
    if make is None:
        raise ValueError(f"OMS_PROVIDER: no payment provider is named {settings.provider!r}, only {', '.join(sorted(PROVIDERS))}")
    return make(settings)


def make_service(terms: Terms, provider: Provider, provider_timeout: timedelta) -> Service:
    """Payment under the given terms, through `provider`, each of whose calls may take up to `provider_timeout`."""
    decider: Decider[Payment, Command, Event] = one_stream(
        initial=INITIAL, decide=partial(decide, terms=terms), evolve=evolve, due=partial(due, terms=terms), state_version=3
    )
    return service_of("payment", decider=decider, policies=POLICIES, effects=make_effects(provider, provider_timeout))


def make_effects(provider: Provider, provider_timeout: timedelta) -> Effects:
    """How each outside effect is performed."""
    perform = partial(_perform, provider, provider_timeout.total_seconds())
    return dict.fromkeys((RequestAuthorization, RequestCapture, RequestVoid, RequestRefund, LookUpOutcome), perform)


async def _perform(provider: Provider, timeout_seconds: float, effect: Effect) -> RecordResponse:
    order_id, request_id, checks = effect.order_id, effect.request_id, effect.checks
    try:
        async with asyncio.timeout(timeout_seconds):
            response = await _call(provider, effect)
    except TimeoutError:
        return RecordUnknownOutcome(order_id=order_id, request_id=request_id, checks=checks)
    match response:
        case Done(reference, expires_at):
            return RecordSuccess(order_id=order_id, request_id=request_id, reference=reference, expires_at=expires_at)
        case Refused(reason):
            return RecordRefusal(order_id=order_id, request_id=request_id, reason=reason)
        case UnknownRequest():
            return RecordUnknownRequest(order_id=order_id, request_id=request_id, checks=checks)


async def _call(provider: Provider, effect: Effect) -> Response:
    match effect:
        case RequestAuthorization():
            return await provider.authorize(effect)
        case RequestCapture():
            return await provider.capture(effect)
        case RequestVoid():
            return await provider.void(effect)
        case RequestRefund():
            return await provider.refund(effect)
        case LookUpOutcome():
            return await provider.look_up(effect)


def main() -> None:
    """Run payment until it is stopped."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(settings.terms(), make_provider(settings), settings.provider_timeout), settings)
