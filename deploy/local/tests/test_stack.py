"""The local stack: what it promises to whoever runs it, tried on a real one."""

import asyncio
import json
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import confluent_kafka
import psutil
import pytest
from confluent_kafka import admin as typed_in_part
from oms_contracts.catalogue import TOPICS, USERS
from oms_local import kafka_server
from oms_local.ports import find_free
from oms_local.provision import make_admin
from oms_local.sql import session
from oms_local.stack import Stack, StackError, StackSettings
from oms_local.testing import local_stack

kafka_api: Any = confluent_kafka
admin_api: Any = typed_in_part

REFUSED = {"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED"}


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with local_stack(request.config.rootpath / ".orderstream" / "test") as running:
        yield running


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def options(stack: Stack, user: str, **more: object) -> dict[str, object]:
    broker = stack.kafka(user)
    return {
        "bootstrap.servers": broker["bootstrap_servers"],
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": broker["username"],
        "sasl.password": broker["password"],
        "log_level": 0,
        **more,
    }


def write(stack: Stack, user: str, topic: str, value: bytes = b"x", *, idempotent: bool = True) -> str | None:
    """Write a record; None, or the name of what went wrong."""
    outcome: list[str | None] = []

    def delivered(error: Any, record: object) -> None:
        del record
        outcome.append(error.name() if error else None)

    producer = kafka_api.Producer(options(stack, user, **{"enable.idempotence": idempotent, "message.timeout.ms": 20_000}))
    producer.produce(topic, value, on_delivery=delivered)
    producer.flush(20)
    return outcome[0]


def read(stack: Stack, user: str, topic: str, group: str) -> bytes | str:
    """The first record of a topic, or the name of what went wrong."""
    consumer = kafka_api.Consumer(options(stack, user, **{"group.id": group, "auto.offset.reset": "earliest"}))
    try:
        consumer.subscribe([topic])
        record = consumer.poll(20)
        assert record is not None, "neither a record nor an error"
        return record.error().name() if record.error() else record.value()
    except kafka_api.KafkaException as error:
        return error.args[0].name()
    finally:
        consumer.close()


def query(url: str, statement: str) -> Any:
    async def ask() -> Any:
        async with session(url) as connection:
            return await connection.fetchval(statement)

    return asyncio.run(ask())


def pids(stack: Stack) -> dict[str, int | None]:
    return {part.name: part.pid for part in stack.status()}


def everything_of(stack: Stack) -> list[psutil.Process]:
    """The supervisor and all that came of it."""
    supervisor = psutil.Process(int((stack.settings.data / "run" / "pid").read_text()))
    return [supervisor, *supervisor.children(recursive=True)]


