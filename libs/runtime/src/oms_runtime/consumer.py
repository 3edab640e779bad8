"""The consumer: takes batches from the group, sifts them, and has them applied.

The stored checkpoint is the truth; offsets in Kafka are for lag tools. On assignment the consumer seeks to what is stored, and after any
failure it seeks back to it. A revocation waits for the batch in hand.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic

import structlog
from oms_kafka.clients import Record, broker_is_reachable

from oms_runtime.apply import Applier
from oms_runtime.errors import RETRYABLE_ERRORS, ConsumptionStopped, LostPartition
from oms_runtime.group_membership import GroupMembership
from oms_runtime.metrics import Metrics
from oms_runtime.model import Service
from oms_runtime.records import Checkpoint, Partition, RecordSifter
from oms_runtime.settings import RuntimeSettings

log = structlog.get_logger(__name__)

RETRY_BACKOFF_SECONDS = 0.1, 5.0
"""Before a batch that met a fault is tried again: at first, and at most."""
FAILURES_BEFORE_UNREADY = 3
"""So many attempts in a row: a takeover or a server's restart makes one or two fail."""
STUCK_SECONDS = 120.0
"""Without an attempt for so long, while records wait, something is wrong with this process. Twice what a statement may take."""
OFFSET_COMMIT_SECONDS = 1.0
"""Between two commits of offsets to Kafka, and two stores of checkpoints where no record was for us."""
LEAVE_TIMEOUT_SECONDS = 5.0
"""For leaving the group, which a broker that is away prevents."""


