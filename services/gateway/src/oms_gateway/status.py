"""The public status of orders as it changes, told over HTTP by server-sent events.

One reader of `oms.order-status-changes` serves all clients. An event's id has, for each partition, the offset of the next record: by it a
client that connects again, to whichever process of the gateway, goes on where it was. The newest changes are kept in memory for that; who
was away for longer is told so by an event `gap`, and reads the orders anew.
"""

import asyncio
import json
import re
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog
from aiokafka import TopicPartition
from fastapi import Request, Response
from oms_client.errors import ClientError, broker_errors
from oms_client.follower import assign_all
from oms_contracts.catalogue import TOPICS
from oms_contracts.message import UnreadableMessage, decode, type_of
from oms_contracts.tracking import OrderStatusChanged
from oms_kafka.clients import Record, make_reader
from oms_kafka.settings import KafkaSettings
from starlette.types import Receive, Scope, Send

from oms_gateway.identity import Identity
from oms_gateway.refusals import Forbidden, Invalid, Unavailable

log = structlog.get_logger(__name__)

TOPIC = next(topic for topic in TOPICS if topic.name == "oms.order-status-changes")
PARAMETERS = ("order_id", "channel")
HEARTBEAT_SECONDS = 10
STREAM_SECONDS = 25
"""A stream ends after it, and its client connects again: shorter than a request may take (`OMS_HTTP_REQUEST_TIMEOUT_SECONDS`)."""
SEND_SECONDS = 10
"""For a client to take what is sent; then its stream ends."""
RETRY_SECONDS = 1
"""Between two attempts to reach the broker; clients are told to wait as long before they connect again."""
_ID = re.compile(r"[0-9]{1,6}:[0-9]{1,18}(,[0-9]{1,6}:[0-9]{1,18})*")
_MAX_ID_CHARACTERS = 4_000

Offsets = dict[int, int]
"""By partition."""


class Change(NamedTuple):
    """A change of an order's status, at its place in the topic. `id` is where a client goes on that has it."""

    partition: int
    offset: int
    order_id: str
    channel: str | None
    id: str
    data: str


class Filter(NamedTuple):
    """Which changes a client asks for; None: it does not matter."""

    order_id: str | None = None
    channel: str | None = None

    def takes(self, change: Change) -> bool:
        """Whether a change is asked for."""
        return self.order_id in {None, change.order_id} and self.channel in {None, change.channel}


