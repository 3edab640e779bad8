"""The gateway's own database: users, sessions, keys, failed sign-ins, and the audit trail. All its SQL about who may come in is here."""

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from oms_runtime.database import Connection, Database, DbRow, apply_migrations, open_database

from oms_gateway.identity import ROLES, Identity, scopes_of

PACKAGE = "oms_gateway"
MAX_SESSIONS = 20
"""Of one user. The oldest ends when one more begins."""

Reader = Connection | Database


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person who may come in. `locations` None: all; without a `password_hash` they sign in at the OpenID provider alone."""

    name: str
    display_name: str
    roles: frozenset[str]
    locations: frozenset[str] | None = None
    password_hash: str | None = field(default=None, repr=False)
    oidc_issuer: str | None = None
    oidc_subject: str | None = None
    created_at: datetime
    disabled_at: datetime | None = None

    @property
    def actor(self) -> str:
        """What events name."""
        return f"user:{self.name}"

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes of the user's roles. A role that this version does not know gives none."""
        return scopes_of(self.roles & ROLES.keys())

    def identity(self) -> Identity:
        """Who the user is for the rest of the gateway."""
        return Identity(actor=self.actor, scopes=self.scopes, locations=self.locations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A person's session. Its token is known by the browser alone."""

    user: User
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A program's key. Its secret is known by whoever it was shown to, once."""

    id: str
    name: str
    secret_hash: bytes = field(repr=False)
    scopes: frozenset[str]
    channel: str | None
    locations: frozenset[str] | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    replaces: str | None = None

    @property
    def actor(self) -> str:
        """What events name. A key that replaces another has its actor."""
        return f"key:{self.name}"

    def valid(self, now: datetime) -> bool:
        """Whether it lets in at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def identity(self) -> Identity:
        """Who the key is for the rest of the gateway."""
        return Identity(actor=self.actor, scopes=self.scopes, channel=self.channel, locations=self.locations)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """What `actor` did, and about whom or what."""

    position: int
    at: datetime
    actor: str
    what: str
    about: str | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """After `failures` in a row each further attempt waits: first for `lock`, then twice as long each time, at most for `longest`."""

    failures: int
    lock: timedelta
    longest: timedelta
    forgotten: timedelta

    def lock_after(self, failures: int) -> timedelta:
        """How long to wait after so many failures in a row."""
        if failures < self.failures:
            return timedelta(0)
        # The exponent is bounded, for a timedelta is too.
        return min(self.longest, self.lock * 2 ** min(failures - self.failures, 20))


class NameTaken(Exception):
    """Another user or key has the name."""


class AlreadyReplaced(Exception):
    """Another key replaces this one already."""


async def open_store(url: str) -> Database:
    """The database, with its tables brought up to date. It is the gateway's own, and has none of a service's event store."""
    database = await open_database(url)
    try:
        await apply_migrations(database, PACKAGE)
    except BaseException:  # a further attempt opens a pool of its own; it is raised on
        database.terminate()
        raise
    return database


@asynccontextmanager
async def changing(database: Database) -> AsyncGenerator[Connection]:
    """A transaction."""
    async with database.acquire() as connection, connection.transaction():
        yield connection


# Users

_USER = "u.name, u.display_name, u.roles, u.locations, u.password_hash, u.oidc_issuer, u.oidc_subject, u.created_at, u.disabled_at"


async def find_user(reader: Reader, name: str, *, for_change: bool = False) -> User | None:
    """The user of a name. `for_change` keeps others from changing it until the transaction ends."""
    row = await reader.fetchrow(f"select {_USER} from users u where name = $1{' for update' if for_change else ''}", name)  # noqa: S608  # no input is in it
    return None if row is None else _user(row)


async def find_oidc_user(reader: Reader, issuer: str, subject: str) -> User | None:
    """The user whom an OpenID provider calls `subject`."""
    row = await reader.fetchrow(f"select {_USER} from users u where oidc_issuer = $1 and oidc_subject = $2", issuer, subject)  # noqa: S608  # no input is in it
    return None if row is None else _user(row)


async def list_users(reader: Reader, after: str, limit: int) -> list[User]:
    """Up to `limit` users by name, behind the name `after`."""
    rows = await reader.fetch(f"select {_USER} from users u where name > $1 order by name limit $2", after, limit)  # noqa: S608  # no input is in it
    return [_user(row) for row in rows]


async def add_user(connection: Connection, user: User) -> None:
    """Add a user. Raises NameTaken where there is one of the name, or of the OpenID subject; the transaction can go on."""
    added = await connection.fetchval(
        """insert into users (name, display_name, roles, locations, password_hash, oidc_issuer, oidc_subject, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing returning name""",
        user.name,
        user.display_name,
        sorted(user.roles),
        _sorted(user.locations),
        user.password_hash,
        user.oidc_issuer,
        user.oidc_subject,
        user.created_at,
    )
    if added is None:
        raise NameTaken


async def put_user(connection: Connection, user: User) -> None:
    """Store what may change of a user: all but the name, the OpenID subject, and when it was made."""
    await connection.execute(
        "update users set display_name = $2, roles = $3, locations = $4, password_hash = $5, disabled_at = $6 where name = $1",
        user.name,
        user.display_name,
        sorted(user.roles),
        _sorted(user.locations),
        user.password_hash,
        user.disabled_at,
    )


def _user(row: DbRow) -> User:
    return User(**_fields(row, "roles", "locations"))


# Failed sign-ins


async def begin_attempt(connection: Connection, subject: bytes, backoff: Backoff, now: datetime) -> timedelta:
    """How long `subject` is still locked; zero: it may try, and the attempt counts as failed until `end_attempt` says otherwise.

    So attempts at the same time cannot be more than those one after the other.
    """
    row = await connection.fetchrow(
        """insert into sign_in_attempts (subject, failures, at) values ($1, 0, $2)
           on conflict (subject) do update set subject = excluded.subject returning failures, at, locked_until""",
        subject,
        now,
    )
    assert row is not None
    if row["locked_until"] is not None and row["locked_until"] > now:
        return row["locked_until"] - now
    failures = 1 + (row["failures"] if now - row["at"] < backoff.forgotten else 0)
    lock = backoff.lock_after(failures)
    await connection.execute(
        "update sign_in_attempts set failures = $2, at = $3, locked_until = $4 where subject = $1",
        subject,
        failures,
        now,
        now + lock if lock else None,
    )
    return timedelta(0)


async def give_back_attempt(connection: Connection, subject: bytes, backoff: Backoff) -> None:
    """Count one attempt of `subject` less: it has succeeded. Those that failed stay counted."""
    await connection.execute(
        """update sign_in_attempts set failures = greatest(failures - 1, 0),
             locked_until = case when failures > $2 then locked_until end where subject = $1""",
        subject,
        backoff.failures,
    )


async def forget_attempts(connection: Connection, subject: bytes) -> None:
    """Count nothing of `subject` any more."""
    await connection.execute("delete from sign_in_attempts where subject = $1", subject)


async def failures_of(reader: Reader, subject: bytes) -> tuple[int, datetime | None]:
    """How many attempts of `subject` failed in a row, and until when it is locked."""
    row = await reader.fetchrow("select failures, locked_until from sign_in_attempts where subject = $1", subject)
    return (0, None) if row is None else (row["failures"], row["locked_until"])


# Sessions


async def find_session(reader: Reader, token_hash: bytes) -> Session | None:
    """The session of a token, with its user."""
    row = await reader.fetchrow(
        f"select {_USER}, s.seen_at, s.expires_at from sessions s join users u on u.name = s.user_name where s.token_hash = $1",  # noqa: S608  # no input is in it
        token_hash,
    )
    if row is None:
        return None
    seen_at, expires_at = row["seen_at"], row["expires_at"]
    user = _user({name: value for name, value in row.items() if name not in {"seen_at", "expires_at"}})
    return Session(user=user, seen_at=seen_at, expires_at=expires_at)


async def add_session(connection: Connection, token_hash: bytes, user: str, now: datetime, expires_at: datetime) -> None:
    """Add a session; the oldest of the user's ends where there would be more than MAX_SESSIONS."""
    await connection.execute(
        """delete from sessions where token_hash in
             (select token_hash from sessions where user_name = $1 order by created_at desc offset $2)""",
        user,
        MAX_SESSIONS - 1,
    )
    await connection.execute(
        "insert into sessions (token_hash, user_name, created_at, seen_at, expires_at) values ($1, $2, $3, $3, $4)",
        token_hash,
        user,
        now,
        expires_at,
    )


async def session_seen(reader: Reader, token_hash: bytes, now: datetime) -> None:
    """Note that a session is in use."""
    await reader.fetchval("update sessions set seen_at = $2 where token_hash = $1 and seen_at < $2", token_hash, now)


async def end_session(connection: Connection, token_hash: bytes) -> str | None:
    """End one session; returns the name of its user, None where there was none."""
    return await connection.fetchval("delete from sessions where token_hash = $1 returning user_name", token_hash)


async def end_sessions(connection: Connection, user: str, *, but: bytes = b"") -> int:
    """End all sessions of a user, without the one of the token hash `but`; returns how many."""
    return len(await connection.fetch("delete from sessions where user_name = $1 and token_hash <> $2 returning 1", user, but))


async def count_sessions(reader: Reader, user: str, now: datetime, seen_after: datetime) -> int:
    """How many sessions of a user have not ended, and were used after a time."""
    return await reader.fetchval(
        "select count(*) from sessions where user_name = $1 and expires_at > $2 and seen_at > $3", user, now, seen_after
    )


# Keys

_KEY = "id, name, secret_hash, scopes, channel, locations, created_at, created_by, expires_at, last_used_at, revoked_at, replaces"


async def find_key(reader: Reader, key_id: str, *, for_change: bool = False) -> Key | None:
    """The key of an id. `for_change` keeps others from changing it until the transaction ends."""
    row = await reader.fetchrow(f"select {_KEY} from api_keys where id = $1{' for update' if for_change else ''}", key_id)  # noqa: S608  # no input is in it
    return None if row is None else _key(row)


async def list_keys(reader: Reader, after: tuple[datetime, str] | None, limit: int) -> list[Key]:
    """Up to `limit` keys, newest first, behind the key that was made at `after` and has its id."""
    place, args = (" where (created_at, id) < ($2, $3)", after) if after is not None else ("", ())
    rows = await reader.fetch(f"select {_KEY} from api_keys{place} order by created_at desc, id desc limit $1", limit, *args)  # noqa: S608  # no input is in it
    return [_key(row) for row in rows]


async def add_key(connection: Connection, key: Key) -> None:
    """Add a key. Raises NameTaken or AlreadyReplaced; the transaction cannot go on then."""
    try:
        await connection.execute(
            """insert into api_keys (id, name, secret_hash, scopes, channel, locations, created_at, created_by, expires_at, replaces)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)""",
            key.id,
            key.name,
            key.secret_hash,
            sorted(key.scopes),
            key.channel,
            _sorted(key.locations),
            key.created_at,
            key.created_by,
            key.expires_at,
            key.replaces,
        )
    except asyncpg.UniqueViolationError as error:
        raise NameTaken if key.replaces is None else AlreadyReplaced from error


async def end_key(connection: Connection, key: Key) -> None:
    """Store until when a key is valid."""
    await connection.execute("update api_keys set expires_at = $2, revoked_at = $3 where id = $1", key.id, key.expires_at, key.revoked_at)


async def key_used(reader: Reader, key_id: str, now: datetime) -> None:
    """Note that a key is in use."""
    await reader.fetchval("update api_keys set last_used_at = greatest(last_used_at, $2) where id = $1", key_id, now)


def _key(row: DbRow) -> Key:
    return Key(**_fields(row, "scopes", "locations"))


# Audit trail


async def note(connection: Connection, at: datetime, actor: str, what: str, about: str | None = None, **detail: Any) -> None:
    """Add an entry to the audit trail. It never has a secret, nor what was typed as a name that nobody has."""
    await connection.execute(
        "insert into audit_trail (at, actor, what, about, detail) values ($1, $2, $3, $4, $5)", at, actor, what, about, json.dumps(detail)
    )


async def list_entries(
    reader: Reader, before: int | None, limit: int, *, actor: str | None = None, about: str | None = None
) -> list[AuditEntry]:
    """Up to `limit` entries, newest first, from before the position `before`; those of `actor` and about `about` alone."""
    rows = await reader.fetch(
        """select position, at, actor, what, about, detail from audit_trail
           where ($1::bigint is null or position < $1) and ($2::text is null or actor = $2) and ($3::text is null or about = $3)
           order by position desc limit $4""",
        before,
        actor,
        about,
        limit,
    )
    return [AuditEntry(**_fields(row) | {"detail": json.loads(row["detail"])}) for row in rows]


# Retention


async def remove_expired(database: Database, now: datetime, *, attempts_before: datetime, entries_before: datetime, limit: int) -> int:
    """Remove up to `limit` rows of each: sessions that have ended, failures that count no more, and old entries of the audit trail.

    Returns how many were removed of what had most. Rows that another process removes just now are left to it.
    """
    removed = [
        await database.fetch(_remove("sessions", "expires_at", "expires_at <= $1"), now, limit),
        await database.fetch(
            _remove("sign_in_attempts", "at", "at <= $1 and (locked_until is null or locked_until <= $3)"), attempts_before, limit, now
        ),
        await database.fetch(_remove("audit_trail", "at", "at < $1"), entries_before, limit),
    ]
    return max(map(len, removed))


def _remove(table: str, order: str, condition: str) -> str:
    found = f"select ctid from {table} where {condition} order by {order} limit $2 for update skip locked"  # noqa: S608  # no input is in it
    return f"delete from {table} where ctid = any(array({found})) returning 1"  # noqa: S608  # no input is in it


def _sorted(texts: Iterable[str] | None) -> list[str] | None:
    return None if texts is None else sorted(texts)


def _fields(row: DbRow, *sets: str) -> dict[str, Any]:
    """A row's columns, those named in `sets` as sets where they are not null."""
    return {name: frozenset(value) if name in sets and value is not None else value for name, value in row.items()}
