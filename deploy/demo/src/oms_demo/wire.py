"""The simulators on the broker: each hears and says what its broker user may."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from oms_client.follower import follow
from oms_client.publisher import Publisher
from oms_contracts.catalogue import TOPICS, topic_of
from oms_contracts.envelope import header
from oms_contracts.message import decode, type_of
from oms_kafka.settings import KafkaSettings
from oms_runtime.clock import utc_now

from oms_demo.simulators import Answer

GATHER = 0.025
"""Seconds from one answer to the next, at least: events that come meanwhile are answered together. People are slower still."""


async def simulate(
    settings: KafkaSettings, source: str, answers: Mapping[type[Any], Answer], listening: asyncio.Event | None = None
) -> None:
    """Answer every event from the first on until cancelled. What was answered in an earlier run is answered again, without effect.

    `listening` is set once it does; cancelled before that, its clients may leave a connection open.
    """
    handled = {type_of(cls).name: answer for cls, answer in answers.items()}
    names = {topic_of(cls) for cls in answers}
    topics = [topic for topic in TOPICS if topic.name in names]
    async with (
        Publisher(settings, f"/demo/{source}", utc_now) as publisher,
        aclosing(follow(settings, f"demo-{source}-reader", topics, from_beginning=True, listening=listening)) as arriving,
    ):
        async for records in arriving:
            commands: list[Any] = []
            for record in records:
                kind = header(record.headers, "ce_type") or ""
                if kind in handled:
                    commands += handled[kind](decode(kind, record.value or b""))
            await publisher.publish(commands)
            await asyncio.sleep(GATHER)
