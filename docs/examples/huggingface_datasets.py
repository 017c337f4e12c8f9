"""Train from a bundle that was loaded by Hugging Face `datasets`, by a plain loop.

    python huggingface_datasets.py BUNDLE

`datasets` reads the 8-bit copies, in [0, 255] and not normalised. For the images themselves, which are not rounded and
clipped, use `medidistill.load` as the other examples do.
"""

from __future__ import annotations

import sys

import torch
from datasets import load_dataset
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

import medidistill


def main(folder: str, steps: int = 100, cache: str | None = None) -> nn.Module:
    """Return a network that was trained from the pictures of the bundle at `folder`."""
    data = load_dataset(folder, split="train", cache_dir=cache)
    bundle = medidistill.load(folder)
    images = torch.stack([pil_to_tensor(one) for one in data["image"]]).float() / 255
    inputs, labels = bundle.normalisation.apply(images), torch.tensor(data["label"])
    generator = torch.Generator().manual_seed(0)
    network = medidistill.make_network(
        bundle.network,
        channels=images.shape[1],
        image_size=images.shape[-1],
        num_classes=data.features["label"].num_classes,
        generator=generator,
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=bundle.training.lr)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(network(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss after {steps} steps: {loss.item():.4f}")
    return network


if __name__ == "__main__":
    main(*sys.argv[1:2])
