"""One batch, one transaction, on a real PostgreSQL: poison is set aside and redriven, a consumer that lost a partition changes nothing."""

from base64 import b64decode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from oms_contracts.catalogue import FOREVER
from oms_contracts.dead_letters import RecordRedriven, RecordSetAside, RedriveDeadLetters, RedriveRefused
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import SendersFault, decode, encode, type_of
from oms_contracts.stock import ReceiveStock, StockReceived
from oms_contracts.values import StockLine
from oms_runtime.apply import Applier
from oms_runtime.clock import Clock
from oms_runtime.database import Database, migrate, open_database
from oms_runtime.dead_letters import forget_old_values
from oms_runtime.errors import RETRYABLE_ERRORS, ConsumptionStopped, LostPartition
from oms_runtime.metrics import Metrics
from oms_runtime.model import Decider, IncomingRecord, service_of
from oms_runtime.poison import PoisonLimit
from oms_runtime.records import Checkpoint
from oms_runtime.refold import audit, build_states

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
TOPIC = "oms.inventory.commands"
POISON = 13
BER, HAM = f"{TOPIC}.BER-1", f"{TOPIC}.HAM-2"
"""The topics of two warehouses."""


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
    decide_for=lambda _party, command, states, now: decide(command, states, now),
)
BOUNDED = service_of("inventory", decider=DECIDER)
"""Its commands are kept for 30 days."""
SERVICE = replace(BOUNDED, reads=tuple(replace(topic, retention=FOREVER) for topic in BOUNDED.reads))


@pytest.fixture
async def database(servers: Any) -> AsyncIterator[Database]:
    opened = await open_database(await servers.create_database("runtime"))
    await migrate(opened)
    async with opened.acquire() as connection:
        await build_states(connection, DECIDER)
    yield opened
    await opened.close()


@pytest.fixture
def applier(database: Database) -> Applier:
    return Applier(SERVICE, database, Metrics(), Clock(lambda: NOON))


def record(
    offset: int, key: str, message: Any, value: bytes | None = None, *, actor: str = "", reason: str = "", topic: str = TOPIC
) -> IncomingRecord:
    kind = type_of(message).name
    headers = to_headers(Envelope(type=kind, source="/test", id=str(offset), time=NOON, subject=key, actor=actor, reason=reason))
    return IncomingRecord(
        topic=topic, partition=0, offset=offset, key=key, headers=headers, value=value or encode(message), type=kind, position=None
    )


def receipt(offset: int, key: str, quantity: int = 1, *, actor: str = "", reason: str = "") -> IncomingRecord:
    return record(offset, key, booking(key, quantity, "l"), actor=actor, reason=reason)


def booking(key: str, quantity: int = 1, location: str = "BER-1") -> ReceiveStock:
    return ReceiveStock(receipt_id=key, lines=(StockLine(sku="s", location=location, quantity=quantity),))


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


@pytest.mark.parametrize(("topic", "actor"), [(TOPIC, "user:ada"), (BER, "warehouse:BER-1")])
async def test_an_event_says_who_asked_for_it_and_why(applier: Applier, database: Database, topic: str, actor: str) -> None:
    """Whoever lets people in says who they are; a party is who its topic is of, whatever its records say."""
    asked, poison = (
        record(offset, f"r{offset}", booking(f"r{offset}", units), actor="user:ada", reason="counted twice", topic=topic)
        for offset, units in ((0, 1), (1, POISON))
    )

    await applier.apply([asked, poison], await applier.checkpoints([(topic, 0)]))

    rows = await database.fetch("select type, actor, reason from events order by position")
    assert [tuple(row) for row in rows] == [
        (type_of(StockReceived).name, actor, "counted twice"),
        (type_of(RecordSetAside).name, "", ""),
    ]


async def test_what_a_redriven_record_leads_to_is_its_senders(database: Database) -> None:
    applier = Applier(SERVICE, database, Metrics(), Clock(lambda: NOON))
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply([receipt(0, "r", POISON, actor="user:ada")], checkpoints)
    mended = encode(ReceiveStock(receipt_id="r", lines=(StockLine(sku="s", location="l", quantity=1),))).decode()
    redrive = RedriveDeadLetters(source_key="r", letter_id=f"{TOPIC}/0/0", value=mended)

    await applier.apply([record(1, "r", redrive, actor="user:ben", reason="mended")], checkpoints)

    rows = await database.fetch("select type, actor, reason from events where position > 1 order by position")
    assert {tuple(row) for row in rows} == {
        (type_of(StockReceived).name, "user:ada", ""),
        (type_of(RecordRedriven).name, "user:ben", "mended"),
    }


