"""`oms checkpoints`: how far a service has read each partition, as its store has it."""

from typing import Annotated, Any

import typer

from oms_cli import output
from oms_cli.arguments import AsJson, DryRun, Service
from oms_cli.programs import run_program

app = typer.Typer(help="How far a service has read each partition, as its store has it.")


@app.command(epilog="Example: oms checkpoints show inventory")
def show(context: typer.Context, service: Service, *, as_json: AsJson = False) -> None:
    """Every checkpoint, beside what the broker has: the partition's first offset, its end, and whether the topic is the same."""
    found = run_program(context, service, "checkpoints")
    if as_json:
        output.document({"service": service, "checkpoints": found})
        return
    columns = ("topic", "partition>", "checkpoint>", "begin>", "end>", "position>", "topic is")
    output.table(
        f"Checkpoints of {service}",
        columns,
        [(*(row[name] for name in ("topic", "partition", "next_offset", "begin", "end", "position")), _topic_is(row)) for row in found],
    )


@app.command(epilog="Example: oms checkpoints reset inventory oms.inventory.commands/3 end --dry-run")
def reset(
    context: typer.Context,
    service: Service,
    partition: Annotated[str, typer.Argument(metavar="TOPIC/PARTITION", help="Such as oms.inventory.commands/3.", show_default=False)],
    to: Annotated[str, typer.Argument(metavar="begin|end|OFFSET", help="Where to read on.", show_default=False)],
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Set a checkpoint by hand. Restart the service afterwards. Events of our services that were applied have no effect again."""
    [report] = run_program(context, service, "checkpoints", partition, to, *(("--dry-run",) if dry_run else ()))
    if as_json:
        output.document({"service": service, **report})
        return
    done = "would be set" if report["dry_run"] else "is set"
    output.say(f"the checkpoint of {service} on {report['partition']} {done} from {report['from_offset']} to {report['to_offset']}")
    if not report["dry_run"]:
        output.note(f"restart {service}, so that it reads on from there")


def _topic_is(row: dict[str, Any]) -> str:
    if row["topic_id_now"] is None:
        return "not known"
    return "the same" if row["topic_id"] in (None, row["topic_id_now"]) else "another one"
