"""What the tests of the commands share: a query API of given responses, and a broker that only records what is published."""

import base64
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import httpx
from oms_cli.connections import Connections, Offsets
from oms_client.publisher import Asker, check_message, content_id
from oms_contracts.catalogue import topic_of
from oms_contracts.content_hash import content_hash_of
from oms_contracts.message import decode, encode, type_of, validate
from oms_contracts.orders import OrderAccepted, OrderRejected
from oms_contracts.samples import sample
from oms_contracts.stock import ReceiveStock
from oms_contracts.values import StockLine, order_id_of
from oms_kafka.settings import KafkaSettings
from typer.testing import Result

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
        self.bodies: list[bytes] = []
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
        self.bodies.append(request.content)
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


Run = Callable[..., Result]


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
