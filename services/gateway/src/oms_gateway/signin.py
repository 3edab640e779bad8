"""People's sign-ins: passwords with lockout, users of an OpenID provider, and sessions.

A sign-in makes a new session and ends the one that the browser had. A session is known by a random token; its CSRF token follows from that,
so it is kept nowhere and changes with it. It is of no use to whoever has only the database, which has the token's SHA-256.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fastapi import Request, Response
from oms_runtime.database import Connection, Database
from oms_runtime.limits import network_of

from oms_gateway import store
from oms_gateway.passwords import Passwords
from oms_gateway.refusals import Conflict, Forbidden, Invalid, TooManyAttempts, Unauthenticated, Unavailable
from oms_gateway.settings import SignInSettings
from oms_gateway.store import Backoff, NameTaken, Session, User

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""A user's name: events have it for ever, so it is no e-mail address."""
TOKEN_BYTES = 32
SEEN_EVERY = timedelta(minutes=1)
"""How exactly it is kept when a session or a key was in use last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session that has just begun. Both tokens are shown to the browser and kept nowhere."""

    token: str = field(repr=False)
    csrf_token: str = field(repr=False)
    user: User
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whom an OpenID provider vouches for. `roles` are those that its claims map to."""

    issuer: str
    subject: str
    name: str
    display_name: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Lock:
    """How many attempts of a name failed in a row, and until when it is locked; None: it is not."""

    failures: int
    locked_until: datetime | None


Subjects = dict[bytes, Backoff]
"""Whose attempts are counted, a name and an address, and how each is locked."""


class Cookies:
    """The browser's cookies. `secure` ones go over https alone, and come from this host alone (`__Host-`)."""

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self._prefix = "__Host-" if secure else ""

    def get(self, request: Request, name: str) -> str | None:
        """The value of a cookie."""
        return request.cookies.get(self._prefix + name)

    def put(self, response: Response, name: str, value: str, lifetime: timedelta) -> None:
        """Give a cookie that no script can read and no other site's form sends along."""
        response.set_cookie(
            self._prefix + name, value, max_age=int(lifetime.total_seconds()), path="/", secure=self._secure, httponly=True, samesite="lax"
        )

    def remove(self, response: Response, name: str) -> None:
        """Take a cookie back."""
        response.delete_cookie(self._prefix + name, path="/", secure=self._secure, httponly=True, samesite="lax")


