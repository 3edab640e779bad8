"""One batch of records, one transaction: checkpoints, decisions, events, states and dead letters are committed together or not at all.

The transaction of a batch (`Applier._transact`), step by step; each of the first four is one round trip to PostgreSQL:

1. Begin, and take the store's advisory lock.
2. Move each partition's checkpoint by compare-and-set, read the store's head and the server's clock, and load the states that the batch's
   commands read and the cache lacks.
3. Decide on each command in order, and fold each event at once; then append all events and save all changed states in one statement.
4. Commit. Now the cache takes over what was read and changed, the relay gets the events, and the scheduler what is due.

How records arrive is not known here: the consumer provides them, and so do its tests.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from secrets import token_hex
from time import monotonic

import msgspec
import structlog
from oms_contracts.catalogue import TopicsByName
from oms_contracts.dead_letters import RedriveDeadLetters, concerns_dead_letters
from oms_contracts.message import SendersFault, type_of

from oms_runtime.checkpoints import load_checkpoints, reject_checkpoints
from oms_runtime.clock import Clock
from oms_runtime.database import Connection, Database, savepoint, writing
from oms_runtime.dead_letters import (
    Blocked,
    DeadLetters,
    blocked_by,
    blocked_keys,
    count_dead_letters,
    dead_letters_of,
    explain,
    is_dead_letter_of,
    letter_id,
    replace_value,
)
from oms_runtime.errors import ConsumptionStopped, LostPartition, check_store_not_behind, is_retryable
from oms_runtime.metrics import Metrics
from oms_runtime.model import Cause, Command, IncomingRecord, Service
from oms_runtime.poison import PoisonLimit
from oms_runtime.records import Checkpoint, Partition, PartitionFacts, RecordSifter, ReusedPosition, store_epoch
from oms_runtime.store import CheckpointMove, StoreSnapshot, move_checkpoints, move_checkpoints_and_load
from oms_runtime.traces import Handled, RecordSpans, handled_record, span_id, trace_id, traceparent
from oms_runtime.unit_of_work import StateCache, UnitOfWork

log = structlog.get_logger(__name__)


MAX_KEPT_VALUE_BYTES = 1024 * 1024
"""Of a dead letter's value: what any topic takes."""
MAX_REDRIVEN_AT_ONCE = 100
"""Dead letters in one transaction of a redrive."""


