"""The pages name exactly the fields that the adapters consume and ignore, and the adapters read exactly what they say they consume."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oms_adapters.mapping import SHIPPED
from oms_adapters.platforms import PLATFORMS, adapter_of_platform
from oms_adapters.reading import Reading, Source

from libs.adapters.tests.helpers import places
from libs.adapters.tests.payloads import BY_PLATFORM
from tests.documentation.pages import names, rows

FOLDER = Path(__file__).parents[1]


def tables(platform: str) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of what becomes a field of ours, and of what is left out."""
    if platform not in SHIPPED:
        page = (FOLDER / f"{platform}.md").read_text()
    else:
        pages = re.split(r"^## ", (FOLDER / "generic.md").read_text(), flags=re.MULTILINE)
        page = next(part for part in pages if part.startswith(platform.capitalize()))
    fields, _, left_out = page.partition("Left out\n")
    return rows(fields), rows(left_out)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_page_names_the_fields_that_are_consumed(platform: str) -> None:
    fields, _ = tables(platform)
    on_page = {path: ours for ours, sources, _ in fields for path in names(sources)}
    consumed = adapter_of_platform(platform).consumed
    assert on_page == {path: "what a webhook means" if ours == "-" else f"`{ours}`" for path, ours in consumed.items()}
    assert all(rule for *_, rule in fields)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_page_names_what_is_left_out_and_why(platform: str) -> None:
    _, left_out = tables(platform)
    assert {path: why for why, sources in left_out for path in names(sources)} == adapter_of_platform(platform).ignored


@pytest.mark.parametrize("platform", PLATFORMS)
def test_nothing_that_is_left_out_hides_what_is_consumed(platform: str) -> None:
    adapter = adapter_of_platform(platform)
    hidden = [path for path in adapter.consumed for other in adapter.ignored if path == other or below(path, other)]
    assert hidden == []


@pytest.mark.parametrize("platform", ["shopify", "woocommerce"])
def test_an_adapter_reads_what_it_says_it_consumes(platform: str) -> None:
    adapter = adapter_of_platform(platform)
    reading = Reading()
    for payload in variants(platform):
        root = Source(reading, adapter.body(payload))
        adapter.standing(root)
        adapter.refusal(root)
        adapter.build(root, "web")
    declared = set(adapter.consumed)
    assert declared - reading.paths == set()
    containers = {path for path in reading.paths for other in declared if below(other, path)}
    assert {path for path in reading.paths - containers if not any(path == each or below(path, each) for each in declared)} == set()


def variants(platform: str) -> Iterator[dict[str, Any]]:
    """Every order, and every one with one value missing: a field may be read only where another one is empty."""
    for payload in BY_PLATFORM[platform]:
        yield payload
        for index in range(len(list(places(payload)))):
            made = copy.deepcopy(payload)
            holder, name = list(places(made))[index]
            holder[name] = None
            yield made


def below(path: str, other: str) -> bool:
    return path.startswith((f"{other}.", f"{other}[]"))
