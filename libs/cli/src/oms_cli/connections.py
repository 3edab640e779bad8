"""What the commands reach: the broker as its user `operator` and the query API, or the gateway instead; and the services' metrics."""

import asyncio
import math
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from oms_client.errors import BrokerUnreachable, ClientError, Invalid, NotAllowed, NotFound, QueryApiUnreachable, Refused, broker_errors
from oms_client.follower import assign_all, read_one
from oms_client.outcomes import NO_EFFECT_KNOWN, Outcome
from oms_client.publisher import Asker, Publisher, content_id, publish_message
from oms_client.queries import QueryClient, path_part, poll
from oms_contracts.catalogue import Topic, existing
from oms_contracts.message import UnreadableMessage, encode, key_of
from oms_contracts.operations import OPERATIONS, Operation, operation_of, topic_for
from oms_kafka.clients import client_options, make_reader
from oms_kafka.settings import KafkaSettings, reasons_of, settings_of
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from oms_cli.errors import INVALID, NOT_DONE, OUT_OF_REACH, CliError
from oms_cli.plugins import Servers, installed_servers
from oms_cli.secrets import read_password

USER = "operator"
SOURCE = "/oms/cli"
BROKER_TIMEOUT_SECONDS = 30
METRICS_TIMEOUT_SECONDS = 30
ANSWER_SECONDS = 30
"""For the gateway's answer, beside what it waits."""
PUBLISHED_AT_ONCE = 1_000
"""Messages of a file that are in memory at a time."""
BROKER_HINT = "OMS_KAFKA_BOOTSTRAP_SERVERS names it"
QUERY_HINT = "--query-url or OMS_QUERY_URL names it"
GATEWAY_HINT = "--url or OMS_URL names it"
GATEWAY_PATH = "/api/v1"
GATEWAY_WAIT_SECONDS = 30
"""The longest that the gateway waits for an outcome."""
ONCE = frozenset(
    {"place-order", "receive-stock", "adjust-stock", "count-stock", "transfer-stock", "receive-transfer", "quarantine-stock"}
    | {"release-quarantine", "write-off-quarantine", "erase-customer"}
)
"""The operations that count once with the same content. Every other one is an event of its own each time."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsets:
    """Begin and end offsets of partitions, and the `committed` offsets by consumer group: without a partition that has none yet."""

    begins: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    committed: Mapping[str, Mapping[TopicPartition, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for: its event id, its Kafka key, and its outcome where the gateway has waited for one."""

    event_id: str
    key: str
    outcome: Outcome | None = None


