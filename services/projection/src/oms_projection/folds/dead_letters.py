"""oms.<service>.dead-letters: the records that each service set aside, and whether they were redriven or discarded."""

from oms_contracts.dead_letters import RecordRedriven, RecordSetAside
from oms_contracts.envelope import Envelope
from oms_contracts.message import encode

from oms_projection.changes import Changes
from oms_projection.tables import DEAD_LETTERS


def fold(changes: Changes, event: object, envelope: Envelope) -> None:
    """Add one event to `changes`."""
    match event:
        case RecordSetAside():
            changes.set(
                DEAD_LETTERS,
                event.service,
                event.letter_id,
                status="parked" if event.parked else "set_aside",
                at=event.at,
                source_topic=event.source_topic,
                source_partition=event.source_partition,
                source_offset=event.source_offset,
                source_key=event.source_key,
                source_type=event.source_type,
                reason=event.reason,
                stack=event.stack,
                headers=encode(event.headers).decode(),
                value=event.value,
                attempts=event.attempts,
            )
        case RecordRedriven(service=service, letter_id=letter_id, discarded=discarded, at=at):
            changes.set(DEAD_LETTERS, service, letter_id, status="discarded" if discarded else "redriven", at=at)
        case _:
            pass
