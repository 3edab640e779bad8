"""What happens to the orders of the fault test: who does what about them, and how that ends.

Every story ends the same way however the services' answers interleave. The outside acts on what is published, and only where the order
cannot go on without it: a canceled order is one that nobody would have shipped.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

from msgspec.structs import replace
from oms_contracts.channel import OrderPlaced
from oms_contracts.fulfillments import FulfillmentPlanned, FulfillmentShipped
from oms_contracts.message import key_of
from oms_contracts.orders import AmendPayment, CancelOrder, OrderActionRequired
from oms_contracts.returns import InspectReturn, ReceiveReturnItems, RequestReturn, ReturnApproved, ReturnClosed, ReturnWindowOpened
from oms_contracts.stock import ReceiveStock
from oms_contracts.tracking import LabelCreated
from oms_contracts.values import InspectedLine, OrderLine, PaymentMethod, ReturnLine, StockLine
from oms_demo.baskets import LOCATIONS, read_baskets
from oms_demo.responses import Response as Answer
from oms_demo.responses import carrier, warehouse

DESK = "north"
"""Where returns arrive."""
ALL = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """One return of an order's first line: the units announced and the units that come, each at most what the line has."""

    announced: int = 1
    comes: int = 1
    disposition: str = "restock"
    accepted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """`token` is how the order is paid, `ends` where it comes to rest. It is canceled when it `cancels`: waiting, planned or shipped.

    `repeated` orders are placed again in the end, with the same content or with `other` content.
    """

    token: str = "tok_visa"
    ends: str = "completed"
    amends: bool = False
    cancels: str = ""
    returns: tuple[Back, ...] = ()
    unsound: bool = False
    sold_out: bool = False
    repeated: str = ""


PLAIN = Story()
UNSOUND = Story(ends="rejected", unsound=True)
STORIES = (
    Story(token="tok_declined", ends="awaiting_payment"),
    Story(token="tok_timeout_declined", ends="awaiting_payment"),
    Story(token="tok_insufficient_funds", amends=True),
    Story(token="tok_timeout_declined", amends=True),
    Story(token="tok_declined", ends="canceled", cancels="waiting"),
    Story(token="tok_timeout"),
    Story(token="tok_late"),
    Story(token="tok_lost"),
    Story(token="tok_twice"),
    Story(token="tok_gateway_down"),
    Story(token="tok_capture_fails", returns=(Back(),)),
    Story(token="tok_capture_timeout", returns=(Back(),)),
    Story(ends="canceled", cancels="planned"),
    Story(token="tok_void_fails", ends="canceled", cancels="planned"),
    Story(token="tok_void_timeout", ends="canceled", cancels="planned"),
    Story(cancels="shipped"),
    Story(returns=(Back(),)),
    Story(returns=(Back(announced=ALL, comes=ALL, disposition="write-off"),)),
    Story(returns=(Back(announced=ALL), Back(announced=ALL))),
    Story(returns=(Back(accepted=False),)),
    Story(token="tok_refund_fails", returns=(Back(),)),
    Story(token="tok_refund_timeout", returns=(Back(announced=ALL, comes=ALL),)),
    UNSOUND,
    Story(ends="awaiting_stock", sold_out=True),
    Story(ends="canceled", sold_out=True, cancels="waiting"),
    Story(repeated="same"),
    Story(repeated="other"),
)


