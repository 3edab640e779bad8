from datetime import UTC, datetime

from oms_contracts.order_parts import ChargedLine
from oms_contracts.orders import OrderCompleted
from oms_contracts.payments import RefundFailed, RefundSettled
from oms_returns.app import make_service
from oms_returns.commands import OpenReturnWindow, RecordRefund, RecordRefundFailure
from oms_returns.decider import Terms
from oms_returns.policies import on_order_completed, on_refund_failed, on_refund_settled

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LINES = (ChargedLine(line_id="A", sku="mug", quantity=3, amount=1_000),)


def failed(request_id: str) -> RefundFailed:
    return RefundFailed(order_id="o", refund_id="r1", request_id=request_id, reason="no", at=NOON)


def test_a_completed_order_opens_its_return_window():
    completed = OrderCompleted(order_id="o", currency="EUR", lines=LINES, at=NOON)
    assert list(on_order_completed(completed)) == [OpenReturnWindow(order_id="o", currency="EUR", lines=LINES, completed_at=NOON)]


def test_a_refunds_id_is_its_returns_id():
    settled = RefundSettled(order_id="o", refund_id="r1", request_id="q", amount=300, currency="EUR", at=NOON)
    assert list(on_refund_settled(settled)) == [RecordRefund(order_id="o", return_id="r1", amount=300)]


def test_a_failed_refund_is_owed_unless_nothing_was_left_to_refund():
    assert list(on_refund_failed(failed("q"))) == [RecordRefundFailure(order_id="o", return_id="r1", owed=True)]
    assert list(on_refund_failed(failed(""))) == [RecordRefundFailure(order_id="o", return_id="r1", owed=False)]


def test_the_service_reads_the_topics_of_its_policies_and_commands():
    service = make_service(Terms())
    assert {topic.name for topic in service.reads} == {
        "oms.orders",
        "oms.payments",
        "oms.returns.commands",
        "oms.returns.commands.{warehouse}",
    }
    carried = {cls for topic in service.reads for cls in topic.messages}
    assert set(service.policies) <= carried
    assert {cls.__name__ for cls in service.commands} == {"RequestReturn", "ReceiveReturnItems", "InspectReturn", "CancelReturn"}
