"""Secrets: read from a prompt or from standard input, never from the arguments, and shown once."""

import sys

import typer

from oms_cli.errors import INVALID, CliError
from oms_cli.output import say


def read_password(prompt: str = "New password", *, new: bool = True) -> str:
    """A password: asked for at a terminal, a `new` one twice, else the next line of standard input. Raises a CliError for none."""
    if sys.stdin.isatty():
        password: str = typer.prompt(prompt, hide_input=True, confirmation_prompt="Again" if new else False, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CliError(INVALID, "the password is missing: type it when it is asked for, or give it as a line of standard input")
    return password


def show_once(what: str, secret: str) -> None:
    """Show a secret that is kept nowhere."""
    say(f"The {what}, which is not shown again: {secret}")
