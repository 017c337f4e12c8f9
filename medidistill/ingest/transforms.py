"""The one place where MONAI transforms are composed: file to (1, H, W) float32 in [0, 1], cached."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data.dataset import CacheDataset, Dataset, PersistentDataset
from monai.transforms.compose import Compose
from monai.transforms.io.dictionary import LoadImaged
from monai.transforms.spatial.dictionary import Resized
from monai.transforms.transform import MapTransform
from monai.transforms.utility.dictionary import EnsureChannelFirstd, EnsureTyped

from medidistill.errors import ConfigError
from medidistill.files import translate_os_errors
from medidistill.ingest.dicom import ChestXrayReader

__all__ = ["CentreSquared", "compose", "make_dataset"]

_VERSION = 1  # raise it when the same file comes out differently: stale entries of a disk cache must not be read


class CentreSquared(MapTransform):  # type: ignore[misc, unused-ignore]
    """Cut the central square out of (C, H, W) and note the size before it as `height` and `width`."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its pictures cut to (C, S, S), S = min(H, W)."""
        item = dict(data)
        for key in self.key_iterator(item):
            height, width = item[key].shape[-2:]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            item[key] = item[key][..., top : top + side, left : left + side]
            item["height"], item["width"] = int(height), int(width)
        return item


def compose(image_size: int) -> Compose:
    """Return the transform of an item ``{"image": path}`` to (1, image_size, image_size) float32 in [0, 1].

    Area resampling: each new pixel is the mean of what it covers, so no fine structure turns into moire.
    """
    # LoadImaged also sets up readers that are never asked, and one of them complains of a missing GPU decoder
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        load = LoadImaged(keys="image", reader=ChestXrayReader(), image_only=True)
    return Compose(
        [
            load,
            EnsureChannelFirstd(keys="image"),
            CentreSquared(keys="image"),
            Resized(keys="image", spatial_size=(image_size, image_size), mode="area"),
            EnsureTyped(keys="image", track_meta=False),
        ]
    )


def make_dataset(items: Sequence[Mapping[str, str]], image_size: int, cache: str, folder: Path | None) -> Dataset:
    """Return a dataset that decodes an item when it is first asked for, and keeps the result.

    Args:
        items: ``{"image": path, "sha256": digest}`` each.
        image_size: rows and columns of the result.
        cache: `memory`, or `disk`: a file an image, named by the image's digest, in a folder that only its
            owner can enter. It holds patient pixels: delete it with the data. MONAI writes each entry to a
            closed folder below the system's temporary one first, and moves it.
        folder: where the disk cache goes.

    Raises:
        ConfigError: a disk cache without a folder.
        ResourceError: the folder cannot be made.
    """
    if cache == "memory":
        return CacheDataset(list(items), compose(image_size), runtime_cache=True, copy_cache=False, progress=False)
    if folder is None:
        raise ConfigError("IngestConfig.cache='disk': needs a cache folder; pass one or use cache='memory'")
    images = folder / "images"
    with translate_os_errors(images):
        images.mkdir(mode=0o700, parents=True, exist_ok=True)
        images.chmod(0o700)

    def name(item: Mapping[str, str]) -> bytes:
        return f"v{_VERSION}-{image_size}-{item['sha256']}".encode()

    return PersistentDataset(list(items), compose(image_size), cache_dir=images, hash_func=name)
