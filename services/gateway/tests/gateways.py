"""A real HTTP app over a real database, with a clock that the test sets, and an OpenID provider that signs real tokens."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from argon2 import PasswordHasher
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from oms_gateway import store
from oms_gateway.authenticate import Authenticator
from oms_gateway.identity import SCOPES, Identity
from oms_gateway.keys import Keys, Wanted
from oms_gateway.limits import Admission, RateLimit
from oms_gateway.oidc import OidcProvider
from oms_gateway.passwords import Passwords
from oms_gateway.refusals import HANDLERS
from oms_gateway.settings import SignInSettings
from oms_gateway.sign_in_api import SignInParts, make_sign_in_router
from oms_gateway.signin import Cookies, SignIn
from oms_gateway.store import User
from oms_runtime.database import Database

PASSWORD = "correct horse battery staple"
HOST = "https://gateway.example"
ISSUER = "https://id.example"
CLIENT_ID, CLIENT_SECRET = "oms", "a secret: of the client"
ADMIN = Identity(actor="user:root", scopes=SCOPES)


class Hand:
    """A clock that stands until the test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        """Seconds that go on with it."""
        return self.now.timestamp()

    def move(self, **by: float) -> None:
        """Move it on."""
        self.now += timedelta(**by)


class CountingHasher(PasswordHasher):
    """Argon2id, cheap, that counts what it verifies."""

    def __init__(self, *, time_cost: int = 1) -> None:
        super().__init__(memory_cost=256, time_cost=time_cost, parallelism=1)
        self.verified = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:
        self.verified += 1
        return super().verify(hash, password)


@dataclass
class Provider:
    """An OpenID provider. `claims` are added to those of its ID tokens, `answers` are sent instead of an endpoint's own."""

    keys: list[RSAKey] = field(default_factory=lambda: [RSAKey.generate_key(2048, auto_kid=True)])
    signer: RSAKey | None = None
    secret: bytes | None = None
    """Signs with it instead, as an HMAC; empty: not at all."""
    claims: dict[str, Any] = field(default_factory=dict[str, Any])
    header: dict[str, Any] = field(default_factory=dict[str, Any])
    answers: dict[str, Response] = field(default_factory=dict[str, Response])
    asked: list[str] = field(default_factory=list[str])
    codes: dict[str, tuple[dict[str, str], dict[str, Any]]] = field(default_factory=dict[str, Any])
    issued: list[str] = field(default_factory=list[str])

    def authorize(self, url: str, **claims: Any) -> dict[str, str]:
        """What the browser brings back when somebody signs in at `url`."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert url.startswith(f"{ISSUER}/authorize?")
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked, claims
        return {"code": code, "state": asked["state"], "iss": ISSUER}

    def app(self, clock: Hand) -> FastAPI:
        """Its endpoints."""
        app = FastAPI()

        async def answer(request: Request) -> Response:
            path = request.url.path
            self.asked.append(path)
            if path in self.answers:
                return self.answers[path]
            if path == "/.well-known/openid-configuration":
                return JSONResponse(
                    {
                        "issuer": ISSUER,
                        "authorization_endpoint": f"{ISSUER}/authorize",
                        "token_endpoint": f"{ISSUER}/token",
                        "jwks_uri": f"{ISSUER}/jwks",
                    }
                )
            if path == "/jwks":
                return JSONResponse(KeySet([*self.keys]).as_dict())
            return self._token(parse_qs((await request.body()).decode()), request.headers.get("Authorization", ""), clock)

        app.add_route("/{path:path}", answer, methods=["GET", "POST"])
        return app

    def _token(self, form: dict[str, list[str]], authorization: str, clock: Hand) -> Response:
        basic = base64.b64encode(b"oms:a%20secret%3A%20of%20the%20client").decode()
        asked, claims = self.codes.pop(form["code"][0], ({}, {}))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"][0].encode()).digest()).decode().rstrip("=")
        if authorization != f"Basic {basic}" or not asked or asked["code_challenge"] != challenge:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        assert form["redirect_uri"] == [asked["redirect_uri"]]
        now, key = int(clock().timestamp()), self.signer or self.keys[0]
        payload = (
            {"iss": ISSUER, "aud": CLIENT_ID, "sub": "s-1", "iat": now, "exp": now + 60, "nonce": asked["nonce"]} | claims | self.claims
        )
        payload = {name: value for name, value in payload.items() if value is not None}
        header = {"alg": "RS256", "kid": key.kid} | self.header
        self.issued.append(jwt.encode(header, payload, key) if self.secret is None else _by_secret(header, payload, self.secret))
        return JSONResponse({"id_token": self.issued[-1], "access_token": "x", "token_type": "Bearer"})


def _by_secret(header: dict[str, Any], payload: dict[str, Any], secret: bytes) -> str:
    """A token as nobody should sign it: made by hand, for a library refuses to."""
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, payload))
    signature = base64.urlsafe_b64encode(hmac.digest(secret, head + b"." + body, "sha256")).rstrip(b"=") if secret else b""
    return b".".join((head, body, signature)).decode()


@dataclass
class Gateway:
    """The app and its parts."""

    database: Database
    settings: SignInSettings
    clock: Hand
    hasher: CountingHasher
    parts: SignInParts
    app: FastAPI

    def browser(self, address: str = "192.0.2.1") -> httpx.AsyncClient:
        """A browser, with cookies of its own."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app, client=(address, 40_000)), base_url=HOST)

    async def add_user(self, name: str, *roles: str, locations: frozenset[str] | None = None, password: str | None = PASSWORD) -> None:
        """Make a user with PASSWORD."""
        user = User(
            name=name,
            display_name=name.title(),
            roles=frozenset(roles),
            locations=locations,
            password_hash=self.hasher.hash(password) if password is not None else None,
            created_at=self.clock(),
        )
        async with store.changing(self.database) as connection:
            await store.add_user(connection, user)

    async def signed_in(self, name: str, *, password: str = PASSWORD, address: str = "192.0.2.1") -> httpx.AsyncClient:
        """A browser in which a user is signed in, and which sends the CSRF token."""
        browser = self.browser(address)
        response = await sign_in(browser, name, password)
        assert response.status_code == 200, response.text
        browser.headers["X-CSRF-Token"] = response.json()["csrf_token"]
        return browser

    async def with_key(self, *scopes: str, **limits: Any) -> httpx.AsyncClient:
        """A program with a key that has these scopes."""
        _key, text = await self.parts.keys.make(Wanted(name=f"k{secrets.token_hex(4)}", scopes=frozenset(scopes), **limits), ADMIN)
        return bearer(self.browser(), text)

    async def trail(self) -> list[tuple[str, str, str | None]]:
        """The audit trail, oldest first: actor, what, about."""
        return [(entry.actor, entry.what, entry.about) for entry in reversed(await store.list_entries(self.database, None, 1_000))]

    def another_process(self) -> Keys:
        """The keys as another process of the gateway knows them."""
        return _keys(self.database, self.settings, self.clock)


