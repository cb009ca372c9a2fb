"""A signal ends the work wherever it comes, also where Python drops exceptions."""

import os
import signal
import sys
import time
import weakref

import pytest

from mutant.cli.stopping import Signals


class Dropped:
    """Takes a signal while it is taken down, which is where Python drops what a handler raises."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(0.01)


def drop_one(number: int) -> None:
    Dropped(number)
    time.sleep(10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_an_object_is_taken_down_is_not_lost(
    number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    before, hook = signal.getsignal(number), sys.unraisablehook
    with Signals() as signals:
        with pytest.raises(KeyboardInterrupt):
            drop_one(number)
        assert signals.received == number
    assert capfd.readouterr().err.count("Stopping ...") == 1
    assert (signal.getsignal(number), sys.unraisablehook) == (before, hook)


def test_what_else_is_dropped_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))

    class Thing:
        pass

    def broken(_: object) -> None:
        raise ValueError

    thing = Thing()
    with Signals():
        watched = weakref.ref(thing, broken)
        del thing
    assert watched() is None
    assert told == [ValueError]
