"""Every command without servers: a query API of given responses, and a broker that only records what is published."""

import base64
import csv
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace
from oms_adapters.rows import RowMapping, default_mapping
from oms_cli import output
from oms_cli.app import app
from oms_cli.connections import Connections, Offsets, newest_group
from oms_cli.errors import CliError
from oms_cli.events import causal, record_as_json
from oms_cli.exports import COLUMNS
from oms_cli.order_files import Place, read_csv
from oms_cli.plugins import Servers
from oms_client.publisher import Asker, check_message, content_id
from oms_contracts.catalogue import TOPICS, topic_of
from oms_contracts.channel import WebhookReceived, webhook_key
from oms_contracts.content_hash import content_hash_of
from oms_contracts.customers import CustomerErased, EraseCustomer
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.envelope import Envelope, to_headers
from oms_contracts.message import decode, encode, key_of, type_of, validate
from oms_contracts.orders import CancelOrder, OrderAccepted, OrderCancellationRejected, OrderCommandRefused, OrderRejected
from oms_contracts.products import DeactivateProduct, DefineProduct, ProductCommandRefused, ProductDefined
from oms_contracts.samples import example_order, sample
from oms_contracts.stock import ReceiveStock, StockCommandRefused, StockReceived
from oms_contracts.values import StockLine, order_id_of
from oms_kafka.settings import KafkaSettings
from typer.testing import CliRunner, Result

from tests.documentation.pages import names, section
from tests.documentation.pages import rows as page_rows

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ORDER: dict[str, Any] = {
    "channel": "web",
    "channel_reference": "W-1",
    "placed_at": "2026-11-24T11:00:00Z",
    "customer": {"id": "ada"},
    "currency": "EUR",
    "lines": [{"line_id": "1", "sku": "mug", "quantity": 2, "unit_price": 500, "total": 1000}],
    "total": 1495,
    "shipping": 495,
    "payment": {"kind": "card", "token": "tok_visa"},
    "delivery": "pickup",
}
ORDER_ID = order_id_of("web", "W-1")
RECEIPT = ReceiveStock(receipt_id="R-1", lines=(StockLine(sku="mug", location="BER", quantity=5),))


class FakeConnections(Connections):
    """Without servers. `responses` are the query API's by path (of a list one after the other, the last for ever); `published` is what the
    broker was given, with its topic.
    """

    def __init__(self) -> None:
        ids = iter(f"id-{number}" for number in range(1, 100))
        super().__init__(
            query_url="http://query",
            query_token="t",
            clock=lambda: NOON,
            new_id=lambda: next(ids),
            find_servers=NoServers,
            publish=self._record,
            transport=httpx.MockTransport(self._respond),
        )
        self.responses: dict[str, Any] = {}
        self.requests: list[httpx.URL] = []
        self.published: list[tuple[str, Any]] = []
        self.askers: list[Asker] = []
        self.known_offsets = Offsets(begins={}, ends={}, committed={})
        self.known_metrics: dict[str, dict[str, float]] = {}

    def offsets(self, topics: Any, groups: Any) -> Offsets:
        return self.known_offsets

    def metrics(self, service: str, names: Any) -> dict[str, float] | None:
        return self.known_metrics.get(service)

    async def _record(
        self, _settings: KafkaSettings, message: Any, *, topic: str | None, event_id: str | None, asker: Asker, **_: Any
    ) -> str:
        check_message(message)
        self.askers.append(asker)
        self.published.append((topic or topic_of(message), message))
        return event_id or content_id(message)

    def publish_all(self, messages: Any, on_acknowledged: Callable[[int], None]) -> None:
        for message in messages:
            check_message(message)
            self.published.append((topic_of(message), message))
            on_acknowledged(1)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.url)
        response = self.responses.get(request.url.path)
        if isinstance(response, list):
            several = cast(list[Any], response)
            response = several.pop(0) if len(several) > 1 else several[0]
        if isinstance(response, Exception):
            raise response
        if isinstance(response, httpx.Response):
            return response
        return problem(404, "it is not known here", "ask again in a moment") if response is None else httpx.Response(200, json=response)


