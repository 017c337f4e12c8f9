"""Train a network from a bundle with PyTorch Lightning.

python lightning_training.py BUNDLE
"""

from __future__ import annotations

import sys

import lightning
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

import medidistill
from medidistill.networks import adapt_network


class Classifier(lightning.LightningModule):
    """Any network, with cross-entropy against class indices or soft labels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of one batch."""
        images, targets = batch
        return nn.functional.cross_entropy(self.network(images), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(folder: str, epochs: int = 20) -> nn.Module:
    """Return a network that was trained from the bundle at `folder`."""
    bundle = medidistill.load(folder)
    _, channels, side, _ = bundle.images.shape
    # resnet18 reads three channels: it gets the one of an X-ray three times
    network = adapt_network(
        resnet18(num_classes=bundle.num_classes), channels=channels, image_size=side, num_classes=bundle.num_classes
    )
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="auto", logger=False, enable_checkpointing=False, log_every_n_steps=1
    )
    trainer.fit(Classifier(network), bundle.dataloader(batch_size=16))
    return network


if __name__ == "__main__":
    main(*sys.argv[1:2])
