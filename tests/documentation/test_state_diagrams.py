"""The state diagrams of the architecture page show exactly what the deciders do: nothing is missing, and nothing is invented."""

import re
from collections.abc import Iterable
from functools import cache

import pytest
from oms_contracts.catalogue import TOPICS
from oms_contracts.dead_letters import is_folded
from oms_contracts.message import type_of

from tests.documentation.pages import mermaid, names, section
from tests.documentation.transitions import SEARCHES, START, Found, Search, Transition, explore
from tests.interleavings.recording_provider import RecordingProvider
from tests.interleavings.system import make_services

ARROW = re.compile(r"(?P<old>\S+) --> (?P<new>\S+)(?: : (?P<events>.+))?")
NOT_DRAWN = "Not drawn"
DIAGRAMS = [(search, diagram.heading) for search in SEARCHES for diagram in search.diagrams]
diagrams = pytest.mark.parametrize(("search", "heading"), DIAGRAMS, ids=[heading for _, heading in DIAGRAMS])


@diagrams
def test_a_diagram_shows_the_transitions_of_its_decider(search: Search, heading: str) -> None:
    found, drawn = found_by(search)[heading], arrows(mermaid(section(heading)))
    missing, superfluous = differences(found.drawn, drawn)
    assert (missing, superfluous) == ([], []), f"missing: {missing}; superfluous: {superfluous}"


@diagrams
def test_the_events_that_are_not_drawn_are_named_and_change_no_status(search: Search, heading: str) -> None:
    paragraph = next(part for part in re.split(r"\n\n|^```\n", section(heading), flags=re.MULTILINE) if part.startswith(NOT_DRAWN))
    assert sorted(names(paragraph)) == sorted(found_by(search)[heading].not_drawn)


@diagrams
def test_an_end_is_a_status_that_nothing_leads_out_of(search: Search, heading: str) -> None:
    found = found_by(search)[heading]
    left = {old for old, _, new in found.drawn if old != new}
    assert ends(mermaid(section(heading))) == {new for _, _, new in found.drawn} - left


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.service)
def test_a_search_meets_every_event_of_its_service(search: Search) -> None:
    """Without this, an event that no command of the alphabet leads to would be missing from the page unseen."""
    topics = [topic for topic in TOPICS if topic.writers == (search.service,) and topic.copy_of is None]
    published = {cls.__name__ for topic in topics for cls in topic.messages if is_folded(type_of(cls).name)}
    met = {event.partition(" ")[0] for found in found_by(search).values() for event in found.not_drawn | events_of(found.drawn)}
    assert met == published


def test_what_is_missing_and_what_is_superfluous_is_named() -> None:
    found = {(START, "OrderAccepted", "accepted"), ("accepted", "OrderReserved", "reserved")}
    drawn = arrows(["[*] --> accepted : OrderAccepted, OrderRejected", "reserved --> [*]"])
    assert differences(found, drawn) == (["accepted --> reserved : OrderReserved"], ["[*] --> accepted : OrderRejected"])


def found_by(search: Search) -> dict[str, Found]:
    """What the search's decider does, by heading."""
    return _found()[search.service]


@cache
def _found() -> dict[str, dict[str, Found]]:
    services = {service.name: service for service in make_services(RecordingProvider())}
    return {search.service: explore(search, services[search.service]) for search in SEARCHES}


def arrows(diagram: Iterable[str]) -> set[Transition]:
    """The transitions of a diagram: `before --> after : Event, OtherEvent`. Raises AssertionError for a line that is none."""
    found: set[Transition] = set()
    for line in diagram:
        arrow = ARROW.fullmatch(line)
        assert arrow, f"{line!r} is no arrow"
        if arrow["events"]:
            found |= {(arrow["old"], event, arrow["new"]) for event in arrow["events"].split(", ")}
    return found


def ends(diagram: Iterable[str]) -> set[str]:
    """The statuses with an arrow to the end, which bears no event."""
    return {line.removesuffix(f" --> {START}") for line in diagram if line.endswith(f" --> {START}")}


def differences(found: set[Transition], drawn: set[Transition]) -> tuple[list[str], list[str]]:
    """What is found and not drawn, and what is drawn and not found, as lines of a diagram."""
    return _lines(found - drawn), _lines(drawn - found)


def events_of(transitions: Iterable[Transition]) -> set[str]:
    return {event for _, event, _ in transitions}


def _lines(transitions: Iterable[Transition]) -> list[str]:
    return [f"{old} --> {new} : {event}" for old, event, new in sorted(transitions)]
