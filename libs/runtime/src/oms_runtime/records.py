"""From what Kafka delivers to messages: which records are for us, which were applied before, and what the rest say.

The consumer and the rebuild of read models both read through here, so they agree on what is read and what is passed over.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import md5
from typing import NamedTuple

from oms_contracts.envelope import CONTROL, MAX_ATTRIBUTE_BYTES, from_headers, header, own_headers, own_type_and_position
from oms_contracts.message import UnreadableMessage, decode, key_of, type_of, validate
from oms_contracts.parties import parties_named
from oms_contracts.values import quoted
from oms_kafka.aiokafka_internals import UnreadableRecord
from oms_kafka.clients import Record

from oms_runtime.model import IncomingRecord, Service

Partition = tuple[str, int]

MAX_HEADERS = 100
MAX_HEADERS_BYTES = 64 * 1024
"""Of all headers of an external record, names and values."""
MAX_POSITION_DIGITS = 18
"""Anybody may send any number; a longer one is no position of ours, and its record is set aside."""


class PartitionFacts(NamedTuple):
    """What the broker says of a partition: its topic's id, its first offset, the offset of its next record, and the timestamp of the
    record before the checkpoint, None where that is not known."""

    topic_id: str
    begin: int
    end: int
    timestamp_ms: int | None = None


class Checkpoint(NamedTuple):
    """Where a partition's consumer is: the next offset to apply, and the highest `ce_position` applied.

    `epoch` is the store epoch under which that position was published, empty where it is not known. `timestamp_ms` is what the broker has
    as the time of the record before `next_offset`, None where it is not known: another time means another record.
    """

    next_offset: int
    position: int
    epoch: str = ""
    timestamp_ms: int | None = None


class ReusedPosition(NamedTuple):
    """A record whose position was applied before, and which is another event: its store's epoch is newer than the applied one's."""

    record: IncomingRecord
    epoch: str
    applied: Checkpoint


@dataclass(slots=True)
class _Progress:
    """How far a batch moves a partition's checkpoint."""

    before: Checkpoint
    next_offset: int
    position: int
    newest: Record | None = None
    """The record that `position` is from."""
    last: Record | None = None

    def checkpoint(self) -> Checkpoint:
        epoch = store_epoch(self.newest.headers) if self.newest is not None else ""
        # What stands for a batch that cannot be read has no timestamp of its own.
        timestamp_ms = None if self.last is None or isinstance(self.last, UnreadableRecord) else self.last.timestamp
        return Checkpoint(self.next_offset, self.position, epoch or self.before.epoch, timestamp_ms)


