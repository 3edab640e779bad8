"""Requests that are sent again: a key of the caller's makes two of them one, for a day."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from oms_runtime.database import Connection, Database

from oms_gateway.refusals import Conflict, Invalid, Refusal

KEPT = timedelta(days=1)
SENDING = timedelta(seconds=30)
"""How long a request is taken to be in hand: longer than a publisher tries."""
MAX_KEY_CHARACTERS = 200
MAX_KEYS = 100_000
"""Of one caller in KEPT."""
REMOVED_AT_ONCE = 1_000


class TooManyKeys(Refusal):
    """A caller has used MAX_KEYS keys within a day."""

    status = 429

    def __init__(self) -> None:
        super().__init__("too many idempotency keys", f"a caller has at most {MAX_KEYS} a day", headers={"Retry-After": "3600"})


def check_key(key: str) -> None:
    """Raises Invalid for a key that is empty, too long, or has other characters than printable ASCII."""
    if not (0 < len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise Invalid("the Idempotency-Key is not sound", f"Idempotency-Key: 1 to {MAX_KEY_CHARACTERS} printable ASCII characters")


class IdempotencyKeys:
    """The keys, in the table `idempotency_keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def once(self, actor: str, key: str, fingerprint: str, event_id: str, now: datetime) -> AsyncGenerator[tuple[str, bool]]:
        """The event id of a request, and whether it is still to be sent; leaving without an error means that the broker has it.

        `event_id` is taken where the key is new. Raises Invalid where the key was used for another request, Conflict where that request
        is in hand, and TooManyKeys.
        """
        chosen, to_send = await self._claim(actor, key, fingerprint, event_id, now)
        try:
            yield chosen, to_send
        except BaseException:  # whether the broker has it is not known: the next request with this key may send it at once
            await self._database.fetch("update idempotency_keys set sending_until = $3 where actor = $1 and key = $2", actor, key, now)
            raise
        if to_send:
            await self._database.fetch("update idempotency_keys set sent = true where actor = $1 and key = $2", actor, key)

    async def _claim(self, actor: str, key: str, fingerprint: str, event_id: str, now: datetime) -> tuple[str, bool]:
        async with self._database.acquire() as connection, connection.transaction():
            await remove_expired_keys(connection, now, REMOVED_AT_ONCE)
            # One that expired and was not among those is taken over, as if it had been deleted.
            taken = await connection.fetchrow(
                """insert into idempotency_keys as known (actor, key, fingerprint, event_id, sending_until, at)
                   values ($1, $2, $3, $4, $5, $6)
                   on conflict (actor, key) do update
                       set fingerprint = excluded.fingerprint, event_id = excluded.event_id, sent = false,
                           sending_until = excluded.sending_until, at = excluded.at
                       where known.at < $7
                   returning (select count(*) from (select from idempotency_keys where actor = $1 limit $8) as used) as used""",
                actor,
                key,
                fingerprint,
                event_id,
                now + SENDING,
                now,
                now - KEPT,
                MAX_KEYS,
            )
            if taken is not None:
                if taken["used"] >= MAX_KEYS:
                    raise TooManyKeys
                return event_id, True
            known = await connection.fetchrow("select * from idempotency_keys where actor = $1 and key = $2 for update", actor, key)
            if known is None:  # deleted by another request just now
                raise Conflict("the Idempotency-Key has just expired", "send the request again")
            if known["fingerprint"] != fingerprint:
                raise Invalid("the Idempotency-Key was used for another request", "Idempotency-Key: take another for another request")
            if known["sent"]:
                return known["event_id"], False
            if known["sending_until"] > now:
                raise Conflict("a request with this Idempotency-Key is in hand", "wait for its answer, or send it again in a moment")
            await connection.execute(
                "update idempotency_keys set sending_until = $3 where actor = $1 and key = $2", actor, key, now + SENDING
            )
            return known["event_id"], True


async def remove_expired_keys(reader: Connection | Database, now: datetime, limit: int) -> int:
    """Remove up to `limit` keys that are older than KEPT; returns how many. Rows that another process removes just now are left to it."""
    removed = await reader.fetch(
        """delete from idempotency_keys where at < $1 and ctid = any(array(
               select ctid from idempotency_keys where at < $1 order by at limit $2 for update skip locked)) returning 1""",
        now - KEPT,
        limit,
    )
    return len(removed)
