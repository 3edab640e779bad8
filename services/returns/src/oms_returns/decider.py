"""All returns of one order: what may happen to them, and what that means.

They are one stream, because how many units of a line are left to return, and how much is left to refund, follows from all of them together.
A return goes requested -> approved -> received -> refunding -> closed; its other ends are declined, canceled and expired.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256

from msgspec import Struct, field
from msgspec.structs import replace
from oms_contracts.message import encode, type_of
from oms_contracts.order_parts import ChargedLine
from oms_contracts.returns import (
    CancelReturn,
    InspectReturn,
    ReceiveReturnItems,
    RequestReturn,
    ReturnActionRequired,
    ReturnApproved,
    ReturnCanceled,
    ReturnClosed,
    ReturnCommandRefused,
    ReturnDeclined,
    ReturnExpired,
    ReturnItemsInspected,
    ReturnItemsReceived,
    ReturnRefundRequested,
    ReturnRequested,
    ReturnWindowOpened,
)
from oms_contracts.values import InspectedLine, ReturnLine, bounded_reasons, quoted

from oms_returns.commands import ActOnDeadline, Command, Event, ExternalCommand, OpenReturnWindow, RecordRefund, RecordRefundFailure

MAX_RETURNS = 200
"""Of one order, whatever their status. It keeps the state small when somebody requests and cancels returns without end."""
MAX_LINES = 1_000
"""In one command."""
DISPOSITIONS = frozenset({"restock", "quarantine", "write-off"})


class Terms(Struct, frozen=True, kw_only=True):
    """The business's settings."""

    window: timedelta = timedelta(days=30)
    goods_timeout: timedelta = timedelta(days=14)
    inspection_timeout: timedelta = timedelta(days=3)
    refund_timeout: timedelta = timedelta(days=3)
    reasons: frozenset[str] = frozenset({"unwanted", "damaged", "wrong_item", "defective", "too_late", "other"})


class Return(Struct, frozen=True, kw_only=True):
    """`units` are those this return holds, by order line: the requested ones, and once inspected the received ones.

    `asked` and `inspected` are digests of the lines of RequestReturn and InspectReturn. They distinguish the same command, which may come
    again, from another one under the same id.
    """

    status: str = "requested"
    asked: str = ""
    units: dict[str, int] = field(default_factory=dict[str, int])
    received: dict[str, int] = field(default_factory=dict[str, int])
    receipts: frozenset[str] = frozenset()
    location: str = ""
    inspected: str = ""
    waiting_since: datetime | None = None
    deadline: datetime | None = None


class Returns(Struct, frozen=True, kw_only=True):
    """`closes_at` is None until the order is completed. `accepted` are the units that inspection found refundable, by order line."""

    currency: str = ""
    lines: tuple[ChargedLine, ...] = ()
    closes_at: datetime | None = None
    returns: dict[str, Return] = field(default_factory=dict[str, Return])
    accepted: dict[str, int] = field(default_factory=dict[str, int])
    refusal: str = ""


INITIAL = Returns()


def decide(command: Command, order: Returns, now: datetime, terms: Terms) -> list[Event]:
    """The events that follow from a command. A command that has already had its effect, or comes too late, has none."""
    match command:
        case OpenReturnWindow(order_id=order_id, completed_at=at):
            if order.closes_at is not None:
                return []
            closes_at = at + terms.window
            return [ReturnWindowOpened(order_id=order_id, currency=command.currency, lines=command.lines, closes_at=closes_at, at=now)]

        case RequestReturn():
            return _request(command, order, now, terms)

        case ReceiveReturnItems():
            return _receive(command, order, now)

        case InspectReturn():
            return _inspect(command, order, now)

        case CancelReturn(order_id=order_id, return_id=return_id, reason=reason):
            match _status(order, return_id):
                case "approved":
                    return [ReturnCanceled(order_id=order_id, return_id=return_id, reason=reason, at=now)]
                case "canceled" | "expired":
                    return []
                case status:
                    return _refuse(order, command, f"the return is {status}", now)

        case RecordRefund(order_id=order_id, return_id=return_id, amount=amount):
            if _status(order, return_id) != "refunding":
                return []
            return [ReturnClosed(order_id=order_id, return_id=return_id, outcome="refunded", refunded=amount, at=now)]

        case RecordRefundFailure(order_id=order_id, return_id=return_id, owed=owed):
            if _status(order, return_id) != "refunding":
                return []
            outcome = "refund_failed" if owed else "not_refundable"
            return [ReturnClosed(order_id=order_id, return_id=return_id, outcome=outcome, refunded=0, at=now)]

        case ActOnDeadline():
            # The deadline is matched, not compared with the clock: a deadline of an earlier status is no longer due.
            overdue = order.returns.get(command.return_id)
            if overdue is None or _deadline(overdue, terms) != command.deadline:
                return []
            return [_after_deadline(command, overdue, now, terms)]


