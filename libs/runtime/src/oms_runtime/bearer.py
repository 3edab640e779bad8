"""One credential that a client shows in `Authorization: Bearer`, compared in constant time."""

from hmac import compare_digest

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from oms_runtime.problems import problem


def bears(headers: Headers, token: SecretStr) -> bool:
    """Whether a request's headers show `token`."""
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    # Starlette decodes headers as Latin-1.
    return compare_digest(shown.encode("latin-1"), token.get_secret_value().encode()) and scheme.lower() == "bearer"


class BearerOnly:
    """Middleware that answers 401 to a request without `token`, before its body is read. Paths in `open_to_all` need none.

    `hint` tells the client which token is meant.
    """

    def __init__(self, app: ASGIApp, *, token: SecretStr, hint: str, open_to_all: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._token = token
        self._hint = hint
        self._open_to_all = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["path"] not in self._open_to_all and not bears(Headers(scope=scope), self._token):
            headers = {"www-authenticate": "Bearer"}
            app = problem(401, "the request has no valid credential", f"Authorization: must be Bearer and {self._hint}", headers=headers)
        await app(scope, receive, send)
