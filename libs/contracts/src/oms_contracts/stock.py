"""Stock, owned by inventory, on oms.stock; and the commands inventory takes.

on hand = received + returned + adjusted + counted + transferred in - transferred out - shipped - written off;
available to promise (ATP) = on hand - reserved - allocated - quarantined - safety stock.
"""

from datetime import datetime

from oms_contracts.message import Value, message
from oms_contracts.values import AllocatedLine, Code, CountedLine, CountLine, GoodsLine, Prose, Shortage, StockLine, WantedLine


@message("oms.inventory.StockReceived.v1", key="receipt_id")
class StockReceived(Value, frozen=True, kw_only=True):
    """Goods arrived."""

    receipt_id: str
    lines: tuple[StockLine, ...]
    at: datetime


@message("oms.inventory.StockAdjusted.v1", key="adjustment_id")
class StockAdjusted(Value, frozen=True, kw_only=True):
    """On hand was corrected by signed quantities. `reason_code` is as AdjustStock has it."""

    adjustment_id: str
    lines: tuple[StockLine, ...]
    reason: str
    at: datetime
    reason_code: str = "other"


@message("oms.inventory.StockCounted.v1", key="count_id")
class StockCounted(Value, frozen=True, kw_only=True):
    """Units were counted, and on hand was corrected by each line's `difference`.

    A count may find less than is promised: then StockActionRequired follows.
    """

    count_id: str
    lines: tuple[CountedLine, ...]
    reason: str
    at: datetime


@message("oms.inventory.StockReturned.v1", key="return_id")
class StockReturned(Value, frozen=True, kw_only=True):
    """Goods came back from a customer and count as on hand."""

    return_id: str
    order_id: str
    lines: tuple[StockLine, ...]
    at: datetime


@message("oms.inventory.StockWrittenOff.v1", key="return_id")
class StockWrittenOff(Value, frozen=True, kw_only=True):
    """Goods that came back cannot be sold."""

    return_id: str
    order_id: str
    lines: tuple[StockLine, ...]
    reason: str
    at: datetime


@message("oms.inventory.StockQuarantined.v1", key="quarantine_id")
class StockQuarantined(Value, frozen=True, kw_only=True):
    """Units are set apart: they stay on hand, and are not available until they are released or written off.

    With a `return_id`, which is the `quarantine_id` too, an inspection of a return has set them apart.
    """

    quarantine_id: str
    lines: tuple[StockLine, ...]
    reason: str
    at: datetime
    return_id: str | None = None
    order_id: str | None = None


@message("oms.inventory.QuarantineReleased.v1", key="release_id")
class QuarantineReleased(Value, frozen=True, kw_only=True):
    """Units that were set apart are sound, and available again."""

    release_id: str
    lines: tuple[StockLine, ...]
    reason: str
    at: datetime


@message("oms.inventory.QuarantineWrittenOff.v1", key="write_off_id")
class QuarantineWrittenOff(Value, frozen=True, kw_only=True):
    """Units that were set apart cannot be sold: they are no longer on hand."""

    write_off_id: str
    lines: tuple[StockLine, ...]
    reason: str
    at: datetime


@message("oms.inventory.TransferStarted.v1", key="transfer_id")
class TransferStarted(Value, frozen=True, kw_only=True):
    """Units left `from_location` for `to_location`. On the way they are on hand nowhere; they are to arrive before `deadline`.

    The lines have the location that they left.
    """

    transfer_id: str
    from_location: str
    to_location: str
    lines: tuple[StockLine, ...]
    reason: str
    deadline: datetime
    at: datetime


@message("oms.inventory.TransferReceived.v1", key="transfer_id")
class TransferReceived(Value, frozen=True, kw_only=True):
    """Units of a transfer arrived; the lines have the location, which is its destination, or its origin for units that came back.

    With the last units the transfer has ended.
    """

    transfer_id: str
    receipt_id: str
    from_location: str
    to_location: str
    lines: tuple[StockLine, ...]
    at: datetime


