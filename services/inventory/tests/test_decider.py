from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from oms_contracts.stock import (
    AdjustStock,
    ReceiveStock,
    StockAdjusted,
    StockAllocated,
    StockAllocationRequested,
    StockCommandRefused,
    StockQuarantined,
    StockReceived,
    StockReleased,
    StockReservationExpired,
    StockReservationFailed,
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
)
from oms_contracts.values import AllocatedLine, InspectedLine, Shortage, StockLine, WantedLine
from oms_inventory.commands import (
    AllocateStock,
    BookReturn,
    Command,
    Event,
    ExpireReservation,
    PlanAllocation,
    ReleaseReservation,
    ReleaseStock,
    ReserveStock,
    ShipStock,
)
from oms_inventory.decider import State, decide, due, evolve, initial, reads, writes
from oms_inventory.ledger import Entry
from oms_inventory.positions import Bin, Position
from oms_inventory.reservations import NotAllocated, Reservation, Terms
from oms_inventory.validation import MAX_LINES, MAX_UNITS

RECEIVE, ADJUST = "oms.inventory.ReceiveStock.v1", "oms.inventory.AdjustStock.v1"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=2)
TERMS = Terms(reservation_timeout=timedelta(hours=2))


def stock(sku: str, location: str, quantity: int) -> StockLine:
    return StockLine(sku=sku, location=location, quantity=quantity)


def want(line_id: str, sku: str, quantity: int) -> WantedLine:
    return WantedLine(line_id=line_id, sku=sku, quantity=quantity)


def take(line_id: str, sku: str, location: str, quantity: int) -> AllocatedLine:
    return AllocatedLine(line_id=line_id, sku=sku, location=location, quantity=quantity)


def received(*lines: StockLine) -> StockReceived:
    return StockReceived(receipt_id="R", lines=lines, at=NOON)


def reserve(*lines: WantedLine, order_id: str = "O", attempt: int = 1, location: str | None = None) -> ReserveStock:
    return ReserveStock(order_id=order_id, attempt=attempt, lines=lines, location=location)


def fails(missing: tuple[Shortage, ...], when: ReserveStock | PlanAllocation, *, attempt: int = 1) -> StockReservationFailed:
    """The order waits for what is missing."""
    return StockReservationFailed(
        order_id=when.order_id,
        attempt=attempt,
        shortages=missing,
        at=NOON,
        lines=when.lines,
        location=when.location,
        waiting_since=NOON,
        confirmed=isinstance(when, PlanAllocation),
    )


def reserved(*lines: AllocatedLine, order_id: str = "O", attempt: int = 1) -> StockReserved:
    return StockReserved(order_id=order_id, attempt=attempt, lines=lines, expires_at=LATER, at=NOON)


def expired(*lines: AllocatedLine) -> StockReservationExpired:
    return StockReservationExpired(order_id="O", attempt=1, lines=lines, at=NOON)


def allocated(*lines: AllocatedLine) -> StockAllocated:
    return StockAllocated(order_id="O", lines=lines, reserved=True, at=NOON)


def shipped(fulfillment_id: str, *lines: AllocatedLine) -> StockShipped:
    return StockShipped(order_id="O", fulfillment_id=fulfillment_id, lines=lines, at=NOON)


def released(stage: str, *lines: AllocatedLine) -> StockReleased:
    return StockReleased(order_id="O", stage=stage, lines=lines, reason="canceled", at=NOON)


REQUESTED = StockAllocationRequested(order_id="O", attempt=1, at=NOON)
CANCEL = ReleaseStock(order_id="O", reason="canceled")
DECLINE = ReleaseReservation(order_id="O", attempt=1, action="amend_payment", reason="declined")
ALLOCATE = AllocateStock(order_id="O")
MUG, SPOON = take("1", "MUG", "BER", 2), take("2", "SPOON", "BER", 1)
PLENTY = received(stock("MUG", "BER", 9), stock("SPOON", "BER", 9))


def fold(events: Iterable[Event]) -> dict[str, State]:
    states: dict[str, State] = {}
    for event in events:
        for key in writes(event):
            states[key] = evolve(states.get(key, initial(key)), event, key)
    return states


