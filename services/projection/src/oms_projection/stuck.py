"""Whatever waits: for whom, since when, what happens otherwise, and which operations go on with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Query
from oms_contracts.catalogue import topic_of
from oms_contracts.channel import WebhookReceived
from oms_contracts.values import shortened
from oms_runtime.database import Database
from oms_runtime.paging import Page, key_of, page_of

from oms_projection.paging import Where
from oms_projection.responses import StuckItem

Kind = Literal["order", "return", "fulfillment", "payment", "stock", "transfer", "dead-letter", "webhook"]
Party = Literal["customer", "shop", "warehouse", "carrier", "operator"]
MAX_REASON_CHARACTERS = 500
"""Of a reason: a dead letter's may be long."""


class _Waiting(NamedTuple):
    """What one kind of thing waits for in one state."""

    party: Party
    otherwise: str
    operations: tuple[str, ...] = ()


_EXPIRES = "it expires at the deadline"
_ASKED_AGAIN = "it is reported again after the deadline"
_STAYS = "it stays so"
_OF_A_SHORTFALL = ("receive-stock", "count-stock", "adjust-stock", "receive-transfer", "release-quarantine", "cancel-order")
_WRITTEN_OFF = "it is written off where the policy says so, or reported again after the deadline"
_COLLECT = ("retry-capture", "pay-outstanding", "write-off-payment")

WAITING: dict[tuple[Kind, str], _Waiting] = {
    ("order", "amend_payment"): _Waiting("customer", _EXPIRES, ("amend-payment", "cancel-order")),
    ("order", "resolve_stock"): _Waiting(
        "warehouse",
        "it goes on by itself once there is enough, and expires at the deadline",
        ("receive-stock", "extend-wait", "cancel-order"),
    ),
    ("order", "define_product"): _Waiting("shop", _EXPIRES, ("define-product", "cancel-order")),
    ("order", "check_delivery"): _Waiting("carrier", _ASKED_AGAIN, ("record-scan",)),
    ("order", "check_fulfillment"): _Waiting("warehouse", _ASKED_AGAIN, ("ship-fulfillment", "cancel-order")),
    ("order", "collect_payment"): _Waiting("operator", _WRITTEN_OFF, _COLLECT),
    ("order", "investigate"): _Waiting("operator", _ASKED_AGAIN, ("cancel-order",)),
    ("return", "inspect"): _Waiting("warehouse", _ASKED_AGAIN, ("inspect-return",)),
    ("return", "investigate"): _Waiting("operator", _ASKED_AGAIN),
    ("fulfillment", "planned"): _Waiting("warehouse", _STAYS, ("accept-fulfillment",)),
    ("fulfillment", "accepted"): _Waiting("warehouse", _STAYS, ("pick-items",)),
    ("fulfillment", "picked"): _Waiting("warehouse", _STAYS, ("pack-package",)),
    ("fulfillment", "packed"): _Waiting("warehouse", _STAYS, ("pack-package", "ship-fulfillment")),
    ("payment", "capture_failed"): _Waiting("operator", _WRITTEN_OFF, _COLLECT),
    ("payment", "refund_failed"): _Waiting("operator", "the customer does not get the money back: refund it by other means"),
    ("payment", "void_failed"): _Waiting("operator", "the provider holds the customer's money until the authorization lapses"),
    ("stock", "resolve_shortfall"): _Waiting("operator", _ASKED_AGAIN, _OF_A_SHORTFALL),
    ("stock", "resolve_quarantine"): _Waiting("operator", _ASKED_AGAIN, ("release-quarantine", "write-off-quarantine")),
    ("transfer", "in_transit"): _Waiting("warehouse", "an operator is asked to close it after the deadline", ("receive-transfer",)),
    ("transfer", "close_transfer"): _Waiting("operator", _ASKED_AGAIN, ("receive-transfer", "close-transfer")),
    ("dead-letter", "set_aside"): _Waiting("operator", "it has no effect, and later records of its key wait", ("redrive-dead-letters",)),
    ("dead-letter", "parked"): _Waiting("operator", "it waits for the earlier dead letter of its key", ("redrive-dead-letters",)),
    ("webhook", "set_aside"): _Waiting("shop", "there is no such order, and later webhooks of it wait", ("redrive-dead-letters",)),
    ("webhook", "parked"): _Waiting("shop", "it waits for the earlier webhook of its order", ("redrive-dead-letters",)),
}
"""By kind and state. An order that must be checked because it was not delivered waits for its warehouse where not all of it has shipped.

An order that waits for its payment is listed as an order, and its failed captures are not listed beside."""
OTHER = _Waiting("operator", _STAYS)
"""A state that this release does not know."""

