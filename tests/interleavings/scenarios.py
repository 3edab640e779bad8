"""Orders and what their customers do. Some stories have one end only, whatever the interleaving; in others there is a real race."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count, islice
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace
from oms_contracts.channel import OrderPlaced
from oms_contracts.fulfillments import FulfillmentShipped, ShipFulfillment
from oms_contracts.message import key_of
from oms_contracts.orders import (
    AmendPayment,
    CancelOrder,
    OrderActionRequired,
    OrderCancellationRequested,
    OrderConfirmed,
    OrderReleased,
)
from oms_contracts.returns import (
    CancelReturn,
    InspectReturn,
    ReceiveReturnItems,
    RequestReturn,
    ReturnApproved,
    ReturnRequested,
    ReturnWindowOpened,
)
from oms_contracts.stock import ReceiveStock, StockAllocated
from oms_contracts.tracking import LabelCreated, RecordScan
from oms_contracts.values import Address, Customer, InspectedLine, OrderLine, PaymentMethod, ReturnLine, StockLine, order_id_of
from oms_demo.responses import Response as Answer
from oms_demo.responses import Returns
from oms_payment.provider import SCRIPTS

from .system import NOON, Hold, Story

DECLINED = tuple(token for token, script in SCRIPTS.items() if script.step == "authorize" and script.refusal)
APPROVED = ("tok_visa", *(token for token in SCRIPTS if token not in DECLINED))
SHORT = timedelta(seconds=1), timedelta(seconds=7), timedelta(seconds=20)
"""No deadline of the business passes before everybody has done what he has to do."""
LONG = timedelta(seconds=7), timedelta(minutes=20), timedelta(hours=2), timedelta(days=1), timedelta(days=3), timedelta(days=31)
LINES = (
    OrderLine(line_id="1", sku="MUG", quantity=3, unit_price=333, total=998, discount=1),
    OrderLine(line_id="2", sku="POT", quantity=1, unit_price=2_500, total=2_500),
    OrderLine(line_id="3", sku="MUG", quantity=2, unit_price=50, total=0, discount=100),
)
Stock = tuple[tuple[str, str, int], ...]
STOCK: Stock = (("MUG", "BER", 2), ("MUG", "HAM", 2), ("MUG", "MUC", 1), ("POT", "HAM", 1))
"""Just enough for one order, at three locations."""


def order(token: str, *, back: str | None = None, number: int = 0, lines: tuple[OrderLine, ...] = LINES) -> OrderPlaced:
    """An order paid by `token`. What the simulated customers send back of it will be restocked or written off, or it is nothing: `back`."""
    return OrderPlaced(
        channel="web",
        channel_reference=_references(back)[number],
        placed_at=NOON,
        customer=Customer(id="ada"),
        currency="EUR",
        lines=lines,
        shipping=495,
        total=sum(line.total for line in lines) + 495,
        payment=_card(token),
        ship_to=Address(name="Ada", street="Main St 1", postal_code="10115", city="Berlin", country="DE"),
        location="BER",
    )


def amends(*tokens: str) -> Callable[[OrderActionRequired], Iterator[Any]]:
    """A customer who tries these means of payment one after the other, and then gives up."""
    left = iter(tokens)

    def answer(event: OrderActionRequired) -> Iterator[Any]:
        if event.action == "amend_payment" and (token := next(left, None)):
            yield AmendPayment(order_id=event.order_id, payment=_card(token), attempt=event.attempt)

    return answer


def cancels(event: Any) -> Iterator[Any]:
    """A customer who wants no more of it."""
    yield CancelOrder(order_id=event.order_id, reason="changed my mind")


# Stories with one end


@dataclass(frozen=True, slots=True)
class Determined:
    """`end` is where capture says the order ends. `tell` tells the story anew, with a token that is approved and one that is declined."""

    end: str
    tell: Callable[[str, str], Story]


def _story(
    *placed: OrderPlaced, stock: Stock = STOCK, answers: Mapping[type[Any], Answer] | None = None, holds: tuple[Hold, ...] = ()
) -> Story:
    return Story(says=(placed,), stock=_goods(stock), answers=answers or {}, holds=holds, clock=SHORT)


DETERMINED: Mapping[str, Determined] = {
    "ships from three locations": Determined("completed", lambda good, _: _story(order(good))),
    "is placed again and again": Determined("completed", lambda good, _: _story(order(good), order(good), order(good))),
    "comes again with other content": Determined(
        "completed", lambda good, _: _story(order(good), replace(order(good), total=1), order(good), replace(order(good), shipping=0))
    ),
    "is not sound": Determined("rejected", lambda good, _: _story(replace(order(good), total=1))),
    "is sent back and restocked": Determined("completed", lambda good, _: _story(order(good, back="restock"))),
    "is sent back and written off": Determined("completed", lambda good, _: _story(order(good, back="write-off"))),
    "is declined, then amended": Determined("completed", lambda good, bad: _story(order(bad), answers={OrderActionRequired: amends(good)})),
    "is declined three times, then amended": Determined(
        "completed", lambda good, bad: _story(order(bad), answers={OrderActionRequired: amends(bad, bad, good)})
    ),
    "is declined and never amended": Determined("expired", lambda _, bad: _story(order(bad))),
    "is declined and canceled": Determined("canceled", lambda _, bad: _story(order(bad), answers={OrderActionRequired: cancels})),
    "is not in stock": Determined("expired", lambda good, _: _story(order(good), stock=STOCK[1:])),
    "is not in stock and canceled": Determined(
        "canceled", lambda good, _: _story(order(good), stock=STOCK[1:], answers={OrderActionRequired: cancels})
    ),
    "is canceled before its release": Determined(
        "canceled",
        lambda good, _: _story(order(good), answers={OrderConfirmed: cancels}, holds=(Hold("capture", StockAllocated, CancelOrder),)),
    ),
    "is canceled before it ships": Determined(
        "canceled",
        lambda good, _: _story(
            order(good),
            answers={OrderReleased: cancels},
            holds=(Hold("fulfillment", ShipFulfillment, OrderCancellationRequested),),
        ),
    ),
    "is canceled too late": Determined("completed", lambda good, _: _story(order(good), answers={FulfillmentShipped: cancels})),
}
determined = st.tuples(st.sampled_from(list(DETERMINED)), st.sampled_from(APPROVED), st.sampled_from(DECLINED))
"""A story's name, and the two tokens it is told with."""


