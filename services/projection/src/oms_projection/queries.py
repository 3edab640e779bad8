"""The queries of the API on the read models."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import Query
from oms_contracts.summaries import summary
from oms_runtime.customer_keys import customer_hash, email_hash
from oms_runtime.database import Connection, Database
from oms_runtime.paging import Page, key_of, page_of
from oms_runtime.sealing import Sealer
from pydantic import AwareDatetime

from oms_projection.paging import Where, ordered
from oms_projection.personal_data import with_personal_data
from oms_projection.responses import (
    Authorization,
    Capture,
    CustomerItem,
    CustomerQuery,
    Fulfillment,
    FulfillmentItem,
    HeldStock,
    LedgerEntry,
    Letter,
    LetterDetail,
    Line,
    OrderDetail,
    OrderItem,
    OrderPayment,
    Outcome,
    PackageItem,
    PaymentItem,
    Position,
    Product,
    Refund,
    Rejection,
    RejectionCount,
    Return,
    ReturnItem,
    ShippedPackage,
    SkuDetail,
    TimelineEntry,
    TransferItem,
)

T = TypeVar("T")

JSON = frozenset(
    {"lines", "shortages", "unknown_skus", "inspected", "headers", "data", "payments", "tags", "attributes", "on_the_way"}
    | {"ship_to", "bill_to", "pickup", "promise", "gift"}
)
"""Columns that hold JSON."""
SWITCHES = frozenset({"taxes_included", "shippable", "requires_shipping", "active"})
"""Columns that hold 1 for true and 0 for false."""
NO_VALUE_IS_EMPTY = frozenset({"action", "cancellation"})
"""Columns that can lose their value again. Null means that the column's topic was not read yet."""

DESCENDING = "With - before it from the newest down"
FulfillmentStatus = Literal["planned", "accepted", "picked", "packed", "shipped", "canceled"]
Total = Annotated[int | None, Query(description="In minor units of the order's currency")]
OrderId = Annotated[str | None, Query(description="The id of the order")]
Channel = Annotated[str | None, Query(description="The channel of the order")]

_PAYMENT = """
    select p.*, coalesce(v.voided, 0) as voided, coalesce(u.outstanding, 0) as outstanding
    from payments p
    left join lateral (select sum(requested) as outstanding from captures c
        where c.order_id = p.order_id and c.status in ('refused', 'failed')) u on true
    left join lateral
        (select sum(amount) as voided from authorizations a where a.order_id = p.order_id and a.voided_at is not null) v on true"""

