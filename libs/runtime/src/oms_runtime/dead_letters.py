"""The dead-letter queue: records set aside with reason, stack and origin, and the records of the same key that wait behind them.

A dead letter stays in the table until it is redriven. Each step is also an event on the service's dead-letter topic, where operators look.
"""

import base64
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
from oms_contracts.catalogue import Topic, TopicsByName
from oms_contracts.dead_letters import RecordRedriven, RecordSetAside, RedriveDeadLetters, RedriveRefused
from oms_contracts.envelope import header

from oms_runtime.database import Connection, Database, DbRow
from oms_runtime.model import Cause, IncomingRecord
from oms_runtime.unit_of_work import UnitOfWork

PARKED = "an earlier record of this key was set aside; this one waits behind it"
MAX_REASON_CHARACTERS = 4_000
MAX_STACK_CHARACTERS = 8_000
MAX_STACK_ENTRIES = 30
MAX_HEADERS_BYTES = 16 * 1024
"""Of the headers that are kept with a dead letter; further ones are left out."""


Blocked = tuple[str | None, str]
"""Whose records must wait: those of one topic under a key, or of every topic where the topic is None."""


class DeadLetter(NamedTuple):
    """A record set aside. `attempts` counts how often it failed; `original_value` is the value before an operator replaced it."""

    record: IncomingRecord
    attempts: int
    original_value: bytes | None


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """One service's dead letters, announced on `topic`. `max_value_bytes` is the largest value that is kept with one.

    `topics` are those that the service reads. Values from topics that keep records for a bounded time may hold personal data: they are in
    no event, because events are kept for ever, and leave the table when they leave their topic (`forget_old_values`).
    """

    service: str
    topic: str
    max_value_bytes: int
    topics: TopicsByName

    async def set_aside(self, connection: Connection, unit: UnitOfWork, records: Iterable[tuple[IncomingRecord, Exception | None]]) -> None:
        """Keep records for an operator, each with its error, or None where it is only parked behind another.

        A record that is a dead letter already, because it is read again after a restore or a reset of checkpoints, stays as it is.
        """
        records = list(records)
        ids = [letter_id(record) for record, _ in records]
        present = await connection.fetch("select letter_id from dead_letters where letter_id = any($1::text[])", ids)
        known = {row["letter_id"] for row in present}
        versions = await self._versions(connection, ids)
        rows: list[tuple[Any, ...]] = []
        for record, error in records:
            if letter_id(record) in known:
                continue
            reason, stack = explain(error) if error else (PARKED, "")
            kept = self._keeps(record)
            if not kept:
                reason = f"{reason}; {_how_to_fetch(record)}"
            rows.append(
                (
                    letter_id(record),
                    record.topic,
                    record.partition,
                    record.offset,
                    record.key or "",
                    _headers_text(record),
                    record.value if kept else b"",
                    reason,
                    error is None,
                    unit.now,
                    unit.now,
                )
            )
            self._announce(unit, record, (1, versions.get(_stream(record), 0) + 1), (reason, stack), parked=error is None)
        await connection.executemany(
            """insert into dead_letters
               (letter_id, source_topic, source_partition, source_offset, source_key, headers, value, reason, attempts, parked, at,
                set_aside_at)
               values ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10, $11)""",
            rows,
        )

    async def failed_again(self, connection: Connection, unit: UnitOfWork, letter: DeadLetter, error: Exception, redrive: Cause) -> None:
        """The redrive failed: the dead letter stays, with the new reason."""
        reason, stack = explain(error)
        await connection.execute(
            "update dead_letters set attempts = $2, reason = $3, parked = false, at = $4 where letter_id = $1",
            letter_id(letter.record),
            letter.attempts + 1,
            reason,
            unit.now,
        )
        version = (await self._versions(connection, [letter_id(letter.record)])).get(_stream(letter.record), 0) + 1
        self._announce(unit, letter.record, (letter.attempts + 1, version), (reason, stack), parked=False, cause=redrive)

    async def redriven(self, connection: Connection, unit: UnitOfWork, letter: DeadLetter, redrive: Cause, *, discarded: bool) -> None:
        """The record was applied, or discarded as asked: delete the dead letter, and announce it."""
        await connection.execute("delete from dead_letters where letter_id = $1", letter_id(letter.record))
        text = _hash_text if is_bounded(self.topics, letter.record.topic) else _text
        event = RecordRedriven(
            letter_id=letter_id(letter.record),
            service=self.service,
            source_key=letter.record.key or "",
            discarded=discarded,
            at=unit.now,
            value_before=None if letter.original_value is None else text(letter.original_value),
            value_after=None if letter.original_value is None else text(letter.record.value),
        )
        if not unit.fits(event, self.topic):
            event = msgspec.structs.replace(event, value_before=_hash_text(letter.original_value or b""))
        version = (await self._versions(connection, [letter_id(letter.record)])).get(_stream(letter.record), 0) + 1
        self._append(unit, letter.record, version, event, redrive)

    async def refuse(self, connection: Connection, unit: UnitOfWork, record: IncomingRecord, redrive: Cause, reason: str) -> None:
        """A redrive asks for what cannot be done: announce why, once, whoever else reads the same command. Nothing else changes."""
        stream = f"redrive/{letter_id(record)}"
        if await connection.fetchval("select exists (select from events where stream = $1)", stream):
            return
        asked: RedriveDeadLetters = record.message
        event = RedriveRefused(
            letter_id=asked.letter_id or "", service=self.service, source_key=asked.source_key, reason=reason, at=unit.now
        )
        unit.append(event, stream, 1, self.topic, redrive)

    def _keeps(self, record: IncomingRecord) -> bool:
        return len(record.value) <= self.max_value_bytes

    def _announces(self, record: IncomingRecord) -> bool:
        return self._keeps(record) and not is_bounded(self.topics, record.topic)

    async def _versions(self, connection: Connection, ids: Sequence[str]) -> dict[str, int]:
        """By stream of a dead letter: the version of its last event. It has some from before where its record is read again."""
        found = await connection.fetch(
            "select stream, max(version) as version from events where stream = any($1::text[]) group by stream",
            [f"letter/{letter}" for letter in ids],
        )
        return {row["stream"]: row["version"] for row in found}

    def _announce(
        self,
        unit: UnitOfWork,
        record: IncomingRecord,
        times: tuple[int, int],
        why: tuple[str, str],
        *,
        parked: bool,
        cause: Cause | None = None,
    ) -> None:
        (attempts, version), (reason, stack) = times, why
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
            value=_text(record.value) if self._announces(record) else "",
            headers={name: value.decode("utf-8", "replace") for name, value in _bounded_headers(record)},
            attempts=attempts,
            parked=parked,
            at=unit.now,
        )
        if not self._announces(record) or not unit.fits(event, self.topic):
            event = msgspec.structs.replace(event, value="", value_bytes=len(record.value), value_sha256=sha256(record.value).hexdigest())
        self._append(unit, record, version, event, cause or Cause(correlation_id=record.key or "", causation_id=letter_id(record)))

    def _append(self, unit: UnitOfWork, record: IncomingRecord, version: int, event: RecordSetAside | RecordRedriven, cause: Cause) -> None:
        # A service that reads its own dead-letter topic and fails there would announce that failure on it, and fail at it again, for ever.
        if record.topic != self.topic:
            unit.append(event, _stream(record), version, self.topic, cause)


