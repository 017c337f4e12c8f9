"""Progress on stderr and in the status of the run: one bar a long stage. Results never go through here."""

from __future__ import annotations

import contextlib
import sys
from types import TracebackType
from typing import Self

from tqdm.auto import tqdm

from medidistill.networks import Compilations, watch_compilations
from medidistill.pipeline.runfolder.journal import Journal

__all__ = ["Bar", "say"]


def say(shown: bool, text: str) -> None:
    """Write one line beside the bars."""
    if shown:
        tqdm.write(text, file=sys.stderr)


class Bar:
    """A progress bar that is told where it is, not how far it moved.

    While it is open it says when functions are compiled, since the work then stands still for up to a minute, and
    the journal gets an event with how many there were and how long that took.

    Args:
        title: name of the stage.
        total: units in all; 0 where only the work itself knows.
        unit: what is counted.
        shown: draw it.
        journal: where the status of the run is kept.
        part: (i, n) where this is piece i of n of its stage.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str,
        shown: bool,
        journal: Journal | None = None,
        part: tuple[int, int] | None = None,
    ) -> None:
        self._bar = tqdm(
            desc=title, total=total or None, unit=unit, disable=not shown, file=sys.stderr, dynamic_ncols=True
        )
        self._title, self._unit, self._journal, self._part = title, unit, journal, part
        self._open = contextlib.ExitStack()
        self._compilations = Compilations(self._compiles)

    def __enter__(self) -> Self:
        self._open.enter_context(watch_compilations(self._compilations))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._bar.close()
        if self._compilations.functions and self._journal is not None:
            spent = round(self._compilations.seconds, 3)
            self._journal.event("compiled", piece=self._title, functions=self._compilations.functions, seconds=spent)

    def _compiles(self, now: bool) -> None:
        self._bar.set_postfix_str("compiling, once for each shape" if now else "")

    def at(self, done: int, total: int, **figures: float) -> None:
        """Move to `done` of `total` and show figures beside the bar."""
        self._bar.total = total
        if figures:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in figures.items()}, refresh=False)
        self._bar.update(done - self._bar.n)
        if self._journal is not None:
            piece, share = "", None
            if self._part is not None and total:
                piece, share = self._title, (self._part[0] + done / total) / self._part[1]
            self._journal.at(done, total, self._unit, piece=piece, done=share, **figures)
