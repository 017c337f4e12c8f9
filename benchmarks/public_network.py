"""A small network that learned grey photographs, for features that no X-ray decided.

    python -m benchmarks.public_network --data $MEDIDISTILL_DATA/cifar10 --file work/privacy/public-network.safetensors

Three blocks (convolution, largest of four, batch norm, ReLU; 32, 64 and 128 channels) learn the ten classes of CIFAR-10
in grey. The last block's maps, 128 x 4 x 4, are then turned to the 240 directions of largest variance among the test
pictures and scaled by it, with a floor. Nothing of it saw a patient, so that all of it is public.

PneumoniaMNIST would be nearer to X-rays, and is no public data here: covid-cxr holds films of the same collection.

Source: frozen features of public pictures before private training: Tramèr and Boneh 2021 (arXiv 2011.11660).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from benchmarks.data import load
from medidistill.config import IngestConfig
from medidistill.distillation.public_features import whitening
from medidistill.files import load_tensors, save_tensors
from medidistill.networks import raise_malloc_thresholds
from medidistill.seeding import global_seed, stream

SIDE, WIDTHS, CLASSES = 32, (32, 64, 128), 10
EPOCHS, BATCH, PEAK, SHIFT = 8, 128, 0.1, 3
PUBLIC_NETWORK = "public-network.safetensors"  # in the work folder of `benchmarks.privacy_table`


def _blocks() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip((1, *WIDTHS), WIDTHS, strict=False):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten())


@dataclass(frozen=True)
class PublicNetwork:
    """The blocks, and the turn of their maps: mean (D',), deviation (D',), basis (D', D)."""

    blocks: nn.Sequential
    mean: Tensor
    deviation: Tensor
    basis: Tensor

    @classmethod
    def read(cls, file: Path) -> PublicNetwork:
        """Read what `save` wrote. Raises `IngestError`."""
        tensors, _ = load_tensors(file)
        blocks = _blocks()
        blocks.load_state_dict({name[7:]: part for name, part in tensors.items() if name.startswith("blocks.")})
        return cls(blocks.eval(), tensors["mean"], tensors["deviation"], tensors["basis"])

    def save(self, file: Path) -> None:
        """Write everything to one file."""
        parts = {f"blocks.{name}": part for name, part in self.blocks.state_dict().items()}
        parts |= {"mean": self.mean, "deviation": self.deviation, "basis": self.basis}
        save_tensors(file, parts, {"kind": "public network"})

    def features(self, images: Tensor) -> Tensor:
        """Return features of norm 1, (N, 240), of images (N, 1, H, W) of mean 0 and deviation 1, seen at 32 pixels."""
        small = F.adaptive_avg_pool2d(images, SIDE)
        return F.normalize(((_maps(self.blocks, small) - self.mean) / self.deviation) @ self.basis, dim=1)


def _maps(blocks: nn.Sequential, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([blocks(part) for part in torch.split(images, 256)])


def make(root: Path) -> PublicNetwork:
    """Train the blocks; return them with the turn of their maps. Minutes of one core."""
    data = load("cifar10-jpeg", root, IngestConfig(image_size=SIDE, normalisation="per_image"))
    images, tested = (
        data.normalisation.apply(part.images.mean(dim=1, keepdim=True)) for part in (data.train, data.test)
    )
    generator = stream(0, "public network")
    with global_seed(generator):
        blocks, head = _blocks(), nn.Linear(WIDTHS[-1] * (SIDE >> len(WIDTHS)) ** 2, CLASSES)
    network = nn.Sequential(blocks, head).to(memory_format=torch.channels_last)
    steps = EPOCHS * len(images) // BATCH
    optimizer = torch.optim.SGD(network.parameters(), lr=PEAK, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, steps)
    for step in range(steps):
        index = torch.randint(len(images), (BATCH,), generator=generator)
        padded = F.pad(images[index], (SHIFT,) * 4, mode="reflect")
        top, left = torch.randint(2 * SHIFT + 1, (2,), generator=generator).tolist()
        batch = padded[:, :, top : top + SIDE, left : left + SIDE]
        if torch.rand(1, generator=generator) < 0.5:
            batch = batch.flip(3)
        loss = F.cross_entropy(network(batch.contiguous(memory_format=torch.channels_last)), data.train.labels[index])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"public network: step {step} of {steps}, loss {float(loss.detach()):.3f}", flush=True)
    network.eval()
    maps = _maps(blocks, tested)
    right = float((head(maps).argmax(1) == data.test.labels).double().mean())
    print(f"public network: {right:.3f} of the test pictures are right")
    return PublicNetwork(blocks, *whitening(maps))


def main() -> None:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10_jpeg.npz")
    parser.add_argument("--file", type=Path, required=True, help="is written")
    arguments = parser.parse_args()
    raise_malloc_thresholds()
    make(arguments.data).save(arguments.file)


if __name__ == "__main__":
    main()
