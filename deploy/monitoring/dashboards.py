"""The Grafana dashboards: what they show, and the program that writes their JSON.

`python -m deploy.monitoring.dashboards` writes `dashboards/*.json`, which Grafana imports or provisions. Change this file, never the JSON.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from oms_contracts.message import type_of
from oms_contracts.orders import OrderAccepted, OrderCanceled, OrderCompleted, OrderExpired, OrderRejected
from oms_contracts.payments import (
    PaymentAuthorizationRequested,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureFailed,
    PaymentCaptureRequested,
    PaymentDeclined,
    PaymentOutcomeUnknown,
    PaymentRequestRepeated,
    PaymentVoided,
    PaymentVoidFailed,
    RefundFailed,
    RefundRequested,
    RefundSettled,
)
from oms_contracts.stock import (
    StockAdjusted,
    StockAllocated,
    StockCounted,
    StockReceived,
    StockReleased,
    StockReservationExpired,
    StockReservationFailed,
    StockReserved,
    StockReturned,
    StockShipped,
    StockWrittenOff,
)

FOLDER = Path(__file__).parent / "dashboards"
SCHEMA_VERSION = 39
"""Grafana's: 39 is that of Grafana 11. Later ones read it."""
COLUMNS, HEIGHT = 24, 8
"""Grafana's grid, and a panel's height on it."""

Unit = Literal["short", "s", "ops", "cpm", "percentunit", "bool"]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN = 'job="orderstream", service=~"$service"'
PROCESSES = 'service=~"$service"'
INTERVAL = "$__rate_interval"


class Query(NamedTuple):
    """A query in PromQL, and the legend of its series."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """One graph. `limit` draws a line at the threshold of its alarm, in the panel's unit."""

    title: str
    description: str
    unit: Unit
    queries: tuple[Query, ...]
    limit: float | None = None


class Dashboard(NamedTuple):
    """A page of graphs. `name` is its file's and its uid, so that links to it stay valid."""

    name: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def by_service(metric: str, function: str = "sum") -> tuple[Query, ...]:
    """A gauge over all processes of each service."""
    return (Query(f"{function} by (service) ({metric}{{{PROCESSES}}})", "{{service}}"),)


def rate_by_service(counter: str) -> tuple[Query, ...]:
    """A counter's rate over all processes of each service, a second."""
    return (Query(f"sum by (service) (rate({counter}{{{PROCESSES}}}[{INTERVAL}]))", "{{service}}"),)


def quantiles(histogram: str) -> tuple[Query, ...]:
    """A histogram's median and 99th percentile for each service."""
    return tuple(
        Query(
            f"histogram_quantile({quantile}, sum by (service, le) (rate({histogram}_bucket{{{PROCESSES}}}[{INTERVAL}])))",
            f"{{{{service}}}} {name}",
        )
        for quantile, name in ((0.5, "median"), (0.99, "99th percentile"))
    )


def events(*classes: type[Any]) -> tuple[Query, ...]:
    """How many events of each class are appended, a minute."""
    return tuple(
        Query(f'60 * sum(rate(oms_events_appended_total{{type="{type_of(each).name}"}}[{INTERVAL}]))', each.__name__) for each in classes
    )


def ratio(parts: tuple[type[Any], ...], wholes: tuple[type[Any], ...], legend: str) -> Query:
    """The events of some classes as a share of the events of others, over an hour."""
    part, whole = (
        f'sum(increase(oms_events_appended_total{{type=~"{"|".join(type_of(each).name.replace(".", "[.]") for each in classes)}"}}[1h]))'
        for classes in (parts, wholes)
    )
    return Query(f"{part} / {whole}", legend)