def outcome(*, given: list[Event], when: Command) -> list[Event]:
    """The events that follow from `when`, decided on the states it reads and no others."""
    states = fold(given)
    return decide(when, {key: states.get(key, initial(key)) for key in reads(when, TERMS)}, NOON, TERMS)


def position(sku: str, events: list[Event]) -> dict[str, Bin]:
    state = fold(events).get(f"sku/{sku}", Position())
    assert isinstance(state, Position)
    return state.bins


class TestReserving:
    def test_an_order_is_reserved_for_two_hours(self):
        assert outcome(given=[PLENTY], when=reserve(want("1", "MUG", 2), want("2", "SPOON", 1))) == [reserved(MUG, SPOON)]

    def test_demand_of_two_lines_of_one_sku_is_summed(self):
        given: list[Event] = [received(stock("MUG", "BER", 3))]
        when = reserve(want("1", "MUG", 2), want("2", "MUG", 2))
        assert outcome(given=given, when=when) == [fails((Shortage(sku="MUG", requested=4, available=3),), when)]

    def test_it_is_all_or_nothing_and_every_sku_that_falls_short_is_named(self):
        given: list[Event] = [received(stock("MUG", "BER", 9), stock("SPOON", "BER", 1), stock("SPOON", "MUC", 1))]
        when = reserve(want("1", "MUG", 1), want("2", "SPOON", 3), want("3", "FORK", 1))
        missing = (Shortage(sku="SPOON", requested=3, available=2), Shortage(sku="FORK", requested=1, available=0))
        assert outcome(given=given, when=when) == [fails(missing, when)]

    def test_units_held_for_others_are_not_available(self):
        given: list[Event] = [received(stock("MUG", "BER", 3)), reserved(take("1", "MUG", "BER", 2), order_id="OTHER")]
        when = reserve(want("1", "MUG", 2))
        assert outcome(given=given, when=when) == [fails((Shortage(sku="MUG", requested=2, available=1),), when)]

    def test_a_shortfall_at_one_location_does_not_reduce_what_another_has(self):
        given: list[Event] = [
            received(stock("MUG", "BER", 3), stock("MUG", "MUC", 2)),
            reserved(take("1", "MUG", "BER", 3), order_id="OTHER"),
            StockAdjusted(adjustment_id="A", lines=(stock("MUG", "BER", -2),), reason="count", at=NOON),
        ]
        assert outcome(given=given, when=reserve(want("1", "MUG", 2))) == [reserved(take("1", "MUG", "MUC", 2))]

    def test_the_same_attempt_again_changes_nothing(self):
        assert outcome(given=[PLENTY, reserved(MUG)], when=reserve(want("1", "MUG", 2))) == []

    def test_a_failed_attempt_again_changes_nothing_even_if_stock_has_arrived(self):
        failed = StockReservationFailed(order_id="O", attempt=1, shortages=(), at=NOON)
        assert outcome(given=[failed, PLENTY], when=reserve(want("1", "MUG", 2))) == []

    def test_after_a_declined_payment_the_next_attempt_reserves_again(self):
        given: list[Event] = [PLENTY, reserved(MUG), released("reserved", MUG)]
        assert outcome(given=given, when=reserve(want("1", "MUG", 2), attempt=2)) == [reserved(MUG, attempt=2)]
        assert outcome(given=given, when=reserve(want("1", "MUG", 2), attempt=1)) == []

    @pytest.mark.parametrize("last", [reserved(MUG), allocated(MUG), shipped("O/BER", MUG)])
    def test_an_order_never_holds_its_units_twice(self, last: Event):
        assert outcome(given=[PLENTY, reserved(MUG), last], when=reserve(want("1", "MUG", 2), attempt=2)) == []


