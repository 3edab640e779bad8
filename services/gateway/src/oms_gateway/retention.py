"""What is kept no longer: ended sessions, failures that count no more, used idempotency keys, and old entries of the audit trail."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog
from oms_runtime.database import Database
from oms_runtime.errors import RETRYABLE_ERRORS

from oms_gateway import store
from oms_gateway.idempotency import remove_expired_keys
from oms_gateway.settings import SignInSettings

log = structlog.get_logger(__name__)

EVERY_SECONDS = 3_600
AT_ONCE = 1_000
"""Rows of a table in one statement: so none holds its locks for long, however much there is to remove."""


class Retention:
    """Removes it, in each process of the gateway: `run` it beside the API. Two processes do not wait for each other."""

    def __init__(self, database: Database, settings: SignInSettings, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    async def run(self) -> None:
        """Remove what has expired, at once and each hour, until cancelled; without its database it waits for the next time."""
        while True:
            try:
                await self.remove()
            except RETRYABLE_ERRORS as error:
                log.warning("retention_interrupted", error=f"{type(error).__name__}: {error}", retry_seconds=EVERY_SECONDS)
            await asyncio.sleep(EVERY_SECONDS)

    async def remove(self, at_once: int = AT_ONCE) -> None:
        """Remove all that has expired by now, up to `at_once` rows of a table in one statement. Raises one of RETRYABLE_ERRORS."""
        now = self._clock()
        while True:
            removed = await store.remove_expired(
                self._database,
                now,
                attempts_before=now - self._settings.sign_in_failures_forgotten,
                entries_before=now - self._settings.audit_trail_kept,
                limit=at_once,
            )
            if max(removed, await remove_expired_keys(self._database, now, at_once)) < at_once:
                return
