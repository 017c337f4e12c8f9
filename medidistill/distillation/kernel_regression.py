"""Kernel regression: real images are to be predicted well by a ridge regression that is fitted to the distilled set.

With psi the inputs of the last linear layer of a network (bias included as a constant feature), X_s and Y_s images and
centred labels of the distilled set, and a class-balanced batch X, Y of real images,

    G = psi(X_s) psi(X_s)^T,        P = psi(X) psi(X_s)^T (G + (r tr G / n) I)^-1 Y_s
    L = || P - Y ||^2 / N                     (`kernel_loss: squared`)
    L = cross-entropy of softmax(P / t)       (`kernel_loss: softmax`), t the scale below

The network is one of a pool that trains on the distilled set itself: each outer step draws one, takes the gradient, and
then trains it by one step on the set; after `pool_steps` steps it begins anew from fresh weights, each network at an
age of its own at first. Images, and labels where they are learned, get the gradient; alpha takes no part.

Zhou, Nezhadarya and Ba 2022 (FRePo, arXiv 2206.00719); the softmax loss after Loo et al. 2023 (RCIG, arXiv 2302.06755).
One step costs a forward and a backward pass of the set and of the real batch, and a Cholesky factor of n x n, n images.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.config import DistillConfig, NetworkConfig
from medidistill.distillation.objective import Sample
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.state import DistillState
from medidistill.distillation.unroll import adjoint_dtype
from medidistill.networks import (
    CompiledByShape,
    FeatureFunction,
    ParameterLayout,
    augment,
    draw,
    gradient_function,
    make_network,
)
from medidistill.seeding import stream

__all__ = ["KernelRegression"]

_TEMPERATURE = 0.2  # of the softmax loss: a regression onto +-1 targets gives outputs of about this spread
_BATCH = 256  # images of the set in a training step of a network of the pool
_RATE, _BETAS, _EPSILON = 1e-3, (0.9, 0.999), 1e-8  # Adam of the pool's networks


class KernelRegression:
    """The loss of the regression under one network of the pool.

    Args:
        network: architecture of the pool's networks.
        config: pool_networks, pool_steps, ridge, kernel_loss, real_batch, augment.
        real: real training images.
        num_classes: K.
        shape: (C, H, W) of a training image.
        seed: of the networks' weights.
        device: where to compute.
        compile: compile the loss and its gradients.
    """

    def __init__(
        self,
        network: NetworkConfig,
        config: DistillConfig,
        real: RealBatches,
        *,
        num_classes: int,
        shape: tuple[int, int, int],
        seed: int,
        device: torch.device,
        compile: bool = False,
    ) -> None:
        self.network, self.config, self.real, self.seed, self.device = network, config, real, seed, device
        self.num_classes, self.shape = num_classes, shape
        first = self._fresh(0, 0)
        self.layout = ParameterLayout.of(first)
        self.features = FeatureFunction(first, adjoint_dtype(config))
        self.train_gradient = gradient_function(first, compile=compile)
        self.gradient = CompiledByShape(self._parts) if compile else self._parts
        members = config.pool_networks
        self.theta = torch.stack([self.layout.flatten(self._fresh(member, 0)) for member in range(members)])
        self.moments = torch.zeros(2, *self.theta.shape, device=device)
        # ages differ from the start, or all networks would begin anew at the same time
        self.age = torch.tensor([member * config.pool_steps // members for member in range(members)])
        self.taken = torch.zeros(members, dtype=torch.int64)  # Adam's steps since the last fresh start
        self.generation = torch.zeros(members, dtype=torch.int64)

    def _fresh(self, member: int, generation: int) -> torch.nn.Module:
        channels, side, _ = self.shape
        return make_network(
            self.network,
            channels=channels,
            image_size=side,
            num_classes=self.num_classes,
            generator=stream(self.seed, "pool", member, generation),
        ).to(self.device)

    @property
    def learns(self) -> bool:
        """True: the networks of the pool are trained as they are drawn."""
        return True

    def save(self) -> dict[str, Tensor]:
        """Return copies of what the pool has learned."""
        return {name: getattr(self, name).clone() for name in ("theta", "moments", "age", "taken", "generation")}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `save` returned."""
        for name, value in tensors.items():
            getattr(self, name).copy_(value)

    def _loss(self, own: Tensor, others: Tensor, targets: Tensor, wanted: Tensor) -> Tensor:
        """Return the loss from features of the set and of the real images."""
        own, others = _with_one(own), _with_one(others)
        gram = own @ own.T
        ridge = self.config.ridge * gram.diagonal().mean()
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        centred = targets - 1 / self.num_classes
        outputs = others @ (own.T @ torch.linalg.solve(gram + ridge * eye, centred))
        if self.config.kernel_loss == "softmax":
            return -(wanted * F.log_softmax(outputs / _TEMPERATURE, dim=1)).sum(1).mean()
        error: Tensor = outputs - (wanted - 1 / self.num_classes)
        return error.square().sum(1).mean()

    def _parts(
        self, images: Tensor, targets: Tensor, theta: Tensor, real: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients by the images and by the targets, and the loss."""
        own, _, pull_back = self.features.with_pullback(theta, images)
        others, _ = self.features(theta, real)
        gradient = torch.func.grad_and_value(self._loss, argnums=(0, 2))
        (by_own, by_targets), loss = gradient(own, others, targets, wanted)
        return pull_back(by_own, None), by_targets, loss

    def __call__(self, state: DistillState, generator: torch.Generator) -> Sample:
        """Return loss and gradients under one drawn network, and train that network by one step on the set."""
        config, classes = self.config, self.num_classes
        member = int(torch.randint(config.pool_networks, (), generator=generator))
        real, labels = self.real.draw_balanced(config.real_batch, generator)
        wanted = F.one_hot(labels, classes).to(real)
        real = augment(real, config.augment, draw(len(real), generator).to(self.device))
        parameters = draw(len(state.images), generator).to(self.device)
        with torch.enable_grad():
            pixels = state.images.detach().requires_grad_()
            made = augment(pixels, config.augment, parameters)
        targets = state.targets().detach()
        by_made, by_targets, loss = self.gradient(made.detach(), targets, self.theta[member], real, wanted)
        (by_pixels,) = torch.autograd.grad(made, pixels, by_made) if made is not pixels else (by_made,)
        self._train(member, made.detach(), targets, generator)
        return Sample(float(loss), by_pixels, by_targets, torch.zeros_like(state.alpha))

    def _train(self, member: int, images: Tensor, targets: Tensor, generator: torch.Generator) -> None:
        """Take one Adam step of a member on the set, or begin it anew."""
        if int(self.age[member]) >= self.config.pool_steps:
            self.generation[member] += 1
            fresh = self._fresh(member, int(self.generation[member]))
            self.theta[member] = self.layout.flatten(fresh)
            self.moments[:, member] = 0
            self.age[member] = self.taken[member] = 0
            return
        chosen = torch.randperm(len(images), generator=generator)[:_BATCH].to(self.device)
        _, gradient = self.train_gradient(self.theta[member], images[chosen], targets[chosen])
        self.age[member] += 1
        self.taken[member] += 1
        first, second = self.moments[0, member], self.moments[1, member]
        first.mul_(_BETAS[0]).add_(gradient, alpha=1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        step = int(self.taken[member])
        corrected = second / (1 - _BETAS[1] ** step)
        rate = _RATE / (1 - _BETAS[0] ** step)
        self.theta[member].addcdiv_(first, corrected.sqrt() + _EPSILON, value=-rate)


def _with_one(features: Tensor) -> Tensor:
    """Return features (N, F) with a column of ones, whose coefficient is the offset."""
    return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
