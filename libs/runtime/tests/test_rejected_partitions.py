"""A checkpoint that does not fit its partition: the partition is not read, and the service says so."""

from functools import partial

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from oms_kafka.clients import client_options, partition_of
from oms_runtime.checkpoint_tool import reset_checkpoint, show_checkpoints
from oms_runtime.runtime import Runtime
from probe import PARTITIONS, Probe, receipt, recreate, until

KEYS = [f"r{n}" for n in range(100)]


async def fill(probe: Probe) -> None:
    async with probe.running():
        await probe.send(map(receipt, KEYS))
        await until(partial(_booked, probe, len(KEYS)))
        await until(partial(_stored, probe, len(KEYS)))


async def test_a_recreated_topic_is_not_read_until_its_checkpoints_are_reset(probe: Probe) -> None:
    await fill(probe)
    await recreate(probe.servers, probe.settings(), probe.inbox)
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
    await delete_records(probe, 1)
    async with probe.running() as runtime:
        await until(partial(_says, runtime, "records were deleted unread"))
        assert list(runtime.consumer.rejected) == [(probe.inbox.name, 1)]


async def test_a_tail_that_was_lost_and_filled_with_other_records_is_not_read(probe: Probe) -> None:
    """The topic and its offsets are as they were; the records are others. As after an election of a broker that lacked the tail."""
    await fill(probe)
    await recreate(probe.servers, probe.settings(), probe.inbox)
    await probe.send(map(receipt, KEYS))
    await probe.ask("update checkpoints set topic_id = null")
    async with probe.running() as runtime:
        await until(partial(_says, runtime, "is another one than was read"))
        assert len(runtime.consumer.rejected) == PARTITIONS

    for row in await show_checkpoints(probe.settings()):
        await reset_checkpoint(probe.settings(), f"{row['topic']}/{row['partition']}", "end", dry_run=False)
    async with probe.running() as runtime:
        await probe.send([receipt("afterwards")])
        await until(partial(_booked, probe, len(KEYS) + 1))
        assert await runtime.unready() == []


async def test_checkpoints_fit_where_nothing_was_lost(probe: Probe) -> None:
    """Also where the record before a checkpoint was deleted in order."""
    await fill(probe)
    await delete_records(probe, 1)
    async with probe.running() as runtime:
        await probe.send([receipt("afterwards")])
        await until(partial(_booked, probe, len(KEYS) + 1))
        assert runtime.consumer.rejected == {}


async def test_a_checkpoint_that_an_older_release_moved_fits(probe: Probe) -> None:
    """It moves the offset, and does not know of timestamps."""
    await fill(probe)
    await probe.ask("update checkpoints set next_offset = next_offset - 1, timestamp_ms = timestamp_ms - 1 where next_offset > 1")
    async with probe.running() as runtime:
        await probe.send([receipt("afterwards")])
        await until(partial(probe.ask, "select count(*) > 0 from events where stream = 'afterwards'"))
        assert runtime.consumer.rejected == {}


async def delete_records(probe: Probe, partition: int) -> None:
    admin = AIOKafkaAdminClient(**client_options(probe.settings()))
    await admin.start()
    await admin.delete_records({TopicPartition(probe.inbox.name, partition): RecordsToDelete(before_offset=-1)})
    await admin.close()


async def _says(runtime: Runtime, text: str) -> bool:
    return any(text in reason for reason in await runtime.unready())


async def _ready(runtime: Runtime) -> bool:
    return await runtime.unready() == []


async def _booked(probe: Probe, count: int) -> bool:
    return await probe.booked() == count


async def _stored(probe: Probe, offsets: int) -> bool:
    return await probe.ask("select coalesce(sum(next_offset), 0) from checkpoints") == offsets
