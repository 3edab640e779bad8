"""A pytest plugin: the fixture `servers`, a real broker and a real database for tests, wherever they come from.

1. Where KAFKA_BOOTSTRAP_SERVERS (with KAFKA_USERNAME and KAFKA_PASSWORD, if asked for) and POSTGRES_URL (a superuser's) are set: those.
2. Where a Docker engine answers and testcontainers is installed: containers.
3. Else a local stack of its own, in `.orderstream/test`, on free ports; it is gone when the session ends, however it ends.

The plugin is found by every pytest of this environment. It imports next to nothing until the fixture is asked for.
"""

import importlib.util
import os
import re
import secrets
import shutil
import socket
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from oms_contracts.catalogue import Topic

    from oms_local.stack import Stack

KAFKA_IMAGE = "apache/kafka:4.4.0"
POSTGRES_IMAGE = "postgres:18"
PLACES = 64
"""The most sessions that run at the same time in one clone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Real servers. `kafka` has `bootstrap_servers`, and the `username` and `password` of who may do anything (None if none are asked for).

    `stack` is there where it is a local one, for tests that need its users or do it harm.
    """

    kafka: Mapping[str, str | None]
    postgres_url: str
    stack: "Stack | None"
    _made: list[str] = field(default_factory=list[str])

    async def create_database(self, name: str) -> str:
        """Make an empty database whose name begins with `name`. The URL by which to open it."""
        from oms_local.sql import session  # noqa: PLC0415

        database = f"{re.sub('[^a-z0-9_]', '_', name.lower())[:40]}_{secrets.token_hex(4)}"
        async with session(self.postgres_url) as connection:
            await connection.execute(f"create database {database}")
        self._made.append(database)
        return urlsplit(self.postgres_url)._replace(path=f"/{database}").geturl()

    def create_topics(self, topics: "Iterable[Topic]") -> None:
        """Make the topics that are missing, and wait until they can be written."""
        from oms_local.provision import make_admin, provision_topics  # noqa: PLC0415

        provision_topics(make_admin({name: value for name, value in self.kafka.items() if value is not None}), topics)

    async def drop_databases(self) -> None:
        """Remove every database that was made here."""
        from oms_local.sql import session  # noqa: PLC0415

        async with session(self.postgres_url) as connection:
            while self._made:
                await connection.execute(f"drop database if exists {self._made.pop()} with (force)")


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Generator[Servers]:
    """A real broker and a real database server, for as long as the session lasts."""
    with choose(request.config.rootpath) as chosen:
        yield chosen


