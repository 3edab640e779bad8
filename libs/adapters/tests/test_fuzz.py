"""Whatever a payload contains, an adapter returns a result."""

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oms_adapters.parts import map_payload
from oms_adapters.platforms import PLATFORMS, adapter_of_platform
from oms_adapters.results import Mapped, Unmapped
from oms_adapters.sums import discrepancies

from libs.adapters.tests.helpers import places
from libs.adapters.tests.payloads import BY_PLATFORM, raw

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", "\x00", "\ud800", "1e999", "NaN", "-1", "10.00", "2026-03-01T10:00:00Z", "9" * 5_000, "x" * 5_000]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.integers(-(2**80), 2**80) | st.floats() | TEXTS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20)


def check(platform: str, payload: bytes) -> None:
    result = map_payload(adapter_of_platform(platform), payload, channel=platform)
    match result:
        case Mapped():
            assert not discrepancies(result.order)
        case Unmapped():
            assert result.reasons
            assert all(reason.field and reason.reason for reason in result.reasons)
            assert result.raw == payload


@pytest.mark.parametrize("platform", PLATFORMS)
@settings(max_examples=150)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_and_any_json_have_a_result(platform: str, payload: bytes) -> None:
    check(platform, payload)


@pytest.mark.parametrize("platform", PLATFORMS)
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), st.lists(JSON, min_size=1, max_size=4), st.booleans())
def test_orders_with_values_removed_retyped_and_nested_have_a_result(
    platform: str, chance: random.Random, values: list[Any], removes: bool
) -> None:
    payload = copy.deepcopy(chance.choice(BY_PLATFORM[platform]))
    for value in values:
        holder, name = chance.choice([*places(payload), (payload, "more")])
        if removes and isinstance(holder, dict) and name in holder:
            del holder[name]
        else:
            holder[name] = value
    check(platform, raw(payload))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"NaN",
        b"[" * 100_000,
        b'{"a":' * 5_000,
        b"1" * 5_000,
        b'{"id": 1e999999999, "total": 1e99999999999999999999999, "line_items": []}',
        b'{"id": "\\ud800 and more", "line_items": [], "total": "1"}',
        b"\xff\xfe",
        b"[" + b"0," * 300_000 + b"0]",
        b" " * 5_000_001,
        json.dumps({"id": 1, "orderId": "1", "line_items": [{}] * 5_000, "lines": [{}] * 5_000, "orderItems": [{}] * 5_000}).encode(),
    ],
    ids=range(11),
)
def test_hostile_payloads_have_a_result(platform: str, payload: bytes) -> None:
    check(platform, payload)
