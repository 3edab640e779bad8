"""The envelope of a shop's webhook: what its HTTP headers say, and whether the shop signed the body."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from oms_contracts.sound import MAX_TEXT_CHARACTERS

from oms_adapters.results import Reason


@dataclass(frozen=True, slots=True)
class Webhook:
    """`webhook_id` is the same for every delivery of one webhook; `event_id`, where there is one, of all webhooks of one change.

    `source` is the shop, as it names itself: a domain of Shopify, a URL of WooCommerce.
    """

    platform: str
    topic: str
    webhook_id: str
    source: str
    event_id: str | None = None
    triggered_at: datetime | None = None


_NAMES: dict[str, dict[str, str]] = {
    "shopify": {
        "topic": "x-shopify-topic",
        "webhook_id": "x-shopify-webhook-id",
        "source": "x-shopify-shop-domain",
        "event_id": "x-shopify-event-id",
        "triggered_at": "x-shopify-triggered-at",
        "signature": "x-shopify-hmac-sha256",
    },
    "woocommerce": {
        "topic": "x-wc-webhook-topic",
        "webhook_id": "x-wc-webhook-delivery-id",
        "source": "x-wc-webhook-source",
        "signature": "x-wc-webhook-signature",
    },
}
PLATFORMS = tuple(_NAMES)


def webhook_of(platform: str, headers: Mapping[str, str]) -> Webhook | tuple[Reason, ...]:
    """The webhook that `headers` describe, or which header is at fault. The case of names is of no matter."""
    names, found = _NAMES[platform], {name.lower(): value.strip() for name, value in headers.items()}
    reasons: list[Reason] = []
    for name in (names["topic"], names["webhook_id"], names["source"]):
        if not found.get(name):
            reasons.append(Reason(name, "is required"))
    for name in names.values():
        if len(found.get(name, "")) > MAX_TEXT_CHARACTERS:
            reasons.append(Reason(name, f"must have at most {MAX_TEXT_CHARACTERS} characters"))
    triggered_at = None
    if text := found.get(names.get("triggered_at", "")):
        try:
            triggered_at = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            reasons.append(Reason(names["triggered_at"], "is not a date and time"))
    if reasons:
        return tuple(reasons)
    return Webhook(
        platform=platform,
        topic=found[names["topic"]],
        webhook_id=found[names["webhook_id"]],
        source=found[names["source"]],
        event_id=found.get(names.get("event_id", "")) or None,
        triggered_at=triggered_at,
    )


def is_signed(platform: str, raw: bytes, headers: Mapping[str, str], secrets: Sequence[str]) -> bool:
    """Whether one of `secrets` signed the body `raw`, byte for byte as it was received. Several secrets: while one is being replaced.

    The signature is the base64 of an HMAC-SHA256. The time that this takes depends on the number of secrets, not on which one fits.
    """
    name = _NAMES[platform]["signature"]
    given = next((value for header, value in headers.items() if header.lower() == name), "").strip().encode("utf-8", "replace")
    matches = [hmac.compare_digest(given, signature_of(raw, secret).encode()) for secret in secrets if secret]
    return any(matches)


def signature_of(raw: bytes, secret: str) -> str:
    """The value of the signature's header."""
    return base64.b64encode(hmac.digest(secret.encode(), raw, hashlib.sha256)).decode()
