"""One trace a key, over all services and whatever enters from outside; and nothing of it where no endpoint is set."""

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from oms_contracts.message import encode, type_of
from oms_contracts.stock import ReceiveStock, StockAdjusted, StockReceived
from oms_local.testing import Servers
from oms_runtime.database import Connection
from oms_runtime.model import IncomingRecord, Service
from oms_runtime.runtime import Runtime
from oms_runtime.traces import ENDPOINT, record_spans_with, trace_id
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_trace_id
from probe import POISON, WEIGHED, Probe, headers_of, receipt, until
from pydantic import SecretStr

from tests.collector import collector

RECEIVE, RECEIVED, ADJUSTED = (f"process {type_of(cls).name}" for cls in (ReceiveStock, StockReceived, StockAdjusted))
FOREIGN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ZERO = f"00-{0:032x}-{0:016x}-00"


async def ignore(connection: Connection, batch: Sequence[IncomingRecord]) -> None:
    """A projector that writes nothing."""


def reader_of(probe: Probe) -> Service:
    """A second service, which reads what the probe publishes."""
    return Service(
        name=f"{probe.name}_reader",
        reads=(probe.outbox,),
        writes=(probe.dead_letters,),
        dead_letters=probe.dead_letters.name,
        projector=ignore,
        projected={StockReceived, StockAdjusted},
    )


def recorder(exporter: InMemorySpanExporter, service: str) -> Any:
    """What gives a service's spans to `exporter` at once."""
    return record_spans_with(SimpleSpanProcessor(exporter), service)


async def found(exporter: InMemorySpanExporter, count: int) -> bool:
    return len(exporter.get_finished_spans()) >= count


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    spans = exporter.get_finished_spans()
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: span for span in spans}


async def test_the_spans_of_one_records_flow_are_one_trace_over_two_services(probe: Probe, servers: Servers) -> None:
    exporter = InMemorySpanExporter()
    message = receipt("r", WEIGHED)
    settings = probe.settings().model_copy(update={"database_url": SecretStr(await servers.create_database("reader"))})
    reading = Runtime(reader_of(probe), settings, record_spans=recorder(exporter, "reader"))
    await probe.send_raw([(b"r", encode(message), [*headers_of(message), ("traceparent", FOREIGN.encode())])])

    async with probe.running(record_spans=recorder(exporter, "probe")):
        await reading.start()
        await until(partial(found, exporter, 4))
        await reading.stop()

    spans = by_name(exporter)
    contexts = {name: span.get_span_context() for name, span in spans.items()}
    assert spans.keys() == {RECEIVE, "RecordWeight", RECEIVED, ADJUSTED}
    assert {format_trace_id(context.trace_id) for context in contexts.values() if context} == {trace_id("r")}
    assert [spans[name].parent for name in (RECEIVE, "RecordWeight")] == [None, None]
    for cause, effect in ((RECEIVE, RECEIVED), ("RecordWeight", ADJUSTED)):
        parent, context = spans[effect].parent, contexts[cause]
        assert parent is not None
        assert context is not None
        assert parent.span_id == context.span_id
    assert [format_trace_id(link.context.trace_id) for link in spans[RECEIVE].links] == [FOREIGN[3:35]]
    assert [span.resource.attributes["service.name"] for span in spans.values()].count("reader") == 2


async def test_a_record_that_is_set_aside_has_a_span_with_its_reason(probe: Probe) -> None:
    exporter = InMemorySpanExporter()
    message = receipt("bad", POISON)
    await probe.send_raw([(b"bad", encode(message), [*headers_of(message), ("traceparent", ZERO.encode())])])

    async with probe.running(record_spans=recorder(exporter, "probe")):
        await until(partial(found, exporter, 1))

    status = by_name(exporter)[RECEIVE].status
    assert (status.status_code, status.description) == (StatusCode.ERROR, "ValueError: this receipt cannot be booked")


async def test_a_process_exports_its_spans_to_the_endpoint(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (url, spans):
        monkeypatch.setenv(ENDPOINT, url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        process = probe.start()
        await probe.send([receipt("r")])

        async def exported() -> bool:
            return bool(spans)

        await until(exported)
        process.terminate()
        await until(process.ended)

    assert process.exit_code == 0
    assert [(span.service, span.name, span.trace_id) for span in spans] == [(probe.name, RECEIVE, trace_id("r"))]


def test_without_an_endpoint_the_sdk_is_not_even_imported() -> None:
    program = (
        "import sys, oms_runtime.server, oms_runtime.traces as traces\n"
        "assert traces.open_traces('any') is None\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env={})
    assert ran.stdout == "[]\n"
