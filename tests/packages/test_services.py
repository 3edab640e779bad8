"""One list has all services and the gateway: `oms_contracts.catalogue.PROGRAMS`. What has an entry by hand is checked against it."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oms_contracts.catalogue import ALL_SERVICES, PROGRAMS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMPORT_LINTER: dict[str, Any] = PROJECT["tool"]["importlinter"]
PACKAGES = {file.parent: tomllib.loads(file.read_text()) for file in sorted(ROOT.glob("*/*/pyproject.toml"))}
SERVICE_MODULES = {f"oms_{program}" for program in PROGRAMS}
MIN_NAMES_OF_A_LIST = 4
"""A literal with this many services is meant to be a list of all. The catalogue alone may list some, as writers and readers of topics."""


def module_of(package: dict[str, Any]) -> str:
    return package["tool"]["uv"]["build-backend"]["module-name"]


def test_every_service_has_a_folder_a_package_and_a_module_of_its_name() -> None:
    services = {folder.name: package for folder, package in PACKAGES.items() if folder.parent.name == "services"}
    differing = set(services) ^ set(PROGRAMS)
    assert not differing, f"not both in services/ and in PROGRAMS: {', '.join(sorted(differing))}"
    for name, package in services.items():
        assert (package["project"]["name"], module_of(package)) == (f"orderstream-{name}", f"oms_{name}")
        assert (ROOT / "services" / name / "src" / f"oms_{name}" / "__main__.py").exists()


def test_every_package_is_in_the_workspace() -> None:
    missing = {package["project"]["name"] for package in PACKAGES.values()} - set(PROJECT["tool"]["uv"]["sources"])
    assert not missing, f"add to [tool.uv.sources] in pyproject.toml: {', '.join(sorted(missing))}"


def test_import_linter_sees_every_package() -> None:
    modules = {module_of(package) for package in PACKAGES.values()}
    acyclic = next(contract for contract in IMPORT_LINTER["contracts"] if contract["type"] == "acyclic_siblings")
    assert modules == set(IMPORT_LINTER["root_packages"]) == set(acyclic["ancestors"])


def lists_of_import_linter() -> Iterator[tuple[str, set[str]]]:
    """Name and modules of each list. A layer's siblings are separated by `|` or `:`."""
    contracts: list[dict[str, Any]] = IMPORT_LINTER["contracts"]
    for contract in contracts:
        for key in ("layers", "source_modules", "forbidden_modules", "modules", "ancestors"):
            if key in contract:
                yield f"{contract['name']}, {key}", set(re.split(r"[\s|:]+", " ".join(contract[key])))


@pytest.mark.parametrize(("name", "modules"), [pytest.param(*each, id=each[0]) for each in lists_of_import_linter()])
def test_a_contract_of_import_linter_that_names_a_service_names_all(name: str, modules: set[str]) -> None:
    missing = SERVICE_MODULES - modules
    assert not missing or not modules & SERVICE_MODULES, f"add to `{name}` in pyproject.toml: {', '.join(sorted(missing))}"


def test_a_list_of_services_in_the_code_has_all() -> None:
    incomplete = [
        f"{file.relative_to(ROOT)}:{line}: {', '.join(sorted(set(ALL_SERVICES) - names))}"
        for folder in (*PACKAGES, ROOT / "tests")
        for file in sorted((folder / "src" if folder in PACKAGES else folder).rglob("*.py"))
        if file.name != "catalogue.py"
        for line, names in literal_lists(ast.parse(file.read_text()))
        if len(names) >= MIN_NAMES_OF_A_LIST and names != set(ALL_SERVICES)
    ]
    assert not incomplete, "use oms_contracts.catalogue.ALL_SERVICES, or add what is missing:\n" + "\n".join(incomplete)


def literal_lists(tree: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """Line and service names of every tuple, list, set and dict of the code; `Literal[...]` has a tuple."""
    for node in ast.walk(tree):
        match node:
            case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
                pass
            case ast.Dict(keys=elements):
                pass
            case _:
                continue
        texts = {element.value for element in elements if isinstance(element, ast.Constant) and isinstance(element.value, str)}
        yield node.lineno, texts & set(ALL_SERVICES)
