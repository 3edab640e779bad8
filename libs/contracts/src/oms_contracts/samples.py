"""One plausible instance of every message, each field filled: what golden records are first written from."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from msgspec.structs import fields, replace

from oms_contracts import channel
from oms_contracts.envelope import Envelope
from oms_contracts.message import Value, key_of, type_of
from oms_contracts.sscc import check_digit
from oms_contracts.values import order_id_of

V = TypeVar("V")

_ORDER = order_id_of("web", "W-1001")
_AT = datetime(2026, 1, 31, 9, 30, 0, 250_000, tzinfo=UTC)

_TEXTS = {
    "order_id": _ORDER,
    "channel": "web",
    "channel_reference": "W-1001",
    "content_hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "Customer.id": "C-77",
    "email": "ada@example.com",
    "name": "Ada Müller",
    "street": "Hauptstraße 5",
    "postal_code": "10115",
    "city": "Berlin",
    "region": "Berlin",
    "country": "DE",
    "currency": "EUR",
    "kind": "card",
    "token": "tok_visa_4242",
    "line_id": "1",
    "sku": "MUG-BLUE",
    "unknown_skus": "MUG-BLUE",
    "missing_skus": "MUG-BLUE",
    "barcode": "4006381333931",
    "ProductDefined.title": "Mug, blue",
    "DefineProduct.title": "Mug, blue",
    "ProductCommandRefused.command": "oms.inventory.DefineProduct.v1",
    "ProductCommandRefused.reasons": "title: must not be empty",
    "orders": _ORDER,
    "reason": "changed my mind",
    "reasons": "total: is 4300, lines and shipping add up to 4295",
    "ReturnLine.reason": "damaged",
    "location": "BER-1",
    "delivery": "ship",
    "fulfillment_id": f"{_ORDER}/BER-1",
    "package_id": f"34012345000000001{check_digit('34012345000000001')}",
    "carrier": "DHL",
    "tracking_number": "00340434161094042557",
    "tracking_numbers": "00340434161094042557",
    "request_id": f"{_ORDER}/authorize/1",
    "authorization_id": "auth_5501",
    "return_id": "RMA-1001",
    "refund_id": "RMA-1001",
    "receipt_id": "ASN-2001",
    "adjustment_id": "ADJ-3001",
    "entry_id": "ASN-2001",
    "reason_code": "damaged",
    "count_id": "COUNT-6001",
    "quarantine_id": "QUA-7001",
    "release_id": "REL-7002",
    "write_off_id": "OFF-7003",
    "transfer_id": "TRF-8001",
    "from_location": "BER-1",
    "to_location": "HAM-1",
    "StockActionRequired.action": "resolve_shortfall",
    "StockActionResolved.action": "resolve_shortfall",
    "TransferActionRequired.action": "close_transfer",
    "scan_id": "SCAN-4001",
    "command": "oms.capture.CancelOrder.v1",
    "disposition": "restock",
    "stage": "reserved",
    "outcome": "refunded",
    "status": "delivered",
    "OrderStatusChanged.status": "confirmed",
    "OrderStatus.status": "confirmed",
    "previous": "accepted",
    "detail": "paid, waiting for the warehouse",
    "OrderActionRequired.action": "amend_payment",
    "ReturnActionRequired.action": "inspect",
    "letter_id": "oms.stock/3/41",
    "service": "capture",
    "source_topic": "oms.stock",
    "source_key": _ORDER,
    "source_type": "oms.inventory.StockReserved.v1",
    "RecordSetAside.value": "e30=",
    "RedriveDeadLetters.value": "{}",
    "phone": "+49 30 5550100",
    "company": "Analytical Engines GmbH",
    "line2": "c/o Babbage",
    "tax_id": "DE123456789",
    "LineItem.title": "Mug, blue",
    "Tax.title": "VAT 19 %",
    "rate": "0.19",
    "jurisdiction": "DE",
    "ShippingLine.title": "Standard",
    "ShippingLine.code": "standard",
    "ShippingLine.service": "standard",
    "ShippingLine.id": "1",
    "OrderPayment.id": "1",
    "parent_line_id": "0",
    "Fee.kind": "wrap",
    "Fee.title": "Gift wrap",
    "Discount.id": "spring",
    "discount_id": "spring",
    "Discount.kind": "code",
    "Discount.title": "Spring sale",
    "Discount.code": "SPRING",
    "unit": "EA",
    "OrderPayment.status": "authorize",
    "number": "#1001",
    "purchase_order": "PO-4711",
    "note": "Please ring twice.",
    "message": "Happy birthday!",
    "locale": "de-DE",
    "time_zone": "Europe/Berlin",
    "tags": "spring",
    "source_ip": "203.0.113.7",
    "user_agent": "Mozilla/5.0",
    "advice": "accept",
    "TrackedPackage.status": "in_transit",
    "stack": "Traceback (most recent call last): ...",
    "key": _ORDER,
    "platform": "shopify",
    "topic": "orders/updated",
    "webhook_id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
    "body": "eyJpZCI6IDkwMDF9",
    "WebhookTaken.outcome": "changed",
    "changed_fields": "note",
}
_MEMBERS = {"attributes": {"engraving": "Ada"}, "field_hashes": {"note": "2c26b46b68ffc68f"}}
_NUMBERS = {
    "quantity": 2,
    "units": 2,
    "unit_price": 1999,
    "weight_grams": 350,
    "discount": 198,
    "OrderLine.total": 3800,
    "LineItem.total": 3800,
    "ChargedLine.amount": 3800,
    "DiscountShare.amount": 198,
    "price": 593,
    "ShippingLine.total": 395,
    "Fee.amount": 100,
    "Tax.amount": 607,
    "score": 3,
    "shipping": 495,
    "total": 4295,
    "amount": 4295,
    "refunded": 3800,
    "requested": 2,
    "available": 1,
    "counted": 38,
    "expected": 40,
    "difference": -2,
    "on_hand": 60,
    "safety": 2,
    "reorder_point": 5,
    "maximum": 50,
    "source_partition": 3,
    "source_offset": 41,
}
_UNUSUAL = {"gift_card"}
_LATER = {"expires_at": 2, "deadline": 2, "closes_at": 30, "until": 7, "next_check_at": 1}
"""Days after the moment at which everything else happens."""


def sample(cls: type[Any]) -> Any:
    """An instance of a message class, or of a value of one, the same each time."""
    hints = get_type_hints(cls)
    return cls(**{field.name: _value(hints[field.name], field.name, cls) for field in fields(cls)})


def example_order() -> channel.OrderPlaced:
    """An order as a shop in Germany would send it, without what few orders have: for people to begin with."""
    placed: channel.OrderPlaced = sample(channel.OrderPlaced)
    [line], [shipping] = placed.lines, placed.shipping_lines
    return replace(
        placed,
        customer=replace(placed.customer, company=None, tax_id=None),
        lines=(replace(line, parent_line_id=None, attributes={}),),
        shipping_lines=(replace(shipping, price=495, total=495, discounts=(), taxes=(replace(shipping.taxes[0], amount=79),)),),
        fees=(),
        ship_to=replace(placed.ship_to, company=None, line2=None) if placed.ship_to else None,
        bill_to=None,
        pickup=None,
        promise=None,
        purchase_order=None,
        gift=None,
        tags=(),
        attributes={},
        risk=None,
    )


def sample_envelope(message: object, *, by_service: bool) -> Envelope:
    """The envelope of the sample's record, published by its service or by an external party."""
    key = key_of(message)
    name = type_of(message).name
    service = name.split(".")[1]
    return Envelope(
        type=name,
        source=f"/oms/{service}" if by_service else "/web",
        id=f"{service}-41" if by_service else key,
        time=_AT + timedelta(seconds=1),
        subject=key,
        sequence=3 if by_service else None,
        position=41 if by_service else None,
        correlationid=key,
        causationid="capture-40" if by_service else "",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" if by_service else "",
    )


def _value(annotation: Any, name: str, cls: type[Any]) -> Any:
    arguments = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Value):
        return sample(annotation)
    if get_origin(annotation) in {Union, UnionType}:
        return _value(next(a for a in arguments if a is not NoneType), name, cls)
    if get_origin(annotation) is tuple:
        return (_value(arguments[0], name, cls),)
    if get_origin(annotation) is dict:
        return _MEMBERS.get(name, {"ce_type": "oms.inventory.StockReserved.v1"})
    if annotation is str:
        return _chosen(_TEXTS, cls, name, f"some {name.removesuffix('s')}")
    if annotation is int:
        return _chosen(_NUMBERS, cls, name, 1)
    if annotation is bool:
        return name not in _UNUSUAL
    if annotation is datetime:
        return _AT + timedelta(days=_LATER.get(name, 0))
    raise TypeError(f"{cls.__name__}.{name}: no sample for {annotation}")


def _chosen(values: Mapping[str, V], cls: type[Any], name: str, otherwise: V) -> V:
    return values.get(f"{cls.__name__}.{name}", values.get(name, otherwise))
