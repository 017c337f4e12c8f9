"""Where learned soft labels start: at an expert's logits, and with the real images that it classifies correctly.

After Guo et al. 2024 (DATM, arXiv 2310.05773): images that the expert classifies correctly, labelled with its
logits. A noise start has no such images: each class then starts at the mean logits of its correctly classified real
images (ours). The labels so hold predictions of one network that was trained on patients' images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation.state import initial_images, parameterization
from medidistill.distillation.trajectory import Experts
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout
from medidistill.seeding import stream

__all__ = ["correctly_classified", "expert_logits", "first_images", "mean_logits"]

_BATCH = 256


@torch.no_grad()
def expert_logits(experts: Experts, images: Tensor, epoch: int, number: int = 0) -> Tensor:
    """Return the logits of expert `number` for normalised images at its snapshot `epoch`, (N, K)."""
    shape = experts.architecture
    network = shape.make_network(stream(0, "layout")).to(images.device)
    ParameterLayout.of(network).load(network, experts.members[number].snapshot(epoch).to(images.device))
    return torch.cat([network(part) for part in torch.split(images, _BATCH)])


def correctly_classified(logits: Tensor, labels: Tensor, num_classes: int, least: int) -> Tensor:
    """Return which images count as correctly classified, (N,) bool; a class with fewer than `least` counts whole."""
    right = logits.argmax(1) == labels
    for name in range(num_classes):
        members = labels == name
        if int((right & members).sum()) < least:
            right = right | members
    return right


def mean_logits(logits: Tensor, labels: Tensor, num_classes: int, ipc: int) -> Tensor:
    """Return the mean logits of each class's correctly classified images, `ipc` times, (K * ipc, K)."""
    right = correctly_classified(logits, labels, num_classes, least=1)
    means = torch.stack([logits[right & (labels == name)].mean(0) for name in range(num_classes)])
    return means.repeat_interleave(ipc, dim=0)


def first_images(
    experts: Experts,
    config: DistillConfig,
    real: tuple[Tensor, Tensor] | None,
    seed: int,
    patients: Sequence[str] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return the stored images and, where an expert gives them, label logits at step 0.

    Args:
        experts: give the shapes, and the logits.
        config: ipc, init, label_init.
        real: normalised training images and labels, where the configuration reads them.
        seed, patients: see `initial_images`.

    Raises:
        ConfigError: `label_init="expert"` without real images, and as `initial_images`.
    """
    shape = experts.architecture
    size = (shape.channels, shape.image_size, shape.image_size)
    if config.label_init == "smoothing":
        return initial_images(config, size, shape.num_classes, real, seed, patients), None
    if real is None:
        raise ConfigError("distill.label_init='expert' needs the real images; use label_init='smoothing'")
    last = experts.epochs
    said = expert_logits(experts, real[0], last)
    if config.init != "real":
        logits = mean_logits(said, real[1], shape.num_classes, config.images_per_class)
        return initial_images(config, size, shape.num_classes, real, seed, patients), logits
    right = correctly_classified(said, real[1], shape.num_classes, least=config.images_per_class)
    stored = initial_images(config, size, shape.num_classes, (real[0][right], real[1][right]), seed)
    shown = parameterization(config, shape.image_size).decode(stored)
    return stored, expert_logits(experts, shown, last)
