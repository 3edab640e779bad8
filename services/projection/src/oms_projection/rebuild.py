"""`python -m oms_projection.rebuild` reads every topic from its first offset into a scratch schema, and compares the rows.

Both sides end at the same offsets: where the service's checkpoints stood when its own rows were counted. The exit status is 1 when any
table differs. The scratch schema is made in the service's own database and dropped again; nothing the service reads or writes is touched.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import asyncpg
import msgspec
from aiokafka import TopicPartition
from oms_contracts.envelope import Envelope, from_headers, own_type_and_position
from oms_contracts.message import decode, type_of
from oms_kafka.clients import Reader, Record, make_reader
from oms_runtime.database import Connection, migrations_of
from oms_runtime.loop import run_loop
from oms_runtime.model import IncomingRecord
from oms_runtime.settings import RuntimeSettings

from oms_projection.projector import FOLDS, PROJECTED, fold_into
from oms_projection.settings import Settings
from oms_projection.tables import TABLES, Changes

SCRATCH = "rebuild"
PATIENCE_SECONDS = 60
MAX_RECORDS = 250
"""Read and folded at a time; in between, what was folded earlier is written."""
MAX_BYTES = 8 * 1024 * 1024
"""Of records, folded in memory before they are written: their rows take several times as much, twice while others are being written."""

Digests = dict[str, tuple[int, str]]
"""By table: how many rows, and a digest of all of them that is the same in any order."""


class CannotRebuild(Exception):
    """The topics no longer hold, or no longer give, what the read models were made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The stored and the rebuilt read models at the same offsets. `differing` names tables.

    `records` is how many were folded, `seconds` how long reading and folding them took, without the comparison.
    """

    same: bool
    differing: list[str]
    records: int
    seconds: float
    stored: Digests
    rebuilt: Digests


async def table_digests(connection: Connection) -> Digests:
    """What the read models on the connection's search path hold, whoever wrote it and in whatever order."""
    await connection.execute("set local timezone to 'UTC'")
    return {table.name: await _digest(connection, table.name) for table in TABLES}


async def rebuild(settings: RuntimeSettings) -> Comparison:
    """Fold all topics anew and compare. Raises CannotRebuild, or what the servers raise."""
    url = settings.database_url.get_secret_value()
    live, scratch = await _connect(url), await _connect(url)
    reader = make_reader(settings, "oms-projection-rebuild")
    try:
        await reader.start()
        async with live.transaction(isolation="repeatable_read", readonly=True):
            waiting = await live.fetchval("select count(*) from dead_letters")
            ends = {TopicPartition(r["topic"], r["partition"]): r["next_offset"] for r in await live.fetch("select * from checkpoints")}
            stored = await table_digests(live)
        if waiting:
            raise CannotRebuild(f"{waiting} records are set aside: redrive or discard them first")
        await _make_scratch(scratch)
        began = monotonic()
        records = await _write(scratch, _read(reader, {tp: end for tp, end in ends.items() if end and tp.topic in FOLDS}))
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
    """An empty schema with this service's tables, the only one the connection sees.

    They need not outlive a crash, and nobody asks them anything: only what an upsert finds its row by is kept.
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
    """Fold all batches, and write what they mean while the next ones are read and folded; answers with how many records there were."""
    records, size, changes, writing = 0, 0, Changes(), asyncio.create_task(asyncio.sleep(0))
    try:
        async for batch in batches:
            fold_into(changes, batch)
            records += len(batch)
            size += sum(len(record.value) for record in batch)
            if size >= MAX_BYTES:
                await writing
                size, changes, writing = 0, Changes(), asyncio.create_task(changes.write(connection))
            await asyncio.sleep(0)  # what was fetched already comes without a pause, and nothing would be written meanwhile
        await writing
        await changes.write(connection)
    finally:
        writing.cancel()
        await asyncio.wait({writing})
    return records


async def _read(reader: Reader, ends: Mapping[TopicPartition, int]) -> AsyncIterator[Sequence[IncomingRecord]]:
    """Every record we want before `ends`, in each partition's order, without repetitions, as the service reads them.

    What concerns one order is on the partitions of one number. These are read together, all up to about the same time, so that most rows
    are whole before they are written.
    """
    reader.assign(list(ends))  # otherwise the broker is asked where each topic is led, one after the other
    reader.pause(*ends)
    begins = await reader.beginning_offsets(ends)
    if lost := [tp for tp in ends if begins[tp] > 0]:
        raise CannotRebuild(f"the first records are gone from {', '.join(f'{tp.topic}/{tp.partition}' for tp in sorted(lost))}")
    left, highest = set(ends), dict.fromkeys(ends, 0)
    heard = monotonic()
    for number in sorted({tp.partition for tp in ends}):
        reached = {tp: 0 for tp in ends if tp.partition == number}
        reader.assign(list(reached))
        for tp in reached:
            reader.seek(tp, 0)
        while reached:
            found = await _next(reader, reached)
            if found:
                heard = monotonic()
            elif monotonic() - heard > PATIENCE_SECONDS:
                raise CannotRebuild(f"nothing came for {PATIENCE_SECONDS} s, and {len(left)} partitions are not at their end")
            for tp, records in found.items():
                reached[tp] = records[-1].timestamp
                if records[-1].offset >= ends[tp] - 1:
                    reader.pause(tp)  # the broker would wait for more of it before it answers with anything else
                    left.discard(tp)
                    del reached[tp]
                batch, highest[tp] = _sift(records, ends[tp], highest[tp])
                if batch:
                    yield batch


async def _next(reader: Reader, reached: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, Sequence[Record]]:
    """Records of the partition whose newest one so far is oldest; of any other where those are still to be fetched."""
    oldest = min(reached, key=reached.__getitem__)
    return await reader.getmany(oldest, timeout_ms=0, max_records=MAX_RECORDS) or await reader.getmany(
        *reached, timeout_ms=1_000, max_records=MAX_RECORDS
    )


_WANTED = frozenset(type_of(cls).name.encode() for cls in PROJECTED)


def _sift(records: Iterable[Record], end: int, highest: int) -> tuple[list[IncomingRecord], int]:
    """One partition's records before `end` that we want, and the highest position seen so far, `highest` before them."""
    wanted: list[IncomingRecord] = []
    for record in records:
        kind, told = own_type_and_position(record.headers)
        position = int(told or 0)
        if record.offset < end and position > highest:
            highest = position
            if kind in _WANTED:
                wanted.append(_received(record, from_headers(record.headers)))
    return wanted, highest


def _received(record: Record, envelope: Envelope) -> IncomingRecord:
    value = record.value or b""
    return IncomingRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key.decode("utf-8", "replace").replace("\0", "\ufffd") if record.key is not None else None,
        headers=record.headers,
        value=value,
        type=envelope.type,
        position=envelope.position,
        envelope=envelope,
        message=decode(envelope.type, value),
    )


if __name__ == "__main__":
    outcome = run_loop(rebuild(Settings()))  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(outcome)).decode() + "\n")
    sys.exit(0 if outcome.same else 1)