class NoServers:
    """What an installed package would know of servers, for tests that reach none."""

    hint = "`oms stack status` shows what runs"

    def kafka(self, user: str) -> dict[str, str]:
        return {"bootstrap_servers": "broker:9092", "username": user, "password": "p"}

    def service_url(self, service: str) -> str:
        return f"http://{service}"

    def environment(self, service: str) -> dict[str, str]:
        return {"OMS_DATABASE_URL": "postgresql://127.0.0.1:1/none", "OMS_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}

    def query_url(self) -> str:
        return "http://projection-api"

    def query_token(self) -> str:
        return "of-the-stack"


def problem(status: int, title: str, *reasons: str) -> httpx.Response:
    content = {"title": title, "status": status, "reasons": reasons}
    return httpx.Response(status, content=json.dumps(content), headers={"content-type": "application/problem+json"})


def page(*items: Any, more: str | None = None) -> dict[str, Any]:
    return {"items": items, "next": more}


def entry(event: Any, position: int = 1, causation: str = "", at: datetime = NOON, **asker: str) -> dict[str, Any]:
    """A timeline's entry of an event."""
    kind = type_of(event).name
    return {
        "time": at.isoformat(),
        "topic": "oms.orders",
        "type": kind,
        "summary": f"about {kind}",
        "source": f"/oms/{kind.split('.')[1]}",
        "position": position,
        "sequence": 1,
        "causation": causation,
        **asker,
        "data": json.loads(encode(event)),
    }


def accepted(**other: Any) -> OrderAccepted:
    """The event of ORDER that capture publishes."""
    placed = validate("oms.channel.OrderPlaced.v1", json.dumps(ORDER | other).encode())
    values = {"order_id": ORDER_ID, "content_hash": content_hash_of(placed), "ship_to": None, "location": None}
    return sample_of(OrderAccepted, **ORDER | values | other)


def rejected(reasons: list[str], **other: Any) -> OrderRejected:
    """The event that capture publishes of ORDER, had it been invalid."""
    return sample_of(OrderRejected, content_hash=accepted(**other).content_hash, reasons=reasons)


def sample_of(cls: type[Any], **values: Any) -> Any:
    """A sample of a message with some of its JSON replaced."""
    return decode(type_of(cls).name, json.dumps(json.loads(encode(sample(cls))) | values).encode())


def order_detail(status: str, **other: Any) -> dict[str, Any]:
    """ORDER in the query API."""
    nothing = dict.fromkeys(
        (
            *("customer_email", "attempt", "payment_kind", "location", "ship_to", "action", "action_reason", "action_since", "deadline"),
            *("number", "customer_name", "customer_phone", "taxes_included", "taxes", "discount", "fees", "payments", "bill_to"),
            *("pickup", "promise", "note", "gift", "purchase_order", "tags", "attributes"),
        )
    )
    known = {
        "order_id": ORDER_ID,
        "channel": "web",
        "reference": "W-1",
        "customer_id": "ada",
        "status": status,
        "since": "2026-11-24T12:00:00.5Z",
        "placed_at": "2026-11-24T11:00:00Z",
        "currency": "EUR",
        "total": 1495,
        "shipping": 495,
        "cancellation": None,
        "ended_because": None,
        "conflicts": 0,
        "delivery": "pickup",
        "lines": [
            {
                "line_id": "1",
                "sku": "mug",
                "quantity": 2,
                "unit_price": 500,
                "discount": 0,
                "title": "Mug, blue",
                "taxes": 0,
                "total": 1000,
                "shipped": 2,
                "delivered": 1,
                "returned": 0,
            }
        ],
        "stock": None,
        "payment": None,
        "fulfillments": [],
        "packages": [],
        "returns": [],
    }
    return nothing | known | other


def letter(status: str = "set_aside", attempts: int = 1, letter_id: str = "oms.inventory.commands/3/41", **other: Any) -> dict[str, Any]:
    return {
        "service": "inventory",
        "letter_id": letter_id,
        "status": status,
        "at": "2026-11-24T12:00:00Z",
        "source_topic": "oms.inventory.commands",
        "source_partition": 3,
        "source_offset": 41,
        "source_key": "R-1",
        "source_type": type_of(ReceiveStock).name,
        "reason": "UnreadableMessage: lines: is required\nand more",
        "stack": "Traceback",
        "headers": {"ce_id": "1"},
        "value": base64.b64encode(b'{"receipt_id":"R-1"}').decode(),
        "attempts": attempts,
    } | other


@pytest.fixture
def connected() -> Iterator[FakeConnections]:
    made = FakeConnections()
    yield made
    made.close()


Run = Callable[..., Result]


@pytest.fixture
def oms(connected: FakeConnections) -> Run:
    """Runs `oms` with the words given, as a shell would split them."""

    def run(*words: str, given: bytes | None = None) -> Result:
        result = CliRunner().invoke(app, list(words), obj=connected, input=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def rows(result: Result) -> list[list[str]]:
    """The cells of every row of the tables that were shown."""
    assert result.exit_code == 0, result.output
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in result.stdout.splitlines() if line.startswith("│")]


def shown(result: Result) -> Any:
    """The one JSON document that was shown."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def errors(result: Result, code: int) -> Sequence[str]:
    """The lines of the error."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert lines
    assert all(line.startswith("error: ") for line in lines)
    return [line.removeprefix("error: ") for line in lines]


# Usage


COMMANDS = [
    *(f"order {name}" for name in ("example", "place", "import", "export", "show", "cancel")),
    *(f"customer {name}" for name in ("find", "export", "erase")),
    *(f"stock {name}" for name in ("receive", "show")),
    *(f"product {name}" for name in ("define", "deactivate", "import", "list", "show")),
    *(f"events {name}" for name in ("tail", "show")),
    "lag",
    *(f"dead-letters {name}" for name in ("list", "show", "redrive")),
    *(f"inbox {name}" for name in ("list", "show", "take", "discard")),
    "store recover",
    "user create",
    *(f"checkpoints {name}" for name in ("show", "reset")),
    *(f"read-models {name}" for name in ("build", "status", "switch", "drop", "verify")),
]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help_with_an_example(oms: Run, command: str) -> None:
    result = oms(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: oms {command}".strip() in result.stdout


def test_the_help_lists_the_exit_codes(oms: Run) -> None:
    text = " ".join(oms("--help").stdout.split())
    assert "0 fine; 1 not found, refused, or not the outcome that was asked for; 2 invalid usage or input; 3 the stack or a server" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("order show", "Missing argument 'ORDER'; see oms order show --help"),
        ("order show W-1", "'W-1' is neither an order id (a UUID) nor CHANNEL/REFERENCE, such as web/W-1001; see oms order show --help"),
        ("order show /W-1", "'/W-1' is neither an order id"),
        ("order sow", "No such command 'sow'"),
        ("order place /nowhere/order.json", "/nowhere/order.json': No such file or directory"),
        ("order export --format csv --brief", "--brief: is for --format jsonl"),
        ("order export --format csv --from yesterday", "'yesterday' is neither a date nor a date and time"),
        ("order export --format csv -o /nowhere/orders.csv", "--output: /nowhere/orders.csv cannot be written: No such file or directory"),
        ("order import README.md", "README.md ends in none of .jsonl, .ndjson, .csv; --format says how it is written"),
        ("order import README.md --format jsonl --channel web", "--mapping, --channel: are for CSV"),
        ("order import README.md --format csv --delimiter ab", "--delimiter: must be one character, is 'ab'"),
        ("order import README.md --format csv", "FILE: README.md: line 1: has 1 columns"),
        ("stock receive mug BER 0", "Invalid value for 'QUANTITY'"),
        ("product define MUG", "Missing option '--title'"),
        ("product import /nowhere/products.csv", "FILE: /nowhere/products.csv cannot be read: No such file or directory"),
        ("events tail nonsense", "there is no topic 'nonsense'; there are: channel.orders, channel.webhooks, orders, stock"),
        ("events tail --type OrderLost", "there is no type 'OrderLost'"),
        ("events tail --count 0", "Invalid value for '--count'"),
        ("customer find", "no customer is named: give --channel with --id, or --email"),
        ("customer export --channel web", "--channel and --id: one is given without the other; together they name a customer"),
        ("customer erase --id ada --reason x --yes", "--channel and --id: one is given without the other"),
        ("customer erase --email a@b.c --yes", "Missing option '--reason'"),
        ("dead-letters list --service sales", "'sales' is not one of 'capture', 'inventory'"),
        ("dead-letters redrive inventory R-1 --letter-id x", "--letter-id: names the dead letter for --value or --discard"),
        ("dead-letters redrive inventory R-1 --discard", "--letter-id: names the dead letter for --value or --discard"),
        ("dead-letters redrive inventory R-1 --letter-id x --discard --value -", "--discard: a dead letter that is dropped has no --value"),
    ],
)
def test_wrong_usage_is_one_line_of_error(oms: Run, connected: FakeConnections, words: str, expected: str) -> None:
    [line] = errors(oms(*words.split()), 2)
    assert expected in line
    assert connected.published == []


# The query API


@pytest.mark.parametrize(
    ("answer", "code", "expected"),
    [
        (problem(404, "order 1 is not known here", "ask again"), 1, "order 1 is not known here; ask again"),
        (problem(422, "a parameter is not sound", "limit: too large"), 2, "a parameter is not sound: limit: too large"),
        (problem(503, "the database does not answer"), 3, "the database does not answer"),
        (
            httpx.ConnectError("refused"),
            3,
            "the query API at http://query does not answer (refused); --query-url or OMS_QUERY_URL names it, `oms stack status` shows",
        ),
        (httpx.ReadTimeout("timed out"), 3, "the query API at http://query does not answer (timed out)"),
        (httpx.Response(404, json={"detail": "Not Found"}), 3, "the server at http://query is not the query API"),
        (httpx.Response(200, text="<html>"), 3, "the server at http://query is not the query API"),
    ],
)
def test_an_error_of_the_query_api_is_an_exit_code_and_a_line(
    oms: Run, connected: FakeConnections, answer: Any, code: int, expected: str
) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = answer
    [line] = errors(oms("order", "show", "web/W-1"), code)
    assert line.startswith(expected)


