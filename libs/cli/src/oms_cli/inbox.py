"""`oms inbox`: webhooks of shops of which no order can be made. They are dead letters of capture, shown as what they are."""

import base64
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import replace
from oms_adapters.parts import map_payload
from oms_adapters.platforms import PLATFORMS, adapter_of_platform
from oms_adapters.results import Mapped, Reason, Result, Unmapped
from oms_contracts.catalogue import topic_of
from oms_contracts.channel import WebhookReceived, webhook_key
from oms_contracts.dead_letters import RedriveDeadLetters
from oms_contracts.message import UnreadableMessage, encode, type_of, validate
from oms_contracts.values import order_id_of

from oms_cli import output
from oms_cli.arguments import AsJson, Limit, Timeout, Wait, connections
from oms_cli.connections import Connections
from oms_cli.dead_letters import WAITING, ask_for_redrive, dead_letter, first_line
from oms_cli.errors import INVALID, NOT_DONE, CliError
from oms_cli.output import moment, note, say, table

app = typer.Typer(help="Webhooks of shops that capture could not make an order of: look at them, mend them, have them taken again.")

SERVICE, TOPIC = "capture", topic_of(WebhookReceived)
MAX_PAYLOAD_BYTES = 360_000
"""Of a corrected payload: what a command to capture has room for."""

LetterId = Annotated[str, typer.Argument(metavar="LETTER_ID", help="As `list` shows it: topic/partition/offset.", show_default=False)]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A webhook that was set aside: its dead letter, what was received, its payload, and what the adapters of this version make of it."""

    letter: dict[str, Any]
    received: WebhookReceived
    payload: bytes
    result: Result

    @property
    def reference(self) -> str | None:
        """What the shop calls the order, None where the payload does not say."""
        return None if self.result.standing is None else self.result.standing.reference


@app.command("list", epilog="Example: oms inbox list")
def list_inbox(
    context: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", help="Those that were taken or discarded, too.")] = False,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Webhooks that wait for a person, newest first. A parked one waits only for an earlier one of its order."""
    letters = connections(context).collect("/dead-letters", service=SERVICE, waiting=not every)
    found = [letter for letter in letters if letter["source_topic"] == TOPIC]
    shown, more = found[:limit], len(found) > limit
    if as_json:
        output.document({"inbox": shown, "more": more})
        return
    if not shown:
        say("the inbox is empty")
        return
    columns = ("since", "letter", "order", "status", "attempts>", "reason")
    table(
        "Inbox",
        columns,
        [
            (moment(each["at"]), each["letter_id"], each["source_key"], each["status"], each["attempts"], _reason(each["reason"]))
            for each in shown
        ],
    )
    if more:
        note("there is more; --limit shows it")


@app.command(epilog="Example: oms inbox show oms.channel.webhooks/3/41 --payload-only > corrected.json")
def show(
    context: typer.Context,
    *,
    letter_id: LetterId,
    payload_only: Annotated[bool, typer.Option("--payload-only", help="The payload as the shop sent it, and nothing else.")] = False,
    as_json: AsJson = False,
) -> None:
    """One webhook: whose it is, every field at fault with its reason, and the payload."""
    entry = _entry(connections(context), letter_id)
    if payload_only:
        sys.stdout.buffer.write(entry.payload)  # byte for byte: it is meant for a file
        return
    letter, received = entry.letter, entry.received
    reasons = entry.result.reasons if isinstance(entry.result, Unmapped) else ()
    try:
        payload: Any = msgspec.json.decode(entry.payload)
    except (ValueError, RecursionError):
        payload = None
    if as_json:
        output.document(
            {
                "letter_id": letter["letter_id"],
                "status": letter["status"],
                "at": letter["at"],
                "attempts": letter["attempts"],
                "key": letter["source_key"],
                "platform": received.platform,
                "channel": received.channel,
                "reference": entry.reference,
                "topic": received.topic,
                "webhook_id": received.webhook_id,
                "reason": letter["reason"],
                "reasons": [{"field": each.field, "reason": each.reason} for each in reasons],
                "payload": payload,
                "text": entry.payload.decode("utf-8", "replace") if payload is None else None,
            }
        )
        return
    say(f"{letter['letter_id']}, {letter['status']} by capture {moment(letter['at'])}, attempt {letter['attempts']}")
    say(f"{received.platform}, channel {received.channel}, order {entry.reference or output.NOTHING}")
    say(f"webhook {received.webhook_id}, {received.topic}, received {moment(received.received_at.isoformat())}")
    say(_reason(letter["reason"]))
    if reasons:
        table("At fault", ("field", "reason"), [(each.field, each.reason) for each in reasons])
    else:
        say("the adapters that are installed here can map it: `oms inbox take` may do")
    say("Payload")
    say(entry.payload.decode("utf-8", "replace") if payload is None else output.indented(payload))


