"""Inventory's decider. It dispatches by kind of state; a module for each kind decides and evolves.

| key | state |
|---|---|
| `receipt/<id>`, `adjustment/<id>`, `count/<id>`, `return/<id>`, `quarantine/<id>`, `release/<id>`, `write-off/<id>` | Entry |
| `transfer/<id>` | Transfer |
| `<order id>` | Reservation |
| `sku/<SKU>` | Position |
| `product/<SKU>` | Product |

Positions are read only where units are looked for or taken away, and products only where the business does not accept unknown SKUs. The
commands that do so carry the lines they are about, because the lines determine what is read.
"""

from collections.abc import Iterable, Mapping, Sequence
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
    CloseTransfer,
    CountStock,
    QuarantineReleased,
    QuarantineStock,
    QuarantineWrittenOff,
    ReceiveStock,
    ReceiveTransfer,
    ReleaseQuarantine,
    SetStockLimits,
    StockActionRequired,
    StockActionResolved,
    StockAdjusted,
    StockAllocationRequested,
    StockCommandRefused,
    StockCounted,
    StockExcess,
    StockExcessCleared,
    StockLimitsSet,
    StockLow,
    StockLowCleared,
    StockOut,
    StockOutCleared,
    StockQuarantined,
    StockReceived,
    StockReleased,
    StockReservationPostponed,
    StockReturned,
    StockWrittenOff,
    TransferActionRequired,
    TransferClosed,
    TransferReceived,
    TransferStarted,
    TransferStock,
    WaitingOrdersCalled,
    WaitingOrdersResumed,
    WriteOffQuarantine,
)
from oms_contracts.values import CountLine, GoodsLine, StockLine, WantedLine

from oms_inventory import ledger, positions, products, reservations, transfers, waiting
from oms_inventory.commands import (
    ActOnTransferDeadline,
    BookReturn,
    CallWaitingOrders,
    Command,
    Event,
    ExpireReservation,
    PlanAllocation,
    ReserveStock,
    ResumeWaitingOrders,
    ReviewStock,
)
from oms_inventory.ledger import Entry
from oms_inventory.positions import Position
from oms_inventory.products import Product
from oms_inventory.reservations import Reservation, Terms
from oms_inventory.transfers import Transfer
from oms_inventory.waiting import Stock

State = Reservation | Entry | Position | Product | Transfer
StateT = TypeVar("StateT", Reservation, Entry, Position, Product, Transfer)

INITIAL: Mapping[str, State] = {
    positions.KIND: Position(),
    products.KIND: Product(),
    transfers.KIND: Transfer(),
    **dict.fromkeys(ledger.KINDS, Entry()),
}
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
        case ReceiveStock() | BookReturn():
            return [ledger.key_of(command)]
        case AdjustStock() | CountStock() | QuarantineStock() | ReleaseQuarantine() | WriteOffQuarantine():
            return [ledger.key_of(command), *positions.keys_of(command.lines)]
        case TransferStock():
            return [transfers.key_of(command.transfer_id), *positions.keys_of(command.lines)]
        case ReceiveTransfer() | CloseTransfer() | ActOnTransferDeadline():
            return [transfers.key_of(command.transfer_id)]
        case SetStockLimits() | ReviewStock():
            return [positions.key_of(command.sku)]
        case DefineProduct() | DeactivateProduct() | ResumeWaitingOrders():
            return [products.key_of(command.sku)]
        case CallWaitingOrders(sku=sku):
            return [positions.key_of(sku)]
        case _:
            return [command.order_id]


