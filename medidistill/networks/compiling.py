"""When to compile, and one compiled function for each shape.

`torch.compile` halves the time of a step on a CPU and costs 10 to 40 seconds the first time (its results are
cached on disk after that). Short runs would not recover that.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from medidistill.jsontypes import JsonObject  # options of torch's compiler

__all__ = ["Compilations", "CompiledByShape", "compiled_once", "should_compile", "watch_compilations"]

# activations of the widest layer, summed over all steps, from which compilation pays off:
# measured saving 5e-8 s each on one core, compilation about 45 s
_MIN_WORK_TO_COMPILE = 1e9

# recompute large activations in each loop that reads them: storing and loading them, masks above all, is slower
_INDUCTOR_OPTIONS: JsonObject = {"realize_reads_threshold": 100, "realize_opcount_threshold": 1000}


def should_compile(mode: str, activations: float) -> bool:
    """Decide whether to compile.

    Args:
        mode: "on", "off", or "auto" (enough work, and a C++ compiler or a CUDA device is present).
        activations: steps x batch x width x rows x columns of the planned work.
    """
    if mode != "auto":
        return mode == "on"
    possible = torch.cuda.is_available() or any(map(shutil.which, ("g++", "clang++", "c++")))
    return possible and activations >= _MIN_WORK_TO_COMPILE


@dataclass
class Compilations:
    """Compilations inside a `watch_compilations` block.

    Args:
        notify: called with True before the first call of a function with new shapes, with False after it.
        functions: functions compiled, each counted once for each combination of shapes.
        seconds: time of these first calls: compilation, or reading the disk cache of an earlier process, and one run.
    """

    notify: Callable[[bool], None]
    functions: int = 0
    seconds: float = 0.0

    def time(self, call: Callable[[], Any]) -> Any:
        """Return the result of `call`, and add its time."""
        self.notify(True)
        start = time.perf_counter()
        try:
            return call()
        finally:
            self.functions += 1
            self.seconds += time.perf_counter() - start
            self.notify(False)


_WATCHED: ContextVar[Compilations | None] = ContextVar("compilations", default=None)


@contextlib.contextmanager
def watch_compilations(watcher: Compilations) -> Iterator[None]:
    """Record compilations inside the block, so that a progress bar can explain the pause."""
    before = _WATCHED.set(watcher)
    try:
        yield
    finally:
        _WATCHED.reset(before)


class CompiledByShape:
    """Compile a function once for each combination of argument shapes, with static shapes throughout."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._compiled: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, *tensors: torch.Tensor) -> Any:
        """Call the function compiled for these shapes and dtypes."""
        key = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
        if key not in self._compiled:
            self._compiled[key] = torch.compile(_own_code(self._function), dynamic=False, options=_INDUCTOR_OPTIONS)
            if (watched := _WATCHED.get()) is not None:
                return watched.time(lambda: self._compiled[key](*tensors))
        return self._compiled[key](*tensors)


_NUMBERS = itertools.count()


def _own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `function` and shares its code object with no other.

    Dynamo counts recompilations by code object and gives up after eight, without a word to the caller; a lambda has one
    code object, however often it is made.
    """

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    call.__code__ = call.__code__.replace(co_name=f"call_{next(_NUMBERS)}")
    return call


_SHARED: dict[tuple[Hashable, ...], CompiledByShape] = {}


def compiled_once(function: Callable[..., Any], *key: Hashable) -> CompiledByShape:
    """Return `function` compiled by shape, or what was compiled for an earlier one of the same key in this process.

    Args:
        function: the function; equal keys must mean functions that compute the same.
        key: what it computes, with the structure of the network (`str(network)`) in it.
    """
    return _SHARED.setdefault(key, CompiledByShape(function))
