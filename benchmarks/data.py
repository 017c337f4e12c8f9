"""Image sets that methods are compared on, in the form that the pipeline's stages take.

    python -m benchmarks.data cifar10 --root DIR --download     # fetch by torchvision, where there is a network
    python -m benchmarks.data cifar10 --root DIR                # say what is there

| name | what DIR holds |
|---|---|
| `cifar10`, `cifar100` | torchvision's layout (`cifar-10-batches-py`, `cifar-100-python`) |
| `cifar10-jpeg` | `cifar10_jpeg.npz`: JPEG bytes and labels; lossy: compare methods on it, not with published figures |
| `tinyimagenet` | `tiny-imagenet-200` as it is unpacked; its validation images are the test split here |
| `covid-cxr` | a folder that `medidistill ingest` reads, with a split by patient |
| `<name>.npz` | a MedMNIST file |

Only the training images fit a normalisation. Sets without a validation split give a tenth of their training images
to it, drawn once with a fixed seed; the test split is the published one. Each image of nobody is its own patient.
"""

from __future__ import annotations

import argparse
import io
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from medidistill.config import IngestConfig, digest
from medidistill.distilled_set import LabelledImages
from medidistill.errors import ConfigError, IngestError, did_you_mean
from medidistill.normalisation import fit_normalisation
from medidistill.pipeline.prepared import PreparedData
from medidistill.seeding import stream

__all__ = ["NAMES", "load", "prepared"]

Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Raw = tuple[Mapping[str, tuple[Bytes, Labels]], tuple[str, ...]]
"""Split -> (images (N, H, W) or (N, H, W, 3), labels (N,)), and the class names."""

_VAL_SHARE = 0.1


def load(
    name: str,
    root: Path,
    config: IngestConfig,
    *,
    train_images: int = 0,
    eval_images: int = 0,
    classes: int = 0,
    download: bool = False,
) -> PreparedData:
    """Read a set.

    Args:
        name: see the table above.
        root: folder of the files.
        config: image size and kind of normalisation.
        train_images: keep at most so many training images, equally many of each class; 0: all. Clinical folders
            are used whole.
        eval_images: the same for validation and for test.
        classes: keep the first so many classes; 0: all.
        download: let torchvision fetch what is missing.

    Raises:
        ConfigError: an unknown name, or images of another size than `config.image_size`.
        IngestError: the files are not there or not what they should be.
    """
    if name == "covid-cxr":
        return _clinical(root, config)
    if name.endswith(".npz"):
        raw = _medmnist(root / name)
    elif name in _READERS:
        raw = _READERS[name](root, download)
    else:
        raise ConfigError(f"data {name!r}: must be one of {', '.join(NAMES)} or a .npz{did_you_mean(name, NAMES)}")
    splits, names = _fewer_classes(raw, classes)
    if "val" not in splits:
        splits = _with_validation(splits, len(names))
    for split, most in (("train", train_images), ("val", eval_images), ("test", eval_images)):
        images, labels = splits[split]
        if 0 < most < len(labels):
            kept = _balanced(labels, most // len(names), len(names), split if split == "train" else f"{split}-few")
            splits = {**splits, split: (images[kept], labels[kept])}
    parts = {split: _labelled(*splits[split], names, split, config.image_size) for split in ("train", "val", "test")}
    normalisation = fit_normalisation(config.normalisation, config.norm_mean, config.norm_std, parts["train"].images)
    return PreparedData(
        train=parts["train"],
        val=parts["val"],
        test=parts["test"],
        normalisation=normalisation,
        digest=digest(name, names, train_images, eval_images, config.normalisation),
    )


def prepared(
    folder: Path, name: str, root: Path, config: IngestConfig, *, train_images: int = 0, eval_images: int = 0
) -> PreparedData:
    """Return a set from `folder`, read by `load` and kept there at the first call; the other arguments are its own."""
    if not (folder / "train.safetensors").is_file():
        load(name, root, config, train_images=train_images, eval_images=eval_images).save(folder)
    return PreparedData.read(folder)


def _clinical(root: Path, config: IngestConfig) -> PreparedData:
    from medidistill.ingest import ingest

    found = ingest(root, config, progress=True)
    return PreparedData(found.train, found.val, found.test, found.normalisation, found.digest)


def _cifar(kind: str) -> Callable[[Path, bool], Raw]:
    def read(root: Path, download: bool) -> Raw:
        from torchvision import datasets

        source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[kind]
        try:
            parts = {split: source(str(root), train=split == "train", download=download) for split in ("train", "test")}
        except RuntimeError as error:
            raise IngestError(
                f"{root}: {kind} is not here ({error}); fetch it on a machine with a network by "
                f"`python -m benchmarks.data {kind} --root DIR --download` and copy DIR"
            ) from error
        except OSError as error:
            raise IngestError(
                f"{root}: {kind} cannot be downloaded ({error}); copy torchvision's folder from another machine"
            ) from error
        found = {split: (part.data, np.asarray(part.targets, dtype=np.int64)) for split, part in parts.items()}
        return found, tuple(parts["train"].classes)

    return read


def _cifar10_jpeg(root: Path, download: bool) -> Raw:
    file = root / "cifar10_jpeg.npz"
    if not file.is_file():
        raise IngestError(f"{file}: not found; name the folder that holds it with --root")
    with np.load(file) as archive:
        found = {}
        for split in ("train", "test"):
            data, ends = archive[f"{split}_jpeg"].tobytes(), archive[f"{split}_offsets"]
            images = [np.asarray(Image.open(io.BytesIO(data[a:b])).convert("RGB")) for a, b in itertools.pairwise(ends)]
            found[split] = (np.stack(images), archive[f"{split}_labels"].astype(np.int64))
        return found, tuple(str(name) for name in archive["classes"])


def _tinyimagenet(root: Path, download: bool) -> Raw:
    folder = root / "tiny-imagenet-200"
    notes = folder / "val" / "val_annotations.txt"
    if not notes.is_file():
        raise IngestError(
            f"{notes}: not found; torchvision does not fetch Tiny ImageNet: unpack tiny-imagenet-200.zip into {root}"
        )
    names = tuple(sorted(one.name for one in (folder / "train").iterdir() if one.is_dir()))
    train = [(file, k) for k, name in enumerate(names) for file in sorted((folder / "train" / name).rglob("*.JPEG"))]
    rows = [line.split("\t")[:2] for line in notes.read_text(encoding="utf-8").splitlines()]
    test = [(folder / "val" / "images" / file, names.index(name)) for file, name in rows]

    def read(files: list[tuple[Path, int]]) -> tuple[Bytes, Labels]:
        images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file, _ in files])
        return images, np.asarray([k for _, k in files], dtype=np.int64)

    return {"train": read(train), "test": read(test)}, names


