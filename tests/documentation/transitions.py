"""What the deciders really do: every change of status that each of them can reach, found by exploring it breadth first.

A decider is given every command of a small alphabet in every state it can come to, and every deadline and outside effect that a state asks
for. Time stands still, so that states repeat and the search ends. Ids and quantities are few, because the rules do not depend on more.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import msgspec
from msgspec.structs import replace
from oms_adapters.decisions import Arrived
from oms_capture.commands import (
    PlaceOrder,
    RecordAllocation,
    RecordAuthorization,
    RecordCancellationRejected,
    RecordDecline,
    RecordDelivery,
    RecordDeliveryTrouble,
    RecordFulfillmentCanceled,
    RecordOutstanding,
    RecordPayment,
    RecordReservation,
    RecordReservationExpiry,
    RecordShortage,
    RecordUnknownSkus,
    TakeWebhook,
)
from oms_contracts.channel import OrderPlaced
from oms_contracts.fulfillments import AcceptFulfillment, PackPackage, PickItems, ShipFulfillment
from oms_contracts.order_parts import ChargedLine, LineItem, OrderPayment
from oms_contracts.orders import AmendPayment, CancelOrder, ExtendWait
from oms_contracts.payments import PayOutstanding, RetryCapture, WriteOffPayment
from oms_contracts.products import DeactivateProduct, DefineProduct
from oms_contracts.returns import CancelReturn, InspectReturn, ReceiveReturnItems, RequestReturn
from oms_contracts.sscc import check_digit
from oms_contracts.stock import (
    AdjustStock,
    CloseTransfer,
    CountStock,
    QuarantineStock,
    ReceiveStock,
    ReceiveTransfer,
    ReleaseQuarantine,
    SetStockLimits,
    TransferStock,
    WriteOffQuarantine,
)
from oms_contracts.tracking import RecordScan
from oms_contracts.values import (
    Address,
    AllocatedLine,
    CountLine,
    Customer,
    GoodsLine,
    InspectedLine,
    Package,
    PaymentMethod,
    ReturnLine,
    Shortage,
    StockLine,
    WantedLine,
)
from oms_fulfillment.commands import PlanFulfillments, StopFulfillments
from oms_inventory.app import make_service as make_inventory
from oms_inventory.commands import (
    AllocateStock,
    BookReturn,
    ReleaseReservation,
    ReleaseStock,
    ReserveStock,
    ShipStock,
)
from oms_inventory.reservations import NotAllocated, Terms, UnknownSku
from oms_inventory.transfers import Transfer
from oms_payment.app import make_service as make_payment
from oms_payment.commands import (
    AuthorizeOrder,
    CaptureShipment,
    RecordRefusal,
    RecordSuccess,
    RecordUnknownOutcome,
    RecordUnknownRequest,
    RefundReturn,
    ReleasePayment,
    RequestAuthorization,
)
from oms_payment.decider import Terms as PaymentTerms
from oms_payment.money import Payment, request_id_of
from oms_payment.providers.sandbox import Sandbox
from oms_returns.commands import OpenReturnWindow, RecordRefund, RecordRefundFailure
from oms_runtime.model import Command, Event, Service, State
from oms_tracking.commands import RecordOrderStatus, RecordRelease, RecordShipment
from oms_tracking.decider import RANKS

Transition = tuple[str, str, str]
"""Status before, event, status after."""
START = "[*]"
"""The status of what no event has been about yet, as Mermaid writes it."""

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ORDER = "order"
OF: dict[str, Any] = {"order_id": ORDER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagram:
    """One state diagram: its heading on the page, and which part of a decider's state it shows.

    - `statuses(key, state)`: by subject (an order, a package, a return), the status that the diagram shows. A subject that is not in
      it yet has the status START.
    - `subject(event)`: which subject an event is about; None where the diagram does not show such events.
    """

    heading: str
    statuses: Callable[[str, State], Mapping[str, str]]
    subject: Callable[[Event], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a service's decider is tried with.

    - `commands`: the alphabet, to which each state adds what is due.
    - `apart`: searches with other alphabets, each by itself: with all of them together there would be too many worlds.
    - `forgotten`: the fields of a state that only remember which refusals were published, so that they are not repeated. The search clears
      them: otherwise every set of refusals would be another state.
    - `bounded(state)`: False for a state that the search goes no further from, because it counts something without end.
    - `variants`: the service under other settings, by which it can do more. The diagrams show all of it.
    """

    service: str
    diagrams: Sequence[Diagram]
    commands: Sequence[Command]
    forgotten: frozenset[str] = frozenset()
    bounded: Callable[[State], bool] = lambda _state: True
    variants: Sequence[Service] = ()
    apart: Sequence["Search"] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found for one diagram: transitions to be drawn, and events that are about none of its subjects."""

    drawn: set[Transition] = field(default_factory=set[Transition])
    not_drawn: set[str] = field(default_factory=set[str])


def explore(search: Search, service: Service) -> dict[str, Found]:
    """By heading: every transition that the service's decider can make, under its settings and those of its variants.

    Raises AssertionError where an event changes a status of a diagram that does not show it.
    """
    found = {diagram.heading: Found() for diagram in search.diagrams}
    tried = [(search, each) for each in (service, *search.variants)] + [(apart, service) for apart in search.apart]
    for key, before, event, after in chain.from_iterable(_steps(one, each) for one, each in tried):
        for diagram in search.diagrams:
            _note(found[diagram.heading], label(event), diagram.subject(event), diagram.statuses(key, before), diagram.statuses(key, after))
    return found


def _note(found: Found, event: str, subject: str | None, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    changed = {one for one, status in new.items() if status != old.get(one, START)}
    if subject is None:
        assert not changed, f"{event} is not shown, and changes the status of {changed}"
        found.not_drawn.add(event)
    elif subject in new or subject in old:
        changed.add(subject)
    for one in changed:
        found.drawn.add((old.get(one, START), event, new.get(one, START)))


def label(event: Event) -> str:
    """How an event is written at an arrow: with what it asks for, where it asks somebody to act."""
    action = getattr(event, "action", None)
    return f"{type(event).__name__} ({action})" if action else type(event).__name__


def _steps(search: Search, service: Service) -> Iterator[tuple[str, State, Event, State]]:
    """Key, state before, event, state after: of every decision in every reachable world. A world is all states by key."""
    decider = service.decider
    assert decider is not None
    queue: deque[dict[str, State]] = deque([{}])
    seen = {_identity({})}
    while queue:
        world = queue.popleft()
        for command in (*search.commands, *_due(service, world)):
            states = {key: world.get(key) or decider.initial(key) for key in decider.reads(command)}
            try:
                events = decider.decide(command, states, NOON)
            except NotAllocated:
                continue  # the record becomes a dead letter, and no state changes
            reached = world
            for event in events:
                for key in decider.writes(event):
                    before = reached.get(key) or decider.initial(key)
                    after = _forget(decider.evolve(before, event, key), decider.initial(key), search.forgotten)
                    yield key, before, event, after
                    reached = {**reached, key: after}
            if (identity := _identity(reached)) not in seen and all(map(search.bounded, reached.values())):
                seen.add(identity)
                queue.append(reached)


def _due(service: Service, world: Mapping[str, State]) -> Iterator[Command]:
    """What the states ask for by themselves: a deadline's command, or every outcome that an outside effect may have."""
    assert service.decider is not None
    for key, state in world.items():
        if due := service.decider.due(key, state):
            yield from _outcomes(due[1]) if type(due[1]) in service.effects else (due[1],)


