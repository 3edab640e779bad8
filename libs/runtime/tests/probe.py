"""The probe: a small service for the runtime's tests, and its processes, which a test may pause and kill.

A receipt of goods is booked each time it is applied: an effect that happens twice is seen. Its SKU says what else there is to it: POISON
cannot be decided, WEIGHED asks the outside for its weight, EXPIRING expires by itself. `python probe.py NAME VERSION` runs one process
of it. Version 2 has states of another shape.
"""

import asyncio
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from oms_contracts.catalogue import Topic
from oms_contracts.dead_letters import RecordRedriven, RecordSetAside, RedriveDeadLetters
from oms_contracts.envelope import Envelope, Headers, header, to_headers
from oms_contracts.message import encode, key_of, type_of
from oms_contracts.stock import ReceiveStock, StockAdjusted, StockReceived
from oms_contracts.values import StockLine
from oms_kafka.clients import Record as Read
from oms_kafka.clients import client_options, make_producer, make_reader, partition_of
from oms_kafka.settings import KafkaSettings
from oms_local.ports import LOOPBACK, find_free
from oms_runtime.database import STORE_LOCK, Connection, connect
from oms_runtime.model import AnyDecider, Decider, Due, Service
from oms_runtime.runtime import Runtime
from oms_runtime.server import run
from oms_runtime.settings import RuntimeSettings
from pydantic import SecretStr

if TYPE_CHECKING:  # a process of the probe starts quicker without them
    import httpx
    from oms_local.testing import Servers

PARTITIONS = 6
ITEM, POISON, WEIGHED, EXPIRING = "item", "poison", "weighed", "expiring"
EXPIRY = timedelta(seconds=1)
SESSION_TIMEOUT_MS = 6_000
"""The shortest that a broker accepts by default."""


@dataclass(frozen=True)
class Booked:
    """What is known of one receipt: how often it was booked, and what it will do by itself."""

    times: int = 0
    sku: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Weigh:
    """Ask the outside for the weight of what was received."""

    receipt_id: str
    idempotency_key: str


@dataclass(frozen=True)
class RecordWeight:
    receipt_id: str
    weight: str


@dataclass(frozen=True)
class Expire:
    receipt_id: str


def decide(command: Any, _states: Mapping[str, Booked], now: datetime) -> Sequence[Any]:
    match command:
        case ReceiveStock(lines=(StockLine(sku="poison"), *_)):
            raise ValueError("this receipt cannot be booked")
        case ReceiveStock():
            return [StockReceived(receipt_id=command.receipt_id, lines=command.lines, at=now)]
        case RecordWeight():
            return [StockAdjusted(adjustment_id=command.receipt_id, lines=(), reason=f"weighs {command.weight}", at=now)]
        case _:
            return [StockAdjusted(adjustment_id=command.receipt_id, lines=(), reason="expired", at=now)]


def evolve(state: Booked, event: Any, _key: str) -> Booked:
    match event:
        case StockReceived():
            return Booked(state.times + 1, event.lines[0].sku, event.at)
        case _:
            return replace(state, at=None)


def due(key: str, state: Booked) -> Due | None:
    match state:
        case Booked(sku="weighed", at=datetime() as at):
            return at, Weigh(key, f"{key}-weight")
        case Booked(sku="expiring", at=datetime() as at):
            return at + EXPIRY, Expire(key)
        case _:
            return None


DECIDER = Decider(
    initial=lambda _key: Booked(),
    decide=decide,
    evolve=evolve,
    reads=lambda command: (command.receipt_id,),
    writes=lambda event: (key_of(event),),
    due=due,
)


@dataclass(frozen=True)
class Counted:
    """The state of version 2: how often a receipt was booked, and how often it was adjusted."""

    receipts: int = 0
    adjustments: int = 0


def count(state: Counted, event: Any, _key: str) -> Counted:
    match event:
        case StockReceived():
            return replace(state, receipts=state.receipts + 1)
        case _:
            return replace(state, adjustments=state.adjustments + 1)


def nothing_counted(_key: str) -> Counted:
    return Counted()


def never_due(_key: str, _state: Counted) -> Due | None:
    return None


DECIDERS: dict[int, AnyDecider] = {
    1: DECIDER,
    2: replace(DECIDER, initial=nothing_counted, evolve=count, due=never_due, state_version=2),
}
"""By state version."""


def make_service(name: str, database_url: str, decider: AnyDecider = DECIDER) -> Service:
    """The probe on topics of its own. It asks the outside through the database: see Probe.outside."""
    inbox, outbox, newest, dead_letters = topics_of(name)
    return Service(
        name=name,
        reads=(inbox,),
        writes=(outbox, newest, dead_letters),
        dead_letters=dead_letters.name,
        decider=decider,
        commands=(ReceiveStock,),
        effects={Weigh: partial(_weigh, database_url)},
    )


