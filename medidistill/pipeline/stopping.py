"""SIGINT and SIGTERM as an orderly end: completed work is kept and the message says how to go on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from medidistill.errors import StoppedError

__all__ = ["GracefulShutdown"]

_GRACE = 5.0  # seconds that a stage may take to reach a checkpoint


class GracefulShutdown:
    """Listens for a request to stop.

    Outside of `deferred` a signal raises `KeyboardInterrupt` at once: files are written atomically, so
    nothing is lost but the unit in work. Inside, it waits for the next `check`, where the stage can
    write a checkpoint; a second signal does not wait, and neither does the first after five seconds.

    Args:
        advice: how to continue, the end of the message.
    """

    def __init__(self, advice: str = "") -> None:
        self.advice = advice
        self.signal_number = 0
        self._deferred = False
        self._alarm: Any = None

    @contextlib.contextmanager
    def install_handlers(self) -> Iterator[GracefulShutdown]:
        """Install the handlers inside the block (main thread only) and turn interrupts into `StoppedError`."""
        here = threading.current_thread() is threading.main_thread()
        old = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM) if here}
        try:
            yield self
        except KeyboardInterrupt as interrupt:
            raise self.error() from interrupt
        finally:
            self.disarm()
            for number, handler in old.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Let a signal inside the block wait for `check`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self.check()

    def check(self) -> None:
        """Raise `StoppedError` when a signal has arrived."""
        if self.signal_number:
            raise self.error()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.signal_number != 0
        self.signal_number = number
        self._arm()
        if again or not self._deferred:
            raise KeyboardInterrupt

    def _arm(self) -> None:
        """Interrupt again, and again: the step at work may be long, and an interrupt in a finaliser is swallowed."""
        if self._alarm is None:
            self._alarm = signal.signal(signal.SIGALRM, self._force_exit)
        signal.setitimer(signal.ITIMER_REAL, _GRACE, 1.0)

    def _force_exit(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def disarm(self) -> None:
        """Interrupt no more: the work has been left and its end is being written."""
        if self._alarm is not None:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, self._alarm)
            self._alarm = None

    def error(self) -> StoppedError:
        """Return the error that the signal stands for; without one, that of SIGINT."""
        number = self.signal_number or signal.SIGINT
        name = signal.Signals(number).name
        return StoppedError(
            f"stopped by {name}; finished work is kept{self.advice and '; ' + self.advice}", int(number)
        )
