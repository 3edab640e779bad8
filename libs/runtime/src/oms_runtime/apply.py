"""One batch of records, one transaction: checkpoints, decisions, events, states and dead letters stand or fall together.

Knows nothing of how records arrive: the consumer feeds it, and its tests do.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import md5
from time import monotonic
from typing import NamedTuple

import asyncpg
import structlog
from aiokafka.errors import KafkaError
from oms_contracts.envelope import from_headers, from_own_headers
from oms_contracts.message import UnreadableMessage, decode, type_of, validate
from oms_contracts.operations import RedriveDeadLetters

from oms_runtime.database import Connection, Database, savepoint, writing
from oms_runtime.letters import Letters, blocked_keys, count_letters, letter_id, letters_of, mend
from oms_runtime.metrics import Metrics
from oms_runtime.model import Command, Received, Service
from oms_runtime.store import OPERATIONS, Cause, Known, Move, OtherRules, Work, move_checkpoints, take_stand

log = structlog.get_logger(__name__)

Partition = tuple[str, int]
SURROUNDINGS: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    KafkaError,
    asyncpg.PostgresConnectionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.exceptions.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.InvalidCachedStatementError,
    OtherRules,
)
"""Faults of the surroundings: whatever they hit is tried again, for as long as they last, and never set aside.

Among them a schema that is not ours, and states that are not: what a process meets when it is about to be replaced by another version.
"""


def of_surroundings(error: BaseException) -> bool:
    """Whether to try again. asyncpg's complaints about a statement's arguments are interface errors too, but the record's fault."""
    return isinstance(error, SURROUNDINGS) and not isinstance(error, ValueError)


class LostPartition(Exception):
    """Another consumer has moved the checkpoint: this one no longer owns the partition, and has changed nothing."""


class Checkpoint(NamedTuple):
    """Where a partition's consumer stands: the next offset to apply, and the highest `ce_position` applied."""

    next_offset: int
    position: int


