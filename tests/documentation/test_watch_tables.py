"""The handbook explains every metric, log event, reason of a failed batch and reason of a service that is not ready."""

import re
from pathlib import Path

from oms_runtime.metrics import BATCH_FAILURE_REASONS, HttpMetrics, Metrics
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

ROOT = Path(__file__).parents[2]
HANDBOOK = (ROOT / "deploy/README.md").read_text()
SOURCES = [file.read_text() for file in (ROOT / "libs/runtime/src/oms_runtime").glob("*.py")]


def test_every_metric_is_explained() -> None:
    holders = vars(Metrics()) | vars(HttpMetrics())
    instruments = [instrument for instrument in holders.values() if isinstance(instrument, MetricWrapperBase)]
    names = {family.name + "_total" * isinstance(each, Counter) for each in instruments for family in each.describe()}

    assert names
    assert {name for name in names if f"| `{name}` (" not in HANDBOOK} == set()
    assert set(re.findall(r"^\| `(oms_\w+)` \(", HANDBOOK, re.MULTILINE)) == names


def test_every_log_event_is_explained() -> None:
    """An event is the first argument of a logger's method; `leading` and `following` are chosen by a condition."""
    events = {event for source in SOURCES for event in re.findall(r'log\.\w+\(\s*"(\w+)"', source)}

    assert "record_set_aside" in events
    assert {event for event in events if f"`{event}`" not in HANDBOOK} == set()


def test_every_reason_of_a_failed_batch_is_explained() -> None:
    reasons = {reason for source in SOURCES for reason in re.findall(r'(?:_fetch_again|batch_failures\.labels)\("(\w+)"\)', source)}

    assert reasons == set(BATCH_FAILURE_REASONS)
    assert {reason for reason in reasons if f"\n| `{reason}` | " not in HANDBOOK} == set()


def test_every_reason_of_a_service_that_is_not_ready_is_explained() -> None:
    """A reason may end in what is known only at run time; the handbook has the text before it."""
    unready = [source for source in SOURCES if "async def unready(self)" in source or "service.unready()" in source]
    texts = [text for source in unready for text in re.findall(r'(?:reasons\.append\(f?|reasons = \[|return \[)"([^"{]+)', source)]

    assert "stopping" in texts
    assert {text for text in texts if f"\n| `{text}" not in HANDBOOK} == set()