def is_bounded(topics: TopicsByName, name: str) -> bool:
    """Whether a topic that is read keeps its records for a bounded time."""
    topic = find(topics, name)
    return topic is not None and not topic.keeps_for_ever


def blocked_by(topics: TopicsByName, topic: str, key: str) -> Blocked:
    """Whose records wait behind a dead letter. Behind one of a party only what the party sends itself does: nobody delays another's."""
    read = find(topics, topic)
    return (topic if read is not None and read.party else None, key)


def find(topics: TopicsByName, name: str) -> Topic | None:
    """The topic of that name, None where it is not read, as those of an earlier version of the service."""
    try:
        return topics[name]
    except KeyError:
        return None


async def blocked_keys(connection: Connection, topics: TopicsByName, keys: Sequence[str]) -> set[Blocked]:
    """What must wait of `keys`, because they have dead letters."""
    if not keys:
        return set()
    query = "select distinct source_topic, source_key from dead_letters where source_key = any($1::text[])"
    return {blocked_by(topics, row["source_topic"], row["source_key"]) for row in await connection.fetch(query, keys)}


async def count_dead_letters(connection: Connection) -> int:
    """How many records are set aside or parked."""
    return await connection.fetchval("select count(*) from dead_letters")


async def dead_letters_of(connection: Connection, key: str, limit: int, without: Set[str]) -> list[DeadLetter]:
    """The first dead letters of a key, in the order they came, without those from the topics named."""
    query = "select * from dead_letters where source_key = $1 and source_topic <> all($3::text[]) order by sequence limit $2"
    found = await connection.fetch(query, key, limit, list(without))
    return [DeadLetter(_record(row), row["attempts"], row["original_value"]) for row in found]


