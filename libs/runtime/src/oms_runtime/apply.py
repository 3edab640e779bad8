"""One batch of records, one transaction: checkpoints, decisions, events, states and dead letters are committed together or not at all.

The transaction of a batch (`Applier._transact`), step by step; each of the first four is one round trip to PostgreSQL:

1. Begin, and take the store's advisory lock.
2. Move each partition's checkpoint by compare-and-set, read the store's head, and load the states that the batch's commands read and the
   cache lacks.
3. Decide on each command in order, and fold each event at once; then append all events and save all changed states in one statement.
4. Commit. Now the cache takes over what was read and changed, the relay gets the events, and the scheduler what is due.

How records arrive is not known here: the consumer provides them, and so do its tests.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import md5
from time import monotonic

import structlog
from oms_contracts.message import type_of
from oms_contracts.operations import RedriveDeadLetters, is_operation

from oms_runtime.database import Connection, Database, savepoint, writing
from oms_runtime.dead_letters import DeadLetters, blocked_keys, count_dead_letters, dead_letters_of, letter_id, replace_value
from oms_runtime.errors import LostPartition, is_retryable
from oms_runtime.metrics import Metrics
from oms_runtime.model import Command, IncomingRecord, Service
from oms_runtime.records import Checkpoint, Partition, RecordSifter
from oms_runtime.store import CheckpointMove, move_checkpoints, move_checkpoints_and_load
from oms_runtime.unit_of_work import Cause, StateCache, UnitOfWork

log = structlog.get_logger(__name__)


class Applier:
    """Applies records, commands and providers' answers to one service's store. `committed` gets every committed unit of work."""

    def __init__(
        self,
        service: Service,
        database: Database,
        metrics: Metrics,
        clock: Callable[[], datetime],
        committed: Callable[[UnitOfWork], None] = lambda _unit: None,
    ) -> None:
        self._service = service
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._committed = committed
        self._dead_letters = DeadLetters(service.name, service.dead_letters)
        self._cache = StateCache()
        self._transaction_lock = asyncio.Lock()
        """One transaction at a time in this process: the store's lock would make the others wait anyway, each with a connection."""
        self._topics = service.topics_of_events()
        self._sifter = RecordSifter(service)

    async def checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Checkpoint]:
        """The stored checkpoints of `partitions`, created at offset 0 where there are none."""
        wanted = sorted(partitions)
        topics, numbers = [t for t, _ in wanted], [p for _, p in wanted]
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(
                "insert into checkpoints select t, p, 0, 0 from unnest($1::text[], $2::int[]) as w (t, p) on conflict do nothing",
                topics,
                numbers,
            )
            found = await connection.fetch(
                """select topic, partition, next_offset, position from checkpoints
                   join unnest($1::text[], $2::int[]) as w (t, p) on topic = t and partition = p""",
                topics,
                numbers,
            )
        return {(row["topic"], row["partition"]): Checkpoint(row["next_offset"], row["position"]) for row in found}

    async def apply(
        self,
        records: Sequence[IncomingRecord],
        checkpoints: dict[Partition, Checkpoint],
        next_checkpoints: Mapping[Partition, Checkpoint] | None = None,
    ) -> None:
        """Apply records in order, in as few transactions as possible, and update `checkpoints`, in the end to `next_checkpoints`.

        `next_checkpoints` may lie behind the last of `records`, where what followed is not for us; None means just behind them.
        A record that cannot be applied is found by halving the batch until it is alone, and set aside.
        Raises LostPartition, or one of RETRYABLE_ERRORS. What was committed before that stays, and `checkpoints` shows how far it went.
        """
        *before, last = _split_at_redrives(records) or [()]
        for run in before:
            await self._apply_run(run, checkpoints, _advance(run, checkpoints))
        await self._apply_run(last, checkpoints, _advance(last, checkpoints) if next_checkpoints is None else next_checkpoints)

    async def _apply_run(
        self,
        records: Sequence[IncomingRecord],
        checkpoints: dict[Partition, Checkpoint],
        next_checkpoints: Mapping[Partition, Checkpoint],
    ) -> None:
        try:
            await self._transact(records, checkpoints, next_checkpoints)
        except LostPartition:
            raise
        except Exception as error:
            if is_retryable(error):
                raise
            self._metrics.batch_failures.labels("poison").inc()
            if len(records) > 1:
                middle = len(records) // 2
                await self._apply_run(records[:middle], checkpoints, _advance(records[:middle], checkpoints))
                await self._apply_run(records[middle:], checkpoints, next_checkpoints)
                return
            log.exception("record_set_aside", letter_id=letter_id(records[0]), correlation_id=records[0].key)
            await self._transact(records, checkpoints, next_checkpoints, error=error)

    async def _transact(
        self,
        records: Sequence[IncomingRecord],
        checkpoints: dict[Partition, Checkpoint],
        next_checkpoints: Mapping[Partition, Checkpoint],
        error: Exception | None = None,
    ) -> None:
        """Handle `records` in one transaction, or set the only one of them aside because of `error`."""
        began = monotonic()
        new = self._sifter.without_duplicates(records, checkpoints)
        parsed = [] if error else [self._sifter.parse(record) for record in new]
        redrive = parsed[0].message if len(parsed) == 1 and isinstance(parsed[0].message, RedriveDeadLetters) else None
        commands = [] if redrive else self._commands(parsed)
        async with self._transaction_lock:
            async with writing(self._database) as connection:
                unit, has_dead_letters = await self._begin_unit(connection, commands, _moves(checkpoints, next_checkpoints))
                if error:
                    await self._set_aside(connection, unit, new, error)
                elif redrive:
                    unit = await self._redrive(connection, unit, redrive)
                elif has_dead_letters and len(unblocked := await self._park(connection, unit, parsed)) < len(parsed):
                    await self._handle(connection, unit, unblocked, self._commands(unblocked))
                else:
                    await self._handle(connection, unit, parsed, commands)
                await unit.write(connection)
            checkpoints.update(next_checkpoints)
            self._after_commit(unit)
        self._metrics.batch_size.observe(len(records))
        self._metrics.batch_seconds.observe(monotonic() - began)

    async def apply_commands(self, commands: Sequence[tuple[str, Command]]) -> None:
        """Apply commands from inside (deadlines, providers' answers), each with the key it is for, in one transaction."""
        caused = [(command, Cause(correlation_id=key, causation_id=f"{self._service.name}-deadline")) for key, command in commands]
        async with self._transaction_lock:
            async with writing(self._database) as connection:
                unit, _ = await self._begin_unit(connection, caused)
                await unit.handle(connection, caused)
                await unit.write(connection)
            self._after_commit(unit)

    async def move_checkpoints(self, checkpoints: dict[Partition, Checkpoint], next_checkpoints: Mapping[Partition, Checkpoint]) -> None:
        """Store `next_checkpoints` where no record was for us, and update `checkpoints` to them. Raises as `apply` does."""
        async with self._transaction_lock, self._database.acquire() as connection:
            moves = _moves(checkpoints, next_checkpoints)
            _check_moved(moves, await move_checkpoints(connection, moves))
            checkpoints.update(next_checkpoints)

    def _commands(self, records: Sequence[IncomingRecord]) -> list[tuple[Command, Cause]]:
        """What records ask of the decider."""
        if self._service.projector is not None:
            return []
        return [(command, _cause(record)) for record in records for command in self._service.commands_for(record.message)]

    async def _begin_unit(
        self, connection: Connection, commands: Iterable[tuple[Command, Cause]] = (), moves: Sequence[CheckpointMove] = ()
    ) -> tuple[UnitOfWork, bool]:
        """In one round trip: move checkpoints and load what `commands` will be decided on. Also returns whether there are dead letters."""
        decider = self._service.decider
        keys = {key for command, _ in commands for key in decider.reads(command)} if decider else set[str]()
        snapshot = await move_checkpoints_and_load(connection, decider, moves, sorted(self._cache.missing(keys)))
        _check_moved(moves, snapshot.moved)
        cached = self._cache.at(snapshot.head)
        cached.update(snapshot.states)
        return UnitOfWork(decider, self._topics, snapshot.head, self._clock(), cached), snapshot.has_dead_letters

    def _after_commit(self, unit: UnitOfWork) -> None:
        self._cache.update(unit)
        if unit.events:
            self._metrics.appended.inc(len(unit.events))
            self._committed(unit)

    async def _handle(
        self,
        connection: Connection,
        unit: UnitOfWork,
        records: Sequence[IncomingRecord],
        commands: Sequence[tuple[Command, Cause]],
    ) -> None:
        if self._service.projector is not None:
            await self._service.projector(connection, records)
        else:
            await unit.handle(connection, commands)

    async def _park(self, connection: Connection, unit: UnitOfWork, records: Sequence[IncomingRecord]) -> list[IncomingRecord]:
        """Set aside the records whose key has dead letters; returns the others."""
        blocked = await blocked_keys(connection, [record.key for record in records if record.key])
        waiting = [record for record in records if record.key in blocked and not _is_about_dead_letters(record)]
        if waiting:
            await self._set_aside(connection, unit, waiting, None)
        return [record for record in records if record.key not in blocked or _is_about_dead_letters(record)]

    async def _set_aside(
        self, connection: Connection, unit: UnitOfWork, records: Iterable[IncomingRecord], error: Exception | None
    ) -> None:
        for record in records:
            await self._dead_letters.set_aside(connection, unit, record, error)
        self._metrics.dead_letters.set(await count_dead_letters(connection))

    async def _redrive(self, connection: Connection, unit: UnitOfWork, asked: RedriveDeadLetters) -> UnitOfWork:
        """Apply a key's dead letters in order, each under a savepoint; the first that fails again stays, and all behind it."""
        if asked.letter_id is not None and asked.value is not None:
            await replace_value(connection, asked.letter_id, asked.value.encode())
        for record, attempts in await dead_letters_of(connection, asked.source_key):
            attempt, _ = await self._begin_unit(connection)
            discarded = asked.discard and letter_id(record) == asked.letter_id
            try:
                async with savepoint(connection):
                    if not discarded:
                        parsed = [self._sifter.parse(record)]
                        await self._handle(connection, attempt, parsed, self._commands(parsed))
                    await self._dead_letters.redriven(connection, attempt, record, attempts + 1, discarded=discarded)
                    await attempt.write(connection)
            except Exception as error:
                if is_retryable(error):
                    raise
                log.exception("redrive_failed", letter_id=letter_id(record), correlation_id=record.key)
                unit, _ = await self._begin_unit(connection)
                await self._dead_letters.failed_again(connection, unit, record, attempts + 1, error)
                break
        self._metrics.dead_letters.set(await count_dead_letters(connection))
        return unit


