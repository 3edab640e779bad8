"""A sales channel: places the order in a file, and waits until it is known. `python channel.py order.json http://127.0.0.1:8000/api/v1`"""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from oms_client.publisher import publish_message, read_message
from oms_client.queries import QueryClient, order_path, poll
from oms_contracts.message import key_of
from oms_kafka.settings import KafkaSettings


async def place(order_json: bytes, url: str) -> None:
    order = read_message("oms.channel.OrderPlaced.v2", order_json)
    await publish_message(KafkaSettings(), order, source="/shop", now=datetime.now(UTC))
    async with QueryClient(url, token=os.environ["OMS_KEY"]) as query:
        found = await poll(lambda: query.find(order_path(key_of(order))), timeout_seconds=30)
    print(key_of(order), found["status"] if found else "is not known yet")


asyncio.run(place(Path(sys.argv[1]).read_bytes(), sys.argv[2]))
