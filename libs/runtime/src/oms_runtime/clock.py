"""The wall clock: `utc_now` for `app.py` and other places that build things, and the clock that a process decides by while it is trusted.

A wrong clock would decide wrongly: a day ahead it meets every deadline of that day, an hour behind it rejects sound orders as placed in the
future. So it is compared with whatever else knows the time and costs nothing to ask, and while they disagree nothing is decided:

- with seconds that no correction changes: a wall clock that jumps while the process runs is noticed with its next reading;
- with the database server's clock, which a transaction reads in a round trip that it makes anyway;
- with the newest stored event, which cannot be of the future.

The first two allow for any pause of the process. What is slewed is never noticed, and a step within the tolerance is taken over.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from oms_runtime.errors import ClockUntrusted


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


def elapsed_seconds() -> float:
    """Seconds that go on whatever the wall clock is set to; on Linux also while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """The wall clock `read`, as long as it agrees within `max_skew_seconds` with all it is compared with; 0 compares it with nothing.

    `elapsed` gives seconds that no correction of the wall clock changes.
    """

    def __init__(
        self, read: Callable[[], datetime] = utc_now, elapsed: Callable[[], float] = elapsed_seconds, *, max_skew_seconds: float = 0
    ) -> None:
        self._read = read
        self._elapsed = elapsed
        self._max_skew_seconds = max_skew_seconds
        self._trusted_at = read(), elapsed()
        """The last reading that followed on the one before it."""
        self._disagrees = ""
        """What the last comparison with the database found wrong; empty where nothing was."""

    @property
    def fault(self) -> str:
        """Why the clock cannot be trusted now, with what to do; empty while it can."""
        return self._jump(self._read()) or self._disagrees

    def now(self) -> datetime:
        """The time now. Raises ClockUntrusted while the clock cannot be trusted."""
        now = self._read()
        if fault := self._jump(now) or self._disagrees:
            raise ClockUntrusted(fault)
        return now

    def reading(self) -> datetime:
        """The time before the database is asked for its own, for `compare`. Raises ClockUntrusted when the clock has jumped."""
        now = self._read()
        if fault := self._jump(now):
            raise ClockUntrusted(fault)
        return now

    def compare(self, asked_at: datetime, database_now: datetime, newest: datetime | None) -> None:
        """Compare with the database server's clock as it was between `asked_at` and now, and with the time of the newest stored event.

        Raises ClockUntrusted where they disagree, and has `now` raise it until they agree again.
        """
        if not self._max_skew_seconds:
            return
        now = self.reading()
        tolerated = timedelta(seconds=self._max_skew_seconds)
        self._disagrees = ""
        if asked_at - database_now > tolerated:
            self._disagrees = f"{self._disagreement(asked_at - database_now)} ahead of the database server's. Set the wrong one right"
        elif database_now - now > tolerated:
            self._disagrees = f"{self._disagreement(database_now - now)} behind the database server's. Set the wrong one right"
        elif newest is not None and newest - now > tolerated:
            self._disagrees = (
                f"{self._disagreement(newest - now)} behind the newest stored event, of {newest:%Y-%m-%dT%H:%M:%SZ}. Set it right; if "
                "it is right, the event was recorded by a wrong clock: wait, or set OMS_MAX_CLOCK_SKEW_SECONDS=0 until that time has passed"
            )
        if self._disagrees:
            raise ClockUntrusted(self._disagrees)

    def _jump(self, now: datetime) -> str:
        """How `now` does not follow on the last trusted reading; empty where it does, and then it is the last trusted one."""
        if not self._max_skew_seconds:
            return ""
        elapsed = self._elapsed()
        last, last_elapsed = self._trusted_at
        jump = now - last - timedelta(seconds=elapsed - last_elapsed)
        # A clock that disagrees with the database's may jump: that is how it is set right.
        if self._disagrees or abs(jump) <= timedelta(seconds=self._max_skew_seconds):
            self._trusted_at = now, elapsed
            return ""
        direction = "ahead" if jump > timedelta(0) else "back"
        return (
            f"the clock of this machine has jumped {direction} by {abs(jump).total_seconds():.0f} s. Set it right; if it is right now, and "
            "was wrong before, restart this process"
        )

    @staticmethod
    def _disagreement(skew: timedelta) -> str:
        return f"the clock of this machine is {skew.total_seconds():.0f} s"
