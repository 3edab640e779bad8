from datetime import UTC, datetime

from oms_contracts.order_parts import SealedData
from oms_contracts.orders import OrderCancellationRequested, OrderReleased
from oms_contracts.values import AllocatedLine
from oms_fulfillment.app import make_service
from oms_fulfillment.commands import PlanFulfillments, StopFulfillments
from oms_fulfillment.policies import POLICIES
from oms_runtime.sealing import Sealer

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LINES = (AllocatedLine(line_id="1", sku="MUG", location="BER", quantity=2),)


def test_a_released_order_is_planned():
    sealed = SealedData(key_id="k", data="")
    released = OrderReleased(order_id="A", delivery="ship", lines=LINES, at=NOON, sealed=sealed)
    assert list(POLICIES[OrderReleased](released)) == [PlanFulfillments(order_id="A", delivery="ship", lines=LINES, sealed=sealed)]


def test_a_cancellation_request_keeps_its_time():
    requested = OrderCancellationRequested(order_id="A", reason="changed my mind", at=NOON)
    expected = StopFulfillments(order_id="A", reason="changed my mind", requested_at=NOON)
    assert list(POLICIES[OrderCancellationRequested](requested)) == [expected]


def test_every_handled_event_is_on_a_topic_that_fulfillment_reads():
    service = make_service(Sealer(bytes(32)))
    readable = {cls for topic in service.reads for cls in topic.messages}
    assert set(POLICIES) <= readable
    assert {topic.name for topic in service.reads} == {
        "oms.orders",
        "oms.fulfillment.commands",
        "oms.fulfillment.commands.{warehouse}",
        "oms.customer-keys",
    }
    assert {topic.name for topic in service.writes} == {"oms.fulfillments", "oms.fulfillment-orders", "oms.fulfillment.dead-letters"}