_FAILED = """p.failures > 0 and (
    exists (select from captures c where c.order_id = p.order_id and c.status = 'failed')
    or exists (select from refunds r where r.order_id = p.order_id and r.status = 'failed')
    or exists (select from authorizations a where a.order_id = p.order_id and a.void_failure is not null and a.voided_at is null))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilter:
    """Which orders are asked for; None: it does not matter."""

    status: str | None = None
    channel: str | None = None
    customer: Annotated[str | None, Query(description="The `key_id` of a customer, as POST /customers finds it")] = None
    reference: str | None = None
    placed_from: AwareDatetime | None = None
    placed_before: AwareDatetime | None = None
    action: Annotated[str | None, Query(description="What the order waits for: amend_payment, resolve_stock, define_product …")] = None
    delivery: str | None = None
    location: Annotated[str | None, Query(description="The location that the order names; /fulfillments knows where it ships from")] = None
    sku: Annotated[str | None, Query(description="Of any of its lines")] = None
    total_from: Total = None
    total_to: Total = None
    tag: str | None = None
    sort: Annotated[
        Literal["placed_at", "-placed_at", "total", "-total", "deadline", "-deadline"],
        Query(description="With - before it from the greatest down. Orders without a total or a deadline are left out of its order"),
    ] = "-placed_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class FulfillmentFilter:
    """Which fulfillments are asked for; None: it does not matter."""

    status: FulfillmentStatus | None = None
    location: str | None = None
    order: OrderId = None
    channel: Channel = None
    planned_from: AwareDatetime | None = None
    planned_before: AwareDatetime | None = None
    sort: Annotated[Literal["planned_at", "-planned_at"], Query(description=DESCENDING)] = "-planned_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFilter:
    """Which packages are asked for; None: it does not matter."""

    status: Annotated[str | None, Query(description="What the carrier said last")] = None
    carrier: str | None = None
    trouble: Annotated[bool | None, Query(description="Whether the carrier reported trouble, and has not delivered it since")] = None
    order: OrderId = None
    channel: Channel = None
    sort: Annotated[Literal["packed_at", "-packed_at"], Query(description=DESCENDING)] = "-packed_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnFilter:
    """Which returns are asked for; None: it does not matter."""

    status: str | None = None
    action: Annotated[str | None, Query(description="What the return waits for: inspect or investigate")] = None
    location: str | None = None
    order: OrderId = None
    channel: Channel = None
    sort: Annotated[
        Literal["requested_at", "-requested_at", "deadline", "-deadline"],
        Query(description=f"{DESCENDING}. Returns without a deadline are left out of its order"),
    ] = "-requested_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFilter:
    """Which payments are asked for; None: it does not matter."""

    status: str | None = None
    failed: Annotated[bool | None, Query(description="Whether something of it has failed, and is not settled since")] = None
    order: OrderId = None
    channel: Channel = None
    sort: Annotated[Literal["at", "-at"], Query(description=DESCENDING)] = "-at"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferFilter:
    """Which transfers are asked for; None: it does not matter."""

    status: Literal["in_transit", "closed"] | None = None
    location: Annotated[str | None, Query(description="One of the two ends")] = None
    transfer: Annotated[str | None, Query(description="The id of the transfer")] = None


async def orders(database: Database, sealer: Sealer, wanted: OrderFilter, *, after: str | None, limit: int) -> Page[OrderItem]:
    """Orders, newest first unless `wanted` says otherwise."""
    where = _where(wanted)
    order_by, key = ordered(where, wanted.sort, _ORDER_SORTS, ("o.order_id",), after)
    query = f"""
        select o.*, p.status as payment, coalesce(d.shipped, 0) as shipped, coalesce(d.delivered, 0) as delivered
        from orders o left join payments p using (order_id) left join deliveries d using (order_id)
        {where.text()} {order_by} limit {limit + 1}"""  # noqa: S608  # conditions of our own alone
    page = page_of(await database.fetch(query, *where.args), limit, key)
    return Page(items=[_read(OrderItem, row) for row in await with_personal_data(database, sealer, page.items)], next=page.next)


async def order_details(database: Database, sealer: Sealer, wanted: OrderFilter, *, after: str | None, limit: int) -> Page[OrderDetail]:
    """Orders as `orders` lists them, with all that is known of each; one snapshot a page."""
    where = _where(wanted)
    order_by, key = ordered(where, wanted.sort, _ORDER_SORTS, ("o.order_id",), after)
    query = f"select o.* from orders o{where.text()} {order_by} limit {limit + 1}"  # noqa: S608  # conditions of our own alone
    async with _snapshot(database) as connection:
        page = page_of(await connection.fetch(query, *where.args), limit, key)
        return Page(items=await _details(connection, sealer, page.items), next=page.next)


async def fulfillments(database: Database, wanted: FulfillmentFilter, *, after: str | None, limit: int) -> Page[FulfillmentItem]:
    """Fulfillments with their packages, by when they were planned."""
    where = Where()
    where.add("f.location = {}", wanted.location)
    where.add("f.order_id = {}", wanted.order)
    where.add("f.planned_at >= {}", wanted.planned_from)
    where.add("f.planned_at < {}", wanted.planned_before)
    where.add(_OF_CHANNEL.format(table="f"), wanted.channel)
    if wanted.status is not None:
        where.add("(d.canceled_at is not null) = {}", wanted.status == "canceled")
    if wanted.status not in {None, "canceled"}:
        where.add("f.status = {}", wanted.status)
        where.add(f"(f.shipped_at is {'not ' if wanted.status == 'shipped' else ''}null)")  # what is open has an index
    where.add("f.status is not null")
    order_by, key = ordered(where, wanted.sort, {"planned_at": ("f.planned_at", datetime)}, ("f.order_id", "f.fulfillment_id"), after)
    query = f"""select f.*, {_CALLED.format(table="f")}, case when d.canceled_at is null then f.status else 'canceled' end as state
        from fulfillments f left join deliveries d using (order_id){where.text()} {order_by} limit {limit + 1}"""  # noqa: S608  # our own
    async with _snapshot(database) as connection:
        page = page_of(await connection.fetch(query, *where.args), limit, key)
        packages = await _by_order(connection, PackageItem, _PACKED, [row["order_id"] for row in page.items])
    items = [
        _read(
            FulfillmentItem,
            {
                **row,
                "status": row["state"],
                "packages": [each for each in packages[row["order_id"]] if each.fulfillment_id == row["fulfillment_id"]],
            },
        )
        for row in page.items
    ]
    return Page(items=items, next=page.next)


async def packages(database: Database, wanted: PackageFilter, *, after: str | None, limit: int) -> Page[PackageItem]:
    """Packages, by when they were packed."""
    where = Where()
    where.add("k.status = {}", wanted.status)
    where.add("k.carrier = {}", wanted.carrier)
    where.add("k.order_id = {}", wanted.order)
    where.add(_OF_CHANNEL.format(table="k"), wanted.channel)
    if wanted.trouble is not None:
        where.add(_IN_TROUBLE if wanted.trouble else f"not ({_IN_TROUBLE})")
    order_by, key = ordered(where, wanted.sort, {"packed_at": ("k.packed_at", datetime)}, ("k.order_id", "k.package_id"), after)
    query = f"select k.*, {_CALLED.format(table='k')} from packages k{where.text()} {order_by} limit {limit + 1}"  # noqa: S608  # conditions of our own alone
    return _page(PackageItem, await database.fetch(query, *where.args), limit, key)


async def returns(database: Database, wanted: ReturnFilter, *, after: str | None, limit: int) -> Page[ReturnItem]:
    """Returns, newest first unless `wanted` says otherwise."""
    where = Where()
    where.add("r.status = {}", wanted.status)
    where.add("r.action <> '' and r.action = {}", wanted.action)
    where.add("r.location = {}", wanted.location)
    where.add("r.order_id = {}", wanted.order)
    where.add(_OF_CHANNEL.format(table="r"), wanted.channel)
    where.add("r.status is not null")
    sorts = {"requested_at": ("r.requested_at", datetime), "deadline": ("r.deadline", datetime)}
    order_by, key = ordered(where, wanted.sort, sorts, ("r.order_id", "r.return_id"), after)
    query = f"select r.*, {_CALLED.format(table='r')} from returns r{where.text()} {order_by} limit {limit + 1}"  # noqa: S608  # conditions of our own alone
    return _page(ReturnItem, await database.fetch(query, *where.args), limit, key)


async def customers(database: Database, sealer: Sealer, wanted: CustomerQuery) -> list[CustomerItem]:
    """The keys of the customers that `wanted` names, each with the number of its orders."""
    customer, email = customer_hash(sealer, wanted.channel, wanted.customer_id), email_hash(sealer, wanted.email)
    return await _many(
        database,
        CustomerItem,
        """select key_id, (select count(*) from orders o where o.key_id = k.key_id) as orders
           from customers k
           where customer <> '' and (customer = $1 or customer in (select customer from customers where email = $2 and email <> ''))
           order by key_id""",
        customer,
        email,
    )


async def order(database: Database, sealer: Sealer, order_id: str) -> OrderDetail | None:
    """One order, from one snapshot of all read models. None where it is not known."""
    async with _snapshot(database) as connection:
        found = await connection.fetch("select * from orders where order_id = $1 and status is not null", order_id)
        return next(iter(await _details(connection, sealer, found)), None)


async def timeline(database: Database, subject: str, *, after: str | None, limit: int) -> Page[TimelineEntry]:
    """The events of a subject, oldest first by the clocks of the services that recorded them."""
    where = Where()
    where.add("subject = {}", subject)
    if after is not None:
        where.add("(time, source, position) > ({}, {}, {})", *key_of(after, datetime, str, int))
    query = f"select * from timeline{where.text()} order by time, source, position limit {limit + 1}"  # noqa: S608  # our own conditions
    entries = [_entry(row) for row in await database.fetch(query, *where.args)]
    return page_of(entries, limit, lambda entry: (entry.time, entry.source, entry.position))


_POSITIONS = """
    (select s.*, case when own.sku is null then coalesce(g.safety, 0) else own.safety end as safety,
            case when own.sku is null then g.reorder_point else own.reorder_point end as reorder_point,
            case when own.sku is null then g.maximum else own.maximum end as maximum
     from stock s
     left join stock_limits own on own.sku = s.sku and own.location = s.location
          and (own.safety > 0 or own.reorder_point is not null or own.maximum is not null)
     left join stock_limits g on g.sku = s.sku and g.location = '') p"""
"""Positions with the limits that hold there: a location's own, or those of every location."""
_AVAILABLE = "on_hand - reserved - allocated - quarantined - safety"
_SAID = "array(select signal from stock_signals g where g.sku = p.sku and g.location = p.location and g.holds = 1 order by signal)"
_POSITION = f"p.*, {_AVAILABLE} as available, {_SAID} as signals"


