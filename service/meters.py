"""What this process counts of its own requests, for Prometheus. Labels are few and fixed: nobody's words are among them."""

from typing import Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, disable_created_metrics

#: Seconds; a request may wait for its job for a minute.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: These are asked every few seconds; they are traced never, and logged where they fail.
QUIET_ROUTES: Final = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})
#: A method that HTTP does not know, and a path that is no route or was refused before any.
OTHER: Final = "other"


class Meters:
    """The counters of one process, which begin at zero when it starts."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations; when a counter began is not asked for by anybody here
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Histogram(
            "consilience_http_request_seconds",
            "Requests answered by this process, and how long they took.",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=self.registry,
        )

    def count(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Enter a request that has ended; `route` is the template, `/v1/jobs/{job_id}`."""
        self._requests.labels(name_method(method), route or OTHER, f"{status // 100}xx").observe(seconds)


def name_method(method: str) -> str:
    """The method, if it is one: any word may stand there."""
    return method if method in METHODS else OTHER
