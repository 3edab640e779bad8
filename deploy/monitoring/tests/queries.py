"""What a query may name: the samples and labels that Prometheus has of the runtime's metrics."""

import re
from typing import cast

from oms_runtime.metrics import HttpMetrics, Metrics
from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

SCRAPED = {"job", "service", "instance"}
"""The labels that the scrape configuration adds to each."""


def samples() -> dict[str, set[str]]:
    """The labels of every sample, by its name; `up` is Prometheus' own."""
    found = {"up": SCRAPED}
    for each in (vars(Metrics()) | vars(HttpMetrics())).values():
        if isinstance(each, MetricWrapperBase):
            [family] = each.describe()
            labels = {*cast("tuple[str, ...]", vars(each)["_labelnames"]), *SCRAPED}
            if isinstance(each, Histogram):
                found |= {f"{family.name}_bucket": {*labels, "le"}, f"{family.name}_count": labels, f"{family.name}_sum": labels}
            else:
                found[family.name + "_total" * isinstance(each, Counter)] = labels
    return found


def check_names(expression: str) -> None:
    """Fail unless a query in PromQL is made of samples that exist, and of labels that all of them have."""
    known = samples()
    used = set(re.findall(r"\b(?:oms_\w+|up)\b", re.sub(r'"[^"]*"', "", expression)))
    assert used, expression
    assert used <= known.keys(), expression
    labels = {label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in group.split(", ")}
    labels |= set(re.findall(r"(\w+)=~?\"", expression))
    assert all(labels <= known[name] for name in used), expression
