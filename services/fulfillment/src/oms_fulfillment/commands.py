"""What fulfillment is asked to do: by capture's events, and by warehouses."""

from dataclasses import dataclass
from datetime import datetime

from oms_contracts.fulfillments import (
    AcceptFulfillment,
    FulfillmentAccepted,
    FulfillmentCanceled,
    FulfillmentCancellationRejected,
    FulfillmentCommandRefused,
    FulfillmentPlanned,
    FulfillmentShipped,
    ItemsPicked,
    PackagePacked,
    PackPackage,
    PickItems,
    ShipFulfillment,
)
from oms_contracts.values import Address, AllocatedLine


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFulfillments:
    """The order is released: each location in `lines` is to ship its part."""

    order_id: str
    delivery: str
    ship_to: Address | None
    lines: tuple[AllocatedLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFulfillments:
    """Somebody wants the order canceled. `requested_at` tells one request from the next, which may follow on a rejection."""

    order_id: str
    reason: str
    requested_at: datetime


WarehouseCommand = AcceptFulfillment | PickItems | PackPackage | ShipFulfillment

Command = PlanFulfillments | StopFulfillments | WarehouseCommand

Event = (
    FulfillmentPlanned
    | FulfillmentAccepted
    | ItemsPicked
    | PackagePacked
    | FulfillmentShipped
    | FulfillmentCanceled
    | FulfillmentCancellationRejected
    | FulfillmentCommandRefused
)
