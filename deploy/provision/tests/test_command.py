"""`python -m oms_provision` as an operator meets it: help, exit codes, and errors with a remedy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from oms_contracts.catalogue import ALL_SERVICES, APIS
from oms_local.ports import LOOPBACK, find_free
from oms_provision.containers import provision, variables_of
from oms_provision.errors import ProvisionError, UnreachableError
from oms_provision.passwords import FILE, load, load_or_make


def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ.get("PATH", os.defpath), **(environment or {})}
    return subprocess.run([sys.executable, "-m", "oms_provision", *arguments], env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [[], ["secrets"], ["provision"]], ids=" ".join)
def test_help_has_an_example_and_the_exit_codes(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "\nexample:\n" in done.stdout
    assert "\nexit codes:\n" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["secrets"], ["secrets", "one", "two"]], ids=" ".join)
def test_wrong_arguments_have_exit_code_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage: python -m oms_provision" in done.stderr


def test_secrets_writes_one_file_for_each_container_and_names_the_next_step(tmp_path: Path) -> None:
    done = run("secrets", str(tmp_path / "compose"))
    assert done.returncode == 0
    assert "Next: `docker compose up" in done.stderr
    assert {file.stem for file in (tmp_path / "compose").glob("*.env")} == {"kafka", "postgres", "provision", *ALL_SERVICES, *APIS}


def test_a_folder_that_cannot_be_written_has_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("secrets", str(tmp_path / "file"))
    assert done.returncode == 1
    assert "Give a folder you may write to" in done.stderr


def test_a_damaged_password_file_is_reported_and_kept(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"kafka": 1}')
    done = run("secrets", str(tmp_path))
    assert done.returncode == 1
    assert "is damaged. Restore it from a backup" in done.stderr
    assert (tmp_path / FILE).read_text() == '{"kafka": 1}'


def test_passwords_that_were_never_made_are_reported_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="python -m oms_provision secrets"):
        load(tmp_path)


def test_a_missing_variable_has_exit_code_2_and_is_named() -> None:
    done = run("provision")
    assert done.returncode == 2
    assert "the variable KAFKA_BOOTSTRAP_SERVERS is not set" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("OMS_PASSWORDS", "x", "is not the JSON"),
        ("OMS_PASSWORDS", '{"kafka": {}, "postgres": {}}', "has no password of capture"),
        ("POSTGRES_URL", "localhost:5432", "is no URL of a database"),
    ],
)
def test_a_malformed_variable_has_exit_code_2_and_is_named(tmp_path: Path, name: str, value: str, problem: str) -> None:
    done = run("provision", environment={**variables_of(load_or_make(tmp_path))["provision"], name: value})
    assert done.returncode == 2
    assert f"{name} {problem}" in done.stderr


def test_servers_that_do_not_respond_are_named(tmp_path: Path) -> None:
    broker, database = find_free(), find_free()
    environment = {
        **variables_of(load_or_make(tmp_path))["provision"],
        "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{broker}",
        "POSTGRES_URL": f"postgresql://postgres:x@{LOOPBACK}:{database}/postgres",
    }
    with pytest.raises(UnreachableError, match="no response from the broker and database after 0 s"):
        provision(environment, timeout_seconds=0)
    assert UnreachableError.exit_code == 3
