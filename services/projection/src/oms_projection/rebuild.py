"""`python -m oms_projection.rebuild` reads every topic from its first offset into a scratch schema, and compares the rows.

Both sides end at the same offsets: the service's checkpoints when its own rows were counted. The exit status is 1 when any table differs.
The scratch schema is made in the service's own database and dropped again; nothing the service reads or writes is touched.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import asyncpg
import msgspec
from aiokafka import TopicPartition
from oms_kafka.clients import Reader, Record, make_reader
from oms_runtime.database import Connection, migrations_of
from oms_runtime.loop import run_loop
from oms_runtime.model import IncomingRecord
from oms_runtime.records import Checkpoint, Partition, RecordSifter
from oms_runtime.settings import RuntimeSettings

from oms_projection.app import make_service
from oms_projection.changes import Changes
from oms_projection.projector import FOLDS, fold_into
from oms_projection.settings import Settings
from oms_projection.tables import TABLES

SCRATCH = "rebuild"
READ_TIMEOUT_SECONDS = 60
"""Without any record for so long, while partitions are not at their end, the rebuild gives up."""
MAX_RECORDS = 250
"""Read and folded at a time. In between, earlier changes are written."""
MAX_BYTES = 8 * 1024 * 1024
"""Of records, folded in memory before their changes are written. The rows take several times as much, and twice that during a write."""

Digests = dict[str, tuple[int, str]]
"""By table: how many rows, and a digest of all of them that is the same in any order."""


class CannotRebuild(Exception):
    """The topics no longer hold, or do not deliver, the records that the read models were made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The stored and the rebuilt read models at the same offsets. `differing` names tables.

    `records` is how many were folded, `seconds` how long reading, folding and writing them took, without the comparison.
    """

    same: bool
    differing: list[str]
    records: int
    seconds: float
    stored: Digests
    rebuilt: Digests


async def table_digests(connection: Connection) -> Digests:
    """The digests of the read models on the connection's search path. They do not depend on the order of the writes."""
    await connection.execute("set local timezone to 'UTC'")
    return {table.name: await _digest(connection, table.name) for table in TABLES}


async def rebuild(settings: RuntimeSettings) -> Comparison:
    """Fold all topics anew and compare. Raises CannotRebuild, KafkaError or asyncpg's errors."""
    url = settings.database_url.get_secret_value()
    live, scratch = await _connect(url), await _connect(url)
    reader = make_reader(settings, "oms-projection-rebuild")
    try:
        await reader.start()
        async with live.transaction(isolation="repeatable_read", readonly=True):
            dead_letters = await live.fetchval("select count(*) from dead_letters")
            ends = {TopicPartition(r["topic"], r["partition"]): r["next_offset"] for r in await live.fetch("select * from checkpoints")}
            stored = await table_digests(live)
        if dead_letters:
            raise CannotRebuild(f"{dead_letters} records are set aside: redrive or discard them first")
        await _make_scratch(scratch)
        began = monotonic()
        batches = _read(reader, RecordSifter(make_service()), {tp: end for tp, end in ends.items() if end and tp.topic in FOLDS})
        records = await _write(scratch, batches)
        seconds = monotonic() - began
        async with scratch.transaction():
            rebuilt = await table_digests(scratch)
        await scratch.execute(f"drop schema {SCRATCH} cascade")
    finally:
        await reader.stop()
        live.terminate()
        scratch.terminate()
    differing = [name for name, digest in stored.items() if rebuilt[name] != digest]
    return Comparison(same=not differing, differing=differing, records=records, seconds=seconds, stored=stored, rebuilt=rebuilt)


async def _connect(url: str) -> Connection:
    """A connection whose statements may take as long as they need: a digest reads a whole table."""
    open_one: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # asyncpg is untyped in part
    return await open_one(url, timeout=10)


async def _digest(connection: Connection, table: str) -> tuple[int, str]:
    found = await connection.fetchrow(
        f"select count(*) as rows, coalesce(sum(hashtextextended(t::text, 0)), 0)::text as digest from {table} t"  # noqa: S608  # our own name
    )
    assert found is not None
    return found["rows"], found["digest"]