@dataclass(frozen=True)
class Orders:
    """Baskets as orders, with the story of each. References and SKUs begin with `prefix`, so that two sets have nothing in common."""

    prefix: str
    seed: int
    most: int
    told: list[tuple[OrderPlaced, Story]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "told", list(self._tell()))

    def _tell(self) -> Iterator[tuple[OrderPlaced, Story]]:
        """Every other order has the next of STORIES. An order that is not sound has none to tell, one that costs nothing no money's."""
        turn = 0
        for number, basket in enumerate(read_baskets(self.seed, self.most)):
            story = PLAIN
            if any(line.quantity < 1 for line in basket.lines):
                story = UNSOUND
            elif basket.total and number % 2:
                story = STORIES[turn % len(STORIES)]
                turn += 1
            lines = tuple(replace(line, sku=self._sku(line, story)) for line in basket.lines)
            yield (
                replace(
                    basket,
                    channel_reference=f"{self.prefix}-{basket.channel_reference}",
                    lines=lines,
                    total=basket.total + story.unsound,
                    payment=PaymentMethod(kind="card", token=story.token),
                ),
                story,
            )

    def _sku(self, line: OrderLine, story: Story) -> str:
        return f"{self.prefix}-{'sold-out' if story.sold_out and line.line_id == '1' else line.sku}"

    @cached_property
    def stories(self) -> dict[str, Story]:
        """By order id."""
        return {key_of(order): story for order, story in self.told}

    @cached_property
    def first_lines(self) -> dict[str, OrderLine]:
        """By order id: the line that is returned."""
        return {key_of(order): order.lines[0] for order, _ in self.told}

    def placed(self) -> list[OrderPlaced]:
        """Everything the channel publishes, in order."""
        again = [order for order, story in self.told if story.repeated == "same"]
        other = [replace(order, customer=replace(order.customer, id="else")) for order, story in self.told if story.repeated == "other"]
        return [*(order for order, _ in self.told), *again, *other]

    def stock(self) -> list[ReceiveStock]:
        """Exactly the units that sound orders want, not one more: whatever is held twice is missing elsewhere."""
        wanted = Counter[str]()
        for order, story in self.told:
            if not (story.unsound or story.sold_out):
                for line in order.lines:
                    wanted[line.sku] += line.quantity
        lines = [line for sku, units in sorted(wanted.items()) for line in _spread(sku, units, self.locations(sku))]
        return [
            ReceiveStock(receipt_id=f"{self.prefix}-{number:06}", lines=tuple(lines[number : number + 100]))
            for number in range(0, len(lines), 100)
        ]

    def locations(self, sku: str) -> Sequence[str]:
        """Where a SKU is to be had: one location or more, the same for every prefix."""
        number = sha256(sku.removeprefix(self.prefix).encode()).digest()[0]
        return [LOCATIONS[(number + step) % len(LOCATIONS)] for step in range(1 + number % 3)]


def _spread(sku: str, units: int, locations: Sequence[str]) -> Iterator[StockLine]:
    for number, location in enumerate(locations):
        if share := (units + number) // len(locations):
            yield StockLine(sku=sku, location=location, quantity=share)


class Outside:
    """Warehouse, carrier, customers and desks. Each answers events with commands; whatever it answers again has no effect."""

    def __init__(self, *sets: Orders) -> None:
        self._stories = {order_id: story for orders in sets for order_id, story in orders.stories.items()}
        self._lines = {order_id: line for orders in sets for order_id, line in orders.first_lines.items()}

    def answers(self) -> Mapping[str, Mapping[type[Any], Answer]]:
        """By broker user, by class of an event: what it is answered with."""
        return {
            "warehouse": {
                FulfillmentPlanned: self._ship,
                ReturnWindowOpened: lambda event: self._ask(event.order_id, 0),
                ReturnApproved: self._receive,
                ReturnClosed: lambda event: self._ask(event.order_id, _number(event.return_id) + 1),
            },
            "carrier": {LabelCreated: carrier},
            "operator": {
                OrderActionRequired: self._act,
                FulfillmentPlanned: lambda event: self._cancel(event.order_id, "planned"),
                FulfillmentShipped: lambda event: self._cancel(event.order_id, "shipped"),
            },
        }

    def _ship(self, event: FulfillmentPlanned) -> Iterator[Any]:
        if self._stories[event.order_id].cancels != "planned":
            yield from warehouse(event)

    def _act(self, event: OrderActionRequired) -> Iterator[Any]:
        if self._stories[event.order_id].amends:
            yield AmendPayment(order_id=event.order_id, payment=PaymentMethod(kind="card", token="tok_visa"))
        yield from self._cancel(event.order_id, "waiting")

    def _cancel(self, order_id: str, now: str) -> Iterator[Any]:
        if self._stories[order_id].cancels == now:
            yield CancelOrder(order_id=order_id, reason="changed my mind")

    def _ask(self, order_id: str, number: int) -> Iterator[Any]:
        backs, line = self._stories[order_id].returns, self._lines[order_id]
        if number < len(backs):
            left = line.quantity - sum(_units(back, line) for back in backs[:number])
            lines = (ReturnLine(line_id=line.line_id, quantity=min(backs[number].announced, left)),)
            yield RequestReturn(order_id=order_id, return_id=f"{order_id}-{number}", lines=lines)

    def _receive(self, event: ReturnApproved) -> Iterator[Any]:
        ids = {"order_id": event.order_id, "return_id": event.return_id}
        back, line = self._stories[event.order_id].returns[_number(event.return_id)], self._lines[event.order_id]
        units = _units(back, line)
        came = ReturnLine(line_id=line.line_id, quantity=units)
        yield ReceiveReturnItems(**ids, receipt_id=f"{event.return_id}-1", location=DESK, lines=(came,))
        found = InspectedLine(line_id=line.line_id, sku=line.sku, quantity=units, disposition=back.disposition, accepted=back.accepted)
        yield InspectReturn(**ids, lines=(found,))


def _units(back: Back, line: OrderLine) -> int:
    return min(back.comes, line.quantity)


def _number(return_id: str) -> int:
    return int(return_id.rpartition("-")[2])
