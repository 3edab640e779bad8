"""The read models' tables, and the upsert that merges a change into a row.

A column is one of two kinds, so that the rows are the same in whatever order the topics are read:
- `last`: the newest value is kept. Only one topic may write it, because only records of one topic stay in order. None is no value: the row
  keeps what it has.
- `sums`: amounts are added, in any order.

A column that can become null again is `tied` to another: it is replaced whenever that one is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

READ_MODELS_VERSION = 6
"""Raised, never lowered, when a table or a fold changes: the tables of a new version are built beside those in use (see `versions`)."""
DEFINITIONS = (files("oms_projection") / "read_models.sql").read_text()
"""The tables of this version, as SQL."""

TEXT, COUNT, AMOUNT, MOMENT, TEXTS = "text", "bigint", "numeric", "timestamptz", "text[]"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """One read model. `key`, `last` and `sums` give its columns and their types; the rows of an `append` table never change."""

    name: str
    key: Mapping[str, str]
    last: Mapping[str, str] = field(default_factory=dict[str, str])
    sums: Sequence[str] = ()
    tied: Mapping[str, str] = field(default_factory=dict[str, str])
    append: bool = False
    statement: str = field(init=False)
    """The upsert of rows in the form of `changes.rows_of`. Not used for an `append` table: its rows are copied in."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "statement", _statement(self))


def _statement(table: Table) -> str:
    types = ", ".join(f"{name} {kind}" for name, kind in {**table.key, **table.last, **dict.fromkeys(table.sums, COUNT)}.items())
    columns = ", ".join((*table.key, *table.last, *table.sums))
    values = ", ".join((*table.key, *table.last, *(f"coalesce({name}, 0)" for name in table.sums)))
    updates = [
        *(
            f"{name} = case when excluded.{table.tied[name]} is null then was.{name} else excluded.{name} end"
            if name in table.tied
            else f"{name} = coalesce(excluded.{name}, was.{name})"
            for name in table.last
        ),
        *(f"{name} = was.{name} + excluded.{name}" for name in table.sums),
    ]
    return (
        f"insert into {table.name} as was ({columns}) select {values} from json_to_recordset($1) as changed ({types}) "  # noqa: S608  # our own names
        f"on conflict ({', '.join(table.key)}) do update set {', '.join(updates)}"
    )


_ORDER = {"order_id": TEXT}

OPTIONAL_PARTS = ("key_id", "sealed", "personal", "number", "payments", "promise", "purchase_order", "tags", "attributes", "location")
"""What an accepted order may lack. Content that is accepted after other content was rejected replaces all of it."""

ORDERS = Table(
    name="orders",
    key=_ORDER,
    last={
        "channel": TEXT,
        "reference": TEXT,
        "key_id": TEXT,
        "sealed": TEXT,
        "personal": TEXT,
        "number": TEXT,
        "currency": TEXT,
        "line_count": COUNT,
        "units": COUNT,
        "taxes_included": COUNT,
        "taxes": COUNT,
        "discount": COUNT,
        "shipping": COUNT,
        "fees": COUNT,
        "total": COUNT,
        "collected": COUNT,
        "payment_kind": TEXT,
        "payments": TEXT,
        "delivery": TEXT,
        "promise": TEXT,
        "purchase_order": TEXT,
        "tags": TEXT,
        "attributes": TEXT,
        "location": TEXT,
        "placed_at": MOMENT,
        "received_at": MOMENT,
        "status": TEXT,
        "since": MOMENT,
        "attempt": COUNT,
        "accepted_attempt": COUNT,
        "action": TEXT,
        "action_reason": TEXT,
        "action_since": MOMENT,
        "deadline": MOMENT,
        "deadline_set_at": MOMENT,
        "cancellation": TEXT,
        "ended_because": TEXT,
        "updated_at": MOMENT,
    },
    sums=("conflicts",),
    tied={
        **{"action_reason": "action", "action_since": "action", "deadline": "deadline_set_at", "ended_because": "status"},
        **dict.fromkeys(OPTIONAL_PARTS, "accepted_attempt"),
    },
)