@contextmanager
def choose(root: Path) -> Generator[Servers]:
    """The servers that there are; the first of the three ways that is open."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") and os.environ.get("POSTGRES_URL"):
        with _theirs() as servers:
            yield servers
    elif _docker_answers():
        with _containers() as servers:
            yield servers
    else:
        with local_stack(root / ".orderstream" / "test") as stack:
            yield Servers(kafka={**stack.kafka("admin")}, postgres_url=stack.database_url("admin"), stack=stack)


@contextmanager
def local_stack(place: Path, partitions: int | None = None) -> "Generator[Stack]":
    """An empty stack (broker and database only) in a folder of its own under `place`, on free ports. It goes down with this process.

    `partitions` is of each topic, None for what the catalogue says.
    """
    from oms_local.kafka_server import start_cache  # noqa: PLC0415
    from oms_local.ports import find_free  # noqa: PLC0415
    from oms_local.stack import Stack, StackSettings  # noqa: PLC0415

    with _own_folder(place) as data:
        ports = find_free(11)  # the broker's two, the database's, and the services' seven
        stack = Stack(StackSettings(data=data, kafka_port=ports, postgres_port=ports + 2, http_port=ports + 3, partitions=partitions))
        try:
            stack.up(services=(), owner=os.getpid())
            yield stack
        finally:
            if start_cache().exists():
                stack.abandon()
            else:  # an orderly end leaves one, and every later start is quicker
                stack.down()


@contextmanager
def _own_folder(place: Path) -> Generator[Path]:
    """An empty folder that no other session uses; what an ended session left there is removed."""
    from oms_local.supervisor import hold  # noqa: PLC0415

    place.mkdir(parents=True, exist_ok=True)
    for number in range(PLACES):
        lock = hold(place, f"{number}.lock")
        if lock is None:
            continue
        folder = place / str(number)
        try:
            _clear(folder)
            yield folder
            shutil.rmtree(folder)
        finally:
            os.close(lock)
        return
    raise RuntimeError(f"{PLACES} test sessions are at work in {place}")


def _clear(folder: Path) -> None:
    from oms_local.control import Control  # noqa: PLC0415

    if folder.exists():
        Control(folder / "run").abandon()  # its session was killed a moment ago
        shutil.rmtree(folder)


@contextmanager
def _theirs() -> Generator[Servers]:
    import asyncio  # noqa: PLC0415

    servers = Servers(
        kafka=_broker(os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ.get("KAFKA_USERNAME"), os.environ.get("KAFKA_PASSWORD")),
        postgres_url=os.environ["POSTGRES_URL"],
        stack=None,
    )
    yield servers
    asyncio.run(servers.drop_databases())


def _broker(bootstrap_servers: str, username: str | None = None, password: str | None = None) -> dict[str, str | None]:
    return {"bootstrap_servers": bootstrap_servers, "username": username or None, "password": password if username else None}


def _docker_answers() -> bool:
    try:
        import docker  # noqa: PLC0415
    except ImportError:
        return False
    if importlib.util.find_spec("testcontainers") is None:
        return False
    if not _listens(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"):  # the client leaves a socket open where nobody listens
        return False
    engine: Any = docker
    try:
        client = engine.from_env(timeout=5)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except engine.errors.DockerException:
        return False


def _listens(address: str) -> bool:
    parts = urlsplit(address)
    family, target = (socket.AF_UNIX, parts.path) if parts.scheme == "unix" else (socket.AF_INET, (parts.hostname, parts.port or 2375))
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        return probe.connect_ex(target) == 0


@contextmanager
def _containers() -> Generator[Servers]:
    import testcontainers.core.container as core  # noqa: PLC0415

    from oms_local.ports import LOOPBACK, find_free  # noqa: PLC0415

    make: Any = core.DockerContainer
    broker_port, database_port, password = find_free(), find_free(), secrets.token_urlsafe(16)
    broker = make(KAFKA_IMAGE).with_bind_ports(19092, broker_port)
    for name, value in _broker_variables(broker_port).items():
        broker = broker.with_env(name, value)
    database = make(POSTGRES_IMAGE).with_bind_ports(5432, database_port).with_env("POSTGRES_PASSWORD", password)
    with ExitStack() as running:
        running.enter_context(broker)
        running.enter_context(database)
        servers = Servers(
            kafka=_broker(f"{LOOPBACK}:{broker_port}"),
            postgres_url=f"postgresql://postgres:{password}@{LOOPBACK}:{database_port}/postgres",
            stack=None,
        )
        _wait_until_ready(servers)
        yield servers


def _broker_variables(port: int) -> dict[str, str]:
    """One broker without authentication, reached from this machine by `port`; the image makes a broker's properties of these."""
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": "PLAINTEXT://:19092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_HEAP_OPTS": "-Xmx512m",
    }


def _wait_until_ready(servers: Servers) -> None:
    import time  # noqa: PLC0415

    from oms_local.provision import broker_is_ready  # noqa: PLC0415
    from oms_local.sql import database_is_ready  # noqa: PLC0415

    deadline = time.monotonic() + 120
    broker = {"bootstrap_servers": str(servers.kafka["bootstrap_servers"])}
    while not (broker_is_ready(broker) and database_is_ready(servers.postgres_url)):
        if time.monotonic() > deadline:
            raise RuntimeError("the containers are not ready after 120 s; `docker logs` tells more")
        time.sleep(0.1)