@message("oms.inventory.TransferClosed.v1", key="transfer_id")
class TransferClosed(Value, frozen=True, kw_only=True):
    """The end of a transfer of which not all arrived: `lines` are missing, and written off."""

    transfer_id: str
    from_location: str
    to_location: str
    lines: tuple[GoodsLine, ...]
    reason: str
    at: datetime


@message("oms.inventory.TransferActionRequired.v1", key="transfer_id")
class TransferActionRequired(Value, frozen=True, kw_only=True):
    """`units` of a transfer have not arrived in time, and a person has to act; it is asked again after each `deadline`.

    `action` is close_transfer: receive what has arrived, and close the transfer if the rest is lost.
    """

    transfer_id: str
    from_location: str
    to_location: str
    action: str
    units: int
    deadline: datetime
    at: datetime


@message("oms.inventory.StockLimitsSet.v1", key="sku")
class StockLimitsSet(Value, frozen=True, kw_only=True):
    """The limits of a SKU at a location, or (`location` null) at every location that has none of its own. See SetStockLimits."""

    sku: Code
    location: Code | None
    safety: int
    reorder_point: int | None
    maximum: int | None
    at: datetime


@message("oms.inventory.StockLow.v1", key="sku")
class StockLow(Value, frozen=True, kw_only=True):
    """What is available to promise has fallen to the reorder point, or below it."""

    sku: Code
    location: Code
    available: int
    reorder_point: int
    at: datetime


@message("oms.inventory.StockLowCleared.v1", key="sku")
class StockLowCleared(Value, frozen=True, kw_only=True):
    """More is available to promise than the reorder point, or there is none any more."""

    sku: Code
    location: Code
    available: int
    at: datetime


@message("oms.inventory.StockOut.v1", key="sku")
class StockOut(Value, frozen=True, kw_only=True):
    """Nothing is available to promise at a location that has had units of the SKU, or has limits of its own for it."""

    sku: Code
    location: Code
    available: int
    at: datetime


@message("oms.inventory.StockOutCleared.v1", key="sku")
class StockOutCleared(Value, frozen=True, kw_only=True):
    """Units are available to promise again."""

    sku: Code
    location: Code
    available: int
    at: datetime


@message("oms.inventory.StockExcess.v1", key="sku")
class StockExcess(Value, frozen=True, kw_only=True):
    """More is on hand than the maximum."""

    sku: Code
    location: Code
    on_hand: int
    maximum: int
    at: datetime


@message("oms.inventory.StockExcessCleared.v1", key="sku")
class StockExcessCleared(Value, frozen=True, kw_only=True):
    """No more is on hand than the maximum, or there is none any more."""

    sku: Code
    location: Code
    on_hand: int
    at: datetime


@message("oms.inventory.StockActionRequired.v1", key="sku")
class StockActionRequired(Value, frozen=True, kw_only=True):
    """A person has to act on the stock of a SKU at a location; it is asked again after each `deadline` until `action` is resolved.

    `action` is resolve_shortfall (`units` more are promised or set apart than are on hand) or resolve_quarantine (`units` are set apart).
    """

    sku: Code
    location: Code
    action: str
    units: int
    deadline: datetime
    at: datetime


@message("oms.inventory.StockActionResolved.v1", key="sku")
class StockActionResolved(Value, frozen=True, kw_only=True):
    """The stock of a SKU at a location needs `action` no longer."""

    sku: Code
    location: Code
    action: str
    at: datetime


@message("oms.inventory.StockReserved.v1", key="order_id")
class StockReserved(Value, frozen=True, kw_only=True):
    """All of the order's units are held until `expires_at`; one event names all of them."""

    order_id: str
    attempt: int
    lines: tuple[AllocatedLine, ...]
    expires_at: datetime
    at: datetime


@message("oms.inventory.StockReservationFailed.v1", key="order_id")
class StockReservationFailed(Value, frozen=True, kw_only=True):
    """Nothing is held. `shortages` names every SKU that falls short.

    With `unknown_skus` the order is not served at all: they have no active product, and the business rejects such orders.

    With `waiting_since` the order waits in the queue of each SKU that falls short, and in no other: StockReserved follows by itself once
    there is enough for it, or StockAllocated if it was confirmed before (`confirmed`), or this event again with what falls short then.
    `lines` and `location` are what is to be reserved, `promised_at` when the customer expects it. Without `waiting_since` it does not wait:
    too many orders wait already. `confirmed` is null on records from before it was told.
    """

    order_id: str
    attempt: int
    shortages: tuple[Shortage, ...]
    at: datetime
    unknown_skus: tuple[Code, ...] = ()
    lines: tuple[WantedLine, ...] = ()
    location: str | None = None
    promised_at: datetime | None = None
    waiting_since: datetime | None = None
    confirmed: bool | None = None