def _medmnist(file: Path) -> Raw:
    if not file.is_file():
        raise IngestError(f"{file}: no such MedMNIST file")
    with np.load(file) as archive:
        missing = {f"{split}_{part}" for split in ("train", "val", "test") for part in ("images", "labels")} - {
            *archive
        }
        if missing:
            raise IngestError(f"{file}: not a MedMNIST file, it lacks {', '.join(sorted(missing))}")
        found = {
            split: (archive[f"{split}_images"], archive[f"{split}_labels"].astype(np.int64).reshape(-1))
            for split in ("train", "val", "test")
        }
    count = int(max(labels.max() for _, labels in found.values())) + 1
    return found, tuple(str(k) for k in range(count))


_READERS: Mapping[str, Callable[[Path, bool], Raw]] = {
    "cifar10": _cifar("cifar10"),
    "cifar100": _cifar("cifar100"),
    "cifar10-jpeg": _cifar10_jpeg,
    "tinyimagenet": _tinyimagenet,
}
NAMES = (*_READERS, "covid-cxr")


def _fewer_classes(raw: Raw, classes: int) -> Raw:
    splits, names = raw
    if not classes:
        return raw
    kept = {split: (images[labels < classes], labels[labels < classes]) for split, (images, labels) in splits.items()}
    return kept, names[:classes]


def _balanced(labels: Labels, each: int, classes: int, purpose: str) -> npt.NDArray[np.int64]:
    """Return the indices of `each` images of every class, drawn with a fixed seed."""
    chosen = []
    for k in range(classes):
        rows = np.flatnonzero(labels == k)
        order = torch.randperm(len(rows), generator=stream(0, "benchmark", purpose, k)).numpy()
        chosen.append(np.sort(rows[order[: max(1, each)]]))
    return np.concatenate(chosen)


def _with_validation(splits: Mapping[str, tuple[Bytes, Labels]], classes: int) -> dict[str, tuple[Bytes, Labels]]:
    images, labels = splits["train"]
    held = np.zeros(len(labels), dtype=bool)
    held[_balanced(labels, int(_VAL_SHARE * len(labels) / classes), classes, "val")] = True
    return {**splits, "train": (images[~held], labels[~held]), "val": (images[held], labels[held])}


def _labelled(images: Bytes, labels: Labels, names: tuple[str, ...], split: str, size: int) -> LabelledImages:
    if images.shape[1:3] != (size, size):
        raise ConfigError(f"ingest.image_size={size}: these images are {images.shape[1]} x {images.shape[2]}; set that")
    pixels: Tensor = torch.from_numpy(np.ascontiguousarray(images)).float() / 255
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    own = tuple(f"{split}-{i}" for i in range(len(pixels)))
    return LabelledImages(pixels, torch.from_numpy(labels), names, own, own)


def main() -> None:
    """Fetch a set, or say what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=f"one of {', '.join(NAMES)}, or a MedMNIST .npz")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the files")
    parser.add_argument("--image-size", type=int, default=32, metavar="N", help="rows and columns (default: 32)")
    parser.add_argument("--download", action="store_true", help="let torchvision fetch what is missing")
    options = parser.parse_args()
    try:
        data = load(options.name, options.root, IngestConfig(image_size=options.image_size), download=options.download)
    except (ConfigError, IngestError) as error:
        raise SystemExit(f"benchmarks.data: {error}") from error
    for split in ("train", "val", "test"):
        part: LabelledImages = getattr(data, split)
        print(f"{split}: {len(part)} images {tuple(part.images.shape[1:])}, {part.num_classes} classes")


if __name__ == "__main__":
    main()
