"""Train a network from a bundle with MONAI's `SupervisedTrainer` (needs pytorch-ignite).

python monai_supervised_trainer.py BUNDLE
"""

from __future__ import annotations

import sys

import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer
from monai.networks.nets import Classifier
from monai.transforms import Compose, RandGaussianNoised, RandZoomd
from torch import nn

import medidistill


def main(folder: str, epochs: int = 10) -> nn.Module:
    """Return a classifier of MONAI that was trained from the bundle at `folder`."""
    bundle = medidistill.load(folder)
    augment = Compose([RandZoomd("image", prob=0.5), RandGaussianNoised("image", prob=0.5, std=0.05)])
    data = Dataset(bundle.to_monai(), augment)  # mappings with `image` and `label`, normalised already
    shape = tuple(bundle.images.shape[1:])
    network = Classifier(in_shape=shape, classes=bundle.num_classes, channels=(16, 32, 64), strides=(2, 2, 2))
    trainer = SupervisedTrainer(
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(data, batch_size=16, shuffle=True),
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-3),
        loss_function=nn.CrossEntropyLoss(),
        inferer=SimpleInferer(),
    )
    trainer.run()
    return network


if __name__ == "__main__":
    main(*sys.argv[1:2])
