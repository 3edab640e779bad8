"""A store's epoch: another event under a position that was applied is told from a repeat, and is not dropped in silence."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import encode, type_of
from oms_contracts.stock import StockReceived
from oms_contracts.values import StockLine
from oms_runtime.checkpoint_tool import reset_checkpoint, show_checkpoints
from oms_runtime.database import Connection
from oms_runtime.model import IncomingRecord, Service
from oms_runtime.records import Checkpoint, RecordSifter
from oms_runtime.runtime import Runtime
from probe import PARTITIONS, Probe, receipt, recreate, topics_of, until
from pydantic import SecretStr
from structlog.testing import capture_logs

OLD, NEW = [f"old{n}" for n in range(60)], [f"new{n}" for n in range(60)]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
TOPIC = topics_of("owner")[1]


class Follower:
    """A service that reads what the probe publishes, and remembers the receipts."""

    def __init__(self, probe: Probe, database_url: str) -> None:
        self.followed: list[str] = []
        self.settings = probe.settings().model_copy(update={"database_url": SecretStr(database_url)})
        self.service = Service(
            name=f"{probe.name}_follower",
            reads=(probe.outbox,),
            writes=(probe.dead_letters,),
            dead_letters=probe.dead_letters.name,
            projector=self._follow,
            projected={StockReceived},
        )

    async def _follow(self, connection: Connection, batch: Sequence[IncomingRecord]) -> None:
        self.followed += [record.message.receipt_id for record in batch]

    async def follows(self, count: int) -> bool:
        return len(self.followed) == count


async def test_events_of_a_new_store_under_used_positions_are_reported(probe: Probe) -> None:
    follower = Follower(probe, await probe.servers.create_database("follower"))
    runtime = Runtime(follower.service, follower.settings)
    await runtime.start()
    async with probe.running():
        await probe.send(map(receipt, OLD))
        await until(partial(follower.follows, len(OLD)))
    await runtime.stop()

    await recreate(probe.servers, probe.settings(), probe.inbox, probe.outbox, probe.newest, probe.dead_letters)
    probe.database_url = await probe.servers.create_database(probe.name)
    async with probe.running() as owner:
        await probe.send(map(receipt, NEW))
        await until(partial(_booked, probe, len(NEW)))
        await owner.relay.caught_up()
    for row in await show_checkpoints(follower.settings):
        await reset_checkpoint(follower.settings, f"{row['topic']}/{row['partition']}", "begin", dry_run=False)

    runtime = Runtime(follower.service, follower.settings)
    with capture_logs() as lines:
        await runtime.start()
        await until(partial(_reads_all, runtime))
    await runtime.stop()
    reused = runtime.registry.get_sample_value("oms_positions_reused_total")
    assert reused
    assert len(follower.followed) == len(OLD) + len(NEW) - reused
    reports = [line for line in lines if line["event"] == "position_reused"]
    assert 0 < len(reports) <= PARTITIONS
    assert sum(line["records"] for line in reports) == reused
    assert all(line["log_level"] == "error" and line["epoch"] > line["applied_epoch"] for line in reports)


async def test_what_a_store_publishes_names_its_epoch_behind_all_other_headers(probe: Probe) -> None:
    async with probe.running() as runtime:
        await probe.send(map(receipt, OLD))
        await until(partial(_booked, probe, len(OLD)))
        await runtime.relay.caught_up()
    epoch = await probe.ask("select epoch from relay")
    for topic in (probe.outbox, probe.newest):
        published = [record for records in (await probe.read(topic)).values() for record in records]
        assert [record.headers[-1] for record in published] == [("ce_storeepoch", epoch.encode())] * len(OLD)


def record(position: int, epoch: str) -> IncomingRecord:
    event = StockReceived(receipt_id="r", lines=(StockLine(sku="s", location="l", quantity=1),), at=NOON)
    kind = type_of(StockReceived).name
    envelope = Envelope(type=kind, source="/oms/owner", id="i", time=NOON, position=position, storeepoch=epoch)
    return IncomingRecord(
        topic=TOPIC.name, partition=0, offset=0, key="r", headers=to_headers(envelope), value=encode(event), type=kind, position=position
    )


def reused(applied: Checkpoint, *records: IncomingRecord) -> list[int | None]:
    service: Any = replace(SERVICE, reads=(TOPIC,))
    return [each.record.position for each in RecordSifter(service).reused_positions(records, {(TOPIC.name, 0): applied})]


SERVICE = Service(name="reader", reads=(TOPIC,), writes=(), dead_letters="")


def test_a_repeat_is_no_reuse() -> None:
    applied = Checkpoint(10, 7, "2026-b")
    assert reused(applied, record(7, "2026-b"), record(1, "2026-b")) == []
    assert reused(applied, record(8, "2027-c"), record(8, "2027-c"), record(7, "2027-c")) == []


def test_a_topic_that_is_read_again_from_before_a_recovery_has_no_reuse() -> None:
    assert reused(Checkpoint(0, 7, "2026-b"), record(1, "2025-a"), record(2, ""), record(7, "2026-b")) == []


def test_where_an_epoch_is_not_known_nothing_is_reported() -> None:
    assert reused(Checkpoint(10, 7, ""), record(7, "2026-b")) == []
    assert reused(Checkpoint(10, 7, "2026-b"), record(7, "")) == []


def test_a_newer_epoch_under_an_applied_position_is_reuse() -> None:
    assert reused(Checkpoint(10, 7, "2026-b"), record(6, "2027-c"), record(8, "2026-b"), record(8, "2027-c")) == [6, 8]


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _reads_all(runtime: Runtime) -> bool:
    async with runtime.database.acquire() as connection:
        return await connection.fetchval("select sum(next_offset) from checkpoints") == len(NEW)