def _outcomes(effect: Any) -> Iterator[Command]:
    of: dict[str, Any] = {"order_id": effect.order_id, "request_id": effect.request_id}
    yield RecordSuccess(reference="done", **of)
    if isinstance(effect, RequestAuthorization):
        yield RecordSuccess(reference="done", expires_at=NOON + timedelta(days=7), **of)
    yield RecordRefusal(reason="refused", **of)
    yield RecordUnknownOutcome(checks=effect.checks, **of)
    yield RecordUnknownRequest(checks=effect.checks, **of)


_identity = msgspec.json.Encoder(order="deterministic").encode


def _forget(state: State, initial: State, forgotten: frozenset[str]) -> State:
    fields = {name: getattr(initial, name) for name in forgotten & set(state.__struct_fields__)}
    return replace(state, **fields) if fields else state


def _status_of_order(key: str, state: State) -> Mapping[str, str]:
    """The field `status`, where the key is the order's. `new` and `none` are before the first event."""
    return {key: state.status} if key == ORDER and state.status not in {"new", "none"} else {}


def _only(*events: str) -> Callable[[Event], str | None]:
    """The order is the subject of these events and of no other."""
    return lambda event: event.order_id if type(event).__name__ in events else None


def _but(*events: str) -> Callable[[Event], str | None]:
    """The order is the subject of all events but these."""
    return lambda event: None if type(event).__name__ in events else event.order_id


