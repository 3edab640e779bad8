"""What became of something that was asked for: the events that it caused, found in the timeline of what it is about.

An event names the record that led to it (`causation`), so the outcome of a command are the events whose causation is its event id. The same
holds for an order that is placed. A command that changes nothing, because the same was done before, causes no event.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from oms_contracts.dead_letters import RecordSetAside, RedriveRefused
from oms_contracts.fulfillments import FulfillmentCommandRefused
from oms_contracts.message import type_of
from oms_contracts.orders import OrderCommandRefused, OrderConflictReported, OrderRejected
from oms_contracts.payments import PaymentCommandRefused
from oms_contracts.products import ProductCommandRefused
from oms_contracts.returns import ReturnCommandRefused, ReturnDeclined, ReturnRequested
from oms_contracts.stock import StockCommandRefused
from oms_contracts.tracking import TrackingCommandRefused

from oms_client.errors import NotFound
from oms_client.queries import Json, poll

Status = Literal["done", "refused", "no_effect_known"]

CONFLICT = "channel_reference: an order with other content was placed under it before; that one counts, and this one does not"

_REFUSED = frozenset(
    type_of(cls).name
    for cls in (
        OrderRejected,
        OrderConflictReported,
        OrderCommandRefused,
        StockCommandRefused,
        ProductCommandRefused,
        PaymentCommandRefused,
        FulfillmentCommandRefused,
        TrackingCommandRefused,
        ReturnCommandRefused,
        ReturnDeclined,
        RedriveRefused,
        RecordSetAside,
    )
)
_SET_ASIDE = type_of(RecordSetAside).name
"""A redrive of several records ends with the first one that fails again."""
_UNDECIDED = frozenset({type_of(ReturnRequested).name})
"""What is recorded together with a decision, and says nothing of it."""


class Timelines(Protocol):
    """What has timelines: the query API (`QueryClient`)."""

    async def timeline(self, key: str, /) -> Sequence[Json]:
        """Every event that concerns an order, or whatever else has a key, oldest first. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of it: `done` or `refused` for `reasons`, by `events`, which are entries of the timeline.

    `no_effect_known` without any event: it was not handled yet, or it changes nothing because the same was done before.
    """

    status: Status
    events: tuple[Json, ...] = ()
    reasons: tuple[str, ...] = ()


NO_EFFECT_KNOWN = Outcome(status="no_effect_known")


def outcome_of(entries: Iterable[Json], event_id: str) -> Outcome | None:
    """The outcome of what was published as `event_id`, by a timeline's entries; None while they tell nothing of it.

    The first decision counts: a record that is on its topic twice, because an acknowledgment was lost, may be refused the second time.
    """
    caused = tuple(entry for entry in entries if entry["causation"] == event_id)
    decisions = [entry for entry in caused if entry["type"] not in _UNDECIDED]
    if not decisions:
        return None
    refusals = [entry for entry in decisions if entry["type"] in _REFUSED and (entry is decisions[0] or entry["type"] == _SET_ASIDE)]
    reasons = tuple(reason for entry in refusals for reason in _reasons(entry))
    return Outcome(status="refused" if refusals else "done", events=caused, reasons=reasons)


async def find_outcome(query: Timelines, key: str, event_id: str) -> Outcome | None:
    """The outcome of what was published as `event_id` with the Kafka key `key`, None while it is not known.

    Raises what `query.timeline` raises, but for NotFound: then nothing is known yet.
    """
    try:
        return outcome_of(await query.timeline(key), event_id)
    except NotFound:
        return None


async def wait_for_outcome(query: Timelines, key: str, event_id: str, timeout_seconds: float) -> Outcome:
    """The outcome of what was published as `event_id` with the Kafka key `key`; NO_EFFECT_KNOWN when none is known in time."""
    return await poll(partial(find_outcome, query, key, event_id), timeout_seconds) or NO_EFFECT_KNOWN


def _reasons(entry: Json) -> list[str]:
    data: dict[str, Any] = entry["data"]
    if entry["type"] == type_of(OrderConflictReported).name:
        return [CONFLICT]
    return list(data["reasons"]) if "reasons" in data else [data["reason"]]
