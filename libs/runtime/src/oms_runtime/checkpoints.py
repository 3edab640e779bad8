"""A consumer's checkpoints: read or created, and compared with what the broker says of their partitions."""

from collections.abc import Iterable, Mapping

from oms_runtime.database import Database
from oms_runtime.records import Checkpoint, Partition, PartitionFacts


async def load_checkpoints(database: Database, partitions: Iterable[Partition]) -> dict[Partition, Checkpoint]:
    """The stored checkpoints of `partitions`, created at offset 0 where there are none."""
    wanted = sorted(partitions)
    topics, numbers = [t for t, _ in wanted], [p for _, p in wanted]
    async with database.acquire() as connection, connection.transaction():
        await connection.execute(
            "insert into checkpoints select t, p, 0, 0 from unnest($1::text[], $2::int[]) as w (t, p) on conflict do nothing",
            topics,
            numbers,
        )
        found = await connection.fetch(
            """select topic, partition, next_offset, position, epoch, case when timestamp_at = next_offset then timestamp_ms end
               from checkpoints
               join unnest($1::text[], $2::int[]) as w (t, p) on topic = t and partition = p""",
            topics,
            numbers,
        )
    return {(topic, partition): Checkpoint(*at) for topic, partition, *at in (row.values() for row in found)}


async def reject_checkpoints(
    database: Database, checkpoints: Mapping[Partition, Checkpoint], facts: Mapping[Partition, PartitionFacts]
) -> dict[Partition, str]:
    """The partitions whose checkpoint does not fit what the broker says of them, each with the reason. Remembers new topic ids."""
    topics, numbers = [t for t, _ in facts], [p for _, p in facts]
    async with database.acquire() as connection:
        rows = await connection.fetch(
            """select topic, partition, topic_id from checkpoints
               join unnest($1::text[], $2::int[]) as w (t, p) on topic = t and partition = p""",
            topics,
            numbers,
        )
        known = {(row["topic"], row["partition"]): row["topic_id"] for row in rows}
        reasons = {name: reason for name, fact in facts.items() if (reason := _misfit(checkpoints[name], known.get(name), fact))}
        await connection.execute(
            """update checkpoints set topic_id = w.id from unnest($1::text[], $2::int[], $3::text[]) as w (t, p, id)
               where topic = t and partition = p and topic_id is null
                   and not (t, p) in (select * from unnest($4::text[], $5::int[]))""",
            topics,
            numbers,
            [fact.topic_id for fact in facts.values()],
            [t for t, _ in reasons],
            [p for _, p in reasons],
        )
    return reasons


def _misfit(checkpoint: Checkpoint, known_id: str | None, fact: PartitionFacts) -> str:
    """Why a checkpoint does not fit its partition, empty when it does. A checkpoint at 0 without an id is new, and fits any."""
    if known_id is not None and known_id != fact.topic_id:
        return f"the topic was deleted and created again (its id was {known_id}, and is {fact.topic_id})"
    if checkpoint.next_offset > fact.end:
        return f"the checkpoint is at offset {checkpoint.next_offset}, and the partition ends at {fact.end}: the broker has lost records"
    if checkpoint.next_offset < fact.begin and (known_id is not None or checkpoint.next_offset > 0):
        return (
            f"the checkpoint is at offset {checkpoint.next_offset}, and the partition begins at {fact.begin}: records were deleted unread"
        )
    if checkpoint.timestamp_ms is not None and fact.timestamp_ms not in (None, checkpoint.timestamp_ms):
        return (
            f"the record at offset {checkpoint.next_offset - 1}, just before the checkpoint, is another one than was read: the broker has "
            "lost records, and others are in their place"
        )
    return ""
