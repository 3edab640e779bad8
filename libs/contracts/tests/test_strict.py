"""What external parties send is taken as it is or refused, with every mistake named."""

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from oms_contracts.catalogue import EXTERNAL_MAX_BYTES, TOPICS, Topic
from oms_contracts.channel import OrderPlaced
from oms_contracts.fulfillments import FulfillmentShipped
from oms_contracts.message import UnreadableMessage, encode, find_type, type_of, validate
from oms_contracts.samples import sample
from oms_contracts.schemas import schema_of
from oms_contracts.sound import read_sound
from oms_contracts.stock import ReceiveStock
from oms_contracts.strict import MAX_REASONS, Refused, read_by_pydantic, read_strictly

PLACED = type_of(OrderPlaced).name
SOUND: dict[str, Any] = json.loads(encode(sample(OrderPlaced)))


def order(**changes: Any) -> dict[str, Any]:
    return {**SOUND, **changes}


def line(**changes: Any) -> dict[str, Any]:
    return order(lines=[{**SOUND["lines"][0], **changes}])


def refusal(value: Any) -> list[str]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(UnreadableMessage) as refused:
        validate(PLACED, raw)
    return str(refused.value).removeprefix(f"{PLACED}: ").split("; ")


NOT_AN_INTEGER = "Input should be a valid integer"
RFC_3339 = "must be a date and time with its offset, as RFC 3339 writes it: 2026-01-31T09:30:00Z"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (order(total="4295"), f"total: {NOT_AN_INTEGER}"),
        (order(total=4295.0), f"total: {NOT_AN_INTEGER}"),
        (order(total=True), f"total: {NOT_AN_INTEGER}"),
        (order(total=None), f"total: {NOT_AN_INTEGER}"),
        (order(total=2**53), "total: Input should be less than or equal to 9007199254740991"),
        (order(total=-(2**63)), "total: Input should be greater than or equal to -9007199254740991"),
        (order(total=10**400), "total: Input should be less than or equal to 9007199254740991"),
        (line(quantity="2"), f"lines.0.quantity: {NOT_AN_INTEGER}"),
        (order(channel=7), "channel: Input should be a valid string"),
        (order(channel=None), "channel: Input should be a valid string"),
        (order(channel="we\0b"), "channel: must not contain the character NUL"),
        (order(channel="x" * 256), "channel: must have at most 255 characters"),
        (line(sku="x" * 101), "lines.0.sku: must have at most 100 characters"),
        (order(payments=[{**SOUND["payments"][0], "token": "x" * 2_001}]), "payments.0.token: must have at most 2000 characters"),
        (line(quantity=1.5), f"lines.0.quantity: {NOT_AN_INTEGER}"),
        (line(quantity="0.5"), f"lines.0.quantity: {NOT_AN_INTEGER}"),
        (order(attributes={str(number): "x" for number in range(101)}), "attributes: "),
        (line(attributes={str(number): "x" for number in range(101)}), "lines.0.attributes: "),
        (order(attributes={"a": "x" * 256}), "attributes.a: must have at most 255 characters"),
        (order(attributes={"a": 1}), "attributes.a: Input should be a valid string"),
        (order(attributes={"a": None}), "attributes.a: Input should be a valid string"),
        (order(attributes={"a": "b\0"}), "attributes.a: must not contain the character NUL"),
        (order(attributes=["a"]), "attributes: Input should be "),
        (order(attributes={"a" * 256: "x"}), "attributes."),
        (order(lines={}), "lines: Input should be a valid array"),
        (order(lines=[{}] * 5_001), "lines: must have at most 5000 entries, has 5001"),
        (order(lines=[7]), "lines.0: Input should be an object"),
        (order(customer=None), "customer: Input should be an object"),
        (order(shiping=495), "shiping: there is no such field"),
        (line(dicount=198), "lines.0.dicount: there is no such field"),
        (order(placed_at="2026-01-31T09:30:00"), f"placed_at: {RFC_3339}"),
        (order(placed_at="2026-01-31"), f"placed_at: {RFC_3339}"),
        (order(placed_at="1769850000"), f"placed_at: {RFC_3339}"),
        (order(placed_at=1769850000), "placed_at: Input should be a valid string"),
        (order(placed_at="2026-01-31T09:30:00Z\n"), f"placed_at: {RFC_3339}"),
        (order(placed_at="2026-02-30T09:30:00Z"), "placed_at: Input should be a valid datetime"),
        (order(placed_at="0001-01-01T00:00:00+14:00"), "placed_at: Input should be greater than or equal to 1970"),
        (order(placed_at="9999-12-31T23:59:59-12:00"), "placed_at: Input should be less than or equal to 9999"),
        ({name: part for name, part in SOUND.items() if name != "currency"}, "currency: is required"),
        ([], "value: Input should be an object"),
        (b"", "value: Invalid JSON"),
        (b"\xff", "value: Invalid JSON"),
        (b"[" * 100_000, "value: Invalid JSON"),
        (json.dumps(SOUND).replace('"web"', r'"\ud800"').encode(), "value: Invalid JSON"),
        (json.dumps(order(total="?")).replace('"?"', "1" * 5_000).encode(), "value: Invalid JSON"),
        (json.dumps(order(total="?")).replace('"?"', "NaN").encode(), f"total: {NOT_AN_INTEGER}"),
    ],
    ids=str,
)
def test_a_mistake_is_named(value: Any, reason: str) -> None:
    (named,) = refusal(value)
    assert named.startswith(reason)


