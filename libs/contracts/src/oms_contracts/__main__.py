"""Publish the contracts, or check that what is published is current, compatible and still readable."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from oms_contracts.golden import add_goldens
from oms_contracts.publish import GOLDEN, breaches, check, write

_HERE = Path(__file__).resolve().parents[2]

_EPILOG = """\
exit codes:
  0  all is well
  1  something is stale, breaks readers or was edited; each is named
  2  the command line is wrong

example, after adding a message:
  python -m oms_contracts --add-goldens && python -m oms_contracts --write && python -m oms_contracts --check
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m oms_contracts", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--check", action="store_true", help="name everything that is stale, incompatible, or no longer readable")
    asked.add_argument("--write", action="store_true", help="write the schemas, the AsyncAPI document and the README's table of topics")
    asked.add_argument("--add-goldens", action="store_true", help="write golden records for types that lack one; never touches the others")
    parser.add_argument("--root", type=Path, default=_HERE, help="the folder of this library (default: where it lies)")
    options = parser.parse_args(arguments)
    root: Path = options.root
    if not (root / "pyproject.toml").exists():
        parser.error(f"{root} is not the folder of this library: say which with --root")

    if options.add_goldens:
        return _print([f"wrote {file.relative_to(root)}" for file in add_goldens(root / GOLDEN)], 0)
    if options.write:
        if broken := breaches(root):
            return _print([*broken, "Nothing was written."], 1)
        return _print([f"wrote {file.relative_to(root)}" for file in write(root)], 0)
    return _print(check(root), None)


def _print(lines: Sequence[str], code: int | None) -> int:
    """Print `lines`; without a `code`, having anything to say is a failure."""
    if code is None:
        code = 1 if lines else 0
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
