"""Self-adaptive importance weights W on network parameters: a reconstruction.

Li et al. 2024 (arXiv 2401.15863) put learned weights on the parameters that are matched; how they are kept
from vanishing is not published in what is available to us. Here w = exp(s), one s for each parameter or for
each tensor. With residual d = theta_J - theta_{i+K} and movement Z = ||theta_i - theta_{i+K}||^2,

    L = sum_j w_j^2 d_j^2 / Z,        dL/ds_k = 2 * sum_{j in k} w_j^2 d_j^2 / Z >= 0.

Left free, descent only shrinks W. `unit_mean_square` holds mean(w^2) = 1 with w in [w_min, w_max]: bounded, and
still without an optimum but the easiest few elements. `balanced` has one. It descends

    -log likelihood of d ~ N(0, sigma_k^2), sigma_k = 1/w_k:    sum_j w_j^2 d_j^2 - log w_j^2,

in units of the mean term, so that it rests where every group has its equal share of the loss, w_k^2 ~ 1 / E[d_k^2]: the
weights of least variance, as for homoscedastic uncertainty (Kendall, Gal, Cipolla 2018).
`entropic` adds tau * KL(w^2 / P || uniform) = tau * mean(w^2 log w^2), so that over P moving elements of constant d
the optimum is smooth: w_j^2 proportional to exp(-P d_j^2 / (tau Z)).
Elements that no expert ever moved keep w = 1, take no step and count in no mean. W begins at 1, or where the Fisher
information of the experts puts it (`fisher.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from medidistill.config import ImportanceConfig
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout

__all__ = ["ImportanceWeights", "with_unit_mean_square"]

_LARGEST_STEP = 1.0  # |change of s| in one outer step: a factor e
_TOLERANCE, _BISECTION_STEPS = 1e-12, 60


def with_unit_mean_square(log_w: Tensor, share: Tensor, low: float, high: float) -> Tensor:
    """Rescale w to c * w, cut to [low, high], with the one c that gives a mean of w^2 of 1.

    The mean grows with c from low^2 <= 1 to high^2 >= 1, so bisection finds it. Cutting and rescaling in turn would
    not: it levels what lies at a bound with what lies near it.

    Args:
        log_w: (G,) float64.
        share: (G,) float64, what each counts in the mean; their sum is 1.
        low: smallest w, <= 1.
        high: largest w, >= 1.

    Returns:
        (G,) float64, the logarithm of the rescaled weights.
    """
    log_low, log_high = math.log(low), math.log(high)

    def cut(shift: float) -> Tensor:
        return (log_w + shift).clamp(log_low, log_high)

    def excess(shift: float) -> float:
        return float((share * torch.exp(2 * cut(shift))).sum()) - 1

    shift = -0.5 * math.log(float((share * torch.exp(2 * log_w)).sum()))
    if abs(excess(shift)) > _TOLERANCE:  # a bound is reached
        below, above = log_low - float(log_w.max()), log_high - float(log_w.min())
        for _ in range(_BISECTION_STEPS):
            shift = (below + above) / 2
            below, above = (shift, above) if excess(shift) < 0 else (below, shift)
    return cut(shift)


class ImportanceWeights:
    """W for one parameter layout.

    Args:
        layout: order of the parameters.
        config: granularity, constraint, direction, rate, bounds.
        moving: (P,) bool, elements that experts move.
    """

    def __init__(self, layout: ParameterLayout, config: ImportanceConfig, moving: Tensor) -> None:
        self.config = config
        self.layout = layout
        self.moving = moving
        sizes = torch.tensor(layout.sizes)
        by_tensor = config.granularity == "tensor"
        self.group = (
            torch.repeat_interleave(torch.arange(len(sizes)), sizes) if by_tensor else torch.arange(len(moving))
        )
        groups = len(sizes) if by_tensor else len(moving)
        self.count = torch.zeros(groups, dtype=torch.float64).index_add_(0, self.group, moving.double())
        self.s = torch.zeros(groups, dtype=torch.float64)

    def vector(self) -> Tensor:
        """Return w for every element, (P,) float64; exactly 1 where nothing moves and where W is off."""
        return torch.where(self.moving, torch.exp(self.s)[self.group], 1.0)

    def matching_loss(self, end: Tensor, target: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (L, dL/d end, w^2 d^2 / Z) at theta_J = `end`.

        With `keep_scale` the middle value is divided by the detached ratio sum(w^2 d^2) / sum(d^2), so that W
        redistributes the gradient of images and alpha without shrinking it. All w = 1 gives MTT's loss and gradient.

        Args:
            end: theta_J, (P,).
            target: theta_{i+K}, (P,).
            start: theta_i, (P,).
        """
        movement = (start - target).square().sum()
        difference = end - target
        plain = difference.square() / movement
        if not self.config.enabled:
            return plain.sum(), 2 * difference / movement, plain
        square = self.vector().square().to(end.dtype).to(end.device)
        parts = square * plain
        gradient = 2 * square * difference / movement
        if self.config.keep_scale:
            gradient = gradient * (plain.sum() / parts.sum().clamp_min(torch.finfo(end.dtype).tiny))
        return parts.sum(), gradient, parts

    def update(self, parts: Tensor, scale: float = 1.0) -> None:
        """Take one step on s from w^2 d^2 / Z, and restore the constraint.

        The step is steepest descent in the metric mean(ds^2) over the P moving elements, which is
        sum_k (n_k / P) ds_k^2 with n_k of them in group k: ds_k = -lr * (P / n_k) dL/ds_k. A rate so means the same
        at both granularities and for small and large tensors.

        Args:
            parts: (P,) terms of the matching loss, averaged over segments.
            scale: factor on the rate.
        """
        if not self.config.enabled or self.config.lr == 0:
            return
        moving = self.moving.double()
        gradient = torch.zeros_like(self.s).index_add_(0, self.group, 2 * parts.double().cpu() * moving)
        active = self.count > 0
        step = torch.zeros_like(gradient)
        step[active] = gradient[active] * moving.sum() / self.count[active]
        if self.config.constraint == "balanced":
            step[active] = step[active] / gradient.sum().clamp_min(torch.finfo(gradient.dtype).tiny) - 1
        if self.config.direction == "ascend":
            step = -step
        if self.config.constraint == "entropic":
            step = self._entropic_step(step, active)
        self.s = self.s - (self.config.lr * scale * step).clamp(-_LARGEST_STEP, _LARGEST_STEP)
        if self.config.constraint != "none":
            self._project(active)

    def _entropic_step(self, step: Tensor, active: Tensor) -> Tensor:
        """Add the gradient of tau * mean(w^2 log w^2), and keep what does not leave mean(w^2) = 1, to first order."""
        square = torch.exp(2 * self.s) * active
        step = step + 4 * self.config.tau * square * self.s
        across = self.count * square
        return step - square * (across * step).sum() / (across * square).sum()

    def _project(self, active: Tensor) -> None:
        """Restore mean(w^2) = 1 over the moving elements, with w in [w_min, w_max]."""
        share = self.count[active] / self.count.sum()
        self.s[active] = with_unit_mean_square(self.s[active], share, self.config.w_min, self.config.w_max)

    def effective_share(self) -> float:
        """Return (sum w^2)^2 / sum w^4 over moving elements, as a share of their number: 1 when all are equal."""
        square = self.vector()[self.moving].square()
        return float(square.sum().square() / square.square().sum() / len(square))

    def summary(self) -> dict[str, dict[str, float]]:
        """Return minimum, quartiles and maximum of w for every tensor that moves."""
        w = self.vector()
        result = {}
        for name, place in self.layout.slices():
            values = w[place][self.moving[place]]
            if len(values):
                quantiles = torch.quantile(values, torch.tensor([0, 0.25, 0.5, 0.75, 1.0], dtype=values.dtype))
                names: Iterable[str] = ("min", "q25", "median", "q75", "max")
                result[name] = dict(zip(names, quantiles.tolist(), strict=True))
        return result

    def by_name(self) -> dict[str, Tensor]:
        """Return w as shipped with a distilled set: name -> float32, a scalar or shaped like the parameter."""
        w = self.vector().float()
        if self.config.granularity == "tensor":
            return {name: w[place][0].clone() for name, place in self.layout.slices()}
        return {name: value.clone() for name, value in self.layout.unflatten(w).items()}

    def set_weights(self, values: Mapping[str, Tensor]) -> None:
        """Begin with weights as `by_name` returns them, for example an earlier set's; with lr = 0 they stay.

        Raises:
            ConfigError: a weight of a parameter is missing, has another shape or is not positive.
        """
        parts = []
        for name, shape in zip(self.layout.names, self.layout.shapes, strict=True):
            value = values.get(name)
            if value is None or value.shape not in (torch.Size(), shape) or not bool((value > 0).all()):
                raise ConfigError(f"weights[{name!r}]: must be positive and a scalar or of shape {tuple(shape)}")
            parts.append(value.double().cpu().expand(shape).reshape(-1))
        w = torch.cat(parts)
        first = torch.full_like(self.s, len(w), dtype=torch.int64)
        first.scatter_reduce_(0, self.group, torch.arange(len(w)), "amin")
        self.s = w[first].log()

    def init_from_fisher(self, information: Tensor) -> None:
        """Begin with w^2 proportional to `information`, (P,) float64 >= 0: its mean where a group shares a weight.

        Weights are cut to [w_min, w_max] and rescaled to mean(w^2) = 1 whatever the constraint.
        """
        active = self.count > 0
        mean = torch.zeros_like(self.s).index_add_(0, self.group, information * self.moving)[active]
        self.s[active] = 0.5 * (mean / self.count[active]).clamp_min(torch.finfo(self.s.dtype).tiny).log()
        self._project(active)

    def state(self) -> Tensor:
        """Return what a checkpoint needs."""
        return self.s

    def load_state(self, s: Tensor) -> None:
        """Continue from `state`."""
        self.s = s.cpu().clone()  # W stays on the CPU wherever the rest of a checkpoint was loaded
