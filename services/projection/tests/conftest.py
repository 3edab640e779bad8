"""Events as the services publish them, for examples and properties."""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from time import time_ns
from typing import Any, get_args, get_origin, get_type_hints

import httpx
import msgspec
import pytest
import pytest_asyncio
from oms_contracts.catalogue import topics_read_by
from oms_contracts.customers import CustomerKeyErased, CustomerKeyIssued
from oms_contracts.dead_letters import RecordRedriven, RecordSetAside
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.fulfillments import (
    FulfillmentAccepted,
    FulfillmentCanceled,
    FulfillmentPlanned,
    FulfillmentShipped,
    ItemsPicked,
    PackagePacked,
)
from oms_contracts.message import Value, encode, key_of, type_of
from oms_contracts.order_parts import ChargedLine, Discount, DiscountShare, LineItem, OrderPayment, PersonalData, SealedData, ShippingLine
from oms_contracts.orders import (
    OrderAccepted,
    OrderActionRequired,
    OrderCanceled,
    OrderCancellationRequested,
    OrderCommandRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderConflictReported,
    OrderExpired,
    OrderPaymentAmended,
    OrderRejected,
    OrderReleased,
    OrderReserved,
)
from oms_contracts.payments import (
    PaymentAuthorizationRequested,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureRequested,
    PaymentDeclined,
    PaymentOutcomeUnknown,
    PaymentVoided,
    PaymentVoidRequested,
    RefundRequested,
    RefundSettled,
)
from oms_contracts.products import ProductCommandRefused, ProductDeactivated, ProductDefined
from oms_contracts.returns import (
    ReturnApproved,
    ReturnClosed,
    ReturnItemsInspected,
    ReturnItemsReceived,
    ReturnRefundRequested,
    ReturnRequested,
    ReturnWindowOpened,
)
from oms_contracts.stock import (
    StockAdjusted,
    StockAllocated,
    StockCounted,
    StockLimitsSet,
    StockLow,
    StockQuarantined,
    StockReceived,
    StockReleased,
    StockReservationExpired,
    StockReservationFailed,
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
    TransferReceived,
    TransferStarted,
)
from oms_contracts.tracking import LabelCreated, OrderStatusChanged, PackageDelivered, PackageInTransit, ScanRecorded
from oms_contracts.values import (
    Address,
    AllocatedLine,
    CountedLine,
    Customer,
    InspectedLine,
    Package,
    PaymentMethod,
    ReturnLine,
    Shortage,
    StockLine,
)
from oms_kafka.clients import make_producer, partition_of
from oms_kafka.settings import KafkaSettings
from oms_projection.api import make_api
from oms_projection.tables import TABLES
from oms_projection.versions import open_version
from oms_runtime.customer_keys import customer_hash, email_hash, word_hashes
from oms_runtime.database import Database, migrate, open_database
from oms_runtime.model import IncomingRecord
from oms_runtime.sealing import KEY_BYTES, NONCE_BYTES, Sealer

from services.projection.tests.reading import LATER, SCHEMA, Servers, write

BEGIN = datetime(2026, 3, 1, 9, tzinfo=UTC)
PAYMENT = PaymentMethod(kind="card", token="tok")  # not a secret
CUSTOMER = Customer(id="c-1", email="a@example.org")
SEALER = Sealer(bytes(KEY_BYTES))
KEY = CustomerKeyIssued(
    key_id="key-1",
    at=BEGIN,
    wrapped_key=SEALER.wrap("key-1", bytes(KEY_BYTES), bytes(NONCE_BYTES)),
    customer=customer_hash(SEALER, "web", CUSTOMER.id),
    email=email_hash(SEALER, CUSTOMER.email),
    words=tuple(word_hashes(SEALER, ("ada", "muller"))),
)
"""The key of CUSTOMER."""
ADDRESS = Address(name="Ada Müller", street="S 1", postal_code="10115", city="Berlin", country="DE")
LINES = (
    LineItem(line_id="1", sku="A", quantity=3, unit_price=1000, total=3000, title="Rod of Iron"),
    LineItem(line_id="2", sku="B", quantity=1, unit_price=700, total=500, discounts=(DiscountShare(discount_id="spring", amount=200),)),
)
CHARGED = tuple(ChargedLine(line_id=line.line_id, sku=line.sku, quantity=line.quantity, amount=line.total) for line in LINES)
TOTAL = 4_000
"""Of LINES with a shipping of 500."""
HELD = (
    AllocatedLine(line_id="1", sku="A", location="BER", quantity=2),
    AllocatedLine(line_id="1", sku="A", location="HAM", quantity=1),
    AllocatedLine(line_id="2", sku="B", location="BER", quantity=1),
)


