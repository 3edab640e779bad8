"""People sign in at an OpenID provider, which signs real tokens: what it vouches for, and what is refused."""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import Response
from fastapi.responses import JSONResponse
from joserfc.jwk import RSAKey
from oms_gateway import store
from oms_gateway.identity import ROLES, SCOPES
from oms_gateway.oidc import MAX_BYTES
from oms_gateway.refusals import Unavailable
from oms_gateway.settings import SignInSettings
from oms_local.testing import Servers
from pydantic import ValidationError

from services.gateway.tests.gateways import CLIENT_SECRET, HOST, ISSUER, Gateway, Provider, open_gateway, sign_in


@pytest.fixture
def provider() -> Provider:
    """A provider with a key of its own."""
    return Provider()


@pytest.fixture
async def gateway(servers: Servers, provider: Provider) -> AsyncIterator[Gateway]:
    """A gateway whose people sign in at `provider`."""
    async with open_gateway(await servers.create_database("gateway"), provider=provider) as opened:
        yield opened


async def start(browser: httpx.AsyncClient, **parameters: str) -> str:
    """Where the browser is sent to sign in."""
    response = await browser.get("/api/v1/oidc/start", params=parameters)
    assert response.status_code == 303, response.text
    return response.headers["Location"]


async def arrive(gateway: Gateway, provider: Provider, claims: dict[str, Any], browser: httpx.AsyncClient | None = None) -> httpx.Response:
    """What the gateway answers to somebody who has signed in at the provider."""
    browser = browser or gateway.browser()
    return await browser.get("/api/v1/oidc/callback", params=provider.authorize(await start(browser), **claims))


ADA: dict[str, Any] = {"sub": "s-ada", "groups": ["x", "oms-desk"], "preferred_username": "Ada@example.com", "name": "Ada Lovelace"}


async def test_a_person_with_a_role_comes_in_and_a_user_is_made_once(gateway: Gateway, provider: Provider) -> None:
    browser = gateway.browser()
    url = await start(browser, return_to="/orders?status=open")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert (asked["client_id"], asked["redirect_uri"], asked["scope"]) == ("oms", f"{HOST}/api/v1/oidc/callback", "openid profile")
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3

    response = await browser.get("/api/v1/oidc/callback", params=provider.authorize(url, **ADA))
    assert (response.status_code, response.headers["Location"]) == (303, "/orders?status=open")
    assert [*dict(browser.cookies)] == ["__Host-oms_session"]  # what the sign-in needed is gone
    me = (await browser.get("/api/v1/me")).json()
    assert (me["actor"], set(me["scopes"])) == ("user:ada", ROLES["service-desk"])
    assert (await browser.delete("/api/v1/session", headers={"X-CSRF-Token": me["csrf_token"]})).status_code == 204

    assert (await arrive(gateway, provider, ADA, browser)).status_code == 303
    assert (await browser.get("/api/v1/me")).json()["actor"] == "user:ada"
    [user] = await store.list_users(gateway.database, "", 10)
    assert (user.display_name, user.oidc_issuer, user.oidc_subject, user.password_hash) == ("Ada Lovelace", ISSUER, "s-ada", None)
    assert await gateway.trail() == [
        ("oidc", "user-created", "user:ada"),
        ("user:ada", "signed-in", "user:ada"),
        ("user:ada", "signed-out", "user:ada"),
        ("user:ada", "signed-in", "user:ada"),
    ]


async def test_the_cookie_of_a_sign_in_under_way_is_as_safe_as_a_sessions(gateway: Gateway) -> None:
    response = await gateway.browser().get("/api/v1/oidc/start")
    [header] = response.headers.get_list("set-cookie")
    assert header.startswith("__Host-oms_oidc=")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=600"} <= set(header.split("; "))
    assert response.headers["Cache-Control"] == "no-store"


