from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from oms_contracts.sscc import check_digit
from oms_contracts.tracking import (
    DeliveryAttemptFailed,
    DeliveryExpected,
    LabelCreated,
    OrderStatusChanged,
    PackageDelivered,
    PackageInTransit,
    PackageLost,
    PackageReturnedToSender,
    RecordScan,
    ScanRecorded,
    TrackedPackage,
    TrackingCommandRefused,
)
from oms_contracts.values import AllocatedLine, Package
from oms_tracking.commands import Command, Event, RecordActionRequired, RecordOrderStatus, RecordRelease, RecordShipment
from oms_tracking.decider import INITIAL, MAX_HELD, MAX_SCANS, Order, decide, decide_for, due, evolve

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=5)


def minute(number: int) -> datetime:
    return NOON + timedelta(minutes=number)


def sscc(serial: int) -> str:
    digits = f"{34012345000000000 + serial:017d}"
    return f"{digits}{check_digit(digits)}"


P1, P2 = sscc(1), sscc(2)


def mugs(quantity: int) -> tuple[AllocatedLine, ...]:
    return (AllocatedLine(line_id="1", sku="MUG", location="BER", quantity=quantity),)


def becomes(status: str, at: int, detail: str | None = None, attempt: int = 1) -> RecordOrderStatus:
    return RecordOrderStatus(order_id="A", status=status, detail=detail, at=minute(at), attempt=attempt)


def asks(action: str, at: int, attempt: int | None = 1) -> RecordActionRequired:
    return RecordActionRequired(order_id="A", action=action, reason="declined", at=minute(at), attempt=attempt)


def release(units: int, at: int = 3) -> RecordRelease:
    return RecordRelease(order_id="A", lines=mugs(units), at=minute(at))


def shipment(*package_ids: str, units: int = 1, at: int = 10) -> RecordShipment:
    packages = tuple(Package(package_id=p, carrier="DHL", tracking_number=f"N{p[-3:]}", lines=mugs(units)) for p in package_ids)
    return RecordShipment(order_id="A", fulfillment_id="A/BER", packages=packages, at=minute(at))


def scan(scan_id: str, status: str, package_id: str = P1, at: datetime = LATER, reason: str = "") -> RecordScan:
    return RecordScan(order_id="A", package_id=package_id, scan_id=scan_id, status=status, at=at, reason=reason)


def run(commands: Sequence[Command]) -> tuple[list[Event], Order]:
    """All events that follow from `commands`, and the order after them."""
    events, order = list[Event](), INITIAL
    for command in commands:
        new = decide(command, order, LATER)
        order = reduce(evolve, new, order)
        events += new
    return events, order


def after(*given: Command, when: Command) -> list[Event]:
    return decide(when, run(given)[1], LATER)


def statuses(*commands: Command) -> list[str]:
    return [event.status for event in run(commands)[0] if isinstance(event, OrderStatusChanged)]


NAMES: dict[str, Any] = {"channel": "web", "channel_reference": "W1", "number": "#1001"}
"""How channel and customer call the order."""


def announced(
    sequence: int, status: str, previous: str | None, at: datetime, detail: str | None = None, *, packages: tuple[TrackedPackage, ...] = ()
) -> list[Event]:
    return [
        OrderStatusChanged(
            order_id="A", sequence=sequence, status=status, previous=previous, detail=detail, at=at, packages=packages, **NAMES
        )
    ]


def tracked(package_id: str, status: str) -> TrackedPackage:
    return TrackedPackage(package_id=package_id, carrier="DHL", tracking_number=f"N{package_id[-3:]}", status=status)


ACCEPTED, CONFIRMED = replace(becomes("accepted", 1), **NAMES), becomes("confirmed", 2)
RELEASED = (ACCEPTED, CONFIRMED, release(2))
SHIPPED = (*RELEASED, shipment(P1, P2))
DELIVERED = (*SHIPPED, scan("1", "delivered"), scan("2", "delivered", P2))


# The public status


def test_every_change_has_the_next_sequence():
    assert run([ACCEPTED, CONFIRMED])[0] == [
        *announced(1, "accepted", None, minute(1)),
        *announced(2, "confirmed", "accepted", minute(2)),
    ]


