"""What an operator's monitoring reads: counts, times and sizes in the Prometheus text format."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

# Read as it is imported, and meant for servers of other forms: figures would go into files, or lose their names.
for _name in [name for name in os.environ if name.upper().startswith("PROMETHEUS_")]:
    del os.environ[_name]

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .jobs import RUNNING, WAITING, Queue
from .keyfolders import KeyFolders
from .store import Store

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "lowmem_resnet20"
_RUN_BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 3600)


class Metrics:
    """Counts and measures one service.  Counters begin at 0 when it starts."""

    def __init__(self, store: Store, queue: Queue, folders: KeyFolders) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_State(store, queue, folders))
        ProcessCollector(namespace=_PREFIX, registry=self._registry)
        self._requests = self._counter("requests", "Requests answered.", ("endpoint", "method", "status"))
        self._over = self._counter("jobs_over", "Jobs that are done, failed or cancelled.", ("state",))
        self.accepted = self._counter("jobs_accepted", "Jobs taken into the queue.")
        self.received_bytes = self._counter("received_bytes", "Bytes of keys and ciphertexts received.")
        self.deaths = self._counter("worker_deaths", "Worker processes that ended without an answer.")
        self.run_seconds = Histogram(
            f"{_PREFIX}_run_seconds", "Time of worker processes.", buckets=_RUN_BUCKETS, registry=self._registry
        )
        self.peak_bytes = Gauge(
            f"{_PREFIX}_worker_peak_bytes", "Most memory of the last worker process.", registry=self._registry
        )

    def answered(self, endpoint: str, method: str, status: int) -> None:
        self._requests.labels(endpoint, method, str(status)).inc()

    def over(self, state: str) -> None:
        self._over.labels(state).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def _counter(self, name: str, help_: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"{_PREFIX}_{name}", help_, labels, registry=self._registry)


class _State(Collector):
    """Looks figures up when they are asked for."""

    def __init__(self, store: Store, queue: Queue, folders: KeyFolders) -> None:
        self._store, self._queue, self._folders = store, queue, folders

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily(f"{_PREFIX}_jobs", "Jobs that are not over.", labels=("state",))
        counts = self._queue.counts()
        for state in (WAITING, RUNNING):
            jobs.add_metric((state,), counts[state])
        yield jobs
        keys = GaugeMetricFamily(f"{_PREFIX}_key_folders", "Key folders.", labels=("state",))
        for state, count in self._folders.count().items():
            keys.add_metric((state,), count)
        yield keys
        free = shutil.disk_usage(self._store.folder).free
        yield GaugeMetricFamily(f"{_PREFIX}_store_free_bytes", "Free bytes of the store's disk.", value=free)