@dataclass(slots=True)
class Log:
    """Records in the order they were published, with each source's positions and each key's sequence."""

    records: list[IncomingRecord] = field(default_factory=list[IncomingRecord])
    positions: dict[str, int] = field(default_factory=dict[str, int])
    sequences: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    @property
    def now(self) -> datetime:
        return BEGIN + timedelta(minutes=len(self.records))

    def publish(self, topic: str, *events: Any) -> None:
        for event in events:
            kind, key = type_of(event).name, key_of(event)
            service = event.service if isinstance(event, RecordSetAside | RecordRedriven) else kind.split(".")[1]
            position = self.positions[service] = self.positions.get(service, 0) + 1
            sequence = self.sequences[topic, key] = self.sequences.get((topic, key), 0) + 1
            envelope = Envelope(
                type=kind,
                source=f"/oms/{service}",
                id=f"{service}-{position}",
                time=self.now,
                subject=key,
                sequence=sequence,
                position=position,
                correlationid=key,
                causationid=f"cause-{len(self.records)}",
                actor="user:ada" if isinstance(event, OrderCancellationRequested) else "",
                reason="ordered twice" if isinstance(event, OrderCancellationRequested) else "",
            )
            self.records.append(
                IncomingRecord(
                    topic=topic,
                    partition=0,
                    offset=len(self.records),
                    key=key,
                    headers=(),
                    value=encode(event),
                    type=kind,
                    position=position,
                    envelope=envelope,
                    message=event,
                )
            )


def sealed_for(order_id: str) -> SealedData:
    """What capture seals for an order of CUSTOMER."""
    personal = encode(PersonalData(customer=CUSTOMER, ship_to=ADDRESS))
    return SealedData(key_id=KEY.key_id, data=SEALER.seal(SEALER.unwrap(KEY.key_id, KEY.wrapped_key), personal, bytes(12), order_id))


def accepted(order_id: str, at: datetime, reference: str = "R-1") -> OrderAccepted:
    return OrderAccepted(
        order_id=order_id,
        channel="web",
        channel_reference=reference,
        number=f"#10{reference[2:]}",
        tags=("gift", "rush") if reference == "R-4" else (),
        content_hash="h",
        placed_at=at,
        accepted_at=at,
        currency="EUR",
        lines=LINES,
        shipping_lines=(ShippingLine(id="1", title="Standard", price=500, total=500),),
        discounts=(Discount(id="spring", title="Spring sale"),),
        total=TOTAL,
        payments=(OrderPayment(id="1", kind=PAYMENT.kind, amount=TOTAL, token=PAYMENT.token),),
        delivery="ship",
        location="BER",
        personal=None,
        sealed=sealed_for(order_id),
    )


def pay(log: Log, order_id: str, attempt: int = 1) -> None:
    """Reserved, and the authorization requested."""
    log.publish("oms.stock", StockReserved(order_id=order_id, attempt=attempt, lines=HELD, expires_at=log.now, at=log.now))
    log.publish(
        "oms.orders",
        OrderReserved(
            order_id=order_id, attempt=attempt, total=TOTAL, amount=TOTAL, currency="EUR", payment=PAYMENT, lines=CHARGED, at=log.now
        ),
    )
    log.publish("oms.payments", authorization_requested(order_id, attempt, log.now))