class TestExpiry:
    def test_a_reservation_is_due_to_expire(self):
        reservation = fold([reserved(MUG)])["O"]
        assert due("O", reservation, TERMS) == (LATER, ExpireReservation(order_id="O", attempt=1))

    def test_an_expired_reservation_releases_its_units(self):
        given: list[Event] = [PLENTY, reserved(MUG)]
        assert outcome(given=given, when=ExpireReservation(order_id="O", attempt=1)) == [expired(MUG)]
        assert position("MUG", [*given, expired(MUG)]) == {"BER": Bin(on_hand=9)}

    @pytest.mark.parametrize(
        "after", [expired(MUG), allocated(MUG), released("reserved", MUG), reserved(MUG, attempt=2)], ids=lambda e: type(e).__name__
    )
    def test_a_deadline_that_comes_late_changes_nothing(self, after: Event):
        assert outcome(given=[PLENTY, reserved(MUG), after], when=ExpireReservation(order_id="O", attempt=1)) == []

    @pytest.mark.parametrize(
        "after", [expired(MUG), allocated(MUG), released("reserved", MUG), shipped("O/BER", MUG)], ids=lambda e: type(e).__name__
    )
    def test_nothing_else_is_due(self, after: Event):
        assert due("O", fold([reserved(MUG), after])["O"], TERMS) is None

    def test_positions_and_entries_do_nothing_by_themselves(self):
        assert [due(key, state, TERMS) for key, state in fold([PLENTY]).items()] == [None, None, None]


class TestAllocating:
    def test_a_confirmed_order_is_allocated_what_was_reserved(self):
        given: list[Event] = [PLENTY, reserved(MUG, SPOON)]
        assert outcome(given=given, when=ALLOCATE) == [allocated(MUG, SPOON)]
        assert position("MUG", [*given, allocated(MUG, SPOON)]) == {"BER": Bin(on_hand=9, allocated=2)}

    def test_if_the_reservation_had_expired_the_order_is_planned_at_once(self):
        given: list[Event] = [PLENTY, reserved(MUG, SPOON), expired(MUG, SPOON)]
        assert outcome(given=given, when=ALLOCATE) == [REQUESTED]
        assert due("O", fold([*given, REQUESTED])["O"], TERMS) == (
            NOON,
            PlanAllocation(order_id="O", attempt=1, lines=(want("1", "MUG", 2), want("2", "SPOON", 1)), location="BER"),
        )

    def test_planning_again_merges_a_split_line(self):
        split = (take("1", "MUG", "BER", 2), take("1", "MUG", "MUC", 1), take("2", "MUG", "MUC", 4))
        found = due("O", fold([reserved(*split), expired(*split), REQUESTED])["O"], TERMS)
        assert found is not None
        assert found[1] == PlanAllocation(order_id="O", attempt=1, lines=(want("1", "MUG", 3), want("2", "MUG", 4)), location="BER")

    def test_planning_again_takes_what_is_available(self):
        given: list[Event] = [PLENTY, reserved(MUG), expired(MUG), REQUESTED]
        when = PlanAllocation(order_id="O", attempt=1, lines=(want("1", "MUG", 2),), location="BER")
        now_allocated = StockAllocated(order_id="O", lines=(MUG,), reserved=False, at=NOON)
        assert outcome(given=given, when=when) == [now_allocated]
        assert position("MUG", [*given, now_allocated]) == {"BER": Bin(on_hand=9, allocated=2)}
        assert outcome(given=[*given, now_allocated], when=when) == []

    def test_planning_again_fails_if_there_is_not_enough(self):
        given: list[Event] = [
            received(stock("MUG", "BER", 3)),
            reserved(MUG),
            expired(MUG),
            reserved(MUG, order_id="OTHER"),
            REQUESTED,
        ]
        when = PlanAllocation(order_id="O", attempt=1, lines=(want("1", "MUG", 2),), location="BER")
        failed = fails((Shortage(sku="MUG", requested=2, available=1),), when)
        assert outcome(given=given, when=when) == [failed]
        assert outcome(given=[*given, failed], when=when) == []
        assert outcome(given=[*given, failed], when=ALLOCATE) == []

    @pytest.mark.parametrize(
        "given",
        [[], [REQUESTED], [reserved(MUG), allocated(MUG)], [reserved(MUG), released("reserved", MUG)]],
        ids=["unknown", "requested", "allocated", "released"],
    )
    def test_a_confirmation_that_is_late_or_repeated_changes_nothing(self, given: list[Event]):
        assert outcome(given=given, when=ALLOCATE) == []