class Applier:
    """Applies records, commands and providers' answers to one service's store.

    `committed` gets every committed unit of work; `poison` limits how many records may fail for one reason; `record_spans` gets what was
    handled, where it is traced.
    """

    def __init__(
        self,
        service: Service,
        database: Database,
        metrics: Metrics,
        clock: Clock,
        committed: Callable[[UnitOfWork], None] = lambda _unit: None,
        *,
        poison: PoisonLimit | None = None,
        record_spans: RecordSpans | None = None,
    ) -> None:
        self._service = service
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._committed = committed
        self._max_event_bytes = service.max_event_bytes()
        self._topics_read = service.topics_read()
        self._dead_letters = DeadLetters(service.name, service.dead_letters, MAX_KEPT_VALUE_BYTES, self._topics_read)
        self._cache = StateCache()
        self._head = 0
        """The highest position that this process has seen in the store."""
        self.store_doubted = asyncio.Event()
        """Set when the store was found to have lost events; see `trust_store`."""
        self._transaction_lock = asyncio.Lock()
        """One transaction at a time in this process: the store's lock would make the others wait anyway, each with a connection."""
        self._topics = service.topics_of_events()
        for kind in self._topics:
            self._metrics.appended.labels(kind)  # from 0 on, or Prometheus would not see the first event as an increase
        self._trusted = service.trusted_topics()
        self._sifter = RecordSifter(service)
        self._poison = poison or PoisonLimit(0, 0, monotonic)
        self._record_spans = record_spans

    def trust_store(self, head: int) -> None:
        """The store was found to have all that is published, and ends at `head`."""
        self._head = head
        self.store_doubted.clear()

    async def checkpoints(self, partitions: Iterable[Partition]) -> dict[Partition, Checkpoint]:
        """The stored checkpoints of `partitions`, created at offset 0 where there are none."""
        return await load_checkpoints(self._database, partitions)

    async def reject_checkpoints(
        self, checkpoints: Mapping[Partition, Checkpoint], facts: Mapping[Partition, PartitionFacts]
    ) -> dict[Partition, str]:
        """The partitions whose checkpoint does not fit what the broker says of them, each with the reason. Remembers new topic ids."""
        return await reject_checkpoints(self._database, checkpoints, facts)

    async def apply(
        self,
        records: Sequence[IncomingRecord],
        checkpoints: dict[Partition, Checkpoint],
        next_checkpoints: Mapping[Partition, Checkpoint] | None = None,
    ) -> None:
        """Apply records in order, in as few transactions as possible, and update `checkpoints`, in the end to `next_checkpoints`.

        `next_checkpoints` may lie behind the last of `records`, where what followed is not for us; None means just behind them.
        A record that cannot be applied is set aside with its reason. Raises LostPartition, ConsumptionStopped, or one of RETRYABLE_ERRORS.
        What was committed before that stays, and `checkpoints` shows how far it went.
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
        """Apply a run in one transaction. Where that fails, and not by a record that is known, halve the run until the record is alone."""
        try:
            if len(records) == 1 and records[0].type == _REDRIVE:
                await self._redrive(records[0], checkpoints, next_checkpoints)
            else:
                await self._transact(records, checkpoints, next_checkpoints)
        except (LostPartition, ConsumptionStopped):
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
            await self._transact(records, checkpoints, next_checkpoints, known={0: error})

    async def _transact(
        self,
        records: Sequence[IncomingRecord],
        checkpoints: dict[Partition, Checkpoint],
        next_checkpoints: Mapping[Partition, Checkpoint],
        known: Mapping[int, Exception] | None = None,
    ) -> None:
        """Handle `records` in one transaction, and set aside in it those that cannot be parsed or decided, and those behind them.

        `known` are errors found before, by index.
        """
        began = monotonic()
        new = self._sifter.without_duplicates(records, checkpoints)
        reused = self._sifter.reused_positions(records, checkpoints) if len(new) < len(records) else []
        errors = dict(known or {}) if len(new) == len(records) else {}
        asked = [[] if index in errors else self._ask(record, index, errors) for index, record in enumerate(new)]
        async with self._transaction_lock:
            async with writing(self._database) as connection:
                commands = [command for commands in asked for command in commands]
                snapshot = await self._load(connection, commands, _moves(checkpoints, next_checkpoints))
                keys = [record.key for record in new if record.key]
                blocked = await blocked_keys(connection, self._topics_read, keys) if snapshot.has_dead_letters else set[Blocked]()
                while True:
                    our_faults = self._our_faults(new, errors) if errors else []
                    unit = self._unit(snapshot)
                    handled, set_aside = _divide(self._topics_read, new, errors, blocked)
                    failed = await self._handle(connection, unit, [(new[index], asked[index]) for index in handled])
                    if failed is None:
                        break
                    index = handled[failed[0]]
                    errors[index] = failed[1]
                    self._poison.check(index + 1, self._our_faults(new, errors))
                self._poison.check(len(new), our_faults)
                await self._set_aside(connection, unit, set_aside)
                await unit.write(connection)
            checkpoints.update(next_checkpoints)
            self._poison.count(len(new), our_faults)
            self._after_commit(unit)
            if self._record_spans is not None:
                self._record_spans(self._spans([new[index] for index in handled], set_aside), monotonic() - began)
        if errors:
            self._metrics.batch_failures.labels("poison").inc(len(errors))
        if reused:
            self._report_reused(reused)
        self._metrics.batch_size.observe(len(records))
        self._metrics.batch_seconds.observe(monotonic() - began)

    def _report_reused(self, reused: Sequence[ReusedPosition]) -> None:
        """Say which events were dropped although they are no repeats, the first of each partition in full."""
        counts = Counter((record.topic, record.partition) for record, _, _ in reused)
        first = {(each.record.topic, each.record.partition): each for each in reversed(reused)}
        for partition, (record, epoch, applied) in first.items():
            log.error(
                "position_reused",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                type=record.type,
                correlation_id=record.key,
                position=record.position,
                epoch=epoch,
                applied_up_to=applied.position,
                applied_epoch=applied.epoch,
                records=counts[partition],
            )
        self._metrics.positions_reused.inc(len(reused))

    def _ask(self, record: IncomingRecord, index: int, errors: dict[int, Exception]) -> list[tuple[Command, Cause]]:
        """Parse a record, and return what it asks of the decider; what goes wrong is put into `errors`."""
        try:
            return self._commands(self._sifter.parse(record))
        except Exception as error:  # noqa: BLE001  # whatever it is, the record is set aside with it
            errors[index] = error
            return []

    def _our_faults(self, records: Sequence[IncomingRecord], errors: Mapping[int, Exception]) -> list[Exception]:
        """The failures that count towards the poison limit. External parties may send any amount of what makes no sense."""
        return [
            error
            for index, error in errors.items()
            if (records[index].topic in self._trusted or records[index].message is not None) and not isinstance(error, SendersFault)
        ]

    async def apply_commands(self, commands: Sequence[tuple[str, Command]]) -> None:
        """Apply commands from inside (deadlines, providers' answers), each with the key it is for, in one transaction."""
        began = monotonic()
        caused = [(command, self._cause_inside(key)) for key, command in commands]
        async with self._transaction_lock:
            async with writing(self._database) as connection:
                unit = self._unit(await self._load(connection, caused))
                await unit.load(connection, caused)
                unit.decide(caused)
                await unit.write(connection)
            self._after_commit(unit)
            if self._record_spans is not None:
                spans = [Handled(type(command).__name__, cause.traceparent[3:35], cause.traceparent[36:52]) for command, cause in caused]
                self._record_spans(spans, monotonic() - began)

    async def move_checkpoints(self, checkpoints: dict[Partition, Checkpoint], next_checkpoints: Mapping[Partition, Checkpoint]) -> None:
        """Store `next_checkpoints` where no record was for us, and update `checkpoints` to them. Raises as `apply` does."""
        async with self._transaction_lock, self._database.acquire() as connection:
            moves = _moves(checkpoints, next_checkpoints)
            _check_moved(moves, await move_checkpoints(connection, moves))
            checkpoints.update(next_checkpoints)

    def _commands(self, record: IncomingRecord) -> list[tuple[Command, Cause]]:
        """What a parsed record asks of the decider."""
        cause = self._cause(record)
        return [(command, cause) for command in self._service.commands_for(record.message)]

    def _cause(self, record: IncomingRecord) -> Cause:
        """What is carried on to the events that a record leads to. Where no spans are recorded, its own `traceparent` is."""
        envelope = record.envelope
        assert envelope is not None
        correlation = envelope.correlationid or record.key or envelope.id
        trace = envelope.traceparent
        if self._record_spans is not None:
            span = span_id(self._service.name, record.topic, record.partition, record.offset)
            trace = traceparent(trace_id(record.key or correlation), span)
        if record.topic in self._trusted:
            return Cause(correlation, envelope.id, trace)
        topic = self._topics_read[record.topic]
        actor = topic.actor or envelope.actor
        return Cause(correlation, envelope.id, trace, actor, envelope.reason, topic.party)

    def _cause_inside(self, key: str) -> Cause:
        """The cause of a deadline's command or an effect's outcome for `key`. It has a span only where spans are recorded."""
        trace = "" if self._record_spans is None else traceparent(trace_id(key), token_hex(8))
        return Cause(correlation_id=key, causation_id=f"{self._service.name}-deadline", traceparent=trace)

    def _spans(self, handled: Iterable[IncomingRecord], set_aside: Iterable[tuple[IncomingRecord, Exception | None]]) -> Iterable[Handled]:
        """The spans of what one transaction handled and set aside. A record that cannot be read has none."""
        for record in handled:
            yield handled_record(record, self._cause(record).traceparent)
        for record, error in set_aside:
            if record.envelope is not None:
                reason = "parked behind an earlier dead letter of its key" if error is None else explain(error)[0]
                yield handled_record(record, self._cause(record).traceparent, reason)

    async def _load(
        self, connection: Connection, commands: Iterable[tuple[Command, Cause]] = (), moves: Sequence[CheckpointMove] = ()
    ) -> StoreSnapshot:
        """In one round trip: move checkpoints, and load what `commands` will be decided on into the cache."""
        decider = self._service.decider
        keys = {key for command, _ in commands for key in decider.reads(command)} if decider else set[str]()
        snapshot = await move_checkpoints_and_load(connection, decider, moves, sorted(self._cache.missing(keys)), self._clock)
        _check_moved(moves, snapshot.moved)
        if snapshot.head < self._head:
            # A store only grows. It was restored under us: what we decided since is on the topics, and no longer in it.
            self.store_doubted.set()
            check_store_not_behind(self._service.name, snapshot.head, self._head)
        self._head = snapshot.head
        self._cache.at(snapshot.head).update(snapshot.states)
        return snapshot

    def _unit(self, snapshot: StoreSnapshot) -> UnitOfWork:
        """A new unit of work on the store as `snapshot` found it."""
        cached = self._cache.at(snapshot.head)
        now = self._clock.now()
        return UnitOfWork(self._service.decider, self._topics, self._max_event_bytes, base=snapshot.head, now=now, cached=cached)

    def _after_commit(self, unit: UnitOfWork) -> None:
        self._cache.update(unit)
        self._head = unit.head
        if unit.events:
            for kind, count in Counter(event.type for event in unit.events).items():
                self._metrics.appended.labels(kind).inc(count)
            self._committed(unit)

    async def _handle(
        self, connection: Connection, unit: UnitOfWork, records: Sequence[tuple[IncomingRecord, Sequence[tuple[Command, Cause]]]]
    ) -> tuple[int, Exception] | None:
        """Have records decided, or projected. Returns the index of the first that cannot be decided, with its error."""
        service = self._service
        if service.projector is not None:
            projected = [record for record, _ in records if type(record.message) in service.projected]
            if projected:
                await service.projector(connection, projected)
            if service.decider is None:
                return None
        asked = [command for _, commands in records for command in commands]
        if service.companion is not None:
            asked = await service.companion.prepare(connection, asked)
        await unit.load(connection, asked)
        begin = 0
        for index, (_, commands) in enumerate(records):
            try:
                unit.decide(asked[begin : begin + len(commands)])
            except Exception as error:  # noqa: BLE001  # whatever it is, the record is set aside with it
                return index, error
            begin += len(commands)
        if service.companion is not None:
            await service.companion.conclude(connection, unit, asked)
        return None

    async def _set_aside(
        self, connection: Connection, unit: UnitOfWork, records: Sequence[tuple[IncomingRecord, Exception | None]]
    ) -> None:
        if not records:
            return
        for record, error in records:
            if error is not None:
                reason, stack = explain(error)
                log.error("record_set_aside", letter_id=letter_id(record), correlation_id=record.key, reason=reason, exception=stack)
        await self._dead_letters.set_aside(connection, unit, records)
        self._metrics.dead_letters.set(await count_dead_letters(connection))

    async def _redrive(
        self, record: IncomingRecord, checkpoints: dict[Partition, Checkpoint], next_checkpoints: Mapping[Partition, Checkpoint]
    ) -> None:
        """Apply a key's dead letters in order, some in each transaction. The checkpoint moves with the last: a crash begins again."""
        record = self._sifter.parse(record)
        asked: RedriveDeadLetters = record.message
        more, failed_topics = True, set[str]()
        while more:
            async with self._transaction_lock:
                async with writing(self._database) as connection:
                    unit, more = await self._redrive_some(connection, record, asked, failed_topics)
                    if not more:
                        moves = _moves(checkpoints, next_checkpoints)
                        _check_moved(moves, await move_checkpoints(connection, moves))
                    await unit.write(connection)
                if not more:
                    checkpoints.update(next_checkpoints)
                self._after_commit(unit)
            asked = msgspec.structs.replace(asked, letter_id=None, value=None, discard=False)

    async def _redrive_some(
        self, connection: Connection, record: IncomingRecord, asked: RedriveDeadLetters, failed_topics: set[str]
    ) -> tuple[UnitOfWork, bool]:
        """Apply a key's first dead letters, each under a savepoint; the first that fails again stays, and all behind it.

        Behind one of a party are those from its topic alone, which is then one of `failed_topics`. Returns what remains to be written, and
        whether there are more dead letters to apply.
        """
        cause = self._cause(record)
        unit = self._unit(await self._load(connection))
        if asked.letter_id is not None and not await is_dead_letter_of(connection, asked.letter_id, asked.source_key):
            reason = f"{asked.letter_id} is no dead letter of key {asked.source_key!r}"
            await self._dead_letters.refuse(connection, unit, record, cause, reason)
            return unit, False
        if asked.letter_id is not None and asked.value is not None:
            await replace_value(connection, asked.letter_id, asked.value.encode())
        found = await dead_letters_of(connection, asked.source_key, MAX_REDRIVEN_AT_ONCE, failed_topics)
        for letter in found:
            if letter.record.topic in failed_topics:
                continue
            attempt = self._unit(await self._load(connection))
            discarded = asked.discard and letter_id(letter.record) == asked.letter_id
            try:
                async with savepoint(connection):
                    if not discarded:
                        await self._apply_again(connection, attempt, letter.record)
                    await self._dead_letters.redriven(connection, attempt, letter, cause, discarded=discarded)
                    await attempt.write(connection)
            except Exception as error:
                if is_retryable(error):
                    raise
                log.exception("redrive_failed", letter_id=letter_id(letter.record), correlation_id=letter.record.key)
                unit = self._unit(await self._load(connection))
                await self._dead_letters.failed_again(connection, unit, letter, error, cause)
                topic, _ = blocked_by(self._topics_read, letter.record.topic, asked.source_key)
                if topic is None:
                    more = False
                    break
                failed_topics.add(topic)
                await unit.write(connection)
        else:
            unit = self._unit(await self._load(connection))
            more = len(found) == MAX_REDRIVEN_AT_ONCE
        self._metrics.dead_letters.set(await count_dead_letters(connection))
        return unit, more

    async def _apply_again(self, connection: Connection, unit: UnitOfWork, record: IncomingRecord) -> None:
        parsed = self._sifter.parse(record)
        failed = await self._handle(connection, unit, [(parsed, self._commands(parsed))])
        if failed is not None:
            raise failed[1]


def _divide(
    topics: TopicsByName, records: Sequence[IncomingRecord], errors: Mapping[int, Exception], blocked: Set[Blocked]
) -> tuple[list[int], list[tuple[IncomingRecord, Exception | None]]]:
    """The indexes of the records to handle, and the records to set aside: with an error, or parked behind an earlier one of their key."""
    blocked = set(blocked)
    handled: list[int] = []
    set_aside: list[tuple[IncomingRecord, Exception | None]] = []
    for index, record in enumerate(records):
        if error := errors.get(index):
            set_aside.append((record, error))
            if record.key:
                blocked.add(blocked_by(topics, record.topic, record.key))
        elif record.key and not blocked.isdisjoint(((None, record.key), (record.topic, record.key))) and not _is_about_dead_letters(record):
            set_aside.append((record, None))
        else:
            handled.append(index)
    return handled, set_aside


def _is_about_dead_letters(record: IncomingRecord) -> bool:
    """Whether a record bears a key only to name a dead letter's. It never waits: an event about its waiting would wait too, without end."""
    return concerns_dead_letters(record.type or "")


def _split_at_redrives(records: Sequence[IncomingRecord]) -> list[Sequence[IncomingRecord]]:
    """The batch, cut so that each redrive is alone: it unblocks keys that must still be blocked for the records before it."""
    redrive = next((i for i, record in enumerate(records) if record.type == _REDRIVE), None)
    if redrive is None:
        return [records] if records else []
    return [run for run in (records[:redrive], records[redrive : redrive + 1], *_split_at_redrives(records[redrive + 1 :])) if run]


_REDRIVE = type_of(RedriveDeadLetters).name


def _moves(checkpoints: Mapping[Partition, Checkpoint], next_checkpoints: Mapping[Partition, Checkpoint]) -> list[CheckpointMove]:
    return [CheckpointMove(*name, checkpoints[name].next_offset, *at) for name, at in sorted(next_checkpoints.items())]


def _check_moved(moves: Sequence[CheckpointMove], moved: int) -> None:
    if moved != len(moves):
        raise LostPartition(f"{len(moves) - moved} of {len(moves)} checkpoints were moved by another consumer")


def _advance(records: Sequence[IncomingRecord], checkpoints: dict[Partition, Checkpoint]) -> dict[Partition, Checkpoint]:
    """The checkpoints just behind `records`."""
    advanced: dict[Partition, Checkpoint] = {}
    for record in records:
        name = record.topic, record.partition
        at = advanced.get(name) or checkpoints[name]
        if (record.position or 0) > at.position:
            at = at._replace(position=record.position, epoch=store_epoch(record.headers) or at.epoch)
        advanced[name] = at._replace(next_offset=record.offset + 1, timestamp_ms=None)
    return advanced