def authorization_requested(order_id: str, attempt: int, at: datetime) -> PaymentAuthorizationRequested:
    return PaymentAuthorizationRequested(
        order_id=order_id,
        attempt=attempt,
        request_id=f"a{attempt}",
        amount=TOTAL,
        currency="EUR",
        total=TOTAL,
        payment=PAYMENT,
        lines=CHARGED,
        at=at,
    )


def authorized(order_id: str, attempt: int, at: datetime) -> PaymentAuthorized:
    return PaymentAuthorized(
        order_id=order_id,
        attempt=attempt,
        request_id=f"a{attempt}",
        authorization_id=f"held{attempt}",
        amount=TOTAL,
        currency="EUR",
        at=at,
    )


def release(log: Log, order_id: str) -> None:
    """Authorized, confirmed, allocated, released, planned at both locations."""
    log.publish("oms.payments", authorized(order_id, 1, log.now))
    log.publish("oms.orders", OrderConfirmed(order_id=order_id, at=log.now))
    log.publish("oms.stock", StockAllocated(order_id=order_id, lines=HELD, reserved=True, at=log.now))
    log.publish("oms.orders", OrderReleased(order_id=order_id, delivery="ship", lines=HELD, at=log.now, sealed=sealed_for(order_id)))
    log.publish("oms.order-status-changes", status_changed(order_id, log.now))
    for location in ("BER", "HAM"):
        log.publish(
            "oms.fulfillments",
            FulfillmentPlanned(
                order_id=order_id,
                fulfillment_id=f"{order_id}/{location}",
                location=location,
                delivery="ship",
                sealed=sealed_for(order_id),
                lines=tuple(line for line in HELD if line.location == location),
                at=log.now,
            ),
        )


def status_changed(order_id: str, at: datetime) -> OrderStatusChanged:
    return OrderStatusChanged(order_id=order_id, sequence=1, status="in_fulfillment", previous=None, detail=None, at=at)


def ship(log: Log, order_id: str, location: str, amount: int) -> None:
    """One location's part: packed, shipped, booked out, captured, delivered."""
    fulfillment_id, package_id, at = f"{order_id}/{location}", f"P-{location}", log.now
    lines = tuple(line for line in HELD if line.location == location)
    package = Package(package_id=package_id, carrier="DHL", tracking_number=f"T-{location}", lines=lines)
    log.publish(
        "oms.fulfillments",
        FulfillmentAccepted(order_id=order_id, fulfillment_id=fulfillment_id, at=at),
        ItemsPicked(order_id=order_id, fulfillment_id=fulfillment_id, at=at),
        PackagePacked(order_id=order_id, fulfillment_id=fulfillment_id, package_id=package_id, lines=lines, at=at),
        FulfillmentShipped(order_id=order_id, fulfillment_id=fulfillment_id, location=location, packages=(package,), at=at),
    )
    log.publish("oms.stock", StockShipped(order_id=order_id, fulfillment_id=fulfillment_id, lines=lines, at=log.now))
    log.publish(
        "oms.payments",
        PaymentCaptureRequested(
            order_id=order_id,
            fulfillment_id=fulfillment_id,
            request_id=f"c-{location}",
            authorization_id="held1",
            amount=amount,
            currency="EUR",
            at=log.now,
            lines=lines,
        ),
        PaymentCaptured(
            order_id=order_id, fulfillment_id=fulfillment_id, request_id=f"c-{location}", amount=amount, currency="EUR", at=log.now
        ),
    )
    log.publish(
        "oms.tracking",
        LabelCreated(
            order_id=order_id,
            package_id=package_id,
            fulfillment_id=fulfillment_id,
            carrier="DHL",
            tracking_number=f"T-{location}",
            lines=lines,
            at=log.now,
        ),
        PackageInTransit(order_id=order_id, package_id=package_id, at=log.now),
        PackageDelivered(order_id=order_id, package_id=package_id, lines=lines, at=log.now),
        ScanRecorded(order_id=order_id, package_id=package_id, scan_id="s", status="in_transit", at=log.now),
    )