class Connections:
    """Made once for a run of `oms`, and connected only as far as a command needs.

    With `url`, operations and queries go through the gateway there: with the credential `key`, or in a session of `user`, whose password is
    asked for, and which ends with the run. Otherwise operations go to the broker, and queries to the query API.

    Settings come first: `query_url` with `query_token`, `service_url` (of health and metrics, with `{service}` for a service's
    name) and the variables `OMS_KAFKA_*`. What they leave open, `find_servers` returns: those of the local stack where it is installed.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        user: str | None = None,
        query_url: str | None = None,
        query_token: str | None = None,
        service_url: str | None = None,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        find_servers: Callable[[], Servers | None] = installed_servers,
        publish: Callable[..., Coroutine[Any, Any, str]] = publish_message,
        transport: httpx.AsyncBaseTransport | None = None,
        actor: str = USER,
        reason: str = "",
    ) -> None:
        self.asker = Asker(actor, reason)
        """Who gives the commands: the account that `oms` runs under."""
        self._url = url
        self._key = key
        self.user = user
        """Who signs in at the gateway; None: nobody does."""
        self._query_url = query_url
        self._query_token = query_token
        self._service_url = service_url
        self.now = clock
        self.new_id = new_id
        self._find_servers = find_servers
        self._publish = publish
        self._transport = transport
        self._runner = asyncio.Runner()

    def close(self) -> None:
        """Close what is connected."""
        if "query" in self.__dict__:
            self._runner.run(_close(self.query, signed_in=self.by_gateway and self.user is not None))
        self._runner.close()

    @cached_property
    def broker(self) -> KafkaSettings:
        """How the operator reaches the broker."""
        try:
            settings = KafkaSettings()
            if "kafka_bootstrap_servers" in settings.model_fields_set:
                return settings
            if self._url is not None:
                raise CliError(INVALID, "OMS_KAFKA_BOOTSTRAP_SERVERS: is not set; this goes to the broker, and not through --url")
            if self._servers is None:
                raise CliError(
                    INVALID, "OMS_KAFKA_BOOTSTRAP_SERVERS: is not set; it names the broker (host:port); or set OMS_URL and OMS_KEY"
                )
            return settings_of(self._servers.kafka(USER))
        except ValidationError as error:
            raise CliError(INVALID, *reasons_of(error)) from error

    @cached_property
    def query(self) -> QueryClient:
        """The query API, or the gateway, which answers the same."""
        if self._url is not None:
            url, server = f"{self._url.rstrip('/')}{GATEWAY_PATH}", "the gateway"
            if self.user is None:
                return self._client("--url", url, self._bearer(), server)
            client = self._client("--url", url, None, server)
            self.run(_sign_in(client, self.user, self.password))
            return client
        url, token = self._query_url, self._query_token
        if url is None:
            if self._servers is None:
                raise CliError(INVALID, "--query-url: is not given; it, or OMS_QUERY_URL, names the query API; or set OMS_URL and OMS_KEY")
            url, token = self._servers.query_url(), self._servers.query_token()
        if token is None:  # that of the local stack is for the stack alone
            raise CliError(INVALID, "OMS_QUERY_TOKEN: is not set; it is the credential of the query API, which OMS_QUERY_URL names")
        return self._client("--query-url", url, token, "the query API")

    @cached_property
    def password(self) -> str:
        """The password of `user`, which is asked for once."""
        return read_password(f"Password of {self.user}", new=False)

    @property
    def gateway(self) -> QueryClient:
        """The gateway, for what is there alone. Raises CliError where it is not set."""
        if not self.by_gateway:
            raise CliError(
                INVALID, "--url: is not given; it, or OMS_URL, names the gateway, which has users and keys; OMS_KEY is a key for it"
            )
        return self.query

    @property
    def by_gateway(self) -> bool:
        """Whether operations and queries go through the gateway."""
        return self._url is not None

    def require(self, *, queries: bool) -> None:
        """Raises CliError where it is not set where operations go, or, if `queries`, where their outcome is read."""
        if not self.by_gateway:
            _ = self.broker
        if queries or self.by_gateway:
            _ = self.query

    def environment(self, service: str) -> Mapping[str, str]:
        """The variables by which a service's program reaches its servers, beside this process's own. Raises CliError without any."""
        needed, others = _NEEDED.get(service, ("OMS_DATABASE_URL", "the broker's OMS_KAFKA_…"))
        if needed in os.environ:
            return {}
        if self._servers is None:
            raise CliError(INVALID, f"{needed}: is not set; it, and {others}, must be those of {service}")
        return self._servers.environment(service)

    @property
    def hint(self) -> str:
        """What to do when a server does not answer: the end of a sentence."""
        return self._servers.hint if self._servers is not None else "its process may be down"

    def get(self, path: str, **parameters: Any) -> Any:
        """The query API's JSON at `path`. Raises CliError, also when the API does not know what is asked for."""
        return self.run(self.query.get(path, **parameters))

    def manage(self, method: str, path: str, body: Any = None, *, see: str = "") -> Any:
        """What the gateway answers to a request about users and keys. `see` is the command that lists what may be meant."""
        return self.run(_manage(self.gateway, method, path, body, see))

    def collect(self, path: str, **options: Any) -> list[dict[str, Any]]:
        """The items of a list of the query API, as `QueryClient.collect` has them."""
        return self.run(self.query.collect(path, **options))

    def wait(self, ask: Callable[[QueryClient], Awaitable[T | None]], timeout_seconds: float) -> T | None:
        """The first result of `ask` that is not None; None when `timeout_seconds` pass without one."""
        query = self.query
        return self.run(poll(lambda: ask(query), timeout_seconds))

    def metrics(self, service: str, names: Iterable[str]) -> dict[str, float] | None:
        """Those metrics of a service that have a number now; None where it does not answer, or its URL is not known."""
        url = self._url_of(service)
        if url is None:
            return None
        try:
            response = httpx.get(f"{url}/metrics", timeout=METRICS_TIMEOUT_SECONDS, trust_env=self._service_url is not None)
        except httpx.RequestError:
            return None
        if not response.is_success:
            return None
        wanted = set(names)
        samples = [sample for family in text_string_to_metric_families(response.text) for sample in family.samples]
        return {sample.name: sample.value for sample in samples if sample.name in wanted and not math.isnan(sample.value)}

    def ask(self, name: str, parameters: Mapping[str, str], body: Mapping[str, Any], *, wait_seconds: float = 0) -> Asked:
        """Ask for the operation called `name`: through the gateway, or else by publishing its command as the operator.

        `parameters` are those of its path, `body` has its other fields. Only the gateway waits here, up to `wait_seconds`; otherwise the
        outcome is for `wait`. Raises CliError for what a service would set aside as unreadable, and for what the gateway does not allow.
        """
        operation = operation_of(name)
        try:
            message = operation.message(parameters, body)
        except UnreadableMessage as error:
            raise CliError(INVALID, *(f"{operation.command.__name__}: {reason}" for reason in str(error).split("; "))) from error
        event_id = content_id(message) if name in ONCE else self.new_id()
        if self.by_gateway:
            return self.run(self._post(operation, parameters, message, event_id, wait_seconds))
        self.run(
            self._publish(
                self.broker,
                message,
                source=SOURCE,
                now=self.now(),
                topic=topic_for(operation, parameters),
                event_id=event_id,
                asker=self.asker,
            )
        )
        return Asked(event_id=event_id, key=key_of(message))

    def record_value(self, topic: str, partition: int, offset: int) -> bytes | None:
        """The value of the record at an offset, None where the broker no longer has it."""
        record = self.run(read_one(self.broker, "oms-cli", TopicPartition(topic, partition), offset))
        return None if record is None else record.value or b""

    def publisher(self) -> Publisher:
        """A publisher of many messages as the operator; their event ids are derived from their content."""
        return Publisher(self.broker, SOURCE, self.now, asker=self.asker)

    def publish_all(self, messages: Iterable[object], on_acknowledged: Callable[[int], None]) -> None:
        """Publish messages that were checked, in their order, a part at a time, however many there are; through the gateway one by one.

        `on_acknowledged` gets the number of records that the broker has acknowledged since its last call.
        """
        if self.by_gateway:
            for message in messages:
                operation = _OPERATION_OF[type(message)]
                values = msgspec.json.decode(encode(message))
                self.ask(operation.name, {name: values.pop(name) for name in operation.parameters}, values)
                on_acknowledged(1)
            return
        self.run(_publish_all(self.publisher, messages, on_acknowledged))

    def offsets(self, topics: Iterable[Topic], groups: Iterable[str]) -> Offsets:
        """The offsets of `topics` (of a family: all its topics), and what `groups` have committed; each stands for its newest version."""
        return self.run(_offsets(self.broker, list(topics), list(groups)))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end. The client's errors become CliErrors."""
        try:
            return self._runner.run(work)
        except (NotFound, NotAllowed, Refused) as error:
            raise CliError(NOT_DONE, str(error)) from error
        except Invalid as error:
            raise CliError(INVALID, *lines_of(error)) from error
        except BrokerUnreachable as error:
            raise CliError(OUT_OF_REACH, f"{error}; {BROKER_HINT}, {self.hint}") from error
        except QueryApiUnreachable as error:
            if self.by_gateway:
                raise CliError(OUT_OF_REACH, f"{error}; {GATEWAY_HINT}") from error
            raise CliError(OUT_OF_REACH, f"{error}; {QUERY_HINT}, {self.hint}") from error

    async def _post(self, operation: Operation, parameters: Mapping[str, str], message: Any, event_id: str, wait_seconds: float) -> Asked:
        """Ask the gateway for an operation. A request that is repeated because its answer was lost counts once where its content does."""
        body = {name: value for name, value in msgspec.json.decode(encode(message)).items() if name in operation.fields}
        path = operation.path.format(**{name: path_part(value) for name, value in parameters.items()})
        headers = {"x-reason": quote(self.asker.reason)} if self.asker.reason else {}
        if operation.name in ONCE:
            headers["idempotency-key"] = event_id
        waited = min(wait_seconds, GATEWAY_WAIT_SECONDS)
        try:
            answer = await self.query.post(
                path,
                body,
                headers=headers,
                params={"wait": f"{waited:g}s"} if waited else None,
                timeout=waited + ANSWER_SECONDS,
            )
        except Refused as error:
            if "outcome" not in error.answer:  # it is not the operation that was refused, but this request
                raise
            answer = error.answer
        outcome = answer["outcome"]
        known = None if outcome is None or outcome["status"] == NO_EFFECT_KNOWN.status else msgspec.convert(outcome, Outcome)
        return Asked(event_id=answer["event_id"], key=answer["key"], outcome=known)

    def _client(self, option: str, url: str, token: str | None, server: str) -> QueryClient:
        try:
            return QueryClient(url, token=token, server=server, transport=self._transport)
        except Invalid as error:
            raise CliError(INVALID, f"{option}: {error}") from error

    def _bearer(self) -> str:
        if not self._key:
            raise CliError(
                INVALID, "OMS_KEY: is not set; with --url it is the key that you were given, and begins with oms_; or sign in by --user"
            )
        return self._key

    @cached_property
    def _servers(self) -> Servers | None:
        return self._find_servers()

    def _url_of(self, service: str) -> str | None:
        if self._service_url is not None:
            return self._service_url.replace("{service}", service).rstrip("/")
        return self._servers.service_url(service) if self._servers is not None else None


