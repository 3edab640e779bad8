"""The observer: when each order's public status was published, and when every service has done all its work."""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic, time

from aiokafka import TopicPartition
from oms_contracts.catalogue import ALL_SERVICES, PARTITIONS, TOPICS, topics_read_by
from oms_contracts.message import decode, type_of
from oms_contracts.orders import ENDED_STATUSES
from oms_contracts.tracking import OrderStatusChanged
from oms_kafka.clients import Reader, make_reader
from oms_kafka.settings import settings_of
from oms_local.stack import Stack
from oms_projection.tables import READ_MODELS_VERSION
from oms_projection.versions import schema_of
from oms_runtime.database import Connection, connect

TOPIC = "oms.order-status-changes"
RESTING = ENDED_STATUSES | {"awaiting_customer", "awaiting_stock"}
"""Where an order moves no more unless somebody does something."""
NO_PROGRESS_SECONDS = 60


def partitions_on(stack: Stack) -> int:
    """How many partitions each topic has."""
    return stack.settings.partitions or PARTITIONS


class Stuck(Exception):
    """What was waited for did not come."""


class Watch:
    """Reads the public statuses as they come. `status_times[status][order id]` is when (seconds since 1970, by arrival here)."""

    def __init__(self, stack: Stack) -> None:
        self._reader = make_reader(settings_of(stack.kafka("downstream")), "bench-watch")
        self._partitions = partitions_on(stack)
        self._pending = set[str]()
        self._unrested = 0
        self._heard = monotonic()
        self._news = asyncio.Event()
        self.status_times: dict[str, dict[str, float]] = {}

    async def run(self) -> None:
        """Read until cancelled."""
        kind = type_of(OrderStatusChanged).name
        try:
            await self._reader.start()
            self._reader.assign([TopicPartition(TOPIC, number) for number in range(self._partitions)])
            while True:
                batches = await self._reader.getmany(timeout_ms=200)
                now = time()
                for record in (record for batch in batches.values() for record in batch):
                    change: OrderStatusChanged = decode(kind, record.value or b"")
                    self.status_times.setdefault(change.status, {}).setdefault(change.order_id, now)
                    if change.status in RESTING:
                        self._pending.discard(change.order_id)
                if batches:
                    self._heard = monotonic()
                    self._news.set()
        finally:
            await self._reader.stop()

    def expect(self, order_ids: Iterable[str]) -> None:
        """Orders about to be placed."""
        self._pending.update(order_ids)
        self._unrested = len(self._pending)

    async def at_rest(self, seconds: float, on_progress: Callable[[int], None]) -> None:
        """Wait until every expected order rests; `on_progress` gets how many more do.

        Raises Stuck when that takes longer, or nothing moves.
        """
        deadline, self._heard = monotonic() + seconds, monotonic()
        while self._unrested:
            self._news.clear()
            try:
                async with asyncio.timeout(1):
                    await self._news.wait()
            except TimeoutError:
                pass
            if len(self._pending) != self._unrested:
                on_progress(self._unrested - len(self._pending))
                self._unrested = len(self._pending)
            silent = monotonic() - self._heard
            if monotonic() > deadline or silent > NO_PROGRESS_SECONDS:
                raise Stuck(f"{self._unrested} orders did not rest within {seconds:.0f} s; the last status came {silent:.0f} s ago")


class Services:
    """Whether the services have done all they were given."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._reader: Reader = make_reader(settings_of(stack.kafka("operator")), "bench-ends")
        self._connections: dict[str, Connection] = {}
        self._partitions = [TopicPartition(topic.name, number) for topic in TOPICS for number in range(partitions_on(stack))]

    async def __aenter__(self) -> "Services":
        await self._reader.start()
        for service in ALL_SERVICES:
            schema = schema_of(READ_MODELS_VERSION) if service == "projection" else ""
            self._connections[service] = await connect(self._stack.database_url(service), schema=schema)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reader.stop()
        for connection in self._connections.values():
            connection.terminate()

    async def records(self) -> dict[str, int]:
        """How many records each topic has been given."""
        counts: dict[str, int] = {}
        for tp, end in (await self._reader.end_offsets(self._partitions)).items():
            counts[tp.topic] = counts.get(tp.topic, 0) + end
        return counts

    async def settled(self, seconds: float) -> dict[str, float]:
        """Wait until nothing is left to read or to publish. When each service got there (seconds since 1970). Raises Stuck."""
        deadline = monotonic() + seconds
        done: dict[str, float] = {}
        before: dict[str, int] = {}
        while True:
            records = await self.records()
            behind = {service: await self._behind(service, records) for service in ALL_SERVICES}
            for service, count in behind.items():
                if count:
                    done.pop(service, None)
                else:
                    done.setdefault(service, time())
            if records == before and len(done) == len(ALL_SERVICES):
                return done
            if monotonic() > deadline:
                raise Stuck(f"services are behind after {seconds:.0f} s, by so many records: { {s: n for s, n in behind.items() if n} }")
            before = records
            await asyncio.sleep(0.1)

    async def _behind(self, service: str, records: dict[str, int]) -> int:
        found = await self._connections[service].fetchrow(
            """select (select coalesce(sum(next_offset), 0) from checkpoints)::bigint as read,
                      (select coalesce(max(position), 0) from events) - (select position from relay) as unpublished"""
        )
        assert found is not None
        return sum(records[topic.name] for topic in topics_read_by(service) if topic.parties is None) - found["read"] + found["unpublished"]