def send_back(log: Log, order_id: str) -> None:
    """Two units of A come back, one of them broken; both are refunded."""
    return_id, lines = f"RMA-{order_id}", (ReturnLine(line_id="1", quantity=2),)
    inspected = (
        InspectedLine(line_id="1", sku="A", quantity=1, disposition="restock"),
        InspectedLine(line_id="1", sku="A", quantity=1, disposition="write-off"),
    )
    log.publish(
        "oms.returns",
        ReturnWindowOpened(order_id=order_id, currency="EUR", lines=CHARGED, closes_at=log.now + timedelta(days=30), at=log.now),
        ReturnRequested(order_id=order_id, return_id=return_id, lines=lines, at=log.now),
        ReturnApproved(order_id=order_id, return_id=return_id, expires_at=log.now + timedelta(days=14), at=log.now),
        ReturnItemsReceived(order_id=order_id, return_id=return_id, receipt_id="rr", location="BER", lines=lines, at=log.now),
        ReturnItemsInspected(order_id=order_id, return_id=return_id, location="BER", lines=inspected, at=log.now),
        ReturnRefundRequested(order_id=order_id, return_id=return_id, amount=2_000, currency="EUR", lines=inspected, at=log.now),
    )
    back, broken = StockLine(sku="A", location="BER", quantity=2), StockLine(sku="A", location="BER", quantity=1)
    log.publish(
        "oms.stock",
        StockReturned(return_id=return_id, order_id=order_id, lines=(back,), at=log.now),
        StockWrittenOff(return_id=return_id, order_id=order_id, lines=(broken,), reason="broken", at=log.now),
    )
    refund: dict[str, Any] = {"order_id": order_id, "refund_id": return_id, "request_id": "r", "amount": 2_000, "currency": "EUR"}
    log.publish("oms.payments", RefundRequested(reason="return", at=log.now, **refund), RefundSettled(at=log.now, **refund))
    log.publish("oms.returns", ReturnClosed(order_id=order_id, return_id=return_id, outcome="refunded", refunded=2_000, at=log.now))


def with_moves(log: Log) -> Log:
    """A SKU with limits, of which units are set apart and go to another location."""
    ends: dict[str, Any] = {"transfer_id": "T-1", "from_location": "HAM", "to_location": "BER"}
    at_ham, at_ber = (StockLine(sku="C", location=location, quantity=2) for location in ("HAM", "BER"))
    found = CountedLine(sku="C", location="HAM", counted=5, expected=0, difference=5)
    deadline = log.now + timedelta(days=14)
    log.publish(
        "oms.stock",
        StockLimitsSet(sku="C", location=None, safety=1, reorder_point=2, maximum=None, at=log.now),
        StockCounted(count_id="N-1", lines=(found,), reason="", at=log.now),
        TransferStarted(lines=(at_ham,), reason="", deadline=deadline, at=log.now, **ends),
        TransferReceived(receipt_id="1", lines=(at_ber,), at=log.now, **ends),
        StockQuarantined(quarantine_id="Q-1", lines=(StockLine(sku="C", location="HAM", quantity=1),), reason="recall", at=log.now),
        StockLow(sku="C", location="HAM", available=1, reorder_point=2, at=log.now),
    )
    return log