class TestReleasing:
    def test_a_declined_payment_releases_the_units(self):
        given: list[Event] = [PLENTY, reserved(MUG)]
        back = StockReleased(order_id="O", stage="reserved", lines=(MUG,), reason="declined", at=NOON)
        assert outcome(given=given, when=DECLINE) == [back]
        assert position("MUG", [*given, back]) == {"BER": Bin(on_hand=9)}
        assert outcome(given=[*given, back], when=DECLINE) == []

    @pytest.mark.parametrize("action", ["resolve_stock", "check_delivery", "investigate"])
    def test_no_other_action_releases_them(self, action: str):
        assert outcome(given=[PLENTY, reserved(MUG)], when=replace(DECLINE, action=action)) == []

    def test_a_decline_of_an_earlier_attempt_changes_nothing(self):
        given: list[Event] = [PLENTY, reserved(MUG), released("reserved", MUG), reserved(MUG, attempt=2)]
        assert outcome(given=given, when=DECLINE) == []

    def test_a_decline_without_an_attempt_belongs_to_the_newest(self):
        assert outcome(given=[PLENTY, reserved(MUG)], when=replace(DECLINE, attempt=None)) == outcome(
            given=[PLENTY, reserved(MUG)], when=DECLINE
        )

    @pytest.mark.parametrize(
        ("since", "stage", "held"),
        [([allocated(MUG)], "allocated", (MUG,)), ([expired(MUG), REQUESTED], "requested", ())],
        ids=["allocated", "requested"],
    )
    def test_an_authorization_that_is_not_renewed_releases_what_a_confirmed_order_has(
        self, since: list[Event], stage: str, held: tuple[AllocatedLine, ...]
    ):
        given: list[Event] = [PLENTY, reserved(MUG), *since]
        back = replace(released(stage, *held), reason="declined")
        assert outcome(given=given, when=DECLINE) == [back]
        assert position("MUG", [*given, back]) == {"BER": Bin(on_hand=9)}
        assert outcome(given=[*given, back], when=DECLINE) == []

    def test_an_order_that_ends_releases_its_reservation(self):
        assert outcome(given=[PLENTY, reserved(MUG)], when=CANCEL) == [released("reserved", MUG)]

    def test_an_order_that_ends_releases_its_allocation(self):
        given: list[Event] = [PLENTY, reserved(MUG), allocated(MUG)]
        assert outcome(given=given, when=CANCEL) == [released("allocated", MUG)]
        assert position("MUG", [*given, released("allocated", MUG)]) == {"BER": Bin(on_hand=9)}

    def test_an_order_that_ends_cancels_the_allocation_it_requested(self):
        given: list[Event] = [PLENTY, reserved(MUG), expired(MUG), REQUESTED]
        assert outcome(given=given, when=CANCEL) == [released("requested")]
        assert due("O", fold([*given, released("requested")])["O"], TERMS) is None
        assert position("MUG", [*given, released("requested")]) == {"BER": Bin(on_hand=9)}
        for late in (PlanAllocation(order_id="O", attempt=1, lines=(want("1", "MUG", 2),), location=None), ALLOCATE):
            assert outcome(given=[*given, released("requested")], when=late) == []

    @pytest.mark.parametrize(
        "given",
        [
            [],
            [reserved(MUG), expired(MUG)],
            [reserved(MUG), released("reserved", MUG)],
            [reserved(MUG), allocated(MUG), shipped("O/BER", MUG)],
        ],
        ids=["unknown", "expired", "released", "shipped"],
    )
    def test_an_order_that_holds_nothing_releases_nothing(self, given: list[Event]):
        assert outcome(given=given, when=CANCEL) == []


