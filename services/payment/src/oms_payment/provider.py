"""The payment provider: the port, and the sandbox that is built in.

The port's contract, which `tests/test_provider.py` holds every provider to:

- The same `request_id` again is the same request: it is done once, and answered as it was the first time, also after either side restarted.
- ProviderTimeout means that the outcome is not known. The request may have been done, may yet be, or may never have arrived.
- `look_up` does nothing but tell. UnknownRequest may be answered only when sending the request again, under the same key, is safe.
- Any other exception means that nothing is known either; the same call is made again later.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from types import MappingProxyType
from typing import Protocol

from oms_payment.commands import LookUpOutcome, Request, RequestAuthorization, RequestCapture, RequestRefund, RequestVoid


class ProviderTimeout(TimeoutError):
    """The provider has not told the outcome."""


@dataclass(frozen=True, slots=True)
class Done:
    """The provider did it; `reference` is its name for what it did."""

    reference: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will not do it, now or later."""

    reason: str


@dataclass(frozen=True, slots=True)
class UnknownRequest:
    """The provider does not know the request, and will not do it unless it is sent again."""


class Provider(Protocol):
    """What payment needs of a provider. Amounts are minor units of `currency`."""

    async def authorize(self, request: RequestAuthorization) -> Done | Refused:
        """Hold `amount`. The reference is the id of the authorisation."""
        ...

    async def capture(self, request: RequestCapture) -> Done | Refused:
        """Take `amount` of what is held. An authorisation may be captured in several parts."""
        ...

    async def void(self, request: RequestVoid) -> Done | Refused:
        """Let go whatever is still held."""
        ...

    async def refund(self, request: RequestRefund) -> Done | Refused:
        """Give `amount` of what was captured back."""
        ...

    async def look_up(self, asked: LookUpOutcome) -> Done | Refused | UnknownRequest:
        """What became of a request."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How the sandbox treats one step (authorize, capture, void or refund) of payments made with some token."""

    step: str
    refusal: str | None = None
    silent: int = 0
    """Without an outcome until it was asked for this many times."""
    lost: bool = False
    """The first request never arrives."""
    broken: int = 0
    """The connection breaks this many times before an answer gets through."""


SCRIPTS: Mapping[str, Script] = MappingProxyType(
    {
        "tok_declined": Script(step="authorize", refusal="declined by the issuer"),
        "tok_insufficient_funds": Script(step="authorize", refusal="insufficient funds"),
        "tok_timeout": Script(step="authorize", silent=1),
        "tok_timeout_declined": Script(step="authorize", silent=1, refusal="declined by the issuer"),
        "tok_late": Script(step="authorize", silent=4),
        "tok_lost": Script(step="authorize", silent=1, lost=True),
        "tok_twice": Script(step="authorize", broken=1),
        "tok_gateway_down": Script(step="authorize", broken=2),
        "tok_capture_fails": Script(step="capture", refusal="the authorization cannot be captured"),
        "tok_capture_timeout": Script(step="capture", silent=1),
        "tok_void_fails": Script(step="void", refusal="the authorization cannot be voided"),
        "tok_void_timeout": Script(step="void", silent=1),
        "tok_refund_fails": Script(step="refund", refusal="the account is closed"),
        "tok_refund_timeout": Script(step="refund", silent=1),
    }
)
"""Every token that is not named here is approved at every step."""

PLAIN = Script(step="")
STEPS: Mapping[type[Request], str] = MappingProxyType(
    {RequestAuthorization: "authorize", RequestCapture: "capture", RequestVoid: "void", RequestRefund: "refund"}
)


class Sandbox:
    """A provider that holds no money and keeps no books.

    Each answer follows from the request alone, so it is the same after a restart. The token travels in the authorisation's id.
    Only how often a broken connection has broken yet is remembered, by this process: that is a matter of the line, not of the answer.
    """

    def __init__(self, latency: timedelta = timedelta(0)) -> None:
        self._latency = latency.total_seconds()
        self._breaks = Counter[str]()

    async def authorize(self, request: RequestAuthorization) -> Done | Refused:
        return await self._take(request)

    async def capture(self, request: RequestCapture) -> Done | Refused:
        return await self._take(request)

    async def void(self, request: RequestVoid) -> Done | Refused:
        return await self._take(request)

    async def refund(self, request: RequestRefund) -> Done | Refused:
        return await self._take(request)

    async def look_up(self, asked: LookUpOutcome) -> Done | Refused | UnknownRequest:
        await asyncio.sleep(self._latency)
        script = _script_of(asked.request)
        if script.lost and asked.checks <= script.silent:
            return UnknownRequest()
        return _answer(asked.request, script, asked.checks)

    async def _take(self, request: Request) -> Done | Refused:
        await asyncio.sleep(self._latency)
        script = _script_of(request)
        if self._breaks[request.request_id] < script.broken:
            self._breaks[request.request_id] += 1
            raise ConnectionError("the sandbox's gateway is out of reach")
        del self._breaks[request.request_id]
        return _answer(request, script, request.checks)


def _answer(request: Request, script: Script, checks: int) -> Done | Refused:
    if checks < script.silent:
        raise ProviderTimeout(request.request_id)
    if script.refusal is not None:
        return Refused(script.refusal)
    reference = sha256(request.request_id.encode()).hexdigest()[:16]
    return Done(f"{request.payment.token}.{reference}" if isinstance(request, RequestAuthorization) else reference)


def _script_of(request: Request) -> Script:
    token = request.payment.token if isinstance(request, RequestAuthorization) else request.authorization_id.rpartition(".")[0]
    script = SCRIPTS.get(token, PLAIN)
    return script if script.step == STEPS[type(request)] else PLAIN
