"""Looking at a service's checkpoints, and setting one by hand, after a topic was created again or a broker lost records."""

from typing import Any

from aiokafka import TopicPartition
from oms_kafka.clients import make_reader
from oms_kafka.topic_ids import fetch_topic_ids

from oms_runtime.database import connect
from oms_runtime.settings import RuntimeSettings


async def show_checkpoints(settings: RuntimeSettings, schema: str = "") -> list[dict[str, Any]]:
    """Every checkpoint in `schema`, beside what the broker says of its partition (None where it does not know the topic)."""
    connection = await connect(settings.database_url.get_secret_value(), schema=schema)
    reader = make_reader(settings, "oms-checkpoints")
    try:
        rows = await connection.fetch("select topic, partition, next_offset, position, topic_id from checkpoints order by 1, 2")
        await reader.start()
        ids = await fetch_topic_ids(reader, {row["topic"] for row in rows})
        partitions = [TopicPartition(row["topic"], row["partition"]) for row in rows if row["topic"] in ids]
        begins, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
        return [
            {
                **dict(row),
                "topic_id_now": ids.get(row["topic"]),
                "begin": begins.get(TopicPartition(row["topic"], row["partition"])),
                "end": ends.get(TopicPartition(row["topic"], row["partition"])),
            }
            for row in rows
        ]
    finally:
        connection.terminate()
        await reader.stop()


async def reset_checkpoint(settings: RuntimeSettings, partition: str, to: str, *, schema: str = "", dry_run: bool) -> dict[str, Any]:
    """Set the checkpoint of `partition` (TOPIC/NUMBER) in `schema` to `begin`, `end` or an offset, in the topic as it is now.

    The highest position applied stays: events of our services that were applied before take no effect again. Raises ValueError when the
    partition has no checkpoint, or the offset lies outside of it.
    """
    topic, _, number = partition.rpartition("/")
    found = [row for row in await show_checkpoints(settings, schema) if (row["topic"], str(row["partition"])) == (topic, number)]
    if not found:
        raise ValueError(f"{partition}: has no checkpoint; `checkpoints` without arguments shows them all")
    [row] = found
    if row["topic_id_now"] is None:
        raise ValueError(f"{partition}: the broker does not know this topic, or we may not see it")
    offset = {"begin": row["begin"], "end": row["end"]}.get(to)
    if offset is None:
        if not to.isdigit() or not row["begin"] <= int(to) <= row["end"]:
            raise ValueError(f"{to}: is not begin, end, or an offset from {row['begin']} to {row['end']}")
        offset = int(to)
    if not dry_run:
        connection = await connect(settings.database_url.get_secret_value(), schema=schema)
        try:
            await connection.execute(
                "update checkpoints set next_offset = $3, topic_id = $4, timestamp_ms = null where topic = $1 and partition = $2",
                topic,
                row["partition"],
                offset,
                row["topic_id_now"],
            )
        finally:
            connection.terminate()
    return {"partition": partition, "from_offset": row["next_offset"], "to_offset": offset, "dry_run": dry_run}
