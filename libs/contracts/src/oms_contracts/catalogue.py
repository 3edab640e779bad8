"""Every topic: what it carries, its key, how it is kept, its writers and readers.

The broker's topics, its users' rights and the AsyncAPI document are made from these lists, and from nothing else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from oms_contracts import channel, customers, dead_letters, fulfillments, orders, payments, products, returns, stock, superseded, tracking
from oms_contracts.message import type_of
from oms_contracts.parties import KINDS, user_of

PARTITIONS = 12
PARTY_PARTITIONS = 3
"""Of a topic that one party alone writes: parties are many, and each sends a part of all."""
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
EXTERNAL_PARTIES = frozenset({*KINDS, "downstream"})
"""Those who are not ours: they read and write by clients of any language."""
USERS = (*PROGRAMS, "downstream", "operator")
"""The broker users that every installation has: the services, the gateway, who follows orders' statuses, and the operator. Each channel,
warehouse and carrier has one besides (see `parties`)."""
ROLES = (*PROGRAMS, *KINDS, "downstream", "operator")
"""Who writes and reads topics: the broker users, and the kinds of parties, of which each party has the rights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic, or a family of them. `retention` is milliseconds, `FOREVER` for ever; `writers` and `readers` are of ROLES.

    With `parties`, a kind of party, it is a family: each party of that kind has a topic of its own, which it alone writes. The family's
    name says where the party's stands, as in `oms.channel.orders.{channel}`. `party` is set in the topic of one party. So it is the topic
    that says who sent a record, and nothing in the record.

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
    parties: str | None = None
    party: str = ""

    @property
    def prefix(self) -> str:
        """What the names of a family's topics begin with. The rest of each is its party's name."""
        return self.name.partition("{")[0]

    def of_party(self, party: str) -> "Topic":
        """The topic that a party has of this family."""
        return replace(self, name=f"{self.prefix}{party}", party=party)

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
        """Who asks for what is published here, where that is one party. None: its records say it, by `actor` in their envelopes."""
        return user_of(self.parties, self.party) if self.parties is not None and self.party else None

    @property
    def trusted(self) -> bool:
        """Whether only our own services write here: what they publish is decoded; what external parties send is validated."""
        return set(self.writers) <= set(ALL_SERVICES)


def _commands(service: str, key: str, *messages: type[Any]) -> Topic:
    return Topic(
        name=f"oms.{service}.commands",
        key=key,
        messages=(*messages, dead_letters.RedriveDeadLetters),
        writers=(GATEWAY, "operator"),
        readers=(service, "operator"),
        summary=f"what people and systems ask of {service}",
        retention=DAYS_30,
        max_message_bytes=EXTERNAL_MAX_BYTES,
    )


