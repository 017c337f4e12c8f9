"""Snapshot matching: at snapshots of experts, distilled images are to have the class means of real images' features.

With psi_theta(x) the F inputs of the last linear layer at parameters theta, A a drawn augmentation, c a class,

    L_mean  = mean_c || mean_{s in c} psi_theta(A(x_s)) - mu_theta(c) ||^2 / D_theta
    L_class = cross-entropy of f_theta'(A(x_s)) against the labels
    L       = L_mean + lambda L_class

theta is a drawn expert at a drawn snapshot, theta' a drawn expert at a later one. mu_theta(c) is the mean over the
augmented real images of class c, and D_theta = mean_c || mu_theta(c) - mean_c' mu_theta(c') ||^2 makes the loss one
where the distilled class means all lie at the mean of the real ones, whatever the scale of the features. Both are
computed once for each snapshot that is drawn, so that no real image is read in the loop. Nothing is unrolled: a step
costs two forward and two backward passes of a network, and memory does not grow with the number of expert epochs.

Means of features at training snapshots, with a class constraint from later ones: Ran et al. 2026 (TGDD, arXiv
2512.02469); means at random networks: Zhao and Bilen 2023 (DM, arXiv 2110.04181). The scale D and the squared error of
standard deviations (`spread_weight`) are ours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation.objective import Sample
from medidistill.distillation.state import DistillState
from medidistill.distillation.trajectory import Experts
from medidistill.distillation.unroll import adjoint_dtype
from medidistill.errors import ConfigError
from medidistill.networks import CompiledByShape, FeatureFunction, augment, draw
from medidistill.seeding import stream

__all__ = ["ClassStatistics", "SnapshotMatching", "snapshot_epochs"]

_BATCH = 256  # real images whose augmentation is drawn at once
_IN_CACHE = 32  # images whose first activations stay in the processor's cache: 2.6 times as fast as 256 on a CPU
_FLOOR = 1e-4  # added to variances before the root, whose derivative is infinite at 0


@dataclass(frozen=True)
class ClassStatistics:
    """What the loss needs of the real images at one snapshot.

    Args:
        mean: (K, F) class means of the features.
        deviation: (K, F) standard deviations of the features within each class.
        inverse_scale: 1 / D, a scalar tensor.
    """

    mean: Tensor
    deviation: Tensor
    inverse_scale: Tensor


def snapshot_epochs(largest: int, epochs: int) -> tuple[int, ...]:
    """Return 0, 1, 2, 4, 8, ... up to `largest`, of experts whose last of `epochs` epochs must stay a later one.

    Args:
        largest: no epoch above this one, >= 0.
        epochs: epochs of the experts, >= 1.
    """
    powers = itertools.takewhile(lambda epoch: epoch <= min(largest, epochs - 1), (2**k for k in itertools.count()))
    return (0, *powers)


class SnapshotMatching:
    """The loss at one drawn pair of snapshots.

    Args:
        experts: pool that snapshots are drawn from.
        config: max_snapshot, class_weight, spread_weight, match_batch, augment.
        real: (images, labels) of the training split, normalised; read once for each snapshot.
        seed: of the augmentation of the real images.
        device: where to compute.
        compile: compile the loss and its gradient; pays off from some hundred steps on.

    Raises:
        ConfigError: a class without images.
    """

    def __init__(
        self,
        experts: Experts,
        config: DistillConfig,
        real: tuple[Tensor, Tensor],
        seed: int,
        device: torch.device,
        *,
        compile: bool = False,
    ) -> None:
        self.experts, self.config, self.real, self.seed, self.device = experts, config, real, seed, device
        self.epochs = snapshot_epochs(config.max_snapshot, experts.epochs)
        self.classes = experts.architecture.num_classes
        counts = torch.bincount(real[1].cpu(), minlength=self.classes)
        if int(counts.min()) == 0:
            raise ConfigError(f"class {int(counts.argmin())} has no real images; snapshot matching needs all classes")
        network = experts.architecture.make_network(stream(seed, "layout")).to(device)
        self.features = FeatureFunction(network, adjoint_dtype(config))
        self._read = CompiledByShape(self.features) if compile else self.features
        self.gradient = CompiledByShape(self._parts) if compile else self._parts
        self._at_once = _IN_CACHE if device.type == "cpu" else _BATCH
        self._statistics: dict[tuple[int, int], ClassStatistics] = {}

    def statistics(self, expert: int, epoch: int) -> ClassStatistics:
        """Return the class statistics of the real images at one snapshot; computed at the first call."""
        key = (expert, epoch)
        if key not in self._statistics:
            theta = self.experts.members[expert].snapshot(epoch).to(self.device)
            self._statistics[key] = self._measure(theta, stream(self.seed, "snapshot", expert, epoch))
        return self._statistics[key]

    @torch.no_grad()
    def _measure(self, theta: Tensor, generator: torch.Generator) -> ClassStatistics:
        images, labels = self.real
        # one table, filled in place: a small result that is kept between large ones would hold memory of their size
        found, row = theta.new_empty(len(images), self._count_features(theta)), 0
        for part in torch.split(images, _BATCH):
            drawn = draw(len(part), generator).to(self.device)
            augmented = augment(part.to(self.device), self.config.augment, drawn)
            for few in torch.split(augmented, self._at_once):
                # the rest of a part has a size of its own: not worth a compilation
                read = self._read if len(few) == self._at_once else self.features
                found[row : row + len(few)] = read(theta, few)[0]
                row += len(few)
        where = labels.to(self.device)
        classes = [found[where == name] for name in range(self.classes)]
        mean = torch.stack([one.mean(0) for one in classes])
        variance = torch.stack([one.var(0, correction=0) for one in classes])
        scale = (mean - mean.mean(0)).square().sum(1).mean().clamp_min(torch.finfo(mean.dtype).tiny)
        return ClassStatistics(mean, (variance + _FLOOR).sqrt(), 1 / scale)

    def _count_features(self, theta: Tensor) -> int:
        return self.features(theta, self.real[0][:1].to(self.device))[0].shape[1]

    def _parts(
        self,
        images: Tensor,
        theta: Tensor,
        later: Tensor,
        mean: Tensor,
        deviation: Tensor,
        inverse_scale: Tensor,
        targets: Tensor,
        square: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradient by the images, the loss, and the (F,) squared gaps of the means of features.

        `square` weighs the features' squares; the gaps are averaged over classes and not weighted.
        """

        def distance(features: Tensor) -> tuple[Tensor, Tensor]:
            found = features.view(self.classes, -1, mean.shape[1])
            gaps = (found.mean(1) - mean).square()
            total = (gaps if square is None else gaps * square).sum(1).mean()
            if self.config.spread_weight:
                spread = ((found.var(1, correction=0) + _FLOOR).sqrt() - deviation).square()
                spread = spread if square is None else spread * square
                total = total + self.config.spread_weight * spread.sum(1).mean()
            return total * inverse_scale, gaps.mean(0)

        def constraint(logits: Tensor) -> Tensor:
            return -self.config.class_weight * (targets * F.log_softmax(logits, dim=1)).sum(1).mean()

        features, _, pull_back = self.features.with_pullback(theta, images)
        by_features, (loss, gaps) = torch.func.grad_and_value(distance, has_aux=True)(features)
        gradient = pull_back(by_features, None)
        if self.config.class_weight:
            _, logits, pull_back = self.features.with_pullback(later, images)
            by_logits, more = torch.func.grad_and_value(constraint)(logits)
            gradient, loss = gradient + pull_back(None, by_logits), loss + more
        return gradient, loss, gaps

    def _gradient_at(
        self,
        snapshot: tuple[int, int],
        images: Tensor,
        theta: Tensor,
        later: Tensor,
        real: ClassStatistics,
        targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient by the images, and the loss, at `snapshot` (expert, epoch) and a later one."""
        given = (images, theta, later, real.mean, real.deviation, real.inverse_scale, targets)
        gradient, loss, _ = self.gradient(*given)
        return gradient, loss

    def __call__(self, state: DistillState, generator: torch.Generator) -> Sample:
        """Return loss and gradients at one drawn pair of snapshots."""
        config = self.config
        expert, other = (int(torch.randint(len(self.experts), (), generator=generator)) for _ in range(2))
        epoch = self.epochs[int(torch.randint(len(self.epochs), (), generator=generator))]
        after = int(torch.randint(epoch + 1, self.experts.epochs + 1, (), generator=generator))
        real = self.statistics(expert, epoch)
        index = self._drawn(len(state.images), generator)
        parameters = draw(len(index), generator).to(self.device)
        with torch.enable_grad():
            pixels = state.images[index].detach().requires_grad_()
            augmented = augment(pixels, config.augment, parameters)
        by_augmented, loss = self._gradient_at(
            (expert, epoch),
            augmented.detach(),
            self.experts.members[expert].snapshot(epoch).to(self.device),
            self.experts.members[other].snapshot(after).to(self.device),
            real,
            state.targets()[index].detach(),
        )
        (by_pixels,) = torch.autograd.grad(augmented, pixels, by_augmented)
        gradient = torch.zeros_like(state.images)
        gradient[index] = by_pixels
        return Sample(float(loss), gradient, torch.zeros_like(state.targets()), torch.zeros_like(state.alpha))

    def _drawn(self, count: int, generator: torch.Generator) -> Tensor:
        """Return which images take part, equally many of each class, class by class, (K * B,)."""
        each = count // self.classes
        batch = min(self.config.match_batch or each, each)
        if batch == each:
            return torch.arange(count, device=self.device)
        rows = [torch.randperm(each, generator=generator)[:batch] + name * each for name in range(self.classes)]
        return torch.cat(rows).to(self.device)
