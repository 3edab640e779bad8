"""`oms dead-letters`: records that services set aside, and their redrive."""

import base64
import json
from typing import Annotated, Any

import msgspec
import typer
from oms_client.queries import QueryClient, path_part
from oms_contracts.catalogue import TOPICS
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.message import UnreadableMessage, decode, find_type

from oms_cli import output
from oms_cli.arguments import AsJson, Limit, Service, Timeout, Wait, connections, read_message, service_name
from oms_cli.connections import Connections
from oms_cli.errors import INVALID, NOT_DONE, CliError
from oms_cli.output import moment, note, say, table

app = typer.Typer(help="Records that services set aside, and their redrive.")

WAITING = frozenset({"set_aside", "parked"})


@app.command("list", epilog="Example: oms dead-letters list --service inventory")
def list_dead_letters(
    context: typer.Context,
    *,
    service: Annotated[str | None, typer.Option(metavar="SERVICE", parser=service_name, help="Set aside by this service only.")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Of this key only.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Those that were redriven or discarded, too.")] = False,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Records that wait for an operator, newest first. A parked one waits only for an earlier one of its key."""
    found = connections(context).collect("/dead-letters", max_items=limit + 1, service=service, key=key, waiting=not every)
    shown, more = found[:limit], len(found) > limit
    if as_json:
        output.document({"dead_letters": shown, "more": more})
        return
    if not shown:
        say("nothing is set aside")
        return
    columns = ("since", "service", "letter", "key", "type", "status", "attempts>", "reason")
    table(
        "Dead letters",
        columns,
        [
            (
                moment(letter["at"]),
                letter["service"],
                letter["letter_id"],
                letter["source_key"],
                output.short(letter["source_type"]),
                letter["status"],
                letter["attempts"],
                first_line(letter["reason"]),
            )
            for letter in shown
        ],
    )
    if more:
        note("there is more; --limit shows it")


@app.command(epilog="Example: oms dead-letters show inventory oms.inventory.commands/3/41")
def show(
    context: typer.Context,
    *,
    service: Service,
    letter_id: Annotated[str, typer.Argument(metavar="LETTER_ID", help="As `list` shows it: topic/partition/offset.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """One letter: why it was set aside, where, and the record itself."""
    letter = dead_letter(connections(context), service, letter_id)
    if as_json:
        output.document(letter)
        return
    say(f"{letter['letter_id']}, {letter['status']} by {service} {moment(letter['at'])}, attempt {letter['attempts']}")
    say(f"key {letter['source_key'] or output.NOTHING}, type {letter['source_type'] or output.NOTHING}")
    say(letter["reason"] or "")
    headers: dict[str, str] = letter["headers"] or {}
    table("Headers", ("header", "value"), sorted(headers.items()))
    say("Value")
    say(letter["text"] if letter["data"] is None else output.indented(letter["data"]))
    if letter["stack"]:
        say("\nStack")
        say(letter["stack"])


@app.command(epilog="Example: oms dead-letters redrive inventory ASN-2001 --letter-id oms.inventory.commands/3/41 --value corrected.json")
def redrive(
    context: typer.Context,
    *,
    service: Service,
    key: Annotated[str, typer.Argument(metavar="KEY", help="All dead letters of this key, in the order they came.", show_default=False)],
    letter_id: Annotated[str | None, typer.Option(metavar="ID", help="The dead letter to correct or to discard first.")] = None,
    value: Annotated[
        typer.FileBinaryRead | None, typer.Option(metavar="FILE", help="Its new value, a JSON file; - for standard input.")
    ] = None,
    discard: Annotated[bool, typer.Option("--discard", help="Drop that dead letter, so that those behind it can be applied.")] = False,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Ask a service to apply again what it set aside under a key. The exit code is 1 when a dead letter fails once more."""
    if (letter_id is not None) != (value is not None or discard):
        raise CliError(INVALID, "--letter-id: names the dead letter for --value or --discard, one of which must be given with it")
    if value is not None and discard:
        raise CliError(INVALID, "--discard: a dead letter that is dropped has no --value")
    connected = connections(context)
    corrected = None
    if letter_id is not None:
        letter = dead_letter(connected, service, letter_id)
        if letter["status"] not in WAITING:
            raise CliError(NOT_DONE, f"{letter_id} is {letter['status']} already")
        if letter["source_key"] != key:
            raise CliError(INVALID, f"KEY: {letter_id} is of the key {letter['source_key']!r}, not of {key!r}")
        corrected = _corrected(letter, value.read()) if value is not None else None
    command = RedriveDeadLetters(source_key=key, letter_id=letter_id, value=corrected, discard=discard)
    ask_for_redrive(connected, service, command, wait=wait, timeout=timeout, as_json=as_json)


def ask_for_redrive(
    connected: Connections, service: str, command: RedriveDeadLetters, *, wait: bool, timeout: float, as_json: bool
) -> None:
    """Publish the command, wait for the outcome if `wait`, and print it. Raises CliError when a dead letter fails once more."""
    key = command.source_key
    before = {letter["letter_id"]: letter for letter in connected.collect("/dead-letters", service=service, key=key)}
    if not before:
        raise CliError(NOT_DONE, f"{service} has set nothing aside under {key!r}; `oms dead-letters list` shows the dead letters")
    connected.ask("redrive-dead-letters", {"service": service}, msgspec.to_builtins(command))
    after = connected.wait(lambda query: _settled(query, service, key, before), timeout) if wait else None
    letters = list((after or before).values())
    if as_json:
        output.document({"service": service, "key": key, "settled": after is not None, "dead_letters": letters})
    elif not wait:
        say(f"asked {service} to redrive {len(before)} under {key}")
    elif after is not None:
        rows = [(letter["letter_id"], letter["status"], letter["attempts"], first_line(letter["reason"])) for letter in letters]
        table(f"Redriven by {service} under {key}", ("letter", "status", "attempts>", "reason"), rows)
    if not wait:
        return
    if after is None:
        raise CliError(NOT_DONE, f"the outcome is not known after {timeout:g} s; `oms dead-letters list --key {key} --all` shows it later")
    failed = [letter for letter in letters if letter["status"] in WAITING]
    if failed:
        raise CliError(NOT_DONE, f"{failed[0]['letter_id']} failed again: {first_line(failed[0]['reason'])}")


def dead_letter(connected: Connections, service: str, letter_id: str) -> dict[str, Any]:
    """A dead letter with its record decoded: `data` where it is JSON, else `text`.

    A value that is not kept with the letter is read where it came from, as long as it is there.
    """
    letter = connected.get(f"/dead-letters/{service}/{path_part(letter_id)}")
    raw: bytes | None = base64.b64decode(letter["value"] or "")
    if not raw:
        raw = connected.record_value(letter["source_topic"], letter["source_partition"], letter["source_offset"])
    if raw is None:
        return letter | {"data": None, "text": "(the record is no longer on its topic)"}
    try:
        return letter | {"data": msgspec.json.decode(raw), "text": None}
    except (ValueError, RecursionError):
        return letter | {"data": None, "text": raw.decode("utf-8", "replace")}


def _corrected(letter: dict[str, Any], value: bytes) -> str:
    """A value that the service will be able to read. Raises a CliError that names every field at fault."""
    try:
        text = value.decode()
        json.loads(text)
    except ValueError as error:
        raise CliError(INVALID, f"--value: is not JSON: {error}") from error
    kind = letter["source_type"] or ""
    trusted = any(topic.trusted for topic in TOPICS if topic.name == letter["source_topic"])
    if find_type(kind) is None:
        return text
    if not trusted:
        read_message(kind, value, "--value")
        return text
    try:
        decode(kind, value)
    except UnreadableMessage as error:
        raise CliError(INVALID, f"--value: {str(error).removeprefix(f'{kind}: ')}") from error
    return text


async def _settled(query: QueryClient, service: str, key: str, before: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]] | None:
    """The dead letters once all are applied or dropped, or one has failed again, which leaves those behind it; None until then."""
    found = {
        letter["letter_id"]: letter
        for letter in await query.collect("/dead-letters", service=service, key=key, waiting=False)
        if letter["letter_id"] in before
    }
    waiting = [letter for letter in found.values() if letter["status"] in WAITING]
    failed = any(letter["attempts"] > before[letter["letter_id"]]["attempts"] for letter in waiting)
    return found if failed or not waiting else None


def first_line(text: str | None) -> str:
    """The first line of a reason, which says what it is about."""
    return (text or "").partition("\n")[0]
