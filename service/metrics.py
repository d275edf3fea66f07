"""How the service stands, read from its stores when Prometheus asks.

A figure that cannot be read is absent and not zero: no rule is fed a number that nobody has seen.
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
    """The state of everything at one moment: a collector of Prometheus."""

    families: tuple[Metric, ...]

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield from self.families


def collect_store_metrics(stores: Stores) -> StoreMetrics:
    """Everything that the stores tell now."""
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
    """What is known where the stores have not told it in time."""
    return StoreMetrics((_store_up({"database": False}),))


MetricReader = tuple[tuple[str, ...], Callable[[], Iterable[Metric]]]


def _metric_readers(stores: Stores, statistics: StoreStatistics) -> Iterator[MetricReader]:
    """Each with the stores that it needs."""
    database = ("database",)
    yield database, lambda: [_by_state("jobs", "Jobs that are kept.", statistics.count_jobs())]
    yield (
        database,
        lambda: [
            _gauge("queue_oldest_seconds", "Since the oldest job that waits was sent.", statistics.find_longest_wait())
        ],
    )
    yield database, lambda: _job_times(statistics.time_jobs())
    yield database, lambda: _storage_metrics(statistics)
    yield database, lambda: [_gauge("layer_bytes", "Layers on the disk, each once.", statistics.size_of_layers())]
    yield database, lambda: [_by_state("webhooks", "Webhooks of jobs that are kept.", statistics.count_webhooks())]
    yield ("redis",), lambda: [_gauge("queue_messages", "Messages that wait in Redis.", stores.queue.length())]
    yield (
        ("database", "redis"),
        lambda: [
            _gauge("workers", "Workers alive.", len(statistics.find_busy_workers() | stores.queue.workers())),
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
    family = GaugeMetricFamily("consilience_store_up", "Whether the store answers.", labels=("store",))
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
    yield _gauge("recent_jobs", "Jobs that the recent times are of.", len(times.get(WHOLE, ())))
    for name, of in (("mean", lambda each: sum(each) / len(each)), ("max", max)):
        words = f"The {name} over the last jobs that succeeded, by metric and stage."
        family = GaugeMetricFamily(f"consilience_recent_job_{name}_seconds", words, labels=("part",))
        for part, seconds in sorted(times.items()):
            family.add_metric((part,), of(seconds))
        yield family


def _storage_metrics(statistics: StoreStatistics) -> Iterator[Metric]:
    sets, datasets = statistics.size_of_sets(), statistics.size_of_datasets()
    yield _gauge("embedding_sets", "Sets of embeddings.", sets.n)
    yield _gauge("embedding_bytes", "Bytes of all sets; what sets share counts for each.", sets.bytes)
    yield _gauge("datasets", "Datasets.", datasets.n)
    yield _gauge("dataset_bytes", "Bytes of all datasets; what datasets share counts for each.", datasets.bytes)


def _graph_cache_metrics(stores: Stores) -> Iterator[Metric]:
    cache = stores.graphs.describe()
    yield _gauge("graph_cache_bytes", "Neighbour graphs that are kept.", cache.bytes)
    yield _gauge("graph_cache_limit_bytes", "What they may take.", cache.limit_bytes)
    yield _gauge("graph_cache_graphs", "How many they are.", cache.graphs)
    for name, words in (("hits", "Graphs taken from the cache."), ("misses", "Built."), ("evictions", "Evicted.")):
        yield CounterMetricFamily(f"consilience_graph_cache_{name}", words, value=getattr(cache, name))


#: Seconds; a request may wait for its job for a minute.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: These are asked every few seconds; they are traced never, and logged where they fail.
QUIET_ROUTES: Final = frozenset({"/livez", "/readyz", "/healthz", "/metrics"})
#: A method that HTTP does not know, and a path that is no route or was refused before any.
OTHER: Final = "other"


class HttpMetrics:
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
        self._requests.labels(known_method(method), route or OTHER, f"{status // 100}xx").observe(seconds)


def known_method(method: str) -> str:
    """The method, if it is one: any word may stand there."""
    return method if method in METHODS else OTHER
