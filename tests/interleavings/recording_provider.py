"""The payment provider's side of the story."""

from typing import TypeVar

from msgspec.structs import replace
from oms_payment.commands import LookUpOutcome, Request, RequestAuthorization, RequestCapture, RequestRefund, RequestVoid
from oms_payment.providers.port import Done, Refused, UnknownRequest
from oms_payment.providers.sandbox import Sandbox

Outcome = TypeVar("Outcome", Done | Refused, Done | Refused | UnknownRequest)


class RecordingProvider(Sandbox):
    """The sandbox, and what it has done, by idempotency key. It asserts that nothing is asked for that may not be done."""

    def __init__(self) -> None:
        super().__init__()
        self.done: dict[str, Request] = {}

    async def authorize(self, request: RequestAuthorization) -> Done | Refused:
        return self._book(request, await super().authorize(request))

    async def capture(self, request: RequestCapture) -> Done | Refused:
        return self._book(request, await super().capture(request))

    async def void(self, request: RequestVoid) -> Done | Refused:
        return self._book(request, await super().void(request))

    async def refund(self, request: RequestRefund) -> Done | Refused:
        return self._book(request, await super().refund(request))

    async def look_up(self, look_up: LookUpOutcome) -> Done | Refused | UnknownRequest:
        return self._book(look_up.request, await super().look_up(look_up))

    def total(self, order_id: str, kind: type[RequestAuthorization | RequestCapture | RequestRefund]) -> int:
        """What was done of this kind, in minor units."""
        return sum(request.amount for request in self.done.values() if isinstance(request, kind) and request.order_id == order_id)

    def held(self, order_id: str) -> int:
        """What could still be taken, in minor units."""
        return 0 if self._is_void(order_id) else self.total(order_id, RequestAuthorization) - self.total(order_id, RequestCapture)

    def _is_void(self, order_id: str) -> bool:
        return any(isinstance(request, RequestVoid) and request.order_id == order_id for request in self.done.values())

    def _book(self, request: Request, answer: Outcome) -> Outcome:
        if isinstance(answer, Done):
            if request.request_id not in self.done:
                self._assert_may_be_done(request)
            same = replace(request, checks=0)
            assert self.done.setdefault(request.request_id, same) == same, "one key, one request"
        return answer

    def _assert_may_be_done(self, request: Request) -> None:
        order_id = request.order_id
        match request:
            case RequestAuthorization():
                assert self.held(order_id) == 0, "an order is held for once"
            case RequestCapture(amount=amount):
                assert 0 < amount <= self.held(order_id), "what is captured must be held"
            case RequestVoid():
                assert not self._is_void(order_id), "an order is let go once"
            case RequestRefund(amount=amount):
                left = self.total(order_id, RequestCapture) - self.total(order_id, RequestRefund)
                assert 0 < amount <= left, "what is refunded must be captured"