async def test_appended_events_are_counted_by_their_type_from_zero_on(database: Database) -> None:
    metrics = Metrics()
    applier = Applier(SERVICE, database, metrics, Clock(lambda: NOON))

    def appended(cls: type[Any]) -> float | None:
        return metrics.registry.get_sample_value("oms_events_appended_total", {"type": type_of(cls).name})

    assert (appended(StockReceived), appended(RecordSetAside)) == (0, 0)
    await applier.apply([receipt(n, f"r{n}", POISON if n == 2 else 1) for n in range(5)], await applier.checkpoints([(TOPIC, 0)]))
    assert (appended(StockReceived), appended(RecordSetAside)) == (4, 1)


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


async def test_a_record_of_a_partys_topic_that_names_another_party_is_set_aside(applier: Applier, database: Database) -> None:
    elsewhere = record(0, "r0", booking("r0", location="HAM-2"), topic=BER)
    redrive = record(1, "r0", RedriveDeadLetters(source_key="r0"), topic=BER)

    await applier.apply([elsewhere, redrive], await applier.checkpoints([(BER, 0)]))

    assert await types(database) == {type_of(RecordSetAside).name: 2}
    first, second = await database.fetch("select reason from dead_letters order by sequence")
    assert first["reason"] == "UnreadableMessage: lines.0.location: is 'HAM-2', and this is the topic of warehouse 'BER-1'"
    assert second["reason"].endswith(f"ce_type: {type_of(RedriveDeadLetters).name} does not belong on {BER}")


async def test_a_dead_letter_of_a_party_delays_nobody_else(applier: Applier, database: Database) -> None:
    """Whoever knows an order's id may send garbage under it. Only what they send themselves under that id waits behind it."""
    checkpoints = await applier.checkpoints([(name, 0) for name in (TOPIC, BER, HAM)])
    garbage = record(0, "r", booking("r"), b"{garbage", topic=HAM)
    batches = [
        [garbage, record(0, "r", booking("r"), topic=BER), record(0, "r", booking("r", 1, "l"))],
        [record(1, "r", booking("r"), topic=BER), record(1, "r", booking("r", 1, "HAM-2"), topic=HAM)],
    ]
    for batch in batches:
        await applier.apply(batch, checkpoints)

    assert (await types(database))[type_of(StockReceived).name] == 3
    rows = await database.fetch("select letter_id, parked from dead_letters order by sequence")
    assert [tuple(row) for row in rows] == [(f"{HAM}/0/0", False), (f"{HAM}/0/1", True)]


async def test_behind_a_dead_letter_of_a_topic_of_our_own_parties_wait_too(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(name, 0) for name in (TOPIC, BER)])
    await applier.apply([receipt(0, "r", POISON), record(0, "r", booking("r"), topic=BER)], checkpoints)
    await applier.apply([record(1, "r", booking("r"), topic=BER)], checkpoints)

    assert await types(database) == {type_of(RecordSetAside).name: 3}


async def test_a_partys_dead_letter_that_fails_again_keeps_only_its_topics_behind_it(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(name, 0) for name in (TOPIC, BER, HAM)])
    garbage = record(0, "r", booking("r"), b"{garbage", topic=HAM)
    await applier.apply([garbage, record(1, "r", booking("r", 1, "HAM-2"), topic=HAM)], checkpoints)
    await applier.apply([receipt(0, "r", POISON), record(0, "r", booking("r"), topic=BER)], checkpoints)
    mended = encode(booking("r", 4, "l")).decode()

    await applier.apply([record(1, "r", RedriveDeadLetters(source_key="r", letter_id=f"{TOPIC}/0/0", value=mended))], checkpoints)

    assert (await types(database))[type_of(StockReceived).name] == 2
    rows = await database.fetch("select letter_id, attempts from dead_letters order by sequence")
    assert [tuple(row) for row in rows] == [(f"{HAM}/0/0", 2), (f"{HAM}/0/1", 1)]


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
    applier = Applier(replace(SERVICE, reads=(topic,), policies={RecordSetAside: fail}), database, Metrics(), Clock(lambda: NOON))
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

    service = service_of("projection", projector=project, projected={RecordSetAside, RecordRedriven})
    applier = Applier(service, database, Metrics(), Clock(lambda: NOON))
    commands, dead_letters = "oms.projection.commands", "oms.projection.dead-letters"
    checkpoints = await applier.checkpoints([(commands, 0), (dead_letters, 0)])
    garbage = msgspec.structs.replace(record(0, "r", RedriveDeadLetters(source_key="r"), b"garbage"), topic=commands)
    await applier.apply([garbage], checkpoints)
    published = await database.fetchval("select data from events")

    news = msgspec.structs.replace(record(0, "r", decode(type_of(RecordSetAside).name, published.encode())), topic=dead_letters, position=1)
    await applier.apply([news], checkpoints)

    assert seen == ["RecordSetAside"]
    assert await types(database) == {type_of(RecordSetAside).name: 1}