def _is_about_dead_letters(record: IncomingRecord) -> bool:
    """Whether a record bears a key only to name a dead letter's. It never waits: an event about its waiting would wait too, without end."""
    return is_operation(record.type or "")


def _split_at_redrives(records: Sequence[IncomingRecord]) -> list[Sequence[IncomingRecord]]:
    """The batch, cut so that each redrive is alone: it unblocks keys that must still be blocked for the records before it."""
    redrive = next((i for i, record in enumerate(records) if record.type == _REDRIVE), None)
    if redrive is None:
        return [records] if records else []
    return [run for run in (records[:redrive], records[redrive : redrive + 1], *_split_at_redrives(records[redrive + 1 :])) if run]


_REDRIVE = type_of(RedriveDeadLetters).name


def _moves(checkpoints: Mapping[Partition, Checkpoint], next_checkpoints: Mapping[Partition, Checkpoint]) -> list[CheckpointMove]:
    return [
        CheckpointMove(*name, checkpoints[name].next_offset, at.next_offset, at.position) for name, at in sorted(next_checkpoints.items())
    ]


def _check_moved(moves: Sequence[CheckpointMove], moved: int) -> None:
    if moved != len(moves):
        raise LostPartition(f"{len(moves) - moved} of {len(moves)} checkpoints were moved by another consumer")


def _advance(records: Sequence[IncomingRecord], checkpoints: dict[Partition, Checkpoint]) -> dict[Partition, Checkpoint]:
    """The checkpoints just behind `records`."""
    advanced: dict[Partition, Checkpoint] = {}
    for record in records:
        name = record.topic, record.partition
        before = advanced.get(name) or checkpoints[name]
        advanced[name] = Checkpoint(record.offset + 1, max(before.position, record.position or 0))
    return advanced


def _cause(record: IncomingRecord) -> Cause:
    envelope = record.envelope
    assert envelope is not None
    correlation = envelope.correlationid or record.key or envelope.id
    trace = envelope.traceparent[3:35] or md5(correlation.encode(), usedforsecurity=False).hexdigest()
    span = md5(f"{record.topic}/{record.partition}/{record.offset}".encode(), usedforsecurity=False).hexdigest()[:16]
    return Cause(correlation_id=correlation, causation_id=envelope.id, traceparent=f"00-{trace}-{span}-01")