def test_all_pages_of_a_list_are_read(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/orders/{ORDER_ID}/timeline"] = [page(entry(accepted(), 1), more="x"), page(entry(accepted(), 2))]
    assert [event["position"] for event in shown(oms("events", "show", "web/W-1", "--json"))["events"]] == [1, 2]
    assert [url.params.get("after") for url in connected.requests] == [None, "x"]


def test_a_sku_is_one_part_of_the_path(oms: Run, connected: FakeConnections) -> None:
    oms("stock", "show", "a/b?c#d é")
    assert connected.requests[0].raw_path == b"/stock/a%2Fb%3Fc%23d%20%C3%A9?limit=1"


# order


def placing(oms: Run, *more: str, order: dict[str, Any] = ORDER) -> Result:
    return oms("order", "place", "-", *more, given=json.dumps(order).encode())


def test_an_order_is_published_on_the_topic_of_the_channels(oms: Run, connected: FakeConnections, tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps(ORDER))
    assert oms("order", "place", str(file)).stdout == f"order {ORDER_ID} is placed; `oms order show {ORDER_ID}` shows its progress\n"
    [(topic, placed)] = connected.published
    assert topic == "oms.channel.orders"
    assert (key_of(placed), placed.total) == (ORDER_ID, 1495)
    assert connected.requests == []


def test_every_invalid_field_of_an_order_is_named(oms: Run, connected: FakeConnections) -> None:
    wrong = {name: value for name, value in ORDER.items() if name != "currency"} | {"total": "5", "colour": "red"}
    expected = errors(placing(oms, order=wrong), 2)
    assert [line.split(": ")[:2] for line in expected] == [["FILE", name] for name in ("currency", "total", "colour")]
    assert connected.published == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_file_that_is_no_order_is_refused(oms: Run, connected: FakeConnections, content: bytes) -> None:
    assert errors(oms("order", "place", "-", given=content), 2)
    assert connected.published == []


def test_the_example_is_an_order_that_can_be_placed(oms: Run, connected: FakeConnections) -> None:
    result = oms("order", "example")
    assert oms("order", "place", "-", given=result.stdout.encode()).exit_code == 0
    assert result.stdout == oms("order", "example").stdout
    [(topic, placed)] = connected.published
    assert topic == "oms.channel.orders"
    [line] = placed.lines
    assert f"oms stock receive {line.sku} {placed.location} {line.quantity}" in result.stderr


def test_an_order_is_waited_for_until_it_is_confirmed(oms: Run, connected: FakeConnections) -> None:
    path = f"/orders/{ORDER_ID}"
    connected.responses[path] = [problem(404, "not known"), order_detail("reserved"), order_detail("confirmed")]
    connected.responses[f"{path}/timeline"] = page(entry(accepted()))
    answer = shown(placing(oms, "--wait", "--json"))
    assert (answer["order_id"], answer["status"], answer["reasons"]) == (ORDER_ID, "confirmed", [])
    assert len(answer["event_id"]) == 64


def test_a_corrected_order_is_waited_for_although_other_content_was_rejected(oms: Run, connected: FakeConnections) -> None:
    path = f"/orders/{ORDER_ID}"
    garbage, own = entry(rejected(["total: no"], total=7)), entry(accepted())
    connected.responses |= {
        path: [order_detail("rejected"), order_detail("accepted"), order_detail("confirmed")],
        f"{path}/timeline": [page(garbage), page(garbage, own)],
    }
    answer = shown(placing(oms, "--wait", "--json"))
    assert (answer["status"], answer["reasons"]) == ("confirmed", [])


def test_a_rejected_order_is_reported_as_rejected_after_other_content_was_accepted(oms: Run, connected: FakeConnections) -> None:
    path = f"/orders/{ORDER_ID}"
    timeline = page(entry(rejected(["total: no"])), entry(accepted(total=7)))
    connected.responses |= {path: order_detail("confirmed"), f"{path}/timeline": timeline}
    assert f"order {ORDER_ID} is confirmed: total: no" in errors(placing(oms, "--wait"), 1)


@pytest.mark.parametrize(
    ("detail", "event", "expected"),
    [
        (
            order_detail("rejected", ended_because="total: no"),
            rejected(["total: no", "currency: no"]),
            [
                "is rejected: total: no",
                "is rejected: currency: no",
                "is rejected: place a corrected one under the same channel_reference",
            ],
        ),
        (
            order_detail("awaiting_stock", action="resolve_stock", deadline="2026-11-26T12:00:00Z", action_reason="mug: 2 wanted"),
            accepted(),
            ["is awaiting_stock: waits for resolve_stock until 2026-11-26 12:00:00Z: mug: 2 wanted"],
        ),
        (order_detail("expired", ended_because="too late"), accepted(), ["is expired: too late"]),
        (
            order_detail("confirmed"),
            accepted(total=7),
            ["is confirmed: channel_reference: an order with other content was placed under it before"],
        ),
        (order_detail("accepted"), accepted(), ["is not confirmed after 0 s"]),
    ],
)
def test_an_order_that_is_not_confirmed_is_a_failure(
    oms: Run, connected: FakeConnections, detail: dict[str, Any], event: Any, expected: list[str]
) -> None:
    connected.responses |= {f"/orders/{ORDER_ID}": detail, f"/orders/{ORDER_ID}/timeline": page(entry(event))}
    lines = errors(placing(oms, "--wait", "--timeout", "0"), 1)
    assert [line.startswith(f"order {ORDER_ID} {start}") for line, start in zip(lines, expected, strict=True)] == [True] * len(expected)


def test_an_order_is_shown_to_people_and_to_machines(oms: Run, connected: FakeConnections) -> None:
    totals = {
        "status": "captured",
        "at": "2026-11-24T12:00:00Z",
        "currency": "EUR",
        "authorized": 1495,
        "captured": 1000,
        "refunded": 5,
        "voided": 0,
        "failure": None,
    }
    package = {"package_id": "340", "carrier": "DHL", "tracking_number": "T", "status": None, "status_at": None, "trouble": None}
    detail = order_detail("released", payment={"totals": totals}, packages=[package])
    connected.responses |= {f"/orders/{ORDER_ID}": detail, f"/orders/{ORDER_ID}/timeline": page(entry(accepted()))}

    result = oms("order", "show", ORDER_ID.upper())
    assert rows(result) == [
        ["1", "mug", "Mug, blue", "2", "5.00 EUR", "0.00 EUR", "0.00 EUR", "10.00 EUR", "2", "1", "0"],
        ["captured", "2026-11-24 12:00:00Z", "14.95 EUR", "10.00 EUR", "0.05 EUR", "0.00 EUR", "–"],
        ["340", "DHL", "T", "–", "–", "–"],
        ["2026-11-24 12:00:00.000Z", "OrderAccepted", "about oms.capture.OrderAccepted.v2", "–"],
    ]
    assert "placed 2026-11-24 11:00:00Z by (ada)" in result.stdout
    assert "total 14.95 EUR" in result.stdout
    assert "shipping 4.95 EUR" in result.stdout
    assert shown(oms("order", "show", "web/W-1", "--json")) == detail | {"timeline": [entry(accepted())]}


def test_text_of_external_parties_does_nothing_to_the_terminal(oms: Run, connected: FakeConnections) -> None:
    evil = order_detail("canceled", ended_because="[red]\x1b[2J\u202e gone[/]", customer_id="\x1b]0;x\x07")
    evil["lines"][0]["sku"] = "[b]mug[/]\x1b[2J"
    connected.responses |= {f"/orders/{ORDER_ID}": evil, f"/orders/{ORDER_ID}/timeline": page()}
    text = oms("order", "show", "web/W-1").stdout
    assert "[red]\ufffd[2J\ufffd gone[/]" in text
    assert "[b]mug[/]\ufffd[2J" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_a_cancellation_is_a_command_to_capture(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("reserved")
    assert "asked to cancel" in oms("order", "cancel", "web/W-1", "--reason", "twice").stdout
    assert connected.published == [("oms.capture.commands", CancelOrder(order_id=ORDER_ID, reason="twice"))]


def test_a_reason_that_is_too_long_is_refused_before_it_is_published(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("reserved")
    expected = errors(oms("order", "cancel", "web/W-1", "--reason", "x" * 2_001), 2)
    assert expected == ["CancelOrder: reason: must have at most 2000 characters"]
    assert connected.published == []


def test_a_cancellation_is_waited_for(oms: Run, connected: FakeConnections) -> None:
    path = f"/orders/{ORDER_ID}"
    connected.responses |= {
        path: [order_detail("released"), order_detail("released"), order_detail("canceled")],
        f"{path}/timeline": page(),
    }
    answer = shown(oms("order", "cancel", "web/W-1", "--reason", "twice", "--wait", "--json"))
    assert answer == {"order_id": ORDER_ID, "event_id": "id-1", "status": "canceled", "reason": None}


@pytest.mark.parametrize(
    ("event", "causation", "expected"),
    [
        (sample_of(OrderCancellationRejected, reason="it has shipped"), "inventory-5", "it has shipped"),
        (sample_of(OrderCommandRefused, reason="no"), "id-1", "no"),
        (sample_of(OrderCommandRefused, reason="of another command"), "id-0", "it is not known after 0 s"),
    ],
)
def test_a_cancellation_that_is_refused_is_a_failure(
    oms: Run, connected: FakeConnections, event: Any, causation: str, expected: str
) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("released")
    connected.responses[f"/orders/{ORDER_ID}/timeline"] = page(entry(event, causation=causation))
    [line] = errors(oms("order", "cancel", "web/W-1", "--reason", "r", "--wait", "--timeout", "0"), 1)
    assert line.startswith(f"order {ORDER_ID} is not canceled: {expected}")


@pytest.mark.parametrize(("status", "code"), [("canceled", 0), ("completed", 1), ("rejected", 1), ("expired", 1)])
def test_no_command_is_published_for_an_order_that_has_ended(oms: Run, connected: FakeConnections, status: str, code: int) -> None:
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail(status)
    assert oms("order", "cancel", "web/W-1", "--reason", "r", "--wait").exit_code == code
    assert connected.published == []


# stock


def test_a_receipt_has_an_id_of_its_own_unless_one_is_given(oms: Run, connected: FakeConnections) -> None:
    assert oms("stock", "receive", "mug", "BER", "5").stdout == "receipt id-1 is sent\n"
    assert shown(oms("stock", "receive", "mug", "BER", "5", "--receipt-id", "R-1", "--json"))["receipt_id"] == "R-1"
    assert [(topic, message.receipt_id) for topic, message in connected.published] == [
        ("oms.inventory.commands", name) for name in ("id-1", "R-1")
    ]


RECEIVED = sample_of(StockReceived, receipt_id="R-1", lines=[{"sku": "mug", "location": "BER", "quantity": 5}])


def test_a_receipt_is_waited_for(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/orders/R-1/timeline"] = [problem(404, "nothing"), page(entry(RECEIVED))]
    result = oms("stock", "receive", "mug", "BER", "5", "--receipt-id", "R-1", "--wait")
    assert (result.exit_code, result.stdout) == (0, "receipt R-1 is booked\n")


@pytest.mark.parametrize(
    ("quantity", "event", "expected"),
    [
        ("6", RECEIVED, "--receipt-id: it was booked before with other lines; take another"),
        ("5", sample_of(StockCommandRefused, reasons=["lines.0.sku: must not be empty"]), "lines.0.sku: must not be empty"),
    ],
)
def test_a_receipt_that_is_not_booked_is_a_failure(oms: Run, connected: FakeConnections, quantity: str, event: Any, expected: str) -> None:
    sent = shown(oms("stock", "receive", "mug", "BER", quantity, "--receipt-id", "R-1", "--json"))
    connected.responses["/orders/R-1/timeline"] = page(entry(event, causation=sent["event_id"]))
    lines = errors(oms("stock", "receive", "mug", "BER", quantity, "--receipt-id", "R-1", "--wait"), 1)
    assert lines == [f"receipt R-1 is not booked: {expected}"]


POSITION = {"sku": "mug", "location": "BER", "on_hand": 5, "reserved": 1, "allocated": 2, "available": 2}


def test_stock_is_shown_by_location(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/stock"] = page(POSITION, POSITION | {"sku": "pot", "location": "HAM"})
    assert rows(oms("stock", "show")) == [["mug", "BER", "5", "1", "2", "2"], ["pot", "HAM", "5", "1", "2", "2"]]
    cut = oms("stock", "show", "--limit", "1")
    assert len(rows(cut)) == 1
    assert cut.stderr == "there is more; --limit shows it\n"
    assert shown(oms("stock", "show", "--limit", "1", "--json")) == {"positions": [POSITION], "more": True}


def test_the_ledger_of_a_sku_is_shown_with_signs(oms: Run, connected: FakeConnections) -> None:
    change = {
        "position": 9,
        "line": 1,
        "at": "2026-11-24T12:00:00Z",
        "location": "BER",
        "kind": "shipped",
        "quantity": -2,
        "reference": "F-1",
        "order_id": ORDER_ID,
        "reason": None,
    }
    connected.responses["/stock/mug"] = {"sku": "mug", "positions": [POSITION], "ledger": page(change, change | {"quantity": 5})}
    assert [row[3] for row in rows(oms("stock", "show", "mug"))] == ["2", "-2", "+5"]
    answer = shown(oms("stock", "show", "mug", "--json"))
    assert (answer["positions"], len(answer["ledger"]), answer["more"]) == ([POSITION], 2, False)


# events


def test_an_event_is_shown_after_its_cause_whatever_the_clocks_say() -> None:
    def link(name: str, causation: str) -> dict[str, Any]:
        return {"id": name, "causation": causation}

    early, late, other, first = link("b", "a"), link("c", "b"), link("d", ""), link("a", "elsewhere")
    assert [e["id"] for e in causal([early, late, other, first])] == ["a", "b", "c", "d"]
    assert [e["id"] for e in causal([link("a", "b"), link("b", "a")])] == ["b", "a"]


def test_an_orders_events_are_shown_with_their_data(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/orders/{ORDER_ID}/timeline"] = page(
        entry(sample_of(OrderCommandRefused), 3, causation="capture-2"), entry(accepted(), 2, at=NOON + timedelta(seconds=1))
    )
    text = oms("events", "show", "web/W-1").stdout
    assert text.index("OrderAccepted") < text.index("OrderCommandRefused")
    assert "oms.capture.OrderCommandRefused.v1  capture-3, by capture-2\n{\n" in text
    assert [event["id"] for event in shown(oms("events", "show", "web/W-1", "--json"))["events"]] == ["capture-2", "capture-3"]


def test_a_timeline_says_who_asked_for_what_and_why(oms: Run, connected: FakeConnections) -> None:
    asked = entry(sample_of(OrderCommandRefused), actor="user:ada", reason="ordered twice")
    connected.responses[f"/orders/{ORDER_ID}"] = order_detail("released")
    connected.responses[f"/orders/{ORDER_ID}/timeline"] = page(asked, entry(accepted(), 2))
    assert "by user:ada: ordered twice\n" in oms("events", "show", "web/W-1").stdout
    assert oms("order", "show", "web/W-1").stdout.count("by user:ada: ordered twice") == 1


def test_a_command_is_published_with_the_name_of_who_gives_it(oms: Run, connected: FakeConnections) -> None:
    oms("stock", "receive", "MUG", "BER-1", "3")
    assert connected.askers == [Asker("operator", "")]


@pytest.mark.parametrize("reason", ["two\nlines", "x" * 501])
def test_a_reason_is_one_short_line(oms: Run, reason: str) -> None:
    assert oms("--reason", reason, "stock", "receive", "MUG", "BER-1", "3").exit_code == 2


class Consumed:
    """A record as aiokafka gives it."""

    topic, partition, offset, timestamp = "oms.orders", 3, 41, 1_764_000_000_000

    def __init__(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> None:
        self.key, self.value, self.headers = key, value, headers


def test_a_record_is_shown_as_json() -> None:
    attributes = {"source": "/oms/capture", "id": "capture-9", "actor": "user:ada", "reason": "ordered twice"}
    envelope = Envelope(type="oms.capture.OrderConfirmed.v1", time=NOON, sequence=3, position=9, **attributes)
    assert record_as_json(Consumed(b"k", b'{"a":1}', to_headers(envelope))) == {
        "time": "2026-11-24T12:00:00.000000Z",
        "topic": "oms.orders",
        "partition": 3,
        "offset": 41,
        "key": "k",
        "type": "oms.capture.OrderConfirmed.v1",
        "source": "/oms/capture",
        "id": "capture-9",
        "sequence": 3,
        "position": 9,
        "correlation": None,
        "causation": None,
        "actor": "user:ada",
        "reason": "ordered twice",
        "data": {"a": 1},
        "value_base64": None,
    }


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"{", b"[" * 100_000])
def test_an_unreadable_record_is_shown_as_json_with_its_value_in_base64(value: bytes | None) -> None:
    event = record_as_json(Consumed(None, value, [("ce_type", b"\xff")]))
    assert (event["time"], event["key"], event["data"]) == ("2025-11-24T16:00:00.000000Z", None, None)
    assert base64.b64decode(event["value_base64"]) == (value or b"")
    assert json.loads(json.dumps(event)) == event


# lag


def test_lag_is_summed_by_service(oms: Run, connected: FakeConnections) -> None:
    partitions = [TopicPartition(topic.name, number) for topic in TOPICS for number in range(topic.partitions)]
    ends = dict.fromkeys(partitions, 0) | {TopicPartition("oms.orders", 0): 10, TopicPartition("oms.orders", 1): 7}
    begins = dict.fromkeys(partitions, 0) | {TopicPartition("oms.orders", 1): 4}
    connected.known_offsets = Offsets(begins=begins, ends=ends, committed={"oms.payment": {TopicPartition("oms.orders", 0): 8}})
    connected.known_metrics = {"payment": {"oms_relay_lag_events": 5.0, "oms_dead_letters": 2.0}, "returns": {"oms_dead_letters": 0.0}}

    services = {service["service"]: service for service in shown(oms("lag", "--json"))["services"]}
    payment = services["payment"]
    assert (payment["group"], payment["lag"], payment["relay_lag"], payment["dead_letters"]) == ("oms.payment", 2 + 3, 5, 2)
    [orders] = [topic for topic in payment["topics"] if topic["topic"] == "oms.orders"]
    assert (orders["committed"], orders["end"], orders["lag"]) == (8, 17, 5)
    assert orders["partitions"][:2] == [
        {"partition": 0, "committed": 8, "end": 10, "lag": 2},
        {"partition": 1, "committed": None, "end": 7, "lag": 3},
    ]
    assert (services["returns"]["lag"], services["returns"]["answers"], services["returns"]["relay_lag"]) == (13, True, None)
    assert (services["capture"]["lag"], services["capture"]["answers"], services["capture"]["dead_letters"]) == (0, False, None)

    result = oms("lag", "--partitions")
    assert ["payment", "5", "5", "2"] in rows(result)
    assert ["payment", "oms.orders", "1", "–", "7", "3"] in rows(result)
    assert result.stderr.startswith("no metrics of: capture, inventory, fulfillment, tracking, projection;")


# dead letters


def test_dead_letters_are_listed(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/dead-letters"] = page(letter())
    [row] = rows(oms("dead-letters", "list", "--service", "inventory", "--key", "R-1", "--all"))
    assert row[1:] == [
        "inventory",
        "oms.inventory.commands/3/41",
        "R-1",
        "ReceiveStock",
        "set_aside",
        "1",
        "UnreadableMessage: lines: is required",
    ]
    assert dict(connected.requests[0].params) == {"limit": "500", "service": "inventory", "key": "R-1", "waiting": "false"}
    assert shown(oms("dead-letters", "list", "--json")) == {"dead_letters": [letter()], "more": False}
    connected.responses["/dead-letters"] = page()
    assert oms("dead-letters", "list").stdout == "nothing is set aside\n"


@pytest.mark.parametrize(
    ("value", "data", "text"),
    [(b'{"receipt_id":"R-1"}', {"receipt_id": "R-1"}, None), (b"garbage \xff", None, "garbage \ufffd")],
)
def test_a_dead_letter_is_shown_with_its_record(oms: Run, connected: FakeConnections, value: bytes, data: Any, text: str | None) -> None:
    path = "/dead-letters/inventory/oms.inventory.commands/3/41"
    connected.responses[path] = letter(value=base64.b64encode(value).decode())
    words = ("dead-letters", "show", "inventory", "oms.inventory.commands/3/41")
    answer = shown(oms(*words, "--json"))
    assert (answer["data"], answer["text"]) == (data, text)
    people = oms(*words).stdout
    for part in ("UnreadableMessage: lines: is required", "Traceback", text or '"receipt_id": "R-1"'):
        assert part in people


REDRIVE = ("dead-letters", "redrive", "inventory", "R-1")
LETTER_ID = "oms.inventory.commands/3/41"


def test_a_redrive_waits_until_all_dead_letters_are_settled(oms: Run, connected: FakeConnections) -> None:
    behind = letter("parked", letter_id="oms.inventory.commands/3/42")
    connected.responses["/dead-letters"] = [
        page(letter(), behind),
        page(letter("redriven"), behind),
        page(letter("redriven"), letter("redriven", letter_id="oms.inventory.commands/3/42")),
    ]
    assert [row[:2] for row in rows(oms(*REDRIVE))] == [[LETTER_ID, "redriven"], ["oms.inventory.commands/3/42", "redriven"]]
    assert connected.published == [("oms.inventory.commands", RedriveDeadLetters(source_key="R-1"))]


def test_a_dead_letter_that_fails_again_is_a_failure(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/dead-letters"] = [page(letter()), page(letter()), page(letter(attempts=2, reason="ValueError: still wrong"))]
    assert errors(oms(*REDRIVE), 1) == [f"{LETTER_ID} failed again: ValueError: still wrong"]


def test_a_redrive_without_an_outcome_is_a_failure(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/dead-letters"] = page(letter())
    [line] = errors(oms(*REDRIVE, "--timeout", "0"), 1)
    assert line.startswith("the outcome is not known after 0 s")
    assert oms(*REDRIVE, "--no-wait").exit_code == 0


def test_no_redrive_is_published_where_nothing_is_set_aside(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/dead-letters"] = page()
    [line] = errors(oms(*REDRIVE), 1)
    assert line.startswith("inventory has set nothing aside under 'R-1'")
    assert connected.published == []


def test_the_value_of_a_dead_letter_can_be_corrected(oms: Run, connected: FakeConnections, tmp_path: Path) -> None:
    connected.responses[f"/dead-letters/inventory/{LETTER_ID}"] = letter()
    connected.responses["/dead-letters"] = [page(letter()), page(letter("redriven", 2))]
    file = tmp_path / "corrected.json"
    file.write_bytes(encode(RECEIPT))
    answer = shown(oms(*REDRIVE, "--letter-id", LETTER_ID, "--value", str(file), "--json"))
    assert (answer["settled"], [found["status"] for found in answer["dead_letters"]]) == (True, ["redriven"])
    [(_, command)] = connected.published
    assert command == RedriveDeadLetters(source_key="R-1", letter_id=LETTER_ID, value=encode(RECEIPT).decode())


def test_a_dead_letter_can_be_discarded(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/dead-letters/inventory/{LETTER_ID}"] = letter()
    connected.responses["/dead-letters"] = [page(letter()), page(letter("discarded", 2))]
    assert oms(*REDRIVE, "--letter-id", LETTER_ID, "--discard").exit_code == 0
    assert connected.published[0][1] == RedriveDeadLetters(source_key="R-1", letter_id=LETTER_ID, discard=True)


@pytest.mark.parametrize(
    ("known", "value", "code", "expected"),
    [
        (letter(), b"garbage", 2, "--value: is not JSON"),
        (letter(), b'{"receipt_id": 7, "lines": []}', 2, "--value: receipt_id: Input should be a valid string"),
        (letter(source_key="R-2"), encode(RECEIPT), 2, f"KEY: {LETTER_ID} is of the key 'R-2', not of 'R-1'"),
        (letter("redriven"), encode(RECEIPT), 1, f"{LETTER_ID} is redriven already"),
        (None, encode(RECEIPT), 1, "it is not known here"),
    ],
)
def test_a_value_that_the_service_could_not_apply_is_refused(
    *, oms: Run, connected: FakeConnections, known: dict[str, Any] | None, value: bytes, code: int, expected: str
) -> None:
    connected.responses[f"/dead-letters/inventory/{LETTER_ID}"] = known
    [line] = errors(oms(*REDRIVE, "--letter-id", LETTER_ID, "--value", "-", given=value), code)
    assert line.startswith(expected)
    assert connected.published == []


# The inbox


WEBHOOK_ID = "oms.channel.webhooks/3/41"
BROKEN = b'{"id": 9001, "currency": "EUR", "total_price": "5.00", "line_items": [], "created_at": "2026-11-24T12:00:00Z"}'
MENDED = json.dumps(
    {
        "id": 9001,
        "currency": "EUR",
        "taxes_included": True,
        "total_price": "5.00",
        "created_at": "2026-11-24T12:00:00Z",
        "financial_status": "paid",
        "customer": {"id": 7},
        "line_items": [{"id": 1, "sku": "MUG", "title": "Mug", "quantity": 1, "price": "5.00", "requires_shipping": False}],
    }
).encode()
SHOPS_WEBHOOK = WebhookReceived(
    key=order_id_of("web", "9001"),
    channel="web",
    platform="shopify",
    topic="orders/create",
    webhook_id="w-1",
    received_at=NOON,
    body=base64.b64encode(BROKEN).decode(),
)


def webhook(status: str = "set_aside", attempts: int = 1, received: WebhookReceived = SHOPS_WEBHOOK, **other: Any) -> dict[str, Any]:
    about = {
        "service": "capture",
        "source_topic": "oms.channel.webhooks",
        "source_key": received.key,
        "source_type": type_of(WebhookReceived).name,
        "reason": "SendersFault: shopify, channel web: order '9001' cannot be mapped\nline_items: has no line with a quantity",
        "value": base64.b64encode(encode(received)).decode(),
    }
    return letter(status, attempts, WEBHOOK_ID, **about | other)


def test_the_inbox_lists_webhooks_and_no_other_dead_letters(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/dead-letters"] = page(letter(service="capture"), webhook())
    [row] = rows(oms("inbox", "list"))
    assert row[1:] == [WEBHOOK_ID, SHOPS_WEBHOOK.key, "set_aside", "1", "shopify, channel web: order '9001' cannot be mapped"]
    assert [each["letter_id"] for each in shown(oms("inbox", "list", "--json"))["inbox"]] == [WEBHOOK_ID]
    connected.responses["/dead-letters"] = page(letter(service="capture"))
    assert oms("inbox", "list").stdout == "the inbox is empty\n"


def test_a_webhook_is_shown_with_every_field_at_fault_and_its_payload(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/dead-letters/capture/{WEBHOOK_ID}"] = webhook()
    answer = shown(oms("inbox", "show", WEBHOOK_ID, "--json"))
    assert (answer["platform"], answer["channel"], answer["reference"], answer["topic"]) == ("shopify", "web", "9001", "orders/create")
    assert {"field": "line_items", "reason": "has no line with a quantity"} in answer["reasons"]
    assert answer["payload"] == json.loads(BROKEN)
    people = oms("inbox", "show", WEBHOOK_ID).stdout
    for part in ("shopify, channel web, order 9001", "has no line with a quantity", '"total_price": "5.00"'):
        assert part in people
    assert oms("inbox", "show", WEBHOOK_ID, "--payload-only").stdout_bytes == BROKEN


def test_a_corrected_payload_is_sent_as_the_webhook_that_was_received(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/dead-letters/capture/{WEBHOOK_ID}"] = webhook()
    connected.responses["/dead-letters"] = [page(webhook()), page(webhook("redriven", 2))]
    assert oms("inbox", "take", WEBHOOK_ID, "--payload", "-", given=MENDED).exit_code == 0
    mended = encode(replace(SHOPS_WEBHOOK, body=base64.b64encode(MENDED).decode())).decode()
    command = RedriveDeadLetters(source_key=SHOPS_WEBHOOK.key, letter_id=WEBHOOK_ID, value=mended)
    assert connected.published == [("oms.capture.commands", command)]


def test_a_webhook_is_taken_again_as_it_is_or_discarded(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/dead-letters/capture/{WEBHOOK_ID}"] = webhook()
    connected.responses["/dead-letters"] = [page(webhook()), page(webhook("redriven", 2))]
    assert oms("inbox", "take", WEBHOOK_ID).exit_code == 0
    connected.responses["/dead-letters"] = [page(webhook()), page(webhook("discarded", 2))]
    assert oms("inbox", "discard", WEBHOOK_ID).exit_code == 0
    assert [command for _, command in connected.published] == [
        RedriveDeadLetters(source_key=SHOPS_WEBHOOK.key),
        RedriveDeadLetters(source_key=SHOPS_WEBHOOK.key, letter_id=WEBHOOK_ID, discard=True),
    ]


OWN = replace(SHOPS_WEBHOOK, key=webhook_key("web", "w-1", None), body=base64.b64encode(b"{").decode())


@pytest.mark.parametrize(
    ("known", "payload", "code", "expected"),
    [
        (webhook(), BROKEN, 2, "--payload: line_items: has no line with a quantity"),
        (webhook(), b"{", 2, "--payload: payload: is not JSON"),
        (webhook(), MENDED.replace(b"9001", b"9002"), 2, "--payload: id: names another order"),
        (webhook(), b" " * 400_000, 2, "--payload: has 400000 bytes, at most 360000 can be sent"),
        (webhook("redriven"), MENDED, 1, f"{WEBHOOK_ID} is redriven already"),
        (webhook(value=base64.b64encode(b"garbage").decode()), MENDED, 1, f"{WEBHOOK_ID} holds no webhook"),
        (None, MENDED, 1, "it is not known here"),
    ],
)
def test_a_payload_of_which_no_order_can_be_made_is_refused(
    *, oms: Run, connected: FakeConnections, known: dict[str, Any] | None, payload: bytes, code: int, expected: str
) -> None:
    connected.responses[f"/dead-letters/capture/{WEBHOOK_ID}"] = known
    assert errors(oms("inbox", "take", WEBHOOK_ID, "--payload", "-", given=payload), code)[0].startswith(expected)
    assert connected.published == []


def test_a_payload_that_named_no_order_may_name_any(oms: Run, connected: FakeConnections) -> None:
    connected.responses[f"/dead-letters/capture/{WEBHOOK_ID}"] = webhook(received=OWN)
    connected.responses["/dead-letters"] = [page(webhook(received=OWN)), page(webhook("redriven", 2, received=OWN))]
    assert oms("inbox", "take", WEBHOOK_ID, "--payload", "-", given=MENDED).exit_code == 0
    assert connected.published[0][1].source_key == OWN.key


def test_the_inbox_has_webhooks_alone(oms: Run) -> None:
    [line] = errors(oms("inbox", "show", LETTER_ID), 2)
    assert line.startswith(f"LETTER_ID: {LETTER_ID!r} is not of oms.channel.webhooks")


# Where the servers are


def with_settings(
    monkeypatch: pytest.MonkeyPatch,
    servers: Servers | None,
    variables: Mapping[str, str],
    query_url: str | None = None,
    query_token: str | None = None,
) -> Connections:
    for name in [name for name in os.environ if name.startswith("OMS_KAFKA_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Connections(
        clock=lambda: NOON,
        new_id=lambda: "id",
        find_servers=lambda: servers,
        query_url=query_url,
        query_token=query_token,
        transport=httpx.MockTransport(lambda request: httpx.Response(200, json=request.headers["authorization"])),
    )


def shown_by(connected: Connections) -> str:
    """How the query API is asked for anything."""
    return connected.get("/")


def test_settings_come_before_the_servers_of_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"OMS_KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092", "OMS_KAFKA_USERNAME": "operator", "OMS_KAFKA_PASSWORD": "p"}
    query = {"query_url": "http://query.example:8000/", "query_token": "of-the-example"}
    with closing(with_settings(monkeypatch, NoServers(), variables, **query)) as connected:
        assert (connected.broker.kafka_bootstrap_servers, connected.broker.kafka_username) == ("kafka.example:9092", "operator")
        assert (connected.query.url, shown_by(connected)) == ("http://query.example:8000", "Bearer of-the-example")


def test_the_token_of_the_local_stack_is_not_shown_to_another_query_api(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        closing(with_settings(monkeypatch, NoServers(), {}, query_url="http://query.example")) as connected,
        pytest.raises(CliError, match="OMS_QUERY_TOKEN: is not set"),
    ):
        assert connected.query


def test_servers_of_an_installed_package_serve_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(with_settings(monkeypatch, NoServers(), {})) as connected:
        assert connected.broker.kafka_bootstrap_servers == "broker:9092"
        assert (connected.query.url, shown_by(connected)) == ("http://projection-api", "Bearer of-the-stack")


def test_a_service_that_is_not_installed_here_is_an_error_with_the_command_to_run_elsewhere(
    oms: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(_name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", find_nothing)
    for words, program in (
        ("store recover inventory --dry-run", "inventory python -m oms_inventory recover --dry-run"),
        ("checkpoints reset inventory oms.orders/0 end", "inventory python -m oms_inventory checkpoints oms.orders/0 end"),
        ("user create ada --role admin", "gateway python -m oms_gateway user create ada --role admin"),
        ("read-models status", "projection python -m oms_projection read-models status"),
    ):
        [error] = errors(oms(*words.split()), 1)
        assert "is not installed here" in error
        assert f"docker compose run --rm {program}" in error


def test_without_a_database_a_services_program_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMS_DATABASE_URL", raising=False)
    with closing(with_settings(monkeypatch, None, {})) as connected, pytest.raises(CliError, match="OMS_DATABASE_URL: is not set"):
        connected.environment("inventory")
    with closing(with_settings(monkeypatch, NoServers(), {"OMS_DATABASE_URL": "postgresql://here/one"})) as connected:
        assert connected.environment("inventory") == {}


def test_without_settings_and_servers_the_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(with_settings(monkeypatch, None, {})) as connected:
        for words, setting in (
            (("stock", "receive", "mug", "BER", "1"), "OMS_KAFKA_BOOTSTRAP_SERVERS"),
            (("stock", "show"), "--query-url"),
        ):
            [line] = errors(CliRunner().invoke(app, list(words), obj=connected), 2)
            assert line.startswith(f"{setting}: is not")
        assert connected.metrics("capture", ()) is None


def test_settings_of_the_broker_that_contradict_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"OMS_KAFKA_BOOTSTRAP_SERVERS": "b:1", "OMS_KAFKA_USERNAME": "operator", "OMS_KAFKA_PASSWORD": "p4ss"}
    with closing(with_settings(monkeypatch, None, variables | {"OMS_KAFKA_SASL_MECHANISM": "OAUTHBEARER"})) as connected:
        [line] = errors(CliRunner().invoke(app, ["stock", "receive", "mug", "BER", "1"], obj=connected), 2)
        assert line == "OMS_KAFKA_TOKEN_FILE: is not set, and OAUTHBEARER authenticates by a token"


# What people are shown


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1495, "EUR", "14.95 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (1495, "JPY", "1495 JPY"),
        (1495, "KWD", "1.495 KWD"),
        (10**15, "EUR", "10000000000000.00 EUR"),
        (5, "XXL", "5 minor units of XXL"),
        (5, "XAU", "5 minor units of XAU"),
        (None, "EUR", "–"),
    ],
)
def test_money_is_a_decimal_of_its_currency(amount: int | None, currency: str, text: str) -> None:
    assert output.money(amount, currency) == text


def test_times_are_utc() -> None:
    assert output.moment("2026-11-24T13:00:00.0625+01:00") == "2026-11-24 12:00:00Z"
    assert output.moment("2026-11-24T12:00:00.0625Z", precise=True) == "2026-11-24 12:00:00.062Z"


def test_lag_is_that_of_the_newest_version_of_a_group() -> None:
    present = ["oms.projection", "oms.projection.read-models-2", "oms.projection.read-models-10", "oms.payment", "oms.projection.other"]
    assert newest_group("oms.projection", present) == "oms.projection.read-models-10"
    assert newest_group("oms.payment", present) == "oms.payment"
    assert newest_group("oms.capture", []) == "oms.capture"


# Customers

BY_EMAIL = ("--email", "ada@example.com")
ERASE = ("customer", "erase", *BY_EMAIL, "--reason", "asked to")


def test_customers_are_found_without_naming_them_in_an_address(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/customers"] = [[{"key_id": "k1", "orders": 2}]]
    assert rows(oms("customer", "find", "--channel", "web", "--id", "ada")) == [["k1", "2"]]
    assert shown(oms("customer", "find", *BY_EMAIL, "--json")) == {"customers": [{"key_id": "k1", "orders": 2}]}
    assert {str(url) for url in connected.requests} == {"http://query/customers"}


def test_all_that_is_known_of_a_person_is_exported(oms: Run, connected: FakeConnections) -> None:
    connected.responses |= {
        "/customers": [[{"key_id": "k1", "orders": 1}]],
        "/orders/details": page(order_detail("completed")),
    }
    assert shown(oms("customer", "export", *BY_EMAIL)) == {"customers": ["k1"], "orders": [order_detail("completed")]}
    assert "ada" not in "".join(map(str, connected.requests))


def test_nothing_to_export_is_said(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/customers"] = [[]]
    assert errors(oms("customer", "export", *BY_EMAIL), 1) == ["nothing is known of such a customer"]


def test_a_person_is_erased_once_that_is_confirmed(oms: Run, connected: FakeConnections) -> None:
    assert oms(*ERASE, given=b"n\n").stderr.endswith("error: nothing was erased\n")
    assert oms(*ERASE, given=b"").stderr.endswith("error: --yes: must be given where nobody can be asked\n")
    assert connected.published == []
    erased = CustomerErased(request_id="id-1", keys=("k1", "k2"), reason="asked to", at=NOON)
    connected.responses["/orders/id-1/timeline"] = page(entry(erased))
    result = oms(*ERASE, given=b"y\n")
    assert (result.exit_code, result.stdout.endswith("erased, by deleting 2 keys\n")) == (0, True)
    command = EraseCustomer(request_id="id-1", reason="asked to", email="ada@example.com")
    assert connected.published == [("oms.capture.commands", command)]
    assert "ada" not in "".join(map(str, connected.requests))


def test_an_erasure_that_finds_nobody_or_is_not_known_yet_fails(oms: Run, connected: FakeConnections) -> None:
    nobody = CustomerErased(request_id="R", keys=(), reason="asked to", at=NOON)
    connected.responses["/orders/R/timeline"] = page(entry(nobody))
    assert errors(oms(*ERASE, "--yes", "--request-id", "R"), 1) == ["nothing was known of such a customer"]
    late = errors(oms(*ERASE, "--yes", "--request-id", "S", "--timeout", "0"), 1)
    assert late == ["the outcome is not known after 0 s: give --request-id S to ask again"]


def test_the_value_of_a_dead_letter_that_is_kept_nowhere_is_read_from_its_topic(
    oms: Run, connected: FakeConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record_value(_topic: str, _partition: int, offset: int) -> bytes | None:
        return b'{"colour": "blue"}' if offset == 41 else None

    monkeypatch.setattr(connected, "record_value", record_value)
    gone = {"data": None, "text": "(the record is no longer on its topic)"}
    for offset, expected in ((41, {"data": {"colour": "blue"}, "text": None}), (42, gone)):
        connected.responses["/dead-letters/inventory/L"] = letter(
            value="", source_topic="oms.inventory.commands", source_partition=3, source_offset=offset
        )
        assert shown(oms("dead-letters", "show", "inventory", "L", "--json")).items() >= expected.items()


# Import and export of orders


def test_the_example_is_the_same_order_as_csv(oms: Run) -> None:
    [entry] = read_csv(BytesIO(oms("order", "example", "--csv").stdout_bytes), Place(), RowMapping(default_mapping()), ",")
    assert entry.found == example_order()


def test_every_mistake_of_a_mapping_is_named(oms: Run, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('name = "till"\n[order]\nchannel_reference = "id"\nskew = "x"\n')
    (tmp_path / "orders.csv").write_text("id,sku\nA,B\n")
    lines = errors(oms("order", "import", str(tmp_path / "orders.csv"), "--mapping", str(mapping)), 2)
    assert "--mapping: order.skew: there is no such field" in lines
    assert "--mapping: order.currency: is required" in lines


def test_the_mapping_that_is_printed_is_the_one_that_is_used(oms: Run) -> None:
    assert oms("order", "import", "--print-mapping").stdout == default_mapping()


def exported(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(StringIO(result.stdout, newline="")))


def test_a_csv_export_has_a_row_for_each_line_and_no_formulas(oms: Run, connected: FakeConnections) -> None:
    line = order_detail("confirmed")["lines"][0]
    lines = [line | {"title": '=HYPERLINK("http://evil")'}, line | {"line_id": "2", "title": 'Mug,\n"red"', "unit_price": -1}]
    first = order_detail("confirmed", lines=lines, customer_phone="+49 30 1", customer_name="@ada", note="-1")
    rejected = order_detail("rejected", lines=[], currency=None, total=None)
    connected.responses["/orders/details"] = page(first, rejected)
    one, two, none = exported(oms("order", "export", "--format", "csv", "--status", "confirmed", "--from", "2026-01-31"))
    assert (one["title"], one["customer_phone"], one["customer_name"], one["note"]) == (
        '\'=HYPERLINK("http://evil")',
        "'+49 30 1",
        "'@ada",
        "'-1",
    )
    assert (two["title"], two["unit_price"], two["line_total"], two["total"], two["quantity"]) == (
        'Mug,\n"red"',
        "-0.01",
        "10.00",
        "14.95",
        "2",
    )
    assert (none["status"], none["line_id"], none["total"]) == ("rejected", "", "")
    [request] = connected.requests
    assert dict(request.params) == {"status": "confirmed", "placed_from": "2026-01-31T00:00:00+00:00", "limit": "100"}


def test_an_export_goes_page_by_page_and_on_behind_a_cursor(oms: Run, connected: FakeConnections, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    words = ("order", "export", "--format", "jsonl", "-o", str(file))
    first, second, third = (order_detail("confirmed", order_id=str(number), note="=1") for number in range(3))
    connected.responses["/orders/details"] = [page(first, more="c1"), page(second, more="c2"), problem(503, "the database does not answer")]
    result = oms(*words)
    assert result.exit_code == 3
    assert "2 orders written" in result.stderr
    assert "--after c2 goes on" in result.stderr
    connected.responses["/orders/details"] = page(third)
    assert oms(*words, "--after", "c2").exit_code == 0
    assert connected.requests[-1].params["after"] == "c2"
    assert [json.loads(text) for text in file.read_text().splitlines()] == [first, second, third]


def test_the_page_names_every_column_of_a_csv_export_in_order() -> None:
    table = page_rows(section("Export orders", Path(__file__).parents[1] / "README.md"))
    assert [column for columns, _ in table for column in names(columns)] == list(COLUMNS)


def test_an_export_keeps_no_more_than_a_page(oms: Run, connected: FakeConnections, tmp_path: Path) -> None:
    """A page takes about 0.5 MB while it is written; a part of the growth is the test's own record of requests."""
    hundred = page(*[order_detail("confirmed")] * 100, more="c1")
    for form in ("jsonl", "csv"):
        peaks: list[int] = []
        for pages in (5, 100):
            connected.responses["/orders/details"] = [*[hundred] * pages, page()]
            tracemalloc.start()
            assert oms("order", "export", "--format", form, "-o", str(tmp_path / "orders")).exit_code == 0
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] - peaks[0] < 4_000_000, form
    assert len((tmp_path / "orders").read_text().splitlines()) == 10_001


def test_a_brief_export_has_the_items_of_the_list(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/orders"] = page({"order_id": "1"}, {"order_id": "2"})
    assert oms("order", "export", "--format", "jsonl", "--brief").stdout == '{"order_id":"1"}\n{"order_id":"2"}\n'


# The catalogue


MUG = DefineProduct(sku="MUG/1", title="Mug, blue", barcode="4006381333931", weight_grams=350)
E_BOOK = DefineProduct(sku="E", title="E-book", requires_shipping=False)
PRODUCTS = "oms.inventory.commands"


def product(command: DefineProduct, **other: Any) -> dict[str, Any]:
    """A product in the query API."""
    return json.loads(encode(command)) | {"defined_at": "2026-11-24T12:00:00Z", "updated_at": "2026-11-24T12:00:00Z"} | other


def test_a_product_is_defined_and_waited_for(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/products/MUG/1"] = [problem(404, "not known"), product(replace(MUG, title="old")), product(MUG)]
    connected.responses["/orders/MUG/1/timeline"] = page(entry(sample(ProductDefined)))
    words = ("product", "define", "MUG/1", "--title", "Mug, blue", "--barcode", "4006381333931", "--weight-grams", "350")
    assert "product MUG/1 is defined" in oms(*words, "--wait").stdout
    assert connected.published == [(PRODUCTS, MUG)]
    assert shown(oms(*words, "--json")).items() >= {"sku": "MUG/1", "done": None, "reasons": []}.items()


def test_a_digital_product_that_is_not_sold_yet(oms: Run, connected: FakeConnections) -> None:
    assert oms("product", "define", "E", "--title", "E-book", "--digital", "--inactive", "--unit", "C62").exit_code == 0
    [(_, command)] = connected.published
    assert command == DefineProduct(sku="E", title="E-book", unit="C62", requires_shipping=False, active=False)


def test_a_refused_definition_says_why(oms: Run, connected: FakeConnections) -> None:
    refusal = sample_of(ProductCommandRefused, sku="MUG", reasons=["barcode: a GTIN of these digits ends in 1, this ends in 2"])
    connected.responses["/orders/MUG/timeline"] = page(entry(refusal, causation="other"), entry(refusal, causation="id-1"))
    reasons = errors(oms("product", "define", "MUG", "--title", "Mug", "--wait"), 1)
    assert reasons == ["product MUG is not defined: barcode: a GTIN of these digits ends in 1, this ends in 2"]


def test_a_product_is_deactivated(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/products/MUG"] = product(replace(MUG, sku="MUG"), active=False)
    assert "product MUG is deactivated" in oms("product", "deactivate", "MUG", "--wait").stdout
    assert connected.published == [(PRODUCTS, DeactivateProduct(sku="MUG"))]


def test_a_csv_file_is_imported_and_its_wrong_lines_are_written_with_their_reasons(
    oms: Run, connected: FakeConnections, tmp_path: Path
) -> None:
    lines = [
        "sku,title,barcode,unit,weight_grams,requires_shipping,active",
        'MUG/1,"Mug, blue",4006381333931,EA,350,true,yes',
        "",
        "E,E-book,,,,no,",
        "POT,Pot,4006381333932,each,heavy,,",
        "PAN,Pan",
        ",Nothing,,,,,",
        'LID,"Lid\nof two lines",,,,,perhaps',
        "CUP,Cup,12345,,,,",
    ]
    (tmp_path / "products.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    rejects = tmp_path / "products.csv.rejects.csv"
    [error] = errors(oms("product", "import", str(tmp_path / "products.csv")), 1)
    assert error == f"4 lines are not valid; {rejects} has each with its number and the reasons"
    published = [command for _, command in connected.published]
    assert published == [
        MUG,
        DefineProduct(sku="E", title="E-book", requires_shipping=False),
        DefineProduct(sku="CUP", title="Cup", barcode="12345"),
    ]
    header, *rejected = csv.reader(rejects.read_text().splitlines())
    assert header == ["line", "reasons"]
    assert [number for number, _ in rejected] == ["5", "6", "7", "9"]
    assert rejected[0][1].startswith("weight_grams: ")
    assert rejected[1][1] == "has 2 fields, the first line has 7"
    assert rejected[2][1] == "sku: is required"
    assert rejected[3][1].startswith("active: ")


def test_json_lines_are_imported_from_standard_input(oms: Run, connected: FakeConnections, tmp_path: Path) -> None:
    given = (
        encode(MUG)
        + b'\n\n{"sku":"A","title":"A","color":"red"}\n{"sku":"B","title":"B","barcode":"96385075"}\nnonsense\n{"sku":"C","title":"C"}'
    )
    result = oms("product", "import", "-", "--jsonl", "--json", "--rejects", str(tmp_path / "r.csv"), given=given)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"sent": 2, "rejected": 3, "rejects": str(tmp_path / "r.csv")}
    assert [command.sku for _, command in connected.published] == ["MUG/1", "C"]
    assert [number for number, _ in csv.reader((tmp_path / "r.csv").read_text().splitlines())] == ["line", "3", "4", "5"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"sku,name\n",
            [
                "FILE: line 1: 'name' is none of the columns sku, title",
            ],
        ),
        (b"sku,barcode\n", ["FILE: line 1: there is no column title"]),
        (b"", ["FILE: line 1: there is no column sku", "FILE: line 1: there is no column title"]),
        (b'sku,title\nA,"B', ["FILE: line 2: unexpected end of data"]),
        (b"sku,title\nA,\xff\n", ["FILE: is not UTF-8"]),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(oms: Run, content: bytes, expected: list[str]) -> None:
    lines = errors(oms("product", "import", "-", given=content), 2)
    assert all(line.startswith(begin) for line, begin in zip(lines, expected, strict=False))
    assert lines[-1] == "0 products are sent; once this is resolved, import the file again"


def test_a_line_that_is_far_too_long_ends_the_import(oms: Run) -> None:
    [line, _] = errors(oms("product", "import", "-", "--jsonl", given=b"x" * 70_000), 2)
    assert line == "FILE: line 1 has more than 65536 bytes; is it JSON Lines?"


def test_progress_of_a_large_file_is_told(oms: Run, connected: FakeConnections) -> None:
    given = b"".join(b'{"sku":"S%d","title":"T"}\n' % number for number in range(25_000))
    result = oms("product", "import", "-", "--jsonl", given=given)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == ["10000 products are sent", "20000 products are sent"]
    assert len(connected.published) == 25_000


def test_the_catalogue_is_listed(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/products"] = page(
        product(MUG), product(DefineProduct(sku="E", title="E-book", requires_shipping=False), active=False)
    )
    assert rows(oms("product", "list", "--text", "m", "--active")) == [
        ["MUG/1", "Mug, blue", "4006381333931", "EA", "350 g", "ship", "yes"],
        ["E", "E-book", "–", "EA", "–", "digital", "no"],
    ]
    assert connected.requests[0].params.get("active") == "true"
    assert shown(oms("product", "list", "--json", "--limit", "1"))["more"] is True


def test_a_product_is_shown_with_its_history(oms: Run, connected: FakeConnections) -> None:
    connected.responses["/products/MUG/1"] = product(MUG)
    connected.responses["/orders/MUG/1/timeline"] = page(entry(sample(ProductDefined)))
    text = oms("product", "show", "MUG/1").stdout
    assert "Product MUG/1: Mug, blue" in text
    assert "barcode 4006381333931, weight 350 g" in text
    assert "ProductDefined" in text
    assert len(shown(oms("product", "show", "MUG/1", "--json"))["timeline"]) == 1
    [line] = errors(oms("product", "show", "POT"), 1)
    assert "it is not known here" in line