def all_scenarios() -> Log:
    """Seven orders: completed with a return; rejected; canceled after a decline; short of stock; stopped by the warehouse; expired; new."""
    log = with_catalogue(Log())
    goods = (
        StockLine(sku="A", location="BER", quantity=50),
        StockLine(sku="A", location="HAM", quantity=50),
        StockLine(sku="B", location="BER", quantity=20),
    )
    log.publish("oms.stock", StockReceived(receipt_id="DC/G-1", lines=goods, at=log.now))
    log.publish(
        "oms.stock",
        StockAdjusted(adjustment_id="C-1", lines=(StockLine(sku="B", location="BER", quantity=-2),), reason="count", at=log.now),
    )

    log.publish("oms.customer-keys", KEY)
    log.publish("oms.orders", accepted("done", log.now))
    pay(log, "done")
    release(log, "done")
    ship(log, "done", "BER", 3_000)
    ship(log, "done", "HAM", 1_000)
    log.publish("oms.orders", OrderCompleted(order_id="done", currency="EUR", lines=CHARGED, at=log.now))
    send_back(log, "done")
    conflict = OrderConflictReported(order_id="done", channel="web", channel_reference="R-1", content_hash="x", reported_at=log.now)
    log.publish("oms.orders", conflict)

    log.publish(
        "oms.orders",
        OrderRejected(
            order_id="bad",
            channel="till",
            channel_reference="R-2",
            content_hash="h",
            reasons=("lines.0.quantity: must be at least 1, is 0", "lines.3.quantity: must be at least 1, is -1", "total: is 5, not 6"),
            rejected_at=log.now,
        ),
    )

    log.publish("oms.orders", accepted("declined", log.now, "R-3"))
    pay(log, "declined")
    log.publish("oms.payments", PaymentOutcomeUnknown(order_id="declined", request_id="a1", checks=1, next_check_at=log.now, at=log.now))
    log.publish("oms.payments", PaymentDeclined(order_id="declined", attempt=1, request_id="a1", reason="no funds", at=log.now))
    log.publish(
        "oms.orders",
        OrderActionRequired(order_id="declined", action="amend_payment", reason="no funds", deadline=log.now, at=log.now),
    )
    log.publish("oms.stock", StockReleased(order_id="declined", stage="reserved", lines=HELD, reason="declined", at=log.now))
    log.publish(
        "oms.orders",
        OrderPaymentAmended(order_id="declined", attempt=2, payment=PAYMENT, lines=CHARGED, location="BER", at=log.now),
    )
    pay(log, "declined", attempt=2)
    log.publish("oms.payments", authorized("declined", 2, log.now))
    log.publish("oms.orders", OrderCanceled(order_id="declined", reason="changed my mind", at=log.now))
    log.publish("oms.stock", StockReleased(order_id="declined", stage="reserved", lines=HELD, reason="canceled", at=log.now))
    void: dict[str, Any] = {"order_id": "declined", "request_id": "v", "authorization_id": "held2"}
    log.publish("oms.payments", PaymentVoidRequested(at=log.now, **void), PaymentVoided(at=log.now, **void))

    log.publish("oms.orders", accepted("short", log.now, "R-4"))
    shortage = Shortage(sku="B", requested=99, available=18)
    log.publish("oms.stock", StockReservationFailed(order_id="short", attempt=1, shortages=(shortage,), at=log.now))
    log.publish(
        "oms.orders",
        OrderActionRequired(
            order_id="short", action="resolve_stock", reason="B: 99 wanted", deadline=log.now + timedelta(days=2), at=log.now
        ),
    )

    log.publish("oms.orders", accepted("stopped", log.now, "R-5"))
    pay(log, "stopped")
    release(log, "stopped")
    log.publish("oms.orders", OrderCancellationRequested(order_id="stopped", reason="too slow", at=log.now))
    log.publish("oms.fulfillments", FulfillmentCanceled(order_id="stopped", reason="too slow", at=log.now))
    log.publish("oms.orders", OrderCanceled(order_id="stopped", reason="too slow", at=log.now))
    log.publish("oms.stock", StockReleased(order_id="stopped", stage="allocated", lines=HELD, reason="canceled", at=log.now))
    void = {"order_id": "stopped", "request_id": "v", "authorization_id": "held1"}
    log.publish("oms.payments", PaymentVoidRequested(at=log.now, **void), PaymentVoided(at=log.now, **void))

    log.publish("oms.orders", accepted("expired", log.now, "R-6"))
    pay(log, "expired")
    log.publish("oms.stock", StockReservationExpired(order_id="expired", attempt=1, lines=HELD, at=log.now))
    log.publish("oms.orders", OrderExpired(order_id="expired", reason="too late", at=log.now))

    log.publish("oms.orders", accepted("new", log.now, "R-7"))
    log.publish(
        "oms.orders",
        OrderCommandRefused(order_id="nobody", command="oms.capture.CancelOrder.v1", reason="the order is not known", at=log.now),
    )
    for service, letter_id in (("payment", "oms.orders/3/7"), ("capture", "oms.channel.orders/1/2")):
        log.publish(f"oms.{service}.dead-letters", set_aside(service, letter_id, log.now))
    log.publish(
        "oms.payment.dead-letters",
        RecordRedriven(letter_id="oms.orders/3/7", service="payment", source_key="new", discarded=False, at=log.now),
    )
    return with_moves(log)


