"""Who sent a request, by the one key that the settings name."""

from collections.abc import Awaitable, Callable

from oms_runtime.bearer import bears
from pydantic import SecretStr
from starlette.requests import Request

from oms_gateway.identity import ROLES, Identity

Identify = Callable[[Request], Awaitable[Identity]]
"""Whoever sent a request. Raises NotIdentified."""

OPERATOR = Identity(actor="key:gateway", scopes=ROLES["operator"])


class NotIdentified(Exception):
    """A request shows no credential, or one that is not valid."""


def by_key(key: SecretStr | None) -> Identify:
    """Takes who shows `key` for an operator, and nobody else. Without a key nobody is known."""

    async def identify(request: Request) -> Identity:
        if key is None or not bears(request.headers, key):
            raise NotIdentified
        return OPERATOR

    return identify
