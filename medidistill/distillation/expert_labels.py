"""Labels by experts: what a pool of trained networks predicts for an image, in place of its class.

With p_e(c | x) the softmax of expert e at its last snapshot and n_c the training images of class c,

    q(c | x)  proportional to  mean_e p_e(c | x) / n_c.

The mean over experts is a better estimate of the class probabilities than one network gives, and tells a student which
images are ambiguous: knowledge distillation (Hinton et al. 2015, arXiv 1503.02531); for distilled sets Qin et al. 2024
(arXiv 2406.10485). The division removes the class frequencies of the training images from the posterior (Saerens et al.
2002, Neural Computation 14): a set holds as many images of one class as of another.

The labels are a function of the experts, which were trained on patients' images; no image is read for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medidistill.distillation.label_init import expert_logits
from medidistill.distillation.trajectory import Experts
from medidistill.errors import ConfigError

__all__ = ["expert_labels"]


@torch.no_grad()
def expert_labels(experts: Experts, images: Tensor, class_counts: Sequence[int]) -> Tensor:
    """Return the label probabilities (N, K) float32 of normalised images (N, C, H, W), on their device.

    Args:
        experts: the pool; each expert's last snapshot predicts.
        images: of the experts' shape.
        class_counts: n_c, K positive numbers.

    Raises:
        ConfigError: not one positive count for each class.

    Cost:
        one forward pass of every image for each expert.
    """
    shape = experts.architecture
    if len(class_counts) != shape.num_classes or min(class_counts) < 1:
        raise ConfigError(f"class_counts={list(class_counts)}: needs {shape.num_classes} numbers, each at least 1")
    total = torch.zeros(len(images), shape.num_classes, device=images.device)
    for number in range(len(experts)):
        total += expert_logits(experts, images, experts.epochs, number).softmax(1)
    weighted = total / torch.tensor(class_counts, dtype=total.dtype, device=total.device)
    labels: Tensor = weighted / weighted.sum(1, keepdim=True)
    return labels
