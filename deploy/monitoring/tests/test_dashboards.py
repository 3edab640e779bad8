"""The dashboards' files are what the program writes, and every query parses and names what exists."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from oms_contracts.catalogue import TOPICS
from oms_contracts.message import type_of

from deploy.monitoring.dashboards import DASHBOARDS, FOLDER, Dashboard, written
from deploy.monitoring.tests.promtool import promtool
from deploy.monitoring.tests.queries import check_names

VARIABLES = {"$__rate_interval": "5m", "$service": ".+"}
"""What Grafana puts in the place of its variables."""
TYPES = {type_of(cls).name for topic in TOPICS for cls in topic.messages}


def panels(dashboard: Dashboard) -> list[dict[str, Any]]:
    """As Grafana has them, without the rows' titles."""
    return [panel for panel in json.loads(written(dashboard))["panels"] if panel["type"] != "row"]


def expressions(dashboard: Dashboard) -> list[str]:
    """The queries, as Prometheus gets them."""
    found = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    for variable, value in VARIABLES.items():
        found = [expression.replace(variable, value) for expression in found]
    return found


def test_there_is_a_file_for_each_dashboard_and_no_other() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(dashboard.name for dashboard in DASHBOARDS)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_a_file_is_what_the_program_writes(dashboard: Dashboard) -> None:
    stale = f"run `python -m {Dashboard.__module__}`"
    assert (FOLDER / f"{dashboard.name}.json").read_text() == written(dashboard), stale


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_every_query_names_metrics_labels_and_event_types_that_exist(dashboard: Dashboard) -> None:
    for expression in expressions(dashboard):
        check_names(expression)
        assert {name.replace("[.]", ".") for name in re.findall(r"oms[.\[][\w.\[\]]+", expression)} <= TYPES


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_every_query_parses(dashboard: Dashboard, tmp_path: Path) -> None:
    """As recording rules, because promtool checks no lone query."""
    rules = [{"record": f"query:{number}", "expr": expression} for number, expression in enumerate(expressions(dashboard))]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))

    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_panels_lie_beside_each_other_and_have_numbers_of_their_own(dashboard: Dashboard) -> None:
    every = json.loads(written(dashboard))["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in every)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in every}) == len(every)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
