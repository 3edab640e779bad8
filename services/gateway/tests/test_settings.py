"""Settings that contradict each other are refused at the start."""

from datetime import timedelta
from typing import Any

import pytest
from oms_gateway.operations_api import seconds_of
from oms_gateway.settings import MAX_WAIT_SECONDS, Settings
from pydantic import ValidationError


def settings(**values: Any) -> Settings:
    return Settings(database_url="postgresql://h/d", query_token="t" * 32, kafka_bootstrap_servers="h:1", **values)  # pyright: ignore[reportArgumentType]  # pydantic makes secrets of them


def test_a_request_may_take_longer_than_the_longest_wait_for_its_outcome() -> None:
    assert seconds_of(f"{MAX_WAIT_SECONDS}s") == MAX_WAIT_SECONDS < settings().http_request_timeout_seconds
    assert settings(http_request_timeout_seconds=40).http_request_timeout_seconds == 40
    with pytest.raises(ValidationError, match="greater than or equal to 40"):
        settings(http_request_timeout_seconds=MAX_WAIT_SECONDS)


def test_the_audit_trail_is_kept_for_a_day_at_least() -> None:
    assert settings().audit_trail_kept == timedelta(days=400)
    with pytest.raises(ValidationError, match="audit_trail_kept"):
        settings(audit_trail_kept=timedelta(hours=1))
