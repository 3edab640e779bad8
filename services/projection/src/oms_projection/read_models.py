"""`python -m oms_projection read-models`: build a version of the read models beside the one in use, compare, switch, drop."""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from time import monotonic
from typing import Any

import asyncpg
import msgspec
from aiokafka import TopicPartition
from oms_kafka.clients import Reader, count_partitions, make_reader
from oms_kafka.topic_ids import fetch_topic_ids
from oms_runtime.database import BUILD_LOCK, STORE_LOCK, Connection, Database, connect, migrate, open_database
from oms_runtime.errors import RETRYABLE_ERRORS
from oms_runtime.model import Service
from oms_runtime.records import Checkpoint, RecordSifter
from oms_runtime.server import OUT_OF_REACH, REFUSED
from oms_runtime.settings import RuntimeSettings

from oms_projection.projector import FOLDS
from oms_projection.rebuild import (
    SCRATCH,
    CannotRebuild,
    Columns,
    Comparison,
    Digests,
    Rebuild,
    columns_of,
    compare,
    digests_of,
    read_corrections,
    shared,
)
from oms_projection.tables import READ_MODELS_VERSION
from oms_projection.versions import drop_first_tables, group_of, schema_of, version_in_use, versions_locked

REPLACED = "read_models_replaced"
"""The schema of tables that a repeated build has replaced, until they are dropped."""
MAX_LAG_RECORDS = 1_000
"""A version that is further behind the topics is not switched to: the query API would go back in time."""
PROGRESS_SECONDS = 1.0
COMPARE_ATTEMPT_SECONDS = 0.1
COMPARE_WITHIN_SECONDS = 30.0
"""Two versions under load are at the same offsets only now and then."""
DROP_LOCK_TIMEOUT_MS = 1_000
DROP_WITHIN_SECONDS = 60.0
"""For those who still read the tables to end: queries, a backup."""

Report = dict[str, Any]


class Refused(Exception):
    """What was asked for cannot be done now. The message says why, and what to do."""


async def build(service: Service, settings: RuntimeSettings, *, again: bool = False, max_events_per_second: float = 0) -> Report:
    """Build this code's version beside the one in use, up to the ends of the topics, and compare the two. A build begins anew each time.

    `again` builds a version anew that is built already: its new tables take the place of the old ones. Raises Refused where another build
    is under way, CannotRebuild, or one of RETRYABLE_ERRORS.
    """
    began = monotonic()
    url, schema = settings.database_url.get_secret_value(), schema_of(READ_MODELS_VERSION)
    async with _opened(settings) as (database, reader), _building(url) as connection:
        await migrate(database, "oms_projection")
        in_use = await version_in_use(database)
        built_at = await database.fetchval("select built_at from read_models where version = $1", READ_MODELS_VERSION)
        if built_at is not None and not again:
            return {"version": READ_MODELS_VERSION, "state": "built", "built_at": built_at, "in_use": in_use == READ_MODELS_VERSION}
        async with versions_locked(database) as locked:
            await locked.execute("insert into read_models (version) values ($1) on conflict do nothing", READ_MODELS_VERSION)
        rebuild = Rebuild(
            connection, reader, RecordSifter(service), await read_corrections(connection), max_records_per_second=max_events_per_second
        )
        await rebuild.make_tables()
        topic_ids = await fetch_topic_ids(reader, [topic.name for topic in service.reads])
        # Nothing that was asked before this of the commands concerns dead letters of this version: it has none yet.
        ends = await _ends(reader, service)
        columns = await columns_of(connection, SCRATCH)
        comparison, lettered = None, 0
        async with _progress(database, rebuild, sum(end for tp, end in ends.items() if tp.topic in FOLDS)):
            if in_use is not None:
                used = await _take(url, in_use, columns)
                ends = await _ends(reader, service)  # the version in use may have read what came since
                await rebuild.fold_up_to(_folded({tp: min(end, used.offsets.get(tp, 0)) for tp, end in ends.items()}))
                async with connection.transaction():
                    digests = await digests_of(connection, SCRATCH, shared(columns, used.columns))
                comparison, lettered = compare(columns, used.columns, digests, used.digests), used.dead_letters
            await rebuild.fold_up_to(_folded(await _ends(reader, service)))
        _say("the records are read: making indexes")
        await rebuild.finish_tables()
        checkpoints = {tp: rebuild.checkpoints.get(tp) or Checkpoint(end, 0) for tp, end in ends.items()}
        await _put_in_place(database, schema, checkpoints, topic_ids, comparison)
        return {
            "version": READ_MODELS_VERSION,
            "state": "built",
            "in_use": await version_in_use(database) == READ_MODELS_VERSION,
            "records": rebuild.records,
            "seconds": rebuild.seconds,
            "seconds_with_indexes": monotonic() - began,
            "compared_with": in_use,
            "comparison": comparison,
            "dead_letters_in_use": lettered,
            "group": group_of(READ_MODELS_VERSION),
        }


