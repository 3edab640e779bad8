"""What a webhook means, given what was seen of its order before. Webhooks come late, twice and in any order.

An order's content has a version: the time of its change, and for changes of one instant a hash. So any two deliveries are in the same
order whichever comes first. A cancellation is final whenever it comes: an order that the shop canceled is never placed later.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256

import msgspec
from oms_contracts.channel import OrderPlaced
from oms_contracts.orders import CancelOrder
from oms_contracts.values import order_id_of, shortened

from oms_adapters.reading import MAX_PROSE_CHARACTERS
from oms_adapters.results import Mapped, Result, Unmapped

MAX_WEBHOOK_IDS = 50
"""Remembered of one order. A duplicate of an older one is told by its version."""
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an order: `fields` are hashes of the newest content's fields, so that no personal data is kept here in the clear."""

    updated_at: datetime = _NEVER
    fields: tuple[tuple[str, str], ...] = ()
    webhook_ids: tuple[str, ...] = ()
    placed: bool = False
    canceled: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """The order is new: publish it."""

    order: OrderPlaced


@dataclass(frozen=True, slots=True)
class Cancel:
    """The shop canceled an order that was placed: publish the command."""

    command: CancelOrder


@dataclass(frozen=True, slots=True)
class Changed:
    """The shop changed an order after it was placed. Nothing is applied: a person compares the `fields`, which are ours."""

    order: OrderPlaced
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ignore:
    """There is nothing to do."""

    reason: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """There is no order in it: keep it where it can be looked at, unless it is no order at all."""

    unmapped: Unmapped


Decision = Place | Cancel | Changed | Ignore | SetAside


def decide(seen: Seen, webhook_id: str, result: Result, *, channel: str) -> tuple[Decision, Seen]:
    """What the webhook means, and what is seen of its order after it. `seen` is of the order that `result.standing` names."""
    if webhook_id in seen.webhook_ids:
        return Ignore("this webhook was delivered before"), seen
    known = replace(seen, webhook_ids=(*seen.webhook_ids, webhook_id)[-MAX_WEBHOOK_IDS:])
    if result.standing is not None and result.standing.canceled is not None:
        return _cancel(known, result, result.standing.canceled, order_id_of(channel, result.standing.reference))
    if isinstance(result, Unmapped):
        return SetAside(result), seen  # not remembered: an adapter that learned more may map it when it comes again
    return _take(known, result)


def _cancel(known: Seen, result: Result, reason: str, order_id: str) -> tuple[Decision, Seen]:
    """A cancellation whose order cannot be mapped is one, too."""
    after = replace(_newest(known, result) if isinstance(result, Mapped) else known, canceled=True)
    if known.canceled:
        return Ignore("the order was canceled before"), after
    if not known.placed:
        return Ignore("the order was canceled before it was placed here, and will not be placed"), after
    return Cancel(CancelOrder(order_id=order_id, reason=shortened(reason, MAX_PROSE_CHARACTERS))), after


def _take(known: Seen, result: Mapped) -> tuple[Decision, Seen]:
    fields = _fields(result.order)
    if known.canceled:
        return Ignore("the order was canceled, and that is final"), _newest(known, result)
    if not known.placed:
        return Place(result.order), replace(_newest(known, result), placed=True)
    if _version(result) <= (known.updated_at, _digest(known.fields)):
        return Ignore("a newer content of the order was seen before, or this one"), known
    before = dict(known.fields)
    changed = tuple(name for name, digest in fields if before.get(name) != digest)
    after = _newest(known, result)
    return (Changed(result.order, changed), after) if changed else (Ignore("nothing that is mapped has changed"), after)


def _newest(known: Seen, result: Mapped) -> Seen:
    updated_at, digest = _version(result)
    if (updated_at, digest) <= (known.updated_at, _digest(known.fields)):
        return known
    return replace(known, updated_at=updated_at, fields=_fields(result.order))


def _version(result: Mapped) -> tuple[datetime, str]:
    return result.standing.updated_at or result.order.placed_at, _digest(_fields(result.order))


def _fields(order: OrderPlaced) -> tuple[tuple[str, str], ...]:
    members: dict[str, object] = msgspec.to_builtins(order)
    return tuple((name, sha256(msgspec.json.encode(value)).hexdigest()[:16]) for name, value in members.items())


def _digest(fields: tuple[tuple[str, str], ...]) -> str:
    return sha256(repr(fields).encode()).hexdigest() if fields else ""
