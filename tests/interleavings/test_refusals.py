"""Whatever an external party sends: what a service publishes to refuse it has at most a few kilobytes.

The commands are as large as `validate` lets them through, and their text is of the characters that take the most bytes where a reason
quotes them. A service decides on them in every state of an order's life.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from oms_capture.validation import MAX_LINES
from oms_contracts.catalogue import EXTERNAL_MAX_BYTES, TOPICS
from oms_contracts.channel import WebhookReceived
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.message import Value, encode, key_of, type_of, validate
from oms_contracts.orders import OrderActionRequired
from oms_contracts.sound import MAX_ITEMS, MAX_NUMBER, MAX_TEXT_CHARACTERS
from oms_contracts.stock import ReceiveStock
from oms_contracts.values import OrderLine, StockLine

from .scenarios import DETERMINED, SHORT_STEPS, order_of_version_1, order_of_version_2
from .system import NOON, Node, Scenario, Schedule, System

MAX_BYTES = 12 * 1024
"""Of the value of an event that refuses something: its reasons, at most four bytes a character, and the ids that it names."""
REFUSALS = ("Refused", "Rejected", "Declined", "ConflictReported", "ActionRequired", "OrderStatusChanged")
CHARACTERS = ("x", " ", "'", '"', "\\", "\n", "ü", "\U0001f4e6", "\U000e0001", "\x7f")
COMMANDS = [cls for topic in TOPICS if not topic.trusted for cls in topic.messages if cls not in {RedriveDeadLetters, WebhookReceived}]
"""Beside an operator's word, and webhooks, of which one that makes no sense is set aside."""
RECEIPT = ReceiveStock(receipt_id="FIRST", lines=(StockLine(sku="MUG", location="BER", quantity=1),))
ITEMS = (0, 1, 2, 150, 1_500, MAX_ITEMS)


def external(cls: type[Any], texts: Sequence[str]) -> st.SearchStrategy[Any]:
    """Instances of a message class; `texts` are ids, of which some are known."""
    return st.fixed_dictionaries({name: values(hint, texts) for name, hint in get_type_hints(cls, include_extras=True).items()}).map(
        lambda fields: cls(**fields)
    )


def values(hint: Any, texts: Sequence[str], max_characters: int = MAX_TEXT_CHARACTERS) -> st.SearchStrategy[Any]:
    """Values of a field that `validate` lets through."""
    if get_origin(hint) is Annotated:
        inner, limit = get_args(hint)
        return values(inner, texts, limit.max_length)
    if hint is str:
        large = st.sampled_from(CHARACTERS).map(lambda character: character * max_characters)
        return large | st.sampled_from(texts).map(lambda text: text[:max_characters])
    if hint is int:
        return st.sampled_from([-MAX_NUMBER, -1, 0, 1, MAX_NUMBER])
    if hint is bool:
        return st.booleans()
    if hint is not type(None) and isinstance(hint, type) and issubclass(hint, Value):
        return external(hint, texts)
    if get_origin(hint) is dict:
        text = values(str, texts, max_characters)
        return st.dictionaries(text, text, max_size=3)
    if get_origin(hint) is tuple:
        # One entry many times, each with another number, would be too large to draw: a few entries repeat.
        drawn = st.lists(values(get_args(hint)[0], texts, max_characters), min_size=1, max_size=3)
        return st.tuples(drawn, st.sampled_from(ITEMS)).map(lambda both: tuple(distinct(*both)))
    if args := get_args(hint):
        return st.one_of([st.none() if arg is type(None) else values(arg, texts, max_characters) for arg in args])
    return st.just(NOON)


def distinct(some: Sequence[Any], count: int) -> Iterator[Any]:
    """So many entries, or as many as a record can hold, each with ids of its own: the number replaces the end of its texts."""
    held = EXTERNAL_MAX_BYTES // max(len(encode(entry)) for entry in some) + 1
    for number in range(min(count, held)):
        entry = some[number % len(some)]
        if isinstance(entry, str):
            yield f"{entry[:-5]}{number:05}"
        else:
            named = {name: getattr(entry, name) for name in ("line_id", "sku") if hasattr(entry, name) and len(getattr(entry, name)) > 50}
            yield replace(entry, **{name: f"{text[:-5]}{number:05}" for name, text in named.items()})