# Capture

LINE = LineItem(line_id="1", sku="MUG", quantity=2, unit_price=500, total=1_000)
CHARGED = ChargedLine(line_id="1", sku="MUG", quantity=2, amount=1_000)
HALF, ALL = (AllocatedLine(line_id="1", sku="MUG", location="BER", quantity=units) for units in (1, 2))
CARD = PaymentMethod(kind="card", token="tok_visa")
PLACED = OrderPlaced(
    channel="web",
    channel_reference="W1",
    placed_at=NOON,
    customer=Customer(id="ada"),
    currency="EUR",
    lines=(LINE,),
    total=1_000,
    payments=(OrderPayment(id="1", kind=CARD.kind, amount=1_000, token=CARD.token),),
    ship_to=Address(name="Ada", street="Main St 1", postal_code="10115", city="Berlin", country="DE"),
)
ATTEMPTS = (1, 2)
NO_MUGS = (Shortage(sku="MUG", requested=2, available=0),)

CAPTURE = Search(
    service="capture",
    diagrams=[
        Diagram(
            heading="Capture: an order",
            statuses=_status_of_order,
            subject=_but("OrderConflictReported", "OrderCommandRefused", "WebhookTaken"),
        )
    ],
    forgotten=frozenset({"refused", "webhook_ids", "webhooks"}),
    bounded=lambda state: getattr(state, "attempt", 0) <= max(ATTEMPTS),
    commands=(
        PlaceOrder(content_hash="sound", placed=PLACED, **OF),
        *(PlaceOrder(content_hash=name, placed=replace(PLACED, total=1), **OF) for name in ("unsound", "unsound again")),
        *(RecordReservation(attempt=attempt, **OF) for attempt in ATTEMPTS),
        *(
            RecordShortage(attempt=attempt, shortages=NO_MUGS, confirmed=confirmed, **OF)
            for attempt in ATTEMPTS
            for confirmed in (False, True)
        ),
        *(RecordUnknownSkus(attempt=attempt, unknown_skus=("MUG",), held=held, **OF) for attempt in ATTEMPTS for held in (True, False)),
        *(RecordReservationExpiry(attempt=attempt, **OF) for attempt in ATTEMPTS),
        *(RecordAuthorization(attempt=attempt, **OF) for attempt in ATTEMPTS),
        *(RecordDecline(attempt=attempt, reason="declined", **OF) for attempt in ATTEMPTS),
        RecordAllocation(lines=(ALL,), **OF),
        AmendPayment(payment=CARD, **OF),
        AmendPayment(payment=replace(CARD, token=""), **OF),
        CancelOrder(reason="changed my mind", **OF),
        ExtendWait(until=NOON + timedelta(days=7), **OF),
        RecordFulfillmentCanceled(requested_at=NOON, **OF),
        RecordCancellationRejected(reason="already shipped", requested_at=NOON, **OF),
        *(RecordDelivery(package_id=package_id, lines=(HALF,), **OF) for package_id in ("P1", "P2")),
        RecordDeliveryTrouble(reason="package P1 is lost", **OF),
        RecordPayment(fulfillment_id="F1", units=2, outstanding=0, **OF),
        RecordOutstanding(reason="refused", deadline=NOON, **OF),
        TakeWebhook(channel="web", platform="shopify", topic="orders/updated", arrived=Arrived(webhook_id="w", no_order="a refund"), **OF),
    ),
)

# Inventory


def _stock(units: int) -> tuple[StockLine, ...]:
    return (StockLine(sku="MUG", location="BER", quantity=units),)


WANTED = WantedLine(line_id="1", sku="MUG", quantity=2)
MUGS, TWO_MUGS = ((GoodsLine(sku="MUG", quantity=units),) for units in (1, 2))
TRANSFER = "transfer"


def transfer_statuses(_key: str, state: State) -> Mapping[str, str]:
    """The one transfer that there is."""
    return {TRANSFER: state.status} if isinstance(state, Transfer) and state.status != "none" else {}


