"""From a real topic to the store: no record is skipped, whatever fails, and no record stops the others."""

import base64
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from oms_contracts.dead_letters import RecordSetAside
from oms_contracts.envelope import Headers, from_headers
from oms_contracts.message import decode, encode, type_of
from oms_kafka.clients import client_options, partition_of
from oms_runtime.database import migrate, open_database
from oms_runtime.runtime import Runtime
from probe import PARTITIONS, POISON, Probe, headers_of, receipt, until

KEYS = [f"r{n}" for n in range(500)]


async def test_poison_in_the_middle_of_500_is_set_aside_alone(probe: Probe) -> None:
    poisoned, garbled = KEYS[250], KEYS[251]
    await probe.send(
        [receipt(key, POISON if key == poisoned else "item") for key in KEYS], values={garbled: b'{"receipt_id": 7, "lines": []}'}
    )
    async with probe.running() as runtime:
        await until(partial(_booked, probe, 498))
        await until(partial(_without_lag, probe, runtime))
        await probe.check_published_once()
        assert runtime.metrics.registry.get_sample_value("oms_dead_letters") == 2

    await probe.check_booked_once(key for key in KEYS if key not in (poisoned, garbled))
    dead_letters = {
        dead_letter.source_key: dead_letter
        for records in (await probe.read(probe.dead_letters)).values()
        for record in records
        for dead_letter in [_dead_letter(record.value or b"")]
    }
    assert dead_letters.keys() == {poisoned, garbled}
    dead_letter = dead_letters[poisoned]
    assert dead_letter.reason == "ValueError: this receipt cannot be booked"
    assert "in decide" in dead_letter.stack
    assert (dead_letter.source_topic, dead_letter.source_partition) == (probe.inbox.name, partition_of(poisoned.encode(), PARTITIONS))
    assert dead_letter.headers["ce_correlationid"] == f"flow-{poisoned}"
    assert base64.b64decode(dead_letter.value) == encode(receipt(poisoned, POISON))
    origin = (await probe.read(probe.inbox))[dead_letter.source_partition][dead_letter.source_offset]
    assert origin.key == poisoned.encode()
    assert "receipt_id" in dead_letters[garbled].reason


async def test_any_external_garbage_becomes_a_dead_letter_that_everybody_can_read(probe: Probe) -> None:
    value, headers = encode(receipt("r")), headers_of(receipt("r"))
    strange: list[tuple[bytes, bytes, Headers]] = [
        (b"\x00\n\xff", value[:-1], headers),
        (b"k" * 5_000, b"", headers),
        (b"\xff" * 600, b"1", headers),
        ("\u00fc".encode() * 500, b"null", headers),
        (b"", value, []),
        (b"a", value, [("ce_type", b"\x00\xff"), ("\x00", b"\x00")]),
        (b"b", value, [*headers[:-1], ("ce_correlationid", b"\n" * 2_000)]),
        (b"c", b"[" * 100_000, [("ce_position", b"9" * 30), *headers]),
        (b"d", b'{"receipt_id": "\\ud800", "lines": []}', headers),
        (b"e", b'{"receipt_id": "e", "lines": [{"sku": "s", "location": "l", "quantity": 1e400}]}', headers),
    ]
    await probe.send_raw(strange)
    await probe.send([receipt("fine")])
    async with probe.running() as runtime:
        await until(partial(_without_lag, probe, runtime))
        await probe.check_published_once()

    await probe.check_booked_once(["fine"])
    dead_letters = [record for records in (await probe.read(probe.dead_letters)).values() for record in records]
    assert len(dead_letters) == len(strange)
    assert {from_headers(record.headers).type for record in dead_letters} == {type_of(RecordSetAside).name}
    assert {base64.b64decode(_dead_letter(record.value or b"").value) for record in dead_letters} == {value for _, value, _ in strange}


async def test_a_message_under_another_key_than_its_own_is_set_aside_with_the_key_that_it_must_have(probe: Probe) -> None:
    """Under another key it could be on another partition, where another process would decide on what its key names."""
    strays = [receipt(f"r{number}") for number in range(200)]
    await probe.send_raw([(b"stray", encode(message), headers_of(message)) for message in strays])
    await probe.send([receipt("r0"), receipt("fine")])
    async with probe.running() as runtime:
        await until(partial(_without_lag, probe, runtime))
        await probe.check_published_once()

    await probe.check_booked_once(["r0", "fine"])
    dead_letters = [_dead_letter(record.value or b"") for records in (await probe.read(probe.dead_letters)).values() for record in records]
    assert {dead_letter.source_key for dead_letter in dead_letters} == {"stray"}
    assert sorted(dead_letter.reason for dead_letter in dead_letters) == sorted(
        f"UnreadableMessage: key: is 'stray', must be 'r{number}': send the message again under that key" for number in range(200)
    )


async def test_records_of_other_types_are_passed_without_a_transaction_and_their_checkpoint_is_stored(probe: Probe) -> None:
    """Its own events, which nobody here handles."""
    async with probe.running(replace(probe.service(), reads=(probe.inbox, probe.outbox))) as runtime:
        await probe.send(map(receipt, KEYS))
        await until(partial(_booked, probe, len(KEYS)))
        await until(partial(_stored, probe, probe.outbox.name, len(KEYS)))
        assert runtime.metrics.registry.get_sample_value("oms_batch_records_sum") == len(KEYS)
    await probe.check_booked_once(KEYS)


