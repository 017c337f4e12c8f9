"""Several processes on one distillation: each samples its share of an outer step's segments.

Every rank holds the whole state and takes the same step from the same samples, put in the order of their segments, so
that W ranks with one segment each compute what one process with W segments computes, to the bit on equal machines.
Sent in each step: one sample a segment, which is small beside the work of making it.

    torchrun --nproc-per-node 2 -m medidistill distill --output runs/first

A rank that fails says so before it ends, and all end with its error. One that is killed cannot: `torchrun
--max-restarts N` starts all ranks anew, and they go on from the checkpoint.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d
from torch.distributed.rendezvous import rendezvous

from medidistill.distillation.objective import Sample
from medidistill.errors import ConfigError, MedidistillError, ResourceError, StoppedError, as_known

__all__ = ["Ranks", "join_ranks"]

_LONGEST = datetime.timedelta(hours=2)  # that a rank waits for another: rank 0 scores alone, shares of experts differ
_FAILED, _ENDED = "failed", "ended"
_PATIENCE = datetime.timedelta(seconds=30)  # that a rank that fails waits for the first one to end


class _LostError(ResourceError):
    """A rank is gone; it may have said why."""


class Ranks:
    """This process among those that work on one distillation; alone by default.

    Args:
        index: of this process, 0 .. count - 1; rank 0 writes.
        count: processes.
        store: where ranks leave notes for one another.
    """

    def __init__(self, index: int = 0, count: int = 1, store: distributed_c10d.Store | None = None) -> None:
        self.index, self.count, self._store = index, count, store
        self._depth = 0  # of blocks whose errors are shared

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
        _collective(lambda: dist.all_gather(found, value.contiguous()))
        return found

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank; all ranks must ask."""
        if self.count == 1:
            return flag
        value = torch.tensor(int(flag))
        _collective(lambda: dist.all_reduce(value, op=dist.ReduceOp.MAX))
        return bool(value)

    def broadcast(self, value: float | None) -> float | None:
        """Return rank 0's value on every rank; all ranks must ask."""
        if self.count == 1:
            return value
        held = torch.tensor(float("nan") if value is None else value, dtype=torch.float64)
        _collective(lambda: dist.broadcast(held, src=0))
        return None if bool(held.isnan()) else float(held)

    def broadcast_bool(self, question: Callable[[], bool]) -> bool:
        """Return rank 0's answer on every rank; no other is asked, and all must come here."""
        return bool(self.broadcast(float(question()) if self.writes else None))

    def wait(self) -> None:
        """Return when every rank has come here."""
        self.any(False)

    @contextlib.contextmanager
    def propagate_errors(self) -> Iterator[None]:
        """Let an error inside the block end every rank: the first one tells the others, which raise it too.

        Raises:
            MedidistillError: of the class that the first rank raised; `ResourceError` where one terminated
                unexpectedly.
        """
        self._depth += 1
        try:
            yield
        except BaseException as error:
            if self._store is None or isinstance(error, SystemExit):
                raise
            told = self._first_failure(error)
            if self._depth == 1 and told is not None:
                self._leave_together()
            if told is not None and told["rank"] != self.index:
                raise _rebuilt(told, quiet=not self.writes) from error
            raise
        finally:
            self._depth -= 1

    def _leave_together(self) -> None:
        """Wait until the rank that writes has written how it ended: torchrun terminates all when one is gone."""
        assert self._store is not None
        with contextlib.suppress(RuntimeError):  # the store is gone, and with it whoever held it
            if self.writes:
                self._store.set(_ENDED, "1")
                return
            if dist.is_initialized():
                dist.destroy_process_group()  # what the first rank waits for fails at once
            self._store.wait([_ENDED], _PATIENCE)

    def _first_failure(self, error: BaseException) -> dict[str, Any] | None:
        """Return what the first rank to fail said; this one says it where it is the first."""
        assert self._store is not None
        known = as_known(error)
        text = str(known) if known else f"internal error: {type(error).__name__}: {error}"
        mine = {"rank": self.index, "code": known.exit_code if known else 1, "text": text}
        with contextlib.suppress(RuntimeError):  # the store went with the rank that held it
            # a request to stop reaches every rank by itself; what looks like one may follow another rank's failure
            if not isinstance(error, _LostError | StoppedError | KeyboardInterrupt):
                told: dict[str, Any] = json.loads(self._store.compare_set(_FAILED, "", json.dumps(mine)))
                return told
            if self._store.check([_FAILED]):
                told = json.loads(self._store.get(_FAILED))
                return told
        return None


def _rebuilt(told: dict[str, Any], quiet: bool) -> MedidistillError:
    kinds = {kind.exit_code: kind for kind in MedidistillError.__subclasses__() if kind is not StoppedError}
    error = kinds.get(told["code"], MedidistillError)(f"rank {told['rank']}: {told['text']}")
    error.quiet = quiet
    return error


def _collective(collective: Callable[[], Any]) -> None:
    try:
        collective()
    except RuntimeError as error:  # what gloo and NCCL raise; DistBackendError is one
        raise _LostError(
            "another process of this distillation has ended or is out of reach; the same command goes on from the "
            "checkpoint"
        ) from error


def join_ranks() -> Ranks:
    """Return this process's place as `torchrun` describes it in the environment; alone without.

    Joins the process group: gloo on the CPU; NCCL for tensors on a GPU, with gloo beside it for what stays on the CPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        return Ranks()
    return _join("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


@functools.cache
def _join(backend: str) -> Ranks:
    store, index, count = next(rendezvous("env://", timeout=_LONGEST))
    store = distributed_c10d.PrefixStore(_agree_on_generation(store, index, count), store)
    dist.init_process_group(backend, store=store, rank=index, world_size=count, timeout=_LONGEST)
    return Ranks(index, count, store)


def _agree_on_generation(store: distributed_c10d.Store, index: int, count: int) -> str:
    """Return a name for this life of the group, the same on all ranks and on no earlier life's.

    The launcher's store outlives its workers, and the addresses that killed ranks left there would be read again;
    nothing in the environment tells one life from the next on every node (pytorch/pytorch#135712). So each rank asks
    rank 0, under a word of its own that nobody can have answered before.
    """
    me = uuid.uuid4().hex
    if index:
        store.set(f"ask/{index}", me)
        name = str(store.get(f"answer/{me}").decode())
        store.set(f"heard/{name}/{index}", "yes")
        return name
    missing, until = set(range(1, count)), time.monotonic() + _LONGEST.total_seconds()
    while missing:
        missing = {other for other in missing if not store.check([f"heard/{me}/{other}"])}
        for other in missing:
            if store.check([f"ask/{other}"]):
                store.set(f"answer/{store.get(f'ask/{other}').decode()}", me)
        if time.monotonic() > until:
            raise ResourceError(f"ranks {sorted(missing)} of {count} did not come; start all of them together")
        time.sleep(0.02)
    return me
