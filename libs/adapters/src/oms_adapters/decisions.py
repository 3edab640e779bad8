"""What a webhook means, given what was seen of its order before. Webhooks come late, twice and in any order.

An order's content has a version: the time of its change, and for changes of one instant a hash. So any two deliveries are in the same
order whichever comes first. A cancellation is final whenever it comes: an order that the shop canceled is never placed later.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import msgspec
from msgspec import Struct, field
from msgspec.structs import fields as fields_of
from msgspec.structs import replace
from oms_contracts.channel import OrderPlaced
from oms_contracts.order_parts import PersonalData
from oms_contracts.values import shortened

from oms_adapters.reading import MAX_PROSE_CHARACTERS
from oms_adapters.results import Mapped, Result

MAX_WEBHOOK_IDS = 50
"""Remembered of one order. A duplicate of an older one is told by its version."""
ABOUT_PERSONS = frozenset({*(each.name for each in fields_of(PersonalData)), "attributes"})
"""The fields of OrderPlaced whose hashes are keyed."""


class Arrived(Struct, frozen=True, kw_only=True):
    """What one webhook says of its order, without the order.

    `hashes` has a hash for each field of its content, and is empty where it has none; then `updated_at` is None. `canceled` is why the shop
    canceled the order, None where it did not. `no_order` is why there is no content.
    """

    webhook_id: str
    updated_at: datetime | None = None
    hashes: dict[str, str] = field(default_factory=dict[str, str])
    canceled: str | None = None
    no_order: str = ""


class Seen(Struct, frozen=True, kw_only=True):
    """What was seen of an order: version and hashes of its newest content, the ids of its last webhooks, and how many there were."""

    updated_at: datetime | None = None
    hashes: dict[str, str] = field(default_factory=dict[str, str])
    webhook_ids: tuple[str, ...] = ()
    canceled: bool = False
    webhooks: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """The order is not placed yet: this content is it."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The shop canceled an order that was placed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The shop changed an order after it was placed. Nothing is applied: a person compares the `fields`, which are ours."""

    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ignore:
    """There is nothing to do."""

    reason: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """The webhook was taken before: there is nothing to do, and nothing new to remember."""


Decision = Place | Cancel | Changed | Ignore | Repeated


def arrived_of(webhook_id: str, result: Result) -> Arrived:
    """What is to be decided on and remembered of a mapped payload, or of one that is no order. It says nothing about persons."""
    standing = result.standing
    canceled = None if standing is None or standing.canceled is None else shortened(standing.canceled, MAX_PROSE_CHARACTERS)
    if isinstance(result, Mapped):
        updated_at, hashes = result.standing.updated_at or result.order.placed_at, _hashes(result.order, result.standing.salt)
        return Arrived(webhook_id=webhook_id, updated_at=updated_at, hashes=hashes, canceled=canceled)
    return Arrived(webhook_id=webhook_id, canceled=canceled, no_order="; ".join(map(str, result.reasons)))


def decide(seen: Seen, arrived: Arrived, *, placed: bool) -> Decision:
    """What the webhook means. `seen` is of its order, and `placed` says whether that is placed, by whatever way."""
    if arrived.webhook_id in seen.webhook_ids:
        return Repeated()
    if arrived.canceled is not None:  # one whose order cannot be mapped is a cancellation, too
        if seen.canceled:
            return Ignore("the order was canceled before")
        return Cancel(arrived.canceled) if placed else Ignore("the order was canceled before it was placed here, and will not be placed")
    if not arrived.hashes:
        return Ignore(arrived.no_order)
    if seen.canceled:
        return Ignore("the order was canceled, and that is final")
    if not _is_newer(seen, arrived):
        return Ignore("a newer content of the order was seen before, or this one")
    if not placed:
        return Place()
    if not seen.hashes:
        return Ignore("the order was placed in another way, so there is no content to compare with")
    changed = tuple(sorted(name for name in {**seen.hashes, **arrived.hashes} if seen.hashes.get(name) != arrived.hashes.get(name)))
    return Changed(changed) if changed else Ignore("nothing that is mapped has changed")


def remember(seen: Seen, arrived: Arrived) -> Seen:
    """What is seen of the order once the webhook was taken, whatever it meant."""
    known = replace(
        seen,
        webhook_ids=(*seen.webhook_ids, arrived.webhook_id)[-MAX_WEBHOOK_IDS:],
        canceled=seen.canceled or arrived.canceled is not None,
        webhooks=seen.webhooks + 1,
    )
    return replace(known, updated_at=arrived.updated_at, hashes=arrived.hashes) if _is_newer(seen, arrived) else known


def _is_newer(seen: Seen, arrived: Arrived) -> bool:
    if arrived.updated_at is None or seen.updated_at is None:
        return arrived.updated_at is not None
    return (arrived.updated_at, _digest(arrived.hashes)) > (seen.updated_at, _digest(seen.hashes))


def _hashes(order: OrderPlaced, salt: str | None) -> dict[str, str]:
    """By field. What is about persons is keyed with `salt`, and left out without one: of a name or an address every guess can be tried."""
    members: dict[str, object] = msgspec.to_builtins(order)
    hashes: dict[str, str] = {}
    for name, value in members.items():
        encoded = msgspec.json.encode(value, order="deterministic")
        if name not in ABOUT_PERSONS:
            hashes[name] = sha256(encoded).hexdigest()[:16]
        elif salt is not None:
            hashes[name] = hmac.digest(salt.encode(), encoded, "sha256").hex()[:16]
    return hashes


def _digest(hashes: dict[str, str]) -> str:
    return sha256(repr(sorted(hashes.items())).encode()).hexdigest()
