"""Users, keys and the audit trail: who may do what with them, over real HTTP, on a real PostgreSQL, with a clock that the test moves."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from oms_gateway import keys as keys_module
from oms_gateway import sign_in_models
from oms_gateway.identity import ADMIN_SCOPES, ROLES, SCOPES
from oms_gateway.limits import RateLimit
from oms_gateway.refusals import HANDLERS, Unauthenticated
from oms_gateway.sign_in_api import make_sign_in_router
from oms_local.testing import Servers
from pydantic import BaseModel

from services.gateway.tests.gateways import HOST, PASSWORD, Gateway, bearer, open_gateway, sign_in

ROUTES: list[tuple[str, str, str, Any]] = [
    ("users:admin", "GET", "/users", None),
    ("users:admin", "POST", "/users", {"name": "new", "display_name": "New", "roles": [], "password": PASSWORD}),
    ("users:admin", "GET", "/users/ada", None),
    ("users:admin", "PATCH", "/users/ada", {"display_name": "Ada"}),
    ("users:admin", "PUT", "/users/ada/password", {"password": PASSWORD}),
    ("users:admin", "DELETE", "/users/ada/sessions", None),
    ("users:admin", "DELETE", "/users/ada/lock", None),
    ("users:admin", "GET", "/audit-trail", None),
    ("keys:admin", "GET", "/keys", None),
    ("keys:admin", "POST", "/keys", {"name": "new", "scopes": ["keys:admin"]}),
    ("keys:admin", "POST", "/keys/{id}/rotate", {}),
    ("keys:admin", "DELETE", "/keys/{id}", None),
]


async def ask(client: httpx.AsyncClient, method: str, path: str, body: Any, key_id: str) -> httpx.Response:
    """Ask for a route of ROUTES."""
    return await client.request(method, f"/api/v1{path.replace('{id}', key_id)}", json=body)


@pytest.mark.parametrize(("scope", "method", "path", "body"), ROUTES)
async def test_each_route_needs_its_scope_and_no_other(gateway: Gateway, scope: str, method: str, path: str, body: Any) -> None:
    await gateway.add_user("ada")
    key = await made(await gateway.with_key("keys:admin"), name="old", scopes=["keys:admin"])
    without, with_it = await gateway.with_key(*SCOPES - {scope}), await gateway.with_key(scope)

    response = await ask(gateway.browser(), method, path, body, key["id"])
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    response = await ask(without, method, path, body, key["id"])
    assert (response.status_code, response.json()["title"]) == (403, f"that needs the scope {scope}")
    assert (await ask(with_it, method, path, body, key["id"])).is_success


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_gives_its_scopes_and_an_admin_alone_decides_who_may_come_in(gateway: Gateway, role: str) -> None:
    await gateway.add_user("ada", role)
    await gateway.add_user("bob")
    key = await made(await gateway.with_key("keys:admin"), name="old", scopes=["keys:admin"])
    ada = await gateway.signed_in("ada")
    assert set((await ada.get("/api/v1/me")).json()["scopes"]) == ROLES[role]
    for scope, method, path, body in ROUTES:
        response = await ask(ada, method, path.replace("ada", "bob"), body, key["id"])
        assert response.is_success == (scope in ROLES[role]), (method, path, response.text)
        assert response.is_success or response.status_code == 403
    assert bool(ROLES[role] & ADMIN_SCOPES) == (role == "admin")


async def made(client: httpx.AsyncClient, **wanted: Any) -> Any:
    """A key that was made."""
    response = await client.post("/api/v1/keys", json=wanted)
    assert response.status_code == 201, response.text
    assert response.headers["Cache-Control"] == "no-store"
    return response.json()


# Keys


async def test_a_key_is_shown_once_and_lets_a_program_in(gateway: Gateway) -> None:
    await gateway.add_user("ada", "admin")
    ada = await gateway.signed_in("ada")
    key = await made(ada, name="till-7", scopes=["orders:read", "orders:place"], channel="shop-berlin", locations=["BER-1"])

    me = (await bearer(gateway.browser(), key["key"]).get("/api/v1/me")).json()
    assert me == {
        "actor": "key:till-7",
        "scopes": ["orders:place", "orders:read"],
        "channel": "shop-berlin",
        "locations": ["BER-1"],
        "csrf_token": None,
    }
    [listed] = (await ada.get("/api/v1/keys")).json()["items"]
    assert listed == {name: value for name, value in key.items() if name != "key"} | {"last_used_at": listed["last_used_at"]}
    assert (listed["created_by"], listed["replaces"], listed["revoked_at"]) == ("user:ada", None, None)
    assert (await bearer(gateway.browser(), key["key"]).delete("/api/v1/session")).status_code == 409


async def test_what_is_no_key_lets_nobody_in_whatever_session_comes_with_it(gateway: Gateway) -> None:
    await gateway.add_user("ada", "admin")
    ada = await gateway.signed_in("ada")
    key, other = [(await made(ada, name=name, scopes=["orders:read"]))["key"] for name in ("a", "b")]
    wrong = ["", "x", key[:-1], key + "x", key.upper(), key.removeprefix("oms_"), f"oms_{'0' * 16}_{'A' * 43}", f"{key[:21]}{other[21:]}"]
    for text in wrong:
        response = await ada.get("/api/v1/me", headers={"Authorization": f"Bearer {text}"})
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer"), text
        assert key[21:] not in response.text
    assert (await ada.get("/api/v1/me", headers={"Authorization": "Basic YWRhOng="})).status_code == 401
    assert (await ada.get("/api/v1/me", headers={"Authorization": f"bearer {key}"})).json()["actor"] == "key:a"
    # The token of a session is no key, and a key no session.
    assert (await bearer(gateway.browser(), next(iter(ada.cookies.values()))).get("/api/v1/me")).status_code == 401
    browser = gateway.browser()
    browser.cookies.set("__Host-oms_session", key, domain="gateway.example")
    assert (await browser.get("/api/v1/me")).status_code == 401


async def test_a_key_ends_when_it_expires(gateway: Gateway) -> None:
    root = await gateway.with_key(*SCOPES)
    expires = gateway.clock() + timedelta(hours=1)
    key = await made(root, name="a", scopes=["orders:read"], expires_at=expires.isoformat())
    program = bearer(gateway.browser(), key["key"])
    gateway.clock.move(seconds=3_599)
    assert (await program.get("/api/v1/me")).status_code == 200
    gateway.clock.move(seconds=1)
    response = await program.get("/api/v1/me")
    assert (response.status_code, response.json()["title"]) == (401, f"the key {key['id']} is not valid any more")
    for bad in (gateway.clock().isoformat(), "2031-01-01T00:00:00", "2040-01-03T00:00:00Z", "9999-12-31T23:59:59Z"):
        assert (await root.post("/api/v1/keys", json={"name": "b", "scopes": ["orders:read"], "expires_at": bad})).status_code == 422


async def test_a_revocation_takes_effect_at_once_here_and_within_seconds_elsewhere(gateway: Gateway) -> None:
    root = await gateway.with_key("keys:admin", "orders:read")
    key = await made(root, name="a", scopes=["orders:read"])
    program, elsewhere = bearer(gateway.browser(), key["key"]), gateway.another_process()
    assert (await program.get("/api/v1/me")).status_code == 200
    await elsewhere.identify(key["key"])

    assert (await root.delete(f"/api/v1/keys/{key['id']}")).status_code == 204
    assert (await program.get("/api/v1/me")).status_code == 401
    gateway.clock.move(seconds=4.9)
    assert (await elsewhere.identify(key["key"])).actor == "key:a"  # it is known without a query
    gateway.clock.move(seconds=0.1)
    with pytest.raises(Unauthenticated):
        await elsewhere.identify(key["key"])
    assert (await root.delete(f"/api/v1/keys/{key['id']}")).status_code == 204  # again it changes nothing
    assert [what for _, what, _ in await gateway.trail()].count("key-revoked") == 1
    assert (await root.delete(f"/api/v1/keys/{'0' * 16}")).status_code == 404


async def test_what_a_process_knows_of_keys_is_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "MAX_CACHED", 2)
    root = await gateway.with_key("keys:admin", "orders:read")
    texts = [(await made(root, name=f"k{n}", scopes=["orders:read"]))["key"] for n in range(3)]
    elsewhere = gateway.another_process()
    for text in texts:
        await elsewhere.identify(text)
    await gateway.database.fetch("delete from api_keys where name in ('k0', 'k1', 'k2') returning 1")
    with pytest.raises(Unauthenticated):  # the one that was asked for first is not known any more
        await elsewhere.identify(texts[0])
    for text in texts[1:]:
        await elsewhere.identify(text)


async def test_the_last_use_of_a_key_is_written_once_a_minute_at_most(gateway: Gateway) -> None:
    root = await gateway.with_key("keys:admin", "orders:read")
    key = await made(root, name="a", scopes=["orders:read"])
    program = bearer(gateway.browser(), key["key"])
    used: list[Any] = []
    for _ in range(13):
        await program.get("/api/v1/me")
        used.append(await gateway.database.fetchval("select last_used_at from api_keys where name = 'a'"))
        gateway.clock.move(seconds=10)
    start = used[0]
    assert [(at - start).total_seconds() for at in used] == [0] * 6 + [60] * 6 + [120]


async def test_a_rotated_key_is_valid_for_a_while_and_the_new_one_may_do_the_same(gateway: Gateway) -> None:
    root = await gateway.with_key(*SCOPES)
    expires = gateway.clock() + timedelta(days=90)
    old = await made(root, name="a", scopes=["orders:read"], channel="web", locations=["BER-1"], expires_at=expires.isoformat())
    gateway.clock.move(days=80)
    response = await root.post(f"/api/v1/keys/{old['id']}/rotate", json={})
    assert response.status_code == 201
    new = response.json()
    assert new["key"] != old["key"]
    assert new["replaces"] == old["id"]
    assert new["expires_at"] == (gateway.clock() + timedelta(days=90)).isoformat().replace("+00:00", "Z")
    same = ("name", "scopes", "channel", "locations")
    assert [new[field] for field in same] == [old[field] for field in same]

    assert (await root.post(f"/api/v1/keys/{old['id']}/rotate", json={})).status_code == 409  # it is replaced already
    before, after = bearer(gateway.browser(), old["key"]), bearer(gateway.browser(), new["key"])
    gateway.clock.move(hours=23.9)
    assert [(await program.get("/api/v1/me")).json()["actor"] for program in (before, after)] == ["key:a", "key:a"]
    gateway.clock.move(hours=0.1)
    assert [(await program.get("/api/v1/me")).status_code for program in (before, after)] == [401, 200]

    newest = (await root.post(f"/api/v1/keys/{new['id']}/rotate", json={"grace_seconds": 0})).json()
    assert (await after.get("/api/v1/me")).status_code == 401  # also where it was known a moment ago
    assert (await bearer(gateway.browser(), newest["key"]).get("/api/v1/me")).status_code == 200
    assert (await root.post(f"/api/v1/keys/{new['id']}/rotate", json={})).status_code == 409


async def test_a_rotation_never_makes_the_old_key_last_longer(gateway: Gateway) -> None:
    root = await gateway.with_key(*SCOPES)
    soon = gateway.clock() + timedelta(minutes=1)
    old = await made(root, name="a", scopes=["orders:read"], expires_at=soon.isoformat())
    assert (await root.post(f"/api/v1/keys/{old['id']}/rotate", json={"grace_seconds": 86_400})).status_code == 201
    gateway.clock.move(minutes=1)
    assert (await bearer(gateway.browser(), old["key"]).get("/api/v1/me")).status_code == 401


async def test_nobody_makes_or_takes_a_key_that_may_do_more_than_themselves(gateway: Gateway) -> None:
    root = await gateway.with_key(*SCOPES)
    strong = await made(root, name="strong", scopes=["orders:change", "orders:read"])
    weak = await gateway.with_key("keys:admin", "orders:read", locations=frozenset({"BER-1"}))

    async def try_to_make(**wanted: Any) -> int:
        return (await weak.post("/api/v1/keys", json={"name": "b", "scopes": ["orders:read"], "locations": ["BER-1"]} | wanted)).status_code

    assert await try_to_make(scopes=["orders:read", "orders:change"]) == 403
    assert await try_to_make(locations=None) == 403
    assert await try_to_make(locations=["BER-1", "BER-2"]) == 403
    assert await try_to_make(scopes=["orders:everything"]) == 422
    assert await try_to_make(scopes=[]) == 422
    assert (await weak.post(f"/api/v1/keys/{strong['id']}/rotate", json={})).status_code == 403
    assert (await weak.delete(f"/api/v1/keys/{strong['id']}")).status_code == 403
    assert await try_to_make() == 201


async def test_a_channels_key_decides_on_nobody(gateway: Gateway) -> None:
    root = await gateway.with_key(*SCOPES)
    for scope in ADMIN_SCOPES:
        response = await root.post("/api/v1/keys", json={"name": "a", "scopes": [scope], "channel": "web"})
        assert (response.status_code, response.json()["reasons"][0].partition(":")[0]) == (422, "channel")


async def test_a_name_of_a_key_means_one_key_for_ever(gateway: Gateway) -> None:
    root = await gateway.with_key(*SCOPES)
    key = await made(root, name="a", scopes=["orders:read"])
    await root.delete(f"/api/v1/keys/{key['id']}")
    response = await root.post("/api/v1/keys", json={"name": "a", "scopes": ["orders:read"]})
    assert (response.status_code, response.json()["title"]) == (409, "a key has, or had, the name a")


# Users


async def test_a_user_is_made_changed_and_signs_in(gateway: Gateway) -> None:
    root = await gateway.with_key(*SCOPES)
    wanted = {"name": "ada", "display_name": "Ada Lovelace", "roles": ["warehouse"], "locations": ["BER-1"], "password": PASSWORD}
    response = await root.post("/api/v1/users", json=wanted)
    assert response.status_code == 201
    user = response.json()
    assert user == {name: value for name, value in wanted.items() if name != "password"} | {
        "provider": None,
        "has_password": True,
        "created_at": "2030-01-01T09:00:00Z",
        "disabled_at": None,
    }
    assert (await root.post("/api/v1/users", json=wanted)).status_code == 409
    ada = await gateway.signed_in("ada")
    changed = (await root.patch("/api/v1/users/ada", json={"roles": ["viewer"], "locations": None})).json()
    assert changed == user | {"roles": ["viewer"], "locations": None}
    me = (await ada.get("/api/v1/me")).json()  # the session has the new rights at once
    assert (set(me["scopes"]), me["locations"]) == (ROLES["viewer"], None)
    assert (await root.patch("/api/v1/users/nobody", json={})).status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Ada"),
        ("name", "ada@example.com"),
        ("name", ""),
        ("name", "a\n"),
        ("display_name", "a\x00"),
        ("roles", ["king"]),
        ("password", "too short"),
        ("more", 1),
    ],
)
async def test_a_user_that_is_not_sound_is_refused(gateway: Gateway, field: str, value: Any) -> None:
    wanted = {"name": "ada", "display_name": "Ada", "roles": ["viewer"], "password": PASSWORD} | {field: value}
    response = await (await gateway.with_key(*SCOPES)).post("/api/v1/users", json=wanted)
    assert response.status_code == 422
    assert response.json()["reasons"][0].startswith(field)


async def test_a_disabled_user_is_out_at_once_and_comes_back_by_signing_in(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    root, ada = await gateway.with_key(*SCOPES), await gateway.signed_in("ada")
    disabled = (await root.patch("/api/v1/users/ada", json={"disabled": True})).json()
    assert disabled["disabled_at"] == "2030-01-01T09:00:00Z"
    assert (await ada.get("/api/v1/me")).status_code == 401
    assert (await sign_in(gateway.browser(), "ada")).status_code == 401
    assert (await root.patch("/api/v1/users/ada", json={"disabled": False})).json()["disabled_at"] is None
    assert (await ada.get("/api/v1/me")).status_code == 401
    await gateway.signed_in("ada")


async def test_a_new_password_ends_all_sessions_and_the_old_one(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    root, ada = await gateway.with_key(*SCOPES), await gateway.signed_in("ada")
    assert (await root.put("/api/v1/users/ada/password", json={"password": "another good password"})).status_code == 204
    assert (await ada.get("/api/v1/me")).status_code == 401
    assert (await sign_in(gateway.browser(), "ada")).status_code == 401
    await gateway.signed_in("ada", password="another good password")
    assert (await root.put("/api/v1/users/ada/password", json={"password": "short"})).status_code == 422


async def test_sessions_of_a_user_are_ended_by_an_administrator(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    root = await gateway.with_key(*SCOPES)
    browsers = [await gateway.signed_in("ada") for _ in range(2)]
    assert (await root.delete("/api/v1/users/ada/sessions")).json() == {"sessions": 2}
    assert [(await browser.get("/api/v1/me")).status_code for browser in browsers] == [401, 401]
    assert (await root.delete("/api/v1/users/nobody/sessions")).status_code == 404


async def test_an_administrator_sees_that_a_name_is_locked_and_lifts_the_lock(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    root, ada = await gateway.with_key(*SCOPES), await gateway.signed_in("ada")
    for _ in range(5):
        await sign_in(gateway.browser("192.0.2.9"), "ada", "wrong")
    assert (await sign_in(gateway.browser(), "ada")).status_code == 429
    locked = {"failures": 5, "locked_until": "2030-01-01T09:00:30Z"}
    assert (await root.get("/api/v1/users/ada")).json().items() >= (locked | {"name": "ada", "sessions": 1}).items()

    assert (await root.delete("/api/v1/users/ada/lock")).json() == locked
    assert (await sign_in(gateway.browser(), "ada", "wrong")).status_code == 401  # it counts anew
    await gateway.signed_in("ada")
    assert (await root.delete("/api/v1/users/ada/lock")).json() == {"failures": 0, "locked_until": None}
    assert (await root.get("/api/v1/users/ada")).json().items() >= {"failures": 0, "locked_until": None, "sessions": 2}.items()
    assert [(what, about) for _, what, about in await gateway.trail()].count(("lock-lifted", "user:ada")) == 2
    gateway.clock.move(hours=1)
    assert (await root.get("/api/v1/users/ada")).json()["sessions"] == 0  # they were not used
    assert (await ada.get("/api/v1/me")).status_code == 401
    for method, path in (("DELETE", "/api/v1/users/nobody/lock"), ("GET", "/api/v1/users/nobody")):
        assert (await root.request(method, path)).status_code == 404


async def test_a_parameter_that_is_unknown_is_refused_by_name_and_only_to_whoever_may_ask(gateway: Gateway) -> None:
    await gateway.add_user("ada", "viewer")
    root = await gateway.with_key(*SCOPES)
    key = await made(root, name="old", scopes=["orders:read"])
    for _, method, path, body in ROUTES:
        response = await ask(root, method, f"{path}?colour=red", body, key["id"])
        assert response.status_code == 422, path
        assert response.json()["reasons"][0].startswith("colour: is no parameter here"), path
        assert (await ask(gateway.browser(), method, f"{path}?colour=red", body, key["id"])).status_code == 401
    assert (await root.get("/api/v1/me?colour=red")).status_code == 422
    assert (await gateway.browser().get("/api/v1/oidc/start?colour=red")).status_code == 422
    credentials = {"name": "ada", "password": PASSWORD}
    assert (await gateway.browser().post("/api/v1/session?colour=red", json=credentials)).status_code == 422


async def test_a_body_is_not_read_before_it_is_known_who_sends_it_and_that_they_may(gateway: Gateway) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"{}"

    weak = await gateway.with_key("orders:read")
    for client, status in ((gateway.browser(), 401), (weak, 403)):
        for _, method, path, has_body in ROUTES:
            if has_body is not None:
                assert (await client.request(method, f"/api/v1{path.replace('{id}', '0' * 16)}", content=body())).status_code == status
    assert read == 0


async def test_whoever_signs_in_or_manages_users_too_often_is_refused(gateway: Gateway) -> None:
    limits = replace(gateway.parts.admission, addresses=RateLimit(0.1, 2, gateway.clock.seconds))
    app = FastAPI(exception_handlers=HANDLERS)
    app.include_router(make_sign_in_router(replace(gateway.parts, admission=limits)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as client:
        answers = [await sign_in(client, "nobody"), await client.get("/api/v1/users"), await sign_in(client, "nobody")]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert answers[2].json()["title"] == "too many requests"


async def test_nobody_gives_rights_that_they_lack_or_takes_over_somebody_who_has_more(gateway: Gateway) -> None:
    await gateway.add_user("chief", "admin")
    await gateway.add_user("ada", "viewer")
    weak = await gateway.with_key("users:admin", *ROLES["viewer"])

    async def refused(method: str, path: str, body: Any) -> bool:
        return (await weak.request(method, f"/api/v1/users{path}", json=body)).status_code == 403

    new = {"name": "eve", "display_name": "Eve", "roles": ["admin"], "password": PASSWORD}
    assert await refused("POST", "", new)
    assert await refused("PATCH", "/ada", {"roles": ["admin"]})
    assert await refused("PATCH", "/chief", {"roles": []})
    assert await refused("PATCH", "/chief", {"disabled": True})
    assert await refused("PUT", "/chief/password", {"password": PASSWORD})
    assert await refused("DELETE", "/chief/sessions", None)
    assert await refused("DELETE", "/chief/lock", None)
    assert not await refused("POST", "", new | {"roles": ["viewer"]})

    here = await gateway.with_key(*SCOPES, locations=frozenset({"BER-1"}))
    new |= {"name": "dan", "roles": ["viewer"]}
    assert (await here.post("/api/v1/users", json=new)).status_code == 403
    assert (await here.post("/api/v1/users", json=new | {"locations": ["BER-2"]})).status_code == 403
    assert (await here.post("/api/v1/users", json=new | {"locations": ["BER-1"]})).status_code == 201
    assert (await here.patch("/api/v1/users/dan", json={"locations": None})).status_code == 403
    assert (await here.patch("/api/v1/users/ada", json={"display_name": "A"})).status_code == 403


async def test_nobody_changes_their_own_rights_so_that_an_administrator_remains(gateway: Gateway) -> None:
    await gateway.add_user("chief", "admin")
    root = await gateway.signed_in("chief")
    changes: list[dict[str, Any]] = [{"roles": []}, {"disabled": True}, {"locations": []}]
    for change in changes:
        assert (await root.patch("/api/v1/users/chief", json=change)).status_code == 409
    assert (await root.patch("/api/v1/users/chief", json={"display_name": "Root"})).status_code == 200


# Lists


async def test_lists_are_paged_and_a_cursor_is_that_of_an_earlier_page(gateway: Gateway) -> None:
    root = await gateway.with_key(*SCOPES)
    for n in range(5):
        gateway.clock.move(seconds=n % 2)  # some are made at the same time
        await made(root, name=f"k-{n}", scopes=["orders:read"])
        await gateway.add_user(f"u-{n}")
    everything = {path: (await root.get(f"/api/v1/{path}")).json() for path in ("users", "keys", "audit-trail")}
    assert [user["name"] for user in everything["users"]["items"]] == [f"u-{n}" for n in range(5)]
    assert {key["name"] for key in everything["keys"]["items"][:1]} <= {"k-3", "k-4"}
    assert everything["audit-trail"]["items"][0]["about"] == "key:k-4"
    for path, whole in everything.items():
        items: list[Any] = []
        after: str | None = None
        pages = 0
        while pages == 0 or after is not None:
            page = (await root.get(f"/api/v1/{path}", params={"limit": 2} | ({"after": after} if after else {}))).json()
            items, after, pages = [*items, *page["items"]], page["next"], pages + 1
        strip = [{name: value for name, value in item.items() if name != "last_used_at"} for item in items]
        assert strip == [{name: value for name, value in item.items() if name != "last_used_at"} for item in whole["items"]]
        assert pages == 3
        assert whole["next"] is None
        for bad in ("x", "W10", "bnVsbA", "%00", "WyJhIiwiYiIsImMiXQ"):
            response = await root.get(f"/api/v1/{path}", params={"after": bad})
            assert (response.status_code, response.json()["reasons"]) == (422, ["after: it is not the next of an earlier page"])


async def test_a_cursor_that_somebody_made_is_refused(gateway: Gateway) -> None:
    root = await gateway.with_key(*SCOPES)
    for path, key in (("users", ["\x00"]), ("audit-trail", [2**70]), ("keys", ["2030-01-01T00:00:00", "\x00"])):
        after = b64encode(json.dumps(key).encode()).decode()
        assert (await root.get(f"/api/v1/{path}", params={"after": after})).status_code == 422, path


async def test_a_database_that_does_not_answer_can_be_asked_again(gateway: Gateway) -> None:
    browser = gateway.browser()
    browser.cookies.set("__Host-oms_session", "A" * 43, domain="gateway.example")
    await gateway.database.close()
    for response in (await browser.get("/api/v1/me"), await sign_in(browser, "ada")):
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


async def test_the_audit_trail_says_who_did_what_about_whom(gateway: Gateway) -> None:
    await gateway.add_user("chief", "admin")
    root = await gateway.signed_in("chief")
    await root.post("/api/v1/users", json={"name": "ada", "display_name": "Ada", "roles": ["viewer"], "password": PASSWORD})
    await sign_in(gateway.browser(), "ada", "wrong")
    await sign_in(gateway.browser(), "nobody", "wrong")
    await root.patch("/api/v1/users/ada", json={"roles": ["warehouse"]})
    await root.put("/api/v1/users/ada/password", json={"password": PASSWORD})
    await root.delete("/api/v1/users/ada/sessions")
    key = await made(root, name="till", scopes=["orders:read"])
    new = (await root.post(f"/api/v1/keys/{key['id']}/rotate", json={})).json()
    await root.delete(f"/api/v1/keys/{new['id']}")
    await root.post("/api/v1/users", json={"name": "ada", "display_name": "Ada", "roles": ["viewer"], "password": PASSWORD})  # refused

    assert await gateway.trail() == [
        ("user:chief", "signed-in", "user:chief"),
        ("user:chief", "user-created", "user:ada"),
        ("unknown", "sign-in-failed", "user:ada"),
        ("unknown", "sign-in-failed", None),
        ("user:chief", "user-changed", "user:ada"),
        ("user:chief", "password-set", "user:ada"),
        ("user:chief", "sessions-ended", "user:ada"),
        ("user:chief", "key-made", "key:till"),
        ("user:chief", "key-rotated", "key:till"),
        ("user:chief", "key-revoked", "key:till"),
    ]
    about_ada = (await root.get("/api/v1/audit-trail", params={"about": "user:ada"})).json()["items"]
    assert [entry["what"] for entry in about_ada] == ["sessions-ended", "password-set", "user-changed", "sign-in-failed", "user-created"]
    assert about_ada[2]["detail"] == {"display_name": "Ada", "roles": ["warehouse"], "locations": None, "disabled_at": None}
    assert about_ada[2]["at"] == "2030-01-01T09:00:00Z"
    by_nobody = (await root.get("/api/v1/audit-trail", params={"actor": "unknown", "limit": 1})).json()
    assert (len(by_nobody["items"]), by_nobody["next"] is None) == (1, False)


# The description of the API


def test_the_examples_are_valid() -> None:
    models: list[type[BaseModel]] = [
        model for model in vars(sign_in_models).values() if isinstance(model, type) and model.__module__ == sign_in_models.__name__
    ]
    examples = [(model, example) for model in models for example in (model.model_json_schema().get("examples") or ())]
    assert {"Credentials", "NewUser", "NewKey"} <= {model.__name__ for model, _ in examples}
    for model, example in examples:
        model.model_validate(example)


def test_the_roles_of_the_api_are_the_roles() -> None:
    assert sign_in_models.NewUser.model_json_schema()["properties"]["roles"]["items"]["enum"] == [*ROLES]


async def test_every_operation_says_how_it_may_be_refused(gateway: Gateway) -> None:
    document = (await gateway.browser().get("/openapi.json")).json()
    operations = {(path, method): operation for path, of in document["paths"].items() for method, operation in of.items()}
    assert len(operations) == 18
    for operation in operations.values():
        problems = [r for status, r in operation["responses"].items() if status >= "400"]
        assert problems
        assert [[*problem["content"]] for problem in problems] == [["application/problem+json"]] * len(problems)
        assert operation["summary"]
        assert operation["tags"]


async def test_what_the_gateway_knows_outlives_it(servers: Servers) -> None:
    url = await servers.create_database("gateway")
    async with open_gateway(url) as gateway:
        await gateway.add_user("ada", "viewer")
        ada = await gateway.signed_in("ada")
    async with open_gateway(url) as again:
        browser = again.browser()
        browser.cookies.update(ada.cookies)
        assert (await browser.get(f"{HOST}/api/v1/me")).json()["actor"] == "user:ada"
        tables = {row["tablename"] for row in await again.database.fetch("select tablename from pg_tables where schemaname = 'public'")}
        assert tables == {"migrations", "users", "sign_in_attempts", "sessions", "api_keys", "audit_trail", "idempotency_keys"}