# Stories with races


@st.composite
def raced(draw: st.DrawFn, most: int = 3) -> Callable[[], Story]:
    """Up to `most` orders for too little stock, whose customers cancel, amend and send back as they like, while deadlines pass.

    Gives what tells the story anew.
    """
    placed = tuple(_orders(draw, number) for number in range(draw(st.integers(1, most))))
    stock = tuple((sku, location, draw(st.integers(1, 4))) for sku in ("MUG", "POT") for location in ("BER", "HAM"))
    tokens = {key_of(one): draw(st.lists(st.sampled_from(("tok_visa", *SCRIPTS)), max_size=2)) for one in placed}
    impatient = tuple((CancelOrder(order_id=key_of(one), reason="changed my mind"),) for one in placed if draw(st.booleans()))
    cancels_unpaid, sends_back, keeps_it, loses, sees_early = (draw(st.booleans()) for _ in range(5))

    def tell() -> Story:
        amending = {order_id: amends(*those) for order_id, those in tokens.items()}
        asked: Answer = cancels if cancels_unpaid else lambda event: amending[event.order_id](event)
        desk = _Desk()
        answers: dict[type[Any], Answer] = {OrderActionRequired: asked}
        if sends_back:
            answers |= {ReturnWindowOpened: desk.opened, ReturnApproved: desk.approved}
        if keeps_it:
            answers |= {ReturnRequested: _keeps_it}
        if loses:
            answers |= {LabelCreated: _loses}
        if sees_early:
            answers |= {FulfillmentShipped: _sees_early}
        return Story(says=(*((one,) for one in placed), *impatient), stock=_goods(stock), answers=answers, clock=LONG)

    return tell


