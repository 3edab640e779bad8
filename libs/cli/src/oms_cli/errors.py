"""The errors of the command line, each with its exit code."""

import typer

NOT_DONE = 1
"""Not found, refused, or another outcome than was asked for."""
INVALID = 2
"""A word of the command line, a file or a variable is not valid."""
OUT_OF_REACH = 3
"""The stack or a server does not answer."""


class CliError(typer.TyperException):
    """An expected end that is not a success. Each line is complete by itself: it names what is at fault and the remedy."""

    def __init__(self, exit_code: int, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.exit_code = exit_code
        self.lines = lines
