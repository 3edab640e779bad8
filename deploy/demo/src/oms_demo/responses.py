"""How a warehouse, a carrier and customers with returns respond to events: pure functions from an event to commands."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any

from oms_contracts.fulfillments import AcceptFulfillment, FulfillmentPlanned, PackPackage, PickItems, ShipFulfillment
from oms_contracts.parties import user_of
from oms_contracts.returns import InspectReturn, ReceiveReturnItems, RequestReturn, ReturnApproved, ReturnRequested, ReturnWindowOpened
from oms_contracts.sscc import check_digit
from oms_contracts.tracking import LabelCreated, RecordScan
from oms_contracts.values import InspectedLine, ReturnLine

Response = Callable[[Any], Iterable[Any]]
"""The commands that follow from an event."""
ORDERS_PER_RETURN = 20
"""One order in so many sends a unit of its first line back."""
LOCATIONS = ("north", "south", "west")
CARRIER = "demo-post"


def warehouse(event: FulfillmentPlanned) -> Iterator[Any]:
    """Accept, pick, pack in one parcel, ship."""
    ids = {"order_id": event.order_id, "fulfillment_id": event.fulfillment_id}
    number = f"{_number(event.fulfillment_id):017}"
    yield AcceptFulfillment(**ids)
    yield PickItems(**ids)
    yield PackPackage(**ids, package_id=f"{number}{check_digit(number)}", lines=event.lines)
    yield ShipFulfillment(**ids, carrier=CARRIER, tracking_numbers=(f"DP{number}",))


def carrier(event: LabelCreated) -> Iterator[Any]:
    """Take the parcel and deliver it; one in ten at the second attempt."""
    statuses = ["in_transit", "out_for_delivery", "delivered"]
    if _number(event.package_id) % 10 == 0:
        statuses.insert(2, "attempt_failed")
    for step, status in enumerate(statuses, 1):
        yield RecordScan(
            order_id=event.order_id,
            package_id=event.package_id,
            scan_id=f"{event.package_id}-{step}",
            status=status,
            at=event.at + timedelta(milliseconds=step),
            reason="nobody was at home" if status == "attempt_failed" else "",
        )


def at_location(location: str, event: FulfillmentPlanned) -> Iterator[Any]:
    """What the warehouse of one location does."""
    return warehouse(event) if event.location == location else iter(())


class Returns:
    """Customers, or the returns desk. It keeps what customers send back, because an approval names the return alone."""

    def __init__(self, location: str = LOCATIONS[0]) -> None:
        self._location = location
        self._skus: dict[str, dict[str, str]] = {}
        self._lines: dict[str, tuple[ReturnLine, ...]] = {}

    def opened(self, event: ReturnWindowOpened) -> Iterator[Any]:
        """One order in `ORDERS_PER_RETURN` asks to return one unit of its first line."""
        if _number(event.order_id) % ORDERS_PER_RETURN == 0:
            return_id = f"{event.order_id}-R1"
            self._skus[return_id] = {line.line_id: line.sku for line in event.lines}
            lines = (ReturnLine(line_id=event.lines[0].line_id, quantity=1),)
            yield RequestReturn(order_id=event.order_id, return_id=return_id, lines=lines)

    def expected(self, event: ReturnWindowOpened) -> Iterator[Any]:
        """No command: the desk keeps what customers may ask to return."""
        return iter([*self.opened(event)][:0])

    def requested(self, event: ReturnRequested) -> Iterator[Any]:
        """No command yet; the lines are kept for the approval."""
        if event.return_id in self._skus:
            self._lines[event.return_id] = event.lines
        return iter(())

    def approved(self, event: ReturnApproved) -> Iterator[Any]:
        """The goods arrive and are inspected: one return in four is not fit to be sold again."""
        if event.return_id not in self._lines:
            return
        lines, skus = self._lines[event.return_id], self._skus[event.return_id]
        ids = {"order_id": event.order_id, "return_id": event.return_id}
        yield ReceiveReturnItems(**ids, receipt_id=f"{event.return_id}-1", location=self._location, lines=lines)
        disposition = "write-off" if _number(event.return_id) % 4 == 0 else "restock"
        yield InspectReturn(
            **ids,
            lines=tuple(
                InspectedLine(line_id=line.line_id, sku=skus[line.line_id], quantity=line.quantity, disposition=disposition)
                for line in lines
            ),
        )


def make_responses() -> dict[type[Any], Response]:
    """The response to each class of event, whoever gives it."""
    returns = Returns()
    return {
        FulfillmentPlanned: warehouse,
        LabelCreated: carrier,
        ReturnWindowOpened: returns.opened,
        ReturnRequested: returns.requested,
        ReturnApproved: returns.approved,
    }


def responses_by_user(locations: Sequence[str] = LOCATIONS) -> dict[str, dict[type[Any], Response]]:
    """The same by broker user. All returns arrive at the first location. The operator asks for them: no party may."""
    customers, desk = Returns(), Returns(locations[0])
    responses: dict[str, dict[type[Any], Response]] = {
        user_of("warehouse", location): {FulfillmentPlanned: partial(at_location, location)} for location in locations
    }
    responses[user_of("warehouse", locations[0])] |= {
        ReturnWindowOpened: desk.expected,
        ReturnRequested: desk.requested,
        ReturnApproved: desk.approved,
    }
    responses[user_of("carrier", CARRIER)] = {LabelCreated: carrier}
    responses["operator"] = {ReturnWindowOpened: customers.opened}
    return responses


def _number(text: str) -> int:
    """A number of at most 17 digits, the same for the same text."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") % 10**17
