"""Search bytes for many patterns at once: tables of byte pairs leave few places to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHORTEST", "ByteSearch"]

SHORTEST = 3  # bytes of a pattern
_MOST_PAIRS = 3
_CHUNK = 1 << 24


class ByteSearch:
    """Finds every place of every pattern, ASCII letters of either case.

    Args:
        patterns: of `SHORTEST` bytes and more; capitals of ASCII are taken as small letters.
    """

    def __init__(self, patterns: Iterable[bytes]) -> None:
        small = {one.lower() for one in patterns}
        lengths = [len(one) for one in small]
        shortest, self._longest = min(lengths, default=SHORTEST), max(lengths, default=SHORTEST)
        if shortest < SHORTEST:
            raise ValueError(f"pattern of {shortest} bytes: must be >= {SHORTEST}")
        self._start = min(shortest, _MOST_PAIRS + 1)
        self._by_start: dict[bytes, list[bytes]] = defaultdict(list)
        self._pairs: list[NDArray[np.bool_]] = [np.zeros(1 << 16, dtype=bool) for _ in range(self._start - 1)]
        for pattern in small:
            self._by_start[pattern[: self._start]].append(pattern)
            for place, table in enumerate(self._pairs):
                table[pattern[place] << 8 | pattern[place + 1]] = True

    def find(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield `(pattern, position)`; patterns may overlap.

        Args:
            data: what is searched, of any length.
        """
        lower = data.lower()
        for start in range(0, len(lower), _CHUNK):
            chunk = lower[start : start + _CHUNK + self._longest - 1]
            for at in self._candidates(chunk):
                if at >= _CHUNK:
                    break
                for pattern in self._by_start.get(chunk[at : at + self._start], ()):
                    if chunk.startswith(pattern, at):
                        yield pattern, start + at

    def _candidates(self, chunk: bytes) -> list[int]:
        """Return where each of the first pairs of bytes stands in some pattern."""
        values = np.frombuffer(chunk, dtype=np.uint8).astype(np.uint16)
        places = len(values) - self._start + 1
        if places < 1:
            return []
        pairs = values[:-1] << 8 | values[1:]
        good = self._pairs[0][pairs[:places]]
        for place, table in enumerate(self._pairs[1:], 1):
            good &= table[pairs[place : place + places]]
        found: list[int] = np.flatnonzero(good).tolist()
        return found
