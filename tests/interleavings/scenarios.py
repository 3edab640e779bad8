"""Orders and what their customers do. Some scenarios end the same under any interleaving; others contain a race."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count, islice
from typing import Any, Protocol

from hypothesis import strategies as st
from msgspec.structs import replace
from oms_contracts import superseded
from oms_contracts.channel import OrderPlaced
from oms_contracts.fulfillments import FulfillmentShipped, ShipFulfillment
from oms_contracts.message import key_of, newest
from oms_contracts.order_parts import ChargedLine, Fee, LineItem, OrderPayment, Tax
from oms_contracts.orders import (
    AmendPayment,
    CancelOrder,
    OrderActionRequired,
    OrderCancellationRequested,
    OrderConfirmed,
    OrderRejected,
    OrderReleased,
)
from oms_contracts.payments import PayOutstanding, RetryCapture
from oms_contracts.products import DefineProduct, ProductDefined
from oms_contracts.returns import (
    CancelReturn,
    InspectReturn,
    ReceiveReturnItems,
    RequestReturn,
    ReturnApproved,
    ReturnRequested,
    ReturnWindowOpened,
)
from oms_contracts.stock import (
    AdjustStock,
    CountStock,
    QuarantineStock,
    ReceiveStock,
    ReceiveTransfer,
    ReleaseQuarantine,
    StockActionRequired,
    StockAllocated,
    TransferReceived,
    TransferStarted,
    TransferStock,
)
from oms_contracts.tracking import LabelCreated, RecordScan
from oms_contracts.values import CountLine, GoodsLine, InspectedLine, OrderLine, PaymentMethod, ReturnLine, StockLine, order_id_of
from oms_demo.responses import Returns
from oms_inventory.reservations import UnknownSku
from oms_payment.providers.sandbox import SCRIPTS

from .system import NOON, Hold, Reaction, Scenario, writes_off

DECLINED = tuple(token for token, script in SCRIPTS.items() if script.step == "authorize" and script.refusal and script.first == 1)
APPROVED = ("tok_visa", *(token for token in SCRIPTS if token not in DECLINED))
SHORT_STEPS = timedelta(seconds=1), timedelta(seconds=7), timedelta(seconds=20)
"""With these steps no business deadline passes while any party still has work to do."""
LONG_STEPS = timedelta(seconds=7), timedelta(minutes=20), timedelta(hours=2), timedelta(days=1), timedelta(days=3), timedelta(days=31)
LINES = (
    OrderLine(line_id="1", sku="MUG", quantity=3, unit_price=333, total=998, discount=1),
    OrderLine(line_id="2", sku="POT", quantity=1, unit_price=2_500, total=2_500),
    OrderLine(line_id="3", sku="MUG", quantity=2, unit_price=50, total=0, discount=100),
)
CHARGED = tuple(ChargedLine(line_id=line.line_id, sku=line.sku, quantity=line.quantity, amount=line.total) for line in LINES)
Stock = tuple[tuple[str, str, int], ...]
STOCK: Stock = (("MUG", "BER", 2), ("MUG", "HAM", 2), ("MUG", "MUC", 1), ("POT", "HAM", 1))
"""Just enough for one order, at three locations."""


NOTHING: Stock = (("CUP", "BER", 1),)
"""Nothing that an order wants."""


Placed = OrderPlaced | superseded.OrderPlaced


class Shop(Protocol):
    """Places an order of `lines`, paid by `token`, in one of the versions of an order.

    `disposition` is that of the units which the simulated customers return: restock, write-off, or None for no return.
    """

    def __call__(self, token: str, *, disposition: str | None = None, number: int = 0, lines: tuple[OrderLine, ...] = LINES) -> Placed: ...


def order_of_version_1(
    token: str, *, disposition: str | None = None, number: int = 0, lines: tuple[OrderLine, ...] = LINES
) -> superseded.OrderPlaced:
    """An order as channels sent it first."""
    return superseded.OrderPlaced(
        channel="web",
        channel_reference=_references(disposition)[number],
        placed_at=NOON,
        customer=superseded.Customer(id="ada"),
        currency="EUR",
        lines=lines,
        shipping=495,
        total=sum(line.total for line in lines) + 495,
        payment=_card(token),
        ship_to=superseded.Address(name="Ada", street="Main St 1", postal_code="10115", city="Berlin", country="DE"),
        location="BER",
    )


def order_of_version_2(token: str, *, disposition: str | None = None, number: int = 0, lines: tuple[OrderLine, ...] = LINES) -> OrderPlaced:
    """An order with taxes on top, a line that is not shipped and a fee, of which a gift card has paid a third."""
    placed: OrderPlaced = newest(order_of_version_1(token, disposition=disposition, number=number, lines=lines))
    taxed = tuple(replace(line, taxes=(Tax(title="VAT", amount=line.total * 7 // 100),)) for line in placed.lines)
    online = LineItem(line_id="online", sku="E-BOOK", quantity=1, unit_price=701, total=701, requires_shipping=False)
    fee = Fee(kind="wrap", title="Gift wrap", amount=103)
    total = placed.total + sum(line.taxes[0].amount for line in taxed) + online.total + fee.amount
    return replace(
        placed,
        number="#1001",
        taxes_included=False,
        lines=(*taxed, online),
        fees=(fee,),
        total=total,
        payments=(
            OrderPayment(id="gift card", kind="gift_card", amount=total // 3, status="captured"),
            OrderPayment(id="rest", kind="card", amount=total - total // 3, token=token),
        ),
    )


SHOPS: Mapping[str, Shop] = {"version 1": order_of_version_1, "version 2": order_of_version_2}


def _paid_by(placed: OrderPlaced, status: str) -> OrderPlaced:
    """The order, paid in one sum: as the channel has had it held already, or nothing of it ours to collect."""
    token = f"{placed.payments[-1].token}.held-by-the-channel" if status == "authorized" else ""
    return replace(placed, payments=(OrderPayment(id="all", kind="card", amount=placed.total, token=token, status=status),))


def amends(*tokens: str) -> Callable[[OrderActionRequired], Iterator[Any]]:
    """A customer who tries these payment methods one after the other, and then does nothing more."""
    remaining = iter(tokens)

    def amend(event: OrderActionRequired) -> Iterator[Any]:
        if event.action == "amend_payment" and (token := next(remaining, None)):
            yield AmendPayment(order_id=event.order_id, payment=_card(token), attempt=event.attempt)

    return amend


def receives(event: OrderActionRequired) -> Iterator[Any]:
    """A warehouse that receives just enough for an order that waits for stock, one receipt for each line of it."""
    if event.action == "resolve_stock":
        for number, (sku, at, units) in enumerate(STOCK):
            yield ReceiveStock(receipt_id=f"{event.order_id}-{number}", lines=(StockLine(sku=sku, location=at, quantity=units),))


def cancels(event: Any) -> Iterator[Any]:
    """A customer who cancels the order."""
    yield CancelOrder(order_id=event.order_id, reason="changed my mind")


def pays() -> Callable[[OrderActionRequired], Iterator[Any]]:
    """An operator who has what could not be captured tried again, and from then on takes another card for it."""
    tried = set[str]()

    def pay(event: OrderActionRequired) -> Iterator[Any]:
        if event.action == "collect_payment" and event.order_id not in tried:
            tried.add(event.order_id)
            yield RetryCapture(order_id=event.order_id)
        elif event.action == "collect_payment":
            yield PayOutstanding(order_id=event.order_id, payment=_card("tok_visa"))

    return pay


# Scenarios that end the same under any interleaving


@dataclass(frozen=True, slots=True)
class Determined:
    """`end` is the order's last status. `make` makes the scenario from a shop, a token that is approved and one that is declined."""

    end: str
    make: Callable[[Shop, str, str], Scenario]


