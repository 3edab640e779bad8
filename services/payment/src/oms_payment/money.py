"""The money of one order: the state that payment keeps, and its sums. Amounts are minor units of `currency`."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct, field
from oms_contracts.values import AllocatedLine, OrderLine, PaymentMethod


class Asked(Struct, frozen=True, kw_only=True):
    """One request to the provider. `step` is authorize, capture, void or refund; `subject` the attempt, fulfillment or refund it is for.

    `outcome` is open, done or failed. An open one is due at `due_at`: to be looked up where `unknown`, to be sent otherwise.
    """

    step: str
    subject: str
    amount: int
    outcome: str
    due_at: datetime
    unknown: bool = False
    checks: int = 0


class PostponedRefund(Struct, frozen=True, kw_only=True):
    refund_id: str
    amount: int
    since: datetime
    until: datetime


class Payment(Struct, frozen=True, kw_only=True):
    """`asked` is by request id, and holds of all authorisations only the newest: it bears `attempt`. `shipped` is units by order line."""

    attempt: int = 0
    amount: int = 0
    currency: str = ""
    method: PaymentMethod | None = None
    lines: tuple[OrderLine, ...] = ()
    shipping: int = 0
    authorization_id: str = ""
    ended: bool = False
    asked: dict[str, Asked] = field(default_factory=dict[str, Asked])
    shipped: dict[str, int] = field(default_factory=dict[str, int])
    postponed: tuple[PostponedRefund, ...] = ()

    @property
    def authorized(self) -> int:
        """What the provider agreed to hold."""
        return self._sum("authorize", "done")

    @property
    def captured(self) -> int:
        """What was taken for certain."""
        return self._sum("capture", "done")

    @property
    def claimed(self) -> int:
        """What was taken, may have been taken, or is to be collected by hand."""
        return self._sum("capture")

    @property
    def returned(self) -> int:
        """What was given back, may have been given back, or is to be given back by hand."""
        return self._sum("refund")

    @property
    def fully_captured(self) -> bool:
        """Whether `captured` is final: nothing more will ship, and no capture is open.

        Refunds wait for this. What they are cut to must not depend on which topic is ahead of which.
        """
        shipped = self.ended or (self.attempt > 0 and all(self.shipped.get(line.line_id, 0) >= line.quantity for line in self.lines))
        return shipped and not self.open("capture")

    def open(self, step: str) -> bool:
        """Whether a request of this kind waits for its answer."""
        return any(asked.step == step and asked.outcome == "open" for asked in self.asked.values())

    def _sum(self, step: str, outcome: str | None = None) -> int:
        """Over requests with this outcome, or with any."""
        return sum(asked.amount for asked in self.asked.values() if asked.step == step and outcome in {None, asked.outcome})


INITIAL = Payment()


def request_id_of(order_id: str, step: str, subject: str) -> str:
    """The provider's idempotency key: the same request always has the same."""
    return f"{order_id}:{step}:{subject}"


def amount_to_capture(payment: Payment, lines: Iterable[AllocatedLine]) -> int:
    """What these units cost, beside those shipped before. All units of a line cost exactly its total, however they are split.

    The shipping fee goes with the first shipment. Never more than is held.
    """
    units = units_of(lines)
    goods = sum(
        _cost(line, payment.shipped.get(line.line_id, 0) + units[line.line_id]) - _cost(line, payment.shipped.get(line.line_id, 0))
        for line in payment.lines
    )
    fee = 0 if any(asked.step == "capture" for asked in payment.asked.values()) else payment.shipping
    return min(goods + fee, payment.authorized - payment.claimed)


def units_of(lines: Iterable[AllocatedLine]) -> Counter[str]:
    """Units by order line."""
    units = Counter[str]()
    for line in lines:
        units[line.line_id] += line.quantity
    return units


def _cost(line: OrderLine, units: int) -> int:
    """What the first `units` of a line cost, rounded down."""
    return line.total * min(units, line.quantity) // line.quantity
