"""Where payment is built."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

from oms_runtime.model import Effects, Service, one_stream, service_of
from oms_runtime.server import run

from oms_payment.commands import (
    Answer,
    Effect,
    LookUpOutcome,
    RecordRefusal,
    RecordSuccess,
    RecordUnheard,
    RecordUnknown,
    RequestAuthorization,
    RequestCapture,
    RequestRefund,
    RequestVoid,
)
from oms_payment.decider import Terms, decide, due, evolve
from oms_payment.money import INITIAL
from oms_payment.policies import POLICIES
from oms_payment.provider import Done, Provider, Refused, Sandbox, UnknownRequest
from oms_payment.settings import Settings


def make_service(terms: Terms, provider: Provider, provider_timeout: timedelta) -> Service:
    """Payment under the given terms, through `provider`, each of whose calls may take as long as `provider_timeout`."""
    decider = one_stream(initial=INITIAL, decide=partial(decide, terms=terms), evolve=evolve, due=due)
    return service_of("payment", decider=decider, policies=POLICIES, effects=make_effects(provider, provider_timeout))


def make_effects(provider: Provider, patience: timedelta) -> Effects:
    """How each outside effect is performed."""
    calls: dict[type[Any], Callable[[Any], Awaitable[Done | Refused | UnknownRequest]]] = {
        RequestAuthorization: provider.authorize,
        RequestCapture: provider.capture,
        RequestVoid: provider.void,
        RequestRefund: provider.refund,
        LookUpOutcome: provider.look_up,
    }
    return {effect: partial(_perform, call, patience.total_seconds()) for effect, call in calls.items()}


async def _perform(call: Callable[[Any], Awaitable[Done | Refused | UnknownRequest]], seconds: float, effect: Effect) -> Answer:
    order_id, request_id, checks = effect.order_id, effect.request_id, effect.checks
    try:
        async with asyncio.timeout(seconds):
            answer = await call(effect)
    except TimeoutError:
        return RecordUnknown(order_id=order_id, request_id=request_id, checks=checks)
    match answer:
        case Done(reference):
            return RecordSuccess(order_id=order_id, request_id=request_id, reference=reference)
        case Refused(reason):
            return RecordRefusal(order_id=order_id, request_id=request_id, reason=reason)
        case UnknownRequest():
            return RecordUnheard(order_id=order_id, request_id=request_id, checks=checks)


def main() -> None:
    """Run payment until it is told to stop."""
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(settings.terms(), Sandbox(settings.sandbox_latency), settings.provider_timeout), settings)
