"""Reading what external parties send: nothing is coerced, nothing is lost unseen, and the first MAX_REASONS mistakes are named at once.

What is refused, beside what does not fit its type: a field the message does not have (it may be a misspelt optional one), an integer that
JSON readers elsewhere would round (RFC 7493), a moment without an offset, and text that PostgreSQL cannot store or index.

Most messages are sound, and `sound` reads them without pydantic. Half a megabyte can hold 100,000 mistakes, and pydantic takes microseconds
for each. So any other message is read in two steps: the first one stops at the first wrong entry of a list and does not look for unknown
fields one by one; only if it fails, a second one finds what to name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from itertools import islice
from typing import Any, cast, get_type_hints

import msgspec
from pydantic import TypeAdapter
from pydantic_core import CoreSchema, PydanticKnownError, PydanticOmit, SchemaValidator, ValidationError
from pydantic_core.core_schema import (
    DataclassField,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    chain_schema,
    dataclass_args_schema,
    dataclass_field,
    datetime_schema,
    list_schema,
    no_info_after_validator_function,
    no_info_before_validator_function,
    plain_serializer_function_ser_schema,
    str_schema,
    with_default_schema,
    with_info_wrap_validator_function,
)

from oms_contracts.sound import MAX_ATTRIBUTES, MAX_ITEMS, MAX_NUMBER, MAX_TEXT_CHARACTERS, read_sound

MAX_REASONS = 100
"""Mistakes named in one response. The search for more ends soon after."""

_NO_NUL = r"^[^\x00]*$"
_RFC3339 = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$"
_PLAIN = re.compile(r"[A-Za-z0-9_]{1,80}")
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_WORDS = {
    "unexpected_keyword_argument": "there is no such field",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} entries, has {actual_length}",
    "missing": "is required",
}
_OF_PATTERNS = {
    _NO_NUL: "must not contain the character NUL",
    _RFC3339: "must be a date and time with its offset, as RFC 3339 writes it: 2026-01-31T09:30:00Z",
}


class Refused(ValueError):
    """The value does not fit; `reasons` names each field and its mistake."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def read_strictly(cls: type[Any], value: bytes) -> Any:
    """An instance of the message class `cls` from its JSON, moments in UTC. Raises Refused."""
    sound = read_sound(cls, value)
    return read_by_pydantic(cls, value) if sound is None else sound


def read_by_pydantic(cls: type[Any], value: bytes) -> Any:
    """As `read_strictly`, in five times its time."""
    try:
        return _quick_validator(cls).validate_json(value)
    except (ValidationError, TypeError):
        pass  # a TypeError is a missing or an unknown field; the second step decides, and names them
    try:
        return _naming_validator(cls).validate_json(value, context=_Mistakes())
    except ValidationError as error:
        raise Refused(_reasons(error)) from error


@cache
def strict_schema(cls: type[Any]) -> CoreSchema:
    """What pydantic makes of the message class `cls`, tightened."""
    return _tightened(TypeAdapter(cls).core_schema)


def core_schema_of(cls: type[msgspec.Struct], schema_of: Callable[[Any], CoreSchema]) -> CoreSchema:
    """What pydantic is to make of a struct, which it does not know: a dataclass's arguments, and the struct made of them."""
    hints = get_type_hints(cls, include_extras=True)

    def field(info: msgspec.structs.FieldInfo) -> DataclassField:
        schema = schema_of(hints[info.name])
        if info.default is not msgspec.NODEFAULT:
            schema = with_default_schema(schema, default=info.default)
        elif info.default_factory is not msgspec.NODEFAULT:
            schema = with_default_schema(schema, default_factory=info.default_factory)
        return dataclass_field(info.name, schema, kw_only=True)

    arguments = dataclass_args_schema(cls.__name__, [field(info) for info in msgspec.structs.fields(cls)])
    written = plain_serializer_function_ser_schema(msgspec.to_builtins)
    ref = f"{cls.__module__}.{cls.__qualname__}:{id(cls)}"
    return no_info_after_validator_function(lambda found: cls(**found[0]), arguments, serialization=written, ref=ref)


@dataclass(slots=True)
class _Mistakes:
    """How many were found so far in the entries of lists."""

    count: int = 0


@cache
def _quick_validator(cls: type[Any]) -> SchemaValidator:
    return SchemaValidator(_quick(strict_schema(cls)))


@cache
def _naming_validator(cls: type[Any]) -> SchemaValidator:
    return SchemaValidator(_naming(strict_schema(cls)))


