"""The product: a few synthetic images with all that is needed to train from them.

Also here, because every stage speaks in them: `LabelledImages` (real images in [0, 1]), and `Normalisation` (how
intensities become network input, shipped with every set) under the name that it is imported by.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medidistill.config import AugmentConfig, NetworkConfig, TrainingConfig, as_dict
from medidistill.distances import correlation_distance, nearest
from medidistill.errors import ArgumentError, ConfigError, IngestError
from medidistill.files import load_tensors, save_tensors
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # headers, recipes of any version, MONAI items
from medidistill.normalisation import Normalisation
from medidistill.packed_images import PackedImages, label_codes, labels_of_codes
from medidistill.seeding import stream
from medidistill.spectral_images import SpectralImages, read_packed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["FORMAT", "DistilledSet", "LabelledImages", "Normalisation"]

T = TypeVar("T")
FORMAT = 3  # 2: images may be packed (`PackedImages`), 3: or be amplitudes (`SpectralImages`); others stay as they were


def _listed(counts: Mapping[str, int]) -> str:
    """Return `a (3), b (2)`, at most five names."""
    shown = [f"{name[:30]} ({number})" for name, number in list(counts.items())[:5]]
    return ", ".join(shown) + (f", ... {len(counts)} in all" if len(counts) > 5 else "")


@dataclass(frozen=True, repr=False)
class LabelledImages:
    """Images of one split in memory.

    Args:
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64, index into `class_names`.
        class_names: names in label order.
        patient_ids: N identifiers; all images of one patient share one.
        keys: N stable names of the images (relative path), for messages and the manifest; never exported.
        sites: N names of the source or hospital, empty strings where unknown.
        sexes: N of `F`, `M`, `O`, empty strings where unknown.
        ages: N ages in years, None where unknown.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    patient_ids: tuple[str, ...]
    keys: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    sexes: tuple[str, ...] = ()
    ages: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.ndim != 4 or len(self.labels) != n or len(self.patient_ids) != n:
            raise IngestError(
                f"images {tuple(self.images.shape)}, {len(self.labels)} labels, {len(self.patient_ids)} patients: "
                "images must be (N, C, H, W) and all counts equal"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shown = " x ".join(map(str, self.images.shape[1:]))
        return f"{type(self).__name__}({len(self)} images of {shown}, {_listed(self.counts())})"

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def counts(self) -> dict[str, int]:
        """Return the number of images of each class."""
        numbers = torch.bincount(self.labels, minlength=self.num_classes).tolist()
        return dict(zip(self.class_names, numbers, strict=True))

    def select(self, index: Tensor | Sequence[int]) -> LabelledImages:
        """Return the images at `index`, in that order."""
        chosen = torch.as_tensor(index, dtype=torch.int64)
        rows = chosen.tolist()

        def pick(values: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(values[i] for i in rows) if values else ()

        return LabelledImages(
            self.images[chosen],
            self.labels[chosen],
            self.class_names,
            pick(self.patient_ids),
            pick(self.keys),
            pick(self.sites),
            pick(self.sexes),
            pick(self.ages),
        )


@dataclass(frozen=True, repr=False)
class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """A distilled set and its recipe. Synthetic images; distillation alone gives no privacy guarantee.

    It is a `torch.utils.data.Dataset`: item i is (image (C, H, W), target), the image decoded and normalised, the
    target a class index (int64 scalar) or, where labels are soft, probabilities (K,). `torch.nn.CrossEntropyLoss` takes
    batches of either.

    Args:
        images: (S, C, H, W) float32, network input (already normalised; do not normalise again); decoded where the set
            is packed.
        labels: (S,) int64, the class each image was made for.
        soft_labels: (S, K) float32 probabilities to train on, or None for hard labels.
        alpha: learned inner learning rate.
        class_names: names in label order.
        normalisation: apply this to a real image in [0, 1] before a network trained on this set sees it.
        network: architecture the set was distilled with.
        training: how to train from it.
        augment: siamese augmentation it was distilled under.
        importance: name of parameter -> learned weight w, float32, scalar or shaped like the parameter.
        recipe: everything else that describes the set: method, init, J, K, digests, versions.
        packed: the stored images that `images` are decoded from, (S, C, h, h); None where `images` are stored.
    """

    images: Tensor
    labels: Tensor
    alpha: float
    class_names: tuple[str, ...]
    normalisation: Normalisation
    network: NetworkConfig
    training: TrainingConfig
    soft_labels: Tensor | None = None
    importance: Mapping[str, Tensor] = field(default_factory=dict)
    recipe: ReadOnlyJsonObject = field(default_factory=dict)
    packed: PackedImages | SpectralImages | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.labels) != len(self.images):
            raise ConfigError(f"distilled images {tuple(self.images.shape)} with {len(self.labels)} labels")
        if not bool(torch.isfinite(self.images).all()) or not 0 < self.alpha < math.inf:
            raise ConfigError(f"a distilled set must be finite with a finite alpha > 0, got alpha={self.alpha}")
        k = len(self.class_names)
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < k:
            raise ConfigError(f"distilled labels must be in 0..{k - 1}, the indices of {k} class names")
        soft = self.soft_labels
        if soft is not None and (soft.shape != (len(self.labels), k) or not bool(torch.isfinite(soft).all())):
            raise ConfigError(f"soft labels {tuple(soft.shape)}: must be finite and ({len(self.labels)}, {k})")
        if self.packed is not None and tuple(self.images.shape) != self.packed.shape:
            raise ConfigError(f"images {tuple(self.images.shape)}: the stored ones decode to {self.packed.shape}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.targets[index]

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}: {value}" for name, value in self._facts().items())
        return f"<{type(self).__name__} {facts}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._facts().items()
        )
        return f"<table><caption>medidistill {type(self).__name__}</caption>{rows}</table>"

    def _facts(self) -> dict[str, str]:
        """Return what a reader must know at first sight, each in a few words."""
        numbers = torch.bincount(self.labels.cpu(), minlength=self.num_classes).tolist()
        return {
            "images": f"{len(self)} of {' x '.join(map(str, self.images.shape[1:]))}",
            "classes": _listed(dict(zip(self.class_names, numbers, strict=True))),
            "labels": "hard" if self.soft_labels is None else "soft",
            "network": self.network.name,
            "normalisation": self.normalisation.kind,
            "made by": f"{self.recipe.get('method', 'unknown')} from {self.recipe.get('init', 'unknown')}",
        }

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def targets(self) -> Tensor:
        """What to train on: soft labels where learned, else the class indices."""
        return self.labels if self.soft_labels is None else self.soft_labels

    @property
    def stored_bytes(self) -> int:
        """Bytes of what is trained from: the images as they are stored, and the soft labels."""
        images = self.images.numel() * self.images.element_size() if self.packed is None else self.packed.nbytes
        soft = self._stored_labels()
        return images + (0 if soft is None else soft.numel() * soft.element_size())

    def _stored_labels(self) -> Tensor | None:
        """Return the soft labels as they are written: bytes where amplitudes are stored and the labels allow it."""
        if self.soft_labels is None or not isinstance(self.packed, SpectralImages):
            return self.soft_labels
        codes = label_codes(self.soft_labels)
        return self.soft_labels if codes is None else codes

    @property
    def label_bits(self) -> int:
        """Bits of a stored label probability, 32 or 8; 0 where labels are class indices."""
        stored = self._stored_labels()
        return 0 if stored is None else 8 * stored.element_size()

    def to(self, device: torch.device | str) -> Self:
        """Return the set with images, labels and weights on `device`; stored (packed) images stay where they are."""
        soft = self.soft_labels
        return dataclasses.replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            soft_labels=None if soft is None else soft.to(device),
            importance={name: value.to(device) for name, value in self.importance.items()},
        )

    def dataloader(
        self, batch_size: int | None = None, *, shuffle: bool = True, seed: int = 0, drop_last: bool = False
    ) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return a loader of (images (B, C, H, W), targets) in this process.

        Args:
            batch_size: images a batch; None: that of the set's training recipe, all images where there are fewer.
            shuffle: a new order each epoch, decided by `seed`.
            seed: of the order.
            drop_last: leave out the last batch where it is smaller.

        Raises:
            ArgumentError: a batch size below 1.
        """
        size = min(self.training.batch_size, len(self)) if batch_size is None else batch_size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError("batch_size", repr(batch_size), "a whole number >= 1, or None for the set's own")
        return DataLoader(
            self, batch_size=size, shuffle=shuffle, generator=stream(seed, "dataloader"), drop_last=drop_last
        )

    def to_numpy(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
        """Return images (S, C, H, W) float32, normalised, and targets: (S,) int64 classes or (S, K) float32."""
        return self.images.detach().cpu().numpy(), self.targets.detach().cpu().numpy()

    def to_monai(self) -> list[JsonObject]:
        """Return one dictionary an image, as `monai.data.Dataset` takes a list of them.

        Keys: `image` (C, H, W) float32, normalised; `label` the class index (int); `soft_label` (K,) float32 where
        labels are soft; `class_name`; `image_meta_dict` with name, method, start and what the image is.
        """
        facts = {
            "synthetic": True,
            "method": self.recipe.get("method", ""),
            "init": self.recipe.get("init", ""),
            "normalisation": self.normalisation.plain(),
        }
        items: list[JsonObject] = []
        for number, label in enumerate(self.labels.tolist()):
            soft = {} if self.soft_labels is None else {"soft_label": self.soft_labels[number]}
            meta = {"filename_or_obj": f"distilled-{number:05d}", **facts}
            name = self.class_names[label]
            items.append(
                {"image": self.images[number], "label": label, **soft, "class_name": name, "image_meta_dict": meta}
            )
        return items

    def nearest(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each image its distance to the nearest of `real`, (S,) float32, and the index of that one, (S,).

        The distance is 1 - Pearson correlation of the pixels. A small one is a warning, a large one proves nothing: see
        `medidistill.privacy.attacks.linkage`.

        Args:
            real: (N, C, H, W) real images of the set's shape; brightness and contrast do not matter.

        Raises:
            ArgumentError: another shape.
        """
        shape = tuple(self.images.shape[1:])
        if real.ndim != 4 or tuple(real.shape[1:]) != shape or not len(real):
            raise ArgumentError("real", f"tensor of shape {tuple(real.shape)}", f"(N, {', '.join(map(str, shape))})")
        shown = self.normalisation.to_display(self.images) if self.normalisation.kind == "zca" else self.images
        return nearest(correlation_distance(shown, real.to(shown.device)))

    def quantised(self, bits: int) -> DistilledSet:
        """Return the set with its stored images rounded to `bits` (32, 8, 4 or 2) bits a value.

        `images` become what the rounded ones decode to. Raises `ConfigError` for another number of bits.
        """
        packed = self.packed or PackedImages(self.images.detach().float().cpu().contiguous(), self.images.shape[-1])
        packed = packed.quantised(bits)
        return dataclasses.replace(self, packed=packed, images=packed.decode())

    def save(self, path: Path) -> None:
        """Write the set to `path`, one safetensors file: tensors plus a JSON header. Same set, same bytes."""
        tensors = {"images": self.images} if self.packed is None else self.packed.tensors()
        tensors["labels"] = self.labels
        soft = self._stored_labels()
        if soft is not None:
            tensors["soft_labels"] = soft
        tensors.update({f"importance/{name}": value for name, value in self.importance.items()})
        tensors.update(self.normalisation.tensors())
        save_tensors(path, tensors, self.header())

    def header(self) -> JsonObject:
        """Return everything but the tensors, as JSON types."""
        stored = {} if self.packed is None else {"packed": self.packed.header()}
        return {
            "kind": "distilled_set",
            "format": 1 if self.packed is None else FORMAT if isinstance(self.packed, SpectralImages) else 2,
            **stored,
            "alpha": self.alpha,
            "class_names": list(self.class_names),
            "normalisation": as_dict(self.normalisation),
            "network": as_dict(self.network),
            "training": as_dict(self.training),
            "recipe": dict(self.recipe),
        }

    @classmethod
    def load(cls, path: Path) -> DistilledSet:
        """Read the set that `save` wrote to `path`. Raises `IngestError` when the file is not one."""
        tensors, header = load_tensors(path)
        if header.get("kind") != "distilled_set":
            raise IngestError(f"{path}: holds {header.get('kind', 'something else')}, not a distilled set")
        try:
            if header["format"] > FORMAT:
                raise IngestError(f"{path}: format {header['format']} is newer than {FORMAT}; upgrade medidistill")
            training = dict(header["training"])
            training["augment"] = AugmentConfig(**training["augment"])
            packed = read_packed(header["packed"], tensors) if "packed" in header else None
            soft = tensors.get("soft_labels")
            return cls(
                images=tensors["images"] if packed is None else packed.decode(),
                packed=packed,
                labels=tensors["labels"],
                soft_labels=labels_of_codes(soft) if soft is not None and soft.dtype == torch.uint8 else soft,
                alpha=header["alpha"],
                class_names=tuple(header["class_names"]),
                normalisation=Normalisation.read(header["normalisation"], tensors, path),
                network=NetworkConfig(**header["network"]),
                training=TrainingConfig(**training),
                importance={k.split("/", 1)[1]: v for k, v in tensors.items() if k.startswith("importance/")},
                recipe=header["recipe"],
            )
        except (KeyError, TypeError) as error:
            raise IngestError(f"{path}: the header of the distilled set is incomplete ({error})") from error
        except ConfigError as error:
            raise IngestError(f"{path}: not a usable distilled set ({error})") from error
