"""A checkpoint that does not fit its partition: the partition is not read, and the service says so."""

import asyncio
from functools import partial

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from oms_kafka.clients import client_options, partition_of
from oms_runtime.checkpoint_tool import reset_checkpoint, show_checkpoints
from oms_runtime.runtime import Runtime
from probe import PARTITIONS, Probe, receipt, until

KEYS = [f"r{n}" for n in range(100)]


async def fill(probe: Probe) -> None:
    async with probe.running():
        await probe.send(map(receipt, KEYS))
        await until(partial(_booked, probe, len(KEYS)))
        await until(partial(_stored, probe, len(KEYS)))


async def recreate(probe: Probe) -> None:
    admin = AIOKafkaAdminClient(**client_options(probe.settings()))
    await admin.start()
    await admin.delete_topics([probe.inbox.name])
    await admin.close()
    await asyncio.to_thread(probe.servers.create_topics, [probe.inbox])


async def test_a_recreated_topic_is_not_read_until_its_checkpoints_are_reset(probe: Probe) -> None:
    await fill(probe)
    await recreate(probe)
    await probe.send([receipt("dropped-in-silence-before")])
    async with probe.running() as runtime:
        await until(partial(_says, runtime, "the topic was deleted and created again"))
        assert len(runtime.consumer.rejected) == PARTITIONS
        assert await runtime.alive()
        assert await probe.booked() == len(KEYS)

    for row in await show_checkpoints(probe.settings()):
        name = f"{row['topic']}/{row['partition']}"
        await reset_checkpoint(probe.settings(), name, "begin", dry_run=True)
        assert (await reset_checkpoint(probe.settings(), name, "begin", dry_run=False))["to_offset"] == 0
    async with probe.running() as runtime:
        await until(partial(_booked, probe, len(KEYS) + 1))
        await until(partial(_ready, runtime))


async def test_a_checkpoint_behind_the_end_is_not_read_and_the_other_partitions_are(probe: Probe) -> None:
    """As when a broker lost the end of a partition."""
    await fill(probe)
    await probe.ask("update checkpoints set next_offset = next_offset + 1000 where partition = 0")
    there, elsewhere = (
        next(key for key in (f"s{n}" for n in range(100)) if (partition_of(key.encode(), PARTITIONS) == 0) is here)
        for here in (True, False)
    )
    async with probe.running() as runtime:
        await probe.send([receipt(there), receipt(elsewhere)])
        await until(partial(_booked, probe, len(KEYS) + 1))
        assert list(runtime.consumer.rejected) == [(probe.inbox.name, 0)]
        assert await _says(runtime, "the broker has lost records")
        assert runtime.registry.get_sample_value("oms_partitions_rejected") == 1


async def test_records_that_were_deleted_unread_are_reported(probe: Probe) -> None:
    await fill(probe)
    await probe.send(receipt(f"late{n}") for n in range(100))
    admin = AIOKafkaAdminClient(**client_options(probe.settings()))
    await admin.start()
    partition = TopicPartition(probe.inbox.name, 1)
    await admin.delete_records({partition: RecordsToDelete(before_offset=-1)})
    await admin.close()
    async with probe.running() as runtime:
        await until(partial(_says, runtime, "records were deleted unread"))
        assert list(runtime.consumer.rejected) == [(probe.inbox.name, 1)]


async def _says(runtime: Runtime, text: str) -> bool:
    return any(text in reason for reason in await runtime.unready())


async def _ready(runtime: Runtime) -> bool:
    return await runtime.unready() == []


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _stored(probe: Probe, offsets: int) -> bool:
    return await probe.ask("select coalesce(sum(next_offset), 0) from checkpoints") == offsets
