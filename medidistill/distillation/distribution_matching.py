"""Distribution matching: random networks are to see the same mean features in distilled as in real images.

    L = mean over classes of  || mean_i psi(A(x_i)) - mean_s psi(A(x_s)) ||^2 / F

psi: the F inputs of the last linear layer of a network with fresh random weights, drawn anew in every sample; A: one
drawn augmentation for both sides. Zhao and Bilen 2023 (DM, arXiv 2110.04181), who sum over classes and features where
we divide by their number, so that the loss does not depend on the network's size. No expert takes part, and alpha
stays as it is.
"""

from __future__ import annotations

import torch

from medidistill.config import DistillConfig, NetworkConfig
from medidistill.distillation.objective import Sample
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.state import DistillState
from medidistill.networks import augment, draw, make_network, penultimate

__all__ = ["DistributionMatching"]


class DistributionMatching:
    """The distance of mean features under a drawn random network.

    Args:
        network: architecture of the random networks.
        config: real_batch, augmentation.
        real: real training images.
        device: where to compute.
    """

    def __init__(self, network: NetworkConfig, config: DistillConfig, real: RealBatches, device: torch.device) -> None:
        self.network, self.config, self.real, self.device = network, config, real, device

    def __call__(self, state: DistillState, generator: torch.Generator) -> Sample:
        """Return loss and gradients under one random network."""
        config, classes = self.config, len(self.real.members)
        _, channels, size, _ = state.images.shape
        network = make_network(
            self.network, channels=channels, image_size=size, num_classes=classes, generator=generator
        ).to(self.device)
        network.requires_grad_(False)
        pixels = state.images.detach().clone().requires_grad_()
        each = max(1, config.real_batch // classes)
        loss, gradient = 0.0, torch.zeros_like(pixels)
        for name in range(classes):
            real = self.real.draw(name, each, generator)
            shared = draw(1, generator).to(self.device)
            own = pixels[name * config.images_per_class : (name + 1) * config.images_per_class]
            wanted = penultimate(network, augment(real, config.augment, shared.expand(each, -1)))[0].mean(0)
            made = augment(own, config.augment, shared.expand(config.images_per_class, -1))
            found = penultimate(network, made)[0].mean(0)
            part = (wanted - found).square().mean() / classes
            gradient += torch.autograd.grad(part, pixels)[0]
            loss += float(part.detach())
        return Sample(loss, gradient, torch.zeros_like(state.targets()), torch.zeros_like(state.alpha))
