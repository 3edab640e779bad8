"""CloudEvents 1.0 in Kafka's binary mode: attributes travel as `ce_` headers, the value is the JSON data alone.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md; `sequence`, `partitionkey` and the tracing
extension are documented extensions, `position`, `storeepoch`, `correlationid`, `causationid`, `actor` and `reason` are ours.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

Headers = list[tuple[str, bytes]]

MAX_ATTRIBUTE_BYTES = 1_000
"""What one attribute may have; ours have a tenth of it."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Characters that no attribute may have: CloudEvents forbids them, and PostgreSQL cannot store NUL."""
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TYPE_INDEX, _POSITION_INDEX = 1, 9
"""Where `to_headers` puts `ce_type` and `ce_position` in a service's event."""
_EPOCH = datetime.fromtimestamp(0, UTC)


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What a record says about itself beside its data.

    `sequence` is the event's version in its stream, `position` its place in its owner's store; both are None on the records of
    external parties and on commands. `storeepoch` names the life of that store: it changes when a recovered store goes on behind
    what it had lost, and sorts by time; it is empty where it is not known. `correlationid` is shared by all that one order caused,
    `causationid` names the record that led to this one.

    `actor` is who asked for it, as whoever let them in knows them (`user:ada`, `key:till-7`, `channel:web`), and `reason` why, where a
    person said so. An event has those of the command that it answers, and none where a service decided by itself.
    """

    type: str
    source: str
    id: str
    time: datetime
    subject: str = ""
    sequence: int | None = None
    position: int | None = None
    correlationid: str = ""
    causationid: str = ""
    traceparent: str = ""
    storeepoch: str = ""
    actor: str = ""
    reason: str = ""


def to_headers(envelope: Envelope) -> Headers:
    """The Kafka headers of an envelope, absent attributes left out."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", envelope.type.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_id", envelope.id.encode()),
        ("ce_time", _time(envelope.time)),
        ("content-type", b"application/json"),
    ]
    if envelope.subject:
        headers += [("ce_subject", envelope.subject.encode()), ("ce_partitionkey", envelope.subject.encode())]
    if envelope.sequence is not None:
        headers.append(("ce_sequence", b"%d" % envelope.sequence))
    if envelope.position is not None:
        headers.append(("ce_position", b"%d" % envelope.position))
    if envelope.correlationid:
        headers.append(("ce_correlationid", envelope.correlationid.encode()))
    if envelope.causationid:
        headers.append(("ce_causationid", envelope.causationid.encode()))
    if envelope.traceparent:
        headers.append(("traceparent", envelope.traceparent.encode()))
    if envelope.actor:
        headers.append(("ce_actor", envelope.actor.encode()))
    if envelope.reason:
        headers.append(("ce_reason", envelope.reason.encode()))
    if envelope.storeepoch:
        headers.append(("ce_storeepoch", envelope.storeepoch.encode()))
    return headers


def from_headers(headers: Iterable[tuple[str, bytes | None]]) -> Envelope:
    """The envelope that a record's headers spell; of a header that is there twice the first counts, as in `header`.

    Raises ValueError naming the attribute that is missing or malformed. A `traceparent` that is not one is ignored, as W3C asks; an absent
    time is the start of 1970.
    """
    found = {name: value for name, value in reversed(list(headers)) if value is not None}
    version = found.get("ce_specversion")
    if version != b"1.0":
        raise ValueError(f"ce_specversion: is {_text(found, 'ce_specversion', required=True)!r}, not 1.0")
    trace = found.get("traceparent", b"")
    return Envelope(
        type=_repeated_text(found, "ce_type", required=True),
        source=_repeated_text(found, "ce_source", required=True),
        id=_text(found, "ce_id", required=True),
        time=_instant(found, "ce_time"),
        subject=_text(found, "ce_subject"),
        sequence=_integer(found, "ce_sequence"),
        position=_integer(found, "ce_position"),
        correlationid=_text(found, "ce_correlationid"),
        causationid=_text(found, "ce_causationid"),
        traceparent=trace.decode() if _TRACEPARENT.fullmatch(trace) else "",
        storeepoch=_repeated_text(found, "ce_storeepoch"),
        actor=_text(found, "ce_actor"),
        reason=_text(found, "ce_reason"),
    )


