"""People sign in with a password: over real HTTP, on a real PostgreSQL, with a clock that the test moves."""

import asyncio
import logging
from datetime import datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
import structlog
from oms_gateway import store
from oms_gateway.identity import ROLES
from oms_gateway.store import MAX_SESSIONS, Backoff
from oms_local.testing import Servers
from oms_runtime.limits import network_of

from services.gateway.tests.gateways import HOST, PASSWORD, Gateway, open_gateway, sign_in


def cookie_of(response: httpx.Response) -> tuple[str, Any]:
    """The name and the attributes of the one cookie that a response gives."""
    [header] = response.headers.get_list("set-cookie")
    [(name, morsel)] = SimpleCookie(header).items()
    return name, morsel


async def test_a_person_signs_in_is_known_and_signs_out(gateway: Gateway) -> None:
    await gateway.add_user("ada", "warehouse", locations=frozenset({"BER-1"}))
    browser = gateway.browser()
    assert (await browser.get("/api/v1/me")).status_code == 401

    response = await sign_in(browser, " Ada ")
    assert response.status_code == 200
    begun = response.json()
    assert begun["actor"] == "user:ada"
    assert begun["expires_at"] == (gateway.clock() + timedelta(hours=12)).isoformat().replace("+00:00", "Z")

    me = (await browser.get("/api/v1/me")).json()
    assert me == {key: value for key, value in begun.items() if key != "expires_at"}
    assert me["scopes"] == sorted(ROLES["warehouse"])
    assert (me["channel"], me["locations"]) == (None, ["BER-1"])

    token = dict(browser.cookies)
    assert (await browser.delete("/api/v1/session", headers={"X-CSRF-Token": me["csrf_token"]})).status_code == 204
    assert dict(browser.cookies) == {}
    browser.cookies.update(token)  # also where a cookie was kept, it is of no use
    response = await browser.get("/api/v1/me")
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["title"] == "the session has ended"
    assert await gateway.trail() == [("user:ada", "signed-in", "user:ada"), ("user:ada", "signed-out", "user:ada")]


