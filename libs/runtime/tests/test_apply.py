"""One batch, one transaction, on a real PostgreSQL: poison is set aside and redriven, a consumer that lost a partition changes nothing."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import decode, encode, type_of
from oms_contracts.operations import RecordRedriven, RecordSetAside, RedriveDeadLetters
from oms_contracts.stock import ReceiveStock, StockReceived
from oms_contracts.values import StockLine
from oms_runtime.apply import Applier
from oms_runtime.database import Database, migrate, open_database
from oms_runtime.errors import RETRYABLE_ERRORS, LostPartition
from oms_runtime.metrics import Metrics
from oms_runtime.model import Decider, IncomingRecord, service_of
from oms_runtime.records import Checkpoint
from oms_runtime.refold import audit, refold

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
TOPIC = "oms.inventory.commands"
POISON = 13


@dataclass(frozen=True)
class Booked:
    """How many receipts of one id were booked."""

    times: int = 0


def decide(command: Any, states: Mapping[str, Booked], now: datetime) -> Sequence[Any]:
    if command.lines[0].quantity == POISON:
        raise ValueError("quantity: thirteen brings bad luck")
    return [StockReceived(receipt_id=command.receipt_id, lines=command.lines, at=now)]


DECIDER = Decider(
    initial=lambda _key: Booked(),
    decide=decide,
    evolve=lambda state, _event, _key: Booked(state.times + 1),
    reads=lambda command: (command.receipt_id,),
    writes=lambda event: (event.receipt_id,),
    due=lambda _key, _state: None,
)
SERVICE = service_of("inventory", decider=DECIDER)


@pytest.fixture
async def database(servers: Any) -> AsyncIterator[Database]:
    opened = await open_database(await servers.create_database("runtime"))
    await migrate(opened)
    async with opened.acquire() as connection, connection.transaction():
        await refold(connection, DECIDER)
    yield opened
    await opened.close()


@pytest.fixture
def applier(database: Database) -> Applier:
    return Applier(SERVICE, database, Metrics(), lambda: NOON)


def record(offset: int, key: str, message: Any, value: bytes | None = None) -> IncomingRecord:
    kind = type_of(message).name
    headers = to_headers(Envelope(type=kind, source="/test", id=str(offset), time=NOON, subject=key))
    return IncomingRecord(
        topic=TOPIC, partition=0, offset=offset, key=key, headers=headers, value=value or encode(message), type=kind, position=None
    )


def receipt(offset: int, key: str, quantity: int = 1) -> IncomingRecord:
    return record(offset, key, ReceiveStock(receipt_id=key, lines=(StockLine(sku="s", location="l", quantity=quantity),)))


async def types(database: Database) -> dict[str, int]:
    return {row["type"]: row["n"] for row in await database.fetch("select type, count(*) as n from events group by type")}


async def test_a_poison_record_in_the_middle_of_500_is_set_aside_alone(applier: Applier, database: Database) -> None:
    records = [receipt(n, f"r{n}", POISON if n == 250 else 1) for n in range(500)]
    checkpoints = await applier.checkpoints([(TOPIC, 0)])

    await applier.apply(records, checkpoints)

    assert await types(database) == {type_of(StockReceived).name: 499, type_of(RecordSetAside).name: 1}
    assert await database.fetchval("select reason from dead_letters") == "ValueError: quantity: thirteen brings bad luck"
    assert checkpoints[TOPIC, 0].next_offset == 500
    assert checkpoints == await applier.checkpoints([(TOPIC, 0)])
    async with database.acquire() as connection:
        assert await audit(connection, DECIDER) == []


async def test_later_records_of_the_key_wait_for_its_redrive_and_are_applied_in_order(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply([receipt(0, "r", POISON), receipt(1, "other"), receipt(2, "r", 5), receipt(3, "r", 6)], checkpoints)
    assert (await types(database))[type_of(StockReceived).name] == 1
    assert await database.fetchval("select count(*) from dead_letters where parked") == 2

    mended = encode(ReceiveStock(receipt_id="r", lines=(StockLine(sku="s", location="l", quantity=4),))).decode()
    await applier.apply([record(4, "r", RedriveDeadLetters(source_key="r", letter_id=f"{TOPIC}/0/0", value=mended))], checkpoints)

    found = await database.fetch("select data from events where stream = 'r' order by position")
    assert [quantity for row in found for quantity in (4, 5, 6) if f'"quantity":{quantity}' in row["data"]] == [4, 5, 6]
    assert (await types(database))[type_of(RecordRedriven).name] == 3
    assert await database.fetchval("select count(*) from dead_letters") == 0


async def test_a_dead_letter_that_fails_again_stays_and_keeps_its_key_blocked(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply([receipt(0, "r", POISON), receipt(1, "r")], checkpoints)

    await applier.apply([record(2, "r", RedriveDeadLetters(source_key="r"))], checkpoints)

    assert await types(database) == {type_of(RecordSetAside).name: 3}
    assert [row["attempts"] for row in await database.fetch("select attempts from dead_letters order by sequence")] == [2, 1]
    published = decode(
        type_of(RecordSetAside).name, (await database.fetchval("select data from events order by position desc limit 1")).encode()
    )
    assert (published.attempts, published.source_type) == (2, type_of(ReceiveStock).name)


async def test_garbage_is_kept_with_the_field_that_is_wrong(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    garbage = record(0, "r", ReceiveStock(receipt_id="r", lines=()), b'{"receipt_id": 7, "lines": []}')

    await applier.apply([garbage, receipt(1, "other")], checkpoints)

    assert "receipt_id" in await database.fetchval("select reason from dead_letters")
    assert (await types(database))[type_of(StockReceived).name] == 1


async def test_a_failing_dead_letter_event_is_not_announced_as_a_dead_letter(database: Database) -> None:
    def fail(_dead_letter: RecordSetAside) -> list[Any]:
        raise ValueError("cannot make sense of it")

    topic = next(topic for topic in SERVICE.writes if topic.name == SERVICE.dead_letters)
    applier = Applier(replace(SERVICE, reads=(topic,), policies={RecordSetAside: fail}), database, Metrics(), lambda: NOON)
    dead_letter = RecordSetAside(
        letter_id="t/0/0",
        service="inventory",
        source_topic="t",
        source_partition=0,
        source_offset=0,
        source_key="k",
        source_type="",
        reason="",
        stack="",
        value="",
        headers={},
        attempts=1,
        parked=False,
        at=NOON,
    )

    announced = msgspec.structs.replace(record(0, "k", dead_letter), topic=topic.name)
    await applier.apply([announced], await applier.checkpoints([(topic.name, 0)]))

    assert await database.fetchval("select reason from dead_letters") == "ValueError: cannot make sense of it"
    assert await types(database) == {}


async def test_another_versions_schema_is_retried_and_makes_no_dead_letter(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    async with database.acquire() as connection:
        await connection.execute("alter table states rename column state to newer")

    with pytest.raises(RETRYABLE_ERRORS):
        await applier.apply([receipt(0, "a")], checkpoints)

    assert await database.fetchval("select count(*) from dead_letters") == 0
    assert checkpoints == {(TOPIC, 0): Checkpoint(0, 0)}


async def test_a_consumer_that_lost_the_partition_changes_nothing(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    stale = dict(checkpoints)
    await applier.apply([receipt(0, "a"), receipt(1, "b")], checkpoints)

    with pytest.raises(LostPartition):
        await applier.apply([receipt(0, "a"), receipt(1, "b"), receipt(2, "c")], stale)

    assert await types(database) == {type_of(StockReceived).name: 2}
    assert await applier.checkpoints([(TOPIC, 0)]) == {(TOPIC, 0): Checkpoint(2, 0)}


async def test_an_event_about_a_dead_letter_never_waits_behind_it(database: Database) -> None:
    """A service that reads its own dead letters would else set aside each word about them, tell of that, and read it again, without end."""
    seen: list[str] = []

    async def project(_connection: Any, batch: Sequence[IncomingRecord]) -> None:
        seen.extend(type(received.message).__name__ for received in batch)

    service = service_of("projection", projector=project, projected=(RecordSetAside, RecordRedriven))
    applier = Applier(service, database, Metrics(), lambda: NOON)
    commands, dead_letters = "oms.projection.commands", "oms.projection.dead-letters"
    checkpoints = await applier.checkpoints([(commands, 0), (dead_letters, 0)])
    garbage = msgspec.structs.replace(record(0, "r", RedriveDeadLetters(source_key="r"), b"garbage"), topic=commands)
    await applier.apply([garbage], checkpoints)
    published = await database.fetchval("select data from events")

    news = msgspec.structs.replace(record(0, "r", decode(type_of(RecordSetAside).name, published.encode())), topic=dead_letters, position=1)
    await applier.apply([news], checkpoints)

    assert seen == ["RecordSetAside"]
    assert await types(database) == {type_of(RecordSetAside).name: 1}
