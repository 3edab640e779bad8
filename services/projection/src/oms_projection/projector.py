"""What a batch of records means for the read models: folded in memory first, then written with one statement a table."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace
from oms_contracts.catalogue import ALL_SERVICES, topics_read_by
from oms_contracts.envelope import Envelope
from oms_contracts.message import decode, encode
from oms_contracts.operations import RecordRedriven, RecordSetAside, RedriveDeadLetters
from oms_runtime.database import Connection
from oms_runtime.model import IncomingRecord

from oms_projection.folds import dead_letters, fulfillments, orders, payments, returns, stock, tracking
from oms_projection.tables import TIMELINE, Changes

Fold = Callable[[Changes, Any, Envelope], None]


def _timeline_only(changes: Changes, event: Any, envelope: Envelope) -> None:
    """The public status is told by tracking, later than capture decides it: no read model may rest on both."""


FOLDS: dict[str, Fold] = {
    "oms.orders": orders.fold,
    "oms.stock": stock.fold,
    "oms.payments": payments.fold,
    "oms.fulfillments": fulfillments.fold,
    "oms.tracking": tracking.fold,
    "oms.returns": returns.fold,
    "oms.order-status-changes": _timeline_only,
    **{f"oms.{service}.dead-letters": dead_letters.fold for service in ALL_SERVICES},
}
"""By topic: what its events mean."""

PROJECTED = tuple(
    {cls: None for topic in topics_read_by("projection") if topic.name in FOLDS for cls in topic.messages if cls is not RedriveDeadLetters}
)
"""The messages this service wants: everything the services publish."""


async def project(connection: Connection, batch: Sequence[IncomingRecord]) -> None:
    """Bring the read models up to date with a batch, inside the transaction that moves the checkpoints."""
    await fold(batch).write(connection)


def fold(batch: Iterable[IncomingRecord]) -> Changes:
    """What a batch means. The same records give the same rows however they are cut into batches, and however topics interleave."""
    changes = Changes()
    fold_into(changes, batch)
    return changes


def fold_into(changes: Changes, batch: Iterable[IncomingRecord]) -> None:
    """Add what a batch means to what those before it meant."""
    for record in map(_storable, batch):
        envelope, message = record.envelope, record.message
        assert envelope is not None
        FOLDS[record.topic](changes, message, envelope)
        changes.append(
            TIMELINE,
            getattr(message, "order_id", None) or record.key or "",
            envelope.time,
            envelope.source,
            envelope.position,
            record.topic,
            envelope.sequence,
            envelope.type,
            envelope.causationid,
            _data(record, message),
        )


def _storable(record: IncomingRecord) -> IncomingRecord:
    """JSON can spell the character NUL, and PostgreSQL's text cannot hold it."""
    if b"\\u0000" not in record.value or record.type is None:
        return record
    value = record.value.replace(b"\\u0000", b"\\ufffd")
    return replace(record, value=value, message=decode(record.type, value))


def _data(record: IncomingRecord, message: Any) -> str:
    """A letter's record is kept with the letter; the timeline needs to know only that it was set aside."""
    match message:
        case RecordSetAside(service=service, letter_id=letter_id, reason=reason, parked=parked):
            return encode({"service": service, "letter_id": letter_id, "reason": reason, "parked": parked}).decode()
        case RecordRedriven():
            return encode(message).decode()
        case _:
            return record.value.decode()
