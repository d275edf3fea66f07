"""Prometheus metrics of the stores and of HTTP requests.

Metrics of the stores are read at each scrape. A metric that cannot be read is absent and not zero.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from consilience.errors import Unavailable
from consilience.stores.statistics import WHOLE, StoreStatistics
from service.stores import Stores

_State = TypeVar("_State", bound=StrEnum)


@dataclass(frozen=True)
class StoreMetrics:
    """Metrics of the stores at one time, as a Prometheus collector."""

    families: tuple[Metric, ...]

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families."""
        yield from self.families


def collect_store_metrics(stores: Stores) -> StoreMetrics:
    """Read all metrics from the stores."""
    pings = {"database": stores.database.ping, "redis": stores.queue.ping}
    up = {store: _is_up(store, ping) for store, ping in pings.items()}
    families = [_store_up(up)]
    for needed, reading in _metric_readers(stores, StoreStatistics(stores.database)):
        if all(up[store] for store in needed):
            try:
                families += reading()
            except Unavailable as error:
                structlog.get_logger().warning("figure_missing", detail=error.detail, cause=error.value)
    return StoreMetrics(tuple(families))


def missing_store_metrics() -> StoreMetrics:
    """Return the metrics for stores that did not respond in time."""
    return StoreMetrics((_store_up({"database": False}),))


MetricReader = tuple[tuple[str, ...], Callable[[], Iterable[Metric]]]


def _metric_readers(stores: Stores, statistics: StoreStatistics) -> Iterator[MetricReader]:
    """Yield readers of metrics, each with the stores that it needs."""
    database = ("database",)
    yield database, lambda: [_by_state("jobs", "Number of stored jobs.", statistics.count_jobs())]
    yield (
        database,
        lambda: [_gauge("queue_oldest_seconds", "Age of the oldest queued job.", statistics.find_longest_wait())],
    )
    yield database, lambda: _job_times(statistics.time_jobs())
    yield database, lambda: _storage_metrics(statistics)
    yield (
        database,
        lambda: [_gauge("layer_bytes", "Size of all layers on disk, each counted once.", statistics.size_of_layers())],
    )
    yield database, lambda: [_by_state("webhooks", "Number of webhooks of stored jobs.", statistics.count_webhooks())]
    yield (
        ("redis",),
        lambda: [_gauge("queue_messages", "Number of messages in the queues of Redis.", stores.queue.length())],
    )
    yield (
        ("database", "redis"),
        lambda: [
            _gauge("workers", "Number of live workers.", len(statistics.find_busy_workers() | stores.queue.workers())),
        ],
    )
    yield (), lambda: _graph_cache_metrics(stores)


def _is_up(store: str, ping: Callable[[], None]) -> bool:
    try:
        ping()
    except Unavailable as error:
        structlog.get_logger().warning("store_away", store=store, cause=error.value)
        return False
    return True


def _store_up(up: Mapping[str, bool]) -> Metric:
    family = GaugeMetricFamily("consilience_store_up", "Whether the store responds.", labels=("store",))
    for store, answers in up.items():
        family.add_metric((store,), float(answers))
    return family


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"consilience_{name}", words, value=value)


def _by_state(name: str, words: str, counts: Mapping[_State, int]) -> Metric:
    family = GaugeMetricFamily(f"consilience_{name}", words, labels=("state",))
    for state, count in counts.items():
        family.add_metric((state.value,), count)
    return family


def _job_times(times: Mapping[str, list[float]]) -> Iterator[Metric]:
    yield _gauge("recent_jobs", "Number of recent jobs that the times are computed from.", len(times.get(WHOLE, ())))
    for name, of in (("mean", lambda each: sum(each) / len(each)), ("max", max)):
        words = f"{name.capitalize()} time over recent successful jobs, by metric and stage."
        family = GaugeMetricFamily(f"consilience_recent_job_{name}_seconds", words, labels=("part",))
        for part, seconds in sorted(times.items()):
            family.add_metric((part,), of(seconds))
        yield family


def _storage_metrics(statistics: StoreStatistics) -> Iterator[Metric]:
    sets, datasets = statistics.size_of_sets(), statistics.size_of_datasets()
    yield _gauge("embedding_sets", "Number of embedding sets.", sets.n)
    yield _gauge("embedding_bytes", "Size of all embedding sets; shared layers count for each set.", sets.bytes)
    yield _gauge("datasets", "Number of datasets.", datasets.n)
    yield _gauge("dataset_bytes", "Size of all datasets; shared views count for each dataset.", datasets.bytes)


def _graph_cache_metrics(stores: Stores) -> Iterator[Metric]:
    cache = stores.graphs.describe()
    yield _gauge("graph_cache_bytes", "Size of the cached neighbour graphs.", cache.bytes)
    yield _gauge("graph_cache_limit_bytes", "Maximum size of the cached neighbour graphs.", cache.limit_bytes)
    yield _gauge("graph_cache_graphs", "Number of cached neighbour graphs.", cache.graphs)
    for name, words in (
        ("hits", "Number of graphs read from the cache."),
        ("misses", "Number of graphs that had to be computed."),
        ("evictions", "Number of graphs removed from the cache."),
    ):
        yield CounterMetricFamily(f"consilience_graph_cache_{name}", words, value=getattr(cache, name))


#: Seconds; a request can wait for its job for a minute.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Routes that are polled every few seconds: never traced, and logged only if they fail.
QUIET_ROUTES: Final = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})
#: Label of unknown methods, and of requests that did not reach a route.
OTHER: Final = "other"


class HttpMetrics:
    """Metrics of the HTTP requests of this process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations; the start times of counters are not used
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Histogram(
            "consilience_http_request_seconds",
            "Duration of the HTTP requests of this process.",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=self.registry,
        )

    def count(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a finished request; `route` is its template, such as `/v1/jobs/{job_id}`."""
        self._requests.labels(known_method(method), route or OTHER, f"{status // 100}xx").observe(seconds)


def known_method(method: str) -> str:
    """Return the method, or `other` if it is not an HTTP method."""
    return method if method in METHODS else OTHER
