"""Fine-tune a torchvision network from a bundle, and predict with it on files.

    python finetune_torchvision.py BUNDLE [X-RAY.dcm ...]

With `weights=ResNet18_Weights.DEFAULT` torchvision downloads the weights that ImageNet pre-training gave.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torch import nn
from torchvision.models import WeightsEnum, resnet18

import medidistill


def main(folder: str, files: Sequence[str] = (), weights: WeightsEnum | None = None, steps: int = 100) -> nn.Module:
    """Return a ResNet-18 that was fine-tuned from the bundle at `folder`; print what it says of `files`."""
    bundle = medidistill.load(folder)
    network = resnet18(weights=weights)
    network.fc = nn.Linear(network.fc.in_features, bundle.num_classes)
    trained = bundle.train(network, steps=steps, lr=1e-3, optimizer="adamw", schedule="cosine")
    if files:
        for file, probabilities in zip(files, bundle.predict(trained, list(files)).tolist(), strict=True):
            named = zip(bundle.class_names, probabilities, strict=True)
            print(file, ", ".join(f"{name} {value:.2f}" for name, value in named))
    return trained


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
