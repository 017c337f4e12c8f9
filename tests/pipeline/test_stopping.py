"""Signals end a stage in order, and twice means now."""

from __future__ import annotations

import os
import signal

import pytest

from medidistill.errors import StoppedError
from medidistill.pipeline.stopping import GracefulShutdown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_block_with_its_code_and_advice(number):
    before = signal.getsignal(number)
    with (
        pytest.raises(StoppedError, match=f"{number.name}.*continue with --resume") as caught,
        GracefulShutdown("continue with --resume").install_handlers(),
    ):
        os.kill(os.getpid(), number)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is before


def _work(stop, reached, *steps):
    with stop.install_handlers(), stop.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        for name, step in steps:
            reached.append(name)
            step()
        reached.append("too far")


def test_deferred_signal_waits_for_the_check():
    stop, reached = GracefulShutdown(), []
    with pytest.raises(StoppedError):
        _work(stop, reached, ("checkpoint", stop.check))
    assert reached == ["checkpoint"]


def test_second_signal_does_not_wait():
    stop, reached = GracefulShutdown(), []
    with pytest.raises(StoppedError):
        _work(stop, reached, ("first", lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert reached == ["first"]


def test_deferred_signal_is_not_forgotten_without_a_check():
    with pytest.raises(StoppedError), GracefulShutdown().install_handlers() as stop, stop.deferred():
        os.kill(os.getpid(), signal.SIGINT)