class TestShipping:
    ELSEWHERE = take("2", "SPOON", "MUC", 1)

    def test_each_fulfillment_ships_once(self):
        given: list[Event] = [PLENTY, reserved(MUG, self.ELSEWHERE), allocated(MUG, self.ELSEWHERE)]
        first = ShipStock(order_id="O", fulfillment_id="O/BER", lines=(MUG,))
        assert outcome(given=given, when=first) == [shipped("O/BER", MUG)]
        given.append(shipped("O/BER", MUG))
        assert position("MUG", given) == {"BER": Bin(on_hand=7)}
        assert outcome(given=given, when=first) == []
        second = ShipStock(order_id="O", fulfillment_id="O/MUC", lines=(self.ELSEWHERE,))
        assert outcome(given=given, when=second) == [shipped("O/MUC", self.ELSEWHERE)]
        assert fold([*given, shipped("O/MUC", self.ELSEWHERE)])["O"] == Reservation(
            status="shipped", attempt=1, shipped=frozenset({"O/BER", "O/MUC"}), was_reserved=True
        )

    def test_a_line_packed_in_two_packages_ships_as_one_line(self):
        packages = (take("1", "MUG", "BER", 1), SPOON, take("1", "MUG", "BER", 1))
        given: list[Event] = [PLENTY, reserved(MUG, SPOON), allocated(MUG, SPOON)]
        assert outcome(given=given, when=ShipStock(order_id="O", fulfillment_id="O/BER", lines=packages)) == [shipped("O/BER", MUG, SPOON)]

    def test_the_unshipped_units_of_an_order_that_ends_are_released(self):
        given: list[Event] = [PLENTY, reserved(MUG), allocated(MUG), shipped("O/BER", take("1", "MUG", "BER", 1))]
        assert outcome(given=given, when=CANCEL) == [released("allocated", take("1", "MUG", "BER", 1))]

    @pytest.mark.parametrize(
        "given",
        [[], [reserved(MUG)], [reserved(MUG), expired(MUG)], [reserved(SPOON), allocated(SPOON)], [reserved(MUG), allocated(MUG)]],
        ids=["unknown", "reserved", "expired", "other units", "too many"],
    )
    def test_shipping_what_the_order_does_not_hold_is_an_error(self, given: list[Event]):
        with pytest.raises(NotAllocated, match="O/BER"):
            outcome(given=given, when=ShipStock(order_id="O", fulfillment_id="O/BER", lines=(take("1", "MUG", "BER", 3),)))


class TestReceipts:
    RECEIPT = ReceiveStock(receipt_id="R", lines=(stock("MUG", "BER", 5), stock("MUG", "BER", 1), stock("MUG", "MUC", 2)))

    def test_a_receipt_is_booked_once(self):
        booked = received(*self.RECEIPT.lines)
        assert outcome(given=[], when=self.RECEIPT) == [booked]
        assert position("MUG", [booked]) == {"BER": Bin(on_hand=6), "MUC": Bin(on_hand=2)}
        assert outcome(given=[booked], when=self.RECEIPT) == []

    def test_an_invalid_receipt_is_refused_once_and_may_be_sent_again_corrected(self):
        bad = ReceiveStock(
            receipt_id="R", lines=(stock(" ", "BER", 0), stock("MUG", "", -3), stock("M\0", "B" * 201, 1), stock("MUG", "BER", 10**10))
        )
        refused = StockCommandRefused(
            entry_id="R",
            command=RECEIVE,
            reasons=(
                "lines.0.sku: must not be empty",
                "lines.0.quantity: must be at least 1, is 0",
                "lines.1.location: must not be empty",
                "lines.1.quantity: must be at least 1, is -3",
                "lines.2.sku: must be at most 200 printable characters",
                "lines.2.location: must be at most 200 printable characters",
                f"lines.3.quantity: must be at most {MAX_UNITS}",
            ),
            at=NOON,
        )
        assert outcome(given=[], when=bad) == [refused]
        assert outcome(given=[refused], when=bad) == []
        assert outcome(given=[refused], when=self.RECEIPT) == [received(*self.RECEIPT.lines)]
        assert fold([refused, received(*self.RECEIPT.lines)])["receipt/R"] == Entry(booked=True)

    def test_a_receipt_has_an_id_and_lines_and_not_too_many(self):
        too_many = ReceiveStock(receipt_id="", lines=(stock("", "", 0),) * (MAX_LINES + 1))
        (refused,) = outcome(given=[], when=too_many)
        assert isinstance(refused, StockCommandRefused)
        assert refused.reasons == ("receipt_id: must not be empty", "lines: there must be 1 to 1000 lines, there are 1001")
        (refused,) = outcome(given=[], when=ReceiveStock(receipt_id="R", lines=()))
        assert isinstance(refused, StockCommandRefused)
        assert refused.reasons == ("lines: there must be 1 to 1000 lines, there are 0",)