def with_catalogue(log: Log) -> Log:
    log.publish("oms.products", product("A", log.now, barcode="96385074"), product("B", log.now, title="Pot of Brass", weight_grams=900))
    log.publish("oms.products", ProductDeactivated(sku="B", at=log.now), product("C", log.now, requires_shipping=False))
    log.publish("oms.products", ProductCommandRefused(sku="D", command="c", reasons=("title: must not be empty",), at=log.now))
    return log


def product(sku: str, at: datetime, **other: Any) -> ProductDefined:
    fields: dict[str, Any] = {"title": f"Product {sku}", "barcode": None, "unit": "EA", "weight_grams": None}
    fields |= {"requires_shipping": True, "active": True} | other
    return ProductDefined(sku=sku, at=at, **fields)


def set_aside(service: str, letter_id: str, at: datetime) -> RecordSetAside:
    topic, partition, offset = letter_id.split("/")
    return RecordSetAside(
        letter_id=letter_id,
        service=service,
        source_topic=topic,
        source_partition=int(partition),
        source_offset=int(offset),
        source_key="new",
        source_type="oms.capture.OrderAccepted.v1",
        reason="ValueError: no",
        stack="...",
        value="e30=",
        headers={"ce_id": "x"},
        attempts=1,
        parked=False,
        at=at,
    )


def random_value(hint: Any, random: Random) -> Any:
    """A random value of a type that messages use. There are few different names, so that events concern the same rows."""
    if hint in SIMPLE:
        return SIMPLE[hint](random)
    if isinstance(hint, type) and issubclass(hint, Value):
        return hint(**{name: random_value(kind, random) for name, kind in get_type_hints(hint).items()})
    if get_origin(hint) is dict:
        return {random_value(str, random): random_value(str, random) for _ in range(random.randint(0, 2))}
    if get_origin(hint) is tuple:
        return tuple(random_value(get_args(hint)[0], random) for _ in range(random.randint(0, 2)))
    return random_value(random.choice(get_args(hint)), random)


SIMPLE: dict[Any, Callable[[Random], Any]] = {
    str: lambda random: random.choice("ab"),
    int: lambda random: random.randint(0, 5),
    bool: lambda random: random.random() < 0.5,
    datetime: lambda random: BEGIN + timedelta(minutes=random.randint(0, 99)),
    type(None): lambda _chance: None,
}


Publish = Callable[[KafkaSettings, Sequence[IncomingRecord]], Awaitable[None]]


