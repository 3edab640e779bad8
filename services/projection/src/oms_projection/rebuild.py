"""Folding all topics anew into a scratch schema, and comparing the rows: what `read-models build` and `verify` share.

Records are read as the consumer reads them. One that was set aside before, and that an operator corrected or discarded, counts as corrected
or discarded. One that cannot be folded ends the rebuild, and is named: nobody reads these tables yet, so to stop costs nothing, and the
fault is nearly always in the new fold.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import asyncpg
import msgspec
from aiokafka import TopicPartition
from oms_contracts.dead_letters import RecordRedriven
from oms_contracts.message import type_of
from oms_kafka.clients import Reader, Record
from oms_runtime.database import Connection
from oms_runtime.dead_letters import explain, letter_id
from oms_runtime.model import IncomingRecord
from oms_runtime.records import Checkpoint, Partition, RecordSifter

from oms_projection.changes import Changes
from oms_projection.projector import fold_into
from oms_projection.tables import TABLES
from oms_projection.versions import RUNTIME_TABLES, create_tables

SCRATCH = "read_models_build"
READ_TIMEOUT_SECONDS = 60
"""Without any record for so long, while partitions are not at their end, the rebuild gives up."""
MAX_RECORDS = 250
"""Read and folded at a time. In between, earlier changes are written."""
MAX_BYTES = 8 * 1024 * 1024
"""Of records, folded in memory before their changes are written. The rows take several times as much, and twice that during a write."""

Columns = Mapping[str, Mapping[str, str]]
"""By table: its columns, with their types."""
Digests = Mapping[str, tuple[int, str]]
"""By table: how many rows, and a digest of all of them that is the same in any order."""
Corrections = Mapping[tuple[str, str], bytes | None]
"""By id and key of records that were dead letters once: the value an operator put in, None where the record was discarded."""


class CannotRebuild(Exception):
    """The topics no longer hold, or do not deliver, the records that the read models were made of; or one of them cannot be folded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two versions' read models at the same offsets. `differing` and `not_comparable` name tables.

    `not_comparable` are those that only one version has. Of the others the columns that both have were compared; `left_out` names the
    rest. `rows` are those of either version.
    """

    same: bool
    differing: list[str]
    not_comparable: list[str]
    left_out: dict[str, list[str]]
    rows: dict[str, tuple[int, int]]


def compare(one: Columns, other: Columns, digests: Digests, other_digests: Digests) -> Comparison:
    """Compare the digests of the columns that two versions share."""
    common = shared(one, other)
    differing = [table for table in common if digests[table] != other_digests[table]]
    left_out = {table: sorted({*one[table], *other[table]} - {*columns}) for table, columns in common.items()}
    return Comparison(
        same=not differing,
        differing=differing,
        not_comparable=sorted(one.keys() ^ other.keys()),
        left_out={table: columns for table, columns in left_out.items() if columns},
        rows={table: (digests[table][0], other_digests[table][0]) for table in common},
    )


def shared(one: Columns, other: Columns) -> dict[str, list[str]]:
    """By table that both have: the columns that both have with the same type."""
    return {table: [name for name, kind in one[table].items() if other[table].get(name) == kind] for table in one if table in other}


async def columns_of(connection: Connection, schema: str) -> Columns:
    """The read models' columns in a schema."""
    found: dict[str, dict[str, str]] = {}
    for row in await connection.fetch(
        """select table_name as table, column_name as name, data_type as kind from information_schema.columns
           where table_schema = $1 and not table_name = any($2::text[]) order by table_name, ordinal_position""",
        schema,
        RUNTIME_TABLES,
    ):
        found.setdefault(row["table"], {})[row["name"]] = row["kind"]
    return found


async def digests_of(connection: Connection, schema: str, columns: Mapping[str, Sequence[str]]) -> Digests:
    """The digests of some columns of a schema's tables, inside a transaction. They do not depend on the order of the writes."""
    await connection.execute("set local timezone to 'UTC'")
    found: dict[str, tuple[int, str]] = {}
    for table, names in columns.items():
        row = await connection.fetchrow(
            f"""select count(*) as rows, coalesce(sum(hashtextextended(row({", ".join(names)})::text, 0)), 0)::text as digest
                from {schema}.{table}"""  # noqa: S608  # names of our own alone
        )
        assert row is not None
        found[table] = row["rows"], row["digest"]
    return found


