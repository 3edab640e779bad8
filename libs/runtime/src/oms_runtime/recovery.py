"""Recovering a store that was restored from a backup: the events it lacks are on the service's topics, which keep them for ever.

`recover` brings them back at their old positions, folds them, and compares store and topics. What had been committed and not published when
the store was lost is in neither; the records that led to it lie behind the restored checkpoints, are read again, and are decided anew.
A record whose events are back has no effect again: deciders cope with repeats.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

import structlog
from aiokafka import TopicPartition
from oms_contracts.customers import CustomerKeyIssued
from oms_contracts.dead_letters import is_folded
from oms_contracts.envelope import from_headers
from oms_contracts.message import decode
from oms_kafka.clients import Reader, Record, make_reader

from oms_runtime.customer_keys import KEY_MESSAGES, CustomerKey, key_in, save_keys
from oms_runtime.database import LEADER_LOCK, Connection, connect
from oms_runtime.model import AnyDecider, Service, StoredEvent
from oms_runtime.refold import fold
from oms_runtime.settings import RuntimeSettings
from oms_runtime.store import StoredState, begin_epoch, head_of, insert_events, load_states, lock_store, save_states
from oms_runtime.tails import LOOK_BACK_FACTOR, position_of, read_between, read_ranges

log = structlog.get_logger(__name__)

EVENTS_PER_CHUNK = 2_000
LEADER_TIMEOUT_SECONDS, LEADER_POLL_SECONDS = 5.0, 0.05
"""How long to wait until no process leads, and between two looks."""


async def recover(service: Service, settings: RuntimeSettings, *, dry_run: bool) -> dict[str, Any]:
    """Bring the events that the topics have and the store lacks back into the store; report what was found and done.

    Processes of the service may be up: they refuse to lead and to decide meanwhile, and continue by themselves afterwards. A dry run only
    reports. Raises RuntimeError while a process of the service still leads.
    """
    connection = await connect(settings.database_url.get_secret_value())
    try:
        await _lock_out_leaders(connection)
        async with connection.transaction():
            await lock_store(connection)
            head = await head_of(connection)
            missing = await _read_missing(service, settings, head)
            if missing and not dry_run:
                await _append(connection, service.decider, missing)
                await _restore_keys(connection, service, settings)
            if not dry_run:
                await begin_epoch(connection)
            stored = await head_of(connection)
        published = missing[-1].position if missing else head
        return {
            "service": service.name,
            "dry_run": dry_run,
            "store_ended_at": head,
            "events_missing": len(missing),
            "events_recovered": 0 if dry_run else len(missing),
            "positions_nowhere": published - head - len(missing),
            "store_ends_at": stored,
            "agrees": stored >= published,
        }
    finally:
        connection.terminate()


async def _lock_out_leaders(connection: Connection) -> None:
    """Take the leader's lock. A process that refuses to lead has it for a moment, once a second; RuntimeError where one keeps it."""
    deadline = monotonic() + LEADER_TIMEOUT_SECONDS
    while not await connection.fetchval("select pg_try_advisory_lock($1)", LEADER_LOCK):
        if monotonic() > deadline:
            raise RuntimeError("a process of this service leads, so its store is not behind its topics; nothing was done")
        await asyncio.sleep(LEADER_POLL_SECONDS)


async def _read_missing(service: Service, settings: RuntimeSettings, head: int) -> list[StoredEvent]:
    """The service's events on its topics behind position `head`, by position."""
    topics = [topic.name for topic in service.writes if topic.copy_of is None]
    reader = make_reader(settings, f"oms-{service.name}-recovery")
    await reader.start()
    try:
        _, begins, ends = await read_ranges(reader, topics)
        found: dict[int, StoredEvent] = {}
        async for tp, record in read_between(reader, await _offsets_before(reader, service.name, head, begins, ends), ends):
            position = position_of(record, service.name)
            if position is not None and position > head:
                found[position] = _stored_event(service.decider, tp.topic, record)
        return [found[position] for position in sorted(found)]
    finally:
        await reader.stop()


async def _offsets_before(
    reader: Reader, service: str, head: int, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """For each partition an offset at or before its first event behind position `head`: positions rise within a partition."""
    chosen: dict[TopicPartition, int] = dict(ends)
    look_back = 1
    undecided: set[TopicPartition] = {tp for tp in ends if ends[tp] > begins[tp]}
    while undecided:
        look_back *= LOOK_BACK_FACTOR
        chosen |= {tp: max(begins[tp], ends[tp] - look_back) for tp in undecided}
        first_position: dict[TopicPartition, int] = {}
        single = {tp: min(chosen[tp] + 1, ends[tp]) for tp in undecided}
        async for tp, record in read_between(reader, {tp: chosen[tp] for tp in undecided}, single):
            first_position[tp] = position_of(record, service) or 0
        undecided = {tp for tp in undecided if chosen[tp] > begins[tp] and not 0 < first_position.get(tp, 0) <= head}
    return chosen


def _stored_event(decider: AnyDecider | None, topic: str, record: Record) -> StoredEvent:
    envelope = from_headers(record.headers)
    value = (record.value or b"").decode()
    if not is_folded(envelope.type) or decider is None:
        # The record it is about lies behind the restored checkpoint: it is set aside anew, in the stream of its own name.
        stream = f"recovered/{envelope.position}"
    else:
        stream = decider.writes(decode(envelope.type, value.encode()))[0]
    return StoredEvent(
        envelope.position or 0,
        stream,
        envelope.sequence or 1,
        envelope.type,
        topic,
        envelope.subject,
        envelope.correlationid,
        envelope.causationid,
        envelope.traceparent,
        envelope.time,
        value,
        envelope.actor,
        envelope.reason,
    )


async def _restore_keys(connection: Connection, service: Service, settings: RuntimeSettings) -> None:
    """Bring customers' keys that the service issues, and are in no event, back from the topic that keeps them; erased ones go again."""
    topics = [topic.name for topic in service.writes if CustomerKeyIssued in topic.messages and topic.compacted]
    if not topics:
        return
    reader = make_reader(settings, f"oms-{service.name}-recovery")
    await reader.start()
    try:
        _, begins, ends = await read_ranges(reader, topics)
        keys: dict[str, CustomerKey] = {}
        async for _, record in read_between(reader, begins, ends):
            message = decode(from_headers(record.headers).type, record.value or b"")
            if isinstance(message, KEY_MESSAGES):
                keys[message.key_id] = key_in(message)
            if len(keys) >= EVENTS_PER_CHUNK:
                await save_keys(connection, keys.values())
                keys.clear()
        await save_keys(connection, keys.values())
    finally:
        await reader.stop()


async def _append(connection: Connection, decider: AnyDecider | None, events: list[StoredEvent]) -> None:
    for begin in range(0, len(events), EVENTS_PER_CHUNK):
        chunk = events[begin : begin + EVENTS_PER_CHUNK]
        await insert_events(connection, chunk)
        if decider is not None:
            decoded = [(event.stream, decode(event.type, event.data.encode())) for event in chunk if is_folded(event.type)]
            keys = sorted({key for _, event in decoded for key in decider.writes(event)})
            states = {key: StoredState(*stored) for key, stored in (await load_states(connection, decider, keys)).items()}
            fold(decider, decoded, states)
            await save_states(connection, decider, states)
        log.info("recovering", events=begin + len(chunk), of=len(events))