async def is_dead_letter_of(connection: Connection, letter: str, key: str) -> bool:
    """Whether a dead letter belongs to a key, or did until it was redriven."""
    return await connection.fetchval(
        """select exists (select from dead_letters where letter_id = $1 and source_key = $2)
               or exists (select from events where stream = 'letter/' || $1 and key = $2)""",
        letter,
        key,
    )


async def replace_value(connection: Connection, letter: str, value: bytes) -> None:
    """Replace the value of a dead letter by what an operator corrected; the first value is kept beside it."""
    await connection.execute(
        "update dead_letters set value = $2, original_value = coalesce(original_value, value) where letter_id = $1", letter, value
    )


async def forget_values(connection: Connection, concerned: Callable[[bytes], bool]) -> None:
    """Erase the values of dead letters that `concerned` says yes to."""
    letters = [
        row["letter_id"]
        async for row in connection.cursor("select letter_id, value, original_value from dead_letters where value <> ''")
        if concerned(row["value"]) or (row["original_value"] is not None and concerned(row["original_value"]))
    ]
    if letters:
        await connection.execute(f"{_FORGET} where letter_id = any($1::text[])", letters)


async def forget_old_values(database: Database, topics: TopicsByName, before: datetime) -> None:
    """Erase the values of dead letters of bounded topics that were set aside before a moment: their topics no longer have them either."""
    async with database.acquire() as connection:
        sources = await connection.fetch("select distinct source_topic from dead_letters")
        bounded = [row["source_topic"] for row in sources if is_bounded(topics, row["source_topic"])]
        await connection.execute(f"{_FORGET} where source_topic = any($1::text[]) and set_aside_at < $2 and value <> ''", bounded, before)


_FORGET = "update dead_letters set value = '', original_value = null, reason = reason || '; its value is no longer kept'"


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


def _bounded_headers(record: IncomingRecord) -> Iterator[tuple[str, bytes]]:
    size = 0
    for name, value in record.headers:
        size += len(name) + len(value or b"")
        if size > MAX_HEADERS_BYTES:
            return
        yield name.replace("\0", "\ufffd"), value or b""


def _headers_text(record: IncomingRecord) -> str:
    pairs: Any = [(name, value.decode("latin-1")) for name, value in _bounded_headers(record)]
    return msgspec.json.encode(pairs).decode()


def _how_to_fetch(record: IncomingRecord) -> str:
    return (
        f"its {len(record.value)} bytes (SHA-256 {sha256(record.value).hexdigest()}) are not kept here: read them with any Kafka tool from "
        f"{record.topic}, partition {record.partition}, offset {record.offset}"
    )


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _hash_text(value: bytes) -> str:
    return f"sha256:{sha256(value).hexdigest()}"
