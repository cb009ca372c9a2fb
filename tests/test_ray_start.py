"""Starting Ray on a machine that is too busy for the seconds that Ray allows its own processes."""

import subprocess
import sys
from typing import Any

import pytest

from mutant.search import ray_start
from mutant.search.watchdog import inhabitants
from mutant.tasks.errors import UserError

TOO_LATE = "The current node timed out during startup. This could happen because the GCS has become overloaded."


class Init:
    """`ray.init`, which gives up as often as told, and by then has begun a program that works in its place."""

    def __init__(self, failures: int) -> None:
        self.failures, self.real = failures, ray_start.ray.init
        self.places: list[str] = []

    def __call__(self, **options: Any) -> None:
        self.places.append(options["_temp_dir"])
        if len(self.places) <= self.failures:
            _begun = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", options["_temp_dir"]])
            raise Exception(TOO_LATE)
        self.real(**options)


@pytest.mark.slow
def test_ray_that_comes_late_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    init = Init(1)
    monkeypatch.setattr(ray_start.ray, "init", init)
    watchdog = ray_start.start(1, None)
    try:
        assert watchdog is not None
        failed, place = init.places
        assert watchdog.place == place
        assert ray_start.ray.is_initialized()
        assert not inhabitants(failed)
    finally:
        ray_start.ray.shutdown()
        if watchdog is not None:
            watchdog.end()


def test_ray_that_never_comes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    init = Init(9)
    monkeypatch.setattr(ray_start.ray, "init", init)
    with pytest.raises(UserError, match=r"did not start on this machine, in 3 tries: The current node timed out"):
        ray_start.start(1, None)
    assert len({*init.places}) == 3


def test_ctrl_c_while_ray_starts_is_no_reason_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Any] = []

    def interrupted(**options: Any) -> None:
        tries.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(ray_start.ray, "init", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ray_start.start(1, None)
    assert len(tries) == 1
