"""Every operation has a command, which asks for the same on Kafka and through the gateway; and what came of it is said."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from oms_cli.app import app
from oms_cli.connections import Connections
from oms_contracts.message import encode
from oms_contracts.operations import OPERATIONS, Operation, operation_of, topic_for
from oms_contracts.samples import sample
from oms_contracts.stock import StockCommandRefused, StockReceived
from typer.testing import CliRunner, Result

from libs.cli.tests.fakes import (
    NOON,
    ORDER,
    ORDER_ID,
    FakeConnections,
    NoServers,
    Run,
    accepted,
    entry,
    errors,
    order_detail,
    page,
    sample_of,
    shown,
)
from libs.cli.tests.life import fulfilling

KEY = "oms_k1_secret"
FULFILLMENT = f"/orders/{ORDER_ID}/fulfillments/BER"
RETURN = f"/orders/{ORDER_ID}/returns/RMA-1"

COMMANDS: dict[str, tuple[str, str]] = {
    "place-order": ("order place -", "/orders"),
    "cancel-order": ("order cancel web/W-1 --reason twice", f"/orders/{ORDER_ID}/cancel"),
    "amend-payment": ("order pay web/W-1 --kind card --token tok", f"/orders/{ORDER_ID}/payment"),
    "extend-wait": ("order wait web/W-1 --until 2026-12-24T12:00:00", f"/orders/{ORDER_ID}/wait"),
    "retry-capture": ("payment retry web/W-1", f"/orders/{ORDER_ID}/payment/retry"),
    "pay-outstanding": ("payment pay web/W-1 --kind card --token tok", f"/orders/{ORDER_ID}/payment/outstanding"),
    "write-off-payment": ("payment write-off web/W-1 --reason gone", f"/orders/{ORDER_ID}/payment/write-off"),
    "receive-stock": ("stock receive BER mug=2 pot=1", "/stock/receipts"),
    "adjust-stock": ("stock adjust BER mug=-2 --reason broken", "/stock/adjustments"),
    "count-stock": ("stock count BER mug=2 pot=0", "/stock/counts"),
    "set-stock-limits": ("stock limits mug --location BER --safety 1 --reorder-point 2", "/stock/limits"),
    "transfer-stock": ("stock transfer send BER HAM mug=2", "/stock/transfers"),
    "receive-transfer": ("stock transfer receive T-1 HAM", "/stock/transfers/T-1/receipts"),
    "close-transfer": ("stock transfer close T-1 HAM --reason lost", "/stock/transfers/T-1/close"),
    "quarantine-stock": ("stock quarantine BER mug=2 --reason recall", "/stock/quarantines"),
    "release-quarantine": ("stock release BER mug=1 --reason sound", "/stock/releases"),
    "write-off-quarantine": ("stock write-off BER mug=1 --reason broken", "/stock/write-offs"),
    "define-product": ("product define a/b --title Mug", "/products"),
    "deactivate-product": ("product deactivate a/b", "/products/a%2Fb/deactivate"),
    "accept-fulfillment": ("fulfillment accept web/W-1", f"{FULFILLMENT}/accept"),
    "pick-items": ("fulfillment pick web/W-1", f"{FULFILLMENT}/pick"),
    "pack-package": ("fulfillment pack web/W-1", f"{FULFILLMENT}/packages"),
    "ship-fulfillment": ("fulfillment ship web/W-1 --carrier DHL --tracking T-1", f"{FULFILLMENT}/ship"),
    "record-scan": ("package scan web/W-1 delivered", f"/orders/{ORDER_ID}/packages/340/scans"),
    "request-return": ("return request web/W-1", f"/orders/{ORDER_ID}/returns"),
    "cancel-return": ("return cancel web/W-1 --reason kept", f"{RETURN}/cancel"),
    "receive-return-items": ("return receive web/W-1 --location BER", f"{RETURN}/receipts"),
    "inspect-return": ("return inspect web/W-1 --line mug=1", f"{RETURN}/inspect"),
    "erase-customer": ("customer erase --email ada@example.com --reason asked --yes", "/customers/erase"),
    "redrive-dead-letters": ("dead-letters redrive inventory R-1", "/dead-letters/inventory/redrive"),
}
"""A command of each operation, and where the gateway is asked for it."""

READS: dict[str, Any] = {
    f"/orders/{ORDER_ID}": fulfilling(),
    "/transfers": page({"transfer_id": "T-1", "on_the_way": [{"sku": "mug", "quantity": 2}]}),
    "/dead-letters": page({"letter_id": "inventory/1", "status": "set_aside", "attempts": 1, "reason": "x"}),
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_has_a_command(oms: Run, connected: FakeConnections, operation: Operation) -> None:
    connected.responses |= READS
    words, _ = COMMANDS[operation.name]
    result = oms(*words.split(), "--no-wait", given=json.dumps(ORDER).encode())
    assert result.exit_code == 0, result.output
    [(topic, command)] = connected.published
    assert type(command) is operation.command
    assert topic == topic_for(operation, {"service": "inventory"})


class Gateway:
    """A server that follows the gateway's contract: `posted` are operations, `answers` what their outcomes are, by path."""

    def __init__(self) -> None:
        self.reads = dict(READS)
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.posted: list[tuple[str, dict[str, Any], dict[str, str], dict[str, list[str]]]] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path.removeprefix("/api/v1")
                found = gateway.reads.get(path)
                self.answer(*((200, found) if found is not None else (404, {"title": f"nothing at {path}", "reasons": []})))

            def do_POST(self) -> None:
                parts = urlsplit(self.path)
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                path = parts.path.removeprefix("/api/v1")
                gateway.posted.append((path, body, {k.lower(): v for k, v in self.headers.items()}, parse_qs(parts.query)))
                self.answer(*gateway.answers.get(path, (202, {"event_id": "e-1", "key": "K", "operation": "x", "outcome": None})))

            def answer(self, status: int, content: Any) -> None:
                if self.headers["authorization"] != f"Bearer {KEY}":
                    status, content = 401, {"title": "the key is not known", "reasons": ["Authorization: ask for another"]}
                self.send_response(status)
                self.send_header("content-type", "application/json" if status < 300 else "application/problem+json")
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, format: str, *args: Any) -> None:  # the name is the library's
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    thread = Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def at_the_gateway(gateway: Gateway) -> Callable[..., Result]:
    """Runs `oms` with the settings of the gateway alone."""

    def run(*words: str, given: bytes | None = None, key: str | None = KEY, reason: str = "") -> Result:
        ids = iter(f"id-{number}" for number in range(1, 100))
        made = Connections(
            url=f"{gateway.url}/", key=key, clock=lambda: NOON, new_id=lambda: next(ids), find_servers=NoServers, reason=reason
        )
        with closing(made):
            return CliRunner().invoke(app, list(words), obj=made, input=given)

    return run


