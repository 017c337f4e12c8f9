"""The student's inner loop and its exact gradient.

Forward, for t = 0 .. J-1, with A_t the drawn augmentation and b_t the drawn batch:

    theta_{t+1} = theta_t - alpha * grad_theta CE(f(theta_t; A_t(x[b_t])), q[b_t])

Given lambda_J = dL/dtheta_J, the adjoint runs backwards:

    (H lambda, M_x lambda, M_q lambda) = d/d(theta, x, q) < grad_theta CE , lambda_{t+1} >
    dL/dx[b_t]   += -alpha * J_A^T (M_x lambda)
    dL/dq[b_t]   += -alpha * M_q lambda
    dL/dalpha    += -< g_t, lambda_{t+1} >
    lambda_t      = lambda_{t+1} - alpha * H lambda

`adjoint_gradient` keeps the J + 1 parameter vectors and the graph of one step at a time, so its memory grows
with J by one parameter vector a step. `stored_gradient` keeps all J graphs and back-propagates through them,
as published trajectory-matching code does: the reference that the adjoint is tested against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medidistill.config import AugmentConfig, DistillConfig
from medidistill.networks import (
    ConvNetDerivatives,
    Criterion,
    augment,
    check_deterministic,
    compiled_once,
    cross_entropy,
    draw,
    gradient_function,
    loss_function,
)

__all__ = [
    "EndLoss",
    "InnerPlan",
    "InnerStep",
    "MetaGradient",
    "adjoint_dtype",
    "adjoint_gradient",
    "draw_plan",
    "stored_gradient",
    "student_end",
    "unroll_by",
]

EndLoss = Callable[[Tensor], tuple[Tensor, Tensor]]
"""theta_J (P,) -> (loss, dloss/dtheta_J (P,)), detached."""


@dataclass(frozen=True)
class InnerPlan:
    """Every random number of one inner loop, drawn beforehand.

    Args:
        batches: (J, B) int64 indices into the distilled set.
        parameters: (J, B, 9) augmentation parameters.
        augment: strengths of the augmentation.
    """

    batches: Tensor
    parameters: Tensor
    augment: AugmentConfig


def draw_plan(
    size: int,
    steps: int,
    batch: int,
    config: AugmentConfig,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> InnerPlan:
    """Draw batches (permutations of the set, one after another) and augmentation for `steps` inner steps.

    Args:
        size: distilled images, S.
        steps: J.
        batch: B; 0 or anything above S means all S.
        config: augmentation.
        generator: CPU generator, so that every device draws the same.
        device: where the plan is used.
    """
    batch = min(batch or size, size)
    rounds = -(-steps * batch // size)
    order = torch.cat([torch.randperm(size, generator=generator) for _ in range(rounds)])
    batches = order[: steps * batch].view(steps, batch)
    parameters = draw(steps * batch, generator).view(steps, batch, -1)
    return InnerPlan(batches.to(device), parameters.to(device), config)


@dataclass(frozen=True)
class MetaGradient:
    """Loss at the student's end and its gradients.

    Args:
        loss: the end loss, a float.
        end: theta_J, (P,).
        images: dL/d images, (S, C, H, W).
        targets: dL/d targets, (S, K); zeros where not asked for.
        alpha: dL/d alpha, scalar tensor.
    """

    loss: float
    end: Tensor
    images: Tensor
    targets: Tensor
    alpha: Tensor


_AUGMENTED_AT_ONCE = 2**19  # pixels


def adjoint_dtype(config: DistillConfig) -> torch.dtype | None:
    """Return the dtype of convolutions that no ReLU depends on, by `precision`; None: that of the images."""
    return torch.bfloat16 if config.precision == "bfloat16" else None


class InnerStep:
    """First and second derivatives of the student's loss at one batch.

    Args:
        network: a network without buffers whose operations can be differentiated twice.
        compile: compile both functions; they are shared by all networks of the same structure.
        learn_targets: also return M_q lambda.
        criterion: the student's loss.
        adjoint_dtype: dtype of convolutions in the adjoint steps (`ConvNetDerivatives`); None: that of the images.
        activation_budget_bytes: of activations that an inner loop may keep in its forward pass, so that the backward
            pass has less to compute.

    Raises:
        ConfigError: the network has buffers or dropout.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        compile: bool = False,
        learn_targets: bool = False,
        criterion: Criterion = cross_entropy,
        adjoint_dtype: torch.dtype | None = None,
        activation_budget_bytes: float = 0,
    ) -> None:
        check_deterministic(network)
        self.gradient = gradient_function(network, compile=compile, criterion=criterion)
        self.learn_targets = learn_targets
        self.loss = loss_function(network, criterion)
        by_hand = self._by_hand = ConvNetDerivatives.of(network, criterion, adjoint_dtype)
        self._activation_budget_bytes = activation_budget_bytes
        self._mixed: Callable[..., tuple[Tensor, ...]]
        self._mixed = by_hand.mixed if by_hand else _differentiated_twice(self.loss)
        self._gradient_and_activations: Callable[..., tuple[Tensor, ...]] = (
            by_hand.gradient_and_activations if by_hand else self.gradient
        )
        self._along = _directional(self.loss)
        if compile:
            key = (str(network), adjoint_dtype, criterion)
            self._along = compiled_once(self._along, "along", *key)
            self._mixed = compiled_once(self._mixed, "mixed", *key)
            self._gradient_and_activations = compiled_once(self._gradient_and_activations, "activations", *key)

    def fits_budget(self, shape: torch.Size, steps: int) -> bool:
        """Whether the activations of `steps` steps on images of `shape` (N, C, H, W) float32 may be kept."""
        return (
            self._by_hand is not None
            and 4 * steps * self._by_hand.kept_elements(shape) <= self._activation_budget_bytes
        )

    def gradient_and_activations(self, theta: Tensor, x: Tensor, q: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the gradient and the activations that `mixed` can go on from."""
        _, gradient, *activations = self._gradient_and_activations(theta, x, q)
        return gradient, tuple(activations)

    def along(self, theta: Tensor, x: Tensor, q: Tensor, moved: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient by theta, and its derivative where theta moves along `moved` and x along `direction`."""
        gradient, change = self._along(theta, x, q, moved, direction)
        return gradient, change

    def mixed(
        self, theta: Tensor, x: Tensor, q: Tensor, vector: Tensor, *activations: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return <g, v> and its derivatives by theta (H v), x (M_x v) and, if learned, q (M_q v)."""
        value, *parts = self._mixed(theta, x, q, vector, *activations)
        return value, tuple(parts if self.learn_targets else parts[:2])


def _directional(loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the gradient by theta with its derivative along a direction of theta and x, forward over reverse."""
    slope = torch.func.grad(loss)
    jvp: Callable[..., Any] = torch.func.jvp

    def along(theta: Tensor, x: Tensor, q: Tensor, moved: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        gradient, change = jvp(lambda at, one: slope(at, one, q), (theta, x), (moved, direction))
        return gradient, change

    return along


def _differentiated_twice(loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """Return the mixed derivatives by autograd, reverse over reverse, for a network of any kind."""

    def product(theta: Tensor, x: Tensor, q: Tensor, vector: Tensor) -> Tensor:
        gradient: Tensor = torch.func.grad(loss)(theta, x, q)
        return torch.dot(gradient, vector)

    both: Callable[..., Any] = torch.func.grad_and_value(product, argnums=(0, 1, 2))

    def mixed(theta: Tensor, x: Tensor, q: Tensor, vector: Tensor) -> tuple[Tensor, ...]:
        parts, value = both(theta, x, q, vector)
        return (value, *parts)

    return mixed


def unroll_by(kind: str) -> Callable[..., MetaGradient]:
    """Return the unroll that `distill.gradient` names: "adjoint" or "stored"."""
    return adjoint_gradient if kind == "adjoint" else stored_gradient


def adjoint_gradient(
    step: InnerStep,
    theta: Tensor,
    images: Tensor,
    targets: Tensor,
    alpha: Tensor,
    plan: InnerPlan,
    end_loss: EndLoss,
) -> MetaGradient:
    """Differentiate the end loss of an inner loop by the adjoint method; exact.

    Args:
        step: derivatives of the student's loss.
        theta: theta_0, (P,).
        images: (S, C, H, W) distilled images.
        targets: (S, K) label probabilities.
        alpha: scalar tensor, inner learning rate.
        plan: batches and augmentation.
        end_loss: loss at theta_J and its gradient.

    Cost:
        J gradients and J second-order products; memory J + 1 parameter vectors plus one step's activations, and those
        of all steps where they may be kept.
    """
    spans = _spans(plan, images[0].numel())
    steps, batch_size = plan.batches.shape
    keep = step.fits_budget(torch.Size((batch_size, *images.shape[1:])), steps)
    path, kept = [theta.detach()], []
    for span in spans:
        with torch.no_grad():
            augmented = _augmented(images[plan.batches[span]], plan, span)
        for x, batch in zip(augmented, plan.batches[span], strict=True):
            if keep:
                gradient, activations = step.gradient_and_activations(path[-1], x, targets[batch])
                kept.append(activations)
            else:
                _, gradient = step.gradient(path[-1], x, targets[batch])
            path.append(path[-1] - alpha * gradient)
    end = path.pop()
    loss, adjoint = end_loss(end)

    grad_images, grad_targets = torch.zeros_like(images), torch.zeros_like(targets)
    grad_alpha = torch.zeros_like(alpha)
    for span in reversed(spans):
        pixels = images[plan.batches[span]].detach().requires_grad_()
        augmented = _augmented(pixels, plan, span)
        image_cotangents = torch.empty_like(pixels)
        for place in reversed(range(len(pixels))):
            batch = plan.batches[span][place]
            directional_derivative, (hvp, *mixed) = step.mixed(
                path.pop(), augmented[place].detach(), targets[batch], adjoint, *(kept.pop() if keep else ())
            )
            image_cotangents[place] = mixed[0]
            if step.learn_targets:
                grad_targets.index_add_(0, batch, mixed[1], alpha=-1.0)
            grad_alpha = grad_alpha - directional_derivative
            adjoint = adjoint - alpha * hvp
        (image_cotangents,) = torch.autograd.grad(augmented, pixels, image_cotangents)
        grad_images.index_add_(0, plan.batches[span].flatten(), image_cotangents.flatten(0, 1), alpha=-1.0)
    return MetaGradient(float(loss), end, grad_images * alpha, grad_targets * alpha, grad_alpha)


def student_end(
    step: InnerStep, theta: Tensor, images: Tensor, targets: Tensor, alpha: Tensor, plan: InnerPlan, tangent: Tensor
) -> tuple[Tensor, Tensor]:
    """Return theta_J and its derivative along `tangent`, a direction of the images; both (P,).

    Forward over reverse, in step with the loop, so that memory does not grow with J. Other arguments as
    `adjoint_gradient`.
    """
    jvp: Callable[..., Any] = torch.func.jvp
    theta, moved = theta.detach(), torch.zeros_like(theta)
    for span in _spans(plan, images[0].numel()):
        batches = plan.batches[span]
        augmented, directions = jvp(
            lambda pixels, part=span: _augmented(pixels, plan, part), (images[batches],), (tangent[batches],)
        )
        for x, direction, batch in zip(augmented, directions, batches, strict=True):
            gradient, change = step.along(theta, x, targets[batch], moved, direction)
            theta, moved = (theta - alpha * gradient).detach(), (moved - alpha * change).detach()
    return theta, moved


def _spans(plan: InnerPlan, pixels: int) -> list[slice]:
    """Cut the steps into spans that are augmented together: many at once are faster, all at once may be large."""
    steps, batch = plan.batches.shape
    size = max(1, _AUGMENTED_AT_ONCE // (batch * pixels))
    return [slice(start, start + size) for start in range(0, steps, size)]


def _augmented(images: Tensor, plan: InnerPlan, span: slice) -> Tensor:
    """Augment (T, B, C, H, W) images of the steps in `span`."""
    flat = augment(images.flatten(0, 1), plan.augment, plan.parameters[span].flatten(0, 1))
    return flat.view(images.shape)


def stored_gradient(
    step: InnerStep,
    theta: Tensor,
    images: Tensor,
    targets: Tensor,
    alpha: Tensor,
    plan: InnerPlan,
    end_loss: EndLoss,
) -> MetaGradient:
    """Differentiate the same loss by back-propagating through J stored steps; arguments as `adjoint_gradient`.

    Cost:
        memory grows with J times the activations of a batch.
    """
    leaves = [tensor.detach().requires_grad_() for tensor in (images, targets, alpha)]
    pixels, labels, rate = leaves
    theta_t = theta.detach().requires_grad_()
    for batch, parameters in zip(plan.batches, plan.parameters, strict=True):
        x = augment(pixels[batch], plan.augment, parameters)
        (gradient,) = torch.autograd.grad(step.loss(theta_t, x, labels[batch]), theta_t, create_graph=True)
        theta_t = theta_t - rate * gradient
    loss, adjoint = end_loss(theta_t.detach())
    gradients = torch.autograd.grad(theta_t, leaves, adjoint)
    return MetaGradient(float(loss), theta_t.detach(), *gradients)
