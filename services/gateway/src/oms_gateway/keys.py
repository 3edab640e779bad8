"""Programs' keys: `oms_<id>_<secret>`.

A key is shown once, when it is made. It has scopes of its own, no more than its maker has, and may be limited to one channel's orders or to
some locations. A process knows a key for some seconds before it asks the database again, so that a request costs no query.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from oms_runtime.database import Connection, Database

from oms_gateway import store
from oms_gateway.identity import ADMIN_SCOPES, SCOPES, Identity
from oms_gateway.refusals import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from oms_gateway.signin import SEEN_EVERY, TOKEN_BYTES, hash_of
from oms_gateway.store import AlreadyReplaced, Key, NameTaken

PATTERN = re.compile(r"oms_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
MAX_CACHED = 10_000
MAX_LIFETIME = timedelta(days=3_653)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A key to make. `channel` and `locations` None: all; `expires_at` None: never."""

    name: str
    scopes: frozenset[str]
    channel: str | None = None
    locations: frozenset[str] | None = None
    expires_at: datetime | None = None


class Keys:
    """Makes, finds, rotates and revokes keys.

    `cached` is how long a key is believed without a query, `elapsed` gives seconds that no correction of the clock changes.
    """

    def __init__(
        self,
        database: Database,
        *,
        cached: timedelta,
        clock: Callable[[], datetime],
        elapsed: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self._database = database
        self._cached_seconds = cached.total_seconds()
        self._clock = clock
        self._elapsed = elapsed
        self._random = random
        self._cache: OrderedDict[str, tuple[float, Key]] = OrderedDict()

    async def identify(self, text: str) -> Identity:
        """Who a key is. Raises Unauthenticated for one that is not valid, or no key at all."""
        found = PATTERN.fullmatch(text)
        if found is None:
            raise Unauthenticated("this is no key", "a key is oms_, its id, and its secret")
        key_id, secret = found.groups()
        key, now = await self._find(key_id), self._clock()
        if key is None or not hmac.compare_digest(key.secret_hash, hash_of(secret)):
            raise Unauthenticated("there is no such key")
        if not key.valid(now):
            raise Unauthenticated(f"the key {key.id} is not valid any more", "rotate it, or make another one")
        if key.last_used_at is None or now - key.last_used_at >= SEEN_EVERY:
            # First, so that requests at the same time do not all write.
            self._cache[key.id] = (self._cache[key.id][0] if key.id in self._cache else self._elapsed(), replace(key, last_used_at=now))
            await store.key_used(self._database, key.id, now)
        return key.identity()

    async def make(self, wanted: Wanted, maker: Identity) -> tuple[Key, str]:
        """Make a key; returns it with its text, which is kept nowhere.

        Raises Forbidden for what the maker may not do itself, Invalid, or Conflict for a name that another key has or had.
        """
        now = self._clock()
        _check(wanted, now)
        check_covered(maker, wanted.scopes, wanted.channel, wanted.locations)
        key, text = self._new(wanted, maker, now, replaces=None)
        try:
            async with store.changing(self._database) as connection:
                await store.add_key(connection, key)
                await store.note(connection, now, maker.actor, "key-made", key.actor, **_detail(key))
        except NameTaken as error:
            raise Conflict(f"a key has, or had, the name {wanted.name}", "name: choose another one, or rotate that key") from error
        return key, text

    async def rotate(self, key_id: str, by: Identity, *, expires_at: datetime | None, grace: timedelta) -> tuple[Key, str]:
        """Make a key that replaces another and may do the same; returns it with its text. The old one ends after `grace`.

        Without `expires_at` the new one is valid for as long as the old one was. Raises NotFound, Forbidden, Invalid, or Conflict.
        """
        now = self._clock()
        try:
            async with store.changing(self._database) as connection:
                old = await _managed(connection, key_id, by)
                if not old.valid(now):
                    raise Conflict(f"the key {key_id} is not valid any more", "make another one")
                if expires_at is None and old.expires_at is not None:
                    expires_at = now + (old.expires_at - old.created_at)
                wanted = Wanted(name=old.name, scopes=old.scopes, channel=old.channel, locations=old.locations, expires_at=expires_at)
                _check(wanted, now)
                key, text = self._new(wanted, by, now, replaces=old.id)
                await store.add_key(connection, key)
                ends = now + grace if old.expires_at is None else min(old.expires_at, now + grace)
                await store.end_key(connection, replace(old, expires_at=ends))
                await store.note(
                    connection, now, by.actor, "key-rotated", key.actor, **_detail(key), replaces=old.id, old_until=ends.isoformat()
                )
        except AlreadyReplaced as error:
            raise Conflict(f"the key {key_id} was rotated already", "rotate the key that replaces it") from error
        self._cache.pop(key_id, None)
        return key, text

    async def revoke(self, key_id: str, by: Identity) -> None:
        """End a key at once; other processes follow within `cached`. Raises NotFound or Forbidden."""
        now = self._clock()
        async with store.changing(self._database) as connection:
            key = await _managed(connection, key_id, by)
            if key.revoked_at is None:
                await store.end_key(connection, replace(key, revoked_at=now))
                await store.note(connection, now, by.actor, "key-revoked", key.actor, id=key.id)
        self._cache.pop(key_id, None)

    async def _find(self, key_id: str) -> Key | None:
        cached, elapsed = self._cache.get(key_id), self._elapsed()
        if cached is not None and elapsed - cached[0] < self._cached_seconds:
            return cached[1]
        key = await store.find_key(self._database, key_id)
        if key is None:
            self._cache.pop(key_id, None)
            return None
        self._cache[key_id] = elapsed, key
        self._cache.move_to_end(key_id)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return key

    def _new(self, wanted: Wanted, maker: Identity, now: datetime, *, replaces: str | None) -> tuple[Key, str]:
        key_id, secret = self._random(8).hex(), urlsafe_b64encode(self._random(TOKEN_BYTES)).decode().rstrip("=")
        key = Key(
            id=key_id,
            name=wanted.name,
            secret_hash=hash_of(secret),
            scopes=wanted.scopes,
            channel=wanted.channel,
            locations=wanted.locations,
            created_at=now,
            created_by=maker.actor,
            expires_at=wanted.expires_at,
            replaces=replaces,
        )
        return key, f"oms_{key_id}_{secret}"


def check_covered(by: Identity, scopes: frozenset[str], channel: str | None, locations: frozenset[str] | None) -> None:
    """Raise Forbidden where somebody would give, or take in hand, what they do not have themselves."""
    if missing := sorted(scopes - by.scopes):
        raise Forbidden("that is more than you may do yourself", f"scopes: you lack {', '.join(missing)}")
    if by.channel is not None and channel != by.channel:
        raise Forbidden("that is more than you may do yourself", f"channel: yours is {by.channel}")
    if by.locations is not None and (locations is None or not locations <= by.locations):
        raise Forbidden("that is more than you may do yourself", f"locations: yours are {', '.join(sorted(by.locations))}")


async def _managed(connection: Connection, key_id: str, by: Identity) -> Key:
    """The key, kept from others' changes. Whoever gets a new secret of it could do what it can: so they must have as much themselves."""
    key = await store.find_key(connection, key_id, for_change=True)
    if key is None:
        raise NotFound(f"there is no key {key_id}")
    check_covered(by, key.scopes, key.channel, key.locations)
    return key


def _check(wanted: Wanted, now: datetime) -> None:
    if unknown := sorted(wanted.scopes - SCOPES):
        raise Invalid("a field is not sound", f"scopes: there is no scope {unknown[0]}; there are {', '.join(sorted(SCOPES))}")
    if wanted.channel is not None and wanted.scopes & ADMIN_SCOPES:
        raise Invalid("a field is not sound", "channel: a channel's key cannot have a scope of administration")
    if wanted.expires_at is not None and wanted.expires_at <= now:
        raise Invalid("a field is not sound", "expires_at: must be in the future")
    if wanted.expires_at is not None and wanted.expires_at - now > MAX_LIFETIME:
        raise Invalid("a field is not sound", f"expires_at: at most {MAX_LIFETIME.days} days ahead; without it the key does not expire")


def _detail(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "scopes": sorted(key.scopes),
        "channel": key.channel,
        "locations": sorted(key.locations) if key.locations is not None else None,
        "expires_at": key.expires_at.isoformat() if key.expires_at is not None else None,
    }
