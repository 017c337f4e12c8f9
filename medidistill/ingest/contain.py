"""Decoders written in Rust report a defect by an exception that `except Exception` does not see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["contained"]


@contextmanager
def contained() -> Iterator[None]:
    """Turn a panic of compiled code inside the block into a `RuntimeError`; requests to stop pass through."""
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise RuntimeError("a decoder panicked") from error