def test_an_order_passes_through_its_statuses():
    assert statuses(*DELIVERED, becomes("completed", 400)) == [
        "accepted",
        "confirmed",
        "in_fulfillment",
        "shipped",
        "delivered",
        "completed",
    ]


def test_a_release_states_the_units_to_be_delivered():
    expected = DeliveryExpected(order_id="A", units=2, at=minute(3))
    assert after(ACCEPTED, CONFIRMED, when=release(2)) == [expected, *announced(3, "in_fulfillment", "confirmed", minute(3))]


@pytest.mark.parametrize(("action", "status"), [("amend_payment", "awaiting_customer"), ("resolve_stock", "awaiting_stock")])
def test_an_order_waits_for_its_customer_or_for_its_stock(action: str, status: str):
    expected = announced(2, status, "accepted", minute(2), f"{action}: declined")
    assert after(ACCEPTED, when=asks(action, 2)) == expected


def test_an_order_whose_stock_came_goes_on():
    assert statuses(ACCEPTED, asks("resolve_stock", 2), CONFIRMED, release(2)) == [
        "accepted",
        "awaiting_stock",
        "confirmed",
        "in_fulfillment",
    ]
    declined = (ACCEPTED, asks("resolve_stock", 2), asks("amend_payment", 3), becomes("accepted", 4, attempt=2))
    again = (*declined, asks("resolve_stock", 5, attempt=2), CONFIRMED)
    assert statuses(*again)[1:] == ["awaiting_stock", "awaiting_customer", "accepted", "awaiting_stock", "confirmed"]
    for earlier in again:
        assert after(*again, when=earlier) == []


def test_a_confirmed_order_that_is_paid_by_other_means_is_confirmed_again():
    declined = (ACCEPTED, CONFIRMED, asks("resolve_stock", 3), asks("amend_payment", 4), becomes("accepted", 5, attempt=2))
    assert statuses(*declined, asks("resolve_stock", 6, attempt=2), replace(CONFIRMED, at=minute(7)))[2:] == [
        "awaiting_stock",
        "awaiting_customer",
        "accepted",
        "awaiting_stock",
        "confirmed",
    ]


def test_a_confirmation_that_comes_again_does_not_end_the_wait_of_a_confirmed_order():
    assert after(ACCEPTED, CONFIRMED, asks("resolve_stock", 3), when=CONFIRMED) == []


@pytest.mark.parametrize("action", ["define_product", "check_delivery", "investigate"])
def test_an_operators_action_is_not_public(action: str):
    assert after(*SHIPPED, when=asks(action, 20)) == []
    assert after(ACCEPTED, when=asks(action, 2)) == []


def test_an_amended_order_is_accepted_again_and_may_wait_again():
    commands = (
        ACCEPTED,
        asks("amend_payment", 2),
        becomes("accepted", 3, attempt=2),
        asks("amend_payment", 4, attempt=2),
        becomes("accepted", 5, attempt=3),
        becomes("confirmed", 6),
    )
    assert statuses(*commands) == ["accepted", "awaiting_customer", "accepted", "awaiting_customer", "accepted", "confirmed"]
    for earlier in commands:
        assert after(*commands, when=earlier) == []


def test_an_earlier_required_action_or_amendment_that_comes_again_is_late():
    commands = (ACCEPTED, asks("amend_payment", 2), becomes("accepted", 3, attempt=2))
    assert after(*commands, when=asks("amend_payment", 2)) == []
    assert after(*commands, asks("amend_payment", 4, attempt=2), when=becomes("accepted", 3, attempt=2)) == []


def test_attempts_and_not_clocks_distinguish_required_actions_and_amendments():
    commands = (ACCEPTED, asks("amend_payment", 9), becomes("accepted", 4, attempt=2), asks("amend_payment", 3, attempt=2))
    assert statuses(*commands) == ["accepted", "awaiting_customer", "accepted", "awaiting_customer"]


def test_an_old_required_action_without_an_attempt_is_published():
    asked = asks("amend_payment", 2, attempt=None)
    assert statuses(ACCEPTED, asked, becomes("accepted", 3, attempt=2), asked)[1:] == ["awaiting_customer", "accepted", "awaiting_customer"]


def test_a_confirmed_order_may_still_lack_stock():
    assert statuses(ACCEPTED, CONFIRMED, asks("resolve_stock", 3), becomes("expired", 9)) == [
        "accepted",
        "confirmed",
        "awaiting_stock",
        "expired",
    ]