def _transfer_of(event: Event) -> str | None:
    return getattr(event, "transfer_id", None)


RETURNED = tuple(
    InspectedLine(line_id="1", sku="MUG", quantity=1, disposition=disposition, accepted=accepted)
    for disposition, accepted in (("restock", True), ("write-off", False))
)

POLICIES: tuple[UnknownSku, ...] = ("accept", "reject", "hold")

INVENTORY = Search(
    service="inventory",
    diagrams=[
        Diagram(
            heading="Inventory: the reservation of an order",
            statuses=_status_of_order,
            subject=_but(
                *("StockReceived", "StockAdjusted", "StockReturned", "StockWrittenOff", "StockCommandRefused"),
                *("ProductDefined", "ProductDeactivated", "ProductCommandRefused", "WaitingOrdersResumed", "WaitingOrdersCalled"),
                *("StockCounted", "StockQuarantined", "QuarantineReleased", "QuarantineWrittenOff", "StockLimitsSet"),
                *("StockLow", "StockLowCleared", "StockOut", "StockOutCleared", "StockExcess", "StockExcessCleared"),
                *("StockActionRequired", "StockActionResolved"),
                *("TransferStarted", "TransferReceived", "TransferClosed", "TransferActionRequired"),
            ),
        ),
        Diagram(heading="Inventory: a transfer of goods", statuses=transfer_statuses, subject=_transfer_of),
    ],
    forgotten=frozenset({"refused", "watches"}),
    variants=[make_inventory(Terms(unknown_sku=policy, max_waiting=room)) for policy in POLICIES for room in (0, 1)],
    commands=(
        DefineProduct(sku="MUG", title="Mug"),
        DefineProduct(sku="MUG", title=""),
        DeactivateProduct(sku="MUG"),
        ReceiveStock(receipt_id="goods", lines=_stock(2)),
        AdjustStock(adjustment_id="found", lines=_stock(2), reason="counted"),
        AdjustStock(adjustment_id="missing", lines=_stock(-2), reason="counted"),
        AdjustStock(adjustment_id="unsound", lines=_stock(0), reason="counted"),
        BookReturn(return_id="back", location="BER", lines=RETURNED, **OF),
        *(ReserveStock(attempt=attempt, lines=(WANTED,), location="BER", **OF) for attempt in ATTEMPTS),
        AllocateStock(**OF),
        ReleaseReservation(attempt=None, action="amend_payment", reason="declined", **OF),
        ReleaseReservation(attempt=None, action="resolve_stock", reason="sold out", **OF),
        ReleaseStock(reason="canceled", **OF),
        *(ShipStock(fulfillment_id=fulfillment_id, lines=(HALF,), **OF) for fulfillment_id in ("F1", "F2")),
    ),
    apart=(
        Search(
            service="inventory",
            diagrams=(),
            commands=(
                ReceiveStock(receipt_id="goods", lines=_stock(2)),
                TransferStock(transfer_id=TRANSFER, from_location="BER", to_location="HAM", lines=TWO_MUGS),
                *(ReceiveTransfer(transfer_id=TRANSFER, receipt_id=name, location="HAM", lines=MUGS) for name in ("one", "two")),
                CloseTransfer(transfer_id=TRANSFER, location="HAM", reason="lost"),
            ),
            forgotten=frozenset({"refused", "watches"}),
        ),
        Search(
            service="inventory",
            diagrams=(),
            commands=(
                ReceiveStock(receipt_id="goods", lines=_stock(2)),
                CountStock(count_id="none", lines=(CountLine(sku="MUG", location="BER", counted=0),)),
                QuarantineStock(quarantine_id="apart", location="BER", lines=TWO_MUGS, reason="recall"),
                ReleaseQuarantine(release_id="sound", location="BER", lines=MUGS, reason="sound"),
                WriteOffQuarantine(write_off_id="broken", location="BER", lines=MUGS, reason="broken"),
                SetStockLimits(sku="MUG", reorder_point=0, maximum=1),
                SetStockLimits(sku="MUG"),
            ),
            forgotten=frozenset({"refused"}),
        ),
    ),
)

# Payment

MAX_CHECKS = 1
"""A request that was looked up twice is as one that was looked up once."""
MAX_TRIES = 2
"""A third try of a capture, or a third authorization, is as the second. What is asked again is tried without look-ups and refunds."""
TIMEOUT = timedelta(seconds=30)