def test_a_hundred_attributes_are_taken() -> None:
    attributes = {f"{number:0255}": "x" * 255 for number in range(100)}
    assert validate(PLACED, json.dumps(order(attributes=attributes)).encode()).attributes == attributes


@pytest.mark.parametrize("discard", ["true", 1, None])
def test_a_truth_is_not_guessed(discard: Any) -> None:
    with pytest.raises(UnreadableMessage, match="discard: Input should be a valid boolean"):
        validate("oms.operations.RedriveDeadLetters.v1", json.dumps({"source_key": "order-1", "discard": discard}).encode())


def test_every_mistake_is_named_at_once() -> None:
    wrong = {**line(quantity="2", sku=None), "placed_at": "now", "curency": "EUR"}
    del wrong["currency"]
    assert {reason.split(":")[0] for reason in refusal(wrong)} == {
        "lines.0.quantity",
        "lines.0.sku",
        "placed_at",
        "currency",
        "curency",
    }


def test_a_hundred_mistakes_are_named_and_of_further_ones_only_that_they_exist() -> None:
    wrong, sound = {**SOUND["lines"][0], "sku": 7}, SOUND["lines"][0]
    reasons = refusal(order(lines=[sound] * 2_000 + [wrong] * 100 + [sound] * 1_000))
    assert [reason.split(":")[0] for reason in reasons] == [f"lines.{index}.sku" for index in range(2_000, 2_100)]
    reasons = refusal(order(lines=[sound] * 2_000 + [wrong] * 101, total="4295"))
    assert len(reasons) == 101
    assert reasons[-1] == "value: more mistakes"


UNKNOWN = "abcdefghijklmno"
MAX_CPU_SECONDS = 0.05


@pytest.mark.alone
@pytest.mark.parametrize(
    "value",
    [
        order(lines=[dict.fromkeys(UNKNOWN, 1)] * 5_000),
        order(lines=[dict.fromkeys(list(SOUND["lines"][0])[:6], False)] * 5_000),
        order(lines=[dict.fromkeys(map(str, range(50_000)), 1)]),
        order(**dict.fromkeys(map(str, range(50_000)), 1)),
        order(customer=dict.fromkeys(map(str, range(50_000)), 1)),
        order(unknown=[{"a": 1}] * 60_000),
        order(lines=[0] * 240_000),
        (json.dumps(SOUND)[:-1] + ',"":1' * 100_000 + "}").encode(),
    ],
    ids=["unknown fields", "wrong values", "one line", "one order", "one customer", "unknown list", "long list", "repeated field"],
)
def test_a_body_full_of_mistakes_is_cheap(value: Any) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    assert len(body) < EXTERNAL_MAX_BYTES

    def cpu_seconds() -> float:
        began = time.process_time()
        assert len(refusal(body)) <= MAX_REASONS + 1
        return time.process_time() - began

    assert min(cpu_seconds() for _ in range(3)) < MAX_CPU_SECONDS


def test_mistakes_in_lists_of_lists_are_counted_once() -> None:
    shipped: dict[str, Any] = json.loads(encode(sample(FulfillmentShipped)))
    package: dict[str, Any] = {**shipped["packages"][0], "carrier": 7}
    package["lines"] = [{**package["lines"][0], "sku": 7}]
    with pytest.raises(Refused) as refused:
        read_strictly(FulfillmentShipped, json.dumps({**shipped, "packages": [package] * 50}).encode())
    assert len(refused.value.reasons) == 100