class TestAdjustments:
    def test_on_hand_is_corrected_once(self):
        when = AdjustStock(adjustment_id="A", lines=(stock("MUG", "BER", -2), stock("MUG", "MUC", 1)), reason="count")
        adjusted = StockAdjusted(adjustment_id="A", lines=when.lines, reason="count", at=NOON)
        assert outcome(given=[PLENTY], when=when) == [adjusted]
        assert position("MUG", [PLENTY, adjusted]) == {"BER": Bin(on_hand=7), "MUC": Bin(on_hand=1)}
        assert outcome(given=[PLENTY, adjusted], when=when) == []

    def test_an_adjustment_without_a_reason_or_a_quantity_is_refused(self):
        (refused,) = outcome(given=[], when=AdjustStock(adjustment_id="A", lines=(stock("MUG", "BER", 0),), reason=" "))
        reasons = ("reason: must not be empty", "lines.0.quantity: must not be 0")
        assert refused == StockCommandRefused(entry_id="A", command=ADJUST, reasons=reasons, at=NOON)
        assert writes(refused) == ["adjustment/A"]

    def test_a_receipt_and_an_adjustment_may_have_the_same_id(self):
        when = AdjustStock(adjustment_id="R", lines=(stock("MUG", "BER", 1),), reason="count")
        assert len(outcome(given=[PLENTY], when=when)) == 1


class TestReturns:
    UNDAMAGED = InspectedLine(line_id="1", sku="MUG", quantity=2, disposition="restock")
    BROKEN = InspectedLine(line_id="1", sku="MUG", quantity=1, disposition="write-off", accepted=False)

    def test_everything_is_returned_and_broken_units_are_written_off(self):
        when = BookReturn(return_id="RMA", order_id="O", location="BER", lines=(self.UNDAMAGED, self.BROKEN))
        back = StockReturned(return_id="RMA", order_id="O", lines=(stock("MUG", "BER", 2), stock("MUG", "BER", 1)), at=NOON)
        gone = StockWrittenOff(return_id="RMA", order_id="O", lines=(stock("MUG", "BER", 1),), reason="not fit to be sold again", at=NOON)
        assert outcome(given=[], when=when) == [back, gone]
        assert position("MUG", [back, gone]) == {"BER": Bin(on_hand=2)}
        assert outcome(given=[back, gone], when=when) == []

    def test_units_that_need_a_look_come_back_and_are_set_apart(self):
        doubtful = replace(self.BROKEN, disposition="quarantine")
        when = BookReturn(return_id="RMA", order_id="O", location="BER", lines=(self.UNDAMAGED, doubtful))
        back, apart = outcome(given=[], when=when)
        assert isinstance(apart, StockQuarantined)
        assert (apart.quarantine_id, apart.return_id, apart.lines) == ("RMA", "RMA", (stock("MUG", "BER", 1),))
        assert position("MUG", [back, apart]) == {"BER": Bin(on_hand=3, quarantined=1)}
        assert outcome(given=[back, apart], when=when) == []

    def test_undamaged_units_are_not_written_off(self):
        when = BookReturn(return_id="RMA", order_id="O", location="BER", lines=(self.UNDAMAGED,))
        assert outcome(given=[], when=when) == [StockReturned(return_id="RMA", order_id="O", lines=(stock("MUG", "BER", 2),), at=NOON)]

    def test_a_return_without_lines_changes_nothing(self):
        assert outcome(given=[], when=BookReturn(return_id="RMA", order_id="O", location="BER", lines=())) == []


class TestKeys:
    def test_a_decision_reads_its_stream_and_planning_also_reads_positions(self):
        assert list(reads(reserve(want("1", "MUG", 1), want("2", "MUG", 1), want("3", "SPOON", 1)), TERMS)) == ["O", "sku/MUG", "sku/SPOON"]
        assert list(reads(ALLOCATE, TERMS)) == ["O"]
        assert list(reads(ShipStock(order_id="O", fulfillment_id="O/BER", lines=(MUG,)), TERMS)) == ["O"]

    def test_an_event_is_folded_into_each_position_it_changes(self):
        assert list(writes(reserved(MUG, SPOON, take("3", "MUG", "MUC", 1)))) == ["O", "sku/MUG", "sku/SPOON"]
        assert list(writes(StockReservationFailed(order_id="O", attempt=1, shortages=(), at=NOON))) == ["O"]

    def test_a_location_without_units_is_removed(self):
        assert position("MUG", [received(stock("MUG", "BER", 2)), reserved(MUG), allocated(MUG), shipped("O/BER", MUG)]) == {}