async def test_roles_are_those_that_the_provider_gives_now(gateway: Gateway, provider: Provider) -> None:
    first = gateway.browser()
    await arrive(gateway, provider, ADA, first)
    await arrive(gateway, provider, ADA | {"groups": "oms-admins"})
    assert set((await first.get("/api/v1/me")).json()["scopes"]) == SCOPES
    response = await arrive(gateway, provider, ADA | {"groups": []})
    assert (response.status_code, response.json()["title"]) == (403, "nobody has given you a role here")
    assert (await first.get("/api/v1/me")).status_code == 401  # and the sessions of before have ended
    assert (await gateway.trail())[-2:] == [("oidc", "user-changed", "user:ada"), ("oidc", "sign-in-refused", None)]


@pytest.mark.parametrize("groups", [None, [], ["others"], "others", {"oms-desk": True}, [["oms-desk"]], 7])
async def test_nobody_without_a_role_comes_in_and_no_user_is_made(gateway: Gateway, provider: Provider, groups: Any) -> None:
    browser = gateway.browser()
    assert (await arrive(gateway, provider, ADA | {"groups": groups}, browser)).status_code == 403
    assert "__Host-oms_session" not in dict(browser.cookies)
    assert await store.list_users(gateway.database, "", 10) == []


async def test_a_user_is_known_by_issuer_and_subject_never_by_a_name_or_an_address(gateway: Gateway, provider: Provider) -> None:
    await gateway.add_user("ada", "admin")  # a local user
    email = {"email": "ada@example.com", "email_verified": True}
    for subject in ("s-1", "s-2"):
        browser = gateway.browser()
        await arrive(gateway, provider, ADA | email | {"sub": subject}, browser)
        me = (await browser.get("/api/v1/me")).json()
        assert me["actor"].startswith("user:ada-")
        assert set(me["scopes"]) == ROLES["service-desk"]
    users = await store.list_users(gateway.database, "", 10)
    assert sorted(str(user.oidc_subject) for user in users) == ["None", "s-1", "s-2"]
    assert len({user.name for user in users}) == 3


async def test_a_disabled_user_does_not_come_in(gateway: Gateway, provider: Provider) -> None:
    await arrive(gateway, provider, ADA)
    root = await gateway.with_key(*SCOPES)
    assert (await root.patch("/api/v1/users/ada", json={"disabled": True})).status_code == 200
    response = await arrive(gateway, provider, ADA)
    assert (response.status_code, response.json()["title"]) == (403, "the user ada is disabled")


async def test_what_the_provider_decides_is_changed_there(gateway: Gateway, provider: Provider) -> None:
    await arrive(gateway, provider, ADA)
    root = await gateway.with_key(*SCOPES)
    assert (await root.patch("/api/v1/users/ada", json={"roles": ["admin"]})).status_code == 409
    assert (await root.put("/api/v1/users/ada/password", json={"password": "a long password"})).status_code == 409
    assert (await root.patch("/api/v1/users/ada", json={"locations": ["BER-1"]})).json()["locations"] == ["BER-1"]
    assert (await sign_in(gateway.browser(), "ada", "a long password")).status_code == 401


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Ada.L", "ada.l"), ("../../x y", "xy"), (None, "d8da80ef22cb8b72"), ("@x", "d8da80ef22cb8b72"), ("a" * 100, "a" * 64), (7, "7")],
)
async def test_a_name_is_made_of_what_the_provider_calls_a_person(gateway: Gateway, provider: Provider, name: Any, expected: str) -> None:
    assert (await arrive(gateway, provider, ADA | {"sub": "s-ada2", "preferred_username": name})).status_code == 303
    [user] = await store.list_users(gateway.database, "", 10)
    assert len(user.name) <= 64
    assert (user.name == expected) or (len(expected) == 16 and user.name.isalnum() and len(user.name) == 16)


# What is refused


