"""The money of one order: the state that payment keeps, and its sums. Amounts are minor units of `currency`."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from fractions import Fraction
from math import floor

from msgspec import Struct, field
from oms_contracts.order_parts import ChargedLine
from oms_contracts.values import AllocatedLine, PaymentMethod


class ProviderRequest(Struct, frozen=True, kw_only=True):
    """One request to the provider. `step` is authorize, capture, void or refund; `subject` the attempt, fulfillment or refund it is for.

    `outcome` is open, done, failed, or of a capture also refused (it is asked for again at `due_at`) or written_off. An open request is due
    at `due_at`: to be looked up if `unknown`, to be sent otherwise. `checks` counts the calls that left the outcome unknown. `tries` counts
    the requests for one subject, of which only the newest is kept; `units` are those that a captured fulfillment shipped.
    `authorization_id` is what is captured, voided or refunded.
    """

    step: str
    subject: str
    amount: int
    outcome: str
    due_at: datetime
    unknown: bool = False
    checks: int = 0
    tries: int = 1
    units: int = 0
    authorization_id: str = ""


class PostponedRefund(Struct, frozen=True, kw_only=True):
    """A refund that waits since `since`, and until `until` at most, for the captures to be known."""

    refund_id: str
    amount: int
    since: datetime
    until: datetime


class Payment(Struct, frozen=True, kw_only=True):
    """The requests to the provider for one order, and what the order costs: `amount` of its `total` is ours to collect.

    `asked` is by request id. Of all authorizations it holds only the newest, which belongs to `attempt` and is the `authorizations`th.
    `shipped` is units by order line. `ended` is set once the order has ended and nothing may stay held for it. `postponed` refunds are in
    the order of their arrival. `collect_by` is when somebody must have seen to what is outstanding, None while nobody is asked to.
    `refusal` is the newest refusal of a command.
    """

    attempt: int = 0
    total: int = 0
    amount: int = 0
    currency: str = ""
    method: PaymentMethod | None = None
    lines: tuple[ChargedLine, ...] = ()
    authorization_id: str = ""
    ended: bool = False
    asked: dict[str, ProviderRequest] = field(default_factory=dict[str, ProviderRequest])
    shipped: dict[str, int] = field(default_factory=dict[str, int])
    postponed: tuple[PostponedRefund, ...] = ()
    authorizations: int = 0
    authorized_at: datetime | None = None
    expires_at: datetime | None = None
    lapsed: bool = False
    collect_by: datetime | None = None
    refusal: str = ""

    @property
    def paid_elsewhere(self) -> int:
        """What the customer paid to the channel, or pays on delivery or by invoice."""
        return self.total - self.amount

    @property
    def captured(self) -> int:
        """What was certainly captured."""
        return self._sum("capture", "done")

    @property
    def claimed(self) -> int:
        """What was captured, may have been captured, is to be collected by a person, or was written off."""
        return self._sum("capture")

    @property
    def written_off(self) -> int:
        """What is not collected any more."""
        return self._sum("capture", "written_off")

    @property
    def unpaid(self) -> int:
        """What is ours to collect and neither captured nor written off, whether or not it has shipped."""
        return self.amount - self.captured - self.written_off

    @property
    def uncollected(self) -> dict[str, ProviderRequest]:
        """The captures that the provider refused, by request id: those asked for again, and those that wait for a person."""
        return {key: request for key, request in self.asked.items() if request.step == "capture" and request.outcome in UNCOLLECTED}

    @property
    def outstanding(self) -> int:
        """What was refused for goods that have shipped, and is neither captured nor written off; also while it is asked for again."""
        again = (
            request for request in self.asked.values() if request.step == "capture" and request.tries > 1 and request.outcome == "open"
        )
        return sum(request.amount for request in (*self.uncollected.values(), *again))

    @property
    def returned(self) -> int:
        """What was refunded, may have been refunded, or is to be refunded by hand."""
        return self._sum("refund")

    @property
    def fully_captured(self) -> bool:
        """Whether `captured` is final: nothing more will ship, and no capture is open.

        Refunds wait for this, because the limit of a refund must not depend on which topic is ahead of which.
        """
        shipped = self.ended or (self.attempt > 0 and all(self.shipped.get(line.line_id, 0) >= line.quantity for line in self.lines))
        return shipped and not self.open("capture") and not any(request.outcome == "refused" for request in self.uncollected.values())

    def capture_of(self, fulfillment_id: str) -> ProviderRequest | None:
        """The newest capture for a fulfillment."""
        captures = (request for request in self.asked.values() if request.step == "capture" and request.subject == fulfillment_id)
        return next(captures, None)

    def open(self, step: str) -> bool:
        """Whether a request of this step is open."""
        return any(request.step == step and request.outcome == "open" for request in self.asked.values())

    def _sum(self, step: str, outcome: str | None = None) -> int:
        """The sum over requests with this outcome, or with any outcome."""
        return sum(request.amount for request in self.asked.values() if request.step == step and outcome in {None, request.outcome})


UNCOLLECTED = frozenset({"refused", "failed"})
INITIAL = Payment()


def request_id_of(order_id: str, step: str, subject: str, number: int = 1) -> str:
    """The provider's idempotency key: the same request always has the same key. After a refusal the next `number` is another request."""
    return f"{order_id}:{step}:{subject}" if number == 1 else f"{order_id}:{step} {number}:{subject}"


def amount_to_capture(payment: Payment, lines: Iterable[AllocatedLine]) -> int:
    """What these units cost beyond what was claimed for the units shipped before, in minor units.

    Of shipping and fees each shipment bears the share that its goods have in all goods. All shipments together cost exactly the total. What
    was paid to the channel, or is due elsewhere, is used up first. The amount is never more than is ours to collect.
    """
    shipped = Counter(payment.shipped) + units_of(lines)
    wanted = max(0, _cost_of(payment, shipped) - payment.paid_elsewhere) - payment.claimed
    return max(0, min(wanted, payment.amount - payment.claimed))


def units_of(lines: Iterable[AllocatedLine]) -> Counter[str]:
    """Units by order line."""
    units = Counter[str]()
    for line in lines:
        units[line.line_id] += line.quantity
    return units


def _cost_of(payment: Payment, shipped: Mapping[str, int]) -> int:
    """What the order costs when so many units of its lines have shipped: the whole total once all have."""
    if all(shipped.get(line.line_id, 0) >= line.quantity for line in payment.lines):
        return payment.total
    all_goods = sum(line.amount for line in payment.lines)
    if not all_goods:
        return 0
    costs = [Fraction(line.amount * min(shipped.get(line.line_id, 0), line.quantity), line.quantity) for line in payment.lines]
    # The share follows from the exact costs: with cheap goods and dear shipping a rounded cost would move it by much more than a cent.
    return sum(map(floor, costs)) + floor((payment.total - all_goods) * sum(costs) / all_goods)
