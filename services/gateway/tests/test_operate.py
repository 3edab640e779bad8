"""`python -m oms_gateway user create`, as an operator runs it: a process, on a real PostgreSQL."""

import json
import os
import subprocess
import sys

import pytest
from oms_local.testing import Servers

from services.gateway.tests.gateways import PASSWORD, open_gateway, sign_in


def run(url: str | None, *words: str, given: str = "", program: str = "oms_gateway") -> subprocess.CompletedProcess[str]:
    """Run the gateway's program, or `oms`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMS_")}
    if url is not None:
        environment["OMS_DATABASE_URL"] = url
    command = [sys.executable, "-m", program, *words]
    return subprocess.run(command, input=given, capture_output=True, text=True, env=environment, check=False, timeout=60)


async def test_the_first_administrator_is_made_in_an_empty_database(servers: Servers) -> None:
    url = await servers.create_database("gateway")
    words = ("user", "create", "ada", "--role", "admin", "--role", "viewer", "--display-name", "Ada Lovelace")
    done = run(url, *words, given=f"{PASSWORD}\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"user": "ada", "roles": ["admin", "viewer"]}

    done = run(url, "user", "create", "bob", "--role", "warehouse", "--location", "BER-1", "--location", "BER-2", "--generate-password")
    assert done.returncode == 0
    shown = json.loads(done.stdout)
    assert done.stdout.count(shown["password"]) == 1

    again = run(url, *words, given=f"{PASSWORD}\n")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("error: there is a user ada already: choose another name")

    async with open_gateway(url) as gateway:
        ada, bob = gateway.browser(), gateway.browser()
        begun = (await sign_in(ada, "ada")).json()
        assert "users:admin" in begun["scopes"]
        assert (await sign_in(bob, "bob", shown["password"])).json()["locations"] == ["BER-1", "BER-2"]
        trail = (await ada.get("/api/v1/audit-trail", params={"actor": "operator"})).json()["items"]
        assert [(entry["what"], entry["about"]) for entry in trail] == [("user-created", "user:bob"), ("user-created", "user:ada")]
        assert PASSWORD not in str(trail)


async def test_oms_runs_it(servers: Servers) -> None:
    url = await servers.create_database("gateway")
    done = run(url, "user", "create", "ada", "--role", "admin", given=f"{PASSWORD}\n", program="oms_cli")
    assert (done.returncode, done.stdout) == (0, "The user ada may sign in as admin.\n")
    words = ("user", "create", "bob", "--role", "viewer", "--role", "warehouse", "--location", "BER-1", "--display-name", "Bob B.")
    done = run(url, *words, "--generate-password", "--json", program="oms_cli")
    made = json.loads(done.stdout)
    assert (made["user"], made["roles"]) == ("bob", ["viewer", "warehouse"])
    async with open_gateway(url) as gateway:
        assert (await sign_in(gateway.browser(), "ada")).status_code == 200
        assert (await sign_in(gateway.browser(), "bob", made["password"])).json()["locations"] == ["BER-1"]
    again = run(url, "user", "create", "ada", "--role", "admin", given=f"{PASSWORD}\n", program="oms_cli")
    assert again.returncode == 1
    assert again.stderr.startswith("error: there is a user ada already")


@pytest.mark.parametrize(
    ("words", "given", "code", "expected"),
    [
        (("user",), "", 2, "usage, with OMS_DATABASE_URL"),
        (("user", "create"), "", 2, "required: name, --role"),
        (("user", "create", "ada"), "", 2, "required: --role"),
        (("user", "create", "ada", "--role", "king"), "", 2, "invalid choice: 'king'"),
        (("user", "create", "Ada@x", "--role", "admin"), "", 2, "'Ada@x' is no name"),
        (("user", "create", "ada", "--role", "admin"), "short\n", 1, "error: the password must have 12 to 1000 characters"),
        (("user", "create", "ada", "--role", "admin"), "", 1, "error: the password must have 12 to 1000 characters"),
        (("user", "create", "ada", "--role", "admin"), f"{PASSWORD}\n", 3, "error: ConnectionRefusedError"),
    ],
)
def test_what_was_not_done_has_an_exit_code_and_a_reason(words: tuple[str, ...], given: str, code: int, expected: str) -> None:
    done = run("postgresql://127.0.0.1:1/none", *words, given=given)
    assert (done.returncode, done.stdout) == (code, "")
    assert expected in done.stderr
    assert PASSWORD not in done.stderr


def test_the_database_must_be_named() -> None:
    done = run(None, "user", "create", "ada", "--role", "admin", given=f"{PASSWORD}\n")
    assert (done.returncode, done.stderr) == (2, "error: OMS_DATABASE_URL: Field required\n")


@pytest.mark.parametrize("words", [("--help",), ("user", "create", "-h")])
def test_help_says_how_it_is_used(words: tuple[str, ...]) -> None:
    done = run(None, *words)
    assert done.returncode == 0
    assert "user create NAME --role ROLE" in done.stdout
    assert "Exit codes: 0 done, 1 refused, 2 usage, 3 a server is out of reach." in done.stdout
