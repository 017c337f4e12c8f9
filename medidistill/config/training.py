"""Networks, augmentation, plain training and experts."""

from __future__ import annotations

from dataclasses import dataclass, fields

from medidistill.config.fields import Validated, choice, flag, number, part
from medidistill.config.privacy import DPConfig

__all__ = ["CUSTOM_PREFIX", "AdaptiveTraining", "AugmentConfig", "ExpertConfig", "NetworkConfig", "TrainingConfig"]

CUSTOM_PREFIX = "custom-"  # begins the name of a network that was defined in Python, see `medidistill.networks.custom`


@dataclass(frozen=True)
class NetworkConfig(Validated):
    """A network by name. ConvNet options are ignored by the other names."""

    name: str = choice(
        "convnet",
        "architecture",
        "convnet",
        "resnet18",
        "vgg11",
        "alexnet",
        "densenet121",
        "vit",
        prefix=CUSTOM_PREFIX,
    )
    width: int = number(32, "ConvNet: channels of every block", 1, 2048)
    depth: int = number(0, "ConvNet: blocks; 0 chooses by resolution (3 at 32, 4 at 64, 5 at 112 to 128)", 0, 8)
    norm: str = choice("instance", "ConvNet: normalisation of each block", "instance", "group", "none")


@dataclass(frozen=True)
class AugmentConfig(Validated):
    """Differentiable siamese augmentation (DSA) for X-rays. All zero: none."""

    shift: float = number(0.0, "largest translation, share of the side", 0.0, 0.5)
    scale: float = number(0.0, "largest relative zoom, both ways", 0.0, 0.9)
    rotate: float = number(0.0, "largest rotation, degrees", 0.0, 180.0)
    brightness: float = number(0.0, "largest added offset, in normalised units", 0.0, 2.0)
    contrast: float = number(0.0, "largest relative change of contrast", 0.0, 0.9)
    cutout: float = number(0.0, "side of the erased square, share of the side", 0.0, 0.9)
    flip: bool = flag(False, "horizontal flips; off because they put the heart on the right")


@dataclass(frozen=True)
class TrainingConfig(Validated):
    """Plain supervised training."""

    optimizer: str = choice("sgd", "optimiser", "sgd", "adamw")
    steps: int = number(300, "optimiser steps", 1, 10_000_000)
    batch_size: int = number(64, "images per step (all of them if there are fewer)", 1, 100_000)
    lr: float = number(0.01, "learning rate", 0.0, 100.0)
    momentum: float = number(0.9, "sgd: momentum", 0.0, 0.999)
    weight_decay: float = number(5e-4, "weight decay; adamw: decoupled from the gradient", 0.0, 1.0)
    schedule: str = choice(
        "step",
        "rate over time: constant, x0.1 at half time, cosine to 0, or one_cycle: rising for three tenths of the steps, "
        "then cosine to 0",
        "constant",
        "step",
        "cosine",
        "one_cycle",
    )
    augment: AugmentConfig = part(AugmentConfig, "augmentation of each batch")


@dataclass(frozen=True)
class MildAugmentation(AugmentConfig):
    """Augmentation of adaptive training: the variation in positioning and exposure of a frontal X-ray."""

    shift: float = number(0.05, "largest translation, share of the side", 0.0, 0.5)
    scale: float = number(0.1, "largest relative zoom, both ways", 0.0, 0.9)
    rotate: float = number(5.0, "largest rotation, degrees", 0.0, 180.0)
    brightness: float = number(0.1, "largest added offset, in normalised units", 0.0, 2.0)
    contrast: float = number(0.1, "largest relative change of contrast", 0.0, 0.9)


@dataclass(frozen=True)
class AdaptiveTraining(TrainingConfig):
    """Training by AdamW with a one-cycle rate and mild augmentation; the fields are those of `TrainingConfig`."""

    optimizer: str = choice("adamw", "optimiser", "sgd", "adamw")
    steps: int = number(400, "optimiser steps", 1, 10_000_000)
    lr: float = number(2e-3, "learning rate", 0.0, 100.0)
    weight_decay: float = number(1e-2, "weight decay; adamw: decoupled from the gradient", 0.0, 1.0)
    schedule: str = choice("one_cycle", "rate over time, as in `small`", "constant", "step", "cosine", "one_cycle")
    augment: MildAugmentation = part(MildAugmentation, "augmentation of each batch")

    def plain_training(self) -> TrainingConfig:
        """Return the same settings as a `TrainingConfig`, which is what sets and results hold."""
        augment = AugmentConfig(**{item.name: getattr(self.augment, item.name) for item in fields(AugmentConfig)})
        values = {item.name: getattr(self, item.name) for item in fields(TrainingConfig)}
        return TrainingConfig(**{**values, "augment": augment})


@dataclass(frozen=True)
class ExpertConfig(Validated):
    """Expert trajectories: networks trained on the real data, one snapshot an epoch."""

    count: int = number(10, "experts", 1, 10_000)
    epochs: int = number(16, "epochs of each expert, E; E + 1 snapshots", 1, 10_000)
    batch_size: int = number(64, "images per step", 1, 100_000)
    lr: float = number(0.01, "learning rate, constant", 1e-8, 10.0)
    momentum: float = number(0.0, "momentum", 0.0, 0.999)
    rho: float = number(0.0, "radius of sharpness-aware steps (FTD); 0: plain SGD", 0.0, 10.0)
    flat_rho: float = number(0.01, "rho of the second pool, which methods on flat experts (ftd, datm) use", 1e-6, 10.0)
    augment: AugmentConfig = part(AugmentConfig, "augmentation of each batch")
    dp: DPConfig = part(DPConfig, "differentially private training, by patient")
