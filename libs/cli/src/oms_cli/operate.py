"""Asking for an operation, and saying what came of it: the same for every command."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oms_client.outcomes import Outcome, find_outcome
from oms_client.queries import QueryClient
from oms_contracts.operations import OFFERED, operation_of

from oms_cli import output
from oms_cli.arguments import named, order_of
from oms_cli.connections import GATEWAY_WAIT_SECONDS, Asked, Connections
from oms_cli.errors import NOT_DONE, CliError
from oms_cli.output import say

DOUBTFUL_SECONDS = 5
"""How long an outcome is waited for where there may be none: the query API, which may be behind, gives a reason, or the same was done."""

Check = Callable[[QueryClient, Asked], Awaitable[Outcome | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a command answers: whether it waits, for how many seconds at most, and whether as JSON."""

    wait: bool
    timeout: float
    as_json: bool


def operate(
    connected: Connections,
    name: str,
    parameters: Mapping[str, str],
    body: Mapping[str, Any],
    answer: Answer,
    *,
    about: Mapping[str, Any],
    see: str,
    objection: str = OFFERED,
    done: str = "",
    check: Check | None = None,
) -> None:
    """Ask for the operation `name`, wait for its outcome, and say it. Raises CliError when it is another one than was asked for.

    `about` begins the JSON document, `see` is the command that shows the progress. `done` is said instead of what the services say.
    `objection` is why it may have no effect, as far as the query API knows. `check` finds the outcome where the timeline does not say it.
    """
    title = operation_of(name).title
    wish = title[:1].lower() + title[1:]
    connected.require(queries=answer.wait)
    patience = answer.timeout if objection == OFFERED else min(answer.timeout, DOUBTFUL_SECONDS)
    waited = min(patience, GATEWAY_WAIT_SECONDS if check is None else DOUBTFUL_SECONDS) if answer.wait and connected.by_gateway else 0
    asked = connected.ask(name, parameters, body, wait_seconds=waited)
    outcome = asked.outcome
    if answer.wait and outcome is None:
        outcome = connected.wait(lambda query: (check or _by_timeline)(query, asked), patience - waited)
    if answer.as_json:
        output.document(
            {
                **about,
                "event_id": asked.event_id,
                "done": None if outcome is None else outcome.status == "done",
                "reasons": [] if outcome is None else list(outcome.reasons),
                "events": [] if outcome is None else list(outcome.events),
            }
        )
    if not answer.wait:
        if not answer.as_json:
            say(f"asked to {wish}; `{see}` shows what comes of it")
        return
    if outcome is None:
        why = f": {objection}" if objection != OFFERED else ""
        raise CliError(NOT_DONE, f"asked to {wish}, and no effect is known after {patience:g} s{why}; `{see}` shows where it stands")
    if outcome.status != "done":
        raise CliError(NOT_DONE, *(f"refused to {wish}: {reason}" for reason in outcome.reasons))
    if not answer.as_json:
        for text in [done] if done else [event["summary"] for event in outcome.events]:
            say(text)


def operate_on_order(
    connected: Connections, name: str, order: str, body: Mapping[str, Any], answer: Answer, *, show: str = "oms order show"
) -> None:
    """Ask for an operation whose object is an order, as `operate` does. `show` is the command that shows what came of it."""
    found = order_of(connected, order)
    operate(
        connected,
        name,
        {"order_id": order},
        body,
        answer,
        about={"order_id": order},
        see=f"{show} {named(found)}",
        objection=operation_of(name).offered(found),
    )


async def _by_timeline(query: QueryClient, asked: Asked) -> Outcome | None:
    return await find_outcome(query, asked.key, asked.event_id)