def _scenario(
    *placed: Placed,
    stock: Stock = STOCK,
    reactions: Mapping[type[Any], Reaction] | None = None,
    holds: tuple[Hold, ...] = (),
    products: tuple[str, ...] = (),
    unknown_sku: UnknownSku = "accept",
    collects: Reaction = writes_off,
) -> Scenario:
    """Orders under one reference. `products` are defined at any time."""
    return Scenario(
        messages=(*([placed] if placed else []), *((DefineProduct(sku=sku, title=sku),) for sku in products)),
        stock=_receipt(stock),
        reactions=reactions or {},
        holds=holds,
        clock_steps=SHORT_STEPS,
        unknown_sku=unknown_sku,
        collects=collects,
    )


def _corrected(placed: Placed) -> Scenario:
    """The order with a SKU that is not sold, and after its rejection the order itself. Its own products are defined before."""
    first, *others = placed.lines
    wrong = replace(placed, lines=(replace(first, sku="OLD"), *others))
    defined = set[str]()

    def place(event: ProductDefined) -> Iterator[Any]:
        defined.add(event.sku)
        if defined == {"MUG", "POT"}:
            yield wrong

    def correct(_: OrderRejected) -> Iterator[Any]:
        yield placed

    reactions: Mapping[type[Any], Reaction] = {ProductDefined: place, OrderRejected: correct}
    return _scenario(reactions=reactions, products=("MUG", "POT"), unknown_sku="reject")