def parameters_of(operation: Operation, path: str) -> dict[str, str]:
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.path)
    found = re.fullmatch(pattern, path)
    assert found is not None, path
    return {name: unquote(value) for name, value in found.groupdict().items()}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_the_gateway_is_asked_for_the_same(
    oms: Run, connected: FakeConnections, gateway: Gateway, at_the_gateway: Callable[..., Result], operation: Operation
) -> None:
    connected.responses |= READS
    words, path = COMMANDS[operation.name]
    given = json.dumps(ORDER).encode()
    oms(*words.split(), "--no-wait", given=given)
    result = at_the_gateway(*words.split(), "--no-wait", given=given)
    assert result.exit_code == 0, result.output
    [(posted, body, _, query)] = gateway.posted
    assert (posted, query) == (path, {})
    [(_, command)] = connected.published
    assert encode(operation.message(parameters_of(operation, posted), body)) == encode(command)


def test_the_gateway_is_told_why_and_what_counts_once(gateway: Gateway, at_the_gateway: Callable[..., Result]) -> None:
    words = ("stock", "receive", "BER", "mug=2", "--receipt-id", "R", "--no-wait")
    at_the_gateway(*words, reason="gezählt, 2")
    at_the_gateway(*words)
    at_the_gateway("product", "deactivate", "mug", "--no-wait")
    first, second, other = [headers for _, _, headers, _ in gateway.posted]
    assert unquote(first["x-reason"]) == "gezählt, 2"
    assert first["idempotency-key"] == second["idempotency-key"]
    assert "x-reason" not in second
    assert "idempotency-key" not in other


@pytest.mark.parametrize(
    ("status", "content", "code", "expected"),
    [
        (200, {"outcome": {"status": "done", "events": [{"summary": "BER is accepted"}], "reasons": []}}, 0, "BER is accepted\n"),
        (
            409,
            {"title": "accept-fulfillment was refused", "reasons": ["it is picked"]}
            | {"outcome": {"status": "refused", "events": [], "reasons": ["it is picked"]}},
            1,
            "error: refused to accept a fulfillment: it is picked\n",
        ),
        (409, {"title": "a request with this key is in hand", "reasons": ["wait"]}, 1, "error: a request with this key is in hand; wait\n"),
        (403, {"title": "it needs the scope fulfillments:change", "reasons": []}, 1, "error: it needs the scope fulfillments:change\n"),
    ],
)
def test_what_the_gateway_answers_is_said(
    *, gateway: Gateway, at_the_gateway: Callable[..., Result], status: int, content: dict[str, Any], code: int, expected: str
) -> None:
    gateway.reads[f"/orders/{ORDER_ID}"] = fulfilling("planned")
    gateway.answers[f"{FULFILLMENT}/accept"] = (status, {"event_id": "e", "key": ORDER_ID, "operation": "accept-fulfillment"} | content)
    result = at_the_gateway("fulfillment", "accept", "web/W-1", "--timeout", "3")
    assert (result.exit_code, result.output) == (code, expected)
    assert gateway.posted[0][3] == {"wait": ["3s"]}