FLOW = Dashboard(
    "orderstream-flow",
    "Orderstream: flow",
    (
        (
            "Orders",
            (
                Panel(
                    "Orders a minute",
                    "Accepted orders come in; completed, canceled and expired ones have ended.",
                    "cpm",
                    events(OrderAccepted, OrderRejected, OrderCompleted, OrderCanceled, OrderExpired),
                ),
                Panel(
                    "Events appended by type",
                    "Committed to the store of the service that owns the type.",
                    "ops",
                    (Query(f"sum by (type) (rate(oms_events_appended_total{{{PROCESSES}}}[{INTERVAL}]))", "{{type}}"),),
                ),
            ),
        ),
        (
            "Events",
            (
                Panel("Events appended", "Committed to the store.", "ops", rate_by_service("oms_events_appended_total")),
                Panel("Events relayed", "Acknowledged by the broker.", "ops", rate_by_service("oms_events_relayed_total")),
            ),
        ),
        (
            "Batches",
            (
                Panel("Batches", "Transactions of the consumers.", "ops", rate_by_service("oms_batch_records_count")),
                Panel("Records in a batch", "Batches grow with load, up to OMS_BATCH_RECORDS.", "short", quantiles("oms_batch_records")),
                Panel("Seconds of a batch", "From a polled batch to its commit.", "s", quantiles("oms_batch_seconds"), limit=5),
                Panel(
                    "Batches that failed",
                    "By reason; none of these was committed.",
                    "ops",
                    (
                        Query(
                            f"sum by (service, reason) (rate(oms_batch_failures_total{{{PROCESSES}}}[{INTERVAL}])) > 0",
                            "{{service}} {{reason}}",
                        ),
                    ),
                ),
            ),
        ),
        (
            "Calls to the outside",
            (
                Panel(
                    "Effects",
                    "By effect and result; failed ones are retried.",
                    "ops",
                    (
                        Query(
                            f"sum by (effect, result) (rate(oms_effects_total{{{PROCESSES}}}[{INTERVAL}]))",
                            "{{effect}} {{result}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)

LAG = Dashboard(
    "orderstream-lag",
    "Orderstream: lag",
    (
        (
            "Consumers",
            (
                Panel("Records to read", "Behind the ends of all partitions.", "short", by_service("oms_consumer_lag_records"), limit=5000),
                Panel(
                    "Records to read by topic",
                    "The topics that are behind.",
                    "short",
                    (
                        Query(
                            f"sum by (service, topic) (oms_consumer_lag_records{{{PROCESSES}}}) > 0",
                            "{{service}} {{topic}}",
                        ),
                    ),
                ),
                Panel(
                    "Partitions that are furthest behind",
                    "One that lags alone has a hot key, or a slow process.",
                    "short",
                    (
                        Query(
                            f"topk(10, sum by (service, topic, partition) (oms_consumer_lag_records{{{PROCESSES}}}))",
                            "{{service}} {{topic}}/{{partition}}",
                        ),
                    ),
                ),
                Panel(
                    "Seconds until all is read",
                    "The records to read, at the rate of the last five minutes.",
                    "s",
                    (
                        Query(
                            f"sum by (service) (oms_consumer_lag_records{{{PROCESSES}}})"
                            f" / sum by (service) (rate(oms_batch_records_sum{{{PROCESSES}}}[5m]))",
                            "{{service}}",
                        ),
                    ),
                ),
            ),
        ),
        (
            "Relays",
            (
                Panel(
                    "Events to publish",
                    "Committed and not yet acknowledged by the broker; a gap where the database does not answer.",
                    "short",
                    by_service("oms_relay_lag_events", "max"),
                    limit=1000,
                ),
                Panel(
                    "Seconds without progress",
                    "Of a leader that has events to publish.",
                    "s",
                    by_service("oms_relay_stalled_seconds", "max"),
                    limit=30,
                ),
            ),
        ),
    ),
)

MONEY_AND_STOCK = Dashboard(
    "orderstream-money-and-stock",
    "Orderstream: money and stock",
    (
        (
            "Money",
            (
                Panel(
                    "Authorizations a minute",
                    "Asked of the provider, and what came of it.",
                    "cpm",
                    events(PaymentAuthorizationRequested, PaymentAuthorized, PaymentDeclined),
                ),
                Panel(
                    "Captures a minute",
                    "One for each shipment.",
                    "cpm",
                    events(PaymentCaptureRequested, PaymentCaptured, PaymentCaptureFailed),
                ),
                Panel(
                    "Voids and refunds a minute",
                    "Money that is given back.",
                    "cpm",
                    events(PaymentVoided, PaymentVoidFailed, RefundRequested, RefundSettled, RefundFailed),
                ),
                Panel(
                    "Unknown outcomes a minute",
                    "Requests without a response; they are looked up, and repeated where the provider never had them.",
                    "cpm",
                    events(PaymentOutcomeUnknown, PaymentRequestRepeated),
                ),
                Panel(
                    "Share of failures",
                    "Over the last hour.",
                    "percentunit",
                    (
                        ratio((PaymentDeclined,), (PaymentAuthorized, PaymentDeclined), "authorizations declined"),
                        ratio((PaymentCaptureFailed,), (PaymentCaptured, PaymentCaptureFailed), "captures failed"),
                        ratio((RefundFailed,), (RefundSettled, RefundFailed), "refunds failed"),
                    ),
                ),
            ),
        ),
        (
            "Stock",
            (
                Panel(
                    "Reservations a minute",
                    "Units held for an order, and what became of them.",
                    "cpm",
                    events(StockReserved, StockReservationFailed, StockReservationExpired, StockAllocated, StockReleased),
                ),
                Panel(
                    "Bookings a minute",
                    "What changes the units on hand.",
                    "cpm",
                    events(StockReceived, StockShipped, StockReturned, StockAdjusted, StockCounted, StockWrittenOff),
                ),
                Panel(
                    "Share of reservations that failed",
                    "Over the last hour: too little stock for an order.",
                    "percentunit",
                    (ratio((StockReservationFailed,), (StockReserved, StockReservationFailed), "reservations failed"),),
                ),
            ),
        ),
    ),
)

SERVICES = Dashboard(
    "orderstream-services",
    "Orderstream: services",
    (
        (
            "Processes",
            (
                Panel(
                    "Processes up", "As Prometheus reaches them.", "short", (Query(f"sum by (service) (up{{{CHOSEN}}})", "{{service}}"),)
                ),
                Panel("Leaders", "One a service. Two for a moment is scrape skew.", "short", by_service("oms_leader")),
            ),
        ),
        (
            "Trouble",
            (
                Panel(
                    "Dead letters",
                    "Records set aside or parked, not yet redriven.",
                    "short",
                    by_service("oms_dead_letters", "max"),
                    limit=1,
                ),
                Panel(
                    "Consumption stopped",
                    "1 where too many records failed for one reason.",
                    "bool",
                    by_service("oms_consumption_stopped", "max"),
                    limit=1,
                ),
                Panel(
                    "Clocks untrusted",
                    "1 where a process's clock disagrees with others.",
                    "bool",
                    by_service("oms_clock_untrusted", "max"),
                    limit=1,
                ),
                Panel(
                    "Relay stalled",
                    "Seconds that a leader with events to publish made no progress.",
                    "s",
                    by_service("oms_relay_stalled_seconds", "max"),
                    limit=30,
                ),
                Panel(
                    "Deadlines stuck",
                    "States whose deadline or effect failed and is retried, as the leader counts them.",
                    "short",
                    (
                        Query(
                            f"max by (service) (oms_deadlines_stuck{{{PROCESSES}}} and on (service, instance) oms_leader == 1)",
                            "{{service}}",
                        ),
                    ),
                    limit=1,
                ),
            ),
        ),
    ),
)

DASHBOARDS = (FLOW, LAG, MONEY_AND_STOCK, SERVICES)


def written(dashboard: Dashboard) -> str:
    """A dashboard's file."""
    return json.dumps(_document(dashboard), indent=2, ensure_ascii=False) + "\n"


def write() -> None:
    """Write all dashboards' files."""
    FOLDER.mkdir(exist_ok=True)
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.name}.json").write_text(written(dashboard))


def _document(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "uid": dashboard.name,
        "title": dashboard.title,
        "tags": ["orderstream"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "links": [{"type": "dashboards", "title": "Orderstream", "tags": ["orderstream"], "asDropdown": True, "keepTime": True}],
        "templating": {"list": list(_variables(dashboard))},
        "panels": list(_panels(dashboard)),
    }


def _variables(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    yield {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
    if "$service" in str(dashboard):
        yield {
            "type": "query",
            "name": "service",
            "label": "Service",
            "datasource": DATASOURCE,
            "query": {"query": 'label_values(up{job="orderstream"}, service)', "refId": "service"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


def _panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Each row's title, and below it its panels, two side by side."""
    number, top = 1, 0
    for title, panels in dashboard.rows:
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        top += 1
        for index, panel in enumerate(panels):
            alone = index == len(panels) - 1 and index % 2 == 0
            place = {"x": index % 2 * COLUMNS // 2, "y": top + index // 2 * HEIGHT, "w": COLUMNS if alone else COLUMNS // 2, "h": HEIGHT}
            yield {"id": number + 1 + index, "gridPos": place, **_panel(panel)}
        number += 1 + len(panels)
        top += (len(panels) + 1) // 2 * HEIGHT


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
                "range": True,
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {"thresholdsStyle": {"mode": "off" if panel.limit is None else "line"}, "showPoints": "never"},
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"], "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


if __name__ == "__main__":
    write()