@pytest.mark.parametrize("end", ["canceled", "expired", "completed"])
def test_an_ended_order_stays_as_it_is(end: str):
    given = (*RELEASED, becomes(end, 9, "a reason"))
    assert run(given)[0][-1:] == announced(4, end, "in_fulfillment", minute(9), "a reason")
    for late in (*RELEASED, asks("amend_payment", 10), becomes("canceled", 10), becomes("completed", 10)):
        assert after(*given, when=late) == []


def test_a_rejected_order_is_rejected_until_it_is_corrected():
    rejected, again, accepted = (
        replace(becomes(status, at, detail, attempt), **NAMES)
        for status, at, detail, attempt in (("rejected", 1, "total: is 1", 0), ("rejected", 2, "total: is 2", 0), ("accepted", 3, None, 1))
    )
    assert run([rejected])[0] == announced(1, "rejected", None, minute(1), "total: is 1")
    assert after(rejected, when=rejected) == []
    assert after(rejected, when=again) == []
    assert after(rejected, again, when=accepted) == announced(2, "accepted", "rejected", minute(3))
    for late in (rejected, again, accepted):
        assert after(rejected, again, accepted, when=late) == []


def test_what_was_accepted_may_be_rejected_and_be_accepted_again_once_it_is_corrected():
    commands = (ACCEPTED, becomes("rejected", 2, "lines.sku: is not in the catalogue"), becomes("accepted", 3, attempt=2))
    assert statuses(*commands) == ["accepted", "rejected", "accepted"]
    for late in commands:
        assert after(*commands, when=late) == []
    assert after(*commands[:2], when=ACCEPTED) == []
    assert statuses(*commands, asks("amend_payment", 4, attempt=2), becomes("accepted", 5, attempt=3))[3:] == [
        "awaiting_customer",
        "accepted",
    ]


def test_a_corrected_order_has_the_number_that_it_came_with():
    again = replace(becomes("accepted", 3, attempt=2), channel="web", channel_reference="W1", number="#2")
    (event,) = after(ACCEPTED, becomes("rejected", 2), when=again)
    assert isinstance(event, OrderStatusChanged)
    assert event.number == "#2"


@pytest.mark.parametrize("late", [becomes("canceled", 2), becomes("expired", 2), becomes("completed", 2), becomes("confirmed", 2)])
def test_a_rejected_order_can_become_nothing_but_accepted(late: RecordOrderStatus):
    assert after(becomes("rejected", 1, attempt=0), when=late) == []


def test_a_package_shipped_after_the_end_is_labeled_but_changes_no_status():
    (label,) = after(*RELEASED, becomes("completed", 9), when=shipment(P1))
    assert isinstance(label, LabelCreated)


def test_shipments_and_deliveries_read_before_the_release_are_announced_after_it():
    ahead = (shipment(P1, P2), scan("1", "delivered"), scan("2", "delivered", P2))
    assert statuses(*ahead) == []
    assert statuses(*ahead, *RELEASED) == statuses(*DELIVERED)


def test_the_second_fulfillment_changes_no_status():
    events = after(*RELEASED, shipment(P1), when=shipment(P2))
    assert [type(event) for event in events] == [LabelCreated]


def test_an_order_is_delivered_with_its_last_unit():
    first = after(*SHIPPED, when=scan("1", "delivered"))
    assert [type(event) for event in first] == [PackageDelivered]
    second = after(*SHIPPED, scan("1", "delivered"), when=scan("2", "delivered", P2))
    both = tracked(P1, "delivered"), tracked(P2, "delivered")
    assert second[1:] == announced(5, "delivered", "shipped", LATER, packages=both)


def test_an_order_is_delivered_at_its_newest_delivery_whichever_scan_came_first():
    early = scan("1", "delivered", at=LATER - timedelta(hours=1))
    for scans in ((early, scan("2", "delivered", P2)), (scan("2", "delivered", P2), early)):
        both = tracked(P1, "delivered"), tracked(P2, "delivered")
        assert run([*SHIPPED, *scans])[0][-1:] == announced(5, "delivered", "shipped", LATER, packages=both)


# Packages