class Applier:
    """Applies records, commands and answers to one service's store. `committed` is told of all work that was committed."""

    def __init__(
        self,
        service: Service,
        database: Database,
        metrics: Metrics,
        clock: Callable[[], datetime],
        committed: Callable[[Work], None] = lambda _work: None,
    ) -> None:
        self._service = service
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._committed = committed
        self._letters = Letters(service.name, service.dead_letters)
        self._known = Known()
        self._turn = asyncio.Lock()
        """One transaction at a time in this process: the store's lock would make the others wait anyway, each with a connection."""
        self._topics = service.topics_of_events()
        self._trusted = service.trusted_topics()
        self._carries = {topic.name: {type_of(cls).name for cls in topic.messages} for topic in service.reads}

    async def checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Checkpoint]:
        """The stored checkpoints of `partitions`, begun at offset 0 where there are none."""
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
        self, records: Sequence[Received], stood: dict[Partition, Checkpoint], reached: Mapping[Partition, Checkpoint] | None = None
    ) -> None:
        """Apply records in order, in as few transactions as can be, and move `stood` along, in the end to `reached`.

        `reached` may lie behind the last of `records`, where what came after them is not for us; None means just behind them.
        A record that cannot be applied is found by halving the batch until it stands alone, and set aside.
        Raises LostPartition, or one of SURROUNDINGS; what was committed before that stays, and `stood` tells how far it went.
        """
        *before, last = _runs(records) or [()]
        for run in before:
            await self._apply_run(run, stood, _advance(run, stood))
        await self._apply_run(last, stood, _advance(last, stood) if reached is None else reached)

    async def _apply_run(
        self, records: Sequence[Received], stood: dict[Partition, Checkpoint], reached: Mapping[Partition, Checkpoint]
    ) -> None:
        try:
            await self._transact(records, stood, reached)
        except LostPartition:
            raise
        except Exception as error:
            if of_surroundings(error):
                raise
            self._metrics.batch_failures.labels("poison").inc()
            if len(records) > 1:
                middle = len(records) // 2
                await self._apply_run(records[:middle], stood, _advance(records[:middle], stood))
                await self._apply_run(records[middle:], stood, reached)
                return
            log.exception("record_set_aside", letter_id=letter_id(records[0]), correlation_id=records[0].key)
            await self._transact(records, stood, reached, culprit=error)

    async def _transact(
        self,
        records: Sequence[Received],
        stood: dict[Partition, Checkpoint],
        reached: Mapping[Partition, Checkpoint],
        culprit: Exception | None = None,
    ) -> None:
        began = monotonic()
        fresh = self._not_seen(records, stood)
        parsed = [] if culprit else [self._parse(record) for record in fresh]
        redrive = parsed[0].message if len(parsed) == 1 and isinstance(parsed[0].message, RedriveDeadLetters) else None
        commands = [] if redrive else self._commands(parsed)
        async with self._turn:
            async with writing(self._database) as connection:
                work, closed = await self._work(connection, commands, _moves(stood, reached))
                if culprit:
                    await self._set_aside(connection, work, fresh, culprit)
                elif redrive:
                    work = await self._redrive(connection, work, redrive)
                elif closed and len(open_ := await self._park(connection, work, parsed)) < len(parsed):
                    await self._handle(connection, work, open_, self._commands(open_))
                else:
                    await self._handle(connection, work, parsed, commands)
                await work.write(connection)
            stood.update(reached)
            self._done(work)
        self._metrics.batch_size.observe(len(records))
        self._metrics.batch_seconds.observe(monotonic() - began)

    async def apply_commands(self, commands: Sequence[tuple[str, Command]]) -> None:
        """Apply commands that came from inside (deadlines, answers of providers), each with the key it is for, in one transaction."""
        caused = [(command, Cause(correlation_id=key, causation_id=f"{self._service.name}-deadline")) for key, command in commands]
        async with self._turn:
            async with writing(self._database) as connection:
                work, _ = await self._work(connection, caused)
                await work.handle(connection, caused)
                await work.write(connection)
            self._done(work)

    async def move(self, stood: dict[Partition, Checkpoint], reached: Mapping[Partition, Checkpoint]) -> None:
        """Store how far the reading is where nothing that came was for us, and move `stood` there. Raises as `apply` does."""
        async with self._turn, self._database.acquire() as connection:
            moves = _moves(stood, reached)
            _check_moved(moves, await move_checkpoints(connection, moves))
            stood.update(reached)

    def _commands(self, records: Sequence[Received]) -> list[tuple[Command, Cause]]:
        """What records ask of the decider."""
        if self._service.projector is not None:
            return []
        return [(command, _cause(record)) for record in records for command in self._service.commands_for(record.message)]

    async def _work(
        self, connection: Connection, commands: Iterable[tuple[Command, Cause]] = (), moves: Sequence[Move] = ()
    ) -> tuple[Work, bool]:
        """In one round trip: move checkpoints, see where the store stands, and read what `commands` will be decided on."""
        decider = self._service.decider
        keys = {key for command, _ in commands for key in decider.reads(command)} if decider else set[str]()
        stand = await take_stand(connection, decider, moves, sorted(self._known.without(keys)))
        _check_moved(moves, stand.moved)
        known = self._known.at(stand.head)
        known.update(stand.states)
        return Work(decider, self._topics, stand.head, self._clock(), known), stand.closed

    def _done(self, work: Work) -> None:
        self._known.learn(work)
        if work.rows:
            self._metrics.appended.inc(len(work.rows))
            self._committed(work)

    def _not_seen(self, records: Sequence[Received], stood: dict[Partition, Checkpoint]) -> list[Received]:
        """Without records whose position was applied before: an owner that published twice is heard once."""
        highest = {partition: checkpoint.position for partition, checkpoint in stood.items()}
        fresh: list[Received] = []
        for record in records:
            if record.position is not None and record.topic in self._trusted:
                if record.position <= highest[record.topic, record.partition]:
                    continue
                highest[record.topic, record.partition] = record.position
            fresh.append(record)
        return fresh

    def _parse(self, record: Received) -> Received:
        headers_of, read = (from_own_headers, decode) if record.topic in self._trusted else (from_headers, validate)
        envelope = headers_of(record.headers)
        if envelope.type not in self._carries[record.topic]:
            raise UnreadableMessage(f"ce_type: {envelope.type} does not belong on {record.topic}")
        record.envelope, record.message, record.type = envelope, read(envelope.type, record.value), envelope.type
        return record

    async def _handle(
        self, connection: Connection, work: Work, records: Sequence[Received], commands: Sequence[tuple[Command, Cause]]
    ) -> None:
        if self._service.projector is not None:
            await self._service.projector(connection, records)
        else:
            await work.handle(connection, commands)

    async def _park(self, connection: Connection, work: Work, records: Sequence[Received]) -> list[Received]:
        """Set aside what comes behind a letter of its key; answers with the others."""
        blocked = await blocked_keys(connection, [record.key for record in records if record.key])
        waiting = [record for record in records if record.key in blocked and not _tells_of_letters(record)]
        if waiting:
            await self._set_aside(connection, work, waiting, None)
        return [record for record in records if record.key not in blocked or _tells_of_letters(record)]

    async def _set_aside(self, connection: Connection, work: Work, records: Iterable[Received], error: Exception | None) -> None:
        for record in records:
            await self._letters.set_aside(connection, work, record, error)
        self._metrics.dead_letters.set(await count_letters(connection))

    async def _redrive(self, connection: Connection, work: Work, asked: RedriveDeadLetters) -> Work:
        """Apply a key's letters in order, each under a savepoint of its own; the first that fails again stays, and all behind it."""
        if asked.letter_id is not None and asked.value is not None:
            await mend(connection, asked.letter_id, asked.value.encode())
        for letter, attempts in await letters_of(connection, asked.source_key):
            attempt, _ = await self._work(connection)
            discarded = asked.discard and letter_id(letter) == asked.letter_id
            try:
                async with savepoint(connection):
                    if not discarded:
                        parsed = [self._parse(letter)]
                        await self._handle(connection, attempt, parsed, self._commands(parsed))
                    await self._letters.redriven(connection, attempt, letter, attempts + 1, discarded=discarded)
                    await attempt.write(connection)
            except Exception as error:
                if of_surroundings(error):
                    raise
                log.exception("redrive_failed", letter_id=letter_id(letter), correlation_id=letter.key)
                work, _ = await self._work(connection)
                await self._letters.failed_again(connection, work, letter, attempts + 1, error)
                break
        self._metrics.dead_letters.set(await count_letters(connection))
        return work


