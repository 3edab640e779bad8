"""Invariants of the whole system, checked on the read models. An audit is green when it finds no violation.

Topics are read with some lag between them. So a check that compares two topics counts only once the newest event concerned is older than
`settled`; a check of one topic counts at once.
"""

from datetime import datetime

from oms_contracts.orders import ENDED_STATUSES
from oms_runtime.database import Connection, Database

from oms_projection.responses import Audit, InFlight, OrdersAudit, Violation

MAX_VIOLATIONS = 1_000
ENDED = "('" + "', '".join(sorted(ENDED_STATUSES)) + "')"
"""As SQL."""

STOCK = f"""
    select 'on_hand' as kind, sku || ' at ' || location as subject, null::timestamptz as since,
           format('on hand is %s, the ledger adds up to %s', coalesce(s.on_hand, 0), coalesce(l.quantity, 0)) as detail
    from stock s
    full join (select sku, location, sum(quantity) as quantity from stock_ledger group by sku, location) l using (sku, location)
    where coalesce(s.on_hand, 0) <> coalesce(l.quantity, 0)
union all
    select 'quarantined', sku || ' at ' || location, null,
           format('%s set apart, the ledger adds up to %s', coalesce(s.quarantined, 0), coalesce(l.quarantined, 0))
    from stock s
    full join (select sku, location, sum(quarantined) as quarantined from stock_ledger group by sku, location) l using (sku, location)
    where coalesce(s.quarantined, 0) <> coalesce(l.quarantined, 0)
union all
    select 'negative', sku || ' at ' || location, null,
           format('%s reserved, %s allocated, %s set apart, %s in transit', reserved, allocated, quarantined, in_transit)
    from stock where least(reserved, allocated, quarantined, in_transit) < 0
union all
    select 'promised', sku || ' at ' || location, booked.at,
           format('%s reserved, %s allocated, %s set apart, %s on hand', reserved, allocated, quarantined, on_hand)
    from stock s, lateral (select max(at) as at from stock_ledger l where l.sku = s.sku and l.location = s.location) booked
    where reserved + allocated + quarantined > on_hand and coalesce(booked.at, $1) <= $1 and not exists
        (select from stock_signals g where g.sku = s.sku and g.location = s.location and g.signal = 'shortfall' and g.holds = 1)
union all
    select 'transfer', transfer_id || ' of ' || sku, t.at,
           format('%s sent, %s received, %s written off, %s', sent, received, written_off, coalesce('closed at ' || t.closed_at, 'open'))
    from transfer_lines l join transfers t using (transfer_id)
    where received + written_off > sent or (t.closed_at is not null and received + written_off < sent)
union all
    select 'in_transit', sku || ' at ' || location, null,
           format('%s are on the way, transfers say %s', coalesce(s.in_transit, 0), coalesce(l.units, 0))
    from (select sku, location, in_transit from stock where in_transit <> 0) s
    full join (select sku, to_location as location, sum(sent - received - written_off) as units
               from transfer_lines join transfers using (transfer_id) group by sku, to_location
               having sum(sent - received - written_off) <> 0) l using (sku, location)
    where coalesce(s.in_transit, 0) <> coalesce(l.units, 0)
union all
    select 'negative', order_id, at, format('the order holds %s reserved, %s allocated', reserved, allocated)
    from order_stock where reserved < 0 or allocated < 0
union all
    select 'held_in_sum', 'all', null, format('orders hold %s, positions say %s', o.held, s.held)
    from (select coalesce(sum(reserved + allocated), 0) as held from order_stock) o,
         (select coalesce(sum(reserved + allocated), 0) as held from stock) s
    where o.held <> s.held
union all
    select 'still_held', o.order_id, o.since, format('the order is %s, %s reserved, %s allocated', o.status, s.reserved, s.allocated)
    from order_stock s join orders o using (order_id)
    where (s.reserved <> 0 or s.allocated <> 0) and o.status in {ENDED} and o.since < $1
union all
    select 'not_booked', d.order_id, d.last_shipped_at, format('%s units shipped, %s booked out', d.shipped, coalesce(s.shipped, 0))
    from deliveries d left join order_stock s using (order_id)
    where d.shipped <> coalesce(s.shipped, 0) and coalesce(greatest(d.last_shipped_at, s.at), $1) <= $1"""  # noqa: S608  # our own names
"""on hand and what is set apart are the sums of the ledger: received + returned + adjusted + counted + transferred in - transferred out -
shipped - written off. reserved + allocated + quarantined <= on hand, unless a person was asked to resolve the shortfall."""

