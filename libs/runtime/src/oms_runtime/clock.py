"""The wall clock, for `app.py` and other places that build things: everything else gets its clock as an argument."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)