async def read_corrections(connection: Connection) -> Corrections:
    """What operators did to this service's dead letters: it is on the service's own events."""
    kind = type_of(RecordRedriven).name
    found = await connection.fetch("select data from events where type = $1 order by position", kind)
    corrections: dict[tuple[str, str], bytes | None] = {}
    for event in (msgspec.json.decode(row["data"], type=RecordRedriven) for row in found):
        if event.discarded:
            corrections[event.letter_id, event.source_key] = None
        elif event.value_after is not None:
            corrections[event.letter_id, event.source_key] = base64.b64decode(event.value_after)
    return corrections


class Rebuild:
    """One rebuild. `connection` is its own, and finds the scratch schema alone; `reader` is started.

    `max_records_per_second` 0 means no limit. `checkpoints` are how far it has read.
    """

    def __init__(
        self, connection: Connection, reader: Reader, sifter: RecordSifter, corrections: Corrections, max_records_per_second: float = 0
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._sifter = sifter
        self._corrections = corrections
        self._max_records_per_second = max_records_per_second
        self._next_at = 0.0
        self._deferred: list[str] = []
        """The statements that make what was left out of the tables to fill them faster."""
        self.checkpoints: dict[Partition, Checkpoint] = {}
        self.records = 0
        """How many were folded."""
        self.seconds = 0.0
        """How long reading, folding and writing them took."""

    @property
    def read(self) -> int:
        """How many records were read, whether they were folded or not."""
        return sum(checkpoint.next_offset for checkpoint in self.checkpoints.values())

    async def make_tables(self) -> None:
        """Make empty tables in the scratch schema.

        They need not survive a crash yet, and no query reads them: only the primary keys that upserts use are kept of all indexes.
        """
        connection, append = self._connection, [table.name for table in TABLES if table.append]
        await connection.execute(f"drop schema if exists {SCRATCH} cascade")
        async with connection.transaction():
            await create_tables(connection, SCRATCH)
        await connection.execute(f"set search_path to {SCRATCH}")
        for row in await connection.fetch(
            """select conrelid::regclass::text as table, conname as name, pg_get_constraintdef(oid) as definition from pg_constraint
               where connamespace = $1::text::regnamespace and contype = 'p' and conrelid::regclass::text = any($2::text[])""",
            SCRATCH,
            append,
        ):
            await connection.execute(f"alter table {row['table']} drop constraint {row['name']}")
            self._deferred.append(f"alter table {row['table']} add constraint {row['name']} {row['definition']}")
        for row in await connection.fetch(
            """select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition
               from pg_index join pg_class on pg_class.oid = indrelid
               where relnamespace = $1::text::regnamespace and not indisprimary and relname <> all($2::text[])""",
            SCRATCH,
            RUNTIME_TABLES,
        ):
            await connection.execute(f"drop index {row['name']}")
            self._deferred.append(row["definition"])
        for table in TABLES:
            await connection.execute(f"alter table {table.name} set unlogged")

    async def finish_tables(self) -> None:
        """Make the tables durable, with all their indexes and statistics."""
        for table in TABLES:
            await self._connection.execute(f"alter table {table.name} set logged")
        for statement in self._deferred:
            await self._connection.execute(statement)
        for table in TABLES:
            await self._connection.execute(f"analyze {table.name}")

    async def fold_up_to(self, ends: Mapping[TopicPartition, int]) -> None:
        """Fold the records before `ends`, and write their changes while the next ones are read and folded. May be called again.

        Raises CannotRebuild, KafkaError or asyncpg's errors.
        """
        began = monotonic()
        size, changes, writing = 0, Changes(), asyncio.create_task(asyncio.sleep(0))
        try:
            async for batch in self._read(ends):
                _fold(changes, batch)
                self.records += len(batch)
                size += sum(len(record.value) for record in batch)
                if size >= MAX_BYTES:
                    await writing
                    size, changes, writing = 0, Changes(), asyncio.create_task(self._write(changes))
                await self._keep_rate(len(batch))
            await writing
            await self._write(changes)
        finally:
            writing.cancel()
            await asyncio.wait({writing})
            self.seconds += monotonic() - began

    async def _write(self, changes: Changes) -> None:
        try:
            await changes.write(self._connection)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise CannotRebuild(f"rows cannot be written: {type(error).__name__}: {error}") from error

    async def _keep_rate(self, records: int) -> None:
        """Wait as long as the limit asks for. At least a write must proceed: records that are already fetched come without a pause."""
        pause_seconds = 0.0
        if self._max_records_per_second:
            self._next_at = max(monotonic(), self._next_at) + records / self._max_records_per_second
            pause_seconds = self._next_at - monotonic()
        await asyncio.sleep(max(0, pause_seconds))

    async def _read(self, ends: Mapping[TopicPartition, int]) -> AsyncIterator[Sequence[IncomingRecord]]:
        """Every record that the service handles before `ends`, in each partition's order, without duplicates, as the consumer reads them.

        All records about one order are on the partitions of one number. These are read together, all up to about the same time, so that
        most rows are complete before they are written.
        """
        for tp in ends:
            self.checkpoints.setdefault(tp, Checkpoint(0, 0))
        left = {tp for tp, end in ends.items() if self.checkpoints[tp].next_offset < end}
        reader = self._reader
        reader.assign(list(left))  # otherwise the partitions' leaders are looked up one after the other
        reader.pause(*left)
        beginnings = await reader.beginning_offsets(left)
        if lost := [tp for tp in left if beginnings[tp] > self.checkpoints[tp].next_offset]:
            raise CannotRebuild(f"the first records are gone from {', '.join(f'{tp.topic}/{tp.partition}' for tp in sorted(lost))}")
        waited_seconds = 0.0
        for number in sorted({tp.partition for tp in left}):
            timestamps_ms = {tp: 0 for tp in left if tp.partition == number}
            reader.assign(list(timestamps_ms))
            for tp in timestamps_ms:
                reader.seek(tp, self.checkpoints[tp].next_offset)
            while timestamps_ms:
                asked_at = monotonic()
                found = await _fetch(reader, timestamps_ms)
                waited_seconds = 0 if found else waited_seconds + monotonic() - asked_at
                if waited_seconds > READ_TIMEOUT_SECONDS:
                    raise CannotRebuild(f"nothing came for {READ_TIMEOUT_SECONDS} s, and {len(left)} partitions are not at their end")
                for tp, records in found.items():
                    timestamps_ms[tp] = records[-1].timestamp
                    if records[-1].offset >= ends[tp] - 1:
                        reader.pause(tp)  # the broker would wait for more of it before it returns records of another partition
                        left.discard(tp)
                        del timestamps_ms[tp]
                    if batch := self._receive(records, ends[tp], tp):
                        yield batch

    def _receive(self, records: Sequence[Record], end: int, partition: Partition) -> list[IncomingRecord]:
        """One partition's records before offset `end` that the service handles, parsed and without duplicates. Moves the checkpoint."""
        before = {partition: self.checkpoints[partition]}
        received, moved = self._sifter.sift((record for record in records if record.offset < end), before)
        self.checkpoints.update(moved)
        new = self._sifter.without_duplicates(received, before)
        if self._corrections:
            new = [corrected for record in new if (corrected := self._corrected(record)) is not None]
        return [self._parsed(record) for record in new]

    def _corrected(self, record: IncomingRecord) -> IncomingRecord | None:
        """The record as an operator corrected it, None where it was discarded."""
        name = letter_id(record), record.key or ""
        if name not in self._corrections:
            return record
        value = self._corrections[name]
        return None if value is None else msgspec.structs.replace(record, value=value, fault="")

    def _parsed(self, record: IncomingRecord) -> IncomingRecord:
        try:
            return self._sifter.parse(record)
        except Exception as error:
            raise CannotRebuild(_refusal(record, "cannot be read", error)) from error


def _fold(changes: Changes, batch: Sequence[IncomingRecord]) -> None:
    try:
        fold_into(changes, batch)
    except Exception:  # whatever the fold raises: its record is found and named, or it is raised again
        for record in batch:
            try:
                fold_into(Changes(), [record])
            except Exception as error:
                raise CannotRebuild(_refusal(record, "cannot be folded", error)) from error
        raise


def _refusal(record: IncomingRecord, what: str, error: Exception) -> str:
    return (
        f"record {letter_id(record)} ({record.type}) {what}: {explain(error)[0]}. Correct the fold; or, where the version in use has set "
        "this record aside too, redrive or discard it there (`oms dead-letters`). Then build again"
    )


async def _fetch(reader: Reader, timestamps_ms: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, Sequence[Record]]:
    """Records of the partition with the lowest timestamp so far, or of any other where those are not fetched yet."""
    oldest = min(timestamps_ms, key=timestamps_ms.__getitem__)
    return await reader.getmany(oldest, timeout_ms=0, max_records=MAX_RECORDS) or await reader.getmany(
        *timestamps_ms, timeout_ms=1_000, max_records=MAX_RECORDS
    )