async def stock(
    database: Database, *, location: str | None, available_below: int | None, signal: str | None, after: str | None, limit: int
) -> Page[Position]:
    """Positions by SKU and location."""
    where = Where()
    where.add("p.location = {}", location)
    where.add(f"{_AVAILABLE} < {{}}", available_below)
    where.add("(p.sku, p.location) in (select sku, location from stock_signals where signal = {} and holds = 1)", signal)
    if after is not None:
        where.add("(p.sku, p.location) > ({}, {})", *key_of(after, str, str))
    query = f"select {_POSITION} from {_POSITIONS}{where.text()} order by p.sku, p.location limit {limit + 1}"  # noqa: S608  # our own conditions
    return page_of(await _many(database, Position, query, *where.args), limit, lambda row: (row.sku, row.location))


async def transfers(database: Database, wanted: TransferFilter, *, after: str | None, limit: int) -> Page[TransferItem]:
    """Transfers of goods, newest first."""
    where = Where()
    where.add("t.transfer_id = {}", wanted.transfer)
    where.add("{} in (t.from_location, t.to_location)", wanted.location)
    if wanted.status is not None:
        where.add(f"l.units {'>' if wanted.status == 'in_transit' else '='} 0")
    where.add("t.sent_at is not null")
    order_by, key = ordered(where, "-sent_at", {"sent_at": ("t.sent_at", datetime)}, ("t.transfer_id",), after)
    query = f"""
        select t.*, l.*, case when l.units > 0 then 'in_transit' else 'closed' end as status
        from transfers t, lateral
            (select sum(sent) as sent, sum(received) as received, sum(written_off) as written_off,
                    sum(sent - received - written_off) as units,
                    coalesce(json_agg(json_build_object('sku', sku, 'quantity', sent - received - written_off) order by sku)
                             filter (where sent > received + written_off), '[]')::text as on_the_way
             from transfer_lines x where x.transfer_id = t.transfer_id) l
        {where.text()} {order_by} limit {limit + 1}"""  # noqa: S608  # conditions of our own alone
    return _page(TransferItem, await database.fetch(query, *where.args), limit, key)