_STUCK = f"""
    select 'order' as kind, o.order_id as id, o.order_id, o.channel, null as location, o.action_since as since, o.deadline,
           case when o.action = 'check_delivery' and (d.shipped is null or d.planned > d.shipped)
                then 'check_fulfillment' else o.action end as state,
           o.action_reason as reason, null as key
    from orders o left join deliveries d using (order_id) where o.action <> ''
union all
    select 'return', r.return_id, r.order_id, o.channel, r.location, r.at, r.deadline, r.action, null, null
    from returns r left join orders o using (order_id) where r.action <> ''
union all
    select 'fulfillment', f.fulfillment_id, f.order_id, o.channel, f.location, f.at, null, f.status, null, null
    from fulfillments f left join deliveries d using (order_id) left join orders o using (order_id)
    where f.shipped_at is null and f.planned_at < $1 and f.at < $1 and f.status <> 'shipped' and d.canceled_at is null
union all
    select 'payment', p.order_id, p.order_id, o.channel, null, coalesce(c.at, r.at, p.at),
           case when c.at is not null then (to_jsonb(p) ->> 'collect_by')::timestamptz end,
           case when c.at is not null then 'capture_failed' when r.at is not null then 'refund_failed' else 'void_failed' end, p.failure,
           null
    from payments p
    left join orders o using (order_id)
    left join lateral (select min(at) as at from captures c
        where c.order_id = p.order_id and c.status = 'failed' and coalesce(o.action, '') <> 'collect_payment') c on true
    left join lateral (select min(at) as at from refunds r where r.order_id = p.order_id and r.status = 'failed') r on true
    where p.failures > 0 and (c.at is not null or r.at is not null or exists
        (select from authorizations a where a.order_id = p.order_id and a.void_failure is not null and a.voided_at is null))
union all
    select 'stock', g.sku || ' at ' || g.location, null, null, g.location, g.at, g.deadline, 'resolve_' || g.signal,
           format('%s on hand, %s reserved, %s allocated, %s set apart', s.on_hand, s.reserved, s.allocated, s.quarantined), null
    from stock_signals g join stock s using (sku, location) where g.holds = 1 and g.signal in ('shortfall', 'quarantine')
union all
    select 'transfer', t.transfer_id, null, null, t.to_location, t.at, t.deadline, coalesce(t.action, 'in_transit'),
           format('%s of %s units from %s have not arrived', l.missing, l.sent, t.from_location), null
    from transfers t,
         lateral (select sum(sent - received - written_off) as missing, sum(sent) as sent
                  from transfer_lines l where l.transfer_id = t.transfer_id) l
    where l.missing > 0 and (t.action is not null or t.at < $1)
union all
    select case when l.service = 'capture' and l.source_topic = '{topic_of(WebhookReceived)}' then 'webhook' else 'dead-letter' end,
           l.service || '/' || l.letter_id, o.order_id, o.channel, null, l.at, null, l.status, l.reason, l.source_key
    from letters l left join orders o on o.order_id = l.source_key where l.status in ('set_aside', 'parked')"""  # noqa: S608  # our own names


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckFilter:
    """Which of it is asked for; None: it does not matter."""

    kind: Kind | None = None
    waits_for: Party | None = None
    channel: Annotated[str | None, Query(description="Of the order, where it is about one")] = None
    overdue: Annotated[bool | None, Query(description="Whether its deadline has passed")] = None
    older_than_seconds: Annotated[
        int, Query(ge=0, le=31_536_000, description="A fulfillment or a transfer counts once nothing has happened to it for so long")
    ] = 86_400


async def stuck(database: Database, wanted: StuckFilter, *, now: datetime, after: str | None, limit: int) -> Page[StuckItem]:
    """What waits, oldest first."""
    where = Where(args=[now - timedelta(seconds=wanted.older_than_seconds)])
    where.add("since is not null")
    where.add("kind = {}", wanted.kind)
    where.add("channel = {}", wanted.channel)
    if wanted.waits_for is not None:
        mine = wanted.waits_for == OTHER.party
        names = [f"{kind} {state}" for (kind, state), each in WAITING.items() if (each.party == wanted.waits_for) != mine]
        where.add(f"kind || ' ' || state {'<> all' if mine else '= any'} ({{}}::text[])", names)
    if wanted.overdue is not None:
        where.add("coalesce(deadline < {}, false) = {}", now, wanted.overdue)
    if after is not None:
        where.add(f"({_KEY}) > ({{}}, {{}}, {{}}, {{}})", *key_of(after, datetime, str, str, str))
    reference = "(select o.reference from orders o where o.order_id = found.order_id) as reference"
    query = f"select *, {reference} from ({_STUCK}) found{where.text()} order by {_KEY} limit {limit + 1}"  # noqa: S608  # our own conditions
    page = page_of(
        await database.fetch(query, *where.args), limit, lambda row: (row["since"], row["kind"], row["order_id"] or "", row["id"])
    )
    return Page(items=[_item(row, now) for row in page.items], next=page.next)


_KEY = "since, kind, coalesce(order_id, ''), id"


def _item(row: Mapping[str, Any], now: datetime) -> StuckItem:
    waiting = WAITING.get((row["kind"], row["state"]), OTHER)
    deadline, reason = row["deadline"], row["reason"]
    return StuckItem(
        **{name: row[name] for name in ("kind", "id", "order_id", "channel", "reference", "location", "key", "state", "since")},
        reason=None if reason is None else shortened(reason, MAX_REASON_CHARACTERS),
        deadline=deadline,
        overdue=deadline is not None and deadline < now,
        waits_for=waiting.party,
        otherwise=waiting.otherwise,
        operations=waiting.operations,
    )