def refusal(response: httpx.Response) -> str:
    """Why a sign-in was refused."""
    assert response.status_code == 401, response.text
    assert "set-cookie" not in response.headers
    return response.json()["reasons"][0]


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"iss": "https://evil.example"}, "InvalidClaimError"),
        ({"iss": None}, "MissingClaimError"),
        ({"aud": "another-client"}, "InvalidClaimError"),
        ({"aud": None}, "MissingClaimError"),
        ({"aud": ["oms", "another-client"]}, "another client"),
        ({"aud": ["oms", "another-client"], "azp": "another-client"}, "another client"),
        ({"azp": "another-client"}, "another client"),
        ({"exp": 1_893_488_400 - 31}, "ExpiredTokenError"),
        ({"exp": None}, "MissingClaimError"),
        ({"exp": "never"}, "InvalidClaimError"),
        ({"iat": 1_893_488_400 + 31}, "InvalidClaimError"),
        ({"nbf": 1_893_488_400 + 31}, "InvalidClaimError"),
        ({"nonce": "that of another sign-in"}, "InvalidClaimError"),
        ({"nonce": None}, "MissingClaimError"),
        ({"sub": None}, "MissingClaimError"),
        ({"sub": ""}, "InvalidClaimError"),
        ({"sub": 7}, "InvalidClaimError"),
        ({"sub": "x" * 256}, "(sub)"),
    ],
)
async def test_an_id_token_that_is_not_for_this_sign_in_is_refused(
    gateway: Gateway, provider: Provider, claims: dict[str, Any], error: str
) -> None:
    assert gateway.clock().timestamp() == 1_893_488_400
    provider.claims = claims
    assert error in refusal(await arrive(gateway, provider, ADA))
    assert await store.list_users(gateway.database, "", 10) == []
    assert [(actor, what) for actor, what, _ in await gateway.trail()] == [("unknown", "sign-in-failed")]


async def test_a_token_for_several_clients_that_this_one_asked_for_is_taken(gateway: Gateway, provider: Provider) -> None:
    provider.claims = {"aud": ["another-client", "oms"], "azp": "oms", "exp": 1_893_488_400 - 29, "iat": 1_893_488_400 + 29}
    assert (await arrive(gateway, provider, ADA)).status_code == 303


async def test_a_token_that_another_key_has_signed_is_refused(gateway: Gateway, provider: Provider) -> None:
    provider.signer = RSAKey.generate_key(2048, auto_kid=True)
    assert "InvalidKeyIdError" in refusal(await arrive(gateway, provider, ADA))
    provider.header = {"kid": provider.keys[0].kid}
    assert "BadSignatureError" in refusal(await arrive(gateway, provider, ADA))


async def test_a_token_that_is_signed_with_a_secret_or_not_at_all_is_refused(gateway: Gateway, provider: Provider) -> None:
    provider.header, provider.secret = {"alg": "none"}, b""
    assert "UnsupportedAlgorithmError" in refusal(await arrive(gateway, provider, ADA))
    provider.header = {"alg": "HS256"}
    for secret in (provider.keys[0].as_pem(private=False), CLIENT_SECRET.encode()):  # both are known to others
        provider.secret = secret
        assert "UnsupportedAlgorithmError" in refusal(await arrive(gateway, provider, ADA))


async def test_a_callback_that_nobody_here_began_is_refused(gateway: Gateway, provider: Provider) -> None:
    browser, attacker = gateway.browser(), gateway.browser()
    answer = provider.authorize(await start(attacker), **ADA)
    assert (await browser.get("/api/v1/oidc/callback", params=answer)).status_code == 401  # login CSRF: no cookie
    await start(browser)
    assert refusal(await browser.get("/api/v1/oidc/callback", params=answer)).startswith("the answer is that of another sign-in")
    for bad in ({"state": "x"}, {"state": "\u00fc"}, {"iss": "https://evil.example"}):
        assert (await attacker.get("/api/v1/oidc/callback", params=answer | bad)).status_code == 401
    assert provider.codes  # no code was sent anywhere
    assert (await attacker.get("/api/v1/oidc/callback", params=answer)).status_code == 303
    assert (await attacker.get("/api/v1/oidc/callback", params=answer)).status_code == 401  # it counts once
    for cookie in ("x", "e30", "%%%"):
        browser.cookies.set("__Host-oms_oidc", cookie, domain="gateway.example")
        response = await gateway.browser().get("/api/v1/oidc/callback", params=answer, headers={"Cookie": f"__Host-oms_oidc={cookie}"})
        assert response.status_code == 422


