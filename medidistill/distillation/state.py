"""Everything an outer step changes, in one place that can be copied, written and read back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation.class_gaussian import draw_class_gaussians
from medidistill.distillation.group_gaussians import draw_group_gaussians, require_patients
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.parameterization import Parameterization
from medidistill.errors import ConfigError
from medidistill.jsontypes import JsonObject  # the header of a checkpoint
from medidistill.results.history import HistoryEntry, RollBack
from medidistill.seeding import stream

__all__ = ["DistillState", "Progress", "initial_images", "parameterization"]

Checkpoint = tuple[dict[str, Tensor], JsonObject]


def parameterization(config: DistillConfig, side: int, device: torch.device | str = "cpu") -> Parameterization:
    """Return how the numbers that `config` learns become training images of `side` pixels.

    Raises:
        ConfigError: `factor` does not divide the side, or leaves stored images of fewer than 4 x 4 values.
    """
    if side % config.factor or side // config.factor < 4:
        allowed = [f for f in range(1, side // 4 + 1) if side % f == 0]
        raise ConfigError(
            f"distill.factor={config.factor}: must divide the side of the images, {side} pixels, and leave at least 4; "
            f"use one of {', '.join(map(str, allowed))}"
        )
    return Parameterization(
        config.basis,
        side,
        factor=config.factor,
        exponent=config.spectrum,
        decoder=config.decoder,
        device=device,
    )


def initial_images(
    config: DistillConfig,
    shape: tuple[int, int, int],
    num_classes: int,
    real: tuple[Tensor, Tensor] | None,
    seed: int,
    patients: Sequence[str] | None = None,
) -> Tensor:
    """Return the stored images at step 0: noise, draws of Gaussians, or real ones averaged to the stored size.

    Args:
        config: ipc, factor and init.
        shape: (C, H, W) of a training image.
        num_classes: K.
        real: normalised real images and labels; needed unless `init="noise"`.
        seed: stream (seed, "init").
        patients: identifiers of the real images' patients; needed for `init="mixture"`. For `init="gaussian"` every
            image counts as a patient where they are not given.

    Returns:
        (K * n, C, H / f, W / f), class by class, n = `config.images_per_class`, f the factor.

    Raises:
        ConfigError: no real images or patients where they are needed, or of another shape; `init="real"` with more
            images than a class has; a Gaussian (`init="gaussian"`, `init="mixture"`) of a class with fewer patients
            than `group_patients`.
    """
    generator = stream(seed, "init")
    maps = parameterization(config, shape[-1])
    count, size = config.images_per_class, (shape[0], maps.stored_side, maps.stored_side)
    if config.init == "noise":
        return maps.stored(torch.randn(num_classes * count, *size, generator=generator) * config.init_std)
    if real is None:
        raise ConfigError(f"distill.init={config.init!r} needs the real images; use init='noise'")
    images, labels = real
    if images.shape[1:] != shape:
        raise ConfigError(f"real images are {tuple(images.shape[1:])}, the experts' were {shape}: prepare them alike")
    if config.init == "gaussian":
        names = patients if patients is not None else [str(number) for number in range(len(images))]
        require_patients(labels.cpu(), names, num_classes, config.group_patients)
        begun = draw_class_gaussians(images.cpu(), labels.cpu(), num_classes, count, generator)
    elif config.init == "mixture":
        if patients is None or len(patients) != len(images):
            raise ConfigError("distill.init='mixture' needs the patient of each real image: groups are of patients")
        begun = draw_group_gaussians(
            images.cpu(), labels.cpu(), patients, num_classes, count, config.group_patients, generator
        )
    else:
        begun = _copies(config, images, labels, num_classes, generator)
    return begun if size[1:] == shape[1:] else F.interpolate(begun, size=size[1:], mode="area")


def _copies(
    config: DistillConfig, images: Tensor, labels: Tensor, num_classes: int, generator: torch.Generator
) -> Tensor:
    """Return copies of as many real images of each class as the set has, drawn without replacement."""
    chosen, count = [], config.images_per_class
    for name in range(num_classes):
        members = torch.nonzero(labels == name).flatten()
        if len(members) < count:
            raise ConfigError(
                f"distill.ipc={config.ipc} with factor={config.factor}: class {name} has only {len(members)} training "
                f"images, {count} are needed"
            )
        chosen.append(members[torch.randperm(len(members), generator=generator)[:count]])
    return images[torch.cat(chosen)].clone()


@dataclass
class Progress:
    """What is counted and remembered beside the tensors; JSON types only."""

    step: int = 0
    rollbacks: int = 0
    best_step: int = 0
    best_score: float | None = None
    entries: list[HistoryEntry] = field(default_factory=list)
    events: list[RollBack] = field(default_factory=list)

    @property
    def rate_scale(self) -> float:
        """Factor on every learning rate: halved at each roll-back."""
        return 0.5**self.rollbacks


class DistillState:
    """Images, label logits, log alpha, W, their optimisers, the best set so far, and the progress.

    Args:
        config: learning rates and optimisers.
        stored: (S, C, h, h) start of the stored images.
        side: rows and columns of a training image, pixels.
        labels: (S,) int64.
        num_classes: K.
        weights: W.
        logits: (S, K) start of the label logits; None: smoothed one-hot labels.
    """

    def __init__(
        self,
        config: DistillConfig,
        stored: Tensor,
        side: int,
        labels: Tensor,
        num_classes: int,
        weights: ImportanceWeights,
        logits: Tensor | None = None,
    ) -> None:
        self.config = config
        self.parameterization = parameterization(config, side, stored.device)
        self.coordinates = self.parameterization.coordinates(stored)
        self.images = images = self.shown()
        self.average = self.stored()
        one_hot = torch.nn.functional.one_hot(labels, num_classes).to(images.dtype)
        smooth = one_hot * (1 - config.label_smoothing) + config.label_smoothing / num_classes
        self.one_hot = one_hot
        self.logits = smooth.log() if logits is None else logits.to(images).clone()
        self.log_alpha = torch.tensor(math.log(config.alpha), dtype=torch.float64, device=images.device)
        self.weights = weights
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.evolution: dict[int, Tensor] = {}
        if config.image_optimizer == "adam":
            images_by: torch.optim.Optimizer = torch.optim.Adam([self.coordinates], lr=config.lr_images)
        else:
            images_by = torch.optim.SGD([self.coordinates], lr=config.lr_images, momentum=0.5)
        self.optimizers = {
            "coordinates": images_by,
            "log_alpha": torch.optim.Adam([self.log_alpha], lr=config.lr_alpha),
        }
        if config.soft_labels:
            self.optimizers["logits"] = torch.optim.Adam([self.logits], lr=config.lr_labels)
        self._rates = {name: optimizer.defaults["lr"] for name, optimizer in self.optimizers.items()}

    @property
    def alpha(self) -> Tensor:
        """Inner learning rate, a scalar of the images' dtype."""
        return self.log_alpha.exp().to(self.images.dtype)

    def stored(self) -> Tensor:
        """Return the stored images (S, C, h, h), a copy; where nothing is packed, the training images."""
        if not self.config.packed:
            return self.images.clone()
        return self.parameterization.stored(self.coordinates)

    def shown(self) -> Tensor:
        """Return the training images (S, C, side, side) as a receiver of the set decodes them.

        Stored values of fewer than 8 bits, and amplitudes, are rounded as those that leave, so that the objective sees
        what leaves. The gradient passes the rounding as if it were the identity (straight-through estimator,
        Bengio et al. 2013, arXiv 1308.3432).
        """
        maps, bits = self.parameterization, self.config.stored_bits
        if not self.config.few_levels:
            return maps.images(self.coordinates)
        return maps.rounded(maps.stored(self.coordinates), bits)

    def targets(self) -> Tensor:
        """Label probabilities (S, K)."""
        return torch.softmax(self.logits, dim=1) if self.config.soft_labels else self.one_hot

    def apply(self, gradients: Mapping[str, Tensor]) -> None:
        """Take one optimiser step for each of images, log_alpha and, where learned, logits."""
        gradients = {**gradients, "coordinates": self.parameterization.vjp(gradients["images"])}
        for name, optimizer in self.optimizers.items():
            rate = self._rates[name] * self.progress.rate_scale
            if name == "coordinates" and self.config.lr_schedule == "cosine":
                rate *= 0.5 * (1 + math.cos(math.pi * self.progress.step / self.config.outer_steps))
            optimizer.param_groups[0]["lr"] = rate
            value = getattr(self, name)
            value.grad = gradients[name].to(value.dtype)
            optimizer.step()
            value.grad = None
        self.images = self.shown()
        # a short memory at first, or a run of a few hundred steps would deliver its start
        decay = min(self.config.ema, (1 + self.progress.step) / (10 + self.progress.step))
        self.average = torch.lerp(self.stored(), self.average, decay)

    def is_finite(self) -> bool:
        """Whether images, labels, alpha and W are all finite."""
        values = (self.images, self.logits, self.log_alpha, self.weights.state())
        return all(bool(torch.isfinite(value).all()) for value in values)

    def keep_as_best(self, score: float | None) -> None:
        """Remember the current set as the best one."""
        self.progress.best_step, self.progress.best_score = self.progress.step, score
        self.best = {name: value.clone() for name, value in self.learned().items()}

    def learned(self) -> dict[str, Tensor]:
        """Return what is learned, by name; not copied."""
        averaged = {"average": self.average} if self.config.ema else {}
        return averaged | {
            "images": self.images,
            "coordinates": self.coordinates,
            "logits": self.logits,
            "log_alpha": self.log_alpha,
            "s": self.weights.state(),
        }

    def save(self) -> Checkpoint:
        """Return copies of all tensors, and the progress as JSON types."""
        tensors = {f"now/{name}": value.clone() for name, value in self.learned().items()}
        tensors.update({f"best/{name}": value for name, value in self.best.items()})
        tensors.update({f"evolution/{step:06d}": images for step, images in self.evolution.items()})
        for name, optimizer in self.optimizers.items():
            for key, value in optimizer.state[getattr(self, name)].items():
                if value is not None:
                    tensors[f"optimizer/{name}/{key}"] = value.clone()
        plain = dataclasses.asdict(self.progress)
        return tensors, plain

    def load(self, checkpoint: Checkpoint) -> None:
        """Continue exactly from what `save` returned."""
        tensors, plain = checkpoint
        groups: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "evolution": {}, "optimizer": {}}
        for name, value in tensors.items():
            group, rest = name.split("/", 1)
            groups[group][rest] = value.clone()
        with torch.no_grad():
            for name in ("coordinates", "logits", "log_alpha"):
                getattr(self, name).copy_(groups["now"][name])
        self.images = self.shown()
        self.average = groups["now"].get("average", self.stored()).clone()
        self.weights.load_state(groups["now"]["s"])
        self.best = groups["best"]
        self.evolution = {int(step): images for step, images in groups["evolution"].items()}
        for name, optimizer in self.optimizers.items():
            optimizer.state.clear()
            kept = {k.split("/", 1)[1]: v for k, v in groups["optimizer"].items() if k.startswith(f"{name}/")}
            if kept:
                optimizer.state[getattr(self, name)] = kept
        progress = dict(plain)
        progress["entries"] = list(progress["entries"])
        progress["events"] = list(progress["events"])
        self.progress = Progress(**progress)