def payment_status(key: str, payment: Payment) -> Mapping[str, str]:
    """What the money of an order is at, named as projection's `payments` table names it.

    Payment stores no such field: its state lists the requests to the provider, because an order can have several open ones, and each is
    decided on by itself. What follows for the order is what the newest authorization and the void say.
    """
    authorization = next((asked.outcome for asked in payment.asked.values() if asked.step == "authorize"), None)
    voids = (asked for asked in payment.asked.values() if asked.step == "void" and asked.authorization_id == payment.authorization_id)
    void = next((asked.outcome for asked in voids), None)
    if void:
        return {key: {"open": "voiding", "done": "voided", "failed": "void_failed"}[void]}
    if payment.authorization_id:
        return {key: "authorized"}
    if payment.ended:
        return {key: "abandoned"}
    return {key: {"open": "authorizing", "failed": "declined", "done": "expired"}[authorization]} if authorization else {}


def request_statuses(key: str, payment: Payment) -> Mapping[str, str]:
    """By request id. A request's status is its `outcome`; an open one whose outcome the provider left open is `unknown`.

    A refund that waits for captures is no request yet, and is kept in a list of its own: it is `postponed`.
    """
    asked = {request_id: "unknown" if request.unknown else request.outcome for request_id, request in payment.asked.items()}
    return asked | {request_id_of(key, "refund", refund.refund_id): "postponed" for refund in payment.postponed}


def _request_of(event: Event) -> str | None:
    match type(event).__name__:
        case "PaymentAbandoned" | "PaymentAuthorizationExpired" | "PaymentCollectionRequired" | "PaymentCommandRefused":
            return None
        case "PaymentWrittenOff":
            return event.fulfillment_id  # no request of this name: whichever request changes is the one
        case "RefundPostponed" | "RefundFailed":
            return request_id_of(event.order_id, "refund", event.refund_id)
        case "PaymentCaptureFailed":
            return request_id_of(event.order_id, "capture", event.fulfillment_id)
        case _:
            return event.request_id


def _payment_bounded(payment: Payment) -> bool:
    requests = payment.asked.values()
    again = any(asked.tries > 1 or asked.outcome == "refused" for asked in requests)
    if again and (payment.attempt > 1 or payment.postponed or any(asked.step == "refund" for asked in requests)):
        return False
    most = 0 if again else MAX_CHECKS
    return payment.attempt <= max(ATTEMPTS) and all(asked.checks <= most and asked.tries <= MAX_TRIES for asked in requests)


PAYMENT = Search(
    service="payment",
    diagrams=[
        Diagram(
            heading="Payment: the money of an order",
            statuses=payment_status,
            subject=_only(
                "PaymentAuthorizationRequested",
                "PaymentAuthorized",
                "PaymentDeclined",
                "PaymentAuthorizationExpired",
                "PaymentRenewalRequested",
                "PaymentVoidRequested",
                "PaymentVoided",
                "PaymentVoidFailed",
                "PaymentAbandoned",
            ),
        ),
        Diagram(heading="Payment: one request to the provider", statuses=request_statuses, subject=_request_of),
    ],
    forgotten=frozenset({"refusal"}),
    bounded=_payment_bounded,
    variants=[make_payment(PaymentTerms(capture_tries=1, write_off_up_to={"EUR": 1_000}), Sandbox(), TIMEOUT)],
    commands=(
        *(
            AuthorizeOrder(attempt=attempt, total=amount, amount=amount, currency="EUR", payment=CARD, lines=(CHARGED,), **OF)
            for attempt, amount in ((1, 1_000), (1, 0), (2, 1_000))
        ),
        CaptureShipment(fulfillment_id="F1", lines=(ALL,), **OF),
        ReleasePayment(reason="canceled", **OF),
        *(RefundReturn(refund_id=refund_id, amount=1_000, **OF) for refund_id in ("R1", "R2")),
        RetryCapture(**OF),
        PayOutstanding(payment=CARD, **OF),
        WriteOffPayment(reason="not worth it", **OF),
    ),
)

# Fulfillment

PACKAGES = [f"{number:017}{check_digit(f'{number:017}')}" for number in (1, 2)]
ELSEWHERE = AllocatedLine(line_id="2", sku="POT", location="HAM", quantity=1)
FULFILLMENTS = tuple({**OF, "fulfillment_id": f"{ORDER}/{location}"} for location in ("BER", "HAM"))


