"""`python -m oms_projection.rebuild` reads every topic from its first offset into a scratch schema, and compares the rows.

Both sides end at the same offsets: where the service's checkpoints stood when its own rows were counted. The exit status is 1 when any
table differs. The scratch schema is made in the service's own database and dropped again; nothing the service reads or writes is touched.
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
from oms_contracts.envelope import from_headers, header
from oms_contracts.message import decode, type_of
from oms_runtime.database import Connection, migrations_of
from oms_runtime.kafka import Reader, Record, make_reader
from oms_runtime.model import Received
from oms_runtime.settings import RuntimeSettings

from oms_projection.projector import FOLDS, PROJECTED, project
from oms_projection.settings import Settings
from oms_projection.tables import TABLES

SCRATCH = "rebuild"
PATIENCE_SECONDS = 60

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
        records, began = 0, monotonic()
        async for batch in _read(reader, {tp: end for tp, end in ends.items() if end and tp.topic in FOLDS}):
            async with scratch.transaction():
                await project(scratch, batch)
            records += len(batch)
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
    """An empty schema with this service's tables, the only one the connection sees."""
    await connection.execute(f"drop schema if exists {SCRATCH} cascade; create schema {SCRATCH}; set search_path to {SCRATCH}")
    for _, text in migrations_of("oms_projection"):
        await connection.execute(text)


async def _read(reader: Reader, ends: Mapping[TopicPartition, int]) -> AsyncIterator[Sequence[Received]]:
    """Every record we want before `ends`, in each partition's order, without repetitions, as the service reads them."""
    begins = await reader.beginning_offsets(ends)
    if lost := [tp for tp in ends if begins[tp] > 0]:
        raise CannotRebuild(f"the first records are gone from {', '.join(f'{tp.topic}/{tp.partition}' for tp in sorted(lost))}")
    reader.assign(sorted(ends))
    for tp in ends:
        reader.seek(tp, 0)
    left, highest = set(ends), dict.fromkeys(ends, 0)
    wanted = {type_of(cls).name for cls in PROJECTED}
    heard = monotonic()
    while left:
        found = await reader.getmany(*left, timeout_ms=1_000)
        if found:
            heard = monotonic()
        elif monotonic() - heard > PATIENCE_SECONDS:
            raise CannotRebuild(f"nothing came for {PATIENCE_SECONDS} s, and {len(left)} partitions are not at their end")
        batch: list[Received] = []
        for tp, records in found.items():
            for record in records:
                if record.offset >= ends[tp] - 1:
                    left.discard(tp)
                position = int(header(record.headers, "ce_position") or 0)
                if record.offset < ends[tp] and position > highest[tp]:
                    highest[tp] = position
                    if header(record.headers, "ce_type") in wanted:
                        batch.append(_received(record))
        if batch:
            yield batch


def _received(record: Record) -> Received:
    envelope = from_headers(record.headers)
    value = record.value or b""
    return Received(
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
    outcome = asyncio.run(rebuild(Settings()))  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(outcome)).decode() + "\n")
    sys.exit(0 if outcome.same else 1)
