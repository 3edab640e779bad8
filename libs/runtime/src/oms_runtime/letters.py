"""Dead letters: records set aside with the reason, the stack and their origin, and what waits behind them.

A letter lives in the table until it is redriven; each step is also an event on the service's dead-letter topic, where operators look.
"""

import base64
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from oms_contracts.envelope import header
from oms_contracts.operations import RecordRedriven, RecordSetAside

from oms_runtime.database import Connection, Record
from oms_runtime.model import Received
from oms_runtime.store import Cause, Work

PARKED = "an earlier record of this key was set aside; this one waits behind it"


@dataclass(frozen=True, slots=True)
class Letters:
    """One service's dead letters, announced on `topic`."""

    service: str
    topic: str

    async def set_aside(self, connection: Connection, work: Work, record: Received, error: Exception | None) -> None:
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
            work.now,
        )
        self._announce(work, record, 1, (reason, stack), parked=error is None)

    async def failed_again(self, connection: Connection, work: Work, record: Received, attempts: int, error: Exception) -> None:
        """The letter failed once more: it stays, with the new reason. `attempts` counts this one."""
        reason, stack = explain(error)
        await connection.execute(
            "update dead_letters set attempts = $2, reason = $3, parked = false, at = $4 where letter_id = $1",
            letter_id(record),
            attempts,
            reason,
            work.now,
        )
        self._announce(work, record, attempts, (reason, stack), parked=False)

    async def redriven(self, connection: Connection, work: Work, record: Received, attempts: int, *, discarded: bool) -> None:
        """The letter was applied, or discarded at an operator's word: forget it, and say so. `attempts` counts this one."""
        await connection.execute("delete from dead_letters where letter_id = $1", letter_id(record))
        event = RecordRedriven(
            letter_id=letter_id(record), service=self.service, source_key=record.key or "", discarded=discarded, at=work.now
        )
        self._tell(work, record, attempts, event)

    def _announce(self, work: Work, record: Received, attempts: int, why: tuple[str, str], *, parked: bool) -> None:
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
            at=work.now,
        )
        self._tell(work, record, attempts, event)

    def _tell(self, work: Work, record: Received, attempts: int, event: RecordSetAside | RecordRedriven) -> None:
        # Who reads its own letters and fails at one would fail at the letter about it, and so on for ever.
        if record.topic != self.topic:
            work.append(event, _stream(record), attempts, self.topic, _cause(record))


async def blocked_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of `keys` that have letters, so that later records of theirs must wait."""
    if not keys:
        return set()
    found = await connection.fetch("select distinct source_key from dead_letters where source_key = any($1::text[])", keys)
    return {row["source_key"] for row in found}


async def count_letters(connection: Connection) -> int:
    """How many records are set aside or parked."""
    return await connection.fetchval("select count(*) from dead_letters")


async def letters_of(connection: Connection, key: str) -> list[tuple[Received, int]]:
    """The letters of a key in the order they came, each with the number of attempts so far."""
    found = await connection.fetch("select * from dead_letters where source_key = $1 order by sequence", key)
    return [(_record(row), row["attempts"]) for row in found]


async def mend(connection: Connection, letter: str, value: bytes) -> None:
    """Replace the value of a letter by what an operator made of it."""
    await connection.execute("update dead_letters set value = $2 where letter_id = $1", letter, value)


def letter_id(record: Received) -> str:
    """Where the record stands in Kafka: unique, and found again by anybody."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def explain(error: Exception) -> tuple[str, str]:
    """Reason and stack of an error, without characters that PostgreSQL's text cannot hold."""
    stack = "".join(traceback.format_exception(error)[-30:])
    return f"{type(error).__name__}: {error}".replace("\0", "\ufffd")[:4_000], stack.replace("\0", "\ufffd")[-8_000:]


def _record(row: Record) -> Received:
    headers = [(name, value.encode("latin-1")) for name, value in msgspec.json.decode(row["headers"], type=list[tuple[str, str]])]
    return Received(
        topic=row["source_topic"],
        partition=row["source_partition"],
        offset=row["source_offset"],
        key=row["source_key"],
        headers=headers,
        value=row["value"],
        type=header(headers, "ce_type"),
        position=None,
    )


def _stream(record: Received) -> str:
    return f"letter/{letter_id(record)}"


def _cause(record: Received) -> Cause:
    return Cause(correlation_id=record.key or "", causation_id=letter_id(record))


def _headers_text(record: Received) -> str:
    pairs: Any = [(name.replace("\0", "\ufffd"), (value or b"").decode("latin-1")) for name, value in record.headers]
    return msgspec.json.encode(pairs).decode()