async def _make_scratch(connection: Connection) -> None:
    """Make an empty schema with this service's tables, the only one on the connection's search path.

    The tables need not survive a crash, and no query reads them: only the primary keys that upserts use are kept of all indexes.
    """
    await connection.execute(f"drop schema if exists {SCRATCH} cascade; create schema {SCRATCH}; set search_path to {SCRATCH}")
    for _, text in migrations_of("oms_projection"):
        await connection.execute(text)
    for table in TABLES:
        dropped = f", drop constraint if exists {table.name}_pkey" if table.append else ""
        await connection.execute(f"alter table {table.name} set unlogged{dropped}")
    for index in await connection.fetch(
        "select indexrelid::regclass::text as name from pg_index join pg_class on pg_class.oid = indrelid "
        "where relnamespace = $1::regnamespace and not indisprimary",
        SCRATCH,
    ):
        await connection.execute(f"drop index {index['name']}")


async def _write(connection: Connection, batches: AsyncIterator[Sequence[IncomingRecord]]) -> int:
    """Fold all batches, and write their changes while the next ones are read and folded. Returns the number of records."""
    records, size, changes, writing = 0, 0, Changes(), asyncio.create_task(asyncio.sleep(0))
    try:
        async for batch in batches:
            fold_into(changes, batch)
            records += len(batch)
            size += sum(len(record.value) for record in batch)
            if size >= MAX_BYTES:
                await writing
                size, changes, writing = 0, Changes(), asyncio.create_task(changes.write(connection))
            await asyncio.sleep(0)  # records that are already fetched come without a pause, and no write would proceed
        await writing
        await changes.write(connection)
    finally:
        writing.cancel()
        await asyncio.wait({writing})
    return records


async def _read(reader: Reader, sifter: RecordSifter, ends: Mapping[TopicPartition, int]) -> AsyncIterator[Sequence[IncomingRecord]]:
    """Every record that the service handles before `ends`, in each partition's order, without duplicates, as the consumer reads them.

    All records about one order are on the partitions of one number. These are read together, all up to about the same time, so that most
    rows are complete before they are written.
    """
    reader.assign(list(ends))  # otherwise the partitions' leaders are looked up one after the other
    reader.pause(*ends)
    beginnings = await reader.beginning_offsets(ends)
    if lost := [tp for tp in ends if beginnings[tp] > 0]:
        raise CannotRebuild(f"the first records are gone from {', '.join(f'{tp.topic}/{tp.partition}' for tp in sorted(lost))}")
    left = set(ends)
    checkpoints: dict[Partition, Checkpoint] = dict.fromkeys(ends, Checkpoint(0, 0))
    last_read = monotonic()
    for number in sorted({tp.partition for tp in ends}):
        timestamps_ms = {tp: 0 for tp in ends if tp.partition == number}
        reader.assign(list(timestamps_ms))
        for tp in timestamps_ms:
            reader.seek(tp, 0)
        while timestamps_ms:
            found = await _fetch(reader, timestamps_ms)
            if found:
                last_read = monotonic()
            elif monotonic() - last_read > READ_TIMEOUT_SECONDS:
                raise CannotRebuild(f"nothing came for {READ_TIMEOUT_SECONDS} s, and {len(left)} partitions are not at their end")
            for tp, records in found.items():
                timestamps_ms[tp] = records[-1].timestamp
                if records[-1].offset >= ends[tp] - 1:
                    reader.pause(tp)  # the broker would wait for more of it before it returns records of another partition
                    left.discard(tp)
                    del timestamps_ms[tp]
                if batch := _receive(sifter, records, ends[tp], checkpoints, tp):
                    yield batch


async def _fetch(reader: Reader, timestamps_ms: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, Sequence[Record]]:
    """Records of the partition with the lowest timestamp so far, or of any other where those are not fetched yet."""
    oldest = min(timestamps_ms, key=timestamps_ms.__getitem__)
    return await reader.getmany(oldest, timeout_ms=0, max_records=MAX_RECORDS) or await reader.getmany(
        *timestamps_ms, timeout_ms=1_000, max_records=MAX_RECORDS
    )


def _receive(
    sifter: RecordSifter, records: Sequence[Record], end: int, checkpoints: dict[Partition, Checkpoint], partition: Partition
) -> list[IncomingRecord]:
    """One partition's records before offset `end` that the service handles, parsed and without duplicates. Moves the checkpoint."""
    before = {partition: checkpoints[partition]}
    received, moved = sifter.sift((record for record in records if record.offset < end), before)
    checkpoints.update(moved)
    return [sifter.parse(record) for record in sifter.without_duplicates(received, before)]


if __name__ == "__main__":
    outcome = run_loop(rebuild(Settings()))  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(outcome)).decode() + "\n")
    sys.exit(0 if outcome.same else 1)
