"""Every package installs alone: what it imports, it declares. A full install would hide what is missing."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(folder.parent.relative_to(ROOT) for folder in ROOT.glob("*/*/pyproject.toml"))
UV = Path(sys.executable).with_name("uv")

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith(".testing"):
        importlib.import_module(module.name)
"""
"""The pytest plugin is loaded by pytest only."""


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_package_installs_alone_and_every_module_of_it_can_be_imported(package: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "alone")}
    for command in (
        [UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "alone"],
        [UV, "pip", "install", "--quiet", "--constraint", "deploy/requirements.txt", f"./{package}"],
    ):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    name = tomllib.loads((ROOT / package / "pyproject.toml").read_text())["tool"]["uv"]["build-backend"]["module-name"]
    done = subprocess.run(
        [tmp_path / "alone" / "bin" / "python", "-W", "error", "-c", IMPORT_ALL, name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
