"""What Prometheus is told: requests, errors, latency, the queue, batches, and the work that sharing saved, by task."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mutant.serving.batching import Batch

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """All that one server counts, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on: Any = {"registry": self.registry}
        self.requests = Counter("mutant_requests", "Requests by route and status.", ["route", "status"], **on)
        self.latency = Histogram(
            "mutant_request_seconds", "From a request's arrival to its answer.", ["route"], buckets=_LATENCY, **on
        )
        self.task_requests = Counter(
            "mutant_task_requests", "Requests for predictions by task and status.", ["task", "status"], **on
        )
        self.task_latency = Histogram(
            "mutant_task_request_seconds", "As mutant_request_seconds, by task.", ["task"], buckets=_LATENCY, **on
        )
        self.predictions = Counter("mutant_predictions", "Images answered, by task.", ["task"], **on)
        self.refusals = Counter("mutant_refusals", "Requests that were not answered, by status.", ["status"], **on)
        self.queue = Gauge("mutant_queue_rows", "Images that wait for the device or are being decoded for it.", **on)
        self.rows = Histogram("mutant_batch_rows", "Images of a batch.", buckets=_ROWS, **on)
        self.batched = Histogram("mutant_batch_requests", "Requests of a batch.", buckets=_ROWS, **on)
        self.computing = Histogram("mutant_batch_seconds", "Time to compute a batch.", buckets=_LATENCY, **on)
        self.needed = Counter("mutant_needed_flops", "FLOPs if nothing were shared, by task.", ["task"], **on)
        self.saved = Counter("mutant_saved_flops", "FLOPs that other tasks' work saved, by task.", ["task"], **on)
        self.tasks = Gauge("mutant_tasks", "Tasks that answer.", **on)
        self.weights = Gauge("mutant_weights_bytes", "Weights on the device, shared ones once.", **on)
        self.database = Gauge("mutant_database_up", "Whether the database could be read at the last look.", **on)
        ProcessCollector(**on)

    def heard(self, batch: Batch) -> None:
        """Count a batch."""
        self.rows.observe(batch.rows)
        self.batched.observe(batch.requests)
        self.computing.observe(batch.seconds)
        for task, needed in batch.work.needed.items():
            self.needed.labels(task).inc(needed)
            self.saved.labels(task).inc(max(0.0, needed - batch.work.spent[task]))

    def text(self) -> bytes:
        """All of it in Prometheus's format."""
        return generate_latest(self.registry)