@message("oms.inventory.WaitingOrdersCalled.v1", key="sku")
class WaitingOrdersCalled(Value, frozen=True, kw_only=True):
    """There are units of the SKU for these orders that wait for it, first come first: each is tried by itself, all or nothing.

    StockReserved, StockAllocated or StockReservationFailed follows for each.
    """

    sku: Code
    orders: tuple[str, ...]
    at: datetime


@message("oms.inventory.StockReservationPostponed.v1", key="order_id")
class StockReservationPostponed(Value, frozen=True, kw_only=True):
    """Nothing is held: `unknown_skus` have no active product, and the business holds such orders until they have.

    Once they have, stock is reserved for the same attempt: StockReserved or StockReservationFailed follows. `lines` and `location` are what
    is to be reserved then.
    """

    order_id: str
    attempt: int
    unknown_skus: tuple[Code, ...]
    lines: tuple[WantedLine, ...]
    location: str | None
    at: datetime


@message("oms.inventory.WaitingOrdersResumed.v1", key="sku")
class WaitingOrdersResumed(Value, frozen=True, kw_only=True):
    """These orders' postponed reservations no longer wait for the SKU, which is defined and active.

    For one that waits for no other SKU either, stock is reserved: StockReserved or StockReservationFailed follows, or once more
    StockReservationPostponed.
    """

    sku: Code
    orders: tuple[str, ...]
    at: datetime


@message("oms.inventory.StockReservationExpired.v1", key="order_id")
class StockReservationExpired(Value, frozen=True, kw_only=True):
    """The order was not confirmed in time; its units are available again."""

    order_id: str
    attempt: int
    lines: tuple[AllocatedLine, ...]
    at: datetime


@message("oms.inventory.StockAllocated.v1", key="order_id")
class StockAllocated(Value, frozen=True, kw_only=True):
    """The confirmed order's units are committed to it, without expiry.

    `reserved` tells whether they come out of a reservation; where it had expired they are taken from what is available.
    """

    order_id: str
    lines: tuple[AllocatedLine, ...]
    reserved: bool
    at: datetime


@message("oms.inventory.StockAllocationRequested.v1", key="order_id")
class StockAllocationRequested(Value, frozen=True, kw_only=True):
    """The order was confirmed after its reservation had expired. It is planned anew: StockAllocated or StockReservationFailed follows."""

    order_id: str
    attempt: int
    at: datetime


@message("oms.inventory.StockShipped.v1", key="order_id")
class StockShipped(Value, frozen=True, kw_only=True):
    """A fulfillment's units left the building."""

    order_id: str
    fulfillment_id: str
    lines: tuple[AllocatedLine, ...]
    at: datetime


@message("oms.inventory.StockReleased.v1", key="order_id")
class StockReleased(Value, frozen=True, kw_only=True):
    """Units held for an order that will not ship are available again.

    `stage` is reserved or allocated: where they were held. Or nothing was held, and `lines` is empty: requested, a requested allocation is
    called off; postponed, a postponed reservation is, and `unknown_skus` are those that it still waited for; waiting, the order leaves the
    queues of `missing_skus`, of which it had too few.
    """

    order_id: str
    stage: str
    lines: tuple[AllocatedLine, ...]
    reason: str
    at: datetime
    unknown_skus: tuple[Code, ...] = ()
    missing_skus: tuple[Code, ...] = ()


@message("oms.inventory.StockCommandRefused.v1", key="entry_id")
class StockCommandRefused(Value, frozen=True, kw_only=True):
    """A command about stock is not sound, nothing is booked; `reasons` names every field at fault and why.

    `entry_id` is the id of what it was about: a receipt, adjustment, count, quarantine, release, write-off or transfer, and for limits the
    SKU. `command` is the published type of the command. A mended one may come under the same id.
    """

    entry_id: str
    command: str
    reasons: tuple[str, ...]
    at: datetime


