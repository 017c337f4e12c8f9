"""Train a network from a bundle by a plain PyTorch loop, with the set as a `torch.utils.data.Dataset`.

python plain_torch.py BUNDLE
"""

from __future__ import annotations

import sys

import torch
from torch import nn

import medidistill


def main(folder: str, steps: int = 200) -> nn.Module:
    """Return a network that was trained from the bundle at `folder`."""
    bundle = medidistill.load(folder)
    _, channels, side, _ = bundle.images.shape
    generator = torch.Generator().manual_seed(0)
    network = medidistill.make_network(
        bundle.network, channels=channels, image_size=side, num_classes=bundle.num_classes, generator=generator
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=bundle.alpha, momentum=0.9)
    criterion = nn.CrossEntropyLoss()  # takes class indices and soft labels alike
    loader, done = bundle.dataloader(batch_size=16), 0
    while done < steps:
        for images, targets in loader:
            loss = criterion(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
    print(f"loss after {done} steps: {loss.item():.4f}")
    return network


if __name__ == "__main__":
    main(*sys.argv[1:2])