async def test_offsets_in_kafka_are_not_used(probe: Probe) -> None:
    await probe.send(map(receipt, KEYS[:250]))
    consumer: Any = AIOKafkaConsumer(**client_options(probe.settings()), group_id=f"oms.{probe.name}", enable_auto_commit=False)
    await consumer.start()
    partitions = [TopicPartition(probe.inbox.name, number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    await consumer.commit(await consumer.end_offsets(partitions))
    await consumer.stop()

    # And records are fetched from Kafka's offsets while the checkpoints are being read.
    database = await open_database(probe.database_url)
    await migrate(database)
    await database.close()
    async with probe.session() as holder:
        holding = holder.transaction()
        await holding.__aenter__()
        await holder.execute("lock table checkpoints in access exclusive mode")
        async with probe.running() as runtime:
            await probe.send(map(receipt, KEYS[250:]))
            await until(partial(_delivered, runtime, 251))  # the first batch, of however many records: the next waits for it
            await holding.__aexit__(None, None, None)
            await until(partial(_booked, probe, len(KEYS)))

    await probe.check_booked_once(KEYS)


async def test_a_record_that_cannot_even_be_set_aside_is_retried_until_it_can(probe: Probe) -> None:
    async with probe.running() as runtime:
        async with runtime.database.acquire() as connection:
            await connection.execute("alter table dead_letters add check (source_key <> 'poison')")
        await probe.send([receipt("poison", POISON), receipt("other")])
        await until(partial(_failed, runtime, "unexpected"))
        assert await probe.ask("select count(*) from dead_letters") == 0
        async with runtime.database.acquire() as connection:
            await connection.execute("alter table dead_letters drop constraint dead_letters_source_key_check")

        await until(partial(_booked, probe, 1))
        await until(partial(probe.ask, "select count(*) = 1 from dead_letters"))


async def test_partitions_rolled_back_with_a_lost_one_are_fetched_again(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs, other = (next(key for key in KEYS if partition_of(key.encode(), PARTITIONS) == n) for n in range(3))
    async with probe.running() as runtime:
        checkpoints, times = runtime.applier.checkpoints, 0

        async def unreachable_once(*args: Any) -> Any:
            nonlocal times
            times += 1
            if times == 1:
                raise ConnectionResetError
            return await checkpoints(*args)

        monkeypatch.setattr(runtime.applier, "checkpoints", unreachable_once)
        async with probe.store_held():
            await probe.send([receipt(other)])
            await until(partial(_batch_in_hand, probe))
            await probe.send([receipt(ours), receipt(theirs)])
            await until(partial(_known, runtime, 3))  # so that both come in one batch
            await probe.ask("update checkpoints set next_offset = 1 where partition = 1")  # somebody else applied it
        await until(partial(_booked, probe, 2))
    await probe.check_booked_once([ours, other])
    assert times == 2


async def test_an_error_that_stops_reading_is_logged(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def forbidden(**_: Any) -> Any:
        raise TopicAuthorizationFailedError(probe.inbox.name)

    async with probe.running() as runtime:
        monkeypatch.setattr(_group_consumer(runtime), "getmany", forbidden)
        await until(partial(_logged, caplog, "Kafka error occurred"))


def _dead_letter(value: bytes) -> RecordSetAside:
    return decode(type_of(RecordSetAside).name, value)


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _stored(probe: Probe, topic: str, offsets: int) -> bool:
    return await probe.ask("select coalesce(sum(next_offset), 0) from checkpoints where topic = $1", topic) == offsets


async def _failed(runtime: Runtime, reason: str) -> bool:
    return (runtime.metrics.registry.get_sample_value("oms_batch_failures_total", {"reason": reason}) or 0) > 1


async def _without_lag(probe: Probe, runtime: Runtime) -> bool:
    """Whether it has read all, and says so to Prometheus and to Kafka's own tools."""
    lags = [sample.value for metric in runtime.metrics.lag.collect() for sample in metric.samples]
    return len(lags) == PARTITIONS and sum(lags) == 0 and await probe.lag() == 0


async def _batch_in_hand(probe: Probe) -> bool:
    return await probe.waiting_for_store() > 0


async def _delivered(runtime: Runtime, offsets: int) -> bool:
    """Whether so many records were handed over, by the client that FastStream runs."""
    consumer = _group_consumer(runtime)
    return sum([await consumer.position(tp) for tp in consumer.assignment()]) >= offsets


async def _known(runtime: Runtime, offsets: int) -> bool:
    """Whether the client has fetched so many records."""
    consumer = _group_consumer(runtime)
    return sum(consumer.highwater(tp) or 0 for tp in consumer.assignment()) == offsets


async def _logged(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in record.getMessage() for record in caplog.records)


def _group_consumer(runtime: Runtime) -> Any:
    membership: Any = runtime.consumer.membership
    return membership._subscriber.consumer
