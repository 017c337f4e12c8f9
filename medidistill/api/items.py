"""Images, labels and what else is known, out of the containers that researchers keep them in.

| container | images and labels |
|---|---|
| arrays and tensors | `data` and `labels`; or the pair `(images, labels)` |
| MedMNIST object | `imgs`, `labels`, names from `info["label"]` |
| `torch.utils.data.Dataset`, list | items `(image, label)` |
| MONAI `Dataset`, Hugging Face `datasets` | items with keys `image` and `label`, and `patient_id` where there is one |
| mapping of `train`, `val`, `test` | any of these for each split |

Nothing is interpreted here: values, shapes and labels are checked in `medidistill.api.inputs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tqdm.auto import tqdm

from medidistill.api.labels import is_missing
from medidistill.distilled_set import DistilledSet, LabelledImages
from medidistill.errors import ArgumentError, ArgumentTypeError
from medidistill.jsontypes import ReadOnlyJsonObject  # MedMNIST's description of a data set

__all__ = ["RawImages", "raw_images"]

_SPLITS = ("train", "val", "test")
_IMAGE_KEYS = ("image", "img", "pixel_values")
_LABEL_KEYS = ("label", "labels", "class")
_PATIENT_KEYS = ("patient_id", "patient", "subject_id")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_KINDS = (
    "a folder, arrays with labels=, (images, labels), a torch or MONAI Dataset, a MedMNIST object, or a mapping of "
    "train, val and test to these"
)


@dataclass(frozen=True)
class RawImages:
    """What a container holds, as it is.

    Args:
        images: one array for all images, or one each where their sizes may differ.
        labels: one entry an image; of any type.
        class_names: as the container states them, empty where it does not.
        groups: patient of each image, empty where not stated.
        splits: split of each image, empty where not stated.
    """

    images: Any
    labels: Sequence[Any] | npt.NDArray[Any]
    class_names: tuple[str, ...] = ()
    groups: tuple[Any, ...] = ()
    splits: tuple[str, ...] = ()

    @property
    def pieces(self) -> list[Any]:
        """The images one by one."""
        return list(self.images)


def raw_images(data: Any, labels: Any = None, *, progress: bool = False) -> RawImages:
    """Take images and labels out of a container.

    Args:
        data: one of the containers in the table above.
        labels: one an image, where the container has none.
        progress: show a bar while the items of a dataset are read.

    Raises:
        ArgumentTypeError: no container that is known.
        ArgumentError: labels missing, given twice, or of another number than the images.
    """
    if isinstance(data, DistilledSet):
        raise ArgumentTypeError("data", type(data).__name__, "real images", "a distilled set is not distilled again")
    if isinstance(data, Mapping):
        return _of_splits(data, labels, progress)
    if isinstance(data, LabelledImages):
        _no_labels(labels, "LabelledImages")
        return RawImages(data.images, data.labels.numpy(), data.class_names, data.patient_ids)
    if isinstance(data, tuple) and len(data) == 2 and _is_array(data[0]) and hasattr(data[1], "__len__"):
        _no_labels(labels, "(images, labels)")
        data, labels = data
    if _is_array(data):
        return RawImages(data, _given_labels(labels, len(data)))
    if hasattr(data, "imgs") and hasattr(data, "labels") and isinstance(getattr(data, "info", None), Mapping):
        _no_labels(labels, "MedMNIST")
        return RawImages(data.imgs, np.asarray(data.labels), _medmnist_names(data.info))
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (str, bytes)):
        return _of_items(data, labels, progress)
    raise ArgumentTypeError("data", type(data).__name__, _KINDS)


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, torch.Tensor))


def _no_labels(labels: Any, kind: str) -> None:
    if labels is not None:
        raise ArgumentError("labels", "given", f"None: {kind} has labels of its own")


def _given_labels(labels: Any, count: int) -> Sequence[Any] | npt.NDArray[Any]:
    if labels is None:
        raise ArgumentError("labels", None, "one label an image", "arrays have no labels of their own")
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    if isinstance(labels, (str, bytes)) or not hasattr(labels, "__len__"):
        raise ArgumentTypeError("labels", type(labels).__name__, "a sequence with one label an image")
    if len(labels) != count:
        raise ArgumentError("labels", f"{len(labels)} entries", f"as many as there are images ({count})")
    return labels if isinstance(labels, np.ndarray) else list(labels)


def _medmnist_names(info: ReadOnlyJsonObject) -> tuple[str, ...]:
    names = info.get("label", {})
    if "multi-label" in str(info.get("task", "")):
        raise ArgumentError(
            "data",
            f"MedMNIST {info.get('python_class', '')} (multi-label)",
            "of one class an image",
            "pick one finding",
        )
    return tuple(str(names[key]) for key in sorted(names, key=int)) if isinstance(names, Mapping) else ()


def _of_splits(data: Mapping[Any, Any], labels: Any, progress: bool) -> RawImages:
    _no_labels(labels, "a mapping of splits")
    unknown = [name for name in data if name not in _SPLITS]
    if unknown or "train" not in data or "test" not in data:
        raise ArgumentError("data", f"a mapping with the keys {sorted(map(str, data))}", "of train, test and maybe val")
    parts = {split: raw_images(data[split], progress=progress) for split in _SPLITS if split in data}
    names = list(dict.fromkeys(part.class_names for part in parts.values()))
    if len(names) > 1:
        raise ArgumentError("data", f"splits with the classes {names}", "splits of the same classes in the same order")
    some = [split for split, part in parts.items() if part.groups]
    if some and len(some) < len(parts):
        raise ArgumentError("data", f"patients in {', '.join(some)} alone", "patients in every split, or in none")
    return RawImages(
        [image for part in parts.values() for image in part.pieces],
        [label for part in parts.values() for label in part.labels],
        names[0],
        tuple(group for part in parts.values() for group in part.groups),
        tuple(split for split, part in parts.items() for _ in range(len(part.labels))),
    )


def _of_items(data: Any, labels: Any, progress: bool) -> RawImages:
    images, found, groups = [], [], []
    for number in tqdm(range(len(data)), "reading items", disable=not progress, unit="image"):
        image, label, group = _item(data[number], number, labels is not None)
        images.append(image)
        found.append(label)
        groups.append(group)
    if not images:
        raise ArgumentError("data", f"{type(data).__name__} of length 0", "of at least one image")
    stated = [not is_missing(one) for one in groups]
    if any(stated) and not all(stated):
        raise ArgumentError(
            "data",
            f"a patient for {sum(stated)} of {len(groups)} items, none for data[{stated.index(False)}]",
            "a patient for each, or for none",
        )
    return RawImages(
        images,
        found if labels is None else _given_labels(labels, len(images)),
        _names_of(data),
        tuple(groups) if all(stated) else (),
    )


def _item(item: Any, number: int, labelled: bool) -> tuple[Any, Any, Any]:
    """Return image, label and patient of one item."""
    if isinstance(item, Mapping):
        image = next((item[key] for key in _IMAGE_KEYS if key in item), None)
        label_key = next((key for key in _LABEL_KEYS if key in item), None)
        if image is None or (label_key is None and not labelled):
            raise ArgumentError(f"data[{number}]", f"a mapping of {sorted(map(str, item))}", "of `image` and `label`")
        label = None if label_key is None else item[label_key]
        return _pixels(image, number), label, next((item[key] for key in _PATIENT_KEYS if key in item), None)
    if labelled and not isinstance(item, (tuple, list)):
        return _pixels(item, number), None, None
    if isinstance(item, (tuple, list)) and len(item) >= (1 if labelled else 2):
        return _pixels(item[0], number), None if labelled else item[1], None
    raise ArgumentTypeError(f"data[{number}]", type(item).__name__, "(image, label), or a mapping of image and label")


def _pixels(image: Any, number: int) -> Any:
    if isinstance(image, torch.Tensor):
        return image.detach().cpu().as_subclass(torch.Tensor)
    if isinstance(image, (str, bytes)):
        raise ArgumentTypeError(
            f"data[{number}]",
            "the path of a file",
            "decoded pixels",
            "give the folder as data, or load with a transform",
        )
    if isinstance(image, Image.Image):
        return _shown(image, number)
    try:
        array = np.asarray(image)  # lists of numbers too
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"data[{number}]", type(image).__name__, "an array, tensor or PIL image") from error
    if array.dtype.kind not in "uif":
        raise ArgumentTypeError(f"data[{number}]", f"{type(image).__name__} of {array.dtype}", "an array of numbers")
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # torch takes this machine's byte order alone


def _shown(picture: Image.Image, number: int) -> npt.NDArray[Any]:
    """Return the pixels that a PIL image shows, (H, W), or (H, W, 3) where it has colours.

    Raises:
        ArgumentTypeError: a mode whose numbers are neither grey nor RGB.
        ArgumentError: a pixel is transparent; what is seen there depends on what lies behind it.
    """
    mode, key = picture.mode, picture.info.get("transparency")
    if mode not in _MODES:
        raise ArgumentTypeError(
            f"data[{number}]",
            f"PIL image of mode {mode}",
            f"of mode {', '.join(_MODES)}",
            "convert it, for example with image.convert('RGB')",
        )
    grey = _is_grey(picture)
    if mode.startswith("I") or mode == "F":  # more than 8 bits, which no conversion of Pillow keeps
        values = np.asarray(picture)
        opaque = key is None or not bool((values == key).any())
    elif "A" in picture.getbands() or key is not None:
        whole = np.asarray(picture.convert("RGBA"))  # grey is there three times, unchanged
        values, opaque = whole[..., 0] if grey else whole[..., :3], int(whole[..., 3].min()) == 255
    else:
        values, opaque = np.asarray(picture.convert("L" if grey else "RGB")), True
    if not opaque:
        raise ArgumentError(
            f"data[{number}]",
            f"PIL image of mode {mode} with transparent pixels",
            "opaque",
            "fill those pixels (with black, as the files of a folder are read) and convert it to mode L or RGB",
        )
    return np.array(values, dtype=values.dtype.newbyteorder("="))  # a copy: what Pillow shares is read-only


def _is_grey(picture: Image.Image) -> bool:
    """Return whether a PIL image has no colours: by its mode, or by its palette where it has one."""
    if picture.mode not in ("P", "PA"):
        return not picture.mode.startswith("RGB")
    palette = np.asarray(picture.getpalette() or [], dtype=np.int64).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _names_of(data: Any) -> tuple[str, ...]:
    """Return the class names that a dataset states: torchvision's `classes`, Hugging Face's `ClassLabel`."""
    classes = getattr(data, "classes", None)
    if isinstance(classes, (list, tuple)) and all(isinstance(one, str) for one in classes):
        return tuple(classes)
    features = getattr(data, "features", None)
    label = features.get("label") if isinstance(features, Mapping) else None
    names = getattr(label, "names", None)
    return tuple(names) if isinstance(names, list) else ()
