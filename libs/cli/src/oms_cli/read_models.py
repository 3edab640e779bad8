"""`oms read-models`: versions of projection's read models. The arguments and the output are those of projection's own program."""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from oms_cli import output
from oms_cli.programs import pass_through, program_help

COMMANDS = {
    "build": ("Build this code's version beside the one in use, and compare the two.", "build --max-events-per-second 20000"),
    "status": ("Show which versions there are, and which one is in use.", "status --compare"),
    "switch": ("Have the query API read a version from its next query on.", "switch"),
    "drop": ("Drop a version that is not in use.", "drop 1"),
    "verify": ("Fold all topics anew, and compare with this code's version. Changes nothing.", "verify"),
}

app = typer.Typer(help="Versions of projection's read models: build one beside the one in use, compare, switch.")

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="ARGUMENT", help="As `python -m oms_projection read-models` has them.", show_default=False),
]


class _OfProgram(TyperCommand):
    """A command whose arguments are those of a program, and so its help, too."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        output.raw(program_help("projection", "read-models", str(self.name)))


def _add(name: str, summary: str, example: str) -> None:
    def run(context: typer.Context, words: Words = None) -> None:
        pass_through(context, "projection", "read-models", name, *(words or ()))

    app.command(
        name,
        cls=_OfProgram,
        help=f"{summary} The result is JSON, progress goes to standard error.",
        epilog=f"Example: oms read-models {example}",
        context_settings={"ignore_unknown_options": True},
    )(run)


for _name, (_summary, _example) in COMMANDS.items():
    _add(_name, _summary, _example)
