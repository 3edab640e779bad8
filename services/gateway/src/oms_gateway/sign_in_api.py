"""The part of the HTTP API that is about who may come in: sessions, users, keys, and the audit trail."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from oms_runtime.database import Connection, Database
from oms_runtime.paging import Page, key_of, page_of
from oms_runtime.parameters import refuse_unknown_parameters
from oms_runtime.problems import PROBLEM_JSON, PROBLEM_SCHEMA

from oms_gateway import store
from oms_gateway.authenticate import SESSION_COOKIE, Authenticator
from oms_gateway.document import SECURITY
from oms_gateway.identity import Identity
from oms_gateway.keys import Keys, Wanted, check_covered
from oms_gateway.limits import Admission
from oms_gateway.oidc import SIGN_IN_WITHIN, OidcProvider, Pending
from oms_gateway.passwords import Passwords
from oms_gateway.refusals import Conflict, Forbidden, NotFound, Unauthenticated, Unavailable
from oms_gateway.sign_in_models import (
    AuditItem,
    Credentials,
    KeyItem,
    KeyMade,
    KeyRotation,
    LockLifted,
    Me,
    NewKey,
    NewUser,
    OwnPasswordChange,
    PasswordChange,
    SessionBegun,
    SessionsEnded,
    Text,
    UserChange,
    UserDetail,
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
    admission: Admission
    provider: OidcProvider | None
    key_rotation_grace: timedelta
    session_lifetime: timedelta
    clock: Callable[[], datetime]


def _by(request: Request) -> Identity:
    return request.state.identity


By = Annotated[Identity, Depends(_by)]
"""Who sent the request, as `_route_class` has found out."""


def _route_class(admission: Admission, scope: str | None) -> type[APIRoute]:
    """A route that lets in whoever has `scope` (None: whoever is known), before it looks at the parameters and reads the body."""

    class AdmittedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def admit(request: Request) -> Response:
                identity = request.state.identity = await admission.admit(request)
                if scope is not None and not identity.may(scope):
                    raise Forbidden(f"that needs the scope {scope}", "ask for a role, or a key, that has it")
                await refuse_unknown_parameters(request)
                return await handle(request)

            return admit

    return AdmittedRoute


def _public_route_class(admission: Admission) -> type[APIRoute]:
    """A route that lets anybody in, but no address too often."""

    class PublicRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def admit(request: Request) -> Response:
                admission.admit_anybody(request)
                return await handle(request)

            return admit

    return PublicRoute


def make_sign_in_router(parts: SignInParts) -> APIRouter:
    """The routes under /api/v1 about who may come in. The app that includes them needs `refusals.HANDLERS`."""
    router = APIRouter(prefix="/api/v1")
    router.include_router(_sign_in_routes(parts), tags=["sign-in"])
    router.include_router(_session_routes(parts), tags=["sign-in"])
    router.include_router(_user_routes(parts), tags=["users"])
    router.include_router(_key_routes(parts), tags=["keys"])
    return router


def _sign_in_routes(parts: SignInParts) -> APIRouter:
    """The routes of those who are not known yet."""
    router, cookies = APIRouter(route_class=_public_route_class(parts.admission)), parts.cookies
    no_other = [Depends(refuse_unknown_parameters)]

    @router.post("/session", summary="Sign in", responses=_problems(401, 403, 408, 413, 422, 429, 503), dependencies=no_other)
    async def begin(credentials: Credentials, request: Request, response: Response) -> SessionBegun:
        # No session vouches for this request yet. A page of another site must not sign its visitor in as somebody else.
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            raise Forbidden("another site may not sign in here", "sign in on a page of this server")
        begun = await parts.sign_in.with_password(
            credentials.name, credentials.password.get_secret_value(), _address(request), had=parts.authenticator.session_token(request)
        )
        _give(response, parts, begun)
        return SessionBegun(
            **Me.of(begun.user.identity(), begun.csrf_token).model_dump(),
            expires_at=begun.expires_at,
        )

    def provider() -> OidcProvider:
        if parts.provider is None:
            raise NotFound("no OpenID provider is set", "sign in with name and password at /api/v1/session")
        return parts.provider

    @router.get(
        "/oidc/start",
        status_code=303,
        response_class=RedirectResponse,
        summary="Sign in at the OpenID provider",
        responses=_problems(404, 422, 429, 503),
        dependencies=no_other,
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
        description="Parameters that are not known here are ignored, as RFC 6749 has it: providers add some of their own.",
        responses=_problems(401, 403, 404, 422, 429, 503),
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

    return router


def _session_routes(parts: SignInParts) -> APIRouter:
    """The routes of whoever is known, about themselves."""
    router, sign_in = APIRouter(route_class=_route_class(parts.admission, None)), parts.sign_in

    def session_token(request: Request, otherwise: str) -> str:
        token = parts.authenticator.session_token(request)
        if token is None or "Authorization" in request.headers:
            raise Conflict("a key has no session", otherwise)
        return token

    @router.delete(
        "/session", status_code=204, summary="Sign out", responses=_problems(401, 403, 409, 422, 429, 503), openapi_extra=_needs()
    )
    async def end(
        by: By,
        request: Request,
        response: Response,
        everywhere: Annotated[bool, Query(description="End all sessions of this user")] = False,
    ) -> None:
        token = session_token(request, "DELETE /api/v1/keys/{id} revokes it")
        if everywhere:
            await sign_in.end_all(by.actor, _name_of(by))
        else:
            await sign_in.end(token)
        parts.cookies.remove(response, SESSION_COOKIE)
        response.headers["Cache-Control"] = "no-store"

    @router.get("/me", summary="Who asks, and what they may do", responses=_problems(401, 422, 429, 503), openapi_extra=_needs())
    async def me(by: By, request: Request, response: Response) -> Me:
        token = parts.authenticator.session_token(request)
        response.headers["Cache-Control"] = "no-store"
        by_session = token is not None and "Authorization" not in request.headers
        return Me.of(by, csrf_token_of(token) if by_session and token is not None else None)

    @router.put(
        "/me/password",
        summary="Change one's own password, and end one's other sessions",
        description="It is a sign-in attempt: a wrong old password counts for the lock of the name and of the address.",
        responses=_problems(401, 403, 408, 409, 413, 422, 429, 503),
        openapi_extra=_needs(),
    )
    async def change_password(change: OwnPasswordChange, by: By, request: Request) -> SessionsEnded:
        token = session_token(request, "a key has no password: PUT /api/v1/users/{name}/password sets that of a user")
        user = await store.find_user(parts.database, _name_of(by))
        if user is None:
            raise Unauthenticated("the session has ended", "sign in again at /api/v1/session")
        old, new = change.old_password.get_secret_value(), change.new_password.get_secret_value()
        return SessionsEnded(sessions=await sign_in.change_password(user, old, new, _address(request), token))

    return router


def _user_routes(parts: SignInParts) -> APIRouter:
    router, database = APIRouter(route_class=_route_class(parts.admission, "users:admin")), parts.database
    needs = _needs("users:admin")

    @router.get("/users", summary="Users, by name", responses=_problems(401, 403, 422, 429, 503), openapi_extra=needs)
    async def users(after: After = None, limit: Limit = 100) -> Page[UserItem]:
        [name] = key_of(after, str) if after is not None else ("",)
        found = await store.list_users(database, name, limit + 1)
        return page_of([UserItem.of(user) for user in found], limit, lambda item: (item.name,))

    @router.post(
        "/users",
        status_code=201,
        summary="Make a user",
        responses=_problems(401, 403, 408, 409, 413, 422, 429, 503),
        openapi_extra=needs,
    )
    async def create(wanted: NewUser, by: By) -> UserItem:
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

    @router.get(
        "/users/{name}",
        summary="A user, and how it stands with their sign-in",
        responses=_problems(401, 403, 404, 422, 429, 503),
        openapi_extra=needs,
    )
    async def one(name: UserName) -> UserDetail:
        user = await store.find_user(database, name)
        if user is None:
            raise _no_user(name)
        lock, sessions = await parts.sign_in.lock_of(name), await parts.sign_in.count_sessions(name)
        return UserDetail(**UserItem.of(user).model_dump(), failures=lock.failures, locked_until=lock.locked_until, sessions=sessions)

    @router.patch(
        "/users/{name}",
        summary="Change a user, or disable it",
        responses=_problems(401, 403, 404, 408, 409, 413, 422, 429, 503),
        openapi_extra=needs,
    )
    async def change(name: UserName, change: UserChange, by: By) -> UserItem:
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

    _add_user_access(router, parts, needs)
    _add_audit_trail(router, parts, needs)
    return router


def _add_user_access(router: APIRouter, parts: SignInParts, needs: dict[str, Any]) -> None:
    database = parts.database

    @router.put(
        "/users/{name}/password",
        status_code=204,
        summary="Set a user's password, and end its sessions",
        responses=_problems(401, 403, 404, 408, 409, 413, 422, 429, 503),
        openapi_extra=needs,
    )
    async def set_password(name: UserName, wanted: PasswordChange, by: By) -> None:
        password_hash = await parts.passwords.hash(wanted.password.get_secret_value())
        async with store.changing(database) as connection:
            user = await _managed(connection, name, by)
            if user.oidc_issuer is not None:
                raise Conflict(f"{name} signs in at the OpenID provider", "its password is kept there")
            await store.put_user(connection, replace(user, password_hash=password_hash))
            await store.end_sessions(connection, name)
            await store.note(connection, parts.clock(), by.actor, "password-set", user.actor)

    @router.delete(
        "/users/{name}/sessions",
        summary="Sign a user out everywhere",
        responses=_problems(401, 403, 404, 422, 429, 503),
        openapi_extra=needs,
    )
    async def end_sessions(name: UserName, by: By) -> SessionsEnded:
        async with store.changing(database) as connection:
            await _managed(connection, name, by)
        return SessionsEnded(sessions=await parts.sign_in.end_all(by.actor, name))

    @router.delete(
        "/users/{name}/lock",
        summary="Lift the lock of a user's name",
        description="Failed sign-ins of the name count no more. An address that is locked stays so.",
        responses=_problems(401, 403, 404, 422, 429, 503),
        openapi_extra=needs,
    )
    async def lift_lock(name: UserName, by: By) -> LockLifted:
        async with store.changing(database) as connection:
            await _managed(connection, name, by)
        lock = await parts.sign_in.lift_lock(by.actor, name)
        return LockLifted(failures=lock.failures, locked_until=lock.locked_until)


def _key_routes(parts: SignInParts) -> APIRouter:
    router, keys = APIRouter(route_class=_route_class(parts.admission, "keys:admin")), parts.keys
    needs = _needs("keys:admin")

    @router.get("/keys", summary="Keys, newest first", responses=_problems(401, 403, 422, 429, 503), openapi_extra=needs)
    async def list_keys(after: After = None, limit: Limit = 100) -> Page[KeyItem]:
        place = key_of(after, datetime, str) if after is not None else None
        found = await store.list_keys(parts.database, (place[0], place[1]) if place is not None else None, limit + 1)
        return page_of([KeyItem.of(key) for key in found], limit, lambda item: (item.created_at, item.id))

    @router.post(
        "/keys",
        status_code=201,
        summary="Make a key; it is shown once",
        responses=_problems(401, 403, 408, 409, 413, 422, 429, 503),
        openapi_extra=needs,
    )
    async def make(wanted: NewKey, by: By, response: Response) -> KeyMade:
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
        responses=_problems(401, 403, 404, 408, 409, 413, 422, 429, 503),
        openapi_extra=needs,
    )
    async def rotate(key_id: KeyId, rotation: KeyRotation, by: By, response: Response) -> KeyMade:
        grace = parts.key_rotation_grace if rotation.grace_seconds is None else timedelta(seconds=rotation.grace_seconds)
        key, text = await keys.rotate(key_id, by, expires_at=rotation.expires_at, grace=grace)
        response.headers["Cache-Control"] = "no-store"
        return KeyMade.shown(key, text)

    @router.delete(
        "/keys/{key_id}", status_code=204, summary="Revoke a key", responses=_problems(401, 403, 404, 422, 429, 503), openapi_extra=needs
    )
    async def revoke(key_id: KeyId, by: By) -> None:
        await keys.revoke(key_id, by)

    return router


def _add_audit_trail(router: APIRouter, parts: SignInParts, needs: dict[str, Any]) -> None:
    @router.get(
        "/audit-trail",
        summary="Sign-ins, and changes of users and keys, newest first",
        responses=_problems(401, 403, 422, 429, 503),
        openapi_extra=needs,
    )
    async def audit_trail(
        actor: Annotated[Text | None, Query(description="Who did it: user:ada")] = None,
        about: Annotated[Text | None, Query(description="About whom or what it is: user:ada, key:till-7")] = None,
        after: After = None,
        limit: Limit = 100,
    ) -> Page[AuditItem]:
        [before] = key_of(after, int) if after is not None else (None,)
        entries = await store.list_entries(parts.database, before, limit + 1, actor=actor, about=about)
        page = page_of(entries, limit, lambda entry: (entry.position,))
        return Page(items=[AuditItem.of(entry) for entry in page.items], next=page.next)


_CHANGEABLE = frozenset({"display_name", "roles", "locations", "disabled_at"})

_DESCRIPTIONS = {
    401: "Nobody is known by what the request shows",
    403: "A scope is missing, or the session's CSRF token; or the old password is wrong",
    404: "There is no such thing",
    408: "The body did not arrive in time",
    409: "It is not as the request needs it to be",
    413: "The body is too large",
    422: "A field or a parameter is not sound; every one is named",
    429: "Too many requests, or too many sign-ins failed; Retry-After says when to try again",
    503: "It cannot be done now; try again",
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _DESCRIPTIONS[status], "content": {PROBLEM_JSON: {"schema": PROBLEM_SCHEMA}}} for status in statuses}


def _needs(scope: str | None = None) -> dict[str, Any]:
    """What the OpenAPI document says of who may ask."""
    return {"security": SECURITY} | ({} if scope is None else {"x-scope": scope})


def _name_of(by: Identity) -> str:
    return by.actor.removeprefix("user:")


def _no_user(name: str) -> NotFound:
    return NotFound(f"there is no user {name}", "GET /api/v1/users lists them")


async def _managed(connection: Connection, name: str, by: Identity) -> User:
    """The user, kept from others' changes. Whoever sets a password could come in as the user: so they must have as much themselves."""
    user = await store.find_user(connection, name, for_change=True)
    if user is None:
        raise _no_user(name)
    check_covered(by, user.scopes, None, user.locations)
    return user


def _give(response: Response, parts: SignInParts, begun: NewSession) -> None:
    parts.cookies.put(response, SESSION_COOKIE, begun.token, parts.session_lifetime)
    response.headers["Cache-Control"] = "no-store"


def _address(request: Request) -> str:
    """Where a request comes from. Behind a proxy it is what that says, where FORWARDED_ALLOW_IPS names the proxy."""
    return request.client.host if request.client is not None else "unknown"
