"""`oms stack` and what the local stack tells the rest of `oms`, without a running stack."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oms_cli.app import app
from oms_cli.plugins import installed_servers
from oms_contracts.catalogue import ALL_SERVICES
from oms_local.stack import PartStatus, Stack, StackError
from typer.testing import CliRunner, Result


def oms(*words: str) -> Result:
    """Runs `oms` with the words given, as a shell would split them."""
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def error_of(result: Result, code: int) -> str:
    """The one line of the error."""
    assert result.exit_code == code, result.output
    [line] = result.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert f"Example: oms stack {command}" in oms("stack", command, "--help").stdout


def test_an_invalid_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMS_STACK_HTTP_PORT", "x")
    assert error_of(oms("stack", "status"), 2) == "OMS_STACK_HTTP_PORT is 'x'. It must be a port number, such as 8000"
    monkeypatch.delenv("OMS_STACK_HTTP_PORT")
    monkeypatch.setenv("OMS_STACK_PARTITIONS", "0")
    assert error_of(oms("stack", "status"), 2) == "OMS_STACK_PARTITIONS is '0'. It must be a number from 1 to 1000"


def test_the_command_line_finds_the_servers_of_the_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMS_STACK_DATA", str(tmp_path))
    monkeypatch.setenv("OMS_STACK_HTTP_PORT", "8100")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    servers = installed_servers()
    assert servers is not None
    assert servers.kafka("operator") == {"bootstrap_servers": "kafka.example:9092"}
    assert [servers.service_url(service) for service in ALL_SERVICES] == [f"http://127.0.0.1:{8110 + number}" for number in range(7)]
    assert servers.service_url("gateway") == "http://127.0.0.1:8117"
    assert servers.query_url() == "http://127.0.0.1:8106"


def part(name: str, *, ready: bool) -> PartStatus:
    return PartStatus(name=name, pid=7, state="running" if ready else "starting", restarts=0, port=1, ready=ready)


def returning(parts: list[PartStatus]) -> Callable[[Stack], list[PartStatus]]:
    return lambda _stack: parts


@pytest.mark.parametrize(
    ("parts", "code", "expected"),
    [
        ([part("kafka", ready=True), part("capture", ready=True)], 0, ""),
        ([part("kafka", ready=True), part("capture", ready=False)], 1, "not ready: capture; logs are in"),
        ([], 3, "is down; `oms stack up` starts it"),
    ],
)
def test_the_state_of_the_stack_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, parts: list[PartStatus], code: int, expected: str
) -> None:
    monkeypatch.setattr(Stack, "status", returning(parts))
    result = oms("stack", "status")
    assert result.exit_code == code
    assert expected in result.stderr
    document = json.loads(oms("stack", "status", "--json").stdout)
    assert (document["up"], [(found["name"], found["ready"]) for found in document["parts"]]) == (
        bool(parts),
        [(found.name, found.ready) for found in parts],
    )


def test_a_stack_that_does_not_start_is_an_error_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def up(_stack: Stack, **chosen: Any) -> None:
        assert chosen["services"] == ["capture"]
        raise StackError("port 9092, which kafka needs, is in use.")

    monkeypatch.setattr(Stack, "up", up)
    assert error_of(oms("stack", "up", "capture"), 1) == "port 9092, which kafka needs, is in use"
