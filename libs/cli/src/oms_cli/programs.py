"""What only a service's own program can do, because it owns the store: `python -m oms_<service> …`, as a process with its environment.

Its progress and errors, on standard error, are the command's own; so is its exit code.
"""

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import typer

from oms_cli.arguments import connections
from oms_cli.errors import NOT_DONE, CliError


def run_program(context: typer.Context, service: str, *words: str) -> list[dict[str, Any]]:
    """Run a service's program, and return the JSON documents it prints, one a line. Raises CliError where it prints none, and fails."""
    done = _run(context, service, *words, stdout=subprocess.PIPE)
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode and not documents:
        raise CliError(done.returncode)
    return documents


def pass_through(context: typer.Context, service: str, *words: str) -> None:
    """Run a service's program whose output is the command's own. Ends with its exit code."""
    raise typer.Exit(_run(context, service, *words).returncode)


def program_help(service: str, *words: str) -> str:
    """What a service's program says of its own arguments. Where it is not installed, how to learn that."""
    program = f"oms_{service}"
    if importlib.util.find_spec(program) is None:
        return f"{service} is not installed here; `{_in_container(service, program, *words, '--help')}` shows the options"
    command = [sys.executable, "-P", "-m", program, *words, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _in_container(service: str, program: str, *words: str) -> str:
    return f"docker compose run --rm {service} {' '.join(('python -m', program, *words))}"


def _run(context: typer.Context, service: str, *words: str, stdout: int | None = None) -> subprocess.CompletedProcess[bytes]:
    program = f"oms_{service}"
    if importlib.util.find_spec(program) is None:
        command = " ".join(("python -m", program, *words))
        raise CliError(
            NOT_DONE, f"{service} is not installed here; run `{command}` where it is: `{_in_container(service, program, *words)}`"
        )
    environment = os.environ | connections(context).environment(service)
    # An error of Ctrl-C is the program's to print: it gets the signal too.
    return subprocess.run([sys.executable, "-P", "-m", program, *words], env=environment, stdout=stdout, check=False)