MONEY = f"""
    select 'over_captured' as kind, order_id as subject, at as since, format('captured %s, authorized %s', captured, authorized) as detail
    from payments where captured > authorized
union all
    select 'over_refunded', order_id, at, format('refunded %s, captured %s', refunded, captured) from payments where refunded > captured
union all
    select 'captured_twice', order_id, at, format('%s captures for %s', times, fulfillment_id) from captures where times > 1
union all
    select 'refunded_twice', order_id, at, format('%s refunds for %s', times, refund_id) from refunds where times > 1
union all
    select 'captured_unshipped', c.order_id, c.at, format('%s captured for %s, which has not shipped', c.captured, c.fulfillment_id)
    from captures c left join fulfillments f using (order_id, fulfillment_id)
    where c.times > 0 and f.shipped_at is null and c.at <= $1
union all
    select 'captured_too_much', p.order_id, p.at, format('captured %s, what shipped is worth %s', p.captured, worth.amount)
    from payments p join orders o using (order_id),
         lateral (select coalesce(sum(div(l.charge::numeric * l.shipped, l.quantity)), 0) + o.total - coalesce(sum(l.charge), 0) as amount
                  from order_lines l where l.order_id = p.order_id and l.attempt = o.accepted_attempt and l.quantity > 0) worth
    where p.captured > 0 and p.captured > worth.amount and p.at <= $1
union all
    select 'not_captured', f.order_id, f.shipped_at, format('%s has shipped, and nothing was asked of the provider', f.fulfillment_id)
    from fulfillments f left join captures c using (order_id, fulfillment_id)
    where f.shipped_at <= $1 and c.status is null
union all
    select 'captured_too_little', o.order_id, o.since, format('captured %s of %s', p.captured, o.collected)
    from orders o join payments p using (order_id)
    where o.status = 'completed' and o.since <= $1 and p.captured < o.collected and p.at <= $1
      and not exists (select from captures c where c.order_id = o.order_id and c.status <> 'captured')
union all
    select 'not_collected', c.order_id, c.at,
           format('%s for %s: %s, and nobody is asked to collect it', c.requested, c.fulfillment_id, c.status)
    from captures c join orders o using (order_id) join payments p using (order_id)
    where c.status not in ('captured', 'written_off') and c.requested > 0 and c.at <= $1
      and o.status in {ENDED} and o.since <= $1 and p.at <= $1 and to_jsonb(p) ->> 'collect_by' is null
union all
    select 'still_authorized', o.order_id, o.since, format('the order is %s, %s is held under %s', o.status, a.amount, a.authorization_id)
    from orders o join authorizations a using (order_id) join payments p using (order_id)
    where o.status in ('canceled', 'expired') and o.since <= $1 and a.amount > 0 and a.voided_at is null and a.void_failure is null
      and to_jsonb(a) ->> 'expired_at' is null and p.at <= $1 and p.status not in ('voiding', 'unknown', 'repeated')"""  # noqa: S608  # names of our own alone
"""captured <= authorized; refunded <= captured; nothing captured twice for one shipment; captured for what shipped and no more, or written
off, or waited for. Columns that an older version of the tables lacks are read by their names."""

OVERDUE = f"""
    select 'overdue' as kind, order_id as subject, action_since as since,
           format('waits for %s, whose deadline was %s', action, deadline) as detail
    from orders where action <> '' and status not in {ENDED} and coalesce(deadline, $1) <= $1"""  # noqa: S608  # names of our own alone

COUNTS = f"""
    select count(*) as accepted, count(*) filter (where status in {ENDED}) as ended,
           count(*) filter (where status not in {ENDED} and action <> '') as waiting,
           count(*) filter (where status not in {ENDED} and action = '') as in_flight
    from orders where status <> 'rejected'"""  # noqa: S608  # names of our own alone

IN_FLIGHT = f"""
    select order_id, status, since from orders where status not in {ENDED} and action = ''
    order by since, order_id limit $1"""  # noqa: S608  # names of our own alone


async def audit_stock(database: Database, settled: datetime) -> Audit:
    """Whether stock adds up."""
    return await _audit(database, STOCK, settled)


async def audit_money(database: Database, settled: datetime) -> Audit:
    """Whether money adds up, and was captured only for what shipped."""
    return await _audit(database, MONEY, settled)


async def audit_orders(database: Database, settled: datetime, limit: int) -> OrdersAudit:
    """Whether every accepted order has ended, or waits for a named action with a deadline; the others are listed, oldest first."""
    async with database.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        counts = await connection.fetchrow(COUNTS)
        assert counts is not None
        violations = await _violations(connection, OVERDUE, settled)
        in_flight = [InFlight(**row) for row in await connection.fetch(IN_FLIGHT, limit)]
    return OrdersAudit(
        green=not violations,
        accepted=counts["accepted"],
        ended=counts["ended"],
        waiting=counts["waiting"],
        in_flight_count=counts["in_flight"],
        in_flight=in_flight,
        violations=violations,
    )


async def _audit(database: Database, query: str, settled: datetime) -> Audit:
    async with database.acquire() as connection:
        violations = await _violations(connection, query, settled)
    return Audit(green=not violations, violations=violations)


async def _violations(connection: Connection, query: str, settled: datetime) -> list[Violation]:
    found = await connection.fetch(f"select * from ({query}) v order by kind, subject limit {MAX_VIOLATIONS}", settled)  # noqa: S608  # our own text
    return [Violation(**row) for row in found]