def decide_for(warehouse: str, command: Command, order: Returns, now: datetime, terms: Terms) -> list[Event]:
    """As `decide`, for a command from the warehouse's own topic: it inspects what it has received, and no other return."""
    if isinstance(command, InspectReturn) and _location(order, command.return_id) not in {"", warehouse}:
        return _refuse(order, command, "the return is not known", now)
    return decide(command, order, now, terms)


def evolve(order: Returns, event: Event) -> Returns:
    """The order's returns after an event. Never raises: an event is a fact."""
    match event:
        case ReturnCommandRefused():
            return replace(order, refusal=_refusal(event))
        case ReturnWindowOpened(currency=currency, lines=lines, closes_at=closes_at):
            return replace(order, currency=currency, lines=lines, closes_at=closes_at, refusal="")
        case _:
            evolved = _evolve_return(order.returns.get(event.return_id, Return()), event)
            accepted = Counter(order.accepted)
            if isinstance(event, ReturnItemsInspected):
                accepted += _units(_refundable(event.lines))
            return replace(order, returns={**order.returns, event.return_id: evolved}, accepted=dict(accepted), refusal="")


def due(order_id: str, order: Returns, terms: Terms) -> tuple[datetime, Command] | None:
    """The earliest deadline of the order's returns. Every return that has not ended has one."""
    deadlines = ((_deadline(return_, terms), return_id) for return_id, return_ in order.returns.items())
    first = min(((deadline, return_id) for deadline, return_id in deadlines if deadline is not None), default=None)
    return (first[0], ActOnDeadline(order_id=order_id, return_id=first[1], deadline=first[0])) if first else None


def refund_of(line: ChargedLine, units: int) -> int:
    """What was paid (minor units) for the first `units` of a line.

    A return is refunded the difference that its units make, so a remainder of the division is refunded with a later unit, and never twice.
    """
    return line.amount * units // line.quantity if line.quantity else 0


def _evolve_return(return_: Return, event: Event) -> Return:
    match event:
        case ReturnRequested(lines=lines):
            return Return(asked=_digest(lines), units=dict(_units(lines)))
        case ReturnApproved(expires_at=expires_at, at=at):
            return replace(return_, status="approved", waiting_since=at, deadline=expires_at)
        case ReturnItemsReceived(lines=lines, receipt_id=receipt_id, location=location, at=at):
            return replace(
                return_,
                status="received",
                received=dict(Counter(return_.received) + _units(lines)),
                receipts=return_.receipts | {receipt_id},
                location=location,
                waiting_since=at,
                deadline=None,
            )
        case ReturnItemsInspected(lines=lines):
            return replace(return_, status="inspected", units=return_.received, inspected=_digest(lines), deadline=None)
        case ReturnRefundRequested(at=at):
            return replace(return_, status="refunding", waiting_since=at, deadline=None)
        case ReturnActionRequired(deadline=deadline):
            return replace(return_, deadline=deadline)
        case ReturnDeclined():
            return replace(return_, status="declined", units={}, deadline=None)
        case ReturnCanceled():
            return replace(return_, status="canceled", units={}, deadline=None)
        case ReturnExpired():
            return replace(return_, status="expired", units={}, deadline=None)
        case ReturnClosed():
            return replace(return_, status="closed", deadline=None)
        case _:
            return return_


