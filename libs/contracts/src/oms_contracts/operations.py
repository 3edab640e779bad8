"""What people and programs may ask for: one list, made from the command messages. REST, command line and forms are made of it.

`offered` looks at things as the query API returns them (JSON), which is behind the services by a moment: it says what to offer to a person.
What is done is decided by the service that owns the thing, which refuses with a reason.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

from oms_contracts.catalogue import topic_of
from oms_contracts.channel import OrderPlaced
from oms_contracts.customers import EraseCustomer
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.fulfillments import AcceptFulfillment, PackPackage, PickItems, ShipFulfillment
from oms_contracts.message import MessageType, UnreadableMessage, description_of, encode, type_of, validate
from oms_contracts.money import counted
from oms_contracts.orders import ENDED_STATUSES, AmendPayment, CancelOrder, ExtendWait
from oms_contracts.payments import PayOutstanding, RetryCapture, WriteOffPayment
from oms_contracts.products import DeactivateProduct, DefineProduct
from oms_contracts.returns import CancelReturn, InspectReturn, ReceiveReturnItems, RequestReturn
from oms_contracts.schemas import schema_of
from oms_contracts.stock import (
    AdjustStock,
    CloseTransfer,
    CountStock,
    QuarantineStock,
    ReceiveStock,
    ReceiveTransfer,
    ReleaseQuarantine,
    SetStockLimits,
    TransferStock,
    WriteOffQuarantine,
)
from oms_contracts.superseded import type_of_placed
from oms_contracts.tracking import RecordScan

Json = Mapping[str, Any]
OFFERED = ""
"""No reason against it."""
MAX_REASON_BYTES = 500
"""Of the reason that a person gives for an operation."""

Offer = Callable[[Json], str]
"""Why an operation is not offered on a thing; OFFERED where it is."""


def _always(_thing: Json) -> str:
    return OFFERED


@dataclass(frozen=True)
class Operation:
    """Something that may be asked for.

    `object` is the kind of thing it acts on: order, fulfillment, package, return, stock, product, customer or dead-letter. `path` is where
    it is asked for over HTTP, by POST; its parameters are fields of the command, and not in the body. A field of `derived` is made of
    them. Who may ask for it has `scope`. `destroys` says that it gives up money, stock or data, and no other operation brings that back: a
    person should confirm it.
    """

    name: str
    command: type[Any]
    title: str
    path: str
    _: KW_ONLY
    object: str
    scope: str
    offered: Offer = _always
    derived: Mapping[str, str] = field(default_factory=dict[str, str])
    destroys: bool = False

    @cached_property
    def kind(self) -> MessageType:
        """The published type of its command."""
        return type_of(self.command)

    @cached_property
    def summary(self) -> str:
        """What it does, in a sentence or a few: the command's own description, in one line."""
        return " ".join((description_of(self.command) or "").split())

    @cached_property
    def owner(self) -> str:
        """The service that decides on it; empty for what each service does with its own dead letters."""
        if self.command is RedriveDeadLetters:
            return ""
        return "capture" if self.command is OrderPlaced else topic_of(self.command).split(".")[1]

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The fields of the command that are in the path, in its order."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The JSON Schema of the fields that are in the body, by name."""
        given = {*self.parameters, *self.derived}
        return {name: schema for name, schema in schema_of(self.kind)["properties"].items() if name not in given}

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The fields of the body that have no default."""
        return tuple(name for name in schema_of(self.kind).get("required", ()) if name in self.fields)

    def message(self, parameters: Mapping[str, str], body: Mapping[str, Any]) -> Any:
        """The command of a request; an order may be of an earlier version. Raises UnreadableMessage, which names every field at fault."""
        if twice := sorted({*self.parameters, *self.derived} & body.keys()):
            raise UnreadableMessage("; ".join(f"{name}: is in the path, and must not be in the body" for name in twice))
        derived = {name: template.format(**parameters) for name, template in self.derived.items()}
        given = {name: parameters[name] for name in self.parameters if name in self.command.__struct_fields__}
        return self.message_in(encode({**body, **given, **derived}))

    def message_in(self, value: bytes) -> Any:
        """The command whose fields, those of the path among them, are the JSON object `value`. Raises as `message`."""
        kind = type_of_placed(value) if self.command is OrderPlaced else self.kind.name
        try:
            return validate(kind, value)
        except UnreadableMessage as error:
            raise UnreadableMessage(str(error).removeprefix(f"{kind}: ")) from error


def _cancelable(order: Json) -> str:
    if order["status"] in ENDED_STATUSES:
        return f"the order is {order['status']}"
    if order.get("cancellation"):
        return "cancellation is asked for already"
    if any(line["shipped"] for line in order.get("lines", ())):
        return "a part of the order has shipped"
    return OFFERED


def _payable(order: Json) -> str:
    return OFFERED if order["status"] == "awaiting_payment" else "no other payment is waited for"


def _uncollected(order: Json) -> str:
    payment: Json | str = order.get("payment") or {}
    outstanding = not isinstance(payment, str) and payment and payment["totals"].get("outstanding")  # a list has its status alone
    return OFFERED if outstanding or order.get("action") == "collect_payment" else "nothing is outstanding"


def _extendable(order: Json) -> str:
    return OFFERED if order["status"] == "awaiting_stock" else "the order does not wait for stock"


def _returnable(order: Json) -> str:
    if order["status"] != "completed":
        return "the order is not completed"
    returned_or_not = any(line["delivered"] > line["returned"] for line in order.get("lines", ()))
    return OFFERED if returned_or_not else "every unit has come back"


def _in_status(noun: str, *statuses: str) -> Offer:
    def offered(thing: Json) -> str:
        return OFFERED if thing["status"] in statuses else f"the {noun} is {thing['status']}"

    return offered


def _packable(fulfillment: Json) -> str:
    if fulfillment["status"] not in {"picked", "packed"}:
        return f"the fulfillment is {fulfillment['status']}"
    return OFFERED if _unpacked(fulfillment) else "every unit is packed"


def _shippable(fulfillment: Json) -> str:
    if fulfillment["status"] != "packed":
        return f"the fulfillment is {fulfillment['status']}"
    left = _unpacked(fulfillment)
    return f"{counted(left, 'unit')} not packed yet" if left else OFFERED


def _unpacked(fulfillment: Json) -> int:
    return _units(fulfillment["lines"] or ()) - sum(_units(package["lines"] or ()) for package in fulfillment.get("packages", ()))


def _units(lines: Iterable[Json]) -> int:
    return sum(line["quantity"] for line in lines)


def _scannable(package: Json) -> str:
    return OFFERED if package.get("shipped_at") else "the package has not shipped"


def _active(product: Json) -> str:
    return OFFERED if product["active"] else "the product is not sold"


def _waiting(letter: Json) -> str:
    return OFFERED if letter["status"] in {"set_aside", "parked"} else f"the record is {letter['status']}"


_RETURN = "/orders/{order_id}/returns/{return_id}"
_FULFILLMENT = "/orders/{order_id}/fulfillments/{location}"
_TRANSFERS = "/stock/transfers"
_FULFILLMENT_ID = {"fulfillment_id": "{order_id}/{location}"}


OPERATIONS: tuple[Operation, ...] = (
    Operation("place-order", OrderPlaced, "Place an order", "/orders", object="order", scope="orders:place"),
    Operation(
        "cancel-order",
        CancelOrder,
        "Cancel an order",
        "/orders/{order_id}/cancel",
        object="order",
        scope="orders:change",
        offered=_cancelable,
        destroys=True,
    ),
    Operation(
        "amend-payment",
        AmendPayment,
        "Pay by other means",
        "/orders/{order_id}/payment",
        object="order",
        scope="orders:change",
        offered=_payable,
    ),
    Operation(
        "retry-capture",
        RetryCapture,
        "Try a capture again",
        "/orders/{order_id}/payment/retry",
        object="order",
        scope="orders:change",
        offered=_uncollected,
    ),
    Operation(
        "pay-outstanding",
        PayOutstanding,
        "Pay what is outstanding by other means",
        "/orders/{order_id}/payment/outstanding",
        object="order",
        scope="orders:change",
        offered=_uncollected,
    ),
    Operation(
        "write-off-payment",
        WriteOffPayment,
        "Write off what is outstanding",
        "/orders/{order_id}/payment/write-off",
        object="order",
        scope="orders:change",
        offered=_uncollected,
        destroys=True,
    ),
    Operation(
        "extend-wait",
        ExtendWait,
        "Wait longer for stock",
        "/orders/{order_id}/wait",
        object="order",
        scope="orders:change",
        offered=_extendable,
    ),
    Operation("receive-stock", ReceiveStock, "Receive goods", "/stock/receipts", object="stock", scope="stock:change"),
    Operation("adjust-stock", AdjustStock, "Correct stock", "/stock/adjustments", object="stock", scope="stock:change", destroys=True),
    Operation("count-stock", CountStock, "Count stock", "/stock/counts", object="stock", scope="stock:change", destroys=True),
    Operation("set-stock-limits", SetStockLimits, "Set limits of stock", "/stock/limits", object="stock", scope="stock:change"),
    Operation("transfer-stock", TransferStock, "Send goods to another location", _TRANSFERS, object="stock", scope="stock:change"),
    Operation(
        "receive-transfer",
        ReceiveTransfer,
        "Receive goods of a transfer",
        f"{_TRANSFERS}/{{transfer_id}}/receipts",
        object="stock",
        scope="stock:change",
    ),
    Operation(
        "close-transfer",
        CloseTransfer,
        "Write off what is missing of a transfer",
        f"{_TRANSFERS}/{{transfer_id}}/close",
        object="stock",
        scope="stock:change",
        destroys=True,
    ),
    Operation("quarantine-stock", QuarantineStock, "Set stock apart", "/stock/quarantines", object="stock", scope="stock:change"),
    Operation("release-quarantine", ReleaseQuarantine, "Release stock set apart", "/stock/releases", object="stock", scope="stock:change"),
    Operation(
        "write-off-quarantine",
        WriteOffQuarantine,
        "Write off stock set apart",
        "/stock/write-offs",
        object="stock",
        scope="stock:change",
        destroys=True,
    ),
    Operation("define-product", DefineProduct, "Define a product", "/products", object="product", scope="products:change"),
    Operation(
        "deactivate-product",
        DeactivateProduct,
        "Stop selling a product",
        "/products/{sku}/deactivate",
        object="product",
        scope="products:change",
        offered=_active,
    ),
    Operation(
        "accept-fulfillment",
        AcceptFulfillment,
        "Accept a fulfillment",
        f"{_FULFILLMENT}/accept",
        object="fulfillment",
        scope="fulfillments:change",
        offered=_in_status("fulfillment", "planned"),
        derived=_FULFILLMENT_ID,
    ),
    Operation(
        "pick-items",
        PickItems,
        "Pick all items",
        f"{_FULFILLMENT}/pick",
        object="fulfillment",
        scope="fulfillments:change",
        offered=_in_status("fulfillment", "accepted"),
        derived=_FULFILLMENT_ID,
    ),
    Operation(
        "pack-package",
        PackPackage,
        "Pack a package",
        f"{_FULFILLMENT}/packages",
        object="fulfillment",
        scope="fulfillments:change",
        offered=_packable,
        derived=_FULFILLMENT_ID,
    ),
    Operation(
        "ship-fulfillment",
        ShipFulfillment,
        "Ship a fulfillment",
        f"{_FULFILLMENT}/ship",
        object="fulfillment",
        scope="fulfillments:change",
        offered=_shippable,
        derived=_FULFILLMENT_ID,
        destroys=True,
    ),
    Operation(
        "record-scan",
        RecordScan,
        "Record a carrier's scan",
        "/orders/{order_id}/packages/{package_id}/scans",
        object="package",
        scope="packages:scan",
        offered=_scannable,
    ),
    Operation(
        "request-return",
        RequestReturn,
        "Ask for a return",
        "/orders/{order_id}/returns",
        object="order",
        scope="returns:request",
        offered=_returnable,
    ),
    Operation(
        "cancel-return",
        CancelReturn,
        "Cancel a return",
        f"{_RETURN}/cancel",
        object="return",
        scope="returns:request",
        offered=_in_status("return", "approved"),
    ),
    Operation(
        "receive-return-items",
        ReceiveReturnItems,
        "Receive goods of a return",
        f"{_RETURN}/receipts",
        object="return",
        scope="returns:receive",
        offered=_in_status("return", "approved", "received"),
    ),
    Operation(
        "inspect-return",
        InspectReturn,
        "Inspect a return",
        f"{_RETURN}/inspect",
        object="return",
        scope="returns:receive",
        offered=_in_status("return", "received"),
        destroys=True,
    ),
    Operation(
        "erase-customer",
        EraseCustomer,
        "Erase a customer",
        "/customers/erase",
        object="customer",
        scope="customers:erase",
        destroys=True,
    ),
    Operation(
        "redrive-dead-letters",
        RedriveDeadLetters,
        "Apply records again that were set aside",
        "/dead-letters/{service}/redrive",
        object="dead-letter",
        scope="dead-letters:redrive",
        offered=_waiting,
        destroys=True,
    ),
)
"""Every operation, in the order of an order's life."""

_BY_NAME = {operation.name: operation for operation in OPERATIONS}


def operation_of(name: str) -> Operation:
    """The operation called `name`. Raises KeyError."""
    return _BY_NAME[name]


def operations_on(kind: str) -> tuple[Operation, ...]:
    """The operations on things of a kind."""
    return tuple(operation for operation in OPERATIONS if operation.object == kind)


def topic_for(operation: Operation, parameters: Mapping[str, str]) -> str:
    """The topic on which a command is published; `parameters` name the service whose dead letters are meant."""
    if operation.command is RedriveDeadLetters:
        return f"oms.{parameters['service']}.commands"
    return topic_of(operation.command)