class TestRights:
    def test_a_service_writes_and_reads_its_own_topics(self, stack: Stack) -> None:
        assert write(stack, "capture", "oms.orders", b"own") is None
        assert read(stack, "capture", "oms.orders", "oms.capture") == b"own"

    def test_a_reader_named_in_the_catalogue_reads(self, stack: Stack) -> None:
        assert write(stack, "capture", "oms.orders") is None
        assert isinstance(read(stack, "inventory", "oms.orders", "oms.inventory"), bytes)

    def test_nobody_writes_what_another_owns(self, stack: Stack) -> None:
        assert write(stack, "inventory", "oms.orders") in REFUSED
        assert write(stack, "channel", "oms.orders") in REFUSED
        assert write(stack, "downstream", "oms.order-status", idempotent=False) in REFUSED

    def test_nobody_reads_what_is_not_theirs(self, stack: Stack) -> None:
        assert write(stack, "payment", "oms.payments") is None
        assert read(stack, "warehouse", "oms.payments", "oms.warehouse") in REFUSED
        assert read(stack, "channel", "oms.channel.orders", "oms.channel") in REFUSED

    def test_nobody_joins_the_group_of_another(self, stack: Stack) -> None:
        assert read(stack, "inventory", "oms.orders", "oms.payment") in REFUSED

    def test_the_operator_sees_every_topic_and_every_group(self, stack: Stack) -> None:
        assert isinstance(read(stack, "capture", "oms.orders", "oms.capture"), bytes)
        admin = make_admin(stack.kafka("operator"))
        assert {topic.name for topic in TOPICS} <= set(admin.list_topics(timeout=10).topics)
        assert "oms.capture" in {group.group_id for group in admin.list_consumer_groups().result(10).valid}
        assert write(stack, "operator", "oms.orders") in REFUSED

    def test_a_wrong_password_opens_nothing(self, stack: Stack) -> None:
        with pytest.raises(kafka_api.KafkaException):
            make_admin({**stack.kafka("capture"), "password": "guessed"}).list_topics(timeout=2)

    def test_the_controller_lets_no_service_in(self, stack: Stack) -> None:
        properties = (stack.settings.data / "secrets" / "kafka.properties").read_text()
        address = properties.partition("controller.quorum.voters=1@")[2].splitlines()[0]
        for mechanism in ("SCRAM-SHA-512", "PLAIN"):
            with pytest.raises(kafka_api.KafkaException):
                make_admin({**stack.kafka("capture"), "bootstrap_servers": address, "mechanism": mechanism}).list_topics(timeout=1)
        with pytest.raises(kafka_api.KafkaException):
            make_admin({"bootstrap_servers": address}).list_topics(timeout=1)

    def test_a_role_opens_its_own_database_only(self, stack: Stack) -> None:
        own = stack.database_url("capture")
        assert query(own, "select current_user::text || ' ' || current_database()") == "oms_capture oms_capture"
        for other in ("oms_inventory", "postgres", "template1"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                query(own.rpartition("/")[0] + f"/{other}", "select 1")
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(own.replace("oms_capture:", "oms_capture:x"), "select 1")

    def test_a_topic_is_kept_as_the_catalogue_says(self, stack: Stack) -> None:
        admin = make_admin(stack.kafka("admin"))
        topics = {topic.name: topic for topic in TOPICS}
        described = admin.list_topics(timeout=10).topics
        assert {name: len(described[name].partitions) for name in topics} == {name: topic.partitions for name, topic in topics.items()}
        resources = [admin_api.ConfigResource(admin_api.ConfigResource.Type.TOPIC, name) for name in topics]
        for resource, answer in admin.describe_configs(resources).items():
            config, topic = answer.result(10), topics[resource.name]
            assert config["retention.ms"].value == str(topic.retention)
            assert config["max.message.bytes"].value == str(topic.max_message_bytes)
            assert config["cleanup.policy"].value == ("compact" if topic.compacted else "delete")


class TestSecrets:
    def test_no_password_is_in_a_log_or_among_arguments(self, stack: Stack) -> None:
        known = json.loads((stack.settings.data / "secrets" / "passwords.json").read_text())
        secrets = {password for kind in known.values() for password in kind.values()}
        assert len(secrets) == len(USERS) + 1 + 7 + 1
        seen = [" ".join(process.cmdline()) for process in everything_of(stack)]
        seen += [file.read_text(errors="replace") for folder in ("log", "run") for file in _files(stack.settings.data / folder)]
        assert not [text for text in seen if any(secret in text for secret in secrets)]

    def test_nobody_else_may_read_them(self, stack: Stack) -> None:
        for place in (stack.settings.data / "secrets", *_files(stack.settings.data / "secrets")):
            assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0

    def test_everything_listens_on_the_loopback_interface_only(self, stack: Stack) -> None:
        addresses = {
            connection.laddr.ip.removeprefix("::ffff:")
            for process in everything_of(stack)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.is_file()]


class TestFaults:
    def test_a_part_that_dies_comes_back(self, stack: Stack) -> None:
        before = pids(stack)
        for part in ("kafka", "postgres"):
            stack.kill(part)
        until(lambda: all(part.ready and part.pid != before[part.name] for part in stack.status()))
        assert {part.name: part.restarts for part in stack.status()} == {"kafka": 1, "postgres": 1}

    def test_a_part_can_be_taken_away_and_brought_back(self, stack: Stack) -> None:
        stack.stop_part("postgres")
        assert {part.name: (part.state, part.ready) for part in stack.status()}["postgres"] == ("stopped", False)
        stack.start_part("postgres")
        assert query(stack.database_url("capture"), "select 1") == 1

    def test_a_killed_supervisor_leaves_nothing_behind_and_no_data_is_lost(self, stack: Stack) -> None:
        url = stack.database_url("capture")
        query(url, "create table if not exists kept (a int)")
        query(url, "insert into kept values (1)")
        assert write(stack, "tracking", "oms.tracking", b"kept") is None
        processes = everything_of(stack)
        processes[0].send_signal(signal.SIGKILL)
        gone, alive = psutil.wait_procs(processes, timeout=20)
        assert len(gone) >= 3
        assert alive == []
        assert stack.status() == []
        stack.up(services=(), owner=os.getpid())
        assert query(url, "select count(*) from kept") == 1
        assert read(stack, "tracking", "oms.tracking", "oms.tracking") == b"kept"

    def test_down_then_up_keeps_all_and_is_quick(self, stack: Stack) -> None:
        url = stack.database_url("payment")
        query(url, "create table kept (a int)")
        assert write(stack, "returns", "oms.returns", b"kept") is None
        processes = everything_of(stack)
        stack.down()
        assert psutil.wait_procs(processes, timeout=5)[1] == []
        assert kafka_server.start_cache().exists()
        stack.down()
        started = time.monotonic()
        stack.up(services=(), owner=os.getpid())
        assert time.monotonic() - started < 15  # about 2 s on an idle machine
        assert query(url, "select count(*) from kept") == 0
        assert read(stack, "returns", "oms.returns", "oms.returns") == b"kept"


class TestRefusals:
    def test_up_again_says_so(self, stack: Stack) -> None:
        said: list[str] = []
        before = pids(stack)
        stack.up(services=(), progress=said.append)
        assert said[-1] == "the stack was up already"
        assert pids(stack) == before

    def test_other_ports_for_a_stack_that_is_up(self, stack: Stack) -> None:
        other = Stack(replace(stack.settings, kafka_port=stack.settings.kafka_port + 1))
        with pytest.raises(StackError, match=f"up already .*OMS_STACK_KAFKA_PORT={stack.settings.kafka_port}"):
            other.up(services=())

    def test_a_port_in_use_is_named_with_its_setting_and_its_user(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            stack = Stack(StackSettings(data=tmp_path / "data", kafka_port=find_free(), postgres_port=port, http_port=find_free(7)))
            with pytest.raises(StackError, match=rf"port {port}, which postgres needs, .*process {os.getpid()}.*OMS_STACK_POSTGRES_PORT"):
                stack.up(services=())
        assert stack.status() == []

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StackError, match=r"cannot write .*OMS_STACK_DATA"):
            Stack(StackSettings(data=tmp_path / "file" / "data")).up(services=())

    def test_the_data_of_another_cluster(self, tmp_path: Path) -> None:
        data = tmp_path / "kafka" / "log"
        data.mkdir(parents=True)
        (data / "meta.properties").write_text("version=1\ncluster.id=Theirs\n")
        (tmp_path / "kafka" / "cluster.id").write_text("Ours\n")
        broker = kafka_server.Broker(
            folder=tmp_path / "kafka",
            secret=tmp_path / "properties",
            log=tmp_path / "log",
            port=9092,
            controller_port=9093,
            password="",
        )
        with pytest.raises(StackError, match=r"of cluster Theirs, this stack is cluster Ours.*remove"):
            kafka_server.prepare(broker, [], lambda text: None)

    def test_a_service_that_is_not_there(self, stack: Stack) -> None:
        with pytest.raises(StackError, match="no service nonsense"):
            stack.up(services=["nonsense"])

    def test_a_port_that_is_none(self) -> None:
        with pytest.raises(StackError, match="OMS_STACK_KAFKA_PORT is 'x'"):
            StackSettings.from_environment({"OMS_STACK_KAFKA_PORT": "x"})


class TestServersOfOthers:
    def test_they_are_named_by_the_environment(self, tmp_path: Path) -> None:
        settings = StackSettings.from_environment(
            {
                "OMS_STACK_DATA": str(tmp_path),
                "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
                "KAFKA_USERNAME": "me",
                "KAFKA_PASSWORD": "secret",
                "OMS_CAPTURE_DATABASE_URL": "postgresql://somewhere/else",
            }
        )
        variables = Stack(settings).environment("capture")
        assert variables["OMS_KAFKA_BOOTSTRAP_SERVERS"] == "broker:9092"
        assert (variables["OMS_KAFKA_USERNAME"], variables["OMS_KAFKA_PASSWORD"]) == ("me", "secret")
        assert variables["OMS_DATABASE_URL"] == "postgresql://somewhere/else"