def test_a_shipped_package_is_labeled_once():
    label = LabelCreated(
        order_id="A",
        package_id=P1,
        fulfillment_id="A/BER",
        carrier="DHL",
        tracking_number=f"N{P1[-3:]}",
        lines=mugs(2),
        at=minute(10),
    )
    assert after(*RELEASED, when=shipment(P1, units=2)) == [
        label,
        *announced(4, "shipped", "in_fulfillment", minute(10), packages=(tracked(P1, "label_created"),)),
    ]
    assert after(*RELEASED, shipment(P1, units=2), when=shipment(P1, units=2)) == []


def test_a_scan_changes_the_status_of_its_package():
    seen = LATER - timedelta(hours=1)
    assert after(*SHIPPED, when=scan("1", "in_transit", at=seen)) == [
        PackageInTransit(order_id="A", package_id=P1, at=seen, scan_id="1"),
    ]


def test_the_same_scan_again_has_no_effect():
    assert after(*SHIPPED, scan("1", "in_transit"), when=scan("1", "in_transit")) == []
    assert after(*SHIPPED, scan("2", "delivered"), scan("1", "in_transit"), when=scan("1", "in_transit")) == []


@pytest.mark.parametrize(
    ("before", "late"),
    [
        ("in_transit", "in_transit"),
        ("out_for_delivery", "in_transit"),
        ("attempt_failed", "out_for_delivery"),
        ("delivered", "delivered"),
        ("delivered", "attempt_failed"),
        ("delivered", "lost"),
        ("delivered", "returned_to_sender"),
    ],
)
def test_a_late_scan_is_recorded_and_changes_no_status(before: str, late: str):
    events = after(*SHIPPED, scan("1", before), when=scan("2", late))
    assert events == [ScanRecorded(order_id="A", package_id=P1, scan_id="2", status=late, at=LATER)]
    _, order = run([*SHIPPED, scan("1", before), scan("2", late)])
    assert order.parcels[P1].status == before


def test_a_lost_package_may_still_be_delivered():
    lost = after(*SHIPPED, when=scan("1", "lost"))
    assert lost == [PackageLost(order_id="A", package_id=P1, at=LATER, scan_id="1")]
    found = after(*SHIPPED, scan("1", "lost"), when=scan("2", "delivered"))
    assert found == [PackageDelivered(order_id="A", package_id=P1, lines=mugs(1), at=LATER, scan_id="2")]


def test_a_package_may_come_back():
    came_back = after(*SHIPPED, when=scan("1", "returned_to_sender"))
    assert came_back == [PackageReturnedToSender(order_id="A", package_id=P1, at=LATER, scan_id="1")]


def test_a_carriers_local_time_is_kept_as_utc():
    berlin = timedelta(hours=1)
    local = datetime.fromisoformat("2026-11-23T17:30:00+01:00")
    (event,) = after(*SHIPPED, when=scan("1", "in_transit", at=local))
    assert isinstance(event, PackageInTransit)
    assert (event.at.tzinfo, event.at.replace(tzinfo=None)) == (UTC, local.replace(tzinfo=None) - berlin)


def test_a_scan_of_an_unknown_package_is_held_until_the_package_is_known():
    early = scan("1", "attempt_failed", reason="nobody home")
    held = ScanRecorded(order_id="A", package_id=P1, scan_id="1", status="attempt_failed", at=LATER, reason="nobody home")
    assert after(*RELEASED, when=early) == [held]
    label, moved, *_ = after(*RELEASED, early, scan("2", "in_transit"), when=shipment(P1))
    assert isinstance(label, LabelCreated)
    assert moved == DeliveryAttemptFailed(order_id="A", package_id=P1, reason="nobody home", at=LATER, scan_id="1")
    assert after(*RELEASED, early, shipment(P1), when=early) == []


def test_a_package_held_as_delivered_delivers_the_order():
    assert statuses(*RELEASED[:2], release(1), scan("1", "delivered"), shipment(P1))[-2:] == ["shipped", "delivered"]


def refusal(scan_id: str, reason: str, package_id: str = P1) -> TrackingCommandRefused:
    return TrackingCommandRefused(
        order_id="A", package_id=package_id, scan_id=scan_id, command="oms.tracking.RecordScan.v1", reason=reason, at=LATER
    )