def test_an_unknown_fields_name_is_shown_short_and_printable() -> None:
    (named,) = refusal(order(**{"\0\n" + "x" * 1_000: 1}))
    assert named.isprintable()
    assert len(named) < 150


def test_moments_come_out_in_utc() -> None:
    read = validate(PLACED, json.dumps(order(placed_at="2026-01-31T11:30:00+02:00")).encode())
    assert read.placed_at.isoformat() == "2026-01-31T09:30:00+00:00"
    assert read.placed_at.tzinfo is UTC


def test_the_same_order_written_with_another_offset_has_the_same_bytes() -> None:
    at_home, abroad = (validate(PLACED, json.dumps(order(placed_at=f"2026-01-31T{at}")).encode()) for at in ("09:30:00Z", "11:30:00+02:00"))
    assert encode(at_home) == encode(abroad)


def test_what_may_be_left_out_may_be_left_out() -> None:
    required = {name: SOUND[name] for name in schema_of(type_of(OrderPlaced))["required"]}
    read = validate(PLACED, json.dumps(required).encode())
    assert (read.shipping_lines, read.delivery, read.ship_to, read.taxes_included, read.attributes) == ((), "ship", None, True, {})


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(UnreadableMessage, match=r"unknown message type oms\.Nothing\.v1"):
        validate("oms.Nothing.v1", b"{}")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("2026-01-31T09:30:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SOUND, *SOUND["lines"][0], "x"]), inner, max_size=6),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from([*SOUND]), JUNK, max_size=4))
@settings(deadline=None, max_examples=300)
def test_junk_is_refused_or_fits_the_published_schema(changes: dict[str, Any]) -> None:
    value = json.dumps({**SOUND, **changes})
    kind = find_type(PLACED)
    assert kind is not None
    try:
        read = validate(PLACED, value.encode())
    except UnreadableMessage as error:
        assert str(error).startswith(PLACED)  # noqa: PT017  # any other error fails the test, as it should
    else:
        assert Draft202012Validator(schema_of(kind)).is_valid(json.loads(value))  # pyright: ignore[reportUnknownMemberType]
        assert isinstance(read.placed_at, datetime)


CONTENT = {"order": OrderPlaced, "stock": ReceiveStock, "shipment": FulfillmentShipped}
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, -1, 1.0, 2**53 - 1, 2**53, -(2**53), 10**30, "", "x" * 100, "x" * 101, "x" * 255, "x" * 256, "x" * 2_001),
        *("\x00", "\\u0000", "\U0001f600" * 255, "\U0001f600" * 256, [], {}, [None], {"a": "b"}, {"a": 1}, {"x" * 256: "b"}),
        *("2026-01-31T09:30:00Z", "2026-01-31t09:30:00.123456z", "2026-01-31T09:30:00.1234567Z", "2026-01-31T09:30:00+01:00"),
        *("1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "2026-02-30T09:30:00Z", "2026-01-31T24:00:00Z"),
        *("2026-01-31T09:30:60Z", "2026-01-31 09:30:00Z", "2026-01-31T09:30:00Z\n", "2026-01-31T09:30:00", "1769851800"),
    ]
)


@given(st.sampled_from([*CONTENT]), st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["put", "drop", "add"]), ODD), max_size=3))
@settings(deadline=None, max_examples=500)
def test_what_is_read_quickly_is_what_is_read_slowly(content: str, changes: list[tuple[int, str, Any]]) -> None:
    cls = CONTENT[content]
    value = json.loads(encode(sample(cls)))
    for number, change, odd in changes:
        if not (places := list(_places(value))):
            break
        holder, name = places[number % len(places)]
        match change, holder:
            case "drop", dict():
                del holder[name]
            case "add", dict():
                holder["another"] = deepcopy(odd)
            case _:
                holder[name] = deepcopy(odd)
    raw = json.dumps(value).encode()
    quick = read_sound(cls, raw)
    if quick is not None:
        slow = read_by_pydantic(cls, raw)
        assert quick == slow
        assert encode(quick) == encode(slow)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every part of a value: what it is in, and by which name or number."""
    names: Any = [*cast(Any, value)] if isinstance(value, dict) else range(len(cast(Any, value))) if isinstance(value, list) else ()
    for name in names:
        yield value, name
        yield from _places(value[name])


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if not topic.trusted], ids=lambda topic: topic.name)
def test_sound_messages_of_others_are_read_quickly(topic: Topic) -> None:
    for cls in topic.messages:
        assert read_sound(cls, encode(sample(cls))) == sample(cls)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_bytes_are_a_message_or_unreadable(value: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        validate(PLACED, value)
