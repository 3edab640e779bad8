"""OpenID Connect: the authorization code flow with PKCE, state and nonce.

What a sign-in needs until the browser comes back (state, nonce, PKCE verifier) is in a cookie of that browser, so nobody can have the
gateway keep things by beginning sign-ins, and a callback from another browser is refused. A person is known by issuer and subject, never by
an e-mail address.
"""

import asyncio
import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

import httpx
import msgspec
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from oms_gateway.refusals import Invalid, Unauthenticated, Unavailable
from oms_gateway.settings import SignInSettings
from oms_gateway.signin import Person

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384")
"""Of an ID token's signature: with a public key alone, never with a secret, never with none."""
TIMEOUT_SECONDS = 5
MAX_BYTES = 256 * 1024
"""Of an answer of the provider."""
MAX_KEYS = 100
KEPT = timedelta(hours=1)
"""How long discovery and keys are believed."""
KEYS_AGAIN = timedelta(seconds=30)
"""A token with a key that is not known has the keys read again, but no more often than this."""
LEEWAY_SECONDS = 30
"""By which the provider's clock may differ."""
SIGN_IN_WITHIN = timedelta(minutes=10)
MAX_TEXT = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A sign-in that the browser is away for. `return_to` is the path that it comes back to in the end."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    return_to: str
    began: float

    def to_cookie(self) -> str:
        """As a cookie's value."""
        return urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def from_cookie(cls, value: str) -> "Pending":
        """The sign-in of a cookie. Raises Invalid."""
        try:
            return msgspec.json.decode(urlsafe_b64decode(value + "=" * (-len(value) % 4)), type=cls)
        except (ValueError, msgspec.MsgspecError) as error:
            raise Invalid("this is no sign-in that began here", "begin again at /api/v1/oidc/start") from error