def _orders(draw: st.DrawFn, number: int) -> OrderPlaced:
    lines = tuple(
        OrderLine(line_id=str(index), sku=sku, quantity=units, unit_price=100, total=total, discount=100 * units - total)
        for index in range(draw(st.integers(1, 3)))
        for sku, units in [(draw(st.sampled_from(("MUG", "POT"))), draw(st.integers(1, 3)))]
        for total in [draw(st.integers(0, 100 * units))]
    )
    back = draw(st.sampled_from((None, "restock", "write-off")))
    return order(draw(st.sampled_from(("tok_visa", "tok_visa", *SCRIPTS))), back=back, number=number, lines=lines)


def _keeps_it(event: ReturnRequested) -> Iterator[Any]:
    """A customer who would rather not send it back after all."""
    yield CancelReturn(order_id=event.order_id, return_id=event.return_id, reason="changed my mind")


def _loses(event: LabelCreated) -> Iterator[Any]:
    """A carrier whose other half sees the parcel go astray."""
    for status in ("lost", "returned_to_sender"):
        yield RecordScan(
            order_id=event.order_id, package_id=event.package_id, scan_id=f"{event.package_id}-{status}", status=status, at=event.at
        )


def _sees_early(event: FulfillmentShipped) -> Iterator[Any]:
    """A carrier who does not wait until we know his parcel."""
    for package in event.packages:
        scan_id = f"{package.package_id}-0"
        yield RecordScan(order_id=event.order_id, package_id=package.package_id, scan_id=scan_id, status="out_for_delivery", at=event.at)


class _Desk:
    """Customers who send up to two units of every line back, half of the lines worn, in two parcels; beside those who are simulated."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[OrderLine, ...]] = {}

    def opened(self, event: ReturnWindowOpened) -> Iterator[Any]:
        return_id = f"{event.order_id}-R2"
        self._lines[return_id] = event.lines
        lines = tuple(ReturnLine(line_id=line.line_id, quantity=min(2, line.quantity)) for line in event.lines)
        yield RequestReturn(order_id=event.order_id, return_id=return_id, lines=lines)

    def approved(self, event: ReturnApproved) -> Iterator[Any]:
        lines = self._lines.get(event.return_id)
        if lines is None:
            return
        of: dict[str, Any] = {"order_id": event.order_id, "return_id": event.return_id}
        for parcel in (1, 2):
            units = tuple(ReturnLine(line_id=line.line_id, quantity=1) for line in lines if line.quantity >= parcel)
            if units:
                yield ReceiveReturnItems(receipt_id=f"{event.return_id}-{parcel}", location="HAM", lines=units, **of)
        found = (("restock", True), ("write-off", False))
        yield InspectReturn(
            lines=tuple(
                InspectedLine(
                    line_id=line.line_id,
                    sku=line.sku,
                    quantity=min(2, line.quantity),
                    disposition=found[number % 2][0],
                    accepted=found[number % 2][1],
                )
                for number, line in enumerate(lines)
            ),
            **of,
        )


def _card(token: str) -> PaymentMethod:
    return PaymentMethod(kind="card", token=token)


def _goods(stock: Stock) -> ReceiveStock:
    return ReceiveStock(receipt_id="FIRST", lines=tuple(StockLine(sku=sku, location=at, quantity=units) for sku, at, units in stock))


@cache
def _references(back: str | None) -> tuple[str, ...]:
    """References of orders of which the simulated customers send something back, to be restocked or written off; or nothing."""
    return tuple(islice((reference for number in count() if _sent_back(reference := f"W{number}") == back), 3))


def _sent_back(reference: str) -> str | None:
    customers = Returns()
    at: dict[str, Any] = {"order_id": order_id_of("web", reference), "at": NOON}
    for asked in customers.opened(ReturnWindowOpened(currency="EUR", lines=LINES, closes_at=NOON, **at)):
        list(customers.requested(ReturnRequested(return_id=asked.return_id, lines=asked.lines, **at)))
        for command in customers.approved(ReturnApproved(return_id=asked.return_id, expires_at=NOON, **at)):
            if isinstance(command, InspectReturn):
                return command.lines[0].disposition
    return None