class SignIn:
    """Begins, finds and ends sessions. `clock` gives the time, `random` so many random bytes."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        settings: SignInSettings,
        clock: Callable[[], datetime],
        random: Callable[[int], bytes],
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._settings = settings
        self._clock = clock
        self._random = random
        self._user_backoff = Backoff(
            failures=settings.sign_in_failures,
            lock=settings.sign_in_lock,
            longest=settings.sign_in_lock_longest,
            forgotten=settings.sign_in_failures_forgotten,
        )
        self._address_backoff = replace(self._user_backoff, failures=settings.sign_in_failures_address)

    async def with_password(self, name: str, password: str, address: str, *, had: str | None = None) -> NewSession:
        """Sign in by name and password from a network address; the session of the token `had` ends.

        Raises Unauthenticated, which says the same of a name that nobody has, TooManyAttempts, or Unavailable.
        """
        now, name = self._clock(), name.strip().lower()
        subjects = self._subjects(name, address)
        user = await self._verified(name, password, subjects, now)
        if user is None:
            await self._note_failure(name, now, actor="unknown", what="sign-in-failed")
            raise _wrong()
        newer: str | None = None
        if self._passwords.outdated(user.password_hash or ""):
            with suppress(Unavailable):  # the next sign-in tries again
                newer = await self._passwords.hash(password)
        async with store.changing(self._database) as connection:
            user = await self._unchanged(connection, user)
            if newer is not None:
                await store.put_user(connection, replace(user, password_hash=newer))
            await self._succeeded(connection, subjects)
            return await self._begin(connection, user, now, had, how="password")

    async def change_password(self, user: User, old: str, new: str, address: str, token: str) -> int:
        """Give a user whose session has this `token` another password. Their other sessions end; returns how many.

        It is a sign-in attempt like any other: it counts for the lock of the name and of the address. Raises Forbidden for a wrong old
        password, Conflict for a user without one, Invalid, TooManyAttempts, or Unavailable.
        """
        if user.password_hash is None:
            raise Conflict("you sign in at the OpenID provider", "your password is kept there")
        if new == old:
            raise Invalid("a field is not sound", "new_password: must be another one than the old one")
        now, subjects = self._clock(), self._subjects(user.name, address)
        if await self._verified(user.name, old, subjects, now) is None:
            await self._note_failure(user.name, now, actor=user.actor, what="password-change-failed")
            raise Forbidden("the old password is wrong", "old_password: an administrator can set another one where it is forgotten")
        try:
            password_hash = await self._passwords.hash(new)
        except Unavailable:
            await self._give_back(subjects)
            raise
        async with store.changing(self._database) as connection:
            user = await self._unchanged(connection, user)
            await store.put_user(connection, replace(user, password_hash=password_hash))
            ended = await store.end_sessions(connection, user.name, but=hash_of(token))
            await self._succeeded(connection, subjects)
            await store.note(connection, now, user.actor, "password-changed", user.actor, sessions=ended)
            return ended

    async def count_sessions(self, name: str) -> int:
        """How many sessions a user has now."""
        now = self._clock()
        return await store.count_sessions(self._database, name, now, now - self._settings.session_idle)

    async def lock_of(self, name: str) -> Lock:
        """How a name is locked now."""
        failures, locked_until = await store.failures_of(self._database, _subject("user", name))
        return Lock(failures, locked_until if locked_until is not None and locked_until > self._clock() else None)

    async def lift_lock(self, actor: str, name: str) -> Lock:
        """Count no failure of a name any more; returns how it was locked. Addresses stay locked."""
        lock = await self.lock_of(name)
        async with store.changing(self._database) as connection:
            await store.forget_attempts(connection, _subject("user", name))
            await store.note(connection, self._clock(), actor, "lock-lifted", f"user:{name}", failures=lock.failures)
        return lock

    async def with_provider(self, person: Person, *, had: str | None = None) -> NewSession:
        """Sign in whom an OpenID provider vouches for; the session of the token `had` ends.

        A user is made for a person who comes for the first time. Their roles are those of `person`, each time. Raises Forbidden for one who
        has none, and for a user who is disabled.
        """
        now = self._clock()
        async with store.changing(self._database) as connection:
            user = await self._user_of(connection, person, now)
            if user is not None and user.disabled_at is None:
                return await self._begin(connection, user, now, had, how="oidc")
            await store.note(connection, now, "oidc", "sign-in-refused", user.actor if user is not None else None, issuer=person.issuer)
        if user is not None:
            raise Forbidden(f"the user {user.name} is disabled", "somebody with the scope users:admin can enable it")
        raise Forbidden("nobody has given you a role here", f"the claim {self._settings.oidc_role_claim} decides: ask who manages it")

    async def find(self, token: str) -> Session | None:
        """The session of a token, None where it has ended or never was."""
        now, token_hash = self._clock(), hash_of(token)
        session = await store.find_session(self._database, token_hash)
        if session is None or session.user.disabled_at is not None:
            return None
        if now >= session.expires_at or now - session.seen_at >= self._settings.session_idle:
            return None
        if now - session.seen_at >= min(SEEN_EVERY, self._settings.session_idle / 10):
            await store.session_seen(self._database, token_hash, now)
        return session

    async def end(self, token: str) -> None:
        """Sign out."""
        async with store.changing(self._database) as connection:
            user = await store.end_session(connection, hash_of(token))
            if user is not None:
                await store.note(connection, self._clock(), f"user:{user}", "signed-out", f"user:{user}")

    async def end_all(self, actor: str, user: str) -> int:
        """Sign a user out everywhere; returns how many sessions ended."""
        async with store.changing(self._database) as connection:
            ended = await store.end_sessions(connection, user)
            await store.note(connection, self._clock(), actor, "sessions-ended", f"user:{user}", sessions=ended)
            return ended

    def _subjects(self, name: str, address: str) -> Subjects:
        """Whose attempts are counted. Always in this order, so that two sign-ins wait for each other in no circle."""
        return {_subject("user", name): self._user_backoff, _subject("address", network_of(address)): self._address_backoff}

    async def _verified(self, name: str, password: str, subjects: Subjects, now: datetime) -> User | None:
        """The user whose password it is, None where it is nobody's. The attempt counts as failed until `_succeeded`.

        Raises TooManyAttempts, or Unavailable, after which it does not count.
        """
        async with store.changing(self._database) as connection:
            for subject, backoff in subjects.items():
                if wait := await store.begin_attempt(connection, subject, backoff, now):
                    raise TooManyAttempts(wait)
        user = await store.find_user(self._database, name) if NAME.fullmatch(name) else None
        kept = user.password_hash if user is not None and user.disabled_at is None else None
        try:
            right = await self._passwords.verify(password, kept)
        except Unavailable:  # the password was not looked at
            await self._give_back(subjects)
            raise
        return user if right else None

    async def _give_back(self, subjects: Subjects) -> None:
        async with store.changing(self._database) as connection:
            for subject, backoff in subjects.items():
                await store.give_back_attempt(connection, subject, backoff)

    async def _succeeded(self, connection: Connection, subjects: Subjects) -> None:
        of_user, of_address = subjects
        await store.forget_attempts(connection, of_user)
        await store.give_back_attempt(connection, of_address, self._address_backoff)

    async def _unchanged(self, connection: Connection, verified: User) -> User:
        """The user, kept from others' changes. Raises Unauthenticated where it was disabled, or has another password, meanwhile."""
        user = await store.find_user(connection, verified.name, for_change=True)
        if user is None or user.disabled_at is not None or user.password_hash != verified.password_hash:
            raise _wrong()
        return user

    async def _note_failure(self, name: str, now: datetime, *, actor: str, what: str) -> None:
        """Note a failed attempt. A name that nobody has is not noted: it may be a password."""
        async with store.changing(self._database) as connection:
            user = await store.find_user(connection, name) if NAME.fullmatch(name) else None
            failures, locked_until = await store.failures_of(connection, _subject("user", name))
            locked = locked_until.isoformat() if locked_until is not None else None
            about = user.actor if user is not None else None
            await store.note(connection, now, actor, what, about, failures=failures, locked_until=locked)

    async def _begin(self, connection: Connection, user: User, now: datetime, had: str | None, *, how: str) -> NewSession:
        token = urlsafe_b64encode(self._random(TOKEN_BYTES)).decode().rstrip("=")
        expires_at = now + self._settings.session_lifetime
        if had is not None:
            await store.end_session(connection, hash_of(had))
        await store.add_session(connection, hash_of(token), user.name, now, expires_at)
        await store.note(connection, now, user.actor, "signed-in", user.actor, how=how)
        return NewSession(token=token, csrf_token=csrf_token_of(token), user=user, expires_at=expires_at)

    async def _user_of(self, connection: Connection, person: Person, now: datetime) -> User | None:
        """The user of a person, with the roles that the provider gives now; None for one without any."""
        known = await store.find_oidc_user(connection, person.issuer, person.subject)
        if known is None:
            return await self._add(connection, person, now) if person.roles else None
        if known.roles != person.roles:
            await store.put_user(connection, replace(known, roles=person.roles))
            await store.note(connection, now, "oidc", "user-changed", known.actor, roles=sorted(person.roles))
        if not person.roles:
            await store.end_sessions(connection, known.name)
            return None
        return replace(known, roles=person.roles)

    async def _add(self, connection: Connection, person: Person, now: datetime) -> User | None:
        """Make a user. A name that is taken is somebody else's: then it gets an end that follows from the subject."""
        end = hashlib.sha256(f"{person.issuer}\0{person.subject}".encode()).hexdigest()[:8]
        for name in (person.name, f"{person.name[:55]}-{end}"):
            user = User(
                name=name,
                display_name=person.display_name,
                roles=person.roles,
                oidc_issuer=person.issuer,
                oidc_subject=person.subject,
                created_at=now,
            )
            try:
                await store.add_user(connection, user)
            except NameTaken:
                continue
            await store.note(connection, now, "oidc", "user-created", user.actor, roles=sorted(user.roles), issuer=person.issuer)
            return user
        return await store.find_oidc_user(connection, person.issuer, person.subject)  # the person came twice at the same time


def hash_of(token: str) -> bytes:
    """What is kept of a token. It is random, so a fast hash is enough."""
    return hashlib.sha256(token.encode()).digest()


def csrf_token_of(token: str) -> str:
    """The CSRF token of the session of `token`: only whoever was given it, or has the token, knows it."""
    return urlsafe_b64encode(hmac.digest(token.encode(), b"csrf", "sha256")).decode().rstrip("=")


def _subject(kind: str, text: str) -> bytes:
    return hashlib.sha256(f"{kind}:{text}".encode()).digest()


def _wrong() -> Unauthenticated:
    return Unauthenticated("name or password is wrong")
