"""The catalogue, and what a SKU without an active product does to an order, by setting."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from oms_contracts.message import type_of
from oms_contracts.products import (
    DeactivateProduct,
    DefineProduct,
    ProductCommandRefused,
    ProductDeactivated,
    ProductDefined,
)
from oms_contracts.stock import (
    ReceiveStock,
    StockReceived,
    StockReleased,
    StockReservationFailed,
    StockReservationPostponed,
    StockReserved,
    WaitingOrdersResumed,
)
from oms_contracts.values import AllocatedLine, Shortage, StockLine, WantedLine
from oms_inventory.commands import Command, Event, ReleaseReservation, ReleaseStock, ReserveStock, ResumeWaitingOrders
from oms_inventory.decider import State, decide, due, evolve, initial, reads, writes
from oms_inventory.products import MAX_RESUMED, MAX_WAITING, Product
from oms_inventory.reservations import Reservation, Terms, UnknownSku

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MUG = DefineProduct(sku="MUG", title="Mug, blue", barcode="4006381333931", unit="EA", weight_grams=350)
SPOON = DefineProduct(sku="SPOON", title="Spoon")
DEFINE, DEACTIVATE = type_of(DefineProduct).name, type_of(DeactivateProduct).name
LINES = (WantedLine(line_id="1", sku="MUG", quantity=2), WantedLine(line_id="2", sku="SPOON", quantity=1))
GOODS = StockReceived(receipt_id="R", lines=tuple(StockLine(sku=sku, location="BER", quantity=3) for sku in ("MUG", "SPOON")), at=NOON)
RESERVED = StockReserved(
    order_id="O",
    attempt=1,
    lines=tuple(AllocatedLine(line_id=line.line_id, sku=line.sku, location="BER", quantity=line.quantity) for line in LINES),
    expires_at=NOON + timedelta(hours=2),
    at=NOON,
)


def terms(unknown_sku: UnknownSku) -> Terms:
    return Terms(unknown_sku=unknown_sku)


def fold(events: Sequence[Event]) -> dict[str, State]:
    states: dict[str, State] = {}
    for event in events:
        for key in writes(event):
            states[key] = evolve(states.get(key, initial(key)), event, key)
    return states


def outcome(*, given: Sequence[Event], when: Command, under: UnknownSku = "accept") -> list[Event]:
    """The events that follow from `when`, decided on the states it reads and no others."""
    states = fold(given)
    return decide(when, {key: states.get(key, initial(key)) for key in reads(when, terms(under))}, NOON, terms(under))


def defined(command: DefineProduct, **other: Any) -> ProductDefined:
    names = ("sku", "title", "barcode", "unit", "weight_grams", "requires_shipping", "active")
    return ProductDefined(**{name: getattr(command, name) for name in names} | other, at=NOON)


def postponed(*skus: str, order_id: str = "O", attempt: int = 1) -> StockReservationPostponed:
    return StockReservationPostponed(order_id=order_id, attempt=attempt, unknown_skus=skus, lines=LINES, location=None, at=NOON)


def resumed(sku: str, *orders: str) -> WaitingOrdersResumed:
    return WaitingOrdersResumed(sku=sku, orders=orders, at=NOON)


def reserve(attempt: int = 1, order_id: str = "O") -> ReserveStock:
    return ReserveStock(order_id=order_id, attempt=attempt, lines=LINES, location=None)


class TestCatalogue:
    def test_a_product_is_defined_and_the_same_definition_again_changes_nothing(self):
        assert outcome(given=[], when=MUG) == [defined(MUG)]
        assert outcome(given=[defined(MUG)], when=MUG) == []

    def test_another_definition_replaces_all_of_the_one_before(self):
        bare = DefineProduct(sku="MUG", title="Mug")
        assert outcome(given=[defined(MUG)], when=bare) == [defined(bare)]
        assert fold([defined(MUG), defined(bare)])["product/MUG"] == Product(definition=bare, since=NOON)

    def test_a_product_is_deactivated_once_and_defined_again(self):
        gone = ProductDeactivated(sku="MUG", at=NOON)
        assert outcome(given=[defined(MUG)], when=DeactivateProduct(sku="MUG")) == [gone]
        assert outcome(given=[defined(MUG), gone], when=DeactivateProduct(sku="MUG")) == []
        assert outcome(given=[defined(MUG), gone], when=MUG) == [defined(MUG)]

    def test_what_is_not_in_the_catalogue_cannot_be_deactivated(self):
        refused = ProductCommandRefused(sku="MUG", command=DEACTIVATE, reasons=("sku: is not in the catalogue",), at=NOON)
        assert outcome(given=[], when=DeactivateProduct(sku="MUG")) == [refused]
        assert outcome(given=[refused], when=DeactivateProduct(sku="MUG")) == []

    def test_every_field_at_fault_is_named_and_the_same_refusal_is_published_once(self):
        wrong = DefineProduct(sku=" ", title="\n", barcode="4006381333932", unit="each", weight_grams=-1)
        [refused] = outcome(given=[], when=wrong)
        assert isinstance(refused, ProductCommandRefused)
        assert (refused.sku, refused.command) == (" ", DEFINE)
        assert [reason.partition(":")[0] for reason in refused.reasons] == ["sku", "title", "barcode", "unit", "weight_grams"]
        assert outcome(given=[refused], when=wrong) == []

    @pytest.mark.parametrize(
        "barcode", ["96385074", "036000291452", "4006381333931", "10614141000415", "4006381333932A", "123", "12345", "MUG/7", None]
    )
    def test_a_gtin_with_its_check_digit_and_a_code_of_another_form_are_taken(self, barcode: str | None):
        assert [type(event) for event in outcome(given=[], when=replace(MUG, barcode=barcode))] == [ProductDefined]

    @pytest.mark.parametrize("barcode", ["96385075", "036000291453", "4006381333930", "10614141000416", "", "a\tb"])
    def test_a_gtin_with_another_check_digit_and_a_code_that_cannot_be_printed_are_refused(self, barcode: str):
        [refused] = outcome(given=[], when=replace(MUG, barcode=barcode))
        assert isinstance(refused, ProductCommandRefused)
        assert [reason.partition(":")[0] for reason in refused.reasons] == ["barcode"]

    def test_a_refused_command_leaves_the_product_as_it_was(self):
        refused = ProductCommandRefused(sku="MUG", command=DEFINE, reasons=("title: must not be empty",), at=NOON)
        state = fold([defined(MUG), refused])["product/MUG"]
        assert isinstance(state, Product)
        assert state.definition == MUG


class TestAnUnknownSku:
    def test_products_are_not_read_where_unknown_skus_are_accepted(self):
        keys = ["O", "sku/MUG", "sku/SPOON"]
        assert list(reads(reserve(), terms("accept"))) == keys
        assert list(reads(reserve(), terms("hold"))) == list(reads(reserve(), terms("reject"))) == [*keys, "product/MUG", "product/SPOON"]

    def test_it_is_reserved_as_any_other_where_it_is_accepted(self):
        assert outcome(given=[GOODS], when=reserve()) == [RESERVED]

    @pytest.mark.parametrize("under", ["reject", "hold"])
    def test_known_skus_are_reserved(self, under: UnknownSku):
        assert outcome(given=[GOODS, defined(MUG), defined(SPOON)], when=reserve(), under=under) == [RESERVED]

    def test_the_reservation_fails_and_names_every_unknown_sku_where_it_is_rejected(self):
        failed = StockReservationFailed(order_id="O", attempt=1, shortages=(), unknown_skus=("MUG", "SPOON"), at=NOON)
        assert outcome(given=[GOODS], when=reserve(), under="reject") == [failed]
        assert outcome(given=[GOODS, failed], when=reserve(), under="reject") == []
        assert outcome(given=[GOODS, failed, defined(MUG), defined(SPOON)], when=reserve(2), under="reject") == [
            replace(RESERVED, attempt=2)
        ]

    def test_an_inactive_product_counts_as_unknown(self):
        given = [GOODS, defined(replace(MUG, active=False)), defined(SPOON), ProductDeactivated(sku="SPOON", at=NOON)]
        assert outcome(given=given, when=reserve(), under="hold") == [postponed("MUG", "SPOON")]

    def test_an_order_that_was_reserved_before_is_not_turned_away(self):
        released = StockReleased(order_id="O", stage="reserved", lines=RESERVED.lines, reason="declined", at=NOON)
        given = [GOODS, RESERVED, released]
        for under in ("reject", "hold"):
            assert outcome(given=given, when=reserve(2), under=under) == [replace(RESERVED, attempt=2)]

    def test_the_reservation_is_postponed_where_it_is_held_and_the_same_command_again_changes_nothing(self):
        given = [GOODS, defined(SPOON)]
        assert outcome(given=given, when=reserve(), under="hold") == [postponed("MUG")]
        assert outcome(given=[*given, postponed("MUG")], when=reserve(), under="hold") == []

    def test_an_order_more_than_can_wait_for_one_sku_is_rejected(self):
        waiting = [postponed("MUG", order_id=f"O{number}") for number in range(MAX_WAITING)]
        [event] = outcome(given=[defined(SPOON), *waiting], when=reserve(), under="hold")
        assert event == StockReservationFailed(order_id="O", attempt=1, shortages=(), unknown_skus=("MUG",), at=NOON)
        assert outcome(given=[defined(SPOON), *waiting[1:]], when=reserve(), under="hold") == [postponed("MUG")]


AGAIN = replace(reserve(), has_waited=True)
"""What a reservation that waited does when its turn comes."""


class TestWaiting:
    def test_a_product_that_orders_wait_for_resumes_them_once_it_is_active_some_at_a_time(self):
        orders = tuple(f"O{number}" for number in range(MAX_RESUMED + 1))
        given: list[Event] = [postponed("MUG", order_id=order_id) for order_id in orders]
        assert due_of("product/MUG", given) is None
        assert due_of("product/MUG", [*given, defined(replace(MUG, active=False))]) is None
        given.append(defined(MUG))
        first = ResumeWaitingOrders(sku="MUG", orders=orders[:MAX_RESUMED])
        assert due_of("product/MUG", given) == (NOON, first)
        assert outcome(given=given, when=first) == [resumed("MUG", *first.orders)]
        given.append(resumed("MUG", *first.orders))
        assert outcome(given=given, when=first) == []
        assert due_of("product/MUG", given) == (NOON, ResumeWaitingOrders(sku="MUG", orders=orders[MAX_RESUMED:]))
        given.append(resumed("MUG", *orders[MAX_RESUMED:]))
        assert due_of("product/MUG", given) is None

    def test_a_product_that_was_deactivated_meanwhile_resumes_nothing(self):
        given = [postponed("MUG"), defined(MUG), ProductDeactivated(sku="MUG", at=NOON)]
        assert outcome(given=given, when=ResumeWaitingOrders(sku="MUG", orders=("O",))) == []

    def test_a_postponed_reservation_is_made_once_it_waits_for_no_product(self):
        given = [GOODS, postponed("MUG", "SPOON"), defined(MUG), resumed("MUG", "O")]
        assert due_of("O", given) is None
        assert outcome(given=given, when=AGAIN, under="hold") == []
        given += [defined(SPOON), resumed("SPOON", "O")]
        assert due_of("O", given) == (NOON, AGAIN)
        assert outcome(given=given, when=reserve(), under="hold") == [], "an acceptance that comes again is not its turn"
        assert outcome(given=given, when=AGAIN, under="hold") == [RESERVED]
        assert outcome(given=[*given, RESERVED], when=AGAIN, under="hold") == []

    def test_there_may_be_too_little_stock_by_then(self):
        given = [postponed("MUG"), defined(MUG), defined(SPOON), resumed("MUG", "O")]
        [failed] = outcome(given=given, when=AGAIN, under="hold")
        assert isinstance(failed, StockReservationFailed)
        assert failed.shortages[0] == Shortage(sku="MUG", requested=2, available=0)
        assert failed.unknown_skus == ()

    def test_it_is_postponed_again_where_a_product_was_deactivated_meanwhile(self):
        given = [GOODS, postponed("MUG"), defined(MUG), resumed("MUG", "O"), defined(SPOON), ProductDeactivated(sku="SPOON", at=NOON)]
        assert outcome(given=given, when=AGAIN, under="hold") == [postponed("SPOON")]

    def test_an_order_that_ends_waits_no_longer(self):
        given = [GOODS, postponed("MUG", "SPOON"), defined(MUG), resumed("MUG", "O")]
        released = StockReleased(order_id="O", stage="postponed", lines=(), unknown_skus=("SPOON",), reason="canceled", at=NOON)
        assert outcome(given=given, when=ReleaseStock(order_id="O", reason="canceled")) == [released]
        states = fold([*given, released])
        assert states["O"] == Reservation(status="released", attempt=1)
        assert states["product/SPOON"] == Product()
        assert due_of("product/SPOON", [*given, released, defined(SPOON)]) is None

    def test_while_it_waits_for_products_only_an_end_of_the_order_changes_it(self):
        for action in ("define_product", "amend_payment"):
            when = ReleaseReservation(order_id="O", attempt=1, action=action, reason="")
            assert outcome(given=[postponed("MUG")], when=when) == []
        assert outcome(given=[postponed("MUG")], when=reserve(2), under="hold") == []

    def test_units_are_not_touched_by_what_is_postponed_or_resumed(self):
        states = fold([GOODS, postponed("MUG", "SPOON"), resumed("MUG", "O")])
        assert states["sku/MUG"] == fold([GOODS])["sku/MUG"]


def test_a_receipt_needs_no_product():
    lines = (StockLine(sku="NEW", location="BER", quantity=1),)
    assert outcome(given=[], when=ReceiveStock(receipt_id="R", lines=lines), under="reject") == [
        StockReceived(receipt_id="R", lines=lines, at=NOON)
    ]


def due_of(key: str, events: Sequence[Event]) -> Any:
    return due(key, fold(events)[key], Terms())