def test_an_outcome_that_the_gateway_did_not_wait_for_is_in_the_timeline(gateway: Gateway, at_the_gateway: Callable[..., Result]) -> None:
    received = sample_of(StockReceived, receipt_id="R", lines=[{"sku": "mug", "location": "BER", "quantity": 2}])
    gateway.answers["/stock/receipts"] = (202, {"event_id": "e", "key": "R", "operation": "receive-stock", "outcome": None})
    gateway.reads["/orders/R/timeline"] = page(entry(received, causation="e"))
    result = at_the_gateway("stock", "receive", "BER", "mug=2", "--receipt-id", "R")
    assert (result.exit_code, result.stdout) == (0, "receipt R is booked: 2 units of 1 SKU\n")


def test_an_order_that_is_placed_through_the_gateway_is_waited_for(gateway: Gateway, at_the_gateway: Callable[..., Result]) -> None:
    gateway.answers["/orders"] = (202, {"event_id": "e", "key": ORDER_ID, "operation": "place-order", "outcome": None})
    gateway.reads |= {f"/orders/{ORDER_ID}": order_detail("confirmed"), f"/orders/{ORDER_ID}/timeline": page(entry(accepted()))}
    result = at_the_gateway("order", "place", "-", given=json.dumps(ORDER).encode())
    assert (result.exit_code, result.stdout) == (0, f"order {ORDER_ID} is confirmed\n")


def test_without_a_key_or_with_a_wrong_one_nothing_is_asked(gateway: Gateway, at_the_gateway: Callable[..., Result]) -> None:
    [missing] = errors(at_the_gateway("stock", "receive", "BER", "mug=2", key=None), 2)
    assert missing.startswith("OMS_KEY: is not set")
    [wrong] = errors(at_the_gateway("stock", "show", key="oms_other"), 1)
    assert wrong == "the key is not known; Authorization: ask for another"
    assert "oms_other" not in wrong
    assert gateway.posted == []


def test_a_gateway_that_is_down_is_out_of_reach_and_what_needs_the_broker_says_so(
    gateway: Gateway, at_the_gateway: Callable[..., Result]
) -> None:
    [line] = errors(at_the_gateway("lag"), 2)
    assert line == "OMS_KAFKA_BOOTSTRAP_SERVERS: is not set; this goes to the broker, and not through --url"
    gateway.url = "http://127.0.0.1:1"
    [line] = errors(at_the_gateway("stock", "show"), 3)
    assert "--url or OMS_URL names it" in line


def test_products_of_a_file_go_through_the_gateway_one_by_one(gateway: Gateway, at_the_gateway: Callable[..., Result]) -> None:
    result = at_the_gateway("product", "import", "-", "--jsonl", given=b'{"sku":"A","title":"a"}\n{"sku":"B","title":"b"}\n')
    assert (result.exit_code, result.stdout) == (0, "2 products sent\n")
    assert [(path, body["sku"]) for path, body, _, _ in gateway.posted] == [("/products", "A"), ("/products", "B")]


# What came of it, on Kafka


def test_the_outcome_is_a_sentence_and_a_document(oms: Run, connected: FakeConnections) -> None:
    accepted = entry(sample(operation_of("accept-fulfillment").command), causation="id-1") | {"summary": "BER is accepted"}
    connected.responses |= {f"/orders/{ORDER_ID}": fulfilling("planned"), f"/orders/{ORDER_ID}/timeline": [page(), page(accepted)]}
    assert oms("fulfillment", "accept", "web/W-1").stdout == "BER is accepted\n"
    connected.responses[f"/orders/{ORDER_ID}/timeline"] = page(accepted | {"causation": "id-2"})
    answer = shown(oms("fulfillment", "accept", "web/W-1", "--json"))
    assert answer.items() >= {"order_id": ORDER_ID, "event_id": "id-2", "done": True, "reasons": []}.items()
    assert [event["summary"] for event in answer["events"]] == ["BER is accepted"]


def test_a_refusal_is_an_error_with_its_reason(oms: Run, connected: FakeConnections) -> None:
    refused = sample_of(StockCommandRefused, reasons=["lines: no", "reason: no"])
    connected.responses["/orders/A/timeline"] = page(entry(refused, causation="other"), entry(sample(StockReceived), causation="x"))
    words = ("stock", "adjust", "BER", "mug=-2", "--reason", "broken", "--adjustment-id", "A")
    sent = shown(oms(*words, "--no-wait", "--json"))
    connected.responses["/orders/A/timeline"] = page(entry(refused, causation=sent["event_id"]))
    assert errors(oms(*words), 1) == ["refused to correct stock: lines: no", "refused to correct stock: reason: no"]


def test_a_command_that_may_have_no_effect_is_not_waited_for_long(oms: Run, connected: FakeConnections) -> None:
    connected.responses |= {f"/orders/{ORDER_ID}": fulfilling("picked"), f"/orders/{ORDER_ID}/timeline": page()}
    [line] = errors(oms("fulfillment", "accept", "web/W-1", "--timeout", "1"), 1)
    expected = (
        "asked to accept a fulfillment, and no effect is known after 1 s: the fulfillment is picked; `oms fulfillment show web/W-1 BER`"
    )
    assert line.startswith(expected)
