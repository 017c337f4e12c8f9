"""Progress on stderr: one bar a long stage. Results go to stdout and never through here."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

__all__ = ["Bar", "say"]


def say(shown: bool, text: str) -> None:
    """Write one line beside the bars."""
    if shown:
        tqdm.write(text, file=sys.stderr)


class Bar:
    """A progress bar that is told where it is, not how far it moved.

    Args:
        title: name of the stage.
        total: units in all; 0 where only the work itself knows.
        unit: what is counted.
        shown: draw it.
    """

    def __init__(self, title: str, total: int, unit: str, shown: bool) -> None:
        self._bar = tqdm(
            desc=title, total=total or None, unit=unit, disable=not shown, file=sys.stderr, dynamic_ncols=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def at(self, done: int, total: int, **figures: str) -> None:
        """Move to `done` of `total` and show figures beside the bar."""
        self._bar.total = total
        if figures:
            self._bar.set_postfix(figures, refresh=False)
        self._bar.update(done - self._bar.n)