@pytest.mark.parametrize(
    ("when", "refused"),
    [
        (
            scan("1", "teleported"),
            refusal(
                "1",
                "status: 'teleported' is none of in_transit, out_for_delivery, attempt_failed, lost, returned_to_sender, delivered",
            ),
        ),
        (scan("", "lost"), refusal("", "scan_id: must have 1 to 200 characters")),
        (scan("1", "lost", reason="x" * 201), refusal("1", "reason: must not have more than 200 characters")),
        (
            scan("1", "lost", P1[:-1]),
            refusal("1", "package_id: is not an SSCC: 18 digits, the last the check digit of the others", P1[:-1]),
        ),
        (scan("1", "lost", at=LATER.replace(tzinfo=None)), refusal("1", "at: has no time zone")),
        (
            scan("1", "lost", at=LATER + timedelta(days=2)),
            refusal("1", "at: 2026-11-25T17:00:00+00:00 lies more than a day ahead, or more than a year back"),
        ),
    ],
)
def test_an_invalid_scan_is_refused(when: RecordScan, refused: TrackingCommandRefused):
    assert after(*SHIPPED, when=when) == [refused]
    assert after(*SHIPPED, when, when=when) == []


def test_the_number_of_unknown_packages_of_an_order_is_limited():
    waiting = [scan("1", "in_transit", sscc(serial)) for serial in range(MAX_HELD)]
    (refused,) = after(*waiting, when=scan("1", "in_transit", sscc(MAX_HELD)))
    assert isinstance(refused, TrackingCommandRefused)
    assert refused.reason == "package_id: not known, and 100 others of the order are waited for already"
    (recorded,) = after(*waiting, when=scan("2", "in_transit", sscc(0)))
    assert isinstance(recorded, ScanRecorded)


def test_a_package_remembers_only_its_newest_scans():
    _, order = run([*SHIPPED, *(scan(str(number), "in_transit") for number in range(3 * MAX_SCANS))])
    assert order.parcels[P1].scan_ids == tuple(str(number) for number in range(2 * MAX_SCANS, 3 * MAX_SCANS))


def test_tracking_has_no_deadlines():
    assert due("A", run(SHIPPED)[1]) is None


def test_a_stored_state_is_read_back_unchanged():
    _, order = run([*DELIVERED, scan("9", "lost", sscc(9)), scan("", "lost")])
    assert msgspec.json.decode(msgspec.json.encode(order), type=Order) == order


def scanned_by(carrier: str, order: Order, *scans: RecordScan) -> tuple[list[Event], Order]:
    events: list[Event] = []
    for each in scans:
        made = decide_for(carrier, each, order, LATER)
        order = reduce(evolve, made, order)
        events += made
    return events, order


def test_a_package_that_another_carries_does_not_exist_for_a_carrier():
    _, order = run(SHIPPED)
    [refused], _ = scanned_by("UPS", order, scan("1", "delivered"))
    assert isinstance(refused, TrackingCommandRefused)
    assert refused.reason == "package_id: the package is not known"
    [delivered], _ = scanned_by("DHL", order, scan("1", "delivered"))
    assert isinstance(delivered, PackageDelivered)


def test_what_another_carrier_says_of_a_package_before_it_is_known_never_counts_and_stands_in_nobodys_way():
    _, order = run(RELEASED)
    _, order = scanned_by("UPS", order, scan("1", "delivered"), scan("2", "lost"))
    events, order = scanned_by("DHL", order, scan("1", "in_transit"), scan("1", "in_transit"))
    assert [type(event) for event in events] == [ScanRecorded]

    made = decide(shipment(P1, P2), order, LATER)
    assert [type(event) for event in made[:3]] == [LabelCreated, PackageInTransit, LabelCreated]
    order = reduce(evolve, made, order)
    assert order.parcels[P1].scan_ids == ("1",)
    assert scanned_by("DHL", order, scan("1", "in_transit"))[0] == []


def test_each_carrier_has_room_of_its_own_for_packages_that_are_not_known_yet():
    _, order = run(RELEASED)
    _, order = scanned_by("UPS", order, *(scan("1", "lost", sscc(1_000 + n)) for n in range(MAX_HELD)))
    [refused], order = scanned_by("UPS", order, scan("1", "lost", P1))
    assert isinstance(refused, TrackingCommandRefused)
    [held], _ = scanned_by("DHL", order, scan("1", "lost", P1))
    assert isinstance(held, ScanRecorded)