async def test_the_cookie_goes_over_https_alone_to_this_host_alone_and_no_script_reads_it(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    name, cookie = cookie_of(await sign_in(gateway.browser(), "ada"))
    assert name == "__Host-oms_session"
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (True, True, "lax", "/", "")
    assert cookie["max-age"] == str(12 * 3_600)


async def test_by_plain_http_the_cookie_has_another_name(servers: Servers) -> None:
    async with open_gateway(await servers.create_database("gateway"), session_cookie_secure=False) as gateway:
        await gateway.add_user("ada", "viewer")
        browser = gateway.browser()
        browser.base_url = HOST.replace("https", "http")
        name, cookie = cookie_of(await sign_in(browser, "ada"))
        assert (name, cookie["secure"], cookie["httponly"]) == ("oms_session", "", True)
        assert (await browser.get("/api/v1/me")).status_code == 200


async def test_whoever_may_not_come_in_learns_nothing_of_why_and_a_hash_is_computed_for_each(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    await gateway.add_user("bob", "viewer", password=None)  # signs in at the OpenID provider
    await gateway.add_user("eve", "admin")
    root = await gateway.signed_in("eve")
    await gateway.add_user("dan", "viewer")
    assert (await root.patch("/api/v1/users/dan", json={"disabled": True})).status_code == 200
    gateway.hasher.verified = 0

    tried = {"ada": "wrong", "bob": PASSWORD, "dan": PASSWORD, "nobody": PASSWORD, "no name\x00": PASSWORD}
    answers = [await sign_in(gateway.browser(), name, password) for name, password in tried.items()]

    assert gateway.hasher.verified == len(tried)
    assert {(answer.status_code, answer.content) for answer in answers} == {(401, answers[0].content)}
    assert answers[0].json() == {"title": "name or password is wrong", "status": 401, "reasons": []}


async def test_failures_lock_a_user_for_longer_each_time_whatever_the_address(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    for n in range(5):
        assert (await sign_in(gateway.browser(f"192.0.2.{n}"), "ada", "wrong")).status_code == 401

    for seconds in (30, 60, 120, 240, 480, 900, 900):
        gateway.hasher.verified = 0
        response = await sign_in(gateway.browser("192.0.2.9"), "ada")
        assert (response.status_code, response.headers["Retry-After"]) == (429, str(seconds))
        gateway.clock.move(seconds=seconds - 1)
        response = await sign_in(gateway.browser("192.0.2.9"), "ada")
        assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
        assert gateway.hasher.verified == 0
        gateway.clock.move(seconds=1)
        assert (await sign_in(gateway.browser("192.0.2.8"), "ada", "wrong")).status_code == 401

    gateway.clock.move(minutes=15)
    assert (await sign_in(gateway.browser(), "ada")).status_code == 200
    for _ in range(4):  # the count has begun anew
        assert (await sign_in(gateway.browser(), "ada", "wrong")).status_code == 401
    assert (await sign_in(gateway.browser(), "ada")).status_code == 200


async def test_a_name_that_nobody_has_is_locked_like_any_other(gateway: Gateway) -> None:
    statuses = [(await sign_in(gateway.browser(), "nobody")).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]


async def test_attempts_at_the_same_time_are_no_more_than_those_one_after_the_other(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    answers = await asyncio.gather(*(sign_in(gateway.browser(f"192.0.2.{n}"), "ada", "wrong") for n in range(20)))
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 15
    assert gateway.hasher.verified == 5


async def test_failures_of_many_names_lock_their_address_out_and_no_other(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    for n in range(30):
        assert (await sign_in(gateway.browser(f"2001:db8::{n:x}"), f"nobody-{n}")).status_code == 401
    assert (await sign_in(gateway.browser("2001:db8::ffff:1"), "ada")).status_code == 429
    assert (await sign_in(gateway.browser("2001:db8:0:1::1"), "ada")).status_code == 200


async def test_a_person_who_signs_in_does_not_hide_the_failures_of_their_address(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    for n in range(29):
        await sign_in(gateway.browser(), f"nobody-{n}")
        assert (await sign_in(gateway.browser(), "ada")).status_code == 200
    assert (await sign_in(gateway.browser(), "nobody-29")).status_code == 401
    assert (await sign_in(gateway.browser(), "ada")).status_code == 429


async def test_failures_are_forgotten_after_a_day(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    for _ in range(4):
        await sign_in(gateway.browser(), "ada", "wrong")
    await sign_in(gateway.browser(), "nobody")
    gateway.clock.move(days=1)
    for _ in range(4):
        assert (await sign_in(gateway.browser(), "ada", "wrong")).status_code == 401
    assert (await sign_in(gateway.browser(), "ada")).status_code == 200
    assert await gateway.database.fetchval("select count(*) from sign_in_attempts") == 2  # nobody's, and the address; ada's went


def test_a_lock_doubles_up_to_the_longest_however_many_failures_there_are() -> None:
    backoff = Backoff(failures=3, lock=timedelta(seconds=1), longest=timedelta(hours=1), forgotten=timedelta(days=1))
    assert [backoff.lock_after(n).total_seconds() for n in (0, 2, 3, 4, 5, 14, 15, 10**9)] == [0, 0, 1, 2, 4, 2_048, 3_600, 3_600]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", "unknown"),
    ],
)
def test_an_address_stands_for_its_network(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_a_session_ends_when_it_is_not_used(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    browser = await gateway.signed_in("ada")
    for _ in range(3):
        gateway.clock.move(minutes=59)
        assert (await browser.get("/api/v1/me")).status_code == 200
    gateway.clock.move(minutes=60)
    assert (await browser.get("/api/v1/me")).status_code == 401


async def test_a_session_ends_after_its_lifetime_however_much_it_is_used(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    browser = await gateway.signed_in("ada")
    for _ in range(23):
        gateway.clock.move(minutes=30)
        assert (await browser.get("/api/v1/me")).status_code == 200
    gateway.clock.move(minutes=30)
    assert (await browser.get("/api/v1/me")).status_code == 401
    await gateway.signed_in("ada")


async def test_use_of_a_session_is_written_once_a_minute_at_most(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    browser = await gateway.signed_in("ada")
    seen: list[datetime] = []
    for _ in range(4):
        gateway.clock.move(seconds=30)
        assert (await browser.get("/api/v1/me")).status_code == 200
        seen.append(await gateway.database.fetchval("select seen_at from sessions"))
    assert seen[0] < seen[1] == seen[2] < seen[3]


NEW = "paper tiger origami lessons"


async def change_password(browser: httpx.AsyncClient, old: str, new: str = NEW) -> httpx.Response:
    """Change one's own password."""
    return await browser.put("/api/v1/me/password", json={"old_password": old, "new_password": new})


async def test_a_person_changes_their_password_with_the_old_one_and_is_signed_out_elsewhere(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    here, elsewhere = await gateway.signed_in("ada"), await gateway.signed_in("ada")
    assert (await change_password(here, PASSWORD)).json() == {"sessions": 1}
    assert [(await browser.get("/api/v1/me")).status_code for browser in (here, elsewhere)] == [200, 401]
    assert (await sign_in(gateway.browser(), "ada")).status_code == 401
    await gateway.signed_in("ada", password=NEW)
    assert ("user:ada", "password-changed", "user:ada") in await gateway.trail()
    assert (await change_password(here, NEW, NEW)).json()["reasons"] == ["new_password: must be another one than the old one"]
    assert (await change_password(here, NEW, "short")).status_code == 422
    here.headers.pop("X-CSRF-Token")
    assert (await change_password(here, NEW, PASSWORD)).status_code == 403
    program = await gateway.with_key("users:admin")
    assert (await change_password(program, NEW, PASSWORD)).json()["title"] == "a key has no session"


async def test_a_wrong_old_password_counts_as_a_failed_sign_in(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    ada = await gateway.signed_in("ada")
    for _ in range(3):
        await sign_in(gateway.browser(), "ada", "wrong")
    tried = [(await change_password(ada, "wrong")).status_code for _ in range(3)]
    assert tried == [403, 403, 429]
    assert (await change_password(ada, PASSWORD)).status_code == 429  # by the right one too, as a sign-in
    assert (await sign_in(gateway.browser(), "ada")).status_code == 429
    assert (await ada.get("/api/v1/me")).status_code == 200
    assert (await gateway.trail())[-1] == ("user:ada", "password-change-failed", "user:ada")
    gateway.clock.move(minutes=1)
    assert (await change_password(ada, PASSWORD)).status_code == 200
    assert (await sign_in(gateway.browser(), "ada", "wrong")).status_code == 401  # the count has begun anew


async def test_a_sign_in_makes_a_new_session_and_ends_the_one_that_the_browser_had(gateway: Gateway) -> None:
    """Session fixation: what somebody put into the browser before does not become a session of who signs in."""
    await gateway.add_user("ada", "viewer")
    await gateway.add_user("mallory", "viewer")
    attacker = await gateway.signed_in("mallory")
    victim = gateway.browser()
    victim.cookies.update(attacker.cookies)
    planted = dict(victim.cookies)

    assert (await sign_in(victim, "ada")).status_code == 200

    assert dict(victim.cookies).keys() == planted.keys()
    assert dict(victim.cookies) != planted
    assert (await victim.get("/api/v1/me")).json()["actor"] == "user:ada"
    assert (await attacker.get("/api/v1/me")).status_code == 401

    invented = gateway.browser()
    invented.cookies.set("__Host-oms_session", "A" * 43, domain="gateway.example")
    assert (await sign_in(invented, "ada")).status_code == 200
    assert "A" * 43 not in dict(invented.cookies).values()


async def test_a_change_needs_the_csrf_token_of_this_session(gateway: Gateway) -> None:
    await gateway.add_user("ada", "admin")
    await gateway.add_user("bob", "admin")
    ada, bob = await gateway.signed_in("ada"), await gateway.signed_in("bob")
    own = ada.headers.pop("X-CSRF-Token")
    for token in (None, b"", b"x", bob.headers["X-CSRF-Token"].encode(), f"{own}x".encode(), b"\xfc"):
        headers = [] if token is None else [(b"X-CSRF-Token", token)]
        for method, path, body in (
            ("POST", "/keys", {"name": "k", "scopes": ["orders:read"]}),
            ("DELETE", "/session", None),
            ("PATCH", "/users/bob", {}),
            ("PUT", "/users/bob/password", {"password": PASSWORD}),
        ):
            response = await ada.request(method, f"/api/v1{path}", json=body, headers=headers)
            assert response.status_code == 403, (method, token)
            assert "CSRF" in response.json()["title"]
    assert (await ada.get("/api/v1/users")).status_code == 200  # it changes nothing
    assert (await ada.patch("/api/v1/users/bob", json={}, headers={"X-CSRF-Token": own})).status_code == 200


async def test_another_site_cannot_sign_its_visitor_in(gateway: Gateway) -> None:
    await gateway.add_user("mallory", "viewer")
    browser = gateway.browser()
    for site in ("cross-site", "same-site"):
        body = {"name": "mallory", "password": PASSWORD}
        response = await browser.post("/api/v1/session", json=body, headers={"Sec-Fetch-Site": site})
        assert response.status_code == 403
    form = f'{{"name": "mallory", "password": "{PASSWORD}"}}'
    assert (await browser.post("/api/v1/session", content=form, headers={"Content-Type": "text/plain"})).status_code == 422
    assert dict(browser.cookies) == {}


async def test_signing_out_everywhere_ends_all_sessions_of_the_user_alone(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    await gateway.add_user("bob", "viewer")
    browsers = [await gateway.signed_in("ada") for _ in range(3)]
    bob = await gateway.signed_in("bob")
    assert (await browsers[0].delete("/api/v1/session", params={"everywhere": True})).status_code == 204
    assert [(await browser.get("/api/v1/me")).status_code for browser in (*browsers, bob)] == [401, 401, 401, 200]
    assert (await gateway.trail())[-1] == ("user:ada", "sessions-ended", "user:ada")


async def test_a_user_has_no_more_than_so_many_sessions(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    first = await gateway.signed_in("ada")
    for _ in range(MAX_SESSIONS - 1):
        gateway.clock.move(seconds=1)
        await gateway.signed_in("ada")
    assert (await first.get("/api/v1/me")).status_code == 200
    await gateway.signed_in("ada")
    assert (await first.get("/api/v1/me")).status_code == 401
    assert await gateway.database.fetchval("select count(*) from sessions") == MAX_SESSIONS


async def test_a_hash_made_with_other_parameters_is_made_anew_at_the_next_sign_in(servers: Servers) -> None:
    url = await servers.create_database("gateway")
    async with open_gateway(url) as gateway:
        await gateway.add_user("ada", "viewer")
    async with open_gateway(url, time_cost=2) as gateway:
        before = await store.find_user(gateway.database, "ada")
        await sign_in(gateway.browser(), "ada", "wrong")
        unchanged = await store.find_user(gateway.database, "ada")
        await gateway.signed_in("ada")
        after = await store.find_user(gateway.database, "ada")
        assert before is not None
        assert after is not None
        assert unchanged == before
        assert (",t=1," in str(before.password_hash), ",t=2," in str(after.password_hash)) == (True, True)
        await gateway.signed_in("ada")


async def test_a_field_at_fault_is_named_and_its_value_is_not(gateway: Gateway) -> None:
    browser = gateway.browser()
    for body, field in (
        ({"name": "ada", "password": "p" * 1_001}, "password"),
        ({"name": "ada", "pasword": PASSWORD}, "pasword"),
        ({"name": "ada", "password": [PASSWORD]}, "password"),
    ):
        response = await browser.post("/api/v1/session", json=body)
        assert response.status_code == 422
        assert any(reason.startswith(f"{field}: ") for reason in response.json()["reasons"])
        assert PASSWORD not in response.text
    no_text = await browser.post("/api/v1/session", content=b"\xf0\xa1i", headers={"Content-Type": "application/json"})
    assert (no_text.status_code, no_text.json()["reasons"]) == (422, ["body: must be JSON in UTF-8"])


async def test_no_token_password_or_key_is_in_the_log_the_audit_trail_or_the_database(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logged:
        await gateway.add_user("ada", "admin")
        typed_as_name = "my password, by mistake"
        await sign_in(gateway.browser(), typed_as_name)
        await sign_in(gateway.browser(), "ada", "a wrong password")
        ada = await gateway.signed_in("ada")
        made = (await ada.post("/api/v1/keys", json={"name": "till", "scopes": ["orders:read"]})).json()
        rotated = (await ada.post(f"/api/v1/keys/{made['id']}/rotate", json={})).json()
        await ada.get("/api/v1/me", headers={"Authorization": f"Bearer {made['key']}x"})
        assert (await ada.get("/api/v1/me", headers={"Authorization": f"Bearer {rotated['key']}"})).status_code == 200
        secrets = [PASSWORD, "a wrong password", typed_as_name, *dict(ada.cookies).values(), ada.headers["X-CSRF-Token"]]
        secrets += [key["key"].split("_", 2)[2] for key in (made, rotated)]

    tables = ("users", "sessions", "api_keys", "audit_trail", "sign_in_attempts")
    kept = [str(dict(row)) for table in tables for row in await gateway.database.fetch(f"select * from {table}")]  # noqa: S608
    assert len(kept) > 8
    told = "\n".join((*kept, str(logged), caplog.text, str([record.__dict__ for record in caplog.records])))
    assert [secret for secret in secrets if secret in told] == []
