"""One frozen dataclass a stage. Every field carries its help text and its allowed range.

The dataclasses validate themselves on construction and know nothing of YAML: `medidistill.pipeline`
reads files and hands these down. `digest` names a configuration by its content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from typing import Any

from medidistill.errors import ConfigError, did_you_mean

__all__ = [
    "AugmentConfig",
    "DistillConfig",
    "EvaluateConfig",
    "ExpertConfig",
    "ImportanceConfig",
    "IngestConfig",
    "NetworkConfig",
    "PhantomConfig",
    "RunConfig",
    "TrainingConfig",
    "as_dict",
    "digest",
]


def _number(default: float, text: str, low: float = -math.inf, high: float = math.inf) -> Any:
    return field(default=default, metadata={"help": text, "low": low, "high": high})


def _flag(default: bool, text: str) -> Any:
    return field(default=default, metadata={"help": text})


def _choice(default: str, text: str, *options: str) -> Any:
    return field(default=default, metadata={"help": text, "options": options})


def _text(default: str, text: str) -> Any:
    return field(default=default, metadata={"help": text})


def _names(default: tuple[str, ...], text: str, *options: str) -> Any:
    return field(default=default, metadata={"help": text, "each": options} if options else {"help": text})


def _part(factory: Any, text: str) -> Any:
    return field(default_factory=factory, metadata={"help": text})


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f">= {low:g}"
    return f"<= {high:g}" if math.isinf(low) else f"in [{low:g}, {high:g}]"


class _Validated:
    """Checks each field's type, range and choices as its metadata state them."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            where = f"{type(self).__name__}.{item.name}={value!r}"
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, item.name, value)
            if "low" in item.metadata:
                self._check_number(item, value, where)
            elif item.type == "bool" and not isinstance(value, bool):
                raise ConfigError(f"{where}: must be true or false")
            elif item.type == "str" and not isinstance(value, str):
                raise ConfigError(f"{where}: must be text")
            for one in value if "each" in item.metadata else (value,):
                options = item.metadata.get("each") or item.metadata.get("options")
                if options and one not in options:
                    guess = did_you_mean(str(one), options)
                    raise ConfigError(f"{where}: must be one of {', '.join(options)}{guess}")

    def _check_number(self, item: dataclasses.Field[Any], value: Any, where: str) -> None:
        low, high = item.metadata["low"], item.metadata["high"]
        kinds = (int,) if item.type == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            raise ConfigError(f"{where}: must be {'a whole' if item.type == 'int' else 'a finite'} number")
        if not low <= value <= high:
            raise ConfigError(f"{where}: must be {_range(low, high)}")
        if item.type == "float":
            object.__setattr__(self, item.name, float(value))


@dataclass(frozen=True)
class PhantomConfig(_Validated):
    """Phantom chest X-rays: plainly synthetic DICOM studies in three classes."""

    patients_per_class: int = _number(40, "synthetic patients in each class", 5, 100_000)
    images_per_patient: int = _number(3, "at most this many images a patient (1 to this number)", 1, 20)
    size: int = _number(256, "rows and columns of each image", 64, 4096)
    monochrome1_share: float = _number(0.3, "share of images stored as MONOCHROME1", 0.0, 1.0)
    seed: int = _number(0, "seed of every random decision", 0)


@dataclass(frozen=True)
class IngestConfig(_Validated):
    """From files to images in [0, 1] with labels, patients and a patient-disjoint split."""

    image_size: int = _number(64, "rows and columns after resizing, pixels", 16, 512)
    labels: str = _text("labels.csv", "CSV of labels inside the input folder; a folder per class where it is absent")
    classes: tuple[str, ...] = _names((), "class names in order; empty: all labels found, sorted")
    val_fraction: float = _number(0.15, "share of patients for validation, where the CSV has no split", 0.0, 0.8)
    test_fraction: float = _number(0.2, "share of patients for the test split, where the CSV has no split", 0.0, 0.8)
    max_quarantine: float = _number(0.1, "largest share of files that may be quarantined", 0.0, 1.0)
    normalisation: str = _choice(
        "per_image", "zero mean and unit deviation for each image, or fixed public constants", "per_image", "fixed"
    )
    norm_mean: float = _number(0.5, "mean that `fixed` subtracts", 0.0, 1.0)
    norm_std: float = _number(0.25, "deviation that `fixed` divides by", 1e-3, 10.0)
    cache: str = _choice("memory", "MONAI cache: in memory, or on disk (holds patient pixels)", "memory", "disk")
    seed: int = _number(0, "seed of the split by patient", 0)


