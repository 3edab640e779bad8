"""The payment provider of the simulation, which records what it performs."""

from collections import Counter
from collections.abc import Iterator
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
        self._authorizations: dict[str, str] = {}
        """By their ids: the keys of the requests that made them."""
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
        of_order = [
            authorization_id
            for authorization_id, request_id in self._authorizations.items()
            if self.performed[request_id].order_id == order_id
        ]
        of_channel = self.held_by_channels[order_id]
        if any(request.order_id == order_id and request.authorization_id not in of_order for request in self._voids()):
            of_channel = 0
        captured_elsewhere = sum(
            request.amount
            for request in self.performed.values()
            if isinstance(request, RequestCapture) and request.order_id == order_id and request.authorization_id not in of_order
        )
        return max(0, of_channel - captured_elsewhere) + sum(map(self._held_under, of_order))

    def _held_under(self, authorization_id: str) -> int:
        """What can still be captured of one authorization of ours."""
        if any(request.authorization_id == authorization_id for request in self._voids()):
            return 0
        made = self.performed[self._authorizations[authorization_id]]
        assert isinstance(made, RequestAuthorization)
        captures = (request for request in self.performed.values() if isinstance(request, RequestCapture))
        return made.amount - sum(request.amount for request in captures if request.authorization_id == authorization_id)

    def _voids(self) -> Iterator[RequestVoid]:
        return (request for request in self.performed.values() if isinstance(request, RequestVoid))

    def _record(self, request: Request, response: ResponseT) -> ResponseT:
        if isinstance(response, Done):
            if request.request_id not in self.performed:
                self._assert_allowed(request)
            same = replace(request, checks=0)
            assert self.performed.setdefault(request.request_id, same) == same, "one key, one request"
            if isinstance(request, RequestAuthorization):
                self._authorizations[response.reference] = request.request_id
        return response

    def _assert_allowed(self, request: Request) -> None:
        order_id = request.order_id
        match request:
            case RequestAuthorization(amount=amount):
                first = max((self.total(order_id, RequestAuthorization), self.held_by_channels[order_id]))
                again = "authorize " in request.request_id
                assert self.held(order_id) == 0 or again, "an order is authorized once"
                assert not again or amount <= first - self.total(order_id, RequestCapture), "again for what is not captured of it"
            case RequestCapture(amount=amount, authorization_id=authorization_id):
                ours = authorization_id in self._authorizations
                held = self._held_under(authorization_id) if ours else self.held(order_id)
                assert 0 < amount <= held, "what is captured must be held"
            case RequestVoid(authorization_id=authorization_id):
                of_order = {void.authorization_id for void in self._voids() if void.order_id == order_id}  # channels' ids may be alike
                assert authorization_id not in of_order, "an authorization is voided once"
            case RequestRefund(amount=amount):
                left = self.total(order_id, RequestCapture) - self.total(order_id, RequestRefund)
                assert 0 < amount <= left, "what is refunded must be captured"
