"""What can go wrong, and the exit code that says so."""

import typer
from oms_contracts.message import UnreadableMessage

NOT_DONE = 1
"""Not found, refused, or another outcome than was asked for."""
INVALID = 2
"""What was typed, or what is in a file or variable, is not sound."""
OUT_OF_REACH = 3
"""The stack or a server does not answer."""


class Fault(typer.TyperException):
    """An expected end that is not a success. Each line stands alone: it names what is at fault and the remedy."""

    def __init__(self, exit_code: int, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.exit_code = exit_code
        self.lines = lines


def unreadable(place: str, kind: str, error: UnreadableMessage) -> Fault:
    """What was read from `place` is no message of published type `kind`: a line for every field at fault."""
    reasons = str(error).removeprefix(f"{kind}: ").split("; ")
    return Fault(INVALID, *(f"{place}: {reason}" for reason in reasons))