def _quick(node: Any) -> Any:
    """A schema whose validator finds at most one mistake a field, and ends at once where a field is missing or unknown.

    Pydantic adds the whole object to the mistake of a missing field. An unknown field is refused by the class, once it is to be made.
    """
    match _rewritten(node, _quick):
        case {"type": "list"} as found:
            return found | {"fail_fast": True}
        case {"type": "dataclass-args"} as found:
            return found | {"extra_behavior": "allow"}
        case {"type": "dataclass-field", "schema": schema} as found if schema["type"] != "default":
            return found | {"schema": with_default_schema(schema, default_factory=_end_at_missing_field)}
        case found:
            return found


def _naming(node: Any) -> Any:
    """A schema whose validator finds every mistake up to MAX_REASONS, and not many more."""
    match _rewritten(node, _naming):
        case {"type": "list", "items_schema": item} as found:
            checked = found | {"items_schema": with_info_wrap_validator_function(_unless_enough, item)}
            return no_info_before_validator_function(_not_too_long, cast(CoreSchema, checked))
        case {"type": "dataclass-args", "fields": fields} as found:
            return no_info_before_validator_function(partial(_cut, frozenset(field["name"] for field in fields)), found)
        case found:
            return found


def _end_at_missing_field() -> Any:
    raise TypeError("a field is missing")


def _rewritten(node: Any, rewrite: Callable[[Any], Any]) -> Any:
    match node:
        case dict():
            return {name: rewrite(part) for name, part in cast(dict[str, Any], node).items()}
        case list():
            return [rewrite(part) for part in cast(list[Any], node)]
        case _:
            return node


def _not_too_long(value: Any) -> Any:
    """Refuse a list for its length alone: its entries are not worth a look."""
    length = len(cast(list[Any], value)) if isinstance(value, list) else 0
    if length > MAX_ITEMS:
        raise PydanticKnownError("too_long", {"field_type": "List", "max_length": MAX_ITEMS, "actual_length": length})
    return cast(Any, value)


def _unless_enough(entry: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo[_Mistakes]) -> Any:
    """Validate an entry of a list, or leave it out when enough mistakes were found before it."""
    before = info.context.count
    if before > MAX_REASONS:
        raise PydanticOmit
    try:
        return validate(entry)
    except ValidationError as error:
        info.context.count = before + error.error_count()  # those of lists inside the entry are among them
        raise


def _cut(names: frozenset[str], value: Any) -> Any:
    """An object without the unknown fields beyond the first MAX_REASONS and one more, which says that there are more."""
    if not isinstance(value, dict):
        return value
    members = cast(dict[str, Any], value)
    if len(members) <= len(names) + MAX_REASONS:
        return members
    unknown = islice((name for name in members if name not in names), MAX_REASONS + 1)
    return {name: members[name] for name in (*(names & members.keys()), *unknown)}


def _tightened(node: Any) -> Any:
    match node:
        case {"type": "str"}:
            return {"max_length": MAX_TEXT_CHARACTERS, "pattern": _NO_NUL, **node, "strict": True}
        case {"type": "int"}:
            return {"ge": -MAX_NUMBER, "le": MAX_NUMBER, **node, "strict": True}
        case {"type": "bool"}:
            return {**node, "strict": True}
        case {"type": "datetime"}:
            # The text is matched first: pydantic alone would also take the seconds since 1970, written as text.
            moment = datetime_schema(tz_constraint="aware", ge=_FIRST, le=_LAST)
            return no_info_after_validator_function(_in_utc, chain_schema([str_schema(strict=True, pattern=_RFC3339), moment]))
        case {"type": "tuple", "items_schema": [item]}:
            # Pydantic counts a list before it reads the entries, a tuple only behind them.
            return no_info_after_validator_function(tuple, list_schema(_tightened(item), max_length=MAX_ITEMS))
        case {"type": "dict"}:
            return _rewritten(node, _tightened) | {"max_length": MAX_ATTRIBUTES}
        case {"type": "dataclass-args"}:
            return _rewritten(node, _tightened) | {"extra_behavior": "forbid"}
        case _:
            return _rewritten(node, _tightened)


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _reasons(error: ValidationError) -> list[str]:
    found = error.errors(include_url=False, include_input=False)
    reasons = [f"{_where(e['loc'])}: {_what(e['type'], e.get('ctx', {}), e['msg'])}" for e in found[:MAX_REASONS]]
    if len(found) > MAX_REASONS:
        reasons.append("value: more mistakes")
    return reasons


def _where(place: tuple[int | str, ...]) -> str:
    """The path of a field. An unknown field's name is external text: it is kept short and printable."""
    return ".".join(part if _PLAIN.fullmatch(part) else ascii(part[:80]) for part in map(str, place)) or "value"


def _what(kind: str, context: dict[str, Any], text: str) -> str:
    if kind == "string_pattern_mismatch":
        return _OF_PATTERNS.get(context["pattern"], text)
    return _WORDS.get(kind, text).format_map(context)
