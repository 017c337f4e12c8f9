"""Networks, augmentation, plain training and experts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from medidistill.config.fields import Help, OneOf, Range, Section, Validated
from medidistill.config.privacy import DPConfig

__all__ = [
    "CUSTOM_PREFIX",
    "AdaptiveTraining",
    "AugmentConfig",
    "CompileMode",
    "ExpertConfig",
    "NetworkConfig",
    "NetworkName",
    "Schedule",
    "TrainingConfig",
]

CUSTOM_PREFIX = "custom-"  # begins the name of a network that was defined in Python, see `medidistill.networks.custom`

NetworkName = Annotated[
    str, OneOf("convnet", "resnet18", "vgg11", "alexnet", "densenet121", "vit", prefix=CUSTOM_PREFIX)
]
Schedule = Literal["constant", "step", "cosine", "one_cycle"]
CompileMode = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class NetworkConfig(Validated):
    """A network by name. ConvNet options are ignored by the other names."""

    name: Annotated[NetworkName, Help("architecture")] = "convnet"
    width: Annotated[int, Range(1, 2048), Help("ConvNet: channels of every block")] = 32
    depth: Annotated[
        int, Range(0, 8), Help("ConvNet: blocks; 0 chooses by resolution (3 at 32, 4 at 64, 5 at 112 to 128)")
    ] = 0
    norm: Annotated[Literal["instance", "group", "none"], Help("ConvNet: normalisation of each block")] = "instance"


@dataclass(frozen=True)
class AugmentConfig(Validated):
    """Differentiable siamese augmentation (DSA) for X-rays. All zero: none."""

    shift: Annotated[float, Range(0.0, 0.5), Help("largest translation, share of the side")] = 0.0
    scale: Annotated[float, Range(0.0, 0.9), Help("largest relative zoom, both ways")] = 0.0
    rotate: Annotated[float, Range(0.0, 180.0), Help("largest rotation, degrees")] = 0.0
    brightness: Annotated[float, Range(0.0, 2.0), Help("largest added offset, in normalised units")] = 0.0
    contrast: Annotated[float, Range(0.0, 0.9), Help("largest relative change of contrast")] = 0.0
    cutout: Annotated[float, Range(0.0, 0.9), Help("side of the erased square, share of the side")] = 0.0
    flip: Annotated[bool, Help("horizontal flips; off because they put the heart on the right")] = False


@dataclass(frozen=True)
class TrainingConfig(Validated):
    """Plain supervised training."""

    optimizer: Annotated[Literal["sgd", "adamw"], Help("optimiser")] = "sgd"
    steps: Annotated[int, Range(1, 10_000_000), Help("optimiser steps")] = 300
    batch_size: Annotated[int, Range(1, 100_000), Help("images per step (all of them if there are fewer)")] = 64
    lr: Annotated[float, Range(0.0, 100.0), Help("learning rate")] = 0.01
    momentum: Annotated[float, Range(0.0, 0.999), Help("sgd: momentum")] = 0.9
    weight_decay: Annotated[float, Range(0.0, 1.0), Help("weight decay; adamw: decoupled from the gradient")] = 5e-4
    schedule: Annotated[
        Schedule,
        Help(
            "rate over time: constant, x0.1 at half time, cosine to 0, or one_cycle: rising for three tenths of the "
            "steps, then cosine to 0"
        ),
    ] = "step"
    augment: Annotated[AugmentConfig, Section("augmentation of each batch")] = AugmentConfig()


@dataclass(frozen=True)
class MildAugmentation(AugmentConfig):
    """Augmentation of adaptive training: the variation in positioning and exposure of a frontal X-ray."""

    shift: Annotated[float, Range(0.0, 0.5), Help("largest translation, share of the side")] = 0.05
    scale: Annotated[float, Range(0.0, 0.9), Help("largest relative zoom, both ways")] = 0.1
    rotate: Annotated[float, Range(0.0, 180.0), Help("largest rotation, degrees")] = 5.0
    brightness: Annotated[float, Range(0.0, 2.0), Help("largest added offset, in normalised units")] = 0.1
    contrast: Annotated[float, Range(0.0, 0.9), Help("largest relative change of contrast")] = 0.1


@dataclass(frozen=True)
class AdaptiveTraining(TrainingConfig):
    """Training by AdamW with a one-cycle rate and mild augmentation; the fields are those of `TrainingConfig`."""

    optimizer: Annotated[Literal["sgd", "adamw"], Help("optimiser")] = "adamw"
    steps: Annotated[int, Range(1, 10_000_000), Help("optimiser steps")] = 400
    lr: Annotated[float, Range(0.0, 100.0), Help("learning rate")] = 2e-3
    weight_decay: Annotated[float, Range(0.0, 1.0), Help("weight decay; adamw: decoupled from the gradient")] = 1e-2
    schedule: Annotated[Schedule, Help("rate over time, as in `small_set_training`")] = "one_cycle"
    augment: Annotated[MildAugmentation, Section("augmentation of each batch")] = MildAugmentation()

    def plain_training(self) -> TrainingConfig:
        """Return the same settings as a `TrainingConfig`, which is what sets and results hold."""
        augment = AugmentConfig(**{item.name: getattr(self.augment, item.name) for item in fields(AugmentConfig)})
        values = {item.name: getattr(self, item.name) for item in fields(TrainingConfig)}
        return TrainingConfig(**{**values, "augment": augment})


@dataclass(frozen=True)
class ExpertConfig(Validated):
    """Expert trajectories: networks trained on the real data, one snapshot an epoch."""

    count: Annotated[int, Range(1, 10_000), Help("experts")] = 10
    epochs: Annotated[int, Range(1, 10_000), Help("epochs of each expert, E; E + 1 snapshots")] = 16
    batch_size: Annotated[int, Range(1, 100_000), Help("images per step")] = 64
    lr: Annotated[float, Range(1e-8, 10.0), Help("learning rate, constant")] = 0.01
    momentum: Annotated[float, Range(0.0, 0.999), Help("momentum")] = 0.0
    rho: Annotated[float, Range(0.0, 10.0), Help("radius of sharpness-aware steps (FTD); 0: plain SGD")] = 0.0
    flat_rho: Annotated[
        float, Range(1e-6, 10.0), Help("rho of the second pool, which methods on flat experts (ftd, datm) use")
    ] = 0.01
    augment: Annotated[AugmentConfig, Section("augmentation of each batch")] = AugmentConfig()
    dp: Annotated[DPConfig, Section("differentially private training, by patient")] = DPConfig()