def _tells_of_letters(record: Received) -> bool:
    """Whether it bears a key only to name a letter's. It never waits: of one that did we would tell, and read that again, without end."""
    return (record.type or "").startswith(OPERATIONS)


def _runs(records: Sequence[Received]) -> list[Sequence[Received]]:
    """The batch, cut so that each redrive stands alone: it opens keys that the records before it must still find closed."""
    redrive = next((i for i, record in enumerate(records) if record.type == _REDRIVE), None)
    if redrive is None:
        return [records] if records else []
    return [run for run in (records[:redrive], records[redrive : redrive + 1], *_runs(records[redrive + 1 :])) if run]


_REDRIVE = type_of(RedriveDeadLetters).name


def _moves(stood: Mapping[Partition, Checkpoint], reached: Mapping[Partition, Checkpoint]) -> list[Move]:
    return [Move(*name, stood[name].next_offset, at.next_offset, at.position) for name, at in sorted(reached.items())]


def _check_moved(moves: Sequence[Move], moved: int) -> None:
    if moved != len(moves):
        raise LostPartition(f"{len(moves) - moved} of {len(moves)} checkpoints were moved by another consumer")


def _advance(records: Sequence[Received], stood: dict[Partition, Checkpoint]) -> dict[Partition, Checkpoint]:
    moved: dict[Partition, Checkpoint] = {}
    for record in records:
        name = record.topic, record.partition
        before = moved.get(name) or stood[name]
        moved[name] = Checkpoint(record.offset + 1, max(before.position, record.position or 0))
    return moved


def _cause(record: Received) -> Cause:
    envelope = record.envelope
    assert envelope is not None
    correlation = envelope.correlationid or record.key or envelope.id
    trace = envelope.traceparent[3:35] or md5(correlation.encode(), usedforsecurity=False).hexdigest()
    span = md5(f"{record.topic}/{record.partition}/{record.offset}".encode(), usedforsecurity=False).hexdigest()[:16]
    return Cause(correlation_id=correlation, causation_id=envelope.id, traceparent=f"00-{trace}-{span}-01")
