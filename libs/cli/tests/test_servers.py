"""Where the servers are: settings, and what an installed package knows."""

import os
from collections.abc import Mapping
from contextlib import closing

import httpx
import pytest
from oms_cli.app import app
from oms_cli.connections import Connections
from oms_cli.errors import CliError
from oms_cli.plugins import Servers
from typer.testing import CliRunner

from libs.cli.tests.fakes import NOON, NoServers, Run, errors


def with_settings(
    monkeypatch: pytest.MonkeyPatch,
    servers: Servers | None,
    variables: Mapping[str, str],
    query_url: str | None = None,
    query_token: str | None = None,
) -> Connections:
    for name in [name for name in os.environ if name.startswith("OMS_KAFKA_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Connections(
        clock=lambda: NOON,
        new_id=lambda: "id",
        find_servers=lambda: servers,
        query_url=query_url,
        query_token=query_token,
        transport=httpx.MockTransport(lambda request: httpx.Response(200, json=request.headers["authorization"])),
    )


def shown_by(connected: Connections) -> str:
    """How the query API is asked for anything."""
    return connected.get("/")


def test_settings_come_before_the_servers_of_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"OMS_KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092", "OMS_KAFKA_USERNAME": "operator", "OMS_KAFKA_PASSWORD": "p"}
    query = {"query_url": "http://query.example:8000/", "query_token": "of-the-example"}
    with closing(with_settings(monkeypatch, NoServers(), variables, **query)) as connected:
        assert (connected.broker.kafka_bootstrap_servers, connected.broker.kafka_username) == ("kafka.example:9092", "operator")
        assert (connected.query.url, shown_by(connected)) == ("http://query.example:8000", "Bearer of-the-example")


def test_the_token_of_the_local_stack_is_not_shown_to_another_query_api(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        closing(with_settings(monkeypatch, NoServers(), {}, query_url="http://query.example")) as connected,
        pytest.raises(CliError, match="OMS_QUERY_TOKEN: is not set"),
    ):
        assert connected.query


def test_servers_of_an_installed_package_serve_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(with_settings(monkeypatch, NoServers(), {})) as connected:
        assert connected.broker.kafka_bootstrap_servers == "broker:9092"
        assert (connected.query.url, shown_by(connected)) == ("http://projection-api", "Bearer of-the-stack")


def test_a_service_that_is_not_installed_here_is_an_error_with_the_command_to_run_elsewhere(
    oms: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(_name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", find_nothing)
    for words, program in (
        ("store recover inventory --dry-run", "inventory python -m oms_inventory recover --dry-run"),
        ("checkpoints reset inventory oms.orders/0 end", "inventory python -m oms_inventory checkpoints oms.orders/0 end"),
        ("read-models status", "projection python -m oms_projection read-models status"),
        ("user create ada --role admin", "gateway python -m oms_gateway user create ada --role admin"),
    ):
        [error] = errors(oms(*words.split()), 1)
        assert "is not installed here" in error
        assert f"docker compose run --rm {program}" in error


def test_without_a_database_a_services_program_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMS_DATABASE_URL", raising=False)
    with closing(with_settings(monkeypatch, None, {})) as connected, pytest.raises(CliError, match="OMS_DATABASE_URL: is not set"):
        connected.environment("inventory")
    with closing(with_settings(monkeypatch, NoServers(), {"OMS_DATABASE_URL": "postgresql://here/one"})) as connected:
        assert connected.environment("inventory") == {}


def test_without_settings_and_servers_the_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(with_settings(monkeypatch, None, {})) as connected:
        for words, setting in (
            (("stock", "receive", "BER", "mug=1"), "OMS_KAFKA_BOOTSTRAP_SERVERS"),
            (("stock", "show"), "--query-url"),
        ):
            [line] = errors(CliRunner().invoke(app, list(words), obj=connected), 2)
            assert line.startswith(f"{setting}: is not")
        assert connected.metrics("capture", ()) is None


def test_settings_of_the_broker_that_contradict_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"OMS_KAFKA_BOOTSTRAP_SERVERS": "b:1", "OMS_KAFKA_USERNAME": "operator", "OMS_KAFKA_PASSWORD": "p4ss"}
    with closing(with_settings(monkeypatch, None, variables | {"OMS_KAFKA_SASL_MECHANISM": "OAUTHBEARER"})) as connected:
        [line] = errors(CliRunner().invoke(app, ["stock", "receive", "BER", "mug=1"], obj=connected), 2)
        assert line == "OMS_KAFKA_TOKEN_FILE: is not set, and OAUTHBEARER authenticates by a token"