def fulfillment_statuses(_key: str, order: State) -> Mapping[str, str]:
    """By fulfillment id. `canceled` is stored once for the order, because all of its fulfillments stop or none."""
    return {one: "canceled" if order.canceled else fulfillment.status for one, fulfillment in order.fulfillments.items()}


def _fulfillment_of(event: Event) -> str | None:
    match type(event).__name__:
        case "FulfillmentCancellationRejected" | "FulfillmentCommandRefused":
            return None
        case "FulfillmentCanceled":
            return event.order_id
        case _:
            return event.fulfillment_id


FULFILLMENT = Search(
    service="fulfillment",
    diagrams=[Diagram(heading="Fulfillment: what one location ships of an order", statuses=fulfillment_statuses, subject=_fulfillment_of)],
    forgotten=frozenset({"refusal"}),
    commands=(
        PlanFulfillments(delivery="home", lines=(ALL, ELSEWHERE), **OF),
        StopFulfillments(reason="changed my mind", requested_at=NOON, **OF),
        *(AcceptFulfillment(**of) for of in FULFILLMENTS),
        *(PickItems(**of) for of in FULFILLMENTS),
        *(PackPackage(package_id=package_id, lines=(HALF,), **FULFILLMENTS[0]) for package_id in PACKAGES),
        ShipFulfillment(carrier="post", tracking_numbers=("T1", "T2"), **FULFILLMENTS[0]),
    ),
)

# Tracking


def package_statuses(_key: str, order: State) -> Mapping[str, str]:
    """By package id, once the package is known: scans that come before its label are held."""
    return {package_id: parcel.status for package_id, parcel in order.parcels.items() if parcel.status is not None}


def _package_of(event: Event) -> str | None:
    return None if type(event).__name__ in {"ScanRecorded", "TrackingCommandRefused"} else getattr(event, "package_id", None)


TRACKING = Search(
    service="tracking",
    diagrams=[Diagram(heading="Tracking: a package", statuses=package_statuses, subject=_package_of)],
    forgotten=frozenset({"refusal"}),
    commands=(
        RecordOrderStatus(status="accepted", detail=None, at=NOON, **OF),
        RecordRelease(lines=(ALL,), at=NOON, **OF),
        RecordShipment(
            fulfillment_id="F1",
            packages=(Package(package_id=PACKAGES[0], carrier="post", tracking_number="T1", lines=(ALL,)),),
            at=NOON,
            **OF,
        ),
        *(RecordScan(package_id=PACKAGES[0], scan_id=status, status=status, at=NOON, **OF) for status in (*RANKS, "unsound")),
    ),
)

# Returns

BACK = {return_id: {**OF, "return_id": return_id} for return_id in ("one", "two")}


def return_statuses(_key: str, order: State) -> Mapping[str, str]:
    """By return id."""
    return {return_id: back.status for return_id, back in order.returns.items()}


def _return_of(event: Event) -> str | None:
    return None if type(event).__name__ in {"ReturnWindowOpened", "ReturnCommandRefused"} else event.return_id


def _lines(units: int) -> tuple[ReturnLine, ...]:
    return (ReturnLine(line_id="1", quantity=units),)


RETURNS = Search(
    service="returns",
    diagrams=[Diagram(heading="Returns: a return", statuses=return_statuses, subject=_return_of)],
    forgotten=frozenset({"refusal"}),
    commands=(
        OpenReturnWindow(currency="EUR", lines=(CHARGED,), completed_at=NOON, **OF),
        RequestReturn(lines=_lines(2), **BACK["one"]),
        RequestReturn(lines=_lines(1), **BACK["two"]),
        *(ReceiveReturnItems(receipt_id=receipt_id, location="BER", lines=_lines(1), **BACK["one"]) for receipt_id in ("a", "b")),
        *(InspectReturn(lines=lines, **BACK["one"]) for lines in (RETURNED, RETURNED[:1], RETURNED[1:])),
        CancelReturn(reason="changed my mind", **BACK["one"]),
        RecordRefund(amount=500, **BACK["one"]),
        *(RecordRefundFailure(owed=owed, **BACK["one"]) for owed in (True, False)),
    ),
)

SEARCHES = (CAPTURE, INVENTORY, PAYMENT, FULFILLMENT, TRACKING, RETURNS)