@dataclass(frozen=True)
class NetworkConfig(_Validated):
    """A network by name. ConvNet options are ignored by the other names."""

    name: str = _choice("convnet", "architecture", "convnet", "resnet18", "vgg11", "alexnet", "densenet121")
    width: int = _number(32, "ConvNet: channels of every block", 1, 2048)
    depth: int = _number(0, "ConvNet: blocks; 0 chooses by resolution (3 at 32, 4 at 64, 5 at 112 to 128)", 0, 8)
    norm: str = _choice("instance", "ConvNet: normalisation of each block", "instance", "group", "none")


@dataclass(frozen=True)
class AugmentConfig(_Validated):
    """Differentiable siamese augmentation (DSA) for X-rays. All zero: none."""

    shift: float = _number(0.0, "largest translation, share of the side", 0.0, 0.5)
    scale: float = _number(0.0, "largest relative zoom, both ways", 0.0, 0.9)
    rotate: float = _number(0.0, "largest rotation, degrees", 0.0, 180.0)
    brightness: float = _number(0.0, "largest added offset, in normalised units", 0.0, 2.0)
    contrast: float = _number(0.0, "largest relative change of contrast", 0.0, 0.9)
    cutout: float = _number(0.0, "side of the erased square, share of the side", 0.0, 0.9)
    flip: bool = _flag(False, "horizontal flips; off because they put the heart on the right")


@dataclass(frozen=True)
class TrainingConfig(_Validated):
    """Plain supervised training by SGD."""

    steps: int = _number(300, "SGD steps", 1, 10_000_000)
    batch_size: int = _number(64, "images a step (all of them if there are fewer)", 1, 100_000)
    lr: float = _number(0.01, "learning rate", 0.0, 100.0)
    momentum: float = _number(0.9, "momentum", 0.0, 0.999)
    weight_decay: float = _number(5e-4, "weight decay", 0.0, 1.0)
    schedule: str = _choice(
        "step", "rate over time: constant, x0.1 at half, or cosine to 0", "constant", "step", "cosine"
    )
    augment: AugmentConfig = _part(AugmentConfig, "augmentation of each batch")


@dataclass(frozen=True)
class ExpertConfig(_Validated):
    """Expert trajectories: networks trained on the real data, one snapshot an epoch."""

    count: int = _number(10, "experts", 1, 10_000)
    epochs: int = _number(16, "epochs of each expert, E; E + 1 snapshots", 1, 10_000)
    batch_size: int = _number(64, "images a step", 1, 100_000)
    lr: float = _number(0.01, "learning rate, constant", 1e-8, 10.0)
    momentum: float = _number(0.0, "momentum", 0.0, 0.999)
    augment: AugmentConfig = _part(AugmentConfig, "augmentation of each batch")


@dataclass(frozen=True)
class ImportanceConfig(_Validated):
    """Self-adaptive importance weights W on network parameters, w = exp(s)."""

    enabled: bool = _flag(True, "learn W (IADD); false keeps w = 1, which is MTT")
    granularity: str = _choice("element", "one weight for each parameter, or one for each tensor", "element", "tensor")
    constraint: str = _choice(
        "unit_mean_square", "hold mean(w^2) = 1 within [w_min, w_max], or nothing", "unit_mean_square", "none"
    )
    direction: str = _choice(
        "descend", "descend: lower the weight of what is hard to match; ascend: raise it", "descend", "ascend"
    )
    lr: float = _number(0.01, "learning rate of s", 0.0, 1e6)
    w_min: float = _number(0.1, "smallest weight", 1e-6, 1.0)
    w_max: float = _number(10.0, "largest weight", 1.0, 1e6)
    keep_scale: bool = _flag(True, "divide the loss for images and alpha by sum(w^2 d^2) / sum(d^2), detached")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.constraint == "none" and self.direction == "ascend" and self.lr > 0 and self.enabled:
            raise ConfigError(
                "ImportanceConfig.constraint='none' with direction='ascend': W grows without bound; "
                "use constraint='unit_mean_square'"
            )