def _of_each(kind: str, topic: str, service: str, key: str, *messages: type[Any]) -> Topic:
    """The family beside `topic`, which the gateway and the operator write: of each party of a kind, what it asks of a service itself."""
    return Topic(
        name=f"{topic}.{{{kind}}}",
        key=key,
        messages=messages,
        writers=(kind,),
        readers=(service, "operator"),
        summary=f"what one {kind} asks of {service}",
        retention=DAYS_30,
        partitions=PARTY_PARTITIONS,
        max_message_bytes=EXTERNAL_MAX_BYTES,
        parties=kind,
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
        writers=(GATEWAY, "operator"),
        readers=("capture", "operator"),
        summary="orders of every channel, as the gateway and the operator publish them",
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
            orders.OrderWaitExtended,
            orders.OrderCancellationRequested,
            orders.OrderCancellationRejected,
            orders.OrderCanceled,
            orders.OrderExpired,
            orders.OrderPartlyDelivered,
            orders.OrderDelivered,
            orders.OrderPaid,
            orders.OrderPaymentResolved,
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
            stock.WaitingOrdersCalled,
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
            payments.PaymentAuthorizationExpired,
            payments.PaymentRenewalRequested,
            payments.PaymentOutcomeUnknown,
            payments.PaymentRequestRepeated,
            payments.PaymentCaptureRequested,
            payments.PaymentCaptured,
            payments.PaymentCaptureRefused,
            payments.PaymentCaptureFailed,
            payments.PaymentCollectionRequired,
            payments.PaymentWrittenOff,
            payments.PaymentVoidRequested,
            payments.PaymentVoided,
            payments.PaymentVoidFailed,
            payments.PaymentAbandoned,
            payments.RefundPostponed,
            payments.RefundRequested,
            payments.RefundSettled,
            payments.RefundFailed,
            payments.PaymentCommandRefused,
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
    _commands("capture", "order id", orders.CancelOrder, orders.AmendPayment, orders.ExtendWait, customers.EraseCustomer),
    _commands(
        "inventory",
        "receipt or adjustment id; SKU for products; id of a count, quarantine, release, write-off or transfer; SKU for limits of stock",
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
    _commands("payment", "order id", payments.RetryCapture, payments.PayOutstanding, payments.WriteOffPayment),
    _commands(
        "fulfillment",
        "order id",
        fulfillments.AcceptFulfillment,
        fulfillments.PickItems,
        fulfillments.PackPackage,
        fulfillments.ShipFulfillment,
    ),
    _commands("tracking", "order id", tracking.RecordScan),
    _commands(
        "returns",
        "order id",
        returns.RequestReturn,
        returns.ReceiveReturnItems,
        returns.InspectReturn,
        returns.CancelReturn,
    ),
    _commands(PROJECTION, "as the source record"),
    *(_dead_letters(service) for service in ALL_SERVICES),
)

PARTY_TOPICS = (
    _of_each(
        "channel",
        "oms.channel.orders",
        "capture",
        "order id",
        channel.OrderPlaced,
        superseded.OrderPlaced,
        orders.CancelOrder,
        orders.AmendPayment,
    ),
    _of_each(
        "warehouse",
        "oms.inventory.commands",
        "inventory",
        "receipt or adjustment id; id of a count, quarantine, release, write-off or transfer",
        stock.ReceiveStock,
        stock.AdjustStock,
        stock.CountStock,
        stock.TransferStock,
        stock.ReceiveTransfer,
        stock.CloseTransfer,
        stock.QuarantineStock,
        stock.ReleaseQuarantine,
        stock.WriteOffQuarantine,
    ),
    _of_each(
        "warehouse",
        "oms.fulfillment.commands",
        "fulfillment",
        "order id",
        fulfillments.AcceptFulfillment,
        fulfillments.PickItems,
        fulfillments.PackPackage,
        fulfillments.ShipFulfillment,
    ),
    _of_each("warehouse", "oms.returns.commands", "returns", "order id", returns.ReceiveReturnItems, returns.InspectReturn),
    _of_each("carrier", "oms.tracking.commands", "tracking", "order id", tracking.RecordScan),
)
"""The families. What a shop says of an order is on one topic, so it is read in the order in which it was sent."""

_TOPIC_OF = {type_of(m).name: topic.name for topic in reversed(TOPICS) for m in topic.messages if m.__module__ != dead_letters.__name__}
"""Of what is copied, the topic that it is copied from, which comes first."""


def topic_of(message: object) -> str:
    """The topic a message is published on. Raises KeyError for those of `dead_letters`, which every service has its own topics for."""
    return _TOPIC_OF[type_of(message).name]


def topics_written_by(role: str) -> Iterator[Topic]:
    """The topics, and families of topics, that a role may write."""
    return (topic for topic in (*TOPICS, *PARTY_TOPICS) if role in topic.writers)


def topics_read_by(role: str) -> Iterator[Topic]:
    """The topics, and families of topics, that a role may read."""
    return (topic for topic in (*TOPICS, *PARTY_TOPICS) if role in topic.readers)


def party_topics(kind: str, party: str) -> list[Topic]:
    """The topics of one party, which it alone writes."""
    return [family.of_party(party) for family in topics_written_by(kind) if family.parties == kind]


def existing(topic: Topic, names: Iterable[str]) -> list[Topic]:
    """The topic itself; of a family, those of `names` that belong to it."""
    if topic.parties is None:
        return [topic]
    return [topic.of_party(name.removeprefix(topic.prefix)) for name in names if name.startswith(topic.prefix) and name != topic.prefix]


class TopicsByName(dict[str, Topic]):
    """Topics by name. That of a party is made of its family when it is first asked for. KeyError where neither is known."""

    def __init__(self, topics: Iterable[Topic]) -> None:
        topics = list(topics)
        super().__init__({topic.name: topic for topic in topics if topic.parties is None})
        self._families = [topic for topic in topics if topic.parties is not None]

    def __missing__(self, name: str) -> Topic:
        for family in self._families:
            for topic in existing(family, [name]):
                self[name] = topic
                return topic
        raise KeyError(name)
