"""The read models' tables, and how a change meets the row that is there.

A column is one of two kinds, and with that the rows come out the same in whatever order the topics reach us:
- `last`: the newest value stands. Only one topic may write it, because order is kept within a topic only. A value that is None says
  nothing, and the row keeps what it has.
- `sums`: amounts are added, in any order.

A column that can become null again is `tied` to another: it is replaced whenever that one is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from oms_runtime.database import Connection

Key = tuple[Any, ...]
Row = dict[str, Any]

TEXT, COUNT, AMOUNT, MOMENT = "text", "bigint", "numeric", "timestamptz"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """One read model. `key`, `last` and `sums` give its columns and their types; rows of an `append` table never change."""

    name: str
    key: Mapping[str, str]
    last: Mapping[str, str] = field(default_factory=dict[str, str])
    sums: Sequence[str] = ()
    tied: Mapping[str, str] = field(default_factory=dict[str, str])
    append: bool = False
    statement: str = field(init=False)
    """Takes rows as `rows_of` writes them. Not used where rows never change: those are copied in."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "statement", _statement(self))


def _statement(table: Table) -> str:
    types = ", ".join(f"{name} {kind}" for name, kind in {**table.key, **table.last, **dict.fromkeys(table.sums, COUNT)}.items())
    columns = ", ".join((*table.key, *table.last, *table.sums))
    values = ", ".join((*table.key, *table.last, *(f"coalesce({name}, 0)" for name in table.sums)))
    news = [
        *(
            f"{name} = case when excluded.{table.tied[name]} is null then was.{name} else excluded.{name} end"
            if name in table.tied
            else f"{name} = coalesce(excluded.{name}, was.{name})"
            for name in table.last
        ),
        *(f"{name} = was.{name} + excluded.{name}" for name in table.sums),
    ]
    return (
        f"insert into {table.name} as was ({columns}) select {values} from json_to_recordset($1) as news ({types}) "  # noqa: S608  # our own names
        f"on conflict ({', '.join(table.key)}) do update set {', '.join(news)}"
    )


_ORDER = {"order_id": TEXT}

ORDERS = Table(
    name="orders",
    key=_ORDER,
    last={
        "channel": TEXT,
        "reference": TEXT,
        "customer_id": TEXT,
        "customer_email": TEXT,
        "currency": TEXT,
        "line_count": COUNT,
        "units": COUNT,
        "shipping": COUNT,
        "total": COUNT,
        "payment_kind": TEXT,
        "delivery": TEXT,
        "ship_to": TEXT,
        "location": TEXT,
        "placed_at": MOMENT,
        "received_at": MOMENT,
        "status": TEXT,
        "since": MOMENT,
        "attempt": COUNT,
        "action": TEXT,
        "action_reason": TEXT,
        "action_since": MOMENT,
        "deadline": MOMENT,
        "cancellation": TEXT,
        "ended_because": TEXT,
        "updated_at": MOMENT,
    },
    sums=("conflicts",),
    tied={"action_reason": "action", "action_since": "action", "deadline": "action"},
)

ORDER_LINES = Table(
    name="order_lines",
    key=_ORDER | {"line_id": TEXT},
    last={"number": COUNT, "sku": TEXT, "quantity": COUNT, "unit_price": AMOUNT, "discount": AMOUNT, "total": COUNT},
    sums=("shipped", "delivered", "returned"),
)

REJECTIONS = Table(
    name="rejections",
    key=_ORDER | {"field": TEXT},
    last={"channel": TEXT, "example": TEXT, "at": MOMENT},
    sums=("reasons",),
)

TIMELINE = Table(
    name="timeline",
    key={"subject": TEXT, "time": MOMENT, "source": TEXT, "position": COUNT},
    last={"topic": TEXT, "sequence": COUNT, "type": TEXT, "causation": TEXT, "data": TEXT},
    append=True,
)

STOCK = Table(name="stock", key={"sku": TEXT, "location": TEXT}, sums=("on_hand", "reserved", "allocated"))

STOCK_LEDGER = Table(
    name="stock_ledger",
    key={"sku": TEXT, "position": COUNT, "line": COUNT},
    last={"location": TEXT, "kind": TEXT, "quantity": COUNT, "reference": TEXT, "order_id": TEXT, "reason": TEXT, "at": MOMENT},
    append=True,
)

ORDER_STOCK = Table(
    name="order_stock",
    key=_ORDER,
    last={"status": TEXT, "attempt": COUNT, "lines": TEXT, "shortages": TEXT, "expires_at": MOMENT, "at": MOMENT},
    sums=("reserved", "allocated", "shipped"),
    tied={"shortages": "status", "expires_at": "status"},
)

PAYMENTS = Table(
    name="payments",
    key=_ORDER,
    last={
        "currency": TEXT,
        "status": TEXT,
        "at": MOMENT,
        "attempt": COUNT,
        "next_check_at": MOMENT,
        "failure": TEXT,
    },
    sums=("failures", "authorized", "captured", "refunded"),
    tied={"next_check_at": "status"},
)

AUTHORIZATIONS = Table(
    name="authorizations",
    key=_ORDER | {"authorization_id": TEXT},
    last={"attempt": COUNT, "amount": COUNT, "at": MOMENT, "voided_at": MOMENT, "void_failure": TEXT},
)