async def sku(database: Database, name: str, *, after: str | None, limit: int) -> SkuDetail | None:
    """The positions of a SKU, and its ledger, newest first. None where the SKU has no position."""
    where = Where()
    where.add("sku = {}", name)
    if after is not None:
        where.add("(position, line) < ({}, {})", *key_of(after, int, int))
    query = f"select * from stock_ledger{where.text()} order by position desc, line desc limit {limit + 1}"  # noqa: S608  # our own conditions
    async with database.acquire() as connection:
        positions = await _many(
            connection,
            Position,
            f"select {_POSITION} from {_POSITIONS} where p.sku = $1 order by p.location",  # noqa: S608  # our own text
            name,
        )
        if not positions:
            return None
        entries = await _many(connection, LedgerEntry, query, *where.args)
    return SkuDetail(sku=name, positions=positions, ledger=page_of(entries, limit, lambda entry: (entry.position, entry.line)))


async def products(database: Database, *, active: bool | None, text: str | None, after: str | None, limit: int) -> Page[Product]:
    """Products by SKU. `text` begins their SKU or barcode, or is anywhere in their title, in upper or lower case."""
    where = Where()
    where.add("title is not null")
    where.add("active = {}", None if active is None else int(active))
    if text:
        where.add("(sku ^@ {} or barcode ^@ {} or strpos(lower(title), lower({})) > 0)", text, text, text)
    if after is not None:
        where.add("sku > {}", *key_of(after, str))
    query = f"select * from products{where.text()} order by sku limit {limit + 1}"  # noqa: S608  # conditions of our own alone
    return page_of(await _many(database, Product, query, *where.args), limit, lambda product: (product.sku,))


