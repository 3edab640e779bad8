"""The wall clock, for `app.py` and whoever else builds things: everybody else is given a clock."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)
