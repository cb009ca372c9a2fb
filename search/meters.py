"""What Prometheus is told of a run, by the controller that works it off: from its start, and gone with it."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from mutant.outcome import Failed
from mutant.search.progress import (
    ChildBegun,
    ChildFinished,
    GenerationFinished,
    Progress,
    SegmentFinished,
    SegmentStarted,
)
from mutant.search.workers import Crew
from mutant.tasks.errors import UserError

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Meters:
    """All that one controller counts, in a registry of its own. Give `heard` and `told` to its `Engine`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on: Any = {"registry": self.registry}
        by_task: Any = {"labelnames": ["task"], **on}
        self._children = Counter("mutant_run_children", "Children that ended, by what became of them.",
                                 ["task", "outcome"], **on)  # fmt: skip
        self._running = Gauge("mutant_run_children_running", "Children that are being trained.", **on)
        self._waiting = Gauge("mutant_run_children_waiting", "Children of the segment that have not begun.", **on)
        self._workers = Gauge("mutant_run_workers", "Workers of this controller.", **on)
        self._seconds = Counter("mutant_run_worker_seconds", "Workers' seconds on children that ended.", **by_task)
        self._device = Counter("mutant_run_device_seconds", "Of these, seconds in device programs.", **by_task)
        self._wait = Counter("mutant_run_wait_seconds", "Of these, seconds in which the device waited.", **by_task)
        self._compiling = Counter("mutant_run_compile_seconds", "Of these, seconds of compiling.", **by_task)
        self._programs = Counter("mutant_run_compilations", "Programs compiled that no cache held.", **by_task)
        self._flops = Counter("mutant_run_flops", "Counted model FLOPs of training and validation.", **by_task)
        self._rows = Counter("mutant_run_activation_rows", "Rows of frozen activations: cache hits are reused, misses "
                             "computed.", ["source"], **on)  # fmt: skip
        self._held = Gauge("mutant_run_activation_bytes", "What a host's cache of activations holds.", ["host"], **on)
        self._commits = Histogram("mutant_run_commit_seconds", "Time to commit an outcome.", buckets=_SECONDS, **on)
        self._score = Gauge("mutant_run_best_score", "Score of the task's best path, as the pool is now.", **by_task)
        self._quality = Gauge("mutant_run_best_quality", "Its validation accuracy.", **by_task)
        ProcessCollector(**on)
        for source in ("reused", "computed"):
            self._rows.labels(source)
        self._begun: set[tuple[str, int, int]] = set()
        self._named: set[str] | None = None
        """The workers that were heard of, where their number follows the cluster."""
        self._left = 0

    def told(self, crew: Crew) -> None:
        """Hear about the crew."""
        self._workers.set(crew.workers or 0)
        self._named = None if crew.workers else set()

    def heard(self, event: Progress) -> None:
        """Count what the loop tells."""
        match event:
            case SegmentStarted():
                self._left = event.children - event.done
            case ChildBegun():
                self._begun.add((event.task, event.generation, event.child))
                if self._named is not None:
                    self._named.add(event.worker)
                    self._workers.set(len(self._named))
            case ChildFinished():
                self._begun.discard((event.task, event.generation, event.child))
                self._left -= 1
                self._ended(event)
            case GenerationFinished() if event.best is not None:
                self._score.labels(event.task).set(event.best_score)
                self._quality.labels(event.task).set(event.best.quality)
            case SegmentFinished():
                self._left = 0
            case _:
                return
        self._running.set(len(self._begun))
        self._waiting.set(max(0, self._left - len(self._begun)))

    def _ended(self, event: ChildFinished) -> None:
        task, outcome = event.task, event.outcome
        cost, account = outcome.cost, outcome.account
        self._children.labels(task, outcome.kind if isinstance(outcome, Failed) else "trained").inc()
        for counter, amount in (
            (self._seconds, cost.seconds),
            (self._device, cost.device_seconds),
            (self._wait, cost.wait_seconds),
            (self._compiling, cost.compile_seconds),
            (self._programs, cost.compilations),
            (self._flops, cost.flops),
        ):
            counter.labels(task).inc(max(0.0, amount))
        self._commits.observe(event.commit_seconds)
        if account is not None:
            self._rows.labels("reused").inc(account.reused_rows)
            self._rows.labels("computed").inc(account.computed_rows)
            self._held.labels(account.seat.host).set(account.held_bytes)


@contextmanager
def served(meters: Meters, port: int, address: str = "127.0.0.1") -> Generator[str]:
    """Serve the meters over HTTP while the block lasts; the URL. Port 0 finds a free one.

    Raises UserError when the port is taken or the address is not this machine's.
    """
    try:
        server, thread = start_http_server(port, address, meters.registry)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        hint = "Name another port: --metrics-port 9101; 0 finds a free one. Or another --metrics-address."
        raise UserError(f"Metrics cannot be served at {address}:{port}: {why}.", hint=hint) from error
    try:
        host = f"[{address}]" if ":" in address else address
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
