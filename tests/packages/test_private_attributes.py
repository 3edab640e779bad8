"""One module touches private attributes of libraries: `oms_kafka.aiokafka_internals`, which gives the reason and the test of each."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("libs/runtime", "libs/kafka", "libs/client", "services")
INTERNALS = ROOT / "libs" / "kafka" / "src" / "oms_kafka" / "aiokafka_internals.py"
MODULES = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("src/**/*.py"))]
ALLOWED = {"_fields", "_replace", "_asdict", "_make"}
"""The public methods of named tuples: they begin with an underscore so that no field can have their names."""


def private_uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every private attribute of anything but `self` and `cls`, and of every private name that is imported."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                names: list[str] = []
            case ast.Attribute(attr=name):
                names = [name]
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "delattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]):
                names = [name]
            case ast.ImportFrom(module=module, names=aliases):
                names = [*(module or "").split("."), *(alias.name for alias in aliases)]
            case ast.Import(names=aliases):
                names = [part for alias in aliases for part in alias.name.split(".")]
            case _:
                continue
        for name in names:
            if name.startswith("_") and not name.endswith("__") and name not in ALLOWED:
                yield node.lineno, name


@pytest.mark.parametrize("module", [module for module in MODULES if module != INTERNALS], ids=lambda module: str(module.relative_to(ROOT)))
def test_a_module_touches_no_private_attribute(module: Path) -> None:
    uses = [f"{module.relative_to(ROOT)}:{line}: {name}" for line, name in private_uses(ast.parse(module.read_text()))]
    assert not uses, "use a public name, or move it to oms_kafka.aiokafka_internals with its reason:\n" + "\n".join(uses)


def test_the_search_finds_what_it_is_for() -> None:
    names = {name for _, name in private_uses(ast.parse(INTERNALS.read_text()))}
    assert {"_txn_manager", "_fetcher", "_coordinator"} <= names
    found = "import a._b\nfrom c import _d\ngetattr(e, '_f')\nself._g._h\nself._i\nj.__class__\nK._fields"
    assert [name for _, name in private_uses(ast.parse(found))] == ["_b", "_d", "_f", "_h"]
