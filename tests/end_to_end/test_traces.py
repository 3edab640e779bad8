"""Every order is one trace, from the channel's record to its delivery, over all services that handled it."""

from collections import defaultdict
from collections.abc import Iterator

import pytest
from oms_contracts.catalogue import SERVICES
from oms_demo.__main__ import run
from oms_local.stack import Stack

from tests.collector import Exported, collector

ORDERS = 5
SEED = 7
WAYS_IN = {"process oms.channel.OrderPlaced.v2", "process oms.channel.WebhookReceived.v1"}


@pytest.fixture(scope="module", autouse=True)
def spans() -> Iterator[list[Exported]]:
    """What the services export, from before the stack starts."""
    with collector() as (url, exported), pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield exported


async def test_every_order_is_one_trace_from_channel_to_delivery(spans: list[Exported], stack: Stack) -> None:
    report = await run(stack, SEED, ORDERS)
    assert report["green"]
    stack.down()  # whatever is not exported yet is exported at a process's end

    traces: defaultdict[str, list[Exported]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
    orders = [trace for trace in traces.values() if WAYS_IN & {span.name for span in trace}]
    assert len(orders) == ORDERS
    completed = [trace for trace in orders if "process oms.capture.OrderCompleted.v2" in {span.name for span in trace}]
    assert completed
    for trace in completed:
        ids = [span.span_id for span in trace]
        assert {*SERVICES, "projection"} - {"returns"} <= {span.service for span in trace}
        assert "process oms.tracking.PackageDelivered.v1" in {span.name for span in trace}
        assert len(set(ids)) == len(ids)
        assert {span.parent_id for span in trace} - {""} <= set(ids), "a parent is missing"
