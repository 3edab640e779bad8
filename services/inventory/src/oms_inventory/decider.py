"""Inventory's decider. It dispatches by kind of state; `ledger`, `reservations` and `positions` decide and evolve.

| key | state |
|---|---|
| `receipt/<id>`, `adjustment/<id>`, `return/<id>` | Entry |
| `<order id>` | Reservation |
| `sku/<SKU>` | Position |

Positions are read only where units are looked for. The commands that do so carry the lines they plan for, because the lines determine which
positions are read.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from oms_contracts.stock import (
    AdjustStock,
    ReceiveStock,
    StockAdjusted,
    StockAllocationRequested,
    StockCommandRefused,
    StockReceived,
    StockReservationFailed,
    StockReturned,
    StockWrittenOff,
)

from oms_inventory import ledger, positions, reservations
from oms_inventory.commands import BookReturn, Command, Event, ExpireReservation, PlanAllocation, ReserveStock
from oms_inventory.ledger import Entry
from oms_inventory.positions import Position
from oms_inventory.reservations import Reservation, Terms

State = Reservation | Entry | Position
StateT = TypeVar("StateT", Reservation, Entry, Position)

INITIAL: Mapping[str, State] = {positions.KIND: Position(), **dict.fromkeys(ledger.KINDS, Entry())}
"""By kind of key. The key of a reservation has no kind."""
NO_RESERVATION = Reservation()


def initial(key: str) -> State:
    """The state of a key before its first event."""
    return INITIAL.get(key.partition("/")[0], NO_RESERVATION)


def reads(command: Command) -> Sequence[str]:
    """The keys that a decision needs: its stream, and the positions of the units it looks for."""
    match command:
        case ReserveStock(order_id=order_id) | PlanAllocation(order_id=order_id):
            return [order_id, *positions.keys_of(command.lines)]
        case ReceiveStock() | AdjustStock() | BookReturn():
            return [ledger.key_of(command)]
        case _:
            return [command.order_id]


def writes(event: Event) -> Sequence[str]:
    """The event's stream, then every position it changes."""
    match event:
        case StockCommandRefused():
            return [ledger.key_of(event)]
        case StockReceived() | StockAdjusted() | StockReturned() | StockWrittenOff():
            return [ledger.key_of(event), *positions.keys_of(event.lines)]
        case StockReservationFailed() | StockAllocationRequested():
            return [event.order_id]
        case _:
            return [event.order_id, *positions.keys_of(event.lines)]


def decide(command: Command, states: Mapping[str, State], now: datetime, terms: Terms) -> list[Event]:
    """The events that follow from a command: none if it has already had its effect, or comes too late.

    Raises NotAllocated.
    """
    match command:
        case ReceiveStock() | AdjustStock() | BookReturn():
            return ledger.decide(command, _state(Entry, ledger.key_of(command), states), now)
        case ReserveStock() | PlanAllocation():
            available = {line.sku: _state(Position, positions.key_of(line.sku), states).available() for line in command.lines}
            return reservations.decide_plan(command, _state(Reservation, command.order_id, states), available, now, terms)
        case _:
            return reservations.decide(command, _state(Reservation, command.order_id, states), now)


def evolve(state: State, event: Event, key: str) -> State:
    """The state of a key after an event."""
    match state:
        case Position():
            return positions.evolve(state, event, key)
        case Reservation():
            return reservations.evolve(state, event)
        case Entry():
            return ledger.evolve(state, event)


def due(key: str, state: State) -> tuple[datetime, ExpireReservation | PlanAllocation] | None:
    """Only a reservation acts by itself."""
    return reservations.due(key, state) if isinstance(state, Reservation) else None


def _state(kind: type[StateT], key: str, states: Mapping[str, State]) -> StateT:
    state = states[key]
    assert isinstance(state, kind)
    return state