async def product(database: Database, sku: str) -> Product | None:
    """One product. None where it is not in the catalogue."""
    return await _one(database, Product, "select * from products where sku = $1 and title is not null", sku)


async def payments(database: Database, wanted: PaymentFilter, *, after: str | None, limit: int) -> Page[PaymentItem]:
    """The payments of orders, newest first unless `wanted` says otherwise."""
    where = Where()
    where.add("p.status = {}", wanted.status)
    where.add(f"({_FAILED}) = {{}}", wanted.failed)
    where.add("p.order_id = {}", wanted.order)
    where.add(_OF_CHANNEL.format(table="p"), wanted.channel)
    order_by, key = ordered(where, wanted.sort, {"at": ("p.at", datetime)}, ("p.order_id",), after)
    return _page(PaymentItem, await database.fetch(f"{_PAYMENT}{where.text()} {order_by} limit {limit + 1}", *where.args), limit, key)


async def rejections(
    database: Database, *, channel: str | None, at_from: datetime | None, at_before: datetime | None
) -> list[RejectionCount]:
    """How often orders were rejected for each field, most frequent first."""
    where = Where()
    where.add("channel = {}", channel)
    where.add("at >= {}", at_from)
    where.add("at < {}", at_before)
    query = f"""
        select field, count(*) as orders, sum(reasons) as reasons, max(at) as newest_at,
               (array_agg(example order by at desc, order_id))[1] as example
        from rejections{where.text()} group by field order by orders desc, field"""  # noqa: S608  # conditions of our own alone
    return await _many(database, RejectionCount, query, *where.args)


async def rejected(database: Database, name: str, *, after: str | None, limit: int) -> Page[Rejection]:
    """The orders rejected for one field, newest first."""
    where = Where()
    where.add("field = {}", name)
    if after is not None:
        where.add("(at, order_id) < ({}, {})", *key_of(after, datetime, str))
    query = f"select * from rejections{where.text()} order by at desc, order_id desc limit {limit + 1}"  # noqa: S608  # our own conditions
    return page_of(await _many(database, Rejection, query, *where.args), limit, lambda row: (row.at, row.order_id))


async def outcomes(database: Database) -> list[Outcome]:
    """How many orders have each status, and since when the one that has had it longest."""
    return await _many(
        database,
        Outcome,
        """select status, count(*) as orders, min(since) as oldest_since
           from orders where status is not null group by status order by status""",
    )


