"""Golden records: for every message type, records as they are on the wire. A listed one never changes, and is read for ever.

`<type>.json` is a record's value, byte for byte; `<type>.headers.json` its topics, key and headers. Further ones of a type, added when it
got another field, are `<type>.2.json` and so on. SHA256SUMS lists them all.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import msgspec

from oms_contracts.envelope import from_headers, to_headers
from oms_contracts.message import MessageType, UnreadableMessage, all_types, decode, encode, find_type, key_of, type_of, validate
from oms_contracts.samples import sample, sample_envelope
from oms_contracts.schemas import is_external, topics_of

SUMS = "SHA256SUMS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One golden record. `name` is its file's, without the ending."""

    name: str
    type: str
    topics: list[str]
    key: str
    headers: dict[str, str]
    value: bytes


def read_goldens(folder: Path) -> list[Golden]:
    """All golden records, by name."""
    return [_read(file) for file in sorted(folder.glob("*.headers.json"))]


def golden_faults(folder: Path) -> list[str]:
    """Everything that is wrong with the golden records, or that they show to be wrong with the messages."""
    if changed := list(_changed(folder)):
        return changed
    goldens = read_goldens(folder)
    return [
        *(f"golden/{golden.name}: {fault}" for golden in goldens for fault in _faults(golden)),
        *(f"{kind.name}: no golden record has {', '.join(without)}: add one with --add-goldens" for kind, without in _lacking(goldens)),
    ]


def add_goldens(folder: Path) -> list[Path]:
    """Write a golden record for every type that has none, or none with all of its fields. Files that are there stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    added: list[Path] = []
    for kind, _ in _lacking(read_goldens(folder)):
        stem = next(stem for stem in _stems(kind) if not (folder / f"{stem}.json").exists())
        message = sample(kind.cls)
        headers = {name: value.decode() for name, value in to_headers(sample_envelope(message, by_service=not is_external(kind)))}
        about = {"type": kind.name, "topics": topics_of(kind), "key": key_of(message), "headers": headers}
        for file, content in (
            (folder / f"{stem}.json", encode(message)),
            (folder / f"{stem}.headers.json", json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n"),
        ):
            file.write_bytes(content)
            added.append(file)
    with (folder / SUMS).open("a", encoding="utf-8") as sums:
        sums.writelines(f"{_sum(file)}  {file.name}\n" for file in added)
    return added


def _changed(folder: Path) -> Iterator[str]:
    listed = {name: expected for expected, name in (line.split(maxsplit=1) for line in _lines(folder / SUMS))}
    present = {file.name: file for file in sorted(folder.glob("*.json"))}
    for name, expected in listed.items():
        if name not in present:
            yield f"golden/{name}: was removed; golden records stay for ever"
        elif _sum(present[name]) != expected:
            yield f"golden/{name}: was edited; golden records never change: put it back, and publish a new version instead"
    yield from (f"golden/{name}: is not listed in {SUMS}; let --add-goldens write it" for name in present if name not in listed)


def _faults(golden: Golden) -> Iterator[str]:
    """Why a record that was once published would no longer mean the same."""
    kind = find_type(golden.type)
    if kind is None:
        yield f"{golden.type} is no longer known: keep the class, and let `upcast` turn it into what replaces it"
        return
    try:
        newest = decode(golden.type, golden.value)
        if validate(golden.type, golden.value) != newest:
            yield "decode and validate read it differently"
        published = msgspec.json.decode(golden.value, type=kind.cls)
    except UnreadableMessage as error:
        yield f"can no longer be read: {error}"
        return
    written = msgspec.json.encode(_without_later_fields(json.loads(encode(published)), json.loads(golden.value)))
    if written != golden.value:
        yield f"is no longer written byte for byte as it was: {written.decode()}"
    for message in (published, newest):
        if key_of(message) != golden.key:
            yield f"its key was {golden.key}, and is now {key_of(message)} of {type_of(message).name}: publish a new topic"
    if not set(golden.topics) <= set(topics_of(kind)):
        yield f"was on {', '.join(golden.topics)}, and {golden.type} is now on {', '.join(topics_of(kind)) or 'no topic'}"
    envelope = from_headers((name, text.encode()) for name, text in golden.headers.items())
    if {name: value.decode() for name, value in to_headers(envelope)} != golden.headers:
        yield "its headers are not written as they were"


def _lacking(goldens: list[Golden]) -> Iterator[tuple[MessageType, list[str]]]:
    """The types whose golden records leave fields out, and those fields."""
    shown: dict[str, set[str]] = {}
    for golden in goldens:
        shown.setdefault(golden.type, set()).update(_paths(json.loads(golden.value)))
    for kind in all_types():
        without = set(_paths(json.loads(encode(sample(kind.cls))))) - shown.get(kind.name, set())
        if without:
            yield kind, sorted(without)


def _paths(value: Any, place: str = "") -> Iterator[str]:
    """Every field that a value has, by its path; those of a list's items are named once."""
    match value:
        case dict():
            for name, part in cast(dict[str, Any], value).items():
                path = f"{place}.{name}" if place else name
                yield path
                yield from _paths(part, path)
        case list():
            for part in cast(list[Any], value):
                yield from _paths(part, f"{place}[]")
        case _:
            return


def _without_later_fields(written: Any, golden: Any) -> Any:
    """What is written now, less the fields that were added since the golden record."""
    match written, golden:
        case dict(), dict():
            now, then = cast(dict[str, Any], written), cast(dict[str, Any], golden)
            return {name: _without_later_fields(part, then[name]) for name, part in now.items() if name in then}
        case list(), list():
            ours, theirs = cast(list[Any], written), cast(list[Any], golden)
            return [*map(_without_later_fields, ours, theirs), *ours[len(theirs) :]]
        case _:
            return written


def _read(headers_file: Path) -> Golden:
    name = headers_file.name.removesuffix(".headers.json")
    value_file = headers_file.with_name(f"{name}.json")
    value = value_file.read_bytes() if value_file.exists() else b""
    return Golden(name=name, value=value, **json.loads(headers_file.read_text(encoding="utf-8")))


def _stems(kind: MessageType) -> Iterator[str]:
    yield kind.name
    number = 2
    while True:
        yield f"{kind.name}.{number}"
        number += 1


def _sum(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []
