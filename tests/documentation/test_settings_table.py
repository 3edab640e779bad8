"""The handbook's table of settings has every setting of every process, with its true default, and nothing else."""

import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from oms_contracts.catalogue import ALL_SERVICES, APIS
from oms_runtime.sealing import KEY_BYTES
from oms_runtime.settings import MIN_TOKEN_CHARACTERS, OperationsSettings
from pydantic_core import PydanticUndefined

HANDBOOK = Path(__file__).parents[2] / "deploy/README.md"
HEADER = "| Variable | Processes | Unit | Default | Meaning |"
PROCESSES = (*ALL_SERVICES, *APIS)
REQUIRED = "required"
REQUIRED_VARIABLES = {
    "OMS_DATABASE_URL": "postgresql://127.0.0.1/any",
    "OMS_PERSONAL_DATA_KEY": b64encode(bytes(KEY_BYTES)).decode(),
    "OMS_QUERY_TOKEN": "t" * MIN_TOKEN_CHARACTERS,
}
UNITS = {"_ms": "milliseconds", "_seconds": "seconds", "_bytes": "bytes"}
"""By the end of a setting's name."""


class Setting(NamedTuple):
    """A setting of one process."""

    service: str
    variable: str


class Row(NamedTuple):
    """A row of the table."""

    variable: str
    processes: str
    unit: str
    default: str
    meaning: str


def rows() -> Iterator[Row]:
    """The table's rows, without the marks that make a cell code."""
    _, _, table = HANDBOOK.read_text().partition(HEADER)
    for line in table.split("\n")[2:]:
        if not line.startswith("|"):
            return
        yield Row(*(cell.strip().strip("`") for cell in line.strip("|").split("|")))


def documented() -> dict[Setting, Row]:
    """The table by service and variable. Fails where two rows are about the same setting."""
    found: dict[Setting, Row] = {}
    for row in rows():
        named = re.split(r",\s*", row.processes)
        processes = {process for name in named for process in {"all": PROCESSES, "services": ALL_SERVICES}.get(name, (name,))}
        for service in sorted(processes):
            setting = Setting(service, row.variable)
            assert setting not in found, f"{setting.variable} of {service} has two rows"
            found[setting] = row
    return found


def settings_class(process: str) -> type[OperationsSettings]:
    """The settings of a service, of its API, or of the gateway."""
    if APIS.get(process, process) != process:
        return import_module(f"oms_{APIS[process]}.settings").EdgeSettings
    return import_module(f"oms_{process}.settings").Settings


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return f"OMS_{name.upper()}"


def declared() -> dict[Setting, str]:
    """Every setting of every process, with the name of its field."""
    return {Setting(service, variable_of(name)): name for service in PROCESSES for name in settings_class(service).model_fields}


def test_every_setting_has_a_row_and_every_row_is_a_setting() -> None:
    in_code, in_table = declared().keys(), documented().keys()

    assert sorted(in_code - in_table) == [], "settings that the table lacks"
    assert sorted(in_table - in_code) == [], "rows about settings that do not exist"


@pytest.mark.parametrize("service", PROCESSES)
def test_a_default_in_the_table_is_the_default_in_the_code(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each default is given to the settings class as its variable, so it is also proved to be a valid way to write it."""
    settings = settings_class(service)
    for variable in map(variable_of, settings.model_fields):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in REQUIRED_VARIABLES.items():
        monkeypatch.setenv(variable, value)
    defaults = settings()  # pyright: ignore[reportCallIssue]  # its fields come from the environment
    table = documented()
    wrong: list[str] = []
    for name, field in settings.model_fields.items():
        variable = variable_of(name)
        row = table.get(Setting(service, variable))
        if row is None:
            continue  # the test above names it
        default = getattr(defaults, name)
        if field.default is PydanticUndefined:
            if row.default != REQUIRED:
                wrong.append(f"{variable} is required, the table says {row.default}")
        elif default is None:
            if row.default != "none":
                wrong.append(f"{variable} has no default, the table says {row.default}")
        else:
            with monkeypatch.context() as patch:
                patch.setenv(variable, row.default)
                given = getattr(settings(), name)  # pyright: ignore[reportCallIssue]  # its fields come from the environment
            if given != default:
                wrong.append(f"{variable} has the default {default!r}, the table says {row.default}")
    assert wrong == []


def test_a_number_has_its_unit_and_every_row_its_meaning() -> None:
    table = documented()
    wrong: list[str] = []
    for setting, name in declared().items():
        row = table.get(setting)
        if row is None:
            continue  # the first test names it
        expected = next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), None)
        if settings_class(setting.service).model_fields[name].annotation is timedelta:
            expected = "duration"
        if not row.unit or (expected is not None and row.unit != expected):
            wrong.append(f"{setting.variable} has the unit {row.unit!r} in the table, not {expected!r}")
        if not row.meaning.endswith("."):
            wrong.append(f"{setting.variable} has no sentence that says what it means")
    assert wrong == []
