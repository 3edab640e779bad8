"""What the commands reach: the local stack, the broker as its user `operator`, the query API, and the services' metrics."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from time import monotonic, sleep
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from oms_client.follower import assign_all
from oms_client.publisher import Publisher, content_id
from oms_contracts.catalogue import Topic, topic_of
from oms_contracts.message import UnreadableMessage, decode, encode, type_of, validate
from oms_kafka.clients import client_options, make_reader
from oms_kafka.settings import KafkaSettings, settings_of
from oms_local.settings import SERVICES
from oms_local.stack import Stack, StackError, StackSettings
from prometheus_client.parser import text_string_to_metric_families

from oms_cli.faults import INVALID, NOT_DONE, OUT_OF_REACH, Fault, unreadable

USER = "operator"
SOURCE = "/oms/cli"
BROKER_SECONDS = 30
POLL_SECONDS = 0.2
PAGE = 500
REFUSALS = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, UnknownTopicOrPartitionError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsets:
    """How far topics go and consumer groups are. `committed` is by group; a partition that is not there has no offset yet."""

    begins: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    committed: Mapping[str, Mapping[TopicPartition, int]]


class Connections:
    """Made once a run, and connected only as far as a command needs. `query_url` is None where the stack's own query API is meant."""

    def __init__(
        self,
        *,
        query_url: str | None,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._query_url = query_url
        self._clock = clock
        self.new_id = new_id
        # Nobody's proxy is asked for what is on this machine.
        self._http = httpx.Client(transport=transport, timeout=30, trust_env=query_url is not None)

    def close(self) -> None:
        """Let go of what is connected."""
        self._http.close()

    @cached_property
    def stack(self) -> Stack:
        """The stack that the environment names."""
        try:
            return Stack(StackSettings.from_environment())
        except StackError as error:
            raise Fault(INVALID, str(error)) from error

    @cached_property
    def broker(self) -> KafkaSettings:
        """How the operator reaches the broker."""
        try:
            return settings_of(self.stack.kafka(USER))
        except StackError as error:
            raise Fault(OUT_OF_REACH, str(error)) from error

    @cached_property
    def query_url(self) -> str:
        """Where the query API is."""
        return (self._query_url or self._service_url("projection")).rstrip("/")

    def get(self, path: str, **parameters: Any) -> Any:
        """What the query API answers. Raises a Fault, also when what is asked for is not known there."""
        url = f"{self.query_url}{path}"
        wanted = {name: value for name, value in parameters.items() if value is not None}
        try:
            answer = self._http.get(url, params=wanted)
            content: Any = answer.json()
        except httpx.InvalidURL as error:
            raise Fault(INVALID, f"--query-url: {self.query_url!r} is no URL ({error})") from error
        except httpx.RequestError as error:
            remedy = "`oms stack status` tells what runs, --query-url or OMS_QUERY_URL where it is"
            raise Fault(OUT_OF_REACH, f"the query API at {self.query_url} does not answer ({error}); {remedy}") from error
        except ValueError as error:
            raise _stranger(self.query_url) from error
        if answer.is_success:
            return content
        if answer.headers.get("content-type") != "application/problem+json":
            raise _stranger(self.query_url)
        code = {404: NOT_DONE, 422: INVALID}.get(answer.status_code, OUT_OF_REACH)
        raise Fault(code, "; ".join([content["title"], *content["reasons"]]))

    def find(self, path: str, **parameters: Any) -> Any:
        """What the query API answers, None where it does not know it."""
        try:
            return self.get(path, **parameters)
        except Fault as fault:
            if fault.exit_code == NOT_DONE:
                return None
            raise

    def every(self, path: str, *, within: str | None = None, **parameters: Any) -> Iterator[dict[str, Any]]:
        """All items of a list of the query API's, page by page. `within` names the answer's field that holds it, where it has others."""
        after: str | None = None
        while True:
            answer = self.get(path, **{"limit": PAGE} | parameters, after=after)
            page = answer if within is None else answer[within]
            yield from page["items"]
            after = page["next"]
            if after is None:
                return

    def metrics(self, service: str, names: Iterable[str]) -> dict[str, float] | None:
        """Those metrics of a service of the stack that are numbers now; None where it does not answer."""
        try:
            answer = self._http.get(f"{self._service_url(service)}/metrics")
        except httpx.RequestError:
            return None
        if not answer.is_success:
            return None
        wanted = set(names)
        samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
        return {sample.name: sample.value for sample in samples if sample.name in wanted and not math.isnan(sample.value)}

    def publish(self, message: object, *, topic: str | None = None, event_id: str | None = None) -> str:
        """Publish a message as the operator, and answer with its event's id once the broker has it.

        Without an `event_id` it is made of the content: the same message again is the same event. Whatever a service would set aside as
        unreadable is refused here. `topic` is for messages that every service has a topic of its own for.
        """
        kind = type_of(message).name
        try:
            validate(kind, encode(message))
        except UnreadableMessage as error:
            raise unreadable(kind.split(".")[-2], kind, error) from error
        chosen = content_id(message) if event_id is None else event_id
        self.send(message, topic or topic_of(message), chosen)
        return chosen

    def send(self, message: object, topic: str, event_id: str) -> None:
        """Hand a message to the broker, and wait until it has it."""

        async def publish() -> None:
            async with (
                asyncio.timeout(BROKER_SECONDS),
                Publisher(self.broker, SOURCE, self._clock, identify=lambda _message: event_id) as publisher,
            ):
                await publisher.publish([message], topic=topic)

        self.run(publish)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something with the broker. Raises a Fault when that is out of reach, or refuses."""
        broker = self.broker
        try:
            return asyncio.run(work())
        except MessageSizeTooLargeError as error:
            raise Fault(INVALID, "it is larger than its topic takes") from error
        except REFUSALS as error:
            who = broker.kafka_username or "a client without a name"
            what = ", ".join(map(str, error.args)) or type(error).__name__
            raise Fault(NOT_DONE, f"the broker has no such topic or group, or does not allow {who} to use it: {what}") from error
        except (KafkaError, ConnectionError, TimeoutError) as error:
            why = type(error).__name__  # the texts of aiokafka's errors are for programmers
            address = broker.kafka_bootstrap_servers
            raise Fault(OUT_OF_REACH, f"the broker at {address} does not answer ({why}); `oms stack status` tells what runs") from error

    def offsets(self, topics: Iterable[Topic], groups: Iterable[str]) -> Offsets:
        """How far `topics` go, and how far `groups` are."""
        return self.run(lambda: _offsets(self.broker, list(topics), list(groups)))

    def _service_url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.stack.settings.http_port + SERVICES.index(service)}"


def until(ask: Callable[[], T | None], seconds: float) -> T | None:
    """The first answer that is not None; None when `seconds` pass without one. It is asked once at least."""
    deadline = monotonic() + seconds
    while (answer := ask()) is None and monotonic() < deadline:
        sleep(POLL_SECONDS)
    return answer


def event_of(entry: dict[str, Any]) -> Any:
    """The event that an entry of a timeline tells of."""
    return decode(entry["type"], msgspec.json.encode(entry["data"]))


def part(text: str) -> str:
    """A text as one part of a path, whatever it is made of."""
    return quote(text, safe="")


async def _offsets(settings: KafkaSettings, topics: list[Topic], groups: list[str]) -> Offsets:
    reader = make_reader(settings, "oms-cli")
    admin: Any = AIOKafkaAdminClient(**client_options(settings), client_id="oms-cli")
    try:
        async with asyncio.timeout(BROKER_SECONDS):
            await reader.start()
            # What is assigned the client learns of at once, else of one topic after the other, a tenth of a second each.
            partitions = await assign_all(reader, topics)
            reader.pause(*partitions)
            await admin.start()
            committed: dict[str, dict[TopicPartition, int]] = {}
            for group in groups:
                found = await admin.list_consumer_group_offsets(group)
                committed[group] = {tp: at.offset for tp, at in found.items() if at.offset >= 0}
            # Read last, so that no group is ahead of them.
            begins, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
            return Offsets(begins=begins, ends=ends, committed=committed)
    finally:
        await reader.stop()
        await admin.close()


def _stranger(url: str) -> Fault:
    return Fault(OUT_OF_REACH, f"what answers at {url} is not the query API; --query-url or OMS_QUERY_URL tells where that is")