CAPTURES = Table(
    name="captures",
    key=_ORDER | {"fulfillment_id": TEXT},
    last={"status": TEXT, "requested": COUNT, "lines": TEXT, "failure": TEXT, "at": MOMENT},
    sums=("captured", "times"),
)

REFUNDS = Table(
    name="refunds",
    key=_ORDER | {"refund_id": TEXT},
    last={"status": TEXT, "requested": COUNT, "reason": TEXT, "at": MOMENT},
    sums=("refunded", "times"),
)

DELIVERIES = Table(
    name="deliveries",
    key=_ORDER,
    last={"canceled_at": MOMENT, "canceled_reason": TEXT, "last_shipped_at": MOMENT},
    sums=("planned", "shipped", "delivered"),
)

FULFILLMENTS = Table(
    name="fulfillments",
    key=_ORDER | {"fulfillment_id": TEXT},
    last={
        "location": TEXT,
        "delivery": TEXT,
        "status": TEXT,
        "lines": TEXT,
        "planned_at": MOMENT,
        "at": MOMENT,
        "shipped_at": MOMENT,
    },
    sums=("packages",),
)

PACKAGES = Table(
    name="packages",
    key=_ORDER | {"package_id": TEXT},
    last={
        "fulfillment_id": TEXT,
        "lines": TEXT,
        "packed_at": MOMENT,
        "carrier": TEXT,
        "tracking_number": TEXT,
        "shipped_at": MOMENT,
        "status": TEXT,
        "status_at": MOMENT,
        "trouble": TEXT,
    },
    sums=("late_scans",),
)

RETURN_WINDOWS = Table(name="return_windows", key=_ORDER, last={"opened_at": MOMENT, "closes_at": MOMENT})

RETURNS = Table(
    name="returns",
    key=_ORDER | {"return_id": TEXT},
    last={
        "status": TEXT,
        "at": MOMENT,
        "lines": TEXT,
        "inspected": TEXT,
        "location": TEXT,
        "reason": TEXT,
        "expires_at": MOMENT,
        "requested_at": MOMENT,
        "refund_requested": COUNT,
        "outcome": TEXT,
        "refunded": COUNT,
        "action": TEXT,
        "deadline": MOMENT,
    },
    sums=("received",),
    tied={"deadline": "action"},
)

LETTERS = Table(
    name="letters",
    key={"service": TEXT, "letter_id": TEXT},
    last={
        "status": TEXT,
        "at": MOMENT,
        "source_topic": TEXT,
        "source_partition": COUNT,
        "source_offset": COUNT,
        "source_key": TEXT,
        "source_type": TEXT,
        "reason": TEXT,
        "stack": TEXT,
        "headers": TEXT,
        "value": TEXT,
        "attempts": COUNT,
    },
)

TABLES = (
    ORDERS,
    ORDER_LINES,
    REJECTIONS,
    TIMELINE,
    STOCK,
    STOCK_LEDGER,
    ORDER_STOCK,
    PAYMENTS,
    AUTHORIZATIONS,
    CAPTURES,
    REFUNDS,
    DELIVERIES,
    FULFILLMENTS,
    PACKAGES,
    RETURN_WINDOWS,
    RETURNS,
    LETTERS,
)


class Changes:
    """What records mean for the read models: for each table the rows concerned, with the columns they say something about.

    Rows of `append` tables are whole at once, and kept in `news`: key and `last` columns, in the table's order.
    """

    def __init__(self) -> None:
        self.rows: dict[Table, dict[Key, Row]] = {table: {} for table in TABLES if not table.append}
        self.news: dict[Table, list[Key]] = {table: [] for table in TABLES if table.append}

    def set(self, table: Table, *key: Any, **values: Any) -> None:
        """The newest values of `last` columns. A tied column must be given whenever the column it is tied to is."""
        row = self.rows[table].setdefault(key, values)
        if row is not values:
            # As the statement does: two events in one batch must leave what they leave in two.
            for name, value in values.items():
                if value is not None or name in table.tied:
                    row[name] = value

    def add(self, table: Table, *key: Any, **amounts: int) -> None:
        """What is added to `sums` columns."""
        row = self.rows[table].setdefault(key, amounts)
        if row is not amounts:
            for name, amount in amounts.items():
                row[name] = row.get(name, 0) + amount

    def append(self, table: Table, *values: Any) -> None:
        """A row of an `append` table: all columns of the key, then all others, in the table's order."""
        self.news[table].append(values)

    async def write(self, connection: Connection) -> None:
        """Bring the tables up to date, with one statement for each that is concerned."""
        for table, rows in self.rows.items():
            if rows:
                await connection.execute(table.statement, rows_of(table, rows))
        for table, news in self.news.items():
            if news:
                await connection.copy_records_to_table(table.name, records=news, columns=(*table.key, *table.last))


def rows_of(table: Table, rows: Mapping[Key, Row]) -> str:
    """The rows as `table.statement` takes them, in key order: as JSON, which leaves out what a row does not say.

    An array a column would say it all, and asyncpg would ask every value whether it is an array in turn: that took a quarter of the time.
    """
    return _encoder.encode([dict(zip(table.key, key, strict=True)) | rows[key] for key in sorted(rows)]).decode()


_encoder = msgspec.json.Encoder()
