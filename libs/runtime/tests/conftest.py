"""Each test that asks for a probe gets one of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from oms_local.testing import Servers
from probe import Probe, make_probe

structlog.configure(
    processors=[structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
)  # the rich one takes seconds


@pytest.fixture
async def probe(servers: Servers, tmp_path: Path) -> AsyncIterator[Probe]:
    """A probe whose processes end with the test."""
    made = await make_probe(servers, tmp_path)
    yield made
    made.close()
