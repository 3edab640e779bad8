"""The envelope of a webhook, and its signature."""

import base64
import hashlib
import hmac

import pytest
from oms_adapters.webhooks import PLATFORMS, Webhook, is_signed, signature_of, webhook_of

BODY = b'{"id": 1, "total": "1.00"}'
HEADER = {"shopify": "X-Shopify-Hmac-Sha256", "woocommerce": "X-WC-Webhook-Signature"}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_signature_of_any_secret_in_use_is_accepted(platform: str) -> None:
    signed = base64.b64encode(hmac.new(b"new", BODY, hashlib.sha256).digest()).decode()
    for name in (HEADER[platform], HEADER[platform].lower()):
        assert is_signed(platform, BODY, {name: signed}, ["old", "new"])
    assert signed == signature_of(BODY, "new")


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("given", ["", "x", "é\ud800", "=" * 10_000, signature_of(BODY, "other"), signature_of(BODY + b" ", "new")])
def test_any_other_signature_is_refused(platform: str, given: str) -> None:
    assert not is_signed(platform, BODY, {HEADER[platform]: given}, ["old", "new"])


def test_without_a_secret_or_a_header_nothing_is_signed() -> None:
    assert not is_signed("shopify", BODY, {HEADER["shopify"]: signature_of(BODY, "")}, [""])
    assert not is_signed("shopify", BODY, {HEADER["shopify"]: signature_of(BODY, "a")}, [])
    assert not is_signed("shopify", BODY, {}, ["a"])


def test_the_headers_name_the_webhook() -> None:
    shopify = {
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Webhook-Id": "w-1",
        "X-Shopify-Event-Id": "e-1",
        "X-Shopify-Shop-Domain": "mugs.myshopify.com",
        "X-Shopify-Triggered-At": "2026-03-01T10:00:00.5+01:00",
    }
    found = webhook_of("shopify", shopify)
    assert isinstance(found, Webhook)
    assert (found.topic, found.webhook_id, found.event_id, found.source) == ("orders/create", "w-1", "e-1", "mugs.myshopify.com")
    assert found.triggered_at is not None
    assert found.triggered_at.isoformat() == "2026-03-01T09:00:00.500000+00:00"
    woo = {"x-wc-webhook-topic": "order.created", "x-wc-webhook-delivery-id": "7", "x-wc-webhook-source": "https://mugs.example/"}
    assert webhook_of("woocommerce", woo) == Webhook("woocommerce", "order.created", "7", "https://mugs.example/")


def test_headers_at_fault_are_named() -> None:
    bad = {"X-Shopify-Topic": "orders/create", "X-Shopify-Webhook-Id": "w" * 300, "X-Shopify-Triggered-At": "yesterday"}
    found = webhook_of("shopify", bad)
    assert isinstance(found, tuple)
    assert {reason.field for reason in found} == {"x-shopify-shop-domain", "x-shopify-webhook-id", "x-shopify-triggered-at"}
