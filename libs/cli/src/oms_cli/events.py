"""`oms events`: what is on the topics."""

import base64
from collections.abc import Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from oms_client.follower import follow
from oms_client.queries import timeline_path
from oms_contracts.catalogue import Topic, TopicsByName, topics_read_by
from oms_contracts.envelope import from_headers, header, rfc3339
from oms_contracts.message import all_types
from oms_contracts.summaries import summary
from oms_kafka.clients import Record
from rich.text import Text

from oms_cli import output
from oms_cli.arguments import AsJson, Order, connections
from oms_cli.connections import Connections
from oms_cli.output import moment

app = typer.Typer(help="What is on the topics.")

READABLE = tuple(topic for topic in topics_read_by("operator") if topic.parties is None)
"""The operator sees everything but the keys of customers. What a party sends is seen where its topic is named."""
OF_PARTIES = TopicsByName(topic for topic in topics_read_by("operator") if topic.parties is not None)


def _topic(text: str) -> Topic:
    named = {topic.name: topic for topic in READABLE}
    found = named.get(text) or named.get(f"oms.{text}") or _of_party(f"oms.{text.removeprefix('oms.')}")
    if found is None:
        raise typer.BadParameter(f"there is no topic {text!r}; there are: {', '.join(name.removeprefix('oms.') for name in named)}")
    return found


def _of_party(name: str) -> Topic | None:
    try:
        return OF_PARTIES[name]
    except KeyError:
        return None


def _kind(text: str) -> str:
    """A published type, or the name within one. A full type is accepted even if this version does not know it."""
    if "." in text or text in {output.short(kind.name) for kind in all_types()}:
        return text
    raise typer.BadParameter(f"there is no type {text!r}; examples are OrderConfirmed, and in full oms.capture.OrderConfirmed.v1")


@app.command(epilog="Example: oms events tail orders payments --type OrderConfirmed --json")
def tail(
    context: typer.Context,
    *,
    topics: Annotated[
        list[Topic] | None,
        typer.Argument(metavar="[TOPIC]...", parser=_topic, help="With or without the leading `oms.`.", show_default="all"),
    ] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Existing records, too.")] = False,
    kinds: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", parser=_kind, help="Only events of this type; may be repeated.")
    ] = None,
    keys: Annotated[list[str] | None, typer.Option("--key", metavar="KEY", help="Only this key; may be repeated.")] = None,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show events as they arrive, a sentence each, until Ctrl-C; with --json all of their data. Those of one key arrive in order."""
    connected = connections(context)
    chosen = topics or list(READABLE)
    connected.run(_tail(connected, chosen, set(kinds or ()), set(keys or ()), count, from_beginning=from_beginning, as_json=as_json))


@app.command(epilog="Example: oms events show web/W-1001")
def show(context: typer.Context, order: Order, as_json: AsJson = False) -> None:
    """Every event of one order with its data, oldest first; an event comes after the one that caused it."""
    timeline = causal([entry | {"id": _id(entry)} for entry in connections(context).collect(timeline_path(order))])
    if as_json:
        output.document({"order_id": order, "events": timeline})
        return
    for entry in timeline:
        output.say(Text.assemble((output.plain(entry["summary"]), "bold")))
        cause = f", by {entry['causation']}" if entry["causation"] else ""
        if asked := output.asked_by(entry):
            output.say(asked)
        output.say(f"{moment(entry['time'], precise=True)}  {entry['topic']}  {entry['type']}  {entry['id']}{cause}")
        output.say(output.indented(entry["data"]) + "\n")


def causal(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries in their order, but each after its cause, the entry whose `id` is its `causation`: services' clocks may differ."""
    waiting = {entry["id"]: entry for entry in entries}
    ordered: list[dict[str, Any]] = []
    for entry in entries:
        chain: list[dict[str, Any]] = []
        link: dict[str, Any] | None = entry
        while link is not None and link["id"] in waiting:
            chain.append(waiting.pop(link["id"]))
            link = waiting.get(link["causation"])
        ordered += reversed(chain)
    return ordered


def record_as_json(record: Record) -> dict[str, Any]:
    """A record as JSON. What is not readable is null; a value that is not JSON is in `value_base64`."""
    try:
        envelope = from_headers(record.headers)
    except ValueError:
        envelope = None
    data, value = None, None
    try:
        data = msgspec.json.decode(record.value or b"")
    except (ValueError, RecursionError):
        value = base64.b64encode(record.value or b"").decode()
    return {
        "time": rfc3339(envelope.time if envelope else datetime.fromtimestamp(record.timestamp / 1000, UTC)),
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key.decode("utf-8", "replace") if record.key is not None else None,
        "type": header(record.headers, "ce_type"),
        "source": header(record.headers, "ce_source"),
        "id": header(record.headers, "ce_id"),
        "sequence": envelope.sequence if envelope else None,
        "position": envelope.position if envelope else None,
        "correlation": header(record.headers, "ce_correlationid"),
        "causation": header(record.headers, "ce_causationid"),
        "actor": header(record.headers, "ce_actor"),
        "reason": header(record.headers, "ce_reason"),
        "data": data,
        "value_base64": value,
    }


async def _tail(
    connected: Connections,
    topics: Iterable[Topic],
    kinds: set[str],
    keys: set[str],
    count: int | None,
    *,
    from_beginning: bool,
    as_json: bool,
) -> None:
    shown = 0
    async with aclosing(follow(connected.broker, "oms-cli", topics, from_beginning=from_beginning)) as arriving:
        async for records in arriving:
            for record in records:
                event = record_as_json(record)
                if kinds and not kinds & {event["type"], output.short(event["type"])}:
                    continue
                if keys and event["key"] not in keys:
                    continue
                if as_json:
                    output.document(event, one_line=True)
                else:
                    _show(event)
                shown += 1
                if shown == count:
                    return


def _show(event: dict[str, Any]) -> None:
    parts = (
        (moment(event["time"], precise=True), "dim"),
        (event["topic"], "cyan"),
        (output.short(event["type"]), "bold"),
        (event["key"] or output.NOTHING, "green"),
        (sentence(event), ""),
    )
    output.line(Text("  ").join(Text(output.plain(text), style) for text, style in parts))


def sentence(event: dict[str, Any]) -> str:
    """What a record says, for people. A value that is not JSON is shown as it is."""
    if event["value_base64"] is not None:
        return f"not readable, in base64: {event['value_base64']}"
    said = summary(event["type"] or "", msgspec.json.encode(event["data"]).decode())
    asked = output.asked_by(event)
    return f"{said} ({asked})" if asked else said


def _id(entry: dict[str, Any]) -> str:
    """An event's id, which its service makes of its name and the position."""
    return f"{entry['source'].rpartition('/')[2]}-{entry['position']}"
