"""Webhooks of shops: whose they are, and whether the shop signed them. Nothing else is made of a body before that is known."""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from oms_adapters.parts import standing_of
from oms_adapters.platforms import adapter_of_platform
from oms_adapters.webhooks import Webhook, is_signed, webhook_of
from oms_contracts.channel import MAX_WEBHOOK_TEXT_CHARACTERS, WebhookReceived, webhook_key
from oms_contracts.message import UnreadableMessage, encode, type_of, validate
from oms_contracts.values import quoted
from pydantic import BaseModel, ConfigDict, Field, SecretStr

MAX_WEBHOOK_BYTES = MAX_WEBHOOK_TEXT_CHARACTERS // 4 * 3
"""Base64 makes four characters of three bytes."""
Secret = Annotated[SecretStr, Field(min_length=8)]
TOPICS = {
    "shopify": ("orders/create", "orders/updated", "orders/edited", "orders/paid", "orders/cancelled", "orders/delete"),
    "woocommerce": ("order.created", "order.updated", "order.restored", "order.deleted"),
}
"""By platform: the webhooks that carry an order."""
_PING = re.compile(rb"webhook_id=\d{1,20}")
"""What WooCommerce sends, unsigned and without its headers, when a webhook is made: whether somebody is there."""


class Shop(BaseModel):
    """A shop that sends webhooks. `source` is its domain (Shopify) or URL (WooCommerce), as its webhooks name it.

    Each of `secrets` may sign: two of them while one is being replaced.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    platform: Literal["shopify", "woocommerce"]
    source: Annotated[str, Field(min_length=1, max_length=255)]
    secrets: Annotated[tuple[Secret, ...], Field(min_length=1, max_length=5)]


@dataclass(frozen=True, slots=True)
class Refused:
    """A webhook that is not taken: an HTTP status, and why."""

    status: int
    title: str
    reasons: tuple[str, ...] = ()


def is_ping(shop: Shop, raw: bytes) -> bool:
    """Whether the shop only asks if somebody is there."""
    return shop.platform == "woocommerce" and _PING.fullmatch(raw) is not None


def received_of(channel: str, shop: Shop, raw: bytes, headers: Mapping[str, str], now: datetime) -> WebhookReceived | Refused:
    """The webhook as it is published, or why it is not taken."""
    if not is_signed(shop.platform, raw, headers, [secret.get_secret_value() for secret in shop.secrets]):
        return Refused(401, "the webhook is not signed by the shop")
    webhook = webhook_of(shop.platform, headers)
    if not isinstance(webhook, Webhook):
        return Refused(422, "the webhook's headers are at fault", tuple(map(str, webhook)))
    if _plain(webhook.source) != _plain(shop.source):
        return Refused(422, "the webhook is of another shop", (f"source: {quoted(webhook.source)} is not the shop of this channel",))
    if webhook.topic not in (known := TOPICS[shop.platform]):
        return Refused(422, "the webhook is not about orders", (f"topic: {quoted(webhook.topic)} is none of {', '.join(known)}",))
    standing = standing_of(adapter_of_platform(shop.platform), raw)
    received = WebhookReceived(
        key=webhook_key(channel, webhook.webhook_id, None if standing is None else standing.reference),
        channel=channel,
        platform=shop.platform,
        topic=webhook.topic,
        webhook_id=webhook.webhook_id,
        received_at=now,
        body=b64encode(raw).decode(),
        triggered_at=webhook.triggered_at,
    )
    try:
        return validate(type_of(received).name, encode(received))
    except UnreadableMessage as error:  # a time before 1970, text with NUL: capture would not read it
        return Refused(422, "the webhook's headers are at fault", (str(error).partition(": ")[2],))


def _plain(source: str) -> str:
    return source.rstrip("/").lower()
