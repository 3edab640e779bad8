"""The payment provider of the simulation, which records what it performs."""

from collections import Counter
from typing import TypeVar

from msgspec.structs import replace
from oms_payment.commands import LookUpOutcome, Request, RequestAuthorization, RequestCapture, RequestRefund, RequestVoid
from oms_payment.providers.port import Done, Refused, Response
from oms_payment.providers.sandbox import Sandbox

ResponseT = TypeVar("ResponseT", Done | Refused, Response)


class RecordingProvider(Sandbox):
    """The sandbox, with a record of the performed requests by idempotency key. It asserts that each of them is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.performed: dict[str, Request] = {}
        self.held_by_channels = Counter[str]()
        """By order id: what its channel has had held before it placed the order, in minor units."""

    async def authorize(self, request: RequestAuthorization) -> Done | Refused:
        return self._record(request, await super().authorize(request))

    async def capture(self, request: RequestCapture) -> Done | Refused:
        return self._record(request, await super().capture(request))

    async def void(self, request: RequestVoid) -> Done | Refused:
        return self._record(request, await super().void(request))

    async def refund(self, request: RequestRefund) -> Done | Refused:
        return self._record(request, await super().refund(request))

    async def look_up(self, look_up: LookUpOutcome) -> Response:
        return self._record(look_up.request, await super().look_up(look_up))

    def total(self, order_id: str, kind: type[RequestAuthorization | RequestCapture | RequestRefund]) -> int:
        """The sum of the performed requests of this kind, in minor units."""
        return sum(request.amount for request in self.performed.values() if isinstance(request, kind) and request.order_id == order_id)

    def held(self, order_id: str) -> int:
        """What can still be captured, in minor units."""
        return (
            0
            if self._is_voided(order_id)
            else self.held_by_channels[order_id] + self.total(order_id, RequestAuthorization) - self.total(order_id, RequestCapture)
        )

    def _is_voided(self, order_id: str) -> bool:
        return any(isinstance(request, RequestVoid) and request.order_id == order_id for request in self.performed.values())

    def _record(self, request: Request, response: ResponseT) -> ResponseT:
        if isinstance(response, Done):
            if request.request_id not in self.performed:
                self._assert_allowed(request)
            same = replace(request, checks=0)
            assert self.performed.setdefault(request.request_id, same) == same, "one key, one request"
        return response

    def _assert_allowed(self, request: Request) -> None:
        order_id = request.order_id
        match request:
            case RequestAuthorization():
                assert self.held(order_id) == 0, "an order is authorized once"
            case RequestCapture(amount=amount):
                assert 0 < amount <= self.held(order_id), "what is captured must be held"
            case RequestVoid():
                assert not self._is_voided(order_id), "an order is voided once"
            case RequestRefund(amount=amount):
                left = self.total(order_id, RequestCapture) - self.total(order_id, RequestRefund)
                assert 0 < amount <= left, "what is refunded must be captured"
