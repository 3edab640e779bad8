"""The sandbox: a provider without an account, for demonstrations and tests. The payment token selects its behaviour."""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from types import MappingProxyType

from oms_payment.commands import LookUpOutcome, Request, RequestAuthorization, RequestCapture, RequestRefund, RequestVoid
from oms_payment.providers.port import Done, ProviderTimeout, Refused, Response, UnknownRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How the sandbox treats one step (authorize, capture, void or refund) of payments made with a token."""

    step: str
    refusal: str | None = None
    first: int = 1
    """Of the requests for one thing: the first one that is refused."""
    last: int | None = None
    """The last one that is refused. None: there is no last one."""
    timeouts: int = 0
    """This many calls, look-ups included, time out before one returns the outcome."""
    lost: bool = False
    """The first request never arrives at the provider."""
    connection_errors: int = 0
    """The connection breaks this many times before a response arrives."""


SCRIPTS: Mapping[str, Script] = MappingProxyType(
    {
        "tok_declined": Script(step="authorize", refusal="declined by the issuer"),
        "tok_insufficient_funds": Script(step="authorize", refusal="insufficient funds"),
        "tok_timeout": Script(step="authorize", timeouts=1),
        "tok_timeout_declined": Script(step="authorize", timeouts=1, refusal="declined by the issuer"),
        "tok_late": Script(step="authorize", timeouts=4),
        "tok_lost": Script(step="authorize", timeouts=1, lost=True),
        "tok_twice": Script(step="authorize", connection_errors=1),
        "tok_gateway_down": Script(step="authorize", connection_errors=2),
        "tok_capture_fails": Script(step="capture", refusal="the authorization cannot be captured"),
        "tok_capture_fails_once": Script(step="capture", refusal="insufficient funds", last=1),
        "tok_renewal_fails": Script(step="authorize", refusal="declined by the issuer", first=2),
        "tok_capture_timeout": Script(step="capture", timeouts=1),
        "tok_void_fails": Script(step="void", refusal="the authorization cannot be voided"),
        "tok_void_timeout": Script(step="void", timeouts=1),
        "tok_refund_fails": Script(step="refund", refusal="the account is closed"),
        "tok_refund_timeout": Script(step="refund", timeouts=1),
    }
)
"""By token. Every other token is approved at every step."""

APPROVED = Script(step="")
EXPIRES = re.compile(r"(?P<token>.+)_expires_(?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")
"""A token whose first authorization runs out at a time: `tok_visa_expires_2026-12-24T18:00:00Z`; otherwise as its beginning."""
_NUMBER = re.compile(r":(?:authorize|capture|void|refund) (\d+):")
"""In the id of a request that is not the first one for its subject."""
STEPS: Mapping[type[Request], str] = MappingProxyType(
    {RequestAuthorization: "authorize", RequestCapture: "capture", RequestVoid: "void", RequestRefund: "refund"}
)


class Sandbox:
    """A provider that moves no money. Each call takes `latency`.

    Each response is computed from the request alone, so it is the same after a restart. To make that possible the authorization id contains
    the token. The only state is the number of connection errors so far: it concerns the connection and not the response.
    """

    def __init__(self, latency: timedelta = timedelta(0)) -> None:
        self._latency = latency.total_seconds()
        self._connection_errors = Counter[str]()

    async def authorize(self, request: RequestAuthorization) -> Done | Refused:
        return await self._perform(request)

    async def capture(self, request: RequestCapture) -> Done | Refused:
        return await self._perform(request)

    async def void(self, request: RequestVoid) -> Done | Refused:
        return await self._perform(request)

    async def refund(self, request: RequestRefund) -> Done | Refused:
        return await self._perform(request)

    async def look_up(self, look_up: LookUpOutcome) -> Response:
        await asyncio.sleep(self._latency)
        script = _script_of(look_up.request)
        if script.lost and look_up.checks <= script.timeouts:
            return UnknownRequest()
        return _response(look_up.request, script, look_up.checks)

    async def _perform(self, request: Request) -> Done | Refused:
        await asyncio.sleep(self._latency)
        script = _script_of(request)
        if self._connection_errors[request.request_id] < script.connection_errors:
            self._connection_errors[request.request_id] += 1
            raise ConnectionError("the sandbox's gateway is out of reach")
        del self._connection_errors[request.request_id]
        return _response(request, script, request.checks)


def _response(request: Request, script: Script, checks: int) -> Done | Refused:
    if checks < script.timeouts:
        raise ProviderTimeout(request.request_id)
    found = _NUMBER.search(request.request_id)
    number = int(found[1]) if found else 1
    if script.refusal is not None and script.first <= number and (script.last is None or number <= script.last):
        return Refused(script.refusal)
    reference = sha256(request.request_id.encode()).hexdigest()[:16]
    if not isinstance(request, RequestAuthorization):
        return Done(reference)
    expires = EXPIRES.fullmatch(request.payment.token) if number == 1 else None
    return Done(f"{request.payment.token}.{reference}", datetime.fromisoformat(expires["at"]) if expires else None)


def _script_of(request: Request) -> Script:
    token = request.payment.token if isinstance(request, RequestAuthorization) else request.authorization_id.rpartition(".")[0]
    if expires := EXPIRES.fullmatch(token):
        token = expires["token"]
    script = SCRIPTS.get(token, APPROVED)
    return script if script.step == STEPS[type(request)] else APPROVED
