"""The responses of the query API. Amounts are minor units of the currency beside them, times are UTC. A null field is not known yet.

The names of the classes are those of the schemas in the OpenAPI document.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from oms_contracts.order_parts import DeliveryPromise, Gift, Pickup
from oms_contracts.values import Address, AllocatedLine, InspectedLine, ReturnLine, Shortage
from oms_runtime.paging import Page
from pydantic import Field

SearchText = Annotated[str, Field(min_length=1, max_length=255)]
SearchLimit = Annotated[int, Field(ge=1, le=100, description="The most that is answered")]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderItem:
    """An order in a list. It waits for a person when `action` is set; `payment` is the newest status of its payment.

    What it says of persons is null where the customer was erased.
    """

    order_id: str
    channel: str
    reference: str
    customer_id: str | None
    status: str
    since: datetime
    placed_at: datetime
    currency: str | None
    total: int | None
    units: int | None
    action: str | None
    deadline: datetime | None
    payment: str | None
    shipped: int
    delivered: int
    number: str | None = None
    customer_name: str | None = None
    customer_erased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerQuery:
    """Which customers are meant: the one that `channel` knows by `customer_id`, or everyone with the address `email`, or both."""

    channel: str | None = None
    customer_id: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerItem:
    """A customer who is known here by the key that seals the orders: `GET /orders?customer=KEY_ID` lists them."""

    key_id: str
    orders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """What is looked for: `q` as GET /search has it, an `email` address, words of a `name`. Of several, whatever one of them finds."""

    q: SearchText | None = None
    email: SearchText | None = None
    name: SearchText | None = None
    channel: str | None = None
    limit: SearchLimit = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """Something that was found. `kind` is order, package or product; `id` names it under /orders, /packages or /products.

    `field` is what matched, and `value` its content, null where that is about a person. It is `exact` where all of the field is what was
    looked for. `channel` to `placed_at` are of the order, null for a product.
    """

    kind: str
    id: str
    field: str
    value: str | None
    exact: bool
    order_id: str | None
    channel: str | None
    reference: str | None
    number: str | None
    status: str | None
    placed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What was found, exact matches first. There are `more` than were asked for, or than a search looks at: say more of what is meant."""

    items: list[SearchHit]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckItem:
    """Something that waits. `kind` is order, return, fulfillment, payment, stock, transfer, dead-letter or webhook; `state` is its
    action or its status.

    `waits_for` is who has to act: customer, shop, warehouse, carrier or operator. `otherwise` is what happens unless they do, at the
    `deadline` where there is one. `operations` are the names of those that go on with it; none where what helps is outside of this system.
    `reference` is what the channel calls the order, `key` that of the record that was set aside.
    """

    kind: str
    id: str
    order_id: str | None
    channel: str | None
    location: str | None
    state: str
    reason: str | None
    since: datetime
    deadline: datetime | None
    overdue: bool
    waits_for: str
    otherwise: str
    operations: tuple[str, ...]
    reference: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An order line. `shipped`, `delivered` and `returned` are units so far.

    `total` is after the discount, as the channel states it; `charge` is what the line costs its customer, taxes included. A line that is
    not `shippable` is not reserved, shipped or returned.
    """

    line_id: str
    sku: str
    quantity: int
    unit_price: int
    discount: int
    total: int
    shipped: int
    delivered: int
    returned: int
    title: str | None = None
    taxes: int | None = None
    charge: int | None = None
    shippable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStock:
    """What inventory holds for the order, in units. `lines` are the newest reserved or allocated ones.

    `unknown_skus` have no active product: an order that is postponed waits for them, one that failed was rejected for them.
    """

    status: str
    at: datetime
    attempt: int | None
    reserved: int
    allocated: int
    shipped: int
    expires_at: datetime | None
    lines: list[AllocatedLine] | None
    shortages: list[Shortage] | None
    unknown_skus: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    authorization_id: str
    attempt: int | None
    amount: int | None
    at: datetime | None
    voided_at: datetime | None
    void_failure: str | None
    expired_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Money captured for one shipment. `status` is requested, captured, refused (the provider is asked again), failed or written_off."""

    fulfillment_id: str
    status: str
    requested: int | None
    captured: int
    failure: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A refund. `status` is postponed, requested, settled or failed."""

    refund_id: str
    status: str
    requested: int | None
    refunded: int
    reason: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentItem:
    """The payment of an order. `voided` was authorized and released. `failures` counts what a person had to see to, `failure` is the last.

    `outstanding` is what has shipped and could not be captured yet, `written_off` what is not collected any more. Somebody is asked to
    collect it by `collect_by`.
    """

    order_id: str
    status: str
    at: datetime
    currency: str | None
    attempt: int | None
    authorized: int
    captured: int
    refunded: int
    voided: int
    failures: int
    failure: str | None
    next_check_at: datetime | None
    outstanding: int = 0
    written_off: int = 0
    collect_by: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPayment:
    totals: PaymentItem
    authorizations: list[Authorization]
    captures: list[Capture]
    refunds: list[Refund]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedPackage:
    """One parcel; `package_id` is its SSCC. `status` is the one of its highest-ranked scan."""

    package_id: str
    fulfillment_id: str | None
    carrier: str | None
    tracking_number: str | None
    packed_at: datetime | None
    shipped_at: datetime | None
    status: str | None
    status_at: datetime | None
    trouble: str | None
    late_scans: int
    lines: list[AllocatedLine] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fulfillment:
    """What one location ships of the order. `status` is planned, accepted, picked, packed, shipped or canceled."""

    fulfillment_id: str
    location: str | None
    delivery: str | None
    status: str
    planned_at: datetime | None
    at: datetime
    shipped_at: datetime | None
    lines: list[AllocatedLine] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageItem(ShippedPackage):
    """A parcel in a list, with what the channel calls its order."""

    order_id: str
    channel: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FulfillmentItem(Fulfillment):
    """A fulfillment in a list, with what the channel calls its order, and the packages that were packed for it."""

    order_id: str
    channel: str | None = None
    reference: str | None = None
    packages: list[PackageItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A return. `received` is in units; `refunded` is known once it is closed."""

    return_id: str
    status: str
    at: datetime
    requested_at: datetime | None
    expires_at: datetime | None
    location: str | None
    reason: str | None
    received: int
    refund_requested: int | None
    refunded: int | None
    outcome: str | None
    action: str | None
    deadline: datetime | None
    lines: list[ReturnLine] | None
    inspected: list[InspectedLine] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnItem(Return):
    """A return in a list, with what the channel calls its order."""

    order_id: str
    channel: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentPart:
    """A means of payment, and the part of the total that it pays. `status` is authorize, authorized, captured or due, as placed."""

    kind: str
    amount: int
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDetail:
    """All that is known of one order. A part is null or empty until an event of its own topic is read.

    `taxes` and `discount` are of all lines, shipping and fees; `taxes_included` says whether `shipping`, `fees` and the lines' totals
    contain the taxes. What the order says of persons is null where `customer_erased` is true.
    """

    order_id: str
    channel: str
    reference: str
    customer_id: str | None
    customer_email: str | None
    status: str
    since: datetime
    placed_at: datetime
    received_at: datetime
    updated_at: datetime
    currency: str | None
    total: int | None
    shipping: int | None
    units: int | None
    attempt: int | None
    payment_kind: str | None
    delivery: str | None
    ship_to: Address | None
    location: str | None
    action: str | None
    action_reason: str | None
    action_since: datetime | None
    deadline: datetime | None
    cancellation: str | None
    ended_because: str | None
    conflicts: int
    returns_until: datetime | None
    lines: list[Line]
    stock: HeldStock | None
    payment: OrderPayment | None
    fulfillments: list[Fulfillment]
    packages: list[ShippedPackage]
    returns: list[Return]
    number: str | None = None
    customer_name: str | None = None
    customer_phone: str | None = None
    taxes_included: bool | None = None
    taxes: int | None = None
    discount: int | None = None
    fees: int | None = None
    payments: list[PaymentPart] | None = None
    bill_to: Address | None = None
    pickup: Pickup | None = None
    promise: DeliveryPromise | None = None
    note: str | None = None
    gift: Gift | None = None
    purchase_order: str | None = None
    tags: list[str] | None = None
    attributes: dict[str, str] | None = None
    customer_erased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One event, at `position` in its source's store and `sequence` in its stream. `causation` is the id of the record that led to it.

    `actor` is who asked for it, null where a service decided by itself; `reason` is why, where a person said so.
    """

    time: datetime
    topic: str
    type: str
    summary: str
    source: str
    position: int
    sequence: int | None
    causation: str
    data: dict[str, Any]
    actor: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One SKU at one location, in units. `available` (ATP) = on hand - reserved - allocated - quarantined - safety.

    `in_transit` are on their way to here, and not on hand yet. `safety`, `reorder_point` and `maximum` are the limits that hold here.
    `signals` are what is said of it: low, out, excess; shortfall and quarantine, which wait for a person.
    """

    sku: str
    location: str
    on_hand: int
    reserved: int
    allocated: int
    available: int
    quarantined: int = 0
    safety: int = 0
    in_transit: int = 0
    reorder_point: int | None = None
    maximum: int | None = None
    signals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One change of on hand (`quantity`) or of what is set apart (`quarantined`). `reference` is the id of its cause.

    `kind` is received, adjusted, counted, returned, shipped, written_off, transferred_out, transferred_in, quarantined or released.
    """

    position: int
    line: int
    at: datetime
    location: str
    kind: str
    quantity: int
    reference: str
    order_id: str | None
    reason: str | None
    quarantined: int = 0
    reason_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLine:
    """`quantity` units of a SKU are still on the way."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferItem:
    """Goods on their way from one location to another, in units. `status` is in_transit or closed; `action` is what it waits for."""

    transfer_id: str
    status: str
    from_location: str
    to_location: str
    sent: int
    received: int
    written_off: int
    on_the_way: list[TransferLine]
    reason: str | None
    sent_at: datetime
    at: datetime
    deadline: datetime | None
    action: str | None
    closed_at: datetime | None
    closed_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuDetail:
    sku: str
    positions: list[Position]
    ledger: Page[LedgerEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product of the catalogue. `weight_grams` is of one `unit`. One that is not `active` counts as unknown to new orders."""

    sku: str
    title: str
    barcode: str | None
    unit: str
    weight_grams: int | None
    requires_shipping: bool
    active: bool
    defined_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionCount:
    """How often orders were rejected for one field, with an example of the reason. All lines count as one field: `lines.quantity`."""

    field: str
    orders: int
    reasons: int
    newest_at: datetime
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    order_id: str
    channel: str
    at: datetime
    reasons: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How many orders have one status, and since when the one that has had it longest."""

    status: str
    orders: int
    oldest_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter. `status` is set_aside, parked (behind an earlier dead letter of its key), redriven or discarded."""

    service: str
    letter_id: str
    status: str
    at: datetime
    source_topic: str | None
    source_key: str | None
    source_type: str | None
    reason: str | None
    attempts: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterDetail:
    """A dead letter with its record: `value` is base64."""

    service: str
    letter_id: str
    status: str
    at: datetime
    source_topic: str | None
    source_partition: int | None
    source_offset: int | None
    source_key: str | None
    source_type: str | None
    reason: str | None
    stack: str | None
    headers: dict[str, str] | None
    value: str | None
    attempts: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken invariant. `subject` is the order, or the SKU and location; `since` is the time of the newest event concerned."""

    kind: str
    subject: str
    detail: str
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Green when there is no violation. At most a thousand are listed."""

    green: bool
    violations: list[Violation]


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """An accepted order that waits for no person, but for a service, a warehouse or a carrier."""

    order_id: str
    status: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdersAudit:
    """Green when no order waits past its deadline. `waiting` orders have a named action and a deadline; `in_flight` lists the oldest."""

    green: bool
    accepted: int
    ended: int
    waiting: int
    in_flight_count: int
    in_flight: list[InFlight]
    violations: list[Violation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An RFC 9457 problem."""

    title: str
    status: int
    reasons: list[str]