def _served_by_a_transfer(placed: Placed) -> Scenario:
    """The order's goods are all elsewhere, come in two parts, and it is placed once they are there."""
    arrived = set[str]()

    def receive(event: TransferStarted) -> Iterator[Any]:
        for number, line in enumerate(event.lines):
            goods = (GoodsLine(sku=line.sku, quantity=line.quantity),)
            yield ReceiveTransfer(transfer_id=event.transfer_id, receipt_id=str(number), location=event.to_location, lines=goods)

    def place(event: TransferReceived) -> Iterator[Any]:
        arrived.add(event.receipt_id)
        if len(arrived) == len(goods):
            yield placed

    goods = tuple(GoodsLine(sku=sku, quantity=sum(units for other, _, units in STOCK if other == sku)) for sku in ("MUG", "POT"))
    sent = TransferStock(transfer_id="T", from_location="DEPOT", to_location="BER", lines=goods)
    return Scenario(
        messages=((sent,),),
        stock=_receipt(tuple((line.sku, "DEPOT", line.quantity) for line in goods)),
        reactions={TransferStarted: receive, TransferReceived: place},
        clock_steps=SHORT_STEPS,
    )


DETERMINED: Mapping[str, Determined] = {
    "ships from three locations": Determined("completed", lambda order, good, _: _scenario(order(good))),
    "is placed again and again": Determined("completed", lambda order, good, _: _scenario(order(good), order(good), order(good))),
    "is placed again with other content": Determined(
        "completed",
        lambda order, good, _: _scenario(order(good), replace(order(good), total=1), order(good), replace(order(good), location=None)),
    ),
    "is not valid": Determined("rejected", lambda order, good, _: _scenario(replace(order(good), total=1))),
    "is corrected after a rejection": Determined(
        "completed",
        lambda order, good, _: _scenario(*_garbage(order(good)), order(good), *_garbage(order(good))),
    ),
    "is returned and restocked": Determined("completed", lambda order, good, _: _scenario(order(good, disposition="restock"))),
    "is returned and written off": Determined("completed", lambda order, good, _: _scenario(order(good, disposition="write-off"))),
    "is declined, then amended": Determined(
        "completed", lambda order, good, bad: _scenario(order(bad), reactions={OrderActionRequired: amends(good)})
    ),
    "is declined three times, then amended": Determined(
        "completed", lambda order, good, bad: _scenario(order(bad), reactions={OrderActionRequired: amends(bad, bad, good)})
    ),
    "is declined and never amended": Determined("expired", lambda order, _, bad: _scenario(order(bad))),
    "is declined and canceled": Determined(
        "canceled", lambda order, _, bad: _scenario(order(bad), reactions={OrderActionRequired: cancels})
    ),
    "is not in stock": Determined("expired", lambda order, good, _: _scenario(order(good), stock=STOCK[1:])),
    "is not in stock and canceled": Determined(
        "canceled", lambda order, good, _: _scenario(order(good), stock=STOCK[1:], reactions={OrderActionRequired: cancels})
    ),
    "waits for stock that is received": Determined(
        "completed", lambda order, good, _: _scenario(order(good), stock=NOTHING, reactions={OrderActionRequired: receives})
    ),
    "waits for its products, and then for stock that is received": Determined(
        "completed",
        lambda order, good, _: _scenario(
            order(good), stock=NOTHING, products=("MUG", "POT"), unknown_sku="hold", reactions={OrderActionRequired: receives}
        ),
    ),
    "is canceled before its release": Determined(
        "canceled",
        lambda order, good, _: _scenario(
            order(good), reactions={OrderConfirmed: cancels}, holds=(Hold("capture", StockAllocated, CancelOrder),)
        ),
    ),
    "is canceled before it ships": Determined(
        "canceled",
        lambda order, good, _: _scenario(
            order(good),
            reactions={OrderReleased: cancels},
            holds=(Hold("fulfillment", ShipFulfillment, OrderCancellationRequested),),
        ),
    ),
    "waits for its products": Determined(
        "completed", lambda order, good, _: _scenario(order(good), products=("MUG", "POT"), unknown_sku="hold")
    ),
    "waits for its products, and then lacks stock": Determined(
        "expired", lambda order, good, _: _scenario(order(good), stock=STOCK[1:], products=("MUG", "POT"), unknown_sku="hold")
    ),
    "waits for a product that is never defined": Determined(
        "expired", lambda order, good, _: _scenario(order(good), products=("MUG",), unknown_sku="hold")
    ),
    "waits for a product and is canceled": Determined(
        "canceled",
        lambda order, good, _: _scenario(order(good), products=("POT",), unknown_sku="hold", reactions={OrderActionRequired: cancels}),
    ),
    "names a product that is not sold": Determined(
        "rejected", lambda order, good, _: _scenario(order(good), products=("MUG",), unknown_sku="reject")
    ),
    "names a product that is not sold, and is corrected": Determined("completed", lambda order, good, _: _corrected(order(good))),
    "is served by goods that came from elsewhere": Determined("completed", lambda order, good, _: _served_by_a_transfer(order(good))),
    "cannot be captured and is written off": Determined("completed", lambda order, _good, _bad: _scenario(order("tok_capture_fails"))),
    "cannot be captured, and is paid by another card": Determined(
        "completed", lambda order, _good, _bad: _scenario(order("tok_capture_fails"), collects=pays())
    ),
    "cannot be captured at first": Determined("completed", lambda order, _good, _bad: _scenario(order("tok_capture_fails_once"))),
    "is canceled too late": Determined("completed", lambda order, good, _: _scenario(order(good), reactions={FulfillmentShipped: cancels})),
}
determined = st.tuples(
    st.sampled_from(list(DETERMINED)), st.sampled_from(list(SHOPS)), st.sampled_from(APPROVED), st.sampled_from(DECLINED)
)
"""The name of a scenario; and to make it from, the name of a shop and the two tokens."""


