"""A run without generations on real workers: its log is whole, and gives every child again."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from growing import SMALL, go_on, small_store, small_tasks

from mutant.network import predict_logits
from mutant.search.growth import begin
from mutant.search.progress import ChildFinished, Progress
from mutant.search.ray_evaluator import RayEvaluator
from mutant.search.replay import Replay, replay
from mutant.storage.records import SegmentKey
from mutant.storage.verify import verify

pytestmark = pytest.mark.slow


def test_a_run_on_ray_with_a_killed_worker_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, evaluator, heard = small_tasks(tmp_path), RayEvaluator(2), list[int]()

    def kill_after_the_second_child(event: Progress) -> None:
        if isinstance(event, ChildFinished):
            heard.append(event.child)
            if len(heard) == 2:
                os.kill(evaluator.pids[0], signal.SIGKILL)

    monkeypatch.setattr("mutant.search.growth.start_evaluator", lambda crew, **_: evaluator)
    with small_store(tmp_path / "m.db") as store:
        begin(store, tuple(tasks), replace(SMALL, asynchronous=True), new=[task.task for task in tasks.values()])
        go_on(store, tasks, workers="2", listener=kill_after_the_second_child)
        for index in (0, 1):
            records = store.candidates(SegmentKey(1, index))
            assert sorted(record.arrival or 0 for record in records) == [1, 2, 3, 4, 5]
            assert all(record.planned.known < record.arrival for record in records)  # type: ignore[operator]
        assert replay(store, store.run(1)) == Replay(1, True, 10)
        assert verify(store, predict_logits).ok
