"""Malformed headers, and our headers as another CloudEvents library reads them."""

import json
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from hypothesis import given, settings
from hypothesis import strategies as st
from oms_contracts.catalogue import TOPICS
from oms_contracts.channel import OrderPlaced
from oms_contracts.envelope import Envelope, from_headers, header, own_headers, own_type_and_position, to_headers
from oms_contracts.message import encode, find_type, key_of, type_of
from oms_contracts.samples import sample, sample_envelope

SOUND = dict(
    to_headers(
        Envelope(
            type="oms.capture.OrderConfirmed.v1",
            source="/oms/capture",
            id="capture-41",
            time=datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
            subject="order-1",
            sequence=3,
            position=41,
            correlationid="order-1",
            causationid="payment-7",
            traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
    )
)


def test_type_and_position_are_found_wherever_they_are() -> None:
    headers = [*SOUND.items()]
    assert (headers[1], headers[9]) == (("ce_type", SOUND["ce_type"]), ("ce_position", b"41"))  # where they are looked for first
    for order in (headers, headers[::-1], headers[1:]):
        assert own_type_and_position(order) == (SOUND["ce_type"], b"41")
    assert own_type_and_position([("ce_type", b"x")]) == (b"x", None)


@pytest.mark.parametrize("missing", ["ce_specversion", "ce_type", "ce_source", "ce_id"])
@pytest.mark.parametrize("how", ["absent", "empty", "null"])
def test_a_missing_attribute_is_named(missing: str, how: str) -> None:
    headers: dict[str, bytes | None] = {**SOUND}
    if how == "absent":
        del headers[missing]
    else:
        headers[missing] = b"" if how == "empty" else None
    with pytest.raises(ValueError, match=f"^{missing}: the header is missing or empty$"):
        from_headers(headers.items())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ce_specversion", b"0.3", "is '0.3', not 1.0"),
        ("ce_sequence", b"", "must be a whole number"),
        ("ce_sequence", b"3.0", "must be a whole number"),
        ("ce_sequence", b"-3", "must be a whole number"),
        ("ce_sequence", b"1_000", "must be a whole number"),
        ("ce_sequence", b" 3", "must be a whole number"),
        ("ce_position", "٣".encode(), "must be a whole number"),
        ("ce_position", b"9" * 19, "at most 18 digits"),
        ("ce_position", b"9" * 5_000, "at most 18 digits"),
        ("ce_time", b"yesterday", "must be a date and time"),
        ("ce_time", b"2026-01-31T09:30:00", "with its offset"),
        ("ce_time", b"0001-01-01T00:00:00+14:00", "must be a date and time"),
        ("ce_id", b"\xff\xfe", "is not UTF-8"),
        ("ce_subject", b"order\x00", "must not contain control characters"),
        ("ce_correlationid", "\x85".encode(), "must not contain control characters"),
        ("ce_causationid", b"x" * 1_001, "has 1001 bytes, at most 1000"),
        ("ce_source", b"x" * 10_000_000, "has 10000000 bytes, at most 1000"),
    ],
)
def test_a_malformed_attribute_is_named(name: str, value: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: .*{reason}"):
        from_headers({**SOUND, name: value}.items())


def test_headers_that_are_not_attributes_are_ignored() -> None:
    assert from_headers({**SOUND, "x-trace-bin": b"\xff\x00", "ce_dataschema": b"\xff"}.items()) == from_headers(SOUND.items())


def test_an_absent_time_is_the_start_of_1970() -> None:
    headers = {name: value for name, value in SOUND.items() if name != "ce_time"}
    assert from_headers(headers.items()).time == datetime(1970, 1, 1, tzinfo=UTC)


def test_time_is_given_in_utc() -> None:
    read = from_headers({**SOUND, "ce_time": b"2026-01-31T11:30:00+02:00"}.items()).time
    assert (read, read.tzinfo) == (datetime(2026, 1, 31, 9, 30, tzinfo=UTC), UTC)


@pytest.mark.parametrize("trace", [b"", b"00-zz", b"\xff", b"00-" + b"A" * 32 + b"-00f067aa0ba902b7-01", b"x" * 100_000])
def test_a_traceparent_that_is_not_one_is_ignored(trace: bytes) -> None:
    assert from_headers({**SOUND, "traceparent": trace}.items()).traceparent == ""


def test_of_a_header_that_is_there_twice_the_first_counts() -> None:
    headers = [*SOUND.items(), ("ce_type", b"oms.capture.OrderCanceled.v1")]
    assert from_headers(headers).type == header(headers, "ce_type") == "oms.capture.OrderConfirmed.v1"


TEXT = st.text(st.characters(exclude_categories=("C",)), max_size=20)
NUMBER = st.none() | st.integers(0, 10**18 - 1)


@given(
    st.builds(
        Envelope,
        type=TEXT.filter(bool),
        source=TEXT.filter(bool),
        id=TEXT.filter(bool),
        time=st.datetimes(timezones=st.just(UTC)),
        subject=TEXT,
        sequence=NUMBER,
        position=NUMBER,
        correlationid=TEXT,
        causationid=TEXT,
        traceparent=st.sampled_from(["", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]),
        storeepoch=TEXT,
        actor=TEXT,
        reason=TEXT,
    )
)
def test_our_own_headers_are_read_back_by_either_way(envelope: Envelope) -> None:
    headers = to_headers(envelope)
    assert own_headers(headers) == from_headers(headers) == envelope


@pytest.mark.parametrize(("name", "value"), [("ce_type", None), ("ce_position", b"x"), ("ce_time", b"x"), ("ce_subject", b"\xff")])
def test_what_is_wrong_with_headers_that_claim_to_be_our_own_is_said(name: str, value: bytes | None) -> None:
    headers = [
        (header, value if header == name else sound) for header, sound in to_headers(sample_envelope(sample(OrderPlaced), by_service=True))
    ]
    with pytest.raises(ValueError, match=name):
        own_headers(headers)


@given(st.lists(st.tuples(st.sampled_from([*SOUND, "x"]), st.none() | st.binary(max_size=40) | st.sampled_from([*SOUND.values()]))))
@settings(deadline=None, max_examples=300)
def test_garbage_is_an_envelope_or_a_value_error(headers: list[tuple[str, bytes | None]]) -> None:
    try:
        read = from_headers(headers)
    except ValueError as error:
        assert str(error).startswith(("ce_", "traceparent"))  # noqa: PT017  # any other error fails the test, as it should
    else:
        assert from_headers(to_headers(read)) == read


@pytest.mark.parametrize("name", sorted({type_of(cls).name for topic in TOPICS for cls in topic.messages}))
def test_a_cloudevents_sdk_reads_our_records(name: str) -> None:
    kind = find_type(name)
    assert kind is not None
    message = sample(kind.cls)
    ours = sample_envelope(message, by_service=True)
    value = encode(message)
    record = KafkaMessage(headers=dict(to_headers(ours)), key=key_of(message).encode(), value=value)

    event = from_kafka_event(record)

    assert (event.get_type(), event.get_source(), event.get_id(), event.get_time()) == (ours.type, ours.source, ours.id, ours.time)
    assert event.get_subject() == event.get_extension("partitionkey") == key_of(message)
    assert event.get_extension("sequence") == str(ours.sequence)
    assert event.get_extension("position") == str(ours.position)
    assert event.get_extension("correlationid") == ours.correlationid
    assert event.get_extension("causationid") == ours.causationid
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == json.loads(value)