# Scenarios with races


@st.composite
def raced(draw: st.DrawFn, max_orders: int = 3) -> Callable[[], Scenario]:
    """Up to `max_orders` orders for too little stock. Their customers may cancel, amend and return while deadlines pass.

    Goods may be counted, set apart and moved meanwhile; what is short then is found, and what is set apart is released.
    Before or after an order, garbage may come under its reference; not where the catalogue may reject the order: then garbage that was a
    conflict before the rejection is decided on anew when it comes again.

    Returns a function that makes the scenario again.
    """
    unknown_sku: UnknownSku = draw(st.sampled_from(("accept", "accept", "hold", "reject")))
    placed = tuple(_orders(draw, number) for number in range(draw(st.integers(1, max_orders))))
    stock = tuple((sku, location, draw(st.integers(1, 4))) for sku in ("MUG", "POT") for location in ("BER", "HAM"))
    tokens = {key_of(one): draw(st.lists(st.sampled_from(("tok_visa", *SCRIPTS)), max_size=2)) for one in placed}
    cancellations = tuple((CancelOrder(order_id=key_of(one), reason="changed my mind"),) for one in placed if draw(st.booleans()))
    garbage = tuple(_garbage(one) for one in placed if draw(st.booleans()) and unknown_sku != "reject")
    products = tuple((DefineProduct(sku=sku, title=sku),) for sku in ("MUG", "POT") if draw(st.booleans()))
    moves = draw(_moves())
    receipts = tuple(
        (ReceiveStock(receipt_id=f"LATE-{number}", lines=(StockLine(sku=sku, location="BER", quantity=draw(st.integers(1, 6))),)),)
        for number, sku in enumerate(draw(st.lists(st.sampled_from(("MUG", "POT")), max_size=3)))
    )
    gives_up = draw(st.booleans())
    cancels_unpaid, returns, cancels_return, loses, scans_early = (draw(st.booleans()) for _ in range(5))

    def make() -> Scenario:
        amending = {order_id: amends(*tried) for order_id, tried in tokens.items()}
        reaction: Reaction = cancels if cancels_unpaid else lambda event: amending[event.order_id](event)
        desk = _Desk()
        reactions: dict[type[Any], Reaction] = {OrderActionRequired: reaction, StockActionRequired: _resolves, TransferStarted: _receives}
        if returns:
            reactions |= {ReturnWindowOpened: desk.opened, ReturnApproved: desk.approved}
        if cancels_return:
            reactions |= {ReturnRequested: _cancels_return}
        if loses:
            reactions |= {LabelCreated: _loses}
        if scans_early:
            reactions |= {FulfillmentShipped: _scans_early}
        return Scenario(
            messages=(*((one,) for one in placed), *cancellations, *garbage, *products, *receipts, *moves),
            stock=_receipt(stock),
            reactions=reactions,
            clock_steps=LONG_STEPS,
            unknown_sku=unknown_sku,
            collects=writes_off if gives_up else pays(),
        )

    return make


