"""`oms store`: a service's store after a restore."""

from typing import Any

import typer

from oms_cli import output
from oms_cli.arguments import AsJson, DryRun, Service
from oms_cli.errors import NOT_DONE, CliError
from oms_cli.programs import run_program

app = typer.Typer(help="A service's store after a restore.")


@app.callback()
def root() -> None:
    """Keep `recover` a command of the group, though it is the only one."""


@app.command(epilog="Example: oms store recover inventory --dry-run")
def recover(context: typer.Context, service: Service, *, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Bring back from the topics what a restored store lacks. The exit code is 0 when store and topics agree.

    The service's processes may be up: they wait, and continue by themselves afterwards. It is refused while one of them leads.
    """
    [report] = run_program(context, service, "recover", *(("--dry-run",) if dry_run else ()))
    if as_json:
        output.document(report)
    else:
        output.say(_sentences(report))
    if not report["agrees"]:
        hint = f"`oms store recover {service}` brings them back" if dry_run else "run it again, and see its errors"
        raise CliError(
            NOT_DONE, f"the store of {service} ends at {report['store_ends_at']} and lacks events that are on its topics; {hint}"
        )


def _sentences(report: dict[str, Any]) -> str:
    missing, nowhere = report["events_missing"], report["positions_nowhere"]
    lines = [f"The store of {report['service']} ended at position {report['store_ended_at']}."]
    if not missing:
        lines.append("It lacks nothing that is published.")
    elif report["dry_run"]:
        lines.append(f"It lacks {missing} published events.")
    else:
        lines.append(
            f"{report['events_recovered']} of {missing} missing events were brought back; it ends at {report['store_ends_at']} now."
        )
    if nowhere:
        lines.append(f"{nowhere} positions are nowhere: their events were never published, and are decided anew.")
    return " ".join(lines)
