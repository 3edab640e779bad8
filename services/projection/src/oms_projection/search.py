"""The search: what begins with a text, or has its words; and orders by what they say of persons, which is found by keyed hashes alone.

Each part of it asks an index for a bounded number of rows, so that a search takes milliseconds however many orders there are.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from oms_runtime.customer_keys import email_hash, word_hashes, words_of
from oms_runtime.database import Connection, Database
from oms_runtime.sealing import Sealer

from oms_projection.paging import Where
from oms_projection.personal_data import names_of
from oms_projection.responses import SearchHit, SearchQuery, SearchResult

MAX_WORDS = 10
"""Of a text or a name; further ones are not looked at."""
MAX_LINES = 5_000
"""Order lines that are sorted by when they were ordered. What more lines have is looked for in the newest MAX_ORDERS orders first."""
MAX_ORDERS = 10_000
MAX_CUSTOMERS = 1_000
MAX_OPENED = 500
"""Orders of the customers that were found, whose names are opened to see which of them match: the newest."""

_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_LAST = chr(0x10FFFF)
_PACKAGES = "packages p join orders o using (order_id)"


class _Field(NamedTuple):
    """A field of an order or a package: the id of what has it, its value, its indexed form, and the tables of both."""

    kind: str
    name: str
    id: str
    value: str
    indexed: str
    tables: str


_FIELDS = (
    _Field("order", "reference", "o.order_id", "o.reference", "lower(o.reference)", "orders o"),
    _Field("order", "number", "o.order_id", "o.number", "lower(o.number)", "orders o"),
    _Field("order", "order_id", "o.order_id", "o.order_id", "o.order_id", "orders o"),
    _Field("package", "tracking_number", "p.package_id", "p.tracking_number", "lower(p.tracking_number)", _PACKAGES),
    _Field("package", "package_id", "p.package_id", "p.package_id", "lower(p.package_id)", _PACKAGES),
)
_ORDER = "o.order_id, o.channel, o.reference, o.number, o.status, o.placed_at"
_NEWEST_FIRST = "order by o.placed_at desc, o.order_id desc"


class _Found(NamedTuple):
    hits: list[SearchHit]
    more: bool = False
    """There may be more than was looked at."""


def is_email(text: str) -> bool:
    """Whether a text is an e-mail address, which must be in no URL."""
    return _EMAIL.fullmatch(text.strip()) is not None


async def search(database: Database, sealer: Sealer, wanted: SearchQuery) -> SearchResult:
    """What is found, exact matches first, at most as many as are wanted."""
    parts: list[_Found] = []
    text, limit = (wanted.q or "").strip(), wanted.limit + 1
    async with database.acquire() as connection:
        if wanted.email:
            parts.append(await _by_email(connection, email_hash(sealer, wanted.email), wanted.channel, limit))
        if words := words_of(wanted.name or "")[:MAX_WORDS]:
            parts.append(await _by_name(connection, sealer, words, wanted.channel))
        if text:
            parts += [await _beginning(connection, each, text, wanted.channel, limit) for each in _FIELDS]
            parts.append(await _products(connection, text, limit))
            parts += [await _by_lines(connection, each, text, wanted.channel, limit) for each in ("sku", "title")]
    best: dict[tuple[str, str | None, str], SearchHit] = {}
    for hit in sorted((hit for part in parts for hit in part.hits), key=lambda hit: not hit.exact):
        best.setdefault((hit.kind, hit.order_id, hit.id), hit)
    more = len(best) > wanted.limit or any(part.more for part in parts)
    return SearchResult(items=list(best.values())[: wanted.limit], more=more)


async def _beginning(connection: Connection, field: _Field, text: str, channel: str | None, limit: int) -> _Found:
    """By how a field begins. The shortest comes first, so one that is exact is found however many there are."""
    where = Where()
    where.add(*_begins(field.indexed, text))
    where.add("o.status is not null")
    where.add("o.channel = {}", channel)
    query = f"""select {_ORDER}, {field.id} as id, {field.value} as value
        from {field.tables}{where.text()} order by {field.indexed} limit {limit}"""  # noqa: S608  # conditions of our own alone
    return _Found(_hits(await connection.fetch(query, *where.args), field.kind, field.name, text))


async def _products(connection: Connection, text: str, limit: int) -> _Found:
    conditions = [("sku", "lower(sku)", *_begins("lower(sku)", text)), ("barcode", "sku", "barcode = {}", text)]
    if query := _words_query(text):
        conditions.append(("title", "sku", _HAS_WORDS.format("title"), query))
    hits: list[SearchHit] = []
    for name, by, condition, *values in conditions:
        where = Where()
        where.add(condition, *values)
        where.add("title is not null")
        found = f"select sku as id, {name} as value from products{where.text()} order by {by} limit {limit}"  # noqa: S608  # our own
        hits += _hits(await connection.fetch(found, *where.args), "product", name, text)
    return _Found(hits)


async def _by_lines(connection: Connection, name: str, text: str, channel: str | None, limit: int) -> _Found:
    """Orders, newest first, by how the SKU of a line begins, or by the words of its title."""
    matching = Where()
    if name == "sku":
        matching.add(*_begins("lower(l.sku)", text))
    elif query := _words_query(text):
        matching.add(_HAS_WORDS.format("l.title"), query)
    else:
        return _Found([])
    matching.add("l.number is not null")
    some = f"select l.order_id, l.attempt, l.{name} as value from order_lines l{matching.text()} limit {MAX_LINES + 1}"  # noqa: S608
    count = await connection.fetchval(f"select count(*) from ({some}) found", *matching.args)  # noqa: S608  # conditions of our own
    of_order = Where(args=list(matching.args))
    of_order.add("o.status is not null")
    of_order.add("o.placed_at is not null")
    of_order.add("o.channel = {}", channel)
    sorted_lines = f"""with found as materialized ({some})
        select {_ORDER}, o.order_id as id, min(f.value) as value from found f join orders o using (order_id){of_order.text()}
        and f.attempt is not distinct from o.accepted_attempt group by o.order_id {_NEWEST_FIRST} limit {limit}"""  # noqa: S608
    newest_orders = f"""select {_ORDER}, o.order_id as id, l.value
        from (select * from orders o{of_order.text()} {_NEWEST_FIRST} limit {MAX_ORDERS}) o
        cross join lateral (select l.{name} as value from order_lines l{matching.text()} and l.order_id = o.order_id
            and l.attempt is not distinct from o.accepted_attempt limit 1) l
        {_NEWEST_FIRST} limit {limit}"""  # noqa: S608  # conditions of our own alone
    rows = await connection.fetch(newest_orders, *of_order.args) if count > MAX_LINES else []
    if len(rows) < limit:
        rows += await connection.fetch(sorted_lines, *of_order.args)
    return _Found(_hits(rows, "order", name, text), count > MAX_LINES)


async def _by_email(connection: Connection, email: str, channel: str | None, limit: int) -> _Found:
    keys = await connection.fetch("select key_id from customers where email = $1 and email <> '' limit $2", email, MAX_CUSTOMERS)
    rows = await _orders_of(connection, [row["key_id"] for row in keys], channel, limit)
    return _Found([_hit(row, "order", "customer_email", None, exact=True) for row in rows], len(keys) == MAX_CUSTOMERS)


async def _by_name(connection: Connection, sealer: Sealer, words: list[str], channel: str | None) -> _Found:
    """Orders in which one name has all of the words. A customer's hashes are of the names in all orders, so they are opened to see."""
    hashes = word_hashes(sealer, words)
    keys = await connection.fetch("select key_id from customers where words @> $1::text[] limit $2", hashes, MAX_CUSTOMERS)
    rows = await _orders_of(connection, [row["key_id"] for row in keys], channel, MAX_OPENED)
    hits: list[SearchHit] = []
    for row, names in zip(rows, await names_of(connection, sealer, rows), strict=True):
        found = {name: set(words_of(text)) for name, text in names.items()}
        matching = sorted((len(each), name) for name, each in found.items() if each.issuperset(words))
        if matching:
            count, name = matching[0]
            hits.append(_hit(row, "order", name, None, exact=count == len(words)))
    return _Found(hits, len(keys) == MAX_CUSTOMERS or len(rows) == MAX_OPENED)