class _Discovery(msgspec.Struct, frozen=True):
    """What is used of a provider's configuration."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _KeyList(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str


class OidcProvider:
    """The OpenID provider of the settings, reached by `http`. `clock` gives the time, `random` so many random bytes."""

    def __init__(
        self, settings: SignInSettings, http: httpx.AsyncClient, clock: Callable[[], datetime], random: Callable[[int], bytes]
    ) -> None:
        """Raises ValueError where the settings name no provider."""
        if settings.oidc_issuer is None or settings.oidc_client_id is None or settings.oidc_redirect_url is None:
            raise ValueError("OMS_OIDC_ISSUER is not set")
        self._settings = settings
        self._issuer, self._client_id, self._redirect_url = settings.oidc_issuer, settings.oidc_client_id, settings.oidc_redirect_url
        self._http = http
        self._clock = clock
        self._random = random
        self._discovered: tuple[datetime, _Discovery] | None = None
        self._keys: tuple[datetime, KeySet] | None = None

    async def start(self, return_to: str) -> tuple[str, Pending]:
        """Where to send the browser, and what to give it along. Raises Invalid for a `return_to` elsewhere, and Unavailable."""
        if not _is_local(return_to):
            raise Invalid("a parameter is not sound", "return_to: must be a path of this server, such as /")
        discovery = await self._discovery()
        pending = Pending(
            state=self._text(), nonce=self._text(), verifier=self._text(), return_to=return_to, began=self._clock().timestamp()
        )
        challenge = urlsafe_b64encode(hashlib.sha256(pending.verifier.encode()).digest()).decode().rstrip("=")
        parameters = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._redirect_url,
            "scope": self._settings.oidc_scopes,
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if urlsplit(discovery.authorization_endpoint).query else "?"
        return f"{discovery.authorization_endpoint}{joint}{urlencode(parameters)}", pending

    async def finish(self, pending: Pending, *, state: str | None, code: str | None, error: str | None, issuer: str | None) -> Person:
        """Who has signed in, by what the browser brought back.

        Raises Unauthenticated where it does not belong to `pending` or the provider does not vouch for anybody, and Unavailable where the
        provider does not answer as it should.
        """
        if state is None or not hmac.compare_digest(state.encode(), pending.state.encode()):
            raise _refused("the answer is that of another sign-in")
        age = self._clock().timestamp() - pending.began
        if not 0 <= age <= SIGN_IN_WITHIN.total_seconds():
            raise _refused("it took too long")
        if issuer is not None and issuer != self._issuer:
            raise _refused("the answer comes from another provider")
        if code is None:
            raise _refused(f"the provider says {error}" if error is not None and re.fullmatch(r"[a-z_]{1,64}", error) else "without a code")
        token = await self._exchange(code, pending.verifier)
        return self._person(await self._claims(token, pending.nonce))

    async def _exchange(self, code: str, verifier: str) -> str:
        """The ID token for an authorization code."""
        discovery = await self._discovery()
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._redirect_url, "code_verifier": verifier}
        auth: httpx.BasicAuth | None = None
        secret = self._settings.oidc_client_secret
        if secret is not None and "client_secret_basic" in discovery.token_endpoint_auth_methods_supported:
            # RFC 6749 has both encoded as in a form first.
            auth = httpx.BasicAuth(quote(self._client_id, safe=""), quote(secret.get_secret_value(), safe=""))
        else:
            form |= {"client_id": self._client_id} | ({"client_secret": secret.get_secret_value()} if secret is not None else {})
        status, body = await self._ask("POST", discovery.token_endpoint, data=form, auth=auth)
        if status == 400:
            raise _refused("the provider does not take the code")
        return _decoded(status, body, _Tokens, "token endpoint").id_token

    async def _claims(self, token: str, nonce: str) -> Mapping[str, Any]:
        """The claims of an ID token that the provider has signed for us, for this sign-in."""
        registry = jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            try:
                claims = jwt.decode(token, await self._key_set(), algorithms=ALGORITHMS).claims
            except InvalidKeyIdError:  # the provider may have a new one
                claims = jwt.decode(token, await self._key_set(again=True), algorithms=ALGORITHMS).claims
            registry.validate(claims)
        except (JoseError, ValueError) as error:  # the text of a claim's error names the claim, never its value
            raise _refused(f"the ID token is not sound ({type(error).__name__})") from error
        # A token for several is for us if we asked for it.
        audience: Any = claims["aud"]
        for_several = audience not in (self._client_id, [self._client_id])
        if claims.get("azp", None if for_several else self._client_id) != self._client_id:
            raise _refused("the ID token was made for another client")
        return claims

    def _person(self, claims: Mapping[str, Any]) -> Person:
        subject = claims["sub"]
        if not 0 < len(subject) <= 255 or "\0" in subject:
            raise _refused("the ID token is not sound (sub)")
        value: Any = claims.get(self._settings.oidc_role_claim)
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        roles = frozenset(self._settings.oidc_roles[text] for text in values if isinstance(text, str) and text in self._settings.oidc_roles)
        # Events have the name for ever: what follows an @ is left out, so that it is no e-mail address.
        preferred = str(claims.get("preferred_username") or "").partition("@")[0].lower()
        name = re.sub(r"[^a-z0-9._-]", "", preferred).lstrip("._-")[:64] or hashlib.sha256(subject.encode()).hexdigest()[:16]
        shown = "".join(c for c in str(claims.get("name") or "") if c.isprintable()).strip()[:MAX_TEXT] or name
        return Person(issuer=self._issuer, subject=subject, name=name, display_name=shown, roles=roles)

    async def _discovery(self) -> _Discovery:
        """The provider's configuration, at most KEPT old."""
        now = self._clock()
        if self._discovered is None or now - self._discovered[0] >= KEPT:
            url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
            found = _decoded(*await self._ask("GET", url), _Discovery, "configuration")
            if found.issuer != self._issuer:
                raise Unavailable(
                    "the OpenID provider is not the one that is set", "OMS_OIDC_ISSUER must be what its configuration has as issuer"
                )
            urls = (found.authorization_endpoint, found.token_endpoint, found.jwks_uri)
            if any(urlsplit(url).scheme != urlsplit(self._issuer).scheme for url in urls):
                raise Unavailable("the OpenID provider's configuration is not sound", "its endpoints must be https URLs")
            self._discovered = now, found
        return self._discovered[1]

    async def _key_set(self, *, again: bool = False) -> KeySet:
        """The provider's public keys, at most KEPT old; `again`: at most KEYS_AGAIN."""
        now = self._clock()
        if self._keys is None or now - self._keys[0] >= (KEYS_AGAIN if again else KEPT):
            url = (await self._discovery()).jwks_uri
            listed = _decoded(*await self._ask("GET", url), _KeyList, "keys").keys
            if len(listed) > MAX_KEYS:
                raise Unavailable("the OpenID provider does not answer as it should", f"it has more than {MAX_KEYS} keys")
            try:
                self._keys = now, KeySet.import_key_set({"keys": listed})
            except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise Unavailable("the OpenID provider does not answer as it should", "its keys cannot be read") from error
        return self._keys[1]

    async def _ask(self, method: str, url: str, **options: Any) -> tuple[int, bytes]:
        """Status and body of an answer of the provider. Raises Unavailable."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}  # what is not packed cannot grow
        body = bytearray()
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._http.stream(method, url, headers=headers, follow_redirects=False, timeout=TIMEOUT_SECONDS, **options) as response,
            ):
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > MAX_BYTES:
                        raise Unavailable("the OpenID provider does not answer as it should", f"an answer has more than {MAX_BYTES} bytes")
                return response.status_code, bytes(body)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise Unavailable("the OpenID provider does not answer", f"{type(error).__name__}: try again in a moment") from error

    def _text(self) -> str:
        return urlsafe_b64encode(self._random(32)).decode().rstrip("=")


def _decoded(status: int, body: bytes, kind: type[T], what: str) -> T:
    if status == 200:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            raise Unavailable("the OpenID provider does not answer as it should", f"its {what} cannot be read: {error}") from error
    raise Unavailable("the OpenID provider does not answer as it should", f"its {what} answers {status}")


def _is_local(path: str) -> bool:
    """Whether it is a path of this server. Browsers take a second slash, or a backslash, for the begin of another host's name."""
    return len(path) <= 1_000 and path.isprintable() and path.isascii() and re.match(r"/(?![/\\])", path) is not None and "\\" not in path


def _refused(reason: str) -> Unauthenticated:
    return Unauthenticated("the sign-in was not completed", f"{reason}: begin again at /api/v1/oidc/start")
