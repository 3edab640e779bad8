"""How events are folded into the read models, and that neither the interleaving of topics nor the cut of batches matters."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from oms_contracts.catalogue import topics_read_by
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.message import encode, type_of
from oms_contracts.orders import (
    OrderAccepted,
    OrderActionRequired,
    OrderCancellationRejected,
    OrderCancellationRequested,
    OrderCommandRefused,
    OrderConfirmed,
    OrderRejected,
)
from oms_contracts.payments import RefundFailed
from oms_contracts.products import ProductDeactivated, ProductDefined
from oms_contracts.returns import ReturnActionRequired, ReturnDeclined, ReturnExpired
from oms_contracts.samples import sample
from oms_contracts.stock import (
    StockActionRequired,
    StockActionResolved,
    StockAdjusted,
    StockAllocated,
    StockReleased,
    StockReservationFailed,
    StockReservationPostponed,
    StockReserved,
    TransferActionRequired,
    TransferClosed,
    TransferStarted,
    WaitingOrdersResumed,
)
from oms_contracts.summaries import SUMMARIES, summary
from oms_contracts.values import AllocatedLine, GoodsLine, Shortage, StockLine
from oms_projection.changes import Key, Row
from oms_projection.folds.orders import field_of
from oms_projection.projector import FOLDS, PROJECTED, fold
from oms_projection.tables import (
    AUTHORIZATIONS,
    CAPTURES,
    DEAD_LETTERS,
    DELIVERIES,
    FULFILLMENTS,
    ORDER_LINES,
    ORDER_STOCK,
    ORDERS,
    PACKAGES,
    PAYMENTS,
    PRODUCTS,
    REFUNDS,
    REJECTIONS,
    RETURNS,
    STOCK,
    STOCK_LEDGER,
    STOCK_SIGNALS,
    TABLES,
    TIMELINE,
    TRANSFER_LINES,
    TRANSFERS,
    Table,
)
from oms_runtime.customer_keys import KEY_MESSAGES
from oms_runtime.model import IncomingRecord

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
Given = Callable[..., Sequence[IncomingRecord]]


def folded(records: Iterable[IncomingRecord]) -> dict[Table, dict[Key, Row]]:
    """The changes of records, by table and key."""
    changes = fold(records)
    return changes.rows | {
        table: {row[: len(table.key)]: dict(zip(table.last, row[len(table.key) :], strict=True)) for row in appended}
        for table, appended in changes.appended.items()
    }


def rows(records: Iterable[IncomingRecord]) -> dict[str, Any]:
    """The changed columns by table and key. Null and 0 are left out, because in the stored rows they make no difference."""
    return {
        table.name: {key: {name: value for name, value in row.items() if value not in (None, 0)} for key, row in found.items()}
        for table, found in folded(records).items()
    }


def row(records: Iterable[IncomingRecord], table: Table, *key: Any) -> dict[str, Any]:
    return folded(records)[table][key]


def test_a_completed_order_with_a_return(scenarios: Any) -> None:
    found = folded(scenarios.records)
    assert found[ORDERS]["done",].items() >= {"status": "completed", "units": 4, "total": 4_000, "action": "", "conflicts": 1}.items()
    assert found[ORDER_LINES]["done", "1"].items() >= {"quantity": 3, "shipped": 3, "delivered": 3, "returned": 2}.items()
    assert found[ORDER_STOCK]["done",].items() >= {"status": "shipped", "reserved": 0, "allocated": 0, "shipped": 4}.items()
    assert found[PAYMENTS]["done",].items() >= {"status": "refunded", "authorized": 4_000, "captured": 4_000, "refunded": 2_000}.items()
    assert found[CAPTURES]["done", "done/BER"].items() >= {"status": "captured", "captured": 3_000, "times": 1}.items()
    assert found[REFUNDS]["done", "RMA-done"].items() >= {"status": "settled", "refunded": 2_000, "times": 1}.items()
    assert found[FULFILLMENTS]["done", "done/HAM"].items() >= {"status": "shipped", "location": "HAM", "packages": 1}.items()
    assert found[PACKAGES]["done", "P-BER"].items() >= {"status": "delivered", "tracking_number": "T-BER", "late_scans": 1}.items()
    assert found[DELIVERIES]["done",].items() >= {"planned": 4, "shipped": 4, "delivered": 4}.items()
    assert found[RETURNS]["done", "RMA-done"].items() >= {"status": "closed", "received": 2, "refunded": 2_000}.items()


def test_an_authorization_that_was_voided(scenarios: Any) -> None:
    found = folded(scenarios.records)
    assert found[ORDERS]["declined",].items() >= {"status": "canceled", "attempt": 2, "ended_because": "changed my mind"}.items()
    assert found[PAYMENTS]["declined",]["status"] == "voided"
    assert found[PAYMENTS]["declined",]["next_check_at"] is None
    assert found[AUTHORIZATIONS]["declined", "held2"]["voided_at"] is not None


def test_stock_positions_are_what_the_ledger_adds_up_to(scenarios: Any) -> None:
    found = folded(scenarios.records)
    ledger: defaultdict[tuple[str, str], int] = defaultdict(int)
    for (sku, _, _), entry in found[STOCK_LEDGER].items():
        ledger[sku, entry["location"]] += entry["quantity"]
    assert ledger == {key: position["on_hand"] for key, position in found[STOCK].items()}
    assert found[STOCK]["A", "BER"] == {"on_hand": 50 - 2 + 2 - 1, "reserved": 0, "allocated": 0}
    assert found[STOCK]["C", "HAM"] == {"on_hand": 5 - 2, "quarantined": 1}
    assert found[STOCK]["C", "BER"] == {"on_hand": 2, "in_transit": 0}


def test_reasons_are_counted_by_field_for_all_lines_together(scenarios: Any) -> None:
    found = folded(scenarios.records)[REJECTIONS]
    assert found["bad", "lines.quantity"]["reasons"] == 2
    assert found["bad", "total"]["example"] == "total: is 5, not 6"


def test_an_order_that_is_accepted_after_a_rejection_is_an_accepted_order(given: Given) -> None:
    def rejected(*reasons: str) -> OrderRejected:
        return msgspec.structs.replace(sample(OrderRejected), order_id="o", content_hash=reasons[0], reasons=reasons)

    attempts = (rejected("total: is 1, not 2"), rejected("total: is 3, not 2", "currency: no"))
    found = folded(given("oms.orders", *attempts))
    assert found[ORDERS]["o",].items() >= {"status": "rejected", "ended_because": "total: is 3, not 2 (and 1 more)"}.items()
    found = folded(given("oms.orders", *attempts, msgspec.structs.replace(sample(OrderAccepted), order_id="o")))
    assert found[ORDERS]["o",].items() >= {"status": "accepted", "ended_because": None, "attempt": 1}.items()
    assert {field: row["reasons"] for (_, field), row in found[REJECTIONS].items()} == {"total": 2, "currency": 1}


def test_a_corrected_order_has_nothing_of_the_content_that_was_rejected_after_it_was_accepted(given: Given) -> None:
    first = msgspec.structs.replace(sample(OrderAccepted), order_id="o", attempt=1)
    second = msgspec.structs.replace(
        first,
        attempt=2,
        lines=(msgspec.structs.replace(first.lines[0], line_id="other"),),
        sealed=None,
        personal=None,
        number=None,
        tags=(),
        attributes={},
        promise=None,
        purchase_order=None,
        location=None,
    )
    rejected = msgspec.structs.replace(sample(OrderRejected), order_id="o", attempt=1)
    for records in (given("oms.orders", first, rejected, second), given("oms.orders", rejected, second)):
        found = folded(records)
        for column in ("key_id", "sealed", "personal", "number", "tags", "attributes", "promise", "purchase_order", "location"):
            assert found[ORDERS]["o",][column] is None
        assert found[ORDERS]["o",].items() >= {"status": "accepted", "attempt": 2, "accepted_attempt": 2}.items()
        assert found[ORDER_LINES]["o", "other"]["attempt"] == 2


def test_a_product_has_its_newest_definition_and_whether_it_is_sold(given: Given) -> None:
    full = msgspec.structs.replace(sample(ProductDefined), sku="A", at=NOW)
    bare = msgspec.structs.replace(full, title="Mug", barcode=None, weight_grams=None, requires_shipping=False)
    assert row(given("oms.products", full), PRODUCTS, "A").items() >= {"weight_grams": 350, "active": 1, "requires_shipping": 1}.items()
    found = row(given("oms.products", full, bare, ProductDeactivated(sku="A", at=NOW)), PRODUCTS, "A")
    expected = {"title": "Mug", "barcode": None, "weight_grams": None, "requires_shipping": 0, "active": 0}
    assert found.items() >= expected.items()


def test_the_skus_that_an_order_waits_for_are_there_until_its_next_status(given: Given) -> None:
    postponed = StockReservationPostponed(order_id="o", attempt=1, unknown_skus=("A", "B"), lines=(), location=None, at=NOW)
    assert row(given("oms.stock", postponed), ORDER_STOCK, "o").items() >= {"status": "postponed", "unknown_skus": '["A","B"]'}.items()
    reserved = StockReserved(order_id="o", attempt=1, lines=(), expires_at=NOW, at=NOW)
    assert row(given("oms.stock", postponed, reserved), ORDER_STOCK, "o").items() >= {"status": "reserved", "unknown_skus": None}.items()


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            StockReservationFailed(order_id="o", attempt=1, shortages=(), unknown_skus=("A", "B"), at=NOW),
            "These SKUs have no active product: A, B",
        ),
        (
            StockReservationFailed(order_id="o", attempt=1, shortages=(Shortage(sku="A", requested=2, available=1),), at=NOW),
            "There is not enough: A: 2 wanted, 1 available",
        ),
        (
            StockReservationPostponed(order_id="o", attempt=1, unknown_skus=("A",), lines=(), location=None, at=NOW),
            "Waits until these products are defined: A",
        ),
        (WaitingOrdersResumed(sku="A", orders=("o", "p"), at=NOW), "2 orders no longer wait for A"),
        (msgspec.structs.replace(sample(ProductDefined), active=False), "MUG-BLUE is Mug, blue, which is not sold"),
    ],
)
def test_the_summary_of_what_concerns_products(event: Any, expected: str) -> None:
    assert summary(type_of(event).name, encode(event).decode()) == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("lines.3.quantity: must be at least 1, is 0", "lines.quantity"),
        ("lines.12.line_id: '7' is empty or used twice", "lines.line_id"),
        ("ship_to.country: 'XX' is not a code", "ship_to.country"),
        ("address2.line: no", "address2.line"),
        ("lines.3: no", "lines"),
        ("nothing fits", "order"),
    ],
)
def test_the_field_of_a_reason(reason: str, expected: str) -> None:
    assert field_of(reason) == expected


def test_an_order_waits_for_its_action_until_its_next_status(given: Given) -> None:
    ask = OrderActionRequired(order_id="o", action="investigate", reason="slow", deadline=NOW, at=NOW)
    assert row(given("oms.orders", ask), ORDERS, "o").items() >= {"action": "investigate", "deadline": NOW}.items()
    assert "status" not in row(given("oms.orders", ask), ORDERS, "o")
    moved = row(given("oms.orders", ask, OrderConfirmed(order_id="o", at=NOW)), ORDERS, "o")
    assert moved.items() >= {"status": "confirmed", "action": "", "deadline": None, "action_reason": None}.items()


def test_a_cancellation_is_open_until_it_is_rejected(given: Given) -> None:
    asked = OrderCancellationRequested(order_id="o", reason="", at=NOW)
    assert row(given("oms.orders", asked), ORDERS, "o")["cancellation"] == "no reason given"
    refused = OrderCancellationRejected(order_id="o", reason="already shipped", at=NOW)
    assert row(given("oms.orders", asked, refused), ORDERS, "o")["cancellation"] == ""


def test_units_allocated_after_the_reservation_expired_reduce_no_reservation(given: Given) -> None:
    lines = (AllocatedLine(line_id="1", sku="A", location="X", quantity=3),)
    found = folded(given("oms.stock", StockAllocated(order_id="o", lines=lines, reserved=False, at=NOW)))
    assert found[STOCK]["A", "X"] == {"reserved": 0, "allocated": 3}


def test_a_return_waits_for_its_action_until_its_next_status(given: Given) -> None:
    ask = ReturnActionRequired(order_id="o", return_id="r", action="inspect", deadline=NOW, at=NOW)
    assert row(given("oms.returns", ask), RETURNS, "o", "r") == {"action": "inspect", "deadline": NOW}
    moved = row(given("oms.returns", ask, ReturnExpired(order_id="o", return_id="r", at=NOW)), RETURNS, "o", "r")
    assert moved.items() >= {"status": "expired", "action": "", "deadline": None}.items()


def test_a_refused_command_for_an_unknown_order_makes_no_order(given: Given) -> None:
    found = folded(given("oms.orders", OrderCommandRefused(order_id="nobody", command="c", reason="not known", at=NOW)))
    assert not found[ORDERS]
    assert [key[0] for key in found[TIMELINE]] == ["nobody"]


def test_an_event_that_concerns_no_order_is_in_the_timeline_of_its_key(given: Given) -> None:
    adjusted = StockAdjusted(adjustment_id="C-1", lines=(StockLine(sku="A", location="X", quantity=-3),), reason="count", at=NOW)
    found = folded(given("oms.stock", adjusted))
    assert [key[0] for key in found[TIMELINE]] == ["C-1"]
    assert found[STOCK]["A", "X"] == {"on_hand": -3}


def test_what_is_said_of_a_position_holds_until_it_is_taken_back(given: Given) -> None:
    of: dict[str, Any] = {"sku": "A", "location": "X", "action": "resolve_shortfall", "at": NOW}
    required = StockActionRequired(units=2, deadline=NOW, **of)
    found = folded(given("oms.stock", required))
    assert found[STOCK_SIGNALS]["A", "X", "shortfall"] == {"holds": 1, "at": NOW, "deadline": NOW}
    assert found[STOCK]["A", "X"] == {}
    resolved = row(given("oms.stock", required, StockActionResolved(**of)), STOCK_SIGNALS, "A", "X", "shortfall")
    assert resolved == {"holds": 0, "at": NOW, "deadline": None}


def test_what_is_missing_of_a_transfer_is_on_the_way_no_longer(given: Given) -> None:
    of: dict[str, Any] = {"transfer_id": "T", "from_location": "X", "to_location": "Y", "at": NOW}
    sent = TransferStarted(lines=(StockLine(sku="A", location="X", quantity=3),), reason="", deadline=NOW, **of)
    asked = TransferActionRequired(action="close_transfer", units=3, deadline=NOW, **of)
    closed = TransferClosed(lines=(GoodsLine(sku="A", quantity=3),), reason="lost", **of)
    found = folded(given("oms.stock", sent, asked, closed))
    assert found[STOCK] == {("A", "X"): {"on_hand": -3}, ("A", "Y"): {"in_transit": 0}}
    assert found[TRANSFER_LINES]["T", "A"] == {"sent": 3, "written_off": 3}
    assert found[TRANSFERS]["T",].items() >= {"action": "close_transfer", "closed_at": NOW, "closed_reason": "lost"}.items()


def test_releasing_a_requested_allocation_changes_no_position(given: Given) -> None:
    released = StockReleased(order_id="o", stage="requested", lines=(), reason="canceled", at=NOW)
    found = folded(given("oms.stock", released))
    assert found[ORDER_STOCK]["o",]["status"] == "released"
    assert not found[STOCK]


def test_a_refund_of_nothing_is_no_failure(given: Given) -> None:
    nothing = RefundFailed(order_id="o", refund_id="r", request_id="", reason="nothing is left to refund", at=NOW)
    assert not folded(given("oms.payments", nothing))[PAYMENTS]
    refused = RefundFailed(order_id="o", refund_id="r", request_id="q", reason="card closed", at=NOW)
    assert row(given("oms.payments", refused), PAYMENTS, "o").items() >= {"failures": 1, "failure": "card closed"}.items()


def test_the_value_of_a_dead_letter_is_not_in_the_timeline(scenarios: Any) -> None:
    found = folded(scenarios.records)
    assert found[DEAD_LETTERS]["payment", "oms.orders/3/7"].items() >= {"status": "redriven", "reason": "ValueError: no"}.items()
    assert found[DEAD_LETTERS]["capture", "oms.channel.orders/1/2"]["status"] == "set_aside"
    data = [entry["data"] for entry in found[TIMELINE].values() if entry["type"] == "oms.operations.RecordSetAside.v1"]
    assert data
    assert not any("e30=" in text for text in data)


def test_nul_is_replaced(given: Given) -> None:
    declined = ReturnDeclined(order_id="o", return_id="r", reasons=("no\0pe",), at=NOW)
    found = folded(given("oms.returns", declined))
    assert found[RETURNS]["o", "r"]["reason"] == "no\ufffdpe"
    assert all("\\u0000" not in entry["data"] for entry in found[TIMELINE].values())


def test_every_readable_event_is_folded_and_has_a_summary() -> None:
    readable = {cls for topic in topics_read_by("projection") for cls in topic.messages} - {RedriveDeadLetters}
    assert set(PROJECTED) == readable
    dead_letter_events = {cls for cls in readable if cls.__module__.endswith("dead_letters")}
    assert set(SUMMARIES) == {cls for cls in readable if type_of(cls).upcast is None} - dead_letter_events - {*KEY_MESSAGES}
    assert {topic.name for topic in topics_read_by("projection")} - FOLDS.keys() == {"oms.projection.commands"}


def test_every_event_of_the_scenarios_has_a_summary(scenarios: Any) -> None:
    for record in scenarios.records:
        text = summary(record.type, record.value.decode())
        assert text
        assert "{" not in text
    lines = (AllocatedLine(line_id="1", sku="A", location="X", quantity=3),)
    reserved = StockReserved(order_id="o", attempt=2, lines=lines, expires_at=NOW, at=NOW)
    text = summary("oms.inventory.StockReserved.v1", encode(reserved).decode())
    assert text == "3 units are reserved until 2026-03-01 09:00 UTC, attempt 2"
    assert summary("oms.capture.SomethingNew.v1", "{}") == "Something new"


def test_each_last_column_is_written_by_one_topic(scenarios: Any) -> None:
    writers: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for topic in {record.topic for record in scenarios.records if not record.topic.endswith("dead-letters")}:
        for table, found in folded(record for record in scenarios.records if record.topic == topic).items():
            if table is not TIMELINE:
                for name in {name for values in found.values() for name in values} & table.last.keys():
                    writers[table.name, name].add(topic)
    assert writers
    assert {column: topics for column, topics in writers.items() if len(topics) > 1} == {}


def test_a_tied_column_is_set_whenever_the_one_it_is_tied_to_is(scenarios: Any) -> None:
    for record in scenarios.records:
        for table, found in folded([record]).items():
            for values in found.values():
                assert all(name in values for name, leader in table.tied.items() if leader in values)


@settings(deadline=None, max_examples=100)
@for_all(random=st.randoms(use_true_random=False))
def test_any_interleaving_of_topics_gives_the_same_rows(scenarios: Any, interleaved: Any, random: Random) -> None:
    assert rows(interleaved(scenarios.records, random)) == rows(scenarios.records)


# Three orders with every field are a large example, and there is no smaller one.
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.large_base_example, HealthCheck.data_too_large])
@for_all(random=st.randoms(use_true_random=False))
def test_any_interleaving_of_inconsistent_events_gives_the_same_rows(random_records: Any, interleaved: Any, random: Random) -> None:
    records = random_records(random, 3)
    assert rows(interleaved(records, random)) == rows(records)


def test_every_changed_column_belongs_to_its_table(scenarios: Any) -> None:
    for table, found in folded(scenarios.records).items():
        known = {*table.last, *table.sums}
        assert all(values.keys() <= known for values in found.values())
    assert {table.name for table in TABLES if not folded(scenarios.records)[table]} == set()


def test_a_position_sums_all_lines_of_an_event(given: Given) -> None:
    lines = (AllocatedLine(line_id="1", sku="A", location="X", quantity=3), AllocatedLine(line_id="2", sku="A", location="X", quantity=1))
    reserved = StockReserved(order_id="o", attempt=1, lines=lines, expires_at=NOW + timedelta(hours=2), at=NOW)
    assert row(given("oms.stock", reserved), STOCK, "A", "X") == {"reserved": 4}
