"""The orders of the fault test: which external party does what with them, and how they end.

Every scenario ends the same under any interleaving. External parties react to published events, and only where the order cannot continue
without them: an order that its customer cancels is one that no warehouse would have shipped.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from typing import Any

from msgspec.structs import replace
from oms_contracts.channel import OrderPlaced
from oms_contracts.fulfillments import FulfillmentPlanned, FulfillmentShipped
from oms_contracts.message import key_of
from oms_contracts.order_parts import LineItem, OrderPayment
from oms_contracts.orders import AmendPayment, CancelOrder, OrderActionRequired
from oms_contracts.payments import PaymentCaptureRefused, WriteOffPayment
from oms_contracts.returns import InspectReturn, ReceiveReturnItems, RequestReturn, ReturnApproved, ReturnClosed, ReturnWindowOpened
from oms_contracts.stock import ReceiveStock
from oms_contracts.tracking import LabelCreated
from oms_contracts.values import InspectedLine, PaymentMethod, ReturnLine, StockLine
from oms_demo.baskets import read_baskets
from oms_demo.responses import CARRIER, LOCATIONS, Response, carrier, warehouse

RETURNS_LOCATION = "north"
ALL_UNITS = 10**9

Reactions = Mapping[type[Any], Callable[[Any], Iterable[Any]]]
"""By class of event: the commands that an external party publishes in response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedReturn:
    """A return of an order's first line: the units announced and the units that arrive, each at most the units of the line."""

    announced: int = 1
    arriving: int = 1
    disposition: str = "restock"
    accepted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How an order is paid (`token`), and its last status (`ends`). `cancels` is when its customer cancels: waiting, planned or shipped.

    An order with `repeated` is placed again at the end, with the `same` content or with `other` content. One that is `corrected` is first
    placed with an invalid total, and at the end with the right one.
    """

    token: str = "tok_visa"
    ends: str = "completed"
    amends: bool = False
    cancels: str = ""
    returns: tuple[PlannedReturn, ...] = ()
    invalid: bool = False
    sold_out: bool = False
    repeated: str = ""
    corrected: bool = False


PLAIN = Scenario()
INVALID = Scenario(ends="rejected", invalid=True)
SCENARIOS = (
    Scenario(token="tok_declined", ends="awaiting_payment"),
    Scenario(token="tok_timeout_declined", ends="awaiting_payment"),
    Scenario(token="tok_insufficient_funds", amends=True),
    Scenario(token="tok_timeout_declined", amends=True),
    Scenario(token="tok_declined", ends="canceled", cancels="waiting"),
    Scenario(token="tok_timeout"),
    Scenario(token="tok_late"),
    Scenario(token="tok_lost"),
    Scenario(token="tok_twice"),
    Scenario(token="tok_gateway_down"),
    Scenario(token="tok_capture_fails", returns=(PlannedReturn(),)),
    Scenario(token="tok_capture_timeout", returns=(PlannedReturn(),)),
    Scenario(ends="canceled", cancels="planned"),
    Scenario(token="tok_void_fails", ends="canceled", cancels="planned"),
    Scenario(token="tok_void_timeout", ends="canceled", cancels="planned"),
    Scenario(cancels="shipped"),
    Scenario(returns=(PlannedReturn(),)),
    Scenario(returns=(PlannedReturn(announced=ALL_UNITS, arriving=ALL_UNITS, disposition="write-off"),)),
    Scenario(returns=(PlannedReturn(announced=ALL_UNITS), PlannedReturn(announced=ALL_UNITS))),
    Scenario(returns=(PlannedReturn(accepted=False),)),
    Scenario(token="tok_refund_fails", returns=(PlannedReturn(),)),
    Scenario(token="tok_refund_timeout", returns=(PlannedReturn(announced=ALL_UNITS, arriving=ALL_UNITS),)),
    INVALID,
    Scenario(ends="awaiting_stock", sold_out=True),
    Scenario(ends="canceled", sold_out=True, cancels="waiting"),
    Scenario(repeated="same"),
    Scenario(repeated="other"),
    Scenario(corrected=True),
)


@dataclass(frozen=True)
class Orders:
    """Baskets as orders, each with a scenario. References and SKUs begin with `prefix`, so that two sets have nothing in common."""

    prefix: str
    seed: int
    max_orders: int
    planned: list[tuple[OrderPlaced, Scenario]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "planned", list(self._plan()))

    def _plan(self) -> Iterator[tuple[OrderPlaced, Scenario]]:
        """Every other order has the next of SCENARIOS; not orders that are invalid, and not orders that cost nothing."""
        turn = 0
        for number, basket in enumerate(read_baskets(self.seed, self.max_orders)):
            scenario = PLAIN
            if any(line.quantity < 1 for line in basket.lines):
                scenario = INVALID
            elif basket.total and number % 2:
                scenario = SCENARIOS[turn % len(SCENARIOS)]
                turn += 1
            lines = tuple(replace(line, sku=self._sku(line, scenario)) for line in basket.lines)
            yield (
                replace(
                    basket,
                    channel_reference=f"{self.prefix}-{basket.channel_reference}",
                    lines=lines,
                    total=basket.total + scenario.invalid,
                    payments=(OrderPayment(id="1", kind="card", amount=basket.total, token=scenario.token),),
                ),
                scenario,
            )

    def _sku(self, line: LineItem, scenario: Scenario) -> str:
        return f"{self.prefix}-{'sold-out' if scenario.sold_out and line.line_id == '1' else line.sku}"

    @cached_property
    def scenarios(self) -> dict[str, Scenario]:
        """By order id."""
        return {key_of(order): scenario for order, scenario in self.planned}

    @cached_property
    def first_lines(self) -> dict[str, LineItem]:
        """By order id: the line that is returned."""
        return {key_of(order): order.lines[0] for order, _ in self.planned}

    def placed(self) -> list[OrderPlaced]:
        """Everything the channel publishes, in order."""
        first = [replace(order, total=order.total + scenario.corrected) for order, scenario in self.planned]
        corrected = [order for order, scenario in self.planned if scenario.corrected]
        again = [order for order, scenario in self.planned if scenario.repeated == "same"]
        other = [
            replace(order, customer=replace(order.customer, id="else")) for order, scenario in self.planned if scenario.repeated == "other"
        ]
        return [*first, *corrected, *again, *other]

    def stock(self) -> list[ReceiveStock]:
        """Exactly the units that valid orders need, so that a unit held twice is missing for another order."""
        wanted = Counter[str]()
        for order, scenario in self.planned:
            if not (scenario.invalid or scenario.sold_out):
                for line in order.lines:
                    wanted[line.sku] += line.quantity
        spread = [line for sku, units in sorted(wanted.items()) for line in _spread(sku, units, self.locations(sku))]
        by_location = {location: [line for line in spread if line.location == location] for location in LOCATIONS}
        return [
            ReceiveStock(receipt_id=f"{self.prefix}-{location}-{number:06}", lines=tuple(lines[number : number + 100]))
            for location, lines in by_location.items()
            for number in range(0, len(lines), 100)
        ]

    def locations(self, sku: str) -> Sequence[str]:
        """The locations of a SKU: one or more, the same for every prefix."""
        number = sha256(sku.removeprefix(self.prefix).encode()).digest()[0]
        return [LOCATIONS[(number + step) % len(LOCATIONS)] for step in range(1 + number % 3)]


def _spread(sku: str, units: int, locations: Sequence[str]) -> Iterator[StockLine]:
    for number, location in enumerate(locations):
        if share := (units + number) // len(locations):
            yield StockLine(sku=sku, location=location, quantity=share)


class ExternalParties:
    """Warehouse, carrier, customers and operators. Each reacts to events with commands; repeated commands have no effect.

    They react to the orders they `serve`, one set at a time: those of an earlier set have finished.
    """

    def __init__(self) -> None:
        self._scenarios: dict[str, Scenario] = {}
        self._lines: dict[str, LineItem] = {}

    def serve(self, orders: Orders) -> None:
        """React to `orders` from now on, and no longer to those before."""
        self._scenarios, self._lines = orders.scenarios, orders.first_lines

    def reactions(self) -> Mapping[str, Reactions]:
        """By broker user."""
        warehouses: dict[str, dict[type[Any], Response]] = {
            f"warehouse:{location}": {FulfillmentPlanned: partial(self._ship, location)} for location in LOCATIONS
        }
        warehouses[f"warehouse:{RETURNS_LOCATION}"][ReturnApproved] = self._receive_return
        return {
            **warehouses,
            f"carrier:{CARRIER}": {LabelCreated: carrier},
            "operator": {
                ReturnWindowOpened: lambda event: self._request_return(event.order_id, 0),
                ReturnClosed: lambda event: self._request_return(event.order_id, _number(event.return_id) + 1),
                OrderActionRequired: self._handle_action,
                PaymentCaptureRefused: self._write_off,
                FulfillmentPlanned: lambda event: self._cancel(event.order_id, "planned"),
                FulfillmentShipped: lambda event: self._cancel(event.order_id, "shipped"),
            },
        }

    def _ship(self, location: str, event: FulfillmentPlanned) -> Iterator[Any]:
        scenario = self._scenarios.get(event.order_id)
        if scenario is not None and event.location == location and scenario.cancels != "planned":
            yield from warehouse(event)

    def _handle_action(self, event: OrderActionRequired) -> Iterator[Any]:
        scenario = self._scenarios.get(event.order_id)
        if scenario is not None and scenario.amends:
            yield AmendPayment(order_id=event.order_id, payment=PaymentMethod(kind="card", token="tok_visa"))
        yield from self._cancel(event.order_id, "waiting")

    def _write_off(self, event: PaymentCaptureRefused) -> Iterator[Any]:
        """Nobody waits for the next tries: they are hours away."""
        if event.order_id in self._scenarios:
            yield WriteOffPayment(order_id=event.order_id, reason="not worth it")

    def _cancel(self, order_id: str, when: str) -> Iterator[Any]:
        scenario = self._scenarios.get(order_id)
        if scenario is not None and scenario.cancels == when:
            yield CancelOrder(order_id=order_id, reason="changed my mind")

    def _request_return(self, order_id: str, number: int) -> Iterator[Any]:
        scenario = self._scenarios.get(order_id)
        if scenario is not None and number < len(scenario.returns):
            returns, line = scenario.returns, self._lines[order_id]
            left = line.quantity - sum(_units(planned, line) for planned in returns[:number])
            lines = (ReturnLine(line_id=line.line_id, quantity=min(returns[number].announced, left)),)
            yield RequestReturn(order_id=order_id, return_id=f"{order_id}-{number}", lines=lines)

    def _receive_return(self, event: ReturnApproved) -> Iterator[Any]:
        scenario = self._scenarios.get(event.order_id)
        if scenario is None:
            return
        ids = {"order_id": event.order_id, "return_id": event.return_id}
        planned, line = scenario.returns[_number(event.return_id)], self._lines[event.order_id]
        units = _units(planned, line)
        arrived = ReturnLine(line_id=line.line_id, quantity=units)
        yield ReceiveReturnItems(**ids, receipt_id=f"{event.return_id}-1", location=RETURNS_LOCATION, lines=(arrived,))
        disposition, accepted = planned.disposition, planned.accepted
        inspected = InspectedLine(line_id=line.line_id, sku=line.sku, quantity=units, disposition=disposition, accepted=accepted)
        yield InspectReturn(**ids, lines=(inspected,))


def _units(planned: PlannedReturn, line: LineItem) -> int:
    return min(planned.arriving, line.quantity)


def _number(return_id: str) -> int:
    return int(return_id.rpartition("-")[2])
