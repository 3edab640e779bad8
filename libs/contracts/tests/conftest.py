"""What the contract tests share: samples of any message, and a registry that a test may add to."""

from collections.abc import Callable
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import strategies as st
from msgspec.structs import fields
from oms_contracts import message

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=100)
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 29), timezones=st.just(UTC))  # noqa: DTZ001  # the zone is the third argument


def isolate(patch: pytest.MonkeyPatch) -> None:
    for name in ("_BY_NAME", "_BY_CLASS"):
        patch.setattr(message, name, dict(getattr(message, name)))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages published from here on are forgotten after the test."""
    isolate(monkeypatch)


@pytest.fixture(scope="session")
def isolated() -> Callable[[pytest.MonkeyPatch], None]:
    """A function that makes messages published from now on be forgotten when the patch is undone."""
    return isolate


@pytest.fixture(scope="session")
def instances() -> Any:
    """A function that gives a hypothesis strategy for any message class."""
    return instances_of


def instances_of(annotation: Any) -> st.SearchStrategy[Any]:
    arguments = get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, message.Value):
        hints = get_type_hints(annotation)
        return st.builds(annotation, **{field.name: instances_of(hints[field.name]) for field in fields(annotation)})
    if get_origin(annotation) in {Union, UnionType}:
        return st.one_of(*map(instances_of, arguments))
    if get_origin(annotation) is tuple:
        return st.lists(instances_of(arguments[0]), max_size=4).map(tuple)
    if get_origin(annotation) is dict:
        return st.dictionaries(*map(instances_of, arguments), max_size=4)
    simple = {str: TEXTS, int: NUMBERS, bool: st.booleans(), datetime: MOMENTS, NoneType: st.none()}
    return simple[annotation]
