"""Orders and webhooks on the channels' topics, published as any channel would have."""

from datetime import datetime
from hashlib import sha256
from typing import Protocol
from urllib.parse import quote

from oms_client.publisher import NOBODY, Asker, Sender
from oms_contracts.channel import OrderPlaced, WebhookReceived
from oms_contracts.message import key_of
from oms_kafka.settings import KafkaSettings


class Channels(Protocol):
    """A publisher on the channels' topics. It is started and stopped with the API."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def publish(self, message: OrderPlaced | WebhookReceived, now: datetime, asker: Asker = NOBODY) -> str:
        """Publish an order or a webhook, wait until it is acknowledged, and return its event's id. Raises KafkaError or TimeoutError."""
        ...


class KafkaChannels:
    """Publishes on Kafka. The same order, or webhook, has the same event id, so it may be sent twice."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._sender = Sender(settings, "oms-gateway")

    async def start(self) -> None:
        await self._sender.start()

    async def stop(self) -> None:
        await self._sender.stop()

    async def publish(self, message: OrderPlaced | WebhookReceived, now: datetime, asker: Asker = NOBODY) -> str:
        event_id = _event_id(message)
        await self._sender.send(message, f"/oms/channel/{quote(message.channel, safe='')}", event_id, now, asker=asker)
        return event_id


def _event_id(message: OrderPlaced | WebhookReceived) -> str:
    if isinstance(message, OrderPlaced):
        return key_of(message)
    return sha256(f"{message.channel}\0{message.webhook_id}".encode()).hexdigest()
