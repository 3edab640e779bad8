"""What is booked of stock against what is there, what is said of it, and goods between locations."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from oms_contracts.message import type_of
from oms_contracts.stock import (
    AdjustStock,
    CloseTransfer,
    CountStock,
    QuarantineReleased,
    QuarantineStock,
    QuarantineWrittenOff,
    ReceiveStock,
    ReceiveTransfer,
    ReleaseQuarantine,
    SetStockLimits,
    StockActionRequired,
    StockActionResolved,
    StockAdjusted,
    StockAllocated,
    StockCommandRefused,
    StockCounted,
    StockExcess,
    StockExcessCleared,
    StockLimitsSet,
    StockLow,
    StockLowCleared,
    StockOut,
    StockOutCleared,
    StockQuarantined,
    StockReservationFailed,
    StockReserved,
    TransferActionRequired,
    TransferClosed,
    TransferReceived,
    TransferStarted,
    TransferStock,
    WriteOffQuarantine,
)
from oms_contracts.values import AllocatedLine, CountedLine, CountLine, GoodsLine, StockLine, WantedLine
from oms_inventory.commands import AllocateStock, Command, Event, ReleaseStock, ReserveStock, ReviewStock, ShipStock
from oms_inventory.positions import Bin, Position
from oms_inventory.reservations import Terms

from services.inventory.tests.test_properties import NOON, Store

TERMS = Terms()
ENDS: dict[str, Any] = {"transfer_id": "T", "from_location": "BER", "to_location": "MUC"}


class Stock(Store):
    """A store with `units` of MUG at BER."""

    def __init__(self, units: int = 5) -> None:
        super().__init__()
        if units:
            self.handle(ReceiveStock(receipt_id="FIRST", lines=(StockLine(sku="MUG", location="BER", quantity=units),)))

    def bin(self, location: str = "BER") -> Bin:
        position: Position = self.state("sku/MUG")
        return position.bin(location)

    def reserve(self, units: int, order_id: str = "O", location: str | None = "BER") -> list[Event]:
        lines = (WantedLine(line_id="1", sku="MUG", quantity=units),)
        return self.handle(ReserveStock(order_id=order_id, attempt=1, lines=lines, location=location))

    def reviewed(self) -> list[Event]:
        """What follows once all that has crossed is said."""
        found: list[Event] = []
        while isinstance(due := self.due("sku/MUG"), ReviewStock) and due.deadline is None:
            found += self.handle(due)
        return found

    def refused(self, command: Command) -> str:
        """The reasons against a command. It is refused once, and nothing is booked."""
        before = self.bin()
        (event,) = self.handle(command)
        assert isinstance(event, StockCommandRefused)
        assert event.command == type_of(command).name
        assert self.handle(command) == []
        assert self.bin() == before
        return "; ".join(event.reasons)


def adjust(quantity: int, reason_code: str = "other", name: str = "A") -> AdjustStock:
    lines = (StockLine(sku="MUG", location="BER", quantity=quantity),)
    return AdjustStock(adjustment_id=name, lines=lines, reason="seen", reason_code=reason_code)


def count(units: int, name: str = "C") -> CountStock:
    return CountStock(count_id=name, lines=(CountLine(sku="MUG", location="BER", counted=units),))


def goods(units: int) -> tuple[GoodsLine, ...]:
    return (GoodsLine(sku="MUG", quantity=units),)


def at(location: str, units: int) -> tuple[StockLine, ...]:
    return (StockLine(sku="MUG", location=location, quantity=units),)


class TestAdjusting:
    @pytest.mark.parametrize("code", ["damaged", "lost", "stolen", "expired", "correction", "other"])
    def test_nothing_is_adjusted_below_zero(self, code: str):
        assert Stock(5).refused(adjust(-6, code)) == (
            "lines: 6 of 'MUG' at 'BER' are wanted, and 5 are on hand: say how many there are by a count"
        )

    def test_lines_of_one_place_are_taken_together(self):
        stock = Stock(5)
        twice = replace(adjust(-3), lines=(*adjust(-3).lines, *adjust(-3).lines))
        assert "6 of 'MUG'" in stock.refused(twice)
        (booked,) = stock.handle(replace(twice, lines=(*twice.lines, *adjust(1).lines)))
        assert isinstance(booked, StockAdjusted)
        assert stock.bin() == Bin()

    def test_what_is_promised_is_not_adjusted_away(self):
        stock = Stock(5)
        stock.reserve(3)
        assert stock.refused(adjust(-3, "correction")) == (
            "lines: 3 of 'MUG' at 'BER' are wanted, and 2 are free (5 on hand, 3 promised, 0 set apart): "
            "if they are gone, say so by the reason_code: damaged, expired, lost, stolen"
        )

    def test_a_loss_is_a_fact_also_where_it_was_promised_and_asks_for_a_person(self):
        stock = Stock(5)
        stock.reserve(3)
        lost = adjust(-3, "lost")
        assert stock.handle(lost) == [StockAdjusted(adjustment_id="A", lines=lost.lines, reason="seen", reason_code="lost", at=NOON)]
        assert stock.reviewed() == [
            StockActionRequired(
                sku="MUG", location="BER", action="resolve_shortfall", units=1, deadline=NOON + TERMS.shortfall_timeout, at=NOON
            ),
            StockOut(sku="MUG", location="BER", available=-1, at=NOON),
        ]

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            (adjust(1, "mislaid"), "reason_code: 'mislaid' is not one of correction, damaged, expired, found, lost, other, stolen"),
            (adjust(1, "damaged"), "lines.0.quantity: must be below 0, because damaged units are gone, is 1"),
            (adjust(-1, "found"), "lines.0.quantity: must be above 0, because the units were found, is -1"),
        ],
    )
    def test_a_code_that_does_not_fit_is_refused(self, command: AdjustStock, reason: str):
        assert Stock().refused(command) == reason


class TestCounting:
    def test_the_difference_is_booked_once(self):
        stock = Stock(5)
        when = CountStock(
            count_id="C",
            lines=(CountLine(sku="MUG", location="BER", counted=3), CountLine(sku="CUP", location="MUC", counted=2)),
            reason="the year's",
        )
        lines = (
            CountedLine(sku="MUG", location="BER", counted=3, expected=5, difference=-2),
            CountedLine(sku="CUP", location="MUC", counted=2, expected=0, difference=2),
        )
        assert stock.handle(when) == [StockCounted(count_id="C", lines=lines, reason="the year's", at=NOON)]
        assert dict(stock.bins()) == {("MUG", "BER"): Bin(on_hand=3), ("CUP", "MUC"): Bin(on_hand=2)}
        assert stock.handle(when) == []

    def test_a_count_that_finds_less_than_is_promised_is_booked_and_waits_for_a_person_until_it_is_sound(self):
        stock = Stock(5)
        stock.reserve(5)
        stock.handle(count(3))
        assert stock.bin() == Bin(on_hand=3, reserved=5)
        required = stock.reviewed()[0]
        deadline = NOON + TERMS.shortfall_timeout
        assert required == StockActionRequired(sku="MUG", location="BER", action="resolve_shortfall", units=2, deadline=deadline, at=NOON)
        again = ReviewStock(sku="MUG", location="BER", watched="shortfall", deadline=deadline)
        assert stock.decider.due("sku/MUG", stock.state("sku/MUG")) == (deadline, again)
        (asked,) = stock.handle(again, deadline)
        assert asked == replace(required, deadline=deadline + TERMS.shortfall_timeout, at=deadline)
        assert stock.handle(again, deadline) == []
        stock.handle(ReleaseStock(order_id="O", reason="canceled"))
        assert StockActionResolved(sku="MUG", location="BER", action="resolve_shortfall", at=NOON) in stock.reviewed()
        assert stock.due("sku/MUG") is None

    def test_a_shortfall_that_ends_before_it_is_said_is_not_said(self):
        stock = Stock(5)
        stock.reserve(5)
        stock.handle(count(4))
        stock.handle(count(6, "D"))
        assert stock.reviewed() == []

    def test_units_that_ship_although_they_were_not_found_are_a_shortfall_that_a_count_ends(self):
        stock = Stock(2)
        stock.reserve(2)
        stock.handle(AllocateStock(order_id="O"))
        stock.handle(count(1))
        taken = (AllocatedLine(line_id="1", sku="MUG", location="BER", quantity=2),)
        stock.handle(ShipStock(order_id="O", fulfillment_id="O/BER", lines=taken))
        assert stock.bin() == Bin(on_hand=-1)
        assert "resolve_shortfall" in [getattr(event, "action", "") for event in stock.reviewed()]
        stock.handle(count(0, "D"))
        assert StockActionResolved(sku="MUG", location="BER", action="resolve_shortfall", at=NOON) in stock.reviewed()

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            (count(-1), "lines.0.counted: must be 0 to 1000000000, is -1"),
            (replace(count(1), lines=count(1).lines * 2), "lines.1: 'MUG' at 'BER' is counted twice: give it one line"),
            (replace(count(1), lines=()), "lines: there must be 1 to 1000 lines, there are 0"),
            (replace(count(1), count_id=" "), "count_id: must not be empty"),
        ],
    )
    def test_a_count_that_is_not_sound_is_refused(self, command: CountStock, reason: str):
        assert Stock().refused(command) == reason


class TestLimits:
    LOW = SetStockLimits(sku="MUG", location="BER", safety=1, reorder_point=2, maximum=8)

    def test_limits_are_set_once(self):
        stock = Stock()
        assert stock.handle(self.LOW) == [StockLimitsSet(sku="MUG", location="BER", safety=1, reorder_point=2, maximum=8, at=NOON)]
        assert stock.handle(self.LOW) == []

    def test_safety_stock_is_promised_to_nobody_and_orders_keep_what_they_hold(self):
        stock = Stock(5)
        (held,) = stock.reserve(2)
        assert isinstance(held, StockReserved)
        stock.handle(SetStockLimits(sku="MUG", safety=4))
        (failed,) = stock.reserve(1, "P")
        assert isinstance(failed, StockReservationFailed)
        assert failed.shortages[0].available == 0
        (allocated,) = stock.handle(AllocateStock(order_id="O"))
        assert isinstance(allocated, StockAllocated)
        assert allocated.lines == held.lines

    def test_limits_of_a_location_go_before_those_of_every_location_until_they_are_taken_away(self):
        stock = Stock(5)
        stock.handle(SetStockLimits(sku="MUG", safety=5))
        stock.handle(SetStockLimits(sku="MUG", location="BER", safety=1))
        position: Position = stock.state("sku/MUG")
        assert (position.available_at("BER"), position.available()) == (4, {"BER": 4})
        stock.handle(SetStockLimits(sku="MUG", location="BER"))
        assert stock.state("sku/MUG").available() == {}

    def test_a_crossing_is_said_once_and_taken_back_once(self):
        stock = Stock(5)
        stock.handle(self.LOW)
        assert stock.reviewed() == []
        stock.reserve(2, "O")
        stock.reserve(1, "P")
        assert stock.reviewed() == [StockLow(sku="MUG", location="BER", available=1, reorder_point=2, at=NOON)]
        stock.reserve(1, "Q")
        assert stock.reviewed() == [StockOut(sku="MUG", location="BER", available=0, at=NOON)]
        stock.handle(ReceiveStock(receipt_id="R", lines=at("BER", 9)))
        assert stock.reviewed() == [
            StockExcess(sku="MUG", location="BER", on_hand=14, maximum=8, at=NOON),
            StockLowCleared(sku="MUG", location="BER", available=9, at=NOON),
            StockOutCleared(sku="MUG", location="BER", available=9, at=NOON),
        ]
        stock.handle(SetStockLimits(sku="MUG", location="BER"))
        assert stock.reviewed() == [StockExcessCleared(sku="MUG", location="BER", on_hand=14, at=NOON)]

    def test_a_crossing_is_said_after_a_while_and_one_that_is_over_by_then_is_not(self):
        stock = Stock(2)
        stock.reserve(2)
        when = NOON + TERMS.signal_delay
        assert stock.decider.due("sku/MUG", stock.state("sku/MUG")) == (
            when,
            ReviewStock(sku="MUG", location="BER", watched="out", deadline=None),
        )
        stock.handle(ReleaseStock(order_id="O", reason="canceled"), NOON + timedelta(seconds=1))
        assert stock.due("sku/MUG") is None
        assert stock.handle(ReviewStock(sku="MUG", location="BER", watched="out", deadline=None), when) == []

    def test_a_sku_that_never_had_stock_is_not_out_unless_it_has_limits_there(self):
        stock = Stock(0)
        stock.handle(SetStockLimits(sku="MUG", reorder_point=3))
        stock.reserve(1)
        assert stock.reviewed() == []
        stock.handle(SetStockLimits(sku="MUG", location="MUC", reorder_point=1))
        assert [type(event) for event in stock.reviewed()] == [StockLow, StockOut]

    def test_the_last_units_that_leave_are_said(self):
        stock = Stock(1)
        stock.handle(adjust(-1, "damaged"))
        assert stock.bin() == Bin()
        assert [type(event) for event in stock.reviewed()] == [StockOut]

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            (replace(LOW, safety=-1), "safety: must be 0 to 1000000000, is -1"),
            (replace(LOW, maximum=3), "maximum: must be more than safety and reorder_point together, is 3"),
            (replace(LOW, location=" "), "location: must not be empty"),
        ],
    )
    def test_limits_that_are_not_sound_are_refused(self, command: SetStockLimits, reason: str):
        assert Stock().refused(command) == reason


class TestQuarantine:
    APART = QuarantineStock(quarantine_id="Q", location="BER", lines=goods(3), reason="recall")

    def test_units_set_apart_are_not_available_and_wait_for_a_person(self):
        stock = Stock(5)
        stock.reserve(2)
        assert stock.handle(self.APART) == [StockQuarantined(quarantine_id="Q", lines=at("BER", 3), reason="recall", at=NOON)]
        assert stock.bin() == Bin(on_hand=5, reserved=2, quarantined=3)
        assert isinstance(stock.reserve(1, "P")[0], StockReservationFailed)
        deadline = NOON + TERMS.quarantine_timeout
        required = StockActionRequired(sku="MUG", location="BER", action="resolve_quarantine", units=3, deadline=deadline, at=NOON)
        assert required in stock.reviewed()

    def test_only_what_is_free_is_set_apart(self):
        stock = Stock(5)
        stock.reserve(3)
        assert stock.refused(self.APART) == "lines: 3 of 'MUG' at 'BER' are wanted, and 2 are free (5 on hand, 3 promised)"

    def test_it_is_released_and_written_off_in_parts_and_no_more_than_there_is(self):
        stock = Stock(5)
        stock.handle(self.APART)
        release = ReleaseQuarantine(release_id="R", location="BER", lines=goods(2), reason="sound")
        assert stock.handle(release) == [QuarantineReleased(release_id="R", lines=at("BER", 2), reason="sound", at=NOON)]
        write_off = WriteOffQuarantine(write_off_id="W", location="BER", lines=goods(2), reason="broken")
        assert stock.refused(write_off) == "lines: 2 of 'MUG' at 'BER' are wanted, and 1 are set apart"
        assert stock.handle(replace(write_off, lines=goods(1))) == [
            QuarantineWrittenOff(write_off_id="W", lines=at("BER", 1), reason="broken", at=NOON)
        ]
        assert stock.bin() == Bin(on_hand=4)
        assert stock.reviewed() == []
        assert stock.handle(release) == []

    def test_what_is_not_there_any_more_is_released_and_not_written_off(self):
        stock = Stock(3)
        stock.handle(self.APART)
        stock.handle(count(1))
        write_off = WriteOffQuarantine(write_off_id="W", location="BER", lines=goods(3), reason="broken")
        assert stock.refused(write_off).endswith("and 1 are on hand: release what is not there any more")
        stock.handle(ReleaseQuarantine(release_id="R", location="BER", lines=goods(2), reason="not there"))
        stock.handle(replace(write_off, lines=goods(1)))
        assert stock.bin() == Bin()


class TestTransfers:
    SEND = TransferStock(transfer_id="T", from_location="BER", to_location="MUC", lines=goods(4), reason="the sale")

    def receive(self, units: int, receipt_id: str = "1", location: str = "MUC") -> ReceiveTransfer:
        return ReceiveTransfer(transfer_id="T", receipt_id=receipt_id, location=location, lines=goods(units))

    def test_goods_leave_and_arrive_in_parts_and_are_available_nowhere_on_the_way(self):
        stock = Stock(5)
        deadline = NOON + TERMS.transfer_timeout
        started = TransferStarted(lines=at("BER", 4), reason="the sale", deadline=deadline, at=NOON, **ENDS)
        assert stock.handle(self.SEND) == [started]
        assert (stock.bin(), stock.bin("MUC")) == (Bin(on_hand=1), Bin())
        assert isinstance(stock.reserve(2, location=None)[0], StockReservationFailed)
        assert stock.handle(self.receive(3)) == [TransferReceived(receipt_id="1", lines=at("MUC", 3), at=NOON, **ENDS)]
        assert stock.bin("MUC") == Bin(on_hand=3)
        assert stock.handle(self.receive(3)) == []
        assert stock.due("transfer/T") is not None
        stock.handle(self.receive(1, "2"))
        assert stock.due("transfer/T") is None
        assert stock.handle(self.SEND) == []

    def test_only_what_is_free_may_go(self):
        stock = Stock(5)
        stock.reserve(2)
        assert stock.refused(self.SEND) == ("lines: 4 of 'MUG' at 'BER' are wanted, and 3 are free (5 on hand, 2 promised, 0 set apart)")
        assert "must be another than from_location" in stock.refused(replace(self.SEND, to_location="BER"))

    def test_what_does_not_arrive_in_time_waits_for_a_person_who_writes_it_off(self):
        stock = Stock(5)
        stock.handle(self.SEND)
        stock.handle(self.receive(1))
        passed = stock.due("transfer/T")
        assert passed is not None
        later = NOON + TERMS.transfer_timeout
        required = TransferActionRequired(action="close_transfer", units=3, deadline=later + TERMS.transfer_timeout, at=later, **ENDS)
        assert stock.handle(passed, later) == [required]
        assert stock.handle(passed, later) == []
        close = CloseTransfer(transfer_id="T", location="MUC", reason="lost")
        assert stock.handle(close) == [TransferClosed(lines=goods(3), reason="lost", at=NOON, **ENDS)]
        assert stock.handle(close) == []
        assert stock.due("transfer/T") is None
        assert "the transfer is closed" in stock.refused(self.receive(3, "2"))

    def test_goods_may_come_back_to_where_they_were(self):
        stock = Stock(5)
        stock.handle(self.SEND)
        stock.handle(self.receive(4, location="BER"))
        assert stock.bin() == Bin(on_hand=5)
        assert stock.due("transfer/T") is None

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            (ReceiveTransfer(transfer_id="T", receipt_id="1", location="MUC", lines=goods(5)), "5 of 'MUG' arrived, and 4 are on the way"),
            (ReceiveTransfer(transfer_id="T", receipt_id="1", location="HAM", lines=goods(1)), "'HAM' is no end of the transfer"),
            (ReceiveTransfer(transfer_id="U", receipt_id="1", location="MUC", lines=goods(1)), "the transfer is not known"),
            (CloseTransfer(transfer_id="T", location="HAM", reason="lost"), "'HAM' is no end of the transfer"),
            (CloseTransfer(transfer_id="T", location="MUC", reason=" "), "reason: must not be empty"),
            (CloseTransfer(transfer_id="U", location="MUC", reason="lost"), "the transfer is not known"),
        ],
    )
    def test_what_does_not_fit_a_transfer_is_refused(self, command: Command, reason: str):
        stock = Stock(5)
        stock.handle(self.SEND)
        assert reason in stock.refused(command)
