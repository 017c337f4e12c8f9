"""What a distillation is given: the problem that its settings are applied to, and what is called on the way."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from medidistill.config import ExpertConfig, TrainingConfig
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.files import save_tensors, write_json
from medidistill.jsontypes import ReadOnlyJsonObject  # facts that a caller adds to the recipe
from medidistill.results.history import HistoryEntry, RollBack

__all__ = ["Callbacks", "DistillProblem", "DistillResult", "DistillStatus", "write_result"]


class DistillStatus(enum.StrEnum):
    """How a distillation ended."""

    COMPLETED = "completed"
    NONFINITE = "nonfinite"  # the roll-backs were used up by losses or gradients that are not finite
    DIVERGED = "diverged"  # the roll-backs were used up by losses that grew without bound


@dataclass(frozen=True)
class DistillProblem:
    """What is distilled.

    Args:
        experts: files of `train_experts`.
        class_names: K names in label order.
        normalisation: what the experts' images went through; shipped with the set.
        training: how to train from the set; its rate is replaced by the learned alpha.
        seed: of the start, the segments, batches and augmentation.
        real: normalised training images (N, C, H, W) and labels (N,), where the settings read real images.
        patients: N identifiers of the real images' patients, where the settings group them.
        expert_training: how the experts were trained, where the settings train on from their snapshots.
        start: a set to begin with, of as many images of each class, in place of `config.init`; images, and labels
            where they are learned, are taken from it, resampled to the stored side. Its origin is its own: `init` of
            the result is that of `start`.
        weights: start of W by parameter name, as a set's `importance`; None: all 1.
        recipe: more facts to ship with the set.
    """

    experts: Sequence[Path]
    class_names: Sequence[str]
    normalisation: Normalisation
    training: TrainingConfig
    seed: int
    real: tuple[Tensor, Tensor] | None = None
    patients: Sequence[str] | None = None
    expert_training: ExpertConfig | None = None
    start: DistilledSet | None = None
    weights: Mapping[str, Tensor] | None = None
    recipe: ReadOnlyJsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class Callbacks:
    """What is called while images are distilled.

    Args:
        score: validation score of a candidate set, higher is better; called every `validate_every` steps. A
            `DivergedError` from it, or a score that is not finite, leaves that step without a score.
        on_step: called with each history entry; a `StoppedError` raised from it ends the loop after a checkpoint.
    """

    score: Callable[[DistilledSet], float] | None = None
    on_step: Callable[[HistoryEntry], None] | None = None


@dataclass(frozen=True)
class DistillResult:
    """How a distillation ended and what it made.

    Args:
        status: how it ended.
        distilled: the set at `best_step`.
        best_step: the step with the best validation score; the last one where no score was asked for.
        history: one entry an outer step.
        events: roll-backs, with step and reason.
        evolution: (step, images) pairs.
    """

    status: DistillStatus
    distilled: DistilledSet
    best_step: int
    history: list[HistoryEntry]
    events: list[RollBack]
    evolution: list[tuple[int, Tensor]]


def write_result(result: DistillResult, folder: Path) -> None:
    """Write pictures, history and set of a distillation into its folder."""
    pictures = {f"step-{step:06d}": images for step, images in result.evolution}
    save_tensors(folder / "evolution.safetensors", pictures, {"kind": "evolution"})
    summary = {
        "status": result.status,
        "best_step": result.best_step,
        "entries": result.history,
        "events": result.events,
    }
    write_json(folder / "history.json", summary)
    result.distilled.save(folder / "distilled.safetensors")  # last: its presence says that the rest is there
