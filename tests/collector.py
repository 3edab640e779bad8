"""A collector of OpenTelemetry's spans, which a test starts."""

from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Exported(NamedTuple):
    """A span as it was exported; its ids are hexadecimal, `parent_id` is empty where there is no parent."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


@contextmanager
def collector() -> Generator[tuple[str, list[Exported]]]:
    """Collect spans by OTLP over HTTP: the endpoint, and what it was sent so far."""
    spans: list[Exported] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            for resource in request.resource_spans:
                service = {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"]
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        spans.append(Exported(service, span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # the name is the base class's
            """Nothing: standard error is the tests'."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