def check_key(key: str) -> None:
    """Raises ValueError for a record's key that an envelope cannot bear as its subject."""
    _text({"ce_subject": key.encode()}, "ce_subject")


def own_headers(headers: Iterable[tuple[str, bytes | None]]) -> Envelope:
    """As `from_headers`, in a third of its time: for the records of our own services, whose attributes need not be checked again."""
    found: dict[str, Any] = dict(headers)
    get = found.get
    try:
        sequence, position = get("ce_sequence"), get("ce_position")
        return Envelope(
            type=_own_text(found["ce_type"]),
            source=_own_text(found["ce_source"]),
            id=found["ce_id"].decode(),
            time=_moment("ce_time", found["ce_time"].decode()),
            subject=get("ce_subject", b"").decode(),
            sequence=None if sequence is None else int(sequence),
            position=None if position is None else int(position),
            correlationid=get("ce_correlationid", b"").decode(),
            causationid=get("ce_causationid", b"").decode(),
            traceparent=get("traceparent", b"").decode(),
            storeepoch=_own_text(get("ce_storeepoch", b"")),
            actor=get("ce_actor", b"").decode(),
            reason=get("ce_reason", b"").decode(),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return from_headers(headers)  # somebody else wrote it: the error says what is wrong


@lru_cache(maxsize=1_024)
def _own_text(value: bytes) -> str:
    return value.decode()


def own_type_and_position(headers: Sequence[tuple[str, bytes | None]]) -> tuple[bytes | None, bytes | None]:
    """The values of `ce_type` and `ce_position`, looked for first where our services put them: most records are dropped after this."""
    if len(headers) > _POSITION_INDEX:
        (first, kind), (second, position) = headers[_TYPE_INDEX], headers[_POSITION_INDEX]
        if first == "ce_type" and second == "ce_position":
            return kind, position
    found = dict(reversed(headers))
    return found.get("ce_type"), found.get("ce_position")


def header(headers: Iterable[tuple[str, bytes | None]], name: str) -> str | None:
    """One header's text, None where it is absent: cheaper than parsing all of them."""
    for key, value in headers:
        if key == name and value is not None:
            return value.decode("utf-8", "replace")
    return None


def rfc3339(moment: datetime) -> str:
    """A UTC instant as RFC 3339 writes it, with Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@lru_cache(maxsize=64)
def _time(moment: datetime) -> bytes:
    """All events of one transaction bear the same time."""
    return rfc3339(moment).encode()


def _text(found: dict[str, bytes], name: str, required: bool = False) -> str:
    value = found.get(name)
    if not value:
        return _absent(name, required)
    if len(value) > MAX_ATTRIBUTE_BYTES:
        raise _too_long(name, value)
    return _decoded(name, value)


def _repeated_text(found: dict[str, bytes], name: str, required: bool = False) -> str:
    """As `_text`, for an attribute whose few values come again and again."""
    value = found.get(name)
    if not value:
        return _absent(name, required)
    if len(value) > MAX_ATTRIBUTE_BYTES:  # checked before it becomes a key of the cache, which would else hold whatever is sent
        raise _too_long(name, value)
    return _decoded_once(name, value)


def _absent(name: str, required: bool) -> str:
    if required:
        raise ValueError(f"{name}: the header is missing or empty")
    return ""


def _too_long(name: str, value: bytes) -> ValueError:
    return ValueError(f"{name}: has {len(value)} bytes, at most {MAX_ATTRIBUTE_BYTES}")


def _decoded(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name}: is not UTF-8") from None
    if not text.isprintable() and CONTROL.search(text):
        raise ValueError(f"{name}: must not contain control characters")
    return text


_decoded_once = lru_cache(maxsize=1_024)(_decoded)


def _integer(found: dict[str, bytes], name: str) -> int | None:
    value = found.get(name)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise ValueError(f"{name}: must be a whole number of at most 18 digits, not negative")
    return int(value)


def _instant(found: dict[str, bytes], name: str) -> datetime:
    text = _text(found, name)
    return _moment(name, text) if text else _EPOCH


@lru_cache(maxsize=64)
def _moment(name: str, text: str) -> datetime:
    """All events of one transaction bear the same time."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{name}: must be a date and time with its offset, as RFC 3339 writes it: 2026-01-31T09:30:00Z")