def writes(event: Event) -> Sequence[str]:
    """The event's stream, then every other state it changes."""
    match event:
        case StockCommandRefused():
            return [_key_of_refused(event)]
        case StockReceived() | StockAdjusted() | StockCounted() | StockReturned() | StockWrittenOff():
            return [ledger.key_of(event), *positions.keys_of(event.lines)]
        case StockQuarantined() | QuarantineReleased() | QuarantineWrittenOff():
            return [ledger.key_of(event), *positions.keys_of(event.lines)]
        case TransferStarted() | TransferReceived():
            return [transfers.key_of(event.transfer_id), *positions.keys_of(event.lines)]
        case TransferClosed() | TransferActionRequired():
            return [transfers.key_of(event.transfer_id)]
        case StockLow() | StockLowCleared() | StockOut() | StockOutCleared() | StockExcess() | StockExcessCleared():
            return [positions.key_of(event.sku)]
        case StockLimitsSet() | StockActionRequired() | StockActionResolved():
            return [positions.key_of(event.sku)]
        case StockAllocationRequested():
            return [event.order_id]
        case WaitingOrdersCalled():
            return [positions.key_of(event.sku), *event.orders]
        case StockReservationPostponed():
            return [event.order_id, *products.keys_of(event.unknown_skus)]
        case StockReleased():
            waited_for = (*map(positions.key_of, event.missing_skus), *products.keys_of(event.unknown_skus))
            return [event.order_id, *positions.keys_of(event.lines), *waited_for]
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
        case ReceiveStock() | BookReturn():
            return ledger.decide(command, _state(Entry, ledger.key_of(command), states), {}, now)
        case AdjustStock() | CountStock() | QuarantineStock() | ReleaseQuarantine() | WriteOffQuarantine():
            there = _positions(command.lines, states)
            return ledger.decide(command, _state(Entry, ledger.key_of(command), states), there, now)
        case TransferStock() | ReceiveTransfer() | CloseTransfer() | ActOnTransferDeadline():
            there = _positions(command.lines, states) if isinstance(command, TransferStock) else {}
            return transfers.decide(command, _state(Transfer, transfers.key_of(command.transfer_id), states), there, now, terms)
        case SetStockLimits() | ReviewStock():
            return [*positions.decide(command, _state(Position, positions.key_of(command.sku), states), now, terms)]
        case DefineProduct() | DeactivateProduct() | ResumeWaitingOrders():
            return products.decide(command, _state(Product, products.key_of(command.sku), states), now)
        case ReserveStock() if unknown := _unknown(command, states, terms):
            hold = terms.unknown_sku == "hold" and all(len(product.waiting) < products.MAX_WAITING for product in unknown.values())
            return reservations.decide_unknown(command, _state(Reservation, command.order_id, states), tuple(unknown), now, hold=hold)
        case ReserveStock() | PlanAllocation():
            there = {
                sku: Stock(available=position.available(), queue=position.queue)
                for sku, position in _positions(command.lines, states).items()
            }
            return reservations.decide_plan(command, _state(Reservation, command.order_id, states), there, now, terms)
        case CallWaitingOrders(sku=sku):
            position = _state(Position, positions.key_of(sku), states)
            return waiting.decide(command, position.queue, sum(position.available().values()), now)
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
        case Transfer():
            return transfers.evolve(state, event)
        case Entry():
            return ledger.evolve(state, event)


def due(
    key: str, state: State, terms: Terms
) -> (
    tuple[
        datetime,
        ExpireReservation | PlanAllocation | ReserveStock | ResumeWaitingOrders | CallWaitingOrders | ReviewStock | ActOnTransferDeadline,
    ]
    | None
):
    """Every state but that of an entry may act by itself."""
    match state:
        case Reservation():
            return reservations.due(key, state)
        case Position():
            return positions.due(key, state, terms)
        case Product():
            return products.due(key, state)
        case Transfer():
            return transfers.due(key, state)
        case Entry():
            return None


def _key_of_refused(event: StockCommandRefused) -> str:
    if event.command in transfers.COMMANDS:
        return transfers.key_of(event.entry_id)
    return positions.key_of(event.entry_id) if event.command == positions.SET_LIMITS else ledger.key_of(event)


def _positions(lines: Iterable[WantedLine | StockLine | GoodsLine | CountLine], states: Mapping[str, State]) -> dict[str, Position]:
    """The positions of these lines, by SKU."""
    return {line.sku: _state(Position, positions.key_of(line.sku), states) for line in lines}


def _unknown(command: ReserveStock, states: Mapping[str, State], terms: Terms) -> dict[str, Product]:
    """The products of the order's SKUs that stand against it, by SKU."""
    reservation = _state(Reservation, command.order_id, states)
    if terms.unknown_sku == "accept" or reservation.was_reserved or reservation.status == "waiting":
        return {}
    return products.unknown_skus({line.sku: _state(Product, products.key_of(line.sku), states) for line in command.lines})


def _state(kind: type[StateT], key: str, states: Mapping[str, State]) -> StateT:
    state = states[key]
    assert isinstance(state, kind)
    return state