class Stream:
    """What one client is still to be sent. It ends when that becomes more than `max_waiting` changes."""

    def __init__(self, wanted: Filter, since: Mapping[int, int], max_waiting: int) -> None:
        self._wanted = wanted
        self._since = since
        self._max_waiting = max_waiting
        self._waiting: deque[Change] = deque()
        self._news = asyncio.Event()
        self.too_slow = False

    def put(self, change: Change) -> None:
        """A change has happened."""
        if change.offset < self._since.get(change.partition, 0) or not self._wanted.takes(change):
            return
        if len(self._waiting) >= self._max_waiting:
            self.too_slow = True
        else:
            self._waiting.append(change)
        self._news.set()

    def position(self, read: Offsets) -> str:
        """Where the client goes on that has all that was `read` so far, as an event's id."""
        return _spell({partition: max(offset, self._since.get(partition, 0)) for partition, offset in read.items()})

    async def take(self, timeout_seconds: float) -> list[Change]:
        """The changes that happened; none when nothing does for as long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._news.wait()
        except TimeoutError:
            return []
        self._news.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


class StatusFeed:
    """Reads the topic, and has the streams of all clients. `run` it beside the API.

    It keeps the newest `max_kept` changes, and begins with as many. `max_streams` are open at the same time, `max_streams_each` of one
    identity.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        max_kept: int = 12_000,
        max_streams: int = 100,
        max_streams_each: int = 10,
        max_waiting: int = 1_000,
        stream_seconds: float = STREAM_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._settings = settings
        self._max_kept = max_kept
        self._max_streams = max_streams
        self._max_streams_each = max_streams_each
        self._max_waiting = max_waiting
        self._stream_seconds = stream_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._kept: deque[Change] = deque()
        self._first: Offsets = {}
        """Of each partition, the offset from which on all changes are kept."""
        self._next: Offsets = {}
        self._live: Offsets = {}
        """Of each partition, its end when the process began to read: who asks for no past is told what comes after."""
        self._streams: set[Stream] = set()
        self._of: Counter[str] = Counter()

    async def run(self) -> None:
        """Read the topic until cancelled. While the broker is out of reach, streams stay open without news."""
        while True:
            try:
                await self._read()
            except ClientError as error:
                log.warning("status_feed_interrupted", error=str(error), retry_seconds=RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)

    @asynccontextmanager
    async def stream(self, actor: str, wanted: Filter, since: Offsets | None) -> AsyncGenerator[tuple[Stream, list[Change], bool]]:
        """The stream of a client, the changes it has missed since `since` (None: it asks for none), and whether some are kept no more.

        Raises Unavailable where there are too many streams, or nothing was read yet.
        """
        if not self._live:
            raise Unavailable("the status of orders is not read yet", "ask again in a moment")
        if len(self._streams) >= self._max_streams or self._of[actor] >= self._max_streams_each:
            raise Unavailable("there are too many streams", "close one, or ask again in a moment")
        if since is None:
            since = {partition: max(end, self._next[partition]) for partition, end in self._live.items()}
        stream = Stream(wanted, since, self._max_waiting)
        missed = [each for each in self._kept if each.offset >= since.get(each.partition, 0) and wanted.takes(each)]
        gap = any(first > since.get(partition, 0) for partition, first in self._first.items())
        self._streams.add(stream)
        self._of[actor] += 1
        try:
            yield stream, missed, gap
        finally:
            self._streams.discard(stream)
            self._of[actor] -= 1
            if not self._of[actor]:
                del self._of[actor]

    async def events(self, identity: Identity, wanted: Filter, since: Offsets | None) -> AsyncGenerator[bytes]:
        """What a client is sent. The first part is empty: it comes once the stream is open. Raises as `stream`."""
        async with self.stream(identity.actor, wanted, since) as (stream, missed, gap):
            ends = asyncio.get_running_loop().time() + self._stream_seconds
            begin = stream.position(self._next)
            yield b""
            yield f"retry: {RETRY_SECONDS * 1_000}\n\n".encode()
            if gap:
                yield f"event: gap\ndata: {json.dumps({'reason': 'changes were missed: read the orders anew'})}\n\n".encode()
            for change in missed:
                yield _event(change)
            yield f"id: {begin}\n: open\n\n".encode()
            while (left := ends - asyncio.get_running_loop().time()) > 0 and not stream.too_slow:
                position = stream.position(self._next)
                changes = await stream.take(min(left, self._heartbeat_seconds))
                for change in changes:
                    yield _event(change)
                if not changes:
                    # Nothing that is asked for came before `position`, so a client that connects again need not be told it.
                    yield f"id: {position}\n: still here\n\n".encode()

    async def _read(self) -> None:
        reader = make_reader(self._settings, "oms-gateway-status")
        with broker_errors(self._settings):
            try:
                await reader.start()
                partitions = await assign_all(reader, [TOPIC])
                begins, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
                for partition in partitions:
                    number, end = partition.partition, ends[partition]
                    if number not in self._next:
                        self._next[number] = max(begins[partition], end - self._max_kept // len(partitions))
                        self._first[number] = self._next[number]
                    reader.seek(TopicPartition(TOPIC.name, number), self._next[number])
                self._live = self._live or {partition.partition: end for partition, end in ends.items()}
                while True:
                    for records in (await reader.getmany(timeout_ms=500)).values():
                        for record in records:
                            self._add(record)
            finally:
                await reader.stop()

    def _add(self, record: Record) -> None:
        self._next[record.partition] = record.offset + 1
        try:
            changed: OrderStatusChanged = decode(type_of(OrderStatusChanged).name, record.value or b"")
        except UnreadableMessage as error:
            log.warning("status_change_unreadable", partition=record.partition, offset=record.offset, error=str(error))
            return
        change = Change(
            record.partition, record.offset, changed.order_id, changed.channel, _spell(self._next), (record.value or b"").decode()
        )
        self._kept.append(change)
        if len(self._kept) > self._max_kept:
            dropped = self._kept.popleft()
            self._first[dropped.partition] = dropped.offset + 1
        for stream in tuple(self._streams):
            stream.put(change)


def offsets_of(event_id: str | None) -> Offsets | None:
    """The offsets that a `Last-Event-ID` spells, None where there is none. Raises Invalid."""
    if not event_id:
        return None
    if len(event_id) > _MAX_ID_CHARACTERS or not _ID.fullmatch(event_id):
        raise Invalid("a header is not sound", "Last-Event-ID: must be the id of an earlier event")
    return {int(partition): int(offset) for partition, _, offset in (each.partition(":") for each in event_id.split(","))}


def wanted_by(identity: Identity, request: Request) -> Filter:
    """The changes that a request asks for. Raises Forbidden or Invalid."""
    if not identity.may("orders:read"):
        raise Forbidden("this is not allowed", "GET /status needs the scope orders:read")
    if unknown := sorted({*request.query_params} - {*PARAMETERS}):
        raise Invalid("a parameter is not known", *(f"{name}: is none of {', '.join(PARAMETERS)}" for name in unknown))
    channel = request.query_params.get("channel", identity.channel)
    if identity.channel is not None and channel != identity.channel:
        raise Forbidden("it is of another channel", f"channel: {identity.actor} sees channel {identity.channel} alone")
    return Filter(request.query_params.get("order_id"), channel)


async def stream_of(feed: StatusFeed, identity: Identity, request: Request) -> Response:
    """The answer to a request for the changes of orders' statuses. Raises a Refusal."""
    events = feed.events(identity, wanted_by(identity, request), offsets_of(request.headers.get("last-event-id")))
    await anext(events)
    return EventStream(events)


class EventStream(Response):
    """A response that goes on until its events end, its client leaves, or takes too long to take one."""

    def __init__(self, events: AsyncGenerator[bytes]) -> None:
        super().__init__(media_type="text/event-stream; charset=utf-8", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            results = await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._events.aclose()
        if isinstance(results[0], Exception) and not isinstance(results[0], TimeoutError):
            raise results[0]

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for part in self._events:
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _spell(offsets: Offsets) -> str:
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(offsets.items()))


def _event(change: Change) -> bytes:
    return f"id: {change.id}\nevent: status\ndata: {change.data}\n\n".encode()
