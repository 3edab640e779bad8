"""The queues of orders that wait for stock, one of each SKU, in its position.

An order waits in the queue of every SKU of which it had too few when it was last tried, and in no other; it holds nothing meanwhile. Who is
paid for comes first, then who was promised first, then who waits longest.

When units become available, whatever by, the position calls those orders for which there are enough, and each is tried by itself, all or
nothing. Units for which an order is called, or is about to be, are kept from those behind it and from new orders.

A larger order does not stop smaller ones behind it: they pass it over. But the first of a queue is passed over at most MAX_PASSED times.
From then on what arrives is kept for it until it is served or ends. So a large order gets its turn after a bounded number of sales, and a
single one of a size that never arrives does not stop the sale of its SKU at once.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace
from oms_contracts.stock import StockAllocated, StockReleased, StockReservationFailed, StockReserved, WaitingOrdersCalled

from oms_inventory.commands import CallWaitingOrders, Event

MAX_CALLED = 100
"""Orders that one decision calls. The next decision, which is due at once, calls the next."""
MAX_PASSED = 100
"""How many times units go to another order while the first of the queue has too few."""
NEVER = datetime.max.replace(tzinfo=UTC)

Rank = tuple[bool, datetime, datetime, str]
"""The place of an order in a queue: less is earlier."""


class Waiting(Struct, frozen=True, array_like=True):
    """An order that wants `units` of a SKU. `called` once there were enough: it is about to be tried."""

    order_id: str
    units: int
    since: datetime
    promised_at: datetime | None
    confirmed: bool
    called: bool = False

    @property
    def rank(self) -> Rank:
        """Its place in the queue."""
        return rank_of(self.order_id, self.since, promised_at=self.promised_at, confirmed=self.confirmed)


class Queue(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The orders that wait for a SKU, first come first, and how many times the first was `passed` over."""

    orders: tuple[Waiting, ...] = ()
    passed: int = 0


EMPTY = Queue()


class Stock(NamedTuple):
    """Of one SKU: the units available to promise by location, and who waits for them."""

    available: Mapping[str, int]
    queue: Queue


def rank_of(order_id: str, since: datetime, *, promised_at: datetime | None, confirmed: bool) -> Rank:
    """The place of an order that waits since then."""
    return not confirmed, promised_at or NEVER, since, order_id


def has_room(queue: Queue, order_id: str, max_waiting: int) -> bool:
    """Whether the order may wait here: it does already, or there is room for one more."""
    return len(queue.orders) < max_waiting or any(waiting.order_id == order_id for waiting in queue.orders)


def spare(queue: Queue, available: int, rank: Rank) -> int:
    """Of the available units those that an order of this rank may have: what the orders before it leave."""
    for waiting, left in _turns(queue, available):
        if waiting.rank >= rank:
            return left
        available = _after(queue, waiting, left)
    return available


def decide(command: CallWaitingOrders, queue: Queue, available: int, now: datetime) -> list[Event]:
    """Call those of the orders for which there are enough units still."""
    there = {waiting.order_id for waiting in _servable(queue, available)}
    called = tuple(order_id for order_id in command.orders if order_id in there)
    return [WaitingOrdersCalled(sku=command.sku, orders=called, at=now)] if called else []


def evolve(queue: Queue, event: Event, sku: str) -> Queue:
    """The queue of a SKU after an event."""
    match event:
        case StockReservationFailed(order_id=order_id, waiting_since=since):
            left = tuple(waiting for waiting in queue.orders if waiting.order_id != order_id)
            units = next((short.requested for short in event.shortages if short.sku == sku), 0) if since is not None else 0
            if not units or since is None:
                return _changed(queue, left)
            new = Waiting(order_id, units, since, event.promised_at, confirmed=event.confirmed is True)
            return _changed(queue, tuple(sorted((*left, new), key=lambda waiting: waiting.rank)))
        case WaitingOrdersCalled(orders=orders):
            called = frozenset(orders)
            return replace(
                queue, orders=tuple(replace(waiting, called=True) if waiting.order_id in called else waiting for waiting in queue.orders)
            )
        case StockReserved(order_id=order_id) | StockAllocated(order_id=order_id, reserved=False) | StockReleased(order_id=order_id):
            if not queue.orders:  # first, because it is most of what comes
                return queue
            passed = queue.passed + (not isinstance(event, StockReleased) and queue.orders[0].order_id != order_id)
            left = tuple(waiting for waiting in queue.orders if waiting.order_id != order_id)
            return _changed(replace(queue, passed=min(passed, MAX_PASSED)), left)
        case _:
            return queue


def due(sku: str, queue: Queue, available: int) -> tuple[datetime, CallWaitingOrders] | None:
    """A position calls those for which there are enough units at once."""
    if not queue.orders:
        return None
    servable = [*islice(_servable(queue, available), MAX_CALLED)]
    if not servable:
        return None
    return servable[0].since, CallWaitingOrders(sku=sku, orders=tuple(waiting.order_id for waiting in servable))


def _servable(queue: Queue, available: int) -> Iterator[Waiting]:
    """Those that are to be called: there are enough units, and they are not called yet."""
    return (waiting for waiting, left in _turns(queue, available) if waiting.units <= left and not waiting.called)


def _turns(queue: Queue, available: int) -> Iterator[tuple[Waiting, int]]:
    """Each order in its turn, with the units that those before it leave."""
    for waiting in queue.orders:
        yield waiting, available
        available = _after(queue, waiting, available)


def _after(queue: Queue, waiting: Waiting, available: int) -> int:
    """The units that an order leaves to those behind it."""
    if waiting.units <= available:
        return available - waiting.units
    kept = queue.passed >= MAX_PASSED and waiting is queue.orders[0]
    return 0 if kept else available


def _changed(queue: Queue, orders: tuple[Waiting, ...]) -> Queue:
    """The queue with other orders. The count is that of the first."""
    if not orders:
        return EMPTY
    same = bool(queue.orders) and queue.orders[0].order_id == orders[0].order_id
    return Queue(orders=orders, passed=queue.passed if same else 0)