async def test_a_code_is_of_no_use_without_the_verifier_of_the_browser_that_began(gateway: Gateway, provider: Provider) -> None:
    """PKCE: a code that was stolen on its way, and is brought in with a sign-in of the thief's own."""
    thief = gateway.browser()
    stolen = provider.authorize(await start(gateway.browser()), **ADA)
    own = provider.authorize(await start(thief), **ADA)
    response = await thief.get("/api/v1/oidc/callback", params=own | {"code": stolen["code"]})
    assert refusal(response).startswith("the provider does not take the code")


async def test_a_sign_in_that_took_too_long_is_begun_again(gateway: Gateway, provider: Provider) -> None:
    browser = gateway.browser()
    answer = provider.authorize(await start(browser), **ADA)
    gateway.clock.move(minutes=10, seconds=1)
    assert refusal(await browser.get("/api/v1/oidc/callback", params=answer)).startswith("it took too long")


@pytest.mark.parametrize(("error", "said"), [("access_denied", "the provider says access_denied"), ("<script>", "without a code")])
async def test_what_the_provider_refuses_is_said(gateway: Gateway, provider: Provider, error: str, said: str) -> None:
    browser = gateway.browser()
    state = provider.authorize(await start(browser))["state"]
    assert refusal(await browser.get("/api/v1/oidc/callback", params={"state": state, "error": error})).startswith(said)


@pytest.mark.parametrize("path", ["https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil", "evil", "", "/a\nb", "/\u00fc"])
async def test_the_browser_is_never_sent_to_another_host_afterwards(gateway: Gateway, path: str) -> None:
    assert (await gateway.browser().get("/api/v1/oidc/start", params={"return_to": path})).status_code == 422


async def test_a_person_who_signs_in_at_the_provider_gets_a_new_session(gateway: Gateway, provider: Provider) -> None:
    browser = gateway.browser()
    await arrive(gateway, provider, ADA, browser)
    before = dict(browser.cookies)
    await arrive(gateway, provider, ADA, browser)
    assert dict(browser.cookies) != before
    assert await gateway.database.fetchval("select count(*) from sessions") == 1


# The provider itself


async def test_what_the_provider_says_of_itself_is_asked_once_an_hour_and_a_new_key_is_found(gateway: Gateway, provider: Provider) -> None:
    for _ in range(3):
        assert (await arrive(gateway, provider, ADA)).status_code == 303
    assert provider.asked.count("/.well-known/openid-configuration") == provider.asked.count("/jwks") == 1

    provider.keys = [RSAKey.generate_key(2048, auto_kid=True)]
    gateway.clock.move(seconds=29)
    assert "InvalidKeyIdError" in refusal(await arrive(gateway, provider, ADA))  # not asked again yet: nobody makes us flood it
    assert provider.asked.count("/jwks") == 1
    gateway.clock.move(seconds=1)
    assert (await arrive(gateway, provider, ADA)).status_code == 303
    assert provider.asked.count("/jwks") == 2
    gateway.clock.move(hours=1)
    assert (await arrive(gateway, provider, ADA)).status_code == 303
    assert (provider.asked.count("/.well-known/openid-configuration"), provider.asked.count("/jwks")) == (2, 3)