@asynccontextmanager
async def open_gateway(url: str, *, time_cost: int = 1, provider: Provider | None = None, **settings: Any) -> AsyncGenerator[Gateway]:
    """A gateway over the database at `url`."""
    oidc: dict[str, Any] = {"oidc_issuer": ISSUER, "oidc_client_id": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET}
    oidc |= {"oidc_redirect_url": f"{HOST}/api/v1/oidc/callback", "oidc_roles": {"oms-admins": "admin", "oms-desk": "service-desk"}}
    made, clock, hasher = SignInSettings(**(oidc if provider else {}) | settings), Hand(), CountingHasher(time_cost=time_cost)
    database = await store.open_store(url)
    passwords = Passwords(at_once=2, waiting=50, hasher=hasher)
    http = httpx.AsyncClient(transport=httpx.ASGITransport((provider or Provider(keys=[])).app(clock)))
    try:
        sign_in_ = SignIn(database, passwords, made, clock, secrets.token_bytes)
        keys, cookies = _keys(database, made, clock), Cookies(secure=made.session_cookie_secure)
        authenticator, unlimited = Authenticator(keys, sign_in_, cookies), RateLimit(1e9, 10**9, clock.seconds)
        parts = SignInParts(
            database=database,
            passwords=passwords,
            sign_in=sign_in_,
            keys=keys,
            cookies=cookies,
            authenticator=authenticator,
            admission=Admission(identify=authenticator.identify, addresses=unlimited, identities=unlimited),
            provider=OidcProvider(made, http, clock, secrets.token_bytes) if provider else None,
            key_rotation_grace=made.key_rotation_grace,
            session_lifetime=made.session_lifetime,
            clock=clock,
        )
        app = FastAPI(exception_handlers=HANDLERS)
        app.include_router(make_sign_in_router(parts))
        yield Gateway(database=database, settings=made, clock=clock, hasher=hasher, parts=parts, app=app)
    finally:
        await http.aclose()
        passwords.close()
        await database.close()


def _keys(database: Database, settings: SignInSettings, clock: Hand) -> Keys:
    return Keys(database, cached=settings.key_cache, clock=clock, elapsed=clock.seconds, random=secrets.token_bytes)


def bearer(client: httpx.AsyncClient, key: str) -> httpx.AsyncClient:
    """The client, which sends a key from now on."""
    client.headers["Authorization"] = f"Bearer {key}"
    return client


async def sign_in(browser: httpx.AsyncClient, name: str, password: str = PASSWORD) -> httpx.Response:
    """Sign in."""
    return await browser.post("/api/v1/session", json={"name": name, "password": password})
