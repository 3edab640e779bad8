"""Prometheus' own tool, as `make promtool` builds it or as the path has it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from oms_local.jars import cache_folder

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "deploy/monitoring"


def promtool(*arguments: str | Path) -> str:
    """What promtool prints. Skips the test where there is no promtool; fails it where promtool finds a mistake."""
    ran = subprocess.run([_path(), *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def _path() -> Path:
    version = re.search(r"^PROMETHEUS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert version
    built = cache_folder() / "tools" / version[1] / "promtool"
    if built.exists():
        return built
    installed = shutil.which("promtool")
    if installed is None:  # `.ci/run` builds it wherever there is Go
        pytest.skip("there is no promtool, so the alarms are not tested: `make promtool` builds it (it needs Go)")
    return Path(installed)
