"""Webhooks at the gateway, in memory: who may deliver, and what is published."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiokafka.errors import KafkaConnectionError
from oms_adapters.webhooks import signature_of
from oms_contracts.catalogue import TOPICS, topic_of
from oms_contracts.channel import WebhookReceived
from oms_contracts.message import encode
from oms_contracts.values import order_id_of
from oms_gateway.settings import Settings
from oms_gateway.shops import MAX_WEBHOOK_BYTES, Shop
from pydantic import ValidationError

from services.gateway.tests.memory import NOON, InMemoryChannels, client_of, edge

OLD, NEW = "old-secret-of-the-shop", "new-secret-of-the-shop"
SHOPS = {
    "web": Shop.model_validate({"platform": "shopify", "source": "mugs.myshopify.com", "secrets": [OLD, NEW]}),
    "market": Shop.model_validate({"platform": "woocommerce", "source": "https://mugs.example", "secrets": [OLD]}),
}
BODY = b'{"id": 9001,\n "line_items" : [], "\xc3\xa9": "\xff"}'  # no UTF-8: the bytes are kept whatever they are
SOUND = b'{"id": 9001, "line_items": []}'


@pytest.fixture
def broker() -> InMemoryChannels:
    return InMemoryChannels()


@pytest.fixture
async def client(broker: InMemoryChannels) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(edge(broker, shops=SHOPS)) as client:
        yield client


def shopify(body: bytes, secret: str = NEW, **changes: str) -> dict[str, str]:
    headers = {
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Webhook-Id": "w-1",
        "X-Shopify-Shop-Domain": "mugs.myshopify.com",
        "X-Shopify-Triggered-At": "2026-11-23T12:00:00Z",
        "X-Shopify-Hmac-Sha256": signature_of(body, secret),
    }
    return headers | {f"X-Shopify-{name.replace('_', '-')}": value for name, value in changes.items()}


async def test_a_signed_webhook_is_published_byte_for_byte(client: httpx.AsyncClient, broker: InMemoryChannels):
    response = await client.post("/webhooks/web", content=BODY, headers=shopify(BODY))
    assert response.status_code == 200
    [received] = broker.published
    assert base64.b64decode(received.body) == BODY
    assert (received.channel, received.platform, received.topic, received.webhook_id) == ("web", "shopify", "orders/create", "w-1")
    assert (received.received_at, received.triggered_at) == (NOON, NOON)


async def test_its_key_is_the_order_or_where_none_is_named_its_own(client: httpx.AsyncClient, broker: InMemoryChannels):
    for body in (SOUND, b"{"):
        assert (await client.post("/webhooks/web", content=body, headers=shopify(body))).status_code == 200
    assert [received.key for received in broker.published] == [order_id_of("web", "9001"), order_id_of("web", "webhook/w-1")]


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_any_secret_in_use_may_sign(client: httpx.AsyncClient, secret: str):
    assert (await client.post("/webhooks/web", content=SOUND, headers=shopify(SOUND, secret))).status_code == 200


@pytest.mark.parametrize("signed", [SOUND + b" ", b""])
async def test_a_bad_signature_gets_401_and_no_detail(client: httpx.AsyncClient, broker: InMemoryChannels, signed: bytes):
    for headers in (shopify(signed), shopify(SOUND, "another-secret"), {}):
        response = await client.post("/webhooks/web", content=SOUND, headers=headers)
        assert (response.status_code, response.json()["reasons"]) == (401, [])
    assert broker.published == []


async def test_an_unknown_channel_gets_404(client: httpx.AsyncClient, broker: InMemoryChannels):
    assert (await client.post("/webhooks/app", content=SOUND, headers=shopify(SOUND))).status_code == 404
    assert broker.published == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Webhook_Id": ""}, "x-shopify-webhook-id: is required"),
        ({"Triggered_At": "yesterday"}, "x-shopify-triggered-at: is not a date and time"),
        ({"Triggered_At": "1969-01-01T00:00:00Z"}, "triggered_at: "),
        ({"Shop_Domain": "cups.myshopify.com"}, "source: 'cups.myshopify.com' is not the shop of this channel"),
        ({"Topic": "products/update"}, "topic: 'products/update' is none of orders/create"),
    ],
)
async def test_headers_at_fault_are_named(client: httpx.AsyncClient, broker: InMemoryChannels, changes: dict[str, str], reason: str):
    response = await client.post("/webhooks/web", content=SOUND, headers=shopify(SOUND, **changes))
    assert response.status_code == 422
    assert any(each.startswith(reason) for each in response.json()["reasons"])
    assert broker.published == []


async def test_woocommerce_asks_unsigned_whether_somebody_is_there(client: httpx.AsyncClient, broker: InMemoryChannels):
    assert (await client.post("/webhooks/market", content=b"webhook_id=12")).status_code == 200
    assert (await client.post("/webhooks/market", content=b"webhook_id=12&x=1")).status_code == 401
    assert (await client.post("/webhooks/web", content=b"webhook_id=12")).status_code == 401
    assert broker.published == []


async def test_woocommerce_names_its_shop_by_an_address(client: httpx.AsyncClient, broker: InMemoryChannels):
    headers = {
        "X-WC-Webhook-Topic": "order.updated",
        "X-WC-Webhook-Delivery-ID": "7",
        "X-WC-Webhook-Source": "https://Mugs.example/",
        "X-WC-Webhook-Signature": signature_of(SOUND, OLD),
    }
    assert (await client.post("/webhooks/market", content=SOUND, headers=headers)).status_code == 200
    assert broker.published[0].platform == "woocommerce"


async def test_the_largest_body_fits_on_its_topic_and_a_larger_one_is_refused(client: httpx.AsyncClient, broker: InMemoryChannels):
    largest = b"x" * MAX_WEBHOOK_BYTES
    assert (await client.post("/webhooks/web", content=largest, headers=shopify(largest))).status_code == 200
    [topic] = [topic for topic in TOPICS if topic.name == topic_of(WebhookReceived)]
    assert len(encode(broker.published[0])) + 16 * 1024 < topic.max_message_bytes
    larger = largest + b"x"
    assert (await client.post("/webhooks/web", content=larger, headers=shopify(larger))).status_code == 413


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), TimeoutError()])
async def test_without_a_broker_the_shop_has_to_deliver_it_again(client: httpx.AsyncClient, broker: InMemoryChannels, error: Exception):
    broker.error = error
    assert (await client.post("/webhooks/web", content=SOUND, headers=shopify(SOUND))).status_code == 503
    broker.error = None
    assert (await client.post("/webhooks/web", content=SOUND, headers=shopify(SOUND))).status_code == 200


async def test_every_response_is_described_by_the_document(client: httpx.AsyncClient):
    operation = (await client.get("/webhooks/openapi.json")).json()["paths"]["/webhooks/{channel}"]["post"]
    assert {*operation["responses"]} == {"200", "401", "404", "408", "413", "422", "503"}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Those that the gateway requires."""
    monkeypatch.setenv("OMS_DATABASE_URL", "postgresql://127.0.0.1/any")
    monkeypatch.setenv("OMS_QUERY_TOKEN", "t" * 32)
    return monkeypatch


def test_the_environment_names_the_shops(variables: pytest.MonkeyPatch):
    shops = {"web": {"platform": "shopify", "source": "mugs.myshopify.com", "secrets": [OLD]}}
    variables.setenv("OMS_SHOPS", json.dumps(shops))
    settings = Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    assert settings.shops["web"].secrets[0].get_secret_value() == OLD
    assert OLD not in repr(settings)


@pytest.mark.parametrize("change", [{"platform": "magento"}, {"secrets": []}, {"secrets": [OLD, "short"]}, {"sauce": OLD}])
def test_a_shop_that_is_not_sound_is_refused_without_its_secrets(variables: pytest.MonkeyPatch, change: dict[str, Any]):
    shop: dict[str, Any] = {"platform": "shopify", "source": "mugs.myshopify.com", "secrets": [OLD]}
    variables.setenv("OMS_SHOPS", json.dumps({"web": shop | change}))
    with pytest.raises(ValidationError) as raised:
        Settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    assert OLD not in str(raised.value)
    assert "shops.web" in str(raised.value)
