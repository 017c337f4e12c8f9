"""Real training images, drawn class by class, for the objectives that read them."""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.errors import ConfigError

__all__ = ["RealBatches"]


class RealBatches:
    """Real images of each class.

    Args:
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64.
        num_classes: K.
        device: where the drawn images are used.

    Raises:
        ConfigError: a class without images.
    """

    def __init__(self, images: Tensor, labels: Tensor, num_classes: int, device: torch.device) -> None:
        self.images, self.device = images, device
        self.members = [torch.nonzero(labels.cpu() == name).flatten() for name in range(num_classes)]
        for name, found in enumerate(self.members):
            if len(found) == 0:
                raise ConfigError(f"class {name} has no real images; this distill.objective needs all classes")

    def draw(self, name: int, count: int, generator: torch.Generator) -> Tensor:
        """Return `count` images of one class, drawn with replacement, (count, C, H, W)."""
        found = self.members[name]
        index = found[torch.randint(len(found), (count,), generator=generator)]
        return self.images[index.to(self.images.device)].to(self.device)

    def draw_balanced(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return images (M, C, H, W) and labels (M,) int64, equally many of each class, class by class.

        M is `count` rounded down to whole numbers of each class, and at least one of each.
        """
        classes = len(self.members)
        each = max(1, count // classes)
        images = torch.cat([self.draw(name, each, generator) for name in range(classes)])
        return images, torch.arange(classes, device=self.device).repeat_interleave(each)