def _orders(draw: st.DrawFn, number: int) -> Placed:
    lines = tuple(
        OrderLine(line_id=str(index), sku=sku, quantity=units, unit_price=100, total=total, discount=100 * units - total)
        for index in range(draw(st.integers(1, 3)))
        for sku, units in [(draw(st.sampled_from(("MUG", "POT"))), draw(st.integers(1, 3)))]
        for total in [draw(st.integers(0, 100 * units))]
    )
    disposition = draw(st.sampled_from((None, "restock", "write-off")))
    shop = draw(st.sampled_from(list(SHOPS.values())))
    placed = shop(draw(st.sampled_from(("tok_visa", "tok_visa", *SCRIPTS))), disposition=disposition, number=number, lines=lines)
    status = draw(st.sampled_from(("", "", "authorized", "captured", "due")))
    return _paid_by(placed, status) if status and isinstance(placed, OrderPlaced) else placed


@st.composite
def _moves(draw: st.DrawFn) -> tuple[tuple[Any, ...], ...]:
    """What a warehouse does with its goods beside the orders: at most one count, one quarantine and one transfer."""
    sku, location = draw(st.sampled_from(("MUG", "POT"))), draw(st.sampled_from(("BER", "HAM")))
    goods = (GoodsLine(sku=sku, quantity=draw(st.integers(1, 2))),)
    counted = (CountLine(sku=sku, location=location, counted=draw(st.integers(0, 3))),)
    possible = (
        CountStock(count_id="count", lines=counted),
        QuarantineStock(quarantine_id="apart", location=location, lines=goods, reason="recall"),
        TransferStock(transfer_id="moved", from_location=location, to_location="HAM" if location == "BER" else "BER", lines=goods),
    )
    return tuple((one,) for one in possible if draw(st.integers(0, 2)) == 2)