async def verify(service: Service, settings: RuntimeSettings) -> Report:
    """Fold all topics anew up to the checkpoints of this code's version, and compare. Changes nothing.

    Raises Refused, CannotRebuild, or one of RETRYABLE_ERRORS.
    """
    url = settings.database_url.get_secret_value()
    async with _opened(settings) as (database, reader), _building(url) as connection:
        rebuild = Rebuild(connection, reader, RecordSifter(service), await read_corrections(connection))
        try:
            await rebuild.make_tables()
            columns = await columns_of(connection, SCRATCH)
            stored = await _take(url, READ_MODELS_VERSION, columns)
            if stored.dead_letters:
                raise CannotRebuild(f"{stored.dead_letters} records are set aside: redrive or discard them first")
            ends = _folded(stored.offsets)
            async with _progress(None, rebuild, sum(ends.values())):
                await rebuild.fold_up_to(ends)
            async with connection.transaction():
                rebuilt = await digests_of(connection, SCRATCH, shared(columns, stored.columns))
        finally:
            await _drop_schema(database, SCRATCH)
    comparison = compare(columns, stored.columns, rebuilt, stored.digests)
    return {"records": rebuild.records, "seconds": rebuild.seconds} | asdict(comparison)


async def status(settings: RuntimeSettings, *, compared: bool = False) -> Report:
    """The versions there are. With `compared` the one in use is compared with the others that are built, once they are at equal offsets."""
    url = settings.database_url.get_secret_value()
    async with _opened(settings) as (database, reader):
        in_use = await version_in_use(database)
        building = await database.fetchval(_IS_LOCKED, BUILD_LOCK)
        versions: list[Report] = []
        for row in await database.fetch("select * from read_models order by version"):
            version, built = row["version"], row["built_at"] is not None
            comparison = msgspec.json.decode(row["comparison"]) if row["comparison"] else None
            if compared and built and in_use not in (None, version):
                assert in_use is not None
                comparison = asdict(found) if (found := await _compare_live(url, in_use, version)) else {"same": None}
            versions.append(
                {
                    "version": version,
                    "state": "built" if built else "building" if building else "interrupted",
                    "in_use": row["in_use"],
                    "built_at": row["built_at"],
                    "records": row["records"],
                    "of_records": row["of_records"],
                    "lag": await _lag(database, reader, version) if built else None,
                    "dead_letters": await _dead_letters(database, version) if built else None,
                    "schema": schema_of(version),
                    "group": group_of(version),
                    "comparison": comparison,
                }
            )
        return {"in_use": in_use, "code": READ_MODELS_VERSION, "versions": versions}


async def switch(settings: RuntimeSettings, version: int, *, max_lag: int = MAX_LAG_RECORDS) -> Report:
    """Have the query API read `version` from its next query on. Raises Refused where that is not built, or too far behind."""
    async with _opened(settings) as (database, reader):
        lag = await _lag(database, reader, version) if await _is_built(database, version) else None
        if lag is None:
            raise Refused(f"version {version} is not built: `read-models build`, by the code of that version, builds it")
        before = await version_in_use(database)
        if before != version:
            if lag > max_lag:
                raise Refused(
                    f"version {version} is {lag} records behind the topics, more than {max_lag}: see that a process of that version runs, "
                    "and wait for it; --max-lag accepts more"
                )
            async with versions_locked(database) as connection:
                if not await _is_built(connection, version):
                    raise Refused(f"version {version} was dropped meanwhile")
                await connection.execute("update read_models set in_use = false where in_use")
                await connection.execute("update read_models set in_use = true where version = $1", version)
        return {"in_use": version, "before": before, "lag": lag, "dead_letters": await _dead_letters(database, version)}


