"""Webhooks on their topic."""

from datetime import datetime
from hashlib import sha256
from typing import Protocol
from urllib.parse import quote

from oms_client.publisher import Sender
from oms_contracts.channel import WebhookReceived


class Channels(Protocol):
    """A publisher of webhooks."""

    async def publish(self, message: WebhookReceived, now: datetime) -> None:
        """Publish a webhook, and wait until it is acknowledged. Raises KafkaError or TimeoutError."""
        ...


class KafkaChannels:
    """Publishes on Kafka. The same webhook has the same event id, so it may be sent twice."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def publish(self, message: WebhookReceived, now: datetime) -> None:
        event_id = sha256(f"{message.channel}\0{message.webhook_id}".encode()).hexdigest()
        await self._sender.send(message, f"/oms/channel/{quote(message.channel, safe='')}", event_id, now)
