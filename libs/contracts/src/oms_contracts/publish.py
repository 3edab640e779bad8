"""The published documents as files: what they should say, whether they do, and whether what they say may change so."""

import json
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

from oms_contracts.asyncapi import document, kept
from oms_contracts.catalogue import PARTY_TOPICS, TOPICS
from oms_contracts.compatibility import channel_breaches, schema_breaches
from oms_contracts.golden import golden_faults, read_goldens
from oms_contracts.message import all_types
from oms_contracts.schemas import schema_of

ASYNCAPI = "published/asyncapi.json"
SCHEMAS = "published/schemas"
GOLDEN = "golden"
README = "README.md"
_TABLE = "<!-- topics: written by `python -m oms_contracts --write` -->", "<!-- end of topics -->"
_MOST_LINES = 40


def documents(root: Path) -> dict[Path, str]:
    """Every generated file with the text it should have."""
    files = {root / SCHEMAS / f"{kind.name}.json": _json(schema_of(kind)) for kind in all_types()}
    files[root / ASYNCAPI] = _json(document(_examples(root)))
    readme = root / README
    if readme.exists():
        files[readme] = _with_table(readme.read_text(encoding="utf-8"))
    return files


def breaches(root: Path) -> list[str]:
    """What the messages and topics, as they are now, would break of what is published."""
    now = {kind.name: schema_of(kind) for kind in all_types()}
    found = [
        breach
        for file in sorted((root / SCHEMAS).glob("*.json"))
        for breach in schema_breaches(file.stem, json.loads(file.read_text(encoding="utf-8")), now.get(file.stem))
    ]
    published = root / ASYNCAPI
    if published.exists():
        found += channel_breaches(json.loads(published.read_text(encoding="utf-8")), document({}))
    return found


def stale(root: Path) -> list[str]:
    """Every generated file that does not say what it should, with the difference."""
    expected = documents(root)
    strays = sorted(set((root / "published").rglob("*.json")) - set(expected))
    return [
        *(f"{_named(file, root)}: nothing publishes this" for file in strays),
        *(text for file, content in expected.items() if (text := _difference(file, content, root))),
    ]


def check(root: Path) -> list[str]:
    """Every reason not to publish the working tree: breaking changes, golden records at fault, stale documents."""
    return [*breaches(root), *golden_faults(root / GOLDEN), *stale(root)]


def write(root: Path) -> list[Path]:
    """Bring the generated files up to date; answers those that changed. What breaks readers is for the caller to refuse first."""
    changed: list[Path] = []
    for file, content in documents(root).items():
        if not file.exists() or file.read_text(encoding="utf-8") != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
            changed.append(file)
    return changed


def topic_table() -> str:
    """The topics as a Markdown table."""
    rows = [
        f"| {topic.name} | {topic.key} | {kept(topic)} | {', '.join(topic.writers)} | {', '.join(topic.readers)} | {len(topic.messages)} |"
        for topic in (*TOPICS, *PARTY_TOPICS)
    ]
    return "\n".join(["| Topic | Key | Kept | Written by | Read by | Types |", "|---|---|---|---|---|---|", *rows])


def _examples(root: Path) -> dict[str, list[dict[str, Any]]]:
    examples: dict[str, list[dict[str, Any]]] = {}
    for golden in read_goldens(root / GOLDEN):
        example = {"name": golden.name, "headers": golden.headers, "payload": json.loads(golden.value)}
        examples.setdefault(golden.type, []).append(example)
    return examples


def _with_table(readme: str) -> str:
    begin, end = _TABLE
    before, found, rest = readme.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        before, after = f"{readme.rstrip()}\n\n", "\n"
    return f"{before}{begin}\n{topic_table()}\n{end}{after}"


def _difference(file: Path, content: str, root: Path) -> str:
    name = _named(file, root)
    if not file.exists():
        return f"{name}: is not written yet"
    lines = list(_diff(file.read_text(encoding="utf-8"), content, name))
    more = [f"... and {len(lines) - _MOST_LINES} lines more"] if len(lines) > _MOST_LINES else []
    return "\n".join([*lines[:_MOST_LINES], *more])


def _diff(old: str, new: str, name: str) -> Iterator[str]:
    return unified_diff(old.splitlines(), new.splitlines(), f"{name} (as it is)", f"{name} (as it should be)", n=2, lineterm="")


def _named(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