async def _weigh(database_url: str, effect: Weigh) -> RecordWeight:
    connection = await connect(database_url)
    try:
        await connection.execute("insert into weighings (key, pid) values ($1, $2)", effect.idempotency_key, os.getpid())
        return RecordWeight(effect.receipt_id, await connection.fetchval("select weigh($1)", effect.idempotency_key))
    finally:
        connection.terminate()


def topics_of(name: str) -> tuple[Topic, Topic, Topic, Topic]:
    """What the probe reads, what it writes, the newest of that for each key, and its dead letters."""

    def topic(suffix: str, writer: str, *messages: type[Any], copy_of: str | None = None) -> Topic:
        return Topic(
            name=f"test.{name}.{suffix}",
            key="receipt id",
            messages=messages,
            writers=(writer,),
            readers=(name,),
            summary="for tests",
            partitions=PARTITIONS,
            max_message_bytes=2 * 1024 * 1024,
            copy_of=copy_of,
            compacted=copy_of is not None,
        )

    return (
        topic("commands", "warehouse", ReceiveStock, RedriveDeadLetters),
        topic("stock", "inventory", StockReceived, StockAdjusted),
        topic("newest", "inventory", StockReceived, StockAdjusted, copy_of=f"test.{name}.stock"),
        topic("dead-letters", "inventory", RecordSetAside, RecordRedriven),
    )


def receipt(key: str, sku: str = ITEM) -> ReceiveStock:
    """The command to book a receipt."""
    return ReceiveStock(receipt_id=key, lines=(StockLine(sku=sku, location="l", quantity=1),))


def headers_of(message: Any) -> Headers:
    """The headers as an external party sends them. The correlation id is made of the key."""
    kind, key = type_of(message).name, key_of(message)
    envelope = Envelope(type=kind, source="/test", id=key, time=datetime.now(UTC), subject=key, correlationid=f"flow-{key}")
    return to_headers(envelope)


async def recreate(servers: "Servers", settings: KafkaSettings, *topics: Topic) -> None:
    """Delete topics with all that is on them, and create them again under their names."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    await admin.delete_topics([topic.name for topic in topics])
    await admin.close()
    await asyncio.to_thread(servers.create_topics, topics)


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 30) -> None:
    """Wait for a condition. Raises TimeoutError when it has not come about in `seconds`."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # what we wait for is another process's
            await asyncio.sleep(0.02)