class Consumer:
    """One a process: reads all of a service's topics in one group and hands batches to the applier. `ticks` are seconds."""

    def __init__(
        self, service: Service, settings: RuntimeSettings, applier: Applier, metrics: Metrics, ticks: Callable[[], float] = monotonic
    ) -> None:
        self._settings = settings
        self._applier = applier
        self._metrics = metrics
        self._ticks = ticks
        self._sifter = RecordSifter(service)
        self._lock = asyncio.Lock()
        """Held while a batch is handled, and while partitions are revoked or assigned."""
        self._checkpoints: dict[Partition, Checkpoint] = {}
        """As stored in PostgreSQL."""
        self._passed: dict[Partition, Checkpoint] = {}
        """How far we have read beyond the checkpoints where no record was for us; stored with the next one that is, or periodically."""
        self._failures = 0
        self._last_error = ""
        self._stopping = asyncio.Event()
        self._committing: asyncio.Task[None] | None = None
        self._last_attempt = ticks()
        self.assigned = asyncio.Event()
        self.rejected: dict[Partition, str] = {}
        """The assigned partitions that are not read because their checkpoint does not fit, with the reasons."""
        self.stopped_because: str | None = None
        """Why nothing is applied any more (see `poison`), None while batches are."""
        self.membership = GroupMembership(
            service, settings, handle=self._handle, revoked=self._on_revoked, assigned=self._on_assigned, ticks=ticks
        )

    @property
    def retries_because(self) -> str:
        """The error for which a batch is tried again and again; empty while batches succeed."""
        return self._last_error if self._failures >= FAILURES_BEFORE_UNREADY else ""

    async def start(self) -> None:
        """Join the group, and return once it has assigned partitions. May be tried again after it failed."""
        try:
            await self.membership.join()
        except BaseException:  # a member that consumes nothing would keep its partitions from the others; it is raised on
            await self.leave()
            raise
        self._committing = asyncio.create_task(self._commit_offsets_periodically())

    async def stop(self) -> None:
        """Finish the batch in hand, commit offsets, leave the group."""
        await self.finish()
        await self.leave()

    async def finish(self) -> None:
        """Finish the batch in hand, and begin no other."""
        self._stopping.set()
        async with self._lock:
            pass
        if self._committing is not None:
            self._committing.cancel()

    async def leave(self) -> None:
        """Commit offsets, and leave the group."""
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_SECONDS):
                await self._commit_offsets()
                await self.membership.leave()
        except TimeoutError:
            log.info("group_not_left")

    async def alive(self) -> bool:
        """Whether batches are still attempted. False when records wait, none was attempted for long, and the broker is reachable."""
        if self._lag() == 0 or self._ticks() - self._last_attempt < STUCK_SECONDS:
            return True
        if not self._lock.locked() and not await broker_is_reachable(self._settings):
            self._last_attempt = self._ticks()  # once the broker is back, we have as long again
            return True
        return False

    async def _on_revoked(self, partitions: list[Partition]) -> None:
        async with self._lock:
            await self._commit_offsets()
            self._passed.clear()
            self._failures = 0  # what failed may be another process's now
            for name in partitions:
                if self._checkpoints.pop(name, None) is not None:
                    self._metrics.lag.remove(*name)

    async def _on_assigned(self, partitions: list[Partition]) -> None:
        async with self._lock:
            while not self._stopping.is_set():
                try:
                    self._checkpoints = await self._applier.checkpoints(partitions)
                    break
                except RETRYABLE_ERRORS as error:
                    log.warning("checkpoints_unreadable", error=f"{type(error).__name__}: {error}")
                except Exception:
                    # Without checkpoints nothing is consumed, and nobody else would say why.
                    log.exception("checkpoints_unreadable")
                await self._pause(RETRY_BACKOFF_SECONDS[1])
            self._seek_to_checkpoints()
            self.rejected.clear()
            await self._reject_misfits()
            for name in self._checkpoints:
                self._metrics.lag.labels(*name).set_function(partial(self._lag_of, name))
        log.info("assigned", partitions=len(partitions))
        self.assigned.set()

    async def _reject_misfits(self) -> None:
        """Stop reading partitions whose checkpoint does not fit: what is read there would be dropped in silence, or applied twice."""
        while not self._stopping.is_set():
            try:
                facts = await self.membership.facts(self._checkpoints)
                rejected = await self._applier.reject_checkpoints(self._checkpoints, facts)
                break
            except RETRYABLE_ERRORS as error:
                log.warning("partitions_not_checked", error=f"{type(error).__name__}: {error}")
                await self._pause(RETRY_BACKOFF_SECONDS[1])
        else:
            return
        for name, reason in rejected.items():
            log.error("partition_rejected", topic=name[0], partition=name[1], reason=reason)
            self._checkpoints.pop(name)
            self._passed.pop(name, None)
        self.membership.pause(rejected)
        self.rejected |= rejected
        self._metrics.partitions_rejected.set(len(self.rejected))

    async def _handle(self, batch: Sequence[Record]) -> None:
        async with self._lock:
            self._last_attempt = self._ticks()
            if self._stopping.is_set():
                return
            if self.stopped_because is not None:
                self._seek_to_checkpoints()
                await self._pause(RETRY_BACKOFF_SECONDS[1])
                return
            try:
                await self._apply(batch)
                self._failures = 0
            except LostPartition as lost:
                log.warning("partition_lost", reason=str(lost))
                await self._reload_checkpoints()
                self._fetch_again("lost_partition")
            except ConsumptionStopped as stopped:
                log.exception("consumption_stopped")
                self.stopped_because = str(stopped)
                self._metrics.consumption_stopped.set(1)
                self._fetch_again("poison_limit")
            except RETRYABLE_ERRORS as error:
                self._last_error = f"{type(error).__name__}: {error}"
                log.warning("batch_postponed", error=self._last_error, records=len(batch))
                self._failures += 1
                self._fetch_again("retryable")
            except Exception as error:
                # Not even setting aside worked. FastStream would go on behind this batch, and it would be lost.
                log.exception("batch_failed", records=len(batch))
                self._last_error = f"{type(error).__name__}: {error}"
                self._failures += 1
                self._fetch_again("unexpected")
        if self._failures:
            first, longest = RETRY_BACKOFF_SECONDS
            await self._pause(min(longest, first * 2 ** min(10, self._failures - 1)))

    async def _apply(self, batch: Sequence[Record]) -> None:
        in_position = await self.membership.partitions_in_position(batch)
        reading = {name: self._reached(name) for name in in_position if name in self._checkpoints}
        records, reached = self._sifter.sift(batch, reading)
        if self._sifter.passed_below_checkpoint:
            # Fetched from Kafka's offset before we seeked; or aiokafka began at offset 0, because the broker has lost what we had read.
            self._sifter.passed_below_checkpoint = False
            await self._reject_misfits()
            records = [record for record in records if (record.topic, record.partition) in self._checkpoints]
            reached = {name: at for name, at in reached.items() if name in self._checkpoints}
        next_checkpoints = self._passed | reached
        if records:
            await self._applier.apply(records, self._checkpoints, next_checkpoints)
        self._passed = {} if records else next_checkpoints

    def _reached(self, name: Partition) -> Checkpoint:
        return self._passed.get(name) or self._checkpoints[name]

    def _fetch_again(self, reason: str) -> None:
        """Fetch everything again from the checkpoints: whichever partition is at fault, the whole batch was rolled back."""
        self._metrics.batch_failures.labels(reason).inc()
        self._passed.clear()
        self._seek_to_checkpoints()

    async def _reload_checkpoints(self) -> None:
        """Read the checkpoints anew: another consumer moved them, or we did not hear of our own commit."""
        try:
            self._checkpoints = await self._applier.checkpoints(self._checkpoints)
        except RETRYABLE_ERRORS as error:
            log.warning("checkpoints_unreadable", error=f"{type(error).__name__}: {error}")
            self._failures += 1

    def _seek_to_checkpoints(self) -> None:
        self.membership.seek({name: checkpoint.next_offset for name, checkpoint in self._checkpoints.items()})

    async def _commit_offsets_periodically(self) -> None:
        while True:
            await asyncio.sleep(OFFSET_COMMIT_SECONDS)
            async with self._lock:
                await self._store_passed()
                await self._commit_offsets()

    async def _store_passed(self) -> None:
        """Store how far we have read though no record was for us: after a crash it is not all read again."""
        if not self._passed or self._stopping.is_set():
            return
        try:
            await self._applier.move_checkpoints(self._checkpoints, self._passed)
            self._passed.clear()
        except LostPartition as lost:
            log.warning("partition_lost", reason=str(lost))
            await self._reload_checkpoints()
            self._fetch_again("lost_partition")
        except RETRYABLE_ERRORS as error:
            log.info("checkpoints_not_stored", error=f"{type(error).__name__}: {error}")

    async def _commit_offsets(self) -> None:
        await self.membership.commit_offsets({name: self._reached(name).next_offset for name in self._checkpoints})

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _lag_of(self, name: Partition) -> int:
        end = self.membership.end_offset(name)
        return max(0, (end or 0) - self._reached(name).next_offset)

    def _lag(self) -> int:
        return sum(map(self._lag_of, self._checkpoints))
