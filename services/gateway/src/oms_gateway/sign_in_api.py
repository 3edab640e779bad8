"""The part of the HTTP API that is about who may come in: sessions, users, keys, and the audit trail."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from oms_runtime.database import Connection, Database
from oms_runtime.paging import Page, key_of, page_of
from oms_runtime.problems import PROBLEM_JSON, PROBLEM_SCHEMA

from oms_gateway import store
from oms_gateway.authenticate import SESSION_COOKIE, Authenticator
from oms_gateway.identity import Identity
from oms_gateway.keys import Keys, Wanted, check_covered
from oms_gateway.oidc import SIGN_IN_WITHIN, OidcProvider, Pending
from oms_gateway.passwords import Passwords
from oms_gateway.refusals import Conflict, Forbidden, NotFound, Unauthenticated, Unavailable
from oms_gateway.sign_in_models import (
    AuditItem,
    Credentials,
    KeyItem,
    KeyMade,
    KeyRotation,
    Me,
    NewKey,
    NewUser,
    PasswordChange,
    SessionBegun,
    SessionsEnded,
    Text,
    UserChange,
    UserItem,
    in_order,
)
from oms_gateway.signin import NAME, Cookies, NewSession, SignIn, csrf_token_of
from oms_gateway.store import NameTaken, User

OIDC_COOKIE = "oms_oidc"

UserName = Annotated[str, Path(pattern=f"^{NAME.pattern}$", description="The user's name")]
KeyId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", description="The key's id: what stands between oms_ and the secret")]
After = Annotated[str | None, Query(max_length=500, description="The `next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=500, description="The most rows of a page")]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInParts:
    """What the router is made of. Without a `provider` nobody signs in by OpenID Connect."""

    database: Database
    passwords: Passwords
    sign_in: SignIn
    keys: Keys
    cookies: Cookies
    authenticator: Authenticator
    provider: OidcProvider | None
    key_rotation_grace: timedelta
    session_lifetime: timedelta
    clock: Callable[[], datetime]


def make_sign_in_router(parts: SignInParts) -> APIRouter:
    """The routes under /api/v1 about who may come in. The app that includes them needs `refusals.HANDLERS`."""
    router = APIRouter(prefix="/api/v1")
    _add_sessions(router, parts)
    _add_oidc(router, parts)
    _add_users(router, parts)
    _add_user_access(router, parts)
    _add_keys(router, parts)
    _add_audit_trail(router, parts)
    return router


def _add_sessions(router: APIRouter, parts: SignInParts) -> None:
    identify, sign_in, cookies = parts.authenticator.identify, parts.sign_in, parts.cookies

    @router.post("/session", summary="Sign in", responses=_problems(401, 403, 422, 429, 503), tags=["sign-in"])
    async def begin(credentials: Credentials, request: Request, response: Response) -> SessionBegun:
        # No session vouches for this request yet. A page of another site must not sign its visitor in as somebody else.
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            raise Forbidden("another site may not sign in here", "sign in on a page of this server")
        begun = await sign_in.with_password(
            credentials.name, credentials.password.get_secret_value(), _address(request), had=parts.authenticator.session_token(request)
        )
        _give(response, parts, begun)
        return SessionBegun(
            **Me.of(begun.user.identity(), begun.csrf_token).model_dump(),
            expires_at=begun.expires_at,
        )

    @router.delete("/session", status_code=204, summary="Sign out", responses=_problems(401, 403, 409, 422), tags=["sign-in"])
    async def end(
        request: Request, response: Response, everywhere: Annotated[bool, Query(description="End all sessions of this user")] = False
    ) -> None:
        identity, token = await identify(request), parts.authenticator.session_token(request)
        if token is None or "Authorization" in request.headers:
            raise Conflict("a key has no session", "DELETE /api/v1/keys/{id} revokes it")
        if everywhere:
            await sign_in.end_all(identity.actor, identity.actor.removeprefix("user:"))
        else:
            await sign_in.end(token)
        cookies.remove(response, SESSION_COOKIE)
        response.headers["Cache-Control"] = "no-store"

    @router.get("/me", summary="Who asks, and what they may do", responses=_problems(401), tags=["sign-in"])
    async def me(request: Request, response: Response) -> Me:
        identity, token = await identify(request), parts.authenticator.session_token(request)
        response.headers["Cache-Control"] = "no-store"
        by_session = token is not None and "Authorization" not in request.headers
        return Me.of(identity, csrf_token_of(token) if by_session and token is not None else None)


def _add_oidc(router: APIRouter, parts: SignInParts) -> None:
    cookies = parts.cookies

    def provider() -> OidcProvider:
        if parts.provider is None:
            raise NotFound("no OpenID provider is set", "sign in with name and password at /api/v1/session")
        return parts.provider

    @router.get(
        "/oidc/start",
        status_code=303,
        response_class=RedirectResponse,
        summary="Sign in at the OpenID provider",
        responses=_problems(404, 422, 503),
        tags=["sign-in"],
    )
    async def start(return_to: Annotated[str, Query(description="The path to come back to")] = "/") -> RedirectResponse:
        url, pending = await provider().start(return_to)
        response = RedirectResponse(url, status_code=303, headers={"Cache-Control": "no-store"})
        cookies.put(response, OIDC_COOKIE, pending.to_cookie(), SIGN_IN_WITHIN)
        return response

    @router.get(
        "/oidc/callback",
        status_code=303,
        response_class=RedirectResponse,
        summary="Where the OpenID provider sends the browser back to",
        responses=_problems(401, 403, 404, 422, 503),
        tags=["sign-in"],
    )
    async def callback(
        request: Request, state: str | None = None, code: str | None = None, error: str | None = None, iss: str | None = None
    ) -> RedirectResponse:
        kept = cookies.get(request, OIDC_COOKIE)
        if kept is None:
            raise Unauthenticated("this is no sign-in that began here", "begin again at /api/v1/oidc/start")
        pending = Pending.from_cookie(kept)
        try:
            person = await provider().finish(pending, state=state, code=code, error=error, issuer=iss)
        except (Unauthenticated, Unavailable) as refusal:
            async with store.changing(parts.database) as connection:
                reason = "; ".join((refusal.title, *refusal.reasons))
                await store.note(connection, parts.clock(), "unknown", "sign-in-failed", how="oidc", reason=reason)
            raise
        begun = await parts.sign_in.with_provider(person, had=parts.authenticator.session_token(request))
        response = RedirectResponse(pending.return_to, status_code=303)
        _give(response, parts, begun)
        cookies.remove(response, OIDC_COOKIE)
        return response


def _add_users(router: APIRouter, parts: SignInParts) -> None:
    database = parts.database

    @router.get("/users", summary="Users, by name", responses=_problems(401, 403, 422), tags=["users"])
    async def users(request: Request, after: After = None, limit: Limit = 100) -> Page[UserItem]:
        await parts.authenticator.allow(request, "users:admin")
        [name] = key_of(after, str) if after is not None else ("",)
        found = await store.list_users(database, name, limit + 1)
        return page_of([UserItem.of(user) for user in found], limit, lambda item: (item.name,))

    @router.post("/users", status_code=201, summary="Make a user", responses=_problems(401, 403, 409, 422, 503), tags=["users"])
    async def create(wanted: NewUser, request: Request) -> UserItem:
        by = await parts.authenticator.allow(request, "users:admin")
        now = parts.clock()
        user = User(
            name=wanted.name,
            display_name=wanted.display_name,
            roles=frozenset(wanted.roles),
            locations=wanted.locations,
            created_at=now,
        )
        check_covered(by, user.scopes, None, user.locations)
        user = replace(user, password_hash=await parts.passwords.hash(wanted.password.get_secret_value()))
        try:
            async with store.changing(database) as connection:
                await store.add_user(connection, user)
                await store.note(
                    connection, now, by.actor, "user-created", user.actor, roles=sorted(user.roles), locations=in_order(user.locations)
                )
        except NameTaken as error:
            raise Conflict(f"there is a user {user.name} already", "name: choose another one") from error
        return UserItem.of(user)

    @router.patch("/users/{name}", summary="Change a user, or disable it", responses=_problems(401, 403, 404, 409, 422), tags=["users"])
    async def change(name: UserName, change: UserChange, request: Request) -> UserItem:
        by = await parts.authenticator.allow(request, "users:admin")
        now, given = parts.clock(), change.model_fields_set
        async with store.changing(database) as connection:
            user = await _managed(connection, name, by)
            if user.actor == by.actor and given & {"roles", "locations", "disabled"}:
                raise Conflict("nobody changes their own rights", "ask another administrator")
            if change.roles is not None and user.oidc_issuer is not None:
                raise Conflict(f"the OpenID provider decides on the roles of {name}", "roles: change them there")
            changed = replace(
                user,
                display_name=change.display_name if change.display_name is not None else user.display_name,
                roles=frozenset(change.roles) if change.roles is not None else user.roles,
                locations=change.locations if "locations" in given else user.locations,
                disabled_at=(user.disabled_at or now if change.disabled else None) if change.disabled is not None else user.disabled_at,
            )
            check_covered(by, changed.scopes, None, changed.locations)
            await store.put_user(connection, changed)
            if changed.disabled_at is not None:
                await store.end_sessions(connection, name)
            detail = {field: value for field, value in UserItem.of(changed).model_dump(mode="json").items() if field in _CHANGEABLE}
            await store.note(connection, now, by.actor, "user-changed", user.actor, **detail)
        return UserItem.of(changed)


def _add_user_access(router: APIRouter, parts: SignInParts) -> None:
    database = parts.database

    @router.put(
        "/users/{name}/password",
        status_code=204,
        summary="Set a user's password, and end its sessions",
        responses=_problems(401, 403, 404, 409, 422, 503),
        tags=["users"],
    )
    async def set_password(name: UserName, wanted: PasswordChange, request: Request) -> None:
        by = await parts.authenticator.allow(request, "users:admin")
        password_hash = await parts.passwords.hash(wanted.password.get_secret_value())
        async with store.changing(database) as connection:
            user = await _managed(connection, name, by)
            if user.oidc_issuer is not None:
                raise Conflict(f"{name} signs in at the OpenID provider", "its password is kept there")
            await store.put_user(connection, replace(user, password_hash=password_hash))
            await store.end_sessions(connection, name)
            await store.note(connection, parts.clock(), by.actor, "password-set", user.actor)

    @router.delete("/users/{name}/sessions", summary="Sign a user out everywhere", responses=_problems(401, 403, 404, 422), tags=["users"])
    async def end_sessions(name: UserName, request: Request) -> SessionsEnded:
        by = await parts.authenticator.allow(request, "users:admin")
        async with store.changing(database) as connection:
            await _managed(connection, name, by)
        return SessionsEnded(sessions=await parts.sign_in.end_all(by.actor, name))


def _add_keys(router: APIRouter, parts: SignInParts) -> None:
    keys = parts.keys

    @router.get("/keys", summary="Keys, newest first", responses=_problems(401, 403, 422), tags=["keys"])
    async def list_keys(request: Request, after: After = None, limit: Limit = 100) -> Page[KeyItem]:
        await parts.authenticator.allow(request, "keys:admin")
        place = key_of(after, datetime, str) if after is not None else None
        found = await store.list_keys(parts.database, (place[0], place[1]) if place is not None else None, limit + 1)
        return page_of([KeyItem.of(key) for key in found], limit, lambda item: (item.created_at, item.id))

    @router.post("/keys", status_code=201, summary="Make a key; it is shown once", responses=_problems(401, 403, 409, 422), tags=["keys"])
    async def make(wanted: NewKey, request: Request, response: Response) -> KeyMade:
        by = await parts.authenticator.allow(request, "keys:admin")
        key, text = await keys.make(
            Wanted(
                name=wanted.name, scopes=wanted.scopes, channel=wanted.channel, locations=wanted.locations, expires_at=wanted.expires_at
            ),
            by,
        )
        response.headers["Cache-Control"] = "no-store"
        return KeyMade.shown(key, text)

    @router.post(
        "/keys/{key_id}/rotate",
        status_code=201,
        summary="Make a key that replaces another; it is shown once",
        responses=_problems(401, 403, 404, 409, 422),
        tags=["keys"],
    )
    async def rotate(key_id: KeyId, rotation: KeyRotation, request: Request, response: Response) -> KeyMade:
        by = await parts.authenticator.allow(request, "keys:admin")
        grace = parts.key_rotation_grace if rotation.grace_seconds is None else timedelta(seconds=rotation.grace_seconds)
        key, text = await keys.rotate(key_id, by, expires_at=rotation.expires_at, grace=grace)
        response.headers["Cache-Control"] = "no-store"
        return KeyMade.shown(key, text)

    @router.delete("/keys/{key_id}", status_code=204, summary="Revoke a key", responses=_problems(401, 403, 404, 422), tags=["keys"])
    async def revoke(key_id: KeyId, request: Request) -> None:
        await keys.revoke(key_id, await parts.authenticator.allow(request, "keys:admin"))


def _add_audit_trail(router: APIRouter, parts: SignInParts) -> None:
    @router.get(
        "/audit-trail", summary="Sign-ins, and changes of users and keys, newest first", responses=_problems(401, 403, 422), tags=["users"]
    )
    async def audit_trail(
        request: Request,
        actor: Annotated[Text | None, Query(description="Who did it: user:ada")] = None,
        about: Annotated[Text | None, Query(description="About whom or what it is: user:ada, key:till-7")] = None,
        after: After = None,
        limit: Limit = 100,
    ) -> Page[AuditItem]:
        await parts.authenticator.allow(request, "users:admin")
        [before] = key_of(after, int) if after is not None else (None,)
        entries = await store.list_entries(parts.database, before, limit + 1, actor=actor, about=about)
        page = page_of(entries, limit, lambda entry: (entry.position,))
        return Page(items=[AuditItem.of(entry) for entry in page.items], next=page.next)


_CHANGEABLE = frozenset({"display_name", "roles", "locations", "disabled_at"})

_DESCRIPTIONS = {
    401: "Nobody is known by what the request shows",
    403: "A scope is missing, or the session's CSRF token",
    404: "There is no such thing",
    409: "It is not as the request needs it to be",
    422: "A field is not sound; every one is named",
    429: "Too many sign-ins failed; Retry-After says when to try again",
    503: "It cannot be done now; try again",
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _DESCRIPTIONS[status], "content": {PROBLEM_JSON: {"schema": PROBLEM_SCHEMA}}} for status in statuses}


async def _managed(connection: Connection, name: str, by: Identity) -> User:
    """The user, kept from others' changes. Whoever sets a password could come in as the user: so they must have as much themselves."""
    user = await store.find_user(connection, name, for_change=True)
    if user is None:
        raise NotFound(f"there is no user {name}")
    check_covered(by, user.scopes, None, user.locations)
    return user


def _give(response: Response, parts: SignInParts, begun: NewSession) -> None:
    parts.cookies.put(response, SESSION_COOKIE, begun.token, parts.session_lifetime)
    response.headers["Cache-Control"] = "no-store"


def _address(request: Request) -> str:
    """Where a request comes from. Behind a proxy it is what that says, where FORWARDED_ALLOW_IPS names the proxy."""
    return request.client.host if request.client is not None else "unknown"
