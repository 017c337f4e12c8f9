"""Parameters as one flat vector, and a network as a pure function of it.

Trajectory matching treats theta as a point in R^P. `ParameterLayout` fixes the order once, so that
snapshots, importance weights and adjoints all index the same elements.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medidistill.errors import ConfigError

__all__ = [
    "Criterion",
    "ParameterLayout",
    "check_deterministic",
    "cross_entropy",
    "has_dropout",
    "instance_norm",
    "loss_function",
]

Criterion = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, K), targets) -> scalar loss."""


@dataclass(frozen=True)
class ParameterLayout:
    """Names and shapes of a network's parameters in the order of `named_parameters`."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, network: nn.Module) -> ParameterLayout:
        """Return the layout of `network`."""
        named = list(network.named_parameters())
        return cls(tuple(name for name, _ in named), tuple(parameter.shape for _, parameter in named))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of elements of each tensor."""
        return tuple(shape.numel() for shape in self.shapes)

    def __len__(self) -> int:
        return sum(self.sizes)

    def slices(self) -> Iterator[tuple[str, slice]]:
        """Yield each tensor's name and its slice of the flat vector."""
        ends = list(itertools.accumulate(self.sizes, initial=0))
        yield from ((name, slice(*ends[i : i + 2])) for i, name in enumerate(self.names))

    def flatten(self, network: nn.Module) -> Tensor:
        """Return a copy of the network's parameters as one vector of shape (P,).

        A copy, never a view: snapshots that alias the live parameters would follow them.
        """
        return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Return views of a (P,) vector as named tensors; differentiable."""
        parts = torch.split(vector, list(self.sizes))
        return {n: part.view(s) for n, part, s in zip(self.names, parts, self.shapes, strict=True)}

    def load(self, network: nn.Module, vector: Tensor) -> None:
        """Copy a (P,) vector into the network's parameters."""
        values: Mapping[str, Tensor] = self.unflatten(vector.detach())
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(values[name])


def instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float = 1e-5) -> Tensor:
    """Normalise each channel of each image, from primitive operations that have forward-mode rules.

    Equal to `torch.nn.functional.instance_norm`; the fused kernel has no forward-mode derivative.
    Shapes: `x` (N, C, H, W), `weight` and `bias` (C,).
    """
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    scale = torch.rsqrt((centred * centred).mean(dim=(2, 3), keepdim=True) + eps)
    if weight is not None:
        scale = scale * weight.view(1, -1, 1, 1)
    out = centred * scale
    return out if bias is None else out + bias.view(1, -1, 1, 1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of (N, K) logits against (N,) classes or (N, K) probabilities."""
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets)
    return -(targets * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def has_dropout(network: nn.Module) -> bool:
    """Return whether the network has dropout, which draws from the global generator at every call in training."""
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in network.modules())


def check_deterministic(network: nn.Module) -> None:
    """Refuse dropout: an expert could not be repeated, and the adjoint would differentiate another mask.

    Raises:
        ConfigError: the network drops units at random.
    """
    if has_dropout(network):
        raise ConfigError(
            "the network drops units at random, but experts and students must be functions of their parameters "
            "alone; use network.name=convnet"
        )


def loss_function(
    network: nn.Module, criterion: Criterion = cross_entropy
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return `loss(theta, x, q)`: the criterion of the network's outputs at the flat parameters `theta`.

    Raises:
        ConfigError: the network has buffers (running statistics): it is no function of theta alone.
    """
    if any(True for _ in network.buffers()):
        raise ConfigError(
            "the network keeps running statistics, but experts and students must be functions of their parameters "
            "alone; use network.name=convnet"
        )
    layout = ParameterLayout.of(network)

    def loss(theta: Tensor, x: Tensor, q: Tensor) -> Tensor:
        logits = torch.func.functional_call(network, layout.unflatten(theta), (x,))
        return criterion(logits, q)

    return loss
