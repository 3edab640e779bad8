"""Every topic: what it carries, its key, how it is kept, its writers and readers.

The broker's topics, its users' rights and the AsyncAPI document are made from this list, and from nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from oms_contracts import channel, customers, dead_letters, fulfillments, orders, payments, products, returns, stock, superseded, tracking
from oms_contracts.message import type_of

PARTITIONS = 12
FOREVER = -1
DAYS_30 = 30 * 24 * 3600 * 1000
EXTERNAL_MAX_BYTES = 512 * 1024
"""External parties may send less than we may publish, because what we publish about their records is larger."""
EXTERNAL_MAX_VALUE_BYTES = EXTERNAL_MAX_BYTES - 16 * 1024
"""Of the JSON alone: the rest is for headers."""

SERVICES = ("capture", "inventory", "payment", "fulfillment", "tracking", "returns")
"""The services that own streams."""
PROJECTION = "projection"
"""The service that owns no stream: it builds the read models."""
ALL_SERVICES = (*SERVICES, PROJECTION)
"""Every service, in the order of their operations ports: whoever reads topics in a group, and has commands and dead letters."""
GATEWAY = "gateway"
"""The HTTP edge for people and programs outside. It is no service: it owns no stream, and reads in no group."""
PROGRAMS = (*ALL_SERVICES, GATEWAY)
"""Everything in `services/`, each a broker user with a database of its own. What has one entry for each is made from this list or checked
against it; the others above are its parts."""
APIS = {GATEWAY: GATEWAY, f"{PROJECTION}-api": PROJECTION}
"""The HTTP APIs, which are processes of their own, each with the program whose credentials it has. That of a service is started by
`python -m oms_<service> api`; the gateway is nothing but one."""
PERSONAL_DATA_PROCESSES = ("capture", "fulfillment", f"{PROJECTION}-api")
"""The processes that seal personal data or open it, and so have the installation's key. No other has."""
QUERY_TOKEN_PROCESSES = (f"{PROJECTION}-api", GATEWAY)
"""The processes that serve the query API or ask it, and so have its credential."""
EXTERNAL_PARTIES = frozenset({"channel", "warehouse", "carrier", "downstream"})
"""The broker users that are not ours: they read and write by clients of any language."""
USERS = (*PROGRAMS, "channel", "warehouse", "carrier", "downstream", "operator")
"""Every broker user: the services, the gateway, four kinds of external parties, and the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic. `retention` is milliseconds, `FOREVER` for ever; `writers` and `readers` are broker users.

    `copy_of` names the topic that this one is a copy of: what is published there is published here too, if it is one of `messages`. Of a
    `compacted` copy the newest record of each key stays. A copy that `discloses` has more in its records than the original, which keeps
    them for ever, may have.
    """

    name: str
    key: str
    messages: tuple[type[Any], ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    summary: str
    retention: int = FOREVER
    copy_of: str | None = None
    compacted: bool = False
    discloses: bool = False
    partitions: int = PARTITIONS
    max_message_bytes: int = 1024 * 1024

    @property
    def keeps_for_ever(self) -> bool:
        """Whether what is published here stays, unless a later record of its key takes its place: no personal data in the clear may."""
        return self.retention == FOREVER

    @property
    def compression(self) -> str:
        """The broker's `compression.type`. What external parties read is gzip, which every client reads without an extension."""
        return "gzip" if EXTERNAL_PARTIES & set(self.readers) else "producer"

    @property
    def actor(self) -> str | None:
        """Who asks for what is published here, where that is an external party. None: its records say it, by `actor` in their envelopes."""
        return next((user for user in self.writers if user in EXTERNAL_PARTIES), None)

    @property
    def trusted(self) -> bool:
        """Whether only our own services write here: what they publish is decoded; what external parties send is validated."""
        return set(self.writers) <= set(ALL_SERVICES)


def _commands(service: str, key: str, writers: tuple[str, ...], *messages: type[Any]) -> Topic:
    return Topic(
        name=f"oms.{service}.commands",
        key=key,
        messages=(*messages, dead_letters.RedriveDeadLetters),
        writers=(*writers, GATEWAY, "operator"),
        readers=(service, "operator"),
        summary=f"what people and systems ask of {service}",
        retention=DAYS_30,
        max_message_bytes=EXTERNAL_MAX_BYTES,
    )


def _dead_letters(service: str) -> Topic:
    return Topic(
        name=f"oms.{service}.dead-letters",
        key="as the source record",
        messages=(dead_letters.RecordSetAside, dead_letters.RecordRedriven, dead_letters.RedriveRefused),
        writers=(service,),
        readers=(PROJECTION, "operator"),
        summary=f"records that {service} set aside, and what became of them",
        max_message_bytes=2 * 1024 * 1024,  # a letter carries the whole record, in base64
    )


TOPICS = (
    Topic(
        name="oms.channel.orders",
        key="order id",
        messages=(channel.OrderPlaced, superseded.OrderPlaced),
        writers=("channel", GATEWAY, "operator"),
        readers=("capture", "operator"),
        summary="orders as the channels publish them",
        retention=DAYS_30,
        max_message_bytes=EXTERNAL_MAX_BYTES,
    ),
    Topic(
        name="oms.channel.webhooks",
        key="order id; where the body names no order, an id of the webhook",
        messages=(channel.WebhookReceived,),
        writers=(GATEWAY, "operator"),
        readers=("capture", "operator"),
        summary="webhooks about orders as shops send them, signed",
        retention=DAYS_30,
    ),
    Topic(
        name="oms.orders",
        key="order id",
        messages=(
            orders.OrderAccepted,
            orders.OrderRejected,
            orders.OrderConflictReported,
            orders.OrderReserved,
            orders.OrderConfirmed,
            orders.OrderReleased,
            orders.OrderActionRequired,
            orders.OrderPaymentAmended,
            orders.OrderCancellationRequested,
            orders.OrderCancellationRejected,
            orders.OrderCanceled,
            orders.OrderExpired,
            orders.OrderPartlyDelivered,
            orders.OrderCommandRefused,
            orders.OrderCompleted,
            orders.WebhookTaken,
            superseded.OrderAccepted,
            superseded.OrderReserved,
            superseded.OrderReleased,
            superseded.OrderPaymentAmended,
            superseded.OrderCompleted,
        ),
        writers=("capture",),
        readers=("inventory", "payment", "fulfillment", "tracking", "returns", "projection", "operator"),
        summary="the life of every order",
    ),
    Topic(
        name="oms.stock",
        key="order id; receipt, adjustment or return id for the ledger; SKU for orders that waited for a product; "
        "id of a count, quarantine, release, write-off or transfer; SKU for limits, signals and actions of stock",
        messages=(
            stock.StockReceived,
            stock.StockAdjusted,
            stock.StockReturned,
            stock.StockWrittenOff,
            stock.StockReserved,
            stock.StockReservationFailed,
            stock.StockReservationPostponed,
            stock.WaitingOrdersResumed,
            stock.StockReservationExpired,
            stock.StockAllocationRequested,
            stock.StockAllocated,
            stock.StockShipped,
            stock.StockReleased,
            stock.StockCommandRefused,
            stock.StockCounted,
            stock.StockActionRequired,
            stock.StockActionResolved,
            stock.StockLimitsSet,
            stock.StockLow,
            stock.StockLowCleared,
            stock.StockOut,
            stock.StockOutCleared,
            stock.StockExcess,
            stock.StockExcessCleared,
            stock.StockQuarantined,
            stock.QuarantineReleased,
            stock.QuarantineWrittenOff,
            stock.TransferStarted,
            stock.TransferReceived,
            stock.TransferClosed,
            stock.TransferActionRequired,
        ),
        writers=("inventory",),
        readers=("capture", "projection", "operator"),
        summary="reservations, allocations and the stock ledger",
    ),
    Topic(
        name="oms.products",
        key="SKU",
        messages=(
            products.ProductDefined,
            products.ProductDeactivated,
            products.ProductCommandRefused,
        ),
        writers=("inventory",),
        readers=("projection", "channel", "downstream", "operator"),
        summary="the catalogue of products",
    ),
    Topic(
        name="oms.payments",
        key="order id",
        messages=(
            payments.PaymentAuthorizationRequested,
            superseded.PaymentAuthorizationRequested,
            payments.PaymentAuthorized,
            payments.PaymentDeclined,
            payments.PaymentOutcomeUnknown,
            payments.PaymentRequestRepeated,
            payments.PaymentCaptureRequested,
            payments.PaymentCaptured,
            payments.PaymentCaptureFailed,
            payments.PaymentVoidRequested,
            payments.PaymentVoided,
            payments.PaymentVoidFailed,
            payments.PaymentAbandoned,
            payments.RefundPostponed,
            payments.RefundRequested,
            payments.RefundSettled,
            payments.RefundFailed,
        ),
        writers=("payment",),
        readers=("capture", "returns", "projection", "operator"),
        summary="money asked for, held, taken and given back",
    ),
    Topic(
        name="oms.fulfillments",
        key="order id",
        messages=(
            fulfillments.FulfillmentPlanned,
            fulfillments.FulfillmentAccepted,
            fulfillments.ItemsPicked,
            fulfillments.PackagePacked,
            fulfillments.FulfillmentShipped,
            fulfillments.FulfillmentCanceled,
            fulfillments.FulfillmentCancellationRejected,
            fulfillments.FulfillmentCommandRefused,
            superseded.FulfillmentPlanned,
        ),
        writers=("fulfillment",),
        readers=("capture", "inventory", "payment", "tracking", "projection", "warehouse", "operator"),
        summary="what warehouses are asked to do and have done",
    ),
    Topic(
        name="oms.fulfillment-orders",
        key="order id",
        messages=(fulfillments.FulfillmentPlanned,),
        writers=("fulfillment",),
        readers=("warehouse", "operator"),
        summary="what warehouses are asked to ship, and to whom",
        retention=DAYS_30,
        copy_of="oms.fulfillments",
        discloses=True,
    ),
    Topic(
        name="oms.tracking",
        key="order id",
        messages=(
            tracking.DeliveryExpected,
            tracking.LabelCreated,
            tracking.PackageInTransit,
            tracking.PackageOutForDelivery,
            tracking.DeliveryAttemptFailed,
            tracking.PackageDelivered,
            tracking.PackageLost,
            tracking.PackageReturnedToSender,
            tracking.ScanRecorded,
            tracking.TrackingCommandRefused,
        ),
        writers=("tracking",),
        readers=("capture", "projection", "carrier", "operator"),
        summary="packages on their way",
    ),
    Topic(
        name="oms.returns",
        key="order id",
        messages=(
            returns.ReturnWindowOpened,
            superseded.ReturnWindowOpened,
            returns.ReturnRequested,
            returns.ReturnApproved,
            returns.ReturnDeclined,
            returns.ReturnItemsReceived,
            returns.ReturnItemsInspected,
            returns.ReturnRefundRequested,
            returns.ReturnClosed,
            returns.ReturnCanceled,
            returns.ReturnExpired,
            returns.ReturnActionRequired,
            returns.ReturnCommandRefused,
        ),
        writers=("returns",),
        readers=("inventory", "payment", "projection", "warehouse", "operator"),
        summary="goods that come back",
    ),
    Topic(
        name="oms.order-status-changes",
        key="order id",
        messages=(tracking.OrderStatusChanged,),
        writers=("tracking",),
        readers=("projection", "downstream", GATEWAY, "operator"),
        summary="every change of an order's public status, in sequence",
    ),
    Topic(
        name="oms.order-status",
        key="order id",
        messages=(tracking.OrderStatusChanged, tracking.OrderStatus),
        writers=("tracking",),
        readers=("downstream", "operator"),
        summary="the newest change of each order's public status",
        copy_of="oms.order-status-changes",
        compacted=True,
    ),
    Topic(
        name="oms.customers",
        key="key id; request id of what was erased",
        messages=(customers.CustomerKeyIssued, customers.CustomerKeyErased, customers.CustomerErased),
        writers=("capture",),
        readers=("operator",),
        summary="that customers have keys, and that they were erased",
    ),
    Topic(
        name="oms.customer-keys",
        key="key id; request id of what was erased",
        messages=(customers.CustomerKeyIssued, customers.CustomerKeyErased, customers.CustomerErased),
        writers=("capture",),
        readers=("fulfillment", PROJECTION),
        summary="customers' keys, encrypted by the installation's key",
        copy_of="oms.customers",
        compacted=True,
        discloses=True,
    ),
    _commands("capture", "order id", (), orders.CancelOrder, orders.AmendPayment, customers.EraseCustomer),
    _commands(
        "inventory",
        "receipt or adjustment id; SKU for products; id of a count, quarantine, release, write-off or transfer; SKU for limits of stock",
        ("warehouse",),
        stock.ReceiveStock,
        stock.AdjustStock,
        stock.CountStock,
        stock.SetStockLimits,
        stock.TransferStock,
        stock.ReceiveTransfer,
        stock.CloseTransfer,
        stock.QuarantineStock,
        stock.ReleaseQuarantine,
        stock.WriteOffQuarantine,
        products.DefineProduct,
        products.DeactivateProduct,
    ),
    _commands("payment", "order id", ()),
    _commands(
        "fulfillment",
        "order id",
        ("warehouse",),
        fulfillments.AcceptFulfillment,
        fulfillments.PickItems,
        fulfillments.PackPackage,
        fulfillments.ShipFulfillment,
    ),
    _commands("tracking", "order id", ("carrier",), tracking.RecordScan),
    _commands(
        "returns",
        "order id",
        ("warehouse",),
        returns.RequestReturn,
        returns.ReceiveReturnItems,
        returns.InspectReturn,
        returns.CancelReturn,
    ),
    _commands(PROJECTION, "as the source record", ()),
    *(_dead_letters(service) for service in ALL_SERVICES),
)

_TOPIC_OF = {type_of(m).name: topic.name for topic in reversed(TOPICS) for m in topic.messages if m.__module__ != dead_letters.__name__}
"""Of what is copied, the topic that it is copied from, which comes first."""


def topic_of(message: object) -> str:
    """The topic a message is published on. Raises KeyError for those of `dead_letters`, which every service has its own topics for."""
    return _TOPIC_OF[type_of(message).name]


def topics_written_by(user: str) -> Iterator[Topic]:
    """The topics a broker user may write."""
    return (topic for topic in TOPICS if user in topic.writers)


def topics_read_by(user: str) -> Iterator[Topic]:
    """The topics a broker user may read."""
    return (topic for topic in TOPICS if user in topic.readers)