ORDER_LINES = Table(
    name="order_lines",
    key=_ORDER | {"line_id": TEXT},
    last={
        "attempt": COUNT,
        "number": COUNT,
        "sku": TEXT,
        "title": TEXT,
        "quantity": COUNT,
        "unit_price": AMOUNT,
        "discount": AMOUNT,
        "taxes": COUNT,
        "total": COUNT,
        "charge": COUNT,
        "shippable": COUNT,
    },
    sums=("shipped", "delivered", "returned"),
)

CUSTOMERS = Table(
    name="customers",
    key={"key_id": TEXT},
    last={"wrapped_key": TEXT, "customer": TEXT, "email": TEXT, "words": TEXTS},
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
    last={"topic": TEXT, "sequence": COUNT, "type": TEXT, "causation": TEXT, "actor": TEXT, "reason": TEXT, "data": TEXT},
    append=True,
)

STOCK = Table(name="stock", key={"sku": TEXT, "location": TEXT}, sums=("on_hand", "reserved", "allocated", "quarantined", "in_transit"))

STOCK_LEDGER = Table(
    name="stock_ledger",
    key={"sku": TEXT, "position": COUNT, "line": COUNT},
    last={
        **{"location": TEXT, "kind": TEXT, "quantity": COUNT, "quarantined": COUNT, "reference": TEXT},
        **{"order_id": TEXT, "reason_code": TEXT, "reason": TEXT, "at": MOMENT},
    },
    append=True,
)

STOCK_LIMITS = Table(
    name="stock_limits",
    key={"sku": TEXT, "location": TEXT},
    last={"safety": COUNT, "reorder_point": COUNT, "maximum": COUNT, "at": MOMENT},
    tied={"reorder_point": "at", "maximum": "at"},
)

STOCK_SIGNALS = Table(
    name="stock_signals",
    key={"sku": TEXT, "location": TEXT, "signal": TEXT},
    last={"holds": COUNT, "at": MOMENT, "deadline": MOMENT},
    tied={"deadline": "at"},
)

TRANSFERS = Table(
    name="transfers",
    key={"transfer_id": TEXT},
    last={
        **{"from_location": TEXT, "to_location": TEXT, "reason": TEXT, "sent_at": MOMENT, "at": MOMENT},
        **{"deadline": MOMENT, "action": TEXT, "closed_at": MOMENT, "closed_reason": TEXT},
    },
)

TRANSFER_LINES = Table(name="transfer_lines", key={"transfer_id": TEXT, "sku": TEXT}, sums=("sent", "received", "written_off"))

ORDER_STOCK = Table(
    name="order_stock",
    key=_ORDER,
    last={"status": TEXT, "attempt": COUNT, "lines": TEXT, "shortages": TEXT, "unknown_skus": TEXT, "expires_at": MOMENT, "at": MOMENT},
    sums=("reserved", "allocated", "shipped"),
    tied={"shortages": "status", "unknown_skus": "status", "expires_at": "status"},
)

PRODUCTS = Table(
    name="products",
    key={"sku": TEXT},
    last={
        "title": TEXT,
        "barcode": TEXT,
        "unit": TEXT,
        "weight_grams": COUNT,
        "requires_shipping": COUNT,
        "active": COUNT,
        "defined_at": MOMENT,
        "updated_at": MOMENT,
    },
    tied={"barcode": "title", "weight_grams": "title"},
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
        "to_collect": COUNT,
        "collect_by": MOMENT,
    },
    sums=("failures", "authorized", "captured", "refunded", "written_off"),
    tied={"next_check_at": "status", "collect_by": "to_collect"},
)

AUTHORIZATIONS = Table(
    name="authorizations",
    key=_ORDER | {"authorization_id": TEXT},
    last={"attempt": COUNT, "amount": COUNT, "at": MOMENT, "expired_at": MOMENT, "voided_at": MOMENT, "void_failure": TEXT},
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

DEAD_LETTERS = Table(
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
    CUSTOMERS,
    ORDER_LINES,
    REJECTIONS,
    TIMELINE,
    STOCK,
    STOCK_LEDGER,
    STOCK_LIMITS,
    STOCK_SIGNALS,
    TRANSFERS,
    TRANSFER_LINES,
    ORDER_STOCK,
    PRODUCTS,
    PAYMENTS,
    AUTHORIZATIONS,
    CAPTURES,
    REFUNDS,
    DELIVERIES,
    FULFILLMENTS,
    PACKAGES,
    RETURN_WINDOWS,
    RETURNS,
    DEAD_LETTERS,
)
