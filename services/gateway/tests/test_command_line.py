"""`oms user`, `oms key` and `oms audit-trail`, through the gateway: over real HTTP, on a real PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest
from oms_cli.app import app
from oms_cli.connections import Connections
from oms_gateway.identity import SCOPES
from oms_gateway.keys import Wanted
from oms_local.testing import Servers
from typer.testing import CliRunner, Result

from services.gateway.tests.api.conftest import serving
from services.gateway.tests.gateways import ADMIN, PASSWORD, Gateway, bearer, open_gateway, sign_in

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def oms(gateway: Gateway) -> AsyncIterator[Run]:
    """Runs `oms` with the key of an administrator, or another one; fails unless the exit code is `code`."""
    _, administrators = await gateway.parts.keys.make(Wanted(name="root", scopes=SCOPES), ADMIN)
    async with serving(gateway.app) as url:

        async def run(*words: str, given: str | None = None, code: int = 0, key: str = administrators) -> Result:
            def invoke() -> Result:
                made = Connections(url=url, key=key, clock=gateway.clock, new_id=str, find_servers=lambda: None)
                with closing(made):
                    return CliRunner().invoke(app, list(words), obj=made, input=given)

            result = await asyncio.to_thread(invoke)
            assert result.exit_code == code, result.output
            return result

        yield run


async def document(result: Awaitable[Result]) -> Any:
    return json.loads((await result).stdout)


async def test_a_user_is_made_changed_locked_unlocked_disabled_and_signed_out(gateway: Gateway, oms: Run) -> None:
    made = await oms("user", "create", "ada", "--role", "viewer", "--display-name", "Ada L.", given=f"{PASSWORD}\n")
    assert made.stdout == "The user ada may sign in as viewer.\n"
    ada = await gateway.signed_in("ada")
    shown = await document(oms("user", "show", "ada", "--json"))
    assert shown.items() >= {"name": "ada", "display_name": "Ada L.", "sessions": 1, "failures": 0, "locked_until": None}.items()

    changed = await oms("user", "change", "ada", "--role", "warehouse", "--role", "viewer", "--location", "BER-1")
    assert changed.stdout == "The user ada has the roles viewer, warehouse; locations: BER-1.\n"
    assert (await document(oms("user", "change", "ada", "--all-locations", "--json")))["locations"] is None
    assert (await oms("user", "sign-out", "ada")).stdout == "The user ada is signed out: sessions that ended: 1.\n"
    assert (await ada.get("/api/v1/me")).status_code == 401

    for _ in range(5):
        await sign_in(gateway.browser(), "ada", "wrong")
    assert (
        "locked until 2030-01-01 09:00:30Z after 5 failed sign-ins in a row; `oms user unlock ada`"
        in (await oms("user", "show", "ada")).stdout
    )
    assert (await oms("user", "unlock", "ada")).stdout == "The user ada may try again: it was locked until 2030-01-01 09:00:30Z.\n"
    await gateway.signed_in("ada")
    assert (await document(oms("user", "unlock", "ada", "--json"))) == {"user": "ada", "failures": 0, "locked_until": None}

    assert "is disabled, and signed out everywhere" in (await oms("user", "disable", "ada")).stdout
    assert "`oms user enable ada` lets the user in again" in (await oms("user", "show", "ada")).stdout
    assert (await document(oms("user", "enable", "ada", "--json")))["disabled_at"] is None
    assert "Ada L." in (await oms("user", "list")).stdout
    assert [user["name"] for user in (await document(oms("user", "list", "--all", "--json")))["users"]] == ["ada"]


async def test_a_password_comes_from_standard_input_or_is_made_and_shown_once(gateway: Gateway, oms: Run) -> None:
    made = await document(oms("user", "create", "bob", "--role", "viewer", "--location", "BER-1", "--generate-password", "--json"))
    begun = await sign_in(gateway.browser(), "bob", made["password"])
    assert begun.json()["locations"] == ["BER-1"]
    set_ = await oms("user", "set-password", "bob", given=f"{PASSWORD}\n")
    assert set_.stdout == "The user bob has another password, and is signed out everywhere else.\n"
    await gateway.signed_in("bob")
    again = await oms("user", "set-password", "bob", "--generate-password")
    await gateway.signed_in("bob", password=again.stdout.split()[-1])
    assert "the password is missing: type it when it is asked for" in (await oms("user", "set-password", "bob", given="", code=2)).stderr
    short = await oms("user", "set-password", "bob", given="short\n", code=2)
    assert short.stderr == "error: a field is not sound: password: Value should have at least 12 items after validation, not 5\n"


async def test_a_person_signs_in_makes_the_first_key_and_changes_their_password(servers: Servers) -> None:
    async with open_gateway(await servers.create_database("gateway"), session_cookie_secure=False) as gateway, serving(gateway.app) as url:
        await gateway.add_user("ada", "admin")

        async def as_ada(*words: str, given: str, code: int = 0) -> Result:
            def run() -> Result:
                made = Connections(url=url, user="ada", clock=gateway.clock, new_id=str, find_servers=lambda: None)
                with closing(made):
                    return CliRunner().invoke(app, list(words), obj=made, input=given)

            result = await asyncio.to_thread(run)
            assert result.exit_code == code, result.output
            return result

        key = json.loads((await as_ada("key", "create", "first", "--scope", "orders:read", "--json", given=f"{PASSWORD}\n")).stdout)
        assert (key["created_by"], key["scopes"]) == ("user:ada", ["orders:read"])
        assert (await gateway.trail())[-1] == ("user:ada", "signed-out", "user:ada")
        wrong = await as_ada("key", "list", given="wrong\n", code=1)
        assert wrong.stderr == "error: name or password is wrong\n"
        new = "paper tiger origami lessons"
        await as_ada("user", "set-password", "ada", given=f"{PASSWORD}\n{new}\n")
        assert ("user:ada", "password-changed", "user:ada") in await gateway.trail()
        await as_ada("key", "list", given=f"{new}\n")


async def test_a_key_is_made_rotated_and_revoked_and_shown_once(gateway: Gateway, oms: Run) -> None:
    words = ("--scope", "orders:place", "--scope", "orders:read", "--channel", "web", "--expires", "2031-01-01")
    made = await document(oms("key", "create", "till-7", *words, "--json"))
    assert (made["scopes"], made["channel"], made["expires_at"]) == (["orders:place", "orders:read"], "web", "2031-01-01T00:00:00Z")
    me = await bearer(gateway.browser(), made["key"]).get("/api/v1/me")
    assert me.json()["actor"] == "key:till-7"

    rotated = (await oms("key", "rotate", made["id"], "--grace", "0")).stdout
    assert "may orders:place, orders:read; channel web, locations all; it ends 2031-01-01 00:00:00Z" in rotated
    text = rotated.split()[-1]
    assert [(await bearer(gateway.browser(), key).get("/api/v1/me")).status_code for key in (made["key"], text)] == [401, 200]
    new_id = text.split("_")[1]
    assert (await oms("key", "revoke", new_id)).stdout == f"The key {new_id} is revoked.\n"
    assert (await bearer(gateway.browser(), text).get("/api/v1/me")).status_code == 401

    listed = await oms("key", "list")
    assert text not in listed.stdout
    for validity in ("for ever", "ended 2030-01-01 09:00:00Z", "revoked 2030-01-01 09:00:00Z"):
        assert validity in listed.stdout


async def test_the_audit_trail_is_listed_by_whom_and_about_whom(gateway: Gateway, oms: Run) -> None:
    await gateway.add_user("ada", "viewer")
    await gateway.signed_in("ada")
    await oms("user", "sign-out", "ada")
    entries = (await document(oms("audit-trail", "list", "--about", "user:ada", "--json")))["entries"]
    assert [(entry["actor"], entry["what"]) for entry in entries] == [("key:root", "sessions-ended"), ("user:ada", "signed-in")]
    people = (await oms("audit-trail", "list", "--actor", "key:root", "--limit", "1")).stdout
    assert "sessions-ended" in people
    assert "sessions 1" in people


async def test_what_was_not_done_says_what_to_do_next(gateway: Gateway, oms: Run) -> None:
    await gateway.add_user("ada", "viewer")

    async def error(*words: str, code: int, **options: Any) -> str:
        return (await oms(*words, code=code, **options)).stderr.removeprefix("error: ").rstrip()

    assert await error("user", "show", "bob", code=1) == "there is no user bob; `oms user list` shows those there are"
    assert await error("key", "revoke", "0" * 16, code=1) == "there is no key 0000000000000000; `oms key list` shows those there are"
    taken = await error("user", "create", "ada", "--role", "viewer", "--generate-password", code=1)
    assert taken == "there is a user ada already; name: choose another one"
    assert "there are audits:read, channels:admin" in await error("key", "create", "k", "--scope", "orders:eat", code=2)
    assert "viewer" in await error("user", "change", "ada", "--role", "king", code=2)
    _, weak = await gateway.parts.keys.make(Wanted(name="weak", scopes=frozenset({"orders:read"})), ADMIN)
    refused = await error("user", "list", key=weak, code=1)
    assert refused == "that needs the scope users:admin; ask for a role, or a key, that has it"