async def transactions(applier: Applier) -> int:
    inside: Any = applier
    return int(inside._metrics.registry.get_sample_value("oms_batch_records_count") or 0)


async def test_2000_records_of_external_garbage_cost_one_transaction(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    garbage = [record(n, f"g{n}", ReceiveStock(receipt_id="x", lines=()), value=b"{") for n in range(2_000)]
    await applier.apply([*garbage, receipt(2_000, "g7"), receipt(2_001, "sound")], checkpoints)

    assert await transactions(applier) == 1
    assert await database.fetchval("select count(*) from dead_letters where not parked") == 2_000
    assert await database.fetchval("select source_key from dead_letters where parked") == "g7"  # it waits behind the garbage of its key
    assert (await types(database))[type_of(StockReceived).name] == 1


@pytest.fixture
def limited(database: Database) -> Applier:
    return Applier(SERVICE, database, Metrics(), Clock(lambda: NOON), poison=PoisonLimit(20, 0.1, lambda: 0.0))


async def test_too_many_records_that_fail_for_one_reason_stop_consumption(limited: Applier, database: Database) -> None:
    checkpoints = await limited.checkpoints([(TOPIC, 0)])
    with pytest.raises(ConsumptionStopped, match=r"20 of 20 records .* ValueError at test_apply.py:\d+, .*thirteen brings bad luck"):
        await limited.apply([receipt(n, f"r{n}", POISON) for n in range(2_000)], checkpoints)
    assert checkpoints == {(TOPIC, 0): Checkpoint(0, 0)}
    assert await database.fetchval("select count(*) from dead_letters") == 0


async def test_poison_adds_up_over_the_batches_of_a_minute(limited: Applier, database: Database) -> None:
    checkpoints = await limited.checkpoints([(TOPIC, 0)])
    for n in range(19):
        await limited.apply([receipt(n, f"r{n}", POISON)], checkpoints)
    with pytest.raises(ConsumptionStopped, match="20 of 20 records"):
        await limited.apply([receipt(19, "r19", POISON)], checkpoints)
    assert await database.fetchval("select count(*) from dead_letters") == 19


async def test_a_small_share_of_poison_and_any_amount_of_garbage_stop_nothing(limited: Applier, database: Database) -> None:
    checkpoints = await limited.checkpoints([(TOPIC, 0)])
    await limited.apply([receipt(n, f"r{n}", POISON if n % 20 == 19 else 1) for n in range(1_000)], checkpoints)
    await limited.apply([record(1_000 + n, f"g{n}", ReceiveStock(receipt_id="x", lines=()), value=b"{") for n in range(1_000)], checkpoints)
    assert await database.fetchval("select count(*) from dead_letters") == 50 + 1_000


async def test_any_amount_of_what_makes_no_sense_stops_nothing(database: Database) -> None:
    def refuse(_message: Any) -> list[Any]:
        raise SendersFault("nobody makes sense of it\ntotal: is required")

    service = replace(SERVICE, policies={ReceiveStock: refuse})
    applier = Applier(service, database, Metrics(), Clock(lambda: NOON), poison=PoisonLimit(20, 0.1, lambda: 0.0))
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply([receipt(n, f"r{n}") for n in range(200)], checkpoints)
    assert await transactions(applier) == 1
    assert checkpoints == {(TOPIC, 0): Checkpoint(200, 0)}
    reasons = {row["reason"] for row in await database.fetch("select reason from dead_letters")}
    assert reasons == {"SendersFault: nobody makes sense of it\ntotal: is required"}


async def test_an_event_too_large_for_its_topic_is_never_stored(database: Database) -> None:
    large = "x" * (SERVICE.max_event_bytes()["oms.stock"])

    def decide_large(command: Any, states: Mapping[str, Booked], now: datetime) -> Sequence[Any]:
        [event] = decide(command, states, now)
        if command.receipt_id != "large":
            return [event]
        return [msgspec.structs.replace(event, lines=(StockLine(sku=large, location="l", quantity=1),))]

    applier = Applier(replace(SERVICE, decider=replace(DECIDER, decide=decide_large)), database, Metrics(), Clock(lambda: NOON))
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply([receipt(0, "before"), receipt(1, "large"), receipt(2, "after")], checkpoints)

    assert (await database.fetchval("select reason from dead_letters")).startswith("EventTooLarge: oms.inventory.StockReceived.v1 has ")
    assert (await types(database))[type_of(StockReceived).name] == 2


async def test_a_value_too_large_to_keep_is_described(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    value = b"[" * (3 * 1024 * 1024)
    await applier.apply([record(0, "large", ReceiveStock(receipt_id="x", lines=()), value=value)], checkpoints)

    stored = (await database.fetch("select reason, length(value) as bytes from dead_letters"))[0]
    assert stored["bytes"] == 0
    assert f"read them with any Kafka tool from {TOPIC}, partition 0, offset 0" in stored["reason"]
    event = decode(type_of(RecordSetAside).name, (await database.fetchval("select data from events")).encode())
    assert (event.value, event.value_bytes, event.value_sha256) == ("", len(value), sha256(value).hexdigest())


async def test_a_value_that_is_kept_for_a_bounded_time_is_in_no_event(database: Database) -> None:
    """It may hold personal data, and events are kept for ever."""
    applier = Applier(BOUNDED, database, Metrics(), Clock(lambda: NOON))
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply([receipt(0, "bad", POISON)], checkpoints)
    (letter,) = await database.fetch("select letter_id, value from dead_letters")
    mended = encode(ReceiveStock(receipt_id="bad", lines=(StockLine(sku="s", location="l", quantity=1),)))
    redrive = RedriveDeadLetters(source_key="bad", letter_id=letter["letter_id"], value=mended.decode())
    await applier.apply([record(1, "bad", redrive)], checkpoints)

    rows = await database.fetch("select type, data from events order by position")
    found: dict[str, Any] = {row["type"]: decode(row["type"], row["data"].encode()) for row in rows}
    set_aside, redriven = (found[type_of(cls).name] for cls in (RecordSetAside, RecordRedriven))
    assert (set_aside.value, set_aside.value_bytes, set_aside.value_sha256) == (
        "",
        len(letter["value"]),
        sha256(letter["value"]).hexdigest(),
    )
    assert redriven.value_before == f"sha256:{sha256(letter['value']).hexdigest()}"
    assert redriven.value_after == f"sha256:{sha256(mended).hexdigest()}"


async def test_a_value_leaves_the_table_when_it_leaves_its_topic(database: Database) -> None:
    applier = Applier(BOUNDED, database, Metrics(), Clock(lambda: NOON))
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply([receipt(0, "bad", POISON)], checkpoints)
    await forget_old_values(database, BOUNDED.topics_read(), NOON)
    assert await database.fetchval("select length(value) > 0 from dead_letters")
    await forget_old_values(database, SERVICE.topics_read(), NOON + timedelta(seconds=1))
    assert await database.fetchval("select length(value) > 0 from dead_letters")
    await forget_old_values(database, BOUNDED.topics_read(), NOON + timedelta(seconds=1))
    row = (await database.fetch("select value, reason from dead_letters"))[0]
    assert (row["value"], row["reason"].endswith("; its value is no longer kept")) == (b"", True)


async def test_a_value_that_makes_its_event_too_large_is_left_out_of_it(applier: Applier, database: Database) -> None:
    """One megabyte is kept in the table; in base64, with its headers, it may be more than the topic takes."""
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    value = b"[" * (1024 * 1024)
    noisy = record(0, "noisy", ReceiveStock(receipt_id="x", lines=()), value=value)
    noisy.headers = [*noisy.headers, *((f"h{n}", b"\x01" * 1_000) for n in range(100))]
    small = replace(SERVICE, writes=tuple(replace(topic, max_message_bytes=1024 * 1024) for topic in SERVICE.writes))
    await Applier(small, database, Metrics(), Clock(lambda: NOON)).apply([noisy], checkpoints)

    assert await database.fetchval("select length(value) from dead_letters") == len(value)
    event = decode(type_of(RecordSetAside).name, (await database.fetchval("select data from events")).encode())
    assert (event.value, event.value_bytes) == ("", len(value))


async def test_a_redrive_that_names_another_keys_dead_letter_is_refused(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply([receipt(0, "r", POISON), receipt(1, "s", POISON)], checkpoints)
    await applier.apply([record(2, "s", RedriveDeadLetters(source_key="s", letter_id=f"{TOPIC}/0/0", discard=True))], checkpoints)

    assert await database.fetchval("select count(*) from dead_letters") == 2
    refused = decode(
        type_of(RedriveRefused).name,
        (await database.fetchval("select data from events where type = $1", type_of(RedriveRefused).name)).encode(),
    )
    assert refused.reason == f"{TOPIC}/0/0 is no dead letter of key 's'"
    assert checkpoints[TOPIC, 0].next_offset == 3


async def test_a_redriven_event_names_the_value_before_and_after(applier: Applier, database: Database) -> None:
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply([receipt(0, "r", POISON)], checkpoints)
    wrong, right = (encode(ReceiveStock(receipt_id="r", lines=(StockLine(sku="s", location="l", quantity=n),))) for n in (POISON, 7))
    for offset, value in enumerate((wrong, right), 1):
        redrive = RedriveDeadLetters(source_key="r", letter_id=f"{TOPIC}/0/0", value=value.decode())
        await applier.apply([record(offset, "r", redrive)], checkpoints)

    event = decode(
        type_of(RecordRedriven).name,
        (await database.fetchval("select data from events where type = $1", type_of(RecordRedriven).name)).encode(),
    )
    assert b64decode(event.value_before) == encode(ReceiveStock(receipt_id="r", lines=(StockLine(sku="s", location="l", quantity=POISON),)))
    assert b64decode(event.value_after) == right


async def test_a_long_parked_key_is_redriven_in_pieces_and_a_crash_between_them_loses_nothing(
    applier: Applier, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oms_runtime.apply.MAX_REDRIVEN_AT_ONCE", 100)
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply([receipt(0, "r", POISON), *(receipt(n, "r", n) for n in range(20, 270))], checkpoints)
    right = encode(ReceiveStock(receipt_id="r", lines=(StockLine(sku="s", location="l", quantity=1),))).decode()
    redrive = record(300, "r", RedriveDeadLetters(source_key="r", letter_id=f"{TOPIC}/0/0", value=right))

    inside: Any = applier
    some, pieces = inside._redrive_some, 0

    async def die_before_the_second_piece(*arguments: Any) -> Any:
        nonlocal pieces
        pieces += 1
        if pieces == 2:
            raise ConnectionResetError
        return await some(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(inside, "_redrive_some", die_before_the_second_piece)
        with pytest.raises(ConnectionResetError):
            await applier.apply([redrive], checkpoints)
    assert await database.fetchval("select count(*) from dead_letters") == 151
    assert checkpoints[TOPIC, 0].next_offset == 270

    await applier.apply([redrive], checkpoints)  # it is read again, and names a dead letter that is gone by now
    assert await database.fetchval("select count(*) from dead_letters") == 0
    assert checkpoints[TOPIC, 0].next_offset == 301
    assert (await types(database))[type_of(StockReceived).name] == 251


async def test_records_that_are_read_again_are_set_aside_once_and_redriven_ones_anew(applier: Applier, database: Database) -> None:
    """As after a restore, or a reset of checkpoints."""
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    records = [receipt(0, "r", POISON), receipt(1, "r"), receipt(2, "s", POISON)]
    await applier.apply(records, checkpoints)
    await applier.apply([record(3, "s", RedriveDeadLetters(source_key="s", letter_id=f"{TOPIC}/0/2", discard=True))], checkpoints)

    await database.fetch("update checkpoints set next_offset = 0, position = 0")
    checkpoints = await applier.checkpoints([(TOPIC, 0)])
    await applier.apply(records, checkpoints)
    found = await database.fetch("select letter_id, parked from dead_letters order by letter_id")
    assert [(row["letter_id"], row["parked"]) for row in found] == [(f"{TOPIC}/0/{n}", n == 1) for n in range(3)]
    assert (await types(database))[type_of(RecordSetAside).name] == 4
