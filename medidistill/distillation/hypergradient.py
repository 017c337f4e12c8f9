"""Weights learned for what they are for: the loss of real images at the student's end.

A step of the images under weights W, with residual d, movement Z, J = dtheta_J / dimages and a rate eta, is

    images' = images - eta * B J^T (2 w^2 d / Z),        B = D D^T, D the parameterization of the images

and changes the loss F of real images at theta_J, to first order in eta, by -eta * < u, 2 w^2 d / Z >, u = J B J^T dF.
With w = exp(s):

    dF/ds_k = -4 eta / Z * sum_{j in k} w_j^2 d_j u_j

W falls where moving the student to the target makes the real loss worse, and rises where it makes it better. The
adaptive scale that Adam gives each coordinate is left out of B. J^T dF is one more adjoint, J applied to a direction
one pass of the student's loop with forward derivatives. Only the direction of the step counts: it is divided by the sum
of its absolute values, so that a rate means what it means for learned weights at a loss of 1.

F is taken on batches of a fixed half of the training images of each class. The experts were trained on both halves; no
validation image is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from medidistill.config import ImportanceConfig
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.unroll import InnerPlan, InnerStep, MetaGradient, student_end
from medidistill.networks import ParameterLayout
from medidistill.seeding import stream

__all__ = ["HypergradientWeights", "Student", "half_of_each_class", "real_loss_slopes"]


class HypergradientWeights(ImportanceWeights):
    """W that descends the real images' loss; its steps and bounds are those of `ImportanceWeights`."""

    def __init__(self, layout: ParameterLayout, config: ImportanceConfig, moving: Tensor) -> None:
        super().__init__(layout, dataclasses.replace(config, direction="descend"), moving)


@dataclasses.dataclass(frozen=True)
class Student:
    """One inner loop that was run.

    Args:
        step: derivatives of the student's loss.
        begin: theta_i, (P,).
        images: (S, C, H, W).
        targets: (S, K) label probabilities.
        alpha: scalar tensor, inner learning rate.
        plan: batches and augmentation.
        end: theta_J, (P,).
    """

    step: InnerStep
    begin: Tensor
    images: Tensor
    targets: Tensor
    alpha: Tensor
    plan: InnerPlan
    end: Tensor


def real_loss_slopes(
    student: Student,
    target: Tensor,
    square: Tensor,
    real: tuple[Tensor, Tensor],
    metric: Callable[[Tensor], Tensor],
    unroll: Callable[..., MetaGradient],
) -> Tensor:
    """Return dF/ds of single parameters over the sum of their absolute values, (P,); zeros where nothing changes F.

    Args:
        student: the inner loop.
        target: what its end is compared with, (P,).
        square: w^2, (P,).
        real: real images (N, C, H, W) and labels (N,) of F.
        metric: applies B to a gradient of the images.
        unroll: the adjoint, `adjoint_gradient` or `stored_gradient`.
    """
    loss, slope = student.step.gradient(student.end, *real)
    loop = (student.images, student.targets, student.alpha, student.plan)
    direction = metric(unroll(student.step, student.begin, *loop, lambda _: (loss, slope)).images)
    _, moved = student_end(student.step, student.begin, *loop, direction)
    slopes = -square * (student.end - target) * moved
    return slopes / slopes.abs().sum().clamp_min(torch.finfo(slopes.dtype).tiny)


def half_of_each_class(
    images: Tensor, labels: Tensor, num_classes: int, seed: int, device: torch.device
) -> RealBatches:
    """Return batches of a half of the images of each class, drawn by the stream (seed, "held out").

    Raises:
        ConfigError: a class without images.
    """
    generator, kept = stream(seed, "held out"), []
    for name in range(num_classes):
        members = torch.nonzero(labels.cpu() == name).flatten()
        kept.append(members[torch.randperm(len(members), generator=generator)[: (len(members) + 1) // 2]])
    chosen = torch.cat(kept)
    return RealBatches(images[chosen.to(images.device)], labels.cpu()[chosen], num_classes, device)