def _request(command: RequestReturn, order: Returns, now: datetime, terms: Terms) -> list[Event]:
    order_id, return_id, lines = command.order_id, command.return_id, command.lines
    if earlier := order.returns.get(return_id):
        return [] if earlier.asked == _digest(lines) else _refuse(order, command, "the return id was used for other lines", now)
    if order.closes_at is None:
        return _refuse(order, command, "the order is not known to be completed", now)
    if reasons := (*_id_objections(return_id=return_id), *_size_objections(lines)):
        return _refuse(order, command, "; ".join(reasons), now)
    if len(order.returns) >= MAX_RETURNS:
        return _refuse(order, command, f"the order has had {MAX_RETURNS} returns, and no more are taken", now)
    requested = ReturnRequested(order_id=order_id, return_id=return_id, lines=lines, at=now)
    if reasons := bounded_reasons(_objections(command, order, order.closes_at, now, terms)):
        return [requested, ReturnDeclined(order_id=order_id, return_id=return_id, reasons=reasons, at=now)]
    return [requested, ReturnApproved(order_id=order_id, return_id=return_id, expires_at=now + terms.goods_timeout, at=now)]


def _objections(command: RequestReturn, order: Returns, closes_at: datetime, now: datetime, terms: Terms) -> Iterator[str]:
    """Every reason to decline a return."""
    if now >= closes_at:
        yield f"the return window closed at {closes_at:%Y-%m-%d %H:%M} UTC"
    for index, line in enumerate(command.lines):
        if line.quantity < 1:
            yield f"lines.{index}.quantity: must be at least 1, is {line.quantity}"
        if line.reason not in terms.reasons:
            yield f"lines.{index}.reason: {quoted(line.reason)} is not one of {', '.join(sorted(terms.reasons))}"
    left = _left(order)
    for line_id, quantity in _units(command.lines).items():
        if line_id not in left:
            yield f"the order has no line {quoted(line_id)}"
        elif quantity > left[line_id]:
            yield f"line {quoted(line_id)}: {quantity} asked for, {left[line_id]} left to return"


def _receive(command: ReceiveReturnItems, order: Returns, now: datetime) -> list[Event]:
    return_ = order.returns.get(command.return_id)
    if return_ is not None and command.receipt_id in return_.receipts:
        return []
    if return_ is None or return_.status not in {"approved", "received"}:
        return _refuse(order, command, f"the return is {_status(order, command.return_id)}", now)
    if reasons := bounded_reasons(_receipt_objections(command, return_)):
        return _refuse(order, command, "; ".join(reasons), now)
    return [
        ReturnItemsReceived(
            order_id=command.order_id,
            return_id=command.return_id,
            receipt_id=command.receipt_id,
            location=command.location,
            lines=command.lines,
            at=now,
        )
    ]


def _receipt_objections(command: ReceiveReturnItems, return_: Return) -> Iterator[str]:
    yield from _id_objections(receipt_id=command.receipt_id, location=command.location)
    if return_.location not in {"", command.location}:
        yield f"location: the return is being received at {return_.location}"
    yield from _size_objections(command.lines)
    yield from _quantity_objections(command.lines)
    for line_id, quantity in _units(command.lines).items():
        open_units = return_.units.get(line_id, 0) - return_.received.get(line_id, 0)
        if quantity > open_units:
            yield f"line {quoted(line_id)}: {quantity} received, {open_units} of the approved are still to come"


def _inspect(command: InspectReturn, order: Returns, now: datetime) -> list[Event]:
    order_id, return_id, lines = command.order_id, command.return_id, command.lines
    return_ = order.returns.get(return_id)
    if return_ is not None and return_.inspected and return_.inspected == _digest(lines):
        return []
    if return_ is None or return_.status != "received":
        return _refuse(order, command, f"the return is {_status(order, return_id)}", now)
    if reasons := bounded_reasons(_inspection_objections(lines, order, return_)):
        return _refuse(order, command, "; ".join(reasons), now)
    inspected = ReturnItemsInspected(order_id=order_id, return_id=return_id, location=return_.location, lines=lines, at=now)
    refundable = _refundable(lines)
    amount = _refund_amount(_units(refundable), order)
    if amount == 0:
        return [inspected, ReturnClosed(order_id=order_id, return_id=return_id, outcome="not_refundable", refunded=0, at=now)]
    return [
        inspected,
        ReturnRefundRequested(order_id=order_id, return_id=return_id, amount=amount, currency=order.currency, lines=refundable, at=now),
    ]


