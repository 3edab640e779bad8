"""From a batch of records to the read models: folded in memory first, then written with one statement for each table."""

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace
from oms_contracts.catalogue import ALL_SERVICES, topics_read_by
from oms_contracts.dead_letters import RecordRedriven, RecordSetAside, RedriveDeadLetters
from oms_contracts.envelope import Envelope
from oms_contracts.message import decode, encode
from oms_runtime.customer_keys import KEY_MESSAGES
from oms_runtime.database import Connection
from oms_runtime.model import IncomingRecord

from oms_projection.changes import Changes
from oms_projection.folds import customers, dead_letters, fulfillments, orders, payments, products, returns, stock, tracking
from oms_projection.tables import TIMELINE

Fold = Callable[[Changes, object, Envelope], None]


def _timeline_only(changes: Changes, event: object, envelope: Envelope) -> None:
    """Tracking publishes the public status later than capture the status itself, so no read model may depend on both."""


FOLDS: dict[str, Fold] = {
    "oms.orders": orders.fold,
    "oms.stock": stock.fold,
    "oms.products": products.fold,
    "oms.payments": payments.fold,
    "oms.fulfillments": fulfillments.fold,
    "oms.tracking": tracking.fold,
    "oms.returns": returns.fold,
    "oms.order-status-changes": _timeline_only,
    "oms.customer-keys": customers.fold,
    **{f"oms.{service}.dead-letters": dead_letters.fold for service in ALL_SERVICES},
}
"""By topic: how its events are folded."""

PROJECTED = frozenset(
    cls for topic in topics_read_by("projection") if topic.name in FOLDS for cls in topic.messages if cls is not RedriveDeadLetters
)
"""The messages that this service handles: all events of all services."""


async def project(connection: Connection, batch: Sequence[IncomingRecord]) -> None:
    """Bring the read models up to date with a batch, inside the transaction that moves the checkpoints."""
    await fold(batch).write(connection)


def fold(batch: Iterable[IncomingRecord]) -> Changes:
    """The changes of a batch. The same records give the same rows however they are cut into batches, and however topics interleave."""
    changes = Changes()
    fold_into(changes, batch)
    return changes


def fold_into(changes: Changes, batch: Iterable[IncomingRecord]) -> None:
    """Add a batch's changes to those of the batches before it."""
    for record in map(_storable, batch):
        envelope, message = record.envelope, record.message
        assert envelope is not None
        FOLDS[record.topic](changes, message, envelope)
        if isinstance(message, KEY_MESSAGES):
            continue  # a key must be nowhere but where it is erased
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
            envelope.actor or None,
            envelope.reason or None,
            _data(record, message),
        )


def _storable(record: IncomingRecord) -> IncomingRecord:
    """The record without NUL, which JSON can escape and PostgreSQL's text cannot hold."""
    if b"\\u0000" not in record.value or record.type is None:
        return record
    value = record.value.replace(b"\\u0000", b"\\ufffd")
    return replace(record, value=value, message=decode(record.type, value))


def _data(record: IncomingRecord, message: object) -> str:
    """The event's data for the timeline. The record of a dead letter is stored with the dead letter, and left out here."""
    match message:
        case RecordSetAside(service=service, letter_id=letter_id, reason=reason, parked=parked):
            return encode({"service": service, "letter_id": letter_id, "reason": reason, "parked": parked}).decode()
        case RecordRedriven():
            return encode(message).decode()
        case _:
            return record.value.decode()
