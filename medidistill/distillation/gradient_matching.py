"""Gradient matching: one step on the distilled images is to point where one step on real images does.

At one point theta, class by class, with the same augmentation for both sides:

    L = mean over classes of  sum_r (1 - cos(g_r, h_r)) / R

g, h: gradients of the cross-entropy on real and on distilled images of the class; r runs over the R output rows
(filters of a convolution, units of a linear layer) of all weight tensors; biases and norms take no part.

Zhao et al. 2021 (DC, arXiv 2006.05929); with augmentation Zhao and Bilen 2021 (DSA, arXiv 2102.08259), where one
draw serves a whole batch, real and distilled. Two things are ours: theta is a snapshot of an expert (start_epoch 0:
random weights) where they train a network on the distilled set in between, and the sum is divided by its number of
rows, so that its size does not depend on the network. alpha takes no part and stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation.objective import Sample
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.state import DistillState
from medidistill.distillation.trajectory import Experts
from medidistill.distillation.unroll import InnerStep
from medidistill.networks import ParameterLayout, augment, draw

__all__ = ["GradientMatching", "row_distance"]

_EPS = 1e-6


def row_distance(real: Tensor, distilled: Tensor, layout: ParameterLayout) -> Tensor:
    """Return sum_r (1 - cos(g_r, h_r)) / R for two gradients (P,), a scalar in [0, 2].

    A row without any gradient on one side has cosine 0.
    """
    found = []
    for g, h in zip(layout.unflatten(real).values(), layout.unflatten(distilled).values(), strict=True):
        if g.ndim > 1:
            g, h = g.flatten(1), h.flatten(1)
            found.append(1 - (g * h).sum(1) / (g.norm(dim=1) * h.norm(dim=1) + _EPS))
    return torch.cat(found).mean()


class GradientMatching:
    """The distance of real and distilled gradients at a drawn snapshot.

    Args:
        experts: pool that snapshots are drawn from.
        config: start epochs, real_batch, augmentation.
        step: the loss whose gradients are matched.
        layout: order of the parameters.
        real: real training images.
        device: where to compute.
    """

    def __init__(
        self,
        experts: Experts,
        config: DistillConfig,
        step: InnerStep,
        layout: ParameterLayout,
        real: RealBatches,
        device: torch.device,
    ) -> None:
        self.experts, self.config, self.step, self.layout = experts, config, step, layout
        self.real, self.device = real, device

    def __call__(self, state: DistillState, generator: torch.Generator) -> Sample:
        """Return loss and gradients at one snapshot."""
        config, classes = self.config, len(self.real.members)
        number = int(torch.randint(len(self.experts), (), generator=generator))
        start = int(torch.randint(config.min_start, config.max_start, (), generator=generator))
        theta = self.experts.members[number].snapshot(start).to(self.device)
        pixels, labels = (value.detach().clone().requires_grad_() for value in (state.images, state.targets()))
        each = max(1, config.real_batch // classes)
        loss, gradients = 0.0, [torch.zeros_like(pixels), torch.zeros_like(labels)]
        for name in range(classes):
            real = self.real.draw(name, each, generator)
            shared = draw(1, generator).to(self.device)
            own = slice(name * config.images_per_class, (name + 1) * config.images_per_class)
            truth = torch.full((each,), name, device=self.device)
            _, wanted = self.step.gradient(theta, augment(real, config.augment, shared.expand(each, -1)), truth)
            leaf = theta.detach().requires_grad_()
            x = augment(pixels[own], config.augment, shared.expand(config.images_per_class, -1))
            (found,) = torch.autograd.grad(self.step.loss(leaf, x, labels[own]), leaf, create_graph=True)
            part = row_distance(wanted, found, self.layout) / classes
            for gradient, more in zip(gradients, torch.autograd.grad(part, (pixels, labels)), strict=True):
                gradient += more
            loss += float(part.detach())
        return Sample(loss, gradients[0], gradients[1], torch.zeros_like(state.alpha))
