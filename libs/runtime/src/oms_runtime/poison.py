"""The poison limit: when too many records fail for one reason, the service is at fault and not the records.

Without it a bug in a decider would set a whole topic aside, record by record. With it consumption stops, the service is unready and says
why, and an operator decides: deploy a correction, or raise the limit and have the records set aside. A restart begins a new window.
"""

import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence

from oms_runtime.errors import ConsumptionStopped

WINDOW_SECONDS = 60.0


def fingerprint(error: BaseException) -> str:
    """What two failures for the same reason have in common: the error's class and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


class PoisonLimit:
    """Counts handled and poisoned records of the last minute. `max_records` 0 means no limit; `ticks` are seconds."""

    def __init__(self, max_records: int, max_share: float, ticks: Callable[[], float]) -> None:
        self._max_records = max_records
        self._max_share = max_share
        self._ticks = ticks
        self._window: deque[tuple[float, int, Counter[str]]] = deque()
        self.stopped_because: str | None = None
        """Why consumption has stopped, None while it has not."""

    def check(self, handled: int, errors: Sequence[Exception]) -> None:
        """Raise ConsumptionStopped if `errors`, of `handled` records in hand, exceed the limit with those of the last minute."""
        if not errors or not self._max_records:
            return
        self._forget()
        total = handled + sum(count for _, count, _ in self._window)
        counts = Counter(map(fingerprint, errors))
        for _, _, earlier in self._window:
            counts.update(earlier)
        reason, count = counts.most_common(1)[0]
        if count >= self._max_records and count >= self._max_share * total:
            error = next((error for error in errors if fingerprint(error) == reason), errors[-1])
            self.stopped_because = (
                f"consumption has stopped: {count} of {total} records within {WINDOW_SECONDS:.0f} s failed with {reason}, "
                f"lately: {str(error)[:200]!r}. Correct the service and restart it; or restart it with OMS_POISON_MAX_RECORDS=0 to have "
                "the records set aside"
            )
            raise ConsumptionStopped(self.stopped_because)

    def count(self, handled: int, errors: Sequence[Exception]) -> None:
        """Remember a committed batch."""
        if self._max_records:
            self._window.append((self._ticks(), handled, Counter(map(fingerprint, errors))))
            self._forget()

    def _forget(self) -> None:
        now = self._ticks()
        while self._window and now - self._window[0][0] > WINDOW_SECONDS:
            self._window.popleft()
