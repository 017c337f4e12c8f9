"""Named random streams from one seed.

Every random decision takes a `torch.Generator` made here. A stream is named by what it decides,
so that adding a decision somewhere does not shift the numbers drawn everywhere else, and so that
two arms of a comparison can share a stream on purpose (paired seeds).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

__all__ = ["derive_seed", "global_seed", "stream"]


def derive_seed(seed: int, *names: str | int) -> int:
    """Return the 63-bit seed of the stream `names` under `seed` (SHA-256, stable across versions)."""
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh generator for the stream `names` under `seed`.

    Example:
        >>> a = stream(0, "experts", 3); b = stream(0, "experts", 3)
        >>> bool((torch.rand(2, generator=a) == torch.rand(2, generator=b)).all())
        True
    """
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))


@contextlib.contextmanager
def global_seed(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global CPU generator from `generator` inside the block, and restore it after.

    For third-party constructors (torchvision, MONAI) that draw their weights from global state.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
