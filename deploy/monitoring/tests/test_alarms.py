"""Every alarm fires when it should and only then, is in the handbook with its section, and is made of metrics that exist."""

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from deploy.monitoring.tests.promtool import MONITORING, ROOT, promtool
from deploy.monitoring.tests.queries import check_names
from tests.documentation.pages import names, rows, section

HANDBOOK = ROOT / "deploy/README.md"
PARTS_OF_A_SECTION = ("**What it means.**", "**What to look at.**", "**What to do.**")


def load(name: str) -> Any:
    """One of the files beside these tests."""
    return YAML(typ="safe").load(MONITORING / name)  # pyright: ignore[reportUnknownMemberType]  # ruamel does not say what it loads


ALARMS: list[dict[str, Any]] = [rule for group in load("alarms.yml")["groups"] for rule in group["rules"]]


def heading_of(anchor: str) -> str:
    """The handbook's heading that a link leads to."""
    headings = re.findall(r"^#+ (.+)$", HANDBOOK.read_text(), re.MULTILINE)
    return next(heading for heading in headings if re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") == anchor)


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", MONITORING / "alarms_test.yml")


def test_the_scrape_configuration_and_the_rules_are_valid() -> None:
    assert f"{len(ALARMS)} rules found" in promtool("check", "config", "--lint=all", "--lint-fatal", MONITORING / "prometheus.yml")


def test_every_alarm_is_tested_firing_and_silent() -> None:
    cases = [case for test in load("alarms_test.yml")["tests"] for case in test["alert_rule_test"]]
    alarms = {alarm["alert"] for alarm in ALARMS}

    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alarms
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alarms


def test_the_handbook_lists_every_alarm_with_its_severity_and_section() -> None:
    listed = [(*names(name), severity, re.findall(r"\]\((.+)\)", link)) for name, severity, link in rows(section("Alarms", HANDBOOK))]

    assert listed == [
        (alarm["alert"], alarm["labels"]["severity"], [alarm["annotations"]["runbook"].removeprefix("deploy/README.md")])
        for alarm in ALARMS
    ]


@pytest.mark.parametrize("alarm", ALARMS, ids=lambda alarm: alarm["alert"])
def test_the_section_of_an_alarm_says_what_it_means_what_to_look_at_and_what_to_do(alarm: dict[str, Any]) -> None:
    page, _, anchor = alarm["annotations"]["runbook"].partition("#")
    text = section(heading_of(anchor), ROOT / page)

    assert [part for part in PARTS_OF_A_SECTION if part not in text] == []


@pytest.mark.parametrize("alarm", ALARMS, ids=lambda alarm: alarm["alert"])
def test_an_alarm_has_a_severity_and_a_summary_and_is_made_of_metrics_that_exist(alarm: dict[str, Any]) -> None:
    assert alarm["labels"]["severity"] in {"page", "ticket"}
    assert alarm["annotations"]["summary"]
    check_names(alarm["expr"])


def test_every_service_is_scraped_at_the_port_of_the_local_stack() -> None:
    [job] = load("prometheus.yml")["scrape_configs"]
    scraped = {config["labels"]["service"]: config["targets"] for config in job["static_configs"]}
    ports = {service: port for service, port, *_ in rows(section("What runs", HANDBOOK))}

    assert scraped == {service: [f"127.0.0.1:{port}"] for service, port in ports.items()}
