"""What is written on the pages: sections, tables, diagrams, links and the names of files."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ARCHITECTURE = ROOT / "services" / "README.md"


@cache
def files() -> frozenset[Path]:
    """Every file of the repository, by its path from the root; also one that is not committed yet, unless Git is to ignore it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return frozenset(Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def section(heading: str, page: Path = ARCHITECTURE) -> str:
    """The text below a heading, down to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{page.relative_to(ROOT)} has no heading {heading!r}"
    return found[1]


def mermaid(text: str) -> list[str]:
    """The lines of the one Mermaid diagram in a section, without its first, which says of which kind it is."""
    diagrams = re.findall(r"^```mermaid\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(diagrams) == 1
    return [line.strip() for line in diagrams[0].splitlines()[1:] if line.strip()]


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of the first table in a section, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def names(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`\n]+)`", text)


def without_code(text: str) -> str:
    """A page without its fenced and indented blocks and what stands in backticks."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^ {4}.*$|`[^`\n]+`", "", text, flags=re.MULTILINE)


def pages() -> Iterator[Path]:
    """Every Markdown page of the repository, from the root."""
    return (path for path in sorted(files()) if path.suffix == ".md")
