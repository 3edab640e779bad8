"""Every link of every page leads somewhere, and every file that a page names exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documentation.pages import ARCHITECTURE, ROOT, files, names, pages, without_code

PAGES = list(pages())
FOLDERS = frozenset(path.parts[0] for path in files() if len(path.parts) > 1)
ELSEWHERE = frozenset({"result.json", "statements.txt", "top.txt", "order.json", "FILE.progress.json"})
"""Files that a program writes, or that a reader of the page does."""
PATH = re.compile(r"[\w.-]+(/[\w.-]+)*/?")
SUFFIX = re.compile(r"\.(py|md|toml|json|ya?ml|sql|txt|lock|sh)$")
LINK = re.compile(r"\[(?P<text>[^\[\]]+)\](?:\((?P<target>[^)\s]+)\)|\[(?P<label>[^\[\]]+)\])?(?!:)")
DEFINITION = re.compile(r"^\[(?P<label>[^\[\]]+)\]: (?P<target>\S+)$", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page, (ROOT / page).read_text())) == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_file_that_is_named_exists(page: Path) -> None:
    assert [name for name in named_files((ROOT / page).read_text()) if not is_there(name, page)] == []


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[a](README.md) [b](../README.md#two-commands) [c](https://example.org/nowhere) [d](capture/)", []),
        ("[a](nowhere.md)", ["nowhere.md"]),
        ("[a](README.md#nowhere)", ["README.md#nowhere"]),
        ("[a] and [b][a]\n\n[a]: README.md", []),
        ("[a]\n\n[a]: nowhere.md", ["nowhere.md"]),
        ("[nowhere] `[code]`", ["nowhere"]),
    ],
)
def test_a_broken_link_is_found(text: str, broken: list[str]) -> None:
    assert list(broken_links(ARCHITECTURE.relative_to(ROOT), text)) == broken


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("capture/README.md", True),
        ("services/capture/README.md", True),
        ("decider.py", True),
        ("policies/decider.py", False),
        ("nowhere.py", False),
        ("tests/faults", True),
        ("tests/nowhere", False),
    ],
)
def test_a_named_file_is_in_the_package_of_its_page_or_at_the_root(name: str, there: bool) -> None:
    assert named_files(f"see `{name}`") == [name]
    assert is_there(name, ARCHITECTURE.relative_to(ROOT)) is there


def broken_links(page: Path, text: str) -> Iterator[str]:
    """The targets of a page's links, inline or by reference, that are not there, and the references without a definition."""
    text = without_code(text)
    defined = {found["label"]: found["target"] for found in DEFINITION.finditer(text)}
    targets = list(defined.values())
    for link in LINK.finditer(DEFINITION.sub("", text)):
        if link["target"]:
            targets.append(link["target"])
        elif (label := link["label"] or link["text"]) not in defined:
            yield label
    for target in targets:
        if not target.startswith(("http://", "https://", "mailto:")) and not _leads_somewhere(page, target):
            yield target


def named_files(text: str) -> list[str]:
    """What stands in backticks outside of blocks and is the name of a file, or the path of a folder from the root."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [name for name in names(prose) if PATH.fullmatch(name) and (SUFFIX.search(name) or name.split("/")[0] in FOLDERS)]


def is_there(name: str, page: Path) -> bool:
    """Whether a file or folder of this name lies at the root, or anywhere in the package that the page belongs to."""
    parts = Path(name).parts
    package = next(folder for folder in page.parents if folder / "pyproject.toml" in files())
    return name in ELSEWHERE or any(
        path.parts[: len(parts)] == parts or (path.is_relative_to(package) and _contains(path.parts, parts)) for path in files()
    )


def _contains(path: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    return any(path[start : start + len(parts)] == parts for start in range(len(path)))


def _leads_somewhere(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    found = (ROOT / page.parent / name).resolve() if name else ROOT / page
    if not found.is_relative_to(ROOT) or not found.exists():
        return False
    return not anchor or anchor in {_anchor(heading) for heading in HEADING.findall(found.read_text())}


def _anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
