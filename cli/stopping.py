"""Ctrl-C and SIGTERM during a run: it ends in order and tells what is kept."""

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOTICE = b"\nStopping ...\n"
_AGAIN_SECONDS = 0.05


class Stopped(BaseException):
    """The person at the terminal, or the machine, asked this process to end; `told` says what is kept."""

    def __init__(self, signal_number: int, told: str) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
        self.told = told

    @property
    def exit_code(self) -> int:
        """What a shell expects: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signal_number


class Signals:
    """Inside the block both signals raise KeyboardInterrupt, a second one as well; `received` is the latest.

    KeyboardInterrupt, since Ray passes on no other exception that a signal raises while it waits. Where Python drops
    one, because the signal came while an object was taken down (`sys.unraisablehook`), it is raised again.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._unraisable = sys.unraisablehook
        self._dropped = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
            self._unraisable, sys.unraisablehook = sys.unraisablehook, self._raise_again
            self.arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            sys.unraisablehook = self._unraisable
        self._before = {}

    def arm(self) -> None:
        """Take the signals (back): Ray's start sets a handler of SIGTERM that kills its workers and exits with 1."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received = number
        again, self._dropped = self._dropped, False
        if not again:
            with suppress(OSError):
                os.write(2, _NOTICE)  # at once, since taking workers down may take seconds; print is not safe here
        raise KeyboardInterrupt

    def _raise_again(self, dropped: "sys.UnraisableHookArgs") -> None:
        if self.received is None or not issubclass(dropped.exc_type, KeyboardInterrupt):
            self._unraisable(dropped)
            return
        while True:
            try:
                self._dropped = True
                later = threading.Timer(_AGAIN_SECONDS, self._send, [self.received])  # out of the object's end, by then
                later.daemon = True
                later.start()
                return
            except KeyboardInterrupt:  # on a busy machine it came while we are still here, and would be dropped again
                continue

    def _send(self, number: int) -> None:
        if self._before:
            os.kill(os.getpid(), number)