@app.command(epilog="Example: oms inbox take oms.channel.webhooks/3/41 --payload corrected.json")
def take(
    context: typer.Context,
    *,
    letter_id: LetterId,
    payload: Annotated[
        typer.FileBinaryRead | None, typer.Option(metavar="FILE", help="The corrected payload, a JSON file; - for standard input.")
    ] = None,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Have a webhook taken again, corrected or as it is, and then those that wait behind it. The exit code is 1 when one fails again."""
    connected = connections(context)
    entry = _entry(connected, letter_id)
    _check_waits(entry.letter)
    key = entry.letter["source_key"]
    command = RedriveDeadLetters(source_key=key)
    if payload is not None:
        value = encode(_corrected(entry, payload.read())).decode()
        command = RedriveDeadLetters(source_key=key, letter_id=letter_id, value=value)
    ask_for_redrive(connected, SERVICE, command, wait=wait, timeout=timeout, as_json=as_json)


@app.command(epilog="Example: oms inbox discard oms.channel.webhooks/3/41")
def discard(
    context: typer.Context,
    *,
    letter_id: LetterId,
    wait: Wait = True,
    timeout: Timeout = 30,
    as_json: AsJson = False,
) -> None:
    """Drop a webhook, and have those taken that wait behind it. The exit code is 1 when one of them fails."""
    connected = connections(context)
    letter = _letter(connected, letter_id)
    _check_waits(letter)
    command = RedriveDeadLetters(source_key=letter["source_key"], letter_id=letter_id, discard=True)
    ask_for_redrive(connected, SERVICE, command, wait=wait, timeout=timeout, as_json=as_json)


def _letter(connected: Connections, letter_id: str) -> dict[str, Any]:
    if letter_id.partition("/")[0] != TOPIC:
        raise CliError(INVALID, f"LETTER_ID: {letter_id!r} is not of {TOPIC}; `oms dead-letters` has all others")
    return dead_letter(connected, SERVICE, letter_id)


def _entry(connected: Connections, letter_id: str) -> _Entry:
    letter = _letter(connected, letter_id)
    try:
        received: WebhookReceived = validate(type_of(WebhookReceived).name, msgspec.json.encode(letter["data"]))
        payload = base64.b64decode(received.body, validate=True)
    except (UnreadableMessage, ValueError) as error:
        raise CliError(NOT_DONE, f"{letter_id} holds no webhook ({error}): see `oms dead-letters show {SERVICE} {letter_id}`") from error
    if received.platform not in PLATFORMS:
        raise CliError(NOT_DONE, f"{letter_id} is of {received.platform!r}, which no adapter knows: `oms dead-letters` can correct it")
    result = map_payload(adapter_of_platform(received.platform), payload, channel=received.channel)
    return _Entry(letter, received, payload, result)


def _check_waits(letter: dict[str, Any]) -> None:
    if letter["status"] not in WAITING:
        raise CliError(NOT_DONE, f"{letter['letter_id']} is {letter['status']} already")


def _corrected(entry: _Entry, payload: bytes) -> WebhookReceived:
    """The webhook with another payload, of which an order can be made. Raises a CliError that names every field at fault."""
    received = entry.received
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise CliError(
            INVALID, f"--payload: has {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} can be sent: take out what is not needed"
        )
    result = map_payload(adapter_of_platform(received.platform), payload, channel=received.channel)
    standing = result.standing
    if not isinstance(result, Mapped) and (standing is None or standing.canceled is None):
        raise CliError(INVALID, *(f"--payload: {reason}" for reason in result.reasons))
    assert standing is not None
    named_order = received.key != webhook_key(received.channel, received.webhook_id, None)
    if named_order and order_id_of(received.channel, standing.reference) != received.key:
        raise CliError(INVALID, f"--payload: {Reason('id', 'names another order than the one that the webhook is about')}")
    return replace(received, body=base64.b64encode(payload).decode())


def _reason(text: str | None) -> str:
    """What is at fault, without the name of the error's class."""
    return first_line(text).removeprefix("SendersFault: ")
