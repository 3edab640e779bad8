"""Reading a payload: every value is checked where it is read, every path that is read is known, and mistakes are collected, not raised."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar, cast

import msgspec
from oms_contracts.sound import MAX_ATTRIBUTES, MAX_TEXT_CHARACTERS
from oms_contracts.values import quoted, shortened

from oms_adapters.money import NotAnAmount, decimal_of, minor_units
from oms_adapters.results import Reason

T = TypeVar("T")

MAX_PAYLOAD_BYTES = 5_000_000
MAX_NODES = 200_000
"""Values in a payload, at all depths."""
MAX_DEPTH = 60
MAX_ENTRIES = 1_000
"""Of a list that is read. Capture accepts as many lines."""
MAX_SHARED = 100
"""Of a list whose entries are each shared over all lines: coupons, fees, taxes of the order."""
MAX_REMARKS = 100
MAX_UNITS = 10**9
"""In one order line, as capture has it."""
MAX_PROSE_CHARACTERS = 2_000
MAX_CODE_CHARACTERS = 100
_MAX_PATH_CHARACTERS = 200


class NotReadable(ValueError):
    """The payload is no JSON of bounded size. The text says why."""


def document_of(raw: bytes) -> Any:
    """The JSON value in `raw`, its fractions as Decimal. Raises NotReadable."""
    if len(raw) > MAX_PAYLOAD_BYTES:
        raise NotReadable(f"has {len(raw)} bytes, at most {MAX_PAYLOAD_BYTES} are read")
    try:
        document = _decoder.decode(raw)
    except RecursionError:
        raise NotReadable(f"is nested deeper than {MAX_DEPTH} levels") from None
    except (ValueError, ArithmeticError) as error:  # no JSON, no UTF-8, a number that no computer has
        raise NotReadable(f"is not JSON: {shortened(str(error), 200)}") from None
    level, nodes, depth = [document], 0, 0
    while level:
        nodes, depth = nodes + len(level), depth + 1
        if depth > MAX_DEPTH:
            raise NotReadable(f"is nested deeper than {MAX_DEPTH} levels")
        if nodes > MAX_NODES:
            raise NotReadable(f"has more than {MAX_NODES} values")
        level = [child for each in level for child in _children(each)]
    return document


def unmapped_fields(document: Any, declared: Collection[str], single: Collection[str] = ()) -> tuple[str, ...]:
    """Paths of `document` that hold something, are not `single` or `declared`, and lie not below what is `declared`.

    The first MAX_REMARKS, and how many more.
    """
    found: dict[str, None] = {}
    stack: list[tuple[str, Any]] = [("", document)]
    while stack:
        path, value = stack.pop()
        if path in declared or value in (None, "", [], {}):
            continue
        if isinstance(value, dict):
            members = cast(dict[str, Any], value)
            stack += [(f"{path}.{name}" if path else name, member) for name, member in reversed(members.items())]
        elif isinstance(value, list):
            stack += [(f"{path}[]", entry) for entry in reversed(cast(list[Any], value))]
        elif path not in single:
            found[path] = None
    named = tuple(shortened(path, _MAX_PATH_CHARACTERS) for path in islice(found, MAX_REMARKS))
    return (*named, f"and {len(found) - MAX_REMARKS} more") if len(found) > MAX_REMARKS else named


@dataclass(slots=True)
class Reading:
    """One payload being read. `exponent` is that of its currency, once that is known; `paths` are those that were asked for."""

    reasons: list[Reason] = field(default_factory=list[Reason])
    remarks: list[Reason] = field(default_factory=list[Reason])
    paths: set[str] = field(default_factory=set[str])
    exponent: int = 2

    def refuse(self, place: str, reason: str) -> None:
        """The payload cannot be mapped because of this. The first MAX_REMARKS reasons are kept."""
        if len(self.reasons) < MAX_REMARKS:
            self.reasons.append(Reason(shortened(place, _MAX_PATH_CHARACTERS) or "payload", reason))

    def remark(self, place: str, reason: str) -> None:
        """Something was fitted or filled in. The first MAX_REMARKS remarks are kept."""
        if len(self.remarks) < MAX_REMARKS:
            self.remarks.append(Reason(shortened(place, _MAX_PATH_CHARACTERS), reason))


@dataclass(frozen=True, slots=True)
class Source:
    """A value of a payload and where it lies: `place` with the positions in lists, `path` with `[]` for them."""

    reading: Reading
    value: Any
    place: str = ""
    path: str = ""

    def __getitem__(self, name: str) -> "Source":
        """A member; of value None where there is none, or where this is no object."""
        path = f"{self.path}.{name}" if self.path else name
        value = self._members().get(name)
        self.reading.paths.add(path)
        return Source(self.reading, value, f"{self.place}.{name}" if self.place else name, path)

    def __contains__(self, name: str) -> bool:
        return name in self._members()

    def refuse(self, reason: str) -> None:
        self.reading.refuse(self.place, reason)

    def remark(self, reason: str) -> None:
        self.reading.remark(self.place, reason)

    def object(self) -> bool:
        """Whether there is an object; refused where there is something else."""
        if self.value is None or isinstance(self.value, dict):
            return bool(self._members())
        self.refuse("must be an object")
        return False

    def entries(self, at_most: int = MAX_ENTRIES) -> Iterator["Source"]:
        """The entries of a list, each an object; none where there is no list, or where it has more than `at_most`."""
        for entry in self.values(at_most):
            if isinstance(entry.value, dict):
                yield entry
            else:
                entry.refuse("must be an object")

    def values(self, at_most: int = MAX_ENTRIES) -> Iterator["Source"]:
        """The entries of a list; none where there is no list, or where it has more than `at_most`."""
        if self.value is None:
            return
        listed: Any = self.value
        if not isinstance(listed, list):
            self.refuse("must be a list")
            return
        listed = cast(list[Any], listed)
        if len(listed) > at_most:
            self.refuse(f"has {len(listed)} entries, at most {at_most} are read")
            return
        for index, entry in enumerate(listed):
            yield Source(self.reading, entry, f"{self.place}.{index}", f"{self.path}[]")

    def text(self, max_characters: int = MAX_TEXT_CHARACTERS) -> str | None:
        """Text without blanks around it, cut with a remark where it is too long; None where it is empty."""
        text = self._as_text()
        if text is not None and len(text) > max_characters:
            self.remark(f"has {len(text)} characters and was cut to {max_characters}")
        return None if text is None else shortened(text, max_characters)

    def prose(self) -> str | None:
        """Text of a person."""
        return self.text(MAX_PROSE_CHARACTERS)

    def identifier(self, max_characters: int = MAX_TEXT_CHARACTERS) -> str | None:
        """Text, or a whole number as text. One that is too long is refused, because a part of it would be another one."""
        text = self._as_text()
        if text is not None and len(text) > max_characters:
            self.refuse(f"must have at most {max_characters} characters")
            return None
        return text

    def amount(self) -> int | None:
        """Minor units of the payload's currency; None where there is nothing."""
        return self._checked(lambda value: minor_units(value, self.reading.exponent))

    def decimal(self) -> Decimal | None:
        """A number that is no amount."""
        return self._checked(decimal_of)

    def quantity(self) -> int | None:
        """Whole units."""
        number = self.decimal()
        if number is None:
            return None
        if number != number.to_integral_value():
            self.refuse(f"is {number}: only whole units can be ordered")
            return None
        if not 0 <= number <= MAX_UNITS:
            self.refuse(f"must be between 0 and {MAX_UNITS}")
            return None
        return int(number)

    def flag(self) -> bool | None:
        """True or false."""
        if self.value is None or isinstance(self.value, bool):
            return self.value
        self.refuse("must be true or false")
        return None

    def moment(self, *, zone: tzinfo | None = None, layout: str | None = None) -> datetime | None:
        """A date and time in UTC, in ISO 8601 or as `layout` (of strptime) says. One without an offset is refused, unless it is in `zone`.

        A local time that a change of clocks makes twice is the first of the two.
        """
        text = self._as_text()
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text) if layout is None else datetime.strptime(text, layout)  # noqa: DTZ007  # see below
            if moment.tzinfo is None and zone is not None:
                moment = moment.replace(tzinfo=zone)
            if moment.tzinfo is None:
                self.refuse("must be a date and time with its offset")
                return None
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            self.refuse(f"{quoted(text)} is not a date and time")
            return None

    def required(self, found: T | None) -> T | None:
        """What was found here; refused where it is None and no other mistake of this field was named."""
        if found is None and not any(reason.field == self.place for reason in self.reading.reasons):
            self.refuse("is required")
        return found

    def _members(self) -> dict[str, Any]:
        value: Any = self.value
        return cast(dict[str, Any], value) if isinstance(value, dict) else {}

    def _as_text(self) -> str | None:
        value = self.value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is None or isinstance(value, str):
            text = (value or "").strip()
            if "\x00" in text:
                self.refuse("must not contain the character NUL")
                return None
            return text or None
        self.refuse("must be text")
        return None

    def _checked(self, convert: Callable[[Any], T]) -> T | None:
        if self.value is None or self.value == "":
            return None
        try:
            return convert(self.value)
        except NotAnAmount as error:
            self.refuse(str(error))
            return None


def attributes_of(pairs: Iterator[tuple[Source, str | None, Source]]) -> dict[str, str]:
    """Names and values as attributes: the first MAX_ATTRIBUTES, what is no text as JSON, what is too long cut, each with a remark."""
    found: dict[str, str] = {}
    for entry, name, value in pairs:
        if name is None or value.value is None or value.value == "":
            continue
        if len(found) == MAX_ATTRIBUTES:
            entry.remark(f"is one of more than {MAX_ATTRIBUTES} attributes and was left out")
            return found
        if isinstance(value.value, str):
            text = value.text()
        else:
            text = Source(value.reading, msgspec.json.encode(value.value).decode(), value.place, value.path).text()
        if text is not None:
            found[name] = text
    return found


def _children(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return cast(Mapping[str, Any], value).values()
    return cast(list[Any], value) if isinstance(value, list) else ()


_decoder = msgspec.json.Decoder(float_hook=Decimal)
