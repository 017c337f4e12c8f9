"""Several processes on one distillation: each samples its share of an outer step's segments.

Every rank holds the whole state and takes the same step from the same samples, put in the order of their segments, so
that W ranks with one segment each compute what one process with W segments computes, to the bit on equal machines.
Sent in each step: one sample a segment, which is small beside the work of making it.

    torchrun --nproc-per-node 2 -m medidistill distill --output runs/first
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from medidistill.distill.objective import Sample
from medidistill.errors import ConfigError

__all__ = ["Ranks", "join_ranks"]


class Ranks:
    """This process among those that work on one distillation; alone by default.

    Args:
        index: of this process, 0 .. count - 1; rank 0 writes.
        count: processes.
    """

    def __init__(self, index: int = 0, count: int = 1) -> None:
        self.index, self.count = index, count

    @property
    def writes(self) -> bool:
        """Whether this process writes files and draws progress."""
        return self.index == 0

    def share(self, segments: int) -> range:
        """Return this rank's segments. Raises `ConfigError` where they cannot be dealt out evenly."""
        if segments % self.count:
            raise ConfigError(
                f"distill.segments={segments} on {self.count} ranks: must be a multiple of the number of ranks"
            )
        return range(self.index, segments, self.count)

    def gather(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples of all ranks, in the order of their segments."""
        if self.count == 1:
            return list(samples)
        return [sample for mine in samples for sample in self._exchange(mine)]

    def _exchange(self, mine: Sample) -> list[Sample]:
        losses = self._all(torch.tensor(mine.loss, dtype=torch.float64, device=mine.images.device))
        fields = [self._all(value) for value in (mine.images, mine.targets, mine.alpha)]
        parts: Sequence[Tensor | None] = [None] * self.count if mine.parts is None else self._all(mine.parts)
        rows = zip(losses, *fields, parts, strict=True)
        return [Sample(float(loss), images, targets, alpha, part) for loss, images, targets, alpha, part in rows]

    def _all(self, value: Tensor) -> list[Tensor]:
        found = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(self.count)]
        dist.all_gather(found, value.contiguous())
        return found

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank; all ranks must ask."""
        if self.count == 1:
            return flag
        value = torch.tensor(int(flag))
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value)

    def from_first(self, value: float | None) -> float | None:
        """Return rank 0's value on every rank; all ranks must ask."""
        if self.count == 1:
            return value
        held = torch.tensor(float("nan") if value is None else value, dtype=torch.float64)
        dist.broadcast(held, src=0)
        return None if bool(held.isnan()) else float(held)


def join_ranks(device: torch.device | str = "cpu") -> Ranks:
    """Return this process's place as `torchrun` describes it in the environment; alone without.

    Joins the process group: gloo on the CPU; NCCL for tensors on a GPU, with gloo beside it for what stays on the CPU.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.device(device).type == "cuda" else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())
