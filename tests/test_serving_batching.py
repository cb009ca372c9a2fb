"""Micro-batching: company is waited for, the queue is bounded, deadlines and clients that go are kept to."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError

import numpy as np
import pytest

from mutant.serving.batching import Batch, Batcher, Queueing
from mutant.serving.engine import Job, Logits, Work
from mutant.serving.refusals import Refused


def job(rows: int = 1, mark: int = 0) -> Job:
    return Job((), {1: np.full((rows, 1, 1, 3), mark, dtype=np.uint8)})


def mark(one: Job) -> int:
    return int(one.images[1][0, 0, 0, 0])


class Device:
    """Computes when it is let; its answer is the job's mark."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.busy = threading.Event()
        self.batches: list[list[int]] = []
        self.faulty: int | None = None

    def __call__(self, jobs: Sequence[Job]) -> tuple[list[Logits], Work]:
        self.batches.append([mark(one) for one in jobs])
        self.busy.set()
        assert self.free.wait(20)
        if any(mark(one) == self.faulty for one in jobs):
            raise RuntimeError("broken")
        return [{"v": np.array([mark(one)])} for one in jobs], Work()


@pytest.fixture
def device() -> Device:
    return Device()


def occupied(device: Device, queueing: Queueing = Queueing()) -> Batcher:
    """A batcher whose device is busy with job 0."""
    batcher = Batcher(device, queueing)
    batcher.submit(job(), 60)
    assert device.busy.wait(20)
    return batcher


def test_what_waits_while_the_device_is_busy_is_one_batch(device: Device) -> None:
    batcher = occupied(device, Queueing(most_rows=8))
    futures = [batcher.submit(job(mark=n), 60) for n in range(1, 11)]
    device.free.set()
    assert [int(future.result(20).logits["v"][0]) for future in futures] == list(range(1, 11))
    assert device.batches == [[0], list(range(1, 9)), [9, 10]]
    batcher.close()


def test_a_request_larger_than_a_batch_is_a_batch_by_itself(device: Device) -> None:
    batcher = occupied(device, Queueing(most_rows=4))
    futures = [batcher.submit(job(rows, mark=rows), 60) for rows in (1, 9, 2)]
    device.free.set()
    for future in futures:
        future.result(20)
    assert device.batches == [[0], [1], [9], [2]]
    batcher.close()


def test_one_client_alone_waits_for_nobody(device: Device) -> None:
    device.free.set()
    batcher = Batcher(device, Queueing(delay=5.0))
    for n in range(3):
        began = time.monotonic()
        batcher.submit(job(mark=n), 60).result(20)
        assert time.monotonic() - began < 2.5
    batcher.close()


def test_a_batch_with_company_waits_for_more_and_no_longer_than_the_delay(device: Device) -> None:
    device.free.set()
    batcher = Batcher(device, Queueing(most_rows=3, delay=0.5))
    batcher._crowded = True  # as after a batch of several
    first = batcher.submit(job(mark=1), 60)
    time.sleep(0.05)
    second = batcher.submit(job(mark=2), 60)
    assert len([done.result(20) for done in (first, second)]) == 2
    assert device.batches == [[1, 2]]
    batcher.close()


def test_a_full_queue_refuses_and_empties(device: Device) -> None:
    batcher = occupied(device, Queueing(most_waiting=4))
    kept = batcher.submit(job(4, mark=1), 60)
    with pytest.raises(Refused, match="waiting") as refused:
        batcher.submit(job(mark=2), 60)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
    assert batcher.waiting == 4
    device.free.set()
    kept.result(20)
    batcher.submit(job(mark=3), 60).result(20)
    assert not any(2 in batch for batch in device.batches)
    batcher.close()


def test_a_cancelled_request_costs_nothing(device: Device) -> None:
    batcher = occupied(device)
    gone, stays = batcher.submit(job(mark=1), 60), batcher.submit(job(mark=2), 60)
    assert gone.cancel()
    device.free.set()
    assert int(stays.result(20).logits["v"][0]) == 2
    with pytest.raises(CancelledError):
        gone.result(0)
    assert device.batches == [[0], [2]]
    batcher.close()


def test_a_cancelled_request_leaves_its_room_at_once(device: Device) -> None:
    batcher = occupied(device, Queueing(most_waiting=4))
    gone = batcher.submit(job(4, mark=1), 60)
    with pytest.raises(Refused):
        batcher.submit(job(mark=2), 60)
    assert gone.cancel()
    assert batcher.waiting == 0
    stays = batcher.submit(job(4, mark=3), 60)
    device.free.set()
    assert int(stays.result(20).logits["v"][0]) == 3
    assert device.batches == [[0], [3]]
    batcher.close()


def test_a_batch_whose_requests_all_go_while_it_waits_for_company_is_none(device: Device) -> None:
    device.free.set()
    batcher = Batcher(device, Queueing(delay=0.2))
    batcher._crowded = True  # as after a batch of several
    assert batcher.submit(job(mark=1), 60).cancel()
    assert int(batcher.submit(job(mark=2), 60).result(20).logits["v"][0]) == 2
    batcher.close()
    assert device.batches == [[2]]


def test_a_request_past_its_deadline_is_not_computed(device: Device) -> None:
    batcher = occupied(device)
    late = batcher.submit(job(mark=1), 0.01)
    time.sleep(0.05)
    device.free.set()
    with pytest.raises(Refused, match="10 ms") as refused:
        late.result(20)
    assert refused.value.status == 504
    batcher.close()
    assert device.batches == [[0]]


def test_one_faulty_request_does_not_spoil_the_others_of_its_batch(device: Device) -> None:
    device.faulty = 2
    batcher = occupied(device)
    futures = [batcher.submit(job(mark=n), 60) for n in (1, 2, 3)]
    device.free.set()
    assert [int(futures[n].result(20).logits["v"][0]) for n in (0, 2)] == [1, 3]
    with pytest.raises(RuntimeError, match="broken"):
        futures[1].result(20)
    batcher.close()


def test_closing_answers_what_waits_and_takes_nothing_new(device: Device) -> None:
    batcher = occupied(device)
    waiting = batcher.submit(job(mark=1), 60)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher._closing:
        time.sleep(0.01)
    with pytest.raises(Refused, match="going down"):
        batcher.submit(job(mark=2), 60)
    device.free.set()
    assert int(waiting.result(20).logits["v"][0]) == 1
    closing.join(20)
    assert not closing.is_alive()


def test_every_batch_is_told(device: Device) -> None:
    device.free.set()
    heard: list[Batch] = []
    batcher = Batcher(device, Queueing(), heard.append)
    batcher.submit(job(3), 60).result(20)
    batcher.close()
    assert [(batch.requests, batch.rows) for batch in heard] == [(1, 3)]
