"""Spans for OpenTelemetry: one for each record that a service has handled, and one for each deadline's command and effect's outcome.

A trace is one key's whole flow, from the channel's record to the last delivery: its id is made of the key, the order's id. So all services
agree on it without any state, and it joins what an external party begins anew: a provider's response, a warehouse's command, a carrier's
scan. A span's id is made of the service and the record's place; events carry both on as their `traceparent`. A `traceparent` of another
trace (the channel's own, or a receipt of goods that lets an order be allocated) becomes a link.

A service that records no spans passes on the `traceparent` that came, as it is.

Only `open_traces` imports OpenTelemetry's SDK, and only where OTEL_EXPORTER_OTLP_ENDPOINT is set.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from hashlib import md5
from time import time_ns
from typing import TYPE_CHECKING, NamedTuple

from oms_runtime.model import IncomingRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Handled(NamedTuple):
    """What becomes one span. `received` is the `traceparent` that came with a record, empty where none did."""

    name: str
    trace_id: str
    span_id: str
    received: str = ""
    attributes: Mapping[str, str | int] = {}
    error: str = ""


RecordSpans = Callable[[Iterable[Handled], float], None]
"""Takes what one transaction has handled, after its commit, and how many seconds that took."""


def trace_id(key: str) -> str:
    """The trace of all that happens under a key, as 32 hexadecimal digits."""
    return md5(key.encode(), usedforsecurity=False).hexdigest()


def span_id(service: str, topic: str, partition: int, offset: int) -> str:
    """The span of a record that a service handles, as 16 hexadecimal digits."""
    return md5(f"{service}/{topic}/{partition}/{offset}".encode(), usedforsecurity=False).hexdigest()[:16]


def traceparent(trace: str, span: str) -> str:
    """As W3C Trace Context has it; sampled, because each service decides by the trace's id whether it exports."""
    return f"00-{trace}-{span}-01"


def handled_record(record: IncomingRecord, carried_on: str, error: str = "") -> Handled:
    """The span of a parsed record; `carried_on` is the `traceparent` of the events that it led to."""
    envelope = record.envelope
    assert envelope is not None
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
        "messaging.kafka.message.key": record.key or "",
        "cloudevents.event_id": envelope.id,
        "cloudevents.event_source": envelope.source,
        "cloudevents.event_type": envelope.type,
    }
    return Handled(f"process {envelope.type}", carried_on[3:35], carried_on[36:52], envelope.traceparent, attributes, error)


def open_traces(service: str) -> RecordSpans | None:
    """What exports the spans of a service by OTLP over HTTP; None where no endpoint is set.

    The SDK's own variables apply: OTEL_TRACES_SAMPLER, OTEL_BSP_…, OTEL_EXPORTER_OTLP_HEADERS. Raises ModuleNotFoundError where an
    endpoint is set and the extra `traces` is not installed.
    """
    if not os.environ.get(ENDPOINT):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    return record_spans_with(BatchSpanProcessor(OTLPSpanExporter()), service)


def record_spans_with(processor: "SpanProcessor", service: str) -> RecordSpans:
    """What makes spans of a service, and gives them to `processor`."""
    from opentelemetry.context import Context  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.id_generator import IdGenerator  # noqa: PLC0415
    from opentelemetry.trace import (  # noqa: PLC0415
        Link,
        NonRecordingSpan,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        set_span_in_context,
    )

    class GivenIds(IdGenerator):
        """The ids of the span that is made next."""

        trace = span = 0

        def generate_trace_id(self) -> int:
            return self.trace

        def generate_span_id(self) -> int:
            return self.span

    ids = GivenIds()
    resource = Resource.create({"service.namespace": "orderstream", "service.name": service})
    provider = TracerProvider(resource=resource, id_generator=ids)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("oms_runtime")

    def record(handled: Iterable[Handled], seconds: float) -> None:
        ended = time_ns()
        began = ended - int(seconds * 1e9)
        for each in handled:
            ids.trace, ids.span = int(each.trace_id, 16), int(each.span_id, 16)
            context, links = Context(), list[Link]()
            if each.received:
                other = SpanContext(int(each.received[3:35], 16), int(each.received[36:52], 16), is_remote=True, trace_flags=TraceFlags(1))
                if each.received[3:35] == each.trace_id:
                    context = set_span_in_context(NonRecordingSpan(other), context)
                else:
                    links.append(Link(other))
            kind = SpanKind.CONSUMER if each.attributes else SpanKind.INTERNAL
            span = tracer.start_span(each.name, context, kind, each.attributes, links, began)
            if each.error:
                span.set_status(Status(StatusCode.ERROR, each.error))
            span.end(ended)

    return record