async def drop(settings: RuntimeSettings, version: int) -> Report:
    """Drop a version that is not in use, built or not. Its processes do nothing from then on."""
    url = settings.database_url.get_secret_value()
    async with _opened(settings) as (database, _), _building(url):
        async with versions_locked(database) as connection:
            found = await connection.fetchval("select in_use from read_models where version = $1", version)
            if found:
                raise Refused(f"version {version} is in use: switch to another one first")
            if found is None and not await connection.fetchval("select to_regnamespace($1) is not null", schema_of(version)):
                raise Refused(f"there is no version {version}: `read-models status` shows those there are")
            await connection.execute("delete from read_models where version = $1", version)
        await _drop_schema(database, schema_of(version))
        if version == READ_MODELS_VERSION:
            await _drop_schema(database, SCRATCH)
    group = group_of(version)
    return {
        "dropped": version,
        "group": group,
        "note": f"consumer group {group} stays until the broker expires it (offsets.retention.minutes), or you delete it",
    }


class _Taken(msgspec.Struct):
    """A version's columns, and its offsets, dead letters and digests as of one moment."""

    columns: Columns
    offsets: dict[TopicPartition, int]
    dead_letters: int
    digests: Digests


async def _take(url: str, version: int, columns: Columns) -> _Taken:
    """Take a version's digests of what it has in common with `columns`. Raises Refused where the version is not built."""
    connection, schema = await connect(url, command_timeout=None), schema_of(version)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            if not await _is_built(connection, version):
                raise Refused(f"version {version} is not built: `read-models status` shows what there is")
            own = await columns_of(connection, schema)
            return _Taken(
                own,
                await _offsets(connection, schema),
                await _dead_letters(connection, version),
                await digests_of(connection, schema, shared(columns, own)),
            )
    finally:
        connection.terminate()


async def _compare_live(url: str, one: int, other: int) -> Comparison | None:
    """Compare two versions that both are kept up to date. None where they were never at the same offsets in COMPARE_WITHIN_SECONDS."""
    connection = await connect(url, command_timeout=None)
    deadline = monotonic() + COMPARE_WITHIN_SECONDS
    try:
        while monotonic() < deadline:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                offsets = [_folded(await _offsets(connection, schema_of(version))) for version in (one, other)]
                if offsets[0] == offsets[1]:
                    columns = await columns_of(connection, schema_of(one)), await columns_of(connection, schema_of(other))
                    common = shared(*columns)
                    digests = [await digests_of(connection, schema_of(version), common) for version in (one, other)]
                    return compare(*columns, digests[0], digests[1])
            await asyncio.sleep(COMPARE_ATTEMPT_SECONDS)
        return None
    finally:
        connection.terminate()


async def _put_in_place(
    database: Database, schema: str, checkpoints: dict[TopicPartition, Checkpoint], topic_ids: dict[str, str], comparison: Comparison | None
) -> None:
    """Make the scratch schema this code's version, in one transaction; where none is in use yet, it is from now on.

    Under the store's lock: a batch that had moved its checkpoint in tables that are replaced would write its rows into the new ones.
    """
    rows = [(tp.topic, tp.partition, at.next_offset, at.position, topic_ids.get(tp.topic)) for tp, at in checkpoints.items()]
    columns = ("topic", "partition", "next_offset", "position", "topic_id")
    async with versions_locked(database) as connection:
        await connection.execute(f"set local search_path to {SCRATCH}, public")
        await connection.copy_records_to_table("checkpoints", records=rows, columns=columns)
        await connection.execute("select pg_advisory_xact_lock($1)", STORE_LOCK)
        if await connection.fetchval("select to_regnamespace($1) is not null", schema):
            await connection.execute(f"drop schema if exists {REPLACED} cascade; alter schema {schema} rename to {REPLACED}")
        await connection.execute(f"alter schema {SCRATCH} rename to {schema}")
        await connection.execute(
            """update read_models set built_at = now(), comparison = $2,
                   in_use = in_use or not exists (select from read_models where in_use)
               where version = $1""",
            READ_MODELS_VERSION,
            None if comparison is None else msgspec.json.encode(comparison).decode(),
        )
        await drop_first_tables(connection)
    await _drop_schema(database, REPLACED)


