"""Shadow runs: the whole procedure repeated, each time without half of the patients and with some canaries.

A run is a distillation (passed in as a callable), a few students trained on its set, and their log-probabilities for
every image of the audit. Each run is a file: a stopped audit goes on with the runs it lacks. Patients are in exactly
half of the runs. Canaries represent outlier patients: smooth random patterns, each a patient of its own with a
class drawn at random, unlike anything else in the training data. (X-rays under a wrong label, the usual canaries, are
harder to find: docs/privacy.md has both.) Each belongs to one run, where a fair coin decides whether it is in, so that
all other runs give the attack's scores for an absent patient.

Cost: runs x (distillation + students), spread over processes. Worker processes stay alive, so what torch compiled for
the first shadow of each serves its next ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medidistill.config import digest
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.errors import ConfigError, IngestError
from medidistill.files import load_tensors, save_tensors
from medidistill.hashing import tensor_sha256
from medidistill.networks import Workers, make_network, predict, train
from medidistill.privacy.attacks.membership import phi
from medidistill.seeding import stream

__all__ = [
    "AuditData",
    "DistillFn",
    "ShadowPlan",
    "ShadowRuns",
    "log_probabilities",
    "plan_shadows",
    "planted_canaries",
    "run_shadows",
]

DistillFn = Callable[[Tensor, Tensor, Sequence[str], int], DistilledSet]
"""(normalised images (N, C, H, W), labels (N,), N patients, seed) -> distilled set; picklable, for the processes."""

_FLOOR = 1e-7  # of a probability, before its logarithm
_PREDICTED_AT_ONCE = 32  # images whose first maps stay in the processor's cache
_PATTERN = 8  # side of the coarse grid that a canary's pattern is interpolated from


@dataclass(frozen=True)
class AuditData:
    """The real images of an audit, normalised.

    Args:
        images: (N, C, H, W); first those of the patients that shadows draw from, then the others'.
        labels: (N,) int64.
        patient: (N,) int64, 0..P-1 for the patients drawn from, then the others.
        members: number of images of the patients drawn from.
        num_classes: K.
    """

    images: Tensor
    labels: Tensor
    patient: npt.NDArray[np.int64]
    members: int
    num_classes: int

    @property
    def patients(self) -> int:
        """Number of patients that shadows draw from."""
        return int(self.patient[: self.members].max()) + 1


@dataclass(frozen=True)
class ShadowPlan:
    """Assignment of patients and canaries to runs.

    Args:
        members: (R, P) bool.
        canary_images: (C, channels, H, W) float32, normalised.
        canary_label: (C,) class.
        canary_run: (C,) the run that it may be in.
        canary_in: (C,) whether it is.
        weight: how often a canary is repeated in its run.
        seed: of all random draws.
    """

    members: npt.NDArray[np.bool_]
    canary_images: npt.NDArray[np.float32]
    canary_label: npt.NDArray[np.int64]
    canary_run: npt.NDArray[np.int64]
    canary_in: npt.NDArray[np.bool_]
    weight: int
    seed: int

    def training_set(self, pool: AuditData, run: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Return images, labels and patients of one run: its patients, then its canaries, a patient each."""
        inside = np.flatnonzero(self.members[run][pool.patient[: pool.members]])
        mine = np.flatnonzero((self.canary_run == run) & self.canary_in).repeat(self.weight)
        images = torch.cat([pool.images[torch.from_numpy(inside)], torch.from_numpy(self.canary_images[mine])])
        labels = torch.cat([pool.labels[torch.from_numpy(inside)], torch.from_numpy(self.canary_label[mine])])
        people = [f"patient {p}" for p in pool.patient[inside]] + [f"canary {c}" for c in mine]
        return images, labels, tuple(people)


@dataclass(frozen=True)
class ShadowRuns:
    """Results of the finished runs, as log-probabilities.

    Args:
        plan: who was in which run.
        log_probabilities: (R, N, K) float64 of every image of the pool.
        of_canaries: (R, C, K) float64.
    """

    plan: ShadowPlan
    log_probabilities: npt.NDArray[np.float64]
    of_canaries: npt.NDArray[np.float64]

    def canaries(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Return each canary's phi at its own run (C,), at all runs (R, C), and which runs lack it (R, C)."""
        plan = self.plan
        everywhere = phi(self.of_canaries, plan.canary_label)
        columns = np.arange(len(plan.canary_run))
        elsewhere = np.ones(everywhere.shape, dtype=bool)
        elsewhere[plan.canary_run, columns] = False
        return everywhere[plan.canary_run, columns], everywhere, elsewhere


def _draw_canaries(count: int, channels: int, side: int, generator: torch.Generator) -> Tensor:
    """Return smooth random patterns, (count, channels, side, side) float32 in [0, 1], the channels alike."""
    coarse = torch.randn(count, 1, _PATTERN, _PATTERN, generator=generator)
    fine = nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)
    fine = (fine - fine.mean((2, 3), keepdim=True)) / fine.std((2, 3), keepdim=True)
    return (0.5 + 0.25 * fine).clamp(0, 1).expand(-1, channels, -1, -1)


def planted_canaries(runs: int, canaries: int) -> int:
    """Return how many of `canaries` are planted: as many in each of `runs`."""
    return canaries // runs * runs


