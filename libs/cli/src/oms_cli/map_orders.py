"""`oms map`: what the adapters make of payloads that lie in files. It needs no stack."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from oms_adapters.parts import map_payload
from oms_adapters.platforms import PLATFORMS, adapter_of_platform
from oms_adapters.reading import MAX_PAYLOAD_BYTES
from oms_adapters.results import Mapped, Reason, Unmapped
from oms_contracts.message import encode, key_of

from oms_cli import output
from oms_cli.arguments import AsJson
from oms_cli.errors import INVALID, NOT_DONE, CliError

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of payloads, one a file.", show_default=False)]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A file, a line about it for people, and all about it for machines. `failed`: it should have been mapped, and was not."""

    line: str
    content: dict[str, Any]
    failed: bool = False


def map_orders(folder: Folder, as_json: AsJson = False) -> None:
    """Map every payload of a folder to an order, and publish nothing. The first word of a file's name says which platform sent it.

    The words are amazon-, saleor-, shopify- and woocommerce-. The exit code is 1 when an order cannot be mapped, or an adapter fails.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise CliError(INVALID, f"DIR: {folder} cannot be read: {error.strerror}") from error
    outcomes = [_outcome(path) for path in files]
    failed = sum(outcome.failed for outcome in outcomes)
    if as_json:
        output.document({"files": [outcome.content for outcome in outcomes], "failed": failed})
    else:
        for outcome in outcomes:
            output.say(outcome.line)
    if failed:
        raise CliError(NOT_DONE, f"{failed} of {len(outcomes)} files should have been mapped and were not; --json names all reasons")


def _outcome(path: Path) -> _Outcome:
    platform = path.name.partition("-")[0]
    if platform not in PLATFORMS or "-" not in path.name:
        reason = f"the name does not begin with {', '.join(f'{name}-' for name in PLATFORMS)}"
        return _Outcome(f"{path.name}: not looked at: {reason}", {"file": path.name, "outcome": "not_looked_at", "reason": reason})
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PAYLOAD_BYTES + 1)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        return _Outcome(f"{path.name}: {reason}", {"file": path.name, "outcome": "unreadable", "reason": reason}, failed=True)
    try:
        result = map_payload(adapter_of_platform(platform), raw, channel=platform)
    except Exception as error:  # noqa: BLE001  # an adapter that raises is what this command is to find, in every file
        reason = f"the adapter failed, which is a bug of it: {type(error).__name__}: {error}"
        return _Outcome(f"{path.name}: {reason}", {"file": path.name, "outcome": "exception", "reason": reason}, failed=True)
    return _mapped(path.name, result) if isinstance(result, Mapped) else _unmapped(path.name, result)


def _mapped(name: str, result: Mapped) -> _Outcome:
    order, canceled = result.order, result.standing.canceled
    notes = [
        "totals add up",  # otherwise it would not be mapped
        f"remarks: {len(result.remarks)}" if result.remarks else "",
        f"unmapped fields: {len(result.unmapped_fields)}" if result.unmapped_fields else "",
        f"to be canceled: {canceled}" if canceled else "",
    ]
    total = output.money(order.total, order.currency)
    line = f"{name}: mapped: {order.channel}/{order.channel_reference}, {total}, {'; '.join(note for note in notes if note)}"
    content = {
        "file": name,
        "outcome": "mapped",
        "order_id": key_of(order),
        "currency": order.currency,
        "total": order.total,
        "adds_up": True,
        "canceled": canceled,
        "remarks": _reasons(result.remarks),
        "unmapped_fields": list(result.unmapped_fields),
        "order": msgspec.json.decode(encode(order)),
    }
    return _Outcome(line, content)


def _unmapped(name: str, result: Unmapped) -> _Outcome:
    what = "an order that cannot be mapped" if result.is_order else "not an order to place"
    first, *others = result.reasons
    more = f" (and {len(others)} more)" if others else ""
    outcome = "unmapped" if result.is_order else "not_an_order"
    content = {"file": name, "outcome": outcome, "reasons": _reasons(result.reasons)}
    return _Outcome(f"{name}: {what}: {first}{more}", content, failed=result.is_order)


def _reasons(reasons: tuple[Reason, ...]) -> list[dict[str, str]]:
    return [{"field": each.field, "reason": each.reason} for each in reasons]
