"""What is written can be read, by us and by other programs, and means the same."""

import json
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from oms_contracts.envelope import Envelope, from_headers, header, to_headers
from oms_contracts.message import MessageType, all_types, decode, encode, find_type, key_of, newest, type_of, validate
from oms_contracts.schemas import schema_of

every_type = pytest.mark.parametrize("kind", all_types(), ids=lambda kind: kind.name)


@every_type
def test_what_is_written_is_read_as_it_was(kind: MessageType, instances: Any) -> None:
    schema = Draft202012Validator(schema_of(kind), format_checker=FormatChecker())

    @given(instances(kind.cls))
    @settings(deadline=None, max_examples=25)
    def law(message: Any) -> None:
        value = encode(message)
        assert decode(kind.name, value) == validate(kind.name, value) == newest(message)
        if kind.upcast is None:
            assert encode(validate(kind.name, value)) == value
        assert isinstance(key_of(message), str)
        schema.validate(json.loads(value))  # pyright: ignore[reportUnknownMemberType]  # jsonschema's own stubs are partial

    law()


@every_type
def test_a_type_is_found_by_its_name_and_by_its_class(kind: MessageType) -> None:
    assert find_type(kind.name) is kind
    assert type_of(kind.cls) is kind


ATTRIBUTES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=100)
SOME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=100)
COUNTS = st.none() | st.integers(0, 10**18 - 1)


@given(
    st.builds(
        Envelope,
        type=SOME,
        source=SOME,
        id=SOME,
        time=st.datetimes(timezones=st.just(UTC)),
        subject=ATTRIBUTES,
        sequence=COUNTS,
        position=COUNTS,
        correlationid=ATTRIBUTES,
        causationid=ATTRIBUTES,
        traceparent=st.sampled_from(["", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]),
    )
)
@settings(deadline=None)
def test_an_envelope_survives_its_headers(envelope: Envelope) -> None:
    headers = to_headers(envelope)
    assert from_headers(headers) == envelope
    assert header(headers, "ce_type") == envelope.type
    assert len({name for name, _ in headers}) == len(headers)