class RecordSifter:
    """Reads a service's records: `sift` what Kafka delivered, drop what comes `without_duplicates`, `parse` the rest."""

    def __init__(self, service: Service) -> None:
        self.passed_below_checkpoint = False
        """Whether a record was left out because its offset is below the checkpoint. The caller resets it."""
        self._handled = {name.encode(): name for name in service.handled_types()}
        self._trusted = service.trusted_topics()
        self._topics = service.topics_read()
        self._types_on: dict[str, set[str]] = {}

    def sift(
        self, batch: Iterable[Record], checkpoints: Mapping[Partition, Checkpoint]
    ) -> tuple[list[IncomingRecord], dict[Partition, Checkpoint]]:
        """The records of `batch` that are for us and not applied yet, and the checkpoints that the batch reaches where it moves them.

        Records of partitions without a checkpoint are left out. On a trusted topic the types that are not handled are dropped by their
        header, before anything is built from them: they are most of what comes. On any other topic a record of another type is a mistake
        to be shown, and so is one that cannot be read.
        """
        records: list[IncomingRecord] = []
        reached = {name: _Progress(at, at.next_offset, at.position) for name, at in checkpoints.items()}
        trusted, handled = self._trusted, self._handled
        for record in batch:
            topic, offset = record.topic, record.offset
            at = reached.get((topic, record.partition))
            if at is None:
                continue
            if offset < at.next_offset:
                self.passed_below_checkpoint = True
                continue
            at.next_offset, at.last = offset + 1, record
            kind, position_text = own_type_and_position(record.headers)
            if topic not in trusted:
                records.append(_received(record, _text(kind), None, self._fault(record)))
                continue
            position = _position(position_text)
            if position is not None and position > at.position:
                at.position, at.newest = position, record
            if kind in handled:
                records.append(_received(record, handled[kind], position, ""))
            elif kind is None and isinstance(record, UnreadableRecord):
                records.append(_received(record, None, None, record.fault))
        return records, {name: at.checkpoint() for name, at in reached.items() if at.last is not None}

    def _fault(self, record: Record) -> str:
        """Why an external record is not even parsed, empty when it is."""
        if isinstance(record, UnreadableRecord):
            return record.fault
        if (size := len(record.value or b"")) > (limit := self._topics[record.topic].max_message_bytes):
            return f"value: has {size} bytes, at most {limit}"
        if (count := len(record.headers)) > MAX_HEADERS:
            return f"headers: are {count}, at most {MAX_HEADERS}"
        if (size := sum(len(name) + len(value or b"") for name, value in record.headers)) > MAX_HEADERS_BYTES:
            return f"headers: have {size} bytes, at most {MAX_HEADERS_BYTES}"
        return ""

    def without_duplicates(self, records: Sequence[IncomingRecord], checkpoints: Mapping[Partition, Checkpoint]) -> list[IncomingRecord]:
        """Without the records whose position was applied before: an event that its owner published twice takes effect once."""
        highest = {partition: checkpoint.position for partition, checkpoint in checkpoints.items()}
        new: list[IncomingRecord] = []
        for record in records:
            position = record.position
            if position is not None and record.topic in self._trusted:
                partition = record.topic, record.partition
                if position <= highest[partition]:
                    continue
                highest[partition] = position
            new.append(record)
        return new

    def reused_positions(self, records: Sequence[IncomingRecord], checkpoints: Mapping[Partition, Checkpoint]) -> list[ReusedPosition]:
        """Those of the records that `without_duplicates` drops which are no repeats: other events under positions that were applied.

        An older epoch than the applied one's is what a topic says that is read again; without an epoch nothing is known.
        """
        applied = dict(checkpoints)
        reused: list[ReusedPosition] = []
        for record in records:
            if record.position is None or record.topic not in self._trusted:
                continue
            partition, epoch = (record.topic, record.partition), store_epoch(record.headers)
            at = applied[partition]
            if record.position > at.position:
                applied[partition] = at._replace(position=record.position, epoch=epoch or at.epoch)
            elif at.epoch and epoch > at.epoch:
                reused.append(ReusedPosition(record, epoch, at))
        return reused

    def parse(self, record: IncomingRecord) -> IncomingRecord:
        """Read envelope and message into `record`: decoded where only our own services write, validated strictly elsewhere.

        What comes on a party's own topic may name no other party. Raises UnreadableMessage or ValueError naming what is wrong.
        """
        if record.fault:
            raise UnreadableMessage(record.fault)
        trusted = record.topic in self._trusted
        envelope = own_headers(record.headers) if trusted else from_headers(record.headers)
        kind = envelope.type
        topic = self._topics[record.topic]
        types = self._types_on.get(record.topic)
        if types is None:
            types = self._types_on[record.topic] = {type_of(cls).name for cls in topic.messages}
        if kind not in types:
            raise UnreadableMessage(f"ce_type: {kind} does not belong on {record.topic}")
        message = decode(kind, record.value) if trusted else validate(kind, record.value)
        if not trusted and record.key != (key := _key_text(key_of(message).encode())):
            # Under another key it may be on another partition, and two processes would decide one order.
            raise UnreadableMessage(f"key: is {quoted(record.key or '')}, must be {quoted(key)}: send the message again under that key")
        for field, party in parties_named(message) if topic.party else ():
            if party != topic.party:
                # Only the topic says who sent a record, and only a party itself may write its topic.
                raise UnreadableMessage(f"{field}: is {quoted(party)}, and this is the topic of {topic.parties} {quoted(topic.party)}")
        record.envelope, record.type, record.message = envelope, kind, message
        return record


def _received(record: Record, kind: str | None, position: int | None, fault: str) -> IncomingRecord:
    return IncomingRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=_key_text(record.key) if record.key is not None else None,
        headers=record.headers,
        value=record.value or b"",
        type=kind,
        position=position,
        fault=fault,
    )


def store_epoch(headers: Sequence[tuple[str, bytes | None]]) -> str:
    """The epoch of the store that published a record, empty where the record has none."""
    return header(headers, "ce_storeepoch") or ""


def _position(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) <= MAX_POSITION_DIGITS else None


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    if len(value) > MAX_ATTRIBUTE_BYTES:  # an external party may send any; the cache must not hold it
        return value[:MAX_ATTRIBUTE_BYTES].decode("utf-8", "replace")
    return _short_text(value)


@lru_cache(maxsize=1_024)
def _short_text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _key_text(key: bytes) -> str:
    """A key as text, or a substitute for one that no envelope can carry: the event about its dead letter has to be readable by all."""
    text = key.decode("utf-8", "replace")
    if text.isprintable() and len(text) <= MAX_ATTRIBUTE_BYTES // 4:
        return text
    if len(text.encode()) <= MAX_ATTRIBUTE_BYTES and not CONTROL.search(text):
        return text
    return CONTROL.sub("\ufffd", text[:100]) + "~" + md5(key, usedforsecurity=False).hexdigest()
