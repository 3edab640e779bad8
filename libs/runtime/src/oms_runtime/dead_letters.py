"""The dead-letter queue: records set aside with reason, stack and origin, and the records of the same key that wait behind them.

A dead letter stays in the table until it is redriven. Each step is also an event on the service's dead-letter topic, where operators look.
"""

import base64
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from oms_contracts.envelope import header
from oms_contracts.operations import RecordRedriven, RecordSetAside

from oms_runtime.database import Connection, DbRow
from oms_runtime.model import IncomingRecord
from oms_runtime.unit_of_work import Cause, UnitOfWork

PARKED = "an earlier record of this key was set aside; this one waits behind it"
MAX_REASON_CHARACTERS = 4_000
MAX_STACK_CHARACTERS = 8_000
MAX_STACK_ENTRIES = 30


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """One service's dead letters, announced on `topic`."""

    service: str
    topic: str

    async def set_aside(self, connection: Connection, unit: UnitOfWork, record: IncomingRecord, error: Exception | None) -> None:
        """Keep `record` for an operator; `error` is None for a record that is only parked behind another."""
        reason, stack = explain(error) if error else (PARKED, "")
        await connection.execute(
            """insert into dead_letters
               (letter_id, source_topic, source_partition, source_offset, source_key, headers, value, reason, attempts, parked, at)
               values ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10)""",
            letter_id(record),
            record.topic,
            record.partition,
            record.offset,
            record.key or "",
            _headers_text(record),
            record.value,
            reason,
            error is None,
            unit.now,
        )
        self._announce(unit, record, 1, (reason, stack), parked=error is None)

    async def failed_again(self, connection: Connection, unit: UnitOfWork, record: IncomingRecord, attempts: int, error: Exception) -> None:
        """The redrive failed: the dead letter stays, with the new reason. `attempts` counts this one."""
        reason, stack = explain(error)
        await connection.execute(
            "update dead_letters set attempts = $2, reason = $3, parked = false, at = $4 where letter_id = $1",
            letter_id(record),
            attempts,
            reason,
            unit.now,
        )
        self._announce(unit, record, attempts, (reason, stack), parked=False)

    async def redriven(self, connection: Connection, unit: UnitOfWork, record: IncomingRecord, attempts: int, *, discarded: bool) -> None:
        """The record was applied, or discarded as asked: delete the dead letter, and announce it. `attempts` counts this one."""
        await connection.execute("delete from dead_letters where letter_id = $1", letter_id(record))
        event = RecordRedriven(
            letter_id=letter_id(record), service=self.service, source_key=record.key or "", discarded=discarded, at=unit.now
        )
        self._append(unit, record, attempts, event)

    def _announce(self, unit: UnitOfWork, record: IncomingRecord, attempts: int, why: tuple[str, str], *, parked: bool) -> None:
        reason, stack = why
        event = RecordSetAside(
            letter_id=letter_id(record),
            service=self.service,
            source_topic=record.topic,
            source_partition=record.partition,
            source_offset=record.offset,
            source_key=record.key or "",
            source_type=record.type or "",
            reason=reason,
            stack=stack,
            value=base64.b64encode(record.value).decode(),
            headers={name: (value or b"").decode("utf-8", "replace") for name, value in record.headers},
            attempts=attempts,
            parked=parked,
            at=unit.now,
        )
        self._append(unit, record, attempts, event)

    def _append(self, unit: UnitOfWork, record: IncomingRecord, attempts: int, event: RecordSetAside | RecordRedriven) -> None:
        # A service that reads its own dead-letter topic and fails there would announce that failure on it, and fail at it again, for ever.
        if record.topic != self.topic:
            unit.append(event, _stream(record), attempts, self.topic, _cause(record))


async def blocked_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of `keys` that have dead letters, so that later records of theirs must wait."""
    if not keys:
        return set()
    found = await connection.fetch("select distinct source_key from dead_letters where source_key = any($1::text[])", keys)
    return {row["source_key"] for row in found}


async def count_dead_letters(connection: Connection) -> int:
    """How many records are set aside or parked."""
    return await connection.fetchval("select count(*) from dead_letters")


async def dead_letters_of(connection: Connection, key: str) -> list[tuple[IncomingRecord, int]]:
    """The dead letters of a key in the order they came, each with the number of attempts so far."""
    found = await connection.fetch("select * from dead_letters where source_key = $1 order by sequence", key)
    return [(_record(row), row["attempts"]) for row in found]


async def replace_value(connection: Connection, letter: str, value: bytes) -> None:
    """Replace the value of a dead letter by what an operator corrected."""
    await connection.execute("update dead_letters set value = $2 where letter_id = $1", letter, value)


def letter_id(record: IncomingRecord) -> str:
    """The id of a record's dead letter: topic, partition and offset, so it is unique and anybody can find the record."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def explain(error: Exception) -> tuple[str, str]:
    """Reason and stack of an error, bounded, without NUL, which PostgreSQL's text cannot hold."""
    reason = f"{type(error).__name__}: {error}".replace("\0", "\ufffd")
    stack = "".join(traceback.format_exception(error)[-MAX_STACK_ENTRIES:]).replace("\0", "\ufffd")
    return reason[:MAX_REASON_CHARACTERS], stack[-MAX_STACK_CHARACTERS:]


def _record(row: DbRow) -> IncomingRecord:
    headers = [(name, value.encode("latin-1")) for name, value in msgspec.json.decode(row["headers"], type=list[tuple[str, str]])]
    return IncomingRecord(
        topic=row["source_topic"],
        partition=row["source_partition"],
        offset=row["source_offset"],
        key=row["source_key"],
        headers=headers,
        value=row["value"],
        type=header(headers, "ce_type"),
        position=None,
    )


def _stream(record: IncomingRecord) -> str:
    return f"letter/{letter_id(record)}"


def _cause(record: IncomingRecord) -> Cause:
    return Cause(correlation_id=record.key or "", causation_id=letter_id(record))


def _headers_text(record: IncomingRecord) -> str:
    pairs: Any = [(name.replace("\0", "\ufffd"), (value or b"").decode("latin-1")) for name, value in record.headers]
    return msgspec.json.encode(pairs).decode()