def _inspection_objections(lines: tuple[InspectedLine, ...], order: Returns, return_: Return) -> Iterator[str]:
    skus = {line.line_id: line.sku for line in order.lines}
    yield from _size_objections(lines)
    yield from _quantity_objections(lines)
    for index, line in enumerate(lines):
        if line.disposition not in DISPOSITIONS:
            yield f"lines.{index}.disposition: {quoted(line.disposition)} is not one of {', '.join(sorted(DISPOSITIONS))}"
        if line.line_id in skus and line.sku != skus[line.line_id]:
            yield f"lines.{index}.sku: {quoted(line.sku)} is not {quoted(skus[line.line_id])}, which the order's line has"
    found = _units(lines)
    for line_id in sorted(found.keys() | return_.received.keys()):
        if found[line_id] != return_.received.get(line_id, 0):
            yield f"line {quoted(line_id)}: {found[line_id]} inspected, {return_.received.get(line_id, 0)} received"


def _id_objections(**ids: str) -> Iterator[str]:
    for name, value in ids.items():
        if not value.strip():
            yield f"{name}: must not be empty"


def _size_objections(lines: tuple[ReturnLine, ...] | tuple[InspectedLine, ...]) -> Iterator[str]:
    if not 1 <= len(lines) <= MAX_LINES:
        yield f"lines: must be 1 to {MAX_LINES}, are {len(lines)}"


def _quantity_objections(lines: tuple[ReturnLine, ...] | tuple[InspectedLine, ...]) -> Iterator[str]:
    for index, line in enumerate(lines):
        if line.quantity < 1:
            yield f"lines.{index}.quantity: must be at least 1, is {line.quantity}"


def _refuse(order: Returns, command: ExternalCommand, reason: str, now: datetime) -> list[Event]:
    """The refusal of a command that does not fit. The same refusal twice in a row is published once."""
    refused = ReturnCommandRefused(
        order_id=command.order_id, return_id=command.return_id, command=type_of(command).name, reason=reason, at=now
    )
    return [] if _refusal(refused) == order.refusal else [refused]


def _refusal(event: ReturnCommandRefused) -> str:
    return sha256(f"{event.command}\x1f{event.return_id}\x1f{event.reason}".encode()).hexdigest()


def _deadline(return_: Return, terms: Terms) -> datetime | None:
    """None for a return that has ended."""
    timeouts = {"approved": terms.goods_timeout, "received": terms.inspection_timeout, "refunding": terms.refund_timeout}
    timeout = timeouts.get(return_.status)
    if timeout is None or return_.waiting_since is None:
        return None
    return return_.deadline or return_.waiting_since + timeout


def _after_deadline(command: ActOnDeadline, return_: Return, now: datetime, terms: Terms) -> Event:
    order_id, return_id = command.order_id, command.return_id
    match return_.status:
        case "approved":
            return ReturnExpired(order_id=order_id, return_id=return_id, at=now)
        case "received":
            action, timeout = "inspect", terms.inspection_timeout
        case _:
            action, timeout = "investigate", terms.refund_timeout
    return ReturnActionRequired(order_id=order_id, return_id=return_id, action=action, deadline=now + timeout, at=now)


def _left(order: Returns) -> dict[str, int]:
    """The units that no return holds, by order line."""
    held: Counter[str] = Counter()
    for return_ in order.returns.values():
        held.update(return_.units)
    return {line.line_id: line.quantity - held[line.line_id] for line in order.lines}


def _refund_amount(units: Counter[str], order: Returns) -> int:
    """Minor units: accepted quantity x net price of a unit, rounded so that all returns of a line together refund exactly its total."""
    before = Counter(order.accepted)
    return sum(
        refund_of(line, before[line.line_id] + units[line.line_id]) - refund_of(line, before[line.line_id])
        for line in order.lines
        if units[line.line_id]
    )


def _refundable(lines: tuple[InspectedLine, ...]) -> tuple[InspectedLine, ...]:
    return tuple(line for line in lines if line.accepted)


def _status(order: Returns, return_id: str) -> str:
    return order.returns[return_id].status if return_id in order.returns else "not known"


def _location(order: Returns, return_id: str) -> str:
    """Where a return's goods were received, empty while they were not."""
    return order.returns[return_id].location if return_id in order.returns else ""


def _units(lines: tuple[ReturnLine, ...] | tuple[InspectedLine, ...]) -> Counter[str]:
    """Units by order line, summed: a line may be named several times."""
    units: Counter[str] = Counter()
    for line in lines:
        units[line.line_id] += line.quantity
    return units


def _digest(lines: tuple[ReturnLine, ...] | tuple[InspectedLine, ...]) -> str:
    return sha256(encode(lines)).hexdigest()
