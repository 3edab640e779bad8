"""Capture's decider. It dispatches by kind of state, and decides on webhooks, which read an order and write beside it.

| key | state |
|---|---|
| `<order id>` | Order |
| `webhooks/<order id>` | Seen: what shops' webhooks have said of the order |

A webhook that is the order, or cancels it, has the order's own decider decide, as if it had come in any other way.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from oms_adapters import decisions
from oms_adapters.decisions import Arrived, Cancel, Changed, Ignore, Place, Repeated, Seen
from oms_contracts.customers import EraseCustomer
from oms_contracts.orders import CancelOrder, WebhookTaken
from oms_contracts.values import shortened

from oms_capture import decider
from oms_capture.commands import AnyCommand, AnyEvent, Command, Event, TakeWebhook
from oms_capture.decider import Order, Terms

MAX_WEBHOOKS = 200
"""Of one order that are recorded. A further one still places or cancels it; one that has no other consequence is not recorded."""
MAX_REASON_CHARACTERS = 500

State = Order | Seen
StateT = TypeVar("StateT", Order, Seen)

_WEBHOOKS = "webhooks"
NOTHING_SEEN = Seen()


def initial(key: str) -> State:
    """The state of a key before its first event."""
    return NOTHING_SEEN if key.startswith(f"{_WEBHOOKS}/") else decider.INITIAL


def reads(command: AnyCommand) -> Sequence[str]:
    """The keys that a decision needs. To erase a customer changes no state: see customers.py."""
    match command:
        case EraseCustomer():
            return []
        case TakeWebhook(order_id=order_id):
            return [order_id, webhooks_key(order_id)]
        case _:
            return [command.order_id]


def writes(event: AnyEvent) -> Sequence[str]:
    """The event's stream."""
    return [webhooks_key(event.order_id)] if isinstance(event, WebhookTaken) else [event.order_id]


def decide(command: AnyCommand, states: Mapping[str, State], now: datetime, terms: Terms) -> Sequence[AnyEvent]:
    """The events that follow from a command. A command that has already had its effect, or comes too late, has none."""
    if isinstance(command, EraseCustomer):
        return []
    order = _state(Order, command.order_id, states)
    if isinstance(command, TakeWebhook):
        return _take(command, _state(Seen, webhooks_key(command.order_id), states), order, now, terms)
    return decider.decide_order(command, order, now, terms)


def decide_for(channel: str, command: AnyCommand, states: Mapping[str, State], now: datetime, terms: Terms) -> Sequence[AnyEvent]:
    """As `decide`, for a command from the channel's own topic, which has orders and what is asked of them alone."""
    assert not isinstance(command, EraseCustomer | TakeWebhook)
    return decider.decide_for(channel, command, _state(Order, command.order_id, states), now, terms)


def evolve(state: State, event: AnyEvent, _key: str) -> State:
    """The state of a key after an event. Never raises: an event is a fact."""
    if isinstance(event, WebhookTaken):
        return decisions.remember(state, _arrived(event)) if isinstance(state, Seen) else state
    return decider.evolve(state, event) if isinstance(state, Order) else state


def due(key: str, state: State, terms: Terms) -> tuple[datetime, Command] | None:
    """Only an order acts by itself."""
    return decider.due(key, state, terms) if isinstance(state, Order) else None


def webhooks_key(order_id: str) -> str:
    """The key of what webhooks have said of an order."""
    return f"{_WEBHOOKS}/{order_id}"


def _take(command: TakeWebhook, seen: Seen, order: Order, now: datetime, terms: Terms) -> Sequence[AnyEvent]:
    decision = decisions.decide(seen, command.arrived, placed=order.status not in {"new", "rejected"})
    consequences: list[Event] = []
    match decision:
        case Repeated():
            return []
        case Place() if command.place is not None:
            consequences = decider.decide_order(command.place, order, now, terms)
        case Cancel(reason):
            consequences = decider.decide_order(CancelOrder(order_id=command.order_id, reason=reason), order, now, terms)
        case _:
            pass
    arrived = command.arrived
    is_new_cancellation = arrived.canceled is not None and not seen.canceled
    if seen.webhooks >= MAX_WEBHOOKS and not consequences and not is_new_cancellation:
        return []
    taken = WebhookTaken(
        order_id=command.order_id,
        channel=command.channel,
        platform=command.platform,
        topic=command.topic,
        webhook_id=arrived.webhook_id,
        outcome=_OUTCOMES[type(decision)],
        canceled=arrived.canceled is not None,
        at=now,
        reason=shortened(decision.reason, MAX_REASON_CHARACTERS) if isinstance(decision, Ignore | Cancel) else "",
        changed_fields=decision.fields if isinstance(decision, Changed) else (),
        updated_at=arrived.updated_at,
        field_hashes=arrived.hashes,
    )
    return [*consequences, taken]


_OUTCOMES = {Place: "placed", Cancel: "canceled", Changed: "changed", Ignore: "ignored"}


def _arrived(event: WebhookTaken) -> Arrived:
    """What the webhook said, as far as it is remembered."""
    canceled = event.reason if event.canceled else None
    return Arrived(webhook_id=event.webhook_id, updated_at=event.updated_at, hashes=event.field_hashes, canceled=canceled)


def _state(kind: type[StateT], key: str, states: Mapping[str, State]) -> StateT:
    state = states[key]
    assert isinstance(state, kind)
    return state