@pytest.fixture(scope="module")
def histories() -> Sequence[System]:
    """Systems after an order's whole life, for several kinds of it."""
    names = ("is returned and restocked", "is not valid", "is declined, then amended", "is canceled too late", "is not in stock")
    systems: list[System] = []
    with asyncio.Runner() as runner:
        for name in names:
            system = System(DETERMINED[name].make(order_of_version_2, "tok_visa", "tok_declined"), Schedule(), runner)
            system.run()
            systems.append(system)
    return systems


def states(system: System, service: str, moments: int) -> Node:
    """A service after the first `moments` of its inputs."""
    node = Node(system.nodes[service].service)
    for step in system.logs[service][:moments]:
        if step.record:
            node.receive(step.command, step.at)
        else:
            node.apply(step.command, step.at)
    return node


def ids(system: System) -> list[str]:
    """Every id that the messages of a system name, and some names of lines, SKUs and locations."""
    found = {"1", "2", "MUG", "POT", "BER", "HAM", "web"}
    for record in system.records:
        found |= {getattr(record.message, name) for name in ID_FIELDS if hasattr(record.message, name)}
    return sorted(found)


ID_FIELDS = ("order_id", "fulfillment_id", "return_id", "package_id", "receipt_id", "channel_reference")


def assert_small(event: Any) -> None:
    if type(event).__name__.endswith(REFUSALS):
        assert len(encode(event)) <= MAX_BYTES, f"{type(event).__name__} of {key_of(event)}"


@settings(deadline=None, max_examples=300, derandomize=True)
@given(data=st.data())
def test_a_refusal_is_small_whatever_is_refused(data: st.DataObject, histories: Sequence[System]):
    system = data.draw(st.sampled_from(histories))
    command = _as_external(data.draw(st.sampled_from(COMMANDS).flatmap(lambda cls: external(cls, ids(system)))))
    for name, node in system.nodes.items():
        if type(command) in node.handles:
            moments = data.draw(st.integers(0, len(system.logs[name])))
            for event in states(system, name, moments).receive(command, NOON):
                assert_small(event)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(data=st.data())
def test_a_refusal_is_small_whatever_field_of_a_valid_command_is_replaced(data: st.DataObject, histories: Sequence[System]):
    """In the state in which the command would have had its effect."""
    system = data.draw(st.sampled_from(histories))
    sent = [(name, at) for name, log in system.logs.items() for at, step in enumerate(log) if _contents(step.command)]
    name, moments = data.draw(st.sampled_from(sent))
    command = system.logs[name][moments].command
    hostile = data.draw(external(command.__class__, ids(system)))
    fields = data.draw(st.sets(st.sampled_from(_contents(command)), min_size=1, max_size=2))
    command = _as_external(replace(command, **{field: getattr(hostile, field) for field in fields}))
    for event in states(system, name, moments).receive(command, NOON):
        assert_small(event)


def _contents(command: Any) -> list[str]:
    """The fields of an external party's command that do not name what it is about; none for another command."""
    cls: type[Any] = command.__class__
    return [name for name in get_type_hints(cls) if name not in {"order_id", "fulfillment_id", "return_id"}] if cls in COMMANDS else []


def _as_external(message: Any) -> Any:
    """The message as a service reads it from an external party. Proves that it is one that `validate` lets through."""
    return validate(type_of(message).name, encode(message))


def test_what_is_published_of_an_order_that_is_short_of_a_thousand_units_is_small():
    lines = tuple(
        OrderLine(line_id=str(number), sku=f"{'S' * 96}{number:04}", quantity=1, unit_price=1, total=1) for number in range(MAX_LINES)
    )
    scenario = Scenario(messages=((order_of_version_1("tok_visa", lines=lines),),), stock=RECEIPT, reactions={}, clock_steps=SHORT_STEPS)
    with asyncio.Runner() as runner:
        system = System(scenario, Schedule(), runner)
        system.run()
    events = [event for name in system.nodes for event in system.published_by(name)]
    assert [event.action for event in events if isinstance(event, OrderActionRequired)] == ["resolve_stock"]
    for event in events:
        assert_small(event)