async def _orders_of(connection: Connection, key_ids: list[str], channel: str | None, limit: int) -> list[Mapping[str, Any]]:
    """The newest orders of these customers."""
    where = Where()
    where.add("o.key_id = any({}::text[])", key_ids)
    where.add("o.status is not null")
    where.add("o.placed_at is not null")
    where.add("o.channel = {}", channel)
    columns = f"{_ORDER}, o.order_id as id, o.key_id, o.sealed, o.personal"
    query = f"select {columns} from orders o{where.text()} {_NEWEST_FIRST} limit {limit}"  # noqa: S608  # conditions of our own alone
    return [dict(row) for row in await connection.fetch(query, *where.args)] if key_ids else []


_HAS_WORDS = "to_tsvector('simple', {}) @@ to_tsquery('simple', {{}})"


def _words_query(text: str) -> str:
    """PostgreSQL's query for titles with words that begin so; empty where the text has no words."""
    return " & ".join(f"'{word}':*" for word in re.findall(r"\w+", text)[:MAX_WORDS])


def _begins(column: str, text: str) -> tuple[str, str, str]:
    """The condition that a column, in lower case and collated by bytes, begins with a text, and its arguments."""
    return f'{column} >= lower({{}} collate "C") and {column} < lower({{}} collate "C")', text, text + _LAST


def _hits(rows: Iterable[Mapping[str, Any]], kind: str, field: str, text: str) -> list[SearchHit]:
    """Rows as hits, exact where the value is the text."""
    return [_hit(row, kind, field, row["value"], exact=row["value"].lower() == text.lower()) for row in rows]


def _hit(row: Mapping[str, Any], kind: str, field: str, value: str | None, *, exact: bool) -> SearchHit:
    order = {name: row.get(name) for name in ("order_id", "channel", "reference", "number", "status", "placed_at")}
    return SearchHit(kind=kind, id=row["id"], field=field, value=value, exact=exact, **order)
