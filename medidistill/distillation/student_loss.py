"""The student's own loss on real images: truncated back-propagation through its training.

One sample draws fresh initial weights, trains a student for a random number of steps on the distilled set,
and differentiates the last J of them:

    theta_0 random,  r ~ U{0, .., warmup_steps},  theta_{t+1} = theta_t - alpha g_t
    L = CE(f(theta_{r+J}; A(x)), y) on a class-balanced batch of real images,
    dL/dS through the steps r .. r+J-1 only.

The family of Wang et al. 2018 (arXiv 1811.10959), with the random window of Feng et al. 2024 (RaT-BPTT, arXiv
2310.04189): a full unroll has gradients of exploding variance, a fixed short one never sees a trained student.
No expert takes part: nothing is matched, and W has nothing to weigh.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medidistill.config import DistillConfig, NetworkConfig
from medidistill.distillation.objective import Sample
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.state import DistillState
from medidistill.distillation.unroll import InnerPlan, InnerStep, draw_plan, unroll_by
from medidistill.networks import ParameterLayout, augment, draw, make_network

__all__ = ["StudentLoss"]


class StudentLoss:
    """The real-data loss at the end of a drawn window of a student's training.

    Args:
        network: architecture of the students.
        config: J, warm-up, batches, augmentation, kind of unroll.
        step: derivatives of the student's loss.
        real: real training images.
        device: where to compute.
    """

    def __init__(
        self,
        network: NetworkConfig,
        config: DistillConfig,
        step: InnerStep,
        real: RealBatches,
        device: torch.device,
    ) -> None:
        self.network, self.config, self.step, self.device = network, config, step, device
        self.real = real
        self.eye = torch.eye(len(real.members), device=device)

    def __call__(self, state: DistillState, generator: torch.Generator) -> Sample:
        """Return loss and gradients of one drawn student."""
        config, alpha, targets = self.config, state.alpha, state.targets()
        theta = ParameterLayout.of(fresh := self._fresh(generator)).flatten(fresh).to(self.device)
        warmup = int(torch.randint(config.warmup_steps + 1, (), generator=generator))
        if warmup:
            theta = self._train(theta, state.images, targets, alpha, self._plan(state, warmup, generator))
        plan = self._plan(state, config.inner_steps, generator)
        real, truth = self._real_batch(generator)
        found = unroll_by(config.gradient)(
            self.step, theta, state.images, targets, alpha, plan, lambda end: self.step.gradient(end, real, truth)
        )
        return Sample(found.loss, found.images, found.targets, found.alpha)

    def _fresh(self, generator: torch.Generator) -> nn.Module:
        return make_network(
            self.network,
            channels=self.real.images.shape[1],
            image_size=self.real.images.shape[-1],
            num_classes=len(self.eye),
            generator=generator,
        )

    def _plan(self, state: DistillState, steps: int, generator: torch.Generator) -> InnerPlan:
        return draw_plan(len(state.images), steps, self.config.batch_size, self.config.augment, generator, self.device)

    def _train(self, theta: Tensor, images: Tensor, targets: Tensor, alpha: Tensor, plan: InnerPlan) -> Tensor:
        for batch, parameters in zip(plan.batches, plan.parameters, strict=True):
            x = augment(images[batch], plan.augment, parameters)
            theta = theta - alpha * self.step.gradient(theta, x, targets[batch])[1]
        return theta

    def _real_batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw equally many real images of each class, and augment them."""
        x, labels = self.real.draw_balanced(self.config.real_batch, generator)
        x = augment(x, self.config.augment, draw(len(x), generator).to(self.device))
        return x, self.eye[labels]