async def dead_letters(
    database: Database, *, service: str | None, key: str | None, waiting: bool, after: str | None, limit: int
) -> Page[Letter]:
    """Records that services set aside, newest first."""
    where = Where()
    if waiting:
        where.add("status in ('set_aside', 'parked')")
    where.add("service = {}", service)
    where.add("source_key = {}", key)
    if after is not None:
        where.add("(at, service, letter_id) < ({}, {}, {})", *key_of(after, datetime, str, str))
    query = f"select * from letters{where.text()} order by at desc, service desc, letter_id desc limit {limit + 1}"  # noqa: S608
    return page_of(await _many(database, Letter, query, *where.args), limit, lambda row: (row.at, row.service, row.letter_id))


async def dead_letter(database: Database, service: str, letter_id: str) -> LetterDetail | None:
    """One dead letter with its record. None where it is not known."""
    return await _one(database, LetterDetail, "select * from letters where service = $1 and letter_id = $2", service, letter_id)


_ORDER_SORTS: dict[str, tuple[str, type[Any]]] = {
    "placed_at": ("o.placed_at", datetime),
    "total": ("o.total", int),
    "deadline": ("o.deadline", datetime),
}
_OF_CHANNEL = "exists (select from orders o where o.order_id = {table}.order_id and o.channel = {{}})"
_IN_TROUBLE = "k.trouble is not null and k.status is distinct from 'delivered'"
_CALLED = """(select o.channel from orders o where o.order_id = {table}.order_id) as channel,
    (select o.reference from orders o where o.order_id = {table}.order_id) as reference"""
"""What the channel calls the order of a row."""
_PACKED = f"""select k.*, {_CALLED.format(table="k")} from packages k
    where order_id = any($1) and packed_at is not null order by package_id"""  # noqa: S608  # our own names


def _where(wanted: OrderFilter) -> Where:
    where = Where()
    where.add("o.status is not null")
    where.add("o.status = {}", wanted.status)
    where.add("o.channel = {}", wanted.channel)
    where.add("o.key_id = {}", wanted.customer)
    if wanted.reference is not None:
        where.add("lower(o.reference) = lower({}) and o.reference = {}", wanted.reference, wanted.reference)
    where.add("o.placed_at >= {}", wanted.placed_from)
    where.add("o.placed_at < {}", wanted.placed_before)
    where.add("o.action <> '' and o.action = {}", wanted.action)
    where.add("o.delivery = {}", wanted.delivery)
    where.add("o.location = {}", wanted.location)
    where.add("o.total >= {}", wanted.total_from)
    where.add("o.total <= {}", wanted.total_to)
    where.add("o.tags::jsonb ? {}", wanted.tag)
    if wanted.sku is not None:
        where.add(
            """exists (select from order_lines l where l.order_id = o.order_id and lower(l.sku) = lower({}) and l.sku = {}
                       and l.number is not null and l.attempt is not distinct from o.accepted_attempt)""",
            wanted.sku,
            wanted.sku,
        )
    return where


@asynccontextmanager
async def _snapshot(database: Database) -> AsyncGenerator[Connection]:
    async with database.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        yield connection


async def _details(connection: Connection, sealer: Sealer, found: Sequence[Mapping[str, Any]]) -> list[OrderDetail]:
    """All that is known of the orders of these rows: one query a table, however many they are."""
    ids = [row["order_id"] for row in found]
    lines = await _lines(connection, found)
    stock = await _by_order(connection, HeldStock, "select * from order_stock where order_id = any($1)", ids)
    fulfillments = await _by_order(
        connection,
        Fulfillment,
        """select f.*, case when d.canceled_at is null then f.status else 'canceled' end as status
            from (select * from fulfillments where order_id = any($1) and status is not null) f
            left join deliveries d using (order_id) order by fulfillment_id""",
        ids,
    )
    # A carrier's scan may name a package that no service knows.
    packages = await _by_order(
        connection,
        ShippedPackage,
        "select * from packages where order_id = any($1) and coalesce(fulfillment_id, status) is not null order by package_id",
        ids,
    )
    returns = await _by_order(
        connection,
        Return,
        "select * from returns where order_id = any($1) and status is not null order by requested_at, return_id",
        ids,
    )
    windows = {
        row["order_id"]: row["closes_at"] for row in await connection.fetch("select * from return_windows where order_id = any($1)", ids)
    }
    payments = await _payments(connection, ids)
    return [
        _read(
            OrderDetail,
            {
                **row,
                "lines": lines[row["order_id"]],
                "stock": next(iter(stock[row["order_id"]]), None),
                "payment": payments.get(row["order_id"]),
                "fulfillments": fulfillments[row["order_id"]],
                "packages": packages[row["order_id"]],
                "returns": returns[row["order_id"]],
                "returns_until": windows.get(row["order_id"]),
            },
        )
        for row in await with_personal_data(connection, sealer, found)
    ]