@pytest.fixture(scope="session")
def publish() -> Publish:
    """`await publish(settings, records)` publishes as the relays do, with positions higher than any so far. Every tenth comes twice."""

    async def send(settings: KafkaSettings, records: Sequence[IncomingRecord]) -> None:
        begin, counts = time_ns() // 1_000, {topic.name: topic.partitions for topic in topics_read_by("projection")}
        producer = make_producer(settings, "scenarios")
        await producer.start()
        try:
            for number, record in enumerate(records):
                assert record.envelope is not None
                assert record.key is not None
                assert record.position is not None
                key = record.key.encode()
                headers = to_headers(msgspec.structs.replace(record.envelope, position=begin + record.position))
                for _ in range(2 if number % 10 == 0 else 1):
                    partition = partition_of(key, counts[record.topic])
                    await producer.send_and_wait(record.topic, key=key, value=record.value, headers=headers, partition=partition)
        finally:
            await producer.stop()

    return send


@pytest.fixture(scope="session")
def scenarios() -> Log:
    return all_scenarios()


@pytest.fixture(scope="session")
def random_records() -> Callable[[Random, int], Sequence[IncomingRecord]]:
    """`random_records(random, rounds)`: events of every type, `rounds` times each, whether or not they are consistent."""

    def records(random: Random, rounds: int) -> Sequence[IncomingRecord]:
        log = Log()
        topics = [topic for topic in topics_read_by("projection") if not topic.name.endswith(("dead-letters", "commands", "customer-keys"))]
        kinds = [(topic.name, cls) for topic in topics for cls in topic.messages if type_of(cls).upcast is None] * rounds
        for topic, cls in random.sample(kinds, len(kinds)):
            log.publish(topic, random_value(cls, random))
        return log.records

    return records


@pytest.fixture(scope="session")
def sealer() -> Sealer:
    """With the key of the installation under which the scenarios' customer has a key."""
    return SEALER


@pytest.fixture
def erasure() -> Sequence[IncomingRecord]:
    """The scenarios' customer is erased."""
    log = Log()
    log.publish("oms.customer-keys", CustomerKeyErased(key_id=KEY.key_id, request_id="r", at=BEGIN))
    return log.records


def interleave(records: Sequence[IncomingRecord], random: Random) -> list[IncomingRecord]:
    """The records in another order that keeps the order of each topic and key, as Kafka does."""
    queues: defaultdict[tuple[str, str | None], deque[IncomingRecord]] = defaultdict(deque)
    for record in records:
        queues[record.topic, record.key].append(record)
    turns = [name for name, queue in queues.items() for _ in queue]
    random.shuffle(turns)
    return [queues[name].popleft() for name in turns]


@pytest.fixture(scope="session")
def interleaved() -> Callable[[Sequence[IncomingRecord], Random], list[IncomingRecord]]:
    return interleave


@pytest.fixture(scope="session")
def given() -> Callable[..., Sequence[IncomingRecord]]:
    """`given(topic, event, ...)`: the records of events on one topic."""

    def records(topic: str, *events: Any) -> Sequence[IncomingRecord]:
        log = Log()
        log.publish(topic, *events)
        return log.records

    return records


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def pool(servers: Servers) -> AsyncIterator[Database]:
    database = await open_database(await servers.create_database("projection"), schema=SCHEMA)
    await migrate(database, "oms_projection")
    await open_version(database)
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def database(pool: Database) -> Database:
    async with pool.acquire() as connection:
        await connection.execute(f"truncate {', '.join(table.name for table in TABLES)}")
    return pool


@pytest_asyncio.fixture(loop_scope="session")
async def api(database: Database, scenarios: Any, sealer: Sealer) -> AsyncIterator[httpx.AsyncClient]:
    """The query API over the scenarios, a day later."""
    await write(database, scenarios.records)
    transport = httpx.ASGITransport(make_api(database, lambda: LATER, sealer))
    async with httpx.AsyncClient(transport=transport, base_url="http://projection") as client:
        yield client