@message("oms.inventory.ReceiveStock.v1", key="receipt_id")
class ReceiveStock(Value, frozen=True, kw_only=True):
    """Book goods in. The same `receipt_id` again has no effect."""

    receipt_id: str
    lines: tuple[StockLine, ...]


@message("oms.inventory.AdjustStock.v1", key="adjustment_id")
class AdjustStock(Value, frozen=True, kw_only=True):
    """Correct on hand by signed quantities. The same `adjustment_id` again has no effect.

    `reason_code` is damaged, lost, stolen or expired (the units are gone: less may be left than is promised), found, correction or other;
    `reason` says it in words. Nothing is adjusted below zero: who finds less than is on hand counts it (CountStock).
    """

    adjustment_id: str
    lines: tuple[StockLine, ...]
    reason: Prose
    reason_code: str = "other"


@message("oms.inventory.CountStock.v1", key="count_id")
class CountStock(Value, frozen=True, kw_only=True):
    """Book what was counted, whatever was on hand. The same `count_id` again has no effect.

    What was promised and is not there any more waits for a person from then on (StockActionRequired).
    """

    count_id: str
    lines: tuple[CountLine, ...]
    reason: Prose = ""


@message("oms.inventory.QuarantineStock.v1", key="quarantine_id")
class QuarantineStock(Value, frozen=True, kw_only=True):
    """Set units apart that are not promised: they are not sold until they are released or written off.

    The same `quarantine_id` again has no effect.
    """

    quarantine_id: str
    location: Code
    lines: tuple[GoodsLine, ...]
    reason: Prose


@message("oms.inventory.ReleaseQuarantine.v1", key="release_id")
class ReleaseQuarantine(Value, frozen=True, kw_only=True):
    """Units that were set apart are sound: they may be sold again. The same `release_id` again has no effect."""

    release_id: str
    location: Code
    lines: tuple[GoodsLine, ...]
    reason: Prose


@message("oms.inventory.WriteOffQuarantine.v1", key="write_off_id")
class WriteOffQuarantine(Value, frozen=True, kw_only=True):
    """Units that were set apart cannot be sold: they go out of stock. The same `write_off_id` again has no effect."""

    write_off_id: str
    location: Code
    lines: tuple[GoodsLine, ...]
    reason: Prose


@message("oms.inventory.TransferStock.v1", key="transfer_id")
class TransferStock(Value, frozen=True, kw_only=True):
    """Units that are not promised leave `from_location`, whose word this is, for `to_location`. The same id again has no effect.

    They are available again where they are received (ReceiveTransfer). What is missing in the end is written off by CloseTransfer.
    """

    transfer_id: str
    from_location: Code
    to_location: Code
    lines: tuple[GoodsLine, ...]
    reason: Prose = ""


@message("oms.inventory.ReceiveTransfer.v1", key="transfer_id")
class ReceiveTransfer(Value, frozen=True, kw_only=True):
    """Units of a transfer arrived at `location`: its destination, or its origin if they came back. They may arrive in parts.

    The same `receipt_id` again has no effect.
    """

    transfer_id: str
    receipt_id: str
    location: Code
    lines: tuple[GoodsLine, ...]


@message("oms.inventory.CloseTransfer.v1", key="transfer_id")
class CloseTransfer(Value, frozen=True, kw_only=True):
    """What has not arrived of a transfer is written off. `location` is one of its two ends, whose word this is."""

    transfer_id: str
    location: Code
    reason: Prose


@message("oms.inventory.SetStockLimits.v1", key="sku")
class SetStockLimits(Value, frozen=True, kw_only=True):
    """The limits of a SKU at a location, or without `location` at every location that has none of its own. They replace those before.

    `safety` units are not promised to anybody; orders that hold units keep them. At `reorder_point` available units or below, stock is low.
    More than `maximum` on hand is excess.
    """

    sku: Code
    location: Code | None = None
    safety: int = 0
    reorder_point: int | None = None
    maximum: int | None = None
