"""`oms` without servers."""

from collections.abc import Iterator

import pytest
from oms_cli.app import app
from typer.testing import CliRunner, Result

from libs.cli.tests.fakes import FakeConnections, Run


@pytest.fixture(autouse=True)
def without_a_terminals_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs several test processes may set it, and tables would be cut to it."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def connected() -> Iterator[FakeConnections]:
    made = FakeConnections()
    yield made
    made.close()


@pytest.fixture
def oms(connected: FakeConnections) -> Run:
    """Runs `oms` with the words given, as a shell would split them."""

    def run(*words: str, given: bytes | None = None) -> Result:
        result = CliRunner().invoke(app, list(words), obj=connected, input=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