class Process:
    """One running process of the probe."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, port: int) -> None:
        self._log = log
        self._base = f"http://{LOOPBACK}:{port}"
        with log.open("wb") as output:
            self._process = subprocess.Popen(arguments, env=dict(environment), stdin=subprocess.PIPE, stderr=output)
        self.pid = self._process.pid

    def pause(self) -> None:
        """Take the processor from it, as a frozen container or machine has it taken."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it on the line where it is."""
        self._process.kill()
        self._process.wait(10)

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    async def ended(self) -> object:
        return self.exit_code is not None

    def close(self) -> None:
        """End it, whatever it is doing."""
        if self.exit_code is None:
            self.resume()
            self.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines it logged as `event`."""
        return [line for line in self.log() if line["event"] == event]

    def log(self) -> list[dict[str, Any]]:
        """All that it logged. Raises ValueError where a line is not JSON."""
        lines = self._log.read_text().split("\n")[:-1]  # what is behind the last newline is being written
        return [json.loads(line) for line in lines]

    async def get(self, path: str, *, timeout_seconds: float = 10) -> "httpx.Response | None":
        """What it returns over HTTP; None where it does not listen yet, or no more."""
        import httpx  # noqa: PLC0415

        async with httpx.AsyncClient(base_url=self._base, timeout=timeout_seconds) as client:
            try:
                return await client.get(path)
            except httpx.TransportError:
                return None

    async def ready(self) -> bool:
        answer = await self.get("/ready")
        return answer is not None and answer.status_code == 200

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples, over all labels; NaN where there is none."""
        answer = await self.get("/metrics")
        lines = answer.text.splitlines() if answer is not None else []
        samples = [float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(samples) if samples else math.nan


class Probe:
    """The probe's topics and database, its processes, and all that a test asks of them."""

    def __init__(self, name: str, servers: "Servers", database_url: str, folder: Path) -> None:
        self.name = name
        self.servers = servers
        self.database_url = database_url
        self.inbox, self.outbox, self.newest, self.dead_letters = topics_of(name)
        self._folder = folder
        self._processes: list[Process] = []

    def settings(self, **others: Any) -> RuntimeSettings:
        """As its processes have them."""
        kafka = self.servers.kafka
        return RuntimeSettings(
            kafka_bootstrap_servers=str(kafka["bootstrap_servers"]),
            kafka_username=kafka["username"],
            kafka_password=SecretStr(kafka["password"]) if kafka["password"] else None,
            database_url=SecretStr(self.database_url),
            session_timeout_ms=SESSION_TIMEOUT_MS,
            **others,
        )

    def service(self, decider: AnyDecider = DECIDER) -> Service:
        return make_service(self.name, self.database_url, decider)

    def start(self, *, batch_records: int = 500, state_version: int = 1) -> Process:
        """Start one more process, of the decider with `state_version`. It may take a second or two until it is ready."""
        settings = self.settings()
        port = find_free()
        variables = {
            "OMS_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "OMS_DATABASE_URL": self.database_url,
            "OMS_SESSION_TIMEOUT_MS": str(settings.session_timeout_ms),
            "OMS_BATCH_RECORDS": str(batch_records),
            "OMS_HTTP_HOST": LOOPBACK,
            "OMS_OPERATIONS_PORT": str(port),
        }
        if settings.kafka_username is not None and settings.kafka_password is not None:
            variables |= {"OMS_KAFKA_USERNAME": settings.kafka_username, "OMS_KAFKA_PASSWORD": settings.kafka_password.get_secret_value()}
        log = self._folder / f"{len(self._processes)}.log"
        process = Process([sys.executable, __file__, self.name, str(state_version)], {**os.environ, **variables}, log, port)
        self._processes.append(process)
        return process

    @asynccontextmanager
    async def running(self, service: Service | None = None, *, max_clock_skew_seconds: float = 60, **parts: Any) -> AsyncGenerator[Runtime]:
        """The service in this very process, of `parts` as Runtime takes them."""
        runtime = Runtime(service or self.service(), self.settings(max_clock_skew_seconds=max_clock_skew_seconds), **parts)
        await runtime.start()
        try:
            yield runtime
        finally:
            await runtime.stop()

    def close(self) -> None:
        """End the processes. Raises ValueError where one of them logged what is not JSON."""
        for process in self._processes:
            process.close()
        for process in self._processes:
            process.log()

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[Connection]:
        """A session on the probe's database, ended at once afterwards."""
        connection = await connect(self.database_url)
        try:
            yield connection
        finally:
            connection.terminate()

    async def ask(self, query: str, *args: Any) -> Any:
        """One value from the probe's database."""
        async with self.session() as connection:
            return await connection.fetchval(query, *args)

    async def set_provider(self, body: str) -> None:
        """What the outside does from now on when it is asked for the weight of `key`: a body in PL/pgSQL."""
        await self.ask(f"create or replace function weigh(key text) returns text language plpgsql as $$ begin {body} end $$")

    @asynccontextmanager
    async def store_held(self) -> AsyncGenerator[None]:
        """No process can write to the store meanwhile: one with a batch in hand waits."""
        async with self.session() as connection:
            await connection.execute("select pg_advisory_lock($1)", STORE_LOCK)
            yield

    @asynccontextmanager
    async def relay_held(self) -> AsyncGenerator[None]:
        """No relay can record its progress meanwhile. A session that waits to do so is ended, as when its death is noticed."""
        async with self.session() as connection, connection.transaction():
            await connection.execute("lock table relay in share mode")
            yield
            await connection.execute("select pg_terminate_backend(pid) from pg_locks where relation = 'relay'::regclass and not granted")

    async def waiting_for_store(self) -> int:
        """How many have a batch in hand and wait for the store."""
        return await self.ask(
            """select count(*) from pg_locks join pg_database d on d.oid = database and datname = current_database()
               where locktype = 'advisory' and objid = $1 and not granted""",
            STORE_LOCK,
        )

    async def waiting_for_relay(self) -> int:
        """How many have published, and wait to write down how far they got."""
        return await self.ask("select count(*) from pg_locks where relation = 'relay'::regclass and not granted")

    async def send(self, messages: Iterable[Any], values: Mapping[str, bytes] | None = None) -> None:
        """Put commands on the topic, each with its own key, and return once the broker has them. `values` replace some keys' values."""
        await self.send_raw(
            (key_of(message).encode(), (values or {}).get(key_of(message)) or encode(message), headers_of(message)) for message in messages
        )

    async def send_raw(self, records: Iterable[tuple[bytes, bytes, Sequence[tuple[str, bytes]]]], topic: Topic | None = None) -> None:
        """Put anything on a topic, the probe's own commands unless said: key, value and headers."""
        producer = make_producer(self.settings(), "test-sender")
        await producer.start()
        try:
            await asyncio.gather(
                *(
                    producer.send_and_wait(
                        (topic or self.inbox).name, key=key, value=value, headers=headers, partition=partition_of(key, PARTITIONS)
                    )
                    for key, value, headers in records
                )
            )
        finally:
            await producer.stop()

    async def read(self, topic: Topic) -> dict[int, list[Read]]:
        """All that is on a topic now, by partition."""
        reader = make_reader(self.settings(), "test-reader")
        await reader.start()
        try:
            partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
            reader.assign(partitions)
            ends = {tp: end for tp, end in (await reader.end_offsets(partitions)).items() if end}
            found: dict[int, list[Read]] = {number: [] for number in range(topic.partitions)}
            while ends:
                for tp, records in (await reader.getmany(*ends, timeout_ms=200)).items():
                    found[tp.partition] += records
                    if records[-1].offset + 1 >= ends[tp]:
                        del ends[tp]
            return found
        finally:
            await reader.stop()

    async def published(self) -> int:
        """How many events are on the topics."""
        reader = make_reader(self.settings(), "test-reader")
        await reader.start()
        try:
            partitions = [TopicPartition(topic.name, n) for topic in (self.outbox, self.dead_letters) for n in range(PARTITIONS)]
            return sum((await reader.end_offsets(partitions)).values())
        finally:
            await reader.stop()

    async def lag(self) -> int:
        """How many records the group has not read, as Kafka's own tools see it."""
        admin: Any = AIOKafkaAdminClient(**client_options(self.settings()))
        reader = make_reader(self.settings(), "test-reader")
        await admin.start()
        await reader.start()
        try:
            committed = await admin.list_consumer_group_offsets(f"oms.{self.name}")
            ends = await reader.end_offsets([TopicPartition(self.inbox.name, number) for number in range(PARTITIONS)])
            return sum(end - (committed[tp].offset if tp in committed else 0) for tp, end in ends.items())
        finally:
            await admin.close()
            await reader.stop()

    async def adjusted(self, reason: str) -> list[str]:
        """The receipts that were adjusted for `reason`, each as often as it was, in order."""
        async with self.session() as connection:
            found = await connection.fetch(
                "select stream from events where type = $1 and data::json ->> 'reason' = $2 order by position",
                type_of(StockAdjusted).name,
                reason,
            )
        return [row["stream"] for row in found]

    async def booked(self) -> int:
        """How many receipts were booked, each as often as it was."""
        return await self.ask("select count(*) from events where type = $1", type_of(StockReceived).name)

    async def check_booked_once(self, keys: Iterable[str]) -> None:
        """Fail unless each of `keys`, and no other, was booked exactly once."""
        async with self.session() as connection:
            found = await connection.fetch(
                "select stream, count(*) as times from events where type = $1 group by 1", type_of(StockReceived).name
            )
        assert {row["stream"]: row["times"] for row in found} == dict.fromkeys(keys, 1)

    async def check_published_once(self) -> None:
        """Wait until all is relayed; fail unless every event of the store is on its topic, and on its copy, exactly once, in order."""
        await until(partial(self.ask, "select (select max(position) from events) = (select position from relay)"))
        expected: defaultdict[tuple[str, int], list[tuple[int, str]]] = defaultdict(list)
        async with self.session() as connection:
            for row in await connection.fetch("select topic, key, position, data from events order by position"):
                for topic in (row["topic"], *([self.newest.name] if row["topic"] == self.newest.copy_of else [])):
                    expected[topic, partition_of(row["key"].encode(), PARTITIONS)].append((row["position"], row["data"]))
        found = {
            (topic.name, number): [(int(header(record.headers, "ce_position") or 0), (record.value or b"").decode()) for record in records]
            for topic in (self.outbox, self.newest, self.dead_letters)
            for number, records in (await self.read(topic)).items()
            if records
        }
        assert found == expected


async def make_probe(servers: "Servers", folder: Path, *, partitions: int = PARTITIONS) -> Probe:
    """A probe with topics and an empty database of its own."""
    name = f"probe_{secrets.token_hex(4)}"
    probe = Probe(name, servers, await servers.create_database(name), folder)
    await asyncio.to_thread(servers.create_topics, [replace(topic, partitions=partitions) for topic in topics_of(name)])
    async with probe.session() as connection:
        await connection.execute("create table weighings (key text not null, pid integer not null, at timestamptz not null default now())")
    await probe.set_provider("return '1 kg';")
    return probe


def _end_with_the_test() -> None:
    """A test that was killed closes our standard input, and must not leave us behind."""
    os.read(0, 1)
    os._exit(3)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_test, daemon=True).start()
    _settings = RuntimeSettings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    run(make_service(sys.argv[1], _settings.database_url.get_secret_value(), DECIDERS[int(sys.argv[2])]), _settings, arguments=())
