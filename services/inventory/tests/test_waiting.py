"""Orders that wait for stock: who is served when some arrives, and who is not."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from oms_contracts.products import DeactivateProduct, DefineProduct
from oms_contracts.stock import (
    AdjustStock,
    ReceiveStock,
    StockAllocated,
    StockReleased,
    StockReservationExpired,
    StockReservationFailed,
    StockReserved,
    WaitingOrdersCalled,
)
from oms_contracts.values import InspectedLine, Shortage, StockLine, WantedLine
from oms_inventory import waiting
from oms_inventory.commands import (
    AllocateStock,
    BookReturn,
    CallWaitingOrders,
    Command,
    ExpireReservation,
    ReleaseReservation,
    ReleaseStock,
    ReserveStock,
    ReviewStock,
)
from oms_inventory.reservations import Terms
from oms_inventory.waiting import MAX_CALLED, MAX_PASSED, Queue, Waiting

from services.inventory.tests.test_properties import HOLDING, Store

TERMS = Terms()
NOON = datetime.fromisoformat("2026-11-23T12:00:00+00:00")


class Shop(Store):
    """A store whose clock goes on by a second with every command, and which does what is due at once."""

    seconds = 0

    def do(self, command: Command) -> list[Any]:
        """Decide on the command, then on all that is due of what waits."""
        before = len(self.events)
        self.once(command)
        while due := [
            each for key in list(self.states) if (each := self.due(key)) and not isinstance(each, ExpireReservation | ReviewStock)
        ]:
            self.once(due[0])
        return self.events[before:]

    def once(self, command: Command) -> list[Any]:
        """Decide on the command alone."""
        self.seconds += 1
        return [*self.handle(command, NOON + timedelta(seconds=self.seconds))]

    def order(self, order_id: str, promised_in: timedelta | None = None, **units: int) -> list[Any]:
        lines = tuple(WantedLine(line_id=sku, sku=sku, quantity=quantity) for sku, quantity in units.items())
        return self.do(
            ReserveStock(
                order_id=order_id, attempt=1, lines=lines, location=None, promised_at=None if promised_in is None else NOON + promised_in
            )
        )

    def goods(self, **units: int) -> list[Any]:
        lines = tuple(StockLine(sku=sku, location="BER", quantity=quantity) for sku, quantity in units.items())
        return self.do(ReceiveStock(receipt_id=str(self.seconds), lines=lines))

    def queue(self, sku: str) -> Queue:
        return self.state(f"sku/{sku}").queue

    def waiting_for(self, sku: str) -> list[str]:
        return [each.order_id for each in self.queue(sku).orders]


def served(events: list[Any]) -> list[str]:
    """The orders that got their units, by name: what is tried together comes in any order."""
    return sorted(event.order_id for event in events if isinstance(event, StockReserved | StockAllocated))


def test_received_stock_serves_a_waiting_order():
    shop = Shop()
    [failed] = shop.order("A", MUG=2)
    assert (failed.shortages, failed.waiting_since) == ((Shortage(sku="MUG", requested=2, available=0),), failed.at)
    assert (shop.reservation("A").status, shop.waiting_for("MUG")) == ("waiting", ["A"])
    received, called, reserved = shop.goods(MUG=2)
    assert (type(received).__name__, called) == ("StockReceived", WaitingOrdersCalled(sku="MUG", orders=("A",), at=called.at))
    assert isinstance(reserved, StockReserved)
    assert (shop.reservation("A").status, shop.queue("MUG")) == ("reserved", waiting.EMPTY)


def test_an_acceptance_that_comes_again_is_not_the_turn_of_an_order_that_is_called():
    shop = Shop()
    shop.order("A", MUG=2)
    shop.once(ReceiveStock(receipt_id="R", lines=(StockLine(sku="MUG", location="BER", quantity=2),)))
    shop.once(CallWaitingOrders(sku="MUG", orders=("A",)))
    lines = (WantedLine(line_id="MUG", sku="MUG", quantity=2),)
    assert shop.once(ReserveStock(order_id="A", attempt=1, lines=lines, location=None)) == []
    [reserved] = shop.once(ReserveStock(order_id="A", attempt=1, lines=lines, location=None, has_waited=True))
    assert isinstance(reserved, StockReserved)


def returned() -> BookReturn:
    lines = (InspectedLine(line_id="MUG", sku="MUG", quantity=2, disposition="restock"),)
    return BookReturn(return_id="R", order_id="X", location="BER", lines=lines)


@pytest.mark.parametrize(
    "command",
    [
        AdjustStock(adjustment_id="found", lines=(StockLine(sku="MUG", location="HAM", quantity=2),), reason="counted"),
        returned(),
        ReleaseStock(order_id="X", reason="canceled"),
        ExpireReservation(order_id="X", attempt=1),
    ],
    ids=lambda command: type(command).__name__,
)
def test_stock_serves_a_waiting_order_whatever_it_becomes_available_by(command: Command):
    shop = Shop()
    shop.goods(MUG=2)
    assert served(shop.order("X", MUG=2)) == ["X"]
    assert served(shop.order("A", MUG=2)) == []
    assert served(shop.do(command)) == ["A"]


def test_who_was_promised_first_comes_first_then_who_waits_longest():
    shop = Shop()
    for order_id, days in (("late", 9), ("none", None), ("soon", 1), ("later", None), ("soon too", 1)):
        shop.order(order_id, timedelta(days=days) if days else None, MUG=1)
    assert shop.waiting_for("MUG") == ["soon", "soon too", "late", "none", "later"]
    assert served(shop.goods(MUG=3)) == ["late", "soon", "soon too"]
    assert served(shop.goods(MUG=1)) == ["none"]


def test_an_order_that_was_paid_for_and_lost_its_units_comes_before_all_that_merely_wait():
    shop = Shop()
    shop.goods(MUG=2)
    shop.order("paid", MUG=2)
    shop.do(ExpireReservation(order_id="paid", attempt=1))
    shop.order("other", MUG=2)
    shop.order("waits", timedelta(days=1), MUG=2)
    [_, failed] = shop.do(AllocateStock(order_id="paid"))
    assert (failed.confirmed, shop.waiting_for("MUG")) == (True, ["paid", "waits"])
    *_, allocated = shop.goods(MUG=2)
    assert isinstance(allocated, StockAllocated)
    assert (allocated.order_id, allocated.reserved, shop.reservation("paid").status) == ("paid", False, "allocated")


def test_a_paid_order_whose_authorization_is_not_renewed_leaves_its_queue_and_its_next_attempt_waits_anew():
    shop = Shop()
    shop.goods(MUG=2)
    shop.order("paid", MUG=2)
    shop.do(ExpireReservation(order_id="paid", attempt=1))
    shop.order("other", MUG=2)
    shop.do(AllocateStock(order_id="paid"))
    [released] = shop.do(ReleaseReservation(order_id="paid", attempt=1, action="amend_payment", reason="declined"))
    assert (released.stage, released.missing_skus, shop.queue("MUG")) == ("waiting", ("MUG",), waiting.EMPTY)
    lines = (WantedLine(line_id="MUG", sku="MUG", quantity=2),)
    [failed] = shop.do(ReserveStock(order_id="paid", attempt=2, lines=lines, location=None))
    assert (failed.attempt, failed.confirmed, shop.waiting_for("MUG")) == (2, False, ["paid"])
    *_, reserved = shop.goods(MUG=2)
    assert isinstance(reserved, StockReserved)


def test_an_order_waits_for_each_sku_it_lacks_and_holds_nothing_meanwhile():
    shop = Shop()
    shop.order("both", MUG=1, POT=1, CUP=1)
    assert [shop.waiting_for(sku) for sku in ("MUG", "POT", "CUP")] == [["both"]] * 3
    assert served(shop.goods(MUG=1)) == []
    assert [shop.waiting_for(sku) for sku in ("MUG", "POT", "CUP")] == [[], ["both"], ["both"]]
    assert served(shop.order("one", MUG=1)) == ["one"]
    assert served(shop.goods(POT=1, CUP=1)) == []
    assert [shop.waiting_for(sku) for sku in ("MUG", "POT", "CUP")] == [["both"], [], []]
    since = shop.queue("MUG").orders[0].since
    assert since == next(event.at for event in shop.events if isinstance(event, StockReservationFailed)), "it keeps its place"
    assert served(shop.goods(MUG=1)) == ["both"]


def test_what_arrived_is_kept_from_a_new_order_until_those_that_wait_were_tried():
    shop = Shop()
    shop.order("waits", MUG=2)
    shop.once(ReceiveStock(receipt_id="R", lines=(StockLine(sku="MUG", location="BER", quantity=3),)))
    [failed] = shop.once(ReserveStock(order_id="new", attempt=1, lines=(WantedLine(line_id="1", sku="MUG", quantity=2),), location=None))
    assert failed.shortages == (Shortage(sku="MUG", requested=2, available=1),)
    assert served(shop.order("small", MUG=1)) == ["small", "waits"]


@pytest.mark.parametrize("status", ["waits", "is called"])
def test_an_order_that_ends_leaves_its_queues(status: str):
    shop = Shop()
    shop.order("A", MUG=2, POT=1)
    shop.order("B", MUG=2)
    if status == "is called":
        shop.once(ReceiveStock(receipt_id="R", lines=(StockLine(sku="MUG", location="BER", quantity=2),)))
        call = shop.due("sku/MUG")
        assert call is not None
        shop.once(call)
        assert [each.called for each in shop.queue("MUG").orders] == [True, False]
    released, *others = shop.do(ReleaseStock(order_id="A", reason="canceled"))
    assert isinstance(released, StockReleased)
    assert (released.stage, released.lines, released.missing_skus) == ("waiting", (), ("MUG", "POT"))
    assert served(others) == (["B"] if status == "is called" else [])
    assert (shop.queue("POT"), shop.due("A")) == (waiting.EMPTY, None)


def test_a_large_order_is_passed_over_a_bounded_number_of_times_and_then_what_arrives_is_kept_for_it():
    shop = Shop()
    shop.order("large", MUG=10)
    for number in range(MAX_PASSED):
        assert served(shop.goods(MUG=1)) == []
        assert served(shop.order(f"small {number}", MUG=1)) == [f"small {number}"]
    assert served(shop.goods(MUG=9)) == []
    assert served(shop.order("small", MUG=1)) == [], "from now on nobody passes"
    assert served(shop.goods(MUG=1)) == ["large"]
    assert served(shop.goods(MUG=1)) == ["small"]


def test_the_count_is_of_the_first_of_the_queue():
    shop = Shop()
    for order_id in ("large", "next"):
        shop.order(order_id, MUG=10)
    shop.goods(MUG=1)
    shop.order("small", MUG=1)
    assert shop.queue("MUG").passed == 1
    shop.do(ReleaseStock(order_id="next", reason="canceled"))
    assert shop.queue("MUG").passed == 1
    shop.order("last", MUG=10)
    shop.do(ReleaseStock(order_id="large", reason="canceled"))
    assert (shop.queue("MUG").passed, shop.waiting_for("MUG")) == (0, ["last"])


FULL = Queue(orders=tuple(Waiting(f"{number:04}", 1, NOON, None, confirmed=False) for number in range(TERMS.max_waiting)))


def test_a_queue_is_bounded_and_an_order_that_does_not_wait_may_come_again():
    shop = Shop()
    shop.states["sku/MUG"] = replace(shop.state("sku/MUG"), queue=FULL)
    [failed] = shop.order("A", MUG=1, POT=1)
    assert (failed.waiting_since, shop.reservation("A").status) == (None, "failed")
    assert (shop.queue("MUG"), shop.queue("POT")) == (FULL, waiting.EMPTY)


def test_the_orders_of_a_queue_are_called_some_at_a_time():
    due = waiting.due("MUG", FULL, TERMS.max_waiting)
    assert due is not None
    assert due[1].orders == tuple(each.order_id for each in FULL.orders[:MAX_CALLED])
    [called] = waiting.decide(due[1], FULL, 1, NOON)
    assert called == WaitingOrdersCalled(sku="MUG", orders=("0000",), at=NOON), "what is there no longer is not promised"
    assert waiting.decide(due[1], FULL, 0, NOON) == []
    then = waiting.due("MUG", waiting.evolve(FULL, called, "MUG"), TERMS.max_waiting)
    assert then is not None
    assert then[1].orders[0] == "0001"


def test_a_product_that_is_deactivated_while_its_order_waits_for_stock_does_not_turn_it_away():
    shop = Shop(decider=HOLDING)
    shop.do(DefineProduct(sku="MUG", title="Mug"))
    shop.order("A", MUG=1)
    shop.do(DeactivateProduct(sku="MUG"))
    assert served(shop.goods(MUG=1)) == ["A"]


def test_a_reservation_that_waited_expires_as_any_other():
    shop = Shop()
    shop.order("A", MUG=1)
    shop.goods(MUG=1)
    [expired] = shop.do(ExpireReservation(order_id="A", attempt=1))
    assert isinstance(expired, StockReservationExpired)


def test_records_from_before_the_queues_do_not_wait():
    shop = Shop()
    old = StockReservationFailed(order_id="A", attempt=1, shortages=(Shortage(sku="MUG", requested=1, available=0),), at=NOON)
    assert shop.decider.writes(old) == ["A"]
    assert shop.decider.evolve(shop.reservation("A"), old, "A").status == "failed"
