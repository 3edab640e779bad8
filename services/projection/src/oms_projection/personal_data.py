"""Orders' personal data in answers: opened for whoever asks, and stored sealed."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from oms_contracts.order_parts import PersonalData, SealedData, names_in
from oms_runtime.customer_keys import open_with
from oms_runtime.database import Connection, Database
from oms_runtime.sealing import BrokenSeal, Sealer

log = structlog.get_logger(__name__)

Row = Mapping[str, Any]


async def with_personal_data(source: Connection | Database, sealer: Sealer, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows of orders with what they say of persons; without it where the customer was erased, or the key has not arrived yet."""
    keys = await _keys_of(source, rows)
    return [{**row, **_personal_fields(sealer, row, keys)} for row in rows]


async def names_of(source: Connection | Database, sealer: Sealer, rows: Sequence[Row]) -> list[dict[str, str]]:
    """The names in each of these rows of orders, by where they are."""
    keys = await _keys_of(source, rows)
    opened = [_personal_data(sealer, row, keys) for row in rows]
    return [{} if personal is None else names_in(personal) for personal in opened]


async def _keys_of(source: Connection | Database, rows: Sequence[Row]) -> dict[str, str]:
    key_ids = {key_id for row in rows if (key_id := row.get("key_id"))}
    if not key_ids:
        return {}
    found = await source.fetch("select key_id, wrapped_key from customers where key_id = any($1::text[])", sorted(key_ids))
    return {row["key_id"]: row["wrapped_key"] for row in found}


def _personal_fields(sealer: Sealer, row: Row, keys: Mapping[str, str]) -> dict[str, Any]:
    if "sealed" not in row:
        return {}  # read models of an older version have columns for it
    personal = _personal_data(sealer, row, keys)
    erased = {"customer_erased": keys.get(row["key_id"] or "") == ""}
    return (_NOTHING if personal is None else _fields_of(personal)) | erased


def _personal_data(sealer: Sealer, row: Row, keys: Mapping[str, str]) -> PersonalData | None:
    key_id: str = row["key_id"] or ""
    data: str | bytes | None = row["personal"]
    if key_id:
        try:
            data = open_with(sealer, keys.get(key_id, ""), row["order_id"], SealedData(key_id=key_id, data=row["sealed"]))
        except BrokenSeal:  # one order must not take its whole page away
            log.exception("personal_data_unreadable", order_id=row["order_id"], key_id=key_id)
    return msgspec.json.decode(data, type=PersonalData) if data else None


def _fields_of(personal: PersonalData) -> dict[str, Any]:
    customer = personal.customer
    parts: dict[str, Any] = msgspec.to_builtins(personal)
    return {
        "customer_id": customer.id,
        "customer_email": customer.email,
        "customer_name": customer.name,
        "customer_phone": customer.phone,
        **{name: parts[name] for name in ("ship_to", "bill_to", "pickup", "note", "gift")},
    }


_NOTHING: dict[str, Any] = dict.fromkeys(
    ("customer_id", "customer_email", "customer_name", "customer_phone", "ship_to", "bill_to", "pickup", "note", "gift")
)
