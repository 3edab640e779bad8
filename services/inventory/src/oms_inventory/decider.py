"""Inventory's decider. It dispatches by kind of state; `ledger`, `reservations` and `positions` decide and evolve.

| key | state |
|---|---|
| `receipt/<id>`, `adjustment/<id>`, `return/<id>` | Entry |
| `<order id>` | Reservation |
| `sku/<SKU>` | Position |
| `product/<SKU>` | Product |

Positions are read only where units are looked for, and products only where the business does not accept unknown SKUs. The commands that do
so carry the lines they plan for, because the lines determine what is read.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from oms_contracts.products import (
    DeactivateProduct,
    DefineProduct,
    ProductCommandRefused,
    ProductDeactivated,
    ProductDefined,
)
from oms_contracts.stock import (
    AdjustStock,
    ReceiveStock,
    StockAdjusted,
    StockAllocationRequested,
    StockCommandRefused,
    StockReceived,
    StockReleased,
    StockReservationFailed,
    StockReservationPostponed,
    StockReturned,
    StockWrittenOff,
    WaitingOrdersResumed,
)

from oms_inventory import ledger, positions, products, reservations
from oms_inventory.commands import (
    BookReturn,
    Command,
    Event,
    ExpireReservation,
    PlanAllocation,
    ReserveStock,
    ResumeWaitingOrders,
)
from oms_inventory.ledger import Entry
from oms_inventory.positions import Position
from oms_inventory.products import Product
from oms_inventory.reservations import Reservation, Terms

State = Reservation | Entry | Position | Product
StateT = TypeVar("StateT", Reservation, Entry, Position, Product)

INITIAL: Mapping[str, State] = {positions.KIND: Position(), products.KIND: Product(), **dict.fromkeys(ledger.KINDS, Entry())}
"""By kind of key. The key of a reservation has no kind."""
NO_RESERVATION = Reservation()


def initial(key: str) -> State:
    """The state of a key before its first event."""
    return INITIAL.get(key.partition("/")[0], NO_RESERVATION)


def reads(command: Command, terms: Terms) -> Sequence[str]:
    """The keys that a decision needs: its stream, the positions of the units it looks for, and their products where these matter."""
    match command:
        case ReserveStock(order_id=order_id) if terms.unknown_sku != "accept":
            return [order_id, *positions.keys_of(command.lines), *products.keys_of(line.sku for line in command.lines)]
        case ReserveStock(order_id=order_id) | PlanAllocation(order_id=order_id):
            return [order_id, *positions.keys_of(command.lines)]
        case ReceiveStock() | AdjustStock() | BookReturn():
            return [ledger.key_of(command)]
        case DefineProduct() | DeactivateProduct() | ResumeWaitingOrders():
            return [products.key_of(command.sku)]
        case _:
            return [command.order_id]


def writes(event: Event) -> Sequence[str]:
    """The event's stream, then every other state it changes."""
    match event:
        case StockCommandRefused():
            return [ledger.key_of(event)]
        case StockReceived() | StockAdjusted() | StockReturned() | StockWrittenOff():
            return [ledger.key_of(event), *positions.keys_of(event.lines)]
        case StockReservationFailed() | StockAllocationRequested():
            return [event.order_id]
        case StockReservationPostponed():
            return [event.order_id, *products.keys_of(event.unknown_skus)]
        case StockReleased():
            return [event.order_id, *positions.keys_of(event.lines), *products.keys_of(event.unknown_skus)]
        case ProductDefined() | ProductDeactivated() | ProductCommandRefused():
            return [products.key_of(event.sku)]
        case WaitingOrdersResumed():
            return [products.key_of(event.sku), *event.orders]
        case _:
            return [event.order_id, *positions.keys_of(event.lines)]


def decide(command: Command, states: Mapping[str, State], now: datetime, terms: Terms) -> list[Event]:
    """The events that follow from a command: none if it has already had its effect, or comes too late.

    Raises NotAllocated.
    """
    match command:
        case ReceiveStock() | AdjustStock() | BookReturn():
            return ledger.decide(command, _state(Entry, ledger.key_of(command), states), now)
        case DefineProduct() | DeactivateProduct() | ResumeWaitingOrders():
            return products.decide(command, _state(Product, products.key_of(command.sku), states), now)
        case ReserveStock() if unknown := _unknown(command, states, terms):
            hold = terms.unknown_sku == "hold" and all(len(product.waiting) < products.MAX_WAITING for product in unknown.values())
            return reservations.decide_unknown(command, _state(Reservation, command.order_id, states), tuple(unknown), now, hold=hold)
        case ReserveStock() | PlanAllocation():
            available = {line.sku: _state(Position, positions.key_of(line.sku), states).available() for line in command.lines}
            return reservations.decide_plan(command, _state(Reservation, command.order_id, states), available, now, terms)
        case _:
            return reservations.decide(command, _state(Reservation, command.order_id, states), now)


def decide_for(_warehouse: str, command: Command, states: Mapping[str, State], now: datetime, terms: Terms) -> list[Event]:
    """As `decide`, for a command from the warehouse's own topic: the record's locations were compared with it as it was read."""
    return decide(command, states, now, terms)


def evolve(state: State, event: Event, key: str) -> State:
    """The state of a key after an event."""
    match state:
        case Position():
            return positions.evolve(state, event, key)
        case Reservation():
            return reservations.evolve(state, event)
        case Product():
            return products.evolve(state, event)
        case Entry():
            return ledger.evolve(state, event)


def due(key: str, state: State) -> tuple[datetime, ExpireReservation | PlanAllocation | ReserveStock | ResumeWaitingOrders] | None:
    """Reservations act by themselves, and products that orders wait for."""
    match state:
        case Reservation():
            return reservations.due(key, state)
        case Product():
            return products.due(key, state)
        case _:
            return None


def _unknown(command: ReserveStock, states: Mapping[str, State], terms: Terms) -> dict[str, Product]:
    """The products of the order's SKUs that stand against it, by SKU."""
    if terms.unknown_sku == "accept" or _state(Reservation, command.order_id, states).was_reserved:
        return {}
    return products.unknown_skus({line.sku: _state(Product, products.key_of(line.sku), states) for line in command.lines})


def _state(kind: type[StateT], key: str, states: Mapping[str, State]) -> StateT:
    state = states[key]
    assert isinstance(state, kind)
    return state
