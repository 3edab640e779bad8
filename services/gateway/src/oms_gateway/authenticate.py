"""Who sent a request: known by a key (`Authorization: Bearer oms_…`), or by a session's cookie, with its CSRF token for changes."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import Request
from oms_runtime.bearer import bears
from pydantic import SecretStr

from oms_gateway.identity import ROLES, Identity
from oms_gateway.keys import Keys
from oms_gateway.refusals import Forbidden, Unauthenticated
from oms_gateway.signin import Cookies, SignIn, csrf_token_of

Identify = Callable[[Request], Awaitable[Identity]]
"""Who sent a request. Raises Unauthenticated or Forbidden."""

INSTALLATION = Identity(actor="key:installation", scopes=ROLES["operator"])
SESSION_COOKIE = "oms_session"
CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing, so that another site may well have the browser send them: it does not see the answer."""


class Authenticator:
    """Knows who sent a request. A key is never tried as a session, nor the other way round."""

    def __init__(self, keys: Keys, sign_in: SignIn, cookies: Cookies, installation_key: SecretStr | None = None) -> None:
        """`installation_key` is that of the installation's own programs."""
        self._installation_key = installation_key
        self._keys = keys
        self._sign_in = sign_in
        self._cookies = cookies

    async def identify(self, request: Request) -> Identity:
        """Who sent a request. Raises Unauthenticated, or Forbidden where a session's CSRF token is missing."""
        if self._installation_key is not None and bears(request.headers, self._installation_key):
            return INSTALLATION
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, text = header.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated("a key is sent as Authorization: Bearer")
            return await self._keys.identify(text.strip())
        token = self.session_token(request)
        if token is None:
            raise Unauthenticated("nobody is signed in", "send a key as Authorization: Bearer, or sign in at /api/v1/session")
        session = await self._sign_in.find(token)
        if session is None:
            raise Unauthenticated("the session has ended", "sign in again at /api/v1/session")
        if request.method not in SAFE_METHODS and not hmac.compare_digest(
            request.headers.get(CSRF_HEADER, "").encode(), csrf_token_of(token).encode()
        ):
            raise Forbidden("the CSRF token is missing, or is that of another session", f"{CSRF_HEADER}: GET /api/v1/me says it")
        return session.user.identity()

    def session_token(self, request: Request) -> str | None:
        """The token of the browser's session, valid or not."""
        return self._cookies.get(request, SESSION_COOKIE)
