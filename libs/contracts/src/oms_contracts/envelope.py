"""CloudEvents 1.0 in Kafka's binary mode: attributes travel as `ce_` headers, the value is the JSON data alone.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md; `sequence`, `partitionkey` and the tracing
extension are documented extensions, `position`, `correlationid` and `causationid` are ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What a record says about itself beside its data.

    `sequence` is the event's version in its stream, `position` its place in its owner's store; both are None on what strangers and
    commands bring. `correlationid` is shared by all that one order caused, `causationid` names the record that led to this one.
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


def to_headers(envelope: Envelope) -> Headers:
    """The Kafka headers of an envelope, absent attributes left out."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", envelope.type.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_id", envelope.id.encode()),
        ("ce_time", rfc3339(envelope.time).encode()),
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
    return headers


def from_headers(headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """The envelope that a record's headers spell. Raises ValueError naming the attribute that is missing or malformed."""
    found = {name: value.decode("utf-8", "replace") for name, value in headers if value is not None}  # pyright: ignore[reportUnnecessaryComparison]
    try:
        if found["ce_specversion"] != "1.0":
            raise ValueError(f"ce_specversion is {found['ce_specversion']!r}, not 1.0")
        return Envelope(
            type=found["ce_type"],
            source=found["ce_source"],
            id=found["ce_id"],
            time=datetime.fromisoformat(found["ce_time"]) if "ce_time" in found else datetime.fromtimestamp(0, UTC),
            subject=found.get("ce_subject", ""),
            sequence=int(found["ce_sequence"]) if "ce_sequence" in found else None,
            position=int(found["ce_position"]) if "ce_position" in found else None,
            correlationid=found.get("ce_correlationid", ""),
            causationid=found.get("ce_causationid", ""),
            traceparent=found.get("traceparent", ""),
        )
    except KeyError as missing:
        raise ValueError(f"the header {missing.args[0]} is missing") from missing


def header(headers: Iterable[tuple[str, bytes]], name: str) -> str | None:
    """One header's text, None where it is absent: cheaper than parsing all of them."""
    for key, value in headers:
        if key == name:
            return value.decode("utf-8", "replace")
    return None


def rfc3339(moment: datetime) -> str:
    """A UTC instant as RFC 3339 writes it, with Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