def plan_shadows(
    pool: AuditData, normalisation: Normalisation, *, runs: int, canaries: int, weight: int = 1, seed: int = 0
) -> ShadowPlan:
    """Assign patients and canaries to runs at random.

    Args:
        pool: real images.
        normalisation: that of the pool, for the canaries.
        runs: even, >= 4.
        canaries: in all, as many in each run.
        weight: repetitions of a canary, 1 as a patient's image.
        seed: of the draws.

    Raises:
        ConfigError: an odd or too small number of runs, or fewer than two patients.
    """
    if runs < 4 or runs % 2:
        raise ConfigError(f"audit.shadows={runs}: must be an even number >= 4")
    if pool.patients < 2:
        raise ConfigError(f"an audit of membership needs at least two patients, got {pool.patients}")
    generator = np.random.default_rng(stream(seed, "audit", "plan").initial_seed())
    members = np.zeros((runs, pool.patients), dtype=bool)
    for patient in range(pool.patients):
        members[generator.permutation(runs)[: runs // 2], patient] = True
    planted = planted_canaries(runs, canaries)
    _, channels, side, _ = pool.images.shape
    patterns = _draw_canaries(planted, channels, side, stream(seed, "audit", "canaries"))
    return ShadowPlan(
        members=members,
        canary_images=normalisation.apply(patterns).numpy(),
        canary_label=generator.integers(pool.num_classes, size=planted),
        canary_run=np.arange(planted) % runs,
        canary_in=generator.random(planted) < 0.5,
        weight=weight,
        seed=seed,
    )


def log_probabilities(
    distilled: DistilledSet, images: Tensor, students: int, seed: int, *, compile: bool = False
) -> Tensor:
    """Train `students` networks by the set's recipe; return their mean log-probability of each image, (N, K)."""
    _, channels, side, _ = distilled.images.shape
    found = []
    images = images.contiguous(memory_format=torch.channels_last)  # about three times as fast on a CPU
    for number in range(students):
        network = make_network(
            distilled.network,
            channels=channels,
            image_size=side,
            num_classes=distilled.num_classes,
            generator=stream(seed, "audit", "student", number, "init"),
        )
        batches = stream(seed, "audit", "student", number, "batches")
        train(network, distilled.images, distilled.targets, distilled.training, batches, compile=compile)
        network.to(memory_format=torch.channels_last)
        found.append(predict(network, images, _PREDICTED_AT_ONCE).double().clamp_min(_FLOOR).log())
    return torch.stack(found).mean(0)


def run_shadows(
    pool: AuditData,
    plan: ShadowPlan,
    distill: DistillFn,
    *,
    procedure: str,
    students: int,
    folder: Path,
    workers: int = 1,
    compile: bool = False,
    on_run: Callable[[int, int], None] | None = None,
    on_estimate: Callable[[float], None] | None = None,
) -> ShadowRuns:
    """Run the shadows that `folder` lacks and return all of them.

    Args:
        pool: real images.
        plan: who is in which run.
        distill: the procedure under audit.
        procedure: digest of its settings; runs of another procedure, or on other data, are repeated.
        students: networks trained on each set.
        folder: receives shadow-0000.safetensors, ...; readable by the owner alone.
        workers: processes; 1 runs in this one.
        compile: compile the training of students.
        on_run: called with (done, total); may raise to stop.
        on_estimate: called once, after the first missing run, with the seconds that the others will take.

    Raises:
        ResourceError: a process ended before its shadow was done.
        MedidistillError: what `distill` raises; finished runs stay.
    """
    sizes = [len(plan.members), len(plan.canary_run)]
    # what a run reads, and who is in it: a collection that was read anew is another one
    assigned = (plan.members, plan.canary_images, plan.canary_label, plan.canary_run, plan.canary_in, pool.patient)
    data = [tensor_sha256(part) for part in (pool.images, pool.labels, *map(torch.from_numpy, assigned))]
    name = digest(procedure, students, plan.seed, plan.weight, sizes, "patterns", data, pool.members)
    files = [folder / f"shadow-{run:04d}.safetensors" for run in range(len(plan.members))]
    missing = [run for run, file in enumerate(files) if not _is_finished(file, name)]
    job = _Job(pool, plan, distill, name, students, folder, compile)
    done, started = len(files) - len(missing), time.perf_counter()
    rounds = math.ceil(len(missing) / max(1, min(workers, len(missing))))

    def count(now: int) -> None:
        nonlocal rounds
        if on_run is not None:
            on_run(done + now, len(files))
        if on_estimate is not None and rounds:
            on_estimate((time.perf_counter() - started) * (rounds - 1))
        rounds = 0

    with Workers(workers) as processes:
        processes.run(job, missing, count)
    tables = [load_tensors(file)[0]["log_probabilities"] for file in files]
    table = torch.stack(tables).double().numpy()
    return ShadowRuns(plan, table[:, : len(pool.images)], table[:, len(pool.images) :])


def _is_finished(file: Path, name: str) -> bool:
    try:
        return bool(load_tensors(file)[1].get("digest") == name)
    except IngestError:
        return False


@dataclass(frozen=True)
class _Job:
    pool: AuditData
    plan: ShadowPlan
    distill: DistillFn
    name: str
    students: int
    folder: Path
    compile: bool

    def __call__(self, run: int) -> None:
        images, labels, people = self.plan.training_set(self.pool, run)
        seed = self.plan.seed * 1_000_003 + run
        distilled = self.distill(images, labels, people, seed)
        asked = torch.cat([self.pool.images, torch.from_numpy(self.plan.canary_images)])
        table = log_probabilities(distilled, asked, self.students, seed, compile=self.compile)
        path = self.folder / f"shadow-{run:04d}.safetensors"
        save_tensors(path, {"log_probabilities": table.float()}, {"kind": "shadow", "digest": self.name}, mode=0o600)
