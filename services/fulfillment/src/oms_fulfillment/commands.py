"""Fulfillment's commands (from warehouses and capture's events) and its events."""

from datetime import datetime

from msgspec import Struct
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
from oms_contracts.order_parts import DeliveryPromise, PersonalData, SealedData
from oms_contracts.values import AllocatedLine


class PlanFulfillments(Struct, frozen=True, kw_only=True):
    """The order is released: each location in `lines` must ship its part."""

    order_id: str
    delivery: str
    lines: tuple[AllocatedLine, ...]
    promise: DeliveryPromise | None = None
    personal: PersonalData | None = None
    sealed: SealedData | None = None


class StopFulfillments(Struct, frozen=True, kw_only=True):
    """The order should be canceled. `requested_at` identifies the request: another one may follow a rejection."""

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
