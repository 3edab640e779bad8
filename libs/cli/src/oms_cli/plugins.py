"""What an installed package may add to the command line, by entry points.

- `oms.commands`: groups of commands. Each entry point is a `typer.Typer`, its name the name of the group.
- `oms.servers`: where the servers are when no setting names them. The entry point is a function without arguments that returns `Servers`.

Both come with the local stack (`orderstream-local`): the group `oms stack`, and the servers of that stack.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Protocol

import typer


class Servers(Protocol):
    """Where the servers are. The methods may raise CliError."""

    hint: str
    """What to do when a server does not answer: the end of a sentence."""

    def kafka(self, user: str) -> Mapping[str, str]:
        """How a broker user reaches the broker: `bootstrap_servers`; `username` and `password` if it asks for them."""
        ...

    def service_url(self, service: str) -> str:
        """The URL of a service's health and metrics."""
        ...

    def environment(self, service: str) -> Mapping[str, str]:
        """The variables of a service's process."""
        ...

    def query_url(self) -> str:
        """The URL of projection's query API."""
        ...

    def query_token(self) -> str:
        """The credential of that API."""
        ...


def command_groups() -> Iterator[tuple[str, typer.Typer]]:
    """The groups of commands that installed packages bring, by name."""
    for point in entry_points(group="oms.commands"):
        yield point.name, point.load()


def installed_servers() -> Servers | None:
    """The servers that an installed package knows, None where there is no such package. May raise CliError."""
    for point in entry_points(group="oms.servers"):
        return point.load()()
    return None