CONFIGURATION = {"issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/a", "token_endpoint": f"{ISSUER}/t", "jwks_uri": f"{ISSUER}/jwks"}


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/.well-known/openid-configuration", JSONResponse({}, status_code=500)),
        ("/.well-known/openid-configuration", JSONResponse([])),
        ("/.well-known/openid-configuration", JSONResponse(CONFIGURATION | {"issuer": "https://evil.example"})),
        ("/.well-known/openid-configuration", JSONResponse(CONFIGURATION | {"token_endpoint": "http://id.example/t"})),
        ("/.well-known/openid-configuration", Response(status_code=302, headers={"Location": "http://169.254.169.254/"})),
        ("/.well-known/openid-configuration", Response(b'{"x": "' + b"x" * MAX_BYTES + b'"}')),
        ("/jwks", JSONResponse({"keys": []})),
        ("/jwks", JSONResponse({"keys": [{"kty": "RSA", "n": "AQ"}]})),
        ("/jwks", JSONResponse({"keys": [{"kty": "RSA"}] * 101})),
        ("/jwks", JSONResponse({"keys": "x"})),
        ("/token", JSONResponse({"access_token": "x"})),
        ("/token", JSONResponse({}, status_code=500)),
        ("/token", Response(b"\xff")),
    ],
)
async def test_a_provider_that_does_not_answer_as_it_should_lets_nobody_in_and_can_be_tried_again(
    gateway: Gateway, provider: Provider, path: str, answer: Response
) -> None:
    browser = gateway.browser()
    answer_in_time = provider.authorize(await start(browser), **ADA) if path != "/.well-known/openid-configuration" else None
    provider.answers = {path: answer}
    response = await browser.get(f"/api/v1/oidc/{'callback' if answer_in_time else 'start'}", params=answer_in_time)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.json()["reasons"]
    provider.answers = {}
    assert (await arrive(gateway, provider, ADA)).status_code == 303


async def test_a_provider_out_of_reach_lets_nobody_in(gateway: Gateway, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_transport: httpx.ASGITransport, _request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(httpx.ASGITransport, "handle_async_request", fail)
    assert gateway.parts.provider is not None
    with pytest.raises(Unavailable, match="does not answer"):
        await gateway.parts.provider.start("/")


async def test_no_token_code_or_verifier_is_in_the_audit_trail(gateway: Gateway, provider: Provider) -> None:
    provider.claims = {"nonce": "of another"}
    browser = gateway.browser()
    answer = provider.authorize(await start(browser), **ADA)
    await browser.get("/api/v1/oidc/callback", params=answer)
    provider.claims = {}
    await arrive(gateway, provider, ADA)
    entries = json.dumps([entry.detail for entry in await store.list_entries(gateway.database, None, 100)])
    told = [*provider.issued, answer["code"], answer["state"], CLIENT_SECRET]
    assert len(provider.issued) == 2
    assert [secret for secret in told if secret in entries] == []


async def test_without_a_provider_people_sign_in_by_password_alone(servers: Servers) -> None:
    async with open_gateway(await servers.create_database("gateway")) as gateway:
        for path in ("start", "callback"):
            response = await gateway.browser().get(f"/api/v1/oidc/{path}", headers={"Cookie": "__Host-oms_oidc=x"})
            assert response.status_code in {404, 422}


# Settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"oidc_issuer": "http://id.example"}, "must be an https URL"),
        ({"oidc_issuer": "https://id.example?x=1"}, "no query"),
        ({"oidc_issuer": "nonsense"}, "oidc_issuer"),
        ({"oidc_issuer": ISSUER}, "OMS_OIDC_CLIENT_ID, OMS_OIDC_REDIRECT_URL must be set beside OMS_OIDC_ISSUER"),
        ({"oidc_roles": {"x": "king"}}, "there is no role 'king'; there are viewer"),
        ({"session_idle": "PT0S"}, "session_idle"),
        ({"sign_in_failures": 0}, "sign_in_failures"),
    ],
)
def test_settings_that_are_not_sound_are_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        SignInSettings(**settings)


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "OMS_OIDC_ISSUER": "http://127.0.0.1:8080/realms/x",
        "OMS_OIDC_CLIENT_ID": "oms",
        "OMS_OIDC_CLIENT_SECRET": "s",
        "OMS_OIDC_REDIRECT_URL": "http://localhost:8000/api/v1/oidc/callback",
        "OMS_OIDC_ROLES": '{"oms-admins": "admin"}',
        "OMS_SESSION_IDLE": "PT30M",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = SignInSettings()
    assert settings.oidc_roles == {"oms-admins": "admin"}
    assert settings.session_idle.total_seconds() == 1_800
    assert "client_secret=SecretStr('**********')" in repr(settings)
