"""Every command is an operation, with all that an edge needs to offer it."""

import json
from typing import Any

import pytest
from oms_contracts import superseded
from oms_contracts.catalogue import TOPICS
from oms_contracts.channel import OrderPlaced
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.message import UnreadableMessage, encode
from oms_contracts.operations import OFFERED, OPERATIONS, Operation, operation_of, operations_on, topic_for
from oms_contracts.orders import ENDED_STATUSES
from oms_contracts.samples import sample

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
COMMANDS = {cls for topic in TOPICS if topic.name.endswith(".commands") for cls in topic.messages} | {OrderPlaced}


def request_of(operation: Operation) -> tuple[dict[str, str], dict[str, Any]]:
    """The sample of an operation's command, as path parameters and body."""
    value = json.loads(encode(sample(operation.command)))
    parameters = {name: value.pop(name, "BER-1") for name in operation.parameters}
    return parameters, {name: part for name, part in value.items() if name not in operation.derived}


def test_every_command_is_an_operation() -> None:
    assert {operation.command for operation in OPERATIONS} == COMMANDS
    assert len(OPERATIONS) == len(COMMANDS)


def test_an_operation_is_asked_for_in_one_place() -> None:
    assert len({operation.path for operation in OPERATIONS}) == len(OPERATIONS)
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)


@every_operation
def test_an_operation_says_what_it_does(operation: Operation) -> None:
    assert operation.title
    assert operation.summary
    assert operation in operations_on(operation.object)
    assert operation_of(operation.name) is operation
    thing, verb = operation.scope.split(":")
    assert thing.startswith(operation.object) or operation.object == "order"
    assert verb


@every_operation
def test_an_operation_names_each_field_of_its_command_once(operation: Operation) -> None:
    fields = set(json.loads(encode(sample(operation.command))))
    used = {name for template in operation.derived.values() for name in operation.parameters if f"{{{name}}}" in template}
    assert {*operation.fields} | ({*operation.parameters} & fields) | {*operation.derived} == fields
    assert {*operation.parameters} - fields - used <= {"service"}
    assert {*operation.required} <= {*operation.fields}


@every_operation
def test_a_request_becomes_the_command(operation: Operation) -> None:
    parameters, body = request_of(operation)
    command = operation.message(parameters, body)
    assert isinstance(command, operation.command)
    value = json.loads(encode(command))
    assert all(value[name] == text for name, text in parameters.items() if name in value)
    assert topic_for(operation, parameters).startswith("oms.")


@every_operation
def test_a_request_is_refused_by_the_names_of_its_fields(operation: Operation) -> None:
    parameters, body = request_of(operation)
    with pytest.raises(UnreadableMessage, match="surplus: "):
        operation.message(parameters, body | {"surplus": 1})
    for name in {*operation.parameters, *operation.derived}:
        with pytest.raises(UnreadableMessage, match=f"{name}: is in the path"):
            operation.message(parameters, body | {name: "other"})


def test_the_owner_of_an_operation_decides_on_it() -> None:
    assert {operation.name: operation.owner for operation in OPERATIONS if operation.object in {"order", "dead-letter"}} == {
        "place-order": "capture",
        "cancel-order": "capture",
        "amend-payment": "capture",
        "extend-wait": "capture",
        "retry-capture": "payment",
        "pay-outstanding": "payment",
        "write-off-payment": "payment",
        "request-return": "returns",
        "redrive-dead-letters": "",
    }
    assert topic_for(operation_of("redrive-dead-letters"), {"service": "payment"}) == "oms.payment.commands"
    assert operation_of("redrive-dead-letters").command is RedriveDeadLetters


def offers(kind: str, thing: dict[str, Any]) -> set[str]:
    return {operation.name for operation in operations_on(kind) if operation.offered(thing) == OFFERED}


def line(quantity: int, **units: int) -> dict[str, Any]:
    return {"quantity": quantity, "shipped": 0, "delivered": 0, "returned": 0} | units


@pytest.mark.parametrize(
    ("order", "offered"),
    [
        ({"status": "accepted", "lines": [line(1)]}, {"cancel-order"}),
        ({"status": "awaiting_payment", "lines": [line(1)]}, {"cancel-order", "amend-payment"}),
        ({"status": "released", "lines": [line(1)], "cancellation": "mind changed"}, set[str]()),
        ({"status": "released", "lines": [line(2, shipped=1)]}, set[str]()),
        ({"status": "completed", "lines": [line(2, shipped=2, delivered=2, returned=1)]}, {"request-return"}),
        ({"status": "completed", "lines": [line(2, shipped=2, delivered=2, returned=2)]}, set[str]()),
        *(({"status": status, "lines": [line(1)]}, set[str]()) for status in sorted(ENDED_STATUSES - {"completed"})),
    ],
)
def test_what_is_offered_on_an_order(order: dict[str, Any], offered: set[str]) -> None:
    assert offers("order", order) == offered | {"place-order"}


@pytest.mark.parametrize(
    ("fulfillment", "offered"),
    [
        ({"status": "planned"}, {"accept-fulfillment"}),
        ({"status": "accepted"}, {"pick-items"}),
        ({"status": "picked"}, {"pack-package"}),
        ({"status": "packed", "packages": [{"lines": [line(1)]}]}, {"pack-package"}),
        ({"status": "packed", "packages": [{"lines": [line(1)]}, {"lines": [line(2)]}]}, {"ship-fulfillment"}),
        ({"status": "shipped"}, set[str]()),
        ({"status": "canceled"}, set[str]()),
    ],
)
def test_what_is_offered_on_a_fulfillment(fulfillment: dict[str, Any], offered: set[str]) -> None:
    assert offers("fulfillment", {"lines": [line(3)], **fulfillment}) == offered


@pytest.mark.parametrize(
    ("kind", "thing", "offered"),
    [
        ("package", {"shipped_at": None}, set[str]()),
        ("package", {"shipped_at": "2026-01-31T09:30:00Z"}, {"record-scan"}),
        ("return", {"status": "approved"}, {"cancel-return", "receive-return-items"}),
        ("return", {"status": "received"}, {"receive-return-items", "inspect-return"}),
        ("return", {"status": "closed"}, set[str]()),
        ("product", {"active": False}, {"define-product"}),
        ("product", {"active": True}, {"define-product", "deactivate-product"}),
        ("dead-letter", {"status": "parked"}, {"redrive-dead-letters"}),
        ("dead-letter", {"status": "discarded"}, set[str]()),
    ],
)
def test_what_is_offered_on_anything_else(kind: str, thing: dict[str, Any], offered: set[str]) -> None:
    assert offers(kind, thing) == offered


def test_what_is_not_offered_says_why() -> None:
    assert operation_of("cancel-order").offered({"status": "completed"}) == "the order is completed"
    assert operation_of("pack-package").offered({"status": "planned", "lines": []}) == "the fulfillment is planned"


def test_an_order_may_be_placed_in_version_1() -> None:
    older = json.loads(encode(sample(superseded.OrderPlaced)))
    placed = operation_of("place-order").message({}, older)
    assert isinstance(placed, OrderPlaced)
    assert placed.payments[0].kind == older["payment"]["kind"]
    with pytest.raises(UnreadableMessage, match=r"^payment\.kind: "):
        operation_of("place-order").message({}, older | {"payment": {"token": "t"}})