@dataclass(frozen=True)
class DistillConfig(_Validated):
    """One distillation: what is learned, from which segments of the experts, and how."""

    ipc: int = _number(5, "distilled images per class", 1, 100_000)
    init: str = _choice(
        "noise", "start of the images; `real` copies patients' images and is recorded in the set", "noise", "real"
    )
    noise: float = _number(0.2, "deviation of the noise start, in normalised units", 1e-3, 10.0)
    outer_steps: int = _number(200, "updates of images, labels, alpha and W", 1, 10_000_000)
    inner_steps: int = _number(10, "student steps J in each outer step", 1, 10_000)
    expert_epochs: int = _number(2, "expert epochs K between start and target", 1, 10_000)
    min_start: int = _number(0, "first start epoch", 0, 10_000)
    max_start: int = _number(8, "start epochs are drawn below this number", 1, 10_000)
    batch_size: int = _number(0, "distilled images in an inner step; 0: all", 0, 100_000)
    segments: int = _number(1, "expert segments averaged in one outer step", 1, 1000)
    image_optimizer: str = _choice("adam", "optimiser of the images", "adam", "sgd")
    lr_images: float = _number(0.05, "learning rate of the images", 0.0, 1e6)
    alpha: float = _number(0.03, "initial inner learning rate", 1e-6, 5.0)
    lr_alpha: float = _number(0.01, "learning rate of log alpha (Adam)", 0.0, 100.0)
    soft_labels: bool = _flag(False, "learn soft labels too")
    label_smoothing: float = _number(0.1, "soft labels start this far from one-hot", 1e-6, 0.99)
    lr_labels: float = _number(0.02, "learning rate of the label logits (Adam)", 0.0, 1e6)
    importance: ImportanceConfig = _part(ImportanceConfig, "self-adaptive importance weights W")
    augment: AugmentConfig = _part(AugmentConfig, "siamese augmentation in the inner loop")
    gradient: str = _choice(
        "adjoint", "adjoint: exact, memory does not grow with J; stored: plain unroll", "adjoint", "stored"
    )
    checkpoint_every: int = _number(10, "outer steps between checkpoints", 1, 1_000_000)
    validate_every: int = _number(20, "outer steps between scores on validation; 0: never, keep the last", 0, 1_000_000)
    compile: str = _choice(
        "auto", "torch.compile of the inner step; auto: where the run is long enough to repay it", "auto", "on", "off"
    )
    max_rollbacks: int = _number(5, "roll-backs to the last good step before giving up", 0, 1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_start >= self.max_start:
            raise ConfigError(f"DistillConfig.min_start={self.min_start}: must be < max_start={self.max_start}")


@dataclass(frozen=True)
class EvaluateConfig(_Validated):
    """The comparison: fresh networks on each arm, choices on validation, the test split once."""

    arms: tuple[str, ...] = _names(
        ("full", "random", "kmeans", "mtt", "iadd"),
        "what to compare",
        "full",
        "random",
        "kmeans",
        "mtt",
        "iadd",
    )
    architectures: tuple[str, ...] = _names(
        ("convnet",), "architectures to train", "convnet", "resnet18", "vgg11", "alexnet", "densenet121"
    )
    networks: int = _number(5, "fresh networks for each arm and architecture", 1, 1000)
    full_epochs: int = _number(20, "epochs of the networks trained on all real data", 1, 10_000)
    small: TrainingConfig = _part(TrainingConfig, "training on a small set (random, k-means, distilled)")
    bootstrap: int = _number(1000, "patient-level bootstrap resamples", 100, 1_000_000)
    confidence: float = _number(0.95, "confidence level of intervals", 0.5, 0.999)


@dataclass(frozen=True)
class RunConfig(_Validated):
    """A whole run, from files to report."""

    name: str = _text("medidistill run", "title of the report")
    notice: str = _text("", "a caution shown beside every figure, for example a known confounder")
    seed: int = _number(0, "seed of every random decision", 0)
    threads: int = _number(0, "CPU threads; 0: leave to torch", 0, 4096)
    ingest: IngestConfig = _part(IngestConfig, "reading, splitting, normalising")
    network: NetworkConfig = _part(NetworkConfig, "network of experts and students")
    experts: ExpertConfig = _part(ExpertConfig, "expert trajectories")
    distill: DistillConfig = _part(DistillConfig, "distillation")
    evaluate: EvaluateConfig = _part(EvaluateConfig, "comparison of diagnostic models")

    def __post_init__(self) -> None:
        super().__post_init__()
        last = self.distill.max_start - 1 + self.distill.expert_epochs
        if last > self.experts.epochs:
            raise ConfigError(
                f"distill.max_start={self.distill.max_start} with expert_epochs={self.distill.expert_epochs} needs "
                f"snapshot {last}, experts.epochs={self.experts.epochs} ends before; raise epochs or lower max_start"
            )


def as_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain JSON types."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def digest(*parts: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of configurations or JSON values."""
    plain = [as_dict(part) if dataclasses.is_dataclass(part) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
