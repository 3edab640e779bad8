"""A pytest plugin: the fixture `servers`, a real broker and a real database for tests.

They are the first of these that is possible:

1. The servers of KAFKA_BOOTSTRAP_SERVERS (with KAFKA_USERNAME and KAFKA_PASSWORD if it authenticates) and POSTGRES_URL (a superuser's).
2. Containers, if a Docker engine responds and testcontainers is installed.
3. A local stack of its own, in `.orderstream/test`, on free ports. It ends with the session, also if the session is killed.

Every pytest of this environment finds the plugin. It imports very little until a test uses the fixture.
"""

import importlib.util
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Generator, Iterable, Mapping
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
MAX_SESSIONS = 64
"""How many test sessions can run at the same time in one clone."""
READY_TIMEOUT_SECONDS = 120
DOCKER_TIMEOUT_SECONDS = 5
CONNECT_TIMEOUT_SECONDS = 2
POLL_SECONDS = 0.02
"""Between two looks at what another process brings about."""


def wait_for(condition: Callable[[], bool], timeout_seconds: float = 20) -> None:
    """Return as soon as a condition holds. Raises AssertionError when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Real servers. `kafka` has `bootstrap_servers`, and a super user's `username` and `password` (None without authentication).

    `stack` is the local stack, for tests that need its users or stop its parts; None if the servers come from elsewhere.
    """

    kafka: Mapping[str, str | None]
    postgres_url: str
    stack: "Stack | None"
    _made: list[str] = field(default_factory=list[str])

    async def create_database(self, name: str) -> str:
        """Make an empty database whose name begins with `name`. Returns its URL."""
        from oms_provision.sql import session  # noqa: PLC0415

        database = f"{re.sub('[^a-z0-9_]', '_', name.lower())[:40]}_{secrets.token_hex(4)}"
        async with session(self.postgres_url) as connection:
            await connection.execute(f"create database {database}")
        self._made.append(database)
        return urlsplit(self.postgres_url)._replace(path=f"/{database}").geturl()

    def create_topics(self, topics: "Iterable[Topic]") -> None:
        """Make the topics that are missing, and wait until they can be written to."""
        from oms_provision.broker import make_admin, provision_topics  # noqa: PLC0415

        provision_topics(make_admin({name: value for name, value in self.kafka.items() if value is not None}), topics)

    async def drop_databases(self) -> None:
        """Remove every database that `create_database` made."""
        from oms_provision.sql import session  # noqa: PLC0415

        async with session(self.postgres_url) as connection:
            while self._made:
                await connection.execute(f"drop database if exists {self._made.pop()} with (force)")


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Generator[Servers]:
    """A real broker and a real database server, for as long as the session lasts."""
    with open_servers(request.config.rootpath) as opened:
        yield opened


@contextmanager
def open_servers(root: Path) -> Generator[Servers]:
    """The first of the three kinds of servers that is possible."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") and os.environ.get("POSTGRES_URL"):
        with _existing_servers() as servers:
            yield servers
    elif _docker_responds():
        with _containers() as servers:
            yield servers
    else:
        with local_stack(root / ".orderstream" / "test") as stack:
            yield Servers(kafka={**stack.kafka("admin")}, postgres_url=stack.database_url("admin"), stack=stack)


@contextmanager
def local_stack(place: Path, partitions: int | None = None) -> "Generator[Stack]":
    """An empty stack (broker and database only) in a folder of its own under `place`, on free ports. It ends with this process.

    `partitions` is how many each topic gets, None for the catalogue's number.
    """
    from oms_local.kafka_server import start_cache  # noqa: PLC0415
    from oms_local.stack import Stack, StackSettings  # noqa: PLC0415

    with _own_folder(place) as data:
        stack = Stack(StackSettings.on_free_ports(data, partitions=partitions))
        try:
            stack.up(services=(), owner=os.getpid())
            yield stack
        finally:
            if start_cache().exists():
                stack.abandon()
            else:  # an orderly stop makes a start cache, and every later start is faster
                stack.down()


@contextmanager
def _own_folder(place: Path) -> Generator[Path]:
    """An empty folder that no other session uses. The files of an ended session are removed."""
    from oms_local.run_folder import take_lock  # noqa: PLC0415

    place.mkdir(parents=True, exist_ok=True)
    for number in range(MAX_SESSIONS):
        lock = take_lock(place, f"{number}.lock")
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
    raise RuntimeError(f"{MAX_SESSIONS} test sessions run in {place} already")


def _clear(folder: Path) -> None:
    from oms_local.control import Control  # noqa: PLC0415

    if folder.exists():
        Control(folder / "run").abandon()  # its session may have been killed a moment ago
        shutil.rmtree(folder)


@contextmanager
def _existing_servers() -> Generator[Servers]:
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


def _docker_responds() -> bool:
    try:
        import docker  # noqa: PLC0415
    except ImportError:
        return False
    if importlib.util.find_spec("testcontainers") is None:
        return False
    if not _listens(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"):  # if nothing listens, the client leaves a socket open
        return False
    engine: Any = docker
    try:
        client = engine.from_env(timeout=DOCKER_TIMEOUT_SECONDS)
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
        probe.settimeout(CONNECT_TIMEOUT_SECONDS)
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
    """A broker without authentication, which clients on this machine reach at `port`. The image makes properties of these."""
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

    from oms_provision.broker import broker_is_ready  # noqa: PLC0415
    from oms_provision.sql import database_is_ready  # noqa: PLC0415

    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    broker = {"bootstrap_servers": str(servers.kafka["bootstrap_servers"])}
    while not (broker_is_ready(broker) and database_is_ready(servers.postgres_url)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the containers are not ready after {READY_TIMEOUT_SECONDS} s; `docker logs` may say why")
        time.sleep(0.1)
