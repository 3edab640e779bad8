"""The questions the query API asks of the read models. Lists are paged by key: a page begins behind the last row of the one before."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar

import msgspec
from oms_runtime.database import Connection, Database

from oms_projection.responses import (
    Authorization,
    Capture,
    Fulfillment,
    HeldStock,
    LedgerEntry,
    Letter,
    LetterDetail,
    Line,
    OrderDetail,
    OrderItem,
    OrderPayment,
    Outcome,
    Page,
    PaymentItem,
    Position,
    Refund,
    Rejection,
    RejectionCount,
    Return,
    ShippedPackage,
    SkuDetail,
    TimelineEntry,
)
from oms_projection.summaries import summary

T = TypeVar("T")

JSON = frozenset({"lines", "shortages", "inspected", "ship_to", "headers", "data"})
"""Columns that hold JSON."""

_PAYMENT = """
    select p.*, coalesce(v.voided, 0) as voided
    from payments p
    left join lateral
        (select sum(amount) as voided from authorizations a where a.order_id = p.order_id and a.voided_at is not null) v on true"""


class UnknownCursor(ValueError):
    """What was given as `after` is not the `next` of an earlier page."""


@dataclass(slots=True)
class Where:
    """Conditions and their arguments. A condition names its arguments by `{}`."""

    conditions: list[str] = field(default_factory=list[str])
    args: list[Any] = field(default_factory=list[Any])

    def also(self, condition: str, *values: Any) -> None:
        """One more condition, left out where its only value is None."""
        if values != (None,):
            self.conditions.append(condition.format(*(f"${len(self.args) + n}" for n in range(1, len(values) + 1))))
            self.args.extend(values)

    def text(self) -> str:
        return f" where {' and '.join(self.conditions)}" if self.conditions else ""


async def orders(
    database: Database,
    *,
    status: str | None,
    channel: str | None,
    customer: str | None,
    reference: str | None,
    placed_from: datetime | None,
    placed_before: datetime | None,
    after: str | None,
    limit: int,
) -> Page[OrderItem]:
    where = Where()
    where.also("o.status is not null")
    where.also("o.status = {}", status)
    where.also("o.channel = {}", channel)
    where.also("o.customer_id = {}", customer)
    where.also("o.reference = {}", reference)
    where.also("o.placed_at >= {}", placed_from)
    where.also("o.placed_at < {}", placed_before)
    if after is not None:
        where.also("(o.placed_at, o.order_id) < ({}, {})", *_key(after, datetime, str))
    query = f"""
        select o.*, p.status as payment, coalesce(d.shipped, 0) as shipped, coalesce(d.delivered, 0) as delivered
        from orders o left join payments p using (order_id) left join deliveries d using (order_id)
        {where.text()} order by o.placed_at desc, o.order_id desc limit {limit + 1}"""  # noqa: S608  # conditions of our own alone
    return _page(await _many(database, OrderItem, query, *where.args), limit, lambda item: (item.placed_at, item.order_id))


async def order(database: Database, order_id: str) -> OrderDetail | None:
    """One order, as one snapshot of all read models."""
    async with database.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        found = await connection.fetchrow("select * from orders where order_id = $1 and status is not null", order_id)
        if found is None:
            return None
        return _read(
            OrderDetail,
            {
                **found,
                "lines": await _many(
                    connection, Line, "select * from order_lines where order_id = $1 and number is not null order by number", order_id
                ),
                "stock": await _one(connection, HeldStock, "select * from order_stock where order_id = $1", order_id),
                "payment": await _payment(connection, order_id),
                "fulfillments": await _many(
                    connection,
                    Fulfillment,
                    """select f.*, case when d.canceled_at is null then f.status else 'canceled' end as status
                       from (select * from fulfillments where order_id = $1 and status is not null) f
                       left join deliveries d using (order_id) order by fulfillment_id""",
                    order_id,
                ),
                "packages": await _many(
                    connection,
                    ShippedPackage,
                    # A carrier's scan may name a package that nobody knows.
                    "select * from packages where order_id = $1 and coalesce(fulfillment_id, status) is not null order by package_id",
                    order_id,
                ),
                "returns": await _many(
                    connection,
                    Return,
                    "select * from returns where order_id = $1 and status is not null order by requested_at, return_id",
                    order_id,
                ),
                "returns_until": await connection.fetchval("select closes_at from return_windows where order_id = $1", order_id),
            },
        )


async def timeline(database: Database, subject: str, *, after: str | None, limit: int) -> Page[TimelineEntry]:
    """Oldest first, by the clocks of the services that recorded the events."""
    where = Where()
    where.also("subject = {}", subject)
    if after is not None:
        where.also("(time, source, position) > ({}, {}, {})", *_key(after, datetime, str, int))
    query = f"select * from timeline{where.text()} order by time, source, position limit {limit + 1}"  # noqa: S608  # our own conditions
    entries = [_entry(row) for row in await database.fetch(query, *where.args)]
    return _page(entries, limit, lambda entry: (entry.time, entry.source, entry.position))


async def stock(database: Database, *, location: str | None, available_below: int | None, after: str | None, limit: int) -> Page[Position]:
    where = Where()
    where.also("location = {}", location)
    where.also("on_hand - reserved - allocated < {}", available_below)
    if after is not None:
        where.also("(sku, location) > ({}, {})", *_key(after, str, str))
    query = f"select *, on_hand - reserved - allocated as available from stock{where.text()} order by sku, location limit {limit + 1}"  # noqa: S608
    return _page(await _many(database, Position, query, *where.args), limit, lambda row: (row.sku, row.location))


async def sku(database: Database, name: str, *, after: str | None, limit: int) -> SkuDetail | None:
    """The positions of a SKU, and its ledger newest first."""
    positions = await _many(
        database,
        Position,
        "select *, on_hand - reserved - allocated as available from stock where sku = $1 order by location",
        name,
    )
    if not positions:
        return None
    where = Where()
    where.also("sku = {}", name)
    if after is not None:
        where.also("(position, line) < ({}, {})", *_key(after, int, int))
    query = f"select * from stock_ledger{where.text()} order by position desc, line desc limit {limit + 1}"  # noqa: S608  # our own conditions
    entries = await _many(database, LedgerEntry, query, *where.args)
    return SkuDetail(sku=name, positions=positions, ledger=_page(entries, limit, lambda entry: (entry.position, entry.line)))


async def payments(database: Database, *, status: str | None, failed: bool | None, after: str | None, limit: int) -> Page[PaymentItem]:
    where = Where()
    where.also("p.status = {}", status)
    where.also("(p.failures > 0) = {}", failed)
    if after is not None:
        where.also("(p.at, p.order_id) < ({}, {})", *_key(after, datetime, str))
    query = f"{_PAYMENT}{where.text()} order by p.at desc, p.order_id desc limit {limit + 1}"
    return _page(await _many(database, PaymentItem, query, *where.args), limit, lambda item: (item.at, item.order_id))


async def rejections(
    database: Database, *, channel: str | None, at_from: datetime | None, at_before: datetime | None
) -> list[RejectionCount]:
    where = Where()
    where.also("channel = {}", channel)
    where.also("at >= {}", at_from)
    where.also("at < {}", at_before)
    query = f"""
        select field, count(*) as orders, sum(reasons) as reasons, max(at) as newest_at,
               (array_agg(example order by at desc, order_id))[1] as example
        from rejections{where.text()} group by field order by orders desc, field"""  # noqa: S608  # conditions of our own alone
    return await _many(database, RejectionCount, query, *where.args)


async def rejected(database: Database, name: str, *, after: str | None, limit: int) -> Page[Rejection]:
    where = Where()
    where.also("field = {}", name)
    if after is not None:
        where.also("(at, order_id) < ({}, {})", *_key(after, datetime, str))
    query = f"select * from rejections{where.text()} order by at desc, order_id desc limit {limit + 1}"  # noqa: S608  # our own conditions
    return _page(await _many(database, Rejection, query, *where.args), limit, lambda row: (row.at, row.order_id))


async def outcomes(database: Database) -> list[Outcome]:
    return await _many(
        database,
        Outcome,
        """select status, count(*) as orders, min(since) as oldest_since
           from orders where status is not null group by status order by status""",
    )


async def letters(
    database: Database, *, service: str | None, key: str | None, waiting: bool, after: str | None, limit: int
) -> Page[Letter]:
    where = Where()
    if waiting:
        where.also("status in ('set_aside', 'parked')")
    where.also("service = {}", service)
    where.also("source_key = {}", key)
    if after is not None:
        where.also("(at, service, letter_id) < ({}, {}, {})", *_key(after, datetime, str, str))
    query = f"select * from letters{where.text()} order by at desc, service desc, letter_id desc limit {limit + 1}"  # noqa: S608
    return _page(await _many(database, Letter, query, *where.args), limit, lambda row: (row.at, row.service, row.letter_id))


async def letter(database: Database, service: str, letter_id: str) -> LetterDetail | None:
    return await _one(database, LetterDetail, "select * from letters where service = $1 and letter_id = $2", service, letter_id)


async def _payment(connection: Connection, order_id: str) -> OrderPayment | None:
    totals = await _one(connection, PaymentItem, f"{_PAYMENT} where p.order_id = $1 and p.status is not null", order_id)
    if totals is None:
        return None
    return OrderPayment(
        totals=totals,
        authorizations=await _many(
            connection, Authorization, "select * from authorizations where order_id = $1 order by at, authorization_id", order_id
        ),
        captures=await _many(connection, Capture, "select * from captures where order_id = $1 order by at, fulfillment_id", order_id),
        refunds=await _many(connection, Refund, "select * from refunds where order_id = $1 order by at, refund_id", order_id),
    )


def _entry(row: Mapping[str, Any]) -> TimelineEntry:
    return _read(TimelineEntry, {**row, "summary": summary(row["type"], row["data"])})


async def _many(source: Connection | Database, cls: type[T], query: str, *args: Any) -> list[T]:
    return [_read(cls, row) for row in await source.fetch(query, *args)]


async def _one(source: Connection | Database, cls: type[T], query: str, *args: Any) -> T | None:
    row = await source.fetchrow(query, *args)
    return None if row is None else _read(cls, row)


def _read(cls: type[T], row: Mapping[str, Any]) -> T:
    """A row as an answer. Text that is empty says that there is none."""
    return msgspec.convert({name: _plain(name, row[name]) for name in _fields(cls)}, cls)


def _plain(name: str, value: Any) -> Any:
    match value:
        case "":
            return None if name in {"action", "cancellation"} else value
        case str() if name in JSON:
            return msgspec.json.decode(value)
        case Decimal():
            return int(value)
        case _:
            return value


@cache
def _fields(cls: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


def _page(rows: list[T], limit: int, key: Callable[[T], tuple[Any, ...]]) -> Page[T]:
    more = len(rows) > limit
    return Page(items=rows[:limit], next=_cursor(key(rows[limit - 1])) if more else None)


def _cursor(key: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def _key(cursor: str, *types: type[Any]) -> tuple[Any, ...]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(text, type=tuple.__class_getitem__(types))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise UnknownCursor(f"after: {cursor!r} is not the next of an earlier page") from error
