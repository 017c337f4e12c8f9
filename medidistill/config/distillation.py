"""Distillation and its importance weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medidistill.config.fields import Validated, choice, flag, number, part
from medidistill.config.training import AugmentConfig
from medidistill.errors import ConfigError

__all__ = ["METHODS", "DistillConfig", "ImportanceConfig"]


@dataclass(frozen=True)
class ImportanceConfig(Validated):
    """Self-adaptive importance weights W on network parameters, w = exp(s)."""

    enabled: bool = flag(True, "learn W (IADD); false keeps w = 1, which is MTT")
    granularity: str = choice("element", "one weight for each parameter, or one for each tensor", "element", "tensor")
    constraint: str = choice(
        "unit_mean_square",
        "unit_mean_square: hold mean(w^2) = 1 within [w_min, w_max]; balanced: that, and every group ends with an "
        "equal share of the loss; none: nothing",
        "unit_mean_square",
        "balanced",
        "none",
    )
    direction: str = choice(
        "descend", "descend: lower the weight of what is hard to match; ascend: raise it", "descend", "ascend"
    )
    lr: float = number(0.01, "learning rate of s", 0.0, 1e6)
    w_min: float = number(0.1, "smallest weight", 1e-6, 1.0)
    w_max: float = number(10.0, "largest weight", 1.0, 1e6)
    keep_scale: bool = flag(True, "divide the loss for images and alpha by sum(w^2 d^2) / sum(d^2), detached")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.constraint == "balanced" and self.direction == "ascend":
            raise ConfigError(
                "ImportanceConfig.constraint='balanced' with direction='ascend': equal shares are repelled, not "
                "reached; use direction='descend'"
            )
        if self.constraint == "none" and self.direction == "ascend" and self.lr > 0 and self.enabled:
            raise ConfigError(
                "ImportanceConfig.constraint='none' with direction='ascend': W grows without bound; "
                "use constraint='unit_mean_square'"
            )


@dataclass(frozen=True)
class DistillConfig(Validated):
    """One distillation: what is learned, from which segments of the experts, and how."""

    objective: str = choice(
        "trajectory",
        "what an outer step lowers: trajectory, the distance to an expert's later snapshot (MTT, IADD); "
        "student_loss, the real images' loss of a student trained on the set (needs no expert, reads real images)",
        "trajectory",
        "student_loss",
    )
    ipc: int = number(5, "distilled images per class", 1, 100_000)
    init: str = choice(
        "noise", "start of the images; `real` copies patients' images and is recorded in the set", "noise", "real"
    )
    noise: float = number(0.2, "deviation of the noise start, in normalised units", 1e-3, 10.0)
    outer_steps: int = number(200, "updates of images, labels, alpha and W", 1, 10_000_000)
    inner_steps: int = number(10, "student steps J in each outer step", 1, 10_000)
    expert_epochs: int = number(2, "expert epochs K between start and target", 1, 10_000)
    min_start: int = number(0, "first start epoch", 0, 10_000)
    max_start: int = number(8, "start epochs are drawn below this number", 1, 10_000)
    batch_size: int = number(0, "distilled images in an inner step; 0: all", 0, 100_000)
    warmup_steps: int = number(60, "student_loss: at most this many student steps before the J", 0, 10_000)
    real_batch: int = number(126, "student_loss: real images in the loss, equally many of each class", 1, 100_000)
    segments: int = number(1, "expert segments averaged in one outer step", 1, 1000)
    image_optimizer: str = choice("adam", "optimiser of the images", "adam", "sgd")
    basis: str = choice(
        "cosine",
        "coordinates of the images that are learned: cosines scaled to the spectrum of photographs, or pixels",
        "cosine",
        "pixels",
    )
    spectrum: float = number(1.0, "cosine: the amplitude falls as 1 / frequency to this power", 0.0, 4.0)
    lr_images: float = number(0.05, "learning rate of the images", 0.0, 1e6)
    alpha: float = number(0.03, "initial inner learning rate", 1e-6, 5.0)
    lr_alpha: float = number(0.01, "learning rate of log alpha (Adam)", 0.0, 100.0)
    soft_labels: bool = flag(False, "learn soft labels too")
    label_smoothing: float = number(0.1, "soft labels start this far from one-hot", 1e-6, 0.99)
    lr_labels: float = number(0.02, "learning rate of the label logits (Adam)", 0.0, 1e6)
    importance: ImportanceConfig = part(ImportanceConfig, "self-adaptive importance weights W")
    augment: AugmentConfig = part(AugmentConfig, "siamese augmentation in the inner loop")
    gradient: str = choice(
        "adjoint", "adjoint: exact, memory does not grow with J; stored: plain unroll", "adjoint", "stored"
    )
    checkpoint_every: int = number(10, "outer steps between checkpoints", 1, 1_000_000)
    validate_every: int = number(20, "outer steps between scores on validation; 0: never, keep the last", 0, 1_000_000)
    compile: str = choice(
        "auto", "torch.compile of the inner step; auto: where the run is long enough to repay it", "auto", "on", "off"
    )
    max_rollbacks: int = number(5, "roll-backs to the last good step before giving up", 0, 1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_start >= self.max_start:
            raise ConfigError(f"DistillConfig.min_start={self.min_start}: must be < max_start={self.max_start}")


# What each method changes in `distill`; a run's `methods` section may change more.
METHODS: Mapping[str, Mapping[str, Any]] = {
    "mtt": {"importance": {"enabled": False}},
    "iadd": {},
    "bptt": {"objective": "student_loss", "importance": {"enabled": False}},
}