_NEEDED = {"provision": ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_USERNAME and KAFKA_PASSWORD")}
"""By program: the variable without which it cannot reach its servers, and the others. All not named here need a database."""

_OPERATION_OF = {operation.command: operation for operation in OPERATIONS}


def newest_group(base: str, present: Iterable[str]) -> str:
    """The consumer group that a service reads by now: of those whose tables have versions (`<base>.<tables>-<version>`) the newest."""
    versions = [(int(end), name) for name in present if name.startswith(f"{base}.") and (end := name.rpartition("-")[2]).isdecimal()]
    return max(versions)[1] if versions else base


def lines_of(error: Invalid, place: str | None = None) -> list[str]:
    """A line for each reason why `place` (without one: what the error is about) is not valid."""
    return [f"{place or error.what}: {reason}" for reason in error.reasons] or [str(error)]


async def _sign_in(gateway: QueryClient, user: str, password: str) -> None:
    try:
        await gateway.sign_in(user, password)
    except BaseException:  # it is raised on
        await gateway.close()
        raise


async def _close(query: QueryClient, *, signed_in: bool) -> None:
    try:
        if signed_in:
            with suppress(ClientError):  # then the session ends by itself
                await query.send("DELETE", "/session")
    finally:
        await query.close()


async def _manage(gateway: QueryClient, method: str, path: str, body: Any, see: str) -> Any:
    try:
        return await gateway.send(method, path, body)
    except NotFound as error:
        raise CliError(NOT_DONE, f"{str(error).partition(';')[0]}; `{see}` shows those there are") from error


async def _publish_all(make_publisher: Callable[[], Publisher], messages: Iterable[object], on_acknowledged: Callable[[int], None]) -> None:
    remaining = iter(messages)
    async with make_publisher() as publisher:  # made here: its producer belongs to the loop that runs
        while part := list(islice(remaining, PUBLISHED_AT_ONCE)):
            await publisher.publish(part, on_acknowledged)


async def _offsets(settings: KafkaSettings, topics: list[Topic], groups: list[str]) -> Offsets:
    reader = make_reader(settings, "oms-cli")
    admin: Any = AIOKafkaAdminClient(**client_options(settings), client_id="oms-cli")
    with broker_errors(settings):
        try:
            async with asyncio.timeout(BROKER_TIMEOUT_SECONDS):
                await reader.start()
                # The client learns of assigned topics at once, otherwise of one topic after the other, a tenth of a second each.
                names = sorted(await reader.topics())
                partitions = await assign_all(reader, [each for topic in topics for each in existing(topic, names)])
                reader.pause(*partitions)
                await admin.start()
                committed: dict[str, dict[TopicPartition, int]] = {}
                present: list[str] = [name for name, _ in await admin.list_consumer_groups()]
                for group in groups:
                    found = await admin.list_consumer_group_offsets(newest_group(group, present))
                    committed[group] = {tp: at.offset for tp, at in found.items() if at.offset >= 0}
                # Read last, so that no group is ahead of them.
                begins, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
                return Offsets(begins=begins, ends=ends, committed=committed)
        finally:
            await reader.stop()
            await admin.close()
