"""The local stack: its promises to its users, tried on a real one."""

import os
import signal
import socket
import stat
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from oms_contracts.catalogue import ALL_SERVICES, APIS, PROGRAMS, USERS
from oms_local import kafka_server
from oms_local.stack import Stack, StackError, StackSettings
from oms_local.testing import local_stack, wait_for
from oms_provision.passwords import load, load_or_make

from deploy.provision.tests.clients import query, read, write


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with local_stack(request.config.rootpath / ".orderstream" / "test") as running:
        yield running


def pids(stack: Stack) -> dict[str, int | None]:
    return {part.name: part.pid for part in stack.status()}


def processes_of(stack: Stack) -> list[psutil.Process]:
    """The supervisor and all its descendants."""
    supervisor = psutil.Process(int((stack.settings.data / "run" / "pid").read_text()))
    return [supervisor, *supervisor.children(recursive=True)]


class TestSecrets:
    def test_no_password_is_in_a_log_or_among_arguments(self, stack: Stack) -> None:
        passwords = load(stack.settings.data / "secrets")
        of_shops = [secret for shop in stack.shops().values() for secret in shop["secrets"]]
        secrets = {*passwords.kafka.values(), *passwords.postgres.values(), *of_shops, passwords.query_token, passwords.personal_data_key}
        assert len(secrets) == len(USERS) + 1 + len(PROGRAMS) + 1 + len(of_shops) + 2  # each kind of server has an administrator too
        texts = [" ".join(process.cmdline()) for process in processes_of(stack)]
        texts += [file.read_text(errors="replace") for folder in ("log", "run") for file in _files(stack.settings.data / folder)]
        assert not [text for text in texts if any(secret in text for secret in secrets)]

    def test_the_owner_alone_may_read_them(self, stack: Stack) -> None:
        for place in (stack.settings.data / "secrets", *_files(stack.settings.data / "secrets")):
            assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0

    def test_everything_listens_on_the_loopback_interface_only(self, stack: Stack) -> None:
        addresses = {
            connection.laddr.ip.removeprefix("::ffff:")
            for process in processes_of(stack)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.is_file()]


class TestFaults:
    def test_a_part_that_is_killed_is_started_again(self, stack: Stack) -> None:
        before = pids(stack)
        for part in ("kafka", "postgres"):
            stack.kill(part)
        wait_for(lambda: all(part.ready and part.pid != before[part.name] for part in stack.status()), timeout_seconds=30)
        assert {part.name: part.restarts for part in stack.status()} == {"kafka": 1, "postgres": 1}

    def test_a_part_can_be_stopped_and_started(self, stack: Stack) -> None:
        stack.stop_part("postgres")
        assert {part.name: (part.state, part.ready) for part in stack.status()}["postgres"] == ("stopped", False)
        stack.start_part("postgres")
        assert query(stack.database_url("capture"), "select 1") == 1

    def test_a_killed_supervisor_leaves_no_process_behind_and_no_data_is_lost(self, stack: Stack) -> None:
        url = stack.database_url("capture")
        query(url, "create table if not exists kept (a int)")
        query(url, "insert into kept values (1)")
        assert write(stack, "tracking", "oms.tracking", b"kept") is None
        processes = processes_of(stack)
        processes[0].send_signal(signal.SIGKILL)
        gone, alive = psutil.wait_procs(processes, timeout=20)
        assert len(gone) >= 3
        assert alive == []
        assert stack.status() == []
        stack.up(services=(), owner=os.getpid())
        assert query(url, "select count(*) from kept") == 1
        assert read(stack, "tracking", "oms.tracking", "oms.tracking") == b"kept"

    @pytest.mark.alone
    def test_down_then_up_keeps_all_data_and_is_fast(self, stack: Stack) -> None:
        url = stack.database_url("payment")
        query(url, "create table kept (a int)")
        assert write(stack, "returns", "oms.returns", b"kept") is None
        processes = processes_of(stack)
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
    def test_up_reports_that_the_stack_is_up_already(self, stack: Stack) -> None:
        lines: list[str] = []
        before = pids(stack)
        stack.up(services=(), progress=lines.append)
        assert lines[-1] == "the stack was up already"
        assert pids(stack) == before

    def test_replicas_have_ports_and_instance_names_of_their_own(self, stack: Stack) -> None:
        doubled = Stack(replace(stack.settings, replicas=2))
        parts = doubled.settings.parts_of(PROGRAMS)
        assert parts["projection-2"] == ("projection", 2)
        environments = [doubled.environment(part) for part in parts]
        assert len({environment["OMS_OPERATIONS_PORT"] for environment in environments}) == 2 * len(ALL_SERVICES) + len(APIS)
        instances = Counter(environment.get("OMS_INSTANCE") for environment in environments)
        assert instances == {"1": len(ALL_SERVICES), "2": len(ALL_SERVICES), None: len(APIS)}

    def test_other_ports_are_refused_while_the_stack_is_up(self, stack: Stack) -> None:
        other = Stack(replace(stack.settings, kafka_port=stack.settings.kafka_port + 1))
        with pytest.raises(StackError, match=f"up already .*OMS_STACK_KAFKA_PORT={stack.settings.kafka_port}"):
            other.up(services=())

    def test_a_port_in_use_is_reported_with_its_setting_and_its_user(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            stack = Stack(replace(StackSettings.on_free_ports(tmp_path / "data"), postgres_port=port))
            with pytest.raises(StackError, match=rf"port {port}, which postgres needs, .*process {os.getpid()}.*OMS_STACK_POSTGRES_PORT"):
                stack.up(services=())
        assert stack.status() == []

    def test_a_folder_that_cannot_be_made_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StackError, match=r"cannot write .*OMS_STACK_DATA"):
            Stack(StackSettings(data=tmp_path / "file" / "data")).up(services=())

    def test_the_data_of_another_cluster_is_refused(self, tmp_path: Path) -> None:
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

    def test_an_unknown_service_is_refused(self, stack: Stack) -> None:
        with pytest.raises(StackError, match="no service nonsense"):
            stack.up(services=["nonsense"])

    def test_a_malformed_port_is_refused(self) -> None:
        with pytest.raises(StackError, match="OMS_STACK_KAFKA_PORT is 'x'"):
            StackSettings.from_environment({"OMS_STACK_KAFKA_PORT": "x"})


class TestExistingServers:
    def test_the_environment_names_them(self, tmp_path: Path) -> None:
        settings = StackSettings.from_environment(
            {
                "OMS_STACK_DATA": str(tmp_path),
                "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
                "KAFKA_USERNAME": "me",
                "KAFKA_PASSWORD": "secret",
                "OMS_CAPTURE_DATABASE_URL": "postgresql://somewhere/else",
            }
        )
        (tmp_path / "secrets").mkdir()
        load_or_make(tmp_path / "secrets")
        variables = Stack(settings).environment("capture")
        assert variables["OMS_KAFKA_BOOTSTRAP_SERVERS"] == "broker:9092"
        assert (variables["OMS_KAFKA_USERNAME"], variables["OMS_KAFKA_PASSWORD"]) == ("me", "secret")
        assert variables["OMS_DATABASE_URL"] == "postgresql://somewhere/else"
