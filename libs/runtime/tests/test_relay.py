"""Every committed event is on its topic exactly once, in order, wherever its process died."""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from aiokafka.errors import OutOfOrderSequenceNumber
from oms_kafka.clients import partition_of
from oms_local.testing import Servers
from oms_runtime.database import LEADER_LOCK, connect
from oms_runtime.errors import LostLeadership
from oms_runtime.metrics import Metrics
from oms_runtime.relay import MAX_EVENTS_PER_ROUND, Relay
from oms_runtime.runtime import Runtime
from probe import PARTITIONS, Probe, make_probe, receipt, until

ROUNDS = 4


async def test_a_kill_between_commit_and_publish_or_between_publish_and_its_record(probe: Probe) -> None:
    keys = [f"r{n}" for n in range(ROUNDS * MAX_EVENTS_PER_ROUND)]
    process = probe.start()
    await until(process.ready)
    await until(partial(probe.ask, "select producer_id is not null from relay"))
    async with probe.relay_held():
        await probe.send(map(receipt, keys[:100]))
        await until(partial(_waits_to_record, probe))
        await probe.send(map(receipt, keys[100:]))
        await until(partial(_booked, probe, len(keys)))
        process.kill()
    published = await probe.published()
    assert 0 < published < len(keys)
    assert await probe.ask("select position from relay") == 0

    # And wherever it is when so many more are on the topics.
    while published < (ROUNDS - 1) * MAX_EVENTS_PER_ROUND:
        process = probe.start()
        await until(partial(_published, probe, published + 1))
        process.kill()
        published = await probe.published()
    probe.start()

    await probe.check_published_once()
    await probe.check_booked_once(keys)


async def test_a_relay_that_has_nothing_to_publish_does_not_stay_stalled(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_runtime.runtime.RELAY_STALLED_SECONDS", 0)
    async with probe.running() as runtime:
        await runtime.relay.caught_up()
        async with probe.session() as connection:
            await connection.execute("select pg_terminate_backend(pid) from pg_locks where objid = $1 and granted", LEADER_LOCK)
        await until(partial(_says_stalled, runtime, True))
        await until(partial(_says_stalled, runtime, False))


async def test_several_leaders_at_once_publish_each_event_once(probe: Probe) -> None:
    keys = [f"r{n}" for n in range(3_000)]
    async with probe.running() as runtime:
        rivals = [Relay(probe.name, runtime.service.writes, runtime.settings, Metrics()) for _ in range(2)]
        leading = [asyncio.create_task(_lead(rival, probe.database_url)) for rival in rivals]
        await _caught_up(*rivals, runtime.relay)
        await probe.send(map(receipt, keys))
        await until(partial(_booked, probe, len(keys)))
        await until(partial(_published, probe, len(keys)))
        await _caught_up(*rivals, runtime.relay)
        for task in leading:
            task.cancel()
        await asyncio.gather(*leading, return_exceptions=True)
        await probe.check_published_once()
    await probe.check_booked_once(keys)


async def test_foreign_records_on_the_topic_do_not_stop_the_relay(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oms_runtime.relay.MAX_REFUSALS", 1)  # each takes a second
    async with probe.running():
        await probe.send(receipt(f"r{n}") for n in range(100))
        await until(partial(_published, probe, 100))
    await probe.send_raw([(b"%d" % n, b"{}", []) for n in range(20)], probe.outbox)

    async with probe.running():
        await probe.send(receipt(f"s{n}") for n in range(100))
        await until(partial(_published, probe, 220))
        await until(partial(probe.ask, "select position = 200 from relay"))


async def test_a_topic_may_have_another_number_of_partitions_than_the_catalogue_says(servers: Servers, tmp_path: Path) -> None:
    probe = await make_probe(servers, tmp_path, partitions=2 * PARTITIONS)
    keys = [f"r{n}" for n in range(100)]
    async with probe.running():
        await probe.send(map(receipt, keys))
        await until(partial(_booked, probe, len(keys)))
        await until(partial(probe.ask, "select position = 100 from relay"))
        found = await probe.read(replace(probe.outbox, partitions=2 * PARTITIONS))

    published = {(record.key or b"").decode(): number for number, records in found.items() for record in records}
    assert published == {key: partition_of(key.encode(), 2 * PARTITIONS) for key in keys}


async def test_a_compacted_copy_gets_what_was_published_before_it_existed(probe: Probe) -> None:
    service = probe.service()
    keys = [f"r{n}" for n in range(300)]
    async with probe.running(replace(service, writes=tuple(topic for topic in service.writes if topic.copy_of is None))) as before:
        await probe.send(map(receipt, keys[:200]))
        await until(partial(_booked, probe, 200))
        await _caught_up(before.relay)
    async with probe.running():
        await probe.send(map(receipt, keys[200:]))
        await until(partial(_booked, probe, 300))
        await probe.check_published_once()
    await probe.check_booked_once(keys)


async def _caught_up(*relays: Relay) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(*(relay.caught_up() for relay in relays))


async def _lead(relay: Relay, database_url: str) -> None:
    """Publish like the leader, without ever asking for the lock."""
    while True:
        connection = await connect(database_url)
        try:
            await relay.run(connection)
        except (OutOfOrderSequenceNumber, LostLeadership):
            continue
        finally:
            connection.terminate()


async def _waits_to_record(probe: Probe) -> bool:
    return await probe.waiting_for_relay() > 0


async def _published(probe: Probe, least: int) -> bool:
    return await probe.published() >= least


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _says_stalled(runtime: Runtime, stalled: bool) -> bool:
    return any("the relay has made no progress" in reason for reason in await runtime.unready()) == stalled
