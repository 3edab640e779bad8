"""The end of a run, without what legitimately depends on the order of events; and the invariants that must hold."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from oms_capture.decider import Order as CaptureOrder
from oms_contracts.fulfillments import FulfillmentCanceled, FulfillmentShipped
from oms_contracts.orders import ENDED_STATUSES, OrderAccepted, OrderActionRequired, OrderExpired, OrderRejected
from oms_contracts.payments import PaymentCaptured, RefundSettled
from oms_contracts.returns import ReturnApproved, ReturnExpired, ReturnItemsReceived
from oms_contracts.stock import (
    QuarantineWrittenOff,
    StockAdjusted,
    StockCounted,
    StockReceived,
    StockReservationExpired,
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
    TransferReceived,
    TransferStarted,
)
from oms_contracts.tracking import OrderStatusChanged, PackageDelivered
from oms_fulfillment.decider import Order as FulfillmentOrder
from oms_inventory.ledger import Entry
from oms_inventory.positions import Bin, Position
from oms_inventory.reservations import Reservation
from oms_inventory.transfers import Transfer
from oms_payment.commands import RequestAuthorization, RequestCapture, RequestRefund
from oms_payment.money import Payment
from oms_payment.providers.sandbox import SCRIPTS
from oms_returns.decider import Returns
from oms_runtime.model import State
from oms_runtime.store import decode_state
from oms_tracking.decider import Order as TrackingOrder

from .system import SKEWS, Node, System

Places = Counter[tuple[str, str]]
"""Units by SKU and location."""


def settled(nodes: Iterable[Node]) -> dict[str, Any]:
    """Every state of these services, in a form that is equal for two runs with the same end."""
    return {f"{node.service.name} {key}": without_times(_comparable(state)) for node in nodes for key, state in node.states.items()}


def without_times(value: Any) -> Any:
    """Plain data without points in time."""
    match value:
        case datetime():
            return "a time"
        case dict():
            return {key: without_times(part) for key, part in cast(dict[str, Any], value).items()}
        case tuple() | list():
            return [without_times(part) for part in cast(list[Any], value)]
        case frozenset():
            return sorted(cast(frozenset[str], value))
        case Struct():
            return {name: without_times(getattr(value, name)) for name in value.__struct_fields__}
        case _:
            return value


def _comparable(state: State) -> State:
    """The state without refusals, which only say that a command came too late, and without what the comments below name."""
    match state:
        case CaptureOrder():
            return replace(state, refused=frozenset())
        case Payment(asked=asked):
            # The first shipment is charged the fee and the rounding; for a shipment that costs nothing, no request is sent. How often a
            # capture was tried before it was written off, and as which request, is a race with whoever writes it off.
            captures = [request for request in asked.values() if request.step == "capture"]
            amount = sum(request.amount for request in captures)
            latest = max(captures, key=lambda request: (request.outcome == "written_off", request.checks), default=None)
            same = latest and replace(latest, subject="", amount=amount, tries=1, units=0)
            others = {key: request for key, request in asked.items() if request.step != "capture"}
            return replace(state, refusal="", asked=others | {f"capture {request.subject}": same for request in captures})
        case FulfillmentOrder(canceled=canceled):
            # How far the warehouse had come, and whether the last shipment came before the cancellation.
            return replace(state, refusal=None, answered_at=None, fulfillments={} if canceled else state.fulfillments)
        case TrackingOrder():
            return replace(state, refusal=None)
        case Returns():
            return replace(state, refusal="")
        case Position():
            # Whether a level was past its limit for long enough to be said is a race with the clock.
            return replace(state, refused=(), watches={})
        case Entry() | Transfer():
            return replace(state, refused=())
        case Reservation(status="released"):
            # An order whose products are all defined may be reserved or not before it is canceled.
            return replace(state, was_reserved=False)
        case _:
            return state


def assert_nothing_is_promised_twice_or_captured_early(system: System) -> None:
    """At any time: promised units are on hand, or a person is asked why they are not, and captured units have shipped."""
    for order_id, order in system.nodes["capture"].states.items():
        captured = system.provider.total(order_id, RequestCapture)
        if captured:
            shipped = _shipped(system.nodes["fulfillment"].state(order_id))
            cost = sum(line.amount * shipped[line.line_id] // line.quantity for line in order.lines)
            assert captured <= cost + order.total - sum(line.amount for line in order.lines)
    for key, position in system.nodes["inventory"].states.items():
        if isinstance(position, Position):
            for location, units in position.bins.items():
                assert units.reserved >= 0, (key, location)
                assert units.allocated >= 0, (key, location)
                held = units.reserved + units.allocated + units.quarantined
                assert held <= units.on_hand or "shortfall" in position.watches[location], (key, location)


def _shipped(order: FulfillmentOrder) -> Counter[str]:
    """Units by order line."""
    units = Counter[str]()
    for fulfillment in order.fulfillments.values():
        for line in fulfillment.lines if fulfillment.status == "shipped" else ():
            units[line.line_id] += line.quantity
    return units


def assert_all_is_settled(system: System) -> None:
    """At the end of every run, under any interleaving."""
    _assert_folded(system)
    _assert_ledger(system)
    _assert_timeout(system)
    for order_id, order in system.nodes["capture"].states.items():
        if order.status != "new":
            _assert_ended(system, order_id, order)
            _assert_money(system, order_id, order)


def _assert_folded(system: System) -> None:
    """Folding all events of a service gives its states, and the states survive encoding and decoding."""
    for name, node in system.nodes.items():
        refolded = Node(node.service)
        for event in system.published_by(name):
            for key in node.decider.writes(event):
                refolded.states[key] = node.decider.evolve(refolded.state(key), event, key)
        assert refolded.states == node.states
        for key, state in node.states.items():
            assert decode_state(node.decider, key, msgspec.json.encode(state).decode()) == state


def _assert_ledger(system: System) -> None:
    on_hand = Places()
    for event in system.published_by("inventory"):
        match event:
            case StockReceived(lines=lines) | StockAdjusted(lines=lines) | StockReturned(lines=lines) | TransferReceived(lines=lines):
                for line in lines:
                    on_hand[line.sku, line.location] += line.quantity
            case StockCounted(lines=lines):
                for line in lines:
                    on_hand[line.sku, line.location] += line.difference
            case (
                StockShipped(lines=lines) | StockWrittenOff(lines=lines) | TransferStarted(lines=lines) | QuarantineWrittenOff(lines=lines)
            ):
                for line in lines:
                    on_hand[line.sku, line.location] -= line.quantity
            case _:
                pass
    queued = [key for key, state in system.nodes["inventory"].states.items() if isinstance(state, Position) and state.queue.orders]
    assert not queued, "an order that has ended waits for nothing"
    positions = {key.removeprefix("sku/"): state for key, state in system.nodes["inventory"].states.items() if isinstance(state, Position)}
    actual = {(sku, location): units for sku, position in positions.items() for location, units in position.bins.items()}
    assert actual == {place: Bin(on_hand=units) for place, units in on_hand.items() if units}, "nothing is held for orders that have ended"


def _assert_timeout(system: System) -> None:
    """Nothing expires before its time, within the error of the clocks."""
    until: dict[tuple[str, str], datetime] = {}
    for record in system.records:
        match record.message:
            case StockReserved(order_id=order_id, expires_at=expires_at):
                until["reservation", order_id] = expires_at
            case StockReservationExpired(order_id=order_id, at=at):
                assert at >= until["reservation", order_id] - max(SKEWS)
            case OrderActionRequired(order_id=order_id, deadline=deadline):
                until["order", order_id] = deadline
            case OrderExpired(order_id=order_id, reason=reason, at=at) if reason.endswith("in time"):
                assert at >= until["order", order_id] - max(SKEWS)
            case ReturnApproved(return_id=return_id, expires_at=expires_at):
                until["return", return_id] = expires_at
            case ReturnExpired(return_id=return_id, at=at):
                assert at >= until["return", return_id] - max(SKEWS)
            case _:
                pass


def _assert_ended(system: System, order_id: str, order: CaptureOrder) -> None:
    """Every order has ended, and all services agree on it."""
    assert order.status in ENDED_STATUSES
    decisions = [
        event for event in system.published_by("capture") if isinstance(event, OrderAccepted | OrderRejected) and event.order_id == order_id
    ]
    assert isinstance(decisions[-1], OrderAccepted) == (order.status != "rejected")
    for decision, following in pairwise(decisions):
        rejected = following.attempt if isinstance(following, OrderRejected) else None
        assert rejected == (decision.attempt if isinstance(decision, OrderAccepted) else None), "only the catalogue ends an acceptance"
    reserved = Counter(
        event.attempt for event in system.published_by("inventory") if isinstance(event, StockReserved) and event.order_id == order_id
    )
    assert set(reserved.values()) <= {1}, "no attempt is reserved twice"
    ordered = Counter({line.line_id: line.quantity for line in order.lines})
    for author, kind in (("fulfillment", FulfillmentShipped), ("inventory", StockShipped), ("tracking", PackageDelivered)):
        moved = Counter[str]()
        for event in system.published_by(author):
            if isinstance(event, kind) and event.order_id == order_id:
                lines = (
                    [line for package in event.packages for line in package.lines] if isinstance(event, FulfillmentShipped) else event.lines
                )
                for line in lines:
                    moved[line.line_id] += line.quantity
        assert moved == (ordered if order.status == "completed" else Counter()), f"{author}: all units or none"
    canceled = [
        event for event in system.published_by("fulfillment") if isinstance(event, FulfillmentCanceled) and event.order_id == order_id
    ]
    assert len(canceled) <= (order.status == "canceled")
    changes = [event for event in system.published_by("tracking") if isinstance(event, OrderStatusChanged) and event.order_id == order_id]
    assert [change.sequence for change in changes] == [*range(1, len(changes) + 1)]
    assert changes[-1].status == order.status
    if order.status == "completed":
        assert [change.status for change in changes[-4:]] == ["in_fulfillment", "shipped", "delivered", "completed"]
    assert system.nodes["inventory"].state(order_id).status in ({"shipped"} if order.status == "completed" else UNSHIPPED)
    received = [event for event in system.published_by("returns") if isinstance(event, ReturnItemsReceived) and event.order_id == order_id]
    returned = Counter[str]()
    for line in (line for event in received for line in event.lines):
        returned[line.line_id] += line.quantity
    assert returned <= (ordered if order.status == "completed" else Counter())
    assert len({event.receipt_id for event in received}) == len(received)


UNSHIPPED = frozenset({"none", "failed", "expired", "released"})


def _assert_money(system: System, order_id: str, order: CaptureOrder) -> None:
    """Exactly what shipped is captured, at most that is refunded, and nothing stays held. RecordingProvider asserts the rest."""
    provider, payment = system.provider, system.nodes["payment"].state(order_id)
    authorized, captured, refunded = (provider.total(order_id, kind) for kind in (RequestAuthorization, RequestCapture, RequestRefund))
    authorized += provider.held_by_channels[order_id]
    refuses = {
        script.step
        for token in [payment.method and payment.method.token]
        if (script := SCRIPTS.get((token or "").partition(".")[0])) and script.refusal and script.first == 1 and script.last is None
    }
    assert refunded <= captured <= authorized
    assert captured == (order.amount if order.status == "completed" and "capture" not in refuses else 0)
    # What a channel has had held is ours to release from the reservation on; before, the order's end tells the channel to.
    untouched = provider.held_by_channels[order_id] > 0 and not payment.authorization_id
    assert provider.held(order_id) == 0 or untouched or "void" in refuses or (order.status == "completed" and "capture" in refuses)
    published = Counter[type[Any]]()
    for event in system.published_by("payment"):
        if isinstance(event, PaymentCaptured | RefundSettled) and event.order_id == order_id:
            published[type(event)] += event.amount
    assert (published[PaymentCaptured], published[RefundSettled]) == (captured, refunded)
    returns = system.nodes["returns"].state(order_id).returns.values()
    assert all(returned.status in {"closed", "declined", "canceled", "expired"} for returned in returns)
