"""The metrics for Prometheus. One registry a process."""

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BATCH_FAILURE_REASONS = ("poison", "poison_limit", "retryable", "lost_partition", "unexpected")


class Metrics:
    """The runtime's instruments, on a registry of their own so that several runtimes fit in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lag = Gauge(
            "oms_consumer_lag_records", "Records behind the end of a partition", ["topic", "partition"], registry=self.registry
        )
        self.batch_size = Histogram(
            "oms_batch_records", "Records in one transaction", buckets=(1, 5, 10, 50, 100, 250, 500, 1000, 2500), registry=self.registry
        )
        self.batch_seconds = Histogram("oms_batch_seconds", "Seconds from a polled batch to its commit", registry=self.registry)
        self.batch_failures = Counter("oms_batch_failures_total", "Batches that were rolled back", ["reason"], registry=self.registry)
        for reason in BATCH_FAILURE_REASONS:
            self.batch_failures.labels(reason)  # from 0 on, or Prometheus would not see the first failure as an increase
        self.consumption_stopped = Gauge(
            "oms_consumption_stopped",
            "1 where too many records failed for one reason: an operator decides",
            registry=self.registry,
        )
        self.clock_untrusted = Gauge(
            "oms_clock_untrusted", "1 where this process's clock disagrees with others, and so it decides nothing", registry=self.registry
        )
        self.partitions_rejected = Gauge(
            "oms_partitions_rejected", "Assigned partitions that are not read because their checkpoint does not fit", registry=self.registry
        )
        self.positions_reused = Counter(
            "oms_positions_reused_total",
            "Events that were dropped because their position was applied before, though their store has a newer epoch",
            registry=self.registry,
        )
        self.relay_stalled = Gauge(
            "oms_relay_stalled_seconds", "Seconds since the relay last made progress, while events wait for it", registry=self.registry
        )
        self.appended = Counter("oms_events_appended_total", "Events committed to the store", ["type"], registry=self.registry)
        self.relay_lag = Gauge("oms_relay_lag_events", "Events committed and not yet acknowledged by the broker", registry=self.registry)
        self.relayed = Counter("oms_events_relayed_total", "Events acknowledged by the broker", registry=self.registry)
        self.leader = Gauge("oms_leader", "1 where this process leads: it runs the relay and the scheduler", registry=self.registry)
        self.dead_letters = Gauge("oms_dead_letters", "Records set aside or parked, not yet redriven", registry=self.registry)
        self.effects = Counter("oms_effects_total", "Outside effects performed", ["effect", "result"], registry=self.registry)
        self.deadlines_stuck = Gauge("oms_deadlines_stuck", "States whose deadline or effect failed and is retried", registry=self.registry)


class HttpMetrics:
    """An API's instruments, on a registry of their own. `parts` are first parts of paths whose responses are counted apart."""

    def __init__(self, parts: Collection[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self._parts = parts
        self.responses = Counter("oms_http_responses_total", "Responses of the API", ["part", "status"], registry=self.registry)
        for part in ("", *parts):
            for status in (401, 500, 503):
                self.responses.labels(part, status)  # from 0 on, or Prometheus would not see the first as an increase
        self.response_seconds = Histogram("oms_http_response_seconds", "Seconds to a response's first byte", registry=self.registry)

    def part_of(self, path: str) -> str:
        """Which of `parts` a path begins with, empty for all others: clients cannot make labels."""
        part = path.split("/", 2)[1] if path.startswith("/") else ""
        return part if part in self._parts else ""
