"""The port to a payment provider.

`tests/test_provider.py` checks that every provider keeps this contract:

- A known `request_id` means the same request: it is performed once and gets the same response, also after either side restarted.
- ProviderTimeout means that the outcome is unknown. The request may have been performed, may still be, or may never have arrived.
- `look_up` changes nothing. It may return UnknownRequest only if it is safe to send the request again under the same key.
- Any other exception also means that nothing is known. The runtime makes the same call again with backoff.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from oms_payment.commands import LookUpOutcome, RequestAuthorization, RequestCapture, RequestRefund, RequestVoid


class ProviderTimeout(TimeoutError):
    """The provider has not responded in time, so the outcome is unknown."""


@dataclass(frozen=True, slots=True)
class Done:
    """The provider performed the request. `reference` is the provider's id of the authorization, capture, void or refund.

    An authorization holds until `expires_at`, None where the provider does not say.
    """

    reference: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will not perform the request, now or later. Another request, under another key, may be performed."""

    reason: str


@dataclass(frozen=True, slots=True)
class UnknownRequest:
    """The provider does not know the request, and will not perform it unless it is sent again."""


Response = Done | Refused | UnknownRequest


class Provider(Protocol):
    """What payment needs of a provider. Amounts are minor units of `currency`.

    Each method raises ProviderTimeout if the outcome is unknown, and any other exception if the provider cannot be reached.
    """

    async def authorize(self, request: RequestAuthorization) -> Done | Refused:
        """Hold `amount`. The reference is the id of the authorization."""
        ...

    async def capture(self, request: RequestCapture) -> Done | Refused:
        """Take `amount` of what is held. An authorization may be captured in several parts."""
        ...

    async def void(self, request: RequestVoid) -> Done | Refused:
        """Release everything that is still held."""
        ...

    async def refund(self, request: RequestRefund) -> Done | Refused:
        """Return `amount` of what was captured."""
        ...

    async def look_up(self, look_up: LookUpOutcome) -> Response:
        """Find out what became of a request, without sending it."""
        ...