async def _payments(connection: Connection, ids: list[str]) -> dict[str, OrderPayment]:
    totals = await _by_order(connection, PaymentItem, f"{_PAYMENT} where p.order_id = any($1) and p.status is not null", ids)
    authorizations = await _by_order(
        connection,
        Authorization,
        "select * from authorizations where order_id = any($1) order by at, authorization_id",
        ids,
    )
    captures = await _by_order(connection, Capture, "select * from captures where order_id = any($1) order by at, fulfillment_id", ids)
    refunds = await _by_order(connection, Refund, "select * from refunds where order_id = any($1) order by at, refund_id", ids)
    return {
        order_id: OrderPayment(totals=item, authorizations=authorizations[order_id], captures=captures[order_id], refunds=refunds[order_id])
        for order_id, [item] in list(totals.items())
    }


async def _lines(connection: Connection, orders: Sequence[Mapping[str, Any]]) -> defaultdict[str, list[Line]]:
    """The lines of the orders' accepted content, without those of content that was rejected after it had been accepted."""
    accepted = {order["order_id"]: order.get("accepted_attempt") for order in orders}
    query = "select * from order_lines where order_id = any($1) and number is not null order by number"
    found: defaultdict[str, list[Line]] = defaultdict(list)
    for row in await connection.fetch(query, list(accepted)):
        if row.get("attempt") == accepted[row["order_id"]]:  # tables of a version before 3 lack both
            found[row["order_id"]].append(_read(Line, row))
    return found


async def _by_order(connection: Connection, cls: type[T], query: str, ids: list[str]) -> defaultdict[str, list[T]]:
    """The rows of a query as responses, by their order."""
    found: defaultdict[str, list[T]] = defaultdict(list)
    for row in await connection.fetch(query, ids):
        found[row["order_id"]].append(_read(cls, row))
    return found


def _entry(row: Mapping[str, Any]) -> TimelineEntry:
    return _read(TimelineEntry, {**row, "summary": summary(row["type"], row["data"])})


def _page(cls: type[T], rows: list[Any], limit: int, key: Callable[[Mapping[str, Any]], tuple[Any, ...]]) -> Page[T]:
    page = page_of(rows, limit, key)
    return Page(items=[_read(cls, row) for row in page.items], next=page.next)


async def _many(source: Connection | Database, cls: type[T], query: str, *args: Any) -> list[T]:
    return [_read(cls, row) for row in await source.fetch(query, *args)]


async def _one(source: Connection | Database, cls: type[T], query: str, *args: Any) -> T | None:
    row = await source.fetchrow(query, *args)
    return None if row is None else _read(cls, row)


def _read(cls: type[T], row: Mapping[str, Any]) -> T:
    """A row as a response. Empty text in a column of NO_VALUE_IS_EMPTY means that there is no value.

    A field without a column has its default: the version in use may be an older one than this code's.
    """
    return msgspec.convert({name: _plain(name, row[name]) for name in _fields(cls) if name in row}, cls)


def _plain(name: str, value: Any) -> Any:
    match value:
        case "":
            return None if name in NO_VALUE_IS_EMPTY else value
        case str() if name in JSON:
            return msgspec.json.decode(value)
        case Decimal():
            return int(value)
        case int() if name in SWITCHES:
            return bool(value)
        case _:
            return value


@cache
def _fields(cls: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))