async def _drop_schema(database: Database, schema: str) -> None:
    """Drop a schema, if it is there. Under the store's lock, with which every writer begins, so that no two wait for each other.

    Raises Refused where somebody reads its tables for DROP_WITHIN_SECONDS. Writers never wait longer than DROP_LOCK_TIMEOUT_MS.
    """
    deadline = monotonic() + DROP_WITHIN_SECONDS
    while True:
        try:
            async with database.acquire() as connection, connection.transaction():
                await connection.execute(f"set local lock_timeout to {DROP_LOCK_TIMEOUT_MS}; set local client_min_messages to warning")
                await connection.execute("select pg_advisory_xact_lock($1)", STORE_LOCK)
                await connection.execute(f"drop schema if exists {schema} cascade")
                return
        except asyncpg.LockNotAvailableError as error:
            if monotonic() > deadline:
                raise Refused(f"somebody still reads tables of {schema}: end that session, and try again") from error
            await asyncio.sleep(PROGRESS_SECONDS)


async def _ends(reader: Reader, service: Service) -> dict[TopicPartition, int]:
    counts = await count_partitions(reader, [topic.name for topic in service.reads])
    return {**await reader.end_offsets([TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)])}


def _folded(offsets: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
    return {tp: end for tp, end in offsets.items() if end and tp.topic in FOLDS}


async def _offsets(connection: Connection | Database, schema: str) -> dict[TopicPartition, int]:
    rows = await connection.fetch(f"select topic, partition, next_offset from {schema}.checkpoints")  # noqa: S608  # our own name
    return {TopicPartition(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def _lag(database: Database, reader: Reader, version: int) -> int:
    """How many records a version has still to read, of the partitions that it reads."""
    offsets = await _offsets(database, schema_of(version))
    if not offsets:
        return 0
    ends = await reader.end_offsets(list(offsets))
    return sum(max(0, ends[tp] - offset) for tp, offset in offsets.items())


async def _dead_letters(connection: Connection | Database, version: int) -> int:
    return await connection.fetchval(f"select count(*) from {schema_of(version)}.dead_letters")  # noqa: S608  # our own name


async def _is_built(connection: Connection | Database, version: int) -> bool:
    return bool(await connection.fetchval("select built_at is not null from read_models where version = $1", version))


_IS_LOCKED = """select exists (select from pg_locks join pg_database d on d.oid = database and datname = current_database()
    where locktype = 'advisory' and objid::bigint = $1::bigint and granted)"""


@asynccontextmanager
async def _opened(settings: RuntimeSettings) -> AsyncGenerator[tuple[Database, Reader]]:
    database = await open_database(settings.database_url.get_secret_value(), max_connections=2)
    reader = make_reader(settings, "oms-projection-read-models")
    try:
        await reader.start()
        yield database, reader
    finally:
        await reader.stop()
        database.terminate()


@asynccontextmanager
async def _building(url: str) -> AsyncGenerator[Connection]:
    """The connection that a build writes by. It holds the build's lock, which ends with it, however the process ends.

    Raises Refused where another one has the lock.
    """
    connection = await connect(url, command_timeout=None)
    try:
        if not await connection.fetchval("select pg_try_advisory_lock($1)", BUILD_LOCK):
            raise Refused("another build, verification or drop is under way: wait for its end. `read-models status` shows how far it is")
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def _progress(database: Database | None, rebuild: Rebuild, of_records: int) -> AsyncGenerator[None]:
    """Say every second how far a rebuild is, and store it in `database`."""
    began = monotonic()

    async def say() -> None:
        read, seconds = rebuild.read, monotonic() - began
        share = min(1, read / max(1, of_records))
        left = f"{seconds / share - seconds:,.0f} s left" if share else "no estimate yet"
        _say(f"{read:,} of {of_records:,} records ({share:.0%}), {rebuild.records / max(seconds, 0.001):,.0f} folded a second, {left}")
        if database is not None:
            with suppress(*RETRYABLE_ERRORS):  # it only informs, and is stored again in a second
                await database.fetch(
                    "update read_models set records = $2, of_records = $3 where version = $1", READ_MODELS_VERSION, read, of_records
                )

    async def say_periodically() -> None:
        while True:
            await say()
            await asyncio.sleep(PROGRESS_SECONDS)

    saying = asyncio.create_task(say_periodically())
    try:
        yield
    finally:
        saying.cancel()
        with suppress(asyncio.CancelledError):
            await saying
    await say()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def parser() -> argparse.ArgumentParser:
    """The arguments of `read-models`."""
    read_models = argparse.ArgumentParser(
        prog="python -m oms_projection read-models",
        description=f"Versions of the read models. This code has version {READ_MODELS_VERSION}.",
        epilog="The result is JSON on standard output, progress goes to standard error. Exit codes: 0 done, 1 refused, failed, or rows "
        "differ, 2 usage, 3 a server is out of reach. Example: read-models build --max-events-per-second 20000, then start processes of "
        "this release, then read-models switch",
    )
    commands = read_models.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="build this code's version beside the one in use, and compare the two")
    command.add_argument("--max-events-per-second", type=_positive, default=0, metavar="N", help="read no faster (default: no limit)")
    command.add_argument("--again", action="store_true", help="also where it is built: the new tables replace the old ones")
    command = commands.add_parser("status", help="show which versions there are, and which one is in use")
    command.add_argument("--compare", action="store_true", help="compare the rows of the one in use with those of the others")
    command = commands.add_parser("switch", help="have the query API read a version from its next query on")
    command.add_argument("version", type=int, nargs="?", default=READ_MODELS_VERSION, help="default: this code's")
    command.add_argument("--max-lag", type=int, default=MAX_LAG_RECORDS, metavar="RECORDS", help="default: %(default)s")
    command = commands.add_parser("drop", help="drop a version that is not in use; its processes do nothing from then on")
    command.add_argument("version", type=int)
    commands.add_parser("verify", help="fold all topics anew, and compare with this code's version; changes nothing")
    return read_models


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise ValueError(f"{text}: is not positive")
    return value


async def operate(service: Service, settings: RuntimeSettings, arguments: argparse.Namespace) -> int:
    """Do what an operator asks of the read models; returns the exit code."""
    try:
        report = await _do(service, settings, arguments)
    except asyncpg.UndefinedTableError as error:
        _say(f"error: {error}: this store has no versions yet; start projection, or build one")
        return REFUSED
    except (Refused, CannotRebuild) as error:
        _say(f"error: {error}")
        return REFUSED
    except RETRYABLE_ERRORS as error:
        _say(f"error: {type(error).__name__}: {error}")
        return OUT_OF_REACH
    except asyncpg.PostgresError as error:
        _say(f"error: {type(error).__name__}: {error}")
        return REFUSED
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(report, enc_hook=_plain)).decode() + "\n")
    comparisons = [version["comparison"] for version in report.get("versions", ())] if getattr(arguments, "compare", False) else [report]
    return 0 if all(comparison is None or comparison.get("same", True) for comparison in comparisons) else REFUSED


async def _do(service: Service, settings: RuntimeSettings, arguments: argparse.Namespace) -> Report:
    match arguments.command:
        case "build":
            return await build(service, settings, again=arguments.again, max_events_per_second=arguments.max_events_per_second)
        case "status":
            return await status(settings, compared=arguments.compare)
        case "switch":
            return await switch(settings, arguments.version, max_lag=arguments.max_lag)
        case "drop":
            return await drop(settings, arguments.version)
        case _:
            return await verify(service, settings)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def parse(arguments: Sequence[str]) -> argparse.Namespace | None:
    """What `read-models …` among the program's arguments asks for; None where it is something else. Exits with 2 where it is wrong."""
    return parser().parse_args(arguments[1:]) if arguments[:1] == ["read-models"] else None