def _resolves(event: StockActionRequired) -> Iterator[Any]:
    """A person who finds what is short, and releases what is set apart; once for each time that it is asked for."""
    name = f"{event.sku}/{event.location}/{event.at.isoformat()}"
    if event.action == "resolve_shortfall":
        lines = (StockLine(sku=event.sku, location=event.location, quantity=event.units),)
        yield AdjustStock(adjustment_id=name, lines=lines, reason="behind the shelf", reason_code="found")
    else:
        goods = (GoodsLine(sku=event.sku, quantity=event.units),)
        yield ReleaseQuarantine(release_id=name, location=event.location, lines=goods, reason="sound")


def _receives(event: TransferStarted) -> Iterator[Any]:
    """A warehouse that receives a transfer whole."""
    goods = tuple(GoodsLine(sku=line.sku, quantity=line.quantity) for line in event.lines)
    yield ReceiveTransfer(transfer_id=event.transfer_id, receipt_id="all", location=event.to_location, lines=goods)


def _garbage(placed: Placed) -> tuple[Placed, ...]:
    """Invalid orders under the reference of an order."""
    return replace(placed, total=-1), replace(placed, lines=())


def _cancels_return(event: ReturnRequested) -> Iterator[Any]:
    """A customer who cancels a requested return."""
    yield CancelReturn(order_id=event.order_id, return_id=event.return_id, reason="changed my mind")


def _loses(event: LabelCreated) -> Iterator[Any]:
    """A carrier that scans the package as lost, and later as returned to its sender."""
    for status in ("lost", "returned_to_sender"):
        yield RecordScan(
            order_id=event.order_id, package_id=event.package_id, scan_id=f"{event.package_id}-{status}", status=status, at=event.at
        )


def _scans_early(event: FulfillmentShipped) -> Iterator[Any]:
    """A carrier whose scan comes before the label is created."""
    for package in event.packages:
        scan_id = f"{package.package_id}-0"
        yield RecordScan(order_id=event.order_id, package_id=package.package_id, scan_id=scan_id, status="out_for_delivery", at=event.at)


class _Desk:
    """Customers who return up to two units of every line, half of the lines damaged, in two packages; in addition to the simulators."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[ChargedLine, ...]] = {}

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
        for package in (1, 2):
            units = tuple(ReturnLine(line_id=line.line_id, quantity=1) for line in lines if line.quantity >= package)
            if units:
                yield ReceiveReturnItems(receipt_id=f"{event.return_id}-{package}", location="HAM", lines=units, **of)
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


def _receipt(stock: Stock) -> ReceiveStock:
    return ReceiveStock(receipt_id="FIRST", lines=tuple(StockLine(sku=sku, location=at, quantity=units) for sku, at, units in stock))


@cache
def _references(disposition: str | None) -> tuple[str, ...]:
    """References of orders whose simulated return has this disposition; None for orders without a return."""
    return tuple(islice((reference for number in count() if _disposition(reference := f"W{number}") == disposition), 3))


def _disposition(reference: str) -> str | None:
    customers = Returns()
    at: dict[str, Any] = {"order_id": order_id_of("web", reference), "at": NOON}
    for request in customers.opened(ReturnWindowOpened(currency="EUR", lines=CHARGED, closes_at=NOON, **at)):
        list(customers.requested(ReturnRequested(return_id=request.return_id, lines=request.lines, **at)))
        for command in customers.approved(ReturnApproved(return_id=request.return_id, expires_at=NOON, **at)):
            if isinstance(command, InspectReturn):
                return command.lines[0].disposition
    return None
