"""`oms payment` and `oms order pay` without servers."""

from typing import Any

from oms_contracts.orders import AmendPayment
from oms_contracts.values import PaymentMethod

from libs.cli.tests.fakes import ORDER_ID, FakeConnections, Run, errors, order_detail, page, rows, shown

TOTALS: dict[str, Any] = {
    "order_id": ORDER_ID,
    "status": "captured",
    "at": "2026-11-24T12:00:00Z",
    "currency": "EUR",
    "attempt": 1,
    "authorized": 1495,
    "captured": 1000,
    "refunded": 5,
    "voided": 0,
    "failures": 1,
    "failure": "the capture was refused",
    "next_check_at": None,
}


def test_payments_are_listed_in_decimals(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/payments"] = page(TOTALS)
    [row] = rows(oms("payment", "list", "--failed", "--status", "captured"))
    assert row[3:] == ["14.95 EUR", "10.00 EUR", "0.05 EUR", "0.00 EUR", "the capture was refused"]
    assert (connected.requests[0].params["failed"], connected.requests[0].params["status"]) == ("true", "captured")
    assert shown(oms("payment", "list", "--json")) == {"payments": [TOTALS], "more": False}


def test_a_payment_is_shown_with_each_movement_of_money(oms: Run, connected: FakeConnections) -> None:
    payment = {
        "totals": TOTALS,
        "authorizations": [
            {"authorization_id": "A", "attempt": 1, "amount": 1495, "at": TOTALS["at"], "voided_at": None, "void_failure": None}
        ],
        "captures": [
            {"fulfillment_id": "F", "status": "captured", "requested": 1000, "captured": 1000, "failure": None, "at": TOTALS["at"]}
        ],
        "refunds": [{"refund_id": "R", "status": "settled", "requested": 5, "refunded": 5, "reason": None, "at": TOTALS["at"]}],
    }
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("released", payment=payment)
    result = oms("payment", "show", "web/W-1")
    assert "a person must act: the capture was refused" in result.stdout
    assert [row[0] for row in rows(result)] == ["14.95 EUR", "A", "F", "R"]
    assert shown(oms("payment", "show", "web/W-1", "--json")) == payment
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("accepted")
    [line] = errors(oms("payment", "show", "web/W-1"), 1)
    assert line == "order web/W-1 has no payment here, or none yet: it is accepted"


def test_an_order_is_paid_by_other_means(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("awaiting_payment")
    oms("order", "pay", "web/W-1", "--kind", "card", "--token", "tok", "--attempt", "1", "--no-wait")
    expected = AmendPayment(order_id=ORDER_ID, payment=PaymentMethod(kind="card", token="tok"), attempt=1)  # of a test
    assert connected.published == [("oms.capture.commands", expected)]
