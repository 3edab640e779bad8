"""`oms stuck` has a command for each operation that goes on with something that waits, and for each kind of it."""

from typing import get_args

from oms_cli.stuck import COMMANDS, SHOW
from oms_projection.stuck import WAITING, Kind


def test_every_operation_that_goes_on_with_something_has_a_command() -> None:
    assert {name for waiting in WAITING.values() for name in waiting.operations} == COMMANDS.keys()
    assert {*get_args(Kind)} == SHOW.keys()
